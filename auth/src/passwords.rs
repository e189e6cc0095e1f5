//! Passwords: hashed slowly, and only so many at a time.
//!
//! argon2id with 19 MiB, two passes and one lane (the least that OWASP's password storage advice names). Each hash takes
//! that much memory, so at most [`AT_ONCE`] run together; a bounded number of callers waits a bounded time, and whoever
//! comes on top is told that we are busy.

use std::{
    fmt,
    sync::{
        Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Serialize};

use crate::AccountError;

/// The shortest password, in characters.
pub const PASSWORD_CHARS_MIN: usize = 8;

/// The longest password, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// How many hashes are worked out at a time.
const AT_ONCE: u32 = 2;

/// How many callers may wait for their turn.
const WAITING_MAX: u32 = 16;

/// How long a caller waits for its turn.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Memory of one hash in KiB, passes, lanes.
const COST: (u32, u32, u32) = (19 * 1024, 2, 1);

/// The most memory in KiB and the most passes that a stored hash may ask for: a damaged row must not take the machine.
const COST_MAX: (u32, u32) = (256 * 1024, 16);

/// A password as it is stored.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct PasswordHash {
    /// Memory in KiB, passes, lanes: kept with each hash, so that they can be raised later.
    cost: (u32, u32, u32),
    salt: [u8; 16],
    hash: [u8; 32],
}

/// Works out hashes, a few at a time.
#[derive(Debug)]
pub(crate) struct Passwords {
    turns: Mutex<Turns>,
    freed: Condvar,
    /// Compared with where there is no user, so that both cases cost the same.
    nobody: PasswordHash,
    computed: AtomicU64,
}

#[derive(Debug, Default)]
struct Turns {
    running: u32,
    waiting: u32,
}

impl Passwords {
    pub(crate) fn new() -> Result<Self, AccountError> {
        let mut nobody = PasswordHash { cost: COST, salt: [0; 16], hash: [0; 32] };
        getrandom::fill(&mut nobody.salt)?;
        getrandom::fill(&mut nobody.hash)?;
        let (turns, freed, computed) = (Mutex::default(), Condvar::new(), AtomicU64::new(0));
        Ok(Self { turns, freed, nobody, computed })
    }

    /// Hashes a new password.
    pub(crate) fn hash(&self, password: &str) -> Result<PasswordHash, AccountError> {
        if password.chars().count() < PASSWORD_CHARS_MIN {
            return Err(AccountError::PasswordShort);
        }
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(AccountError::PasswordLong);
        }
        let mut salt = [0; 16];
        getrandom::fill(&mut salt)?;
        let hash = self.compute(COST, salt, password)?;
        Ok(PasswordHash { cost: COST, salt, hash })
    }

    /// Tells whether a password is the one that was hashed; without a hash it takes as long, and is not.
    pub(crate) fn verify(
        &self,
        stored: Option<&PasswordHash>,
        password: &str,
    ) -> Result<bool, AccountError> {
        let against = stored.unwrap_or(&self.nobody);
        // Longer than any that was hashed: never right, and as slow as if it could be.
        let (fits, tried) = match password.len() <= PASSWORD_BYTES_MAX {
            true => (true, password),
            false => (false, ""),
        };
        let hash = self.compute(against.cost, against.salt, tried)?;
        // The comparison takes the same time wherever the two differ.
        let is_same = blake3::Hash::from(hash) == blake3::Hash::from(against.hash);
        Ok(is_same && fits && stored.is_some())
    }

    /// Returns how many hashes were worked out.
    pub(crate) fn computed(&self) -> u64 {
        self.computed.load(Ordering::Relaxed)
    }

    fn compute(
        &self,
        (memory, passes, lanes): (u32, u32, u32),
        salt: [u8; 16],
        password: &str,
    ) -> Result<[u8; 32], AccountError> {
        if memory > COST_MAX.0 || passes > COST_MAX.1 {
            return Err(AccountError::Hash);
        }
        let params =
            Params::new(memory, passes, lanes, Some(32)).map_err(|_| AccountError::Hash)?;
        let _turn = self.take_turn()?;
        self.computed.fetch_add(1, Ordering::Relaxed);
        let mut hash = [0; 32];
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(password.as_bytes(), &salt, &mut hash)
            .map_err(|_| AccountError::Hash)?;
        Ok(hash)
    }

    fn take_turn(&self) -> Result<Turn<'_>, AccountError> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if turns.running >= AT_ONCE {
            if turns.waiting >= WAITING_MAX {
                return Err(AccountError::Busy);
            }
            turns.waiting += 1;
            let taken = |turns: &mut Turns| turns.running >= AT_ONCE;
            let waited = self.freed.wait_timeout_while(turns, WAIT_MAX, taken);
            turns = waited.unwrap_or_else(PoisonError::into_inner).0;
            turns.waiting -= 1;
            if turns.running >= AT_ONCE {
                return Err(AccountError::Busy);
            }
        }
        turns.running += 1;
        Ok(Turn(self))
    }
}

