//! Work of which only so much is done at a time: who comes later waits for a turn, and only so many wait.
//!
//! A holder has a share of the turns and of the places to wait, so that nobody keeps the others from theirs; some turns are
//! no holder's, so that whoever runs the station always finds one. Unlike a place at a [`Gate`](crate::Gate), a turn is never
//! taken from who has it: the work has begun.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::Holder;

/// How many turns there are.
#[derive(Clone, Copy, Debug)]
pub struct TurnShares {
    /// In all.
    pub turns: usize,
    /// That are no holder's.
    pub of_no_holder: usize,
    /// Of one holder.
    pub of_a_holder: usize,
    /// Of holders that are akin, together.
    pub of_kin: usize,
    /// Holders that may wait, and as many others.
    pub waiting: usize,
    /// The places to wait of one holder.
    pub waiting_of_a_holder: usize,
}

impl TurnShares {
    /// Returns shares of turns that nobody waits for, and all of which are holders'.
    pub fn without_waiting(turns: usize, of_a_holder: usize) -> Self {
        let (of_kin, waiting, waiting_of_a_holder) = (of_a_holder, 0, 0);
        Self { turns, of_no_holder: 0, of_a_holder, of_kin, waiting, waiting_of_a_holder }
    }
}

/// Turns that are taken and given back. What waits, and how, is the caller's.
#[derive(Debug)]
pub struct Turns<H> {
    shares: TurnShares,
    /// Of whoever runs the station.
    own: Count,
    /// Of all holders.
    holders: Count,
    /// Of each holder who has any.
    of: HashMap<H, Count>,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Count {
    running: usize,
    waiting: usize,
}

impl<H: Holder> Turns<H> {
    /// Returns turns that nobody has.
    pub fn new(shares: TurnShares) -> Self {
        Self { shares, own: Count::default(), holders: Count::default(), of: HashMap::new() }
    }

    /// Takes a turn for a holder, or for whoever runs the station; tells whether there was one.
    pub fn take(&mut self, holder: Option<&H>) -> bool {
        let has_one = self.has_turn(holder);
        if has_one {
            self.count(holder, |count| count.running += 1);
        }
        has_one
    }

    /// Gives a turn back.
    pub fn give_back(&mut self, holder: Option<&H>) {
        self.count(holder, |count| count.running -= 1);
    }

    /// Takes a place to wait for a turn; tells whether there was one.
    pub fn wait(&mut self, holder: Option<&H>) -> bool {
        let has_one = self.has_place(holder);
        if has_one {
            self.count(holder, |count| count.waiting += 1);
        }
        has_one
    }

    /// Gives a place to wait back, whether or not a turn came.
    pub fn wait_no_more(&mut self, holder: Option<&H>) {
        self.count(holder, |count| count.waiting -= 1);
    }

    /// Tells whether there is a turn now.
    pub fn has_turn(&self, holder: Option<&H>) -> bool {
        let (own, holders, shares) = (self.own.running, self.holders.running, self.shares);
        own + holders < shares.turns
            && holder.is_none_or(|holder| {
                holders + shares.of_no_holder < shares.turns
                    && self.of(holder).running < shares.of_a_holder
                    && self.of_kin(holder) < shares.of_kin
            })
    }

    /// Tells whether there is a place to wait.
    fn has_place(&self, holder: Option<&H>) -> bool {
        match holder {
            None => self.own.waiting < self.shares.waiting,
            Some(holder) => {
                self.holders.waiting < self.shares.waiting
                    && self.of(holder).waiting < self.shares.waiting_of_a_holder
            }
        }
    }

    fn of(&self, holder: &H) -> Count {
        self.of.get(holder).copied().unwrap_or_default()
    }

    /// Returns how many turns a holder has, and all who are akin.
    fn of_kin(&self, holder: &H) -> usize {
        let kin = self.of.iter().filter(|(other, _)| other.is_akin(holder));
        kin.map(|(_, count)| count.running).sum()
    }

