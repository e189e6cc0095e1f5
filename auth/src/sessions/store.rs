//! Sessions in the database.

use std::{collections::HashMap, sync::Arc};

use redb::{ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use keepshare_base::{SetName, Stamp};
use keepshare_host::shared::SharedDb;

use super::session::{Record, Session};
use crate::{
    AccountError, HostRange, SessionId, User,
    tickets::Pass,
    users::{self, USERS},
};

const SESSIONS: TableDefinition<u64, &[u8]> = TableDefinition::new("sessions");

/// Holds the host sessions.
const HOSTS: TableDefinition<u64, &[u8]> = TableDefinition::new("host_sessions");

/// Holds the one key that all others are derived from, under [`MASTER_KEY`].
const KEYS: TableDefinition<&str, [u8; 32]> = TableDefinition::new("keys");

const MASTER_KEY: &str = "sessions";

/// Holds the version of what is written here, under [`FORMAT_KEY`].
const FORMATS: TableDefinition<&str, u32> = TableDefinition::new("formats");

const FORMAT_KEY: &str = "accounts";

/// The version of the rows of users, sessions and keys.
const FORMAT: u32 = 1;

/// A host session as stored, under its number.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct HostRecord {
    pub(super) range: HostRange,
    pub(super) set: SetName,
    pub(super) may_write: bool,
    pub(super) created: Stamp,
    /// Stored behind the rest; a record that is older has none.
    #[serde(skip)]
    pub(super) any_port: bool,
}

/// Returns the key, made the first time.
pub(super) fn load_key(db: &SharedDb) -> Result<[u8; 32], AccountError> {
    let write = db.begin_write()?;
    {
        let mut formats = write.open_table(FORMATS)?;
        let found = formats.get(FORMAT_KEY)?.map(|format| format.value());
        match found {
            Some(newer) if newer > FORMAT => return Err(AccountError::Newer(newer)),
            Some(_) => {}
            None => {
                formats.insert(FORMAT_KEY, FORMAT)?;
            }
        }
    }
    let key = {
        let mut table = write.open_table(KEYS)?;
        let known = table.get(MASTER_KEY)?.map(|key| key.value());
        match known {
            Some(key) => key,
            None => {
                let mut key = [0; 32];
                getrandom::fill(&mut key)?;
                table.insert(MASTER_KEY, key)?;
                key
            }
        }
    };
    write.open_table(SESSIONS)?;
    write.open_table(HOSTS)?;
    write.open_table(USERS)?;
    write.commit()?;
    Ok(key)
}

/// Returns all sessions of users that exist.
pub(super) fn load(db: &SharedDb) -> Result<HashMap<SessionId, Arc<Session>>, AccountError> {
    let read = db.begin_read()?;
    let (sessions, users) = (read.open_table(SESSIONS)?, read.open_table(USERS)?);
    let mut principals = HashMap::new();
    for row in users::load_all(&users)? {
        principals.insert(row.user.name.clone(), Arc::new(row.user.principal()));
    }
    let mut live = HashMap::new();
    for entry in sessions.iter()? {
        let (id, row) = entry?;
        let (record, Later { any_port, mounted }) = decode::<Record>(row.value())?;
        let (id, record) = (SessionId(id.value()), Record { any_port, mounted, ..record });
        if let Some(principal) = principals.get(&record.user) {
            live.insert(id, Arc::new(Session::new(id, record, Arc::clone(principal))));
        }
    }
    Ok(live)
}

/// Returns the user of a ticket, if the record is the one that the password was checked against.
pub(super) fn user(write: &WriteTransaction, pass: &Pass) -> Result<Option<User>, AccountError> {
    let row = users::load(&write.open_table(USERS)?, pass.user.as_str())?;
    let is_same = |row: &users::UserRow| {
        row.mark == pass.mark && !row.user.disabled && row.user.sets.allow(&pass.set)
    };
    Ok(row.filter(is_same).map(|row| row.user))
}

/// Writes some sessions and removes others, durable when it returns.
pub(super) fn write(
    db: &SharedDb,
    records: &[(SessionId, Record)],
    gone: &[SessionId],
) -> Result<(), AccountError> {
    let write = db.begin_write()?;
    for (id, record) in records {
        put(&write, *id, record)?;
    }
    for id in gone {
        remove(&write, *id)?;
    }
    Ok(write.commit()?)
}

