//! A random life of a source, and what must hold whatever happens in it.

use std::collections::{BTreeMap, BTreeSet};

use keepshare_base::FileId;
use keepshare_decide::{Known, Touch, compose::When};
use keepshare_proto::MonoTime;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    copy::Copy,
    engine::Engine,
    folder::{Folder, object},
};
use crate::clocks::BEGAN;

/// A save that lay closed for so long, while nothing went wrong, is a version.
const KEPT_AFTER: u64 = 5_000_000;

/// So often turns are taken until nothing is due; beyond it something waits for ever.
const TURNS_MAX: usize = 20_000;

/// What may happen in a life.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    /// How many steps, each of a few milliseconds.
    pub steps: usize,
    /// How often the file system's clock ticks, in microseconds; 0: its times tell every modification.
    pub tick: u64,
    /// How often somebody does something between two looks.
    pub haste: f64,
    /// How late something is told at most, in microseconds.
    pub late: u64,
    /// How often something is written without being told.
    pub silence: f64,
    /// Events are lost.
    pub loses: bool,
    /// The process ends in the middle of it.
    pub crashes: bool,
    /// Things are mounted over folders.
    pub mounts: bool,
    /// Files get second names.
    pub links: bool,
    /// How often the whole folder goes away for a while.
    pub vanishes: f64,
    /// How long a turn takes, in microseconds: machines may be slow, and busy.
    pub turn: u64,
}

impl Life {
    /// Returns a random one.
    pub fn random(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed ^ 0x50_u64.rotate_left(32));
        Self {
            steps: random.random_range(50..400),
            tick: [0, 4000, 10_000][random.random_range(0..3)],
            haste: [0.0, 0.01, 0.1][random.random_range(0..3)],
            late: [0, 500, 20_000][random.random_range(0..3)],
            silence: [0.0, 0.0, 0.2][random.random_range(0..3)],
            loses: random.random_bool(0.3),
            crashes: random.random_bool(0.3),
            mounts: random.random_bool(0.2),
            turn: [200, 200, 30_000, 200_000][random.random_range(0..4)],
            vanishes: [0.0, 0.0, 0.0, 0.01][random.random_range(0..4)],
            links: random.random_bool(0.5),
        }
    }

    /// Tells whether something may be noticed late, or by a scan only.
    fn is_rough(&self) -> bool {
        self.late > 1000 || self.silence > 0.0 || self.loses || self.crashes || self.mounts
    }
}

/// A source and the folder that it watches.
struct World {
    life: Life,
    random: StdRng,
    now: u64,
    engine: Engine,
    payloads: BTreeMap<u64, Vec<u8>>,
    copy: Copy,
    /// Which file each thing was known as.
    known: BTreeMap<u64, FileId>,
}

/// Lives one life and checks it; returns how many changes it took.
pub fn live(seed: u64, life: Life) -> usize {
    let mut world = World::new(seed, life);
    for _ in 0..life.steps {
        world.step();
    }
    world.rest();
    world.check();
    world.copy.through
}

impl World {
    fn new(seed: u64, life: Life) -> Self {
        let mut folder = Folder::new(life.tick);
        (folder.silence, folder.late) = (life.silence, life.late);
        (folder.vanishes, folder.has_links) = (life.vanishes, life.links);
        Self {
            life,
            random: StdRng::seed_from_u64(seed),
            now: 0,
            engine: Engine::new(folder),
            payloads: BTreeMap::new(),
            copy: Copy::default(),
            known: BTreeMap::new(),
        }
    }

    fn step(&mut self) {
        if self.random.random_bool(0.05) {
            let micros = self.random.random_range(0..8_000_000);
            self.pass(micros);
        }
        self.now += self.random.random_range(0..20_000);
        self.engine.folder.set_now(self.now);
        self.engine.folder.may_return(&mut self.random);
        for _ in 0..self.random.random_range(0..4) {
            self.engine.folder.act(&mut self.random);
        }
        if self.life.loses && self.random.random_bool(0.02) {
            self.engine.folder.lose_told();
            self.engine.marks.all();
        }
        if self.life.mounts && self.random.random_bool(0.03) {
            self.engine.mount(&mut self.random);
        }
        // Objects that have nothing to do with the source are told of as well.
        if self.random.random_bool(0.05) {
            let stranger = object(self.random.random_range(1..50), 1 << 40);
            self.engine.marks.stranger(stranger, Touch { modified: true, ..Touch::default() });
        }
        if self.random.random_bool(0.8) {
            self.turn(self.life.haste);
        }
    }

