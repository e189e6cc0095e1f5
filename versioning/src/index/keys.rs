//! Keys as bytes whose order is the order of what they stand for.
//!
//! Numbers are big-endian, and those of a file as short as they can be; a commit that sorts newest first is stored as its complement. Names hold no NUL, so a NUL
//! ends them.

use keepshare_base::{CommitId, Epoch, FileId, Name, OriginId, Position, Seq, Stamp};

use crate::record::{BodyId, Grain, Piece};

use super::{IndexError, Table};

const NUMBER: usize = 8;

/// Returns the first key after all that begin with `prefix`; `None` where there is none.
pub(crate) fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

/// `commit`, `point`: oldest first.
pub(crate) fn commit(at: CommitId) -> [u8; NUMBER] {
    at.0.to_be_bytes()
}

/// Reads the commit at the end of a key that sorts newest first.
pub(crate) fn newest_of(table: Table, key: &[u8]) -> Result<CommitId, IndexError> {
    let bytes = key.last_chunk::<NUMBER>().ok_or_else(|| table.broken())?;
    Ok(CommitId(!u64::from_be_bytes(*bytes)))
}

/// Reads the commit at the end of a key that sorts oldest first.
pub(crate) fn oldest_of(table: Table, key: &[u8]) -> Result<CommitId, IndexError> {
    let bytes = key.last_chunk::<NUMBER>().ok_or_else(|| table.broken())?;
    Ok(CommitId(u64::from_be_bytes(*bytes)))
}

/// The beginning of every key of a file, and of those of a folder's names.
pub(crate) fn of_file(file: FileId) -> Vec<u8> {
    file.to_short()
}

/// `live`, what names go by in `called`, and the beginning of `dirent`.
pub(crate) fn name(parent: FileId, name: &Name) -> Vec<u8> {
    let mut key = Vec::with_capacity(FileId::SHORT_BYTES_MAX + name.as_bytes().len() + 1 + NUMBER);
    key.extend_from_slice(&of_file(parent));
    key.extend_from_slice(name.as_bytes());
    key.push(0);
    key
}

/// `dirent`.
pub(crate) fn dirent(parent: FileId, of: &Name, at: CommitId) -> Vec<u8> {
    at_newest(name(parent, of), at)
}

/// The beginning of `gone` for what went at a commit.
pub(crate) fn gone_at(parent: FileId, at: CommitId) -> Vec<u8> {
    [&of_file(parent)[..], &commit(at)].concat()
}

/// `gone`.
pub(crate) fn gone(parent: FileId, at: CommitId, name: &Name) -> Vec<u8> {
    [&gone_at(parent, at)[..], name.as_bytes()].concat()
}

/// Reads the name of a `gone` key.
pub(crate) fn read_gone(key: &[u8]) -> Result<Name, IndexError> {
    let read = || {
        let (_, rest) = FileId::split_short(key)?;
        Name::new(rest.get(NUMBER..)?).ok()
    };
    read().ok_or_else(|| Table::Gone.broken())
}

/// Reads parent and name of a `live` key.
pub(crate) fn read_name(table: Table, key: &[u8]) -> Result<(FileId, Name), IndexError> {
    let read = || {
        let (parent, rest) = FileId::split_short(key)?;
        let (0, name) = rest.split_last()? else { return None };
        Some((parent, Name::new(name).ok()?))
    };
    read().ok_or_else(|| table.broken())
}

/// Reads parent, name and commit of a `dirent` key.
pub(crate) fn read_dirent(key: &[u8]) -> Result<(FileId, Name, CommitId), IndexError> {
    let at = newest_of(Table::Dirent, key)?;
    let (parent, name) = read_name(Table::Dirent, &key[..key.len() - NUMBER])?;
    Ok((parent, name, at))
}

/// `file`; its beginning is the file's bytes.
pub(crate) fn file(file: FileId, at: CommitId) -> Vec<u8> {
    at_newest(of_file(file), at)
}

/// Reads the file at the beginning of a key.
pub(crate) fn file_of(table: Table, key: &[u8]) -> Result<FileId, IndexError> {
    FileId::split_short(key).map(|(file, _)| file).ok_or_else(|| table.broken())
}

/// The beginning of `link` for one name of a file.
pub(crate) fn link_name(file: FileId, parent: FileId, of: &Name) -> Vec<u8> {
    [&of_file(file)[..], &name(parent, of)].concat()
}

