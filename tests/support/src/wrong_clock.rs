//! A clock that a test may set wrong, for one process alone.
//!
//! A few lines of C between a program and the kernel add to what the clock says what a file says. Timers and everything but
//! the time of day go on as they are.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt,
    path::PathBuf,
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::scratch::Scratch;

/// A clock for one process.
#[derive(Debug)]
pub struct WrongClock {
    library: PathBuf,
    path: PathBuf,
    ahead: File,
}

impl WrongClock {
    /// Makes a clock that is right; an error where there is no C compiler.
    pub fn new(scratch: &Scratch) -> Result<Self> {
        let (source, library) = (scratch.join("clock.c"), scratch.join("clock.so"));
        fs::write(&source, SOURCE)?;
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source);
        let status = compile.status().context("there is no cc")?;
        ensure!(status.success(), "cc failed");
        let path = scratch.join("clock");
        let ahead = OpenOptions::new().create(true).truncate(true).write(true).open(&path)?;
        ahead.set_len(8)?;
        Ok(Self { library, path, ahead })
    }

    /// Returns the words before the command line of whoever is to have this clock.
    pub fn wrapper(&self) -> Vec<String> {
        let set = |name: &str, path: &PathBuf| format!("{name}={}", path.display());
        vec!["env".to_owned(), set("LD_PRELOAD", &self.library), set("WRONG_CLOCK", &self.path)]
    }

    /// Sets it this far ahead; negative numbers set it back.
    pub fn set_ahead(&self, seconds: i64) -> Result<()> {
        self.ahead.write_all_at(&seconds.to_ne_bytes(), 0).context("cannot set the clock")
    }
}

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *ahead;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("WRONG_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *mapped = mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED) ahead = mapped;
    close(file);
}

int clock_gettime(clockid_t id, struct timespec *at) {
    int failed = (int)syscall(SYS_clock_gettime, id, at);
    if (!failed && ahead && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) at->tv_sec += *ahead;
    return failed;
}
"#;
