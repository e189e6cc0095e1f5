//! A master whose decisions are real, over a folder that people work in, with its journal in memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use keepshare_base::{
    Change, Content, ContentHash, Epoch, FileId, FilledChange, Kind, Name, Position, RunningHash,
    Seq, Stamp,
};
use keepshare_decide::{
    FileRecord, Known, Ledger,
    compose::When,
    memory::Memory,
    mirror::{self, Filled, Goal, Mirror, MirrorProgress, Reader},
    withhold::{is_stale, is_withheld, strip},
};
use keepshare_proto::{
    FileLine, NameLine, Place, running_after,
    shipper::{Head, JournalEntry},
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::restoring::Restores;
use crate::{
    clocks::BEGAN,
    sides::{Listing, Moment, Shown, Source, shown},
    source::{
        engine::Engine,
        folder::{Folder, ROOT},
        survey::hash_of,
    },
    world::ORIGIN,
};

/// How many parts a mirror gives at once.
const PARTS_AT_ONCE: usize = 3;

/// More files than are made between two starts, or epochs.
const FILES_PER_START: u64 = 1_000_000;

/// So many things people did before anybody watched.
const FOUND_AT_FIRST: usize = 100;

/// Nothing is waited for longer than this, in microseconds.
const WAIT_MAX: u64 = 100_000;

/// A folder, who decides about it, and its journal.
#[derive(Clone, Debug)]
pub struct RealSource {
    engine: Engine,
    /// How often somebody does something between two looks.
    haste: f64,
    /// How long a turn takes, in microseconds.
    turn: u64,
    /// What is told gets lost.
    loses: bool,
    /// Things are mounted over folders.
    mounts: bool,
    /// How often somebody restores a file in its place, and how many stations must have what that replaces.
    restoring: f64,
    stations: usize,
    restores: Restores,
    /// How many changes the journal holds.
    limit: usize,
    /// The hash of the journal after each change of this epoch.
    running: Vec<RunningHash>,
    /// What was read, by the change that has it; lost when the process ends.
    payloads: BTreeMap<Seq, Vec<u8>>,
    acked: BTreeMap<usize, Place>,
    /// How often it started, whatever was put back.
    starts: u64,
}

/// A mirror under way: the map at one place.
#[derive(Debug)]
pub struct RealMirror {
    map: Memory,
    goal: Goal,
    parts: Option<VecDeque<FilledChange>>,
}

impl RealSource {
    fn set_now(&mut self, at: Moment) {
        self.engine.folder.set_now(at.now.0);
        let truly = BEGAN.plus_micros(i64::try_from(at.now.0).expect("a short life"));
        self.engine.folder.set_skew(at.stamp.micros_since(truly));
    }

    /// Returns a folder of which a seed says how it is worked in, for so many stations and with a journal of so many changes.
    pub fn new(seed: u64, stations: usize, limit: usize) -> Self {
        let mut random = StdRng::seed_from_u64(seed ^ 0x77_u64.rotate_left(24));
        let mut folder = Folder::new([0, 4000, 10_000][random.random_range(0..3)]);
        folder.late = [0, 500, 20_000][random.random_range(0..3)];
        folder.silence = [0.0, 0.0, 0.2][random.random_range(0..3)];
        folder.vanishes = [0.0, 0.0, 0.0, 0.003][random.random_range(0..4)];
        folder.has_links = random.random_bool(0.5);
        let mut engine = Engine::new(folder);
        if random.random_bool(0.3) {
            // There was much before anybody watched it.
            (0..FOUND_AT_FIRST).for_each(|_| engine.folder.act(&mut random));
            engine.restart();
            engine.is_silent = true;
        }
        let mut source = Self {
            engine,
            haste: [0.0, 0.01, 0.1][random.random_range(0..3)],
            turn: [200, 200, 30_000][random.random_range(0..3)],
            loses: random.random_bool(0.3),
            mounts: random.random_bool(0.2),
            restoring: [0.0, 0.1][random.random_range(0..2)],
            stations,
            restores: Restores::default(),
            limit,
            running: Vec::new(),
            payloads: BTreeMap::new(),
            acked: BTreeMap::new(),
            starts: 0,
        };
        source.append(&Change::default());
        source
    }

    fn append(&mut self, change: &Change) {
        let Ok(_) = self.engine.map.append(change);
        self.extend_running();
    }

    fn extend_running(&mut self) {
        let known = self.running.len();
        for change in &self.engine.map.journal[known..] {
            let before = self.running.last().copied().unwrap_or(RunningHash::EMPTY);
            self.running.push(running_after(&before, change));
        }
    }

    fn seq(&self) -> Seq {
        Seq(self.running.len() as u64)
    }

    /// Returns the last change that the journal does not hold any more.
    fn dropped(&self) -> Seq {
        Seq(self.running.len().saturating_sub(self.limit) as u64)
    }

    /// Returns a change with its content, as far as that can still be given.
    fn give(&self, seq: Seq, lost: &mut Vec<(FileId, Seq)>) -> FilledChange {
        let at = usize::try_from(seq.0 - 1).expect("a short journal");
        let mut change = self.engine.map.journal[at].clone();
        let mut stale = self.engine.map.stale.clone();
        let held = self.payloads.get(&seq);
        let mut payload = Vec::new();
        if let Some(held) = held.filter(|_| !is_stale(&change, seq, &stale)) {
            return FilledChange { change, payload: held.clone() };
        }
        let whole = held.map(|held| FilledChange { change: change.clone(), payload: held.clone() });
        if let Some(whole) = &whole {
            for (row, bytes) in whole.contents() {
                if !is_withheld(row.file, seq, &stale) {
                    payload.extend_from_slice(bytes);
                }
            }
        } else {
            for row in &change.files {
                let Content::Extents { hash, .. } = &row.content else { continue };
                if row.content.payload_len() == 0 || is_withheld(row.file, seq, &stale) {
                    continue;
                }
                match self.read_now(row.file).filter(|bytes| ContentHash::of(bytes) == *hash) {
                    Some(bytes) => payload.extend(bytes),
                    None => {
                        let after = Seq(seq.0 - 1);
                        stale.entry(row.file).or_insert((after, Seq(u64::MAX)));
                        lost.push((row.file, after));
                    }
                }
            }
        }
        strip(&mut change, seq, &stale);
        FilledChange { change, payload }
    }

    /// Reads a file as it is now, where it is the one that the map knows.
    fn read_now(&self, file: FileId) -> Option<Vec<u8>> {
        let Ok(record) = self.engine.map.record(file);
        let inode = record?.inode;
        let thing = self.engine.folder.things.get(&inode.number)?;
        (self.engine.folder.seen(inode.number).inode == inode)
            .then(|| thing.content.clone().into_bytes())
    }

    /// Returns the last change of this epoch that every station is known to have.
    fn acked_by_all(&self) -> Option<Seq> {
        let here = self.acked.values().filter(|place| place.epoch == self.engine.map.epoch);
        let all: Vec<Seq> = here.map(|place| place.seq).collect();
        all.iter().min().copied().filter(|_| all.len() == self.stations)
    }

    fn forget(&mut self, lost: &[(FileId, Seq)]) {
        self.restores.forget(lost);
        self.engine.map.forget(lost);
        for (file, _) in lost {
            let task = keepshare_decide::agenda::FileTask { verify: true, ..Default::default() };
            self.engine.agenda.add_file(*file, task);
        }
    }
}

impl Source for RealSource {
    type Mirror = RealMirror;

    fn head(&self) -> Head {
        Head { epoch: self.engine.map.epoch, seq: self.seq(), oldest: self.dropped().next() }
    }

    fn place(&self) -> Place {
        let running = self.running.last().copied().unwrap_or(RunningHash::EMPTY);
        Place { epoch: self.engine.map.epoch, seq: self.seq(), running }
    }

    fn hash_at(&self, seq: Seq) -> Option<RunningHash> {
        match seq.0.checked_sub(1) {
            None => Some(RunningHash::EMPTY),
            Some(_) if seq < self.dropped() => None,
            Some(at) => self.running.get(usize::try_from(at).ok()?).copied(),
        }
    }

    fn read(&mut self, from: Seq, bytes_max: usize) -> Option<Vec<JournalEntry>> {
        if from <= self.dropped() || from > self.seq() {
            return None;
        }
        let (mut entries, mut bytes, mut lost) = (Vec::new(), 0, Vec::new());
        for seq in (from.0..=self.seq().0).map(Seq) {
            let filled = self.give(seq, &mut lost);
            bytes += 200 + filled.payload.len();
            let position = Position { origin: ORIGIN, epoch: self.engine.map.epoch, seq };
            let running = self.hash_at(seq)?;
            entries.push(JournalEntry { position, running, filled });
            if !lost.is_empty() {
                // What builds on it is withheld too.
                self.forget(&std::mem::take(&mut lost));
            }
            if bytes >= bytes_max {
                break;
            }
        }
        Some(entries)
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
        self.set_now(at);
        self.engine.folder.may_return(random);
        for _ in 0..random.random_range(1..4) {
            self.engine.folder.act(random);
        }
        if self.loses && random.random_bool(0.02) {
            self.engine.folder.lose_told();
            self.engine.marks.all();
        }
        if self.restoring > 0.0 && random.random_bool(self.restoring) {
            self.restores.ask(&self.engine, at.now.0, random);
        }
        if self.mounts && random.random_bool(0.03) {
            self.engine.mount(random);
        }
    }

    fn work(&mut self, at: Moment, random: &mut StdRng) -> Option<u64> {
        self.set_now(at);
        let exact_times = self.engine.folder.has_exact_times();
        let acked = self.acked_by_all();
        let when = When { stamp: at.stamp, now: at.now, exact_times };
        self.restores.work(&mut self.engine, acked, when, random);
        let payloads = self.engine.turn(when, random, self.haste);
        self.restores.take_kept(&mut self.engine, at.now.0);
        self.payloads.extend(payloads);
        self.extend_running();
        if self.rests() {
            return None;
        }
        let wait = match self.engine.agenda.next_deadline() {
            _ if self.engine.is_gone() => WAIT_MAX,
            _ if self.engine.agenda.is_busy() => self.turn,
            Some(next) => next.0.saturating_sub(at.now.0).min(WAIT_MAX),
            None => WAIT_MAX,
        };
        Some(wait.max(self.turn))
    }

    fn rests(&self) -> bool {
        self.engine.rests() && self.restores.rest(&self.engine)
    }

    fn calm(&mut self) {
        self.haste = 0.0;
        self.loses = false;
        self.engine.unmount_all();
        let folder = &mut self.engine.folder;
        (folder.vanishes, folder.is_away) = (0.0, false);
        folder.close_all(&mut StdRng::seed_from_u64(0));
        if self.mounts || folder.was_silent {
            self.engine.marks.all();
        }
    }

    fn begin_mirror(&mut self, at: Moment) -> Option<(Place, RealMirror)> {
        if self.engine.agenda.is_scanning() {
            return None;
        }
        let acked = self.acked_by_all();
        self.restores.pass(acked);
        self.append(&Change { stamp: at.stamp, ..Change::default() });
        self.engine.map.set_base(at.stamp);
        let goal = Goal {
            origin: ORIGIN,
            epoch: self.engine.map.epoch,
            seq: self.seq(),
            stamp: at.stamp,
            base: self.engine.map.base,
            reading: Vec::new(),
        };
        let map = self.engine.map.clone();
        Some((self.place(), RealMirror { map, goal, parts: None }))
    }

    fn mirror_parts(&mut self, run: &mut RealMirror, listing: &Listing) -> Vec<FilledChange> {
        let RealMirror { map, goal, parts } = run;
        if parts.is_none() {
            let mut listed = mirror::Listing::default();
            let named =
                |line: &NameLine| ((line.parent, line.name.clone()), (line.file, line.kind));
            let names = listing.names.iter().all(|line| listed.push_name(&named(line)));
            let state = |line: &FileLine| (line.file, (line.digest, line.version));
            let files = listing.files.iter().all(|line| listed.push_file(&state(line)));
            assert!(names && files, "a listing out of order");
            let mut reading = Reading { source: self, parts: Vec::new() };
            let unseen = BTreeSet::new().into_iter().collect();
            let progress = MirrorProgress::default();
            let mirror = Mirror::new(&*map, &mut reading, &listed, &*goal, progress);
            let Ok(()) = mirror.run(Some(&unseen));
            *parts = Some(reading.parts.into());
        }
        let parts = parts.as_mut().expect("they were made");
        let some = parts.len().min(PARTS_AT_ONCE);
        parts.drain(..some).collect()
    }

    fn begin_epoch(&mut self, above: Epoch, stamp: Stamp) {
        self.restores.pass(None);
        self.starts += 1;
        self.engine.map.begin_epoch(above.next(), self.starts * FILES_PER_START);
        self.running.clear();
        self.payloads.clear();
        self.append(&Change { stamp, ..Change::default() });
    }

    /// No file is called by a number of an earlier start, nor of an epoch that was begun before: what was journaled since may have
    /// been forgotten.
    fn restart(&mut self) {
        self.starts += 1;
        self.engine.map.skip_files(self.starts * FILES_PER_START);
        self.payloads.clear();
        self.engine.restart();
    }

    fn put_back(&mut self, copy: &Self, _at: Moment) {
        self.engine.map = copy.engine.map.clone();
        self.running.clone_from(&copy.running);
        self.acked.clone_from(&copy.acked);
        self.restart();
    }

    fn take_over(&mut self, at: Moment) {
        // What waits in the private folder is no part of the set.
        for number in self.engine.folder.aside.clone().into_keys() {
            self.engine.folder.lose_aside(number);
        }
        self.begin_epoch(self.engine.map.epoch, at.stamp);
        self.acked.clear();
    }

    fn shown(&self) -> Shown {
        let folder = &self.engine.folder;
        let names = folder.names.iter().map(|(place, number)| (place.clone(), *number));
        shown(ROOT, names, |number| {
            let thing = &folder.things[&number];
            (thing.kind, thing.mode, thing.content.clone().into_bytes())
        })
    }

    fn has_held(&self, content: &[u8]) -> bool {
        content.is_empty()
            || self.engine.folder.held.iter().any(|held| held.content.as_bytes() == content)
    }

    fn must_be_versions(&self) -> Vec<Vec<u8>> {
        let there = self.engine.folder.held.iter().filter(|held| held.until.is_none());
        there.map(|held| held.content.clone().into_bytes()).collect()
    }

    fn parted(&self) -> Vec<Vec<u8>> {
        self.engine.folder.parted.iter().map(|content| content.clone().into_bytes()).collect()
    }
}

/// Reads for a mirror.
struct Reading<'a> {
    source: &'a mut RealSource,
    parts: Vec<FilledChange>,
}

