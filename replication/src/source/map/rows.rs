//! The bytes of rows and keys: see `docs/formats/journal.md`.

use keepshare_base::{
    Change, ContentHash, FileId, FileTime, Kind, Meta, Name, Owner, RunningHash, Seq, Stamp,
};
use keepshare_decide::{FileRecord, Inode, Signature, Told};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

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

/// Returns the key of a name, or with `None` what all names of a folder begin with.
pub(super) fn name_key(parent: FileId, name: Option<&Name>) -> Vec<u8> {
    [&parent.to_short()[..], name.map_or(&[], Name::as_bytes)].concat()
}

pub(super) fn link_key(file: FileId, parent: FileId, name: &Name) -> Vec<u8> {
    [&file.to_short()[..], &name_key(parent, Some(name))].concat()
}

pub(super) fn region_key(file: FileId, region: u32) -> Vec<u8> {
    [&file.to_short()[..], &region.to_be_bytes()].concat()
}

pub(super) fn number_key(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// Returns what is behind everything that begins with a file: longer than any name.
pub(super) fn beyond(file: FileId) -> Vec<u8> {
    let mut key = file.to_short();
    key.resize(key.len() + 280, 0xff);
    key
}

/// Reads the name of a name's key.
pub(super) fn read_name(key: &[u8]) -> Result<Name, SourceError> {
    let (_, name) = split_file(key)?;
    Name::new(name).map_err(|_| SourceError::Damaged("a name that is none"))
}

/// Reads the place in a link's key.
pub(super) fn read_link(key: &[u8]) -> Result<(FileId, Name), SourceError> {
    let (_, place) = split_file(key)?;
    Ok((split_file(place)?.0, read_name(place)?))
}

/// Reads the region in the key of its hashes.
pub(super) fn read_region(key: &[u8]) -> Result<u32, SourceError> {
    let (_, region) = split_file(key)?;
    let region = region.try_into().map_err(|_| SourceError::Damaged("a region's number"))?;
    Ok(u32::from_be_bytes(region))
}

/// Reads a file that stands alone.
pub(super) fn read_file(value: &[u8]) -> Result<FileId, SourceError> {
    match split_file(value)? {
        (file, []) => Ok(file),
        _ => Err(SourceError::Damaged("a file's id")),
    }
}

fn split_file(bytes: &[u8]) -> Result<(FileId, &[u8]), SourceError> {
    FileId::split_short(bytes).ok_or(SourceError::Damaged("a file's id"))
}

/// Returns the value of a name.
pub(super) fn target(file: FileId, kind: Kind) -> Vec<u8> {
    let mut value = file.to_short();
    value.push(kind.to_byte());
    value
}

pub(super) fn read_target(value: &[u8]) -> Result<(FileId, Kind), SourceError> {
    let (file, kind) = split_file(value)?;
    match kind {
        [kind] => Ok((file, read_kind(*kind)?)),
        _ => Err(SourceError::Damaged("a target's kind")),
    }
}

/// What is known of a file, in few bytes: times are nanoseconds as differences to `mtime`, and a group that is called like
/// the owner is left out.
///
/// A file's hash has its place before it is known: a million rows that grow by it, each in a full page, would leave all pages
/// half empty.
#[derive(Serialize, Deserialize)]
struct Record {
    inode: u64,
    flags: u8,
    size: u64,
    size_seen: i64,
    mtime: i128,
    mtime_seen: i128,
    ctime_seen: i128,
    birth: i128,
    mode: u32,
    owner: Owner,
    group: Option<Owner>,
    symlink: Vec<u8>,
    rdev: u64,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    hash: Option<[u8; 32]>,
    uncut: Option<Stamp>,
    told: Option<Told>,
}

/// The bits of `flags` below which the kind stands.
const KIND: u8 = 0b0111;
const HASHED: u8 = 1 << 3;
const BLOCKS: u8 = 1 << 4;
const FORGOTTEN: u8 = 1 << 5;

/// Encodes what is known of a file.
pub(super) fn record(record: &FileRecord) -> Vec<u8> {
    let FileRecord { inode, signature, meta, hash, blocks, forgotten, uncut, told } = record;
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    let mtime = nanos(meta.mtime);
    let since = |time: FileTime| nanos(time) - mtime;
    let none = (meta.kind == Kind::File).then_some([0; 32]);
    encode(&Record {
        inode: inode.number,
        flags: meta.kind.to_byte()
            | flag(hash.is_some(), HASHED)
            | flag(*blocks, BLOCKS)
            | flag(*forgotten, FORGOTTEN),
        size: meta.size,
        size_seen: signature.size.wrapping_sub(meta.size).cast_signed(),
        mtime,
        mtime_seen: since(signature.mtime),
        ctime_seen: since(signature.ctime),
        birth: since(inode.birth),
        mode: meta.mode,
        owner: meta.owner.clone(),
        group: (meta.group != meta.owner).then(|| meta.group.clone()),
        symlink: meta.symlink.clone(),
        rdev: meta.rdev,
        xattrs: meta.xattrs.clone(),
        hash: hash.map_or(none, |hash| Some(hash.0)),
        uncut: *uncut,
        told: told.clone(),
    })
}

/// Reads what [`record`] wrote.
pub(super) fn read_record(bytes: &[u8]) -> Result<FileRecord, SourceError> {
    const WHAT: &str = "a file record";
    let row: Record = decode(bytes, WHAT)?;
    let time = |since: i128| {
        let nanos = row.mtime.checked_add(since).ok_or(SourceError::Damaged(WHAT))?;
        file_time(nanos).ok_or(SourceError::Damaged(WHAT))
    };
    let is = |flag| row.flags & flag != 0;
    Ok(FileRecord {
        inode: Inode { number: row.inode, birth: time(row.birth)? },
        signature: Signature {
            size: row.size.wrapping_add_signed(row.size_seen),
            mtime: time(row.mtime_seen)?,
            ctime: time(row.ctime_seen)?,
        },
        meta: Meta {
            kind: read_kind(row.flags & KIND)?,
            size: row.size,
            mode: row.mode,
            group: row.group.unwrap_or_else(|| row.owner.clone()),
            owner: row.owner,
            mtime: time(0)?,
            symlink: row.symlink,
            rdev: row.rdev,
            xattrs: row.xattrs,
        },
        hash: row.hash.filter(|_| is(HASHED)).map(ContentHash),
        blocks: is(BLOCKS),
        forgotten: is(FORGOTTEN),
        uncut: row.uncut,
        told: row.told,
    })
}

fn nanos(time: FileTime) -> i128 {
    i128::from(time.secs) * SECOND + i128::from(time.nanos)
}

fn file_time(nanos: i128) -> Option<FileTime> {
    let secs = i64::try_from(nanos.div_euclid(SECOND)).ok()?;
    Some(FileTime { secs, nanos: u32::try_from(nanos.rem_euclid(SECOND)).ok()? })
}

const SECOND: i128 = 1_000_000_000;

pub(super) fn read_kind(byte: u8) -> Result<Kind, SourceError> {
    Kind::from_byte(byte).ok_or(SourceError::Damaged("a kind"))
}
