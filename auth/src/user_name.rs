//! What a user of the drive is called.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The longest name, in bytes.
const NAME_BYTES_MAX: usize = 32;

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
}