/// `link`.
pub(crate) fn link(file: FileId, parent: FileId, of: &Name, at: CommitId) -> Vec<u8> {
    at_newest(link_name(file, parent, of), at)
}

/// Reads parent, name and commit of a `link` key.
pub(crate) fn read_link(key: &[u8]) -> Result<(FileId, Name, CommitId), IndexError> {
    let at = newest_of(Table::Link, key)?;
    let (_, name) =
        FileId::split_short(&key[..key.len() - NUMBER]).ok_or_else(|| Table::Link.broken())?;
    let (parent, name) = read_name(Table::Link, name)?;
    Ok((parent, name, at))
}

/// The beginning of `base` and `page` for one block or page.
pub(crate) fn place(body: BodyId, number: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(3 * NUMBER);
    key.extend_from_slice(&body.0.to_be_bytes());
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// `base`, `page`.
pub(crate) fn piece(piece: &Piece) -> Vec<u8> {
    at_newest(place(piece.body, piece.number), piece.at)
}

/// Reads a `base` or `page` key.
pub(crate) fn read_piece(grain: Grain, key: &[u8]) -> Result<Piece, IndexError> {
    let table = table_of(grain);
    let at = newest_of(table, key)?;
    let read = || {
        let (body, rest) = key.split_first_chunk::<NUMBER>()?;
        let (number, at_bytes) = rest.split_first_chunk::<NUMBER>()?;
        if at_bytes.len() != NUMBER {
            return None;
        }
        let body = BodyId(u64::from_be_bytes(*body));
        Some(Piece { body, grain, number: u64::from_be_bytes(*number), at })
    };
    read().ok_or_else(|| table.broken())
}

/// Returns the table in which pieces of this size are.
pub(crate) fn table_of(grain: Grain) -> Table {
    match grain {
        Grain::Block => Table::Base,
        Grain::Page => Table::Page,
    }
}

/// `body`, `sweep`, and the beginning of `void`, `base` and `page`.
pub(crate) fn body(body: BodyId) -> [u8; NUMBER] {
    body.0.to_be_bytes()
}

/// `void`.
pub(crate) fn void(of: BodyId, at: CommitId) -> Vec<u8> {
    at_newest(body(of).to_vec(), at)
}

/// `voids`.
pub(crate) fn voids(of: BodyId, level: u8, number: u64) -> Vec<u8> {
    [&body(of)[..], &[level], &number.to_be_bytes()].concat()
}

/// Reads the body at the beginning of a key.
pub(crate) fn body_of(table: Table, key: &[u8]) -> Result<BodyId, IndexError> {
    let bytes = key.first_chunk::<NUMBER>().ok_or_else(|| table.broken())?;
    Ok(BodyId(u64::from_be_bytes(*bytes)))
}

/// `place`.
pub(crate) fn origin(origin: OriginId) -> [u8; 4] {
    origin.0.to_be_bytes()
}

/// Reads a `place` key.
pub(crate) fn read_origin(key: &[u8]) -> Result<OriginId, IndexError> {
    let bytes = key.try_into().map_err(|_| Table::Place.broken())?;
    Ok(OriginId(u32::from_be_bytes(bytes)))
}

/// `time`.
pub(crate) fn time(of: OriginId, moment: Stamp, at: CommitId) -> Vec<u8> {
    let mut key = origin(of).to_vec();
    // With the sign bit turned, times before 1970 sort first.
    key.extend_from_slice(&(moment.0 ^ i64::MIN).to_be_bytes());
    key.extend_from_slice(&at.0.to_be_bytes());
    key
}

/// Reads the moment of a `time` key.
pub(crate) fn read_time(key: &[u8]) -> Result<Stamp, IndexError> {
    let moment = key.get(4..4 + NUMBER).and_then(|bytes| bytes.try_into().ok());
    let moment = moment.ok_or_else(|| Table::Time.broken())?;
    Ok(Stamp(i64::from_be_bytes(moment) ^ i64::MIN))
}

/// `position`.
pub(crate) fn position(position: Position) -> Vec<u8> {
    let mut key = origin(position.origin).to_vec();
    key.extend_from_slice(&position.epoch.number().to_be_bytes());
    key.extend_from_slice(&position.seq.0.to_be_bytes());
    key
}

/// Reads a `position` key.
pub(crate) fn read_position(key: &[u8]) -> Result<Position, IndexError> {
    let read = || {
        let (origin, rest) = key.split_first_chunk::<4>()?;
        let (epoch, seq) = rest.split_first_chunk::<NUMBER>()?;
        Some(Position {
            origin: OriginId(u32::from_be_bytes(*origin)),
            epoch: Epoch::new(u64::from_be_bytes(*epoch))?,
            seq: Seq(u64::from_be_bytes(seq.try_into().ok()?)),
        })
    };
    read().ok_or_else(|| Table::Position.broken())
}

/// `version`.
pub(crate) fn version(file: FileId, at: Position) -> Vec<u8> {
    [&of_file(file)[..], &position(at)].concat()
}

/// `blob`.
pub(crate) fn frame(pack: u64, offset: u64) -> Vec<u8> {
    [pack.to_be_bytes(), offset.to_be_bytes()].concat()
}

/// `aside`.
pub(crate) fn aside(since_micros: u64, file: FileId, at: CommitId) -> Vec<u8> {
    [&since_micros.to_be_bytes()[..], &of_file(file), &commit(at)].concat()
}

/// Reads an `aside` key.
pub(crate) fn read_aside(key: &[u8]) -> Result<(u64, FileId, CommitId), IndexError> {
    let read = || {
        let (since, rest) = key.split_first_chunk::<NUMBER>()?;
        let (file, at) = FileId::split_short(rest)?;
        let at = CommitId(u64::from_be_bytes(at.try_into().ok()?));
        Some((u64::from_be_bytes(*since), file, at))
    };
    read().ok_or_else(|| Table::Aside.broken())
}

/// `touched`, for a name.
pub(crate) fn touched_name(at: CommitId, parent: FileId, of: &Name) -> Vec<u8> {
    [&commit(at)[..], b"n", &name(parent, of)].concat()
}

/// `touched`, for a file.
pub(crate) fn touched_file(at: CommitId, file: FileId) -> Vec<u8> {
    [&commit(at)[..], b"f", &of_file(file)].concat()
}

/// `touched`, of a change that answered a request to restore.
pub(crate) fn touched_by_restore(at: CommitId) -> Vec<u8> {
    [&commit(at)[..], b"r"].concat()
}

/// `ranges`.
pub(crate) fn ranges(file: FileId, at: CommitId) -> Vec<u8> {
    [&of_file(file)[..], &commit(at)].concat()
}

fn at_newest(mut key: Vec<u8>, at: CommitId) -> Vec<u8> {
    key.extend_from_slice(&(!at.0).to_be_bytes());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A listing walks names in the order of their bytes, whatever follows them in the key.
    #[test]
    fn names_sort_by_their_bytes_and_newest_first() {
        let key = |text: &[u8], at| dirent(FileId::ROOT, &Name::new(text).unwrap(), CommitId(at));
        let sorted = [key(b"a", 9), key(b"a", 1), key(b"a\x01", 5), key(b"ab", 7), key(b"b", 1)];
        assert!(sorted.is_sorted());
        let (parent, name, at) = read_dirent(&sorted[2]).unwrap();
        assert_eq!((parent, name.as_bytes(), at), (FileId::ROOT, &b"a\x01"[..], CommitId(5)));
    }

    #[test]
    fn times_before_1970_sort_first() {
        let key = |micros| time(OriginId(1), Stamp(micros), CommitId(1));
        assert!([key(i64::MIN), key(-1), key(0), key(i64::MAX)].is_sorted());
        assert_eq!(read_time(&key(-7)).unwrap(), Stamp(-7));
    }

    #[test]
    fn a_prefix_ends_where_the_next_begins() {
        assert_eq!(after_prefix(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(after_prefix(b"a\xff"), Some(b"b".to_vec()));
        assert_eq!(after_prefix(b"\xff\xff"), None);
    }

    /// Keys come from a file: none may bring the reader down.
    #[test]
    fn keys_that_do_not_read_are_errors() {
        for key in [&b""[..], b"short", &[0; 20], &[0xff; 29]] {
            assert!(read_dirent(key).is_err());
            assert!(read_link(key).is_err());
            assert!(read_aside(key).is_err());
            assert!(read_piece(Grain::Page, key).is_err());
        }
    }
}
