//! Questions about what is kept for how long, and about points.

use serde::{Deserialize, Serialize};

use keepshare_base::SetName;

use crate::points::Verdict;

use super::Location;

/// How sets that are kept here are thinned.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionShow {
    /// The set; every one where none is named.
    #[serde(default)]
    pub set: Option<SetName>,
}

/// Thins a set of this station otherwise from now on.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionSet {
    /// The set.
    pub set: SetName,
    /// `KEY=VALUE`, each.
    pub said: Vec<String>,
    /// Of the policy that sets begin with, not of the present one.
    #[serde(default)]
    pub reset: bool,
    /// Though it keeps less.
    #[serde(default)]
    pub less: bool,
}

/// What the policy of a set lets go: those versions, as many as are asked for, then the plan.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionPlan {
    /// The set.
    pub set: SetName,
    /// With this said of its policy; such a plan cannot be applied.
    #[serde(default)]
    pub said: Vec<String>,
    /// How many versions are listed at most: 0 to [`LIMIT_MAX`](super::LIMIT_MAX).
    pub limit: usize,
}

/// Why each version of a name is kept, and what of it goes.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionExplain {
    /// The file.
    pub place: Location,
    /// How many at most: 1 to [`LIMIT_MAX`](super::LIMIT_MAX).
    pub limit: usize,
}

/// Removes what was planned and still goes.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionApply {
    /// The set.
    pub set: SetName,
    /// The plan.
    pub plan: String,
}

/// A named moment of a set that this station masters: all that was saved until now, on every station that keeps the set.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PointCreate {
    /// The set.
    pub set: SetName,
    /// What it is to be called.
    pub name: String,
    /// Programs were told, and have written everything.
    #[serde(default)]
    pub app: bool,
    /// For how long it stays, as `30d`; until it is removed where that is not said.
    #[serde(default)]
    pub lasts: Option<String>,
    /// Hold it, too: for so long, or until it is released where that is empty.
    #[serde(default)]
    pub hold: Option<String>,
}

/// The points of sets that are kept here, or of one that only others keep; oldest first.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PointList {
    /// The set; all that are kept here where none is named.
    #[serde(default)]
    pub set: Option<SetName>,
}

/// How often points of a set are made by themselves.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PointTimes {
    /// The set, which is mastered here.
    pub set: SetName,
}

/// Has points of a set made by themselves, or not any more.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PointEvery {
    /// The set, which is mastered here.
    pub set: SetName,
    /// The time between two, as `1h`.
    pub every: String,
    /// How many are kept; 0: none are made any more.
    pub keep: u32,
}

/// Holds a point: it stays whatever else ends it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PointHold {
    /// The set.
    pub set: SetName,
    /// The point: its name or its id.
    pub point: String,
    /// For how long, as `30d`; until it is released where that is not said.
    #[serde(default)]
    pub lasts: Option<String>,
    /// At this station alone, which keeps it whatever the set's master says.
    #[serde(default)]
    pub here: bool,
}

/// Holds a point no longer.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PointRelease {
    /// The set.
    pub set: SetName,
    /// The point: its name or its id.
    pub point: String,
    /// Leave it to the set's master again, which this station did not.
    #[serde(default)]
    pub here: bool,
}

/// Ends a point: on all stations a day later, or at this one at once.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PointRemove {
    /// The set.
    pub set: SetName,
    /// The point: its name or its id.
    pub point: String,
    /// At this station alone, and at once.
    #[serde(default)]
    pub here: bool,
}

/// Says what somebody found a point to be.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PointMark {
    /// The set.
    pub set: SetName,
    /// The point: its name or its id.
    pub point: String,
    /// What; none: nobody knows any more.
    pub verdict: Option<Verdict>,
    /// How that was found, for the audit log.
    #[serde(default)]
    pub by: Option<String>,
}

/// Brings back what retention removed.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionUndo {
    /// The set.
    pub set: SetName,
    /// Everything that can come back; else what the last run removed.
    #[serde(default)]
    pub all: bool,
    /// Do it; else it is only said what would come back.
    #[serde(default)]
    pub sure: bool,
}

/// Bursts that this station saw in sets that it keeps, newest first.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AlarmList {
    /// The set; all that are kept here where none is named.
    #[serde(default)]
    pub set: Option<SetName>,
    /// Only this one.
    #[serde(default)]
    pub alarm: Option<String>,
}

/// Somebody has looked at an alarm: it is told of no more.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AlarmClose {
    /// Which.
    pub alarm: String,
    /// Hold the moment before it no longer.
    #[serde(default)]
    pub release: bool,
}

/// From how much on it is a burst in a set that is kept here.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AlarmSet {
    /// The set.
    pub set: SetName,
    /// `KEY=VALUE`, each; none: it is only asked.
    #[serde(default)]
    pub said: Vec<String>,
}
