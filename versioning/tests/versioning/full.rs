//! A full disk: refused by name, read on, and gone on with when there is space.

use std::sync::Arc;

use keepshare_base::CommitId;
use keepshare_versioning::{
    CommitError, Store, StoreError, StoreOptions,
    disk::{
        Disk,
        sim::{Crash, Dice, SimDisk},
    },
};

use crate::{
    model::{Memory, check_everything, random},
    rig::{NOW, ROOT, Rig, SECOND, bytes, edit, options, seed},
};

#[test]
fn a_full_disk_refuses_changes_and_answers_reads() {
    let disk = SimDisk::new();
    let mut rig = Rig::on(disk.clone());
    let reserve_bytes = 4 << 20;
    let options = StoreOptions { reserve_bytes, ..options() };
    (rig.store, _) = Store::open(Arc::new(disk.clone()), options).unwrap();
    disk.set_capacity(Some(disk.used_bytes() + (20 << 20)));
    let mut files = 0_u64;
    let full = loop {
        let file = rig.master.file();
        let one = edit().whole(file, &bytes(files, 200_000), true);
        let mut master = rig.master.clone();
        let incoming = master.next(one.put(ROOT, &format!("f{files}"), file));
        match rig.store.commit(master.now, &incoming) {
            Ok(_) => (rig.master, files) = (master, files + 1),
            Err(error) => break error,
        }
        rig.store.sync().unwrap();
        if files.is_multiple_of(8) {
            rig.store.flush().unwrap();
        }
    };
    assert!(matches!(full, CommitError::Full), "{full:?}");
    assert!(files > 20, "{files} files");
    assert!(disk.free_bytes().unwrap() < reserve_bytes);
    // Housekeeping goes on in the reserve.
    rig.store.flush().unwrap();
    rig.store.maintain().unwrap();
    for i in 0..files {
        assert_eq!(rig.content(NOW, &format!("f{i}")), bytes(i, 200_000));
    }
    disk.set_capacity(None);
    rig.add(ROOT, "more", b"space");
    assert_eq!(rig.content(NOW, "more"), b"space");
}

/// Without any reserve every write may be the one that does not fit. Nothing acknowledged is lost then, nothing that
/// was taken in is half there, and with space it goes on.
#[test]
fn a_disk_that_fills_up_anywhere_loses_nothing() {
    let seed = seed();
    let mut dice = Dice(seed);
    let mut filled = 0;
    for case in 0..60 {
        let disk = SimDisk::new();
        let mut rig = Rig::on(disk.clone());
        let mut memory = Memory::default();
        let mut acknowledged = CommitId(0);
        disk.set_capacity(Some(disk.used_bytes() + 20_000 + dice.roll() % 150_000));
        for i in 0..60 {
            rig.master.now = rig.master.now.plus_micros(SECOND);
            let mut master = rig.master.clone();
            let (edit, _) = random::edit(&mut dice, &mut master, &memory);
            let incoming = master.next(edit);
            match rig.store.commit(master.now, &incoming) {
                Ok(at) => {
                    memory.apply(at, &incoming);
                    rig.master = master;
                }
                Err(CommitError::Full) => {
                    filled += 1;
                    break;
                }
                Err(other) => panic!("case {case}: {other:?}"),
            }
            if i % 3 == 2 {
                match rig.store.sync() {
                    Ok(at) => acknowledged = at,
                    Err(StoreError::Full) => {
                        filled += 1;
                        break;
                    }
                    Err(other) => panic!("case {case}: {other:?}"),
                }
            }
            if i % 10 == 9
                && let Err(error) = rig.store.flush()
            {
                assert!(matches!(error, StoreError::Full), "case {case}: {error:?}");
                filled += 1;
                break;
            }
        }
        disk.set_capacity(None);
        acknowledged = rig.store.sync().unwrap().max(acknowledged);
        assert_eq!(acknowledged, rig.store.latest());
        check_everything(&rig.store, &memory, &format!("case {case}, went on"));
        rig.crash(Crash::LoseAll);
        let latest = rig.store.latest();
        assert!(latest >= acknowledged, "case {case}: acknowledged {acknowledged}, found {latest}");
        memory.forget_after(latest);
        check_everything(&rig.store, &memory, &format!("case {case}, opened again"));
    }
    assert!(filled > 10, "{filled} filled up");
}

