//! A database that several hold, and that is opened anew after a failure.
//!
//! redb answers nothing more after an error of the disk, also when the disk is well again, and nothing after damage.
//! [`SharedDb`] takes another look: it lets go of the file, opens it again and so has it checked. Whoever reads from the
//! former one gets errors, never what was written since.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use redb::{
    Database, ReadTransaction, ReadableDatabase, StorageError, TransactionError, WriteTransaction,
};

use crate::{
    checked::{CheckedDb, CheckedError, Damage, open_checked},
    disk::Disk,
};

/// How a shared database is kept.
#[derive(Clone, Copy, Debug)]
pub struct DbOptions {
    /// How much memory it may use to keep pages, in bytes.
    pub cache_bytes: usize,
    /// Commits are of two phases with quick repair: two syncs each, and damage is told from what a crash left. Else one
    /// sync each; where the newest commit is damaged after a crash, the one before it is gone back to.
    pub two_phases: bool,
    /// It is opened anew by the first transaction after a failure. Else somebody says when, because what was committed
    /// without a sync is gone then.
    pub heals: bool,
}

/// A database that several hold. Clones are the same.
#[derive(Clone)]
pub struct SharedDb(Arc<Inner>);

struct Inner {
    file: Option<File>,
    current: RwLock<Arc<Opened>>,
}

struct File {
    disk: Arc<dyn Disk>,
    name: String,
    options: DbOptions,
}

enum Opened {
    Checked(CheckedDb),
    /// One that somebody else opened: tests.
    Plain(Arc<Database>),
}

impl SharedDb {
    /// Opens a database in a checked file, and creates it where there is none.
    pub fn open(disk: Arc<dyn Disk>, name: &str, options: DbOptions) -> Result<Self, CheckedError> {
        let opened = open_checked(&disk, name, options.cache_bytes)?;
        let file = Some(File { disk, name: name.to_owned(), options });
        Ok(Self(Arc::new(Inner { file, current: RwLock::new(Arc::new(Opened::Checked(opened))) })))
    }

    /// Begins to read.
    pub fn begin_read(&self) -> Result<ReadTransaction, TransactionError> {
        self.in_use()?.database().begin_read()
    }

    /// Begins to write.
    pub fn begin_write(&self) -> Result<WriteTransaction, TransactionError> {
        let mut write = self.in_use()?.database().begin_write()?;
        let two_phases = self.0.file.as_ref().is_some_and(|file| file.options.two_phases);
        write.set_quick_repair(two_phases);
        Ok(write)
    }

    /// Tells whether it gives nothing more before it is opened anew.
    pub fn failed(&self) -> bool {
        self.current().damage().is_some_and(Damage::failed)
    }

    /// Returns what was met since it was opened last; `None` for one that is not checked.
    pub fn damage(&self) -> Option<Damage> {
        self.current().damage().cloned()
    }

    /// Returns how many more bytes its disk takes; `None` where that is not known.
    pub fn free_bytes(&self) -> Option<u64> {
        self.0.file.as_ref().and_then(|file| file.disk.free_bytes().ok())
    }

    /// Opens the file anew and so has it checked. Transactions of before fail.
    pub fn reopen(&self) -> Result<(), CheckedError> {
        let Some(file) = &self.0.file else { return Ok(()) };
        let mut current = self.0.current.write().unwrap_or_else(PoisonError::into_inner);
        file.reopen(&mut current)
    }

    /// Opens the file anew if it failed. Of several that meet the failure together one does: what is good again is good for
    /// all of them, and somebody may have committed to it already.
    fn heal(&self, file: &File) -> Result<(), CheckedError> {
        let mut current = self.0.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.damage().is_some_and(Damage::failed) {
            file.reopen(&mut current)
        } else {
            Ok(())
        }
    }

    /// Runs `work`, and turns a panic, which redb answers some failures with, into an error where it failed.
    pub fn contain<T>(&self, work: impl FnOnce() -> T) -> Result<T, CheckedError> {
        catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
            if !self.failed() {
                resume_unwind(panic);
            }
            CheckedError::Damaged("the database gave up".to_owned())
        })
    }

    fn in_use(&self) -> Result<Arc<Opened>, TransactionError> {
        if let Some(file) = self.0.file.as_ref().filter(|file| file.options.heals)
            && self.failed()
        {
            self.heal(file).map_err(|error| TransactionError::Storage(as_storage(error)))?;
        }
        Ok(Arc::clone(&self.current()))
    }

    fn current(&self) -> RwLockReadGuard<'_, Arc<Opened>> {
        self.0.current.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl File {
    /// Lets go of the former database, whatever still uses it, and opens the file anew.
    fn reopen(&self, current: &mut Arc<Opened>) -> Result<(), CheckedError> {
        if let Opened::Checked(former) = &**current {
            former.retire();
        }
        let opened = open_checked(&self.disk, &self.name, self.options.cache_bytes)?;
        tracing::warn!(name = self.name, "a database was opened anew after a failure");
        *current = Arc::new(Opened::Checked(opened));
        Ok(())
    }
}

impl Opened {
    /// Returns what was met since it was opened; `None` for one that is not checked.
    fn damage(&self) -> Option<&Damage> {
        match self {
            Self::Checked(database) => Some(database.damage()),
            Self::Plain(_) => None,
        }
    }

    fn database(&self) -> &Database {
        match self {
            Self::Checked(database) => database.database(),
            Self::Plain(database) => database,
        }
    }
}

impl From<Database> for SharedDb {
    /// Takes a database that somebody opened; it is neither checked nor ever opened anew.
    fn from(database: Database) -> Self {
        Arc::new(database).into()
    }
}

impl From<Arc<Database>> for SharedDb {
    /// Takes a database that somebody opened; it is neither checked nor ever opened anew.
    fn from(database: Arc<Database>) -> Self {
        let current = RwLock::new(Arc::new(Opened::Plain(database)));
        Self(Arc::new(Inner { file: None, current }))
    }
}

impl fmt::Debug for SharedDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.file.as_ref().map(|file| file.name.as_str());
        f.debug_struct("SharedDb").field("name", &name).finish_non_exhaustive()
    }
}

fn as_storage(error: CheckedError) -> StorageError {
    match error {
        CheckedError::Io(error) => StorageError::Io(error),
        error => StorageError::Corrupted(error.to_string()),
    }
}
