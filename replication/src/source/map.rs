//! The identity map and the journal as tables of one database, so that both change in one transaction.
//!
//! The tables and their bytes are described in `docs/formats/journal.md`. Nothing here touches the source's files.

use keepshare_base::{Change, Epoch, FileId, Kind, Name, RunningHash, Seq, Stamp};
use redb::{
    ReadOnlyTable, ReadTransaction, ReadableTable, ReadableTableMetadata, Table, TableDefinition,
    WriteTransaction,
};
use serde::{Deserialize, Serialize};

use keepshare_decide::{CutPlace, FileRecord, Inode, Known, MapEntry};

use super::{ChangeSize, SourceError, pass::Regions};

mod former;
mod rows;
mod tables;

use rows::{
    beyond, link_key, name_key, number_key, read_file, read_journal_row, read_link, read_name,
    read_record, read_region, read_target, region_key,
};
pub(crate) use rows::{decode, decode_grown, encode};
use tables::{Changing, Rows};

type Bytes = &'static [u8];

const NAMES: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("name");
const LINKS: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("link");
const FILES: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("file");
const INODES: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("inode");
const BLOCKS: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("block");
const JOURNAL: TableDefinition<'_, u64, Bytes> = TableDefinition::new("journal");

/// Where the journal is.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    /// The format of all tables.
    pub(crate) format: u32,
    /// The origin.
    pub(crate) origin: u32,
    /// The epoch.
    pub(crate) epoch: u64,
    /// The next file's counter in this epoch.
    pub(crate) next_file: u64,
    /// The last change.
    pub(crate) head: u64,
    /// The running hash with it.
    pub(crate) running: [u8; 32],
    /// Its stamp: the clock as it was, which may be set back.
    pub(crate) stamp: Stamp,
    /// The source's folder.
    pub(crate) root: Inode,
    /// The first scan is done.
    pub(crate) scanned: bool,
    /// Rows in the journal, in bytes.
    pub(crate) journal_bytes: u64,
    /// Changes in the journal.
    pub(crate) journal_entries: u64,
    /// The last change that was dropped; 0 if none was.
    pub(crate) dropped: u64,
    /// The running hash with it.
    pub(crate) dropped_running: [u8; 32],
    /// Files without a name yet, of whose content parts are journaled, and the name that each of them will get.
    pub(crate) reading: Vec<(FileId, FileId, Name)>,
    /// The change that stands for all that made versions of states of which nothing else is noted: the end of the first
    /// scan, or the first mirror by a journal of format 1.
    pub(crate) base: Option<CutPlace>,
}

impl State {
    /// Returns the last change's place and time.
    pub(crate) fn here(&self) -> CutPlace {
        let epoch = Epoch::new(self.epoch).unwrap_or(Epoch::FIRST);
        CutPlace { epoch, seq: Seq(self.head), stamp: self.stamp }
    }
}

/// The tables, in a snapshot ([`MapView`]) or in a running transaction ([`MapTx`]).
pub(crate) struct Map<T, J> {
    names: T,
    links: T,
    files: T,
    inodes: T,
    blocks: T,
    journal: J,
    /// Something was written.
    pub(crate) wrote: bool,
}

/// The tables as they were at one moment.
pub(crate) type MapView = Map<ReadOnlyTable<Bytes, Bytes>, ReadOnlyTable<u64, Bytes>>;

/// The tables as they are being changed.
pub(crate) type MapTx<'t> = Map<Changing<'t>, Table<'t, u64, Bytes>>;

impl MapView {
    /// Opens the tables of a snapshot.
    pub(crate) fn open(tx: &ReadTransaction) -> Result<Self, SourceError> {
        Ok(Self {
            names: tx.open_table(NAMES)?,
            links: tx.open_table(LINKS)?,
            files: tx.open_table(FILES)?,
            inodes: tx.open_table(INODES)?,
            blocks: tx.open_table(BLOCKS)?,
            journal: tx.open_table(JOURNAL)?,
            wrote: false,
        })
    }

    /// Returns how much content all files have, in bytes.
    pub(crate) fn content_bytes(&self) -> Result<u64, SourceError> {
        let mut bytes: u64 = 0;
        for row in self.files.iter()? {
            bytes = bytes.saturating_add(read_record(row?.1.value())?.meta.size);
        }
        Ok(bytes)
    }

    /// Returns how many files are known.
    pub(crate) fn file_count(&self) -> Result<u64, SourceError> {
        Ok(self.files.len()?)
    }
}

impl<T: Rows, J> Known for Map<T, J> {
    type Error = SourceError;

    fn lookup(&self, parent: FileId, name: &Name) -> Result<Option<(FileId, Kind)>, SourceError> {
        let value = self.names.value(&name_key(parent, Some(name)))?;
        value.map(|value| read_target(&value)).transpose()
    }

