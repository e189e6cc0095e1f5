//! What is answered about a share, as plain values, and why an answer is not given.

use keepshare_base::{FileTime, Kind};
use keepshare_versioning::ReadError;

use crate::Node;

/// The most entries that one listing gives.
pub const LISTED_MAX: usize = 4096;

/// What is known of a node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Attributes {
    /// What kind of thing it is.
    pub kind: Kind,
    /// Permission bits (`0777`; no set-id bits).
    pub mode: u32,
    /// How many names it has.
    pub links: u32,
    /// The owner's number, as the station knows it.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// The content's length in bytes.
    pub size: u64,
    /// The number by which clients tell files apart; the past's never equal the present's.
    pub id: u64,
    /// When the content changed last.
    pub mtime: FileTime,
    /// When anything of it changed last; fresh for the folders of `@versions`.
    pub ctime: FileTime,
}

/// What a principal may do with a node, for a door's own ACCESS answers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Access {
    /// Read a file, list a folder.
    pub read: bool,
    /// Look up names in a folder.
    pub search: bool,
    /// Execute a file.
    pub execute: bool,
    /// A restore onto it, or out of it, is allowed: clients ask this before they try.
    pub restore: bool,
}

/// A place in a listing; 0 is its beginning. The same cookie means the same place whatever came and went since, and
/// after a restart. All are below 2⁶³, and none is 1 or 2, which doors give to `.` and `..`.
pub type Cookie = u64;

/// One entry of a folder.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listed {
    /// The name's bytes, as the client gets to see it.
    pub name: Vec<u8>,
    /// The place after it.
    pub cookie: Cookie,
    /// The node that the name stands for.
    pub node: Node,
    /// The number by which clients tell files apart, which is in the attributes too.
    pub id: u64,
    /// What is known of it; `None` where the principal may read names in the folder and know no more of them, so that a
    /// door tells no attributes.
    pub attributes: Option<Attributes>,
}

/// A part of a folder.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listing {
    /// Its entries, without `.` and `..`.
    pub entries: Vec<Listed>,
    /// Nothing comes after them.
    pub end: bool,
}

/// What a name stands for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Found {
    /// The node.
    pub node: Node,
    /// What is known of it.
    pub attributes: Attributes,
}

/// How much room a drive's file system has.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Room {
    /// All of it, in bytes.
    pub bytes: u64,
    /// What is free, in bytes.
    pub bytes_free: u64,
    /// How many files it can hold.
    pub files: u64,
    /// How many more it can hold.
    pub files_free: u64,
}

/// Why an answer was not given. Doors turn each into their protocol's own word.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Denial {
    /// The node is nothing that exists, or not any more.
    #[error("it is not there any more")]
    Stale,
    /// No such name.
    #[error("no such name")]
    NotFound,
    /// The principal may not.
    #[error("not allowed")]
    NotAllowed,
    /// A file where a folder is needed.
    #[error("not a folder")]
    NotFolder,
    /// A folder where a file is needed.
    #[error("a folder")]
    IsFolder,
    /// Something else where a file or link is needed.
    #[error("of the wrong kind")]
    WrongKind,
    /// A name that cannot be.
    #[error("the name is too long")]
    NameTooLong,
    /// A place that no listing of this folder gave.
    #[error("no such place in the listing")]
    BadCookie,
    /// So many ask for what takes long that this one has to ask again.
    #[error("many ask at once, ask again")]
    Busy,
    /// The past is read-only, and so is the drive.
    #[error("read-only")]
    ReadOnly,
    /// A folder of the past would have to replace what has that name: it only comes back to where nothing is.
    #[error("a folder comes back to a free name only")]
    Taken,
    /// The store is damaged or cannot be read: an alarm, and never bytes.
    #[error("cannot read the store")]
    Store(#[source] ReadError),
}

impl From<ReadError> for Denial {
    fn from(error: ReadError) -> Self {
        Self::Store(error)
    }
}
