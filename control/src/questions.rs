//! What is said on the Unix socket between the commands and the running station.
//!
//! Nothing but the station opens its stores, so that every command is a question to it. One connection carries one
//! request and its answer: any number of items, progress and stretches of content, then the end or a failure. The
//! types here are also what `--json` prints. Only root and the station's own user are answered.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use keepshare_base::{SetName, StationAddress, StationName};

use crate::accounts;

/// The version of this conversation; the binary and the running station may differ for a moment in an upgrade.
pub const API_VERSION: u16 = 2;

/// The first frame of a connection.
#[derive(Debug, Serialize, Deserialize)]
pub struct Hello {
    /// Which conversation.
    pub version: u16,
    /// What is asked; read only after the version is known to be ours.
    pub request: serde_json::Value,
}

/// What can be asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// How everything is: one [`crate::answers::StatusReport`].
    Status,
    /// A new token: one [`crate::answers::TokenInfo`].
    TokenCreate,
    /// All usable tokens: [`crate::answers::TokenInfo`]s.
    TokenList,
    /// Where a station is reached from now on: one [`crate::answers::MemberStatus`].
    StationAddress {
        /// Which.
        name: StationName,
        /// `HOST:PORT`.
        address: StationAddress,
    },
    /// A new set of this station: one [`crate::answers::SetStatus`].
    SetAdd {
        /// What it is called.
        name: SetName,
        /// The folder, absolute.
        source: PathBuf,
        /// Who keeps it; this station where there is none.
        to: Vec<StationName>,
    },
    /// Mirrors a set of this station: one [`crate::answers::SetStatus`].
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
    /// A file's or folder's versions: [`crate::answers::VersionInfo`]s, newest first.
    Versions {
        /// Of what.
        place: Place,
        /// How many at most.
        limit: usize,
    },
    /// A file's content as it was: one [`crate::answers::Entry`], then its content; a folder's as it was: its [`crate::answers::Entry`], then those
    /// right below it.
    Show {
        /// What.
        place: Place,
        /// As of when, as typed.
        when: String,
    },
    /// A file, or a folder with everything below: [`crate::answers::Entry`]s, parents first, each with its content behind it.
    Export {
        /// What.
        place: Place,
        /// As of when, as typed.
        when: String,
    },
    /// Writes a file's old content back through the set's master: one [`crate::answers::Restored`].
    Restore {
        /// What.
        place: Place,
        /// As of when, as typed.
        when: String,
    },
    /// Names that are or were in the sets kept here: [`crate::answers::FoundName`]s.
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
    /// Checks one set or all: [`crate::answers::FsckReport`]s.
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
pub enum Place {
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
