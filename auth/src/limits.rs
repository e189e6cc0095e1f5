//! How often passwords may be tried, for each user and each address.
//!
//! A few tries are free; then each further one has to wait, twice as long every time, up to a minute. Nobody is locked
//! out for good. A try counts as failed from its beginning, so that many at the same time are no way around it. Users
//! who do not exist are counted like those who do. Told the time.

use std::{collections::HashMap, hash::Hash, net::IpAddr};

use keepshare_base::Stamp;

use crate::source::{Source, source};

/// Failed tries of one user that cost no waiting.
const USER_FREE: u32 = 5;

/// Failed tries from one address that cost no waiting: more than of a user, because many may share an address.
const ADDRESS_FREE: u32 = 20;

/// The first waiting time, and the longest, in microseconds.
const WAIT_US: (i64, i64) = (1_000_000, 60_000_000);

/// After how long without a failed try all are forgotten, in microseconds.
const FORGET_US: i64 = 15 * 60_000_000;

/// The most users, and the most addresses, remembered; the one that failed longest ago makes room.
const REMEMBERED_MAX: usize = 4096;

/// Counts failed tries.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    users: HashMap<[u8; 32], Failures>,
    addresses: HashMap<Source, Failures>,
}

/// A try that must wait.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TooSoon {
    /// How long, in whole seconds.
    pub(crate) retry_after_s: u32,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: Stamp,
    next: Stamp,
}

impl Limits {
    /// Begins a try, which counts as failed until it is known to be otherwise. With `is_known` the user is at home at
    /// this address, and only the address counts: strangers elsewhere must not keep a user out.
    pub(crate) fn begin(
        &mut self,
        now: Stamp,
        user: &str,
        from: IpAddr,
        is_known: bool,
    ) -> Result<(), TooSoon> {
        let (user, from) = (key(user), source(from));
        let of_address = waits(&self.addresses, &from, now);
        let of_user = if is_known { 0 } else { waits(&self.users, &user, now) };
        match of_address.max(of_user) {
            0 => {}
            wait_us => {
                let seconds = u32::try_from((wait_us + 999_999) / 1_000_000).unwrap_or(u32::MAX);
                return Err(TooSoon { retry_after_s: seconds });
            }
        }
        if !is_known {
            count(&mut self.users, user, now, USER_FREE);
        }
        count(&mut self.addresses, from, now, ADDRESS_FREE);
        Ok(())
    }

    /// Ends a try with the right password.
    pub(crate) fn succeeded(&mut self, user: &str, from: IpAddr) {
        self.users.remove(&key(user));
        // The address keeps its other failures: one account must not pay for guesses at others.
        undo(&mut self.addresses, &source(from), ADDRESS_FREE);
    }

    /// Ends a try that never was one, because nobody looked at the password.
    pub(crate) fn withdrawn(&mut self, user: &str, from: IpAddr, is_known: bool) {
        if !is_known {
            undo(&mut self.users, &key(user), USER_FREE);
        }
        undo(&mut self.addresses, &source(from), ADDRESS_FREE);
    }
}

/// Names are hashed, so that a long one takes no more room.
fn key(user: &str) -> [u8; 32] {
    *blake3::hash(user.as_bytes()).as_bytes()
}

/// Returns how long to wait, in microseconds.
fn waits<K: Eq + Hash>(all: &HashMap<K, Failures>, key: &K, now: Stamp) -> i64 {
    let Some(failures) = all.get(key) else { return 0 };
    let wait = failures.next.micros_since(now);
    // More than there is: the clock was set back, which must not lock anyone out.
    if (1..=WAIT_US.1).contains(&wait) { wait } else { 0 }
}

fn count<K: Copy + Eq + Hash>(all: &mut HashMap<K, Failures>, key: K, now: Stamp, free: u32) {
    if all.len() >= REMEMBERED_MAX && !all.contains_key(&key) {
        all.retain(|_, failures| is_remembered(failures, now));
        if all.len() >= REMEMBERED_MAX {
            let oldest = all.iter().min_by_key(|(_, failures)| failures.last);
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                all.remove(&oldest);
            }
        }
    }
    let failures = all.entry(key).or_insert(Failures { count: 0, last: now, next: now });
    if !is_remembered(failures, now) {
        failures.count = 0;
    }
    failures.count = failures.count.saturating_add(1);
    failures.last = now;
    failures.next = now.plus_micros(pause(failures.count, free));
}

