//! How often something may be guessed: a few failed tries are free; then each further one has to wait, longer and longer, up
//! to a bound.
//!
//! A clock that is set back locks nobody out.

use std::{collections::HashMap, hash::Hash};

use keepshare_base::Stamp;

/// How long failed tries make the next one wait.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// How many cost no waiting.
    pub free: u32,
    /// The first waiting time, in microseconds.
    pub first_us: i64,
    /// After how many more the waiting is twice as long.
    pub double_each: u32,
    /// The longest waiting, in microseconds.
    pub longest_us: i64,
    /// The most guessers remembered; the one that failed longest ago makes room.
    pub remembered: usize,
}

/// Counts failed tries of each `K`: an address, a name, both.
#[derive(Debug)]
pub struct Guesses<K> {
    rule: Rule,
    failures: HashMap<K, Failures>,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: Stamp,
    next: Stamp,
}

/// After how long without a failed try all are forgotten, in microseconds.
const FORGET_US: i64 = 15 * 60_000_000;

/// How much earlier than the last failed try another may say that it is, in microseconds: many try together, and whoever
/// looked at the clock first need not be counted first. What is earlier still comes from a clock that was set back.
const TOGETHER_US: i64 = 5_000_000;

impl<K: Copy + Eq + Hash> Guesses<K> {
    /// Returns a count of nothing.
    pub fn new(rule: Rule) -> Self {
        Self { rule, failures: HashMap::new() }
    }

    /// Returns how long the next try has to wait, in microseconds.
    pub fn wait_us(&self, now: Stamp, who: &K) -> i64 {
        let Some(failures) = self.failures.get(who) else { return 0 };
        let pause = self.rule.pause(failures.count);
        let wait = failures.next.micros_since(now).min(pause);
        // Earlier than those: the clock was set back, which must not lock anyone out.
        if failures.is_remembered(now) { wait.max(0) } else { 0 }
    }

    /// Counts a failed try.
    pub fn failed(&mut self, now: Stamp, who: K) {
        if self.failures.len() >= self.rule.remembered && !self.failures.contains_key(&who) {
            self.make_room(now);
        }
        let new = Failures { count: 0, last: now, next: now };
        let failures = self.failures.entry(who).or_insert(new);
        if !failures.is_remembered(now) {
            failures.count = 0;
        }
        failures.count = failures.count.saturating_add(1);
        failures.last = if failures.count == 1 { now } else { failures.last.max(now) };
        failures.next = failures.last.plus_micros(self.rule.pause(failures.count));
    }

    /// Takes a failed try back.
    pub fn undo(&mut self, who: &K) {
        if let Some(failures) = self.failures.get_mut(who) {
            failures.count = failures.count.saturating_sub(1);
            failures.next = failures.last.plus_micros(self.rule.pause(failures.count));
            if failures.count == 0 {
                self.failures.remove(who);
            }
        }
    }

    /// Forgets all failed tries of one.
    pub fn forget(&mut self, who: &K) {
        self.failures.remove(who);
    }

    /// Returns how many tries of one failed lately.
    pub fn count(&self, who: &K) -> u32 {
        self.failures.get(who).map_or(0, |failures| failures.count)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.failures.len()
    }

    fn make_room(&mut self, now: Stamp) {
        self.failures.retain(|_, failures| failures.is_remembered(now));
        if self.failures.len() >= self.rule.remembered {
            let oldest = self.failures.iter().min_by_key(|(_, failures)| failures.last);
            if let Some(oldest) = oldest.map(|(who, _)| *who) {
                self.failures.remove(&oldest);
            }
        }
    }
}

impl Failures {
    fn is_remembered(&self, now: Stamp) -> bool {
        (-TOGETHER_US..FORGET_US).contains(&now.micros_since(self.last))
    }
}

impl Rule {
    /// Returns how long to wait after so many failures, in microseconds.
    fn pause(self, count: u32) -> i64 {
        match count.checked_sub(self.free) {
            None => 0,
            Some(beyond) => {
                (self.first_us << (beyond / self.double_each).min(16)).min(self.longest_us)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A few are free, then one each so often.
    const STEADY: Rule = Rule {
        free: 5,
        first_us: 12_000_000,
        double_each: 1,
        longest_us: 12_000_000,
        remembered: 1024,
    };

    #[test]
    fn whoever_guesses_has_to_wait_and_others_do_not() {
        let mut guesses = Guesses::new(STEADY);
        let mut now = Stamp(1_000_000_000);
        let may_try = |guesses: &Guesses<u32>, now, who| guesses.wait_us(now, &who) == 0;
        for _ in 0..STEADY.free {
            assert!(may_try(&guesses, now, 1));
            guesses.failed(now, 1);
        }
        assert!(!may_try(&guesses, now, 1));
        assert!(may_try(&guesses, now, 2));
        now = now.plus_micros(STEADY.first_us);
        assert!(may_try(&guesses, now, 1));
        guesses.failed(now, 1);
        assert!(!may_try(&guesses, now, 1));
        let before = now.plus_micros(-3_600_000_000);
        assert!(may_try(&guesses, before, 1), "a clock set back locks nobody out");
    }

    /// Who is counted first need not have looked at the clock first.
    #[test]
    fn tries_at_the_same_time_neither_wait_nor_are_forgotten() {
        let mut guesses = Guesses::new(STEADY);
        for n in 0..i64::from(STEADY.free) {
            let now = Stamp(1_000_000_000 - n);
            assert_eq!(guesses.wait_us(now, &1), 0, "those that are free wait for nothing");
            guesses.failed(now, 1);
        }
        assert_eq!(guesses.count(&1), STEADY.free);
        let wait = guesses.wait_us(Stamp(1_000_000_000 - 99), &1);
        assert_eq!(wait, STEADY.first_us, "the longest there is, and no way around it");
    }

    #[test]
    fn a_crowd_of_guessers_takes_no_more_than_its_room() {
        let mut guesses = Guesses::new(STEADY);
        for n in 0..10_000 {
            guesses.failed(Stamp(1), n);
        }
        assert_eq!(guesses.len(), STEADY.remembered);
    }
}
