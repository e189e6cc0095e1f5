//! Taking what is there for what should be there, where it is just that.
//!
//! After a crash the tree is ahead of its records, and a tree that was copied has none that fit. To make again what is
//! right already would cost what the whole tree costs. So a file without a record that has the right name, size, time
//! and not more names than it should is compared with the store, and taken where every byte is right; a folder where
//! there should be one is taken for it, and its entries are looked at in turn: it may be another new one that had this
//! name before, so that no touched name speaks of what is in it.

use keepshare_base::{FileId, Kind, Name};

use super::{
    Fail,
    beneath::{Folder, Part, Seen, see_open},
    content::{self, Compared},
    work::{Spot, Work},
};
use crate::FileState;

impl Work<'_> {
    /// Takes the unknown thing that was seen at a spot for the file that is wanted there; false where it is not that.
    pub(super) fn adopt(
        &mut self,
        folder: &Folder,
        part: Part<'_>,
        spot: &Spot,
        (file, kind): (FileId, Kind),
        seen: &Seen,
    ) -> Result<bool, Fail> {
        if !(self.tree.redo || self.tree.copied) || seen.kind != kind {
            return Ok(false);
        }
        if self.tree.records.identity(file)?.is_some() && self.is_elsewhere(file, spot)? {
            return Ok(false);
        }
        let Some(state) = self.wanted.file(file)? else { return Ok(false) };
        let fits = match kind {
            Kind::Dir => true,
            Kind::Symlink => seen.links == 1 && folder.read_symlink(part)? == state.meta.symlink,
            Kind::File => self.is_same(folder, part, &state, seen)?,
            _ => false,
        };
        if !fits {
            return Ok(false);
        }
        if kind == Kind::Dir && !self.everything {
            // Before it counts as known: what is in it would not be looked at again.
            self.find_surplus(&folder.folder(part)?, file)?;
        }
        self.tree.records.set(file, seen.identity)?;
        self.counts().adopted += 1;
        self.retries.files.remove(&file);
        if kind == Kind::Dir {
            self.folder_changed(file)?;
            if !self.everything {
                self.fill.push(file);
            }
        } else {
            // Only attributes are left to be set.
            self.files.insert(file, self.wanted.at());
        }
        Ok(true)
    }

    /// Lists an adopted folder for names that must stand for nothing there and are not known to be touched.
    fn find_surplus(&mut self, folder: &Folder, file: FileId) -> Result<(), Fail> {
        folder.each(|part| {
            if let Ok(name) = Name::new(part.as_bytes())
                && self.wanted.name(file, &name)?.is_none()
                && self.touched.insert((file, name.clone()))
            {
                self.surplus.push((file, name));
            }
            Ok::<_, Fail>(true)
        })
    }

    /// Tells whether what was seen has the content of `state`, and is nobody else's as well.
    fn is_same(
        &mut self,
        folder: &Folder,
        part: Part<'_>,
        state: &FileState,
        seen: &Seen,
    ) -> Result<bool, Fail> {
        let looks_so = seen.size == state.meta.size && seen.mtime == state.meta.mtime;
        if !looks_so || seen.links as usize > self.wanted.names(state.file)?.len() {
            return Ok(false);
        }
        let file = folder.file(part, false)?;
        if see_open(&file)?.identity != seen.identity {
            return Ok(false);
        }
        let view = self.wanted.view();
        let (compared, _) = content::compare(&file, state, (view, self.reader), 0..u64::MAX)?;
        Ok(matches!(compared, Compared::Same))
    }
}
