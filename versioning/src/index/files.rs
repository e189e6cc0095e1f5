//! Questions about files, commits and positions.

use std::{
    collections::HashMap,
    ops::{
        Bound::{self, Included},
        Range,
    },
};

use keepshare_base::{
    CommitId, Epoch, FileId, Name, OriginId, Position, RequestId, RestoreRow, Seq, Stamp, VersionId,
};

use crate::{
    record::{Body, BodyId, CommitValue, FileValue, Grain, Mark, Piece, Place},
    state::{BodyChanges, BodyRef, CommitInfo, FileState, PointInfo, RestoreInfo, Touched},
};

use super::{
    IndexError, Rows, Table,
    apply::{decode, decode_u64, merged, meta, meta_number},
    keys,
};

/// The most rows that [`touched`] gives; more is everything.
const TOUCHED_ROWS_MAX: usize = 100_000;

/// The most commits of other origins that are looked through for one of this origin.
const OTHER_ORIGINS_MAX: usize = 64;

/// So many states of a file are looked through for the one that a place stands for: nearly always it is the first or second.
const STATES_OF_PLACE_MAX: usize = 64;

/// The most ranges that [`body_changes`] gives; more is everything.
const RANGES_MAX: usize = 100_000;

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

/// Returns the newest row of a file at a commit, whatever it is.
pub(crate) fn newest(
    rows: &impl Rows,
    file: FileId,
    at: CommitId,
) -> Result<Option<(CommitId, FileValue)>, IndexError> {
    match rows.first_under(Table::File, &file.to_bytes(), &keys::file(file, at))? {
        Some((key, value)) => read_file(key.value(), value.value()).map(Some),
        None => Ok(None),
    }
}

/// Returns the row that a file has at exactly this commit.
pub(crate) fn exactly(
    rows: &impl Rows,
    file: FileId,
    at: CommitId,
) -> Result<Option<FileValue>, IndexError> {
    let value = rows.get(Table::File, &keys::file(file, at))?;
    value.map(|value| decode(Table::File, value.value())).transpose()
}

pub(crate) fn read_file(key: &[u8], value: &[u8]) -> Result<(CommitId, FileValue), IndexError> {
    Ok((keys::newest_of(Table::File, key)?, decode(Table::File, value)?))
}

/// Returns a file's state at a commit: the nearest older one whose content is kept, where there is one.
pub(crate) fn file(
    rows: &impl Rows,
    file: FileId,
    at: CommitId,
) -> Result<Option<FileState>, IndexError> {
    let mut nearest = None;
    for row in rows.under(Table::File, &file.to_bytes(), &keys::file(file, at))? {
        let (key, value) = row?;
        let (commit, value) = read_file(key.value(), value.value())?;
        let kept = value.body != Body::Expired;
        if kept || nearest.is_none() {
            nearest = Some((commit, value));
        }
        if kept {
            break;
        }
    }
    let mut states = States::new(rows);
    nearest.map(|(commit, value)| states.state(file, commit, value)).transpose()
}

/// Returns the version of a file with an id, whether or not its content is kept.
pub(crate) fn version(
    rows: &impl Rows,
    file: FileId,
    id: VersionId,
) -> Result<Option<FileState>, IndexError> {
    let brought = rows.get(Table::Version, &keys::version(file, id.0))?;
    let cut = match (brought, id.station_commit()) {
        (Some(at), _) => Some(CommitId(decode_u64(Table::Version, at.value())?)),
        (None, Some(cut)) => Some(cut),
        (None, None) => commit_of(rows, id.0)?,
    };
    let mut states = States::new(rows);
    let mut at = cut;
    // The change that cut it may have brought a newer state, too, and other parts of its mirror more.
    for _ in 0..STATES_OF_PLACE_MAX {
        let Some((commit, value)) = at.map_or(Ok(None), |at| newest(rows, file, at))? else {
            break;
        };
        let state = states.state(file, commit, value)?;
        if state.version() == Some(id) {
            return Ok(Some(state));
        }
        at = commit.0.checked_sub(1).map(CommitId);
    }
    Ok(None)
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

/// Returns the versions of a file, newest first.
pub(crate) fn versions(rows: &impl Rows, file: FileId) -> Result<Vec<FileState>, IndexError> {
    let mut states = States::new(rows);
    let versions = all_states(rows, file)?.into_iter().filter(|(_, value)| value.cut.is_some());
    versions.map(|(commit, value)| states.state(file, commit, value)).collect()
}

/// Makes states of file rows, asking for each commit once.
pub(crate) struct States<'a, R> {
    rows: &'a R,
    commits: HashMap<CommitId, CommitValue>,
}

