//! Power lost at every sync, and at many writes: each answer is as before or as after, and what was acknowledged is there.

use std::sync::Arc;

use keepshare_base::CommitId;
use keepshare_versioning::{
    CommitError, Store, StoreError, StoreOptions,
    disk::sim::{Crash, Dice, SimDisk},
};

use crate::{
    model::{Memory, check_everything, random},
    rig::{Master, SECOND, options, seed},
};

/// Changes of one script; enough for a flush, a look through bodies and a new log.
const CHANGES: usize = 36;

/// What a script got done before the disk died.
struct Done {
    memory: Memory,
    master: Master,
    acknowledged: CommitId,
    /// Whether the disk lived.
    finished: bool,
}

/// The same changes every time, as far as the disk goes along.
fn script(disk: &SimDisk, seed: u64) -> Done {
    let mut done = Done {
        memory: Memory::default(),
        master: Master::new(),
        acknowledged: CommitId(0),
        finished: false,
    };
    done.finished = run(disk, &mut Dice(seed), &mut done).is_ok();
    done
}

fn run(disk: &SimDisk, dice: &mut Dice, done: &mut Done) -> Result<(), CommitError> {
    let mut store = open(disk)?;
    changes(&mut store, dice, done, CHANGES)
}

fn changes(
    store: &mut Store,
    dice: &mut Dice,
    done: &mut Done,
    count: usize,
) -> Result<(), CommitError> {
    for i in 0..count {
        done.master.now = done.master.now.plus_micros(SECOND);
        let (edit, _) = random::edit(dice, &mut done.master, &done.memory);
        let incoming = done.master.next(edit);
        let at = store.commit(done.master.now, &incoming)?;
        done.memory.apply(at, &incoming);
        if i % 4 == 1 {
            let (now, versions) = (done.master.now, done.memory.removable(dice, 3));
            let since = store.running_micros(&now.into());
            store.set_aside(now, since, &versions)?;
            done.memory.set_aside(store.latest(), since, &versions);
        }
        if i % 6 == 4 {
            let back = store.bring_back(0, 2)?;
            done.memory.bring_back(store.latest(), &back);
        }
        if i % 3 == 2 {
            done.acknowledged = store.sync()?;
        }
        if i % 8 == 7 {
            store.flush()?;
            done.acknowledged = store.latest();
        }
        if i % 5 == 4 {
            store.maintain()?;
            done.acknowledged = store.sync()?;
        }
    }
    done.acknowledged = store.sync()?;
    Ok(())
}

fn open(disk: &SimDisk) -> Result<Store, StoreError> {
    let options = StoreOptions { log_bytes_min: 8 * 1024, ..options() };
    Ok(Store::open(Arc::new(disk.clone()), options)?.0)
}

/// Opens what a crash left, holds it against what was done, and goes on.
fn recover(disk: &SimDisk, mut done: Done, case: &str) {
    let mut store = open(disk).unwrap_or_else(|error| panic!("{case}: {error:?}"));
    let latest = store.latest();
    let acknowledged = done.acknowledged;
    assert!(latest >= acknowledged, "{case}: acknowledged {acknowledged}, found {latest}");
    done.memory.forget_after(latest);
    check_everything(&store, &done.memory, case);
    // The journal goes on where the station is; which change that is, the station says.
    let place = store.reader().view().unwrap().position(keepshare_base::OriginId(1)).unwrap();
    let (seq, running) = place
        .and_then(|place| place.last)
        .map_or_else(Default::default, |(_, seq, running)| (seq, Some(running)));
    done.master.seq = seq;
    done.master.running = running.unwrap_or(keepshare_base::RunningHash::EMPTY);
    let dice = &mut Dice(seq.0);
    changes(&mut store, dice, &mut done, 6).unwrap_or_else(|error| panic!("{case}: {error:?}"));
    check_everything(&store, &done.memory, case);
}

#[test]
fn a_crash_at_any_sync_loses_nothing_acknowledged() {
    let seed = seed();
    let disk = SimDisk::new();
    assert!(script(&disk, seed).finished);
    let syncs = disk.syncs();
    assert!(syncs > 30, "{syncs} syncs");
    for n in 1..=syncs {
        for crash in [Crash::LoseAll, Crash::KeepAll, Crash::Tear(seed ^ n)] {
            let disk = SimDisk::new();
            disk.crash_at(n);
            let done = script(&disk, seed);
            recover(&disk.reopen(crash), done, &format!("sync {n} of {syncs}, {crash:?}"));
        }
    }
}

#[test]
fn a_crash_at_any_write_loses_nothing_acknowledged() {
    let seed = seed();
    let disk = SimDisk::new();
    assert!(script(&disk, seed).finished);
    let writes = disk.writes();
    let mut dice = Dice(seed);
    for _ in 0..60 {
        let n = 1 + dice.roll() % writes;
        let crash = Crash::Tear(dice.roll());
        let disk = SimDisk::new();
        disk.crash_at_write(n);
        let done = script(&disk, seed);
        recover(&disk.reopen(crash), done, &format!("write {n} of {writes}, {crash:?}"));
    }
}

/// A crash while a crash is being recovered from.
#[test]
fn a_crash_in_recovery_loses_nothing_acknowledged() {
    let seed = seed();
    let first = SimDisk::new();
    let writes = {
        assert!(script(&first, seed).finished);
        first.writes()
    };
    let mut dice = Dice(seed);
    for _ in 0..30 {
        let n = writes / 3 + dice.roll() % (writes / 2);
        let disk = SimDisk::new();
        disk.crash_at_write(n);
        let done = script(&disk, seed);
        let mut left = disk.reopen(Crash::Tear(dice.roll()));
        for again in 1..4 {
            left.crash_at_write(again * 2);
            let _ = open(&left);
            left = left.reopen(Crash::Tear(dice.roll()));
        }
        recover(&left, done, &format!("write {n} of {writes} and three more"));
    }
}

/// What a failed sync leaves is unknown: nothing more is taken until the set is opened again.
#[test]
fn a_failed_sync_poisons_until_the_set_is_opened_again() {
    let seed = seed();
    let disk = SimDisk::new();
    assert!(script(&disk, seed).finished);
    let mut poisoned = 0;
    for n in 1..=disk.syncs() {
        let disk = SimDisk::new();
        disk.fail_sync(n);
        let mut done = Done {
            memory: Memory::default(),
            master: Master::new(),
            acknowledged: CommitId(0),
            finished: false,
        };
        if let Ok(mut store) = open(&disk)
            && changes(&mut store, &mut Dice(seed), &mut done, CHANGES).is_err()
        {
            let incoming = done.master.next(crate::rig::edit());
            let again = store.commit(done.master.now, &incoming);
            assert!(matches!(again, Err(CommitError::Poisoned)), "sync {n}: {again:?}");
            poisoned += 1;
        }
        recover(&disk.reopen(Crash::KeepAll), done, &format!("failed sync {n}"));
    }
    assert!(poisoned > 10, "{poisoned} poisoned");
}
