//! Makes a checked file of a plain one of redb's, once.
//!
//! The plain file is repaired by redb and compared whole, as nobody does who only reads it; then its pages are written
//! beside it and synced, and the names change. It stays under a name of its own until [`forget_plain`].

use std::{fmt, io, sync::Arc};

use redb::{Builder, StorageBackend};

use crate::disk::{Disk, DiskFile};

use super::{
    CheckedError, CheckedFile, Damage, block::BLOCK_BYTES, contain, explain, is_there, new_file,
    remove_if_there, sync_folder, temporary,
};

/// What follows the name of a file that was converted.
pub const PLAIN: &str = ".plain";

/// Opens the file with this name, which is a checked one when this returns; `None` where there is none.
pub(super) fn former(
    disk: &Arc<dyn Disk>,
    name: &str,
    cache_bytes: usize,
) -> Result<Option<Arc<dyn DiskFile>>, CheckedError> {
    let plain = format!("{name}{PLAIN}");
    let file = match disk.open(name, false) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if !is_there(&**disk, &plain)? {
                return Ok(None);
            }
            // A conversion ended between its two renames: it is done again.
            disk.rename(&plain, name)?;
            sync_folder(&**disk, name)?;
            disk.open(name, false)?
        }
        Err(error) => return Err(error.into()),
    };
    if !is_plain(&*file)? {
        return Ok(Some(file));
    }
    tracing::info!(name, "a database becomes one whose blocks are checked");
    compare(Arc::clone(&file), cache_bytes)?;
    write_checked(&**disk, name, &*file)?;
    drop(file);
    disk.rename(name, &plain)?;
    sync_folder(&**disk, name)?;
    disk.rename(&temporary(name), name)?;
    sync_folder(&**disk, name)?;
    Ok(Some(disk.open(name, false)?))
}

/// Removes what a conversion left: the checked file was opened, used and closed in order since.
pub fn forget_plain(disk: &dyn Disk, name: &str) -> io::Result<()> {
    if is_there(disk, name)? {
        remove_if_there(disk, &format!("{name}{PLAIN}"))?;
    }
    Ok(())
}

fn is_plain(file: &dyn DiskFile) -> io::Result<bool> {
    let mut magic = [0; MAGIC.len()];
    match file.read_exact_at(&mut magic, 0) {
        Ok(()) => Ok(magic == *MAGIC),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Has redb repair what a crash left, and compare every page with its checksum.
fn compare(file: Arc<dyn DiskFile>, cache_bytes: usize) -> Result<(), CheckedError> {
    let damage = Damage::default();
    let compared = contain(&damage, || -> Result<(), redb::Error> {
        let mut builder = Builder::new();
        builder.set_cache_size(cache_bytes);
        let mut database = builder.create_with_backend(PlainFile(file))?;
        if !database.check_integrity()? {
            tracing::warn!("a database was damaged and was repaired");
            if !database.check_integrity()? {
                return Err(redb::Error::Corrupted("it cannot be repaired".to_owned()));
            }
        }
        Ok(())
    })?;
    compared.map_err(|error| explain(&damage, error))
}

/// Writes the pages of a plain file into a checked one under the temporary name, durable when this returns.
fn write_checked(disk: &dyn Disk, name: &str, file: &dyn DiskFile) -> io::Result<()> {
    let checked = CheckedFile::create(new_file(disk, name)?)?;
    let blocks = file.len()?.div_ceil(BLOCK_BYTES as u64);
    checked.set_len(blocks * BLOCK_BYTES as u64)?;
    let mut page = [0; BLOCK_BYTES];
    for block in 0..blocks {
        let offset = block * BLOCK_BYTES as u64;
        file.read_exact_at(&mut page, offset)?;
        checked.write(offset, &page)?;
    }
    checked.sync_data()?;
    checked.close()
}

/// A file as redb writes it by itself.
struct PlainFile(Arc<dyn DiskFile>);

impl StorageBackend for PlainFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }
}

impl fmt::Debug for PlainFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PlainFile").field(&self.0).finish()
    }
}

/// With what a file of redb's begins.
const MAGIC: &[u8; 9] = b"redb\x1A\x0A\xA9\x0D\x0A";
