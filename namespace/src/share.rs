//! A share: one set as users see it.

use std::{
    fmt,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use chrono_tz::Tz;

use keepshare_auth::{Principal, SessionId};
use keepshare_base::{
    CommitId, FileId, FileTime, Kind, Name, RestoreGround, SetName, SetPath, Stamp,
};
use keepshare_versioning::{FileState, ReadError, Reader};

use crate::{
    Node,
    cache::{Forgetful, Permits},
    content::{BLOCK_BYTES_KEPT, BlockKey},
    dated::Remembered,
    former::Formers,
    history::Chronicle,
    ids::Hasher,
    question::{Changes, Present, Question},
    table::TableKey,
    versions::README_TEXT,
};

/// The most entries that one listing gives.
pub const LISTED_MAX: usize = 4096;

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
    /// A folder of the file system whose room is shown as the drive's.
    pub room: PathBuf,
}

/// One set as users see it; clones share everything.
#[derive(Clone, Debug)]
pub struct Share {
    pub(crate) inner: Arc<Inner>,
}

/// What all clones of a share have: what it is, and what it keeps in memory.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: ShareConfig,
    pub(crate) hasher: Hasher,
    /// What hashes of names and places in listings stand for.
    pub(crate) names: Mutex<Forgetful<u64, Name>>,
    pub(crate) present: Mutex<Present>,
    /// When commits arrived.
    pub(crate) arrivals: Mutex<Forgetful<CommitId, Stamp>>,
    pub(crate) changes: Mutex<Changes>,
    /// Histories of names.
    pub(crate) chronicles: Remembered<(FileId, Name), Chronicle>,
    /// When a short time was typed last in a folder.
    pub(crate) typed: Mutex<Forgetful<Node, Stamp>>,
    /// Folders that stood where a folder is.
    pub(crate) formers: Formers,
    /// Tables of histories.
    pub(crate) tables: Remembered<TableKey, Arc<Vec<u8>>>,
    /// Held while a whole history is gone through, which takes megabytes: however many ask, it is a few at a time.
    pub(crate) walks: Permits,
    /// Blocks of content, checked.
    pub(crate) blocks: Mutex<Forgetful<BlockKey, Arc<Vec<u8>>>>,
}

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
    /// What it is.
    pub node: Node,
    /// The number by which clients tell files apart, which is in the attributes too.
    pub id: u64,
    /// What is known of it; `None` where the principal may read names in the folder and know no more of them, so that a
    /// door tells no attributes.
    pub attributes: Option<Attributes>,
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
    /// The store is damaged or cannot be read: an alarm, and never bytes.
    #[error("cannot read the store")]
    Store(#[source] ReadError),
}

impl From<ReadError> for Denial {
    fn from(error: ReadError) -> Self {
        Self::Store(error)
    }
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
    /// What was there when it was allowed, and must still be.
    pub ground: RestoreGround,
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
    /// So many are under way that its turn did not come: nobody was asked.
    #[error("too many restores are under way, try again in a moment")]
    Busy,
    /// It was asked and did not.
    #[error("the master did not restore it: {0}")]
    Refused(String),
    /// It was asked and did not answer; it may have been done.
    #[error("the master gave no answer")]
    Unknown,
}

/// By which way a restore was asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AskedBy {
    /// Under which session.
    pub session: SessionId,
    /// From where.
    pub address: IpAddr,
}

/// Has masters write old versions back.
pub trait Restorer: Send + Sync + fmt::Debug {
    /// Writes it back, and returns when the set here holds the result, or held it already. Blocks.
    fn restore(&self, restore: &Restore, by: AskedBy) -> Result<(), RestoreError>;
}

