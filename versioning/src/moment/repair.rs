//! Which arrivals a station's clock got wrong, and what to put in their place.
//!
//! Commits arrive one after another, so right arrivals never go back, and none is still to come. The arrivals that agree
//! most with each other on that are believed; the others become what the master's stamps say, between those before and
//! after them. Moments that wrong arrivals pushed aside follow.

use std::collections::HashMap;

use keepshare_base::{CommitId, OriginId, Stamp};

use super::{STEADY_MICROS_MAX, Verdict, moment};

/// A pause longer than this ends a run of arrivals that are right or wrong together, in microseconds.
const RUN_PAUSE_MICROS: i64 = 3_600_000_000;

/// The most runs that are kept apart; what comes after them is one with the last.
const RUNS_MAX: usize = 1 << 18;

/// What a commit has of clocks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Times {
    pub(crate) origin: OriginId,
    pub(crate) stamp: Stamp,
    pub(crate) arrival: Stamp,
    pub(crate) moment: Stamp,
}

/// Commits, one after another, whose arrivals follow each other closely.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Run {
    first: Stamp,
    last: Stamp,
    commits: u64,
    /// How many there were: those whose rows went with what came with them count too, or the many would be the few.
    weight: u64,
    is_right: bool,
    /// Where it is wrong: when the next run that is right begins, else the present.
    ceiling: Stamp,
}

/// The first walk through all commits, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    runs: Vec<Run>,
    last: CommitId,
}

impl Survey {
    /// Takes the next commit in.
    pub(crate) fn add(&mut self, at: CommitId, arrival: Stamp) {
        let weight = at.0.saturating_sub(self.last.0);
        self.last = at;
        let full = self.runs.len() >= RUNS_MAX;
        match self.runs.last_mut() {
            Some(run) if full || follows(run.last, arrival) => {
                run.last = arrival;
                run.commits += 1;
                run.weight += weight;
            }
            _ => self.runs.push(Run {
                first: arrival,
                last: arrival,
                commits: 1,
                weight,
                is_right: false,
                ceiling: arrival,
            }),
        }
    }

    /// Decides which arrivals are right, as of `now`, and returns the second walk.
    pub(crate) fn decide(mut self, now: Stamp) -> Repair {
        let latest = now.plus_micros(STEADY_MICROS_MAX);
        for run in heaviest(&self.runs, latest) {
            self.runs[run].is_right = true;
        }
        let mut ceiling = now;
        for run in self.runs.iter_mut().rev() {
            run.ceiling = ceiling;
            if run.is_right {
                ceiling = run.first;
            }
        }
        Repair { runs: self.runs, run: 0, of_run: 0, last: None, moments: HashMap::new() }
    }
}

fn follows(before: Stamp, arrival: Stamp) -> bool {
    (0..=RUN_PAUSE_MICROS).contains(&arrival.micros_since(before))
}

/// Returns the runs of the most commits that follow each other and are not after `latest`.
fn heaviest(runs: &[Run], latest: Stamp) -> Vec<usize> {
    // The best chain that ends with each run, found among those that end early enough: a tree of the best by its end.
    let mut ends: Vec<Stamp> = runs.iter().map(|run| run.last).collect();
    ends.sort_unstable();
    ends.dedup();
    let mut best: Vec<(u64, Option<usize>)> = vec![(0, None); ends.len() + 1];
    let mut before = vec![None; runs.len()];
    for (i, run) in runs.iter().enumerate().filter(|(_, run)| run.last <= latest) {
        // Clocks are set by seconds, and back too.
        let from = run.first.plus_micros(STEADY_MICROS_MAX);
        let (mut at, mut found) = (ends.partition_point(|end| *end <= from), (0, None));
        while at > 0 {
            found = found.max(best[at]);
            at &= at - 1;
        }
        before[i] = found.1;
        let chain = (found.0 + run.weight, Some(i));
        let mut at = ends.partition_point(|end| *end <= run.last);
        while at < best.len() {
            best[at] = best[at].max(chain);
            at += at & at.wrapping_neg();
        }
    }
    let mut chain = Vec::new();
    let mut next = best.iter().max().and_then(|(_, run)| *run);
    while let Some(run) = next {
        chain.push(run);
        next = before[run];
    }
    chain
}

/// The second walk, through the same commits in the same order.
#[derive(Debug)]
pub(crate) struct Repair {
    runs: Vec<Run>,
    run: usize,
    of_run: u64,
    last: Option<Stamp>,
    moments: HashMap<OriginId, Stamp>,
}

