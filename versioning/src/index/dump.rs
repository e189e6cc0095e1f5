//! The logged rows of all tables, in the order in which they can be applied again.

use std::ops::Bound;

use keepshare_base::{CommitId, ContentHash, Schedule};

use crate::record::{Grain, PointValue, Row};

use super::{
    IndexError, Range, Rows, Table, called, keys,
    values::{clock, decode, decode_loc, decode_u64},
};

/// Walks through the logged rows of one view, some at a time.
#[derive(Debug, Default)]
pub(crate) struct Dump {
    table: usize,
    last: Option<Vec<u8>>,
}

/// The tables whose rows are logged. Names and states come oldest first, which is the back of their tables.
const LOGGED: [Table; 10] = [
    Table::Commit,
    Table::File,
    Table::Dirent,
    Table::Base,
    Table::Page,
    Table::Void,
    Table::Sweep,
    Table::Place,
    Table::Point,
    Table::Restore,
];

impl Dump {
    /// Returns the next rows, about `bytes` of them; none at the end.
    pub(crate) fn next(&mut self, rows: &impl Rows, bytes: usize) -> Result<Vec<Row>, IndexError> {
        let mut out = Vec::new();
        let mut room = bytes;
        while let Some(table) = LOGGED.get(self.table) {
            let mut range = self.rest(rows, *table)?;
            let is_backward = matches!(table, Table::File | Table::Dirent);
            while room > 0 {
                let found = if is_backward { range.next_back() } else { range.next() };
                let Some((key, value)) = found.transpose()? else { break };
                let (key, value) = (key.value(), value.value());
                out.push(read(*table, key, value)?);
                room = room.saturating_sub(key.len() + value.len());
                if room == 0 {
                    self.last = Some(key.to_vec());
                }
            }
            if room == 0 {
                return Ok(out);
            }
            (self.table, self.last) = (self.table + 1, None);
            if self.table == LOGGED.len() {
                out.extend(clock(rows)?.map(|arrival| Row::Clock { arrival }));
            }
        }
        Ok(out)
    }

    /// Returns the rows of a table after the last one, or before it where they come from the back.
    fn rest<'r>(&self, rows: &'r impl Rows, table: Table) -> Result<Range<'r>, IndexError> {
        let last = self.last.as_ref().map_or(Bound::Unbounded, |last| Bound::Excluded(&last[..]));
        if matches!(table, Table::File | Table::Dirent) {
            rows.range(table, Bound::Unbounded, last)
        } else {
            rows.range(table, last, Bound::Unbounded)
        }
    }
}

/// Reads a row of a logged table.
pub(crate) fn read(table: Table, key: &[u8], value: &[u8]) -> Result<Row, IndexError> {
    Ok(match table {
        Table::Commit => {
            Row::Commit { at: keys::oldest_of(table, key)?, value: decode(table, value)? }
        }
        Table::Dirent => {
            let (parent, name, at) = keys::read_dirent(key)?;
            Row::Name { at, parent, name, target: decode(table, value)? }
        }
        Table::File => Row::File {
            at: keys::newest_of(table, key)?,
            file: keys::file_of(table, key)?,
            value: decode(table, value)?,
        },
        Table::Base => content(Grain::Block, key, value)?,
        Table::Page => content(Grain::Page, key, value)?,
        Table::Void => Row::Void {
            at: keys::newest_of(table, key)?,
            body: keys::body_of(table, key)?,
            from: decode_u64(table, value)?,
        },
        Table::Sweep => {
            Row::Sweep { at: CommitId(decode_u64(table, value)?), body: keys::body_of(table, key)? }
        }
        Table::Place => {
            Row::Place { origin: keys::read_origin(key)?, place: decode(table, value)? }
        }
        Table::Point => {
            let (value, schedule): (PointValue, Option<Schedule>) = decode(table, value)?;
            value.row(keys::oldest_of(table, key)?, schedule)
        }
        Table::Restore => {
            let (row, position, at) = decode(table, value)?;
            Row::Restore { at, row, position }
        }
        _ => return Err(table.broken()),
    })
}

/// Returns a hash of every table that follows from the log alone, whatever the live tree has.
pub(crate) fn digests(rows: &impl Rows) -> Result<Vec<(&'static str, ContentHash)>, IndexError> {
    let follows = |table: &&Table| !matches!(table, Table::Meta | Table::Touched | Table::Ranges);
    let digest = |table: &Table| {
        let mut hasher = blake3::Hasher::new();
        if *table == Table::Called {
            called::digest(rows, &mut hasher)?;
            return Ok((table.name(), ContentHash(*hasher.finalize().as_bytes())));
        }
        for row in rows.range(*table, Bound::Unbounded, Bound::Unbounded)? {
            let (key, value) = row?;
            for bytes in [key.value(), value.value()] {
                hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
            }
        }
        Ok((table.name(), ContentHash(*hasher.finalize().as_bytes())))
    };
    Table::ALL.iter().filter(follows).map(digest).collect()
}

fn content(grain: Grain, key: &[u8], value: &[u8]) -> Result<Row, IndexError> {
    let loc = decode_loc(keys::table_of(grain), value)?;
    Ok(Row::Content { piece: keys::read_piece(grain, key)?, loc })
}
