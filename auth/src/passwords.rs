//! Passwords: hashed slowly, and only so many at a time.
//!
//! argon2id with 19 MiB, two passes and one lane (the least that OWASP's password storage advice names). Each hash takes
//! that much memory, so at most [`AT_ONCE`] run together, in as many buffers, which are kept: memory that is freed is not
//! always given back to the system. A bounded number of callers waits a bounded time, in two lines that are served in
//! turn: of those who are at home where they call from, and of all others, whose addresses failed least before others.
//! Where a line is full, one of those that failed most is told that we are busy, of the largest crowd among them, and of
//! equal crowds any: a crowd that guesses keeps nobody out who is at home, and no newcomer for long. These are no turns of
//! [`keepshare_gate`], which are shared among holders who are known: here nobody is, and who goes first is all that helps.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{
        Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use argon2::{Algorithm, Argon2, Block, Params, Version};
use serde::{Deserialize, Serialize};

use keepshare_gate::crowd;

use crate::{
    AccountError,
    account_error::{PASSWORD_BYTES_MAX, PASSWORD_CHARS_MIN},
};

/// How many hashes are worked out at a time. The buffers of these many are kept, 38 MiB together.
const AT_ONCE: usize = 2;

/// How many callers may wait for their turn in each line.
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
    lines: Mutex<Lines>,
    freed: Condvar,
    /// Compared with where there is no user, so that both cases cost the same.
    nobody: PasswordHash,
    computed: AtomicU64,
}

/// Who wants a hash.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Caller<'a> {
    /// An admin, or a user at an address where the same user is logged in already.
    AtHome(&'a str),
    /// Anybody else: from where, and how often that address failed lately.
    From(IpAddr, u32),
}

#[derive(Debug, Default)]
struct Lines {
    running: usize,
    next: u64,
    at_home: Line,
    others: Line,
    /// The others were served last, and these come next.
    is_next_at_home: bool,
    /// What hashes that ended have left, and those that begin take: at most [`AT_ONCE`].
    buffers: Vec<Buffer>,
    random: RandomState,
}

/// Callers that wait, each with its crowd.
#[derive(Debug, Default)]
struct Line(BTreeMap<Rank, u64>);

/// A caller's place in its line, the first to be served first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Rank {
    is_at_home: bool,
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
        let (lines, freed, computed) = (Mutex::default(), Condvar::new(), AtomicU64::new(0));
        Ok(Self { lines, freed, nobody, computed })
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
        let hash = self.compute(COST, salt, password, Caller::AtHome(""))?;
        Ok(PasswordHash { cost: COST, salt, hash })
    }

    /// Tells whether a password is the one that was hashed; without a hash it takes as long, and is not. Who asks gives
    /// the place in the line.
    pub(crate) fn verify(
        &self,
        stored: Option<&PasswordHash>,
        password: &str,
        caller: Caller<'_>,
    ) -> Result<bool, AccountError> {
        let against = stored.unwrap_or(&self.nobody);
        // Longer than any that was hashed: never right, and as slow as if it could be.
        let (fits, tried) = match password.len() <= PASSWORD_BYTES_MAX {
            true => (true, password),
            false => (false, ""),
        };
        let hash = self.compute(against.cost, against.salt, tried, caller)?;
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
        caller: Caller<'_>,
    ) -> Result<[u8; 32], AccountError> {
        if memory > COST_MAX.0 || passes > COST_MAX.1 {
            return Err(AccountError::Hash);
        }
        let params =
            Params::new(memory, passes, lanes, Some(32)).map_err(|_| AccountError::Hash)?;
        let mut turn = self.take_turn(caller)?;
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

    fn take_turn(&self, caller: Caller<'_>) -> Result<Turn<'_>, AccountError> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let place = lines.line_up(caller);
        // Whoever made room has to notice.
        self.freed.notify_all();
        let has_to_wait = |lines: &mut Lines| lines.waits(place) && !lines.is_up(place);
        let waited = self.freed.wait_timeout_while(lines, WAIT_MAX, has_to_wait);
        lines = waited.unwrap_or_else(PoisonError::into_inner).0;
        let is_up = lines.is_up(place);
        lines.line(place.is_at_home).0.remove(&place);
        if !is_up {
            // Whoever stood behind may be the first now.
            self.freed.notify_all();
            return Err(AccountError::Busy);
        }
        lines.is_next_at_home = !place.is_at_home;
        lines.running += 1;
        let buffer = lines.buffers.pop().unwrap_or_default();
        // There may be a turn for the next one, too.
        self.freed.notify_all();
        Ok(Turn { passwords: self, buffer })
    }
}

