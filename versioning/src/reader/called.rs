//! Looking for names, wherever in the set they are.

use std::{fmt, str::FromStr};

use keepshare_base::{CommitId, FileId, Hex, NAME_BYTES_MAX, Name};

use super::View;
use crate::{
    ReadError,
    index::{Table, called, keys, names},
};

/// Where among all names to look for more. As text it is hexadecimal digits, which mean nothing to anybody else.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NamesFrom(Vec<u8>);

impl NamesFrom {
    /// Returns what comes right after a name.
    pub fn after(parent: FileId, name: &Name) -> Self {
        let mut key = keys::name(parent, name);
        key.push(0);
        Self(key)
    }
}

impl fmt::Display for NamesFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(&self.0).fmt(f)
    }
}

impl FromStr for NamesFrom {
    type Err = NamesFromError;

    /// Reads any digits: whatever they say, only names that come after it are looked at.
    fn from_str(text: &str) -> Result<Self, NamesFromError> {
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() > BYTES_MAX || !rest.is_empty() {
            return Err(NamesFromError);
        }
        let digit =
            |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let byte = |[high, low]: &[u8; 2]| Some((digit(*high)? << 4) | digit(*low)?);
        let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
        bytes.map(Self).ok_or(NamesFromError)
    }
}

/// Names that were found, with their folders, and where to look for more; `None` at the end.
pub type NamesFound = (Vec<(FileId, Name)>, Option<NamesFrom>);

/// A text that says nowhere to look from.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("it does not say where to go on")]
pub struct NamesFromError;

/// The longest that where to look from gets, in bytes.
const BYTES_MAX: usize = FileId::SHORT_BYTES_MAX + NAME_BYTES_MAX + 2;

impl View {
    /// Returns the next names from `from` on, of all that there are or were, in order of (folder, name), and where to look for
    /// more; `None` at the end.
    ///
    /// Some, with other bytes between them, or single ones are shown to `may_have` first: where it says no, no name among them is
    /// meant whose bytes are what is shown of it, and which has no letter beyond ASCII that is another case of one within. Some
    /// 500 are returned at once, and as many looked at as 16 MiB hold.
    pub fn names_like(
        &self,
        from: &NamesFrom,
        may_have: &dyn Fn(&[u8]) -> bool,
        is_meant: &dyn Fn(&Name) -> bool,
    ) -> Result<NamesFound, ReadError> {
        let look = called::Look { may_have, is_meant };
        let (found, next) = self.ask(|rows| called::like(rows, &from.0, &look))?;
        Ok((found, next.map(NamesFrom)))
    }

    /// Returns how many bytes of the index hold names to be found.
    pub fn names_bytes(&self) -> Result<u64, ReadError> {
        self.ask(|rows| rows.bytes(Table::Called))
    }

    /// Returns the commit since which a name stands for what it does; `None` where nothing was called so.
    pub fn named_since(&self, parent: FileId, name: &Name) -> Result<Option<CommitId>, ReadError> {
        let row = self.ask(|rows| names::dirent(rows, parent, name, CommitId::MAX))?;
        Ok(row.map(|(since, _)| since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It comes back from whoever was told it, or from somebody else.
    #[test]
    fn where_to_look_from_is_read_as_it_was_told() {
        let name = Name::new(b"a\xff").unwrap();
        let from = NamesFrom::after(FileId::ROOT, &name);
        assert_eq!(from.to_string().parse(), Ok(from));
        assert_eq!("".parse(), Ok(NamesFrom::default()));
        for wrong in ["0", "0g", "\u{e4}", " 0", "+1", &"00".repeat(BYTES_MAX + 1)] {
            assert_eq!(wrong.parse::<NamesFrom>(), Err(NamesFromError), "{wrong}");
        }
    }
}