impl<'a, R: Rows> States<'a, R> {
    pub(crate) fn new(rows: &'a R) -> Self {
        Self { rows, commits: HashMap::new() }
    }

    pub(crate) fn state(
        &mut self,
        file: FileId,
        commit: CommitId,
        value: FileValue,
    ) -> Result<FileState, IndexError> {
        let by = value.cut.unwrap_or(commit);
        let (position, stamp, user, arrival) = match value.mark {
            Mark::Origin(made) => (made.position, made.stamp, made.user, self.commit(by)?.arrival),
            Mark::Station => {
                let brought = self.commit(commit)?;
                let VersionId(position) = VersionId::of_station(commit);
                (position, brought.stamp, brought.user.clone(), brought.arrival)
            }
            Mark::Change | Mark::Open(_) => {
                let user = self.commit(commit)?.user.clone();
                let cut = self.commit(by)?;
                (cut.position, cut.stamp, user, cut.arrival)
            }
        };
        Ok(FileState {
            file,
            commit,
            cut_at: by,
            position,
            stamp,
            arrival,
            event: value.event,
            user,
            meta: value.meta,
            hash: value.hash,
            cut: value.cut.is_some(),
            fuzzy: value.fuzzy,
            expired: value.body == Body::Expired,
            body: BodyRef { body: value.body, since: value.since },
        })
    }

    /// Returns a commit's row, which every file row has.
    pub(crate) fn commit(&mut self, at: CommitId) -> Result<&CommitValue, IndexError> {
        use std::collections::hash_map::Entry::{Occupied, Vacant};
        Ok(match self.commits.entry(at) {
            Occupied(known) => known.into_mut(),
            Vacant(new) => {
                new.insert(commit(self.rows, at)?.ok_or_else(|| Table::Commit.broken())?)
            }
        })
    }
}

/// Returns the newest states of files that have a present name, and of the root, in order, after `after`.
pub(crate) fn all(
    rows: &impl Rows,
    after: Option<FileId>,
    limit: usize,
) -> Result<Vec<FileState>, IndexError> {
    let mut files = Vec::new();
    let from = after.and_then(|after| keys::after_prefix(&after.to_bytes())).unwrap_or_default();
    if after.is_none() {
        files.extend(file(rows, FileId::ROOT, CommitId::MAX)?);
    }
    for row in rows.under(Table::Names, &[], &from)? {
        if files.len() >= limit {
            break;
        }
        let id = keys::file_of(Table::Names, row?.0.value())?;
        files.extend(file(rows, id, CommitId::MAX)?);
    }
    Ok(files)
}

/// Returns all files that the set ever had and still has a state of, in order, after `after`.
pub(crate) fn ever(
    rows: &impl Rows,
    after: Option<FileId>,
    limit: usize,
) -> Result<Vec<FileId>, IndexError> {
    let mut files = Vec::new();
    let mut from =
        after.and_then(|after| keys::after_prefix(&after.to_bytes())).unwrap_or_default();
    while files.len() < limit {
        let Some((key, _)) = rows.first_under(Table::File, &[], &from)? else { break };
        let file = keys::file_of(Table::File, key.value())?;
        files.push(file);
        let Some(next) = keys::after_prefix(&file.to_bytes()) else { break };
        from = next;
    }
    Ok(files)
}

