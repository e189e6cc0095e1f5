//! Typed times: what a person writes after the `@` of `PATH@TIME`.
//!
//! A typed time means the *last instant inside what was typed*: `2026-11-20` is the state at the end of that day,
//! `2026-11-20_15.32` the state at the end of that minute. Parsing ([`When`]) needs neither clock nor zone, so it can
//! tell where a path ends and a time begins; [`When::resolve`] gets both. Times without an offset are the share's own.

use std::{fmt, str::FromStr};

use chrono::{
    DateTime, Days, Duration, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Utc,
    offset::LocalResult,
};
use chrono_tz::Tz;

use keepshare_base::{CommitId, Epoch, FileId, Stamp, VersionId};
use keepshare_versioning::{ReadError, View};

/// A text that is no time.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("'{0}' is not a time or a version")]
pub struct WhenError(pub String);

/// What to type instead, for the hint below a [`WhenError`].
pub const WHEN_HINT: &str = "times look like 2026-11-20, 2026-11-20_15.32, 2026-11-20T15:32:07Z, \
     yesterday, 2h, 3d, latest or a version's id such as v1.1.42-7";

/// A moment as it was typed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum When {
    /// The present state.
    Latest,
    /// One version, by its id, and by its file where that was typed too.
    Version(VersionId, Option<FileId>),
    /// A moment that needs no zone: the instant itself.
    Instant(Stamp),
    /// The last instant of a stretch of wall-clock time, in the share's zone.
    Local(NaiveDateTime),
    /// The end of the day before today.
    Yesterday,
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
            Self::Local(wall) => Moment::At(last_instant(zone, wall)),
            Self::Yesterday => Moment::At(end_of_yesterday(zone, now)),
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

/// Splits `PATH@TIME` at the `@` after which a time follows.
///
/// `@GMT-…` and `@1763649127` bring an `@` of their own, which may be written once or twice. `None` where no time is
/// there; names may hold any number of `@`, and bytes that are no text.
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
        "yesterday" => Some(When::Yesterday),
        _ => None,
    }
}

/// Writes `v1.1.42-7`: the position, and the file's number in the epoch of that position. One change may bring many
/// files, and each of them may take any name later: without the file, an id would not mean one thing for ever. A file
/// of another epoch is written with it, `v1.2.42-1.7`; the root folder is of no origin and needs no number.
fn write_version(f: &mut fmt::Formatter<'_>, id: VersionId, file: Option<FileId>) -> fmt::Result {
    fmt::Display::fmt(&id, f)?;
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
    let (epoch, counter) = match file.split_once('.') {
        Some((epoch, counter)) => (number(epoch).and_then(Epoch::new)?, number(counter)?),
        None => (id.0.epoch, number(file)?),
    };
    let file = FileId { origin: id.0.origin, epoch, counter };
    Some(When::Version(id, Some(file)))
}

/// `45s`, `15m`, `2h`, `3d`, `2w`.
fn parse_ago(text: &str) -> Option<When> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let unit_secs = match &text[split..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return None,
    };
    let count: i64 = text[..split].parse().ok()?;
    count.checked_mul(unit_secs)?.checked_mul(MICROS).map(When::Ago)
}

/// `@GMT-2026.11.20-14.32.07`, as Windows writes previous versions.
fn parse_gmt(text: &str) -> Option<When> {
    let start = NaiveDateTime::parse_from_str(text, "@GMT-%Y.%m.%d-%H.%M.%S").ok()?;
    // chrono takes one digit and leap seconds; the form has neither.
    (text.len() == "@GMT-2026.11.20-14.32.07".len() && !text.ends_with(".60"))
        .then(|| last_of(start.and_utc(), Duration::seconds(1)).map(When::Instant))
        .flatten()
}

/// `@1763649127` and `@1763649127.25`: seconds since 1970.
fn parse_unix(text: &str) -> Option<When> {
    let number = text.strip_prefix('@')?;
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
        let last = date.and_time(NaiveTime::MIN).checked_add_signed(start + width - MICRO)?;
        Some(match offset {
            None => When::Local(last),
            Some(offset) => {
                When::Instant(offset.from_local_datetime(&last).single()?.to_utc().into())
            }
        })
    })
}

