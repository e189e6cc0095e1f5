//! What whoever orders a roll-back may see and do: a plan asks, and so does whoever does a step of it later; whoever knows rights
//! answers. Nothing here knows any.

use keepshare_base::{CommitId, FileId};

use super::{Doing, StateOf};
use crate::{FileState, ReadError};

/// What is asked: whether this may be.
#[derive(Clone, Copy, Debug)]
pub enum Asked<'a> {
    /// A thing is told of as it was at a commit.
    Seen {
        /// Which.
        file: FileId,
        /// When; [`CommitId::MAX`]: as it is.
        at: CommitId,
        /// The older state that stands in for what it was.
        state: Option<&'a FileState>,
    },
    /// The names in a folder are read as they were at a commit.
    Listed {
        /// Which.
        folder: FileId,
        /// When; [`CommitId::MAX`]: as they are.
        at: CommitId,
    },
    /// What a thing held once is read now.
    Read {
        /// Which.
        file: FileId,
    },
    /// A folder gets one more name.
    Named {
        /// Which.
        folder: FileId,
    },
    /// A folder has a name no more.
    Unnamed {
        /// Which.
        folder: FileId,
        /// What had the name.
        file: FileId,
    },
    /// A file is written over.
    Written {
        /// The folder it is in.
        folder: FileId,
        /// Which.
        file: FileId,
    },
    /// A thing gets the attributes of a state.
    Attributes {
        /// Which.
        file: FileId,
        /// The state.
        what: StateOf,
    },
    /// A file gets one more name.
    Linked {
        /// Which.
        file: FileId,
    },
    /// A thing comes into another folder.
    Carried {
        /// Which.
        file: FileId,
    },
}

/// Knows what whoever orders it may.
pub trait Judge {
    /// Tells whether this may be.
    fn may(&self, asked: Asked<'_>) -> Result<bool, ReadError>;
}

/// Lets everything be: for whoever runs the station.
#[derive(Clone, Copy, Debug)]
pub struct Anything;

impl Judge for Anything {
    fn may(&self, _: Asked<'_>) -> Result<bool, ReadError> {
        Ok(true)
    }
}

impl Doing {
    /// Returns what it takes to do this in a folder, and to another place in `to`; `None` for a folder that a step before makes, in
    /// which whoever makes it may do everything.
    pub fn asks(&self, folder: Option<FileId>, to: Option<FileId>) -> Vec<Asked<'static>> {
        let named = |folder: Option<FileId>| folder.map(|folder| Asked::Named { folder });
        let unnamed = |file: FileId| folder.map(move |folder| Asked::Unnamed { folder, file });
        let asks: Vec<Option<Asked<'static>>> = match self {
            Self::Write { what, over: Some(over), .. } => {
                let file = over.file.file;
                let written = folder.map(|folder| Asked::Written { folder, file });
                vec![Some(Asked::Read { file: what.file }), written]
            }
            Self::Write { what, over: None, .. } | Self::Make { what, .. } => {
                vec![Some(Asked::Read { file: what.file }), named(folder)]
            }
            Self::SetAttributes { what, over: Some(over), .. } => {
                vec![Some(Asked::Attributes { file: over.file.file, what: *what })]
            }
            Self::SetAttributes { over: None, .. } => Vec::new(),
            Self::Move { what, .. } => {
                let file = what.file.file;
                let carried = (folder != to).then_some(Asked::Carried { file });
                vec![unnamed(file), named(to), carried]
            }
            Self::Link { what, .. } => {
                let linked = what.as_ref().map(|what| Asked::Linked { file: what.file.file });
                vec![named(to), linked]
            }
            Self::Remove { what, .. } => {
                let (file, at, state) = (what.file.file, CommitId::MAX, None);
                // Whoever takes it away could not bring back what they cannot read.
                vec![unnamed(file), Some(Asked::Seen { file, at, state })]
            }
        };
        asks.into_iter().flatten().collect()
    }
}
