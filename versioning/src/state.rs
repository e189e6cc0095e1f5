//! What a view tells about a set: files, names, versions and positions as plain values.

use std::ops::Range;

use keepshare_base::{
    CommitId, ContentHash, Event, FileId, Kind, Meta, Name, Point, Position, RestoreRow, Schedule,
    Stamp, VersionId,
};

use crate::record::Body;

/// One commit: a change as this station took it in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CommitInfo {
    /// The station's own number for it.
    pub commit: CommitId,
    /// What this station's clock said when it arrived.
    pub arrival: Stamp,
    /// The change's place in its origin's journal.
    pub position: Position,
    /// False for a part of a mirror, between which and its end the set is of no one moment.
    pub complete: bool,
    /// The origin's journal time.
    pub stamp: Stamp,
    /// When it was made, by this station's reckoning: moments of one origin never go back.
    pub moment: Stamp,
    /// For how long the set had run here, whatever was done to the clock, in microseconds.
    pub running_micros: u64,
    /// Who made the change, where the origin knew.
    pub user: Option<String>,
}

/// One entry of a folder.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// What it is called.
    pub name: Name,
    /// What it stands for.
    pub file: FileId,
    /// What kind of thing that is.
    pub kind: Kind,
}

/// A file as one of its rows has it.
#[derive(Clone, Debug, PartialEq)]
pub struct FileState {
    /// Which file.
    pub file: FileId,
    /// The commit that brought this state.
    pub commit: CommitId,
    /// The commit that made it a version here; the one that brought it where it is none.
    pub cut_at: CommitId,
    /// The position of the cut where this is a version, else of the commit that brought it. Of no origin where the station
    /// cut it by itself, see [`VersionId::station_commit`].
    pub position: Position,
    /// The origin's time there.
    pub stamp: Stamp,
    /// When this station had it.
    pub arrival: Stamp,
    /// What happened to the file.
    pub event: Event,
    /// Who did it, where the origin knew.
    pub user: Option<String>,
    /// Its attributes, size included.
    pub meta: Meta,
    /// The hash of the whole content, where the origin computed it.
    pub hash: Option<ContentHash>,
    /// Whether this state is a version.
    pub cut: bool,
    /// The file kept changing while the origin read it: bytes of several moments.
    pub fuzzy: bool,
    /// Retention removed the content: nobody is shown it, though it may be brought back for some time.
    pub expired: bool,
    /// Where the content is.
    pub body: BodyRef,
}

impl FileState {
    /// Returns the id of the version that this state is; `None` where it is none yet.
    pub fn version(&self) -> Option<VersionId> {
        self.cut.then_some(VersionId(self.position))
    }
}

/// A version that retention removed and that can be brought back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Aside {
    /// The running time of the set here when the run began that removed it, in microseconds.
    pub since_micros: u64,
    /// Which file.
    pub file: FileId,
    /// The commit that brought the state.
    pub commit: CommitId,
    /// Its size, in bytes.
    pub size: u64,
}

/// Where a state's content is; only a [`crate::Reader`] can use it.
#[derive(Clone, Debug, PartialEq)]
pub struct BodyRef {
    pub(crate) body: Body,
    /// The commit that gave the content its present bytes.
    pub(crate) since: CommitId,
}

/// One version in the history of a name.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryEntry {
    /// The version's id.
    pub version: VersionId,
    /// The file at that version.
    pub state: FileState,
    /// The folder in which the version had its name.
    pub parent: FileId,
    /// The name it had.
    pub name: Name,
    /// The commit since which the name held it.
    pub since: CommitId,
    /// The commit that ended this; [`CommitId::MAX`] where none has.
    pub until: CommitId,
    /// Since when that name held it, by the origin's stamps, which say nothing of the order.
    pub held_from: Stamp,
    /// Until when, and what ended it; `None` where it has not ended.
    pub held_until: Option<(Stamp, Ended)>,
    /// Whether the name that was asked for holds exactly this now.
    pub current: bool,
}

/// What ended a name's hold of a version.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Ended {
    /// A newer version or another file came in its place.
    Replaced,
    /// The name was removed, and the file has no other from then on.
    Deleted,
    /// The file went on under another name.
    Renamed,
}

impl Ended {
    /// Returns what it is called wherever versions are listed.
    pub fn word(self) -> &'static str {
        match self {
            Self::Replaced => "replaced",
            Self::Deleted => "deleted",
            Self::Renamed => "renamed",
        }
    }
}

/// What commits after some commit touched.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Touched {
    /// These names and files, each once, sorted.
    Known {
        /// Names whose meaning changed.
        names: Vec<(FileId, Name)>,
        /// Files whose state changed.
        files: Vec<FileId>,
    },
    /// Not known any more, or too much to say: take everything as touched.
    Everything,
}

/// Which bytes of a file may differ from an earlier commit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BodyChanges {
    /// All of them.
    Whole,
    /// These, sorted, without overlap, inside the file's size; bytes beyond the earlier size are zeros where no range
    /// names them.
    Ranges(Vec<Range<u64>>),
}

/// A named moment of the set.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PointInfo {
    /// The moment.
    pub commit: CommitId,
    /// Its name and kind.
    pub point: Point,
    /// The position of the change that made it.
    pub position: Position,
    /// When it ends, as running time of the set here in microseconds; [`u64::MAX`]: when it is removed.
    pub ends: u64,
    /// Until when it is held, likewise; 0: it is not.
    pub held: u64,
    /// This station keeps it, whatever its master says.
    pub kept_here: bool,
    /// Of those that are made every so often: how often, and how many of the last ones stay also after their time.
    pub schedule: Option<Schedule>,
}

impl PointInfo {
    /// Returns until when it stays; [`u64::MAX`]: until somebody says otherwise.
    pub fn until(&self) -> u64 {
        if self.kept_here { u64::MAX } else { self.ends.max(self.held) }
    }
}

/// The answer to a request to restore.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RestoreInfo {
    /// The request and what came of it.
    pub row: RestoreRow,
    /// The change that answered it.
    pub position: Position,
    /// This station's commit of that change.
    pub commit: CommitId,
}