/// What makes room must work where there is none: below the reserve, and with not a byte left but the held one.
#[test]
fn removal_works_on_a_full_disk_and_gives_its_space_back() {
    for free in [2 << 20, 0] {
        let disk = SimDisk::new();
        let mut rig = Rig::on(disk.clone());
        let options = StoreOptions { reserve_bytes: 16 << 20, ..options() };
        (rig.store, _) = Store::open(Arc::new(disk.clone()), options).unwrap();
        let mut gone = vec![];
        for i in 0..130_u64 {
            let file = rig.add(ROOT, "f", &bytes(i, 600 * 1024));
            gone.push((file, rig.store.latest()));
            rig.apply(edit().gone(ROOT, "f"));
        }
        disk.set_capacity(Some(disk.used_bytes() + free));
        let refused = rig.master.clone().next(edit());
        let refused = rig.store.commit(rig.master.now, &refused);
        assert!(matches!(refused, Err(CommitError::Full)), "{refused:?}");
        rig.store.expire(&gone).unwrap();
        while rig.store.maintain().unwrap() {}
        assert!(disk.free_bytes().unwrap() > 40 << 20, "{} free", disk.free_bytes().unwrap());
        rig.add(ROOT, "more", b"space");
        assert_eq!(rig.content(NOW, "more"), b"space");
    }
}

/// An epoch is agreed to on a full disk: a refusal would stop a link for good that only has to wait.
#[test]
fn a_fence_may_use_the_reserve() {
    let disk = SimDisk::new();
    let mut rig = Rig::on(disk.clone());
    let options = StoreOptions { reserve_bytes: 16 << 20, ..options() };
    (rig.store, _) = Store::open(Arc::new(disk.clone()), options).unwrap();
    rig.add(ROOT, "f", b"f");
    disk.set_capacity(Some(disk.used_bytes()));
    let epoch = rig.master.epoch.next();
    rig.store.fence(rig.master.now, keepshare_base::OriginId(1), epoch).unwrap();
    rig.store.sync().unwrap();
}

/// An error that passes costs nothing that was taken in, and the index is not built anew for it.
#[test]
fn an_index_whose_sync_failed_once_is_opened_anew() {
    let mut rig = Rig::new();
    for i in 0..100_u64 {
        rig.add(ROOT, &format!("f{i}"), &bytes(i, 400));
    }
    rig.store.flush().unwrap();
    for round in 0..4 {
        rig.add(ROOT, &format!("r{round}"), b"more");
        // Nothing but the index has anything to sync then.
        rig.disk.fail_sync(rig.disk.syncs() + 1 + round % 2);
        rig.store.flush().unwrap();
        rig.store.flush().unwrap();
        rig.crash(Crash::LoseAll);
        assert_eq!(rig.report.rebuilt, None, "round {round}");
        for i in 0..100_u64 {
            assert_eq!(rig.content(NOW, &format!("f{i}")), bytes(i, 400), "round {round}, f{i}");
        }
        assert_eq!(rig.content(NOW, &format!("r{round}")), b"more");
    }
}

/// redb gives nothing more after a write that failed. The index is opened anew, not built anew, and has everything.
#[test]
fn an_index_that_found_no_space_is_opened_anew() {
    let disk = SimDisk::new();
    let mut rig = Rig::on(disk.clone());
    for i in 0..200_u64 {
        rig.add(ROOT, &format!("f{i}"), &bytes(i, 400));
    }
    rig.store.flush().unwrap();
    for i in 200..900_u64 {
        rig.add(ROOT, &format!("f{i}"), &bytes(i, 400));
    }
    disk.set_capacity(Some(disk.used_bytes()));
    assert!(matches!(rig.store.flush(), Err(StoreError::Full)));
    assert!(matches!(rig.store.flush(), Err(StoreError::Full)), "and it says so again");
    disk.set_capacity(None);
    let writes = disk.content("index.redb").len();
    rig.store.flush().unwrap();
    assert!(disk.content("index.redb").len() >= writes, "not built anew");
    rig.add(ROOT, "more", b"more");
    for i in 0..900_u64 {
        assert_eq!(rig.content(NOW, &format!("f{i}")), bytes(i, 400), "f{i}");
    }
    assert_eq!(rig.content(NOW, "more"), b"more");
}
