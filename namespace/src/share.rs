//! A share: one set as users see it.

use std::fmt;

use chrono_tz::Tz;

use keepshare_auth::Principal;
use keepshare_base::{FileTime, Kind, Meta, Name, SetName, SetPath, Stamp};
use keepshare_versioning::{FileState, Reader};

use crate::Node;

/// Numbers a share of a station; part of every handle, and never used again for another set.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ShareId(pub u16);

/// Where `@versions` is listed; it always answers by name.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Show {
    /// In the drive's root alone.
    #[default]
    Root,
    /// Nowhere.
    Never,
    /// In every folder.
    Everywhere,
}

/// What a share is made of.
#[derive(Clone, Debug)]
pub struct ShareConfig {
    /// Its number.
    pub id: ShareId,
    /// Its set.
    pub set: SetName,
    /// Reads the set.
    pub reader: Reader,
    /// The zone of typed times without an offset.
    pub zone: Tz,
    /// Where `@versions` is listed.
    pub show: Show,
    /// Keys the hashes of names and of ids, so that nobody can make two collide.
    pub key: [u8; 32],
}

/// One set as users see it; clones share everything.
#[derive(Clone, Debug)]
pub struct Share {
    config: ShareConfig,
}

/// What is known of a node.
#[derive(Clone, Debug, Eq, PartialEq)]
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
/// after a restart.
pub type Cookie = u64;

/// One entry of a folder.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listed {
    /// The name's bytes, as the client gets to see it.
    pub name: Vec<u8>,
    /// The place after it.
    pub cookie: Cookie,
    /// What it is.
    pub node: Node,
    /// What is known of it.
    pub attributes: Attributes,
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

/// How much a share holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    /// Bytes of its file system, and those that are free.
    pub bytes: (u64, u64),
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
    /// The past is read-only, and so is the drive.
    #[error("read-only")]
    ReadOnly,
    /// The store is damaged or cannot be read: an alarm, and never bytes.
    #[error("cannot read the store")]
    Store(#[source] keepshare_versioning::ReadError),
}

/// An old version that is to be written back at a live path: decided, not yet done.
#[derive(Clone, Debug)]
pub struct Restore {
    /// Which set.
    pub set: SetName,
    /// Where.
    pub path: SetPath,
    /// What.
    pub state: FileState,
    /// Who wants it.
    pub user: String,
    /// Names the request: repeats of one request have the same.
    pub request: keepshare_base::RequestId,
}

/// Why a restore was not done. Nothing was changed, but for [`RestoreError::Unknown`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The set's master cannot be asked.
    #[error("the set's master is away")]
    Away,
    /// It was asked and did not.
    #[error("the master did not restore it: {0}")]
    Refused(String),
    /// It was asked and did not answer; it may have been done.
    #[error("the master gave no answer")]
    Unknown,
}

/// Has masters write old versions back.
pub trait Restorer: Send + Sync + fmt::Debug {
    /// Writes it back, and returns when the set here holds the result, or held it already. Blocks.
    fn restore(&self, restore: &Restore) -> Result<(), RestoreError>;
}

impl Share {
    /// Returns the share.
    pub fn new(config: ShareConfig) -> Self {
        Self { config }
    }

    /// Returns its number.
    pub fn id(&self) -> ShareId {
        self.config.id
    }

    /// Returns its set.
    pub fn set(&self) -> &SetName {
        &self.config.set
    }

    /// Returns what is known of a node.
    pub fn attributes(
        &self,
        who: &Principal,
        node: Node,
        now: Stamp,
    ) -> Result<Attributes, Denial> {
        let _ = (who, node, now);
        Err(Denial::Stale)
    }

    /// Returns what a name of a folder stands for. `.` and `..` are names too.
    pub fn lookup(
        &self,
        who: &Principal,
        folder: Node,
        name: &[u8],
        now: Stamp,
    ) -> Result<Found, Denial> {
        let _ = (who, folder, name, now);
        Err(Denial::NotFound)
    }

    /// Returns what the principal may do with a node.
    pub fn access(&self, who: &Principal, node: Node, now: Stamp) -> Result<Access, Denial> {
        let _ = (who, node, now);
        Err(Denial::Stale)
    }

    /// Returns at most `limit` entries of a folder after `after`, without those whose nodes no handle can hold.
    pub fn list(
        &self,
        who: &Principal,
        folder: Node,
        after: Cookie,
        limit: usize,
        now: Stamp,
    ) -> Result<Listing, Denial> {
        let _ = (who, folder, after, limit, now);
        Err(Denial::Stale)
    }

    /// Returns at most `len` bytes of a file from `offset`, with its attributes: fewer only at its end.
    pub fn read(
        &self,
        who: &Principal,
        file: Node,
        offset: u64,
        len: usize,
        now: Stamp,
    ) -> Result<(Vec<u8>, Attributes), Denial> {
        let _ = (who, file, offset, len, now);
        Err(Denial::Stale)
    }

    /// Returns where a link points.
    pub fn read_link(
        &self,
        who: &Principal,
        link: Node,
        now: Stamp,
    ) -> Result<(Vec<u8>, Attributes), Denial> {
        let _ = (who, link, now);
        Err(Denial::Stale)
    }

    /// Decides whether moving `from` (a name of the folder `from_folder`) onto the name `to` of the live folder
    /// `to_folder` is a restore that the principal may do, and what is to be restored then.
    pub fn restore(
        &self,
        who: &Principal,
        (from_folder, from): (Node, &[u8]),
        (to_folder, to): (Node, &[u8]),
        request: keepshare_base::RequestId,
        now: Stamp,
    ) -> Result<Restore, Denial> {
        let _ = (who, from_folder, from, to_folder, to, request, now);
        Err(Denial::ReadOnly)
    }
}

#[expect(dead_code, reason = "the shape of what is to come")]
fn shape(_: &Meta, _: &Name) {}