    fn list(
        &self,
        parent: FileId,
        after: Option<&Name>,
        limit: usize,
    ) -> Result<Vec<MapEntry>, SourceError> {
        let mut first = name_key(parent, after);
        if after.is_some() {
            first.push(0);
        }
        let rows = self.names.rows(&first, &beyond(parent), limit)?;
        let entry = |(key, value): tables::Row| {
            let (file, kind) = read_target(&value)?;
            Ok(MapEntry { name: read_name(&key)?, file, kind })
        };
        rows.into_iter().map(entry).collect()
    }

    fn links(&self, file: FileId, limit: usize) -> Result<Vec<(FileId, Name)>, SourceError> {
        let rows = self.links.rows(&file.to_short(), &beyond(file), limit)?;
        rows.into_iter().map(|(key, _)| read_link(&key)).collect()
    }

    fn record(&self, file: FileId) -> Result<Option<FileRecord>, SourceError> {
        let value = self.files.value(&file.to_short())?;
        value.map(|value| read_record(&value)).transpose()
    }

    fn by_number(&self, number: u64) -> Result<Option<FileId>, SourceError> {
        let value = self.inodes.value(&number_key(number))?;
        value.map(|value| read_file(&value)).transpose()
    }
}

impl<T, J: ReadableTable<u64, Bytes>> Map<T, J> {
    /// Returns a journaled change and the running hash with it, if that follows from the row and the hash `before` it.
    pub(crate) fn change(
        &self,
        seq: Seq,
        before: RunningHash,
    ) -> Result<Option<(RunningHash, Change)>, SourceError> {
        match self.journal.get(seq.0)? {
            Some(row) => read_journal_row(seq, before, row.value()).map(Some),
            None => Ok(None),
        }
    }

    /// Returns the running hash with a journaled change.
    pub(crate) fn running(&self, seq: Seq) -> Result<Option<RunningHash>, SourceError> {
        let row = self.journal.get(seq.0)?;
        let hash = row.and_then(|row| row.value().first_chunk::<32>().copied());
        Ok(hash.map(RunningHash))
    }

    /// Returns how large journaled changes are, from `from` on or the oldest after it, at most so many.
    pub(crate) fn sizes(&self, from: Seq, limit: usize) -> Result<Vec<ChangeSize>, SourceError> {
        let mut sizes = Vec::new();
        for row in self.journal.range(from.0..)?.take(limit) {
            let (seq, row) = row?;
            // Behind the running hash, which says nothing of its size.
            let rest = row.value().get(32..).unwrap_or_default();
            let change: Change = decode_grown(rest, "a change's size")?;
            let bytes = change.payload_len().saturating_add(row.value().len() as u64);
            sizes.push(ChangeSize { seq: Seq(seq.value()), stamp: change.stamp, bytes });
        }
        Ok(sizes)
    }

    /// Returns the oldest change of the journal.
    pub(crate) fn oldest(&self) -> Result<Option<Seq>, SourceError> {
        Ok(self.journal.first()?.map(|(seq, _)| Seq(seq.value())))
    }
}

impl<'t> MapTx<'t> {
    /// Opens the tables, making those that are not there.
    pub(crate) fn open(tx: &'t WriteTransaction) -> Result<Self, SourceError> {
        Ok(Self {
            names: Changing::new(tx.open_table(NAMES)?),
            links: Changing::new(tx.open_table(LINKS)?),
            files: Changing::new(tx.open_table(FILES)?),
            inodes: Changing::new(tx.open_table(INODES)?),
            blocks: Changing::new(tx.open_table(BLOCKS)?),
            journal: tx.open_table(JOURNAL)?,
            wrote: false,
        })
    }

    /// Brings a journal of format 1 or 2 to the present one.
    pub(crate) fn convert(tx: &'t WriteTransaction) -> Result<(), SourceError> {
        former::convert(tx, &mut Self::open(tx)?)
    }

    /// Puts everything into its table: before the transaction is committed.
    pub(crate) fn write(&mut self) -> Result<(), SourceError> {
        let Self { names, links, files, inodes, blocks, .. } = self;
        for table in [names, links, files, inodes, blocks] {
            table.write()?;
        }
        Ok(())
    }

    /// Makes a name stand for a file, or for nothing.
    pub(crate) fn set_name(
        &mut self,
        parent: FileId,
        name: &Name,
        target: Option<(FileId, Kind)>,
    ) -> Result<(), SourceError> {
        self.wrote = true;
        let former = self.lookup(parent, name)?;
        let key = name_key(parent, Some(name));
        match target {
            Some((file, kind)) => {
                self.links.put(&link_key(file, parent, name), &[]);
                self.names.put(&key, &rows::target(file, kind));
            }
            None => self.names.remove(&key),
        }
        match former {
            Some((file, _)) if target.is_none_or(|(now, _)| now != file) => {
                self.links.remove(&link_key(file, parent, name));
            }
            _ => {}
        }
        Ok(())
    }

