//! A tree that is edited at random, and a journal that drops its oldest changes.

use std::collections::{BTreeMap, VecDeque};

use keepshare_base::{Change, Epoch, FileId, FilledChange, Position, RunningHash, Seq, Stamp};
use keepshare_proto::{
    Place, running_after,
    shipper::{Head, JournalEntry},
};
use rand::rngs::StdRng;

use super::Tree;
use crate::{
    sides::{Listing, Moment, Shown, Source},
    world::ORIGIN,
};

/// How many parts a mirror gives at once.
const PARTS_AT_ONCE: usize = 3;

/// The tree and its journal.
#[derive(Clone, Debug)]
pub struct ModelSource {
    tree: Tree,
    epoch: Epoch,
    entries: VecDeque<JournalEntry>,
    /// The places right before the oldest entry, and after each one.
    base: (Seq, RunningHash),
    /// The most changes it holds.
    limit: usize,
    births: u64,
    /// What each destination is known to have, as stored.
    acked: BTreeMap<usize, Place>,
}

/// A mirror under way: the tree at one place.
#[derive(Debug)]
pub struct ModelMirror {
    stamp: Stamp,
    tree: Tree,
    parts: Option<VecDeque<FilledChange>>,
}

impl ModelSource {
    /// Returns an empty tree, with a journal of so many changes.
    pub fn new(limit: usize) -> Self {
        let mut source = Self {
            tree: Tree::default(),
            epoch: Epoch::FIRST,
            entries: VecDeque::new(),
            base: (Seq(0), RunningHash::EMPTY),
            limit,
            births: 0,
            acked: BTreeMap::new(),
        };
        source.append(FilledChange::default());
        source
    }

    fn append(&mut self, filled: FilledChange) {
        let before = self.place();
        let position = Position { origin: ORIGIN, epoch: self.epoch, seq: before.seq.next() };
        let running = running_after(&before.running, &filled.change);
        self.entries.push_back(JournalEntry { position, running, filled });
        while self.entries.len() > self.limit {
            if let Some(oldest) = self.entries.pop_front() {
                self.base = (oldest.position.seq, oldest.running);
            }
        }
    }
}

impl Source for ModelSource {
    type Mirror = ModelMirror;

    fn head(&self) -> Head {
        Head { epoch: self.epoch, seq: self.place().seq, oldest: self.base.0.next() }
    }

    fn place(&self) -> Place {
        let (seq, running) =
            self.entries.back().map_or(self.base, |entry| (entry.position.seq, entry.running));
        Place { epoch: self.epoch, seq, running }
    }

    fn hash_at(&self, seq: Seq) -> Option<RunningHash> {
        if seq == Seq(0) {
            return Some(RunningHash::EMPTY);
        }
        if seq == self.base.0 {
            return Some(self.base.1);
        }
        let entry = self.entries.iter().find(|entry| entry.position.seq == seq);
        entry.map(|entry| entry.running)
    }

    fn read(&mut self, from: Seq, bytes_max: usize) -> Option<Vec<JournalEntry>> {
        let first = self.entries.iter().position(|entry| entry.position.seq == from)?;
        let mut bytes = 0;
        let fits = |entry: &&JournalEntry| {
            bytes += 200 + entry.filled.payload.len();
            bytes <= bytes_max || entry.position.seq == from
        };
        Some(self.entries.iter().skip(first).take_while(fits).cloned().collect())
    }

    fn acked(&self, station: usize) -> Option<Place> {
        self.acked.get(&station).copied()
    }

    fn set_acked(&mut self, station: usize, place: Place) {
        self.acked.insert(station, place);
    }

    fn is_replaced(&self) -> bool {
        self.acked.is_empty()
    }

    fn edit(&mut self, at: Moment, random: &mut StdRng) {
        self.births += 1;
        let id = FileId { origin: ORIGIN, epoch: self.epoch, counter: self.births };
        let filled = self.tree.edit(random, at.stamp, id);
        self.tree.apply(&filled);
        self.tree.prune();
        self.append(filled);
    }

    fn work(&mut self, _at: Moment, _random: &mut StdRng) -> Option<u64> {
        None
    }

    fn rests(&self) -> bool {
        true
    }

    fn calm(&mut self) {}

    fn begin_mirror(&mut self, at: Moment) -> Option<(Place, ModelMirror)> {
        let stamp = at.stamp;
        let change = Change { stamp, ..Change::default() };
        self.append(FilledChange { change, payload: Vec::new() });
        Some((self.place(), ModelMirror { stamp, tree: self.tree.clone(), parts: None }))
    }

    fn mirror_parts(&mut self, mirror: &mut ModelMirror, listing: &Listing) -> Vec<FilledChange> {
        let ModelMirror { tree, stamp, parts } = mirror;
        let parts = parts.get_or_insert_with(|| {
            tree.difference(&listing.names, &listing.files, *stamp, PARTS_AT_ONCE).into()
        });
        let some = parts.len().min(PARTS_AT_ONCE);
        parts.drain(..some).collect()
    }

    /// The first change carries the time: were it the same in all journals, two that begin one epoch could not be told
    /// apart there.
    fn begin_epoch(&mut self, above: Epoch, stamp: Stamp) {
        self.epoch = above.next();
        self.entries.clear();
        self.base = (Seq(0), RunningHash::EMPTY);
        let change = Change { stamp, ..Change::default() };
        self.append(FilledChange { change, payload: Vec::new() });
    }

    fn restart(&mut self) {}

    /// The count of births goes on: a real source takes it from a station's listing. A copy of another epoch is none of this
    /// tree, whose files are called by the epoch that they were born in.
    fn put_back(&mut self, copy: &Self, at: Moment) {
        if copy.epoch != self.epoch {
            return;
        }
        let now = std::mem::replace(self, copy.clone());
        self.births = now.births;
        let names = self.tree.names_page(None, usize::MAX).0;
        let files = self.tree.files_page(None, usize::MAX).0;
        self.tree = now.tree;
        let found = self.tree.difference(&names, &files, at.stamp, usize::MAX);
        found.into_iter().for_each(|filled| self.append(filled));
    }

    fn take_over(&mut self, at: Moment) {
        self.begin_epoch(self.epoch, at.stamp);
        self.acked.clear();
    }

    fn shown(&self) -> Shown {
        self.tree.shown()
    }

    fn has_held(&self, _content: &[u8]) -> bool {
        true
    }

    fn must_be_versions(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }
}
