//! Virtual time, and the drivers of masters and stations in it.

use std::{cmp::Reverse, collections::BinaryHeap};

use keepshare_base::{OriginId, RunningHash, Stamp};
use keepshare_proto::{
    MonoTime, Text,
    receiver::{self, Standing},
    shipper,
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    Seen,
    clocks::{self, BEGAN, Made},
    event::{Event, Timed},
    link::{Link, Mishap},
    master::Master,
    sides::{Moment, Source, Store, VersionKey},
    station::Station,
};

/// The one origin of the simulated set.
pub(crate) const ORIGIN: OriginId = OriginId(1);

/// A second of virtual time.
pub const SECOND: u64 = 1_000_000;

/// How long things may take to settle before it counts as never.
const SETTLE_SECONDS_MAX: u64 = 600;

/// One commit of so many is looked at by its moment.
const TYPED_EVERY: usize = 17;

/// Masters, stations and what connects them.
#[derive(Debug)]
pub struct World<S: Source, K> {
    pub(crate) now: u64,
    pub(crate) random: StdRng,
    events: BinaryHeap<Reverse<Timed>>,
    counter: u64,
    pub(crate) masters: Vec<Master<S>>,
    pub(crate) stations: Vec<Station<K>>,
    pub(crate) links: Vec<Link>,
    /// Whether a master and a station can reach each other.
    pub(crate) reach: Vec<Vec<bool>>,
    /// What the masters' clocks are off by, in microseconds.
    pub(crate) clock_off: i64,
    /// When everything was made.
    made: Made,
    /// A journal was put back from a copy.
    has_forked: bool,
    /// What was seen, for tests that want to know that it happened.
    pub seen: Seen,
}

impl<S: Source, K: Store> World<S, K> {
    /// Returns one master and some stations, all up and connected by working links.
    pub fn new(seed: u64, stations: usize, source: S) -> Self {
        let mut world = Self {
            now: 0,
            random: StdRng::seed_from_u64(seed),
            events: BinaryHeap::new(),
            counter: 0,
            masters: Vec::new(),
            stations: (0..stations as u64)
                .map(|station| Station::new(seed ^ station << 40))
                .collect(),
            links: Vec::new(),
            reach: Vec::new(),
            clock_off: 0,
            made: Made::default(),
            has_forked: false,
            seen: Seen::default(),
        };
        world.add_master(source);
        world
    }

    /// Lets time pass.
    pub fn run_for(&mut self, micros: u64) {
        let until = self.now + micros;
        while let Some(Reverse(next)) = self.events.peek()
            && next.at <= until
        {
            let Some(Reverse(timed)) = self.events.pop() else { break };
            self.now = timed.at;
            self.handle(timed.event);
        }
        self.now = until;
    }

    /// Makes one random edit at a master.
    pub fn edit(&mut self, master: usize) {
        let at = self.moment();
        self.masters[master].source.edit(at, &mut self.random);
        self.work(master);
    }

    /// Sets what the masters' clocks are off by, in microseconds.
    pub fn set_clock(&mut self, off: i64) {
        self.clock_off = off;
    }

    /// Sets what a station's clock is off by, in microseconds.
    pub fn set_station_clock(&mut self, station: usize, off: i64) {
        let station = &mut self.stations[station];
        station.clock_off = off;
        station.is_steady &= off == 0;
    }

    /// Lets a station's next change meet a mishap on its way.
    pub fn mishap(&mut self, station: usize, replay: bool) {
        if let Some(link) = self.stations[station].link {
            let mishap = if replay { Mishap::Replay } else { Mishap::Gap };
            self.links[link].mishap = Some(mishap);
        }
    }

    /// Returns a station's store.
    pub fn store(&self, station: usize) -> &K {
        &self.stations[station].store
    }

    /// Returns how many stations there are.
    pub fn station_count(&self) -> usize {
        self.stations.len()
    }

    /// Connects a master and a station, or cuts them apart: with a bang, or without either noticing.
    pub fn set_reach(&mut self, master: usize, station: usize, reach: bool, silently: bool) {
        self.reach[master][station] = reach;
        if !reach {
            self.cut(master, station, silently);
        }
    }

