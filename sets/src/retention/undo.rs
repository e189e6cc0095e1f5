//! Bringing back what retention removed.

use std::{
    sync::{MutexGuard, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use keepshare_base::counted;
use keepshare_control::{
    Failure, Outcome,
    retention::{CanComeBack, Undone, UndoneRun},
};
use keepshare_versioning::{ASIDE_MICROS, Aside, retention::Now, set::SetStore};

use super::{Retention, lock, written::Written};
use crate::asking::read_failure;
use crate::writer::{now, on_writer};

/// What is aside of a run: since when, how many versions, and their sizes together.
type OfRun = (u64, u64, u64);

/// How long it takes at most until a run that goes on has ended.
const ENDING_MAX: Duration = Duration::from_secs(30);

/// How often it is looked whether it has.
const ENDING_LOOK: Duration = Duration::from_millis(20);

/// How many versions are brought back between two changes that come.
const AT_ONCE: usize = 500;

/// How many versions are counted in one view.
const COUNTED_AT_ONCE: usize = 10_000;

impl Retention {
    /// Brings back what the last run removed, or everything that can come back; where `sure` is not said it only tells how much
    /// that is. A station does not thin by itself any more until a plan is applied again. Blocks.
    pub fn undo(&self, store: &SetStore, all: bool, sure: bool) -> Outcome<Undone> {
        let _going = self.go_instead(sure)?;
        let view = store.reader().view().map_err(read_failure)?;
        let newest = view.newest_aside().map_err(read_failure)?;
        drop(view);
        let set = &self.set;
        let Some(newest) = newest else {
            let nothing = format!("nothing that was removed of set {set} can come back");
            return Err(Failure::refused(nothing).hint(
                "what a run removes can be brought back for a day, and for less where the disk is short",
            ));
        };
        let written = lock(&self.written).clone()?;
        let from = if all { 0 } else { written.began(newest) };
        let now = now(store)?;
        if !sure {
            let runs = by_runs(now, &written, &runs(store, from)?);
            return Err(would_come_back(set.as_str(), all, &runs));
        }
        // First, so that no night removes again what has come back.
        self.write(|written| {
            written.applied = None;
        })?;
        let mut back = Vec::new();
        let done = self.bring_back(store, from, &mut back);
        let (mut brought_back, mut bytes, mut gone) = (0_u64, 0_u64, 0);
        let of_runs = by_runs(now, &written, &back);
        self.write(|written| {
            let last_began = written.removals.last().map_or(u64::MAX, |last| last.since_micros);
            for (since, versions, size) in back {
                written.came_back(since, versions);
                (brought_back, bytes) = (brought_back + versions, bytes.saturating_add(size));
                // One that came later removed nothing.
                let last_run = written.last_run.as_mut().filter(|_| since >= last_began);
                if let Some(run) = last_run.filter(|run| run.removed > 0) {
                    run.brought_back = run.removed.min(run.brought_back + versions);
                }
            }
            gone = written.gone_since(from);
            if done.is_ok() {
                written.removals.retain(|removal| removal.since_micros < from);
            }
        })?;
        done?;
        tracing::info!(%set, brought_back, bytes, gone, "removed versions were brought back");
        let runs = of_runs.into_iter().map(|(run, _)| run).collect();
        Ok(Undone { set: set.to_string(), brought_back, bytes, gone, runs })
    }

    /// Brings back all that is aside since then, and notes of which runs that was.
    fn bring_back(&self, store: &SetStore, from: u64, back: &mut Vec<OfRun>) -> Outcome<()> {
        loop {
            if *self.stopping.borrow() {
                return Err(Failure::unavailable("the station is stopping")
                    .hint("what has come back is back; ask again for the rest"));
            }
            let some = on_writer(store, move |store| Ok(store.bring_back(from, AT_ONCE)?))
                .map_err(|failure| failure.context("cannot bring versions back"))?;
            if some.is_empty() {
                return Ok(());
            }
            count(back, &some);
        }
    }

    /// Waits until nobody goes through the set; ends a run that does where `sure` is said.
    fn go_instead(&self, sure: bool) -> Outcome<MutexGuard<'_, ()>> {
        if !sure {
            return self.go();
        }
        let until = Instant::now() + ENDING_MAX;
        self.is_ending.store(true, Relaxed);
        let going = loop {
            let going = self.go();
            if going.is_ok() || Instant::now() >= until {
                break going;
            }
            std::thread::sleep(ENDING_LOOK);
        };
        self.is_ending.store(false, Relaxed);
        going
    }
}

/// Returns what can be brought back, run by run, and until when by the clock. Blocks.
pub fn can_come_back(store: &SetStore) -> Outcome<Vec<CanComeBack>> {
    let runs = runs(store, 0)?;
    if runs.is_empty() {
        return Ok(vec![]);
    }
    let now = now(store)?;
    let run = |(since, versions, bytes): OfRun| {
        let left = since.saturating_add(ASIDE_MICROS).saturating_sub(now.running_micros);
        let until = now.clock.plus_micros(i64::try_from(left).unwrap_or(i64::MAX));
        CanComeBack { versions, bytes, until: until.to_string() }
    };
    Ok(runs.into_iter().map(run).collect())
}

/// Returns the runs since `from_micros` of which something is aside, oldest first.
fn runs(store: &SetStore, from_micros: u64) -> Outcome<Vec<OfRun>> {
    let reader = store.reader();
    let mut runs = Vec::new();
    let mut last: Option<Aside> = None;
    loop {
        let view = reader.view().map_err(read_failure)?;
        let some = view.aside(from_micros, last.as_ref(), COUNTED_AT_ONCE).map_err(read_failure)?;
        drop(view);
        count(&mut runs, &some);
        match some.last() {
            Some(aside) => last = Some(*aside),
            None => return Ok(runs),
        }
    }
}

/// Adds versions, oldest first, to what was counted of their runs.
fn count(runs: &mut Vec<OfRun>, some: &[Aside]) {
    for aside in some {
        match runs.last_mut() {
            Some((since, versions, bytes)) if *since == aside.since_micros => {
                *versions += 1;
                *bytes = bytes.saturating_add(aside.size);
            }
            _ => runs.push((aside.since_micros, 1, aside.size)),
        }
    }
}

/// Returns what is aside of each run, with its bytes: when that began to remove, by the clock as it is now. What went a while later is the
/// same run's.
fn by_runs(now: Now, written: &Written, some: &[OfRun]) -> Vec<(UndoneRun, u64)> {
    let mut runs: Vec<(u64, UndoneRun, u64)> = Vec::new();
    for (since, versions, bytes) in some {
        let began = written.began(*since);
        match runs.last_mut() {
            Some((last, run, sum)) if *last == began => {
                run.versions += versions;
                *sum = sum.saturating_add(*bytes);
            }
            _ => {
                let ago = now.running_micros.saturating_sub(began);
                let time = now.clock.plus_micros(-i64::try_from(ago).unwrap_or(0));
                let run = UndoneRun { time: time.to_string(), versions: *versions };
                runs.push((began, run, *bytes));
            }
        }
    }
    runs.into_iter().map(|(_, run, bytes)| (run, bytes)).collect()
}

fn would_come_back(set: &str, all: bool, runs: &[(UndoneRun, u64)]) -> Failure {
    let versions = runs.iter().map(|(run, _)| run.versions).sum();
    let bytes = runs.iter().map(|(_, bytes)| bytes).fold(0_u64, |a, b| a.saturating_add(*b));
    let times: Vec<&str> = runs.iter().map(|(run, _)| &*run.time).collect();
    let what = if times.len() == 1 { "the run" } else { "the runs" };
    let all = if all { " --all" } else { "" };
    Failure::refused(format!(
        "{} of set {set} would come back, {bytes} bytes: what {what} of {} removed",
        counted(versions, "version"),
        times.join(", ")
    ))
    .hint(format!("keepshare retention undo {set}{all} --yes brings them back"))
}
