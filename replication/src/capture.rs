//! What to look at: names and objects of a source that may have changed.
//!
//! Events merge, lose their order and come late (a→b, b→a, a→b read at the end says the wrong end), so they are never
//! taken for what happened: they only mark a name in a folder or an object as dirty. What did happen is the source's to
//! find out. Folders and objects are known by their inode number, because that is what every mechanism can tell.
//!
//! | capture | when | what it cannot see |
//! |---|---|---|
//! | `fanotify` | root, on ext4, XFS, btrfs' top level, tmpfs | stores through a memory map until it is unmapped, Linux AIO |
//! | `inotify` | everywhere else | that too, and that a file got a name in a folder outside the source |
//! | scan | always: at the start, after a loss, by schedule | when it happened |
//!
//! The scan has no code here: a source compares a folder with its map whenever a folder is new or marked whole.

use std::{
    fmt, io,
    os::fd::{BorrowedFd, OwnedFd},
};

pub(crate) use keepshare_decide::{Marks, Object, Touch};

mod events;
mod fanotify;
mod handle;
mod hub;
mod inotify;

pub(crate) use fanotify::Fanotify;
pub(crate) use inotify::Inotify;

/// Something that notices changes.
///
/// The source's thread waits for [`Self::readable`] and then calls [`Self::drain`].
pub(crate) trait Capture: fmt::Debug + Send {
    /// What it is called in the status.
    fn name(&self) -> &'static str;

    /// Becomes readable when there is something to drain; `None`: never.
    fn readable(&self) -> Option<BorrowedFd<'_>>;

    /// Takes what was noticed so far, without waiting; tells whether nothing is left.
    fn drain(&mut self, marks: &mut Marks) -> io::Result<bool>;

    /// Begins to notice changes in a folder; whoever calls it reads the folder afterwards.
    fn watch(&mut self, inode: u64, folder: BorrowedFd<'_>) -> io::Result<()>;

    /// Begins to notice writes to a file by names in folders outside; whoever calls it looks at the file afterwards.
    fn watch_file(&mut self, inode: u64, file: BorrowedFd<'_>) -> io::Result<()>;

    /// A folder or file is gone.
    fn unwatch(&mut self, inode: u64);
}

/// The capture that notices nothing: everything is left to scans.
#[derive(Debug)]
pub(crate) struct ScanOnly;

impl Capture for ScanOnly {
    fn name(&self) -> &'static str {
        "scan"
    }

    fn readable(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn drain(&mut self, _marks: &mut Marks) -> io::Result<bool> {
        Ok(true)
    }

    fn watch(&mut self, _inode: u64, _folder: BorrowedFd<'_>) -> io::Result<()> {
        Ok(())
    }

    fn watch_file(&mut self, _inode: u64, _file: BorrowedFd<'_>) -> io::Result<()> {
        Ok(())
    }

    fn unwatch(&mut self, _inode: u64) {}
}

/// Opens the best capture there is for the folder at `root`.
pub(crate) fn best(root: &OwnedFd) -> io::Result<Box<dyn Capture>> {
    match Fanotify::open(root) {
        Ok(fanotify) => Ok(Box::new(fanotify)),
        // Not root, or a file system without handles (overlayfs, a btrfs subvolume).
        Err(error) => {
            tracing::debug!(%error, "no fanotify here, using inotify");
            Ok(Box::new(Inotify::open()?))
        }
    }
}
