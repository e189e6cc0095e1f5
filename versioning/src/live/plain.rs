//! Reading a plain file of a folder that shows the newest states, for who has lost the same content elsewhere.

use std::{fs::File, io, ops::Range, os::unix::fs::FileExt, path::Path};

use keepshare_base::{ContentHash, SetPath};

use super::beneath::{Folder, Part};

/// How much is read at once, in bytes.
const PIECE_BYTES: usize = 512 * 1024;

/// Reads a range of a file.
pub(crate) fn read_plain(folder: &Path, path: &SetPath, range: Range<u64>) -> io::Result<Vec<u8>> {
    let file = open(folder, path)?;
    let len = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, range.start)?;
    Ok(bytes)
}

/// Reads a file of exactly this size whole; returns the hash of what was read, and a range of that.
pub(crate) fn hash_plain(
    folder: &Path,
    path: &SetPath,
    size: u64,
    range: Range<u64>,
) -> io::Result<(ContentHash, Vec<u8>)> {
    let file = open(folder, path)?;
    if file.metadata()?.len() != size {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let (mut hasher, mut kept) = (blake3::Hasher::new(), Vec::new());
    let mut piece = vec![0; PIECE_BYTES];
    let mut at = 0;
    while at < size {
        let len = usize::try_from(size - at).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        let bytes = &mut piece[..len];
        file.read_exact_at(bytes, at)?;
        hasher.update(bytes);
        let inside =
            |byte: u64| usize::try_from(byte.saturating_sub(at)).map_or(len, |n| n.min(len));
        kept.extend_from_slice(&bytes[inside(range.start)..inside(range.end)]);
        at += len as u64;
    }
    Ok((ContentHash(*hasher.finalize().as_bytes()), kept))
}

fn open(folder: &Path, path: &SetPath) -> io::Result<File> {
    let nothing = || io::Error::from(io::ErrorKind::NotFound);
    let (name, above) = path.names().split_last().ok_or_else(nothing)?;
    let mut folder = Folder::open_there(folder)?;
    for name in above {
        folder = folder.folder(Part::from(name))?;
    }
    folder.file(Part::from(name), false)
}
