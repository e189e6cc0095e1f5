//! A file for redb whose every block is checked when it is read.
//!
//! redb trusts its file: it answers from a page with flipped bits as from a good one. [`CheckedFile`] keeps a number and
//! a checksum with every block, so that damage becomes an error. The layout is in docs/formats/index-blocks.md.

use std::{
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use redb::{Builder, Database, WriteTransaction};

use crate::disk::{Disk, DiskFile};

mod block;
mod convert;
mod file;
mod scan;
#[cfg(test)]
mod tests;

pub use convert::{PLAIN, forget_plain};
pub use file::CheckedFile;
pub use scan::{Scanned, scan};

/// Why a checked database cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckedError {
    /// What is there is not what was written; what can be built anew should be.
    #[error("the database file is damaged: {0}")]
    Damaged(String),
    /// Written by a newer Keepshare.
    #[error("the database file has format {found}; this version of Keepshare knows {known}")]
    NewerFormat {
        /// What the file says.
        found: u32,
        /// What we know.
        known: u32,
    },
    /// The disk failed.
    #[error("cannot read or write the database file")]
    Io(#[from] io::Error),
    /// redb failed for another reason.
    #[error("the database failed")]
    Database(#[source] redb::Error),
}

/// Tells what was met since a file was opened; shared by a [`CheckedFile`] and whoever uses the database on it.
#[derive(Clone, Debug, Default)]
pub struct Damage(Arc<Met>);

#[derive(Debug, Default)]
struct Met {
    damage: AtomicBool,
    /// The file was opened anew: nothing may go through this one any more. Whoever writes holds it meanwhile.
    retired: RwLock<bool>,
    /// The first error of the disk, as its number where it has one.
    disk: Mutex<Option<(Option<i32>, io::ErrorKind)>>,
}

impl Damage {
    /// Returns whether damage was met since the file was opened. Nothing more can be had from it then.
    pub fn met(&self) -> bool {
        self.0.damage.load(Ordering::Acquire)
    }

    /// Returns whether damage was met or the disk failed: redb gives nothing more until the file is opened anew.
    pub fn failed(&self) -> bool {
        self.met() || self.disk().is_some()
    }

    /// Returns the first error of the disk.
    pub fn disk_error(&self) -> Option<io::Error> {
        self.disk().map(|(number, kind)| match number {
            Some(number) => io::Error::from_raw_os_error(number),
            None => kind.into(),
        })
    }

    fn set(&self) {
        self.0.damage.store(true, Ordering::Release);
    }

    fn note(&self, error: &io::Error) {
        if !self.met() {
            self.disk().get_or_insert((error.raw_os_error(), error.kind()));
        }
    }

    /// Lets nothing more through, and waits for what is being written.
    fn retire(&self) {
        *self.0.retired.write().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// Returns the right to write to the file; until it is dropped, nobody opens the file anew.
    fn in_use(&self) -> io::Result<RwLockReadGuard<'_, bool>> {
        let retired = self.0.retired.read().unwrap_or_else(PoisonError::into_inner);
        if *retired {
            return Err(io::Error::other("the database was opened anew"));
        }
        Ok(retired)
    }

    fn disk(&self) -> MutexGuard<'_, Option<(Option<i32>, io::ErrorKind)>> {
        self.0.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A database on a [`CheckedFile`].
pub struct CheckedDb {
    /// There until the drop.
    database: Option<Database>,
    damage: Damage,
}

impl CheckedDb {
    /// Returns the database.
    ///
    /// A commit of one phase costs one sync, and after a crash all pages are compared with redb's checksums; one of two
    /// phases with quick repair ([`Self::begin_write`]) costs two, and none of that.
    pub fn database(&self) -> &Database {
        self.database.as_ref().expect("it is there until the drop")
    }

    /// Begins a write that survives a crash, if it is durable at all: with two phases and quick repair.
    pub fn begin_write(&self) -> Result<WriteTransaction, redb::TransactionError> {
        let mut write = self.database().begin_write()?;
        write.set_quick_repair(true);
        Ok(write)
    }

    /// Returns what tells whether damage was met.
    pub fn damage(&self) -> &Damage {
        &self.damage
    }

    /// Lets nothing more through to the file, so that it can be opened anew while somebody still uses this one. What is
    /// being written is waited for.
    pub fn retire(&self) {
        self.damage.retire();
    }

    /// Returns `error` as what it means here: damage, the disk, or redb itself.
    pub fn explain(&self, error: impl Into<redb::Error>) -> CheckedError {
        explain(&self.damage, error.into())
    }

    /// Runs `work` and turns a panic, which redb answers some failures with, into an error.
    ///
    /// The database counts as damaged afterwards: open it again, or build it anew.
    pub fn contain<T>(&self, work: impl FnOnce(&Database) -> T) -> Result<T, CheckedError> {
        contain(&self.damage, || work(self.database()))
    }
}

impl Drop for CheckedDb {
    fn drop(&mut self) {
        let database = self.database.take();
        // What could not be written is missing on the next open, which notices.
        let _ = contain(&self.damage, || drop(database));
    }
}

impl fmt::Debug for CheckedDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckedDb").field("damage", &self.damage).finish_non_exhaustive()
    }
}

/// Opens the database in a checked file, and creates it where there is none; one in a plain file of redb's becomes a
/// checked one first.
///
/// Never panics, whatever is in the file.
pub fn open_checked(
    disk: &Arc<dyn Disk>,
    name: &str,
    cache_bytes: usize,
) -> Result<CheckedDb, CheckedError> {
    let Some(file) = convert::former(disk, name, cache_bytes)? else {
        return create(disk, name, cache_bytes);
    };
    let file = if is_there(&**disk, &suspect(name))? { copy(&**disk, name, &*file)? } else { file };
    open_file(CheckedFile::open(file)?.watched(disk.clone(), suspect(name)), cache_bytes)
}

/// Makes the database under a temporary name, so that a file with its name always has a durable header.
fn create(disk: &Arc<dyn Disk>, name: &str, cache_bytes: usize) -> Result<CheckedDb, CheckedError> {
    remove_if_there(&**disk, &suspect(name))?;
    let file = CheckedFile::create(new_file(&**disk, name)?)?.watched(disk.clone(), suspect(name));
    let database = open_file(file, cache_bytes)?;
    publish(&**disk, name)?;
    Ok(database)
}

/// Copies a file of which a sync failed, as this machine still shows it, into one that is durable.
///
/// The kernel can hold its pages for clean that are not on the disk, so no sync of the file itself can be believed any
/// more. After a loss of power they are gone, and what is copied is what an ordinary crash leaves.
fn copy(disk: &dyn Disk, name: &str, file: &dyn DiskFile) -> io::Result<Arc<dyn DiskFile>> {
    tracing::warn!("copying a database after a failed sync");
    let new = new_file(disk, name)?;
    let (len, mut piece) = (file.len()?, vec![]);
    for offset in (0..len).step_by(COPY_BYTES) {
        let bytes = usize::try_from(len - offset).map_or(COPY_BYTES, |left| left.min(COPY_BYTES));
        piece.resize(bytes, 0);
        file.read_exact_at(&mut piece, offset)?;
        new.write_all_at(&piece, offset)?;
    }
    new.sync_data()?;
    publish(disk, name)?;
    disk.remove(&suspect(name))?;
    Ok(new)
}

fn new_file(disk: &dyn Disk, name: &str) -> io::Result<Arc<dyn DiskFile>> {
    remove_if_there(disk, &temporary(name))?;
    disk.open(&temporary(name), true)
}

fn publish(disk: &dyn Disk, name: &str) -> io::Result<()> {
    disk.rename(&temporary(name), name)?;
    sync_folder(disk, name)
}

fn sync_folder(disk: &dyn Disk, name: &str) -> io::Result<()> {
    disk.sync_dir(name.rsplit_once('/').map_or("", |(dir, _)| dir))
}

fn remove_if_there(disk: &dyn Disk, name: &str) -> io::Result<()> {
    match disk.remove(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn is_there(disk: &dyn Disk, name: &str) -> io::Result<bool> {
    match disk.open(name, false) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn temporary(name: &str) -> String {
    format!("{name}.new")
}

/// Returns the name of the empty file that says that a sync of `name` failed.
fn suspect(name: &str) -> String {
    format!("{name}.suspect")
}

fn open_file(file: CheckedFile, cache_bytes: usize) -> Result<CheckedDb, CheckedError> {
    let damage = file.damage().clone();
    let mut builder = Builder::new();
    builder.set_cache_size(cache_bytes);
    // Begun with 0.0; from 0.6 on every page was compared, and is asked for again as something to be used.
    let repairing = Arc::clone(file.repairing());
    builder.set_repair_callback(move |session| {
        repairing.store(session.progress() < COMPARED, Ordering::Release);
    });
    let database = contain(&damage, || builder.create_with_backend(file))?;
    let database = database.map_err(|error| explain(&damage, error.into()))?;
    Ok(CheckedDb { database: Some(database), damage })
}

/// redb asserts what it reads from its own pages, and unwraps locks that such a panic poisoned, so one place contains
/// it. Nothing is used afterwards but the flag, which is why unwinding is safe.
fn contain<T>(damage: &Damage, work: impl FnOnce() -> T) -> Result<T, CheckedError> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        damage.set();
        let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        let text = text.unwrap_or_else(|| "it gave up".to_owned());
        tracing::error!(panic = text, "a database cannot go on");
        CheckedError::Damaged(text)
    })
}

fn explain(damage: &Damage, error: redb::Error) -> CheckedError {
    let not_readable = |error: &io::Error| {
        matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
    };
    match error {
        error if damage.met() => CheckedError::Damaged(error.to_string()),
        redb::Error::Corrupted(text) => CheckedError::Damaged(text),
        redb::Error::Io(error) if not_readable(&error) => CheckedError::Damaged(error.to_string()),
        redb::Error::Io(error) => CheckedError::Io(error),
        error => CheckedError::Database(error),
    }
}

/// How far a repair of redb's is when it has compared all pages.
const COMPARED: f64 = 0.5;

/// How much is copied at once, in bytes.
const COPY_BYTES: usize = 1024 * 1024;
