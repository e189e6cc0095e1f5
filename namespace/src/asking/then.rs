//! What a path was at a time that was typed.

use keepshare_base::{CommitId, FileId, Kind, SetPath, Stamp, VersionId};
use keepshare_versioning::{
    FileState, HistoryEntry, NameAt, POINTS_IN_ALL_MAX, PointInfo, names,
    when::{Moment, POINT, When, WhenError, commit_then},
};

use crate::{AskError, PathThen, question::Question, rights::Want};

use super::told::Folders;

/// How many versions of a name are searched.
const SEARCHED_MAX: usize = 100_000;

impl Question<'_> {
    /// Returns what a path was at the time that was typed.
    pub(super) fn at(&self, path: &SetPath, typed: &str) -> Result<PathThen, AskError> {
        if let Some(name) = typed.strip_prefix(POINT) {
            let at = self.commit_at_point(name)?;
            let found = match self.at_commit(path, at)? {
                // While a long file is read it is of no moment: the version before it is what the point has.
                Some(found) if found.state.cut && found.state.cut_at > at => {
                    let before = self.version_before(&found.state, at)?;
                    Some(before.map_or(found.clone(), |state| PathThen { state, ..found }))
                }
                Some(found) if !found.state.expired => Some(found),
                found => self.in_history(path, at)?.or(found),
            };
            return found.map_or_else(|| Err(self.not_there(path)?), Ok);
        }
        let when: When = typed
            .parse()
            .or_else(|error| format!("@{typed}").parse().map_err(|_: WhenError| error))
            .map_err(AskError::Time)?;
        let moment = when.resolve(self.share.config.zone, self.now);
        let is_version = matches!(moment, Moment::Version(..));
        let found = match moment {
            Moment::Latest => self.at_commit(path, self.view.latest())?,
            Moment::At(stamp) => self.at_stamp(path, stamp)?,
            Moment::Version(id, file) => self.at_version(path, id, file)?,
        };
        match found {
            Some(found) => Ok(found),
            None => match self.not_there(path)? {
                AskError::NotThere if is_version => Err(AskError::NoVersion),
                error => Err(error),
            },
        }
    }

    /// Returns the points, oldest first, to whoever may list the set's first folder, as they are in `_points`.
    pub(super) fn points_told(&self) -> Result<Vec<PointInfo>, AskError> {
        if !self.may_now(FileId::ROOT, Want::Read)? {
            return Ok(Vec::new());
        }
        Ok(self.view.points(CommitId(0), POINTS_IN_ALL_MAX)?)
    }

    /// Returns the commit of the point of a name, or of the one with this id.
    pub(super) fn commit_at_point(&self, name: &str) -> Result<CommitId, AskError> {
        let points = self.points_told()?.into_iter();
        let mut meant = points.filter(|point| {
            point.point.name == name || VersionId(point.position).to_string() == name
        });
        match (meant.next(), meant.next()) {
            (None, _) => Err(AskError::NoPoint),
            (Some(point), None) => Ok(point.commit),
            (Some(one), Some(other)) => {
                Err(AskError::SeveralPoints([one, other].map(|point| VersionId(point.position))))
            }
        }
    }

    /// Returns the last version of a file that was one at a commit.
    fn version_before(
        &self,
        state: &FileState,
        at: CommitId,
    ) -> Result<Option<FileState>, AskError> {
        let mut before = CommitId(state.commit.0.saturating_sub(1));
        while let Some(state) = self.view.file(state.file, before)? {
            if state.cut && state.cut_at <= at {
                return Ok(Some(state));
            }
            before = CommitId(state.commit.0.saturating_sub(1));
        }
        Ok(None)
    }

    /// Returns what a path was at a commit, where it and the folders on the way are seen then.
    fn at_commit(&self, path: &SetPath, at: CommitId) -> Result<Option<PathThen>, AskError> {
        let (mut file, mut kind) = (FileId::ROOT, Kind::Dir);
        for name in path.names() {
            if kind != Kind::Dir || !self.may_folder(FileId::ROOT, (file, at), Want::Search)? {
                return Ok(None);
            }
            let Some(next) = self.view.lookup(file, name, at)? else { return Ok(None) };
            (file, kind) = next;
        }
        match self.view.file(file, at)? {
            Some(state) if self.is_seen(FileId::ROOT, (file, at), &state)? => {
                Ok(Some(PathThen { state, commit: at, name: path.names().last().cloned() }))
            }
            _ => Ok(None),
        }
    }

    /// Returns what a path was at a moment; a moment that is not before now means the present.
    fn at_stamp(&self, path: &SetPath, stamp: Stamp) -> Result<Option<PathThen>, AskError> {
        let at = commit_then(&self.view, stamp, self.now)?;
        if at == CommitId(0) {
            return Err(self.before_history()?);
        }
        let found = self.at_commit(path, at)?;
        if found.as_ref().is_some_and(|found| !found.state.expired) {
            return Ok(found);
        }
        Ok(self.in_history(path, at)?.or(found))
    }

    /// Returns what the history of a path has for a commit, as `NAME@` of a drive does: the version of the file that it held,
    /// under its former name where that is another, or the next older one where the content of that was removed.
    fn in_history(&self, path: &SetPath, at: CommitId) -> Result<Option<PathThen>, AskError> {
        let Some((above, name)) = path.split_last() else { return Ok(None) };
        let Folders { all, through, is_there } = self.folders_told(&above)?;
        let place = NameAt { folders: &all, path };
        // It is one version that is meant, whoever asks; then it is told, or it is not.
        let is_file = |entry: &HistoryEntry| Ok::<_, AskError>(entry.state.meta.kind != Kind::Dir);
        let history = self.view.history_at(place, SEARCHED_MAX, is_file)?;
        let file = match is_there {
            true => self.held_then(through, name, at)?,
            false => self.view.resolve(path, at)?.map(|(file, _)| file),
        };
        let is_kept = |entry: &&HistoryEntry| !entry.state.expired;
        let of_file = |entry: &&HistoryEntry| {
            Some(entry.state.file) == file && entry.state.commit <= at && is_kept(entry)
        };
        let held = |entry: &HistoryEntry| (entry.since..entry.until).contains(&at);
        let kept = history.iter().find(of_file).or_else(|| {
            let newest = history.iter().position(held)?;
            history[newest..].iter().find(is_kept)
        });
        match kept {
            Some(kept) if self.may_tell(through, kept)? => {
                let (state, name) = (kept.state.clone(), Some(name.clone()));
                Ok(Some(PathThen { state, commit: at, name }))
            }
            _ => Ok(None),
        }
    }

    fn at_version(
        &self,
        path: &SetPath,
        id: VersionId,
        file: Option<FileId>,
    ) -> Result<Option<PathThen>, AskError> {
        let is_meant = |state: &FileState| {
            VersionId(state.position) == id && file.is_none_or(|file| file == state.file)
        };
        let mut held = self.history_told(path, SEARCHED_MAX)?;
        let removed = removed_around(&held, id, file).cloned();
        held.retain(|entry| is_meant(&entry.state));
        let newest = held.first().map(|entry| entry.state.file);
        if let Some(other) = held.iter().find(|entry| Some(entry.state.file) != newest) {
            return Err(AskError::Several([&held[0], other].map(|entry| names::id(&entry.state))));
        }
        if let Some(HistoryEntry { state, .. }) = held.pop() {
            let (commit, name) = (state.commit, path.names().last().cloned());
            return Ok(Some(PathThen { state, commit, name }));
        }
        if let Some(HistoryEntry { state, .. }) = removed {
            let (commit, name) = (state.commit, path.names().last().cloned());
            return Ok(Some(PathThen { state, commit, name }));
        }
        // A folder is asked for by the versions of what is in it, too.
        let Some(commit) = self.view.commit_with(id, file)? else { return Ok(None) };
        let found = self.at_commit(path, commit)?;
        Ok(found.filter(|found| found.state.meta.kind == Kind::Dir || is_meant(&found.state)))
    }

    /// Says when the history begins to whoever asked for what was before it.
    fn before_history(&self) -> Result<AskError, AskError> {
        let is_whole = |stamp| Ok::<_, AskError>(self.view.commit_at(stamp)? != CommitId(0));
        Ok(match first_stamp(is_whole)? {
            Some(begin) => AskError::BeforeHistory { begin },
            None => AskError::NothingYet,
        })
    }

    /// Says why there is nothing at a path at some time.
    fn not_there(&self, path: &SetPath) -> Result<AskError, AskError> {
        let is_known = path.names().is_empty() || !self.history_told(path, 1)?.is_empty();
        if is_known { Ok(AskError::NotThere) } else { self.no_history(path) }
    }
}

