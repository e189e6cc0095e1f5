//! What a person must look at: values of a kind that stays the same while their words change.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{Hold, Stop};
use crate::{Seq, SetName, StationName, counted};

/// What kind of thing it is that a person must look at. It stays the same while counts and reasons change.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// A station has not been connected for long.
    Away,
    /// Many files no longer read as what they were.
    Burst,
    /// A change in the journal is damaged.
    ChangeDamaged,
    /// Changes were dropped before every station had them.
    ChangesDropped,
    /// A clock is wrong.
    ClockWrong,
    /// Stored content is not what was stored.
    ContentDamaged,
    /// A station has what does not continue the journal.
    Disagrees,
    /// The disk of a set fails.
    DiskFails,
    /// The disk of a set is full.
    DiskFull,
    /// Another station has what the primary's document has lost.
    DocumentLost,
    /// The cluster's document is not what the primary says.
    DocumentRefused,
    /// What changed in the cluster is not in its document.
    DocumentUnwritten,
    /// Users cannot reach their drive.
    DriveShut,
    /// Another master has taken the set on.
    Fenced,
    /// A restore was cut off while it was written.
    HalfRestored,
    /// Windows clients cannot show some names.
    HiddenNames,
    /// Names are missing, or other than they should be.
    Incomplete,
    /// The disk of the journal is full.
    JournalFull,
    /// The journal cannot be used.
    JournalUnusable,
    /// A set is to be kept no more.
    KeptLess,
    /// The live tree does not follow.
    LiveStopped,
    /// Users cannot log in.
    LoginShut,
    /// A station has less than it acknowledged.
    LostAcknowledged,
    /// A mirror cannot go on.
    MirrorFailed,
    /// A file of the live tree is not as it should be.
    NotLive,
    /// A set cannot be opened.
    NotOpened,
    /// An ordinary user runs the station.
    NotRoot,
    /// Versions are not thinned until a person acts.
    NotThinned,
    /// A station breaks the protocol.
    Protocol,
    /// A station refuses what it is sent.
    Refused,
    /// The list of sets is lost.
    SetsLost,
    /// The source folder is gone.
    SourceGone,
    /// A station keeps its state in the source.
    StateInside,
    /// A program has a file open that a restore replaced.
    StillOpen,
    /// The store takes nothing until it is opened again.
    StoreFailed,
    /// A thread is gone.
    ThreadGone,
    /// A name of the source cannot be read.
    Unreadable,
    /// Nobody reads the source.
    Unverified,
    /// A destination takes nothing for now.
    Waiting,
}

/// What of a set does no more because of a fault in us.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// What looks at the source.
    Source,
    /// What sends to a destination.
    Sender,
    /// What receives and keeps.
    Receiver,
}

/// Something about a set that a person must look at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SetProblem {
    /// A part of it is gone until the station is started anew, for this reason where one is known.
    ThreadGone(Part, Option<String>),
    /// The source folder is gone, or another one is in its place.
    SourceGone(String),
    /// The journal cannot be used.
    JournalUnusable(String),
    /// There is no space for the journal.
    JournalFull(String),
    /// This change in the journal is damaged.
    ChangeDamaged(Seq),
    /// The changes through this one were dropped before every station had them.
    ChangesDropped(Seq),
    /// A station keeps its state in the source, here.
    StateInside(PathBuf),
    /// What the link of a destination tells: of which kind, and in its words.
    Link(ProblemKind, String),
    /// Nothing is sent until a person decides.
    Stopped(Stop),
    /// The set cannot be opened.
    NotOpened(String),
    /// The store takes nothing until it is opened again.
    StoreFailed(String),
    /// Changes are not taken for now.
    Held(Hold),
    /// The live tree does not follow.
    LiveStopped(String),
    /// So many reads met content that is not what was stored.
    ContentDamaged(u64),
    /// So many versions are damaged, as the last look at everything found.
    VersionsDamaged(u64),
    /// The log, or packs, are damaged on the disk, in so many places.
    FilesDamaged(u64),
    /// A clock was wrong, as told, and so many changes came with it.
    ClockWrong(String, u64),
    /// A name of the source cannot be replicated.
    Unreadable {
        /// Its path in the set, safe to print.
        path: String,
        /// Why.
        reason: String,
    },
    /// So many more names cannot be replicated.
    MoreUnreadable(u64),
    /// A restore of this path was cut off while it was written.
    HalfRestored(String),
    /// What a restore replaced at this path is still open by a writer.
    StillOpen(String),
    /// Something in the live tree is not as it should be.
    NotLive(String),
    /// So many more things in the live tree are not.
    MoreNotLive(u64),
    /// Windows clients cannot show these names.
    HiddenNames(String),
    /// A run that was to thin versions removed none, for this reason, and none will until a person acts.
    NotThinned(String),
    /// Many files no longer read as what they were, as told.
    Burst(String),
}

