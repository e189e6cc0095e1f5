//! What is said on the Unix socket between the commands and the running station.
//!
//! Nothing but the station opens its stores, so that every command is a question to it. One connection carries one
//! request and its answer: any number of items, progress and stretches of content, then the end or a failure. The
//! types here are also what `--json` prints. Only root and the station's own user are answered.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use keepshare_auth::StationAddress;
use keepshare_base::{SetName, StationName};

pub(crate) mod accounts;
pub(crate) mod client;
pub(crate) mod frame;
pub(crate) mod server;

/// The version of this conversation; the binary and the running station may differ for a moment in an upgrade.
pub(crate) const API_VERSION: u16 = 1;

/// The first frame of a connection.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// Which conversation.
    pub(crate) version: u16,
    /// What is asked; read only after the version is known to be ours.
    pub(crate) request: serde_json::Value,
}

/// What can be asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// How everything is: one [`StatusReport`].
    Status,
    /// A new token: one [`TokenInfo`].
    TokenCreate,
    /// All usable tokens: [`TokenInfo`]s.
    TokenList,
    /// Where a station is reached from now on: one [`MemberStatus`].
    StationAddress {
        /// Which.
        name: StationName,
        /// `HOST:PORT`.
        address: StationAddress,
    },
    /// A new set of this station: one [`SetStatus`].
    SetAdd {
        /// What it is called.
        name: SetName,
        /// The folder, absolute.
        source: PathBuf,
        /// Who receives it.
        to: Vec<StationName>,
    },
    /// Mirrors a set of this station: one [`SetStatus`].
    SetMirror {
        /// Which.
        name: SetName,
        /// Only this station; all without.
        to: Option<StationName>,
        /// In an epoch of its own.
        new_epoch: bool,
        /// In an epoch of its own, though another master has the set.
        take_over: bool,
        /// In an epoch of its own, with the folder that is at the source's path now.
        #[serde(default)]
        new_source: bool,
    },
    /// A file's or folder's versions: [`VersionInfo`]s, newest first.
    Versions {
        /// Of what.
        place: Place,
        /// How many at most.
        limit: usize,
    },
    /// A file's content as it was: one [`Entry`], then its content; a folder's as it was: its [`Entry`], then those
    /// right below it.
    Show {
        /// What.
        place: Place,
        /// As of when, as typed.
        when: String,
    },
    /// A file, or a folder with everything below: [`Entry`]s, parents first, each with its content behind it.
    Export {
        /// What.
        place: Place,
        /// As of when, as typed.
        when: String,
    },
    /// Writes a file's old content back through the set's master: one [`Restored`].
    Restore {
        /// What.
        place: Place,
        /// As of when, as typed.
        when: String,
    },
    /// Names that are or were in the sets kept here: [`FoundName`]s.
    Find {
        /// In which set; in all where none is named.
        set: Option<SetName>,
        /// What they are like: `*` is anything, `?` one character, a part of a name is enough without.
        pattern: String,
        /// Leave out what is there.
        deleted_only: bool,
        /// How many at most.
        limit: usize,
    },
    /// The zone in which typed times are read that have no offset: its name.
    Zone,
    /// Something about users and their sessions.
    Account(accounts::AccountRequest),
    /// Checks one set or all: [`FsckReport`]s.
    Fsck {
        /// Which.
        set: Option<SetName>,
        /// Put times right first that a wrong clock left.
        #[serde(default)]
        repair_clock: bool,
    },
}

/// Where something is, as a person says it. Bytes, because names need not be text.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Place {
    /// `SET:path`.
    Set {
        /// The set.
        set: SetName,
        /// The path inside.
        path: Vec<u8>,
    },
    /// An absolute local path without links in it, in a source or a live tree.
    Local(Vec<u8>),
}

/// How far long work is.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// What is being done.
    pub(crate) doing: String,
    /// How much of it is done.
    pub(crate) done: u64,
    /// How much there is, where that is known.
    pub(crate) total: Option<u64>,
}

/// Everything `status` shows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StatusReport {
    /// The stations behind this socket: one, or the two of a demo.
    pub(crate) stations: Vec<StationStatus>,
}

/// One running station.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StationStatus {
    /// What it is called.
    pub(crate) name: String,
    /// `primary` or `replica`.
    pub(crate) role: String,
    /// The software's version.
    pub(crate) version: String,
    /// Where it listens.
    pub(crate) listen: String,
    /// Its state folder.
    pub(crate) state_dir: PathBuf,
    /// The pin of its cluster's CA, by which users know it.
    pub(crate) ca: String,
    /// Where users log in; none while nobody can.
    pub(crate) https: Option<String>,
    /// Where users' drives are served; none while none are.
    pub(crate) nfs: Option<String>,
    /// Who has a drive of it mounted, or tries to.
    pub(crate) clients: Vec<ClientStatus>,
    /// The other stations it knows.
    pub(crate) members: Vec<MemberStatus>,
    /// Its sets.
    pub(crate) sets: Vec<SetStatus>,
    /// What a person must look at.
    pub(crate) problems: Vec<String>,
    /// Where a person must act: what `status --check` fails for.
    #[serde(default)]
    pub(crate) concerns: Vec<Concern>,
}

