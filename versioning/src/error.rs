//! Why the store refuses, fails, or cannot answer.

use std::io;

use keepshare_base::{ChangeError, CommitId, Epoch, FileId, Name, Position, Seq};

use crate::{disk::is_full, index::IndexError, log::LogError, pack::PackError};

/// Why a change is refused. It left no trace: nothing of it was buffered.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Wrong by itself.
    #[error("the change is not usable")]
    Change(#[from] ChangeError),
    /// From a master that was replaced.
    #[error("epoch {got} is over: the set is fenced at {fence}")]
    Fenced {
        /// The change's epoch.
        got: Epoch,
        /// The lowest one taken.
        fence: Epoch,
    },
    /// A number that leaves no room for what comes after it.
    #[error("{got} is beyond what can follow epoch {fence}")]
    Beyond {
        /// Where the change says it stands.
        got: Position,
        /// The lowest epoch taken.
        fence: Epoch,
    },
    /// From an older epoch, or a change that is here already.
    #[error("{got} is not after {last}")]
    Old {
        /// Where the change says it stands.
        got: Position,
        /// The last complete change.
        last: Position,
    },
    /// Changes before it are missing, and it ends no mirror.
    #[error("{got} is not the next change: {want} is")]
    Gap {
        /// Where the change says it stands.
        got: Position,
        /// What comes next.
        want: Seq,
    },
    /// A mirror that does not lead above everything that its origin sent, nor is the one that runs.
    #[error("a mirror to {got} is none: {above} is here already")]
    MirrorPlace {
        /// Where it says that it leads.
        got: Position,
        /// The highest place of the origin.
        above: Position,
    },
    /// A version said to be from after the mirror that brings it, or brought by no mirror.
    #[error("a version of {file} is said to be of {got}, which is not before a mirror's place")]
    Made {
        /// Whose.
        file: FileId,
        /// Where it is said to be from.
        got: Position,
    },
    /// A name in a folder that is not here.
    #[error("there is no folder {0}")]
    NoParent(FileId),
    /// A name in something that is no folder.
    #[error("{0} is not a folder")]
    NotAFolder(FileId),
    /// A name, or a cut, for a file that is not here.
    #[error("there is no file {0}")]
    NoFile(FileId),
    /// A file of an epoch that has not begun.
    #[error("{file} is said to be born after epoch {epoch}")]
    Unborn {
        /// Which.
        file: FileId,
        /// The change's epoch.
        epoch: Epoch,
    },
    /// A file row or name row of another kind than the file has.
    #[error("{0} is of another kind")]
    Kind(FileId),
    /// A folder that would have two names.
    #[error("the folder {0} would have two names")]
    TwoNames(FileId),
    /// A folder that would be inside itself.
    #[error("the folder {0} would be inside itself")]
    Cycle(FileId),
    /// Folders deeper inside each other than paths can be.
    #[error("'{name}' in {parent} would be too deep")]
    TooDeep {
        /// The folder.
        parent: FileId,
        /// The name in it.
        name: Name,
    },
    /// One change cuts a file at most once.
    #[error("{0} would be cut twice by one change")]
    CutTwice(FileId),
    /// More rows than one record can hold.
    #[error("the change needs a record of {got} bytes, over the limit of {limit}")]
    TooLarge {
        /// What it needs.
        got: usize,
        /// What there may be.
        limit: usize,
    },
    /// A version that must stay, or is none.
    #[error("{file} at {commit} cannot be removed")]
    Removal {
        /// Which file.
        file: FileId,
        /// Its state at which commit.
        commit: CommitId,
    },
}

/// Why a change was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// It is not one that the set can take.
    #[error("the change is refused")]
    Refused(#[source] Refusal),
    /// The disk is full; the set can be read, and takes changes again when there is space.
    #[error("the disk is full")]
    Full,
    /// An earlier failure left the disk's state unknown; open the set again.
    #[error("the set must be opened again after a failed write")]
    Poisoned,
    /// The store failed.
    #[error("the change could not be kept")]
    Store(#[source] Box<StoreError>),
}

impl CommitError {
    /// Tells whether the same may be tried again at another time: the disk is full or fails, and nothing is lost.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Full => true,
            Self::Store(error) => matches!(**error, StoreError::Index(_) | StoreError::Io(_)),
            Self::Refused(_) | Self::Poisoned => false,
        }
    }
}

/// Why the store cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The disk is full; nothing is lost, and the same call may be made again when there is space.
    #[error("the disk is full")]
    Full,
    /// An earlier failure left the disk's state unknown; open the set again.
    #[error("the set must be opened again after a failed write")]
    Poisoned,
    /// The index remembers commits and there is no log.
    #[error("the log is missing, and the index knows commits through {0}")]
    LogMissing(CommitId),
    /// A record that was durable holds no rows.
    #[error("the record of commit {0} does not read")]
    Record(CommitId),
    /// A record written by a newer Keepshare.
    #[error("a record has format {found}; this version of Keepshare knows {known}")]
    NewerRecord {
        /// What the record says.
        found: u8,
        /// What we know.
        known: u8,
    },
    /// The log failed, or is damaged.
    #[error("the log failed")]
    Log(#[source] LogError),
    /// A pack failed, or is damaged.
    #[error("the packs failed")]
    Pack(#[source] PackError),
    /// The index failed and could not be built anew.
    #[error("the index failed")]
    Index(#[source] IndexError),
    /// Rows of the store's own make no record; nothing is lost, and the set goes on without them.
    #[error("a record of the store's own was refused")]
    Refused(#[source] Refusal),
    /// The disk failed.
    #[error("the disk failed")]
    Io(#[source] io::Error),
}

impl From<IndexError> for StoreError {
    fn from(error: IndexError) -> Self {
        if error.is_full() { Self::Full } else { Self::Index(error) }
    }
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        if is_full(&error) { Self::Full } else { Self::Io(error) }
    }
}

impl From<LogError> for StoreError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Full(_) => Self::Full,
            LogError::Poisoned => Self::Poisoned,
            other => Self::Log(other),
        }
    }
}

impl From<PackError> for StoreError {
    fn from(error: PackError) -> Self {
        match error {
            PackError::Full(_) => Self::Full,
            PackError::Poisoned => Self::Poisoned,
            other => Self::Pack(other),
        }
    }
}

impl From<Refusal> for CommitError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<StoreError> for CommitError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => Self::Full,
            StoreError::Poisoned => Self::Poisoned,
            other => Self::Store(Box::new(other)),
        }
    }
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The content is damaged here; another station may have it.
    #[error("the content of {file} is damaged")]
    Damaged {
        /// Whose content.
        file: FileId,
        /// What was found.
        #[source]
        source: PackError,
    },
    /// Retention removed the content.
    #[error("the content of {file} expired and was removed")]
    Expired {
        /// Whose content.
        file: FileId,
    },
    /// The state is not kept any more: it was never a version, and a newer one came.
    #[error("this state of {file} is not kept any more")]
    Gone {
        /// Whose state.
        file: FileId,
    },
    /// The index failed; the store builds it anew at its next sync.
    #[error("the index failed")]
    Index(#[from] IndexError),
    /// The packs could not be read.
    #[error("the packs failed")]
    Pack(#[source] PackError),
}
