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

mod rows;

use rows::{
    beyond, kind_byte, link_key, name_key, read_journal_row, read_name, read_target, region_key,
};
pub(crate) use rows::{decode, decode_grown, encode};

type Bytes = &'static [u8];

const NAMES: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("names");
const LINKS: TableDefinition<'_, Bytes, ()> = TableDefinition::new("links");
const FILES: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("files");
const INODES: TableDefinition<'_, u64, Bytes> = TableDefinition::new("inodes");
const BLOCKS: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("blocks");
const JOURNAL: TableDefinition<'_, u64, Bytes> = TableDefinition::new("journal");

/// Ends a range of a 20-byte file id and what follows it: longer than any name.
const BEYOND: [u8; 280] = [0xff; 280];
const FILE_BYTES: usize = 20;

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
    /// Its stamp: stamps never go back.
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
pub(crate) struct Map<B, U, N> {
    names: B,
    links: U,
    files: B,
    inodes: N,
    blocks: B,
    journal: N,
    /// Something was written.
    pub(crate) wrote: bool,
}

/// The tables as they were at one moment.
pub(crate) type MapView =
    Map<ReadOnlyTable<Bytes, Bytes>, ReadOnlyTable<Bytes, ()>, ReadOnlyTable<u64, Bytes>>;

/// The tables as they are being changed.
pub(crate) type MapTx<'t> =
    Map<Table<'t, Bytes, Bytes>, Table<'t, Bytes, ()>, Table<'t, u64, Bytes>>;

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
}

impl<B, U, N> Known for Map<B, U, N>
where
    B: ReadableTable<Bytes, Bytes>,
    U: ReadableTable<Bytes, ()>,
    N: ReadableTable<u64, Bytes>,
{
    type Error = SourceError;

    fn lookup(&self, parent: FileId, name: &Name) -> Result<Option<(FileId, Kind)>, SourceError> {
        match self.names.get(name_key(parent, name).as_slice())? {
            Some(value) => Ok(Some(read_target(value.value())?)),
            None => Ok(None),
        }
    }

    fn list(
        &self,
        parent: FileId,
        after: Option<&Name>,
        limit: usize,
    ) -> Result<Vec<MapEntry>, SourceError> {
        let mut first = name_key(parent, after.unwrap_or(&first_name()));
        if after.is_some() {
            first.push(0);
        } else {
            first.truncate(FILE_BYTES);
        }
        let last = beyond(parent);
        let mut entries = Vec::new();
        for row in self.names.range(first.as_slice()..last.as_slice())?.take(limit) {
            let (key, value) = row?;
            let (file, kind) = read_target(value.value())?;
            let name = read_name(key.value().get(FILE_BYTES..).unwrap_or_default())?;
            entries.push(MapEntry { name, file, kind });
        }
        Ok(entries)
    }

    fn links(&self, file: FileId, limit: usize) -> Result<Vec<(FileId, Name)>, SourceError> {
        let (first, last) = (file.to_bytes(), beyond(file));
        let mut places = Vec::new();
        for row in self.links.range(first.as_slice()..last.as_slice())?.take(limit) {
            let (key, _) = row?;
            let key = key.value();
            let parent = key.get(FILE_BYTES..2 * FILE_BYTES).and_then(FileId::from_bytes);
            let parent = parent.ok_or(SourceError::Damaged("a link without a folder"))?;
            places.push((parent, read_name(key.get(2 * FILE_BYTES..).unwrap_or_default())?));
        }
        Ok(places)
    }

    fn record(&self, file: FileId) -> Result<Option<FileRecord>, SourceError> {
        match self.files.get(file.to_bytes().as_slice())? {
            Some(value) => Ok(Some(decode_grown(value.value(), "a file record")?)),
            None => Ok(None),
        }
    }

    fn by_number(&self, number: u64) -> Result<Option<FileId>, SourceError> {
        match self.inodes.get(number)? {
            Some(value) => FileId::from_bytes(value.value())
                .map(Some)
                .ok_or(SourceError::Damaged("an inode without a file")),
            None => Ok(None),
        }
    }
}

