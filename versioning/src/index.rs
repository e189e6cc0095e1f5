//! The version index: what every read uses, derived from the log.
//!
//! All tables have byte keys whose order is the order of what they stand for, and byte values. [`Rows`] reads them
//! from a view or from the pending write alike, so that a question is written once. The tables are in
//! docs/formats/index.md.

use std::{cell::OnceCell, ops::Bound};

use redb::{AccessGuard, ReadableTable, ReadableTableMetadata as _, TableDefinition};

use crate::{checked::CheckedError, disk::is_full};

pub(crate) mod apply;
pub(crate) mod aside;
pub(crate) mod called;
pub(crate) mod commits;
pub(crate) mod dump;
pub(crate) mod files;
pub(crate) mod gathering;
pub(crate) mod keys;
pub(crate) mod names;
pub(crate) mod ranges;
#[cfg(test)]
mod tests;
pub(crate) mod values;
pub(crate) mod voids;

/// The version of the tables; an index of another one is built anew.
pub(crate) const FORMAT: u32 = 7;

/// How long a page of the database is.
const PAGE_BYTES: u64 = 4096;

type Bytes = &'static [u8];

/// Why the index gave no answer. Building it anew mends every case but a failing disk.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The database failed.
    #[error("the database failed")]
    Database(#[source] redb::Error),
    /// The database file is damaged, or panicked on what is in it.
    #[error("the database file cannot be used")]
    Checked(#[from] CheckedError),
    /// A row that does not read.
    #[error("a row of table {0} does not read")]
    Row(&'static str),
}

impl IndexError {
    /// Tells whether nothing is wrong but that the disk is full.
    pub fn is_full(&self) -> bool {
        let database = |error: &redb::Error| matches!(error, redb::Error::Io(io) if is_full(io));
        match self {
            Self::Database(error) | Self::Checked(CheckedError::Database(error)) => database(error),
            Self::Checked(CheckedError::Io(io)) => is_full(io),
            Self::Checked(_) | Self::Row(_) => false,
        }
    }
}

macro_rules! from_redb {
    ($($error:ident),*) => {
        $(impl From<redb::$error> for IndexError {
            fn from(error: redb::$error) -> Self {
                Self::Database(error.into())
            }
        })*
    };
}

from_redb!(StorageError, TableError, TransactionError, CommitError);

impl From<redb::SetDurabilityError> for IndexError {
    fn from(error: redb::SetDurabilityError) -> Self {
        Self::Database(error.into())
    }
}

macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// The tables.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub(crate) enum Table {
            $($(#[$doc])* $name,)*
        }

        impl Table {
            /// All of them.
            pub(crate) const ALL: &[Self] = &[$(Self::$name,)*];

            /// Returns the table's name in the database.
            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

tables! {
    /// commit → what it is.
    Commit = "commit",
    /// parent, name, !commit → target or nothing.
    Dirent = "dirent",
    /// file, !commit → state.
    File = "file",
    /// body, block, !commit → location.
    Base = "base",
    /// body, page, !commit → location.
    Page = "page",
    /// body, !commit → first byte.
    Void = "void",
    /// body → the commit that asked for a look at what of it is needed.
    Sweep = "sweep",
    /// origin → place.
    Place = "place",
    /// commit → point, its position, and for how long it stays.
    Point = "point",
    /// request → answer.
    Restore = "restore",
    /// Format, log position, clock, and since when `Touched` is known.
    Meta = "meta",
    /// Derived: parent, name → target, of today's names.
    Live = "live",
    /// Derived: parent, commit, name → nothing, of names that stood for nothing from there on.
    Gone = "gone",
    /// Derived: file, parent, name, !commit → whether it had that name from there on.
    Link = "link",
    /// Derived: first folder and name of some → these names.
    Called = "called",
    /// Derived: file → how many names it has today.
    Names = "names",
    /// Derived: origin, moment, commit of complete changes.
    Time = "time",
    /// Derived: position → last commit.
    Position = "position",
    /// Derived: body, level, stretch of commits → smallest first byte of their voids.
    Voids = "voids",
    /// Derived: file, position → state, of versions that a mirror brought.
    Version = "version",
    /// Derived: file → its state that is no version yet.
    Open = "open",
    /// Derived: body → its file and how many of its states use it.
    Body = "body",
    /// Derived: frame of a blob → how many states use it.
    Blob = "blob",
    /// Derived: pack → bytes in use.
    Pack = "pack",
    /// Derived: since when, file, commit → size, of versions that are aside.
    Aside = "aside",
    /// Derived: commit → names and files that it touched, until the live tree has them.
    Touched = "touched",
    /// Derived: file, commit → bytes that it touched, for as long.
    Ranges = "ranges",
}

impl Table {
    fn definition(self) -> TableDefinition<'static, Bytes, Bytes> {
        TableDefinition::new(self.name())
    }

    /// Returns the error for a row of this table that does not read.
    pub(crate) fn broken(self) -> IndexError {
        IndexError::Row(self.name())
    }
}

/// A stretch of a table, from both ends.
pub(crate) type Range<'a> = redb::Range<'a, Bytes, Bytes>;

/// Reads the tables.
pub(crate) trait Rows {
    /// Returns the value at `key`.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Guard<'_>>, IndexError>;

    /// Returns the rows between two keys.
    fn range(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
    ) -> Result<Range<'_>, IndexError>;

    /// Returns the rows from `from` on whose keys begin with `prefix`; `from` begins with it too.
    fn under(&self, table: Table, prefix: &[u8], from: &[u8]) -> Result<Range<'_>, IndexError> {
        match keys::after_prefix(prefix) {
            Some(end) => self.range(table, Bound::Included(from), Bound::Excluded(&end)),
            None => self.range(table, Bound::Included(from), Bound::Unbounded),
        }
    }

    /// Returns the first row from `from` on whose key begins with `prefix`.
    fn first_under(
        &self,
        table: Table,
        prefix: &[u8],
        from: &[u8],
    ) -> Result<Option<KeyValue<'_>>, IndexError> {
        let row = self.under(table, prefix, from)?.next().transpose()?;
        Ok(row.map(|(key, value)| (Guard::Stored(key), Guard::Stored(value))))
    }
}

/// A key and its value.
pub(crate) type KeyValue<'a> = (Guard<'a>, Guard<'a>);

/// A key or a value.
pub(crate) enum Guard<'a> {
    /// In a table.
    Stored(AccessGuard<'a, Bytes>),
    /// Not in its table yet.
    Gathered(&'a [u8]),
}

impl Guard<'_> {
    /// Returns the bytes.
    pub(crate) fn value(&self) -> &[u8] {
        match self {
            Self::Stored(bytes) => bytes.value(),
            Self::Gathered(bytes) => bytes,
        }
    }
}

/// The tables of one read transaction, each opened when it is first asked.
pub(crate) struct ReadRows {
    txn: redb::ReadTransaction,
    tables: [OnceCell<redb::ReadOnlyTable<Bytes, Bytes>>; Table::ALL.len()],
}

impl ReadRows {
    /// Begins a read of what is committed now.
    pub(crate) fn begin(database: &redb::Database) -> Result<Self, IndexError> {
        use redb::ReadableDatabase as _;
        Ok(Self { txn: database.begin_read()?, tables: [const { OnceCell::new() }; _] })
    }

    fn table(&self, table: Table) -> Result<&redb::ReadOnlyTable<Bytes, Bytes>, IndexError> {
        let cell = &self.tables[table as usize];
        if let Some(open) = cell.get() {
            return Ok(open);
        }
        let open = self.txn.open_table(table.definition())?;
        Ok(cell.get_or_init(|| open))
    }
}

impl ReadRows {
    /// Returns how many rows a table has.
    pub(crate) fn count(&self, table: Table) -> Result<u64, IndexError> {
        use redb::ReadableTableMetadata as _;
        Ok(self.table(table)?.len()?)
    }

    /// Returns how many bytes of the file a table has.
    pub(crate) fn bytes(&self, table: Table) -> Result<u64, IndexError> {
        let stats = self.table(table)?.stats()?;
        Ok((stats.leaf_pages() + stats.branch_pages()) * PAGE_BYTES)
    }
}

impl Rows for ReadRows {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Guard<'_>>, IndexError> {
        Ok(ReadableTable::get(self.table(table)?, key)?.map(Guard::Stored))
    }

    fn range(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
    ) -> Result<Range<'_>, IndexError> {
        Ok(ReadableTable::range::<&[u8]>(self.table(table)?, (from, to))?)
    }
}

