//! What the rest of a master sees of a source.

use std::{path::PathBuf, time::Duration};

use keepshare_base::{
    Epoch, FilledChange, Meta, OriginId, Position, RequestId, RestoreGround, RestoreOutcome,
    RestoreRow, RunningHash, Seq, SetName, SetPath, Stamp, VersionId,
};
pub use keepshare_decide::{
    agenda::problems::FileProblem,
    mirror::{Listing, MirrorProgress},
};
use keepshare_proto::{Act, NO_ROOM, cut::CutRule};
use serde::{Deserialize, Serialize};

/// How changes of a source are noticed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum CaptureMode {
    /// Fanotify where the system permits it, else inotify.
    #[default]
    Auto,
    /// Fanotify marks on the file system; needs root.
    Fanotify,
    /// An inotify watch on every folder.
    Inotify,
    /// No events: only scans, at the start, on request and by schedule.
    Scan,
}

/// What a source may use and keep.
#[derive(Clone, Debug)]
pub struct SourceLimits {
    /// Content of recent changes kept in memory, in bytes.
    pub cache_bytes_max: u64,
    /// Content of unacknowledged changes kept on disk, in bytes.
    pub spool_bytes_max: u64,
    /// Changes kept in the journal.
    pub journal_entries_max: u64,
    /// Rows kept in the journal, in bytes, without content.
    pub journal_bytes_max: u64,
}

/// Which folder is a source, and where what is known of it is kept.
#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// The set.
    pub set: SetName,
    /// The source slot of the set.
    pub origin: OriginId,
    /// The folder.
    pub root: PathBuf,
    /// The station's state directory: a source that contains it, or lies in it, is refused.
    pub state_dir: PathBuf,
    /// Where the spool of lagging destinations goes; inside the state directory.
    pub spool_dir: PathBuf,
    /// How changes are noticed.
    pub capture: CaptureMode,
    /// What it may use.
    pub limits: SourceLimits,
    /// When states become versions.
    pub cut: CutRule,
    /// How often everything is compared with the map, whatever the events said.
    pub rescan_every: Duration,
    /// How often that is done on a file system that others write to as well, and nobody tells of it: NFS, SMB, FUSE.
    pub rescan_shared_every: Duration,
    /// The folder of the journal, `SET.redb`. A new epoch leaves the journal that it ends there, as `SET.epoch-N.redb`.
    pub keep_journals: Option<PathBuf>,
    /// How long restores wait for others.
    pub restores: RestoreTimes,
}

/// How long restores wait for others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RestoreTimes {
    /// For what would be replaced to be kept, and for programs to close what can only be written where it is.
    pub patience: Duration,
    /// What was replaced is at rest when it did not change for so long, where nobody can tell whether it is open.
    pub rest: Duration,
    /// How often what changes although it was replaced becomes a version while it stays open.
    pub look_every: Duration,
}

/// A journaled change.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JournaledChange {
    /// Its place.
    pub seq: Seq,
    /// The running hash with it.
    pub running: RunningHash,
    /// Its rows and content.
    pub filled: FilledChange,
}

/// How large a journaled change is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ChangeSize {
    /// Its place.
    pub seq: Seq,
    /// When it was journaled, by the source's clock.
    pub stamp: Stamp,
    /// Its row and its content, in bytes.
    pub bytes: u64,
}

/// The last change of a journal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Head {
    /// The holder of the origin.
    pub epoch: Epoch,
    /// The place of its last change.
    pub seq: Seq,
    /// The running hash with it.
    pub running: RunningHash,
}

/// One part of a mirror, all of which share the position of the head it was taken at.
#[derive(Clone, Debug)]
pub struct MirrorPart {
    /// The head that the mirror shows.
    pub head: Head,
    /// The last part: the destination is at `head` now.
    pub complete: bool,
    /// Rows and content.
    pub filled: FilledChange,
}

