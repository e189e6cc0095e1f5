//! How the C library's allocator is set up for a service that runs for months.
//!
//! Left to itself it keeps freed memory in as many heaps as there are busy threads, and takes ever larger blocks from them:
//! what an attack, or a rush, took stays taken. It reads its settings from the environment when a program begins, so
//! the program begins again with them.

use std::{env, os::unix::process::CommandExt, process::Command};

/// Tells that the settings were given, even where the system takes them out of the environment.
const MARK: &str = "KEEPSHARE_ALLOCATOR";

/// As `mallopt(3)` tells: few heaps; blocks of 2 MiB and more go back to the system when they are freed, and so does what
/// is free at the end of a heap.
const SETTINGS: [(&str, &str); 3] = [
    ("MALLOC_ARENA_MAX", "4"),
    ("MALLOC_MMAP_THRESHOLD_", "2097152"),
    ("MALLOC_TRIM_THRESHOLD_", "1048576"),
];

/// Begins this program again with the settings, once; returns where they are given, or cannot be.
pub(crate) fn set_up() {
    if env::var_os(MARK).is_some() {
        return;
    }
    let mut words = env::args_os();
    let mut again = Command::new("/proc/self/exe");
    if let Some(name) = words.next() {
        again.arg0(name);
    }
    again.args(words).env(MARK, "set");
    // What an admin has set is meant.
    again.envs(SETTINGS.into_iter().filter(|(name, _)| env::var_os(name).is_none()));
    let error = again.exec();
    tracing::debug!(%error, "the allocator keeps its own settings");
}