impl Share {
    /// Returns the share.
    pub fn new(config: ShareConfig) -> Self {
        let inner = Inner {
            hasher: Hasher::new(config.key),
            config,
            names: Mutex::new(Forgetful::new(NAMES_KEPT)),
            present: Mutex::new(Present::new()),
            arrivals: Mutex::new(Forgetful::new(ARRIVALS_KEPT)),
            changes: Mutex::default(),
            chronicles: Mutex::new(Forgetful::new(VERSIONS_KEPT)),
            typed: Mutex::new(Forgetful::new(TYPED_KEPT)),
            formers: Mutex::new(Forgetful::new(FORMERS_KEPT)),
            tables: Mutex::new(Forgetful::new(TABLE_BYTES_KEPT)),
            walks: Permits::new(WALKS_MAX),
            blocks: Mutex::new(Forgetful::new(BLOCK_BYTES_KEPT)),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Returns its number.
    pub fn id(&self) -> ShareId {
        self.inner.config.id
    }

    /// Returns how many histories were gone through since the start: each costs what the history is long.
    pub fn histories_walked(&self) -> u64 {
        self.inner.walks.taken()
    }

    /// Returns its set.
    pub fn set(&self) -> &SetName {
        &self.inner.config.set
    }

    /// Returns how much room there is; nothing where that cannot be told.
    pub fn room(&self) -> Room {
        let Ok(stat) = rustix::fs::statvfs(&self.inner.config.room) else { return Room::default() };
        Room {
            bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
            bytes_free: stat.f_bavail.saturating_mul(stat.f_frsize),
            files: stat.f_files,
            files_free: stat.f_favail,
        }
    }

    /// Returns what is known of a node.
    pub fn attributes(
        &self,
        who: &Principal,
        node: Node,
        now: Stamp,
    ) -> Result<Attributes, Denial> {
        let ask = Question::new(&self.inner, who, now)?;
        match node {
            Node::Live { file } => ask.live_attributes(file),
            Node::Versions { folder } | Node::Deleted { folder } | Node::Points { folder } => {
                ask.versions_attributes(node, folder)
            }
            Node::Readme { folder } => ask.readme_attributes(folder),
            Node::History { folder, name } => {
                ask.history_attributes(folder, &ask.name_of(folder, name)?)
            }
            Node::HistoryTable { folder, name } => {
                let name = ask.name_of(folder, name)?;
                ask.admit_history(folder, &name)?;
                ask.table_attributes(folder, &name)
            }
            Node::Version { folder, file, position } => {
                ask.version_attributes(folder, file, position)
            }
            Node::Past { folder, file, moment } => {
                ask.past_attributes(ask.then_of(folder, file, moment)?)
            }
        }
    }

    /// Returns what a name of a folder stands for. `.` and `..` are names too.
    ///
    /// A door that tells the folder's attributes beside names asks for them *before* it asks for the names: a client
    /// that gets old names with a newer ctime keeps them.
    pub fn lookup(
        &self,
        who: &Principal,
        folder: Node,
        name: &[u8],
        now: Stamp,
    ) -> Result<Found, Denial> {
        let ask = Question::new(&self.inner, who, now)?;
        match folder {
            Node::Live { file } => ask.live_lookup(file, name),
            Node::Versions { folder } => ask.versions_lookup(folder, name),
            Node::Deleted { folder } => ask.deleted_lookup(folder, name),
            Node::Points { folder } => ask.points_lookup(folder, name),
            Node::History { folder, name: of } => {
                ask.history_lookup(folder, &ask.name_of(folder, of)?, name)
            }
            Node::Past { folder, file, moment } => {
                ask.past_lookup(ask.then_of(folder, file, moment)?, name)
            }
            Node::Readme { .. } | Node::HistoryTable { .. } | Node::Version { .. } => {
                Err(Denial::NotFolder)
            }
        }
    }

    /// Returns what the principal may do with a node.
    pub fn access(&self, who: &Principal, node: Node, now: Stamp) -> Result<Access, Denial> {
        let ask = Question::new(&self.inner, who, now)?;
        match node {
            Node::Live { file } => ask.live_access(file),
            Node::Versions { folder } | Node::Deleted { folder } | Node::Points { folder } => {
                ask.versions_access(folder)
            }
            Node::Readme { folder } => {
                ask.readme_attributes(folder)?;
                Ok(Access { read: true, ..Access::default() })
            }
            Node::History { folder, name } => {
                ask.history_access(folder, &ask.name_of(folder, name)?)
            }
            Node::HistoryTable { folder, name } => {
                ask.admit_history(folder, &ask.name_of(folder, name)?)?;
                Ok(Access { read: true, ..Access::default() })
            }
            Node::Version { folder, file, position } => ask.version_access(folder, file, position),
            Node::Past { folder, file, moment } => {
                ask.past_access(ask.then_of(folder, file, moment)?)
            }
        }
    }

    /// Returns at most `limit` entries of a folder after `after`, and never more than [`LISTED_MAX`]; fewer do not mean
    /// that the end is reached.
    pub fn list(
        &self,
        who: &Principal,
        folder: Node,
        after: Cookie,
        limit: usize,
        now: Stamp,
    ) -> Result<Listing, Denial> {
        let limit = limit.min(LISTED_MAX);
        let ask = Question::new(&self.inner, who, now)?;
        match folder {
            Node::Live { file } => ask.live_list(file, after, limit),
            Node::Versions { folder } => ask.versions_list(folder, after, limit),
            Node::Deleted { folder } => ask.deleted_list(folder, after, limit),
            Node::Points { folder } => ask.points_list(folder, after, limit),
            Node::History { folder, name } => {
                ask.history_list(folder, &ask.name_of(folder, name)?, after, limit)
            }
            Node::Past { folder, file, moment } => {
                ask.past_list(ask.then_of(folder, file, moment)?, after, limit)
            }
            Node::Readme { .. } | Node::HistoryTable { .. } | Node::Version { .. } => {
                Err(Denial::NotFolder)
            }
        }
    }

    /// Returns at most `len` bytes of a file from `offset`, with its attributes: fewer only at its end and beyond
    /// [`keepshare_versioning::READ_BYTES_MAX`].
    pub fn read(
        &self,
        who: &Principal,
        file: Node,
        offset: u64,
        len: usize,
        now: Stamp,
    ) -> Result<(Vec<u8>, Attributes), Denial> {
        let mut bytes = Vec::new();
        let attributes = self.read_into(who, file, offset, len, now, &mut bytes)?;
        Ok((bytes, attributes))
    }

    /// Appends to `out` what [`Self::read`] returns, and nothing where that is denied.
    pub fn read_into(
        &self,
        who: &Principal,
        file: Node,
        offset: u64,
        len: usize,
        now: Stamp,
        out: &mut Vec<u8>,
    ) -> Result<Attributes, Denial> {
        let mut tries = 0;
        loop {
            let (state, attributes) = match self.readable(who, file, now)? {
                Readable::State(state, attributes) => (state, attributes),
                Readable::Bytes(bytes, attributes) => {
                    out.extend_from_slice(part(&bytes, offset, len));
                    return Ok(attributes);
                }
            };
            match state.meta.kind {
                Kind::File => {}
                Kind::Dir => return Err(Denial::IsFolder),
                _ => return Err(Denial::WrongKind),
            }
            tries += 1;
            match self.inner.content(&state, offset, len, out) {
                Ok(()) => return Ok(attributes),
                // It was no version, and has been written to since: what it is now is asked for.
                Err(ReadError::Gone { .. }) if tries < READ_TRIES_MAX => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Returns where a link points.
    pub fn read_link(
        &self,
        who: &Principal,
        link: Node,
        now: Stamp,
    ) -> Result<(Vec<u8>, Attributes), Denial> {
        match self.readable(who, link, now)? {
            Readable::State(state, attributes) if state.meta.kind == Kind::Symlink => {
                Ok((state.meta.symlink, attributes))
            }
            Readable::State(..) | Readable::Bytes(..) => Err(Denial::WrongKind),
        }
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
        let ask = Question::new(&self.inner, who, now)?;
        ask.restore((from_folder, from), (to_folder, to), request)
    }

    /// Returns what a principal may read; no view outlives this.
    fn readable(&self, who: &Principal, node: Node, now: Stamp) -> Result<Readable, Denial> {
        let ask = Question::new(&self.inner, who, now)?;
        let (state, attributes) = match node {
            Node::Live { file } => ask.live_readable(file)?,
            Node::Version { folder, file, position } => {
                ask.version_readable(folder, file, position)?
            }
            Node::Past { folder, file, moment } => {
                ask.past_seen(ask.then_of(folder, file, moment)?)?
            }
            Node::Readme { folder } => {
                let attributes = ask.readme_attributes(folder)?;
                let text = README_TEXT.as_bytes().to_vec();
                return Ok(Readable::Bytes(Arc::new(text), attributes));
            }
            Node::HistoryTable { folder, name } => {
                let name = ask.name_of(folder, name)?;
                ask.admit_history(folder, &name)?;
                let attributes = ask.table_attributes(folder, &name)?;
                return Ok(Readable::Bytes(ask.table(folder, &name)?, attributes));
            }
            Node::Versions { .. }
            | Node::Deleted { .. }
            | Node::Points { .. }
            | Node::History { .. } => return Err(Denial::IsFolder),
        };
        Ok(Readable::State(Box::new(state), attributes))
    }
}

/// What a file's content comes from.
enum Readable {
    /// The store.
    State(Box<FileState>, Attributes),
    /// It was made just now.
    Bytes(Arc<Vec<u8>>, Attributes),
}

/// Returns the part of these bytes that begins at `offset`, at most `len` bytes.
pub(crate) fn part(bytes: &[u8], offset: u64, len: usize) -> &[u8] {
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
    &bytes[start..start.saturating_add(len).min(bytes.len())]
}

/// How often a read begins again because the file was written to meanwhile.
const READ_TRIES_MAX: usize = 4;

/// How many names are remembered for hashes and places, in each half: about 10 MiB where all are as long as can be.
const NAMES_KEPT: usize = 32_768;

/// How many commits' arrivals are remembered, in each half.
const ARRIVALS_KEPT: usize = 32_768;

/// How many folders are remembered as those in which short times were typed, in each half.
const TYPED_KEPT: usize = 4096;

/// How many versions are remembered in histories of names, in each half: about 20 MiB.
const VERSIONS_KEPT: usize = 100_000;

/// How many folders, with those that stood where they are, are remembered, in each half.
const FORMERS_KEPT: usize = 16_384;

/// How many whole histories are gone through at a time.
const WALKS_MAX: usize = 2;

/// How much of tables is remembered, in each half.
const TABLE_BYTES_KEPT: usize = 16 * 1024 * 1024;
