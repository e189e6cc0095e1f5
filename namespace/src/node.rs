//! The nodes of a share: what a file handle names.

use keepshare_base::{CommitId, FileId, Position, Stamp};

/// One thing of a share's tree, live or past: small, the same after a restart and, but for parts of a mirror, on every station.
///
/// A node says *what* is meant, never that it exists or may be seen: every question about one looks again.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Node {
    /// A file, folder or link as it is now; [`FileId::ROOT`] is the drive's root.
    Live {
        /// Which.
        file: FileId,
    },
    /// `@versions` of a folder.
    Versions {
        /// The live folder in which it is.
        folder: FileId,
    },
    /// `@versions/_README.txt`.
    Readme {
        /// The folder of its `@versions`.
        folder: FileId,
    },
    /// `@versions/_deleted`.
    Deleted {
        /// The folder of its `@versions`.
        folder: FileId,
    },
    /// `@versions/_points`.
    Points {
        /// The folder of its `@versions`.
        folder: FileId,
    },
    /// `@versions/NAME@` and `@versions/_deleted/NAME@`: the versions of one name.
    History {
        /// The folder that has or had the name.
        folder: FileId,
        /// The name's hash.
        name: NameHash,
    },
    /// `@versions/NAME@/_history.csv`.
    HistoryTable {
        /// The folder that has or had the name.
        folder: FileId,
        /// The name's hash.
        name: NameHash,
    },
    /// One version of a file or link, below `NAME@`.
    Version {
        /// The folder through which it was reached.
        folder: FileId,
        /// The version's file.
        file: FileId,
        /// The position of its cut.
        position: Position,
    },
    /// Something as it was at a moment: the folder of a time view, and everything below it.
    Past {
        /// The folder through whose `@versions` it was reached.
        folder: FileId,
        /// What it is.
        file: FileId,
        /// When.
        moment: PastMoment,
    },
}

/// The moment that a time view shows.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum PastMoment {
    /// The last change made at or before this, as it was told when the change with that position was the newest; of all
    /// that have come where none is named. Handles of older releases alone say this.
    At(Stamp, Option<Position>),
    /// Right after the change with this position.
    After(Position),
    /// Right after one commit of several with this position, as the parts of a mirror are: more of them may come.
    Part(Position, CommitId),
}

/// The hash of a name, which stands for it where a name is too long: 64 bits of a keyed BLAKE3.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct NameHash(pub u64);
