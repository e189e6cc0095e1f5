//! What a plan is made of: steps, each with what must still be there, and what stays.

use keepshare_base::{CommitId, FileId, FileTime, Kind, PresentFile, SetPath, VersionId};
use serde::{Deserialize, Serialize};

use crate::FileState;

/// One thing to be done.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Where, at the time that the steps before it are done.
    pub path: SetPath,
    /// The folder of that path; `None` where a step before it makes it.
    pub folder: Option<FileId>,
    /// What.
    pub doing: Doing,
}

/// What a step does.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Doing {
    /// Write a version, over what is there or where nothing is.
    Write {
        /// The version.
        what: StateOf,
        /// It is what was there then, not the nearest older one that is kept.
        exact: bool,
        /// Its size, in bytes.
        size: u64,
        /// What it replaces.
        over: Option<Present>,
    },
    /// Make a folder or a symlink.
    Make {
        /// With the attributes of this state.
        what: StateOf,
        /// Which of the two.
        kind: Kind,
    },
    /// Give a folder or a symlink the attributes it had.
    SetAttributes {
        /// Those of this state.
        what: StateOf,
        /// What is there; `None` where a step before it made that.
        over: Option<Present>,
        /// They were others; else a step before it changes them on the way.
        differs: bool,
    },
    /// Move what is there.
    Move {
        /// What is moved.
        what: Present,
        /// Where to.
        to: SetPath,
        /// The folder of that path; `None` where a step before it makes it.
        folder: Option<FileId>,
        /// It only makes room: what is moved has another place, or goes.
        aside: bool,
    },
    /// Give a file one more name.
    Link {
        /// Which file; `None`: the one that a step before it wrote there.
        what: Option<Present>,
        /// The name.
        to: SetPath,
        /// The folder of that path; `None` where a step before it makes it.
        folder: Option<FileId>,
    },
    /// Remove what was made since.
    Remove {
        /// What goes.
        what: Present,
        /// What that is.
        kind: Kind,
    },
}

/// A state of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct StateOf {
    /// Which file.
    pub file: FileId,
    /// The commit that brought it.
    pub commit: CommitId,
}

/// What stands at a path.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Present {
    /// What it is, as far as rights hang on it.
    pub file: PresentFile,
    /// The size and the time of change of a file; what changed since is left.
    pub still: Option<(u64, FileTime)>,
    /// The version that it is, or the change that brought it.
    pub version: VersionId,
}

impl Step {
    /// Returns the files that it speaks of.
    pub fn files(&self) -> impl Iterator<Item = FileId> {
        let file = match &self.doing {
            Doing::Write { over, .. } | Doing::SetAttributes { over, .. } => over.as_ref(),
            Doing::Link { what, .. } => what.as_ref(),
            Doing::Move { what, .. } | Doing::Remove { what, .. } => Some(what),
            Doing::Make { .. } => None,
        };
        file.map(|present| present.file.file).into_iter()
    }

    /// Returns the paths at which something is afterwards.
    pub fn paths(&self) -> impl Iterator<Item = &SetPath> {
        let path = match &self.doing {
            Doing::Write { .. } | Doing::Make { .. } | Doing::SetAttributes { .. } => {
                Some(&self.path)
            }
            Doing::Move { to, .. } | Doing::Link { to, .. } => Some(to),
            Doing::Remove { .. } => None,
        };
        path.into_iter()
    }
}

impl Present {
    pub(super) fn new(state: &FileState) -> Self {
        let meta = &state.meta;
        let still = (meta.kind == Kind::File).then_some((meta.size, meta.mtime));
        let version = VersionId(state.position);
        Self { file: PresentFile::new(state.file, meta), still, version }
    }
}

/// Something that is left as it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Left {
    /// Where it is, or was.
    pub path: SetPath,
    /// Why.
    pub why: Why,
}

/// Why something is left as it is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub enum Why {
    /// Nothing of what it was is kept.
    Lost,
    /// It was elsewhere then.
    MovedIn,
    /// It changed since.
    Changed,
    /// It came since.
    CameSince,
    /// It is being written: what is in it is no version yet.
    NotAVersion,
    /// It is a pipe, a socket or a device.
    Special(Kind),
    /// The file has names outside of the folder, which would show what it was, too.
    LinkedOutside,
    /// It is a folder in which something stays.
    HoldsWhatStays,
    /// It is one of the files that programs make for a moment.
    Temporary,
    /// A folder would come into itself.
    InItself,
    /// Something else has its name now.
    Taken,
    /// Whoever orders it may not change it.
    NotYours,
    /// It is a folder whose names whoever orders it may not read.
    NotListed,
}

/// What a plan tells, in order.
#[derive(Clone, Debug)]
pub enum Planned {
    /// Something is to be done.
    Step(Step),
    /// Something stays as it is though it was other then, or was not there.
    Left(Left),
}

impl StateOf {
    pub(super) fn new(state: &FileState) -> Self {
        Self { file: state.file, commit: state.commit }
    }
}
