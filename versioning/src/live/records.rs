//! What is recorded of a live tree: how far it is, which inode is which file, and what failed.
//!
//! Records gather in memory and reach the state file together with the position, after everything they speak of is on
//! the disk. So the file never says more than the tree holds: what came after is found out again by applying it again.
//! The layout is in docs/formats/live.md.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use redb::{ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition};

use keepshare_base::{CommitId, FileId, Name};

use super::identity::Identity;
use crate::checked::{CheckedDb, CheckedError};

/// How many names that failed are remembered one by one; beyond, the whole tree is compared.
const RETRY_NAMES_MAX: usize = 10_000;

/// How many files that failed are remembered.
const RETRY_FILES_MAX: usize = 100_000;

/// Why the state file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordsError {
    /// Written by a newer Keepshare.
    #[error("the live tree's state has format {found}; this version of Keepshare knows {FORMAT}")]
    NewerFormat {
        /// What the file says.
        found: u64,
    },
    /// Something in it that no Keepshare wrote.
    #[error("the live tree's state is damaged")]
    Damaged,
    /// The file failed.
    #[error("cannot use the live tree's state")]
    File(#[from] CheckedError),
    /// The database in it failed.
    #[error("the database of the live tree's state failed")]
    Database(#[source] redb::Error),
}

/// A file, and the inode that it is; none where it is none.
pub(super) type Record = (FileId, Option<Identity>);

/// What failed and is tried again.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Retries {
    /// Names that may not be what they should.
    pub(super) names: BTreeSet<(FileId, Name)>,
    /// Files whose content or attributes may not be, and since which commit.
    pub(super) files: BTreeMap<FileId, CommitId>,
    /// Anything may be wrong.
    pub(super) everything: bool,
}

impl Retries {
    /// Tells whether there is nothing to try again.
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.files.is_empty() && !self.everything
    }

    /// Remembers a name.
    pub(super) fn add_name(&mut self, parent: FileId, name: Name) {
        if self.names.len() < RETRY_NAMES_MAX {
            self.names.insert((parent, name));
        } else {
            self.everything = true;
        }
    }

    /// Remembers a file, whose content was right at `since`; false where there are too many.
    pub(super) fn add_file(&mut self, file: FileId, since: CommitId) -> bool {
        if self.files.len() >= RETRY_FILES_MAX {
            self.everything = true;
            return false;
        }
        let known = self.files.entry(file).or_insert(since);
        *known = since.min(*known);
        true
    }
}

/// Records made since the last time they were stored.
#[derive(Clone, Debug, Default)]
struct Recent {
    files: HashMap<FileId, Option<Identity>>,
    inodes: HashMap<Identity, Option<FileId>>,
}

/// The records of one live tree.
#[derive(Debug)]
pub(super) struct Records {
    db: Arc<CheckedDb>,
    files: ReadOnlyTable<[u8; 20], [u8; 20]>,
    inodes: ReadOnlyTable<[u8; 20], [u8; 20]>,
    recent: Recent,
    /// Being stored on another thread.
    storing: Option<Arc<Recent>>,
    /// Files whose records changed since [`Self::take_noted`].
    noted: HashSet<FileId>,
}

/// What the state file said when it was opened, or says after [`Writing::write`].
#[derive(Clone, Debug, Default)]
pub(super) struct Stored {
    /// The commit that the tree holds.
    pub(super) position: CommitId,
    /// But for these.
    pub(super) retries: Retries,
    /// The last step that it holds.
    pub(super) step: u64,
}

/// Records on their way into the state file; made on the tree's thread, written on any.
#[derive(Debug)]
pub(super) struct Writing {
    db: Arc<CheckedDb>,
    recent: Arc<Recent>,
    stored: Stored,
}

impl Records {
    /// Opens the records in a state file; an empty one says that anything may be in the tree.
    pub(super) fn open(db: Arc<CheckedDb>) -> Result<(Self, Stored), RecordsError> {
        let stored = contain(&db, prepare)??;
        let (files, inodes) = contain(&db, tables)?;
        Ok((
            Self {
                db,
                files,
                inodes,
                recent: Recent::default(),
                storing: None,
                noted: HashSet::new(),
            },
            stored,
        ))
    }

    /// Tells whether the state file gives nothing more before it is opened anew.
    pub(super) fn failed(&self) -> bool {
        self.db.damage().failed()
    }

    /// Lets nothing more through to the state file.
    pub(super) fn retire(&self) {
        self.db.retire();
    }

    /// Returns the inode that a file of the set is.
    pub(super) fn identity(&self, file: FileId) -> Result<Option<Identity>, RecordsError> {
        let recents = [Some(&self.recent), self.storing.as_deref()];
        if let Some(known) = recents.into_iter().flatten().find_map(|r| r.files.get(&file)) {
            return Ok(*known);
        }
        let bytes = contain(&self.db, |_| Ok(self.files.get(file.to_bytes())?.map(|v| v.value())))?;
        bytes.map(|b| Identity::from_bytes(&b).ok_or(RecordsError::Damaged)).transpose()
    }