impl Repair {
    /// Returns the arrival and the moment that the next commit should have.
    pub(crate) fn next(&mut self, times: &Times) -> (Stamp, Stamp) {
        let wrong_below = self.step();
        let before = self.moments.get(&times.origin).copied();
        let arrival = wrong_below.map_or(times.arrival, |ceiling| {
            let stamp = times.stamp.min(ceiling);
            self.last.map_or(stamp, |last| stamp.max(last.min(ceiling)))
        });
        let is_moment_right = wrong_below.is_none() && times.moment <= times.arrival;
        let made = if is_moment_right { times.moment } else { times.stamp };
        let made = moment(made, arrival, Verdict::Agree, before);
        self.last = Some(arrival);
        self.moments.insert(times.origin, made);
        (arrival, made)
    }

    /// Goes to the next commit, and returns what its arrival cannot have been after, where it is wrong.
    fn step(&mut self) -> Option<Stamp> {
        while let Some(run) = self.runs.get(self.run) {
            if self.of_run < run.commits {
                self.of_run += 1;
                return (!run.is_right).then_some(run.ceiling);
            }
            (self.run, self.of_run) = (self.run + 1, 0);
        }
        // What came after the first walk is as it was told.
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;
    const DAY: i64 = 86_400 * SECOND;

    /// Repairs commits of these seconds: stamp, arrival, moment.
    fn repaired(commits: &[(i64, i64, i64)], now: i64) -> Vec<(i64, i64)> {
        let at = |seconds: i64| Stamp(seconds * SECOND);
        let mut survey = Survey::default();
        for (number, (_, arrival, _)) in (1..).zip(commits) {
            survey.add(CommitId(number), at(*arrival));
        }
        let mut repair = survey.decide(at(now));
        let times = commits.iter().map(|(stamp, arrival, moment)| Times {
            origin: OriginId(1),
            stamp: at(*stamp),
            arrival: at(*arrival),
            moment: at(*moment),
        });
        let told = times.map(|times| repair.next(&times));
        told.map(|(arrival, moment)| (arrival.0 / SECOND, moment.0 / SECOND)).collect()
    }

    #[test]
    fn what_is_right_stays() {
        let commits = [(1, 2, 1), (5, 9, 5), (100_000, 100_001, 100_000), (3, 100_000, 100_000)];
        let expected: Vec<_> = commits.iter().map(|(_, a, m)| (*a, *m)).collect();
        assert_eq!(repaired(&commits, 200_000), expected);
    }

    /// The station in 2099 for one change, and all later moments pushed there with it.
    #[test]
    fn one_arrival_to_come_is_between_its_neighbours() {
        let far = 73 * 365 * DAY / SECOND;
        let commits = [(10, 11, 10), (20, far, far), (30, 31, far), (40, 41, far)];
        assert_eq!(repaired(&commits, 50), [(11, 10), (20, 20), (31, 30), (41, 40)]);
    }

    /// As an older release left it: everything after the wrong one was forced behind it.
    #[test]
    fn what_was_forced_behind_a_wrong_arrival_comes_back() {
        let far = 73 * 365 * DAY / SECOND;
        let commits = [(10, 11, 10), (20, far, 20), (30, far, 30), (500_000, far, 500_000)];
        let expected = [(11, 10), (20, 20), (30, 30), (500_000, 500_000)];
        assert_eq!(repaired(&commits, 600_000), expected);
        // A stamp that is to come, too, says nothing.
        assert_eq!(repaired(&[(10, 11, 10), (far, far, far)], 50), [(11, 10), (50, 50)]);
    }

    /// One arrival in 1970 makes none of the many before it wrong.
    #[test]
    fn the_few_are_wrong_and_not_the_many() {
        let day = DAY / SECOND;
        let commits = [
            (day, day, day),
            (2 * day, 2 * day, 2 * day),
            (2 * day + 9, 5, 2 * day),
            (3 * day, 3 * day, 3 * day),
        ];
        let expected =
            [(day, day), (2 * day, 2 * day), (2 * day + 9, 2 * day + 9), (3 * day, 3 * day)];
        assert_eq!(repaired(&commits, 4 * day), expected);
    }

    /// Retention let most of the old commits go: they were many all the same.
    #[test]
    fn the_many_are_many_though_few_rows_are_left_of_them() {
        let mut survey = Survey::default();
        let (old, wrong) = (Stamp(DAY * 10_000), Stamp(DAY));
        survey.add(CommitId(1), old);
        survey.add(CommitId(20_000), old.plus_micros(SECOND));
        for number in 20_001..20_400 {
            survey.add(CommitId(number), wrong.plus_micros(i64::try_from(number).unwrap()));
        }
        let now = old.plus_micros(DAY);
        let mut repair = survey.decide(now);
        let times = Times { origin: OriginId(1), stamp: old, arrival: old, moment: old };
        assert_eq!(repair.next(&times).0, old);
    }

    #[test]
    fn nothing_is_repaired_to_nothing() {
        assert_eq!(repaired(&[], 4), []);
    }
}
