//! The tables of the map, in a snapshot or in a running transaction, whose rows go into them at its end.

use std::{iter::Peekable, ops::Bound::Excluded, ops::Bound::Included};

use keepshare_host::gathered::Gathered;
use redb::{ReadOnlyTable, ReadableTable, StorageError, Table};

use super::Bytes;

/// A key and its value.
pub(crate) type Row = (Vec<u8>, Vec<u8>);

/// Reads one table.
pub(crate) trait Rows {
    /// Returns the value at a key.
    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError>;

    /// Returns the rows from `from` on and before `to`, in order, at most `limit`.
    fn rows(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, StorageError>;
}

impl Rows for ReadOnlyTable<Bytes, Bytes> {
    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(ReadableTable::get(self, key)?.map(|value| value.value().to_vec()))
    }

    fn rows(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, StorageError> {
        ReadableTable::range::<&[u8]>(self, from..to)?.take(limit).map(owned).collect()
    }
}

/// A table as it is being changed.
pub(crate) struct Changing<'t> {
    table: Table<'t, Bytes, Bytes>,
    /// What is not in it yet.
    gathered: Gathered,
}

impl<'t> Changing<'t> {
    pub(super) fn new(table: Table<'t, Bytes, Bytes>) -> Self {
        Self { table, gathered: Gathered::default() }
    }

    /// Puts a row.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) {
        self.gathered.put(key, Some(value));
    }

    /// Removes a row, if it is there.
    pub(super) fn remove(&mut self, key: &[u8]) {
        self.gathered.put(key, None);
    }

    /// Removes the rows from `from` on and before `to`.
    pub(super) fn clear(&mut self, from: &[u8], to: &[u8]) -> Result<(), StorageError> {
        self.gathered.forget(Included(from), Excluded(to));
        self.table.retain_in::<&[u8], _>(from..to, |_, _| false)
    }

    /// Removes all rows.
    pub(super) fn clear_all(&mut self) -> Result<(), StorageError> {
        self.gathered = Gathered::default();
        self.table.retain(|_, _| false)
    }

    /// Brings the table to what was put.
    pub(super) fn write(&mut self) -> Result<(), StorageError> {
        self.gathered.write(&mut self.table)
    }
}

impl Rows for Changing<'_> {
    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        match self.gathered.get(key) {
            Some(value) => Ok(value.map(<[u8]>::to_vec)),
            None => Ok(self.table.get(key)?.map(|value| value.value().to_vec())),
        }
    }

    fn rows(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, StorageError> {
        let mut there = self.table.range::<&[u8]>(from..to)?.map(owned).peekable();
        let mut put = self.gathered.range(Included(from), Excluded(to)).peekable();
        let mut rows = Vec::new();
        while rows.len() < limit {
            match put.peek() {
                Some((key, _)) => match next_before(&mut there, key)? {
                    Some(row) => rows.push(row),
                    None => {
                        let (key, value) = put.next().expect("it was there just now");
                        rows.extend(value.map(|value| (key.to_vec(), value.to_vec())));
                    }
                },
                None => match there.next() {
                    Some(row) => rows.push(row?),
                    None => break,
                },
            }
        }
        Ok(rows)
    }
}

/// Returns the next row if it is before `key`; one at `key` itself is passed over.
fn next_before(
    there: &mut Peekable<impl Iterator<Item = Result<Row, StorageError>>>,
    key: &[u8],
) -> Result<Option<Row>, StorageError> {
    let is_at = |row: &Result<Row, _>| row.as_ref().is_ok_and(|(there, _)| there == key);
    there.next_if(is_at);
    there.next_if(|row| row.as_ref().map_or(true, |(there, _)| there.as_slice() < key)).transpose()
}

type Guard<'a> = redb::AccessGuard<'a, Bytes>;

fn owned(row: Result<(Guard<'_>, Guard<'_>), StorageError>) -> Result<Row, StorageError> {
    row.map(|(key, value)| (key.value().to_vec(), value.value().to_vec()))
}