/// Returns how far an origin's changes have come.
pub(crate) fn place(rows: &impl Rows, origin: OriginId) -> Result<Option<Place>, IndexError> {
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
        let (point, position) = decode(Table::Point, value.value())?;
        points.push(PointInfo { commit, point, position });
    }
    Ok(points)
}

/// Returns the names and files that commits after `after` touched.
pub(crate) fn touched(rows: &impl Rows, after: CommitId) -> Result<Touched, IndexError> {
    Ok(touched_step(rows, after, CommitId::MAX, usize::MAX)?.0)
}

/// Returns the names and files that the next commits after `after` touched, and the last of these commits: all through
/// `last`, or fewer whole commits where those have `limit` rows; `last` again where there are no more.
pub(crate) fn touched_step(
    rows: &impl Rows,
    after: CommitId,
    last: CommitId,
    limit: usize,
) -> Result<(Touched, CommitId), IndexError> {
    if after.0 < meta_number(rows, meta::TOUCHED)? {
        return Ok((Touched::Everything, last));
    }
    let (mut touched_names, mut files) = (Vec::<(FileId, Name)>::new(), Vec::new());
    let from = keys::commit(CommitId(after.0.saturating_add(1)));
    let (mut at, mut through) = (after, last);
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
        at = commit;
        match key.get(8..) {
            Some([b'n', name @ ..]) => touched_names.push(keys::read_name(Table::Touched, name)?),
            Some([b'f', file @ ..]) => files.push(keys::file_of(Table::Touched, file)?),
            _ => return Err(Table::Touched.broken()),
        }
    }
    touched_names.sort_unstable();
    touched_names.dedup();
    files.sort_unstable();
    files.dedup();
    Ok((Touched::Known { names: touched_names, files }, through))
}

/// Returns which bytes of a file's state may differ from what the file was at `after`.
pub(crate) fn body_changes(
    rows: &impl Rows,
    state: &FileState,
    after: CommitId,
) -> Result<BodyChanges, IndexError> {
    let ranges = match &state.body.body {
        Body::Expired => return Ok(BodyChanges::Whole),
        Body::Inline(_) | Body::Blob(_) if state.body.since <= after => vec![],
        Body::Inline(_) | Body::Blob(_) => return Ok(BodyChanges::Whole),
        Body::Mapped(body) if body.birth() > after => return Ok(BodyChanges::Whole),
        Body::Mapped(_) if state.body.since <= after => vec![],
        Body::Mapped(body) if after.0 < meta_number(rows, meta::TOUCHED)? => {
            let mut ranges = scanned_ranges(rows, *body, after, state.commit)?;
            ranges.extend(bare_ranges(rows, *body, state)?);
            ranges
        }
        Body::Mapped(_) => noted_ranges(rows, state.file, after, state.commit)?,
    };
    Ok(inside(ranges, state.meta.size))
}

/// Returns where from `offset` on a file's state may have anything but zeros; `None` where it has nothing more.
pub(crate) fn next_data(
    rows: &impl Rows,
    state: &FileState,
    offset: u64,
) -> Result<Option<u64>, IndexError> {
    let size = state.meta.size;
    let Body::Mapped(body) = state.body.body else {
        return Ok((offset < size).then_some(offset));
    };
    let mut next = size;
    for grain in [Grain::Block, Grain::Page] {
        let from = Piece { body, grain, number: offset / grain.bytes(), at: CommitId::MAX };
        let table = keys::table_of(grain);
        for row in rows.under(table, &keys::body(body), &keys::piece(&from))? {
            let piece = keys::read_piece(grain, row?.0.value())?;
            if piece.at <= state.commit || piece.start() >= next {
                next = next.min(piece.start().max(offset));
                break;
            }
        }
    }
    Ok((next < size).then_some(next))
}

