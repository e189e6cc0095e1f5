//! Folders of the map, opened where they are now.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
};

use keepshare_base::FileId;
use rustix::io::Errno;

use super::{SourceError, map::MapTx, tree::Tree};

/// The most folders held open.
const FOLDERS_MAX: usize = 128;

/// Open folders.
#[derive(Debug, Default)]
pub(crate) struct Folders {
    open: HashMap<FileId, Rc<OwnedFd>>,
    denied: Option<io::Error>,
    mounted: bool,
}

impl Folders {
    /// Opens a folder; `None` when something else, or nothing, is where the map has it.
    pub(crate) fn open(
        &mut self,
        map: &MapTx<'_>,
        tree: &Tree,
        folder: FileId,
    ) -> Result<Option<Rc<OwnedFd>>, SourceError> {
        if let Some(open) = self.open.get(&folder) {
            return Ok(Some(open.clone()));
        }
        let Some(path) = map.path(folder)? else { return Ok(None) };
        let open = match tree.folder(&path) {
            Ok(open) => open,
            Err(error) => {
                let moved = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
                // Whoever looks at the names on the way finds where.
                self.mounted = error.raw_os_error() == Some(Errno::XDEV.raw_os_error());
                // A symlink has taken its place.
                let replaced = error.raw_os_error() == Some(Errno::LOOP.raw_os_error());
                let elsewhere = self.mounted || replaced || moved.contains(&error.kind());
                self.denied = (!elsewhere).then_some(error);
                return Ok(None);
            }
        };
        if folder != FileId::ROOT {
            let Some(record) = map.record(folder)? else { return Ok(None) };
            if !tree.look_at(open.as_fd()).is_ok_and(|seen| seen.inode == record.inode) {
                return Ok(None);
            }
        }
        if self.open.len() >= FOLDERS_MAX {
            self.open.clear();
        }
        let open = Rc::new(open);
        self.open.insert(folder, open.clone());
        Ok(Some(open))
    }

    /// Returns why the last folder could not be opened, where that was not for being elsewhere.
    pub(crate) fn take_denied(&mut self) -> Option<io::Error> {
        self.denied.take()
    }

    /// Tells whether the last folder could not be opened because something is mounted on the way to it.
    pub(crate) fn take_mounted(&mut self) -> bool {
        std::mem::take(&mut self.mounted)
    }

    /// Closes all, because one of them was moved.
    pub(crate) fn clear(&mut self) {
        self.open.clear();
    }
}