    /// Returns the file of the set that an inode is.
    pub(super) fn file(&self, identity: Identity) -> Result<Option<FileId>, RecordsError> {
        let recents = [Some(&self.recent), self.storing.as_deref()];
        if let Some(known) = recents.into_iter().flatten().find_map(|r| r.inodes.get(&identity)) {
            return Ok(*known);
        }
        let key = identity.to_bytes();
        let bytes = contain(&self.db, |_| Ok(self.inodes.get(key)?.map(|v| v.value())))?;
        bytes.map(|b| FileId::from_bytes(&b).ok_or(RecordsError::Damaged)).transpose()
    }

    /// Records that `file` is this inode and no other.
    pub(super) fn set(&mut self, file: FileId, identity: Identity) -> Result<(), RecordsError> {
        if let Some(other) = self.file(identity)? {
            self.forget(other)?;
        }
        self.forget(file)?;
        self.noted.insert(file);
        self.recent.files.insert(file, Some(identity));
        self.recent.inodes.insert(identity, Some(file));
        Ok(())
    }

    /// Records that no inode is `file`.
    pub(super) fn forget(&mut self, file: FileId) -> Result<(), RecordsError> {
        if let Some(old) = self.identity(file)? {
            self.noted.insert(file);
            self.recent.inodes.insert(old, None);
            self.recent.files.insert(file, None);
        }
        Ok(())
    }

    /// Takes in what was noted of them when another process had this tree.
    pub(super) fn take_in(&mut self, records: Vec<Record>) -> Result<(), RecordsError> {
        for (file, identity) in records {
            match identity {
                Some(identity) => self.set(file, identity)?,
                None => self.forget(file)?,
            }
        }
        self.noted.clear();
        Ok(())
    }

    /// Returns the records that changed since the last call.
    pub(super) fn take_noted(&mut self) -> Result<Vec<Record>, RecordsError> {
        let noted = std::mem::take(&mut self.noted);
        noted.into_iter().map(|file| Ok((file, self.identity(file)?))).collect()
    }

    /// Returns the records that are not in the file.
    pub(super) fn unstored(&self) -> Vec<Record> {
        let storing = self.storing.iter().flat_map(|storing| &storing.files);
        let newer =
            |(file, _): &(&FileId, &Option<Identity>)| !self.recent.files.contains_key(file);
        let all = storing.filter(newer).chain(&self.recent.files);
        all.map(|(file, identity)| (*file, *identity)).collect()
    }

    /// Returns how many records wait in memory.
    pub(super) fn recent_len(&self) -> usize {
        self.recent.files.len() + self.recent.inodes.len()
    }

    /// Takes everything recorded so far for the state file; `None` while the last one is on its way.
    pub(super) fn begin(&mut self, stored: Stored) -> Option<Writing> {
        if self.storing.is_some() {
            return None;
        }
        let recent = Arc::new(std::mem::take(&mut self.recent));
        self.storing = Some(Arc::clone(&recent));
        Some(Writing { db: Arc::clone(&self.db), recent, stored })
    }

    /// Says that what [`Self::begin`] gave is in the file.
    pub(super) fn finish(&mut self) -> Result<(), RecordsError> {
        (self.files, self.inodes) = contain(&self.db, tables)?;
        self.storing = None;
        Ok(())
    }

    /// Takes back what [`Self::begin`] gave and could not be written.
    pub(super) fn take_back(&mut self) {
        if let Some(storing) = self.storing.take() {
            let newer = std::mem::replace(&mut self.recent, Recent::clone(&storing));
            self.recent.files.extend(newer.files);
            self.recent.inodes.extend(newer.inodes);
        }
    }

    /// Forgets everything, in the file too; returns what that says now.
    pub(super) fn clear(&mut self, step: u64) -> Result<Stored, RecordsError> {
        self.give_up();
        let stored = Stored { step, ..nothing() };
        contain(&self.db, |db| {
            let transaction = db.begin_write()?;
            transaction.open_table(FILES)?.retain(|_, _| false)?;
            transaction.open_table(INODES)?.retain(|_, _| false)?;
            write_stored(&transaction, &stored)?;
            transaction.commit()?;
            Ok(())
        })?;
        self.finish()?;
        Ok(stored)
    }

    /// Forgets all that is not in the file.
    pub(super) fn give_up(&mut self) {
        self.recent = Recent::default();
        self.storing = None;
        self.noted.clear();
    }
}

