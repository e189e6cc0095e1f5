//! A time of day, every day or on one day of the week, and when it is next.

use std::time::Duration;

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveTime, TimeDelta, TimeZone, Utc, Weekday};
use chrono_tz::Tz;
use serde::Deserialize;
use tokio::{sync::watch, time::Instant};

use keepshare_control::{Failure, Outcome};

use crate::scrub::{Pace, ScrubTable};

/// A time of day in the station's zone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Weekly {
    /// `None`: every day.
    day: Option<Weekday>,
    time: NaiveTime,
}

impl Weekly {
    /// Reads `HH:MM`, or `DAY HH:MM`.
    pub fn parse(text: &str) -> Outcome<Self> {
        let wrong = || {
            Failure::usage(format!("'{text}' is not a time of day"))
                .hint("write it like 03:00, or sun 03:00 for once a week")
        };
        let (day, time) = match text.split_once(' ') {
            Some((day, time)) => (Some(day.parse().map_err(|_| wrong())?), time),
            None => (None, text),
        };
        let time = NaiveTime::parse_from_str(time.trim(), "%H:%M").map_err(|_| wrong())?;
        Ok(Self { day, time })
    }

    /// Returns when it is next after `now`. An hour that the clock skips is taken an hour later, one that it repeats once.
    pub fn next(self, zone: Tz, now: DateTime<Utc>) -> DateTime<Utc> {
        let today = now.with_timezone(&zone).date_naive();
        let days = (0..=8).filter_map(|n| today.checked_add_days(Days::new(n)));
        let mut times = days.filter_map(|date| self.on(zone, date));
        times.find(|at| *at > now).unwrap_or(now + TimeDelta::days(1))
    }

    /// Returns when it was last, not after `now`.
    pub fn last(self, zone: Tz, now: DateTime<Utc>) -> DateTime<Utc> {
        let today = now.with_timezone(&zone).date_naive();
        let days = (0..=8).filter_map(|n| today.checked_sub_days(Days::new(n)));
        let mut times = days.filter_map(|date| self.on(zone, date));
        times.find(|at| *at <= now).unwrap_or(now - TimeDelta::days(1))
    }

    /// Returns when it is on a day, if it is then.
    fn on(self, zone: Tz, date: NaiveDate) -> Option<DateTime<Utc>> {
        if self.day.is_some_and(|day| date.weekday() != day) {
            return None;
        }
        let local = date.and_time(self.time);
        let at = |local| zone.from_local_datetime(&local).earliest();
        let local = at(local).or_else(|| at(local + TimeDelta::hours(1)))?;
        Some(local.with_timezone(&Utc))
    }
}

/// When a station does by itself what takes a while.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Schedules {
    /// When sources are compared whole.
    pub scan_at: Weekly,
    /// How often, where others write to a source's file system and nobody tells of it.
    pub shared_every: Duration,
    /// When versions are thinned.
    pub thin_at: Weekly,
    /// How fast copies are gone through for damage.
    pub scrub: Pace,
}

impl Default for Schedules {
    /// Every night: versions at one, sources at three.
    fn default() -> Self {
        let at = |hour| NaiveTime::from_hms_opt(hour, 0, 0).unwrap_or(NaiveTime::MIN);
        let nightly = |hour| Weekly { day: None, time: at(hour) };
        Self {
            scan_at: nightly(3),
            shared_every: Duration::from_secs(300),
            thin_at: nightly(1),
            scrub: Pace::default(),
        }
    }
}

/// The most often that such sources are compared, in seconds.
const SHARED_EVERY_S_MIN: u32 = 30;

/// The table `[scan]` of a config as it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScanTable {
    at: Option<String>,
    shared_every_s: Option<u32>,
}

/// The table `[retention]` of a config as it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionTable {
    at: Option<String>,
}

impl Schedules {
    /// Reads the tables of a config.
    pub fn parse(scan: ScanTable, retention: RetentionTable, scrub: ScrubTable) -> Outcome<Self> {
        let Self { scan_at, shared_every, thin_at, .. } = Self::default();
        let shared_every = match scan.shared_every_s {
            None => shared_every,
            Some(secs) if secs < SHARED_EVERY_S_MIN => {
                return Err(Failure::usage(format!("scan.shared_every_s is {secs}"))
                    .hint(format!("a scan takes a while: write {SHARED_EVERY_S_MIN} or more")));
            }
            Some(secs) => Duration::from_secs(secs.into()),
        };
        let at = |said: Option<String>, or| said.as_deref().map_or(Ok(or), Weekly::parse);
        let (scan_at, thin_at) = (at(scan.at, scan_at)?, at(retention.at, thin_at)?);
        Ok(Self { scan_at, shared_every, thin_at, scrub: Pace::parse(scrub)? })
    }
}

/// Rings at such times, also where the clock is set meanwhile.
#[derive(Debug)]
pub struct AlarmClock {
    at: Weekly,
    zone: Tz,
    next: DateTime<Utc>,
    looked: DateTime<Utc>,
    /// It is known whether the last time passed before it was there.
    has_looked_back: bool,
}

impl AlarmClock {
    /// Returns one that rings for the first time after `now`.
    pub fn new(at: Weekly, zone: Tz, now: DateTime<Utc>) -> Self {
        Self { at, zone, next: at.next(zone, now), looked: now, has_looked_back: false }
    }

    /// Returns how long it is until it rings, should nobody set the clock.
    pub fn left(&self, now: DateTime<Utc>) -> std::time::Duration {
        (self.next - now).to_std().unwrap_or_default()
    }

