//! `keepshare retention`.

use std::{ffi::OsStr, fmt::Write as _};

use keepshare_base::counted;
use keepshare_control::{
    Code, Failure, Outcome,
    client::{Client, Piece},
    questions::{
        Location, RetentionApply, RetentionExplain, RetentionPlan, RetentionSet, RetentionShow,
        RetentionUndo,
    },
    retention::{
        Applied, CanComeBack, Forecast, Plan, PlanPiece, PlannedVersion, RetentionInfo,
        RetentionRun, Undone, UndoneRun,
    },
};

use crate::{
    cli,
    commands::history::station_zone,
    output::{Screen, Table, Times, bytes_text, safe},
};

/// Shows, sets, plans, applies or undoes.
pub(crate) fn retention(
    station: &Client,
    what: cli::retention::Retention,
    screen: &Screen,
) -> Outcome<()> {
    match what {
        cli::retention::Retention::Show { set } => {
            let infos = station.ask_all(&RetentionShow { set })?;
            screen.value(&infos, |infos| render(station, infos))
        }
        cli::retention::Retention::Set(cli::retention::RetentionSet { set, said, reset, yes }) => {
            let infos = station.ask_all(&RetentionSet { set, said, reset, less: yes })?;
            screen.value(&infos, |infos| render(station, infos))
        }
        cli::retention::Retention::Plan(options) => plan(station, options, screen),
        cli::retention::Retention::Apply { set, plan } => {
            let applied = station.ask_one(&RetentionApply { set, plan })?;
            screen.value(&applied, |Applied { set, removed, skipped, bytes_freed }| {
                let count = counted(*removed, "version");
                let mut text = format!("Set {set}: {count} removed, {}\n", bytes_text(*bytes_freed));
                if *skipped > 0 {
                    let skipped = counted(*skipped, "version");
                    let _ = writeln!(text, "{skipped} stay that were planned: they do not go any more, or went already.");
                }
                if *removed > 0 {
                    let _ = writeln!(text, "For a day, to bring them back: keepshare retention undo {set} --yes");
                }
                text
            })
        }
        cli::retention::Retention::Undo { set, all, yes } => {
            let undone = station.ask_one(&RetentionUndo { set, all, sure: yes })?;
            screen.value(&undone, |undone| render_undone(station, undone))
        }
        cli::retention::Retention::Explain { .. } => {
            unreachable!("explain has its place read first")
        }
    }
}

/// Shows what of a file stays and what goes, and why.
pub(crate) fn explain(
    station: &Client,
    place: Location,
    path: &OsStr,
    limit: usize,
    screen: &Screen,
) -> Outcome<()> {
    let versions = station.ask_all(&RetentionExplain { place, limit })?;
    screen.value(&versions, |versions| {
        let mut text = format!("{}\n", safe(&path.to_string_lossy()));
        text += &table(station, versions, |version| match version.action.as_str() {
            "remove" => format!("goes: {}", version.reasons.join(", ")),
            _ => format!("stays: {}", version.reasons.join(", ")),
        });
        text
    })
}

fn plan(station: &Client, options: cli::retention::RetentionPlan, screen: &Screen) -> Outcome<()> {
    let cli::retention::RetentionPlan { set, said, limit } = options;
    let mut answer = station.ask(&RetentionPlan { set, said, limit })?;
    let bar = screen.bar();
    let (mut versions, mut plan) = (Vec::new(), None);
    while let Some(piece) = answer.next_piece()? {
        match piece {
            Piece::Item(PlanPiece::Version(version)) => versions.push(version),
            Piece::Item(PlanPiece::Plan(told)) => plan = Some(told),
            Piece::Progress(progress) => bar.show(&progress),
            Piece::Data(_) => {}
        }
    }
    bar.finish();
    let plan = plan.ok_or_else(no_answer)?;
    let whole = Whole { plan, versions };
    screen.value(&whole, |Whole { plan, versions }| render_plan(station, plan, versions))
}

/// A plan as programs read it.
#[derive(serde::Serialize)]
struct Whole {
    #[serde(flatten)]
    plan: Plan,
    versions: Vec<PlannedVersion>,
}

fn render_plan(station: &Client, plan: &Plan, versions: &[PlannedVersion]) -> String {
    let Plan { plan: id, set, keep, remove, bytes, by_itself, forecast } = plan;
    let (kept, gone) = (counted(*keep, "version"), counted(*remove, "version"));
    let mut text = format!("Set {set}: {kept} stay, {gone} go, {}\n", bytes_text(*bytes));
    if let Forecast { free_bytes: Some(free), full_in_days: Some(days), .. } = forecast {
        let (free, days) = (bytes_text(*free), counted(*days, "day"));
        let _ = writeln!(
            text,
            "{free} of the disk are free; as it filled of late it would be full in {days}."
        );
    }
    if !versions.is_empty() {
        text += &table(station, versions, |version| version.reasons.join(", "));
        if (versions.len() as u64) < *remove {
            text += "There are more: --limit N lists them.\n";
        }
    }
    let apply = |id| format!("  keepshare retention apply {set} --plan {id}");
    match (id, remove) {
        (None, _) => {}
        (Some(_), 0) if *by_itself => {}
        (Some(id), 0) => {
            let _ = writeln!(
                text,
                "\nWithin a day, to have the station remove by itself, from now on, what goes by this policy:\n\n{}",
                apply(id)
            );
        }
        (Some(id), _) => {
            if !by_itself {
                text += "The station does not do this by itself: it waits for a hand.\n";
            }
            let _ = writeln!(text, "\nWithin a day, to remove them:\n\n{}", apply(id));
        }
    }
    text
}

