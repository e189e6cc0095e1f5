//! How many files changed within the time of a rule, and how many of them no longer read as what they were. Pure.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
};

use keepshare_base::{CommitId, FileId, Name};

use super::Rule;

/// The most names that are told apart, about 60 bytes each in memory: by then it is a burst, or nothing like it.
const NAMES_MAX: usize = 65_536;

/// The most looks that are remembered; those beyond are counted with the one after them.
const LOOKS_MAX: usize = 4096;

/// The most names that are remembered to be shown.
const SHOWN_MAX: usize = 100;

/// What changed within the time of a rule.
#[derive(Debug, Default)]
pub(super) struct Tally {
    hasher: RandomState,
    /// By hash of their name: when they were seen last, and whether they are spoiled.
    names: HashMap<u64, (u64, bool)>,
    /// The same in order of time.
    order: BTreeSet<(u64, u64)>,
    looks: VecDeque<Look>,
    spoiled: u64,
    shown: Vec<(FileId, Name)>,
}

/// One look.
#[derive(Clone, Copy, Debug)]
struct Look {
    /// The running time, in microseconds.
    at: u64,
    /// The newest commit before what it saw.
    before: CommitId,
    /// The newest commit before anything that it saw spoiled.
    good: CommitId,
    /// It saw something that is spoiled.
    is_bad: bool,
}

/// One name that held a file when the time of the rule began, and holds something else now.
#[derive(Clone, Debug)]
pub(super) struct Changed {
    pub(super) parent: FileId,
    pub(super) name: Name,
    /// It no longer reads as what it was, from this commit on or a later one; `None`: it does.
    pub(super) spoiled: Option<CommitId>,
}

impl Tally {
    /// Forgets what is longer ago than the rule counts.
    pub(super) fn forget(&mut self, rule: &Rule, now: u64) {
        let is_over = |at: u64| at.saturating_add(rule.within.micros()) < now;
        while let Some((at, name)) = self.order.first().copied().filter(|(at, _)| is_over(*at)) {
            self.order.remove(&(at, name));
            let gone = self.names.remove(&name);
            self.spoiled -= u64::from(gone.is_some_and(|(_, spoiled)| spoiled));
        }
        while self.looks.front().is_some_and(|look| is_over(look.at)) {
            self.looks.pop_front();
        }
        if self.spoiled == 0 {
            self.shown.clear();
        }
    }

    /// Tells whether nothing changed within the time.
    pub(super) fn is_quiet(&self) -> bool {
        self.names.is_empty()
    }

    /// Returns the newest commit before all that was looked at within the time; `None` where nothing was.
    pub(super) fn base(&self) -> Option<CommitId> {
        self.looks.front().map(|look| look.before)
    }

    /// Counts what a look saw.
    pub(super) fn count(&mut self, now: u64, before: CommitId, changed: Vec<Changed>) {
        let first_bad = changed.iter().filter_map(|changed| changed.spoiled).min();
        let is_bad = first_bad.is_some();
        // Work of the same seconds is good.
        let good = first_bad.map_or(before, |bad| before.max(CommitId(bad.0.saturating_sub(1))));
        let is_full = self.looks.len() >= LOOKS_MAX;
        match self.looks.back_mut() {
            Some(last) if is_full => {
                last.at = now;
                if !last.is_bad {
                    (last.is_bad, last.good) = (is_bad, good);
                }
            }
            _ => self.looks.push_back(Look { at: now, before, good, is_bad }),
        }
        for Changed { parent, name, spoiled } in changed {
            let hash = self.hasher.hash_one((parent, &name));
            let known = self.names.get(&hash).copied();
            if known.is_none() && self.names.len() >= NAMES_MAX {
                continue;
            }
            let was = known.is_some_and(|(_, spoiled)| spoiled);
            let spoiled = spoiled.is_some();
            if spoiled && !was {
                self.spoiled += 1;
                if self.shown.len() < SHOWN_MAX {
                    self.shown.push((parent, name));
                }
            }
            if let Some((at, _)) = known {
                self.order.remove(&(at, hash));
            }
            self.order.insert((now, hash));
            self.names.insert(hash, (now, was || spoiled));
        }
    }

