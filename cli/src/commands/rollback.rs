//! `keepshare rollback` and `keepshare undelete`.

use std::{fmt::Write as _, process};

use keepshare_base::counted;
use keepshare_control::{
    Code, Failure, Outcome,
    client::{Client, Piece},
    question::Question,
    questions::{self, Location, RollbackList, RollbackStop, RollbackUndo},
    rollback::{RolledBack, StepTold},
};

use crate::{
    cli::rollback::{How, Rollback},
    commands::history::station_zone,
    output::{Screen, Table, Times, bytes_text, safe},
    password,
};

/// The exit code where not all was done.
const NOT_ALL: i32 = 1;

/// What stands before steps.
const LEGEND: &str = "  ~ gets back what it was   + comes back   > moves back   - goes   a gets its attributes back\n";

/// Rolls a folder back, or takes that back.
pub(crate) fn rollback(
    station: &Client,
    place: Option<(Location, String)>,
    options: Rollback,
    screen: &Screen,
) -> Outcome<()> {
    let Rollback { how, over, links, undo, stop, list, set, .. } = options;
    match (place, undo.zip(set.clone()), stop.zip(set.clone())) {
        _ if list => {
            let told = station.ask_all(&RollbackList { set })?;
            screen.value(&told, |told| render_list(station, told))
        }
        (Some((place, when)), ..) => {
            let asked = Asked { deleted: false, over, links };
            roll_back(station, (place, when), asked, &how, screen)
        }
        (None, Some((rollback, set)), _) => {
            let (nearest, limit) = (how.nearest, how.limit);
            let asked = RollbackUndo { set, rollback, sure: false, nearest, limit };
            let sure = |_| RollbackUndo { sure: true, ..asked.clone() };
            order(station, &asked, sure, &how, screen)
        }
        (None, None, Some((rollback, set))) => {
            let told = station.ask_one(&RollbackStop { set, rollback })?;
            screen.value(&told, |told| render(station, told))
        }
        (None, None, None) => Err(Failure::usage("no folder is named")
            .hint("write SET:folder@TIME; keepshare rollback --help")),
    }
}

/// Rolls a folder back to a time, leaving what changed since the preview, and files that have names outside.
pub(crate) fn roll_back_to(
    station: &Client,
    place: Location,
    when: String,
    how: &How,
    screen: &Screen,
) -> Outcome<()> {
    roll_back(station, (place, when), Asked::default(), how, screen)
}

/// Brings back what was deleted in a folder.
pub(crate) fn undelete(
    station: &Client,
    place: Location,
    since: String,
    how: &How,
    screen: &Screen,
) -> Outcome<()> {
    let asked = Asked { deleted: true, ..Asked::default() };
    roll_back(station, (place, since), asked, how, screen)
}

/// What of a roll-back is asked for beyond a place and a time.
#[derive(Clone, Copy, Default)]
struct Asked {
    /// Only what was deleted.
    deleted: bool,
    /// What changed since the preview, too.
    over: bool,
    /// Files that have names outside, too.
    links: bool,
}

fn roll_back(
    station: &Client,
    (place, when): (Location, String),
    Asked { deleted, over, links }: Asked,
    how: &How,
    screen: &Screen,
) -> Outcome<()> {
    let asked = questions::Rollback {
        place,
        when,
        deleted,
        sure: false,
        nearest: how.nearest,
        over,
        links,
        seen: None,
        limit: how.limit,
    };
    let sure = |seen| questions::Rollback { sure: true, seen: Some(seen), ..asked.clone() };
    order(station, &asked, sure, how, screen)
}

/// Shows what would be done, asks whether that is meant, and has it done.
fn order<Q: Question<Item = RolledBack>>(
    station: &Client,
    preview: &Q,
    sure: impl FnOnce(u64) -> Q,
    how: &How,
    screen: &Screen,
) -> Outcome<()> {
    let told: RolledBack = station.ask_one(preview)?;
    if how.dry_run {
        return screen.value(&told, |told| render(station, told));
    }
    if !how.yes {
        let text = render(station, &told);
        if !password::confirm(&format!("{text}\nIs that meant?"))? {
            let failure = Failure::refused("nothing was changed");
            return Err(failure.hint("--dry-run shows what would be done, --yes does it"));
        }
    }
    let mut answer = station.ask(&sure(told.seen))?;
    let (bar, mut done) = (screen.bar(), None);
    while let Some(piece) = answer.next_piece()? {
        match piece {
            Piece::Item(item) => done = Some(item),
            Piece::Progress(progress) => bar.show(&progress),
            Piece::Data(_) => {}
        }
    }
    bar.finish();
    let done: RolledBack =
        done.ok_or_else(|| Failure::new(Code::Failed, "the station gave an empty answer"))?;
    screen.value(&done, |done| render(station, done))?;
    if done.state != "done" {
        process::exit(NOT_ALL);
    }
    Ok(())
}

