//! How often passwords may be tried: by each address at each user, by each address, and at each user.
//!
//! Who guesses from one address has to wait long there, and keeps the user out nowhere else: guesses from everywhere
//! together have a limit that is much looser. A try counts as failed from its beginning, so that many at the same time are
//! no way around it. Users who do not exist are counted like those who do.

use core::net::IpAddr;
use std::hash::Hash;

use keepshare_base::Stamp;

use crate::{
    guesses::{Guesses, Rule},
    source::{Source, source},
};

/// From one address at one user: a few are free, then the waiting grows quickly.
const PAIR: Rule = Rule { free: 5, double_each: 1, longest_us: 60_000_000, ..RULE };

/// From one address: more are free than at one user, because many may share an address.
const ADDRESS: Rule = Rule { free: 20, double_each: 1, longest_us: 60_000_000, ..RULE };

/// At one user from everywhere: slow enough for a crowd of addresses, short enough to keep nobody out.
const USER: Rule = Rule { free: 100, double_each: 20, longest_us: 10_000_000, ..RULE };

const RULE: Rule =
    Rule { free: 0, first_us: 1_000_000, double_each: 1, longest_us: 0, remembered: 4096 };

/// Counts failed tries; `U` is what stands for the name that was typed.
#[derive(Debug)]
pub struct Logins<U> {
    pairs: Guesses<(U, Source)>,
    addresses: Guesses<Source>,
    users: Guesses<U>,
}

/// A try that must wait.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TooSoon {
    /// How long, in whole seconds.
    pub retry_after_s: u32,
}

impl<U: Copy + Eq + Hash> Default for Logins<U> {
    fn default() -> Self {
        Self {
            pairs: Guesses::new(PAIR),
            addresses: Guesses::new(ADDRESS),
            users: Guesses::new(USER),
        }
    }
}

impl<U: Copy + Eq + Hash> Logins<U> {
    /// Begins a try, which counts as failed until it is known to be otherwise. With `is_known` the user is at home at
    /// this address, and guesses from elsewhere do not count at all.
    pub fn begin(
        &mut self,
        now: Stamp,
        user: U,
        from: IpAddr,
        is_known: bool,
    ) -> Result<(), TooSoon> {
        let from = source(from);
        let of_pair = self.pairs.wait_us(now, &(user, from));
        let of_address = self.addresses.wait_us(now, &from);
        let of_user = if is_known { 0 } else { self.users.wait_us(now, &user) };
        match of_pair.max(of_address).max(of_user) {
            0 => {}
            wait_us => {
                let seconds = u32::try_from((wait_us + 999_999) / 1_000_000).unwrap_or(u32::MAX);
                return Err(TooSoon { retry_after_s: seconds });
            }
        }
        self.pairs.failed(now, (user, from));
        self.addresses.failed(now, from);
        if !is_known {
            self.users.failed(now, user);
        }
        Ok(())
    }

    /// Ends a try with the right password; `is_known` as when it began.
    pub fn succeeded(&mut self, user: U, from: IpAddr, is_known: bool) {
        self.pairs.forget(&(user, source(from)));
        // The others keep their failures: one right password must not pay for guesses at or from elsewhere.
        self.undo_shared(user, from, is_known);
    }

    /// Ends a try that never was one, because nobody looked at the password.
    pub fn withdrawn(&mut self, user: U, from: IpAddr, is_known: bool) {
        self.pairs.undo(&(user, source(from)));
        self.undo_shared(user, from, is_known);
    }

    /// Returns how often an address failed lately, tries that are not over included.
    pub fn failed(&self, from: IpAddr) -> u32 {
        self.addresses.count(&source(from))
    }