    /// Tells whether it is time to look if the last time was missed, after so much time that it is there; once.
    fn looks_back(&mut self, up: Duration) -> bool {
        !std::mem::replace(&mut self.has_looked_back, up >= MAKE_UP_AFTER) && self.has_looked_back
    }

    /// Tells whether it rings; once each time.
    pub fn rings(&mut self, now: DateTime<Utc>) -> bool {
        let is_time = now >= self.next;
        // What is next after a time that never came may be years away.
        let is_set_back = self.looked - now > SET_BACK_MIN;
        if is_time || is_set_back {
            self.next = self.at.next(self.zone, now);
        }
        self.looked = now;
        is_time
    }
}

/// How often it is looked whether it is time: the clock may be set.
const CLOCK_LOOK: Duration = Duration::from_secs(30);

/// How long a station runs before it makes up for what it missed: who starts it has other things to wait for.
const MAKE_UP_AFTER: Duration = Duration::from_secs(600);

/// Calls `ring` at such times, until it is told to stop; and once, some minutes after the start, where `missed` says then that the last
/// time passed without it. A station that runs in office hours only would never do what is for the night.
pub(crate) async fn ring_at(
    at: Weekly,
    zone: Tz,
    mut stopping: watch::Receiver<bool>,
    missed: impl Fn(DateTime<Utc>) -> bool,
    mut ring: impl FnMut(),
) {
    let began = Instant::now();
    let mut alarm_clock = AlarmClock::new(at, zone, Utc::now());
    loop {
        let left = alarm_clock.left(Utc::now());
        tokio::select! {
            () = tokio::time::sleep(left.min(CLOCK_LOOK)) => {}
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
        let now = Utc::now();
        let looks_back = alarm_clock.looks_back(began.elapsed());
        if alarm_clock.rings(now) || looks_back && missed(now) {
            ring();
        }
    }
}

/// A clock that goes back by less is corrected, and does not ring a second time for it.
const SET_BACK_MIN: TimeDelta = TimeDelta::minutes(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_time_is_in_the_zone_of_the_station() {
        let zone: Tz = "Europe/Berlin".parse().unwrap();
        let next = |at: &str, now: &str| {
            let now: DateTime<Utc> = now.parse().unwrap();
            Weekly::parse(at).unwrap().next(zone, now).to_rfc3339()
        };
        assert_eq!(next("03:00", "2026-01-10T01:59:59Z"), "2026-01-10T02:00:00+00:00");
        assert_eq!(next("03:00", "2026-01-10T02:00:00Z"), "2026-01-11T02:00:00+00:00");
        assert_eq!(next("sun 23:30", "2026-01-10T12:00:00Z"), "2026-01-11T22:30:00+00:00");
        assert_eq!(next("sat 12:00", "2026-01-10T12:00:00Z"), "2026-01-17T11:00:00+00:00");
        // The clock skips the hour from two to three, and repeats it in autumn.
        assert_eq!(next("02:30", "2026-03-28T12:00:00Z"), "2026-03-29T01:30:00+00:00");
        assert_eq!(next("02:30", "2026-10-24T12:00:00Z"), "2026-10-25T00:30:00+00:00");
    }

    #[test]
    fn the_last_time_is_before_the_next_one() {
        let zone: Tz = "Europe/Berlin".parse().unwrap();
        let last = |at: &str, now: &str| {
            let now: DateTime<Utc> = now.parse().unwrap();
            Weekly::parse(at).unwrap().last(zone, now).to_rfc3339()
        };
        assert_eq!(last("03:00", "2026-01-10T01:59:59Z"), "2026-01-09T02:00:00+00:00");
        assert_eq!(last("03:00", "2026-01-10T02:00:00Z"), "2026-01-10T02:00:00+00:00");
        assert_eq!(last("sun 23:30", "2026-01-10T12:00:00Z"), "2026-01-04T22:30:00+00:00");
        assert_eq!(last("02:30", "2026-03-29T12:00:00Z"), "2026-03-29T01:30:00+00:00");
    }

    /// A station that is on from nine to five has no night. It does by day what that was to do, when people have logged in.
    #[test]
    fn what_was_missed_is_made_up_for_once_and_not_at_once() {
        let time = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let at = Weekly::parse("01:00").unwrap();
        let mut clock = AlarmClock::new(at, Tz::UTC, time("2026-01-10T08:00:00Z"));
        let up = [Duration::ZERO, MAKE_UP_AFTER / 2, MAKE_UP_AFTER, MAKE_UP_AFTER * 2];
        assert_eq!(up.map(|up| clock.looks_back(up)), [false, false, true, false]);
    }

    /// A machine without a battery starts in some year and is told the time by the network.
    #[test]
    fn a_clock_that_was_ahead_puts_nothing_off() {
        let time = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        for (ahead, from) in [
            ("2099-01-01T12:00:00Z", "2026-01-10T12:00:00Z"),
            ("2026-01-13T12:00:00Z", "2026-01-10T12:00:00Z"),
        ] {
            let mut clock = AlarmClock::new(Weekly::parse("03:00").unwrap(), Tz::UTC, time(ahead));
            assert!(!clock.rings(time(from)));
            assert!(!clock.rings(time("2026-01-11T02:59:59Z")), "{ahead}");
            assert!(clock.rings(time("2026-01-11T03:00:00Z")), "{ahead}");
            // Corrected by a moment, it rings no second time.
            assert!(
                !clock.rings(time("2026-01-11T02:59:59Z"))
                    && !clock.rings(time("2026-01-11T03:00:01Z"))
            );
        }
    }

    #[test]
    fn what_is_no_time_of_day_is_refused() {
        for text in ["", "3", "24:00", "someday 03:00", "sun", "03:00 sun"] {
            assert!(Weekly::parse(text).is_err(), "{text}");
        }
    }
}
