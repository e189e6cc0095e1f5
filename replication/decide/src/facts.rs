//! What a look at the source's folder can tell.

use keepshare_base::Kind;

use crate::{Inode, Signature};

/// What one look at an object told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Seen {
    /// Which object.
    pub inode: Inode,
    /// Its kind.
    pub kind: Kind,
    /// Its state.
    pub signature: Signature,
    /// How many names it has, in the source or outside.
    pub links: u32,
    /// Its permission bits, without its kind.
    pub mode: u32,
    /// The number of its owner.
    pub user: u32,
    /// The number of its group.
    pub group: u32,
    /// Which device it stands for, where it is one.
    pub rdev: u64,
    /// The device of the file system that it is on.
    pub device: u64,
}

impl Seen {
    /// Tells whether it is this user's and closed to everybody else.
    pub fn is_private_to(&self, user: u32) -> bool {
        self.user == user && self.mode & 0o777 == 0o700
    }
}

/// What a name stands for on the file system.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AtName {
    /// Nothing.
    Nothing,
    /// This object.
    Object(Seen),
    /// Something is mounted there, or another file system begins.
    Mounted,
}

/// What came of looking at a name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Looked {
    /// What stands there.
    Saw(AtName),
    /// It cannot be looked at.
    Failed(Failure),
    /// Its folder cannot be opened.
    NoFolder(NoFolder),
}

/// Why a folder of the map cannot be opened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NoFolder {
    /// Something else, or nothing, is where the map has it.
    Elsewhere,
    /// Something is mounted on the way to it.
    Mounted,
    /// It cannot be read.
    Denied(Failure),
}

/// Why something could not be looked at or read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    /// It is not there any more, or another object is.
    pub is_missing: bool,
    /// For people.
    pub text: String,
}

impl Failure {
    /// Says that it is not there any more.
    pub fn missing() -> Self {
        std::io::Error::from(std::io::ErrorKind::NotFound).into()
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        let is_missing = error.kind() == std::io::ErrorKind::NotFound;
        Self { is_missing, text: error.to_string() }
    }
}