    fn undo_shared(&mut self, user: U, from: IpAddr, is_known: bool) {
        self.addresses.undo(&source(from));
        if !is_known {
            self.users.undo(&user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(10, 0, 0, 1));

    fn address(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    fn at(seconds: i64) -> Stamp {
        Stamp(1_700_000_000_000_000 + seconds * 1_000_000)
    }

    #[test]
    fn a_guesser_waits_longer_each_time_and_never_for_ever() {
        let mut logins = Logins::default();
        for _ in 0..PAIR.free {
            logins.begin(at(0), "anna", HOME, false).unwrap();
        }
        let mut now = at(0);
        for expected in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            let wait = logins.begin(now, "anna", HOME, false).unwrap_err().retry_after_s;
            assert_eq!(wait, expected);
            // Trying while one has to wait makes nothing worse.
            assert_eq!(logins.begin(now, "anna", HOME, false).unwrap_err().retry_after_s, expected);
            now = now.plus_micros(i64::from(wait) * 1_000_000);
            logins.begin(now, "anna", HOME, false).unwrap();
        }
        logins.succeeded("anna", HOME, false);
        for _ in 0..PAIR.free {
            logins.begin(now, "anna", HOME, false).unwrap();
        }
    }

    /// In an hour of trying without pause, only so many passwords are looked at.
    #[test]
    fn ten_thousand_tries_come_to_few_checks() {
        let mut logins = Logins::default();
        let tries = (0..10_000).map(|n| at(0).plus_micros(n * 360_000));
        let checked = tries.filter(|now| logins.begin(*now, "anna", HOME, false).is_ok()).count();
        assert!(checked <= 70, "{checked} were checked");
    }

    #[test]
    fn many_users_from_one_address_are_one_guesser() {
        let mut logins = Logins::default();
        let names = 0..10_000;
        let checked = names.filter(|name| logins.begin(at(0), *name, HOME, false).is_ok()).count();
        assert_eq!(checked, usize::try_from(ADDRESS.free).unwrap());
        assert!(logins.begin(at(0), 10_000, address(2), false).is_ok(), "others do not wait");
    }

    /// A stranger who guesses must not keep the user out of their own desk, nor out of a new one.
    #[test]
    fn a_guesser_keeps_the_user_out_nowhere_else() {
        let mut logins = Logins::default();
        // Two days of guessing from one address, as fast as it goes.
        for n in 0..86_400 * 2 {
            let _ = logins.begin(at(n), "anna", address(7), false);
        }
        let now = at(86_400 * 2);
        let wait = logins.begin(now, "anna", HOME, false).err().map_or(0, |e| e.retry_after_s);
        assert!(wait <= 10, "{wait} s");
        logins.begin(now, "anna", HOME, true).unwrap();
        let mut logins = Logins::default();
        for _ in 0..1000 {
            let _ = logins.begin(at(0), "anna", address(7), false);
        }
        logins.begin(at(0), "anna", HOME, false).unwrap();
    }

    /// A crowd of addresses gets little further than one.
    #[test]
    fn guesses_from_everywhere_stay_slow() {
        let mut logins = Logins::default();
        let tries = (0..3_600_000).step_by(100).zip(0..);
        let checked = tries.filter(|(ms, n)| {
            let now = at(0).plus_micros(ms * 1000);
            logins.begin(now, "anna", address(n % 3000), false).is_ok()
        });
        let checked = checked.count();
        assert!(checked <= 100 + 20 + 10 + 5 + 3 + 360 + 20, "{checked} were checked");
        let wait =
            logins.begin(at(3600), "anna", HOME, false).map_or_else(|e| e.retry_after_s, |()| 0);
        assert!(wait <= 10, "{wait} s");
        assert!(logins.begin(at(3600), "anna", HOME, true).is_ok(), "those at home do not wait");
    }

    /// Whether a user has a drive mounted here must not show in how guesses are answered.
    #[test]
    fn a_guesser_does_not_learn_who_is_at_home() {
        let answers = |is_known| {
            let mut logins = Logins::default();
            let mut answer = |_| logins.begin(at(0), "anna", HOME, is_known).is_ok();
            (0..30).map(&mut answer).collect::<Vec<_>>()
        };
        assert_eq!(answers(true), answers(false));
    }

    #[test]
    fn an_ipv6_network_is_one_guesser() {
        let mut logins = Logins::default();
        let from = |n: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, n]);
        let checked = (0..100).filter(|n| logins.begin(at(0), "anna", from(*n), false).is_ok());
        assert_eq!(checked.count(), 5);
        assert!(logins.begin(at(0), "anna", "2001:db8:0:2::1".parse().unwrap(), false).is_ok());
    }

    #[test]
    fn a_clock_set_back_locks_nobody_out() {
        let mut logins = Logins::default();
        for _ in 0..PAIR.free {
            logins.begin(at(86_400), "anna", HOME, false).unwrap();
        }
        assert!(logins.begin(at(0), "anna", HOME, false).is_ok());
    }

    #[test]
    fn a_crowd_of_guessers_takes_no_more_than_its_room() {
        let mut logins = Logins::default();
        for n in 0..20_000 {
            let _ = logins.begin(at(0), n, address(n), false);
        }
        let remembered = [logins.users.len(), logins.addresses.len(), logins.pairs.len()];
        assert_eq!(remembered, [RULE.remembered; 3]);
    }

    #[test]
    fn a_try_that_nobody_looked_at_costs_nothing() {
        let mut logins = Logins::default();
        for _ in 0..1000 {
            logins.begin(at(0), "anna", HOME, false).unwrap();
            logins.withdrawn("anna", HOME, false);
        }
        assert_eq!([logins.users.len(), logins.addresses.len(), logins.pairs.len()], [0; 3]);
    }
}
