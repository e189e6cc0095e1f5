//! `keepshare status`.

use std::{
    fmt::Write,
    io::{self, IsTerminal},
    path::Path,
    thread,
    time::Duration,
};

use keepshare_namespace::when::machine_zone;

use crate::{
    api::{
        DestinationStatus, Request, SetStatus, SharedStatus, StationStatus, StatusReport,
        SweptStatus, client,
    },
    failure::Outcome,
    output::{Screen, Table, bytes_text, safe, time_text},
};

/// How often `--watch` looks again.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// The most problems of one set shown to a person.
const PROBLEMS_SHOWN: usize = 10;

/// Shows how everything is, once or until interrupted.
pub(crate) fn status(socket: &Path, watch: bool, screen: &Screen) -> Outcome<()> {
    loop {
        let report: StatusReport = client::ask_one(socket, &Request::Status)?;
        if watch && !screen.is_json() && io::stdout().is_terminal() {
            screen.bytes(CLEAR)?;
        }
        screen.value(&report, render)?;
        if !watch {
            return Ok(());
        }
        thread::sleep(WATCH_EVERY);
    }
}

/// Returns the one screen.
fn render(report: &StatusReport) -> String {
    report.stations.iter().map(render_station).collect::<Vec<_>>().join("\n")
}

fn render_station(station: &StationStatus) -> String {
    let StationStatus { name, role, version, listen, .. } = station;
    let state_dir = station.state_dir.display();
    let mut text = format!(
        "Station {name} ({role}, Keepshare {version}), listening on {listen}, state in {state_dir}\n"
    );
    if let Some(https) = &station.https {
        let _ = writeln!(text, "  users   log in at https://{https}, CA {}", station.ca);
    }
    if let Some(nfs) = &station.nfs {
        let _ = writeln!(text, "  drive   served at {nfs}");
    }
    if !station.members.is_empty() {
        let mut table = Table::new(&["STATION", "ROLE", "ADDRESS", "LINK"]);
        for member in &station.members {
            let link = if member.connected { "up" } else { "–" };
            let (name, role) = (member.name.clone(), member.role.clone());
            table.row(vec![name, role, member.address.clone(), link.to_owned()]);
        }
        text += &table.render(2);
    }
    if !station.clients.is_empty() {
        let mut table = Table::new(&["CLIENT", "USER", "SET", "SINCE", ">CALLS"]);
        for client in &station.clients {
            let or_none = |text: &Option<String>| text.as_deref().map_or_else(|| "–".into(), safe);
            table.row(vec![
                client.address.clone(),
                or_none(&client.user),
                or_none(&client.set),
                time_text(&client.since, machine_zone()),
                client.calls.to_string(),
            ]);
        }
        text += &table.render(2);
    }
    for problem in &station.problems {
        let _ = writeln!(text, "  ! {}", safe(problem));
    }
    if station.sets.is_empty() {
        let _ = writeln!(text, "  no sets yet; {}", first_step(station));
    }
    for set in &station.sets {
        text += &render_set(set);
    }
    text
}

/// Returns what to do on a station without sets.
fn first_step(station: &StationStatus) -> String {
    let add = |to: &str| format!("keepshare set add NAME --source DIR --to {to}");
    let primary = station.members.iter().find(|member| member.role == PRIMARY);
    match (primary, station.members.first()) {
        (Some(primary), _) => format!("on {}: {}", primary.name, add(&station.name)),
        (None, Some(other)) => add(&other.name),
        (None, None) => "first invite another station: keepshare token create".to_owned(),
    }
}

/// Returns the lines of one set.
pub(crate) fn render_set(set: &SetStatus) -> String {
    let mut text = format!("Set {} ({}): {}\n", set.name, set.role, safe(&set.state));
    if let Some(source) = &set.source {
        let _ = writeln!(text, "  source  {}", safe(&source.to_string_lossy()));
    }
    if let Some(live) = &set.live {
        let _ = writeln!(text, "  live    {}", safe(&live.to_string_lossy()));
    }
    if let Some(from) = &set.from {
        let _ = writeln!(text, "  from    {from}");
    }
    let number = |n: Option<u64>| n.map_or_else(|| "–".to_owned(), |n| n.to_string());
    match set.durable {
        Some(durable) => {
            let (head, live) = (number(set.head), number(set.live_commit));
            let commit = number(set.commit);
            let _ = writeln!(
                text,
                "  change  {durable} durable of {head}; commit {live} live of {commit}"
            );
        }
        None => {
            let _ = writeln!(text, "  change  {}", number(set.head));
        }
    }
    if let Some(SweptStatus { files, seconds }) = &set.swept {
        let s = if *files == 1 { "" } else { "s" };
        let _ =
            writeln!(text, "  open    {files} file{s} open for writing, looked at {seconds} s ago");
    }
    if let Some(SharedStatus { file_system, scan_every_seconds }) = &set.shared {
        let every = seconds_text(*scan_every_seconds);
        let _ = writeln!(
            text,
            "  scan    every {every}: what others write to this {file_system} is not told"
        );
    }
    if !set.destinations.is_empty() {
        text += &render_destinations(&set.destinations);
    }
    for problem in set.problems.iter().take(PROBLEMS_SHOWN) {
        let _ = writeln!(text, "  ! {}", safe(problem));
    }
    if set.problems.len() > PROBLEMS_SHOWN {
        let more = set.problems.len() - PROBLEMS_SHOWN;
        let _ = writeln!(text, "  ! and {more} more: keepshare set show {} --json", set.name);
    }
    text
}

fn seconds_text(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        _ => format!("{} min", seconds / 60),
    }
}

fn render_destinations(destinations: &[DestinationStatus]) -> String {
    let mut table = Table::new(&["TO", "STATE", ">ACKNOWLEDGED", ">LAG", ">SENT"]);
    for to in destinations {
        let state = match &to.error {
            Some(error) => format!("{} ({})", safe(&to.state), safe(error)),
            None => safe(&to.state),
        };
        table.row(vec![
            to.station.clone(),
            state,
            to.acknowledged.map_or_else(|| "–".to_owned(), |seq| seq.to_string()),
            to.lag_changes.to_string(),
            bytes_text(to.sent_bytes),
        ]);
    }
    table.render(2)
}

/// Moves to the top left of an empty screen.
const CLEAR: &[u8] = b"\x1b[H\x1b[2J";

/// The role of the station that says which sets there are.
const PRIMARY: &str = "primary";
