//! What is answered: what `--json` prints, too.
//!
//! A field that is not known in an answer is passed over: the station may be newer than whoever asked, and says more. In a
//! question it is refused ([`crate::questions`]): it may change what is to be done.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use keepshare_base::{
    Kind,
    health::{MirrorProgress, ProblemKind, SetHealth, State},
};

use crate::{retention::RetentionStatus, scrub::ScrubStatus};

/// How far long work is.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// What is being done.
    pub doing: String,
    /// How much of it is done.
    pub done: u64,
    /// How much there is, where that is known.
    pub total: Option<u64>,
}

/// Everything `status` shows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StatusReport {
    /// The stations behind this socket: one, or the two of a demo.
    pub stations: Vec<StationStatus>,
}

/// One running station.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StationStatus {
    /// What it is called.
    pub name: String,
    /// `primary` or `replica`.
    pub role: String,
    /// The software's version.
    pub version: String,
    /// Where it listens.
    pub listen: String,
    /// Its state folder.
    pub state_dir: PathBuf,
    /// The pin of its cluster's CA, by which users know it.
    pub ca: String,
    /// Where users log in; none while nobody can.
    pub https: Option<String>,
    /// Where users' drives are served; none while none are.
    pub nfs: Option<String>,
    /// Who has a drive of it mounted, or tries to.
    pub clients: Vec<ClientStatus>,
    /// The other stations it knows.
    pub members: Vec<MemberStatus>,
    /// Its sets.
    pub sets: Vec<SetStatus>,
    /// Which revision it holds of what the cluster agrees on; none before the first.
    #[serde(default)]
    pub revision: Option<String>,
    /// What a person must look at.
    pub problems: Vec<String>,
    /// Where a person must act: what `status --check` fails for.
    #[serde(default)]
    pub concerns: Vec<Concern>,
}

/// Something that does not become well again unless a person acts.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Concern {
    /// Of what: the station, a set, or a set and a destination.
    pub about: String,
    /// Of which kind; it stays the same while counts and reasons change.
    pub kind: ProblemKind,
    /// What is wrong, in words for a person.
    pub what: String,
}

/// Another station.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MemberStatus {
    /// What it is called.
    pub name: String,
    /// `primary` or `replica`.
    pub role: String,
    /// What is dialled to reach it.
    pub address: String,
    /// Whether there is a link to it now.
    pub connected: bool,
}

/// How a set is, or its copy at one destination: fields of what it belongs to.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct HealthStatus {
    /// Its word.
    pub state: State,
    /// Why it is so; none where it is in-sync.
    pub cause: Option<String>,
    /// In a mirror: how much of a hundred is compared or sent, where that is known.
    pub percent: Option<u64>,
    /// In a mirror whose source is read first: how many names were found.
    pub found: Option<u64>,
}

impl From<&SetHealth> for HealthStatus {
    fn from(health: &SetHealth) -> Self {
        let progress = match health {
            SetHealth::Mirroring(progress) => *progress,
            _ => MirrorProgress::Unknown,
        };
        Self {
            state: health.state(),
            cause: health.cause(),
            percent: progress.percent(),
            found: progress.found(),
        }
    }
}

/// One set on one station.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SetStatus {
    /// What it is called.
    pub name: String,
    /// `master` where the station has the source, whether it keeps a copy or not; else `replica`.
    pub role: String,
    /// How it is.
    #[serde(flatten)]
    pub health: HealthStatus,
    /// The folder that is replicated, on its master.
    pub source: Option<PathBuf>,
    /// The live tree, where the station keeps a copy; the source folder where that is in place.
    pub live: Option<PathBuf>,
    /// On its master: the newest change of the journal. On a replica: the newest its master told of.
    pub head: Option<u64>,
    /// Of a copy: what is durable.
    pub durable: Option<u64>,
    /// Of a copy: the newest commit.
    pub commit: Option<u64>,
    /// Of a copy: the newest commit in the live tree.
    pub live_commit: Option<u64>,
    /// On a master: where it goes, this station included where it keeps a copy itself.
    pub destinations: Vec<DestinationStatus>,
    /// On a replica: who sends it.
    pub from: Option<String>,
    /// On a master: files that somebody has open for writing, where there are some. Stores into them may raise no event.
    #[serde(default)]
    pub swept: Option<SweptStatus>,
    /// On a master: the file system of the source, where others write to it as well and nobody tells of it.
    #[serde(default)]
    pub shared: Option<SharedStatus>,
    /// How many names are missing, or other than they should be, and stay so until a person looks: what the master cannot read,
    /// or what the station cannot put into its live tree. Whatever else the state says.
    #[serde(default)]
    pub incomplete: u64,
    /// On a replica: for how long there has been no link to its master, in seconds; none where there is one.
    #[serde(default)]
    pub away_seconds: Option<u64>,
    /// What a person must look at.
    pub problems: Vec<String>,
    /// Those of the problems that are alarms.
    #[serde(default)]
    pub alarms: Vec<String>,
    /// Of a copy: how it is thinned, and how its disk fills.
    #[serde(default)]
    pub retention: Option<RetentionStatus>,
    /// Of a copy: how far the look for damage is.
    #[serde(default)]
    pub scrub: Option<ScrubStatus>,
}

