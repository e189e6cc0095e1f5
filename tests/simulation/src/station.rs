//! A station: the real receiver over a store.

use std::collections::VecDeque;

use keepshare_base::{Epoch, OriginId, Seq};
use keepshare_proto::{
    Text,
    receiver::{Commit, Receiver, ReceiverOptions, Ticket},
};
use rand::rngs::StdRng;

use crate::{clocks::Arrived, sides::Store};

/// A station with its driver.
#[derive(Debug)]
pub(crate) struct Station<K> {
    pub(crate) receiver: Receiver,
    pub(crate) store: K,
    /// Counts its starts; what was meant for an earlier one is dropped.
    pub(crate) start: u64,
    pub(crate) up: bool,
    pub(crate) full: bool,
    /// Submitted and not yet taken by the store.
    pub(crate) queue: VecDeque<(Commit, Arrived)>,
    /// Taken by the store and not yet synced: tickets and the records they end at.
    pub(crate) unsynced: VecDeque<(Ticket, usize)>,
    pub(crate) syncing: bool,
    pub(crate) link: Option<usize>,
    pub(crate) timer: Option<u64>,
    /// The highest place that was ever acknowledged, unless it was rolled back since.
    pub(crate) acked: Option<(Epoch, Seq)>,
    /// How many of the next changes the store refuses, as one that is damaged would.
    pub(crate) refuses: u32,
    /// What its clock is off by, in microseconds.
    pub(crate) clock_off: i64,
    /// That was nothing all the time.
    pub(crate) is_steady: bool,
    /// An older copy of its disk was put back once.
    pub(crate) has_lost: bool,
    /// How the last frame came.
    pub(crate) arrived: Option<Arrived>,
    /// It refused one: what was submitted behind it does not fit either.
    refused: bool,
}

impl<K: Store> Station<K> {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            receiver: new_receiver(),
            store: K::new(seed),
            start: 0,
            up: true,
            full: false,
            queue: VecDeque::new(),
            unsynced: VecDeque::new(),
            syncing: false,
            link: None,
            timer: None,
            acked: None,
            refuses: 0,
            clock_off: 0,
            is_steady: true,
            has_lost: false,
            arrived: None,
            refused: false,
        }
    }

    /// Loses everything that was not synced, and its memory.
    pub(crate) fn crash(&mut self, random: &mut StdRng) {
        self.store.crash(random);
        self.stop();
    }

    fn stop(&mut self) {
        self.receiver = new_receiver();
        self.start += 1;
        self.up = false;
        self.full = false;
        self.queue.clear();
        self.unsynced.clear();
        self.syncing = false;
        self.link = None;
        self.timer = None;
        self.refused = false;
        self.arrived = None;
    }

    /// Moves what was submitted into the store; returns refusals.
    pub(crate) fn take_queue(&mut self) -> Vec<(Ticket, Text)> {
        let mut refused = Vec::new();
        while !self.full
            && let Some((commit, arrived)) = self.queue.pop_front()
        {
            let (ticket, change) = (commit.ticket, commit.filled.change.clone());
            let follows = !self.refused || self.store.follows(&commit);
            if self.refuses > 0 || !follows {
                self.refuses = self.refuses.saturating_sub(1);
                self.refused = true;
                refused.push((ticket, Text::new("the store does not take it")));
                continue;
            }
            match self.store.commit(arrived, commit) {
                Ok(()) => self.unsynced.push_back((ticket, self.store.taken())),
                // What was refused before it is missing.
                Err(reason) if self.refused => refused.push((ticket, reason)),
                Err(reason) => {
                    panic!("the store refused what an honest master sent: {reason}: {change:?}")
                }
            }
        }
        refused
    }
}

fn new_receiver() -> Receiver {
    let set = "projects".parse().expect("a set name");
    Receiver::new(ReceiverOptions { set, origin: OriginId(1) })
}
