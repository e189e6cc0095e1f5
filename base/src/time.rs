//! Moments: stamps of changes and times of files.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

/// A moment in microseconds since 1970 (UTC): an origin's journal time, or a station's arrival time.
#[derive(
    Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize,
)]
pub struct Stamp(pub i64);

impl Stamp {
    /// Later than every other moment.
    pub const MAX: Self = Self(i64::MAX);

    /// Returns the moment as a calendar time; `None` outside the years that `chrono` knows.
    pub fn to_utc(self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_micros(self.0)
    }

    /// Returns the moment `micros` microseconds later, or the last one there is.
    #[must_use]
    pub fn plus_micros(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros))
    }

    /// Returns how long after `earlier` this is, in microseconds; negative where it is before it.
    pub fn micros_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl From<DateTime<Utc>> for Stamp {
    fn from(time: DateTime<Utc>) -> Self {
        Self(time.timestamp_micros())
    }
}

impl fmt::Display for Stamp {
    /// Writes RFC 3339 in UTC with microseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_utc() {
            Some(time) => f.write_str(&time.to_rfc3339_opts(SecondsFormat::Micros, true)),
            None => write!(f, "{} µs", self.0),
        }
    }
}

/// A time kept by a file system: seconds since 1970 and nanoseconds.
#[derive(
    Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize,
)]
pub struct FileTime {
    /// Whole seconds; negative before 1970.
    pub secs: i64,
    /// Nanoseconds, below 10⁹.
    pub nanos: u32,
}

impl FileTime {
    /// Returns the time as a stamp, cut to microseconds.
    pub fn to_stamp(self) -> Stamp {
        Stamp(self.secs.saturating_mul(1_000_000).saturating_add(i64::from(self.nanos / 1000)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_print_as_rfc_3339() {
        assert_eq!(Stamp(1_763_649_127_000_001).to_string(), "2025-11-20T14:32:07.000001Z");
        assert_eq!(Stamp::MAX.to_string(), "9223372036854775807 µs");
    }

    #[test]
    fn file_times_before_1970_become_stamps() {
        assert_eq!(FileTime { secs: -1, nanos: 500_000_000 }.to_stamp(), Stamp(-500_000));
        assert_eq!(FileTime { secs: i64::MAX, nanos: 0 }.to_stamp(), Stamp::MAX);
    }
}
