//! Folders that stood at a folder's path before it: their past goes on in its `@versions`.
//!
//! A folder that is removed, or renamed away, and made again is another one for the index, and the names in it would
//! begin without a past, just when someone wants it back.

use std::sync::Arc;

use keepshare_base::{CommitId, FileId, Name, SetPath};
use keepshare_versioning::{HistoryEntry, NameAt};

use crate::{
    Denial,
    chronicle::VERSIONS_MAX,
    dated::{Dated, SIGN_HOLDS},
    question::Question,
};

impl Question<'_> {
    /// Returns the history of a name, newest first: what it held in its folder and, before that, in folders at the same
    /// path as long as the path led to them, as far as `tell` lets through.
    pub(crate) fn whole_history(
        &self,
        folder: FileId,
        name: &Name,
        tell: impl FnMut(&HistoryEntry) -> Result<bool, Denial>,
    ) -> Result<Vec<HistoryEntry>, Denial> {
        let folders = self.folders_of(folder)?;
        let above = match folders.len() {
            // Only what was in other folders is looked up by its path.
            1 => Some(SetPath::default()),
            _ => self.view.path_of(folder, CommitId::MAX)?,
        };
        let folders = if above.is_some() { &folders[..] } else { &folders[..1] };
        let path = above.unwrap_or_default().join(name.clone());
        self.view.history_at(NameAt { folders, path: &path }, VERSIONS_MAX, tell)
    }

    /// Returns names that a folder has or had, or that folders before it had, in order, after `after`.
    pub(crate) fn names_at_path(
        &self,
        folder: FileId,
        after: Option<&Name>,
        limit: usize,
    ) -> Result<Vec<Name>, Denial> {
        Ok(self.view.names_in(&self.folders_of(folder)?, after, limit)?)
    }

    /// Returns a folder, and those that were where it is, the last one first.
    fn folders_of(&self, folder: FileId) -> Result<Vec<FileId>, Denial> {
        let former = self.former_folders(folder)?;
        let former = former.iter().flat_map(|former| former.iter().copied());
        Ok(std::iter::once(folder).chain(former).collect())
    }

    /// Returns the folders that were where a folder is, without itself, the last one first; nothing for the root.
    fn former_folders(&self, folder: FileId) -> Result<Option<Arc<Dated<Vec<FileId>>>>, Denial> {
        let Some((above, name)) = self.view.links(folder, CommitId::MAX)?.pop() else {
            return Ok(None);
        };
        let (all, place) = (&self.share.formers, (above, &name));
        let as_of = (&self.view, self.now);
        if let Some(known) = all.find(as_of, &folder, place, SIGN_HOLDS)? {
            return Ok(Some(known));
        }
        let path = self.view.path_of(folder, CommitId::MAX)?;
        let mut former = path.map_or_else(|| Ok(vec![]), |path| self.view.folders_at(&path))?;
        former.retain(|other| *other != folder);
        let weight = former.len() + 1;
        Ok(Some(all.keep(as_of, folder, place, (former, weight))?))
    }
}
