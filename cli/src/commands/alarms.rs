//! `keepshare alarm`.

use std::fmt::Write as _;

use keepshare_base::counted;
use keepshare_control::{
    Outcome,
    alarms::AlarmInfo,
    client::Client,
    questions::{AlarmClose, AlarmList, AlarmSet},
};

use crate::{
    cli::alarm::Alarm,
    commands::history::station_zone,
    output::{Screen, Table, Times, safe},
};

/// How many files of an alarm are shown.
const SHOWN: usize = 20;

/// Lists, shows or closes alarms, or says from how much on there are any.
pub(crate) fn alarm(station: &Client, what: Alarm, screen: &Screen) -> Outcome<()> {
    match what {
        Alarm::List { set, all } => {
            let mut alarms = station.ask_all(&AlarmList { set, alarm: None })?;
            alarms.retain(|alarm| all || !alarm.closed);
            screen.value(&alarms, |alarms| render_list(station, alarms, all))
        }
        Alarm::Show { alarm } => {
            let alarm = station.ask_one(&AlarmList { set: None, alarm: Some(alarm) })?;
            screen.value(&alarm, |alarm| render(station, alarm))
        }
        Alarm::Close { alarm, release } => {
            let closed = station.ask_one(&AlarmClose { alarm, release })?;
            screen.value(&closed, render_closed)
        }
        Alarm::Set { set, said } => {
            let rule = station.ask_one(&AlarmSet { set, said })?;
            screen.value(&rule, |rule| format!("Set {}: {}\n", rule.set, rule.rule))
        }
    }
}

fn render_list(station: &Client, alarms: &[AlarmInfo], all: bool) -> String {
    if alarms.is_empty() {
        return match all {
            true => "No alarms yet.\n".to_owned(),
            false => "No alarms; keepshare alarm list --all shows closed ones.\n".to_owned(),
        };
    }
    let moments = alarms.iter().flat_map(|alarm| [&*alarm.since, &*alarm.last_good]);
    let times = Times::new(station_zone(station), moments);
    let mut table = Table::new(&["ALARM", "KIND", "SET", "SINCE", "LAST GOOD", ">FILES", ""]);
    for alarm in alarms {
        table.row(vec![
            alarm.alarm.clone(),
            alarm.kind.clone(),
            alarm.set.clone(),
            times.text(&alarm.since),
            times.text(&alarm.last_good),
            alarm.spoiled.to_string(),
            if alarm.closed { "closed".to_owned() } else { String::new() },
        ]);
    }
    table.render(0)
}

fn render(station: &Client, alarm: &AlarmInfo) -> String {
    let AlarmInfo { set, since, last, last_good, point, changed, spoiled, files, users, .. } =
        alarm;
    let moments = [since, last, last_good];
    let times = Times::new(station_zone(station), moments.into_iter().map(String::as_str));
    let mut text = format!(
        "Alarm {} of set {set}{}: {} changed within minutes, {spoiled} of them no longer read as what they were.\n\n",
        alarm.alarm,
        if alarm.closed { ", closed" } else { "" },
        counted(*changed, "file"),
    );
    let _ = writeln!(text, "Seen       {} to {}", times.text(since), times.text(last));
    let _ = writeln!(text, "Last good  {}", times.text(last_good));
    if !users.is_empty() {
        let users: Vec<String> = users.iter().map(|user| safe(user)).collect();
        let _ = writeln!(text, "Users      {}", users.join(", "));
    }
    text += "\nFiles\n";
    for file in files.iter().take(SHOWN) {
        let _ = writeln!(text, "  {}", safe(file));
    }
    let more = spoiled.saturating_sub(files.len().min(SHOWN) as u64);
    if more > 0 {
        let _ = writeln!(text, "  and {more} more");
    }
    let Some(point) = point else {
        text += "\nThe moment before it is not held any more.\n";
        return text;
    };
    let _ = write!(
        text,
        "\nEverything as it was before is kept as point {}. What differs, and how to go back:\n  \
         keepshare diff {set}:@point:{0}\n  keepshare rollback {set}:@point:{0} --dry-run\n  keepshare rollback {set}:@point:{0}\n",
        safe(point),
    );
    if !alarm.closed {
        let _ = write!(text, "\nIf it was meant:\n  keepshare alarm close {}\n", alarm.alarm);
    }
    text
}

fn render_closed(closed: &AlarmInfo) -> String {
    let AlarmInfo { alarm, set, point, .. } = closed;
    match point {
        Some(point) => format!(
            "Alarm {alarm} of set {set} is closed. The moment before it is kept on, as point {}.\n",
            safe(point)
        ),
        None => format!("Alarm {alarm} of set {set} is closed.\n"),
    }
}
