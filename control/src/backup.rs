//! What makes a station this station, as it is given out for a backup and brought back.

use serde::{Deserialize, Serialize};

/// The version of what is given out.
pub const FORMAT: u32 = 1;

/// A piece of a backup. The content of a file follows it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackedUp {
    /// What it is a backup of; the first piece.
    Station(BackupOf),
    /// A file of the state folder, or the config.
    File(BackedFile),
    /// That was all: so many files. The last piece.
    End(u64),
}

/// What something is a backup of.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct BackupOf {
    /// [`FORMAT`].
    pub format: u32,
    /// The station.
    pub station: String,
    /// What it was: `primary` or `replica`.
    pub role: String,
    /// When it was made, RFC 3339.
    pub time: String,
    /// By which release.
    pub version: String,
}

/// A file of a backup.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct BackedFile {
    /// Its path in the state folder, or `station.toml`, the config.
    pub path: String,
    /// How many bytes it has.
    pub bytes: u64,
}