impl SetProblem {
    /// Returns of which kind it is.
    pub fn kind(&self) -> ProblemKind {
        match self {
            Self::ThreadGone(..) => ProblemKind::ThreadGone,
            Self::SourceGone(_) => ProblemKind::SourceGone,
            Self::JournalUnusable(_) => ProblemKind::JournalUnusable,
            Self::JournalFull(_) => ProblemKind::JournalFull,
            Self::ChangeDamaged(_) => ProblemKind::ChangeDamaged,
            Self::ChangesDropped(_) => ProblemKind::ChangesDropped,
            Self::StateInside(_) => ProblemKind::StateInside,
            Self::Link(kind, _) => *kind,
            Self::Stopped(stop) => stop.kind(),
            Self::NotOpened(_) => ProblemKind::NotOpened,
            Self::StoreFailed(_) => ProblemKind::StoreFailed,
            Self::Held(hold) => hold.kind(),
            Self::LiveStopped(_) => ProblemKind::LiveStopped,
            Self::ContentDamaged(_) | Self::VersionsDamaged(_) | Self::FilesDamaged(_) => {
                ProblemKind::ContentDamaged
            }
            Self::ClockWrong(..) => ProblemKind::ClockWrong,
            Self::Unreadable { .. } | Self::MoreUnreadable(_) => ProblemKind::Unreadable,
            Self::HalfRestored(_) => ProblemKind::HalfRestored,
            Self::StillOpen(_) => ProblemKind::StillOpen,
            Self::NotLive(_) | Self::MoreNotLive(_) => ProblemKind::NotLive,
            Self::HiddenNames(_) => ProblemKind::HiddenNames,
            Self::NotThinned(_) => ProblemKind::NotThinned,
            Self::Burst(_) => ProblemKind::Burst,
        }
    }

    /// Tells whether it is about the set as a whole; what is about single names is counted instead.
    pub fn is_alarm(&self) -> bool {
        !matches!(
            self.kind(),
            ProblemKind::Unreadable
                | ProblemKind::HalfRestored
                | ProblemKind::StillOpen
                | ProblemKind::NotLive
                | ProblemKind::HiddenNames
        )
    }
}

