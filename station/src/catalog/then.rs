//! What a path was at a moment, as the drive tells it, too.

use keepshare_base::{CommitId, Kind, SetPath, Stamp};
use keepshare_versioning::when::commit_then;
use keepshare_versioning::{HistoryEntry, View};

use super::{Catalog, Found, SEARCHED_MAX, read_failure};
use keepshare_control::Outcome;

impl Catalog {
    /// Returns what a path was at a moment; a moment that is not before `now` means the present.
    pub(super) fn at_stamp(
        &self,
        view: &View,
        path: &SetPath,
        stamp: Stamp,
        now: Stamp,
    ) -> Outcome<Option<Found>> {
        let commit = commit_then(view, stamp, now).map_err(read_failure)?;
        if commit == CommitId(0) {
            return Err(self.before_history(view, path)?);
        }
        let found = self.at_commit(view, path, commit)?;
        if found.as_ref().is_some_and(|found| !found.state.expired) {
            return Ok(found);
        }
        Ok(self.in_history(view, path, commit)?.or(found))
    }

    /// Returns what the history of a path has for a commit: under its file's former name, or the next older version where
    /// the content of that one was removed.
    fn in_history(&self, view: &View, path: &SetPath, commit: CommitId) -> Outcome<Option<Found>> {
        let Some((folder, name)) = path.split_last() else { return Ok(None) };
        let history = self.history(view, path, &folder, SEARCHED_MAX).map_err(read_failure)?;
        let held = |entry: &HistoryEntry| (entry.since..entry.until).contains(&commit);
        let Some(at) = history.iter().position(held) else { return Ok(None) };
        let is_kept =
            |entry: &&HistoryEntry| entry.state.meta.kind != Kind::Dir && !entry.state.expired;
        let kept = history[at..].iter().find(is_kept);
        Ok(kept.map(|entry| Found { state: entry.state.clone(), commit, name: Some(name.clone()) }))
    }
}
