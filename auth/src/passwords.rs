//! Passwords: hashed slowly, and only so many at a time.
//!
//! argon2id with 19 MiB, two passes and one lane (the least that OWASP's password storage advice names). Each hash takes
//! that much memory, so at most [`AT_ONCE`] run together, in as many buffers, which are kept: memory that is freed is not
//! always given back to the system. A bounded number of callers waits a bounded time. Those whose address failed least
//! come first, and where there is no room the one that failed most is told that we are busy: a crowd that guesses keeps
//! nobody else out.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use argon2::{Algorithm, Argon2, Block, Params, Version};
use serde::{Deserialize, Serialize};

use crate::AccountError;

/// The shortest password, in characters.
pub const PASSWORD_CHARS_MIN: usize = 8;

/// The longest password, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// How many hashes are worked out at a time. The buffers of these many are kept, 38 MiB together.
const AT_ONCE: usize = 2;

/// How many callers may wait for their turn.
const WAITING_MAX: usize = 64;

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
    running: usize,
    next: u64,
    waiting: BTreeSet<Place>,
    /// What hashes that ended have left, and those that begin take: at most [`AT_ONCE`].
    buffers: Vec<Buffer>,
}

/// A caller's place in the line, the first to be served first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Place {
    failed: u32,
    number: u64,
}

/// The memory that a hash is worked out in.
type Buffer = Vec<Block>;

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
        let hash = self.compute(COST, salt, password, 0)?;
        Ok(PasswordHash { cost: COST, salt, hash })
    }

    /// Tells whether a password is the one that was hashed; without a hash it takes as long, and is not. `failed` is how
    /// often the caller failed lately, which gives its place in the line.
    pub(crate) fn verify(
        &self,
        stored: Option<&PasswordHash>,
        password: &str,
        failed: u32,
    ) -> Result<bool, AccountError> {
        let against = stored.unwrap_or(&self.nobody);
        // Longer than any that was hashed: never right, and as slow as if it could be.
        let (fits, tried) = match password.len() <= PASSWORD_BYTES_MAX {
            true => (true, password),
            false => (false, ""),
        };
        let hash = self.compute(against.cost, against.salt, tried, failed)?;
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
        failed: u32,
    ) -> Result<[u8; 32], AccountError> {
        if memory > COST_MAX.0 || passes > COST_MAX.1 {
            return Err(AccountError::Hash);
        }
        let params =
            Params::new(memory, passes, lanes, Some(32)).map_err(|_| AccountError::Hash)?;
        let mut turn = self.take_turn(failed)?;
        self.computed.fetch_add(1, Ordering::Relaxed);
        let blocks = params.block_count();
        if turn.buffer.len() < blocks {
            turn.buffer.resize(blocks, Block::new());
        }
        let mut hash = [0; 32];
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into_with_memory(
                password.as_bytes(),
                &salt,
                &mut hash,
                &mut turn.buffer[..blocks],
            )
            .map_err(|_| AccountError::Hash)?;
        Ok(hash)
    }

    fn take_turn(&self, failed: u32) -> Result<Turn<'_>, AccountError> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let place = turns.line_up(failed);
        // Whoever made room has to notice.
        self.freed.notify_all();
        let has_to_wait = |turns: &mut Turns| turns.waiting.contains(&place) && !turns.is_up(place);
        let waited = self.freed.wait_timeout_while(turns, WAIT_MAX, has_to_wait);
        turns = waited.unwrap_or_else(PoisonError::into_inner).0;
        let is_up = turns.is_up(place);
        turns.waiting.remove(&place);
        if !is_up {
            return Err(AccountError::Busy);
        }
        turns.running += 1;
        let buffer = turns.buffers.pop().unwrap_or_default();
        // There may be a turn for the next one, too.
        self.freed.notify_all();
        Ok(Turn { passwords: self, buffer })
    }
}

impl Turns {
    /// Gives a caller its place; whoever failed most has none any more where there are too many.
    fn line_up(&mut self, failed: u32) -> Place {
        let place = Place { failed, number: self.next };
        self.next += 1;
        self.waiting.insert(place);
        if self.running >= AT_ONCE && self.waiting.len() > WAITING_MAX {
            self.waiting.pop_last();
        }
        place
    }

    fn is_up(&self, place: Place) -> bool {
        self.running < AT_ONCE && self.waiting.first() == Some(&place)
    }
}

