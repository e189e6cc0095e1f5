//! Points that a master makes by itself, every so often.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use anyhow::Context;
use chrono::{DateTime, Offset, TimeZone, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use keepshare_base::{Point, PointKind, PointRow, Schedule, chain};
use keepshare_control::{Failure, Outcome};
use keepshare_host::files;
use keepshare_replication::source::SourceError;
use keepshare_versioning::retention::Span;

use super::Master;

/// The format of the file.
const FORMAT: u32 = 1;

/// The most points that one set's times keep, all together: a half of what a set can have.
const KEPT_MAX: u64 = 2048;

/// The shortest time between two.
const EVERY_MIN: &str = "5m";

/// How often it is looked whether it is time for one: the clock may be set.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The times at which a master makes points.
#[derive(Debug)]
pub(super) struct PointTimes {
    file: PathBuf,
    zone: Tz,
    written: Mutex<Outcome<Written>>,
}

/// What is written down: `docs/formats/points.md`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: u32,
    #[serde(default)]
    times: Vec<PointTime>,
}

/// So often a point is made, and so many are kept.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PointTime {
    /// The time between two.
    pub every: Span,
    /// How many are kept.
    pub keep: u32,
    /// The one that was made last, counted from 1970 on in the zone's time.
    pub last: i64,
}

impl PointTime {
    /// Returns the number of the time that it is: it begins where the zone's clock shows a multiple of what is between two. Of how far the
    /// zone is off only that matters which is no multiple of it itself, so that an hour which the clock repeats is another hour.
    fn number(&self, zone: Tz, now: DateTime<Utc>) -> i64 {
        let every = i64::try_from(self.every.micros()).unwrap_or(i64::MAX).max(1);
        let offset = zone.offset_from_utc_datetime(&now.naive_utc()).fix().local_minus_utc();
        let offset = (i64::from(offset) * 1_000_000).rem_euclid(every);
        now.timestamp_micros().saturating_add(offset).div_euclid(every)
    }

    /// Returns what the one of this time is called: as a folder's name on every system.
    fn name(&self, zone: Tz, now: DateTime<Utc>) -> String {
        format!("every-{}-{}", self.every, now.with_timezone(&zone).format("%Y-%m-%d_%H.%M%z"))
    }

    fn schedule(&self) -> Schedule {
        Schedule { every_micros: self.every.micros(), keep: self.keep }
    }
}

impl PointTimes {
    /// Opens those of a set. A file that cannot be read keeps no set shut: no points are made by it, and none are set.
    pub(super) fn open(file: PathBuf, zone: Tz) -> Self {
        let written = read(&file).map_err(|failure| {
            let failure = failure.context(format!("cannot read {}", file.display()));
            tracing::error!(%failure, "points are not made by themselves");
            failure
        });
        Self { file, zone, written: Mutex::new(written) }
    }

    fn lock(&self) -> MutexGuard<'_, Outcome<Written>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn times(&self) -> Outcome<Vec<PointTime>> {
        self.lock().as_ref().map(|written| written.times.clone()).map_err(Clone::clone)
    }

    fn change(&self, change: impl FnOnce(&mut Vec<PointTime>)) -> Outcome<()> {
        let mut written = self.lock();
        let mut next = written.as_ref().map_err(Clone::clone)?.clone();
        change(&mut next.times);
        self.write(&next)?;
        *written = Ok(next);
        Ok(())
    }

    /// Notes which one was made last of a time. Where that cannot be written it is known until the next start all the same, or it would be
    /// made again and again.
    fn note(&self, every: Span, number: i64) -> Outcome<()> {
        let mut written = self.lock();
        let written = written.as_mut().map_err(|failure| failure.clone())?;
        let time = written.times.iter_mut().find(|time| time.every == every);
        time.into_iter().for_each(|time| time.last = number);
        self.write(written)
    }

    fn write(&self, written: &Written) -> Outcome<()> {
        let text = toml::to_string(written).map_err(anyhow::Error::new)?;
        files::write_synced(&self.file, text.as_bytes(), 0o600)
            .with_context(|| format!("cannot write {}", self.file.display()))?;
        Ok(())
    }

    /// Returns the times for which there is no point yet.
    fn due(&self, now: DateTime<Utc>) -> Vec<(PointTime, i64)> {
        let times = self.times().unwrap_or_default().into_iter();
        let numbered = times.map(|time| {
            let number = time.number(self.zone, now);
            (time, number)
        });
        numbered.filter(|(time, number)| time.last != *number).collect()
    }
}

fn read(file: &Path) -> Outcome<Written> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Written { format: FORMAT, times: Vec::new() });
        }
        Err(error) => return Err(anyhow::Error::new(error).into()),
    };
    let written: Written = toml::from_str(&text).map_err(anyhow::Error::new)?;
    if written.format != FORMAT {
        return Err(Failure::refused(format!(
            "it has format {}; this release reads {FORMAT}",
            written.format
        )));
    }
    Ok(written)
}

impl Master {
    /// Returns how often points are made by themselves.
    pub fn point_times(&self) -> Outcome<Vec<PointTime>> {
        self.times.times()
    }