/// Takes the parts of a mirror; it blocks while the destination is slower.
pub trait MirrorSink {
    /// Takes one part; `false`: the mirror is not wanted any more.
    fn part(&mut self, part: MirrorPart) -> bool;
    /// Hears how far the mirror is.
    fn progress(&mut self, progress: MirrorProgress);
}

/// A request to bring something of the past back.
#[derive(Clone, Debug)]
pub struct RestoreRequest {
    /// Names the request; a repeat is answered from the journal.
    pub request: RequestId,
    /// The version that was asked for.
    pub version: VersionId,
    /// Who asked.
    pub user: Option<String>,
    /// Where it goes: a name of the set; its folder exists.
    pub path: SetPath,
    /// The version's attributes.
    pub meta: Meta,
    /// The version's content, at rest in a file of ours; empty where none is written.
    pub content: PathBuf,
    /// What must still be there; nothing is looked at for `None`.
    pub ground: Option<RestoreGround>,
    /// What is done.
    pub act: Act,
}

/// What came of a restore.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct RestoreAnswer {
    /// The change that carries it.
    pub position: Position,
    /// Written, or equal already.
    pub outcome: RestoreOutcome,
    /// A program has the file open that was replaced: what it writes into it becomes a version.
    #[serde(skip)]
    pub still_open: bool,
}

impl RestoreAnswer {
    /// Returns the answer to a restore that the change at `position` carries.
    pub(crate) fn journaled(restore: &RestoreRow, position: Position) -> Self {
        Self { position, outcome: restore.outcome.clone(), still_open: false }
    }
}

/// Something that keeps a whole source from being replicated until a person acts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SourceAlarm {
    /// The folder is gone, or another one is in its place (an unmounted disk).
    Vanished(String),
    /// The journal cannot be written.
    Journal(String),
    /// There is no space for the journal; what changes meanwhile is found when there is.
    Full(String),
    /// A change in the journal is damaged: stations that lack it are mirrored.
    Damaged {
        /// Which.
        seq: Seq,
    },
    /// The oldest changes were dropped although a destination had not got them.
    Dropped {
        /// The last one dropped.
        through: Seq,
    },
}

/// Files that somebody has open for writing: stores into them may raise no event, so they are looked at again and again.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Swept {
    /// How many.
    pub files: u64,
    /// How long ago the one was looked at that waits longest.
    pub ago: Duration,
}

/// A file system that others write to as well, and nobody tells of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SharedFileSystem {
    /// What it is called.
    pub name: &'static str,
    /// How often everything is compared.
    pub rescan_every: Duration,
}

/// A source at a glance.
#[derive(Clone, Debug, Default)]
pub struct SourceStatus {
    /// The capture in use: `fanotify`, `inotify` or `scan`.
    pub capture: &'static str,
    /// Files, folders and symlinks known.
    pub files: u64,
    /// Names and objects marked and not yet examined, and contents being read.
    pub dirty: u64,
    /// A scan is running.
    pub scanning: bool,
    /// Names the running scan has seen.
    pub scanned: u64,
    /// Rows in the journal, in bytes.
    pub journal_bytes: u64,
    /// Changes in the journal.
    pub journal_entries: u64,
    /// Content spooled for lagging destinations, in bytes.
    pub spool_bytes: u64,
    /// Files that could not be read, the first [`PROBLEMS_MAX`] of them.
    pub problems: Vec<FileProblem>,
    /// Files with problems, all of them.
    pub problem_count: u64,
    /// Names whose files were replaced by a restore and are still open by a writer, the first [`PROBLEMS_MAX`].
    pub still_open: Vec<String>,
    /// Names whose files are half of one version and half of another, because a restore was cut off while it was written where
    /// it is, the first [`PROBLEMS_MAX`].
    pub torn: Vec<String>,
    /// What a person must look at.
    pub alarms: Vec<SourceAlarm>,
    /// Files that are open for writing.
    pub swept: Swept,
    /// Where others' changes are found by scans alone.
    pub shared: Option<SharedFileSystem>,
}

