//! What is answered about scrubs.

use serde::{Deserialize, Serialize};

/// How the scrub of a copy stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScrubInfo {
    /// The set.
    pub set: String,
    /// The station that keeps it.
    pub station: String,
    /// How far it is.
    #[serde(flatten)]
    pub status: ScrubStatus,
    /// What was found and is told one by one, the newest first.
    pub damage: Vec<ScrubDamage>,
    /// How much more was found in the last pass, or in this one.
    pub more_damage: u64,
}

/// How far a scrub is, as the status of a set tells.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScrubStatus {
    /// `running`, `waiting` for its time, or `paused`.
    pub state: String,
    /// The pass that runs, or goes on when it is paused no more.
    #[serde(default)]
    pub pass: Option<ScrubPass>,
    /// The last whole pass; none: not everything was looked at yet.
    #[serde(default)]
    pub last_pass: Option<ScrubbedPass>,
    /// When the next pass begins; none where one runs, or is paused.
    #[serde(default)]
    pub next_pass: Option<String>,
    /// How many versions are damaged here.
    pub damaged: u64,
    /// How many things in the live tree are not what they should be, and stay so until a person acts.
    pub live_differences: u64,
    /// How many times the log or a pack was found damaged itself, where a look since then has not found it well.
    #[serde(default)]
    pub files_damaged: u64,
    /// Why it does not go on, where it tries again.
    #[serde(default)]
    pub trouble: Option<String>,
}

/// A pass that runs.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct ScrubPass {
    /// When it began.
    pub began: String,
    /// What it looks at: `index`, `log`, `packs` or `live`.
    pub stage: String,
    /// What it has read, in bytes.
    pub read_bytes: u64,
    /// About how much of what there is to read; less than 100.
    pub percent: u8,
    /// How much it reads in a second at most; none where somebody waits for it.
    #[serde(default)]
    pub bytes_per_s: Option<u64>,
}

/// What came of a whole pass.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct ScrubbedPass {
    /// When it began.
    pub began: String,
    /// When it ended.
    pub ended: String,
    /// What it has read, in bytes.
    pub read_bytes: u64,
    /// How much it found.
    pub found: u64,
    /// How much of that was put right.
    pub mended: u64,
}

/// Something that a pass found.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct ScrubDamage {
    /// What it is: a `version`, something in the `live` tree, the `index`, the `log`, or a `pack`.
    pub kind: String,
    /// Where in the set; empty where it is about none.
    pub path: String,
    /// The id of the version; none where it is about none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// When it was found last.
    pub time: String,
    /// What is wrong, or was.
    pub what: String,
    /// It was put right.
    pub is_mended: bool,
}