    /// Has a point made so often from now on, and so many of them kept; none any more where that is 0. Where it is less than before,
    /// those that are there stay for their time alone. Blocks.
    pub fn set_point_time(&self, every: Span, keep: u32) -> Outcome<()> {
        let least: Span = EVERY_MIN.parse().expect("it is a span");
        if every < least {
            return Err(Failure::usage(format!("every {every} is too often"))
                .hint(format!("at most every {EVERY_MIN}")));
        }
        let others = self.point_times()?.into_iter().filter(|time| time.every != every);
        let kept = others.map(|time| u64::from(time.keep)).sum::<u64>() + u64::from(keep);
        if kept > KEPT_MAX {
            return Err(Failure::usage(format!("that would keep {kept} points"))
                .hint(format!("keep {KEPT_MAX} at most, of all times together")));
        }
        let known = self.point_times()?.into_iter().find(|time| time.every == every);
        let is_less = known.is_some_and(|known| keep < known.keep);
        self.times.change(|times| {
            let now = Utc::now();
            let known = times.iter().position(|time| time.every == every);
            match (known, keep) {
                (Some(known), 0) => drop(times.remove(known)),
                (None, 0) => {}
                (Some(known), keep) => times[known].keep = keep,
                (None, keep) => {
                    let time = PointTime { every, keep, last: 0 };
                    let last = time.number(self.times.zone, now);
                    times.push(PointTime { last, ..time });
                    times.sort_by_key(|time| time.every);
                }
            }
        })?;
        if is_less {
            // Those that are there would wait for so many others as were said then.
            let row = PointRow::Unscheduled { every_micros: every.micros() };
            self.source.of_point(row).with_context(|| {
                format!(
                    "of set {} as many stay as were said before, though fewer are made",
                    self.name
                )
            })?;
        }
        Ok(())
    }

    /// Makes the points whose time has come. One that cannot be made is tried again until the next is due. Blocks.
    fn make_due_points(&self) {
        let now = Utc::now();
        for (time, number) in self.times.due(now) {
            let point = Point { name: time.name(self.times.zone, now), kind: PointKind::Crash };
            let set = &self.name;
            match self.source.scheduled_point(point, time.schedule()) {
                // After a start it takes until the folder was gone through.
                Err(SourceError::NotLooked) => {}
                Err(error) => {
                    let error = chain(&error);
                    tracing::warn!(%set, every = %time.every, error, "a point was not made");
                }
                Ok(_) => {
                    if let Err(failure) = self.times.note(time.every, number) {
                        tracing::error!(%set, %failure, "that a point was made is not written down");
                    }
                }
            }
        }
    }
}

/// Makes points at their times until the set stops.
pub(super) async fn make(master: Weak<Master>, mut stopping: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
        let Some(master) = master.upgrade() else { return };
        if !master.times.due(Utc::now()).is_empty()
            && let Err(error) = tokio::task::spawn_blocking(move || master.make_due_points()).await
        {
            tracing::error!(%error, "points are not made");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    /// The night in October has an hour more, and whoever is asked for one an hour makes one more in it.
    #[test]
    fn an_hour_that_the_clock_repeats_has_a_point_of_its_own() {
        let berlin: Tz = "Europe/Berlin".parse().unwrap();
        let india: Tz = "Asia/Kolkata".parse().unwrap();
        let count = |every: &str, zone: Tz, from: &str, hours: i64| {
            let time = PointTime { every: every.parse().unwrap(), keep: 1, last: 0 };
            let minutes = (0..hours * 60).map(|n| at(from) + chrono::TimeDelta::minutes(n));
            let mut numbers: Vec<i64> = minutes.map(|now| time.number(zone, now)).collect();
            numbers.dedup();
            numbers.len()
        };
        // From midnight to midnight of the zone.
        for (every, autumn, spring) in
            [("1h", 25, 23), ("30m", 50, 46), ("12h", 2, 2), ("1d", 1, 1)]
        {
            assert_eq!(count(every, berlin, "2026-10-24T22:00:00Z", 25), autumn, "{every}");
            assert_eq!(count(every, berlin, "2026-03-28T23:00:00Z", 23), spring, "{every}");
        }
        assert_eq!(count("1h", india, "2026-10-24T18:30:00Z", 24), 24, "a zone between the hours");
    }

    #[test]
    fn a_time_has_one_point() {
        let dir = tempfile::tempdir().unwrap();
        let zone: Tz = "Europe/Berlin".parse().unwrap();
        let open = || PointTimes::open(dir.path().join("points.toml"), zone);
        let times = open();
        let daily = PointTime { every: Span::days(1), keep: 30, last: 0 };
        assert_eq!(daily.schedule().lasts_micros(), 30 * 86_400_000_000);
        // A day ends at midnight of the zone.
        let (before, after) = (at("2026-11-30T22:59:59Z"), at("2026-11-30T23:00:00Z"));
        assert_eq!(daily.number(zone, before) + 1, daily.number(zone, after));
        assert_eq!(daily.name(zone, after), "every-1d-2026-12-01_00.00+0100");
        let last = daily.number(zone, before);
        times.change(|times| times.push(PointTime { last, ..daily })).unwrap();
        assert_eq!(times.due(before), []);
        let due = times.due(after);
        assert_eq!(due.len(), 1);
        times.note(Span::days(1), due[0].1).unwrap();
        let times = open();
        assert_eq!(times.due(at("2026-12-01T22:00:00Z")), []);
        assert_eq!(times.due(at("2026-12-02T10:00:00Z")).len(), 1, "also where it is late");
        std::fs::write(&times.file, "format = 2\n").unwrap();
        let unread = PointTimes::open(times.file.clone(), zone);
        assert!(unread.times().is_err() && unread.change(Vec::clear).is_err());
        assert_eq!(unread.due(at("2026-12-05T10:00:00Z")), []);
    }
}
