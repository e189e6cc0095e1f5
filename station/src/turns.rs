//! So many of something at a time: who comes later waits for a turn, for a while, and only so many wait.
//!
//! A user has a share of the turns and of the places to wait, so that nobody keeps the others from theirs; one turn is no
//! user's, so that whoever runs the station always finds one.

use std::{
    collections::HashMap,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use keepshare_replication::drivers::Wanted;

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
    /// Of whoever runs the station.
    own: Count,
    /// Of all users.
    users: Count,
    /// Of each user who has any.
    of: HashMap<String, Count>,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Count {
    running: usize,
    waiting: usize,
}

/// A turn; given back on drop.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    user: Option<&'a str>,
}

/// The most turns of one user.
const RUNNING_OF_A_USER_MAX: usize = 2;

/// The most turns that one user waits for.
const WAITING_OF_A_USER_MAX: usize = 6;

/// How often whoever waits looks whether the turn is still wanted.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Turns {
    /// Returns turns for `at_once` at a time, for which `waiting_max` users and as many others may wait.
    pub(crate) fn new(at_once: usize, waiting_max: usize) -> Self {
        let (counts, given_back) = (Mutex::default(), Condvar::new());
        Self { counts, given_back, at_once, waiting_max }
    }

    /// Takes a turn for a user, or for whoever runs the station, and waits for one for so long; none where too many wait
    /// already, no turn came, or it is not wanted any more. Blocks.
    pub(crate) fn take<'a>(
        &'a self,
        user: Option<&'a str>,
        patience: Duration,
        wanted: &Wanted,
    ) -> Option<Turn<'a>> {
        let until = Instant::now() + patience;
        let mut counts = self.lock();
        if !counts.have_turn(user, self.at_once) {
            if !counts.have_place(user, self.waiting_max) {
                return None;
            }
            counts.count(user, |count| count.waiting += 1);
            loop {
                let left = until.saturating_duration_since(Instant::now());
                let waited = self.given_back.wait_timeout(counts, left.min(LOOK_EVERY));
                counts = waited.unwrap_or_else(PoisonError::into_inner).0;
                if counts.have_turn(user, self.at_once) || left.is_zero() || !wanted.is_wanted() {
                    break;
                }
            }
            counts.count(user, |count| count.waiting -= 1);
            if !counts.have_turn(user, self.at_once) {
                return None;
            }
        }
        counts.count(user, |count| count.running += 1);
        Some(Turn { turns: self, user })
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    /// Tells whether there is a turn now.
    fn have_turn(&self, user: Option<&str>, at_once: usize) -> bool {
        let (own, users) = (self.own.running, self.users.running);
        own + users < at_once
            && user.is_none_or(|user| {
                // One turn is no user's.
                users + 1 < at_once && self.of(user).running < RUNNING_OF_A_USER_MAX
            })
    }

    /// Tells whether there is a place to wait.
    fn have_place(&self, user: Option<&str>, waiting_max: usize) -> bool {
        match user {
            None => self.own.waiting < waiting_max,
            Some(user) => {
                self.users.waiting < waiting_max && self.of(user).waiting < WAITING_OF_A_USER_MAX
            }
        }
    }

    fn of(&self, user: &str) -> Count {
        self.of.get(user).copied().unwrap_or_default()
    }

    fn count(&mut self, user: Option<&str>, change: impl Fn(&mut Count)) {
        let Some(user) = user else { return change(&mut self.own) };
        change(&mut self.users);
        let of_user = self.of.entry(user.to_owned()).or_default();
        change(of_user);
        if *of_user == Count::default() {
            self.of.remove(user);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.lock().count(self.user, |count| count.running -= 1);
        // Whoever is woken may not be one who may go.
        self.turns.given_back.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Barrier, thread};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn take<'a>(turns: &'a Turns, user: &'a str, patience: Duration) -> Option<Turn<'a>> {
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
        assert_eq!(turns.lock().own, Count::default());
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
        let counts = turns.lock();
        assert!(counts.of.is_empty() && counts.users == Count::default(), "{counts:?}");
    }

    /// A user's places to wait are bounded, too, and whoever is gone does not wait on.
    #[test]
    fn nobody_waits_for_who_is_gone() {
        let turns = Turns::new(8, 16);
        let _held = [take(&turns, "mallory", LONG), take(&turns, "mallory", LONG)];
        assert!(turns.take(Some("mallory"), LONG, &Wanted::new(|| false)).is_none());
        let waiting = Count { running: 0, waiting: WAITING_OF_A_USER_MAX };
        turns.lock().of.insert("anna".to_owned(), Count { running: 2, ..waiting });
        assert!(take(&turns, "anna", LONG).is_none());
    }
}