impl SetStatus {
    /// Returns that of a set of which nothing else is known.
    pub fn new(name: impl Into<String>, role: impl Into<String>, health: &SetHealth) -> Self {
        Self {
            name: name.into(),
            role: role.into(),
            health: HealthStatus::from(health),
            source: None,
            live: None,
            head: None,
            durable: None,
            commit: None,
            live_commit: None,
            destinations: Vec::new(),
            from: None,
            swept: None,
            shared: None,
            incomplete: 0,
            away_seconds: None,
            problems: Vec::new(),
            alarms: Vec::new(),
            retention: None,
            scrub: None,
        }
    }
}

/// Files that are open for writing, and looked at again and again because of it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct SweptStatus {
    /// How many.
    pub files: u64,
    /// How long ago the one was looked at that waits longest.
    pub seconds: u64,
}

/// A file system that others write to as well.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct SharedStatus {
    /// What it is called, such as `NFS`.
    pub file_system: String,
    /// How often everything in the source is compared because of it.
    pub scan_every_seconds: u64,
}

/// One destination of a set, as its master sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DestinationStatus {
    /// Which station.
    pub station: String,
    /// How the set is there, as far as is known here.
    #[serde(flatten)]
    pub health: HealthStatus,
    /// Whether the link is up.
    pub connected: bool,
    /// The newest change it acknowledged.
    pub acknowledged: Option<u64>,
    /// How many changes it is behind.
    pub lag_changes: u64,
    /// How many bytes, of rows and content; in a mirror, of what is still to be compared or sent. None where the journal cannot
    /// be read.
    #[serde(default)]
    pub lag_bytes: Option<u64>,
    /// How old the oldest change is that it lacks; none where the journal cannot be read.
    #[serde(default)]
    pub lag_seconds: Option<u64>,
    /// For how long there has been no link, in seconds; none where there is one.
    #[serde(default)]
    pub away_seconds: Option<u64>,
    /// Bytes sent on the wire since the service started.
    pub sent_bytes: u64,
    /// Bytes received from it since the service started.
    pub received_bytes: u64,
    /// Why there is no link, where there is none.
    pub error: Option<String>,
    /// What it may have this master do, where that is not all: `restore` or `nothing`.
    #[serde(default)]
    pub may_order: Option<String>,
}

/// A join token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenInfo {
    /// The token itself, once, when it is made.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub token: Option<String>,
    /// Tells tokens apart in a list.
    pub id: String,
    /// What the station will be.
    pub role: String,
    /// Until when it can be used, RFC 3339.
    pub expires: String,
    /// What the new station runs to join.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub join: Option<String>,
}

/// One version of a file or folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VersionInfo {
    /// Its id, usable after `@`.
    pub version: String,
    /// When its state came to be by its master's clock, RFC 3339.
    pub time: String,
    /// When the station had it, RFC 3339.
    pub arrived: String,
    /// In bytes.
    pub size: u64,
    /// Who made it, where that is known.
    pub user: Option<String>,
    /// `created`, `saved`, `attributes`, `restored`, `mirrored`.
    pub event: String,
    /// Who made it a version: `master`, or `station`, where the master left the file open. The latter is this station's alone.
    pub cut_by: String,
    /// The path by which it was known then.
    pub name: String,
    /// Whether this is the present state.
    pub current: bool,
    /// `file`, `folder`, `symlink`, …
    pub kind: String,
    /// Mode bits, octal, such as `0644`.
    pub mode: String,
    /// The owner's name at the master, or its number where it had none.
    pub owner: String,
    /// The group's name at the master, or its number where it had none.
    pub group: String,
    /// The owner's number at the master.
    pub owner_id: u32,
    /// The group's number at the master.
    pub group_id: u32,
    /// When the content changed last by the file system, RFC 3339.
    pub mtime: String,
    /// BLAKE3 of the content, where it is known.
    pub hash: Option<String>,
    /// Until when the name held it, RFC 3339; none where it still does.
    pub until: Option<String>,
    /// How that ended: `replaced`, `deleted`, `renamed`.
    pub ended: Option<String>,
    /// The file kept changing while it was read.
    pub fuzzy: bool,
    /// Retention removed its content.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
    /// Keys of the policy that keep it, and `newest`, `held`; empty where the next run may remove it. None where nothing is said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_because: Option<Vec<String>>,
    /// When it could go at the earliest if nothing else happens, RFC 3339; none where it does not go by time alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_until: Option<String>,
}

