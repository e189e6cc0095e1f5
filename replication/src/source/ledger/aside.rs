//! What restores have in the source's private folder, and where that is: noted before anything is there, forgotten when it
//! is gone.

use keepshare_base::FileId;
use redb::{Durability, ReadableTable, TableDefinition};

use super::{Ledger, STATE, contained};
use crate::source::{
    SourceError,
    aside::{Home, Note},
    map::{decode, encode},
};

const NOTES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("replaced");

/// Temporary files that builds before this one had in the folders of their targets.
const FORMER: TableDefinition<'_, &[u8], ()> = TableDefinition::new("aside");

/// The private folder's key in the state.
const HOME: &str = "private";

impl Ledger {
    /// Returns where the private folder is.
    pub(crate) fn home(&self) -> Result<Option<Home>, SourceError> {
        let row = contained(&self.database, || {
            let transaction = self.database.begin_read()?;
            let row = transaction.open_table(STATE)?.get(HOME)?;
            Ok(row.map(|row| row.value().to_vec()))
        })?;
        row.map(|bytes: Vec<u8>| decode(&bytes, "the private folder")).transpose()
    }

    /// Remembers, durably, where the private folder is.
    pub(crate) fn set_home(&mut self, home: Option<&Home>) -> Result<(), SourceError> {
        if home.is_some() {
            self.check_space()?;
        }
        contained(&self.database, || {
            let transaction = self.database.begin_write()?;
            {
                let mut state = transaction.open_table(STATE)?;
                match home {
                    Some(home) => drop(state.insert(HOME, encode(home).as_slice())?),
                    None => drop(state.remove(HOME)?),
                }
            }
            Ok(transaction.commit()?)
        })
    }

    /// Notes, durably, what is about to lie in the private folder under this name.
    pub(crate) fn set_note(&mut self, name: &str, note: &Note) -> Result<(), SourceError> {
        self.check_space()?;
        contained(&self.database, || {
            let transaction = self.database.begin_write()?;
            transaction.open_table(NOTES)?.insert(name, encode(note).as_slice())?;
            Ok(transaction.commit()?)
        })
    }

    /// Forgets a note: what it spoke of is there no more.
    pub(crate) fn forget_note(&mut self, name: &str) -> Result<(), SourceError> {
        contained(&self.database, || {
            let mut transaction = self.database.begin_write()?;
            transaction.open_table(NOTES)?.remove(name)?;
            // If this is lost, what is gone is looked for once more.
            transaction.set_durability(Durability::None).map_err(SourceError::journal)?;
            Ok(transaction.commit()?)
        })
    }

    /// Returns all notes by name.
    pub(crate) fn notes(&self) -> Result<Vec<(String, Note)>, SourceError> {
        contained(&self.database, || {
            let transaction = self.database.begin_write()?;
            let mut notes = Vec::new();
            for row in transaction.open_table(NOTES)?.iter()? {
                let (name, note) = row?;
                notes.push((name.value().to_owned(), decode(note.value(), "a restore's note")?));
            }
            transaction.abort()?;
            Ok(notes)
        })
    }

    /// Returns the temporary files of builds before this one: folders and raw names.
    pub(crate) fn former(&self) -> Result<Vec<(FileId, String)>, SourceError> {
        contained(&self.database, || {
            let transaction = self.database.begin_write()?;
            let mut former = Vec::new();
            for row in transaction.open_table(FORMER)?.iter()? {
                let (key, ()) = row.map(|(key, _)| (key, ()))?;
                let (folder, name) = key.value().split_at_checked(20).unwrap_or_default();
                let folder = FileId::from_bytes(folder).ok_or(SourceError::Damaged("a file id"))?;
                former.push((folder, String::from_utf8_lossy(name).into_owned()));
            }
            transaction.abort()?;
            Ok(former)
        })
    }

    /// Forgets a temporary file of a build before this one: it is gone.
    pub(crate) fn forget_former(&mut self, folder: FileId, name: &str) -> Result<(), SourceError> {
        let key = [folder.to_bytes().as_slice(), name.as_bytes()].concat();
        contained(&self.database, || {
            let transaction = self.database.begin_write()?;
            transaction.open_table(FORMER)?.remove(key.as_slice())?;
            Ok(transaction.commit()?)
        })
    }
}
