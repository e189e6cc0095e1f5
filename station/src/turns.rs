//! So many of something at a time: who comes later waits for a turn, for a while, and only so many wait.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Turns that are taken and given back.
#[derive(Debug)]
pub(crate) struct Turns {
    counts: Mutex<Counts>,
    given_back: Condvar,
    at_once: usize,
    waiting_max: usize,
}

#[derive(Debug, Default)]
struct Counts {
    running: usize,
    waiting: usize,
}

/// A turn; given back on drop.
#[derive(Debug)]
pub(crate) struct Turn<'a>(&'a Turns);

impl Turns {
    /// Returns turns for `at_once` at a time, for which `waiting_max` more may wait.
    pub(crate) fn new(at_once: usize, waiting_max: usize) -> Self {
        let (counts, given_back) = (Mutex::default(), Condvar::new());
        Self { counts, given_back, at_once, waiting_max }
    }

    /// Takes a turn, and waits for one for so long; none where too many wait already or no turn came. Blocks.
    pub(crate) fn take(&self, patience: Duration) -> Option<Turn<'_>> {
        let mut counts = self.lock();
        if counts.running >= self.at_once {
            if counts.waiting >= self.waiting_max {
                return None;
            }
            counts.waiting += 1;
            let is_full = |counts: &mut Counts| counts.running >= self.at_once;
            let waited = self.given_back.wait_timeout_while(counts, patience, is_full);
            counts = waited.unwrap_or_else(PoisonError::into_inner).0;
            counts.waiting -= 1;
            if counts.running >= self.at_once {
                return None;
            }
        }
        counts.running += 1;
        Some(Turn(self))
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
        self.0.given_back.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Barrier, thread};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// Twenty restores that are typed at once are all done.
    #[test]
    fn who_waits_for_a_turn_gets_one() {
        let (turns, start) = (Turns::new(8, 16), Barrier::new(20));
        thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    start.wait();
                    assert!(turns.take(LONG).is_some());
                });
            }
        });
        let counts = turns.lock();
        assert_eq!((counts.running, counts.waiting), (0, 0));
    }

    #[test]
    fn neither_running_nor_waiting_grows_beyond_its_bound() {
        let turns = Turns::new(2, 0);
        let held = [turns.take(LONG), turns.take(LONG)];
        assert!(held.iter().all(Option::is_some));
        assert!(turns.take(LONG).is_none(), "nobody may wait");
        let turns = Turns::new(1, 1);
        let held = turns.take(LONG);
        assert!(turns.take(Duration::ZERO).is_none(), "no turn came");
        drop(held);
        assert!(turns.take(Duration::ZERO).is_some());
    }
}
