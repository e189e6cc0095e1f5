//! Single lives that each hold one promise.

use keepshare_base::{Epoch, Position, RunningHash};
use keepshare_simulation::{ModelSource, ModelStore, RealSource, RealStore, SECOND, Store, World};

type Lives = World<ModelSource, ModelStore>;

const MINUTE: u64 = 60 * SECOND;

/// Returns a world in which everybody has everything, after a few edits.
fn settled(seed: u64, stations: usize, journal_limit: usize) -> Lives {
    let mut world = Lives::new(seed, stations, ModelSource::new(journal_limit));
    edits(&mut world, 0, 10, SECOND / 10);
    world.settle();
    world.check();
    world
}

fn edits(world: &mut Lives, master: usize, count: u64, apart: u64) {
    for _ in 0..count {
        world.edit(master);
        world.run_for(apart);
    }
}

/// Returns what a station committed as changes in their order: each place once, with the journal's hash there.
fn history(world: &Lives, station: usize) -> Vec<(Position, RunningHash)> {
    let records = world.store(station).records().iter();
    records.filter(|r| r.complete && !r.jump).map(|r| (r.position, r.running)).collect()
}

/// The versions of one set must be the same everywhere: the same ids at the same moments.
#[test]
fn two_destinations_cut_apart_for_an_hour_show_the_same_history() {
    let mut world = settled(1, 2, 100_000);
    let mirrors = world.seen.mirrors;
    for (station, other) in [(0, 1), (1, 0), (0, 1), (1, 0)] {
        world.set_reach(0, station, false, station == 0);
        world.set_reach(0, other, true, false);
        edits(&mut world, 0, 150, 6 * SECOND);
    }
    world.heal();
    world.check();
    // The mirror of the second station is a change to the first, and what the first knows of before.
    let [one, other] = [0, 1].map(|station| whole_history(&world, station));
    let shared = one.len().min(other.len());
    assert_eq!(one[one.len() - shared..], other[other.len() - shared..]);
    assert!(shared >= 600, "{shared}");
    assert_eq!(world.seen.mirrors, mirrors, "an hour apart must not cost a mirror");
}

/// Returns the history of a station, in which no place is missing or there twice since the first mirror.
fn whole_history(world: &Lives, station: usize) -> Vec<(Position, RunningHash)> {
    let history = history(world, station);
    assert!(history.windows(2).all(|pair| pair[0].0.seq.next() == pair[1].0.seq));
    let last = history.last().map(|(position, _)| position.seq);
    assert_eq!(last, world.store(station).standing().place.map(|place| place.seq));
    history
}

/// Half the history at one station and half at another is two histories.
#[test]
fn a_slow_destination_never_delays_another() {
    let mut world = settled(2, 2, 100_000);
    world.set_full(0, true);
    edits(&mut world, 0, 100, SECOND);
    let (slow, fast) = (world.store(0).standing().place, world.store(1).standing().place);
    assert!(fast.map(|p| p.seq.0) >= slow.map(|p| p.seq.0 + 100), "{slow:?} {fast:?}");
    world.heal();
    world.check();
    assert_eq!(world.seen.mirrors, 2, "waiting for space costs nothing but time");
}

/// What the old master still writes must not mix with what the new one says.
#[test]
fn a_master_change_of_hands_leaves_the_old_one_refused() {
    let mut world = settled(3, 2, 100_000);
    world.set_reach(0, 0, false, true);
    edits(&mut world, 0, 5, SECOND);
    let new = world.change_hands();
    for _ in 0..20 {
        world.edit(0);
        world.edit(new);
        world.run_for(SECOND);
    }
    world.heal();
    world.run_for(5 * MINUTE);
    world.settle();
    world.check();
    assert!(world.seen.stale_refused > 0, "the old master was never refused");
    for station in 0..2 {
        let records = world.store(station).records();
        let second = Epoch::FIRST.next();
        let first = records.iter().position(|r| r.position.epoch == second).unwrap();
        assert!(records[first..].iter().all(|r| r.position.epoch == second));
    }
}

/// A gap must cost a round trip, never a version.
#[test]
fn a_gap_is_filled() {
    let mut world = settled(4, 1, 100_000);
    world.mishap(0, false);
    edits(&mut world, 0, 20, SECOND / 100);
    world.settle();
    world.check();
    assert_eq!(world.seen.resends, 1);
    assert_eq!(world.seen.mirrors, 1);
    assert!(whole_history(&world, 0).len() >= 20);
}

