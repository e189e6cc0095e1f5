//! The users of the drive, as they are stored.

use redb::{ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use keepshare_base::{SetName, Stamp};

use crate::{
    AccountError, GROUPS_MAX, Principal, UserName, account_error::USERS_MAX,
    passwords::PasswordHash,
};

/// The most sets that one user's list names.
const SETS_MAX: usize = 256;

pub(crate) const USERS: TableDefinition<&str, &[u8]> = TableDefinition::new("users");

/// Which sets a user may open.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum UserSets {
    /// All of the station, now and later.
    All,
    /// These.
    Only(Vec<SetName>),
}

impl UserSets {
    /// Tells whether the user may open this set.
    pub fn allow(&self, set: &SetName) -> bool {
        match self {
            Self::All => true,
            Self::Only(sets) => sets.contains(set),
        }
    }
}

/// A user of the drive.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct User {
    /// The name.
    pub name: UserName,
    /// The number under which the user owns files.
    pub uid: u32,
    /// The number of the first group.
    pub gid: u32,
    /// The numbers of all further groups, at most [`GROUPS_MAX`].
    pub groups: Vec<u32>,
    /// The user may change files and have old versions restored.
    pub may_write: bool,
    /// The sets the user may open.
    pub sets: UserSets,
    /// The user cannot log in.
    pub disabled: bool,
}

impl User {
    /// Returns the user as rights are judged.
    pub fn principal(&self) -> Principal {
        Principal {
            user: self.name.to_string(),
            uid: self.uid,
            gid: self.gid,
            groups: self.groups.clone(),
            may_write: self.may_write,
        }
    }

    /// Refuses what cannot be kept.
    pub(crate) fn check(&self) -> Result<(), AccountError> {
        let is_within = match &self.sets {
            UserSets::All => true,
            UserSets::Only(sets) => sets.len() <= SETS_MAX,
        };
        match is_within && self.groups.len() <= GROUPS_MAX {
            true => Ok(()),
            false => Err(AccountError::TooMany),
        }
    }
}

/// A user as stored.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct UserRow {
    pub(crate) user: User,
    pub(crate) password: PasswordHash,
    /// When the user was added and the password was changed: a ticket made before counts no longer.
    pub(crate) added: Stamp,
    pub(crate) changed: Stamp,
    /// Differs after each change, which times alone would not.
    pub(crate) mark: u64,
}

pub(crate) fn load(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    name: &str,
) -> Result<Option<UserRow>, AccountError> {
    table.get(name)?.map(|row| decode(row.value())).transpose()
}

pub(crate) fn load_all(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<Vec<UserRow>, AccountError> {
    table.iter()?.map(|entry| decode(entry?.1.value())).collect()
}

/// Puts a user in, in a transaction that the caller commits.
pub(crate) fn store(write: &WriteTransaction, row: &UserRow) -> Result<(), AccountError> {
    let mut table = write.open_table(USERS)?;
    let name = row.user.name.as_str();
    if table.len()? >= USERS_MAX && table.get(name)?.is_none() {
        return Err(AccountError::TooMany);
    }
    table.insert(name, postcard::to_stdvec(row)?.as_slice())?;
    Ok(())
}

fn decode(bytes: &[u8]) -> Result<UserRow, AccountError> {
    Ok(postcard::from_bytes(bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_sets_allows_these_and_no_others() {
        let (a, b): (SetName, SetName) = ("a".parse().unwrap(), "b".parse().unwrap());
        assert!(UserSets::All.allow(&a));
        let only = UserSets::Only(vec![a.clone()]);
        assert!(only.allow(&a) && !only.allow(&b));
        assert!(!UserSets::Only(Vec::new()).allow(&a));
    }
}
