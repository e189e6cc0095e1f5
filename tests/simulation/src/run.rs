//! A random life from one seed: edits and faults, then healing.

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use crate::{
    Seen, World,
    sides::{Source, Store},
    world::SECOND,
};

/// What may go wrong in a life, beside broken links.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Stations lose what they acknowledged.
    pub stations_roll_back: bool,
    /// The journal becomes an older copy of itself.
    pub journal_rolls_back: bool,
    /// The origin changes hands.
    pub hands_change: bool,
    /// Senders leave changes out or send them twice, stores refuse some.
    pub senders_misbehave: bool,
}

/// A life.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many stations.
    pub stations: usize,
    /// How many changes the journal holds.
    pub journal_limit: usize,
    /// For how long, in seconds.
    pub seconds: u64,
    /// How many edits a second, at most.
    pub edits_per_second: u64,
    /// What may go wrong.
    pub faults: Faults,
}

impl Plan {
    /// Returns a random one.
    pub fn random(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let faults = Faults {
            stations_roll_back: random.random_bool(0.3),
            journal_rolls_back: random.random_bool(0.3),
            hands_change: random.random_bool(0.3),
            senders_misbehave: random.random_bool(0.5),
        };
        Self {
            stations: random.random_range(1..=3),
            journal_limit: *[20, 100, 100_000].choose(&mut random).expect("not empty"),
            seconds: random.random_range(20..120),
            edits_per_second: random.random_range(1..20),
            faults,
        }
    }
}

/// Lives one life and checks it; returns what happened.
pub fn run<S: Source, K: Store>(seed: u64, plan: Plan, source: S) -> Seen {
    let mut world = World::<S, K>::new(seed, plan.stations, source);
    let mut copy = world.copy_source();
    for _ in 0..plan.seconds {
        let edits = world.random.random_range(0..=plan.edits_per_second);
        for _ in 0..edits {
            // Sometimes an older master still writes.
            let masters = world.masters.len();
            let any = world.random.random_range(0..masters);
            let master = if world.random.random_bool(0.1) { any } else { world.holder() };
            world.edit(master);
            world.run_for(SECOND / (edits + 1));
        }
        if world.random.random_bool(0.3) {
            fault(&mut world, plan.faults, &mut copy);
        }
        world.run_for(SECOND / 10);
    }
    world.heal();
    world.check();
    world.seen
}

fn fault<S: Source, K: Store>(world: &mut World<S, K>, faults: Faults, copy: &mut S) {
    let station = world.random.random_range(0..world.station_count());
    let masters = world.masters.len();
    let master = world.random.random_range(0..masters);
    let silently = world.random.random_bool(0.5);
    match world.random.random_range(0..17) {
        0 | 1 => world.cut(master, station, silently),
        2 => world.set_reach(master, station, false, silently),
        3 | 4 => world.set_reach(master, station, true, false),
        5 => world.crash_station(station),
        6 => {
            world.crash_station(station);
            world.start_station(station);
        }
        7 => (0..world.station_count()).for_each(|station| world.start_station(station)),
        8 => world.restart_master(master),
        9 => {
            let full = world.random.random_bool(0.5);
            world.set_full(station, full);
        }
        10 => {
            let off = some_clock(&mut world.random);
            world.set_clock(off);
        }
        14 => {
            let off = some_clock(&mut world.random);
            world.set_station_clock(station, off);
        }
        15 => world.fail_next_sync(station),
        11 if faults.stations_roll_back => {
            let records = world.random.random_range(1..30);
            world.roll_station_back(station, records);
        }
        12 if faults.journal_rolls_back => {
            if world.random.random_bool(0.5) {
                world.put_source_back(copy);
            }
            *copy = world.copy_source();
        }
        16 if faults.journal_rolls_back => {
            *copy = relapse(world, station, silently);
        }
        13 if faults.hands_change && masters < 3 => {
            world.change_hands();
            // The new master's journal is not the old one's.
            *copy = world.copy_source();
        }
        _ if faults.senders_misbehave => {
            world.mishap(station, silently);
            if world.random.random_bool(0.1) {
                world.refuse_next(station, 2);
            }
        }
        _ => {}
    }
}

/// A station is mirrored and cut off, and meanwhile the journal becomes what it was before: the places that the mirror told of
/// are given once more. Returns that journal.
fn relapse<S: Source, K: Store>(world: &mut World<S, K>, station: usize, silently: bool) -> S {
    let (copy, holder) = (world.copy_source(), world.holder());
    let edit = |world: &mut World<S, K>| {
        for _ in 0..world.random.random_range(1..4) {
            world.edit(holder);
            world.run_for(SECOND / 5);
        }
    };
    world.refuse_next(station, 2);
    edit(world);
    world.run_for(2 * SECOND);
    world.set_reach(holder, station, false, silently);
    edit(world);
    world.put_source_back(&copy);
    world.set_reach(holder, station, true, false);
    copy
}

/// What a clock is off by: nothing, a little, or as far as to 2033 or to yesterday.
fn some_clock(random: &mut StdRng) -> i64 {
    *[0, 0, 1_500_000, 315_360_000_000_000, -86_400_000_000].choose(random).expect("not empty")
}