    /// Returns how many changed and how many of them are spoiled, where that is too much in a set of so many files.
    pub(super) fn is_burst(&self, rule: &Rule, files: u64) -> Option<(u64, u64)> {
        let changed = self.names.len() as u64;
        let is_one = changed > rule.files_of(files) && self.spoiled * 100 >= changed * rule.spoiled;
        is_one.then_some((changed, self.spoiled))
    }

    /// Returns the newest commit before anything that is spoiled.
    pub(super) fn good(&self) -> Option<CommitId> {
        self.looks.iter().find(|look| look.is_bad).map(|look| look.good)
    }

    /// Returns names that are spoiled.
    pub(super) fn shown(&self) -> &[(FileId, Name)] {
        &self.shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000_000;

    fn changed(from: u64, count: u64, spoiled: bool) -> Vec<Changed> {
        let name = |n: u64| Name::new(n.to_string().as_bytes()).unwrap();
        (from..from + count)
            .map(|n| Changed {
                parent: FileId::ROOT,
                name: name(n),
                spoiled: spoiled.then_some(CommitId(0)),
            })
            .collect()
    }

    #[test]
    fn what_is_too_much_within_the_time_is_a_burst() {
        let (rule, mut tally) = (Rule::default(), Tally::default());
        tally.count(MINUTE, CommitId(5), changed(10_000, 50, false));
        tally.count(2 * MINUTE, CommitId(7), changed(0, 400, true));
        assert_eq!(tally.is_burst(&rule, 1_000_000), None);
        // Those that were there count once.
        tally.count(3 * MINUTE, CommitId(9), changed(0, 400, false));
        assert_eq!(tally.is_burst(&rule, 1_000_000), None);
        assert_eq!(tally.is_burst(&rule, 2_000), Some((450, 400)));
        tally.count(4 * MINUTE, CommitId(11), changed(400, 200, true));
        assert_eq!(tally.is_burst(&rule, 1_000_000), Some((650, 600)));
        assert_eq!(tally.good(), Some(CommitId(7)));
        assert_eq!(tally.shown().len(), SHOWN_MAX);
        tally.forget(&rule, 12 * MINUTE + 1);
        assert_eq!(tally.base(), Some(CommitId(9)));
        // Those of the second minute were seen again in the third.
        assert_eq!(tally.is_burst(&rule, 2_000), Some((600, 600)));
        tally.forget(&rule, 14 * MINUTE + 1);
        assert_eq!((tally.base(), tally.good(), tally.names.len()), (None, None, 0));
        assert!(tally.shown().is_empty() && tally.order.is_empty());
    }

    #[test]
    fn what_reads_as_before_is_none() {
        let (rule, mut tally) = (Rule::default(), Tally::default());
        tally.count(MINUTE, CommitId(1), changed(0, 5_000, false));
        tally.count(MINUTE, CommitId(1), changed(9_000, 1_000, true));
        assert_eq!(tally.is_burst(&rule, 10_000), None);
        assert!(tally.is_burst(&rule.with(["spoiled=10"]).unwrap(), 10_000).is_some());
    }

    #[test]
    fn memory_is_bounded() {
        let (rule, mut tally) = (Rule::default(), Tally::default());
        for look in 0..2 * LOOKS_MAX as u64 {
            tally.count(look, CommitId(look), changed(look * 100, 100, true));
        }
        assert_eq!((tally.names.len(), tally.looks.len()), (NAMES_MAX, LOOKS_MAX));
        assert_eq!(tally.order.len(), NAMES_MAX);
        assert_eq!(tally.is_burst(&rule, 1 << 40).map(|(_, spoiled)| spoiled), Some(65_536));
    }
}
