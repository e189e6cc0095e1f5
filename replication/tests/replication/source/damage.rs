//! A journal that is not what was written: nothing of it is ever sent, and there is a way on.

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use keepshare_base::{Epoch, Seq};
use keepshare_host::shared::SharedDb;
use keepshare_replication::source::{Source, SourceAlarm, SourceError};
use keepshare_versioning::disk::sim::SimDisk;
use redb::{ReadableTable as _, TableDefinition};

use super::{
    edits::captures,
    support::{JOURNAL_OPTIONS, Model, Rig, database, open},
};

const JOURNAL: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("journal");

/// A rig whose station lacks one change that makes a file of this name, closed.
fn lagging(name: &str) -> (Rig, Seq) {
    let mut rig = Rig::new(captures()[0]);
    fs::write(rig.path("before"), "before").unwrap();
    rig.begin();
    fs::write(rig.path(name), "content").unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let is_there = |rig: &Rig| {
        let entries = rig.handle.entries(rig.at.next(), 1 << 20).unwrap();
        entries.iter().any(|entry| {
            entry.filled.change.names.iter().any(|row| row.name.as_bytes() == name.as_bytes())
        })
    };
    while !is_there(&rig) {
        assert!(Instant::now() < deadline, "{name} was never journaled");
        std::thread::sleep(Duration::from_millis(1));
    }
    let entries = rig.handle.entries(rig.at.next(), 1 << 20).unwrap();
    let names = |entry: &keepshare_replication::source::JournaledChange| {
        entry.filled.change.names.iter().any(|row| row.name.as_bytes() == name.as_bytes())
    };
    let seq = entries.iter().find(|entry| names(entry)).unwrap().seq;
    rig.handle.shutdown();
    (rig, seq)
}

