//! The bytes of rows and keys: see `docs/formats/journal.md`.

use keepshare_base::{Change, FileId, Kind, Name, RunningHash, Seq};
use serde::{Serialize, de::DeserializeOwned};

use super::{BEYOND, FILE_BYTES};
use crate::source::SourceError;

/// Encodes a row.
pub(crate) fn encode<T: Serialize>(row: &T) -> Vec<u8> {
    postcard::to_stdvec(row).expect("rows hold nothing that postcard cannot write")
}

/// Decodes a row that says of itself what it is.
pub(crate) fn decode<T: DeserializeOwned>(
    bytes: &[u8],
    what: &'static str,
) -> Result<T, SourceError> {
    postcard::from_bytes(bytes).map_err(|_| SourceError::Damaged(what))
}

/// Decodes a row that got one more field at its end since format 1: what ends before it has none there.
pub(crate) fn decode_grown<T: DeserializeOwned>(
    bytes: &[u8],
    what: &'static str,
) -> Result<T, SourceError> {
    match postcard::from_bytes(bytes) {
        Err(postcard::Error::DeserializeUnexpectedEnd) => decode(&[bytes, &[0]].concat(), what),
        read => read.map_err(|_| SourceError::Damaged(what)),
    }
}

pub(super) fn read_journal_row(
    seq: Seq,
    before: RunningHash,
    row: &[u8],
) -> Result<(RunningHash, Change), SourceError> {
    let (hash, bytes) = row.split_first_chunk::<32>().ok_or(SourceError::DamagedChange(seq))?;
    if before.extended(bytes).0 != *hash {
        return Err(SourceError::DamagedChange(seq));
    }
    Ok((RunningHash(*hash), decode_grown(bytes, "a journaled change")?))
}

pub(super) fn name_key(parent: FileId, name: &Name) -> Vec<u8> {
    [&parent.to_bytes()[..], name.as_bytes()].concat()
}

pub(super) fn link_key(file: FileId, parent: FileId, name: &Name) -> Vec<u8> {
    [&file.to_bytes()[..], &parent.to_bytes(), name.as_bytes()].concat()
}

pub(super) fn region_key(file: FileId, region: u32) -> Vec<u8> {
    [&file.to_bytes()[..], &region.to_be_bytes()].concat()
}

pub(super) fn beyond(file: FileId) -> Vec<u8> {
    [&file.to_bytes()[..], &BEYOND].concat()
}

pub(super) fn read_name(bytes: &[u8]) -> Result<Name, SourceError> {
    Name::new(bytes).map_err(|_| SourceError::Damaged("a name that is none"))
}

pub(super) fn read_target(value: &[u8]) -> Result<(FileId, Kind), SourceError> {
    let (file, kind) =
        value.split_at_checked(FILE_BYTES).ok_or(SourceError::Damaged("a target"))?;
    let file = FileId::from_bytes(file).ok_or(SourceError::Damaged("a target's file"))?;
    let kind = kind.first().and_then(|byte| KINDS.get(usize::from(*byte)));
    Ok((file, *kind.ok_or(SourceError::Damaged("a target's kind"))?))
}

const KINDS: [Kind; 7] = [
    Kind::File,
    Kind::Dir,
    Kind::Symlink,
    Kind::Fifo,
    Kind::Socket,
    Kind::BlockDevice,
    Kind::CharDevice,
];

pub(super) fn kind_byte(kind: Kind) -> u8 {
    match kind {
        Kind::File => 0,
        Kind::Dir => 1,
        Kind::Symlink => 2,
        Kind::Fifo => 3,
        Kind::Socket => 4,
        Kind::BlockDevice => 5,
        Kind::CharDevice => 6,
    }
}