impl Writing {
    /// Writes everything in one transaction; the tree must be on the disk.
    pub(super) fn write(self) -> Result<Stored, RecordsError> {
        contain(&self.db, |db| {
            let mut transaction = db.begin_write()?;
            transaction.set_durability(redb::Durability::Immediate)?;
            transaction.set_quick_repair(true);
            {
                let mut files = transaction.open_table(FILES)?;
                for (file, identity) in &self.recent.files {
                    match identity {
                        Some(identity) => files.insert(file.to_bytes(), identity.to_bytes())?,
                        None => files.remove(file.to_bytes())?,
                    };
                }
                let mut inodes = transaction.open_table(INODES)?;
                for (identity, file) in &self.recent.inodes {
                    match file {
                        Some(file) => inodes.insert(identity.to_bytes(), file.to_bytes())?,
                        None => inodes.remove(identity.to_bytes())?,
                    };
                }
            }
            write_stored(&transaction, &self.stored)?;
            transaction.commit()?;
            Ok(())
        })?;
        Ok(self.stored)
    }
}

/// Makes the tables where they are missing and reads what the file says.
fn prepare(db: &redb::Database) -> Result<Result<Stored, RecordsError>, redb::Error> {
    let mut transaction = db.begin_write()?;
    transaction.set_quick_repair(true);
    let format = transaction.open_table(ABOUT)?.get("format")?.map(|v| v.value());
    match format {
        Some(FORMAT) => {}
        Some(found) => return Ok(Err(RecordsError::NewerFormat { found })),
        None => {
            transaction.open_table(FILES)?;
            transaction.open_table(INODES)?;
            write_stored(&transaction, &nothing())?;
            transaction.open_table(ABOUT)?.insert("format", FORMAT)?;
        }
    }
    let stored = read_stored(&transaction)?;
    transaction.commit()?;
    Ok(stored.ok_or(RecordsError::Damaged))
}

/// Returns what is said of a tree of which nothing is known.
fn nothing() -> Stored {
    let retries = Retries { everything: true, ..Retries::default() };
    Stored { position: CommitId(0), retries, step: 0 }
}

fn write_stored(transaction: &redb::WriteTransaction, stored: &Stored) -> Result<(), redb::Error> {
    let mut about = transaction.open_table(ABOUT)?;
    about.insert("position", stored.position.0)?;
    about.insert("step", stored.step)?;
    about.insert("everything", u64::from(stored.retries.everything))?;
    let mut names = transaction.open_table(RETRY_NAMES)?;
    names.retain(|_, ()| false)?;
    for (parent, name) in &stored.retries.names {
        names.insert([&parent.to_bytes()[..], name.as_bytes()].concat().as_slice(), ())?;
    }
    let mut files = transaction.open_table(RETRY_FILES)?;
    files.retain(|_, _| false)?;
    for (file, since) in &stored.retries.files {
        files.insert(file.to_bytes(), since.0)?;
    }
    Ok(())
}

fn read_stored(transaction: &redb::WriteTransaction) -> Result<Option<Stored>, redb::Error> {
    let about = transaction.open_table(ABOUT)?;
    let number = |key| Ok::<_, redb::Error>(about.get(key)?.map_or(0, |v| v.value()));
    let mut stored = Stored { position: CommitId(number("position")?), ..Stored::default() };
    stored.retries.everything = number("everything")? != 0;
    stored.step = number("step")?;
    for row in transaction.open_table(RETRY_NAMES)?.iter()? {
        let (key, _) = row?;
        let Some((parent, name)) = key.value().split_at_checked(20) else { return Ok(None) };
        let (Some(parent), Ok(name)) = (FileId::from_bytes(parent), Name::new(name)) else {
            return Ok(None);
        };
        stored.retries.names.insert((parent, name));
    }
    for row in transaction.open_table(RETRY_FILES)?.iter()? {
        let (key, since) = row?;
        let Some(file) = FileId::from_bytes(&key.value()) else { return Ok(None) };
        stored.retries.files.insert(file, CommitId(since.value()));
    }
    Ok(Some(stored))
}

type Tables = (ReadOnlyTable<[u8; 20], [u8; 20]>, ReadOnlyTable<[u8; 20], [u8; 20]>);

fn tables(db: &redb::Database) -> Result<Tables, redb::Error> {
    let transaction = db.begin_read()?;
    Ok((transaction.open_table(FILES)?, transaction.open_table(INODES)?))
}

fn contain<T>(
    db: &CheckedDb,
    work: impl FnOnce(&redb::Database) -> Result<T, redb::Error>,
) -> Result<T, RecordsError> {
    db.contain(work)?.map_err(RecordsError::Database)
}

const FORMAT: u64 = 1;
const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("about");
const FILES: TableDefinition<'_, [u8; 20], [u8; 20]> = TableDefinition::new("file");
const INODES: TableDefinition<'_, [u8; 20], [u8; 20]> = TableDefinition::new("inode");
const RETRY_NAMES: TableDefinition<'_, &[u8], ()> = TableDefinition::new("retry_name");
const RETRY_FILES: TableDefinition<'_, [u8; 20], u64> = TableDefinition::new("retry_file");
