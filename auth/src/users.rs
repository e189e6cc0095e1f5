//! The users of the drive, as they are stored.

use std::{fmt, str::FromStr};

use redb::{ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use keepshare_base::{SetName, Stamp};

use crate::{AccountError, GROUPS_MAX, Principal, passwords::PasswordHash};

/// The most users of a station.
pub(crate) const USERS_MAX: u64 = 10_000;

/// The longest name, in bytes.
const NAME_BYTES_MAX: usize = 32;

/// The most sets that one user's list names.
const SETS_MAX: usize = 256;

pub(crate) const USERS: TableDefinition<&str, &[u8]> = TableDefinition::new("users");

/// A text that is no user's name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("'{}' is no user name: 1 to 32 of a-z, 0-9, '.', '_' and '-', a letter first", .0.escape_debug())]
pub struct UserNameError(String);

/// A user's name: 1 to 32 of `a-z 0-9 . _ -`, a letter first.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserName(String);

impl UserName {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UserName {
    type Err = UserNameError;

    fn from_str(text: &str) -> Result<Self, UserNameError> {
        let usable = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        let first = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
        if first && text.len() <= NAME_BYTES_MAX && text.bytes().all(usable) {
            Ok(Self(text.to_owned()))
        } else {
            Err(UserNameError(text.chars().take(2 * NAME_BYTES_MAX).collect()))
        }
    }
}

impl TryFrom<String> for UserName {
    type Error = UserNameError;

    fn try_from(text: String) -> Result<Self, UserNameError> {
        text.parse()
    }
}

impl From<UserName> for String {
    fn from(name: UserName) -> Self {
        name.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

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
    fn names_are_checked_once() {
        for good in ["a", "anna", "a.b-c_9", &"x".repeat(32)] {
            assert_eq!(good.parse::<UserName>().unwrap().as_str(), good);
        }
        for wrong in ["", "9a", ".a", "-a", "Anna", "a b", "a/b", "ä", "a\n", &"x".repeat(33)] {
            assert!(wrong.parse::<UserName>().is_err(), "{wrong} was taken");
        }
        assert!(serde_json::from_str::<UserName>("\"Anna\"").is_err());
    }

    #[test]
    fn a_list_of_sets_allows_these_and_no_others() {
        let (a, b): (SetName, SetName) = ("a".parse().unwrap(), "b".parse().unwrap());
        assert!(UserSets::All.allow(&a));
        let only = UserSets::Only(vec![a.clone()]);
        assert!(only.allow(&a) && !only.allow(&b));
        assert!(!UserSets::Only(Vec::new()).allow(&a));
    }
}