/// The right to work out one hash, and the memory for it; given back when dropped.
struct Turn<'a> {
    passwords: &'a Passwords,
    buffer: Buffer,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut turns = self.passwords.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.running -= 1;
        // One that a stored cost made larger is not worth keeping.
        if self.buffer.len() <= BLOCKS_KEPT {
            turns.buffers.push(std::mem::take(&mut self.buffer));
        }
        drop(turns);
        self.passwords.freed.notify_all();
    }
}

/// The largest buffer that is kept, in blocks of 1 KiB.
const BLOCKS_KEPT: usize = COST.0 as usize;

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
        assert!(passwords.verify(Some(&hash), "correct horse", 0).unwrap());
        let long = "x".repeat(PASSWORD_BYTES_MAX + 1);
        for wrong in ["correct horsf", "correct hors", "", "CORRECT HORSE", &long] {
            assert!(!passwords.verify(Some(&hash), wrong, 0).unwrap(), "{wrong} was taken");
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
            assert!(!passwords.verify(Some(&hash), tried, 0).unwrap());
            let known = passwords.computed() - before;
            assert!(!passwords.verify(None, tried, 0).unwrap());
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
            let refused = passwords.verify(Some(&hash), "password", 0);
            assert!(matches!(refused, Err(AccountError::Hash)), "{cost:?}");
        }
    }

    #[test]
    fn a_crowd_is_told_that_we_are_busy() {
        let passwords = Passwords::new().unwrap();
        let turns = [passwords.take_turn(0).unwrap(), passwords.take_turn(0).unwrap()];
        for _ in 0..WAITING_MAX {
            passwords.turns.lock().unwrap().line_up(0);
        }
        assert!(matches!(passwords.verify(None, "x", 0), Err(AccountError::Busy)));
        assert_eq!(passwords.computed(), 0, "nothing was worked out");
        passwords.turns.lock().unwrap().waiting.clear();
        drop(turns);
        assert!(passwords.verify(None, "x", 0).is_ok());
    }

    /// Who guesses from one address must not keep out who has not failed.
    #[test]
    fn a_crowd_that_failed_makes_room_for_others() {
        let mut turns = Turns { running: AT_ONCE, ..Turns::default() };
        let crowd: Vec<_> = (0..WAITING_MAX).map(|_| turns.line_up(3)).collect();
        let good = turns.line_up(1);
        assert_eq!(turns.waiting.len(), WAITING_MAX);
        assert!(!turns.waiting.contains(&crowd[WAITING_MAX - 1]), "the last of the crowd is out");
        assert!(!turns.is_up(good), "nobody is served out of turn");
        let worse = turns.line_up(4);
        assert!(!turns.waiting.contains(&worse));
        turns.running -= 1;
        assert!(turns.is_up(good) && !turns.is_up(crowd[0]));
    }

    /// Memory that is freed is not given back: what was taken once has to do for ever.
    #[test]
    fn hashes_are_worked_out_in_two_kept_buffers() {
        let passwords = Passwords::new().unwrap();
        let crowd = || {
            std::thread::scope(|scope| {
                let tried: Vec<_> =
                    (0..8).map(|_| scope.spawn(|| passwords.verify(None, "x", 0))).collect();
                tried.into_iter().for_each(|one| assert!(!one.join().unwrap().unwrap()));
            });
            let turns = passwords.turns.lock().unwrap();
            let mut kept: Vec<_> = turns.buffers.iter().map(|buffer| buffer.as_ptr()).collect();
            kept.sort();
            kept
        };
        // Two at the same time, so that there are two.
        let turns = [passwords.take_turn(0).unwrap(), passwords.take_turn(0).unwrap()];
        let turns = turns.map(|mut turn| {
            turn.buffer.resize(BLOCKS_KEPT, Block::new());
            turn
        });
        drop(turns);
        let first = crowd();
        assert_eq!(first.len(), AT_ONCE);
        assert_eq!(crowd(), first, "the same memory");
        let large = PasswordHash { cost: (COST.0 + 1024, 1, 1), salt: [0; 16], hash: [0; 32] };
        assert!(!passwords.verify(Some(&large), "x", 0).unwrap());
        let turns = passwords.turns.lock().unwrap();
        assert!(turns.buffers.iter().all(|buffer| buffer.len() <= BLOCKS_KEPT));
    }
}