    fn count(&mut self, holder: Option<&H>, change: impl Fn(&mut Count)) {
        let Some(holder) = holder else { return change(&mut self.own) };
        change(&mut self.holders);
        let of_holder = self.of.entry(holder.clone()).or_default();
        change(of_holder);
        if *of_holder == Count::default() {
            self.of.remove(holder);
        }
    }
}

/// Turns that many tasks take, and that nobody waits for: there is one, or there is none.
#[derive(Clone, Debug)]
pub struct SharedTurns<H: Holder>(Arc<Mutex<Turns<H>>>);

/// One of them; given back on drop.
#[derive(Debug)]
pub struct SharedTurn<H: Holder> {
    turns: SharedTurns<H>,
    holder: H,
}

impl<H: Holder> SharedTurns<H> {
    /// Returns turns that nobody has.
    pub fn new(shares: TurnShares) -> Self {
        Self(Arc::new(Mutex::new(Turns::new(shares))))
    }

    /// Takes a turn for a holder, if there is one.
    pub fn take(&self, holder: H) -> Option<SharedTurn<H>> {
        self.lock().take(Some(&holder)).then(|| SharedTurn { turns: self.clone(), holder })
    }

    fn lock(&self) -> MutexGuard<'_, Turns<H>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<H: Holder> Drop for SharedTurn<H> {
    fn drop(&mut self) {
        self.turns.lock().give_back(Some(&self.holder));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One who takes all it can get leaves the others theirs, and what is dropped is there again.
    #[test]
    fn nobody_takes_the_turns_of_others() {
        let turns = SharedTurns::new(TurnShares::without_waiting(4, 2));
        let greedy: Vec<_> = (0..9).filter_map(|_| turns.take("greedy".to_owned())).collect();
        assert_eq!(greedy.len(), 2);
        let other = turns.take("other".to_owned());
        assert!(other.is_some() && turns.take("greedy".to_owned()).is_none());
        drop(greedy);
        assert!(turns.take("greedy".to_owned()).is_some());
    }

    const SHARES: TurnShares = TurnShares {
        turns: 8,
        of_no_holder: 1,
        of_a_holder: 2,
        of_kin: 4,
        waiting: 16,
        waiting_of_a_holder: 6,
    };

    type Holders = Turns<&'static str>;

    fn take(turns: &mut Holders, holder: &'static str, often: usize) -> usize {
        (0..often).filter(|_| turns.take(Some(&holder))).count()
    }

    #[test]
    fn neither_running_nor_waiting_grows_beyond_its_bound() {
        let mut turns = Holders::new(TurnShares { turns: 2, waiting: 1, ..SHARES });
        assert!(turns.take(None) && turns.take(None) && !turns.take(None));
        assert!(turns.wait(None) && !turns.wait(None));
        turns.give_back(None);
        assert!(turns.take(None) && !turns.take(None));
        turns.wait_no_more(None);
        assert!(turns.wait(None));
    }

    /// However much one holder asks for: the next one has a turn, and whoever runs the station has one.
    #[test]
    fn one_holder_keeps_nobody_from_a_turn() {
        let mut turns = Holders::new(SHARES);
        assert_eq!(take(&mut turns, "mallory", 8), SHARES.of_a_holder);
        assert_eq!(take(&mut turns, "anna", 1), 1);
        let others: usize = ["b", "c", "d", "e"].map(|user| take(&mut turns, user, 2)).iter().sum();
        assert_eq!(others, 4, "one of eight is no holder's");
        assert!(turns.take(None) && !turns.take(None));
        let waiting = (0..9).filter(|_| turns.wait(Some(&"mallory"))).count();
        assert_eq!(waiting, SHARES.waiting_of_a_holder);
        assert!(turns.wait(Some(&"anna")) && turns.wait(None));
    }

    /// Machines that one leave lets in have a share together beside each one's own.
    #[test]
    fn holders_that_are_akin_leave_turns_to_others() {
        let mut turns = Holders::new(SHARES);
        let kin: usize =
            ["ha", "hb", "hc"].map(|machine| take(&mut turns, machine, 2)).iter().sum();
        assert_eq!(kin, SHARES.of_kin);
        assert_eq!(take(&mut turns, "anna", 1), 1);
        turns.give_back(Some(&"ha"));
        assert_eq!(take(&mut turns, "hc", 1), 1);
    }

    #[test]
    fn nothing_is_kept_of_who_is_done() {
        let mut turns = Holders::new(SHARES);
        assert!(turns.take(Some(&"anna")) && turns.wait(Some(&"anna")) && turns.take(None));
        turns.wait_no_more(Some(&"anna"));
        turns.give_back(Some(&"anna"));
        turns.give_back(None);
        assert!(turns.of.is_empty(), "{turns:?}");
        assert_eq!((turns.own, turns.holders), Default::default());
    }
}