/// One file, folder or symlink on its way out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ShownEntry {
    /// The path, beginning with the name of what was asked for; a whole set has no name and an empty path.
    pub path: Vec<keepshare_base::Name>,
    /// Its attributes.
    pub meta: keepshare_base::Meta,
    /// Its id, usable after `@`, where it is a version.
    #[serde(default)]
    pub version: Option<String>,
    /// BLAKE3 of its content, where it is known.
    #[serde(default)]
    pub hash: Option<keepshare_base::ContentHash>,
    /// A second name of what was at this path before.
    pub same_as: Option<Vec<keepshare_base::Name>>,
    /// Why its content does not follow, where it cannot be read.
    pub damaged: Option<String>,
    /// What is there instead of a version, where its content is none yet: it is being received, or its master is away.
    #[serde(default)]
    pub uncut: Option<Uncut>,
}

/// Content that is no version yet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Uncut {
    /// The last version of what has this name; none where it has none.
    pub last_version: Option<String>,
}

/// A connection of the drive.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClientStatus {
    /// From where.
    pub address: String,
    /// Whose drive it used last; none before a login was shown.
    pub user: Option<String>,
    /// The set that was used last.
    pub set: Option<String>,
    /// Since when it is connected, RFC 3339.
    pub since: String,
    /// How many calls were answered.
    pub calls: u64,
}

/// A name that was looked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FoundName {
    /// The set.
    pub set: String,
    /// The path inside.
    pub path: String,
    /// `file`, `folder`, `symlink`, …
    pub kind: String,
    /// In bytes.
    pub size: u64,
    /// When the content changed last by the file system, RFC 3339.
    pub mtime: String,
    /// Until when it was there, RFC 3339; none where it is.
    pub until: Option<String>,
    /// How that ended: `deleted`, `renamed`.
    pub ended: Option<String>,
    /// It was removed, and is nowhere else.
    #[serde(default)]
    pub deleted: bool,
    /// How many versions of it the caller may read, 1000 at most.
    #[serde(default)]
    pub versions: usize,
    /// When it came to be what it is, or went, RFC 3339; empty where the caller may not know.
    #[serde(default)]
    pub time: String,
    /// Who did that, where it is known.
    #[serde(default)]
    pub user: Option<String>,
    /// What goes on after it, as the question's `after`; empty from a station of before.
    #[serde(default)]
    pub after: String,
}

/// What came of a restore in place.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Restored {
    /// The set.
    pub set: String,
    /// The path inside.
    pub path: String,
    /// The version that is back.
    pub version: String,
    /// `written`, or `equal` where the file had these bytes already.
    pub outcome: String,
    /// A program has the file open that was replaced: what it writes into it becomes a version.
    #[serde(default)]
    pub still_open: bool,
    /// The master wrote it, and it has not come back as a new version yet.
    #[serde(default)]
    pub on_its_way: bool,
}

/// What `fsck` found in one set.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FsckReport {
    /// The set.
    pub set: String,
    /// Whether nothing is wrong.
    pub ok: bool,
    /// File states read and verified.
    pub states: u64,
    /// Bytes read and verified.
    pub bytes: u64,
    /// How many of the states have too long holes for their hash to be compared; their data was verified.
    #[serde(default)]
    pub unhashed: u64,
    /// What is wrong with the store.
    pub damage: Vec<String>,
    /// Where the live tree is not what was committed.
    pub live_differences: Vec<String>,
    /// How many changes had their times put right, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_repaired: Option<u64>,
}

/// Returns the word for a kind of file.
pub fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Dir => "folder",
        Kind::Symlink => "symlink",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
        Kind::BlockDevice => "block-device",
        Kind::CharDevice => "char-device",
    }
}