/// An ack that was lost makes the master send again what the station has.
#[test]
fn a_replay_is_acknowledged_and_kept_once() {
    let mut world = settled(5, 1, 100_000);
    for _ in 0..10 {
        world.mishap(0, true);
        edits(&mut world, 0, 2, SECOND / 100);
    }
    world.settle();
    world.check();
    assert_eq!((world.seen.resends, world.seen.refusals), (0, 0));
    assert!(whole_history(&world, 0).len() >= 20);
}

#[test]
fn a_journal_that_dropped_its_oldest_changes_is_made_good_by_a_mirror() {
    let mut world = settled(6, 2, 20);
    world.set_reach(0, 1, false, false);
    edits(&mut world, 0, 100, SECOND / 10);
    world.heal();
    world.check();
    assert_eq!(world.seen.mirrors, 3, "one for each at first, one for the one that was away");
}

/// A station whose disk was put back from a backup has lost what it promised to keep: loud, and healed.
#[test]
fn a_station_below_what_it_acknowledged_raises_an_alarm_and_is_mirrored() {
    let mut world = settled(7, 1, 100_000);
    edits(&mut world, 0, 30, SECOND / 10);
    world.settle();
    world.roll_station_back(0, 10);
    world.heal();
    world.check();
    assert_eq!((world.seen.lost_acknowledged, world.seen.mirrors), (1, 2));
}

/// Only stamps follow the time of day; order, waits and acknowledgements do not.
#[test]
fn a_clock_that_jumps_to_2036_and_back_changes_no_order() {
    let mut world = settled(8, 2, 100_000);
    for off in [315_360_000_000_000, -86_400_000_000, 0] {
        world.set_clock(off);
        edits(&mut world, 0, 20, SECOND / 5);
    }
    world.settle();
    world.check();
    assert_eq!(world.seen.mirrors, 2);
    let positions: Vec<_> = history(&world, 0).into_iter().map(|(position, _)| position).collect();
    assert!(positions.is_sorted());
}

/// One refused part must not let the place move past it.
#[test]
fn a_refused_part_of_a_mirror_leaves_the_mirror_open() {
    let mut world = Lives::new(9, 1, ModelSource::new(100_000));
    edits(&mut world, 0, 30, 0);
    while world.store(0).records().len() < 3 {
        world.run_for(SECOND / 10_000);
    }
    // All other parts and the end of the mirror are submitted before the first of them is refused.
    world.set_full(0, true);
    world.run_for(SECOND);
    world.refuse_next(0, 1);
    world.set_full(0, false);
    world.settle();
    world.check();
    assert_eq!((world.seen.mirrors, world.seen.refusals), (2, 1));
}

/// A store that refuses one change for good would otherwise stop a set for ever.
#[test]
fn a_change_refused_again_and_again_is_made_good_by_a_mirror() {
    let mut world = settled(10, 1, 100_000);
    world.refuse_next(0, 2);
    edits(&mut world, 0, 1, SECOND);
    world.settle();
    world.check();
    assert_eq!((world.seen.refusals, world.seen.mirrors), (2, 2));
}

/// A mirror that breaks off has led a station to a place; a journal that is put back from before it may not say so, and its own
/// mirrors are refused there until it has come so far. That was so for as long as nobody worked in the folder.
#[test]
fn a_journal_older_than_a_mirror_that_broke_off_gives_way() {
    let mut world = settled(11, 2, 20);
    let copy = world.copy_source();
    (0..2).for_each(|station| world.set_reach(0, station, false, false));
    edits(&mut world, 0, 60, SECOND / 10);
    world.set_reach(0, 1, true, false);
    while world.store(1).standing().mirror.is_none() {
        world.run_for(SECOND / 10_000);
    }
    world.set_reach(0, 1, false, false);
    world.put_source_back(&copy);
    world.heal();
    world.check();
    assert_eq!(world.seen.epochs, 1);
}

/// A journal is put back from before an epoch, and whoever takes over begins that epoch once more, not knowing that it was: the files
/// born in both have ids of one epoch, and meet at a station.
#[test]
fn files_of_an_epoch_that_is_begun_twice_are_told_apart() {
    for seed in 0..10 {
        let source = RealSource::new(seed, 1, 100_000);
        let mut world = World::<RealSource, RealStore>::new(seed, 1, source);
        let work = |world: &mut World<RealSource, RealStore>| {
            for _ in 0..20 {
                world.edit(world.holder());
                world.run_for(SECOND / 5);
            }
        };
        work(&mut world);
        let copy = world.copy_source();
        work(&mut world);
        world.put_source_back(&copy);
        work(&mut world);
        world.heal();
        assert_eq!(world.seen.epochs, 1);
        world.put_source_back(&copy);
        world.change_hands();
        work(&mut world);
        world.heal();
        world.check();
    }
}
