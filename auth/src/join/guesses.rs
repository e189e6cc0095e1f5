//! How often an address may show a wrong token.
//!
//! Nobody guesses 256 bits; this keeps those who try from the disk and the log. Told the time.

use std::{collections::HashMap, net::IpAddr};

use keepshare_base::Stamp;
use keepshare_gate::{Source, source};

/// Wrong tokens that an address may show in a row.
const IN_A_ROW: i64 = 5;

/// How long until an address may show one more, in microseconds.
const EACH_US: i64 = 12_000_000;

/// The most addresses remembered; when there are more, the one that is nearest to being forgotten goes.
const ADDRESSES_MAX: usize = 1024;

/// Counts wrong tokens for each address (each /64 for IPv6, which is one sender's to choose from).
#[derive(Debug, Default)]
pub(super) struct Guesses {
    /// When the address will have made up for all its wrong tokens.
    forgiven_at: HashMap<Source, Stamp>,
}

impl Guesses {
    /// Tells whether the address may show a token.
    pub(super) fn may_try(&mut self, now: Stamp, from: IpAddr) -> bool {
        self.forget(now);
        let forgiven_at = self.forgiven_at.get(&source(from)).copied().unwrap_or(now);
        forgiven_at.micros_since(now) <= EACH_US * (IN_A_ROW - 1)
    }

    /// Notes a wrong token.
    pub(super) fn failed(&mut self, now: Stamp, from: IpAddr) {
        self.forget(now);
        let source = source(from);
        if self.forgiven_at.len() >= ADDRESSES_MAX && !self.forgiven_at.contains_key(&source) {
            let nearest = self.forgiven_at.iter().min_by_key(|(_, at)| **at);
            if let Some(nearest) = nearest.map(|(source, _)| *source) {
                self.forgiven_at.remove(&nearest);
            }
        }
        let at = self.forgiven_at.entry(source).or_insert(now);
        *at = at.plus_micros(EACH_US);
    }

    fn forget(&mut self, now: Stamp) {
        // A clock that was set back must not lock anyone out for as long.
        let latest = now.plus_micros(EACH_US * IN_A_ROW);
        self.forgiven_at.retain(|_, at| *at > now && *at <= latest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    #[test]
    fn whoever_guesses_has_to_wait_and_others_do_not() {
        let mut guesses = Guesses::default();
        let mut now = Stamp(1_000_000_000);
        for _ in 0..IN_A_ROW {
            assert!(guesses.may_try(now, address(1)));
            guesses.failed(now, address(1));
        }
        assert!(!guesses.may_try(now, address(1)));
        assert!(guesses.may_try(now, address(2)));
        now = now.plus_micros(EACH_US);
        assert!(guesses.may_try(now, address(1)));
        guesses.failed(now, address(1));
        assert!(!guesses.may_try(now, address(1)));
        let before = now.plus_micros(-3_600_000_000);
        assert!(guesses.may_try(before, address(1)), "a clock set back locks nobody out");
    }

    #[test]
    fn a_crowd_of_guessers_takes_no_more_than_its_room() {
        let mut guesses = Guesses::default();
        for n in 0..10_000 {
            guesses.failed(Stamp(1), address(n));
        }
        assert_eq!(guesses.forgiven_at.len(), ADDRESSES_MAX);
    }
}
