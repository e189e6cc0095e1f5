//! Names and paths as validated bytes.
//!
//! A name is what one folder entry is called: any bytes but the few that no file system or no namespace of ours could
//! tell apart from something else. It need not be UTF-8.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest name, in bytes (Linux `NAME_MAX`).
pub const NAME_BYTES_MAX: usize = 255;

/// The deepest path, in names.
pub const DEPTH_MAX: usize = 1024;

/// Why bytes are not a name or a path.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// No bytes at all.
    #[error("a name must not be empty")]
    Empty,
    /// Longer than a folder can hold.
    #[error("a name of {0} bytes is longer than 255")]
    TooLong(usize),
    /// `.` or `..`.
    #[error("'.' and '..' are not names")]
    Dots,
    /// A slash or a NUL inside.
    #[error("a name must not hold a slash or a NUL byte")]
    Separator,
    /// A name that stands for the past.
    #[error("'{0}' is reserved for versions")]
    Reserved(String),
    /// More folders inside each other than [`DEPTH_MAX`].
    #[error("the path is more than 1024 folders deep")]
    TooDeep,
}

/// The name of one folder entry: 1 to 255 bytes, no slash, no NUL, never `.`, `..`, `@versions` or `@GMT-…`.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct Name(Box<[u8]>);

impl Name {
    /// Checks `bytes` and returns them as a name.
    pub fn new(bytes: &[u8]) -> Result<Self, NameError> {
        match bytes {
            [] => Err(NameError::Empty),
            b"." | b".." => Err(NameError::Dots),
            _ if bytes.len() > NAME_BYTES_MAX => Err(NameError::TooLong(bytes.len())),
            _ if bytes.iter().any(|b| matches!(b, b'/' | 0)) => Err(NameError::Separator),
            _ if is_reserved(bytes) => {
                Err(NameError::Reserved(String::from_utf8_lossy(bytes).into_owned()))
            }
            _ => Ok(Self(bytes.into())),
        }
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<Vec<u8>> for Name {
    type Error = NameError;

    fn try_from(bytes: Vec<u8>) -> Result<Self, NameError> {
        Self::new(&bytes)
    }
}

impl From<Name> for Vec<u8> {
    fn from(name: Name) -> Self {
        name.0.into_vec()
    }
}

impl fmt::Display for Name {
    /// Shows the name with control characters and broken UTF-8 escaped, safe for a terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show_bytes(&self.0, f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// A path inside a set, from its root; the empty path is the root.
#[derive(Clone, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct SetPath(Vec<Name>);

impl SetPath {
    /// Parses `a/b/c`; empty parts (leading, doubled and trailing slashes) and `.` are passed over.
    pub fn parse(bytes: &[u8]) -> Result<Self, NameError> {
        let parts = bytes.split(|b| *b == b'/').filter(|part| !matches!(*part, b"" | b"."));
        let names = parts.map(Name::new).collect::<Result<Vec<_>, _>>()?;
        if names.len() > DEPTH_MAX { Err(NameError::TooDeep) } else { Ok(Self(names)) }
    }

    /// Returns the names from the root down.
    pub fn names(&self) -> &[Name] {
        &self.0
    }

    /// Returns the folder's path and the last name; `None` for the root.
    pub fn split_last(&self) -> Option<(Self, &Name)> {
        let (last, parents) = self.0.split_last()?;
        Some((Self(parents.to_vec()), last))
    }

    /// Returns this path with `name` below it.
    #[must_use]
    pub fn join(&self, name: Name) -> Self {
        let mut names = self.0.clone();
        names.push(name);
        Self(names)
    }

    /// Returns the path's bytes, `a/b/c`; empty for the root.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().map(Name::as_bytes).collect::<Vec<_>>().join(&b'/')
    }
}

impl From<Vec<Name>> for SetPath {
    fn from(names: Vec<Name>) -> Self {
        Self(names)
    }
}

impl fmt::Display for SetPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show_bytes(&self.to_bytes(), f)
    }
}

