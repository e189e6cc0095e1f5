//! How long to wait before trying again.

use std::time::Duration;

/// The wait after the first failure.
const FIRST: Duration = Duration::from_millis(250);

/// The longest wait.
const LONGEST: Duration = Duration::from_secs(30);

/// Doubles the wait with each failure, up to half a minute, each made shorter by chance.
///
/// The chance comes from a seed, so that stations which lost one master do not all come back at once, and a test can
/// have the same waits again.
#[derive(Clone, Debug)]
pub struct Backoff {
    failures: u32,
    random: u64,
}

impl Backoff {
    /// Returns one that has seen no failure.
    pub fn new(seed: u64) -> Self {
        Self { failures: 0, random: seed }
    }

    /// Counts a failure and returns how long to wait now: half to all of the doubled wait.
    pub fn failed(&mut self) -> Duration {
        let doubled = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        self.shortened(doubled)
    }

    /// Returns the longest wait, for what will not mend itself.
    pub fn long(&mut self) -> Duration {
        self.shortened(LONGEST)
    }

    /// Forgets the failures: something worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    fn shortened(&mut self, wait: Duration) -> Duration {
        let half = wait / 2;
        let micros = u64::try_from(half.as_micros()).unwrap_or(u64::MAX);
        half + Duration::from_micros(self.random() % micros.max(1))
    }

    /// The next number of SplitMix64.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit_and_begin_anew_after_success() {
        let mut backoff = Backoff::new(7);
        let waits: Vec<_> = (0..100).map(|_| backoff.failed()).collect();
        assert!(waits[0] >= FIRST / 2 && waits[0] <= FIRST);
        assert!(waits.iter().all(|wait| *wait <= LONGEST));
        assert!(waits[8..].iter().all(|wait| *wait >= LONGEST / 2));
        backoff.reset();
        assert!(backoff.failed() <= FIRST);
    }

    /// Stations that lost one master must not all knock at the same moment.
    #[test]
    fn two_seeds_wait_differently() {
        assert_ne!(Backoff::new(1).failed(), Backoff::new(2).failed());
        assert_eq!(Backoff::new(1).failed(), Backoff::new(1).failed());
    }
}
