//! Folders of the map, opened where they are now.

use std::{
    collections::HashMap,
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
};

use keepshare_base::FileId;
use keepshare_decide::{Known, NoFolder};
use rustix::io::Errno;

use super::{SourceError, map::MapTx, tree::Tree};

/// The most folders held open.
const FOLDERS_MAX: usize = 128;

/// Open folders.
#[derive(Debug, Default)]
pub(crate) struct Folders(HashMap<FileId, Rc<OwnedFd>>);

impl Folders {
    /// Opens a folder; `None` when something else, or nothing, is where the map has it.
    pub(crate) fn open(
        &mut self,
        map: &MapTx<'_>,
        tree: &Tree,
        folder: FileId,
    ) -> Result<Option<Rc<OwnedFd>>, SourceError> {
        Ok(self.find(map, tree, folder)?.ok())
    }

    /// Opens a folder, or says why it cannot be opened.
    pub(crate) fn find(
        &mut self,
        map: &MapTx<'_>,
        tree: &Tree,
        folder: FileId,
    ) -> Result<Result<Rc<OwnedFd>, NoFolder>, SourceError> {
        if let Some(open) = self.0.get(&folder) {
            return Ok(Ok(open.clone()));
        }
        let Some(path) = map.path(folder)? else { return Ok(Err(NoFolder::Elsewhere)) };
        let open = match tree.folder(&path) {
            Ok(open) => open,
            Err(error) => {
                return Ok(Err(match Errno::from_io_error(&error) {
                    Some(Errno::XDEV) => NoFolder::Mounted,
                    // Whoever looks at the names on the way finds where; a symlink may have taken its place.
                    Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => NoFolder::Elsewhere,
                    _ => NoFolder::Denied(error.into()),
                }));
            }
        };
        if folder != FileId::ROOT {
            let Some(record) = map.record(folder)? else {
                return Ok(Err(NoFolder::Elsewhere));
            };
            if !tree.look_at(open.as_fd()).is_ok_and(|seen| seen.inode == record.inode) {
                return Ok(Err(NoFolder::Elsewhere));
            }
        }
        if self.0.len() >= FOLDERS_MAX {
            self.0.clear();
        }
        let open = Rc::new(open);
        self.0.insert(folder, open.clone());
        Ok(Ok(open))
    }

    /// Closes all, because one of them was moved.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
