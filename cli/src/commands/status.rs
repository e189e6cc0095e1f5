//! `keepshare status`.

use std::{
    fmt::Write,
    io::{self, IsTerminal},
    thread,
    time::Duration,
};

use keepshare_base::{counted, health::State};
use keepshare_control::{
    Code, Failure, Outcome,
    answers::{
        Concern, DestinationStatus, HealthStatus, SetStatus, SharedStatus, StationStatus,
        StatusReport, SweptStatus,
    },
    client::Client,
    questions::Status,
    retention::RetentionStatus,
    text::seconds_text,
};
use keepshare_versioning::when::machine_zone;

use crate::{
    cli, commands::retention::run_text, commands::scrub::status_text, output::Screen,
    output::Table, output::bytes_text, output::safe, output::time_text,
};

/// How often `--watch` looks again.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// The most problems of one set shown to a person.
const PROBLEMS_SHOWN: usize = 10;

/// Shows how everything is, once or until interrupted.
pub(crate) fn status(station: &Client, options: &cli::Status, screen: &Screen) -> Outcome<()> {
    if options.check {
        return check(station, screen);
    }
    let watch = options.watch;
    loop {
        let report: StatusReport = station.ask_one(&Status {})?;
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

/// Fails where a person must act.
fn check(station: &Client, screen: &Screen) -> Outcome<()> {
    let report: StatusReport = station.ask_one(&Status {})?;
    let concerns: Vec<&Concern> = report.stations.iter().flat_map(|s| &s.concerns).collect();
    if screen.is_json() {
        screen.json(&report)?;
    } else if concerns.is_empty() {
        let sets = report.stations.iter().map(|station| station.sets.len() as u64).sum();
        screen.line(&format!("ok: nobody has to act; {}", counted(sets, "set")))?;
    }
    let what = match concerns.len() {
        0 => return Ok(()),
        1 => "a person must act on one thing".to_owned(),
        n => format!("a person must act on {n} things"),
    };
    let mut failure = Failure::new(Code::Failed, what);
    let line = |Concern { about, what, .. }: &&Concern| format!("{about}: {what}");
    failure.chain.extend(concerns.iter().map(line));
    Err(failure.hint("keepshare status shows all of it; docs/admin/status.md says what to do"))
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
        (None, None) => "keepshare set add NAME --source DIR".to_owned(),
    }
}

/// Returns the lines of one set.
pub(crate) fn render_set(set: &SetStatus) -> String {
    let mut text = format!("Set {} ({}): {}\n", set.name, set.role, state_text(&set.health));
    if let Some(source) = &set.source {
        let _ = writeln!(text, "  source  {}", safe(&source.to_string_lossy()));
    }
    match &set.live {
        Some(live) if Some(live) == set.source.as_ref() => text += "  live    in place\n",
        Some(live) => {
            let _ = writeln!(text, "  live    {}", safe(&live.to_string_lossy()));
        }
        None => {}
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
    if let Some(retention) = &set.retention {
        text += &render_retention(retention);
    }
    if let Some(scrub) = &set.scrub {
        let _ = writeln!(text, "  scrub   {}", status_text(scrub));
    }
    if let Some(SweptStatus { files, seconds }) = &set.swept {
        let files = counted(*files, "file");
        let _ = writeln!(text, "  open    {files} open for writing, looked at {seconds} s ago");
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
    for to in &set.destinations {
        if let Some(may) = to.may_order.as_deref() {
            let what = if may == "restore" { "restores, and no roll-backs" } else { "nothing" };
            let _ = writeln!(text, "  orders  {what} from {}, as station.toml says", to.station);
        }
    }
    for cause in causes(set) {
        let _ = writeln!(text, "  {}", safe(&cause));
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

/// Returns what was thinned last and is next, and when the disk would be full where that is soon.
fn render_retention(RetentionStatus { last_run, next_run, forecast }: &RetentionStatus) -> String {
    let time = |time: &str| time_text(time, machine_zone());
    let last = last_run.as_ref().map_or_else(
        || "not yet".to_owned(),
        |run| format!("{}: {}", time(&run.time), run_text(run)),
    );
    let next = next_run.as_deref().map_or_else(
        || "by itself once a plan is applied".to_owned(),
        |next| format!("next {}", time(next)),
    );
    let mut text = format!("  thinned {last}; {next}\n");
    if let Some(days) = forecast.full_in_days.filter(|days| *days <= FULL_SOON_DAYS) {
        let free = forecast.free_bytes.map_or_else(|| "–".to_owned(), bytes_text);
        let days = counted(days, "day");
        let _ = writeln!(text, "  disk    would be full in {days}: {free} are free");
    }
    text
}

/// Returns a state as it is shown in one column: its word, and in a mirror how far it is.
pub(crate) fn state_text(health: &HealthStatus) -> String {
    match health {
        HealthStatus { state, percent: Some(percent), .. } => format!("{state} {percent} %"),
        HealthStatus { state, found: Some(found), .. } => format!("{state}, {found} found"),
        HealthStatus { state, .. } => state.to_string(),
    }
}

/// Returns why the set and its destinations are as they are, each cause once.
fn causes(set: &SetStatus) -> Vec<String> {
    let mut causes: Vec<(&str, Vec<&str>)> = Vec::new();
    for to in &set.destinations {
        let Some(cause) = cause(&to.health) else { continue };
        match causes.iter_mut().find(|(known, _)| *known == cause) {
            Some((_, stations)) => stations.push(&to.station),
            None => causes.push((cause, vec![&to.station])),
        }
    }
    // Of a master's set its destinations say why, or one of its problems does.
    let of_set = cause(&set.health).filter(|_| set.destinations.is_empty());
    let of_stations = causes.into_iter().map(|(cause, to)| format!("{}: {cause}", to.join(", ")));
    of_set.map(ToOwned::to_owned).into_iter().chain(of_stations).collect()
}

/// Returns the cause of a state, where it is not among the problems as well.
fn cause(health: &HealthStatus) -> Option<&str> {
    let is_problem = matches!(health.state, State::Alarm | State::Stopped);
    health.cause.as_deref().filter(|_| !is_problem)
}

fn render_destinations(destinations: &[DestinationStatus]) -> String {
    let mut table = Table::new(&["TO", "STATE", ">ACKNOWLEDGED", ">LAG", ">SENT"]);
    for to in destinations {
        table.row(vec![
            to.station.clone(),
            state_text(&to.health),
            to.acknowledged.map_or_else(|| "–".to_owned(), |seq| seq.to_string()),
            lag_text(to),
            bytes_text(to.sent_bytes),
        ]);
    }
    table.render(2)
}

/// Returns how far a destination is behind: in changes, and in bytes and seconds where that is known.
fn lag_text(to: &DestinationStatus) -> String {
    let DestinationStatus { lag_changes, lag_bytes, lag_seconds, .. } = to;
    if *lag_changes == 0 && lag_bytes.unwrap_or(0) == 0 {
        return "–".to_owned();
    }
    let known = [lag_bytes.map(bytes_text), lag_seconds.map(seconds_text)];
    let parts = std::iter::once(counted(*lag_changes, "change")).chain(known.into_iter().flatten());
    parts.collect::<Vec<_>>().join(", ")
}

/// In how many days a disk would be full that is told of.
const FULL_SOON_DAYS: u64 = 30;

/// Moves to the top left of an empty screen.
const CLEAR: &[u8] = b"\x1b[H\x1b[2J";

/// The role of the station that says which sets there are.
const PRIMARY: &str = "primary";

#[cfg(test)]
mod tests {
    use keepshare_base::health::{LinkHealth, MirrorProgress, SetHealth, SetProblem};
    use keepshare_control::retention::{Forecast, RetentionRun};

    use super::*;

    fn destination(station: &str, health: &SetHealth) -> DestinationStatus {
        DestinationStatus {
            station: station.into(),
            health: HealthStatus::from(health),
            connected: false,
            acknowledged: None,
            lag_changes: 12,
            lag_bytes: Some(3 << 20),
            lag_seconds: Some(41),
            away_seconds: None,
            sent_bytes: 0,
            received_bytes: 0,
            error: None,
            may_order: None,
        }
    }

    /// A table that is wider than the terminal is read by nobody.
    #[test]
    fn the_state_is_one_word_and_the_cause_is_said_once() {
        let why = "cannot connect to 10.0.0.2:7846: Connection refused (os error 111): ".repeat(3);
        let queued = SetHealth::Queued(LinkHealth::Away(Some(why.clone())));
        let away = |station| destination(station, &queued);
        let set = SetStatus {
            head: Some(12),
            destinations: vec![
                away("store"),
                away("cellar"),
                destination("attic", &SetHealth::InSync),
            ],
            ..SetStatus::new("work", "master", &queued)
        };
        let text = render_set(&set);
        assert_eq!(text.matches(&why).count(), 1, "{text}");
        assert!(text.contains("  store, cellar: cannot connect"), "{text}");
        assert!(!text.contains("  orders"), "{text}");
        let told = |may: &str| {
            let may_order = Some(may.to_owned());
            let to = DestinationStatus { may_order, ..away("attic") };
            render_set(&SetStatus { destinations: vec![to], ..set.clone() })
        };
        assert!(told("restore").contains("  orders  restores, and no roll-backs from attic, as"));
        assert!(told("nothing").contains("  orders  nothing from attic, as station.toml says\n"));
        let row = text.lines().find(|line| line.trim_start().starts_with("store ")).unwrap();
        assert!(row.contains("queued  ") && row.chars().count() < 80, "{row}");
        assert!(row.contains("12 changes, 3.0 MiB, 41 s"), "{row}");
        let unknown = DestinationStatus { lag_bytes: None, lag_seconds: None, ..away("store") };
        assert_eq!(lag_text(&unknown), "12 changes", "what nobody knows is not nothing");
        let gone = SetProblem::StoreFailed("the disk is gone".into());
        let alarm = SetStatus {
            health: HealthStatus::from(&SetHealth::Alarm(gone.clone())),
            problems: vec![gone.to_string()],
            destinations: Vec::new(),
            ..set
        };
        let text = render_set(&alarm);
        assert!(text.starts_with("Set work (master): alarm\n"), "{text}");
        assert_eq!(text.matches("the disk is gone").count(), 1, "{text}");
    }

    /// What runs by itself at night is seen without being asked for, and a disk that fills before it is full.
    #[test]
    fn a_copy_tells_how_it_is_thinned_in_one_line() {
        let run = RetentionRun {
            kept: 7,
            removed: 1,
            bytes_freed: 3 << 20,
            ..RetentionRun::begun("2026-11-20T00:00:00.000000Z".to_owned())
        };
        let told = |last_run: Option<RetentionRun>, full_in_days| {
            let forecast =
                Forecast { free_bytes: Some(5 << 30), bytes_per_day: Some(1), full_in_days };
            let next_run = Some("2026-11-21T00:00:00.000000Z".to_owned());
            let retention = Some(RetentionStatus { last_run, next_run, forecast });
            let set = SetStatus { retention, ..SetStatus::new("a", "replica", &SetHealth::InSync) };
            render_set(&set)
        };
        let text = told(Some(run.clone()), Some(31));
        assert!(text.contains(": 1 version removed, 3.0 MiB freed; next 2026-"), "{text}");
        assert!(!text.contains("disk"), "{text}");
        let ended = RetentionRun { cut_short: Some("it stops".to_owned()), ..run.clone() };
        let text = told(Some(ended), None);
        assert!(
            text.contains(": 1 version removed, 3.0 MiB freed, then ended: it stops"),
            "{text}"
        );
        let back = RetentionRun { brought_back: 1, ..run.clone() };
        let text = told(Some(back), None);
        assert!(text.contains(": 1 version removed, and brought back; next"), "{text}");
        let refused = RetentionRun { removed: 0, refused: Some("no plan\nyet".to_owned()), ..run };
        let text = told(Some(refused), Some(30));
        assert!(
            text.contains(": nothing removed: no plan") && !text.contains("plan\nyet"),
            "{text}"
        );
        assert!(text.contains("  disk    would be full in 30 days: 5.0 GiB are free\n"), "{text}");
        assert!(told(None, None).contains("  thinned not yet; next 2026-"));
    }

    /// A program reads the word, a person sees how far it is.
    #[test]
    fn a_mirror_shows_how_far_it_is() {
        let text = |progress| state_text(&HealthStatus::from(&SetHealth::Mirroring(progress)));
        assert_eq!(text(MirrorProgress::Unknown), "mirroring");
        assert_eq!(text(MirrorProgress::Found(7)), "mirroring, 7 found");
        assert_eq!(text(MirrorProgress::Percent(40)), "mirroring 40 %");
        let health = HealthStatus::from(&SetHealth::Mirroring(MirrorProgress::Percent(40)));
        let json = serde_json::to_value(destination("store", &SetHealth::InSync)).unwrap();
        assert_eq!((&json["state"], &json["cause"]), (&"in-sync".into(), &().into()));
        let json = serde_json::to_value(health).unwrap();
        assert_eq!((&json["state"], &json["percent"]), (&"mirroring".into(), &40.into()));
    }
}