    /// Ends the connection between a master and a station, if there is one.
    pub fn cut(&mut self, master: usize, station: usize, silently: bool) {
        let Some(link) = self.masters[master].destinations[station].link else { return };
        if silently {
            self.links[link].stalled = true;
        } else {
            self.end_link(link, true, true);
        }
    }

    /// Stops a station as a power cut does.
    pub fn crash_station(&mut self, station: usize) {
        if let Some(link) = self.stations[station].link {
            self.end_link(link, true, false);
        }
        self.stations[station].crash(&mut self.random);
        self.check_acked(station);
    }

    /// Starts a station that was stopped.
    pub fn start_station(&mut self, station: usize) {
        self.stations[station].up = true;
    }

    /// Puts an older copy of a station's disk back: it has less than it acknowledged.
    pub fn roll_station_back(&mut self, station: usize, records: usize) {
        self.crash_station(station);
        self.stations[station].store.roll_back(records);
        self.stations[station].acked = None;
        self.stations[station].has_lost = true;
        self.start_station(station);
    }

    /// Fills a station's disk, or makes space on it.
    pub fn set_full(&mut self, station: usize, full: bool) {
        if !self.stations[station].up || self.stations[station].full == full {
            return;
        }
        self.stations[station].full = full;
        let input = if full {
            self.seen.waited += 1;
            receiver::Input::Full { reason: Text::new("the disk is full") }
        } else {
            receiver::Input::Resumed
        };
        self.tell_receiver(station, input);
        self.pump_store(station);
    }

    /// Has a station's disk fail as something is to be made durable.
    pub fn fail_next_sync(&mut self, station: usize) {
        self.stations[station].store.fail_next_sync();
    }

    /// Lets a station's store refuse changes that come.
    pub fn refuse_next(&mut self, station: usize, changes: u32) {
        self.stations[station].refuses = changes;
    }

    /// Stops a master and starts it again.
    pub fn restart_master(&mut self, master: usize) {
        for station in 0..self.stations.len() {
            if let Some(link) = self.masters[master].destinations[station].link {
                self.end_link(link, false, true);
            }
        }
        let seed = self.random.random();
        self.masters[master].crash(seed);
        self.masters[master].up = true;
        self.work(master);
    }

    /// Another master takes the origin on, in a new epoch, with the tree as it is; the old one goes on as it can.
    pub fn change_hands(&mut self) -> usize {
        let old = self.holder();
        self.masters[old].holds = false;
        let mut source = self.masters[old].source.clone();
        source.take_over(self.moment());
        self.add_master(source)
    }

    /// Returns the master that holds the origin.
    pub fn holder(&self) -> usize {
        self.masters.iter().position(|master| master.holds).expect("one master holds the origin")
    }

    /// Returns a copy of the holder's journal and map, to be put back later.
    pub fn copy_source(&self) -> S {
        self.masters[self.holder()].source.clone()
    }

    /// Puts an older copy of the journal and map back under the tree as it is now.
    pub fn put_source_back(&mut self, copy: &S) {
        let (holder, at) = (self.holder(), self.moment());
        self.has_forked = true;
        self.masters[holder].source.put_back(copy, at);
        self.restart_master(holder);
    }

    /// Repairs everything and waits until all is settled.
    pub fn heal(&mut self) {
        self.clock_off = 0;
        let holder = self.holder();
        self.masters[holder].source.calm();
        self.work(holder);
        for station in 0..self.stations.len() {
            self.set_station_clock(station, 0);
            self.stations[station].store.calm();
            self.start_station(station);
            self.set_full(station, false);
            self.refuse_next(station, 0);
            for master in 0..self.masters.len() {
                self.set_reach(master, station, true, false);
            }
        }
        self.settle();
    }

    /// Waits until all is settled.
    pub fn settle(&mut self) {
        for _ in 0..SETTLE_SECONDS_MAX {
            self.run_for(SECOND);
            if self.is_settled() {
                return;
            }
        }
        panic!("not settled after {SETTLE_SECONDS_MAX} s: {}", self.standings());
    }

