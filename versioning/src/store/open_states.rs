//! Versions that this station cuts by itself: of files whose origin leaves their state open.

use keepshare_base::{CommitId, FileId};

use super::{Room, Store, plan::fate::OPEN_MICROS_MAX};
use crate::{
    error::CommitError,
    index::{IndexError, Rows, Table, commits, files, keys, names, values::decode_u64},
    moment::Arrival,
    record::{Mark, Row},
};

/// So many open states are looked at in one step.
const LOOKED_AT_MAX: usize = 1024;

impl Store {
    /// Makes states versions that were open, and the same, for ten seconds: their origin should have said long ago that they
    /// are. Returns whether any was; they are durable with the next sync. Looks at a bounded number of states each time.
    pub fn cut_open(&mut self, arrival: impl Into<Arrival>) -> Result<bool, CommitError> {
        self.check_writable(Room::BeyondReserve)?;
        let now = self.clock.tell(&arrival.into()).running_micros;
        let (at, from) = (self.latest().next(), self.housekeeping.open_from);
        let (rows, next) = self.asked(|rows| overdue(rows, at, now, from))?;
        self.housekeeping.open_from = next;
        if rows.is_empty() {
            return Ok(false);
        }
        self.append(at, &rows)?;
        Ok(true)
    }
}

/// Returns the rows that make open states versions at `at`, beginning with that of `from`, and with which file to go on.
fn overdue(
    rows: &impl Rows,
    at: CommitId,
    now_micros: u64,
    from: Option<FileId>,
) -> Result<(Vec<Row>, Option<FileId>), IndexError> {
    let mut out = Vec::new();
    let from = from.map(keys::of_file).unwrap_or_default();
    for (looked_at, row) in rows.under(Table::Open, &[], &from)?.enumerate() {
        let (key, value) = row?;
        let file = keys::file_of(Table::Open, key.value())?;
        if looked_at == LOOKED_AT_MAX {
            return Ok((out, Some(file)));
        }
        let commit = CommitId(decode_u64(Table::Open, value.value())?);
        let then = commits::commit(rows, commit)?.map(|commit| commit.running_micros);
        if then.is_some_and(|then| now_micros.saturating_sub(then) < OPEN_MICROS_MAX) {
            continue;
        }
        // What a mirror that broke off left is no state of any moment, and what has no name is being written.
        let mirrors =
            commits::place(rows, file.origin)?.is_some_and(|place| place.mirror.is_some());
        if mirrors || names::count(rows, file)? == 0 {
            continue;
        }
        if files::exactly(rows, file, commit)?.is_none() {
            continue;
        }
        out.push(Row::Cut { at: commit, file, cut: at, mark: Mark::Station });
    }
    Ok((out, None))
}
