//! How much of its disk a copy takes, day after day of running time, and when that would be full.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use keepshare_control::retention::Forecast;
use keepshare_host::files;

/// The file of what was measured, in the copy's folder: `docs/formats/retention.md`.
const FILE: &str = "usage.toml";

/// The format of [`FILE`].
const FORMAT: u32 = 1;

/// Where a copy keeps what is measured.
const FOLDERS: [&str; 2] = ["packs", "log"];

/// What the kernel counts the blocks of a file in, in bytes.
const BLOCK_BYTES: u64 = 512;

/// The most days that are remembered.
const DAYS_MAX: usize = 31;

/// A day, in microseconds.
const DAY: u64 = 86_400_000_000;

/// Over how long growth is reckoned, in microseconds.
const WINDOW: u64 = 7 * DAY;

/// What a copy takes of its disk.
#[derive(Debug)]
pub struct Usage {
    dir: PathBuf,
    known: Mutex<Written>,
}

/// What was measured at a time.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Measure {
    /// For how long the station had run with the copy, in microseconds.
    running_micros: u64,
    /// What packs and log took.
    used_bytes: u64,
    /// What was free on their disk.
    free_bytes: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<Measure>,
    /// The first of each day, the oldest first.
    #[serde(default)]
    days: Vec<Measure>,
}

impl Usage {
    /// Opens that of a copy in its folder. What cannot be read is begun anew: nothing but a forecast hangs on it.
    pub fn open(dir: &Path) -> Self {
        let text = fs::read_to_string(dir.join(FILE)).unwrap_or_default();
        let written = toml::from_str(&text).ok().filter(|read: &Written| read.format == FORMAT);
        let nothing = Written { format: FORMAT, last: None, days: Vec::new() };
        Self { dir: dir.to_owned(), known: Mutex::new(written.unwrap_or(nothing)) }
    }

    /// Measures; `passed` since it was measured before in this run of the station.
    pub fn measure(&self, passed: Duration) -> anyhow::Result<()> {
        let cannot = || format!("cannot look at the space of {}", self.dir.display());
        let used_bytes = used_bytes(&self.dir).with_context(cannot)?;
        let free_bytes = free_bytes(&self.dir).with_context(cannot)?;
        let mut next = self.known().clone();
        let before = next.last.map_or(0, |last| last.running_micros);
        let passed = u64::try_from(passed.as_micros()).unwrap_or(u64::MAX);
        let running_micros = before.saturating_add(passed);
        let measure = Measure { running_micros, used_bytes, free_bytes };
        next.last = Some(measure);
        note(&mut next.days, measure);
        let text = toml::to_string(&next)?;
        files::write_synced(&self.dir.join(FILE), text.as_bytes(), 0o600)?;
        *self.known() = next;
        Ok(())
    }

    /// Returns how the disk fills.
    pub fn forecast(&self) -> Forecast {
        let free_bytes = free_bytes(&self.dir).ok();
        let known = self.known();
        forecast(&known.days, known.last, free_bytes)
    }

