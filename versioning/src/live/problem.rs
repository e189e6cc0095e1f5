//! What can be wrong with a live tree: with all of it, or with one part.

use std::{fmt, io, path::PathBuf};

use keepshare_base::{FileId, Name, SetPath, chain};

use super::{attributes::LeftOut, records::RecordsError};
use crate::ReadError;

/// Why a live tree cannot be worked on at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LiveError {
    /// A folder of the tree cannot be used.
    #[error("cannot use the folder {path}")]
    Folder {
        /// The folder's path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The live folder, which is held open, is not at its path any more.
    #[error(
        "the live folder {path} is not there any more: put the same folder back, or start the station anew, and it is built again from what is kept"
    )]
    Moved {
        /// The live folder's path.
        path: PathBuf,
        /// What the system said of the path; `None` where nothing is there, or something else.
        #[source]
        source: Option<io::Error>,
    },
    /// The stage is on another file system, or inside the live folder.
    #[error(
        "the stage {stage} is not beside the live folder on the same file system: move the live folder back, or both"
    )]
    Stage {
        /// The stage.
        stage: PathBuf,
    },
    /// The folder holds something, and was not made by this set.
    #[error(
        "the folder {path} is not empty and is not this set's: move what is in it elsewhere, and it is filled again"
    )]
    NotOurs {
        /// The live folder, or the stage.
        path: PathBuf,
    },
    /// The index failed.
    #[error("cannot read the index")]
    Index(#[from] ReadError),
    /// The state file failed.
    #[error("cannot use the records of the live tree")]
    Records(#[from] RecordsError),
    /// The tree could not be made durable; it is applied again from where it was.
    #[error("cannot sync the live tree")]
    Sync(#[source] io::Error),
}

/// Something in a live tree that is not as it should be. It is tried again by and by.
#[derive(Debug)]
pub struct Problem {
    /// Where; `None` where it has no path any more.
    pub path: Option<SetPath>,
    /// Whose name or content is concerned, where it is a file of the set.
    pub file: Option<FileId>,
    /// What is wrong.
    pub cause: ProblemCause,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.path, self.file) {
            (Some(path), _) => write!(f, "{path}: ")?,
            (None, Some(file)) => write!(f, "{file}: ")?,
            (None, None) => {}
        }
        f.write_str(&chain(&self.cause))
    }
}

/// What is wrong with a part of a live tree.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProblemCause {
    /// The file system refused.
    #[error("the file system failed")]
    Io(#[source] io::Error),
    /// The store cannot give the content.
    #[error("the content cannot be read")]
    Content(#[source] ReadError),
    /// Someone put something else there. It was replaced.
    #[error("someone else wrote into the live folder; what was there is kept as {kept:?}")]
    Foreign {
        /// Under which name of the stage it is kept; `None` where there was nothing to keep.
        kept: Option<Name>,
    },
    /// The file system does not take all attributes; name and content are as they should be.
    #[error("{0}")]
    Attributes(LeftOut),
    /// The folder it belongs in could not be made.
    #[error("the folder is missing")]
    NoFolder,
}

/// Why one name or file could not be made what it should be.
#[derive(Debug)]
pub(super) enum Fail {
    /// Nothing can be done at all.
    Fatal(LiveError),
    /// The file system refused.
    Io(io::Error),
    /// The store has no content for it.
    Content(ReadError),
    /// The folder it belongs in is not there.
    NoFolder,
}

impl From<io::Error> for Fail {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<ReadError> for Fail {
    fn from(error: ReadError) -> Self {
        Self::Fatal(error.into())
    }
}

impl From<RecordsError> for Fail {
    fn from(error: RecordsError) -> Self {
        Self::Fatal(error.into())
    }
}

impl From<LiveError> for Fail {
    fn from(error: LiveError) -> Self {
        Self::Fatal(error)
    }
}
