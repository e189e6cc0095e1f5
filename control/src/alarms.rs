//! What is answered about alarms: bursts that a station saw in a set that it keeps.

use serde::{Deserialize, Serialize};

/// An alarm.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AlarmInfo {
    /// Which.
    pub alarm: String,
    /// `burst`.
    pub kind: String,
    /// The set.
    pub set: String,
    /// When it was seen first, RFC 3339.
    pub since: String,
    /// When it was seen last, RFC 3339.
    pub last: String,
    /// The moment before it, RFC 3339.
    pub last_good: String,
    /// The point that holds that moment; none where it is not held any more.
    pub point: Option<String>,
    /// How many files were rewritten, renamed or deleted, within the time of the rule.
    pub changed: u64,
    /// How many of them no longer read as what they were.
    pub spoiled: u64,
    /// Some of those.
    pub files: Vec<String>,
    /// Who wrote them, as far as the set's master knew.
    pub users: Vec<String>,
    /// Somebody has looked at it.
    pub closed: bool,
}

/// From how much on it is a burst in a set.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AlarmRule {
    /// The set.
    pub set: String,
    /// `KEY=VALUE`s.
    pub rule: String,
}
