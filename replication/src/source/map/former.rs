//! Journals of formats 1 and 2: their rows are read once, written as the present ones, and removed.

use keepshare_base::{FileId, Kind};
use keepshare_decide::FileRecord;
use redb::{ReadableTable, TableDefinition, WriteTransaction};

use super::{
    Bytes, MapTx,
    rows::{decode_grown, number_key, read_kind, record, target},
};
use crate::source::SourceError;

const NAMES: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("names");
const LINKS: TableDefinition<'_, Bytes, ()> = TableDefinition::new("links");
const FILES: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("files");
const INODES: TableDefinition<'_, u64, Bytes> = TableDefinition::new("inodes");
const BLOCKS: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("blocks");

const FILE_BYTES: usize = 20;

/// So many rows are gathered before they are written.
const ROWS_MAX: usize = 16 * 1024;

/// Takes all rows over, in the transaction in which the state says so.
pub(super) fn convert(tx: &WriteTransaction, map: &mut MapTx<'_>) -> Result<(), SourceError> {
    {
        let names = tx.open_table(NAMES)?;
        for (count, row) in names.iter()?.enumerate() {
            let (key, value) = row?;
            let (parent, name) = split(key.value())?;
            let (file, kind) = read_target(value.value())?;
            map.names.put(&[&parent.to_short()[..], name].concat(), &target(file, kind));
            write_some(map, count)?;
        }
        let links = tx.open_table(LINKS)?;
        for (count, row) in links.iter()?.enumerate() {
            let key = row?.0;
            let (file, place) = split(key.value())?;
            let (parent, name) = split(place)?;
            map.links.put(&[&file.to_short()[..], &parent.to_short(), name].concat(), &[]);
            write_some(map, count)?;
        }
        let files = tx.open_table(FILES)?;
        for (count, row) in files.iter()?.enumerate() {
            let (key, value) = row?;
            let known: FileRecord = decode_grown(value.value(), "a file record")?;
            map.files.put(&split(key.value())?.0.to_short(), &record(&known));
            write_some(map, count)?;
        }
        let inodes = tx.open_table(INODES)?;
        for (count, row) in inodes.iter()?.enumerate() {
            let (number, file) = row?;
            map.inodes.put(&number_key(number.value()), &split(file.value())?.0.to_short());
            write_some(map, count)?;
        }
        let blocks = tx.open_table(BLOCKS)?;
        for (count, row) in blocks.iter()?.enumerate() {
            let (key, value) = row?;
            let (file, region) = split(key.value())?;
            map.blocks.put(&[&file.to_short()[..], region].concat(), value.value());
            write_some(map, count)?;
        }
    }
    map.write()?;
    tx.delete_table(NAMES)?;
    tx.delete_table(LINKS)?;
    tx.delete_table(FILES)?;
    tx.delete_table(INODES)?;
    tx.delete_table(BLOCKS)?;
    Ok(())
}

fn write_some(map: &mut MapTx<'_>, count: usize) -> Result<(), SourceError> {
    if count.is_multiple_of(ROWS_MAX) { map.write() } else { Ok(()) }
}

fn split(bytes: &[u8]) -> Result<(FileId, &[u8]), SourceError> {
    let split = bytes.split_at_checked(FILE_BYTES);
    let file = split.and_then(|(file, rest)| Some((FileId::from_bytes(file)?, rest)));
    file.ok_or(SourceError::Damaged("a file's id"))
}

fn read_target(value: &[u8]) -> Result<(FileId, Kind), SourceError> {
    match split(value)? {
        (file, [kind]) => Ok((file, read_kind(*kind)?)),
        _ => Err(SourceError::Damaged("a target's kind")),
    }
}
