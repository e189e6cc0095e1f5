//! A time of day, every day or on one day of the week, and when it is next.

use chrono::{DateTime, Datelike, Days, NaiveTime, TimeDelta, TimeZone, Utc, Weekday};
use chrono_tz::Tz;

use crate::failure::{Failure, Outcome};

/// A time of day in the station's zone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Weekly {
    /// `None`: every day.
    day: Option<Weekday>,
    time: NaiveTime,
}

impl Default for Weekly {
    /// Every night at three.
    fn default() -> Self {
        let time = NaiveTime::from_hms_opt(3, 0, 0).unwrap_or(NaiveTime::MIN);
        Self { day: None, time }
    }
}

impl Weekly {
    /// Reads `HH:MM`, or `DAY HH:MM`.
    pub(crate) fn parse(text: &str) -> Outcome<Self> {
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
    pub(crate) fn next(self, zone: Tz, now: DateTime<Utc>) -> DateTime<Utc> {
        let today = now.with_timezone(&zone).date_naive();
        let days = (0..=8).filter_map(|n| today.checked_add_days(Days::new(n)));
        let mut times = days
            .filter(|date| self.day.is_none_or(|day| date.weekday() == day))
            .filter_map(|date| {
                let local = date.and_time(self.time);
                let at = |local| zone.from_local_datetime(&local).earliest();
                at(local).or_else(|| at(local + TimeDelta::hours(1)))
            })
            .map(|local| local.with_timezone(&Utc));
        times.find(|at| *at > now).unwrap_or(now + TimeDelta::days(1))
    }
}

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
    fn what_is_no_time_of_day_is_refused() {
        for text in ["", "3", "24:00", "someday 03:00", "sun", "03:00 sun"] {
            assert!(Weekly::parse(text).is_err(), "{text}");
        }
    }
}
