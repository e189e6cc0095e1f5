//! Typed times: what a person writes after the `@` of `PATH@TIME`.
//!
//! A typed time means the *last instant inside what was typed*: `2026-11-20` is the state at the end of that day,
//! `2026-11-20_15.32` the state at the end of that minute. Parsing ([`When`]) needs neither clock nor zone, so it can
//! tell where a path ends and a time begins; [`When::resolve`] gets both. Times without an offset are the share's own.
//! `docs/user/times.md` has all forms in a table, which is what the tests read.

mod wall;

use std::{fmt, ops::RangeInclusive, str::FromStr};

use chrono::{
    DateTime, Duration, FixedOffset, Months, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Utc,
    Weekday,
};
use chrono_tz::Tz;

use keepshare_base::{CommitId, Epoch, FileId, OriginId, Stamp, VersionId};

use self::wall::{days_since, end_of_day, last_begun, last_shown};
use crate::{ReadError, View};

/// A text that is no time.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("'{0}' is not a time or a version")]
pub struct WhenError(pub String);

/// What to type instead, for the hint below a [`WhenError`].
pub const WHEN_HINT: &str = "times look like 9:00, 2026-11-20, 2026-11-20_15.32, 2026-11-20T15:32:07Z, \
     yesterday, monday, 2h, 1h30m, unix:1795185127, latest or a version's id such as v1.1.42-7";

/// A moment as it was typed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum When {
    /// The present state.
    Latest,
    /// One version, by its id, and by its file where that was typed too.
    Version(VersionId, Option<FileId>),
    /// A moment that needs no zone: the instant itself.
    Instant(Stamp),
    /// The last instant of a stretch of wall-clock time, in the share's zone: from, and the last instant of it.
    Local(NaiveDateTime, NaiveDateTime),
    /// The end of today.
    Today,
    /// The end of the day before today.
    Yesterday,
    /// The end of the last day of this name before today.
    Weekday(Weekday),
    /// The last time that a clock showed this: from, and the last instant of it.
    Clock(NaiveTime, NaiveTime),
    /// So many microseconds ago.
    Ago(i64),
}

/// A moment that can be looked up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Moment {
    /// The present state.
    Latest,
    /// One version, by its id, and by its file where that was typed too.
    Version(VersionId, Option<FileId>),
    /// What was there after the last change made at or before this.
    At(Stamp),
}

impl When {
    /// Returns the moment that is meant, for a share whose clocks show `zone`.
    pub fn resolve(self, zone: Tz, now: Stamp) -> Moment {
        match self {
            Self::Latest => Moment::Latest,
            Self::Version(id, file) => Moment::Version(id, file),
            Self::Instant(stamp) => Moment::At(stamp),
            Self::Local(from, last) => Moment::At(last_begun(zone, now, (from, last))),
            Self::Today => Moment::At(end_of_day(zone, now, 0)),
            Self::Yesterday => Moment::At(end_of_day(zone, now, 1)),
            Self::Weekday(day) => Moment::At(end_of_day(zone, now, days_since(zone, now, day))),
            Self::Clock(from, last) => Moment::At(last_shown(zone, now, (from, last))),
            Self::Ago(micros) => Moment::At(now.plus_micros(-micros)),
        }
    }
}

impl FromStr for When {
    type Err = WhenError;

    fn from_str(text: &str) -> Result<Self, WhenError> {
        parse_word(text)
            .or_else(|| parse_version(text))
            .or_else(|| parse_ago(text))
            .or_else(|| parse_gmt(text))
            .or_else(|| parse_unix(text))
            .or_else(|| parse_clock(text))
            .or_else(|| parse_stretch(text))
            .or_else(|| parse_calendar(text))
            .ok_or_else(|| WhenError(text.to_owned()))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Version(id, file) => write_version(f, *id, *file),
            Self::At(stamp) => stamp.fmt(f),
        }
    }
}

/// Returns the commit that a typed moment means: a moment that is not before `now` means the present.
///
/// It is the newest one of each origin that was made by then, whatever clocks said; zero where nothing was.
pub fn commit_then(view: &View, moment: Stamp, now: Stamp) -> Result<CommitId, ReadError> {
    if moment >= now { view.newest_commit() } else { view.commit_at(moment) }
}

/// What stands before the name of a point where a time may be typed.
pub const POINT: &str = "point:";

/// Splits `PATH@TIME` at the `@` after which a time follows.
///
/// `@GMT-…` brings an `@` of its own, which may be written once or twice. `None` where no time is there; names may hold
/// any number of `@`, and bytes that are no text.
pub fn split_path_time(text: &[u8]) -> Option<(&[u8], When)> {
    let at = text.iter().rposition(|byte| *byte == b'@')?;
    let (path, time) = (&text[..at], std::str::from_utf8(&text[at..]).ok()?);
    if let Ok(when) = time[1..].parse() {
        return Some((path, when));
    }
    let when = time.parse().ok()?;
    Some((path.strip_suffix(b"@").unwrap_or(path), when))
}