impl Lines {
    /// Gives a caller its place, which may cost one its place where there are too many.
    fn line_up(&mut self, caller: Caller<'_>) -> Rank {
        let (is_at_home, failed, crowd) = match caller {
            Caller::AtHome(user) => (true, 0, self.random.hash_one(user)),
            Caller::From(address, failed) => (false, failed, self.random.hash_one(crowd(address))),
        };
        let number = self.next;
        let place = Rank { is_at_home, failed, number };
        self.next += 1;
        let is_busy = self.running >= AT_ONCE;
        let random = self.random.clone();
        let line = self.line(is_at_home);
        line.0.insert(place, crowd);
        if is_busy && line.0.len() > WAITING_MAX {
            line.make_room(|other| random.hash_one((number, other)));
        }
        place
    }

    fn line(&mut self, is_at_home: bool) -> &mut Line {
        if is_at_home { &mut self.at_home } else { &mut self.others }
    }

    fn waits(&self, place: Rank) -> bool {
        self.at_home.0.contains_key(&place) || self.others.0.contains_key(&place)
    }

    /// Tells whether a caller is the next: the first of its line, and the other line was served last, or is empty.
    fn is_up(&self, place: Rank) -> bool {
        let (at_home, others) = (self.at_home.first(), self.others.first());
        let next = if self.is_next_at_home { at_home.or(others) } else { others.or(at_home) };
        self.running < AT_ONCE && next == Some(place)
    }
}

impl Line {
    fn first(&self) -> Option<Rank> {
        self.0.first_key_value().map(|(place, _)| *place)
    }

    /// Takes a place from those that failed most: from the largest crowd of them, and there from the newest; `lot` chooses
    /// among crowds that are as large.
    fn make_room(&mut self, lot: impl Fn(u64) -> u64) {
        let Some(most) = self.0.last_key_value().map(|(place, _)| place.failed) else { return };
        let of_these = || self.0.iter().rev().take_while(|(place, _)| place.failed == most);
        let mut crowds = HashMap::<u64, usize>::new();
        for (_, crowd) in of_these() {
            *crowds.entry(*crowd).or_default() += 1;
        }
        let largest = crowds.into_iter().max_by_key(|(crowd, size)| (*size, lot(*crowd)));
        let out = largest.and_then(|(largest, _)| of_these().find(|(_, crowd)| **crowd == largest));
        if let Some(out) = out.map(|(place, _)| *place) {
            self.0.remove(&out);
        }
    }
}