    fn known(&self) -> MutexGuard<'_, Written> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds the first measure of a day.
fn note(days: &mut Vec<Measure>, measure: Measure) {
    let day = |measure: &Measure| measure.running_micros / DAY;
    if days.last().is_none_or(|last| day(last) < day(&measure)) {
        days.push(measure);
    }
    let beyond = days.len().saturating_sub(DAYS_MAX);
    days.drain(..beyond);
}

/// Reckons with what was measured last and a week before it, or since when it is known; with less than a day nothing is.
fn forecast(days: &[Measure], last: Option<Measure>, free_bytes: Option<u64>) -> Forecast {
    let unknown = Forecast { free_bytes, bytes_per_day: None, full_in_days: None };
    let Some(last) = last else { return unknown };
    let passed = |day: &Measure| last.running_micros.saturating_sub(day.running_micros);
    let Some(first) = days.iter().find(|day| passed(day) <= WINDOW) else { return unknown };
    if passed(first) < DAY {
        return unknown;
    }
    let per_day = |before: u64, after: u64| {
        let more = i128::from(after) - i128::from(before);
        i64::try_from(more * i128::from(DAY) / i128::from(passed(first))).unwrap_or(i64::MAX)
    };
    let grown = per_day(first.used_bytes, last.used_bytes);
    // The live tree and whatever else is on the disk fill it, too.
    let fills = grown.max(per_day(last.free_bytes, first.free_bytes));
    let fills = u64::try_from(fills).ok().filter(|fills| *fills > 0);
    let full_in_days = free_bytes.zip(fills).map(|(free, fills)| free / fills);
    Forecast { free_bytes, bytes_per_day: Some(grown), full_in_days }
}

/// Returns what packs and log take on the disk.
fn used_bytes(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for folder in FOLDERS {
        for entry in fs::read_dir(dir.join(folder))? {
            match entry?.metadata() {
                Ok(file) => bytes += file.blocks() * BLOCK_BYTES,
                // A pack that is empty goes at any time.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(bytes)
}

fn free_bytes(dir: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(dir)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(day: u64, used_bytes: u64, free_bytes: u64) -> Measure {
        Measure { running_micros: day * DAY + DAY / 2, used_bytes, free_bytes }
    }

    #[test]
    fn a_disk_is_full_by_what_it_lost_within_a_week() {
        let days: Vec<_> = (0..20).map(|day| at(day, 100 * day, 10_000 - 100 * day)).collect();
        let told = |last, free| forecast(&days, Some(last), Some(free));
        let full =
            Forecast { free_bytes: Some(8000), bytes_per_day: Some(100), full_in_days: Some(80) };
        assert_eq!(told(at(20, 2000, 8000), 8000), full);
        let crowded = told(at(20, 2000, 6600), 6600);
        let (grown, days_left) = (crowded.bytes_per_day, crowded.full_in_days);
        assert_eq!((grown, days_left), (Some(100), Some(22)), "others fill the disk, too");
        let thinned = told(at(20, 600, 9400), 9400);
        assert_eq!((thinned.bytes_per_day, thinned.full_in_days), (Some(-100), None));
    }

    /// No number is better than one that nobody measured.
    #[test]
    fn what_is_not_known_is_not_told() {
        let unknown = Forecast { free_bytes: Some(5), bytes_per_day: None, full_in_days: None };
        assert_eq!(forecast(&[], None, Some(5)), unknown);
        let first = at(3, 0, 9);
        assert_eq!(forecast(&[first], Some(first), Some(5)), unknown);
        assert_eq!(forecast(&[first], Some(at(11, 0, 5)), Some(5)), unknown, "too long ago");
        let told = forecast(&[first], Some(at(4, 2, 7)), None);
        assert_eq!((told.bytes_per_day, told.full_in_days), (Some(2), None));
    }

    #[test]
    fn a_month_is_remembered_and_stays_written() {
        let dir = tempfile::tempdir().unwrap();
        for folder in FOLDERS {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        files::write_synced(&dir.path().join("packs/1"), &[7; 10_000], 0o600).unwrap();
        let mut usage = Usage::open(dir.path());
        for times in 0..4 * 40 {
            if times % 30 == 0 {
                usage = Usage::open(dir.path());
            }
            usage.measure(Duration::from_secs(6 * 60 * 60)).unwrap();
        }
        let days = |usage: &Usage| usage.known().days.clone();
        assert_eq!(days(&usage).len(), DAYS_MAX);
        assert!(days(&usage)[0].used_bytes > 0);
        assert_eq!(usage.known().last.unwrap().running_micros, 40 * DAY);
        assert_eq!(days(&Usage::open(dir.path())), days(&usage));
        let told = usage.forecast();
        assert!(told.free_bytes.is_some() && told.bytes_per_day.is_some(), "{told:?}");
        fs::write(dir.path().join(FILE), "format = 2").unwrap();
        assert_eq!(days(&Usage::open(dir.path())), []);
    }
}
