//! What is answered about points: named moments of whole sets.

use serde::{Deserialize, Serialize};

use keepshare_base::SetName;

use crate::{Failure, Outcome};

/// What somebody found a point to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// What it has can be used.
    Good,
    /// It cannot.
    Bad,
}

/// A point, as one station keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PointInfo {
    /// The set.
    pub set: String,
    /// What it is called.
    pub point: String,
    /// Its id: the same on every station, and of no other point.
    pub id: String,
    /// When it was made, by its master's clock.
    pub time: String,
    /// `app` where programs had written everything, or `crash`: as after a crash at that moment.
    pub kind: String,
    /// Until when it stays as things are; none: until somebody says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// It is one of so many last ones of those that are made every so often, and stays also after `until` for as long as that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_of_last: Option<u32>,
    /// Whether it is held, so that it stays whatever else ends it.
    pub held: bool,
    /// Until when it is held; none: until it is released, or it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_until: Option<String>,
    /// Whether this station keeps it whatever its master says.
    pub kept_here: bool,
    /// What somebody found it to be, at this station; none: nobody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked: Option<String>,
}

/// A point that was made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PointMade {
    /// The set.
    pub set: String,
    /// What it is called.
    pub point: String,
    /// Its id.
    pub id: String,
    /// When.
    pub time: String,
    /// `app` or `crash`.
    pub kind: String,
    /// Stations that do not have it yet.
    pub missing: Vec<String>,
    /// How much was being written just then: of it the point has what was there a moment before.
    pub unsettled: u64,
}

/// What was said of a point.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PointSaid {
    /// The set.
    pub set: String,
    /// What it is called.
    pub point: String,
    /// Its id.
    pub id: String,
    /// When stations act on it; none: at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Stations that have not heard of it yet.
    pub missing: Vec<String>,
}

/// How often a set's master makes points by itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PointTimeInfo {
    /// The set.
    pub set: String,
    /// The time between two, as `1h`.
    pub every: String,
    /// How many are kept.
    pub keep: u32,
}

/// Returns the point that is meant by a name or an id.
pub fn find<'p>(points: &'p [PointInfo], set: &SetName, meant: &str) -> Outcome<&'p PointInfo> {
    let mut found = points.iter().filter(|point| point.point == meant || point.id == meant);
    match (found.next(), found.next()) {
        (Some(point), None) => Ok(point),
        (Some(one), Some(other)) => {
            Err(Failure::usage(format!("set {set} has several points '{meant}'"))
                .hint(format!("write which one is meant: {} or {}", one.id, other.id)))
        }
        (None, _) => Err(Failure::not_found(format!("set {set} has no point '{meant}'"))
            .hint(format!("keepshare point list {set} lists those that it has"))),
    }
}
