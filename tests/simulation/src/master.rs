//! A master: the real shippers over a journal that drops its oldest changes.

use std::collections::{BTreeMap, VecDeque};

use keepshare_base::{
    Change, Epoch, FileId, FilledChange, Position, RunningHash, Seq, Stamp, StationName,
};
use keepshare_proto::{
    FileLine, NameLine, Place, SetSettings,
    epochs::Epochs,
    running_after,
    shipper::{Head, JournalEntry, MirrorId, Shipper, ShipperOptions},
};
use rand::rngs::StdRng;

use crate::{Tree, world::ORIGIN};

/// A master with its drivers, one for each station.
#[derive(Debug)]
pub(crate) struct Master {
    pub(crate) source: Source,
    pub(crate) destinations: Vec<Destination>,
    /// What they say of the journal.
    pub(crate) epochs: Epochs,
    pub(crate) start: u64,
    pub(crate) up: bool,
    /// It holds the origin; another one may not begin an epoch.
    pub(crate) holds: bool,
}

/// The tree and its journal.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) tree: Tree,
    pub(crate) epoch: Epoch,
    entries: VecDeque<JournalEntry>,
    /// The places right before the oldest entry, and after each one.
    base: (Seq, RunningHash),
    /// The most changes it holds.
    limit: usize,
    births: u64,
    /// What each destination is known to have, as stored.
    pub(crate) acked: BTreeMap<usize, Place>,
}

/// One destination of a master.
#[derive(Debug)]
pub(crate) struct Destination {
    pub(crate) shipper: Shipper,
    pub(crate) link: Option<usize>,
    pub(crate) timer: Option<u64>,
    pub(crate) mirror: Option<Mirror>,
}

/// A mirror under way: the tree at one place, and what the station has.
#[derive(Debug)]
pub(crate) struct Mirror {
    pub(crate) id: MirrorId,
    pub(crate) stamp: Stamp,
    pub(crate) tree: Tree,
    pub(crate) names: Vec<NameLine>,
    pub(crate) files: Vec<FileLine>,
    pub(crate) parts: Option<VecDeque<FilledChange>>,
}

impl Source {
    pub(crate) fn new(limit: usize) -> Self {
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

    pub(crate) fn head(&self) -> Head {
        Head { epoch: self.epoch, seq: self.place().seq, oldest: self.base.0.next() }
    }

    /// Returns the last place of the journal.
    pub(crate) fn place(&self) -> Place {
        let (seq, running) =
            self.entries.back().map_or(self.base, |entry| (entry.position.seq, entry.running));
        Place { epoch: self.epoch, seq, running }
    }

    pub(crate) fn hash_at(&self, seq: Seq) -> Option<RunningHash> {
        if seq == Seq(0) {
            return Some(RunningHash::EMPTY);
        }
        if seq == self.base.0 {
            return Some(self.base.1);
        }
        let entry = self.entries.iter().find(|entry| entry.position.seq == seq);
        entry.map(|entry| entry.running)
    }

    /// Returns changes from `from` on; `None` where they were dropped.
    pub(crate) fn read(&self, from: Seq, bytes_max: usize) -> Option<Vec<JournalEntry>> {
        let first = self.entries.iter().position(|entry| entry.position.seq == from)?;
        let mut bytes = 0;
        let fits = |entry: &&JournalEntry| {
            bytes += 200 + entry.filled.payload.len();
            bytes <= bytes_max || entry.position.seq == from
        };
        Some(self.entries.iter().skip(first).take_while(fits).cloned().collect())
    }

    /// Makes a random edit and journals it.
    pub(crate) fn edit(&mut self, random: &mut StdRng, stamp: Stamp) {
        self.births += 1;
        let id = FileId { origin: ORIGIN, epoch: self.epoch, counter: self.births };
        let filled = self.tree.edit(random, stamp, id);
        self.tree.apply(&filled);
        self.tree.prune();
        self.append(filled);
    }

    /// Journals that a mirror begins: it has a place of its own.
    pub(crate) fn begin_mirror(&mut self, stamp: Stamp) -> Place {
        let change = Change { stamp, ..Change::default() };
        self.append(FilledChange { change, payload: Vec::new() });
        self.place()
    }

    /// Begins an epoch above `above` with an empty journal.
    ///
    /// The first change carries the time: were it the same in all journals, two that begin one epoch could not be told
    /// apart there.
    pub(crate) fn begin_epoch(&mut self, above: Epoch, stamp: Stamp) {
        self.epoch = above.next();
        self.entries.clear();
        self.base = (Seq(0), RunningHash::EMPTY);
        let change = Change { stamp, ..Change::default() };
        self.append(FilledChange { change, payload: Vec::new() });
    }

    /// Becomes what a copy of its database was, and journals what it then finds changed in the tree.
    ///
    /// The count of births goes on: a real source takes it from a station's listing.
    pub(crate) fn put_back(&mut self, copy: &Self, stamp: Stamp) {
        let now = std::mem::replace(self, copy.clone());
        self.births = now.births;
        let names = self.tree.names_page(None, usize::MAX).0;
        let files = self.tree.files_page(None, usize::MAX).0;
        self.tree = now.tree;
        let found = self.tree.difference(&names, &files, stamp, usize::MAX);
        found.into_iter().for_each(|filled| self.append(filled));
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

impl Master {
    pub(crate) fn new(source: Source, stations: usize, seed: u64) -> Self {
        let destinations =
            (0..stations).map(|station| Destination::new(&source, station, seed)).collect();
        let epochs = Self::no_epochs(stations);
        Self { source, destinations, epochs, start: 0, up: true, holds: true }
    }

    fn no_epochs(stations: usize) -> Epochs {
        Epochs::new((0..stations).map(station_name))
    }

    /// Loses its memory; the journal and what it says of the destinations stay.
    pub(crate) fn crash(&mut self, seed: u64) {
        self.start += 1;
        self.up = false;
        self.epochs = Self::no_epochs(self.destinations.len());
        for station in 0..self.destinations.len() {
            self.destinations[station] = Destination::new(&self.source, station, seed);
        }
    }
}

/// Returns what a station is called.
pub(crate) fn station_name(station: usize) -> StationName {
    format!("station-{station}").parse().expect("a station name")
}

impl Destination {
    fn new(source: &Source, station: usize, seed: u64) -> Self {
        let options = ShipperOptions {
            set: "projects".parse().expect("a set name"),
            origin: ORIGIN,
            settings: SetSettings::default(),
            acked: source.acked.get(&station).copied(),
            seed: seed ^ station as u64,
        };
        Self { shipper: Shipper::new(options), link: None, timer: None, mirror: None }
    }
}