    /// Writes what is known of a file.
    pub(crate) fn set_record(
        &mut self,
        file: FileId,
        record: &FileRecord,
    ) -> Result<(), SourceError> {
        self.wrote = true;
        let former = self.record(file)?;
        let key = file.to_short();
        self.files.put(&key, &rows::record(record));
        let number = record.inode.number;
        if former.is_none_or(|former| former.inode.number != number) {
            self.inodes.put(&number_key(number), &key);
        }
        Ok(())
    }

    /// Writes what is known of a file that is another inode now.
    pub(crate) fn rebind(
        &mut self,
        file: FileId,
        mut record: FileRecord,
        inode: Inode,
    ) -> Result<(), SourceError> {
        if record.inode.number != inode.number && self.by_number(record.inode.number)? == Some(file)
        {
            self.inodes.remove(&number_key(record.inode.number));
        }
        record.inode = inode;
        self.set_record(file, &record)?;
        self.inodes.put(&number_key(inode.number), &file.to_short());
        Ok(())
    }

    /// Forgets a file and its block hashes; its names are gone already.
    pub(crate) fn remove_file(&mut self, file: FileId) -> Result<(), SourceError> {
        self.wrote = true;
        let Some(record) = self.record(file)? else { return Ok(()) };
        self.files.remove(&file.to_short());
        let number = record.inode.number;
        if self.by_number(number)? == Some(file) {
            self.inodes.remove(&number_key(number));
        }
        if record.blocks {
            self.clear_blocks(file, 0)?;
        }
        Ok(())
    }

    /// Forgets everything but restores and destinations.
    pub(crate) fn clear(&mut self) -> Result<(), SourceError> {
        let Self { names, links, files, inodes, blocks, .. } = self;
        for table in [names, links, files, inodes, blocks] {
            table.clear_all()?;
        }
        self.clear_journal()
    }

    /// Forgets all changes.
    pub(crate) fn clear_journal(&mut self) -> Result<(), SourceError> {
        self.wrote = true;
        self.journal.retain(|_, _| false)?;
        Ok(())
    }

    /// Appends a change to the journal.
    pub(crate) fn append(
        &mut self,
        state: &mut State,
        change: &Change,
    ) -> Result<Seq, SourceError> {
        self.wrote = true;
        let bytes = encode(change);
        let seq = Seq(state.head).next();
        let running = RunningHash(state.running).extended(&bytes);
        let row = [running.0.as_slice(), &bytes].concat();
        self.journal.insert(seq.0, row.as_slice())?;
        state.head = seq.0;
        state.running = running.0;
        state.stamp = change.stamp;
        state.journal_bytes += row.len() as u64;
        state.journal_entries += 1;
        Ok(seq)
    }

    /// Drops the changes before `keep`.
    pub(crate) fn trim(&mut self, state: &mut State, keep: Seq) -> Result<(), SourceError> {
        self.wrote = true;
        let (mut bytes, mut entries) = (0, 0);
        let (mut last, mut running) = (state.dropped, state.dropped_running);
        self.journal.retain_in(..keep.0, |seq, row| {
            bytes += row.len() as u64;
            entries += 1;
            if seq >= last {
                last = seq;
                running = row.first_chunk().copied().unwrap_or_default();
            }
            false
        })?;
        (state.dropped, state.dropped_running) = (last, running);
        state.journal_bytes = state.journal_bytes.saturating_sub(bytes);
        state.journal_entries = state.journal_entries.saturating_sub(entries);
        Ok(())
    }

    /// Returns the first change such that what comes before it frees `bytes` and `entries` of the journal.
    pub(crate) fn oldest_after(&self, bytes: u64, entries: u64) -> Result<Seq, SourceError> {
        let (mut bytes_seen, mut entries_seen) = (0, 0);
        for row in self.journal.iter()? {
            let (seq, row) = row?;
            if bytes_seen >= bytes && entries_seen >= entries {
                return Ok(Seq(seq.value()));
            }
            bytes_seen += row.value().len() as u64;
            entries_seen += 1;
        }
        Ok(Seq(u64::MAX))
    }
}

impl Regions for MapTx<'_> {
    fn region(&self, file: FileId, region: u32) -> Result<Option<Vec<u8>>, SourceError> {
        Ok(self.blocks.value(&region_key(file, region))?)
    }

    fn region_from(&self, file: FileId, from: u32) -> Result<Option<u32>, SourceError> {
        let mut rows = self.blocks.rows(&region_key(file, from), &beyond(file), 1)?;
        rows.pop().map(|(key, _)| read_region(&key)).transpose()
    }

    fn set_region(
        &mut self,
        file: FileId,
        region: u32,
        hashes: Option<&[u8]>,
    ) -> Result<(), SourceError> {
        self.wrote = true;
        let key = region_key(file, region);
        match hashes {
            Some(hashes) => self.blocks.put(&key, hashes),
            None => self.blocks.remove(&key),
        }
        Ok(())
    }

    fn clear_blocks(&mut self, file: FileId, from: u32) -> Result<(), SourceError> {
        Ok(self.blocks.clear(&region_key(file, from), &beyond(file))?)
    }
}

#[cfg(test)]
mod tests;
