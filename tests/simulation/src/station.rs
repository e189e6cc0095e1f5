//! A station: the real receiver over a store that loses what was not synced.

use std::collections::{BTreeMap, VecDeque};

use keepshare_base::{Epoch, FileId, FilledChange, OriginId, Position, RunningHash, Seq};
use keepshare_proto::{
    Place, StateDigest, Text,
    receiver::{Commit, Receiver, ReceiverOptions, Standing, Ticket},
};

use crate::{Tree, world::ORIGIN};

/// One commit as a store keeps it.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its place.
    pub position: Position,
    /// The hash of the journal there.
    pub running: RunningHash,
    /// False inside a mirror.
    pub complete: bool,
    /// It ended a mirror.
    pub jump: bool,
    /// The change.
    pub filled: FilledChange,
}

/// What a station keeps, in memory, and how much of it would survive a crash.
#[derive(Clone, Debug, Default)]
pub struct Store {
    records: Vec<Record>,
    durable: usize,
    tree: Tree,
    fence: Option<Epoch>,
    /// The versions cut by changes: what each file was at a place of a journal.
    versions: BTreeMap<(FileId, Position, RunningHash), StateDigest>,
}

/// A station with its driver.
#[derive(Debug)]
pub(crate) struct Station {
    pub(crate) receiver: Receiver,
    pub(crate) store: Store,
    /// Counts its starts; what was meant for an earlier one is dropped.
    pub(crate) start: u64,
    pub(crate) up: bool,
    pub(crate) full: bool,
    /// Submitted and not yet taken by the store.
    pub(crate) queue: VecDeque<Commit>,
    /// Taken by the store and not yet synced: tickets and the records they end at.
    pub(crate) unsynced: VecDeque<(Ticket, usize)>,
    pub(crate) syncing: bool,
    pub(crate) link: Option<usize>,
    pub(crate) timer: Option<u64>,
    /// The highest place that was ever acknowledged, unless it was rolled back since.
    pub(crate) acked: Option<(Epoch, Seq)>,
    /// How many of the next changes the store refuses, as one that is damaged would.
    pub(crate) refuses: u32,
    /// It refused one: what was submitted behind it does not fit either.
    refused: bool,
}

impl Store {
    /// Returns what it keeps, oldest first.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Returns the present tree.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Returns the versions that changes cut, by file, place and journal.
    pub fn versions(&self) -> &BTreeMap<(FileId, Position, RunningHash), StateDigest> {
        &self.versions
    }

    /// Returns where it stands, counting only what is durable.
    pub fn standing(&self) -> Standing {
        Self::standing_of(&self.records[..self.durable], self.fence)
    }

    /// Agrees to an epoch, durably.
    pub fn set_fence(&mut self, epoch: Epoch) {
        assert!(self.fence <= Some(epoch), "a fence at {:?} was lowered to {epoch}", self.fence);
        self.fence = Some(epoch);
    }

    /// Takes a change that its receiver let through, and holds it to everything a receiver must have checked.
    pub fn commit(&mut self, commit: Commit) {
        let Commit { position, running, complete, filled, .. } = commit;
        let standing = Self::standing_of(&self.records, self.fence);
        assert_eq!(position.origin, ORIGIN, "a foreign origin's change was committed");
        assert!(position.epoch >= standing.fence, "a stale epoch was committed: {position}");
        assert_eq!(position.epoch, standing.fence, "an epoch was committed before it was agreed");
        let here = standing.place.filter(|place| place.epoch == position.epoch);
        let reached = here.map_or(Seq(0), |place| place.seq);
        if complete && standing.mirror.is_none() {
            assert!(here.is_some(), "{position} was committed without a mirror before it");
            assert_eq!(position.seq, reached.next(), "changes were committed out of order");
        } else {
            let at = Some((position.epoch, position.seq));
            let fits = at > standing.highest || (standing.mirror == at && at == standing.highest);
            assert!(fits, "a mirror led to {position}, and {:?} was there", standing.highest);
        }
        let jump = complete && standing.mirror.is_some();
        self.append(Record { position, running, complete, jump, filled });
    }

    /// Everything through this record is synced.
    pub fn sync(&mut self, through: usize) {
        assert!(through <= self.records.len());
        self.durable = self.durable.max(through);
    }

    /// Forgets what was not synced.
    pub fn crash(&mut self) {
        self.roll_back(self.durable);
    }

    /// Becomes what it was after the first `keep` records, as a disk put back from a backup.
    pub fn roll_back(&mut self, keep: usize) {
        let records = std::mem::take(&mut self.records);
        *self = Self { fence: self.fence, ..Self::default() };
        records.into_iter().take(keep).for_each(|record| self.append(record));
        self.durable = self.records.len();
    }

    fn append(&mut self, record: Record) {
        let key = |file: FileId| (file, record.position, record.running);
        for file in &record.filled.change.cuts {
            self.versions.insert(key(*file), self.tree.digest(*file));
        }
        self.tree.apply(&record.filled);
        for row in record.filled.change.files.iter().filter(|row| row.cut) {
            self.versions.insert(key(row.file), self.tree.digest(row.file));
        }
        self.records.push(record);
    }

    fn standing_of(records: &[Record], fence: Option<Epoch>) -> Standing {
        let last = records.iter().rev().find(|record| record.complete);
        let place = last.map(|record| Place {
            epoch: record.position.epoch,
            seq: record.position.seq,
            running: record.running,
        });
        let at = |record: &Record| (record.position.epoch, record.position.seq);
        let mirror = records.last().filter(|record| !record.complete).map(at);
        let highest = records.iter().map(at).max();
        Standing { place, fence: fence.unwrap_or(Epoch::FIRST), highest, mirror }
    }
}

impl Station {
    pub(crate) fn new() -> Self {
        Self {
            receiver: new_receiver(),
            store: Store::default(),
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
            refused: false,
        }
    }

    /// Loses everything that was not synced, and its memory.
    pub(crate) fn crash(&mut self) {
        self.store.crash();
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
    }

    /// Moves what was submitted into the store; returns refusals.
    pub(crate) fn take_queue(&mut self) -> Vec<(Ticket, Text)> {
        let mut refused = Vec::new();
        while !self.full
            && let Some(commit) = self.queue.pop_front()
        {
            let ticket = commit.ticket;
            let next = Store::standing_of(&self.store.records, self.store.fence);
            let follows = !self.refused
                || !commit.complete
                || next.mirror.is_some()
                || next.place.is_some_and(|place| place.seq.next() == commit.position.seq);
            if self.refuses > 0 || !follows {
                self.refuses = self.refuses.saturating_sub(1);
                self.refused = true;
                refused.push((ticket, Text::new("the store does not take it")));
                continue;
            }
            self.store.commit(commit);
            self.unsynced.push_back((ticket, self.store.records.len()));
        }
        refused
    }
}

fn new_receiver() -> Receiver {
    let set = "projects".parse().expect("a set name");
    Receiver::new(ReceiverOptions { set, origin: OriginId(1) })
}