impl fmt::Display for SetProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ThreadGone(part, why) => {
                f.write_str(match part {
                    Part::Source => "the source's thread is gone, start the station anew",
                    Part::Sender => "nothing is sent any more, start the station anew",
                    Part::Receiver => "nothing is received any more, start the station anew",
                })?;
                why.as_ref().map_or(Ok(()), |why| write!(f, ": {why}"))
            }
            Self::SourceGone(why) => write!(
                f,
                "the source folder is gone: {why}; nothing is deleted anywhere. Where a new one is in its place on purpose: \
                 keepshare set mirror SET --new-source"
            ),
            Self::JournalUnusable(why) => write!(
                f,
                "the journal cannot be used: {why}; it is tried again, and if that does not help: stop the station, move \
                 the set's file out of the folder journal of its state, and start it: everything is compared again"
            ),
            Self::JournalFull(why) => write!(
                f,
                "the disk of the journal is full, make room there: what is in the source then follows by itself, what was \
                 saved over meanwhile becomes no version: {why}"
            ),
            Self::ChangeDamaged(seq) => write!(
                f,
                "change {seq} in the journal is damaged and is not sent; who lacks it is mirrored"
            ),
            Self::ChangesDropped(through) => {
                write!(f, "changes through {through} were dropped before every station had them")
            }
            Self::StateInside(state) => write!(
                f,
                "a station keeps its state in {}, which is sent as well: move it elsewhere",
                state.display()
            ),
            Self::Stopped(stop) => stop.fmt(f),
            Self::Held(Hold::DiskFull) => f.write_str(
                "the disk of this set is full, changes wait and nothing is lost: make room there",
            ),
            Self::Held(Hold::DiskFails(why)) => {
                write!(f, "the disk of this set fails, changes wait: {why}")
            }
            Self::Held(Hold::Told(why)) => write!(f, "changes wait: {why}"),
            Self::NotOpened(why) => write!(f, "it cannot be opened: {why}"),
            Self::LiveStopped(why) => {
                write!(f, "the live tree does not follow, its history is whole: {why}")
            }
            Self::ContentDamaged(reads) => write!(
                f,
                "{} met damaged content, which was not given out: keepshare fsck lists it",
                counted(*reads, "read")
            ),
            Self::VersionsDamaged(1) => f.write_str(
                "1 version is damaged here and nobody is given it: keepshare scrub status lists it (docs/operations/damage.md)",
            ),
            Self::VersionsDamaged(versions) => write!(
                f,
                "{} are damaged here and nobody is given them: keepshare scrub status lists them (docs/operations/damage.md)",
                counted(*versions, "version")
            ),
            Self::FilesDamaged(places) => write!(
                f,
                "the log or a pack is damaged on the disk, in {}: leave the station running, keepshare scrub status says what is done about it (docs/operations/damage.md)",
                counted(*places, "place")
            ),
            Self::ClockWrong(what, changes) => {
                write!(f, "a clock is wrong: {what} ({})", counted(*changes, "change"))
            }
            Self::Unreadable { path, reason } => write!(f, "{path}: {reason}"),
            Self::MoreUnreadable(more) => {
                let names = if *more == 1 { "name" } else { "names" };
                write!(f, "{more} more {names} cannot be replicated")
            }
            Self::HalfRestored(path) => write!(
                f,
                "{path}: half of one version and half of another, because a restore was cut off while it was written; \
                 restore it again"
            ),
            Self::StillOpen(path) => write!(
                f,
                "{path}: what a restore replaced is still open by a writer; what that writes becomes a version"
            ),
            Self::NotLive(what) => write!(f, "live tree: {what}"),
            Self::MoreNotLive(more) => write!(f, "live tree: {more} more"),
            Self::NotThinned(why) => write!(f, "versions are not thinned: {why}"),
            Self::Link(_, what)
            | Self::StoreFailed(what)
            | Self::HiddenNames(what)
            | Self::Burst(what) => f.write_str(what),
        }
    }
}

/// Something about a station, whatever its sets are, that a person must look at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StationProblem {
    /// A thread is gone.
    ThreadGone {
        /// What it was called.
        thread: String,
        /// What it said last.
        why: String,
    },
    /// An ordinary user runs it; nobody has to act.
    NotRoot,
    /// Users cannot log in.
    LoginShut(String),
    /// Users cannot reach their drive.
    DriveShut(String),
    /// The list of sets is lost.
    SetsLost {
        /// The station's state folder.
        state: PathBuf,
        /// Where journals of sets are.
        journals: PathBuf,
        /// Of which sets.
        sets: Vec<SetName>,
    },
    /// The cluster's document is not what the primary says, for this reason.
    DocumentRefused(String),
    /// What changed in the cluster cannot be written into its document, for this reason.
    DocumentUnwritten(String),
    /// A station holds a revision of the cluster's document that this primary does not know.
    DocumentLost {
        /// Which station.
        station: StationName,
        /// Which revision.
        revision: String,
        /// The one that holds here.
        own: String,
    },
    /// Nothing is heard of another station.
    Away {
        /// Which.
        station: StationName,
        /// For how many minutes.
        minutes: u64,
    },
    /// The cluster's document does not have this station keep a set any more.
    KeptLess {
        /// Which set.
        set: SetName,
        /// For how many seconds more it is kept.
        left_s: u64,
    },
}

