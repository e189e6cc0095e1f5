//! `keepshare diff`.

mod files;
mod renames;
mod rows;
#[cfg(test)]
mod sample;
mod text;
mod tree;

use std::{cell::Cell, process};

use keepshare_base::Kind;
use keepshare_control::{
    Code, Failure, Outcome,
    answers::{Progress, ShownEntry},
    client::{Answer, Client, Piece},
    questions::{Export, Location},
};

use crate::{cli::diff::Diff, commands::history::hint_no_time, output::Screen, place::Typed};

use self::{files::Pair, rows::Rows, tree::Side};

/// One of the two that are compared.
struct State {
    station: Client,
    typed: Typed,
    /// How many lines are shown around each change.
    context: usize,
}

impl State {
    /// Returns it as it was typed.
    fn shown(&self) -> String {
        self.typed.text()
    }
}

/// How many entries are gone through between two looks of the bar.
const SHOWN_EVERY: u64 = 256;

/// What the process ends with where the two differ and that was to be told.
const DIFFER: i32 = 1;

/// Compares two files or two folders, each as it was at its time.
pub(crate) fn diff(sides: [(Client, Typed); 2], options: &Diff, screen: &Screen) -> Outcome<()> {
    let context = usize::try_from(options.unified).unwrap_or(usize::MAX);
    let [then, now] = sides.map(|(station, typed)| State { station, typed, context });
    let one_set = is_one_set(&then.typed.place, &now.typed.place);
    let (then_top, then_below) = open(&then)?;
    let (now_top, now_below) = open(&now)?;
    let differ = match (then_top.meta.kind, now_top.meta.kind) {
        (Kind::Dir, Kind::Dir) => {
            let then = Side::new(listable(then_top, &then)?, entries(then_below));
            let now = Side::new(listable(now_top, &now)?, entries(now_below));
            compare_folders((then, now), one_set, screen)?
        }
        _ => {
            // Their turns at the station are needed for what is asked next.
            drop((then_below, now_below));
            Pair { states: [&then, &now], entries: [then_top, now_top], one_set }.compare(screen)?
        }
    };
    if differ && options.exit_code {
        process::exit(DIFFER);
    }
    Ok(())
}

/// Asks for what was there with all below it, and returns the first of it.
fn open(state: &State) -> Outcome<(ShownEntry, Answer<ShownEntry>)> {
    let Typed { place, when, path } = &state.typed;
    let question = Export { place: place.clone(), when: when.clone(), content: false };
    let asked = state.station.ask(&question).map_err(|failure| hint_no_time(failure, path));
    let mut answer = asked.map_err(|failure| match failure.code {
        // A station of before knows no entries alone.
        Code::Usage => failure.hint_if_none(
            "use a command and a station of one age: restart the station after an upgrade",
        ),
        _ => failure,
    })?;
    let top = next(&mut answer)?
        .ok_or_else(|| Failure::new(Code::Failed, "the station gave an empty answer"))?;
    Ok((top, answer))
}

/// Returns a folder unless it may not be listed.
fn listable(top: ShownEntry, state: &State) -> Outcome<ShownEntry> {
    match &top.damaged {
        None => Ok(top),
        Some(why) => Err(Failure::refused(format!("{}: {why}", state.shown()))
            .hint("what is in it can be compared by its name")),
    }
}

fn next(answer: &mut Answer<ShownEntry>) -> Outcome<Option<ShownEntry>> {
    loop {
        match answer.next_piece()? {
            Some(Piece::Item(entry)) => return Ok(Some(entry)),
            Some(Piece::Data(_) | Piece::Progress(_)) => {}
            None => return Ok(None),
        }
    }
}

fn entries(mut answer: Answer<ShownEntry>) -> impl FnMut() -> Outcome<Option<ShownEntry>> {
    let mut is_over = false;
    move || {
        let entry = if is_over { None } else { next(&mut answer)? };
        is_over = entry.is_none();
        Ok(entry)
    }
}

/// Compares two folders with all below them, and tells whether they differ.
fn compare_folders(
    sides: (
        Side<impl FnMut() -> Outcome<Option<ShownEntry>>>,
        Side<impl FnMut() -> Outcome<Option<ShownEntry>>>,
    ),
    one_set: bool,
    screen: &Screen,
) -> Outcome<bool> {
    let bar = screen.bar();
    let mut rows = Rows::new(screen, one_set);
    let mut done = 0_u64;
    let is_shown = Cell::new(true);
    let look = || {
        done += 1;
        if is_shown.get() && done.is_multiple_of(SHOWN_EVERY) {
            let doing = "comparing, files and folders".to_owned();
            bar.show(&Progress { doing, done, total: None });
        }
    };
    tree::compare(sides, one_set, look, |change| {
        if rows.is_full() && is_shown.replace(false) {
            bar.finish();
        }
        rows.take(change)
    })?;
    bar.finish();
    rows.finish()
}

/// Tells whether two places are certainly in one set.
fn is_one_set(then: &Location, now: &Location) -> bool {
    match (then, now) {
        (Location::Set { set: then, .. }, Location::Set { set: now, .. }) => then == now,
        (Location::Local(then), Location::Local(now)) => then == now,
        _ => false,
    }
}
