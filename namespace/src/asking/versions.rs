//! The versions of a path.

use std::collections::{HashMap, hash_map::Entry};

use keepshare_base::{CommitId, FileId, Kind, Name, SetPath};
use keepshare_versioning::{HistoryEntry, NameAt};

use crate::{AskError, Denial, PathVersion, guard::Time, question::Question, rights::Want};

use super::told::Folders;

/// How many names of a folder are read at once.
const PAGE: usize = 512;

impl Question<'_> {
    /// Returns the versions of what is or was at a path, and of what it held when it is, or was, a folder.
    pub(super) fn versions(
        &self,
        path: &SetPath,
        limit: usize,
    ) -> Result<Vec<PathVersion>, AskError> {
        let Some((above, _)) = path.split_last() else {
            let mut versions = self.versions_of_root(limit)?;
            self.add_gone(path, FileId::ROOT, limit, &mut versions)?;
            return Ok(versions);
        };
        let history = self.history_told(path, limit)?;
        let Some(newest) = history.first() else { return Err(self.no_history(path)?) };
        let folder = (newest.state.meta.kind == Kind::Dir).then_some(newest.state.file);
        let mut known = HashMap::new();
        let mut versions = Vec::with_capacity(history.len());
        for entry in history {
            let at = if entry.current { self.view.latest() } else { entry.since };
            let key = (entry.parent, at);
            let folder = match known.entry(key) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => unknown.insert(self.folder_then(key)?),
            };
            let version = match folder {
                Some(folder) => version(entry, folder),
                None => PathVersion { path: path.clone(), ..version(entry, &above) },
            };
            versions.push(version);
        }
        if let Some(folder) = folder {
            self.add_gone(path, folder, limit, &mut versions)?;
        }
        Ok(versions)
    }

    fn versions_of_root(&self, limit: usize) -> Result<Vec<PathVersion>, AskError> {
        let now = self.view.file(FileId::ROOT, CommitId::MAX)?.map(|state| state.commit);
        let mut versions = Vec::new();
        for state in self.view.versions(FileId::ROOT)? {
            if versions.len() == limit {
                break;
            }
            if self.is_seen(FileId::ROOT, (FileId::ROOT, state.commit), &state)? {
                let current = now == Some(state.commit);
                let path = SetPath::default();
                versions.push(PathVersion { state, path, until: None, current });
            }
        }
        Ok(versions)
    }

    /// Adds the last version of each name that a folder at a path held and holds no more.
    fn add_gone(
        &self,
        path: &SetPath,
        folder: FileId,
        limit: usize,
        versions: &mut Vec<PathVersion>,
    ) -> Result<(), AskError> {
        if !self.passes(folder, Time::Now)? || !self.may_now(folder, Want::Read)? {
            return Ok(());
        }
        let Folders { all, through, .. } = self.folders_told(path)?;
        let mut after: Option<Name> = None;
        while versions.len() < limit {
            let page = self.view.names_in(&all, after.as_ref(), PAGE)?;
            let Some(last) = page.last() else { break };
            after = Some(last.clone());
            for name in page {
                if versions.len() == limit || !self.view.is_gone(folder, &name)? {
                    continue;
                }
                let at = NameAt { folders: &all, path: &path.join(name) };
                let tell = |entry: &HistoryEntry| self.may_tell(through, entry);
                let newest = self.view.history_at(at, 1, tell)?;
                versions.extend(newest.into_iter().map(|entry| version(entry, path)));
            }
        }
        Ok(())
    }

    /// Returns where a folder was at a commit or, where it was nowhere, where it is; `None` where the user may not know: who could
    /// go there then and cannot now is not told what it is called.
    fn folder_then(&self, (folder, at): (FileId, CommitId)) -> Result<Option<SetPath>, Denial> {
        for at in [at, CommitId::MAX] {
            if let Some(path) = self.view.path_of(folder, at)? {
                let time = if at == CommitId::MAX { Time::Now } else { Time::At(at) };
                let passes = self.passes(folder, time)? && self.passes(folder, Time::Now)?;
                return Ok(passes.then_some(path));
            }
        }
        Ok(None)
    }
}

fn version(entry: HistoryEntry, folder: &SetPath) -> PathVersion {
    let HistoryEntry { state, name, held_until: until, current, .. } = entry;
    PathVersion { state, path: folder.join(name), until, current }
}
