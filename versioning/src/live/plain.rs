//! Reading a plain file of a folder that shows the newest states, for who has lost the same content elsewhere.

use std::{fs::File, io, ops::Range, os::unix::fs::FileExt, path::Path};

use keepshare_base::SetPath;

use super::beneath::{Folder, Part};

/// Reads a range of a file.
pub(crate) fn read_plain(folder: &Path, path: &SetPath, range: Range<u64>) -> io::Result<Vec<u8>> {
    let file = open(folder, path)?;
    let len = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, range.start)?;
    Ok(bytes)
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