/// Returns the older of the two removed versions between which one with this id stood, where it has no row any more: it is one that
/// retention removed, and none that never was.
fn removed_around(
    history: &[HistoryEntry],
    id: VersionId,
    file: Option<FileId>,
) -> Option<&HistoryEntry> {
    let around = history.windows(2).find(|pair| {
        let (newer, older) = (&pair[0].state, &pair[1].state);
        let is_meant = newer.file == older.file && file.is_none_or(|file| file == older.file);
        let is_one = [newer, older].iter().all(|state| state.position.origin == id.0.origin);
        let is_between = older.position < id.0 && id.0 < newer.position;
        is_meant && newer.expired && older.expired && is_one && is_between
    });
    around.map(|pair| &pair[1])
}

/// Returns the first stamp for which this is so, given that it stays so for all later ones.
fn first_stamp<E>(mut is_so: impl FnMut(Stamp) -> Result<bool, E>) -> Result<Option<Stamp>, E> {
    if !is_so(Stamp::MAX)? {
        return Ok(None);
    }
    if is_so(Stamp(0))? {
        return Ok(Some(Stamp(0)));
    }
    let (mut before, mut so) = (Stamp(0), Stamp::MAX);
    while so.0 - before.0 > 1 {
        let middle = Stamp(before.0 + (so.0 - before.0) / 2);
        if is_so(middle)? {
            so = middle;
        } else {
            before = middle;
        }
    }
    Ok(Some(so))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_stamp_is_found_wherever_it_is() {
        for first in [0, 1, 1_795_185_127_000_000, i64::MAX] {
            let found = first_stamp(|stamp| Ok::<_, ()>(stamp >= Stamp(first)));
            assert_eq!(found, Ok(Some(Stamp(first))));
        }
        assert_eq!(first_stamp(|_| Ok::<_, ()>(false)), Ok(None));
    }
}