fn is_remembered(failures: &Failures, now: Stamp) -> bool {
    (0..FORGET_US).contains(&now.micros_since(failures.last))
}

fn undo<K: Eq + Hash>(all: &mut HashMap<K, Failures>, key: &K, free: u32) {
    if let Some(failures) = all.get_mut(key) {
        failures.count = failures.count.saturating_sub(1);
        failures.next = failures.last.plus_micros(pause(failures.count, free));
        if failures.count == 0 {
            all.remove(key);
        }
    }
}

/// Returns how long to wait after so many failures, in microseconds.
fn pause(count: u32, free: u32) -> i64 {
    match count.checked_sub(free) {
        None => 0,
        Some(beyond) => (WAIT_US.0 << beyond.min(16)).min(WAIT_US.1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    fn address(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    fn at(seconds: i64) -> Stamp {
        Stamp(1_700_000_000_000_000 + seconds * 1_000_000)
    }

    #[test]
    fn a_guesser_waits_longer_each_time_and_never_for_ever() {
        let mut limits = Limits::default();
        for _ in 0..USER_FREE {
            limits.begin(at(0), "anna", HOME, false).unwrap();
        }
        let mut now = at(0);
        for expected in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            let wait = limits.begin(now, "anna", HOME, false).unwrap_err().retry_after_s;
            assert_eq!(wait, expected);
            // Trying while one has to wait makes nothing worse.
            assert_eq!(limits.begin(now, "anna", HOME, false).unwrap_err().retry_after_s, expected);
            now = now.plus_micros(i64::from(wait) * 1_000_000);
            limits.begin(now, "anna", HOME, false).unwrap();
        }
        limits.succeeded("anna", HOME);
        for _ in 0..USER_FREE {
            limits.begin(now, "anna", address(7), false).unwrap();
        }
    }

    /// In an hour of trying without pause, only so many passwords are looked at.
    #[test]
    fn ten_thousand_tries_come_to_few_checks() {
        let mut limits = Limits::default();
        let tries = (0..10_000).map(|n| at(0).plus_micros(n * 360_000));
        let checked = tries.filter(|now| limits.begin(*now, "anna", HOME, false).is_ok()).count();
        assert!(checked <= 70, "{checked} were checked");
    }

    #[test]
    fn many_users_from_one_address_are_one_guesser() {
        let mut limits = Limits::default();
        let names = (0..10_000).map(|n| format!("user{n}"));
        let checked = names.filter(|name| limits.begin(at(0), name, HOME, false).is_ok()).count();
        assert_eq!(checked, usize::try_from(ADDRESS_FREE).unwrap());
        assert!(limits.begin(at(0), "anna", address(2), false).is_ok(), "others do not wait");
    }

    /// A stranger who guesses must not keep the user out of their own desk.
    #[test]
    fn users_at_home_do_not_wait_for_strangers() {
        let mut limits = Limits::default();
        for n in 0..1000 {
            let _ = limits.begin(at(0), "anna", address(n), false);
        }
        assert!(limits.begin(at(0), "anna", HOME, false).is_err());
        assert!(limits.begin(at(0), "anna", HOME, true).is_ok());
    }

    #[test]
    fn a_clock_set_back_locks_nobody_out() {
        let mut limits = Limits::default();
        for _ in 0..USER_FREE {
            limits.begin(at(86_400), "anna", HOME, false).unwrap();
        }
        assert!(limits.begin(at(0), "anna", HOME, false).is_ok());
    }

    #[test]
    fn a_crowd_of_guessers_takes_no_more_than_its_room() {
        let mut limits = Limits::default();
        for n in 0..20_000 {
            let _ = limits.begin(at(0), &format!("user{n}"), address(n), false);
        }
        assert_eq!((limits.users.len(), limits.addresses.len()), (REMEMBERED_MAX, REMEMBERED_MAX));
    }

    #[test]
    fn a_try_that_nobody_looked_at_costs_nothing() {
        let mut limits = Limits::default();
        for _ in 0..1000 {
            limits.begin(at(0), "anna", HOME, false).unwrap();
            limits.withdrawn("anna", HOME, false);
        }
        assert!(limits.users.is_empty() && limits.addresses.is_empty());
    }
}