/// Something that does not become well again unless a person acts.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct Concern {
    /// Of what: the station, a set, or a set and a destination.
    pub(crate) about: String,
    /// What it is.
    pub(crate) what: String,
}

/// Another station.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MemberStatus {
    /// What it is called.
    pub(crate) name: String,
    /// `primary` or `replica`.
    pub(crate) role: String,
    /// What is dialled to reach it.
    pub(crate) address: String,
    /// Whether there is a link to it now.
    pub(crate) connected: bool,
}

/// One set on one station.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SetStatus {
    /// What it is called.
    pub(crate) name: String,
    /// `master` or `replica`.
    pub(crate) role: String,
    /// A word, and where there is more to say a phrase that begins with it: `in-sync`, `incomplete: 3 problems`,
    /// `mirroring 40 %`, `behind`, `waiting: disk full`, `alarm: …`
    pub(crate) state: String,
    /// The folder that is replicated, on its master.
    pub(crate) source: Option<PathBuf>,
    /// The live tree, on a replica.
    pub(crate) live: Option<PathBuf>,
    /// On its master: the newest change of the journal. On a replica: the newest its master told of.
    pub(crate) head: Option<u64>,
    /// On a replica: what is durable.
    pub(crate) durable: Option<u64>,
    /// On a replica: the newest commit.
    pub(crate) commit: Option<u64>,
    /// On a replica: the newest commit in the live tree.
    pub(crate) live_commit: Option<u64>,
    /// On a master: where it goes.
    pub(crate) destinations: Vec<DestinationStatus>,
    /// On a replica: who sends it.
    pub(crate) from: Option<String>,
    /// On a master: files that somebody has open for writing, where there are some. Stores into them may raise no event.
    #[serde(default)]
    pub(crate) swept: Option<SweptStatus>,
    /// On a master: the file system of the source, where others write to it as well and nobody tells of it.
    #[serde(default)]
    pub(crate) shared: Option<SharedStatus>,
    /// How many names are missing, or other than they should be, and stay so until a person looks: what the master cannot read,
    /// or what the station cannot put into its live tree. Whatever else the state says.
    #[serde(default)]
    pub(crate) incomplete: u64,
    /// On a replica: for how long there has been no link to its master, in seconds; none where there is one.
    #[serde(default)]
    pub(crate) away_seconds: Option<u64>,
    /// What a person must look at.
    pub(crate) problems: Vec<String>,
    /// Those of the problems that are alarms.
    #[serde(default)]
    pub(crate) alarms: Vec<String>,
}

/// Files that are open for writing, and looked at again and again because of it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct SweptStatus {
    /// How many.
    pub(crate) files: u64,
    /// How long ago the one was looked at that waits longest.
    pub(crate) seconds: u64,
}

/// A file system that others write to as well.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct SharedStatus {
    /// What it is called, such as `NFS`.
    pub(crate) file_system: String,
    /// How often everything in the source is compared because of it.
    pub(crate) scan_every_seconds: u64,
}

/// One destination of a set, as its master sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DestinationStatus {
    /// Which station.
    pub(crate) station: String,
    /// As [`SetStatus::state`], for this destination alone.
    pub(crate) state: String,
    /// Whether the link is up.
    pub(crate) connected: bool,
    /// The newest change it acknowledged.
    pub(crate) acknowledged: Option<u64>,
    /// How many changes it is behind.
    pub(crate) lag_changes: u64,
    /// How many bytes, of rows and content; in a mirror, of what is still to be compared or sent. None where the journal cannot
    /// be read.
    #[serde(default)]
    pub(crate) lag_bytes: Option<u64>,
    /// How old the oldest change is that it lacks; none where the journal cannot be read.
    #[serde(default)]
    pub(crate) lag_seconds: Option<u64>,
    /// Why it is not in-sync, where it is not.
    #[serde(default)]
    pub(crate) cause: Option<String>,
    /// For how long there has been no link, in seconds; none where there is one.
    #[serde(default)]
    pub(crate) away_seconds: Option<u64>,
    /// Bytes sent on the wire since the service started.
    pub(crate) sent_bytes: u64,
    /// Bytes received from it since the service started.
    pub(crate) received_bytes: u64,
    /// Why there is no link, where there is none.
    pub(crate) error: Option<String>,
}

/// A join token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TokenInfo {
    /// The token itself, once, when it is made.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) token: Option<String>,
    /// Tells tokens apart in a list.
    pub(crate) id: String,
    /// What the station will be.
    pub(crate) role: String,
    /// Until when it can be used, RFC 3339.
    pub(crate) expires: String,
    /// What the new station runs to join.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) join: Option<String>,
}

