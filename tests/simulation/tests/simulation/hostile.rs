//! Masters that mean harm, by the thousand: whatever one sends, in whatever order, it takes nothing from a station.
//!
//! An honest master fills a station; then a hostile one has its certificate. The station is the real one: receiver, store and live
//! tree, with a disk that forgets in crashes, in one thread and virtual time. Every stream follows from its seed.

mod attack;
mod bytes;
mod folders;
mod honest;
mod keeper;
mod memory;
mod platter;
mod rows;
mod station;

use keepshare_versioning::disk::sim::Crash;
use rand::{SeedableRng, rngs::StdRng};

use attack::Attack;
use honest::{Honest, archive};
use keeper::{Keeper, read_everything};
use keepshare_proto::codec::encode;
use memory::Mark;
use rows::{Shape, wide};
use station::{ORIGIN, SECOND, Seen, Station};

/// How many streams are sent by default.
const STREAMS: u64 = 300;

/// The most memory that one stream may take, in bytes, the station's own included; what is on its disk is not.
const MEMORY_MAX: usize = 50 << 20;

/// Every message in every order against an archive: no version goes, nothing panics, nothing outside is touched, memory stays
/// bounded, and an honest master can go on afterwards.
///
/// `KEEPSHARE_SEED` sends one stream, `KEEPSHARE_HOSTILE_STREAMS` that many.
#[test]
fn nothing_that_a_master_sends_takes_a_version() {
    let seeds = match number("KEEPSHARE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("KEEPSHARE_HOSTILE_STREAMS").unwrap_or(STREAMS),
    };
    let (count, mut all, mut peak) = (seeds.end - seeds.start, Seen::default(), 0);
    for seed in seeds {
        let stream = std::panic::catch_unwind(|| stream(seed));
        match stream {
            Ok((seen, bytes)) => {
                all.add(&seen);
                peak = peak.max(bytes);
            }
            Err(panic) => {
                println!("failed with KEEPSHARE_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("{count} streams, at most {} KiB of memory: {all:?}", peak >> 10);
    if count >= STREAMS {
        all.check_variety(count);
    }
}

/// While the store is slower than the link, rows that are small on their way must not fill the memory.
#[test]
fn what_waits_for_the_store_is_bounded() {
    for shape in Shape::ALL {
        let (mut station, mut master) = archive(&mut StdRng::seed_from_u64(1));
        master.greet(&mut station).expect("it connects again");
        let memory = Mark::set();
        let mut sent = 0;
        while station.wants_input() {
            let frame = master.journal_only(wide(shape));
            let bytes = encode(&frame.message, &frame.payload).expect("it fits into a frame");
            station.receive(&bytes);
            assert!(station.is_connected(), "{shape:?} was refused: {:?}", station.read());
            sent += 1;
        }
        let peak = memory.peak();
        println!("{shape:?}: {sent} changes waited in {} KiB", peak >> 10);
        assert!(peak < MEMORY_MAX, "{sent} changes of {shape:?} took {peak} bytes of memory");
    }
}

/// Sends one stream; returns what happened and how much memory it took.
fn stream(seed: u64) -> (Seen, usize) {
    let mut rng = StdRng::seed_from_u64(seed);
    let memory = Mark::set();
    let (mut station, master) = archive(&mut rng);
    let mut keeper = Keeper::default();
    keeper.note(&station.reader());
    assert!(keeper.len() > 5, "there is a history to lose");
    station.seen = Seen::default();

    Attack::new(&mut rng, &mut station, &mut keeper, master.clone()).run();
    let peak = memory.peak();
    assert!(peak < MEMORY_MAX, "it took {peak} bytes of memory");

    station.crash(Crash::LoseAll, false);
    keeper.check(&station.reader(), true);
    keeper.note(&station.reader());
    station.folders.check(&station.reader());
    read_everything(&station.reader());
    let seen = station.seen;
    go_on(&mut station, master, &mut rng);
    keeper.check(&station.reader(), true);
    station.folders.check(&station.reader());
    index_is_what_the_log_says(&mut station);
    keeper.check(&station.reader(), true);
    (seen, peak)
}

/// An honest master takes the set back.
fn go_on(station: &mut Station, mut master: Honest, rng: &mut StdRng) {
    station.set_full(false);
    station.pass(SECOND);
    let (_, fence) = master.greet(station).expect("a master is answered");
    master.begin_epoch(fence.next());
    master.greet(station).expect("a new epoch is welcome");
    master.mirror(station).expect("an honest mirror is taken");
    for _ in 0..5 {
        master.edit(station, rng).expect("an honest change is taken");
        station.pass(SECOND);
    }
    station.disconnect();
    let view = station.view();
    let there = view.names_after(None, 10_000).unwrap();
    let there: Vec<_> =
        there.into_iter().map(|(parent, entry)| ((parent, entry.name), entry.file)).collect();
    let want: Vec<_> = master.names.iter().map(|(key, file)| (key.clone(), *file)).collect();
    assert_eq!(there, want, "the tree is not what its master has");
    for (file, known) in &master.files {
        let state = view.file(*file, view.latest()).unwrap().expect("a file that was sent");
        assert_eq!(state.meta, known.meta, "{file} is not what its master has");
        let bytes = station.reader().read(&state, 0, usize::MAX).unwrap();
        assert!(bytes == known.content, "{file} has not the content that its master has");
    }
    assert!(view.position(ORIGIN).unwrap().is_some_and(|place| place.mirror.is_none()));
}

/// Whatever was sent, the index follows from the log.
fn index_is_what_the_log_says(station: &mut Station) {
    let before = station.view().digests().unwrap();
    station.crash(Crash::LoseAll, true);
    assert_eq!(station.view().digests().unwrap(), before, "the index says other than the log");
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

impl Seen {
    fn add(&mut self, other: &Self) {
        self.taken += other.taken;
        self.refused += other.refused;
        self.alarms += other.alarms;
        self.undecodable += other.undecodable;
        self.mirrors += other.mirrors;
        self.epochs += other.epochs;
        self.crashes += other.crashes;
        self.full += other.full;
    }

    /// Streams that are refused at once would prove nothing.
    fn check_variety(&self, streams: u64) {
        assert!(self.taken > streams * 5, "too little is taken: {self:?}");
        assert!(self.refused > streams / 2, "too little gets as far as the store: {self:?}");
        assert!(self.alarms > streams, "too little is refused: {self:?}");
        assert!(self.mirrors > streams / 10, "too few mirrors end: {self:?}");
        let all = [self.undecodable, self.epochs, self.crashes, self.full];
        assert!(all.iter().all(|it| *it > streams / 20), "something never happens: {self:?}");
    }
}
