//! Folders that stood at a folder's path before it: their past goes on in its `@versions`.
//!
//! A folder that is removed, or renamed away, and made again is another one for the index, and the names in it would
//! begin without a past, just when someone wants it back.

use std::sync::Arc;

use keepshare_base::{CommitId, DEPTH_MAX, FileId, Kind, Name, SetPath};
use keepshare_versioning::{Ended, HistoryEntry};

use crate::{
    Denial,
    cache::Forgetful,
    history::VERSIONS_MAX,
    question::{Question, locked},
};

/// How many folders that stood at one path are gone through.
const FOLDERS_MAX: usize = 64;

/// How many changes of one name are searched for folders.
const CHANGES_MAX: usize = 1000;

/// Folders that stood where one is, as of a newest commit.
pub(crate) type Formers = Forgetful<(FileId, CommitId), Arc<[FileId]>>;

impl Question<'_> {
    /// Returns the history of a name: what it held in its folder and, before that, in folders at the same path as long
    /// as the path led to them; newest first.
    pub(crate) fn whole_history(
        &self,
        folder: FileId,
        name: &Name,
    ) -> Result<Vec<HistoryEntry>, Denial> {
        let mut history = self.view.history(folder, name, VERSIONS_MAX)?;
        let before = history.len();
        for former in self.former_folders(folder)?.iter() {
            self.add_history_before(&mut history, folder, (*former, name))?;
        }
        if history.len() > before {
            history.sort_by_key(|entry| std::cmp::Reverse(entry.since));
            history.truncate(VERSIONS_MAX);
        }
        Ok(history)
    }

    /// Returns names that a folder has or had, or that folders before it had, in order, after `after`.
    pub(crate) fn names_at_path(
        &self,
        folder: FileId,
        after: Option<&Name>,
        limit: usize,
    ) -> Result<Vec<Name>, Denial> {
        let mut names = self.view.names_ever(folder, after, limit)?;
        for former in self.former_folders(folder)?.iter() {
            // Of each folder the first ones are enough: what comes after the first `limit` of all is not asked for.
            names.extend(self.view.names_ever(*former, after, limit)?);
        }
        names.sort_unstable();
        names.dedup();
        names.truncate(limit);
        Ok(names)
    }

    /// Returns the folders that were where a folder is, without itself, the last one first.
    fn former_folders(&self, folder: FileId) -> Result<Arc<[FileId]>, Denial> {
        let key = (folder, self.view.latest());
        if let Some(known) = locked(&self.share.formers).find(&key) {
            return Ok(known);
        }
        let found = self.find_former_folders(folder)?;
        let former: Arc<[FileId]> = found.into_iter().filter(|other| *other != folder).collect();
        locked(&self.share.formers).keep(key, Arc::clone(&former), former.len() + 1);
        Ok(former)
    }

    fn find_former_folders(&self, folder: FileId) -> Result<Vec<FileId>, Denial> {
        let mut names = Vec::new();
        let mut at = folder;
        while at != FileId::ROOT {
            let place = self.view.links(at, CommitId::MAX)?.pop();
            let Some((above, name)) = place.filter(|_| names.len() < DEPTH_MAX) else {
                return Ok(vec![]);
            };
            names.push(name);
            at = above;
        }
        let mut folders = vec![FileId::ROOT];
        for name in names.iter().rev() {
            let mut next = Vec::new();
            for above in folders {
                for target in self.view.held(above, name, CHANGES_MAX)? {
                    if let Some((file, Kind::Dir)) = target
                        && !next.contains(&file)
                        && next.len() < FOLDERS_MAX
                    {
                        next.push(file);
                    }
                }
            }
            folders = next;
        }
        Ok(folders)
    }

    /// Adds what a name held in a folder before, as long as that stood where `folder` is.
    fn add_history_before(
        &self,
        history: &mut Vec<HistoryEntry>,
        folder: FileId,
        (former, name): (FileId, &Name),
    ) -> Result<(), Denial> {
        if self.view.held(former, name, 1)?.is_empty() {
            return Ok(());
        }
        let Some(path) = self.view.path_of(folder, CommitId::MAX)? else { return Ok(()) };
        let path: SetPath = path.join(name.clone());
        for mut entry in self.view.history(former, name, VERSIONS_MAX)? {
            let then = self.view.resolve(&path, entry.since)?;
            if then.is_some_and(|(file, _)| file == entry.state.file) {
                entry.current = false;
                // What its path led to at some moment is found by that path.
                entry.until = entry.since;
                // It went with its folder, where it is still somewhere.
                entry.held_until = entry.held_until.or(Some((entry.held_from, Ended::Renamed)));
                history.push(entry);
            }
        }
        Ok(())
    }
}