    /// Nobody does anything for a while, but for the source's thread.
    fn pass(&mut self, micros: u64) {
        let until = self.now + micros;
        while self.now < until {
            self.turn(0.0);
            if !self.engine.agenda.is_busy() {
                let next = self.engine.agenda.next_deadline().map_or(until, |next| next.0);
                self.now =
                    next.min(self.now + 100_000).clamp(self.now + 1, until.max(self.now + 1));
            }
            self.engine.folder.set_now(self.now);
        }
    }

    /// One turn of the source's thread, unless the process ends in it.
    fn turn(&mut self, haste: f64) {
        let when = When {
            stamp: BEGAN.plus_micros(i64::try_from(self.now).expect("a short life")),
            now: MonoTime(self.now),
            exact_times: self.engine.folder.has_exact_times(),
        };
        let before = self.engine.map.clone();
        let payloads = self.engine.turn(when, &mut self.random, haste);
        self.now = self.now.max(when.now.0) + self.life.turn;
        if haste > 0.0 && self.life.crashes && self.random.random_bool(0.01) {
            // Nothing of the turn happened; and whatever was told meanwhile is lost.
            self.engine.map = before;
            self.engine.restart();
            return;
        }
        self.payloads.extend(payloads.into_iter().map(|(seq, bytes)| (seq.0, bytes)));
        self.follow();
        self.check_identities();
    }

    /// A station follows what is journaled.
    fn follow(&mut self) {
        while let Some(change) = self.engine.map.journal.get(self.copy.through) {
            let payload = self.payloads.remove(&(self.copy.through as u64 + 1)).unwrap_or_default();
            assert_eq!(change.payload_len(), payload.len() as u64, "a content is not there");
            self.copy.apply(change, &payload);
        }
    }

    /// Everybody stops working, and the source is left alone until it has nothing to do.
    fn rest(&mut self) {
        self.engine.unmount_all();
        (self.engine.folder.vanishes, self.engine.folder.is_away) = (0.0, false);
        if self.engine.folder.was_silent || self.life.mounts {
            self.engine.marks.all();
        }
        for _ in 0..TURNS_MAX {
            self.turn(0.0);
            let next = self.engine.agenda.next_deadline().map(|next| next.0);
            let is_done = self.engine.rests();
            if is_done {
                return;
            }
            if !self.engine.agenda.is_busy() {
                let at_most = self.now + 100_000;
                self.now = next.unwrap_or(at_most).clamp(self.now + 1, at_most);
            }
            self.engine.folder.set_now(self.now);
        }
        panic!("it never rests: {:?}", self.engine.agenda);
    }

    /// A thing that is only moved is the same file for ever.
    fn check_identities(&mut self) {
        let Life { crashes, mounts, vanishes, late, haste, .. } = self.life;
        // Who begins anew does not know what was lost before, and what a mount hides may be found long after it.
        let is_hasty = self.life.is_rough() || late > 0 || haste > 0.0;
        if crashes || mounts || (vanishes > 0.0 && is_hasty) {
            return;
        }
        for (number, thing) in &self.engine.folder.things {
            let Ok(Some(file)) = self.engine.map.by_number(*number) else { continue };
            let Ok(record) = self.engine.map.record(file);
            if record.is_some_and(|record| record.inode == self.engine.folder.seen(*number).inode) {
                let known = *self.known.entry(thing.birth).or_insert(file);
                assert_eq!(known, file, "the thing made {}th is another file now", thing.birth);
            }
        }
    }

    fn check(&self) {
        assert_eq!(self.copy.tree(), self.engine.folder.tree(), "the copy is not the folder");
        let held: BTreeSet<&str> =
            self.engine.folder.held.iter().map(|held| held.content.as_str()).collect();
        let mut births = BTreeMap::new();
        for (file, content) in self.copy.versions.iter().filter(|(_, content)| !content.is_empty())
        {
            assert!(held.contains(content.as_str()), "{content} was never a content");
            let birth = content.split(':').next().expect("our contents say whose they are");
            let known = births.entry(*file).or_insert(birth);
            assert_eq!(*known, birth, "{file} is a version of two things");
        }
        let versions: BTreeSet<&str> =
            self.copy.versions.iter().map(|(_, content)| content.as_str()).collect();
        for held in &self.engine.folder.held {
            let until = held.until.unwrap_or(u64::MAX);
            let lay = held.closed.is_some_and(|closed| until > closed + KEPT_AFTER);
            let is_there = held.until.is_none();
            let may_be_late = self.life.is_rough() || self.life.vanishes > 0.0;
            if is_there || lay && !may_be_late {
                assert!(versions.contains(held.content.as_str()), "{held:?} is no version");
            }
        }
    }
}
