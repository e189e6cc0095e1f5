//! The machine the tests run on: who we are, what is installed, what the environment asks for.

use std::{
    env,
    ffi::OsStr,
    fmt::Display,
    fs::OpenOptions,
    io::Write,
    panic::resume_unwind,
    path::PathBuf,
    process::{Command, Output},
    str::FromStr,
    thread,
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Gid, Uid};

/// Who an ordinary user is when the tests run as root: `nobody`.
pub const ORDINARY_USER: u32 = 65_534;

/// Names the file to which every skipped test adds a line, so that the run can count them.
pub const SKIPS_ENV: &str = "KEEPSHARE_TEST_SKIPS";

/// The seed of every random test, when a run is to be repeated.
pub const SEED_ENV: &str = "KEEPSHARE_TEST_SEED";

/// Tells whether this process is root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Returns the path of a program, if it is installed.
pub fn installed(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let also = [PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")];
    env::split_paths(&path).chain(also).map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// Says that a test is left out and why; the caller returns.
pub fn skip(test: &str, reason: &str) {
    eprintln!("SKIPPED {test}: {reason}");
    let Some(path) = env::var_os(SKIPS_ENV) else { return };
    let file = OpenOptions::new().create(true).append(true).open(path);
    // The count is a service to the reader of a run; a test does not fail for it.
    let _ = file.and_then(|mut file| writeln!(file, "{test}: {reason}"));
}

/// Returns a parameter of the run from the environment, or its default.
pub fn param<T: FromStr<Err: Display>>(name: &str, default: T) -> T {
    let Ok(text) = env::var(name) else { return default };
    match text.parse() {
        Ok(value) => value,
        Err(error) => panic!("{name}={text} is not usable: {error}"),
    }
}

/// Returns the seed of this run and prints it, so that a failure can be repeated.
pub fn seed(test: &str) -> u64 {
    let seed = param(SEED_ENV, rand::random());
    eprintln!("{test}: {SEED_ENV}={seed}");
    seed
}

/// Runs `body` as `user` when we are root, else as who we are.
///
/// Only the thread that runs `body` changes its user, and with it every process that it starts.
pub fn as_user(user: u32, body: impl FnOnce() + Send) -> Result<()> {
    if !is_root() {
        body();
        return Ok(());
    }
    let ended = thread::scope(|scope| {
        let ordinary = scope.spawn(|| -> Result<()> {
            let (user, group) = (Uid::from_raw(user), Gid::from_raw(user));
            rustix::thread::set_thread_groups(&[])?;
            rustix::thread::set_thread_res_gid(group, group, group)?;
            rustix::thread::set_thread_res_uid(user, user, user)?;
            body();
            Ok(())
        });
        ordinary.join()
    });
    // A failed test goes on failing in the thread that asked.
    ended.unwrap_or_else(|panic| resume_unwind(panic)).context("cannot become an ordinary user")
}

/// Runs a command to its end; an error with what it said unless it succeeds.
pub fn run(command: &mut Command) -> Result<Output> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output)
}

/// Runs a program with arguments to its end, as [`run`] does.
pub fn run_args<A: AsRef<OsStr>>(
    program: &str,
    args: impl IntoIterator<Item = A>,
) -> Result<Output> {
    run(Command::new(program).args(args))
}