/// Writes a moment, to the second, as it can be typed: with the offset that `zone` had then.
pub fn typed(stamp: Stamp, zone: Tz) -> String {
    written(stamp, zone, "%Y-%m-%d_%H.%M.%S%z")
}

/// Writes a moment as [`typed`] does, to the microsecond.
pub fn typed_exactly(stamp: Stamp, zone: Tz) -> String {
    written(stamp, zone, "%Y-%m-%d_%H.%M.%S%.6f%z")
}

fn written(stamp: Stamp, zone: Tz, form: &str) -> String {
    stamp.to_utc().map_or_else(
        || stamp.to_string(),
        |time| time.with_timezone(&zone).format(form).to_string(),
    )
}

/// Returns the machine's zone, or UTC where it has none that is known.
pub fn machine_zone() -> Tz {
    iana_time_zone::get_timezone().ok().and_then(|name| name.parse().ok()).unwrap_or(Tz::UTC)
}

fn parse_word(text: &str) -> Option<When> {
    match text {
        "latest" => Some(When::Latest),
        "now" => Some(When::Ago(0)),
        "today" => Some(When::Today),
        "yesterday" => Some(When::Yesterday),
        "monday" => Some(When::Weekday(Weekday::Mon)),
        "tuesday" => Some(When::Weekday(Weekday::Tue)),
        "wednesday" => Some(When::Weekday(Weekday::Wed)),
        "thursday" => Some(When::Weekday(Weekday::Thu)),
        "friday" => Some(When::Weekday(Weekday::Fri)),
        "saturday" => Some(When::Weekday(Weekday::Sat)),
        "sunday" => Some(When::Weekday(Weekday::Sun)),
        _ => None,
    }
}

/// Writes `v1.1.42-7`: the position, and the file's number in the epoch of that position. One change may bring many
/// files, and each of them may take any name later: without the file, an id would not mean one thing for ever. A file
/// of another epoch is written with it, `v1.2.42-1.7`, and one of a version that a station cut by itself with its origin,
/// too, `s42-1.1.7`; the root folder is of no origin and needs no number.
fn write_version(f: &mut fmt::Formatter<'_>, id: VersionId, file: Option<FileId>) -> fmt::Result {
    fmt::Display::fmt(&id, f)?;
    if id.station_commit().is_some() {
        return match file.filter(|file| *file != FileId::ROOT) {
            Some(FileId { origin, epoch, counter }) => write!(f, "-{origin}.{epoch}.{counter}"),
            None => Ok(()),
        };
    }
    match file.filter(|file| file.origin == id.0.origin) {
        Some(FileId { epoch, counter, .. }) if epoch == id.0.epoch => write!(f, "-{counter}"),
        Some(FileId { epoch, counter, .. }) => write!(f, "-{epoch}.{counter}"),
        None => Ok(()),
    }
}

/// Reads what [`write_version`] wrote; the file may be left out.
fn parse_version(text: &str) -> Option<When> {
    let Some((id, file)) = text.split_once('-') else {
        return text.parse().ok().map(|id| When::Version(id, None));
    };
    let id: VersionId = id.parse().ok()?;
    let number = |text: &str| if all_digits(text) { text.parse().ok() } else { None };
    if id.station_commit().is_some() {
        let (origin, file) = file.split_once('.')?;
        let (epoch, counter) = file.split_once('.')?;
        let origin = OriginId(u32::try_from(number(origin)?).ok()?);
        let file = FileId { origin, epoch: Epoch::new(number(epoch)?)?, counter: number(counter)? };
        return Some(When::Version(id, Some(file)));
    }
    let (epoch, counter) = match file.split_once('.') {
        Some((epoch, counter)) => (number(epoch).and_then(Epoch::new)?, number(counter)?),
        None => (id.0.epoch, number(file)?),
    };
    let file = FileId { origin: id.0.origin, epoch, counter };
    Some(When::Version(id, Some(file)))
}