    /// Tells whether every station has everything, and nothing is under way.
    pub fn is_settled(&self) -> bool {
        let source = &self.masters[self.holder()].source;
        source.rests()
            && self.stations.iter().all(|station| {
                let Standing { place, mirror, .. } = station.store.standing();
                place == Some(source.place()) && mirror.is_none() && station.queue.is_empty()
            })
    }

    /// Returns where everybody is, for a failure's text.
    fn standings(&self) -> String {
        let holder = self.holder();
        let master = &self.masters[holder];
        let stations: Vec<_> = self
            .stations
            .iter()
            .zip(&master.destinations)
            .map(|(station, destination)| {
                format!("{:?} {:?}", station.store.standing(), destination.shipper)
            })
            .collect();
        format!("{:?} {stations:#?}", master.source.head())
    }

    /// Checks that all stations agree with the master and with each other. Call it when all is settled.
    pub fn check(&self) {
        let source = &self.masters[self.holder()].source;
        let want = source.shown();
        for (index, station) in self.stations.iter().enumerate() {
            assert_eq!(station.store.shown(), want, "station {index} has another tree");
            station.store.check();
            let versions = station.store.versions();
            let contents: Vec<_> =
                versions.values().filter_map(|version| version.content.as_ref()).collect();
            for content in &contents {
                let held = self.masters.iter().any(|master| master.source.has_held(content));
                assert!(held, "station {index} has a version that no file ever held: {content:?}");
            }
            let is_version = |content: &Vec<u8>| !K::TELLS_CONTENTS || contents.contains(&content);
            for content in source.must_be_versions() {
                let text = String::from_utf8_lossy(&content);
                assert!(is_version(&content), "station {index}: {text} is there and is no version");
            }
            for content in source.parted().iter().filter(|_| !station.has_lost) {
                let text = String::from_utf8_lossy(content);
                assert!(is_version(content), "station {index}: {text} was replaced and is lost");
            }
            self.check_acked(index);
            self.check_times(index);
        }
        self.check_versions();
    }

    /// A file at one place of one journal is the same wherever it is a version.
    fn check_versions(&self) {
        // Where a journal was put back, a place that a mirror told of may be one of two journals.
        let is_told_apart =
            |(_, _, running): &VersionKey| !self.has_forked || *running != RunningHash::EMPTY;
        let versions: Vec<_> =
            self.stations.iter().map(|station| station.store.versions()).collect();
        for (index, ours) in versions.iter().enumerate() {
            for theirs in &versions[index + 1..] {
                for (key, digest) in ours.iter().filter(|(key, _)| is_told_apart(key)) {
                    let other = theirs.get(key);
                    assert!(other.is_none_or(|d| d == digest), "two versions are called {key:?}");
                }
            }
        }
    }

    /// What a station acknowledged, it has.
    fn check_acked(&self, station: usize) {
        let station_ = &self.stations[station];
        let place = station_.store.standing().place.map(|place| (place.epoch, place.seq));
        assert!(
            place >= station_.acked,
            "station {station} is at {place:?}, acknowledged {:?}",
            station_.acked
        );
    }

    /// Moments are what they must be, and a typed time shows what was there by then.
    fn check_times(&self, station: usize) {
        let commits = self.stations[station].store.commits();
        self.made.check(&commits);
        for commit in commits.iter().step_by(TYPED_EVERY) {
            for through in [-1, 0, 1].map(|by| commit.moment.plus_micros(by)) {
                let shown = self.stations[station].store.commit_at(through);
                assert_eq!(shown, clocks::shown_at(&commits, through), "at {through}");
            }
        }
    }

    fn add_master(&mut self, source: S) -> usize {
        let seed = self.random.random();
        self.masters.push(Master::new(source, self.stations.len(), seed));
        self.reach.push(vec![true; self.stations.len()]);
        let master = self.masters.len() - 1;
        self.work(master);
        master
    }

    /// Has a master do what is due, and its shippers know of it.
    fn work(&mut self, master: usize) {
        if !self.masters[master].up {
            return;
        }
        let at = self.moment();
        if let Some(next) = self.masters[master].source.work(at, &mut self.random) {
            self.wake(master, next.max(1));
        }
        self.tell_head(master);
    }

