//! `keepshare point`.

use std::fmt::Write as _;

use keepshare_base::{SetName, counted};
use keepshare_control::{
    Failure, Outcome,
    client::Client,
    points::{PointInfo, PointMade, PointSaid, PointTimeInfo, Verdict, find},
    questions::{
        self, Location, PointEvery, PointHold, PointList, PointMark, PointRelease, PointRemove,
        PointTimes,
    },
};

use crate::{
    cli::point::{Point, PointCreate, Said, Which},
    commands::{history::station_zone, rollback},
    output::{Screen, Table, Times, safe},
    password,
};

mod check;

/// Makes, lists, looks at, holds or ends points.
pub(crate) fn point(station: &Client, what: Point, screen: &Screen) -> Outcome<()> {
    match what {
        Point::Create(PointCreate { set, name, app, lasts, hold }) => {
            let asked = questions::PointCreate { set, name, app, lasts, hold };
            let made = station.ask_one(&asked)?;
            screen.value(&made, |made| render_made(station, made))
        }
        Point::List { set } => {
            let points = station.ask_all(&PointList { set })?;
            screen.value(&points, |points| render(station, points))
        }
        Point::Every { set, every, keep } => {
            let times = match every.zip(keep) {
                Some((every, keep)) => station.ask_all(&PointEvery { set, every, keep })?,
                None => station.ask_all(&PointTimes { set })?,
            };
            screen.value(&times, |times| render_times(times))
        }
        Point::Hold { point: Which { set, point }, lasts, here } => {
            let said = station.ask_one(&PointHold { set, point, lasts, here })?;
            screen.value(&said, |said| render_said(station, said, "is held"))
        }
        Point::Release { point: Which { set, point }, here } => {
            let said = station.ask_one(&PointRelease { set, point, here })?;
            screen.value(&said, |said| render_said(station, said, "is held no longer"))
        }
        Point::Check(options) => check::check(station, options, screen),
        Point::Mark { point: Which { set, point }, verdict } => {
            let verdict = match verdict {
                Said::Good => Some(Verdict::Good),
                Said::Bad => Some(Verdict::Bad),
                Said::Unknown => None,
            };
            let marked = station.ask_one(&PointMark { set, point, verdict, by: None })?;
            screen.value(&marked, check::told)
        }
        Point::LastGood { set } => last_good(station, set, screen),
        Point::Restore { point: Which { set, point }, how } => {
            let known = station.ask_all(&PointList { set: Some(set.clone()) })?;
            let found = find(&known, &set, &point)?;
            let place = Location::Set { set, path: Vec::new() };
            let when = format!("point:{}", found.id);
            rollback::roll_back_to(station, place, when, &how, screen)
        }
        Point::Remove { point: Which { set, point }, here, yes } => {
            let meaning = match here {
                true => format!(
                    "Point {point} of set {set} ends at this station at once: versions that it alone keeps may go."
                ),
                false => format!(
                    "Point {point} of set {set} ends in a day, on all stations: versions that it alone keeps may go then."
                ),
            };
            if !yes && !password::confirm(&format!("{meaning}\nIs that meant?"))? {
                return Err(Failure::refused(meaning).hint("if that is meant, say --yes"));
            }
            let said = station.ask_one(&PointRemove { set, point, here })?;
            screen.value(&said, |said| render_said(station, said, "ends"))
        }
    }
}

/// Shows the newest point of a set that was found good.
pub(crate) fn last_good(station: &Client, set: SetName, screen: &Screen) -> Outcome<()> {
    let known = station.ask_all(&PointList { set: Some(set.clone()) })?;
    let good = known.into_iter().rev().find(|point| point.verdict == Some(Verdict::Good));
    let good = good.ok_or_else(|| {
        Failure::not_found(format!("no point of set {set} was found good at this station"))
            .hint(format!("keepshare point check {set} -- COMMAND looks at the newest"))
    })?;
    screen.value(&good, |good| render(station, std::slice::from_ref(good)))
}

fn render_times(times: &[PointTimeInfo]) -> String {
    if times.is_empty() {
        return "No points are made by themselves.\n".to_owned();
    }
    let line = |time: &PointTimeInfo| {
        let PointTimeInfo { set, every, keep } = time;
        format!("Set {set}: a point every {every}, the last {keep} are kept.\n")
    };
    times.iter().map(line).collect()
}

fn render_made(station: &Client, made: &PointMade) -> String {
    let times = Times::new(station_zone(station), std::iter::once(made.time.as_str()));
    let PointMade { set, point, time, missing, unsettled, .. } = made;
    let mut text = format!("Point {point} of set {set}, {}.\n", times.text(time));
    if *unsettled > 0 {
        let _ = writeln!(
            text,
            "! {} being written just then: the point has what was there a moment before.",
            match unsettled {
                1 => "1 file or name was".to_owned(),
                _ => format!("{} or names were", counted(*unsettled, "file")),
            }
        );
    }
    text += &missing_text(missing);
    let _ = writeln!(text, "\n  keepshare show {set}:PATH@point:{point}");
    text
}

fn render_said(station: &Client, said: &PointSaid, what: &str) -> String {
    let PointSaid { set, point, from, missing, .. } = said;
    let point = safe(point);
    let times = Times::new(station_zone(station), from.as_deref());
    let from = from.as_ref().map(|from| format!(" from {} on", times.text(from)));
    let from = from.unwrap_or_default();
    format!("Point {point} of set {set} {what}{from}.\n{}", missing_text(missing))
}

fn missing_text(missing: &[String]) -> String {
    if missing.is_empty() {
        return String::new();
    }
    format!(
        "! Not heard of yet by {}: it comes with all else when they are there again. One that has to be mirrored then does without.\n",
        missing.join(", ")
    )
}

fn render(station: &Client, points: &[PointInfo]) -> String {
    if points.is_empty() {
        return "No points yet; keepshare point create SET NAME makes one.\n".to_owned();
    }
    let moments = points.iter().flat_map(|point| {
        let until = [point.until.as_deref(), point.held_until.as_deref()];
        std::iter::once(point.time.as_str()).chain(until.into_iter().flatten())
    });
    let times = Times::new(station_zone(station), moments);
    let mut table = Table::new(&["TIME", "SET", "POINT", "KIND", "ID", "FOUND", "STAYS"]);
    for point in points {
        let until = match (&point.until, point.one_of_last) {
            (Some(until), None) => format!("until {}", times.text(until)),
            (_, Some(keep)) => format!("as one of the last {keep}"),
            (None, None) if point.kept_here || (point.held && point.held_until.is_none()) => {
                "until it is released".to_owned()
            }
            (None, None) => "until it is removed".to_owned(),
        };
        let held = match (point.kept_here, point.held, &point.held_until) {
            (true, _, _) => ", kept by this station".to_owned(),
            (false, true, Some(until)) => format!(", held until {}", times.text(until)),
            (false, true, None) => ", held".to_owned(),
            (false, false, _) => String::new(),
        };
        table.row(vec![
            times.text(&point.time),
            point.set.clone(),
            // A master that was taken over calls points as it likes.
            safe(&point.point),
            point.kind.clone(),
            point.id.clone(),
            check::word(point.verdict).to_owned(),
            format!("{until}{held}"),
        ]);
    }
    table.render(0)
}
