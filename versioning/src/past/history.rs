//! The history of a name: the versions it held, and what its file was called before.
//!
//! A name holds files in intervals. Where an interval begins, a name that was occupied, or empty for less than a
//! minute, goes on by name, since that is how editors save; otherwise the history follows the file to the name it had
//! before. A file that came from nowhere goes on by name too, or what was deleted would be out of reach as soon as its
//! name is used again.

use keepshare_base::{CommitId, FileId, Name, Stamp, VersionId};

use crate::{
    index::{
        IndexError, Rows, Table,
        files::{self, States},
        keys, names,
    },
    state::{Ended, HistoryEntry},
};

/// How long a name may be empty, by moments, and go on by name.
const EMPTY_MICROS_MAX: i64 = 60_000_000;

/// The most intervals that one history walks through.
const INTERVALS_MAX: usize = 10_000;

/// The most versions that one history looks at, told or not: who may see none of many must not hold up the others.
const VERSIONS_LOOKED_AT_MAX: usize = 100_000;

/// How far one history is walked through.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    intervals: usize,
    versions: usize,
}

impl Reach {
    /// As far as anybody waits for.
    pub(super) const ASKED: Self =
        Self { intervals: INTERVALS_MAX, versions: VERSIONS_LOOKED_AT_MAX };

    /// To its beginning: what is decided of a history must not depend on where one stops looking.
    pub(super) const WHOLE: Self = Self { intervals: usize::MAX, versions: usize::MAX };

    /// As far as anybody waits for, and no further than so many versions.
    pub(super) fn to(versions: usize) -> Self {
        Self { versions: versions.min(VERSIONS_LOOKED_AT_MAX), ..Self::ASKED }
    }
}

/// What of a history was walked through.
pub(super) struct Walked {
    /// What may be told, newest first.
    pub(super) entries: Vec<HistoryEntry>,
    /// It was walked through to its beginning.
    pub(super) is_whole: bool,
}

/// Why a walk through a history ended early.
pub(super) enum Stopped<E> {
    /// The index cannot be read.
    Index(IndexError),
    /// Whoever says what may be told cannot say it.
    Tell(E),
}

impl<E> From<IndexError> for Stopped<E> {
    fn from(error: IndexError) -> Self {
        Self::Index(error)
    }
}

/// Returns the first `limit` versions in the history of a name that `tell` lets through, newest first.
pub(super) fn history<E>(
    rows: &impl Rows,
    (parent, name): (FileId, &Name),
    limit: usize,
    reach: Reach,
    tell: impl FnMut(&HistoryEntry) -> Result<bool, E>,
) -> Result<Walked, Stopped<E>> {
    let states = States::new(rows);
    let mut walk = Walk { states, rows, entries: vec![], looked_at: 0, reach, tell };
    let present = names::lookup(rows, parent, name, CommitId::MAX)?.map(|(file, _)| file);
    let mut next = walk.interval(Spot { parent, name: name.clone(), before: CommitId::MAX })?;
    let mut is_whole = false;
    for _ in 0..reach.intervals {
        let Some(interval) = next else {
            is_whole = true;
            break;
        };
        // The last one may have been held under a former name too, which says since when.
        if !walk.versions(&interval, limit)? {
            break;
        }
        next = walk.older(&interval)?;
    }
    let mut entries = walk.entries;
    if let (Some(entry), Some(present)) = (entries.first_mut(), present) {
        let newest = files::newest(rows, present, CommitId::MAX)?;
        entry.current = entry.state.file == present
            && entry.held_until.is_none()
            && newest.is_some_and(|(at, _)| at == entry.state.commit);
    }
    Ok(Walked { entries, is_whole })
}

/// A name, as it was before some commit.
struct Spot {
    parent: FileId,
    name: Name,
    before: CommitId,
}

/// A file held by a name in the commits from `start` to before `end`.
struct Interval {
    spot: Spot,
    file: FileId,
    start: CommitId,
    end: CommitId,
    ended: Option<(Stamp, Ended)>,
}

/// What came after a version, while a history is walked: the commit, and what is told of it.
type Until = (CommitId, Option<(Stamp, Ended)>);

struct Walk<'a, R, T> {
    rows: &'a R,
    states: States<'a, R>,
    entries: Vec<HistoryEntry>,
    looked_at: usize,
    reach: Reach,
    tell: T,
}

