//! Making a live tree durable in a process of its own.
//!
//! `syncfs` waits for all that anybody wrote to the file system, on a busy disk for half a minute, and a thread in it
//! cannot be ended: a station that waited there could neither stop nor be killed meanwhile. So a child does it, which is
//! this program under another name, and is left alone where the station ends.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    process::{Command, ExitCode, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use keepshare_versioning::set::SyncTree;

/// What the child is called with. Nobody types it, so it is no command.
pub const ARGUMENT: &str = "sync-tree";

/// This program, though its file was replaced meanwhile.
const PROGRAM: &str = "/proc/self/exe";

/// How often it is looked whether the child is done, at first and at the latest.
const LOOK_EVERY: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(50)];

/// Returns what makes live trees durable.
pub fn in_a_child() -> SyncTree {
    Arc::new(|live, leaving| match spawn(live) {
        Ok(child) => wait(child, leaving),
        Err(error) => {
            tracing::debug!(%error, "no process for a sync");
            Ok(rustix::fs::syncfs(live)?)
        }
    })
}

/// Does the child's work: syncs the file system of the folder that is its standard input.
pub fn child() -> ExitCode {
    match rustix::fs::syncfs(io::stdin().as_fd()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => ExitCode::from(u8::try_from(error.raw_os_error()).unwrap_or(u8::MAX)),
    }
}

fn spawn(live: BorrowedFd<'_>) -> io::Result<std::process::Child> {
    let mut command = Command::new(PROGRAM);
    command.arg(ARGUMENT).env_clear();
    command.stdin(Stdio::from(live.try_clone_to_owned()?));
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

fn wait(mut child: std::process::Child, leaving: &AtomicBool) -> io::Result<()> {
    let [mut every, most] = LOOK_EVERY;
    loop {
        if let Some(status) = child.try_wait()? {
            return match status.code() {
                Some(0) => Ok(()),
                Some(code) => Err(io::Error::from_raw_os_error(code)),
                None => Err(io::Error::other("the process that syncs was killed")),
            };
        }
        if leaving.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        thread::sleep(every);
        every = (2 * every).min(most);
    }
}

#[cfg(test)]
mod tests {
    /// The child waits for the disk and cannot be killed: a stop that waited for it would wait for the disk, too.
    #[test]
    fn a_stop_of_the_service_leaves_the_child_alone() {
        let unit = include_str!("../../deploy/keepshare.service");
        assert!(unit.lines().any(|line| line == "KillMode=process"), "{unit}");
    }
}
