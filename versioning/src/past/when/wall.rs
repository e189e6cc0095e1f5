//! What clocks on a wall showed, as instants.
//!
//! In autumn they show an hour twice, in spring they jump over one.

use chrono::{
    Datelike, Days, Duration, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Weekday,
    offset::LocalResult,
};
use chrono_tz::Tz;

use keepshare_base::Stamp;

use super::{MICRO, MICROS};

/// Returns the last instant of a stretch that began at `from`; where it comes twice, and the second one has not begun by
/// `now`, that of the first.
pub(super) fn last_begun(
    zone: Tz,
    now: Stamp,
    (from, last): (NaiveDateTime, NaiveDateTime),
) -> Stamp {
    match (zone.from_local_datetime(&from), zone.from_local_datetime(&last)) {
        (LocalResult::Ambiguous(_, from), LocalResult::Ambiguous(first, _))
            if Stamp::from(from.to_utc()) > now =>
        {
            first.to_utc().into()
        }
        _ => last_instant(zone, last),
    }
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

/// Returns the end of the day that was so many days before today.
pub(super) fn end_of_day(zone: Tz, now: Stamp, days_ago: u64) -> Stamp {
    let last = day_before(zone, now, days_ago)
        .and_then(|day| day.and_time(NaiveTime::MIN).checked_add_signed(Duration::days(1) - MICRO));
    last.map_or(Stamp(0), |wall| last_instant(zone, wall))
}

/// Returns how many days ago the last day of this name before today was.
pub(super) fn days_since(zone: Tz, now: Stamp, day: Weekday) -> u64 {
    let today = day_before(zone, now, 0).map_or(day, |today| today.weekday());
    let days = today.days_since(day);
    u64::from(if days == 0 { 7 } else { days })
}

/// Returns the last instant of the last time, begun by `now`, that a clock showed what is from `from` to `last`.
///
/// In autumn it showed some of it twice, and the time of day that it shows now says nothing of what it has shown.
pub(super) fn last_shown(zone: Tz, now: Stamp, (from, last): (NaiveTime, NaiveTime)) -> Stamp {
    let length = (last - from).num_microseconds().unwrap_or_default();
    let days = [0, 1].into_iter().filter_map(|days| day_before(zone, now, days));
    let times = days.flat_map(|day| {
        let wall = day.and_time(from);
        let shown = zone.from_local_datetime(&wall);
        let begun = [shown.earliest(), shown.latest()].into_iter().flatten();
        let begun = begun.map(|time| (Stamp::from(time.to_utc()), length));
        let jumped = (shown == LocalResult::None).then(|| (before_gap(zone, wall), 0));
        begun.chain(jumped)
    });
    let begun = times.filter(|(begun, _)| *begun <= now).max();
    begun.map_or(Stamp(0), |(begun, length)| begun.plus_micros(length))
}

fn day_before(zone: Tz, now: Stamp, days: u64) -> Option<NaiveDate> {
    now.to_utc()?.with_timezone(&zone).date_naive().checked_sub_days(Days::new(days))
}

const DAY_MICROS: i64 = 86_400 * MICROS;
