//! Removing what goes: some versions between two changes that come.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use keepshare_base::{CommitId, FileId, Name};
use keepshare_control::{Outcome, retention::RetentionRun};
use keepshare_host::clock;
use keepshare_versioning::{
    Aside,
    retention::{Candidate, Gone, Now, Policy, history},
    set::SetStore,
};

use super::{Retention, written::Removal};
use crate::{
    asking::read_failure,
    writer::{arrival, now, on_writer},
};

/// How many versions are removed between two changes that come: some milliseconds.
const REMOVED_AT_ONCE: usize = 500;

/// How long versions that are removed are said to go at the same time.
const SINCE_LASTS: Duration = Duration::from_secs(900);

impl Retention {
    /// Goes through the set and removes what goes and may, so much at most. Returns what came of it, also where it ends before that is done.
    pub(super) fn remove(
        &self,
        store: &SetStore,
        by: (&Policy, Now),
        at_most: u64,
        may_go: impl Fn(&Candidate) -> bool,
    ) -> (RetentionRun, Outcome<()>) {
        let mut run = RetentionRun::begun(clock::now().to_string());
        let done = self.remove_some(store, by, (at_most, may_go), &mut run);
        let RetentionRun { kept, removed, bytes_freed, .. } = run;
        match &done {
            Ok(()) => {
                tracing::info!(set = %self.set, kept, removed, bytes_freed, "versions were thinned");
            }
            Err(failure) => run.cut_short = Some(failure.one_line()),
        }
        (run, done)
    }

    fn remove_some(
        &self,
        store: &SetStore,
        (policy, now): (&Policy, Now),
        (at_most, may_go): (u64, impl Fn(&Candidate) -> bool),
        run: &mut RetentionRun,
    ) -> Outcome<()> {
        // The day in which it can come back begins when it goes, however long the set was gone through before.
        let mut since = None::<(u64, Instant)>;
        let mut first = None;
        let done = self.review(store, (policy, now), |_, going| {
            let going: Vec<&Candidate> =
                going.iter().filter(|candidate| may_go(candidate)).collect();
            for some in going.chunks(REMOVED_AT_ONCE) {
                let left = usize::try_from(at_most - run.removed).unwrap_or(usize::MAX);
                self.check_going_on(policy)?;
                let some = self.still_going(store, (policy, now), &some[..some.len().min(left)])?;
                let since = match since {
                    Some((since, began)) if began.elapsed() < SINCE_LASTS => since,
                    _ => since.insert((self::now(store)?.running_micros, Instant::now())).0,
                };
                if first.is_none() {
                    first = Some(since);
                    // Before anything goes: what it removes until it breaks off can be brought back as well.
                    self.write(|written| {
                        written.note_removal(Removal { since_micros: since, removed: 0 });
                    })?;
                }
                let gone = set_aside(store, since, &some)?;
                run.removed += gone.len() as u64;
                run.bytes_freed += gone.iter().map(|gone| gone.size).sum::<u64>();
            }
            Ok(())
        });
        if let Some(first) = first {
            self.write(|written| written.went(first, run.removed))?;
        }
        let counts = done?;
        run.kept = counts.kept.saturating_add(counts.gone).saturating_sub(run.removed);
        Ok(())
    }

    /// Returns those of which the history that showed them as deleted still lets them go: somebody may have brought one back.
    fn still_going<'a>(
        &self,
        store: &SetStore,
        (policy, now): (&Policy, Now),
        some: &[&'a Candidate],
    ) -> Outcome<Vec<&'a Candidate>> {
        let view = store.reader().view().map_err(read_failure)?;
        // Versions of one name stand together, and its history is walked once for all of them.
        let mut last = None::<(&(FileId, Name), BTreeSet<(FileId, CommitId)>)>;
        let mut still = Vec::with_capacity(some.len());
        for candidate in some.iter().copied() {
            if candidate.gone == Gone::Deleted {
                if last.as_ref().is_none_or(|(shown, _)| **shown != candidate.shown) {
                    self.check_not_ending()?;
                    let (folder, name) = &candidate.shown;
                    let shown = history(&view, policy, now, *folder, name).map_err(read_failure)?;
                    let gone = shown.iter().filter(|shown| !shown.fate.is_kept());
                    let gone = gone.map(|shown| (shown.entry.state.file, shown.entry.state.commit));
                    last = Some((&candidate.shown, gone.collect()));
                }
                let goes = |(_, gone): &(_, BTreeSet<_>)| {
                    gone.contains(&(candidate.file, candidate.commit))
                };
                if !last.as_ref().is_some_and(goes) {
                    continue;
                }
            }
            still.push(candidate);
        }
        Ok(still)
    }
}

fn set_aside(store: &SetStore, since_micros: u64, some: &[&Candidate]) -> Outcome<Vec<Aside>> {
    let versions: Vec<_> =
        some.iter().map(|candidate| (candidate.file, candidate.commit)).collect();
    let now = arrival();
    on_writer(store, move |store| Ok(store.set_aside(now, since_micros, &versions)?))
        .map_err(|failure| failure.context("cannot remove versions"))
}
