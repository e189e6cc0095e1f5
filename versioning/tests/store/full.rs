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
