//! The one seam between a set's data and the disk.
//!
//! Everything that must survive a crash goes through [`Disk`], so that the same code runs on a real folder and on a
//! disk in memory that forgets, tears, fills up and fails on command. Live files are not stored through here.

use std::{fmt, io, sync::Arc};

mod real;
#[cfg(feature = "sim")]
pub mod sim;

pub use real::RealDisk;

/// How many bytes [`Disk::hold_reserve`] keeps back for removal and recovery on a full disk.
pub const RESERVE_BYTES: u64 = 8 * 1024 * 1024;

/// The folder of one set: files under flat names, where at most one `/` splits off a folder (`log/0000000001`).
pub trait Disk: Send + Sync + fmt::Debug {
    /// Opens a file; creates it, and the folder before its `/`, where `create` says so and it is absent.
    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn DiskFile>>;

    /// Returns the names of the files in a folder, sorted; none where the folder is absent. `""` is the top.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;

    /// Gives a file another name, replacing what has that name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes the creations, renames and removals in a folder durable.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;

    /// Returns how many more bytes can be written.
    fn free_bytes(&self) -> io::Result<u64>;

    /// Keeps [`RESERVE_BYTES`] of space back; does nothing where they are held already.
    fn hold_reserve(&self) -> io::Result<()>;

    /// Gives the space of the reserve free and returns whether there was one.
    fn release_reserve(&self) -> io::Result<bool>;
}

/// An open file of a [`Disk`]; usable from several threads.
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// Fills `buf` from `offset`; `UnexpectedEof` where the file ends before.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `buf` at `offset`; after an error any part of it may be written.
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// Returns the file's length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Returns whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts the file, or extends it with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes the content durable. After an error, what was written since the last success may be lost for good.
    fn sync_data(&self) -> io::Result<()>;
}

/// Whether an error says that space has run out, which passes when something is removed.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether a read failed because of what is on the disk: it ends too early, or the disk cannot read it.
pub fn is_unreadable(error: &io::Error) -> bool {
    let media = rustix::io::Errno::IO.raw_os_error();
    error.kind() == io::ErrorKind::UnexpectedEof || error.raw_os_error() == Some(media)
}

/// Returns a number that no other file has, so that its pieces are never taken for another file's.
pub fn random_id() -> io::Result<u64> {
    getrandom::u64().map_err(|error| io::Error::other(error.to_string()))
}

/// Splits a name at its one `/`, if it has one, and refuses names that are none.
fn split_name(name: &str) -> io::Result<(&str, &str)> {
    let (dir, file) = name.split_once('/').unwrap_or(("", name));
    let usable = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['/', '\0']);
    if usable(file) && dir.is_empty() != name.contains('/') && (dir.is_empty() || usable(dir)) {
        Ok((dir, file))
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, format!("not a file name: {name:?}")))
    }
}
