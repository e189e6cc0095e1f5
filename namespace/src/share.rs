//! A share: one set as users see it.

use std::sync::Arc;

use keepshare_auth::Principal;
use keepshare_base::{Kind, RequestId, SetName, Stamp};
use keepshare_versioning::{FileState, ReadError};

use crate::{
    Access, Attributes, Cookie, Denial, Found, LISTED_MAX, Listing, Node, Restore, Room,
    ShareConfig, ShareId, content::part, memory::Inner, question::Question, versions::README_TEXT,
};

/// One set as users see it; clones share everything.
#[derive(Clone, Debug)]
pub struct Share {
    pub(crate) inner: Arc<Inner>,
}

impl Share {
    /// Returns the share.
    pub fn new(config: ShareConfig) -> Self {
        Self { inner: Arc::new(Inner::new(config)) }
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
            let Inner { blocks, config, .. } = &*self.inner;
            match blocks.read_into(&config.reader, &state, offset, len, out) {
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
        request: RequestId,
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

/// How often a read begins again because the file was written to meanwhile.
const READ_TRIES_MAX: usize = 4;