/// One version of a file or folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct VersionInfo {
    /// Its id, usable after `@`.
    pub(crate) version: String,
    /// When its state came to be by its master's clock, RFC 3339.
    pub(crate) time: String,
    /// When the station had it, RFC 3339.
    pub(crate) arrived: String,
    /// In bytes.
    pub(crate) size: u64,
    /// Who made it, where that is known.
    pub(crate) user: Option<String>,
    /// `created`, `saved`, `attributes`, `restored`, `mirrored`.
    pub(crate) event: String,
    /// Who made it a version: `master`, or `station`, where the master left the file open. The latter is this station's alone.
    pub(crate) cut_by: String,
    /// The path by which it was known then.
    pub(crate) name: String,
    /// Whether this is the present state.
    pub(crate) current: bool,
    /// `file`, `folder`, `symlink`, …
    pub(crate) kind: String,
    /// Mode bits, octal, such as `0644`.
    pub(crate) mode: String,
    /// The owner's name at the master, or its number where it had none.
    pub(crate) owner: String,
    /// The group's name at the master, or its number where it had none.
    pub(crate) group: String,
    /// The owner's number at the master.
    pub(crate) owner_id: u32,
    /// The group's number at the master.
    pub(crate) group_id: u32,
    /// When the content changed last by the file system, RFC 3339.
    pub(crate) mtime: String,
    /// BLAKE3 of the content, where it is known.
    pub(crate) hash: Option<String>,
    /// Until when the name held it, RFC 3339; none where it still does.
    pub(crate) until: Option<String>,
    /// How that ended: `replaced`, `deleted`, `renamed`.
    pub(crate) ended: Option<String>,
    /// The file kept changing while it was read.
    pub(crate) fuzzy: bool,
}

/// One file, folder or symlink on its way out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// The path, beginning with the name of what was asked for; a whole set has no name and an empty path.
    pub(crate) path: Vec<keepshare_base::Name>,
    /// Its attributes.
    pub(crate) meta: keepshare_base::Meta,
    /// A second name of what was at this path before.
    pub(crate) same_as: Option<Vec<keepshare_base::Name>>,
    /// Why its content does not follow, where it cannot be read.
    pub(crate) damaged: Option<String>,
    /// What is there instead of a version, where its content is none yet: it is being received, or its master is away.
    #[serde(default)]
    pub(crate) uncut: Option<Uncut>,
}

/// Content that is no version yet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Uncut {
    /// The last version of what has this name; none where it has none.
    pub(crate) last_version: Option<String>,
}

/// A connection of the drive.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ClientStatus {
    /// From where.
    pub(crate) address: String,
    /// Whose drive it used last; none before a login was shown.
    pub(crate) user: Option<String>,
    /// The set that was used last.
    pub(crate) set: Option<String>,
    /// Since when it is connected, RFC 3339.
    pub(crate) since: String,
    /// How many calls were answered.
    pub(crate) calls: u64,
}

/// A name that was looked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FoundName {
    /// The set.
    pub(crate) set: String,
    /// The path inside.
    pub(crate) path: String,
    /// `file`, `folder`, `symlink`, …
    pub(crate) kind: String,
    /// In bytes.
    pub(crate) size: u64,
    /// When the content changed last by the file system, RFC 3339.
    pub(crate) mtime: String,
    /// Until when it was there, RFC 3339; none where it is.
    pub(crate) until: Option<String>,
    /// How that ended: `deleted`, `renamed`.
    pub(crate) ended: Option<String>,
}

/// What came of a restore in place.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Restored {
    /// The set.
    pub(crate) set: String,
    /// The path inside.
    pub(crate) path: String,
    /// The version that is back.
    pub(crate) version: String,
    /// `written`, or `equal` where the file had these bytes already.
    pub(crate) outcome: String,
    /// A program has the file open that was replaced: what it writes into it becomes a version.
    #[serde(default)]
    pub(crate) still_open: bool,
    /// The master wrote it, and it has not come back as a new version yet.
    #[serde(default)]
    pub(crate) on_its_way: bool,
}

/// What `fsck` found in one set.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FsckReport {
    /// The set.
    pub(crate) set: String,
    /// Whether nothing is wrong.
    pub(crate) ok: bool,
    /// File states read and verified.
    pub(crate) states: u64,
    /// Bytes read and verified.
    pub(crate) bytes: u64,
    /// How many of the states have too long holes for their hash to be compared; their data was verified.
    #[serde(default)]
    pub(crate) unhashed: u64,
    /// What is wrong with the store.
    pub(crate) damage: Vec<String>,
    /// Where the live tree is not what was committed.
    pub(crate) live_differences: Vec<String>,
    /// How many changes had their times put right, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) clock_repaired: Option<u64>,
}
