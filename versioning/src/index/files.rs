//! Questions about files and their states.

use std::{
    collections::HashMap,
    ops::Bound::{Excluded, Included},
};

use keepshare_base::{CommitId, FileId, VersionId};

use crate::{
    record::{Body, CommitValue, FileValue, Mark},
    state::{BodyRef, FileState},
};

use super::{
    IndexError, Rows, Table,
    commits::{commit, commit_before_gone, commit_of},
    keys,
    values::{decode, decode_u64},
};

/// So many states of a file are looked through for the one that a place stands for: nearly always it is the first or second.
const STATES_OF_PLACE_MAX: usize = 64;

/// Returns the newest row of a file at a commit, whatever it is.
pub(crate) fn newest(
    rows: &impl Rows,
    file: FileId,
    at: CommitId,
) -> Result<Option<(CommitId, FileValue)>, IndexError> {
    match rows.first_under(Table::File, &keys::of_file(file), &keys::file(file, at))? {
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

/// Returns the row of a file that follows the one at a commit.
pub(crate) fn next_after(
    rows: &impl Rows,
    file: FileId,
    at: CommitId,
) -> Result<Option<(CommitId, FileValue)>, IndexError> {
    let (newest, this) = (keys::of_file(file), keys::file(file, at));
    let row = rows.range(Table::File, Included(&newest), Excluded(&this))?.next_back();
    let Some((key, value)) = row.transpose()? else { return Ok(None) };
    read_file(key.value(), value.value()).map(Some)
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
    for row in rows.under(Table::File, &keys::of_file(file), &keys::file(file, at))? {
        let (key, value) = row?;
        let (commit, value) = read_file(key.value(), value.value())?;
        let kept = !value.body.is_gone();
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

/// Returns the version of a file with an id, whether or not its content is kept. One that retention removed may have no row any
/// more: then it is the one before it that was removed, too.
pub(crate) fn version(
    rows: &impl Rows,
    file: FileId,
    id: VersionId,
) -> Result<Option<FileState>, IndexError> {
    let brought = rows.get(Table::Version, &keys::version(file, id.0))?;
    let cut = match (brought, id.station_commit()) {
        (Some(at), _) => Some(CommitId(decode_u64(Table::Version, at.value())?)),
        (None, Some(cut)) => Some(cut),
        (None, None) => match commit_of(rows, id.0)? {
            None => commit_before_gone(rows, id.0)?,
            cut => cut,
        },
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
    let gone = cut.map_or(Ok(None), |cut| version_gone(rows, file, cut))?;
    gone.map(|(commit, value)| states.state(file, commit, value)).transpose()
}

/// Tells whether a version of a file that was cut at a commit, or not long before, may be one that went: those next to it were let go of,
/// and stand next to each other. Returns the older one.
pub(crate) fn version_gone(
    rows: &impl Rows,
    file: FileId,
    cut: CommitId,
) -> Result<Option<(CommitId, FileValue)>, IndexError> {
    let is_gone = |value: &FileValue| value.body == Body::Expired && value.cut.is_some();
    let Some(found) = newest(rows, file, cut)?.filter(|(_, value)| is_gone(value)) else {
        return Ok(None);
    };
    let newer = next_after(rows, file, found.0)?;
    if newer.is_some_and(|(_, value)| is_gone(&value)) {
        return Ok(Some(found));
    }
    // It may have been cut by the change that brought the next one.
    let Some(before) = found.0.0.checked_sub(1).filter(|_| found.0 == cut) else { return Ok(None) };
    let older = newest(rows, file, CommitId(before))?;
    Ok(older.filter(|(_, value)| is_gone(value)))
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
            expired: value.body.is_gone(),
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
    let from =
        after.and_then(|after| keys::after_prefix(&keys::of_file(after))).unwrap_or_default();
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
        after.and_then(|after| keys::after_prefix(&keys::of_file(after))).unwrap_or_default();
    while files.len() < limit {
        let Some((key, _)) = rows.first_under(Table::File, &[], &from)? else { break };
        let file = keys::file_of(Table::File, key.value())?;
        files.push(file);
        let Some(next) = keys::after_prefix(&keys::of_file(file)) else { break };
        from = next;
    }
    Ok(files)
}

/// Returns all rows of a file, newest first.
pub(crate) fn all_states(
    rows: &impl Rows,
    file: FileId,
) -> Result<Vec<(CommitId, FileValue)>, IndexError> {
    let mut states = Vec::new();
    for row in rows.under(Table::File, &keys::of_file(file), &keys::of_file(file))? {
        let (key, value) = row?;
        states.push(read_file(key.value(), value.value())?);
    }
    Ok(states)
}