/// A point that was made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PointMade {
    /// The change that made it.
    pub position: Position,
    /// When, by the source's clock.
    pub stamp: Stamp,
    /// How much was being written just then: of these files and names the point has what they were a moment before.
    pub unsettled: u64,
}

/// How names begin that restores use while they write; what follows is random.
pub(crate) const RESTORE_PREFIX: &str = ".keepshare-restore~";

/// The most problems listed by name.
pub const PROBLEMS_MAX: usize = 100;

/// Why a source does not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The folder cannot be a source.
    #[error("{path} cannot be a source: {reason}")]
    Root {
        /// The folder.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Changes of the folder cannot be noticed the way that was asked for.
    #[error("cannot watch {path}")]
    Capture {
        /// The folder.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The journal's format is newer than this program.
    #[error("the journal has format {found}, this program knows {known}")]
    Format {
        /// The journal's.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// The journal belongs to another origin.
    #[error("the journal is of origin {found}, not {wanted}")]
    Origin {
        /// The journal's.
        found: OriginId,
        /// The configured one.
        wanted: OriginId,
    },
    /// The journal failed.
    #[error("cannot use the journal")]
    Journal(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A row of the journal that is none.
    #[error("the journal is damaged: {0}")]
    Damaged(&'static str),
    /// A journaled change that is not what was journaled. It is never sent.
    #[error("change {0} in the journal is damaged")]
    DamagedChange(Seq),
    /// There is no space for the journal.
    #[error("only {free_bytes} bytes are free for the journal, {needed_bytes} are needed")]
    Full {
        /// How many there are.
        free_bytes: u64,
        /// How many it takes to go on.
        needed_bytes: u64,
    },
    /// A change that is no longer in the journal, or not yet.
    #[error("change {0} is not in the journal")]
    Gone(Seq),
    /// A file system operation failed.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The source's folder is not there.
    #[error("the source is not there: {0}")]
    Vanished(String),
    /// Folders were moved while they were looked at.
    #[error("folders of the source were moved while they were looked at")]
    Moving,
    /// The folder was not gone through yet since it was opened, so nobody knows what is gone.
    #[error("the source is not looked through yet")]
    NotLooked,
    /// A restore for which the source's disk has no room; it may be done when it has.
    #[error("{no_room} on the master's disk: {0}", no_room = NO_ROOM)]
    NoRoom(String),
    /// A restore that is not done now, and may be later as it was asked for.
    #[error("cannot restore now: {0}")]
    NotNow(String),
    /// A restore that is not done.
    #[error("cannot restore: {0}")]
    Refused(String),
    /// The receiver of a mirror went away.
    #[error("the mirror was given up")]
    GivenUp,
    /// The source's thread has ended.
    #[error("the source is closed")]
    Closed,
}

impl SourceError {
    /// Tells whether the same may be done later: nothing is wrong with it, but with the source or its disks just now.
    pub fn is_for_now(&self) -> bool {
        match self {
            Self::Vanished(_) | Self::NotLooked | Self::Moving | Self::NotNow(_) | Self::Closed => {
                true
            }
            Self::NoRoom(_) | Self::Full { .. } => true,
            // It is opened anew.
            Self::Journal(_) => true,
            _ => false,
        }
    }
}

/// Opens sources.
#[derive(Debug)]
pub struct Source;

impl Default for RestoreTimes {
    fn default() -> Self {
        let rest = Duration::from_secs(10);
        Self { patience: rest, rest, look_every: rest }
    }
}

impl Default for SourceLimits {
    fn default() -> Self {
        Self {
            cache_bytes_max: 64 << 20,
            spool_bytes_max: 4 << 30,
            journal_entries_max: 1_000_000,
            journal_bytes_max: 1 << 30,
        }
    }
}
