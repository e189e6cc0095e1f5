//! How many points the station behind a link may have its master make.
//!
//! A set has a few thousand points at the most, and a station that is in wrong hands could use them up, so that no other is kept. A
//! master keeps no points, and cannot count them: it counts those that it made for each station since it was started, which no station
//! can have it do again.

use std::{collections::BTreeMap, time::Duration};

use keepshare_base::{Position, RequestId};
use keepshare_proto::MonoTime;

/// The most points at a time that were made for one station and last: 128 roll-backs within 30 days, and a sixteenth of what a set has.
pub(super) const POINTS_MAX: usize = 256;

/// The points that were made for a station and last.
#[derive(Debug, Default)]
pub(super) struct Points {
    made: BTreeMap<RequestId, Made>,
}

#[derive(Debug)]
struct Made {
    at: Position,
    until: MonoTime,
}

impl Points {
    /// Returns the point that was made for a request before, as a repeat makes no other.
    pub(super) fn of(&self, request: RequestId) -> Option<Position> {
        self.made.get(&request).map(|made| made.at)
    }

    /// Tells whether one more may be made.
    pub(super) fn has_room(&mut self, now: MonoTime) -> bool {
        self.made.retain(|_, made| made.until > now);
        self.made.len() < POINTS_MAX
    }

    /// Counts one that was made.
    pub(super) fn add(&mut self, now: MonoTime, request: RequestId, at: Position, lasts: Duration) {
        self.made.insert(request, Made { at, until: now + lasts });
    }
}

#[cfg(test)]
mod tests {
    use keepshare_base::{Epoch, OriginId, Seq};

    use super::*;

    fn request(number: usize) -> RequestId {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&number.to_le_bytes());
        RequestId(id)
    }

    /// Those that have ended make room for others, and for no more than have ended.
    #[test]
    fn what_lasts_is_counted() {
        let (mut points, day) = (Points::default(), Duration::from_secs(86_400));
        let now = MonoTime(0);
        let at = Position { origin: OriginId(1), epoch: Epoch::FIRST, seq: Seq(7) };
        for number in 0..POINTS_MAX {
            assert!(points.has_room(now), "{number}");
            let lasts = if number < 3 { day } else { 2 * day };
            points.add(now, request(number), at, lasts);
        }
        assert!(!points.has_room(now));
        assert_eq!((points.of(request(1)), points.of(request(POINTS_MAX))), (Some(at), None));
        for number in 0..3 {
            assert!(points.has_room(now + day), "{number}");
            points.add(now + day, request(1000 + number), at, day);
        }
        assert!(!points.has_room(now + day));
    }
}