/// A file that a mirror reads: at once.
struct Open {
    file: FileId,
    record: FileRecord,
    content: Vec<u8>,
}

impl Reader<Memory> for Reading<'_> {
    type Open = Open;

    fn open(
        &mut self,
        map: &Memory,
        file: FileId,
        (parent, name): (FileId, &Name),
        record: &FileRecord,
    ) -> Result<Option<Open>, std::convert::Infallible> {
        let folder = &self.source.engine.folder;
        let Ok(path) = map.path(parent);
        let names: Vec<String> = path.into_iter().flatten().map(|name| name.to_string()).collect();
        let parent = folder.walk(&names).ok();
        let place = parent.map(|parent| (parent, name.to_string()));
        let number = place.and_then(|place| folder.names.get(&place).copied());
        let seen = number.map(|number| folder.seen(number));
        let is_it = |seen: &keepshare_decide::Seen| {
            seen.kind == Kind::File
                && seen.inode == record.inode
                && seen.signature == record.signature
        };
        Ok(seen.filter(is_it).map(|seen| Open {
            file,
            record: record.clone(),
            content: folder.things[&seen.inode.number].content.clone().into_bytes(),
        }))
    }

    fn next(
        &mut self,
        open: &mut Open,
    ) -> Result<Option<(Filled, Option<Option<ContentHash>>)>, std::convert::Infallible> {
        let (content, hash) = (Content::whole(&open.content), hash_of(&open.content));
        Ok(Some(((content, open.content.clone()), Some(hash))))
    }

    fn rewind(&mut self, _open: &mut Open) {}

    fn learn(
        &mut self,
        open: Open,
        hash: Option<ContentHash>,
    ) -> Result<(), std::convert::Infallible> {
        let map = &mut self.source.engine.map;
        let Some(mut now) = map.record(open.file)? else { return Ok(()) };
        if now.signature == open.record.signature && now.hash.is_none() && !now.forgotten {
            now.hash = hash;
            map.set_record(open.file, &now)?;
        }
        Ok(())
    }

    fn forget(&mut self, lost: Vec<(FileId, Seq)>) -> Result<(), std::convert::Infallible> {
        self.source.forget(&lost);
        Ok(())
    }

    fn part(
        &mut self,
        _complete: bool,
        filled: FilledChange,
    ) -> Result<(), std::convert::Infallible> {
        let change = &filled.change;
        if !change.names.is_empty() || !change.files.is_empty() || !change.cuts.is_empty() {
            self.parts.push(filled);
        }
        Ok(())
    }

    fn progress(&mut self, _progress: MirrorProgress) {}
}