impl<R: Rows, T> Walk<'_, R, T> {
    /// Returns the newest interval at a spot in which the name held something.
    fn interval(&mut self, spot: Spot) -> Result<Option<Interval>, IndexError> {
        let mut end = spot.before;
        let mut at = end;
        loop {
            let row = names::dirent(self.rows, spot.parent, &spot.name, before(at))?;
            let Some((start, target)) = row else { return Ok(None) };
            let Some((file, _)) = target else {
                (end, at) = (start, start);
                continue;
            };
            let ended = self.ended(&spot, file, end)?;
            return Ok(Some(Interval { spot, file, start, end, ended }));
        }
    }

    /// Returns when and how a name's hold of a file ended, which was at commit `end`.
    fn ended(
        &mut self,
        spot: &Spot,
        file: FileId,
        end: CommitId,
    ) -> Result<Option<(Stamp, Ended)>, IndexError> {
        if end == CommitId::MAX {
            return Ok(None);
        }
        let stamp = self.states.commit(end)?.stamp;
        let after = names::lookup(self.rows, spot.parent, &spot.name, end)?;
        let ended = match after {
            Some((other, _)) if other != file => Ended::Replaced,
            _ if names::links(self.rows, file, end)?.is_empty() => Ended::Deleted,
            _ => Ended::Renamed,
        };
        Ok(Some((stamp, ended)))
    }

    /// Adds the versions that an interval held and that may be told: what the file was when it began, and since. Returns false
    /// where one was left out, because there are enough.
    fn versions<E>(&mut self, interval: &Interval, limit: usize) -> Result<bool, Stopped<E>>
    where
        T: FnMut(&HistoryEntry) -> Result<bool, E>,
    {
        let Interval { spot, file, start, .. } = interval;
        let (mut until, mut ended): Until = (interval.end, interval.ended);
        let from = keys::file(*file, before(interval.end));
        for row in self.rows.under(Table::File, &keys::of_file(*file), &from)? {
            let (key, value) = row.map_err(IndexError::from)?;
            let (commit, value) = files::read_file(key.value(), value.value())?;
            let since = commit.max(*start);
            let held_from = self.states.commit(since)?.stamp;
            let same =
                |last: &&mut HistoryEntry| last.state.file == *file && last.state.commit == commit;
            if let Some(last) = self.entries.last_mut().filter(same) {
                // The same version under its file's former name, or back again: one entry.
                last.held_from = held_from;
                if last.since == until {
                    last.since = since;
                }
            } else if value.cut.is_some() {
                if self.entries.len() >= limit || self.looked_at >= self.reach.versions {
                    return Ok(false);
                }
                self.looked_at += 1;
                let state = self.states.state(*file, commit, value)?;
                let entry = HistoryEntry {
                    version: VersionId(state.position),
                    state,
                    parent: spot.parent,
                    name: spot.name.clone(),
                    since,
                    until,
                    held_from,
                    held_until: ended,
                    current: false,
                };
                if (self.tell)(&entry).map_err(Stopped::Tell)? {
                    self.entries.push(entry);
                }
            }
            (until, ended) = (since, Some((held_from, Ended::Replaced)));
            if commit <= *start {
                break;
            }
        }
        Ok(true)
    }

    /// Returns the interval with which the history goes on.
    fn older(&mut self, interval: &Interval) -> Result<Option<Interval>, IndexError> {
        let Interval { spot, file, start, .. } = interval;
        let by_name = Spot { parent: spot.parent, name: spot.name.clone(), before: *start };
        let row = names::dirent(self.rows, spot.parent, &spot.name, before(*start))?;
        let goes_on = match row {
            Some((_, Some(_))) => true,
            Some((empty_since, None)) => {
                let emptied = self.states.commit(empty_since)?.moment;
                let filled = self.states.commit(*start)?.moment;
                (0..EMPTY_MICROS_MAX).contains(&filled.micros_since(emptied))
            }
            None => false,
        };
        if !goes_on && let Some((parent, name)) = self.former_name(*file, *start)? {
            return self.interval(Spot { parent, name, before: *start });
        }
        self.interval(by_name)
    }

    /// Returns the name that a file had right before a commit: the one it lost then, else any.
    fn former_name(
        &self,
        file: FileId,
        start: CommitId,
    ) -> Result<Option<(FileId, Name)>, IndexError> {
        let mut former = names::links(self.rows, file, before(start))?;
        for i in 0..former.len() {
            let (parent, name) = &former[i];
            let then = names::lookup(self.rows, *parent, name, start)?;
            if then.is_none_or(|(other, _)| other != file) {
                return Ok(Some(former.swap_remove(i)));
            }
        }
        Ok(former.into_iter().next())
    }
}

/// Returns the commit before; everything is at or before [`CommitId::MAX`].
fn before(commit: CommitId) -> CommitId {
    if commit == CommitId::MAX { commit } else { CommitId(commit.0.saturating_sub(1)) }
}