    /// Has a master work after a while, unless it does before.
    pub(crate) fn wake(&mut self, master: usize, after: u64) {
        let due = self.now + after;
        if self.masters[master].works_at.is_none_or(|at| due < at) {
            let start = self.masters[master].start;
            self.masters[master].works_at = Some(due);
            self.schedule(after, Event::Work { master, start });
        }
    }

    fn tell_head(&mut self, master: usize) {
        self.note_made(master);
        let head = self.masters[master].source.head();
        if self.masters[master].told.replace(head) == Some(head) {
            return;
        }
        for station in 0..self.stations.len() {
            self.tell_shipper(master, station, shipper::Input::Journal(head));
        }
    }

    /// Returns the moment by a master's clock.
    pub(crate) fn moment(&self) -> Moment {
        Moment { now: MonoTime(self.now), stamp: self.stamp() }
    }

    /// Returns what the masters' clocks say.
    pub(crate) fn stamp(&self) -> Stamp {
        self.truly().plus_micros(self.clock_off)
    }

    /// Returns what time it is.
    pub(crate) fn truly(&self) -> Stamp {
        let micros = i64::try_from(self.now).expect("virtual time is short");
        BEGAN.plus_micros(micros)
    }

    /// Remembers when what a master has just journaled was made.
    pub(crate) fn note_made(&mut self, master: usize) {
        let truly = self.truly();
        self.made.note(master, &self.masters[master].source, truly, self.clock_off);
    }

    pub(crate) fn schedule(&mut self, after: u64, event: Event) {
        self.counter += 1;
        self.events.push(Reverse(Timed { at: self.now + after, counter: self.counter, event }));
    }

    pub(crate) fn late(&mut self) -> u64 {
        match self.random.random_range(0..20) {
            0 => self.random.random_range(1000..50_000),
            _ => self.random.random_range(10..500),
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Shipper { master, station, start, input } => {
                if self.is_start(master, start) {
                    self.tell_shipper(master, station, *input);
                }
            }
            Event::Receiver { station, start, input } => {
                if self.stations[station].start == start {
                    self.tell_receiver(station, *input);
                }
            }
            Event::Arrive { link, at_master, bytes, told } => {
                self.arrive(link, at_master, &bytes, told);
            }
            Event::Ended { link, at_master } => self.ended(link, at_master),
            Event::Connect { master, station, start } => {
                if self.is_start(master, start) {
                    self.connect(master, station);
                }
            }
            Event::MasterTimer { master, station, start } => {
                if self.is_start(master, start) {
                    let destination = &mut self.masters[master].destinations[station];
                    destination.timer = None;
                    let due = destination.shipper.poll_timeout();
                    if due.is_some_and(|due| due.0 <= self.now) {
                        self.tell_shipper(master, station, shipper::Input::TimedOut);
                    } else {
                        self.set_master_timer(master, station);
                    }
                }
            }
            Event::Work { master, start } => {
                if self.is_start(master, start) {
                    self.masters[master].works_at = None;
                    self.work(master);
                }
            }
            Event::Mirror { master, station, start, mirror } => {
                if self.is_start(master, start) {
                    self.start_mirror(master, station, mirror);
                }
            }
            Event::Person { master, start } => {
                if self.is_start(master, start) {
                    self.take_over(master);
                }
            }
            Event::StationTimer { station, start } => {
                if self.stations[station].start == start {
                    self.stations[station].timer = None;
                    let due = self.stations[station].receiver.poll_timeout();
                    if due.is_some_and(|due| due.0 <= self.now) {
                        self.tell_receiver(station, receiver::Input::TimedOut);
                    } else {
                        self.set_station_timer(station);
                    }
                }
            }
            Event::Synced { station, start, records } => {
                if self.stations[station].start == start {
                    self.synced(station, records);
                }
            }
        }
    }

    pub(crate) fn is_start(&self, master: usize, start: u64) -> bool {
        self.masters[master].start == start && self.masters[master].up
    }
}