/// Takes `2026-11-20` or `20261120` from the front.
fn parse_date(text: &str) -> Option<(NaiveDate, &str)> {
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

/// Returns the last instant at which a clock in `zone` shows `wall` or less.
///
/// In autumn an hour comes twice: the second one is meant. In spring one does not come: what is meant is the last
/// instant before it.
fn last_instant(zone: Tz, wall: NaiveDateTime) -> Stamp {
    match zone.from_local_datetime(&wall) {
        LocalResult::Single(time) | LocalResult::Ambiguous(_, time) => time.to_utc().into(),
        LocalResult::None => before_gap(zone, wall),
    }
}

/// Finds the last instant before the clock jumped over `wall`.
fn before_gap(zone: Tz, wall: NaiveDateTime) -> Stamp {
    // Read as UTC, a wall time is at most a day away from the instant it names.
    let centre = Stamp::from(wall.and_utc()).0;
    let (mut before, mut after) = (centre - DAY_MICROS, centre + DAY_MICROS);
    while after - before > 1 {
        let middle = before + (after - before) / 2;
        let shown = Stamp(middle).to_utc().map(|time| time.with_timezone(&zone).naive_local());
        if shown.is_some_and(|shown| shown <= wall) { before = middle } else { after = middle }
    }
    Stamp(before)
}

fn end_of_yesterday(zone: Tz, now: Stamp) -> Stamp {
    let midnight = now.to_utc().and_then(|now| {
        let yesterday = now.with_timezone(&zone).date_naive().checked_sub_days(Days::new(1))?;
        yesterday.and_time(NaiveTime::MIN).checked_add_signed(Duration::days(1) - MICRO)
    });
    midnight.map_or(Stamp(0), |wall| last_instant(zone, wall))
}

const MICROS: i64 = 1_000_000;
const DAY_MICROS: i64 = 86_400 * MICROS;
const MICRO: Duration = Duration::microseconds(1);

#[cfg(test)]
mod tests {
    use super::*;

    const BERLIN: Tz = Tz::Europe__Berlin;

    fn at(text: &str, zone: Tz) -> String {
        let now: DateTime<Utc> = "2026-11-20T14:32:07.000001Z".parse().unwrap();
        let when: When = text.parse().unwrap_or_else(|error| panic!("{error}"));
        when.resolve(zone, now.into()).to_string()
    }

    #[test]
    fn every_form_means_its_last_instant() {
        let cases = [
            ("2026-11-20", "2026-11-20T22:59:59.999999Z"),
            ("20261120", "2026-11-20T22:59:59.999999Z"),
            ("2026-11-20Z", "2026-11-20T23:59:59.999999Z"),
            ("2026-11-20+0100", "2026-11-20T22:59:59.999999Z"),
            ("2026-11-20_15", "2026-11-20T14:59:59.999999Z"),
            ("2026-11-20_15.32", "2026-11-20T14:32:59.999999Z"),
            ("2026-11-20_15:32", "2026-11-20T14:32:59.999999Z"),
            ("2026-11-20_15-32", "2026-11-20T14:32:59.999999Z"),
            ("2026-11-20_1532", "2026-11-20T14:32:59.999999Z"),
            ("2026-11-20T15.32.07", "2026-11-20T14:32:07.999999Z"),
            ("2026-11-20 15:32:07", "2026-11-20T14:32:07.999999Z"),
            ("2026-11-20_15-32-07", "2026-11-20T14:32:07.999999Z"),
            ("2026-11-20_15.32.07.250", "2026-11-20T14:32:07.250999Z"),
            ("2026-11-20_15.32.07.2", "2026-11-20T14:32:07.299999Z"),
            ("2026-11-20_15:32:07,25", "2026-11-20T14:32:07.259999Z"),
            ("2026-11-20_15.32.07.123456", "2026-11-20T14:32:07.123456Z"),
            ("2026-11-20_15.32.07.123456789", "2026-11-20T14:32:07.123456Z"),
            ("2026-11-20_15.32.07Z", "2026-11-20T15:32:07.999999Z"),
            ("2026-11-20T15:32:07.25z", "2026-11-20T15:32:07.259999Z"),
            ("2026-11-20_15.32.07+0100", "2026-11-20T14:32:07.999999Z"),
            ("2026-11-20_15.32+01:00", "2026-11-20T14:32:59.999999Z"),
            ("2026-11-20_15.32-0500", "2026-11-20T20:32:59.999999Z"),
            ("2026-11-20_15-0500", "2026-11-20T20:59:59.999999Z"),
            ("2026-11-20_15-05:00", "2026-11-20T20:59:59.999999Z"),
            ("2026-11-20_15-32-07-0500", "2026-11-20T20:32:07.999999Z"),
            ("20261120T143207Z", "2026-11-20T14:32:07.999999Z"),
            ("20261120T143207.5Z", "2026-11-20T14:32:07.599999Z"),
            ("20261120T14Z", "2026-11-20T14:59:59.999999Z"),
            ("@GMT-2026.11.20-14.32.07", "2026-11-20T14:32:07.999999Z"),
            ("@1795185127", "2026-11-20T14:32:07.999999Z"),
            ("@1795185127.25", "2026-11-20T14:32:07.259999Z"),
            ("yesterday", "2026-11-19T22:59:59.999999Z"),
            ("now", "2026-11-20T14:32:07.000001Z"),
            ("45s", "2026-11-20T14:31:22.000001Z"),
            ("15m", "2026-11-20T14:17:07.000001Z"),
            ("2h", "2026-11-20T12:32:07.000001Z"),
            ("3d", "2026-11-17T14:32:07.000001Z"),
            ("1w", "2026-11-13T14:32:07.000001Z"),
            ("latest", "latest"),
            ("v1.1.42", "v1.1.42"),
            ("v1.1.42-2", "v1.1.42-2"),
            ("v1.2.42-1.2", "v1.2.42-1.2"),
            ("v1.2.42-2.7", "v1.2.42-7"),
        ];
        for (text, expected) in cases {
            assert_eq!(at(text, BERLIN), expected, "{text}");
        }
    }

    /// Whatever a client types, nothing overflows.
    #[test]
    fn the_last_second_that_can_be_counted_is_a_time() {
        for text in ["@8210266876799", "@8210266876799.999999", "9999-12-31", "999999999w"] {
            let _ = text.parse::<When>().map(|when| when.resolve(Tz::UTC, Stamp(0)));
        }
        assert!("@8210266876799".parse::<When>().is_ok());
    }

    #[test]
    fn what_is_no_time_is_refused() {
        let wrong = [
            "",
            "@",
            "2026",
            "2026-11",
            "2026-13-01",
            "2026-02-30",
            "2026-11-20_",
            "2026-11-20_24",
            "2026-11-20_1",
            "2026-11-20_15.6",
            "2026-11-20_15.60",
            "2026-11-20_15.32.60",
            "2026-11-20_15.32:07",
            "2026-11-20_15.32.07.",
            "2026-11-20_15.32.07.1234567890",
            "2026-11-20_15.32+1500",
            "2026-11-20_15.32+0160",
            "2026-11-20x15",
            "2026-1120",
            "20261120143207",
            "2026-11-20_15.32.07 ",
            "@GMT-2026.11.20-14.32.60",
            "@GMT-2026.11.20-14.32",
            "@-5",
            "@17x",
            "1795185127",
            "h",
            "2y",
            "-2h",
            "99999999999999999999h",
            "9223372036854775807w",
            "Latest",
            "v1.1",
            "v1.1.42-",
            "v1.1.42-x",
            // Beyond the last second that can be counted.
            "@8210266876800",
            "@9223372036854775807",
            "@-1",
            "2026-11-2ö",
            "ööööö",
        ];
        for text in wrong {
            assert_eq!(text.parse::<When>(), Err(WhenError(text.to_owned())), "{text} was taken");
        }
    }

    /// What we print must be what we take, and must not be before what it names.
    #[test]
    fn a_moment_that_is_written_can_be_typed() {
        let now: DateTime<Utc> = "2026-10-25T00:30:07.25Z".parse().unwrap();
        for zone in [BERLIN, Tz::UTC, Tz::America__New_York] {
            let text = typed(now.into(), zone);
            assert_eq!(at(&text, Tz::Asia__Tokyo), "2026-10-25T00:30:07.999999Z", "{text}");
        }
        assert_eq!(typed(now.into(), BERLIN), "2026-10-25_02.30.07+0200");
        let exactly = typed_exactly(now.into(), BERLIN);
        assert_eq!(exactly, "2026-10-25_02.30.07.250000+0200");
        assert_eq!(at(&exactly, Tz::Asia__Tokyo), "2026-10-25T00:30:07.250000Z");
    }

    /// In autumn 02:30 comes twice; who types it wants the latest state that had it on the clock.
    #[test]
    fn the_second_hour_of_autumn_is_meant() {
        assert_eq!(at("2026-10-25_02.30", BERLIN), "2026-10-25T01:30:59.999999Z");
        assert_eq!(at("2026-10-25_02", BERLIN), "2026-10-25T01:59:59.999999Z");
        assert_eq!(at("2026-10-25_02.30+0200", BERLIN), "2026-10-25T00:30:59.999999Z");
    }

    /// In spring 02:30 does not come; what had happened by then had happened before the jump.
    #[test]
    fn the_hour_spring_leaves_out_ends_before_the_jump() {
        assert_eq!(at("2026-03-29_02.30", BERLIN), "2026-03-29T00:59:59.999999Z");
        assert_eq!(at("2026-03-29_02", BERLIN), "2026-03-29T00:59:59.999999Z");
        assert_eq!(at("2026-03-29_03", BERLIN), "2026-03-29T01:59:59.999999Z");
        // Samoa left out the whole of 30 December 2011.
        assert_eq!(at("2011-12-30", Tz::Pacific__Apia), "2011-12-30T09:59:59.999999Z");
    }

    #[test]
    fn paths_end_where_a_time_begins() {
        let cases = [
            ("projects:a/b.txt@latest", "projects:a/b.txt"),
            ("projects:mail@home.txt@2h", "projects:mail@home.txt"),
            ("projects:a@@GMT-2026.11.20-14.32.07", "projects:a"),
            ("projects:a@GMT-2026.11.20-14.32.07", "projects:a"),
            ("projects:a@@1795185127", "projects:a"),
            ("projects:a@1795185127", "projects:a"),
            ("projects:@v1.1.3", "projects:"),
            ("/data/a b@2026-11-20 15:32", "/data/a b"),
        ];
        for (text, path) in cases {
            let split = split_path_time(text.as_bytes()).map(|(path, _)| path);
            assert_eq!(split, Some(path.as_bytes()), "{text}");
        }
        for text in ["projects:a", "projects:mail@home.txt", "a@", "@versions", ""] {
            assert_eq!(split_path_time(text.as_bytes()), None, "{text}");
        }
    }
}