impl fmt::Debug for SetPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Turns a name of a source's file system into a name of the set.
///
/// A user's own file called `@versions` becomes `@versions~`, one called `@versions~` gets one more `~`, and so on; one
/// that begins with `@GMT-` gets a `~` before it. [`unescape_name`] is the way back. Only a reserved name of 255 bytes
/// has no escaped form.
pub fn escape_name(bytes: &[u8]) -> Result<Name, NameError> {
    if is_versions(trim_tildes_end(bytes)) {
        return Name::new(&[bytes, b"~"].concat());
    }
    if is_gmt(trim_tildes_start(bytes)) {
        return Name::new(&[b"~", bytes].concat());
    }
    Name::new(bytes)
}

/// Turns a name of the set back into the source's own name.
pub fn unescape_name(name: &Name) -> Vec<u8> {
    let bytes = name.as_bytes();
    match bytes {
        [front @ .., b'~'] if is_versions(trim_tildes_end(bytes)) => front.to_vec(),
        [b'~', back @ ..] if is_gmt(trim_tildes_start(bytes)) => back.to_vec(),
        _ => bytes.to_vec(),
    }
}

fn is_reserved(bytes: &[u8]) -> bool {
    is_versions(bytes) || is_gmt(bytes)
}

fn is_versions(bytes: &[u8]) -> bool {
    bytes.eq_ignore_ascii_case(b"@versions")
}

fn is_gmt(bytes: &[u8]) -> bool {
    bytes.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"@GMT-"))
}

fn trim_tildes_end(bytes: &[u8]) -> &[u8] {
    let tildes = bytes.iter().rev().take_while(|b| **b == b'~').count();
    &bytes[..bytes.len() - tildes]
}

fn trim_tildes_start(bytes: &[u8]) -> &[u8] {
    let tildes = bytes.iter().take_while(|b| **b == b'~').count();
    &bytes[tildes..]
}

fn show_bytes(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            // Controls could steer a terminal, direction marks could hide an extension.
            let hidden = c.is_control()
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
            if hidden { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
        }
        chunk.invalid().iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_folder_entry_and_never_the_past() {
        for good in [
            &b"a"[..],
            b"report.docx",
            b"\xff\xfe",
            b"...",
            b" ",
            b"@versions~",
            b"@GMT",
            &[b'x'; 255],
        ] {
            assert_eq!(Name::new(good).unwrap().as_bytes(), good);
        }
        let wrong: [&[u8]; 11] = [
            b"",
            b".",
            b"..",
            b"a/b",
            b"/",
            b"a\0",
            b"@versions",
            b"@Versions",
            b"@GMT-2026.11.20-14.32.07",
            b"@gmt-x",
            &[b'x'; 256],
        ];
        for bytes in wrong {
            assert!(Name::new(bytes).is_err(), "{:?} was taken", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_users_own_reserved_names_survive_the_way_there_and_back() {
        let cases: [(&[u8], &[u8]); 7] = [
            (b"@versions", b"@versions~"),
            (b"@VERSIONS~~", b"@VERSIONS~~~"),
            (b"@GMT-1", b"~@GMT-1"),
            (b"~@GMT-1", b"~~@GMT-1"),
            (b"plain", b"plain"),
            (b"plain~", b"plain~"),
            (b"~", b"~"),
        ];
        for (own, shown) in cases {
            let name = escape_name(own).unwrap();
            assert_eq!(name.as_bytes(), shown);
            assert_eq!(unescape_name(&name), own);
        }
    }

    #[test]
    fn paths_read_back_and_hostile_ones_do_not() {
        let path = SetPath::parse(b"/a//b/./c/").unwrap();
        assert_eq!(path.to_bytes(), b"a/b/c");
        assert_eq!(path.split_last().unwrap().0.to_bytes(), b"a/b");
        assert!(SetPath::parse(b"").unwrap().split_last().is_none());
        assert!(SetPath::parse(b"a/../b").is_err());
        assert_eq!(SetPath::parse(&b"a/".repeat(1025)), Err(NameError::TooDeep));
    }

    /// A name must not be able to steer the terminal of whoever lists it.
    #[test]
    fn hostile_names_print_harmlessly() {
        let name = Name::new(b"a\x1b[31m\xff\xe2\x80\xaegpj").unwrap();
        assert_eq!(name.to_string(), "a\\u{1b}[31m\\xff\\u{202e}gpj");
    }
}