fn render_undone(station: &Client, undone: &Undone) -> String {
    let Undone { set, brought_back, bytes, gone, runs } = undone;
    let back = counted(*brought_back, "version");
    let mut text = format!("Set {set}: {back} came back, {}\n", bytes_text(*bytes));
    let times = Times::new(station_zone(station), runs.iter().map(|run| run.time.as_str()));
    for UndoneRun { time, versions } in runs {
        let versions = counted(*versions, "version");
        let _ = writeln!(text, "  {versions} that the run of {} removed", times.text(time));
    }
    if *gone > 0 {
        let gone = counted(*gone, "version");
        let _ = writeln!(
            text,
            "! {gone} removed with them went for good, as the disk was short or a day was over."
        );
    }
    let _ = writeln!(
        text,
        "The station removes nothing by itself until a plan is applied again: keepshare retention plan {set}"
    );
    text
}

fn table(
    station: &Client,
    versions: &[PlannedVersion],
    why: impl Fn(&PlannedVersion) -> String,
) -> String {
    let times =
        Times::new(station_zone(station), versions.iter().map(|version| version.time.as_str()));
    let mut table = Table::new(&["TIME", ">SIZE", "VERSION", "PATH", ""]);
    for version in versions {
        table.row(vec![
            times.text(&version.time),
            bytes_text(version.size),
            version.version.clone(),
            safe(&version.path),
            why(version),
        ]);
    }
    table.render(0)
}

fn render(station: &Client, infos: &[RetentionInfo]) -> String {
    if infos.is_empty() {
        return "This station keeps no set: there is nothing to thin.\n".to_owned();
    }
    let moments = infos.iter().flat_map(|info| {
        let last = info.last_run.as_ref().map(|run| run.time.as_str());
        let until = info.can_come_back.iter().map(|run| run.until.as_str());
        info.next_run.as_deref().into_iter().chain(last).chain(until)
    });
    let times = Times::new(station_zone(station), moments);
    let mut text = String::new();
    for info in infos {
        let from = if info.is_set { "set here" } else { "as sets begin" };
        let _ = writeln!(text, "Set {} on {}, {from}:", info.set, info.station);
        let keys = keepshare_versioning::retention::KEYS;
        for key in keys.iter().filter(|key| info.policy.contains_key(**key)) {
            let _ = writeln!(text, "  {key}={}", safe(&info.policy[*key]));
        }
        if let Some(next) = &info.next_run {
            let _ = writeln!(text, "  next run {}", times.text(next));
        } else {
            text += "  nothing is removed by itself until a plan was applied by hand\n";
        }
        if let Some(run) = &info.last_run {
            let time = times.text(&run.time);
            let mark = if run.refused.is_some() || run.cut_short.is_some() { "! " } else { "" };
            let _ = writeln!(text, "  {mark}last run {time}: {}", run_text(run));
            if run.refused.is_some() {
                let plan = || format!("keepshare retention plan {} shows what would go", info.set);
                let help = run.help.clone().unwrap_or_else(plan);
                let _ = writeln!(text, "    {}", safe(&help));
            }
        }
        for CanComeBack { versions, bytes, until } in &info.can_come_back {
            let (versions, bytes) = (counted(*versions, "version"), bytes_text(*bytes));
            let until = times.text(until);
            let _ = writeln!(text, "  {versions} can come back until {until}, {bytes}");
        }
        if !info.can_come_back.is_empty() {
            let _ = writeln!(
                text,
                "    keepshare retention undo {} brings back what the last run removed",
                info.set
            );
        }
    }
    text
}

/// Returns what came of a run, in a few words.
pub(crate) fn run_text(run: &RetentionRun) -> String {
    let RetentionRun { removed, bytes_freed, refused, cut_short, brought_back, .. } = run;
    let count = counted(*removed, "version");
    match (refused.as_ref().or(cut_short.as_ref()), removed, brought_back) {
        (Some(why), 0, _) => format!("nothing removed: {}", safe(why)),
        (_, _, back) if *back > 0 && back >= removed => {
            format!("{count} removed, and brought back")
        }
        (_, _, back) if *back > 0 => format!("{count} removed, {back} of them brought back"),
        (Some(why), ..) => {
            format!(
                "{count} removed, {} freed, then ended: {}",
                bytes_text(*bytes_freed),
                safe(why)
            )
        }
        (None, ..) => format!("{count} removed, {} freed", bytes_text(*bytes_freed)),
    }
}

fn no_answer() -> Failure {
    Failure::new(Code::Failed, "the station's answer is not whole")
}