/// A letter of a name that changed in the journal must never become a file at a station: it is told, and the station is
/// mirrored, after which everything goes on.
#[test]
fn a_change_that_does_not_match_its_running_hash_is_never_sent() {
    let (mut rig, seq) = lagging("victim_AAAA");
    let journal = database(&rig.config).unwrap();
    let write = journal.begin_write().unwrap();
    {
        let mut table = write.open_table(JOURNAL).unwrap();
        let mut row = table.get(seq.0).unwrap().unwrap().value().to_vec();
        let at = row.windows(11).position(|part| part == b"victim_AAAA").unwrap();
        row[at + 10] = b'B';
        table.insert(seq.0, row.as_slice()).unwrap();
    }
    write.commit().unwrap();
    drop(journal);
    rig.handle = open(&rig.config);
    let refused = rig.handle.entries(seq, 1 << 20);
    assert!(matches!(refused, Err(SourceError::DamagedChange(at)) if at == seq), "{refused:?}");
    let alarms = rig.handle.status().alarms;
    assert!(alarms.contains(&SourceAlarm::Damaged { seq }), "{alarms:?}");
    assert!(rig.handle.oldest().unwrap() > seq, "who lacks it is mirrored");
    rig.mirror();
    fs::write(rig.path("after"), "after").unwrap();
    rig.settle();
    assert!(rig.model.resolve("victim_AAAA").is_some());
    assert!(rig.model.resolve("victim_AAAB").is_none());
    // When nobody needs it any more, it goes and the alarm with it.
    let deadline = Instant::now() + Duration::from_secs(20);
    while !rig.handle.status().alarms.is_empty() {
        assert!(Instant::now() < deadline, "{:?}", rig.handle.status());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whatever bit flips in the file: what is sent is what was journaled, or nothing is.
#[test]
fn a_flipped_bit_in_the_journal_is_never_sent() {
    let (mut rig, seq) = lagging("victim");
    let path = rig.config.state_dir.join("test.redb");
    let whole = fs::read(&path).unwrap();
    rig.handle = open(&rig.config);
    let want = rig.handle.entries(seq, 1 << 20).unwrap();
    rig.handle.shutdown();
    let (mut noticed, mut tried) = (0, 0);
    for i in 0..60 {
        // A bit in every part of the file that holds something.
        let at = i * whole.len() / 60;
        let Some(at) = (at..whole.len()).find(|at| whole[*at] != 0) else { continue };
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (i % 8);
        fs::write(&path, bytes).unwrap();
        tried += 1;
        let opened = database(&rig.config).map_err(|error| error.to_string());
        let opened = opened.and_then(|database| {
            Source::open(rig.config.clone(), database).map_err(|error| error.to_string())
        });
        let Ok(handle) = opened else {
            noticed += 1;
            continue;
        };
        rig.handle = handle;
        match rig.handle.entries(seq, 1 << 20) {
            Ok(entries) => {
                for (entry, want) in entries.iter().zip(&want) {
                    assert_eq!(entry.filled.change, want.filled.change, "bit {i} at {at}");
                }
            }
            Err(_) => noticed += 1,
        }
        rig.handle.shutdown();
    }
    println!("{noticed} of {tried} noticed");
    fs::write(&path, whole).unwrap();
    rig.handle = open(&rig.config);
    rig.model = Model::default();
    rig.mirror();
    rig.settle();
}

/// A rig whose journal lies on a disk that fails when it is told to.
fn on_a_weak_disk() -> (Rig, SimDisk) {
    let mut rig = Rig::new(captures()[0]);
    rig.handle.shutdown();
    rig.model = Model::default();
    let disk = SimDisk::new();
    let journal = SharedDb::open(Arc::new(disk.clone()), "test.redb", JOURNAL_OPTIONS).unwrap();
    rig.handle = Source::open(rig.config.clone(), journal).unwrap();
    rig.mirror();
    rig.begin();
    assert_eq!(rig.handle.status().alarms, []);
    (rig, disk)
}

/// Waits until something is true of the alarms. That the folder is gone is never one of them: whoever is told that looks for
/// a disk that is not mounted.
fn wait_alarms(rig: &Rig, what: &str, is_so: impl Fn(&[SourceAlarm]) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let alarms = rig.handle.status().alarms;
        assert!(!alarms.iter().any(|it| matches!(it, SourceAlarm::Vanished(_))), "{alarms:?}");
        if is_so(&alarms) {
            return;
        }
        assert!(Instant::now() < deadline, "never happened: {what}; {alarms:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Has a station that followed the journal before its disk failed follow it again.
fn follow_again(rig: &mut Rig, epoch: Epoch) {
    wait_alarms(rig, "the end of the alarms", <[_]>::is_empty);
    // What was not durable is told of anew, or shown.
    if rig.handle.head().epoch != epoch || rig.handle.oldest().unwrap() > rig.at.next() {
        rig.mirror();
    }
    rig.settle();
    fs::write(rig.path("later"), "x").unwrap();
    rig.settle();
    wait_alarms(rig, "the end of the alarms", <[_]>::is_empty);
}

/// One sync that fails costs a moment: the journal is opened anew, and everything is compared.
#[test]
fn a_journal_whose_disk_failed_once_goes_on() {
    let (mut rig, disk) = on_a_weak_disk();
    let epoch = rig.handle.head().epoch;
    disk.fail_sync(disk.syncs() + 1);
    fs::write(rig.path("a"), "x").unwrap();
    wait_alarms(&rig, "the alarm", |alarms| matches!(alarms, [SourceAlarm::Journal(_)]));
    fs::write(rig.path("meanwhile"), "x").unwrap();
    follow_again(&mut rig, epoch);
}

/// A disk that is nearly full is left alone until there is space: what changes meanwhile is found then.
#[test]
fn a_journal_whose_disk_is_full_waits_for_space() {
    let (mut rig, disk) = on_a_weak_disk();
    let (epoch, head) = (rig.handle.head().epoch, rig.handle.head());
    disk.set_capacity(Some(disk.used_bytes() + (4 << 20)));
    fs::write(rig.path("a"), "x").unwrap();
    wait_alarms(&rig, "the alarm", |alarms| matches!(alarms, [SourceAlarm::Full(_)]));
    assert_eq!(rig.handle.head(), head, "nothing was journaled");
    disk.set_capacity(None);
    follow_again(&mut rig, epoch);
}