/// The tables of the pending write.
pub(crate) struct WriteRows<'t> {
    txn: &'t redb::WriteTransaction,
    tables: [OnceCell<redb::Table<'t, Bytes, Bytes>>; Table::ALL.len()],
}

impl<'t> WriteRows<'t> {
    /// Reads and writes in `txn`.
    pub(crate) fn new(txn: &'t redb::WriteTransaction) -> Self {
        Self { txn, tables: [const { OnceCell::new() }; _] }
    }

    /// Makes every table, so that reads find them all.
    pub(crate) fn open_all(&self) -> Result<(), IndexError> {
        Table::ALL.iter().try_for_each(|table| self.table(*table).map(drop))
    }

    /// Puts a row.
    pub(crate) fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), IndexError> {
        self.table_mut(table)?.insert(key, value)?;
        Ok(())
    }

    /// Removes a row and tells whether it was there.
    pub(crate) fn remove(&mut self, table: Table, key: &[u8]) -> Result<bool, IndexError> {
        Ok(self.table_mut(table)?.remove(key)?.is_some())
    }

    fn table(&self, table: Table) -> Result<&redb::Table<'t, Bytes, Bytes>, IndexError> {
        let cell = &self.tables[table as usize];
        if let Some(open) = cell.get() {
            return Ok(open);
        }
        let open = self.txn.open_table(table.definition())?;
        Ok(cell.get_or_init(|| open))
    }

    fn table_mut(
        &mut self,
        table: Table,
    ) -> Result<&mut redb::Table<'t, Bytes, Bytes>, IndexError> {
        self.table(table)?;
        Ok(self.tables[table as usize].get_mut().expect("it was opened just now"))
    }
}

impl Rows for WriteRows<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Guard<'_>>, IndexError> {
        Ok(self.table(table)?.get(key)?.map(Guard::Stored))
    }

    fn range(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
    ) -> Result<Range<'_>, IndexError> {
        Ok(self.table(table)?.range::<&[u8]>((from, to))?)
    }
}
