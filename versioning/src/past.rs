//! The one reading of the past: what a name held, through folders and files that were renamed, removed and made again.
//!
//! It knows no rights. Whoever asks says of each version whether it may be told, and limits count what was told: what is
//! kept from somebody takes no place from what is not. [`when`] reads the times that people type.

mod history;
pub mod names;
pub mod when;

use std::collections::BTreeSet;

use keepshare_base::{CommitId, FileId, Kind, Name, SetPath};

use self::history::{Reach, Stopped, Walked};
use crate::{
    ReadError, View, index,
    state::{Ended, HistoryEntry},
};

/// The most folders that stood at one path and are gone through.
const FOLDERS_MAX: usize = 64;

/// How many changes of one name are searched for folders.
const CHANGES_MAX: usize = 1000;

/// A name, and the folders in which it has its past.
#[derive(Clone, Copy, Debug)]
pub struct NameAt<'a> {
    /// The folder that has the name or had it last, then those that stood at that folder's path before.
    pub folders: &'a [FileId],
    /// The path of the name, by which it was reached in the folders before.
    pub path: &'a SetPath,
}

impl View {
    /// Returns what a name of one folder held, newest first, and what its file was called before; expired versions are
    /// marked.
    pub fn history(
        &self,
        folder: FileId,
        name: &Name,
        limit: usize,
    ) -> Result<Vec<HistoryEntry>, ReadError> {
        self.history_told(folder, name, (limit, Reach::ASKED), |_| Ok::<_, ReadError>(true))
    }

    /// Returns all of the history of a name of one folder that `tell` lets through, to its beginning, however long that is.
    pub(crate) fn whole_history(
        &self,
        folder: FileId,
        name: &Name,
        mut tell: impl FnMut(&HistoryEntry) -> bool,
    ) -> Result<Vec<HistoryEntry>, ReadError> {
        let told = |entry: &HistoryEntry| Ok::<_, ReadError>(tell(entry));
        self.history_told(folder, name, (usize::MAX, Reach::WHOLE), told)
    }

    /// Returns what [`Self::whole_history`] does, where the history has no more than so many versions, told or not.
    pub(crate) fn short_history(
        &self,
        folder: FileId,
        name: &Name,
        versions: usize,
        mut tell: impl FnMut(&HistoryEntry) -> bool,
    ) -> Result<Option<Vec<HistoryEntry>>, ReadError> {
        let told = |entry: &HistoryEntry| Ok::<_, ReadError>(tell(entry));
        let reach = (usize::MAX, Reach::to(versions));
        let Walked { entries, is_whole } = self.walk_history(folder, name, reach, told)?;
        Ok(is_whole.then_some(entries))
    }

    /// Returns the folders that are or were at a path, the one that is there now, or was last, first; 64 at most.
    ///
    /// A folder that is removed, or renamed away, and made again is another one, and the names in it would begin without a
    /// past just when someone wants it back.
    pub fn folders_at(&self, path: &SetPath) -> Result<Vec<FileId>, ReadError> {
        Ok(self.folders_and_changes(path.names())?.0)
    }

    /// Returns the folders that are or were at a path, as [`Self::folders_at`] does, and the commits at which the path or one
    /// of the folders above it came to stand for something else.
    fn folders_and_changes(
        &self,
        path: &[Name],
    ) -> Result<(Vec<FileId>, BTreeSet<CommitId>), ReadError> {
        let (mut folders, mut commits) = (vec![FileId::ROOT], BTreeSet::new());
        for name in path {
            let mut next = Vec::new();
            for folder in folders {
                let changes =
                    self.ask(|rows| index::names::changes(rows, folder, name, CHANGES_MAX))?;
                for (commit, target) in changes {
                    commits.insert(commit);
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
        Ok((folders, commits))
    }

    /// Returns the whole history of a name: what it held in its folder and, before that, in folders at the same path as
    /// long as the path led to them; newest first, as much of it as `tell` lets through and `limit` allows.
    pub fn history_at<E: From<ReadError>>(
        &self,
        NameAt { folders, path }: NameAt<'_>,
        limit: usize,
        mut tell: impl FnMut(&HistoryEntry) -> Result<bool, E>,
    ) -> Result<Vec<HistoryEntry>, E> {
        let (Some((present, former)), Some(name)) = (folders.split_first(), path.names().last())
        else {
            return Ok(Vec::new());
        };
        let mut history = self.history_told(*present, name, (limit, Reach::ASKED), &mut tell)?;
        let of_present = history.len();
        if former.is_empty() {
            return Ok(history);
        }
        let above = &path.names()[..path.names().len() - 1];
        let (_, commits) = self.folders_and_changes(above)?;
        for folder in former {
            // The path led to a version if it did so when that began, or at one of the commits since at which it came to lead
            // elsewhere: a folder may have come to its path with what was in it.
            let was_here = |entry: &HistoryEntry| -> Result<bool, E> {
                let since = commits.range(entry.since..entry.until).copied();
                for at in std::iter::once(entry.since).chain(since) {
                    if self.resolve(path, at)?.is_some_and(|(file, _)| file == entry.state.file) {
                        return tell(entry);
                    }
                }
                Ok(false)
            };
            let before = self.history_told(*folder, name, (limit, Reach::ASKED), was_here)?;
            history.extend(before.into_iter().map(|entry| HistoryEntry {
                current: false,
                // What its path led to at some moment is found by that path.
                until: entry.since,
                // It went with its folder, where it is still somewhere.
                held_until: entry.held_until.or(Some((entry.held_from, Ended::Renamed))),
                ..entry
            }));
        }
        if history.len() > of_present {
            history.sort_by_key(|entry| std::cmp::Reverse(entry.since));
            history.truncate(limit);
        }
        Ok(history)
    }

    /// Returns names that these folders have or had, in order, after `after`.
    pub fn names_in(
        &self,
        folders: &[FileId],
        after: Option<&Name>,
        limit: usize,
    ) -> Result<Vec<Name>, ReadError> {
        let mut names = Vec::new();
        for folder in folders {
            // Of each the first ones are enough: what comes after the first `limit` of all is not asked for.
            names.extend(self.names_ever(*folder, after, limit)?);
        }
        if folders.len() > 1 {
            names.sort_unstable();
            names.dedup();
            names.truncate(limit);
        }
        Ok(names)
    }

    /// Tells whether a name stands for nothing now.
    pub fn is_gone(&self, folder: FileId, name: &Name) -> Result<bool, ReadError> {
        Ok(self.lookup(folder, name, CommitId::MAX)?.is_none())
    }

    fn history_told<E: From<ReadError>>(
        &self,
        folder: FileId,
        name: &Name,
        reach: (usize, Reach),
        tell: impl FnMut(&HistoryEntry) -> Result<bool, E>,
    ) -> Result<Vec<HistoryEntry>, E> {
        Ok(self.walk_history(folder, name, reach, tell)?.entries)
    }

    fn walk_history<E: From<ReadError>>(
        &self,
        folder: FileId,
        name: &Name,
        (limit, reach): (usize, Reach),
        tell: impl FnMut(&HistoryEntry) -> Result<bool, E>,
    ) -> Result<Walked, E> {
        let walked =
            self.ask_rows(|rows| history::history(rows, (folder, name), limit, reach, tell))?;
        walked.map_err(|stopped| match stopped {
            Stopped::Index(error) => ReadError::from(error).into(),
            Stopped::Tell(error) => error,
        })
    }
}
