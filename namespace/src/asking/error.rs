//! Why a question by path has no answer.

use keepshare_base::{Kind, SetPath, Stamp, VersionId};
use keepshare_versioning::{
    ReadError,
    when::{Moment, WhenError},
};

use crate::Denial;

/// Why a question by path has no answer. What may not be seen is [`AskError::NeverThere`] like what never was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// What was typed is no time.
    #[error(transparent)]
    Time(WhenError),
    /// The path has a past, and was not there at that time.
    #[error("it was not there then")]
    NotThere,
    /// The path has a past, and nothing in it has this id.
    #[error("it has no such version")]
    NoVersion,
    /// The set has no point of that name.
    #[error("there is no such point")]
    NoPoint,
    /// The set has several points of that name.
    #[error("{} and {} are called so", .0[0], .0[1])]
    SeveralPoints([VersionId; 2]),
    /// There is nothing at the path and never was.
    #[error("it is not there and never was")]
    NeverThere {
        /// What may have been meant.
        near: Option<SetPath>,
    },
    /// It is there and has no version yet.
    #[error("it has no version yet")]
    NotYet,
    /// It is there and has versions, none of which the user may read.
    #[error("it has no version that you may read")]
    NoneReadable,
    /// The time is before the first whole state.
    #[error("the history begins at {begin}")]
    BeforeHistory {
        /// When the history begins.
        begin: Stamp,
    },
    /// Nothing whole has come of the set yet.
    #[error("there is no whole state yet")]
    NothingYet,
    /// The id of a version means several files that the path held.
    #[error("{} and {} have this id", .0[0], .0[1])]
    Several([Moment; 2]),
    /// The folder may be gone through, and not be listed.
    #[error("you may not list it")]
    NotListable,
    /// Only files are written back in place.
    #[error("only files are restored in place")]
    NotAFile(Kind),
    /// It was being written then, and is no version.
    #[error("it is no version yet")]
    NotAVersion,
    /// The folder in which it is to be written back is not there now, or not all of the way to it.
    #[error("there is no folder {0} now")]
    NoFolder(SetPath),
    /// Something of another kind is there now.
    #[error("something else is there now")]
    InTheWay,
    /// The user may read it, and not write it back.
    #[error("you may not write there")]
    NotWritable,
    /// The store is damaged or cannot be read, or what was asked for went while it was read.
    #[error("cannot read the store")]
    Store(#[source] ReadError),
}

impl From<ReadError> for AskError {
    fn from(error: ReadError) -> Self {
        Self::Store(error)
    }
}

impl From<Denial> for AskError {
    fn from(denial: Denial) -> Self {
        match denial {
            Denial::Store(error) => Self::Store(error),
            _ => Self::NotThere,
        }
    }
}

/// Why a long answer ended early.
#[derive(Debug)]
pub enum Interrupted<E> {
    /// There is no answer, or no more of it.
    Asked(AskError),
    /// Whoever takes it takes no more.
    Taker(E),
}

impl<E, T: Into<AskError>> From<T> for Interrupted<E> {
    fn from(error: T) -> Self {
        Self::Asked(error.into())
    }
}
