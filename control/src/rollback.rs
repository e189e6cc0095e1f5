//! What is answered about folders that are rolled back.

use serde::{Deserialize, Serialize};

/// A roll-back: what it would do, or what it did.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RolledBack {
    /// Which; none for a preview.
    pub rollback: Option<String>,
    /// The set.
    pub set: String,
    /// The folder.
    pub path: String,
    /// What came back: the time as it was typed, or `undo ID`.
    pub to: String,
    /// When the newest change was made that is in what came back, RFC 3339; none where only what was deleted comes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// `preview`, `going-on`, `stopped`, `incomplete` where something could not be done, or `done`.
    pub state: String,
    /// Why it does not get any further just now, where that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
    /// When it began, RFC 3339; none for a preview.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<String>,
    /// The state of the set that a preview saw: said with the order, what changed since is left.
    pub seen: u64,
    /// Files that are there and get back what they were.
    pub restored: u64,
    /// Files, folders and symlinks that are not there, and come back.
    pub brought_back: u64,
    /// What was made since, and goes.
    pub removed: u64,
    /// What is elsewhere in the folder, and moves back.
    pub renamed: u64,
    /// What is as it was.
    pub unchanged: u64,
    /// Of the files that are written, those that become exactly what they were.
    pub exact: u64,
    /// Those that become the nearest older version that is kept.
    pub nearest: u64,
    /// Those of which nothing is kept; they stay as they are.
    pub lost: u64,
    /// The sizes of what is written, in bytes.
    pub bytes: u64,
    /// By how many bytes the folder grows, as far as sizes tell.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub grows: u64,
    /// Of a preview: how many bytes are free on the master's disk, where this station has that disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<u64>,
    /// How many steps were tried and could not be done; they are among the conflicts.
    #[serde(default)]
    pub not_done: u64,
    /// A user ordered it: what they may not see is left, whether or not there is any, and neither told nor counted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unseen_left: bool,
    /// What stays as it is though it was other then, or was not there: the first of them.
    pub conflicts: Vec<Conflict>,
    /// How many more of those there are.
    #[serde(default)]
    pub more_conflicts: u64,
    /// Of a preview: what is done, the first of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepTold>,
    /// Until when it can be undone, RFC 3339.
    pub undo_until: Option<String>,
}

fn is_nothing(bytes: &u64) -> bool {
    *bytes == 0
}

/// Something that stays as it is.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Conflict {
    /// Where.
    pub path: String,
    /// Why.
    pub why: String,
}

/// Something that is done.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct StepTold {
    /// Where.
    pub path: String,
    /// `restore`, `bring-back`, `remove`, `rename` or `attributes`.
    pub does: String,
    /// Where to, of what is renamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}
