//! A station's real store on a disk that forgets, tears and is put back.

use std::{collections::BTreeMap, sync::Arc};

use keepshare_base::{CommitId, Epoch, FileId, Kind, Name, Position, RunningHash, Seq, Stamp};
use keepshare_proto::{
    FileLine, NameLine, StateDigest, Text,
    receiver::{Commit, Standing},
};
use keepshare_replication::kept;
use keepshare_versioning::{
    CommitError, FileState, Incoming, READ_BYTES_MAX, Reader, Store as Versions, StoreOptions,
    View,
    disk::sim::{Crash, SimDisk},
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::live::Live;
use crate::{
    clocks::{self, Arrived},
    sides::{Shown, Store, Version, VersionKey, shown},
    world::ORIGIN,
};

/// So often a copy of the disk is kept, to be put back later.
const COPY_EVERY: usize = 8;

/// So many copies.
const COPIES_MAX: usize = 4;

/// So many lines at a time where all are read.
const PAGE: usize = 1000;

/// A real store.
#[derive(Debug)]
pub struct RealStore {
    disk: SimDisk,
    store: Versions,
    /// The last time that was told: nothing here is without one.
    stamp: Stamp,
    taken: usize,
    syncs: usize,
    /// The hash of the journal at each place that was committed.
    running: BTreeMap<(Epoch, Seq), RunningHash>,
    /// How each commit came.
    came: BTreeMap<CommitId, (RunningHash, Arrived)>,
    /// Copies of the disk, each with how many changes had been taken.
    copies: Vec<(usize, SimDisk)>,
    /// What was a version once while no mirror ran, and since which commit: it stays what it is, where it is.
    seen: BTreeMap<(FileId, CommitId), StateDigest>,
    live: Live,
    /// How often the live tree follows, and how often it is made durable, of all syncs.
    pace: (f64, f64),
    random: StdRng,
    /// The disk fails at the next sync.
    fails: bool,
}

impl RealStore {
    fn open(disk: SimDisk) -> (SimDisk, Versions) {
        let options = StoreOptions {
            cache_bytes: 1 << 20,
            reserve_bytes: 0,
            log_bytes_min: 64 << 10,
            let_go_min: 16,
        };
        let (store, _) =
            Versions::open(Arc::new(disk.clone()), options).expect("a set that can be opened");
        (disk, store)
    }

    fn reopen(&mut self, crash: Crash) {
        (self.disk, self.store) = Self::open(self.disk.reopen(crash));
    }

    fn view(&self) -> (Reader, View) {
        let reader = self.store.reader();
        let view = reader.view().expect("a set that can be read");
        (reader, view)
    }

    fn content(reader: &Reader, state: &FileState) -> Vec<u8> {
        let (mut bytes, size) = (Vec::new(), state.meta.size);
        while (bytes.len() as u64) < size {
            let at = bytes.len() as u64;
            let len = usize::try_from(size - at).expect("small").min(READ_BYTES_MAX);
            bytes.extend(reader.read(state, at, len).expect("a content that can be read"));
        }
        bytes
    }

    fn key(&self, file: FileId, at: Position) -> VersionKey {
        let running = self.running.get(&(at.epoch, at.seq)).copied();
        (file, at, running.unwrap_or(RunningHash::EMPTY))
    }

    /// Returns all states that are versions, whoever made them so.
    fn states(&self) -> BTreeMap<(FileId, CommitId), StateDigest> {
        let (_, view) = self.view();
        let files = view.ever_after(None, PAGE).expect("a set that can be read");
        let mut states = BTreeMap::new();
        for file in files {
            let versions = view.versions(file).expect("a set that can be read");
            for state in versions.into_iter().filter(|state| state.cut && !state.expired) {
                let digest = StateDigest::of(&state.meta, state.hash.as_ref());
                states.insert((file, state.commit), digest);
            }
        }
        states
    }

    /// What became a version stays one. Only what a mirror brought itself may go again, while that mirror runs.
    fn check_grown(&mut self) {
        let states = self.states();
        for (key, digest) in &self.seen {
            assert_eq!(states.get(key), Some(digest), "what was a version is none: {key:?}");
        }
        if self.standing().mirror.is_none() {
            self.seen = states;
        }
    }

    fn follow(&mut self) {
        self.live.follow(&self.store.reader());
    }
}

impl Store for RealStore {
    const TELLS_CONTENTS: bool = true;

    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed ^ 0x73_u64.rotate_left(48));
        let pace = [(1.0, 0.04), (0.3, 0.1), (0.05, 0.3)][random.random_range(0..3)];
        let (disk, store) = Self::open(SimDisk::new());
        Self {
            disk,
            store,
            stamp: Stamp(1),
            taken: 0,
            syncs: 0,
            running: BTreeMap::new(),
            came: BTreeMap::new(),
            copies: Vec::new(),
            seen: BTreeMap::new(),
            live: Live::new(),
            pace,
            random,
            fails: false,
        }
    }

    fn standing(&self) -> Standing {
        kept::standing(&self.view().1, ORIGIN).expect("a set that can be read")
    }

    fn set_fence(&mut self, epoch: Epoch) {
        self.store.fence(self.stamp, ORIGIN, epoch).expect("an epoch that can be agreed to");
        self.store.sync().expect("a disk that works");
    }

    fn follows(&self, _commit: &Commit) -> bool {
        true
    }

    fn commit(&mut self, arrived: Arrived, commit: Commit) -> Result<(), Text> {
        let Commit { position, running, complete, filled, .. } = commit;
        self.stamp = arrived.arrival.clock;
        let incoming = Incoming { position, complete, running, filled };
        match self.store.commit(arrived.arrival, &incoming) {
            Ok(at) => drop(self.came.insert(at, (running, arrived))),
            Err(CommitError::Refused(refusal)) => return Err(Text::new(&refusal.to_string())),
            Err(error) => panic!("a change could not be kept: {error:?}"),
        }
        self.running.insert((position.epoch, position.seq), running);
        self.taken += 1;
        Ok(())
    }

    fn taken(&self) -> usize {
        self.taken
    }

    fn fail_next_sync(&mut self) {
        self.fails = true;
    }

    fn sync(&mut self, _through: usize) -> bool {
        // Nothing is asked of the disk where a fence was made durable meanwhile, with all before it.
        let is_due = self.view().1.latest() < self.store.latest();
        let fails = std::mem::take(&mut self.fails) && is_due;
        if fails {
            self.disk.fail_sync(self.disk.syncs() + 1);
        }
        let synced = self.store.sync();
        assert_eq!(synced.is_err(), fails, "a sync of a disk ended like this: {synced:?}");
        if fails {
            return false;
        }
        self.syncs += 1;
        if self.random.random_bool(self.pace.0) {
            self.follow();
        }
        if self.random.random_bool(self.pace.1) {
            let synced = self.live.sync();
            self.store.set_live(synced);
        }
        if self.syncs.is_multiple_of(COPY_EVERY) {
            self.check_grown();
            self.copies.push((self.taken, self.disk.reopen(Crash::LoseAll)));
            let too_many = self.copies.len().saturating_sub(COPIES_MAX);
            self.copies.drain(..too_many);
            self.store.flush().expect("a disk that works");
            while self.store.maintain().expect("upkeep that works") {}
        }
        true
    }

    fn calm(&mut self) {
        self.pace.0 = 1.0;
        self.follow();
        self.check_grown();
    }

    fn crash(&mut self, random: &mut StdRng) {
        let crash = match random.random_range(0..3) {
            0 => Crash::LoseAll,
            1 => Crash::KeepAll,
            _ => Crash::Tear(random.random()),
        };
        self.reopen(crash);
        self.live.crash(crash);
        if self.random.random_bool(self.pace.0) {
            self.follow();
        }
    }

    fn roll_back(&mut self, records: usize) {
        let keep = self.taken.saturating_sub(records);
        let older = self.copies.iter().rposition(|(taken, _)| *taken <= keep);
        let Some(older) = older else { return };
        // Records of the live tree that are as old as the copy would not tell that there was more.
        self.follow();
        self.copies.truncate(older + 1);
        self.disk = self.copies[older].1.clone();
        self.reopen(Crash::KeepAll);
        self.live.crash(Crash::KeepAll);
        self.follow();
        self.seen.clear();
        self.check_grown();
    }

    fn names_page(&self, after: Option<&(FileId, Name)>, limit: usize) -> (Vec<NameLine>, bool) {
        let reader = self.store.reader();
        let mut lines = kept::names_page(&reader, after.cloned(), limit + 1).expect("a set");
        let end = lines.len() <= limit;
        lines.truncate(limit);
        (lines, end)
    }

    fn files_page(&self, after: Option<FileId>, limit: usize) -> (Vec<FileLine>, bool) {
        let reader = self.store.reader();
        let mut lines = kept::files_page(&reader, after, limit + 1).expect("a set");
        let end = lines.len() <= limit;
        lines.truncate(limit);
        (lines, end)
    }

    fn shown(&self) -> Shown {
        let (reader, view) = self.view();
        let names = view.names_after(None, PAGE).expect("a set that can be read");
        let names =
            names.into_iter().map(|(parent, entry)| ((parent, entry.name.to_string()), entry.file));
        shown(FileId::ROOT, names, |file| {
            let state = view.file(file, CommitId::MAX).expect("a set that can be read");
            let state = state.unwrap_or_else(|| panic!("{file} has a name and is not there"));
            let is_file = state.meta.kind == Kind::File;
            let content = if is_file { Self::content(&reader, &state) } else { Vec::new() };
            (state.meta.kind, state.meta.mode, content)
        })
    }

    fn versions(&self) -> BTreeMap<VersionKey, Version> {
        let (reader, view) = self.view();
        let files = view.ever_after(None, PAGE).expect("a set that can be read");
        let mut versions = BTreeMap::new();
        for file in files {
            for state in view.versions(file).expect("a set that can be read") {
                if state.meta.kind != Kind::File || state.fuzzy || state.expired {
                    continue;
                }
                let Some(id) = state.version().filter(|id| id.station_commit().is_none()) else {
                    continue;
                };
                let digest = StateDigest::of(&state.meta, state.hash.as_ref());
                let content = Some(Self::content(&reader, &state));
                versions.insert(self.key(file, id.0), Version { digest, content });
            }
        }
        versions
    }

    fn commits(&self) -> Vec<clocks::Commit> {
        let (_, view) = self.view();
        let commit = |(at, (running, arrived)): (&CommitId, &(RunningHash, Arrived))| {
            let info = view.commit_info(*at).expect("a set that can be read")?;
            Some(clocks::Commit {
                commit: *at,
                position: info.position,
                running: *running,
                complete: info.complete,
                arrival: info.arrival,
                moment: info.moment,
                arrived: *arrived,
            })
        };
        self.came.iter().filter_map(commit).collect()
    }

    fn commit_at(&self, through: Stamp) -> CommitId {
        self.view().1.commit_at(through).expect("a set that can be read")
    }

    fn check(&self) {
        self.live.check(&self.shown());
    }
}