/// The right to work out one hash, and the memory for it; given back when dropped.
struct Turn<'a> {
    passwords: &'a Passwords,
    buffer: Buffer,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut lines = self.passwords.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.running -= 1;
        // One that a stored cost made larger is not worth keeping.
        if self.buffer.len() <= BLOCKS_KEPT {
            lines.buffers.push(std::mem::take(&mut self.buffer));
        }
        drop(lines);
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
    use std::net::Ipv4Addr;

    use super::*;

    /// Somebody from the so-manieth network.
    fn from(network: u16, failed: u32) -> Caller<'static> {
        let [high, low] = network.to_be_bytes();
        Caller::From(Ipv4Addr::new(10, high, low, 1).into(), failed)
    }

    #[test]
    fn only_the_password_itself_is_right() {
        let passwords = Passwords::new().unwrap();
        let hash = passwords.hash("correct horse").unwrap();
        assert!(passwords.verify(Some(&hash), "correct horse", from(0, 0)).unwrap());
        let long = "x".repeat(PASSWORD_BYTES_MAX + 1);
        for wrong in ["correct horsf", "correct hors", "", "CORRECT HORSE", &long] {
            assert!(
                !passwords.verify(Some(&hash), wrong, from(0, 0)).unwrap(),
                "{wrong} was taken"
            );
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
            assert!(!passwords.verify(Some(&hash), tried, from(0, 0)).unwrap());
            let known = passwords.computed() - before;
            assert!(!passwords.verify(None, tried, from(0, 0)).unwrap());
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
            let refused = passwords.verify(Some(&hash), "password", from(0, 0));
            assert!(matches!(refused, Err(AccountError::Hash)), "{cost:?}");
        }
    }

    #[test]
    fn a_crowd_is_told_that_we_are_busy() {
        let passwords = Passwords::new().unwrap();
        let turns =
            [passwords.take_turn(from(0, 0)).unwrap(), passwords.take_turn(from(0, 0)).unwrap()];
        for _ in 0..WAITING_MAX {
            passwords.lines.lock().unwrap().line_up(from(0, 0));
        }
        assert!(matches!(passwords.verify(None, "x", from(0, 0)), Err(AccountError::Busy)));
        assert_eq!(passwords.computed(), 0, "nothing was worked out");
        passwords.lines.lock().unwrap().others.0.clear();
        drop(turns);
        assert!(passwords.verify(None, "x", from(0, 0)).is_ok());
    }

    /// Who guesses from one address must not keep out who has not failed.
    #[test]
    fn a_crowd_that_failed_makes_room_for_others() {
        let mut turns = Lines { running: AT_ONCE, ..Lines::default() };
        let crowd: Vec<_> = (0..WAITING_MAX).map(|_| turns.line_up(from(0, 3))).collect();
        let good = turns.line_up(from(0, 1));
        assert_eq!(turns.others.0.len(), WAITING_MAX);
        assert!(!turns.waits(crowd[WAITING_MAX - 1]), "the last of the crowd is out");
        assert!(!turns.is_up(good), "nobody is served out of turn");
        let worse = turns.line_up(from(0, 4));
        assert!(!turns.waits(worse));
        turns.running -= 1;
        assert!(turns.is_up(good) && !turns.is_up(crowd[0]));
    }

    /// A crowd of fresh addresses has failed no more than anybody: it must not keep out whoever is at home here.
    #[test]
    fn a_crowd_of_fresh_addresses_keeps_nobody_out_who_is_at_home() {
        let mut turns = Lines { running: AT_ONCE, ..Lines::default() };
        let mut network = 0..;
        let mut more = |turns: &mut Lines, count| {
            (0..count).map(|_| turns.line_up(from(network.next().unwrap(), 1))).last()
        };
        more(&mut turns, WAITING_MAX);
        let anna = turns.line_up(Caller::AtHome("anna"));
        more(&mut turns, WAITING_MAX * 3);
        assert!(turns.waits(anna));
        turns.running -= 1;
        turns.is_next_at_home = true;
        assert!(turns.is_up(anna));
    }

    /// A user who asks without end at home must not keep out those who are not at home yet, nor other users.
    #[test]
    fn one_who_is_at_home_leaves_room_for_others() {
        let mut turns = Lines { running: AT_ONCE, ..Lines::default() };
        let greedy: Vec<_> =
            (0..WAITING_MAX).map(|_| turns.line_up(Caller::AtHome("eve"))).collect();
        let (anna, new) = (turns.line_up(Caller::AtHome("anna")), turns.line_up(from(0, 1)));
        assert!(turns.waits(anna) && !turns.waits(greedy[WAITING_MAX - 1]));
        turns.running -= 1;
        turns.is_next_at_home = false;
        assert!(turns.is_up(new) && !turns.is_up(greedy[0]));
        turns.is_next_at_home = true;
        assert!(turns.is_up(greedy[0]) && !turns.is_up(new));
    }

    /// Among equals it must not be the newest who goes: that would be every honest newcomer, as long as a crowd comes.
    #[test]
    fn a_newcomer_has_a_place_among_a_crowd() {
        let mut turns = Lines { running: AT_ONCE, ..Lines::default() };
        // From one network, however many its addresses: it makes room itself.
        let one = |turns: &mut Lines, last| {
            turns.line_up(Caller::From(Ipv4Addr::new(10, 0, 0, last).into(), 1))
        };
        for last in 0..100 {
            one(&mut turns, last);
        }
        let new = turns.line_up(from(1, 1));
        for last in 0..100 {
            one(&mut turns, last);
        }
        assert!(turns.waits(new));
        // From everywhere: each of them may stay.
        let mut turns = Lines { running: AT_ONCE, ..Lines::default() };
        for network in 0..64 {
            turns.line_up(from(network, 1));
        }
        let stayed = (64..564).filter(|network| {
            let place = turns.line_up(from(*network, 1));
            turns.waits(place)
        });
        // By chance fewer than half of them would, once in more lifetimes than there are.
        assert!(stayed.count() > 250);
        assert_eq!(turns.others.0.len(), WAITING_MAX);
    }

    /// Memory that is freed is not given back: what was taken once has to do for ever.
    #[test]
    fn hashes_are_worked_out_in_two_kept_buffers() {
        let passwords = Passwords::new().unwrap();
        let crowd = || {
            std::thread::scope(|scope| {
                let tried: Vec<_> = (0..8)
                    .map(|_| scope.spawn(|| passwords.verify(None, "x", from(0, 0))))
                    .collect();
                tried.into_iter().for_each(|one| assert!(!one.join().unwrap().unwrap()));
            });
            let turns = passwords.lines.lock().unwrap();
            let mut kept: Vec<_> = turns.buffers.iter().map(|buffer| buffer.as_ptr()).collect();
            kept.sort();
            kept
        };
        // Two at the same time, so that there are two.
        let turns =
            [passwords.take_turn(from(0, 0)).unwrap(), passwords.take_turn(from(0, 0)).unwrap()];
        let turns = turns.map(|mut turn| {
            turn.buffer.resize(BLOCKS_KEPT, Block::new());
            turn
        });
        drop(turns);
        let first = crowd();
        assert_eq!(first.len(), AT_ONCE);
        assert_eq!(crowd(), first, "the same memory");
        let large = PasswordHash { cost: (COST.0 + 1024, 1, 1), salt: [0; 16], hash: [0; 32] };
        assert!(!passwords.verify(Some(&large), "x", from(0, 0)).unwrap());
        let turns = passwords.lines.lock().unwrap();
        assert!(turns.buffers.iter().all(|buffer| buffer.len() <= BLOCKS_KEPT));
    }
}
