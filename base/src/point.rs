//! Points: named moments of a whole set.

use serde::{Deserialize, Serialize};

use crate::Position;

/// How consistent a point is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub enum PointKind {
    /// The applications were told and had written everything.
    App,
    /// As after a crash at that moment.
    Crash,
}

/// A named moment of the whole set.
#[derive(Clone, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// What it is called.
    pub name: String,
    /// How consistent it is.
    pub kind: PointKind,
}

/// What a change says of points: makes one, or says of one that was made before for how long it stays.
///
/// A station counts spans from when it takes the change in, by the set's running time there. What would make it keep a point for a
/// shorter time, it does a day later ([`POINT_NOTICE_MICROS`]): a master that was taken over ends nothing at once.
#[derive(Clone, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub enum PointRow {
    /// A point is right after this change.
    Made {
        /// What it is and what it is called.
        point: Point,
        /// For how long it stays, in microseconds; `None`: until it is removed.
        lasts_micros: Option<u64>,
    },
    /// A point is held: until then it stays, whatever else was said of it.
    Held {
        /// The change that made it.
        point: Position,
        /// For how long, in microseconds; `None`: until it is released.
        lasts_micros: Option<u64>,
    },
    /// A point is held no longer.
    Released {
        /// The change that made it.
        point: Position,
    },
    /// A point is to go.
    Removed {
        /// The change that made it.
        point: Position,
    },
    /// A point is right after this change, one of those that are made every so often.
    Scheduled {
        /// What it is and what it is called.
        point: Point,
        /// How often, and how many of them stay.
        schedule: Schedule,
    },
    /// No more points are made so often: those that are there stay for their time, and are counted no more.
    Unscheduled {
        /// The time between two, in microseconds.
        every_micros: u64,
    },
}

/// How often points are made, and how many of them stay at least.
///
/// One stays for as long as it takes to make so many, and for longer while it is one of so many last ones. So where none are made for a
/// while, none of them goes for it; and whoever makes many of them in a moment has none go before its time.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The time between two, in microseconds.
    pub every_micros: u64,
    /// How many stay.
    pub keep: u32,
}

impl Schedule {
    /// Returns for how long one stays at least, in microseconds.
    pub fn lasts_micros(self) -> u64 {
        self.every_micros.saturating_mul(u64::from(self.keep))
    }
}

/// How long a point stays after its master said that it is to go, or is held no longer, in microseconds: a day.
pub const POINT_NOTICE_MICROS: u64 = 86_400_000_000;
