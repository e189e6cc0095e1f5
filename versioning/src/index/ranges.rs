//! Which bytes of a file may differ between two commits.

use std::ops::Range;

use keepshare_base::{CommitId, FileId};

use crate::{
    record::{Body, BodyId, Grain, Piece},
    state::{BodyChanges, FileState},
};

use super::{
    IndexError, Rows, Table, keys,
    values::{decode, decode_u64, meta, meta_number},
};

/// The most ranges that [`body_changes`] gives; more is everything.
const RANGES_MAX: usize = 100_000;

/// Returns which bytes of a file's state may differ from what the file was at `after`.
pub(crate) fn body_changes(
    rows: &impl Rows,
    state: &FileState,
    after: CommitId,
) -> Result<BodyChanges, IndexError> {
    let ranges = match &state.body.body {
        Body::Expired | Body::Aside { .. } => return Ok(BodyChanges::Whole),
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
    for row in rows.under(Table::Ranges, &keys::of_file(file), &from)? {
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

/// Sorts ranges and joins those that touch.
pub(crate) fn merged(mut ranges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    ranges.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
    for (start, end) in ranges {
        match merged.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    merged
}
