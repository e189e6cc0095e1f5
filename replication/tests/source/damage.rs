//! A journal that is not what was written: nothing of it is ever sent, and there is a way on.

use std::{
    fs,
    time::{Duration, Instant},
};

use keepshare_base::Seq;
use keepshare_replication::source::{Source, SourceAlarm, SourceError};
use redb::{ReadableTable as _, TableDefinition};

use crate::{
    edits::captures,
    support::{Model, Rig, database, open},
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
