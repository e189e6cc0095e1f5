//! Restores wait for a turn, for a while; who has which share of the turns is the gate's to say.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use keepshare_gate::TurnShares;
use keepshare_replication::drivers::Wanted;

/// Turns that are taken, waited for, and given back.
#[derive(Debug)]
pub(crate) struct Turns {
    turns: Mutex<keepshare_gate::Turns<String>>,
    given_back: Condvar,
}

/// A turn; given back on drop.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    user: Option<String>,
}

/// The most turns of one user.
const RUNNING_OF_A_USER_MAX: usize = 2;

/// The most turns that one user waits for.
const WAITING_OF_A_USER_MAX: usize = 6;

/// How often whoever waits looks whether the turn is still wanted.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Turns {
    /// Returns turns for `at_once` at a time, for which `waiting_max` users and as many others may wait. One turn is no
    /// user's.
    pub(crate) fn new(at_once: usize, waiting_max: usize) -> Self {
        let shares = TurnShares {
            turns: at_once,
            of_no_holder: 1,
            of_a_holder: RUNNING_OF_A_USER_MAX,
            of_kin: RUNNING_OF_A_USER_MAX,
            waiting: waiting_max,
            waiting_of_a_holder: WAITING_OF_A_USER_MAX,
        };
        let turns = Mutex::new(keepshare_gate::Turns::new(shares));
        Self { turns, given_back: Condvar::new() }
    }

    /// Takes a turn for a user, or for whoever runs the station, and waits for one for so long; none where too many wait
    /// already, no turn came, or it is not wanted any more. Blocks.
    pub(crate) fn take(
        &self,
        user: Option<&str>,
        patience: Duration,
        wanted: &Wanted,
    ) -> Option<Turn<'_>> {
        let until = Instant::now() + patience;
        let user = user.map(str::to_owned);
        let mut turns = self.lock();
        if !turns.take(user.as_ref()) {
            if !turns.wait(user.as_ref()) {
                return None;
            }
            let has_turn = loop {
                let left = until.saturating_duration_since(Instant::now());
                let waited = self.given_back.wait_timeout(turns, left.min(LOOK_EVERY));
                turns = waited.unwrap_or_else(PoisonError::into_inner).0;
                let has_turn = turns.take(user.as_ref());
                if has_turn || left.is_zero() || !wanted.is_wanted() {
                    break has_turn;
                }
            };
            turns.wait_no_more(user.as_ref());
            if !has_turn {
                return None;
            }
        }
        Some(Turn { turns: self, user })
    }

    fn lock(&self) -> MutexGuard<'_, keepshare_gate::Turns<String>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.lock().give_back(self.user.as_ref());
        // Whoever is woken may not be one who may go.
        self.turns.given_back.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Barrier, thread};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn take<'a>(turns: &'a Turns, user: &str, patience: Duration) -> Option<Turn<'a>> {
        turns.take(Some(user), patience, &Wanted::always())
    }

    fn take_own(turns: &Turns, patience: Duration) -> Option<Turn<'_>> {
        turns.take(None, patience, &Wanted::always())
    }

    /// Twenty restores that are typed at once are all done.
    #[test]
    fn who_waits_for_a_turn_gets_one() {
        let (turns, start) = (Turns::new(8, 16), Barrier::new(20));
        thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    start.wait();
                    assert!(take_own(&turns, LONG).is_some());
                });
            }
        });
        let all: Vec<_> = (0..9).map_while(|_| take_own(&turns, Duration::ZERO)).collect();
        assert_eq!(all.len(), 8, "all were given back, and no more than there are");
    }

    #[test]
    fn neither_running_nor_waiting_grows_beyond_its_bound() {
        let turns = Turns::new(2, 0);
        let held = [take_own(&turns, LONG), take_own(&turns, LONG)];
        assert!(held.iter().all(Option::is_some));
        assert!(take_own(&turns, LONG).is_none(), "nobody may wait");
        let turns = Turns::new(1, 1);
        let held = take_own(&turns, LONG);
        assert!(take_own(&turns, Duration::ZERO).is_none(), "no turn came");
        drop(held);
        assert!(take_own(&turns, Duration::ZERO).is_some());
    }

    /// However many restores one user asks for: the next user has a turn, and whoever runs the station has one.
    #[test]
    fn one_user_keeps_nobody_from_a_turn() {
        let turns = Turns::new(8, 16);
        let mallory: Vec<_> = (0..8).map(|_| take(&turns, "mallory", Duration::ZERO)).collect();
        assert_eq!(mallory.iter().flatten().count(), RUNNING_OF_A_USER_MAX);
        let anna = take(&turns, "anna", Duration::ZERO);
        assert!(anna.is_some());
        let users = ["a", "b", "c", "d", "e"];
        let others: Vec<_> = users
            .iter()
            .flat_map(|user| [0; 2].map(|_| take(&turns, user, Duration::ZERO)))
            .collect();
        assert_eq!(others.iter().flatten().count(), 4, "one of eight is no user's");
        assert!(take_own(&turns, Duration::ZERO).is_some());
        drop((mallory, anna, others));
        let again = [0; 2].map(|_| take(&turns, "mallory", Duration::ZERO));
        assert!(again.iter().all(Option::is_some), "what was given back is there again");
    }

    /// A user's places to wait are bounded, too, and whoever is gone does not wait on.
    #[test]
    fn nobody_waits_for_who_is_gone() {
        let turns = Turns::new(8, 16);
        let _held = [take(&turns, "mallory", LONG), take(&turns, "mallory", LONG)];
        assert!(turns.take(Some("mallory"), LONG, &Wanted::new(|| false)).is_none());
        let anna = "anna".to_owned();
        let _annas = [take(&turns, &anna, LONG), take(&turns, &anna, LONG)];
        for _ in 0..WAITING_OF_A_USER_MAX {
            assert!(turns.lock().wait(Some(&anna)));
        }
        assert!(take(&turns, &anna, LONG).is_none());
    }
}
