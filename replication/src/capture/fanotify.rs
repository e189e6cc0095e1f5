//! Marks from one fanotify mark on the file system: no watch per folder, renames with both their names.
//!
//! Sources on one file system share the group that the kernel tells: see [`super::hub`].

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
    sync::Arc,
};

use super::{
    Capture, Marks,
    hub::{Hub, Member, MemberId},
};

/// Fanotify on a whole file system.
#[derive(Debug)]
pub(crate) struct Fanotify {
    hub: Arc<Hub>,
    id: MemberId,
    member: Arc<Member>,
}

impl Fanotify {
    /// Marks the file system of the folder `root`.
    pub(crate) fn open(root: &OwnedFd) -> io::Result<Self> {
        let (hub, id, member) = Hub::join(root)?;
        Ok(Self { hub, id, member })
    }
}

impl Drop for Fanotify {
    fn drop(&mut self) {
        self.hub.leave(self.id);
    }
}

impl Capture for Fanotify {
    fn name(&self) -> &'static str {
        "fanotify"
    }

    fn readable(&self) -> Option<BorrowedFd<'_>> {
        Some(self.member.wake())
    }

    fn drain(&mut self, marks: &mut Marks) -> io::Result<bool> {
        // What the thread has not read yet is read now: whoever asks wants all.
        let read = self.hub.read();
        self.member.take(marks);
        read.map(|(emptied, _)| emptied)
    }

    fn watch(&mut self, inode: u64, folder: BorrowedFd<'_>) -> io::Result<()> {
        self.hub.know(self.id, inode, folder)
    }

    fn watch_file(&mut self, inode: u64, file: BorrowedFd<'_>) -> io::Result<()> {
        self.hub.know_linked(self.id, inode, file)
    }

    fn unwatch(&mut self, inode: u64) {
        self.hub.forget(self.id, inode);
    }
}
