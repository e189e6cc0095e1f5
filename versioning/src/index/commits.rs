//! Questions about commits, positions and moments, and what came with them.

use std::ops::Bound::{self, Included};

use keepshare_base::{
    CommitId, Epoch, FileId, Name, OriginId, Position, RequestId, RestoreRow, Schedule, Seq, Stamp,
};

use crate::{
    record::{CommitValue, OriginState, PointValue},
    state::{CommitInfo, PointInfo, RestoreInfo, Touched},
};

use super::{
    IndexError, Rows, Table, keys,
    values::{decode, decode_u64, meta, meta_number},
};

/// The most rows that [`touched`] gives; more is everything.
const TOUCHED_ROWS_MAX: usize = 100_000;

/// The most commits of other origins that are looked through for one of this origin.
const OTHER_ORIGINS_MAX: usize = 64;

/// Returns a commit's row.
pub(crate) fn commit(
    rows: &impl Rows,
    commit: CommitId,
) -> Result<Option<CommitValue>, IndexError> {
    let value = rows.get(Table::Commit, &keys::commit(commit))?;
    value.map(|value| decode(Table::Commit, value.value())).transpose()
}

/// Returns a commit's row as a view shows it.
pub(crate) fn commit_info(
    rows: &impl Rows,
    at: CommitId,
) -> Result<Option<CommitInfo>, IndexError> {
    Ok(commit(rows, at)?.map(|value| CommitInfo {
        commit: at,
        arrival: value.arrival,
        position: value.position,
        complete: value.complete,
        stamp: value.stamp,
        moment: value.moment,
        running_micros: value.running_micros,
        user: value.user,
    }))
}

/// Returns the row of the newest commit before `at` that has one, and its number.
pub(crate) fn newest_commit(
    rows: &impl Rows,
    before: Bound<&[u8]>,
) -> Result<Option<(CommitId, CommitValue)>, IndexError> {
    let row = rows.range(Table::Commit, Bound::Unbounded, before)?.next_back();
    let Some((key, value)) = row.transpose()? else { return Ok(None) };
    let at = keys::oldest_of(Table::Commit, key.value())?;
    Ok(Some((at, decode(Table::Commit, value.value())?)))
}

/// Returns commits after `after`, oldest first.
pub(crate) fn commits_after(
    rows: &impl Rows,
    after: CommitId,
    limit: usize,
) -> Result<Vec<(CommitId, CommitValue)>, IndexError> {
    let from = keys::commit(CommitId(after.0.saturating_add(1)));
    let mut commits = Vec::new();
    for row in rows.under(Table::Commit, &[], &from)?.take(limit) {
        let (key, value) = row?;
        let at = keys::oldest_of(Table::Commit, key.value())?;
        commits.push((at, decode(Table::Commit, value.value())?));
    }
    Ok(commits)
}

/// Returns the row of the commit before `at`.
pub(crate) fn commit_before(
    rows: &impl Rows,
    at: CommitId,
) -> Result<Option<CommitValue>, IndexError> {
    let newest = newest_commit(rows, Bound::Excluded(&keys::commit(at)))?;
    Ok(newest.map(|(_, value)| value))
}

/// Returns the newest moment that an origin had before a commit.
pub(crate) fn moment_before(
    rows: &impl Rows,
    origin: OriginId,
    at: CommitId,
) -> Result<Option<Stamp>, IndexError> {
    let end = keys::commit(at);
    let before = rows.range(Table::Commit, Bound::Unbounded, Bound::Excluded(&end))?;
    for row in before.rev().take(OTHER_ORIGINS_MAX) {
        let value: CommitValue = decode(Table::Commit, row?.1.value())?;
        if value.position.origin == origin {
            return Ok(Some(value.moment));
        }
    }
    // An origin that was quiet for long: its last complete change.
    let prefix = keys::origin(origin);
    let last = keys::time(origin, Stamp::MAX, CommitId::MAX);
    for row in rows.range(Table::Time, Included(&prefix), Included(&last))?.rev() {
        let (key, _) = row?;
        let commit = keys::oldest_of(Table::Time, key.value())?;
        if commit < at {
            return Ok(Some(keys::read_time(key.value())?));
        }
    }
    Ok(None)
}