/// `45s`, `15m`, `2h`, `3d`, `2w`, and several of them, the longest first: `1h30m`.
fn parse_ago(text: &str) -> Option<When> {
    let (mut rest, mut secs, mut longest) = (text, 0_i64, i64::MAX);
    while !rest.is_empty() {
        let split = rest.find(|c: char| !c.is_ascii_digit())?;
        let unit_secs = match rest.as_bytes()[split] {
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86_400,
            b'w' => 7 * 86_400,
            _ => return None,
        };
        if unit_secs >= longest {
            return None;
        }
        longest = unit_secs;
        let count: i64 = rest[..split].parse().ok()?;
        secs = secs.checked_add(count.checked_mul(unit_secs)?)?;
        rest = &rest[split + 1..];
    }
    if text.is_empty() { None } else { secs.checked_mul(MICROS).map(When::Ago) }
}

/// `9:00`, `09.00`, `9:00:30`: a time of the clock, without its day.
fn parse_clock(text: &str) -> Option<When> {
    let separator = text.find([':', '.']).filter(|at| (1..=2).contains(at))?;
    let hours = digits(&text[..separator]).filter(|hours| *hours < 24)?;
    let mark = &text[separator..=separator];
    let mut parts = text[separator + 1..].split(mark);
    let mut part = || match parts.next() {
        Some(part) if part.len() == 2 => two_digits(part, 60).map(Some),
        Some(_) => None,
        None => Some(None),
    };
    let (minutes, seconds) = (part()??, part()?);
    // `1.10.26` may as well be a day.
    if parts.next().is_some() || (mark == "." && seconds.is_some()) {
        return None;
    }
    let from = NaiveTime::from_hms_opt(hours, minutes, seconds.unwrap_or(0))?;
    let width = if seconds.is_some() { Duration::seconds(1) } else { Duration::minutes(1) };
    Some(When::Clock(from, from.overflowing_add_signed(width - MICRO).0))
}

/// `2027` and `2026-11`: a year, a month.
fn parse_stretch(text: &str) -> Option<When> {
    let year = digits(text.get(..4)?).filter(|year| YEARS.contains(year))?;
    let year = i32::try_from(year).ok()?;
    let (month, months) = match text.get(4..)? {
        "" => (1, 12),
        month => (digits(month.strip_prefix('-').filter(|month| month.len() == 2)?)?, 1),
    };
    let first = NaiveDate::from_ymd_opt(year, month, 1)?;
    let next = first.checked_add_months(Months::new(months))?.and_time(NaiveTime::MIN);
    Some(When::Local(first.and_time(NaiveTime::MIN), next.checked_sub_signed(MICRO)?))
}

/// `@GMT-2026.11.20-14.32.07`, as Windows writes previous versions.
fn parse_gmt(text: &str) -> Option<When> {
    let start = NaiveDateTime::parse_from_str(text, "@GMT-%Y.%m.%d-%H.%M.%S").ok()?;
    // chrono takes one digit and leap seconds; the form has neither.
    (text.len() == "@GMT-2026.11.20-14.32.07".len() && !text.ends_with(".60"))
        .then(|| last_of(start.and_utc(), Duration::seconds(1)).map(When::Instant))
        .flatten()
}

/// `unix:1763649127` and `unix:1763649127.25`: seconds since 1970.
fn parse_unix(text: &str) -> Option<When> {
    let number = text.strip_prefix("unix:")?;
    let (secs, fraction) = match number.split_once('.') {
        Some((secs, digits)) => (secs, Some(digits)),
        None => (number, None),
    };
    if !all_digits(secs) {
        return None;
    }
    let start = DateTime::from_timestamp(secs.parse().ok()?, 0)?;
    let (offset, width) =
        fraction.map_or(Some((Duration::zero(), Duration::seconds(1))), parse_fraction)?;
    last_of(start.checked_add_signed(offset)?, width).map(When::Instant)
}

/// Dates with or without a time and an offset.
fn parse_calendar(text: &str) -> Option<When> {
    let (date, rest) = parse_date(text)?;
    offsets(rest).find_map(|(time, offset)| {
        let (start, width) = parse_time_after(time)?;
        let from = date.and_time(NaiveTime::MIN).checked_add_signed(start)?;
        let last = from.checked_add_signed(width - MICRO)?;
        Some(match offset {
            None => When::Local(from, last),
            Some(offset) => {
                When::Instant(offset.from_local_datetime(&last).single()?.to_utc().into())
            }
        })
    })
}

/// Takes `2026-11-20`, `20261120` or `20.11.2026` from the front.
fn parse_date(text: &str) -> Option<(NaiveDate, &str)> {
    parse_year_first(text).or_else(|| parse_day_first(text))
}

fn parse_day_first(text: &str) -> Option<(NaiveDate, &str)> {
    let (day, rest) = text.split_once('.')?;
    let (month, rest) = rest.split_once('.')?;
    if day.len() > 2 || month.len() > 2 {
        return None;
    }
    let year = i32::try_from(digits(rest.get(..4)?)?).ok()?;
    Some((NaiveDate::from_ymd_opt(year, digits(month)?, digits(day)?)?, rest.get(4..)?))
}

