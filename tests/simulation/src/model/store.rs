//! A store that forgets what was not synced when it crashes.

use std::collections::BTreeMap;

use keepshare_base::{Epoch, FileId, FilledChange, Name, Position, RunningHash, Seq};
use keepshare_proto::{
    FileLine, NameLine, Place, StateDigest, Text,
    receiver::{Commit, Standing},
};
use rand::rngs::StdRng;

use super::Tree;
use crate::{
    clocks::Arrived,
    sides::{Shown, Store, Version, VersionKey},
    world::ORIGIN,
};

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
pub struct ModelStore {
    records: Vec<Record>,
    durable: usize,
    tree: Tree,
    fence: Option<Epoch>,
    /// The versions cut by changes: what each file was at a place of a journal.
    versions: BTreeMap<VersionKey, StateDigest>,
}

impl ModelStore {
    /// Returns what it keeps, oldest first.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    fn keep(&mut self, keep: usize) {
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

impl Store for ModelStore {
    const TELLS_CONTENTS: bool = false;

    fn new(_seed: u64) -> Self {
        Self::default()
    }

    fn standing(&self) -> Standing {
        Self::standing_of(&self.records[..self.durable], self.fence)
    }

    fn set_fence(&mut self, epoch: Epoch) {
        assert!(self.fence <= Some(epoch), "a fence at {:?} was lowered to {epoch}", self.fence);
        self.fence = Some(epoch);
    }

    fn follows(&self, commit: &Commit) -> bool {
        let next = Self::standing_of(&self.records, self.fence);
        !commit.complete
            || next.mirror.is_some()
            || next.place.is_some_and(|place| place.seq.next() == commit.position.seq)
    }

    /// Takes a change, and holds it to everything a receiver must have checked.
    fn commit(&mut self, _arrived: Arrived, commit: Commit) -> Result<(), Text> {
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
        Ok(())
    }

    fn taken(&self) -> usize {
        self.records.len()
    }

    fn sync(&mut self, through: usize) -> bool {
        assert!(through <= self.records.len());
        self.durable = self.durable.max(through);
        true
    }

    fn crash(&mut self, _random: &mut StdRng) {
        self.keep(self.durable);
    }

    fn roll_back(&mut self, records: usize) {
        self.keep(self.records.len().saturating_sub(records));
    }

    fn names_page(&self, after: Option<&(FileId, Name)>, limit: usize) -> (Vec<NameLine>, bool) {
        self.tree.names_page(after, limit)
    }

    fn files_page(&self, after: Option<FileId>, limit: usize) -> (Vec<FileLine>, bool) {
        self.tree.files_page(after, limit)
    }

    fn shown(&self) -> Shown {
        self.tree.shown()
    }

    fn versions(&self) -> BTreeMap<VersionKey, Version> {
        let version = |digest: &StateDigest| Version { digest: *digest, content: None };
        self.versions.iter().map(|(key, digest)| (*key, version(digest))).collect()
    }
}
