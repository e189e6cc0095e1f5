//! What stands where a request does something, by the folder and by the map.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use keepshare_base::{FileId, Kind, Name, RestoreGround, SetPath};
use keepshare_decide::{
    FileRecord, Known,
    restores::{Ground, objection},
};
use rustix::io::Errno;

use crate::source::{
    SourceError,
    folders::Folders,
    ledger::Tx,
    tree::{AtName, Seen, Tree},
};

/// Why a request waits for what it would replace.
pub(super) const UNKEPT: &str =
    "the file is being written, and what is in it is no version yet; try again in a moment";

/// Why it waits for what is no file.
const UNKNOWN: &str =
    "what is there is not known as it is now, or is not replicated; try again in a moment";

/// Why nothing is put over what is there.
pub(super) const TAKEN: &str = "something else has that name now";

/// Why nothing is done with what is not there.
pub(super) const GONE: &str = "it is not there any more";

/// Where a restore goes.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) folder: OwnedFd,
    pub(super) parent: FileId,
    pub(super) name: Name,
    /// What is there, and what is known of it.
    pub(super) now: Option<Present>,
}

/// Something that is there, and what is known of it.
pub(super) type Present = (Seen, FileId, FileRecord);

/// What stands at a path.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) folder: OwnedFd,
    pub(super) parent: FileId,
    pub(super) name: Name,
    /// What is there.
    pub(super) seen: Option<Seen>,
    /// What the map has there.
    pub(super) known: Option<(FileId, FileRecord)>,
}

/// Something that a request waits for: it is not known as it is, or no version yet.
#[derive(Debug)]
pub(super) struct Unkept {
    pub(super) parent: FileId,
    pub(super) name: Name,
    /// The file, where the map knows it as it is.
    pub(super) file: Option<FileId>,
    /// What is said where it stays so.
    pub(super) why: &'static str,
}

/// What comes of comparing what stands somewhere with what must.
#[expect(clippy::large_enum_variant, reason = "looked at once and taken apart")]
pub(super) enum Stands {
    /// That cannot be told yet.
    Unkept(Unkept),
    /// It is what must be there.
    As(Option<Present>),
}

impl Standing {
    /// Looks at a path. Its folders must be known, and be where the map has them.
    pub(super) fn find(tx: &Tx<'_>, tree: &Tree, path: &SetPath) -> Result<Self, SourceError> {
        let (folders, name) = path.split_last().ok_or_else(|| refused("the root is no file"))?;
        let mut parent = FileId::ROOT;
        for folder in folders.names() {
            match tx.map.lookup(parent, folder)? {
                Some((file, Kind::Dir)) => parent = file,
                _ => return Err(refused("its folder is not there")),
            }
        }
        let folder = Folders::default().open(&tx.map, tree, parent)?;
        let folder = folder.ok_or_else(|| refused("its folder is not there"))?;
        let seen = match tree.look(folder.as_fd(), name).map_err(failed)? {
            AtName::Nothing => None,
            AtName::Object(seen) => Some(seen),
            AtName::Mounted => return Err(refused("another file system is mounted there")),
        };
        let known = match tx.map.lookup(parent, name)? {
            Some((file, _)) => tx.map.record(file)?.map(|record| (file, record)),
            None => None,
        };
        let folder = folder.try_clone().map_err(failed)?;
        Ok(Self { folder, parent, name: name.clone(), seen, known })
    }

    /// Tells whether nothing is there, and the map knows.
    pub(super) fn is_nothing(&self) -> bool {
        self.seen.is_none() && self.known.is_none()
    }

    /// Tells whether it is this file, whatever became of that.
    pub(super) fn is(&self, wanted: FileId) -> bool {
        match (&self.seen, &self.known) {
            (Some(seen), Some((file, record))) => *file == wanted && record.inode == seen.inode,
            _ => false,
        }
    }

    /// Compares its folder with the one that it must be in.
    pub(super) fn check_folder(&self, ground: &RestoreGround) -> Result<(), SourceError> {
        let ground = RestoreGround { present: None, still: None, ..ground.clone() };
        objection(&ground, self.parent, None).map_or(Ok(()), |why| Err(refused(why)))
    }

    /// Compares it with what must be there, where somebody says that.
    pub(super) fn check(&self, ground: Option<&RestoreGround>) -> Result<Stands, SourceError> {
        let now = match Ground::judge(self.seen, self.known.clone()) {
            Ground::Nothing => None,
            Ground::Unkept(file) => return Ok(Stands::Unkept(self.unkept(file))),
            Ground::Known(seen, file, record) => Some((seen, file, record)),
        };
        let known = now.as_ref().map(|(_, file, record)| (*file, record));
        match ground.and_then(|ground| objection(ground, self.parent, known)) {
            Some(why) => Err(refused(why)),
            None => Ok(Stands::As(now)),
        }
    }

    /// Has it waited for.
    pub(super) fn unkept(&self, file: Option<FileId>) -> Unkept {
        let is_file = |kind| kind == Kind::File;
        let is_known_file = self.known.as_ref().is_some_and(|known| is_file(known.1.meta.kind));
        let is_seen_file = self.seen.is_some_and(|seen| is_file(seen.kind));
        let why = if is_known_file && is_seen_file { UNKEPT } else { UNKNOWN };
        Unkept { parent: self.parent, name: self.name.clone(), file, why }
    }
}

/// Says why the file system did not do something. For lack of room, and of what there is again in a moment, it may be done later.
pub(super) fn failed(error: impl Into<io::Error>) -> SourceError {
    let error = error.into();
    match Errno::from_io_error(&error) {
        Some(Errno::NOSPC | Errno::DQUOT) => SourceError::NoRoom(error.to_string()),
        Some(
            Errno::AGAIN
            | Errno::MFILE
            | Errno::NFILE
            | Errno::NOMEM
            | Errno::NOTCONN
            | Errno::STALE
            | Errno::TIMEDOUT,
        ) => SourceError::NotNow(error.to_string()),
        _ => refused(error.to_string()),
    }
}

pub(super) fn refused(reason: impl Into<String>) -> SourceError {
    SourceError::Refused(reason.into())
}

/// The source's folder is not there: what is asked may be done when it is.
pub(super) fn away() -> SourceError {
    SourceError::Vanished("its folder is not where it was".to_owned())
}