/// Returns the last complete commit at or before `newest` with a moment at or before `through`, of all origins.
pub(crate) fn commit_at(
    rows: &impl Rows,
    through: Stamp,
    newest: CommitId,
) -> Result<CommitId, IndexError> {
    let mut last = CommitId(0);
    let mut from = vec![];
    while let Some((key, _)) = rows.first_under(Table::Place, &[], &from)? {
        let key = key.value();
        let origin = keys::read_origin(key)?;
        let end = keys::time(origin, through, CommitId::MAX);
        // Moments of one origin are in the order of its commits.
        for row in rows.range(Table::Time, Included(key), Included(&end))?.rev() {
            let at = keys::oldest_of(Table::Time, row?.0.value())?;
            if at <= newest {
                last = last.max(at);
                break;
            }
        }
        match keys::after_prefix(key) {
            Some(next) => from = next,
            None => break,
        }
    }
    Ok(last)
}

/// Returns the last commit with this position.
pub(crate) fn commit_of(
    rows: &impl Rows,
    position: Position,
) -> Result<Option<CommitId>, IndexError> {
    let value = rows.get(Table::Position, &keys::position(position))?;
    value.map(|value| Ok(CommitId(decode_u64(Table::Position, value.value())?))).transpose()
}

/// Returns the last commit with this position or, where it has none, with the next lower one that has; none where the
/// origin has not come so far.
pub(crate) fn commit_through(
    rows: &impl Rows,
    position: Position,
) -> Result<Option<CommitId>, IndexError> {
    let is_reached = place(rows, position.origin)?.and_then(|place| place.last);
    let is_reached =
        is_reached.is_some_and(|(epoch, seq, _)| (epoch, seq) >= (position.epoch, position.seq));
    if !is_reached {
        return commit_of(rows, position);
    }
    let (from, end) = (keys::origin(position.origin), keys::position(position));
    let row = rows.range(Table::Position, Included(&from), Included(&end))?.next_back();
    let Some((_, value)) = row.transpose()? else { return Ok(None) };
    Ok(Some(CommitId(decode_u64(Table::Position, value.value())?)))
}

/// Returns the place in a journal where a change stood whose commit went: the commit before it, after which nothing differs. `None` where
/// no change was there, or its commit has a row.
pub(crate) fn commit_before_gone(
    rows: &impl Rows,
    position: Position,
) -> Result<Option<CommitId>, IndexError> {
    let key = keys::position(position);
    let Some(next) = rows.range(Table::Position, Bound::Excluded(&key), Bound::Unbounded)?.next()
    else {
        return Ok(None);
    };
    let (next_key, next) = next?;
    let next_at = CommitId(decode_u64(Table::Position, next.value())?);
    let (from, to) = (keys::origin(position.origin), &key[..]);
    let before = rows.range(Table::Position, Included(&from), Included(to))?.next_back();
    let Some((before_key, before)) = before.transpose()? else { return Ok(None) };
    let before_at = CommitId(decode_u64(Table::Position, before.value())?);
    if before_key.value() == to || keys::read_position(next_key.value())?.origin != position.origin
    {
        return Ok(None);
    }
    // A mirror jumps: what it passed was never here. Its parts stand before its end.
    let stands_before = newest_commit(rows, Bound::Excluded(&keys::commit(next_at)))?
        .filter(|(at, _)| *at == before_at);
    let next = commit(rows, next_at)?;
    let (Some((_, before)), Some(next)) = (stands_before, next) else { return Ok(None) };
    Ok(comes_next(&before, &next).then_some(before_at))
}

/// Tells whether a commit is of the same journal as the one before, and further in it: not of a mirror, which jumps.
pub(crate) fn comes_next(before: &CommitValue, next: &CommitValue) -> bool {
    let (a, b) = (before.position, next.position);
    let is_same = (a.origin, a.epoch) == (b.origin, b.epoch);
    before.complete && next.complete && is_same && a.seq < b.seq
}

/// Returns the highest place of an origin that any commit has.
pub(crate) fn highest(
    rows: &impl Rows,
    origin: OriginId,
) -> Result<Option<(Epoch, Seq)>, IndexError> {
    let prefix = keys::origin(origin);
    match rows.under(Table::Position, &prefix, &prefix)?.next_back().transpose()? {
        Some((key, _)) => keys::read_position(key.value()).map(|at| Some((at.epoch, at.seq))),
        None => Ok(None),
    }
}

/// Returns how far an origin's changes have come.
pub(crate) fn place(rows: &impl Rows, origin: OriginId) -> Result<Option<OriginState>, IndexError> {
    let value = rows.get(Table::Place, &keys::origin(origin))?;
    value.map(|value| decode(Table::Place, value.value())).transpose()
}

/// Returns the answer to a request to restore.
pub(crate) fn restore(
    rows: &impl Rows,
    request: RequestId,
) -> Result<Option<RestoreInfo>, IndexError> {
    let Some(value) = rows.get(Table::Restore, &request.0)? else { return Ok(None) };
    let (row, position, commit): (RestoreRow, Position, CommitId) =
        decode(Table::Restore, value.value())?;
    Ok(Some(RestoreInfo { row, position, commit }))
}