pub(super) fn put(
    write: &WriteTransaction,
    id: SessionId,
    record: &Record,
) -> Result<(), AccountError> {
    let Record { any_port, mounted, .. } = *record;
    let bytes = encode(record, Later { any_port, mounted })?;
    write.open_table(SESSIONS)?.insert(id.0, bytes.as_slice())?;
    Ok(())
}

pub(super) fn remove(write: &WriteTransaction, id: SessionId) -> Result<(), AccountError> {
    write.open_table(SESSIONS)?.remove(id.0)?;
    Ok(())
}

/// Returns all host sessions, as they are kept in memory.
pub(super) fn load_hosts<H: From<HostRecord>>(
    db: &SharedDb,
) -> Result<HashMap<SessionId, H>, AccountError> {
    let read = db.begin_read()?;
    let mut hosts = HashMap::new();
    for entry in read.open_table(HOSTS)?.iter()? {
        let (id, row) = entry?;
        let (record, Later { any_port, .. }) = decode::<HostRecord>(row.value())?;
        hosts.insert(SessionId(id.value()), HostRecord { any_port, ..record }.into());
    }
    Ok(hosts)
}

/// Writes a host session, durable when it returns.
pub(super) fn put_host(
    db: &SharedDb,
    id: SessionId,
    record: &HostRecord,
) -> Result<(), AccountError> {
    let bytes = encode(record, Later { any_port: record.any_port, mounted: true })?;
    let write = db.begin_write()?;
    write.open_table(HOSTS)?.insert(id.0, bytes.as_slice())?;
    Ok(write.commit()?)
}

/// Removes host sessions, durably when it returns.
pub(super) fn remove_hosts(
    db: &SharedDb,
    ids: impl Iterator<Item = SessionId>,
) -> Result<(), AccountError> {
    let write = db.begin_write()?;
    for id in ids {
        write.open_table(HOSTS)?.remove(id.0)?;
    }
    Ok(write.commit()?)
}

/// Ends all sessions and grants of a database that comes from a backup, and its keys with them, durably: some may have been revoked since.
/// Returns how many there were.
pub(crate) fn forget(db: &SharedDb) -> Result<u64, AccountError> {
    let write = db.begin_write()?;
    let mut ended = 0;
    for table in [SESSIONS, HOSTS] {
        ended += write.open_table(table)?.len()?;
        write.delete_table(table)?;
    }
    write.delete_table(KEYS)?;
    write.commit()?;
    Ok(ended)
}

/// What stands behind the first form of a row of a session or a host session, a byte each; an older row ends before.
#[derive(Clone, Copy, Debug)]
struct Later {
    any_port: bool,
    mounted: bool,
}

fn encode(record: &impl Serialize, later: Later) -> Result<Vec<u8>, AccountError> {
    let mut bytes = postcard::to_stdvec(record)?;
    bytes.extend([u8::from(later.any_port), u8::from(later.mounted)]);
    Ok(bytes)
}

fn decode<'b, R: Deserialize<'b>>(bytes: &'b [u8]) -> Result<(R, Later), AccountError> {
    let (record, later) = postcard::take_from_bytes(bytes)?;
    let later = Later {
        any_port: later.first().is_some_and(|byte| *byte != 0),
        mounted: later.get(1).is_none_or(|byte| *byte != 0),
    };
    Ok((record, later))
}

#[cfg(test)]
mod tests {
    use redb::{Database, backends::InMemoryBackend};

    use super::*;

    #[test]
    fn rows_of_all_ages_are_read() {
        let bytes = encode(&7_u32, Later { any_port: true, mounted: false }).unwrap();
        let read = |len: usize| {
            let (record, later) = decode::<u32>(&bytes[..len]).unwrap();
            assert_eq!(record, 7);
            (later.any_port, later.mounted)
        };
        assert_eq!(read(bytes.len()), (true, false));
        assert_eq!(read(bytes.len() - 1), (true, true), "before logins without a drive were kept");
        assert_eq!(read(bytes.len() - 2), (false, true), "before ports were chosen");
    }

    #[test]
    fn a_newer_format_is_refused_by_name() {
        let db = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        let db = SharedDb::from(db);
        let key = load_key(&db).unwrap();
        assert_eq!(load_key(&db).unwrap(), key, "made once");
        let write = db.begin_write().unwrap();
        write.open_table(FORMATS).unwrap().insert(FORMAT_KEY, FORMAT + 1).unwrap();
        write.commit().unwrap();
        assert!(matches!(load_key(&db), Err(AccountError::Newer(2))));
    }
}
