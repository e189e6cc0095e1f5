//! Questions about folders that are rolled back.

use serde::{Deserialize, Serialize};

use keepshare_base::SetName;

use super::Location;

/// Brings a folder back in place as it was, or what was deleted in it; not `sure`: only tells what that would do.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// The folder.
    pub place: Location,
    /// The time, as it was typed.
    pub when: String,
    /// Bring back what was deleted since, and change nothing else.
    #[serde(default)]
    pub deleted: bool,
    /// Do it.
    #[serde(default)]
    pub sure: bool,
    /// Though of some files only an older version is kept, or none.
    #[serde(default)]
    pub nearest: bool,
    /// Replace what changed since the preview, too.
    #[serde(default)]
    pub over: bool,
    /// Write files that have names outside of the folder, too.
    #[serde(default)]
    pub links: bool,
    /// What the preview saw.
    #[serde(default)]
    pub seen: Option<u64>,
    /// How many steps and conflicts are told at most: 0 to [`LIMIT_MAX`](super::LIMIT_MAX).
    pub limit: usize,
}

/// Takes a roll-back back, where things still are as it left them; not `sure`: only tells what that would do.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackUndo {
    /// The set.
    pub set: SetName,
    /// Which.
    pub rollback: String,
    /// Do it.
    #[serde(default)]
    pub sure: bool,
    /// Though of some files only an older version is kept, or none.
    #[serde(default)]
    pub nearest: bool,
    /// How many steps and conflicts are told at most: 0 to [`LIMIT_MAX`](super::LIMIT_MAX).
    pub limit: usize,
}

/// Ends a roll-back that goes on; what it did stays, and can be undone.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackStop {
    /// The set.
    pub set: SetName,
    /// Which.
    pub rollback: String,
}

/// The roll-backs that can still be undone, and the one that goes on; newest first.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackList {
    /// The set; all that are kept here where none is named.
    #[serde(default)]
    pub set: Option<SetName>,
}
