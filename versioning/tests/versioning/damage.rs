//! Flipped bits, lost and old files: never a wrong answer, never a missing one that looks right.

use keepshare_base::CommitId;
use keepshare_versioning::{
    ReadError, Store, StoreError,
    disk::{
        Disk,
        sim::{Crash, Dice, SimDisk},
    },
    log::LogError,
};

use crate::{
    model::{Memory, check_everything, random},
    rig::{Part, ROOT, Rig, SECOND, bytes, edit, open, seed},
};

const INDEX: &str = "index.redb";

/// Feeds a rig random changes.
fn feed(rig: &mut Rig, dice: &mut Dice, memory: &mut Memory, count: usize) {
    for i in 0..count {
        rig.master.now = rig.master.now.plus_micros(SECOND);
        let (edit, _) = random::edit(dice, &mut rig.master, memory);
        let incoming = rig.master.next(edit);
        let at = rig.store.commit(rig.master.now, &incoming).unwrap();
        memory.apply(at, &incoming);
        if i % 4 == 3 {
            rig.store.sync().unwrap();
        }
    }
    rig.store.flush().unwrap();
}

/// Puts other bytes in place of a file.
fn replace(disk: &SimDisk, file: &str, content: &[u8]) {
    let file = disk.open(file, true).unwrap();
    file.set_len(0).unwrap();
    file.write_all_at(content, 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir("").unwrap();
}

#[test]
fn an_index_that_is_lost_or_old_gives_the_same_answers() {
    let mut dice = Dice(seed());
    let (mut rig, mut memory) = (Rig::new(), Memory::default());
    let mut copies = vec![];
    for _ in 0..4 {
        feed(&mut rig, &mut dice, &mut memory, 25);
        copies.push(rig.disk.content(INDEX));
        while rig.store.maintain().unwrap() {}
    }
    rig.store.flush().unwrap();
    let digests = rig.view().digests().unwrap();
    let check = |store: &Store, case: &str| {
        assert_eq!(store.reader().view().unwrap().digests().unwrap(), digests, "{case}");
        check_everything(store, &memory, case);
    };
    let lost = rig.disk.reopen(Crash::KeepAll);
    lost.remove(INDEX).unwrap();
    let (store, report) = open(&lost).unwrap();
    assert!(report.rebuilt.is_some());
    check(&store, "lost");
    for (i, copy) in copies.iter().enumerate() {
        let old = rig.disk.reopen(Crash::KeepAll);
        replace(&old, INDEX, copy);
        check(&open(&old).unwrap().0, &format!("copy {i}"));
    }
    let cut = rig.disk.reopen(Crash::KeepAll);
    cut.truncate(INDEX, 10_000);
    check(&open(&cut).unwrap().0, "cut");
    let other = Rig::new();
    let strange = rig.disk.reopen(Crash::KeepAll);
    replace(&strange, INDEX, &other.disk.content(INDEX));
    check(&open(&strange).unwrap().0, "another set's");
}

#[test]
fn a_flipped_bit_in_the_index_is_mended_and_never_answered_from() {
    let mut dice = Dice(seed());
    let (mut rig, mut memory) = (Rig::new(), Memory::default());
    feed(&mut rig, &mut dice, &mut memory, 60);
    let content = rig.disk.content(INDEX);
    let digests = rig.view().digests().unwrap();
    let mut mended = 0;
    for i in 0..200 {
        let disk = rig.disk.reopen(Crash::KeepAll);
        // Most of the file is free room; a flip there is no test.
        let offset = loop {
            let offset = dice.below(content.len());
            if content[offset] != 0 {
                break offset as u64;
            }
        };
        // Half of the cases are there before the set is opened, half come behind its back.
        let before = i % 2 == 0;
        if before {
            disk.flip(INDEX, offset, (i % 8) as u8);
        }
        let (mut store, report) = open(&disk).unwrap();
        if !before {
            disk.flip(INDEX, offset, (i % 8) as u8);
        }
        match store.reader().view().and_then(|view| view.digests()) {
            Ok(got) => assert_eq!(got, digests, "offset {offset}"),
            Err(ReadError::Index(_)) => {
                store.sync().unwrap();
                mended += 1;
            }
            Err(other) => panic!("offset {offset}: {other:?}"),
        }
        mended += usize::from(report.rebuilt.is_some());
        assert_eq!(store.reader().view().unwrap().digests().unwrap(), digests, "{offset}");
        check_everything(&store, &memory, &format!("offset {offset}"));
    }
    assert!(mended > 20, "{mended} mended");
}

#[test]
fn every_flipped_byte_of_a_pack_is_noticed_and_never_served() {
    let mut rig = Rig::new();
    let blob = bytes(1, 3000);
    let long = bytes(2, 70_000);
    let file = rig.add(ROOT, "long", &long);
    rig.add(ROOT, "blob", &blob);
    rig.apply(edit().write(file, 70_000, false, &[Part::Data(5000, b"patch")], true));
    rig.store.flush().unwrap();
    let pack = format!("packs/{}", rig.disk.list("packs").unwrap()[0]);
    let len = rig.disk.content(&pack).len() as u64;
    let (reader, view) = (rig.reader(), rig.view());
    let states: Vec<_> = ["blob", "long"]
        .iter()
        .map(|text| rig.state(crate::rig::NOW, text).unwrap())
        .chain(view.versions(file).unwrap())
        .collect();
    let good: Vec<_> = states.iter().map(|state| rig.read(state)).collect();
    let mut noticed = 0;
    let all = (0..len).filter(|offset| *offset < 4096 || *offset % 37 == 0 || offset + 8192 > len);
    let mut flipped = 0;
    for offset in all {
        flipped += 1;
        let bit = (offset % 8) as u8;
        rig.disk.flip(&pack, offset, bit);
        let mut seen = false;
        for (state, good) in states.iter().zip(&good) {
            match reader.read(state, 0, usize::MAX) {
                Ok(bytes) => assert!(bytes == *good, "byte {offset} served"),
                Err(ReadError::Damaged { .. }) => seen = true,
                Err(other) => panic!("byte {offset}: {other:?}"),
            }
        }
        noticed += usize::from(seen);
        rig.disk.flip(&pack, offset, bit);
    }
    // Only the file's header and the filling between frames are of no frame.
    assert!(noticed + 100 > flipped, "{noticed} of {flipped} noticed");
}

/// Damage of what was durable is an alarm, whatever is left of the index; it never makes the log shorter.
#[test]
fn damage_inside_the_log_is_an_error_and_never_a_cut() {
    let mut dice = Dice(seed());
    let (mut rig, mut memory) = (Rig::new(), Memory::default());
    feed(&mut rig, &mut dice, &mut memory, 40);
    rig.store.sync().unwrap();
    let latest = rig.store.latest();
    let log = format!("log/{}", rig.disk.list("log").unwrap()[0]);
    let len = rig.disk.content(&log).len();
    let mut alarms = 0;
    for i in 0..400 {
        let disk = rig.disk.reopen(Crash::KeepAll);
        let offset = dice.below(len) as u64;
        disk.flip(&log, offset, (i % 8) as u8);
        if i % 2 == 0 {
            disk.remove(INDEX).unwrap();
        }
        match open(&disk) {
            Ok((store, _)) => {
                assert_eq!(store.latest(), latest, "byte {offset} of {len} cut the log");
                check_everything(&store, &memory, &format!("byte {offset}"));
            }
            Err(StoreError::Log(LogError::Damaged { .. } | LogError::NewerFormat { .. })) => {
                assert_eq!(disk.content(&log).len(), len, "nothing is cut");
                alarms += 1;
            }
            Err(other) => panic!("byte {offset}: {other:?}"),
        }
    }
    assert!(alarms > 350, "{alarms} alarms");
}

/// An index that knows commits, and no log: that is no new set.
#[test]
fn a_missing_log_is_no_empty_set() {
    let mut rig = Rig::new();
    rig.add(ROOT, "f", &bytes(1, 2000));
    rig.store.flush().unwrap();
    let lost = |index: bool| {
        let disk = rig.disk.reopen(Crash::KeepAll);
        for log in disk.list("log").unwrap() {
            disk.remove(&format!("log/{log}")).unwrap();
        }
        if index {
            disk.remove(INDEX).unwrap();
        }
        open(&disk).map(|(store, _)| store.latest())
    };
    assert!(matches!(lost(false), Err(StoreError::LogMissing(CommitId(1)))));
    assert!(matches!(lost(true), Err(StoreError::LogMissing(CommitId(0)))), "packs know better");
}
