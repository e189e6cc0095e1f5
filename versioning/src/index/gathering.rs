//! The pending write while one record is applied: rows of the tables that have one for each name or file go into them
//! together, in the order of their keys, so that they fill their pages.

use std::ops::Bound;

use keepshare_host::gathered::Gathered;

use super::{Guard, IndexError, KeyValue, Range, Rows, Table, WriteRows, keys};

/// The tables whose rows are gathered; of these only [`Rows::get`] and [`Rows::first_under`] are asked meanwhile.
const GATHERED: [Table; 13] = [
    Table::Dirent,
    Table::File,
    Table::Base,
    Table::Page,
    Table::Live,
    Table::Gone,
    Table::Link,
    Table::Names,
    Table::Version,
    Table::Open,
    Table::Blob,
    Table::Aside,
    Table::Touched,
];

/// Rows as they are with what was gathered.
pub(crate) struct Gathering<'a, 't> {
    rows: &'a mut WriteRows<'t>,
    gathered: [Gathered; Table::ALL.len()],
}

impl<'a, 't> Gathering<'a, 't> {
    pub(crate) fn new(rows: &'a mut WriteRows<'t>) -> Self {
        Self { rows, gathered: std::array::from_fn(|_| Gathered::default()) }
    }

    /// Returns the pending write, for tables whose rows are not gathered.
    pub(crate) fn direct(&mut self) -> &mut WriteRows<'t> {
        self.rows
    }

    /// Puts a row.
    pub(crate) fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), IndexError> {
        if GATHERED.contains(&table) {
            self.gathered[table as usize].put(key, Some(value));
            return Ok(());
        }
        self.rows.put(table, key, value)
    }

    /// Removes a row, if it is there.
    pub(crate) fn remove(&mut self, table: Table, key: &[u8]) -> Result<(), IndexError> {
        if GATHERED.contains(&table) {
            self.gathered[table as usize].put(key, None);
            return Ok(());
        }
        self.rows.remove(table, key).map(drop)
    }

    /// Brings the tables to what was gathered.
    pub(crate) fn write(&mut self) -> Result<(), IndexError> {
        for table in GATHERED {
            let gathered = &mut self.gathered[table as usize];
            if !gathered.is_empty() {
                gathered.write(self.rows.table_mut(table)?)?;
            }
        }
        Ok(())
    }
}

impl Rows for Gathering<'_, '_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Guard<'_>>, IndexError> {
        match self.gathered[table as usize].get(key) {
            Some(value) => Ok(value.map(Guard::Gathered)),
            None => self.rows.get(table, key),
        }
    }

    fn range(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
    ) -> Result<Range<'_>, IndexError> {
        assert!(self.gathered[table as usize].is_empty(), "rows of {table:?} are being gathered");
        self.rows.range(table, from, to)
    }

    fn first_under(
        &self,
        table: Table,
        prefix: &[u8],
        from: &[u8],
    ) -> Result<Option<KeyValue<'_>>, IndexError> {
        let end = keys::after_prefix(prefix);
        let end = end.as_ref().map_or(Bound::Unbounded, |end| Bound::Excluded(end.as_slice()));
        let gathered = &self.gathered[table as usize];
        let put = gathered.range(Bound::Included(from), end).find_map(|(key, value)| {
            value.map(|value| (Guard::Gathered(key), Guard::Gathered(value)))
        });
        for row in self.rows.range(table, Bound::Included(from), end)? {
            let (key, value) = row?;
            if put.as_ref().is_some_and(|(put, _)| put.value() <= key.value()) {
                break;
            }
            // What was put at this key stands in the way of what is there.
            if gathered.get(key.value()).is_none() {
                return Ok(Some((Guard::Stored(key), Guard::Stored(value))));
            }
        }
        Ok(put)
    }
}