fn render(station: &Client, told: &RolledBack) -> String {
    let RolledBack { set, path, to, .. } = told;
    let is_preview = told.state == "preview";
    let place = format!("{set}:{}", safe(path));
    let mut text = match (is_preview, &told.rollback) {
        (true, _) => match &told.time {
            Some(time) => {
                let times = Times::new(station_zone(station), std::iter::once(time.as_str()));
                format!("{place} as it was ({}; its last change {}):\n", safe(to), times.text(time))
            }
            None => format!("{place} ({}):\n", safe(to)),
        },
        (false, Some(id)) => {
            format!("Roll-back {id} of {place} ({}), {}:\n", safe(to), state(told))
        }
        (false, None) => format!("{place}:\n"),
    };
    let counts = [
        (told.restored, "get back what they were", "gets back what it was"),
        (told.brought_back, "come back", "comes back"),
        (told.renamed, "move back", "moves back"),
        (told.removed, "go that were made since", "goes that was made since"),
    ];
    let counts: Vec<String> = counts
        .iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(count, many, one)| format!("{count} {}", if *count == 1 { one } else { many }))
        .collect();
    match (counts.is_empty(), told.not_done, &told.time) {
        (true, 1.., _) => text += "  nothing came of it",
        (true, 0, Some(_)) => text += "  nothing is other than it was",
        (true, 0, None) => text += "  nothing was deleted that can come back",
        (false, ..) => text += &format!("  {}", counts.join(", ")),
    }
    let _ = match told.unchanged {
        1 => writeln!(text, "; 1 is as it was."),
        unchanged => writeln!(text, "; {unchanged} are as they were."),
    };
    if told.not_done > 0 {
        let _ = writeln!(
            text,
            "! {} could not be done, for the reasons below; type the same again when they are gone.",
            counted(told.not_done, "step")
        );
    }
    if let Some(why) = &told.waits {
        let _ = writeln!(text, "! It waits: {}", safe(why));
    }
    if told.bytes > 0 {
        let _ = writeln!(text, "  {} are written.", bytes_text(told.bytes));
    }
    match told.room {
        _ if told.grows == 0 => {}
        Some(room) if room < told.grows => {
            let _ = writeln!(
                text,
                "! It takes {} more on the master's disk, where {} are free: what finds no room then waits.",
                bytes_text(told.grows),
                bytes_text(room)
            );
        }
        _ => {
            let grows = bytes_text(told.grows);
            let _ = writeln!(text, "  It takes {grows} more on the master's disk.");
        }
    }
    if told.nearest > 0 {
        let _ = writeln!(
            text,
            "! {} become the nearest older version: what they were then was removed.",
            counted(told.nearest, "file")
        );
    }
    if !told.steps.is_empty() {
        text += LEGEND;
    }
    for step in &told.steps {
        let _ = writeln!(text, "  {}", step_text(step));
    }
    let all = told.restored + told.brought_back + told.renamed + told.removed;
    let more = all.saturating_sub(told.steps.len() as u64);
    if is_preview && more > 0 {
        let _ = writeln!(text, "  and {more} more; --limit N shows them");
    }
    for conflict in &told.conflicts {
        let _ = writeln!(text, "! {}: {}", safe(&conflict.path), safe(&conflict.why));
    }
    if told.more_conflicts > 0 {
        let _ = writeln!(text, "! and {} more stay as they are", told.more_conflicts);
    }
    if told.unseen_left {
        text += "  Other things, which you may not see, were left if there are any.\n";
    }
    if let (Some(id), Some(until)) = (&told.rollback, &told.undo_until) {
        let times = Times::new(station_zone(station), std::iter::once(until.as_str()));
        let _ = writeln!(
            text,
            "\n  keepshare rollback --undo {id} --set {set}    takes it back, until {}",
            times.text(until)
        );
    }
    text
}

fn state(told: &RolledBack) -> &str {
    match told.state.as_str() {
        "going-on" => "goes on",
        "stopped" => "was ended",
        "incomplete" => "could not be done wholly",
        other => other,
    }
}

fn step_text(StepTold { path, does, to }: &StepTold) -> String {
    let path = safe(path);
    match (does.as_str(), to) {
        ("restore", _) => format!("~ {path}"),
        ("bring-back", _) => format!("+ {path}"),
        ("remove", _) => format!("- {path}"),
        ("rename", Some(to)) => format!("> {path} -> {}", safe(to)),
        ("attributes", _) => format!("a {path}"),
        _ => path,
    }
}

fn render_list(station: &Client, told: &[RolledBack]) -> String {
    if told.is_empty() {
        return "No roll-backs; keepshare rollback SET:folder@TIME --dry-run shows what one would do.\n"
            .to_owned();
    }
    let moments = told.iter().flat_map(|told| [told.began.as_deref(), told.undo_until.as_deref()]);
    let times = Times::new(station_zone(station), moments.flatten());
    let mut table =
        Table::new(&["ID", "FOLDER", "TO", "BEGAN", "STATE", ">CHANGED", ">STAYED", "UNDO UNTIL"]);
    for one in told {
        let changed = one.restored + one.brought_back + one.renamed + one.removed;
        let stayed = one.conflicts.len() as u64 + one.more_conflicts;
        let time =
            |time: &Option<String>| time.as_ref().map_or("-".to_owned(), |time| times.text(time));
        table.row(vec![
            one.rollback.clone().unwrap_or_default(),
            format!("{}:{}", one.set, safe(&one.path)),
            safe(&one.to),
            time(&one.began),
            match &one.waits {
                Some(why) => format!("waits: {}", safe(why)),
                None => state(one).to_owned(),
            },
            changed.to_string(),
            stayed.to_string(),
            time(&one.undo_until),
        ]);
    }
    table.render(0)
}