/// Returns the points after `after`, oldest first.
pub(crate) fn points(
    rows: &impl Rows,
    after: CommitId,
    limit: usize,
) -> Result<Vec<PointInfo>, IndexError> {
    let mut points = Vec::new();
    let from = keys::commit(CommitId(after.0.saturating_add(1)));
    for row in rows.under(Table::Point, &[], &from)?.take(limit) {
        let (key, value) = row?;
        let commit = keys::oldest_of(Table::Point, key.value())?;
        let (value, schedule): (PointValue, Option<Schedule>) =
            decode(Table::Point, value.value())?;
        let PointValue { point, position, ends, held, kept_here } = value;
        points.push(PointInfo { commit, point, position, ends, held, kept_here, schedule });
    }
    Ok(points)
}

/// Tells whether there are so many points.
pub(crate) fn has_points(rows: &impl Rows, count: usize) -> Result<bool, IndexError> {
    let mut points = rows.under(Table::Point, &[], &[])?;
    for _ in 0..count {
        let Some(point) = points.next() else { return Ok(false) };
        point?;
    }
    Ok(true)
}

/// Returns the point at a commit, and of which schedule it is.
pub(crate) fn point(
    rows: &impl Rows,
    at: CommitId,
) -> Result<Option<(PointValue, Option<Schedule>)>, IndexError> {
    let value = rows.get(Table::Point, &keys::commit(at))?;
    value.map(|value| decode(Table::Point, value.value())).transpose()
}

/// Whose changes are asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum By {
    /// Everybody's.
    All,
    /// All but those that answered a request to restore.
    NoRestore,
}

/// Returns the names and files that commits after `after` touched.
pub(crate) fn touched(rows: &impl Rows, after: CommitId) -> Result<Touched, IndexError> {
    Ok(touched_step(rows, after, CommitId::MAX, usize::MAX, By::All)?.0)
}

/// Returns the names and files that the next commits after `after` touched, and the last of these commits: all through
/// `last`, or fewer whole commits where those have `limit` rows; `last` again where there are no more.
pub(crate) fn touched_step(
    rows: &impl Rows,
    after: CommitId,
    last: CommitId,
    limit: usize,
    by: By,
) -> Result<(Touched, CommitId), IndexError> {
    if after.0 < meta_number(rows, meta::TOUCHED)? {
        return Ok((Touched::Everything, last));
    }
    let (mut touched_names, mut files) = (Vec::<(FileId, Name)>::new(), Vec::new());
    let from = keys::commit(CommitId(after.0.saturating_add(1)));
    let (mut at, mut through) = (after, last);
    // How much there was before the commit that is being read.
    let mut before = (0, 0);
    for row in rows.under(Table::Touched, &[], &from)? {
        let (key, _) = row?;
        let key = key.value();
        let commit = key.first_chunk().ok_or_else(|| Table::Touched.broken())?;
        let commit = CommitId(u64::from_be_bytes(*commit));
        let known = touched_names.len() + files.len();
        if commit > last {
            break;
        }
        if commit != at && known >= limit {
            through = at;
            break;
        }
        if known == TOUCHED_ROWS_MAX {
            return Ok((Touched::Everything, last));
        }
        if commit != at {
            before = (touched_names.len(), files.len());
        }
        at = commit;
        match key.get(8..) {
            Some([b'n', name @ ..]) => touched_names.push(keys::read_name(Table::Touched, name)?),
            Some([b'f', file @ ..]) => files.push(keys::file_of(Table::Touched, file)?),
            // The last of its commit.
            Some([b'r']) if by == By::NoRestore => {
                touched_names.truncate(before.0);
                files.truncate(before.1);
            }
            Some([b'r']) => {}
            _ => return Err(Table::Touched.broken()),
        }
    }
    touched_names.sort_unstable();
    touched_names.dedup();
    files.sort_unstable();
    files.dedup();
    Ok((Touched::Known { names: touched_names, files }, through))
}

/// Returns the newest commit through `at` that has a row and left the set as its origin had it at one moment: none within a
/// mirror.
pub(crate) fn whole_through(
    rows: &impl Rows,
    at: CommitId,
) -> Result<Option<(CommitId, CommitValue)>, IndexError> {
    let mut through = at;
    loop {
        let Some((at, value)) = newest_commit(rows, Bound::Included(&keys::commit(through)))?
        else {
            return Ok(None);
        };
        if value.complete || at.0 == 0 {
            return Ok(value.complete.then_some((at, value)));
        }
        through = CommitId(at.0 - 1);
    }
}
