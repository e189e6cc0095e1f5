//! What of a path's past may be told.

use keepshare_base::{CommitId, FileId, Kind, SetPath};
use keepshare_versioning::{FileState, HistoryEntry, NameAt};

use crate::{AskError, Denial, guard::Time, question::Question, rights::Want};

/// The folders of a path.
pub(super) struct Folders {
    /// Those that are or were at the path, the one that is there now, or was last, first.
    pub(super) all: Vec<FileId>,
    /// The folder through which they are reached: the last one on the path that lives.
    pub(super) through: FileId,
    /// That is the folder at the path.
    pub(super) is_there: bool,
}

impl Question<'_> {
    /// Returns the folders that are or were at a path; where none is there now, those alone that the user could search.
    pub(super) fn folders_told(&self, path: &SetPath) -> Result<Folders, Denial> {
        let mut all = self.view.folders_at(path)?;
        let (mut through, mut is_there) = (FileId::ROOT, true);
        for name in path.names() {
            match self.view.lookup(through, name, CommitId::MAX)? {
                Some((next, Kind::Dir)) => through = next,
                _ => {
                    is_there = false;
                    break;
                }
            }
        }
        if !is_there && !self.who.is_admin() {
            let mut searched = Vec::with_capacity(all.len());
            for folder in all {
                if self.passes(folder, Time::Now)? {
                    searched.push(folder);
                }
            }
            all = searched;
        }
        Ok(Folders { all, through, is_there })
    }

    /// Returns the history of a path, newest first, as far as it may be told.
    pub(super) fn history_told(
        &self,
        path: &SetPath,
        limit: usize,
    ) -> Result<Vec<HistoryEntry>, AskError> {
        let Some((folder, _)) = path.split_last() else { return Ok(Vec::new()) };
        let Folders { all, through, .. } = self.folders_told(&folder)?;
        let at = NameAt { folders: &all, path };
        self.view.history_at(at, limit, |entry| Ok(self.may_tell(through, entry)?))
    }

    /// Tells whether an entry of a name's history may be told to whoever reaches it through a living folder.
    pub(super) fn may_tell(&self, through: FileId, entry: &HistoryEntry) -> Result<bool, Denial> {
        let state = &entry.state;
        match state.meta.kind {
            _ if self.who.is_admin() => Ok(true),
            // Folders have no versions on a drive: they are seen as they were before they went.
            Kind::Dir => self.is_seen(through, (state.file, before(entry.until)), state),
            _ => self.may_read_version(through, state),
        }
    }

    /// Tells whether a thing is seen as it was at a commit, as in the view of a time.
    pub(super) fn is_seen(
        &self,
        through: FileId,
        (file, at): (FileId, CommitId),
        state: &FileState,
    ) -> Result<bool, Denial> {
        if self.who.is_admin() {
            return Ok(true);
        }
        let want = Want::to_see(state.meta.kind);
        Ok(!state.expired && self.may_at(through, (file, at), state, want)?)
    }

    /// Tells whether the user may do this with a folder as it was at a commit, and may now.
    pub(super) fn may_folder(
        &self,
        through: FileId,
        (folder, at): (FileId, CommitId),
        want: Want,
    ) -> Result<bool, Denial> {
        if self.who.is_admin() {
            return Ok(true);
        }
        let state = self.view.file(folder, at)?.filter(|state| !state.expired);
        match state {
            Some(state) => self.may_at(through, (folder, at), &state, want),
            None => Ok(false),
        }
    }
}

/// Returns the commit before; all that has not ended is at [`CommitId::MAX`].
pub(super) fn before(commit: CommitId) -> CommitId {
    if commit == CommitId::MAX { commit } else { CommitId(commit.0.saturating_sub(1)) }
}