/// The right to work out one hash; given back when dropped.
struct Turn<'a>(&'a Passwords);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.turns.lock().unwrap_or_else(PoisonError::into_inner).running -= 1;
        self.0.freed.notify_one();
    }
}

impl fmt::Debug for PasswordHash {
    /// Leaves salt and hash out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordHash").field("cost", &self.cost).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_password_itself_is_right() {
        let passwords = Passwords::new().unwrap();
        let hash = passwords.hash("correct horse").unwrap();
        assert!(passwords.verify(Some(&hash), "correct horse").unwrap());
        let long = "x".repeat(PASSWORD_BYTES_MAX + 1);
        for wrong in ["correct horsf", "correct hors", "", "CORRECT HORSE", &long] {
            assert!(!passwords.verify(Some(&hash), wrong).unwrap(), "{wrong} was taken");
        }
        assert!(matches!(passwords.hash("ä234567"), Err(AccountError::PasswordShort)));
        assert!(matches!(passwords.hash(&long), Err(AccountError::PasswordLong)));
        assert!(!format!("{hash:?}").contains("salt"));
    }

    /// Whoever measures the work must not learn who is a user.
    #[test]
    fn an_unknown_user_costs_as_much_as_a_known_one() {
        let passwords = Passwords::new().unwrap();
        let hash = passwords.hash("correct horse").unwrap();
        let long = "x".repeat(PASSWORD_BYTES_MAX + 1);
        for tried in ["wrong password", "", &long] {
            let before = passwords.computed();
            assert!(!passwords.verify(Some(&hash), tried).unwrap());
            let known = passwords.computed() - before;
            assert!(!passwords.verify(None, tried).unwrap());
            assert_eq!((known, passwords.computed() - before), (1, 2));
        }
        assert_eq!(passwords.nobody.cost, hash.cost);
    }

    /// A damaged row, or a hash of another release, must not take all memory.
    #[test]
    fn a_stored_cost_has_a_limit() {
        let passwords = Passwords::new().unwrap();
        for cost in [(u32::MAX, 2, 1), (19 * 1024, u32::MAX, 1), (0, 2, 1), (1024, 1, 0)] {
            let hash = PasswordHash { cost, salt: [0; 16], hash: [0; 32] };
            let refused = passwords.verify(Some(&hash), "password");
            assert!(matches!(refused, Err(AccountError::Hash)), "{cost:?}");
        }
    }

    #[test]
    fn a_crowd_is_told_that_we_are_busy() {
        let passwords = Passwords::new().unwrap();
        let turns = [passwords.take_turn().unwrap(), passwords.take_turn().unwrap()];
        passwords.turns.lock().unwrap().waiting = WAITING_MAX;
        assert!(matches!(passwords.verify(None, "x"), Err(AccountError::Busy)));
        assert_eq!(passwords.computed(), 0, "nothing was worked out");
        passwords.turns.lock().unwrap().waiting = 0;
        drop(turns);
        assert!(passwords.verify(None, "x").is_ok());
    }
}
