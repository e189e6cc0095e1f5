//! What is answered about retention.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How a set is thinned on a station.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RetentionInfo {
    /// The set.
    pub set: String,
    /// The station that keeps it so.
    pub station: String,
    /// Its policy, each key with its value.
    pub policy: BTreeMap<String, String>,
    /// Whether somebody has set it; else it is the one that sets begin with.
    pub is_set: bool,
    /// Whether a plan was applied since it was set.
    pub is_applied: bool,
    /// When the station thins by itself next; none: not before a plan was applied by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_run: Option<String>,
    /// What it did last, by itself or by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<RetentionRun>,
    /// What was removed and can be brought back, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub can_come_back: Vec<CanComeBack>,
}

/// What one run removed and can be brought back.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct CanComeBack {
    /// How many versions.
    pub versions: u64,
    /// Their sizes together, in bytes.
    pub bytes: u64,
    /// Until when, if the station goes on to run and its disk has space.
    pub until: String,
}

/// What came of a run.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct RetentionRun {
    /// When it began.
    pub time: String,
    /// Whether the station began it by itself.
    pub by_itself: bool,
    /// Versions that were kept; 0 where it ended before it had gone through the set.
    pub kept: u64,
    /// Versions that were removed.
    pub removed: u64,
    /// Their sizes together, in bytes.
    pub bytes_freed: u64,
    /// Why it removed nothing, where that was so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// What helps, where it does so again each night until a person acts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// Why it ended before it had gone through the set, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_short: Option<String>,
    /// How many of the versions that it removed were brought back.
    #[serde(default)]
    pub brought_back: u64,
}

impl RetentionRun {
    /// Returns one by the station itself that has just begun.
    pub fn begun(time: String) -> Self {
        Self {
            time,
            by_itself: true,
            kept: 0,
            removed: 0,
            bytes_freed: 0,
            refused: None,
            help: None,
            cut_short: None,
            brought_back: 0,
        }
    }

    /// Returns one by the station itself that removed nothing, and why.
    pub fn refused(time: String, why: String) -> Self {
        Self { refused: Some(why), ..Self::begun(time) }
    }
}

/// How the disk of a copy fills.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// What is free on it, in bytes; none where that cannot be found out.
    pub free_bytes: Option<u64>,
    /// What packs and log grew by per day, over up to seven days of running time; less than nothing where they shrank, none where it
    /// was not measured for a day yet.
    pub bytes_per_day: Option<i64>,
    /// In how many days it would be full, were it filled on as it was since; none where it was not, or where that is not known.
    pub full_in_days: Option<u64>,
}

/// How a copy is thinned, as its status tells.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RetentionStatus {
    /// What the station did last, by itself or by hand.
    #[serde(default)]
    pub last_run: Option<RetentionRun>,
    /// When it thins by itself next; none: not before a plan was applied by hand.
    #[serde(default)]
    pub next_run: Option<String>,
    /// How the disk fills.
    #[serde(default)]
    pub forecast: Forecast,
}

/// A piece of a plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PlanPiece {
    /// The plan itself, the last piece.
    Plan(Plan),
    /// A version that goes.
    Version(PlannedVersion),
}

/// What a policy lets go.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// By which it is applied; none where it was only asked what another policy would do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// The set.
    pub set: String,
    /// Versions that stay.
    pub keep: u64,
    /// Versions that go.
    pub remove: u64,
    /// The sizes of those that go, in bytes. What they share with others stays on the disk.
    pub bytes: u64,
    /// Whether a station would do it by itself at night.
    pub by_itself: bool,
    /// How the disk fills without it.
    #[serde(default)]
    pub forecast: Forecast,
}

/// A version in a plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlannedVersion {
    /// A path that shows it.
    pub path: String,
    /// Its id.
    pub version: String,
    /// When it was made.
    pub time: String,
    /// Its size, in bytes.
    pub size: u64,
    /// `remove` or `keep`.
    pub action: String,
    /// Why: keys of the policy.
    pub reasons: Vec<String>,
}

/// What applying a plan did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Applied {
    /// The set.
    pub set: String,
    /// Versions that went.
    pub removed: u64,
    /// Versions that were planned and do not go any more.
    pub skipped: u64,
    /// The sizes of those that went, in bytes.
    pub bytes_freed: u64,
}

/// What an undo did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Undone {
    /// The set.
    pub set: String,
    /// Versions that came back.
    pub brought_back: u64,
    /// Their sizes together, in bytes.
    pub bytes: u64,
    /// Versions that the same runs removed and that are gone for good.
    pub gone: u64,
    /// Which runs had removed them, oldest first.
    pub runs: Vec<UndoneRun>,
}

/// What came back of one run.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct UndoneRun {
    /// When it began to remove.
    pub time: String,
    /// Versions that came back.
    pub versions: u64,
}