impl StationProblem {
    /// Returns of which kind it is.
    pub fn kind(&self) -> ProblemKind {
        match self {
            Self::ThreadGone { .. } => ProblemKind::ThreadGone,
            Self::NotRoot => ProblemKind::NotRoot,
            Self::LoginShut(_) => ProblemKind::LoginShut,
            Self::DriveShut(_) => ProblemKind::DriveShut,
            Self::SetsLost { .. } => ProblemKind::SetsLost,
            Self::DocumentRefused(_) => ProblemKind::DocumentRefused,
            Self::DocumentUnwritten(_) => ProblemKind::DocumentUnwritten,
            Self::DocumentLost { .. } => ProblemKind::DocumentLost,
            Self::Away { .. } => ProblemKind::Away,
            Self::KeptLess { .. } => ProblemKind::KeptLess,
        }
    }

    /// Tells whether it does not become better unless a person acts.
    pub fn needs_person(&self) -> bool {
        !matches!(self, Self::NotRoot)
    }
}

impl fmt::Display for StationProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ThreadGone { thread, why } => {
                write!(f, "a fault in the thread '{thread}', start the station anew: {why}")
            }
            Self::NotRoot => f.write_str(
                "not run by root: owners and modes are kept in the history, and not set in live trees",
            ),
            Self::LoginShut(why) => {
                write!(f, "users cannot log in: {why}; name another address as https in [doors]")
            }
            Self::DriveShut(why) => write!(
                f,
                "users cannot reach their drive: {why}; name another address as nfs in [doors]"
            ),
            Self::SetsLost { state, journals, sets } => {
                let names: Vec<_> = sets.iter().map(|set| format!("{set}.redb")).collect();
                write!(
                    f,
                    "sets.toml is gone from {} and nothing is replicated, though there are journals of sets in {}: {}; \
                     stop the station and take sets.toml from a backup (docs/operations/backup.md), or add each set again \
                     with the same name, folder and stations",
                    state.display(),
                    journals.display(),
                    names.join(", ")
                )
            }
            Self::DocumentRefused(why) => write!(
                f,
                "this station does not follow the primary's configuration of the cluster: {why} \
                 (docs/operations/cluster-document.md)"
            ),
            Self::DocumentUnwritten(why) => write!(
                f,
                "what changed in the cluster is not told to the other stations: {why}; it is tried again every minute"
            ),
            Self::DocumentLost { station, revision, own } => write!(
                f,
                "{station} holds revision {revision} of the cluster's configuration, which this primary with its revision \
                 {own} does not know: it was restored from an older backup; stop it and take {station}'s cluster.doc \
                 (docs/operations/cluster-document.md)"
            ),
            Self::Away { station, minutes } => write!(
                f,
                "nothing is heard of {station} for {}: start it there with keepshare run",
                counted(*minutes, "minute")
            ),
            Self::KeptLess { set, left_s: 0 } => write!(
                f,
                "set {set} is not to be kept here any more, and its day is over; its versions are still here"
            ),
            Self::KeptLess { set, left_s } => write!(
                f,
                "set {set} is not to be kept here any more; its versions stay for {} hours of this station's running time, \
                 and for good where the primary takes that back",
                left_s.div_ceil(3600)
            ),
        }
    }
}