fn parse_year_first(text: &str) -> Option<(NaiveDate, &str)> {
    let dashed = text.as_bytes().get(4) == Some(&b'-');
    let (month_at, day_at, end) = if dashed { (5, 8, 10) } else { (4, 6, 8) };
    if dashed && text.as_bytes().get(7) != Some(&b'-') {
        return None;
    }
    let year = i32::try_from(digits(text.get(..4)?)?).ok()?;
    let month = digits(text.get(month_at..month_at + 2)?)?;
    let day = digits(text.get(day_at..end)?)?;
    Some((NaiveDate::from_ymd_opt(year, month, day)?, text.get(end..)?))
}

/// The ways to read an offset at the end: what is left before it, and the offset. A minus may also part h, m and s.
fn offsets(rest: &str) -> impl Iterator<Item = (&str, Option<FixedOffset>)> {
    let zulu = rest
        .strip_suffix(['Z', 'z'])
        .and_then(|time| Some((time, Some(FixedOffset::east_opt(0)?))));
    let short = split_offset(rest, 5);
    let long = split_offset(rest, 6);
    [zulu, short, long, Some((rest, None))].into_iter().flatten()
}

/// Reads `+0100` (5 bytes) or `+01:00` (6 bytes) at the end.
fn split_offset(rest: &str, len: usize) -> Option<(&str, Option<FixedOffset>)> {
    let at = rest.len().checked_sub(len)?;
    let (time, offset) = (rest.get(..at)?, rest.get(at..)?);
    let sign = match offset.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    if len == 6 && offset.as_bytes().get(3) != Some(&b':') {
        return None;
    }
    let hours = digits(offset.get(1..3)?)?;
    let minutes = digits(offset.get(len - 2..)?)?;
    if hours > 14 || minutes > 59 {
        return None;
    }
    let secs = i32::try_from(hours * 3600 + minutes * 60).ok()?;
    Some((time, Some(FixedOffset::east_opt(sign * secs)?)))
}

/// Reads what follows a date: nothing, or a separator and hours with or without minutes, seconds and a fraction.
///
/// Returns the beginning of what was typed, from midnight, and how long it is.
fn parse_time_after(rest: &str) -> Option<(Duration, Duration)> {
    if rest.is_empty() {
        return Some((Duration::zero(), Duration::days(1)));
    }
    let time = rest.strip_prefix(['T', 't', ' ', '_'])?;
    let mut start = Duration::hours(i64::from(two_digits(time, 24)?));
    let mut rest = &time[2..];
    if rest.is_empty() {
        return Some((start, Duration::hours(1)));
    }
    let separator = rest.chars().next().filter(|c| ".:-".contains(*c));
    let part = |rest: &mut &str| {
        let body = match separator {
            Some(c) => rest.strip_prefix(c)?,
            None => rest,
        };
        let value = two_digits(body, 60)?;
        *rest = &body[2..];
        Some(i64::from(value))
    };
    start += Duration::minutes(part(&mut rest)?);
    if rest.is_empty() {
        return Some((start, Duration::minutes(1)));
    }
    start += Duration::seconds(part(&mut rest)?);
    if rest.is_empty() {
        return Some((start, Duration::seconds(1)));
    }
    let (offset, width) = parse_fraction(rest.strip_prefix(['.', ','])?)?;
    Some((start + offset, width))
}

/// Reads the digits after a second's point: where they begin, and how long what they name is.
fn parse_fraction(text: &str) -> Option<(Duration, Duration)> {
    if !all_digits(text) || text.len() > 9 {
        return None;
    }
    let micros_digits = &text[..text.len().min(6)];
    let scale = 10_i64.pow(6 - u32::try_from(micros_digits.len()).ok()?);
    let start = micros_digits.parse::<i64>().ok()? * scale;
    Some((Duration::microseconds(start), Duration::microseconds(scale)))
}

fn two_digits(text: &str, below: u32) -> Option<u32> {
    digits(text.get(..2)?).filter(|n| *n < below)
}

fn digits(text: &str) -> Option<u32> {
    if all_digits(text) { text.parse().ok() } else { None }
}

fn all_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Returns the last instant of a stretch; `None` beyond the years that can be counted.
fn last_of(start: DateTime<Utc>, width: Duration) -> Option<Stamp> {
    Some(start.checked_add_signed(width - MICRO)?.into())
}

/// Which four digits are a year.
const YEARS: RangeInclusive<u32> = 1970..=2199;

const MICROS: i64 = 1_000_000;
const MICRO: Duration = Duration::microseconds(1);

#[cfg(test)]
mod tests;