impl<B, U, N> Map<B, U, N>
where
    B: ReadableTable<Bytes, Bytes>,
    U: ReadableTable<Bytes, ()>,
    N: ReadableTable<u64, Bytes>,
{
    /// Returns how much content all files have, in bytes.
    pub(crate) fn content_bytes(&self) -> Result<u64, SourceError> {
        let mut bytes: u64 = 0;
        for row in self.files.iter()? {
            let record: FileRecord = decode_grown(row?.1.value(), "a file record")?;
            bytes = bytes.saturating_add(record.meta.size);
        }
        Ok(bytes)
    }

    /// Returns how many files are known.
    pub(crate) fn file_count(&self) -> Result<u64, SourceError>
    where
        B: ReadableTableMetadata,
    {
        Ok(self.files.len()?)
    }

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
            names: tx.open_table(NAMES)?,
            links: tx.open_table(LINKS)?,
            files: tx.open_table(FILES)?,
            inodes: tx.open_table(INODES)?,
            blocks: tx.open_table(BLOCKS)?,
            journal: tx.open_table(JOURNAL)?,
            wrote: false,
        })
    }

    /// Makes a name stand for a file, or for nothing.
    pub(crate) fn set_name(
        &mut self,
        parent: FileId,
        name: &Name,
        target: Option<(FileId, Kind)>,
    ) -> Result<(), SourceError> {
        self.wrote = true;
        let key = name_key(parent, name);
        let former = match target {
            Some((file, kind)) => {
                let mut value = file.to_bytes().to_vec();
                value.push(kind_byte(kind));
                self.links.insert(link_key(file, parent, name).as_slice(), ())?;
                self.names.insert(key.as_slice(), value.as_slice())?
            }
            None => self.names.remove(key.as_slice())?,
        };
        let former = former.map(|value| read_target(value.value())).transpose()?;
        match former {
            Some((file, _)) if target.is_none_or(|(now, _)| now != file) => {
                self.links.remove(link_key(file, parent, name).as_slice())?;
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
        let value = encode(record);
        let key = file.to_bytes();
        let former = self.files.insert(key.as_slice(), value.as_slice())?;
        let former: Option<FileRecord> =
            former.map(|row| decode_grown(row.value(), "a file record")).transpose()?;
        let number = record.inode.number;
        if former.is_none_or(|former| former.inode.number != number) {
            self.inodes.insert(number, key.as_slice())?;
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
            self.inodes.remove(record.inode.number)?;
        }
        record.inode = inode;
        self.set_record(file, &record)?;
        self.inodes.insert(inode.number, file.to_bytes().as_slice())?;
        Ok(())
    }

    /// Forgets a file and its block hashes; its names are gone already.
    pub(crate) fn remove_file(&mut self, file: FileId) -> Result<(), SourceError> {
        self.wrote = true;
        let record = self.record(file)?;
        self.files.remove(file.to_bytes().as_slice())?;
        if let Some(record) = record {
            let number = record.inode.number;
            if self.by_number(number)? == Some(file) {
                self.inodes.remove(number)?;
            }
            if record.blocks {
                self.clear_blocks(file, 0)?;
            }
        }
        Ok(())
    }

    /// Forgets everything but restores and destinations.
    pub(crate) fn clear(&mut self) -> Result<(), SourceError> {
        self.names.retain(|_, _| false)?;
        self.links.retain(|_, ()| false)?;
        self.files.retain(|_, _| false)?;
        self.inodes.retain(|_, _| false)?;
        self.blocks.retain(|_, _| false)?;
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
        Ok(self.blocks.get(region_key(file, region).as_slice())?.map(|row| row.value().to_vec()))
    }

    fn region_from(&self, file: FileId, from: u32) -> Result<Option<u32>, SourceError> {
        let (first, last) = (region_key(file, from), beyond(file));
        match self.blocks.range(first.as_slice()..last.as_slice())?.next() {
            Some(row) => {
                let number = row?.0.value().get(FILE_BYTES..).and_then(|b| b.try_into().ok());
                let number = number.ok_or(SourceError::Damaged("a region without a number"))?;
                Ok(Some(u32::from_be_bytes(number)))
            }
            None => Ok(None),
        }
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
            Some(hashes) => self.blocks.insert(key.as_slice(), hashes)?,
            None => self.blocks.remove(key.as_slice())?,
        };
        Ok(())
    }

    fn clear_blocks(&mut self, file: FileId, from: u32) -> Result<(), SourceError> {
        let (first, last) = (region_key(file, from), beyond(file));
        self.blocks.retain_in(first.as_slice()..last.as_slice(), |_, _| false)?;
        Ok(())
    }
}

fn first_name() -> Name {
    Name::new(b"x").expect("a letter is a name")
}

#[cfg(test)]
mod tests {
    use keepshare_base::{FileTime, Meta};
    use keepshare_decide::Signature;

    use super::*;

    /// Journals of format 1 are opened for ever, and what they still hold is sent.
    #[test]
    fn rows_of_format_1_are_read() {
        let meta = Meta {
            kind: Kind::File,
            size: 3,
            mode: 0o640,
            owner: keepshare_base::Owner::default(),
            group: keepshare_base::Owner::default(),
            mtime: FileTime { secs: 1, nanos: 2 },
            symlink: vec![],
            rdev: 0,
            xattrs: vec![],
        };
        let record = FileRecord {
            uncut: Some(Stamp(7)),
            ..FileRecord::new(Inode::default(), Signature::default(), meta)
        };
        // A field that is not there is one byte that is not there.
        let bytes = encode(&record);
        assert_eq!(decode_grown(&bytes[..bytes.len() - 1], "a file record").ok(), Some(record));
        let change = Change { stamp: Stamp(5), user: Some("anna".into()), ..Change::default() };
        let bytes = encode(&change);
        assert_eq!(decode_grown(&bytes[..bytes.len() - 1], "a change").ok(), Some(change));
        let database = redb::Database::builder()
            .create_with_backend(redb::backends::InMemoryBackend::new())
            .unwrap();
        let tx = database.begin_write().unwrap();
        let mut map = MapTx::open(&tx).unwrap();
        let row = [&[0; 32][..], &bytes[..bytes.len() - 1]].concat();
        map.journal.insert(1, row.as_slice()).unwrap();
        let sizes = map.sizes(Seq(1), 9).unwrap();
        assert_eq!((sizes[0].stamp, sizes[0].bytes), (Stamp(5), row.len() as u64));
        let state = State { epoch: 3, head: 9, ..State::default() };
        let bytes = encode(&state);
        assert_eq!(decode_grown(&bytes[..bytes.len() - 1], "the state").ok(), Some(state));
        assert!(decode_grown::<State>(&bytes[..4], "the state").is_err());
    }
}