fn inside(ranges: Vec<(u64, u64)>, size: u64) -> BodyChanges {
    if ranges.len() > RANGES_MAX {
        return BodyChanges::Whole;
    }
    let inside = |&(start, end): &(u64, u64)| (start < size).then_some(start..end.min(size));
    let ranges: Vec<Range<u64>> = merged(ranges).iter().filter_map(inside).collect();
    BodyChanges::Ranges(ranges)
}

fn noted_ranges(
    rows: &impl Rows,
    file: FileId,
    after: CommitId,
    at: CommitId,
) -> Result<Vec<(u64, u64)>, IndexError> {
    let mut ranges = Vec::new();
    let from = keys::ranges(file, CommitId(after.0.saturating_add(1)));
    for row in rows.under(Table::Ranges, &file.to_bytes(), &from)? {
        let (key, value) = row?;
        if keys::oldest_of(Table::Ranges, key.value())? > at || ranges.len() > RANGES_MAX {
            break;
        }
        ranges.extend(decode::<Vec<(u64, u64)>>(Table::Ranges, value.value())?);
        ranges = merged(ranges);
    }
    Ok(ranges)
}

/// Returns where a state has no rows and is zeros. What had rows there at an older commit may have been dropped together
/// with the void that hid it: nothing else tells that it went.
fn bare_ranges(
    rows: &impl Rows,
    body: BodyId,
    state: &FileState,
) -> Result<Vec<(u64, u64)>, IndexError> {
    let prefix = keys::body(body);
    let mut covered = Vec::new();
    for grain in [Grain::Block, Grain::Page] {
        for row in rows.under(keys::table_of(grain), &prefix, &prefix)? {
            let piece = keys::read_piece(grain, row?.0.value())?;
            if piece.at <= state.commit {
                add_piece(&mut covered, &piece);
            }
        }
    }
    let mut bare = Vec::new();
    let mut next = 0;
    for (start, end) in merged(covered) {
        if start > next {
            bare.push((next, start));
        }
        next = end;
    }
    if next < state.meta.size {
        bare.push((next, state.meta.size));
    }
    Ok(bare)
}

/// Looks at every row of a body, for when what each commit touched is forgotten.
fn scanned_ranges(
    rows: &impl Rows,
    body: BodyId,
    after: CommitId,
    at: CommitId,
) -> Result<Vec<(u64, u64)>, IndexError> {
    let newer = |commit: CommitId| commit > after && commit <= at;
    let prefix = keys::body(body);
    let mut ranges = Vec::new();
    for grain in [Grain::Block, Grain::Page] {
        for row in rows.under(keys::table_of(grain), &prefix, &prefix)? {
            let piece = keys::read_piece(grain, row?.0.value())?;
            if newer(piece.at) {
                add_piece(&mut ranges, &piece);
            }
        }
    }
    for row in rows.under(Table::Void, &prefix, &prefix)? {
        let (key, value) = row?;
        if newer(keys::newest_of(Table::Void, key.value())?) {
            ranges.push((decode_u64(Table::Void, value.value())?, u64::MAX));
        }
    }
    Ok(merged(ranges))
}

/// Adds the bytes of a block or page; what follows the one before makes one range with it.
fn add_piece(ranges: &mut Vec<(u64, u64)>, piece: &Piece) {
    let (start, end) = (piece.start(), piece.start().saturating_add(piece.grain.bytes()));
    match ranges.last_mut() {
        Some(last) if last.0 <= start && start <= last.1 => last.1 = last.1.max(end),
        _ => ranges.push((start, end)),
    }
}

/// Returns all rows of a file, newest first.
pub(crate) fn all_states(
    rows: &impl Rows,
    file: FileId,
) -> Result<Vec<(CommitId, FileValue)>, IndexError> {
    let mut states = Vec::new();
    for row in rows.under(Table::File, &file.to_bytes(), &file.to_bytes())? {
        let (key, value) = row?;
        states.push(read_file(key.value(), value.value())?);
    }
    Ok(states)
}
