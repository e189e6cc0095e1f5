//! What a database on checked blocks promises under crashes, damage and failing syncs.

use std::collections::BTreeMap;

use redb::{Durability, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};

use super::*;
use crate::disk::sim::{Crash, Dice, SimDisk};

const TABLE: TableDefinition<u64, &[u8]> = TableDefinition::new("rows");
const FILE: &str = "index.redb";
/// Small, so that redb writes and reads pages in the middle of transactions.
const CACHE_BYTES: usize = 64 * 1024;

type Rows = BTreeMap<u64, Vec<u8>>;

fn open(disk: &SimDisk) -> Result<CheckedDb, CheckedError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    open_checked(&disk, FILE, CACHE_BYTES)
}

/// How a commit is made.
#[derive(Clone, Copy, Eq, PartialEq)]
enum How {
    NotDurable,
    OnePhase,
    Durable,
}

/// Commits some random changes and notes what is in the table then.
fn commit(db: &CheckedDb, rows: &mut Rows, dice: &mut Dice, how: How) -> Result<(), redb::Error> {
    let mut write = db.begin_write()?;
    match how {
        How::NotDurable => write.set_durability(Durability::None).unwrap(),
        How::OnePhase => write.set_quick_repair(false),
        How::Durable => {}
    }
    {
        let mut table = write.open_table(TABLE)?;
        for _ in 0..1 + dice.below(40) {
            let key = dice.roll() % 400;
            if dice.below(4) == 0 {
                table.remove(key)?;
                rows.remove(&key);
            } else {
                // Now and then longer than a page, so that redb uses runs of pages.
                let limit = if dice.below(12) == 0 { 20_000 } else { 300 };
                let value = vec![(dice.roll() % 251) as u8; dice.below(limit)];
                table.insert(key, value.as_slice())?;
                rows.insert(key, value);
            }
        }
    }
    Ok(write.commit()?)
}

fn read_all(db: &CheckedDb) -> Result<Rows, redb::Error> {
    let table = match db.database().begin_read()?.open_table(TABLE) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Rows::new()),
        other => other?,
    };
    let row = |row: Result<(redb::AccessGuard<'_, u64>, redb::AccessGuard<'_, &[u8]>), _>| {
        row.map(|(key, value)| (key.value(), value.value().to_vec()))
    };
    Ok(table.iter()?.map(row).collect::<Result<_, redb::StorageError>>()?)
}

/// Returns what can be read, or `None` where damage was noticed instead.
fn contained_read(disk: &SimDisk) -> Option<Rows> {
    let db = match open(disk) {
        Ok(db) => db,
        Err(CheckedError::Damaged(_)) => return None,
        Err(error) => panic!("neither good nor damaged: {error:?}"),
    };
    match db.contain(|_| read_all(&db)) {
        Ok(Ok(rows)) => Some(rows),
        Ok(Err(error)) => {
            let error = db.explain(error);
            assert!(matches!(error, CheckedError::Damaged(_)), "{error:?}");
            None
        }
        Err(_) => None,
    }
}

/// A run of commits, one in three durable, and what a crash may leave of it.
struct Run {
    /// The rows after each commit; the first is the last durable one.
    states: Vec<Rows>,
}

impl Run {
    fn new() -> Self {
        Self { states: vec![Rows::new()] }
    }

    fn work(&mut self, db: &CheckedDb, dice: &mut Dice, commits: usize) -> Result<(), redb::Error> {
        for _ in 0..commits {
            let durable = dice.below(3) == 0;
            let mut rows = self.states.last().unwrap().clone();
            let how = if durable { How::Durable } else { How::NotDurable };
            let done = commit(db, &mut rows, dice, how);
            self.states.push(rows);
            done?;
            if durable {
                self.states.drain(..self.states.len() - 1);
            }
        }
        Ok(())
    }
}

/// Kills the disk at every sync, loses or tears what was not synced, opens the database, goes on, and does it again.
#[test]
fn a_crash_at_any_sync_leaves_a_committed_state() {
    let seed = seed();
    let whole = SimDisk::new();
    let db = open(&whole).unwrap();
    Run::new().work(&db, &mut Dice(seed), 30).unwrap();
    drop(db);
    for n in 1..=whole.syncs() {
        for kind in 0..4 {
            let what = format!("seed {seed}, sync {n}, kind {kind}");
            let crash = if kind == 0 { Crash::LoseAll } else { Crash::Tear(seed ^ (n * 4 + kind)) };
            let disk = SimDisk::new();
            disk.crash_at(n);
            let mut run = Run::new();
            if let Ok(db) = open(&disk) {
                let _ = db.contain(|_| run.work(&db, &mut Dice(seed), 30));
            }
            let mut disk = disk.reopen(crash);
            for again in 0..2 {
                let db = open(&disk).unwrap_or_else(|error| panic!("{what}, {again}: {error:?}"));
                let rows = read_all(&db).unwrap_or_else(|error| panic!("{what}: {error}"));
                assert!(run.states.contains(&rows), "{what}, {again}: not a committed state");
                run.states = vec![rows];
                disk.crash_at(disk.syncs() + 3 + n % 5);
                let _ = db.contain(|_| run.work(&db, &mut Dice(seed ^ n), 8));
                drop(db);
                disk = disk.reopen(crash);
            }
        }
    }
}

fn closed_database(seed: u64) -> (SimDisk, Rows) {
    let disk = SimDisk::new();
    let db = open(&disk).unwrap();
    let mut run = Run::new();
    run.work(&db, &mut Dice(seed), 40).unwrap();
    drop(db);
    (disk, run.states.pop().unwrap())
}

/// redb alone answers 101 of 103 such patches that hit something alive with wrong values.
#[test]
fn garbage_never_gives_a_wrong_value() {
    let seed = seed();
    let (disk, rows) = closed_database(seed);
    let len = disk.content(FILE).len();
    let mut dice = Dice(seed);
    let mut noticed = 0;
    for i in 0..300 {
        let hurt = disk.reopen(Crash::LoseAll);
        let garbage: Vec<u8> = (0..8).flat_map(|_| dice.roll().to_le_bytes()).collect();
        let at = dice.below(len - garbage.len()) as u64;
        hurt.patch(FILE, at, &garbage);
        match contained_read(&hurt) {
            Some(read) => assert!(read == rows, "seed {seed}, patch {i} at {at}: wrong values"),
            None => noticed += 1,
        }
    }
    println!("{noticed} of 300 noticed");
    assert!(noticed > 10, "the patches hit nothing");
}

/// A lost sector, a hole punched by a repaired file system, a block written to the wrong place.
#[test]
fn a_block_gone_or_in_the_wrong_place_never_gives_a_wrong_value() {
    let (disk, rows) = closed_database(7);
    let content = disk.content(FILE);
    let blocks = block::blocks_in(content.len() as u64);
    let mut noticed = 0;
    for number in 1..blocks {
        let start = block::block_start(number);
        let other = usize::try_from(block::block_start(1 + (number + 5) % (blocks - 1))).unwrap();
        let empty = vec![0; block::STORED_BYTES];
        for bytes in [&empty, &content[other..][..block::STORED_BYTES]] {
            let hurt = disk.reopen(Crash::LoseAll);
            hurt.patch(FILE, start, bytes);
            match contained_read(&hurt) {
                Some(read) => assert!(read == rows, "block {number}: wrong values"),
                None => noticed += 1,
            }
        }
    }
    assert!(noticed > 10, "no block was in use");
}

/// The header is written in place, so a crash can tear it. One of two is always whole.
#[test]
fn either_header_may_be_lost_but_not_both() {
    let (disk, rows) = closed_database(3);
    let tear = |slots: &[u64]| {
        let hurt = disk.reopen(Crash::LoseAll);
        slots.iter().for_each(|slot| hurt.patch(FILE, slot + 512, &[0xee; 512]));
        contained_read(&hurt)
    };
    assert_eq!(tear(&block::SLOTS[..1]).as_ref(), Some(&rows));
    assert_eq!(tear(&block::SLOTS[1..]).as_ref(), Some(&rows));
    assert_eq!(tear(&block::SLOTS), None);
}

/// A header of before knows pages that have been written over since: reading them under it must be noticed.
#[test]
fn an_old_header_never_gives_new_values() {
    let slots_len = block::BLOCKS_START - block::SLOTS[0];
    for seed in 0..20 {
        let disk = SimDisk::new();
        let db = open(&disk).unwrap();
        let mut dice = Dice(seed);
        let mut run = Run::new();
        run.work(&db, &mut dice, 20).unwrap();
        commit(&db, run.states.last_mut().unwrap(), &mut dice, How::Durable).unwrap();
        let old = disk.content(FILE)[4096..][..usize::try_from(slots_len).unwrap()].to_vec();
        let old_rows = run.states.last().unwrap().clone();
        for _ in 0..1 + dice.below(5) {
            commit(&db, run.states.last_mut().unwrap(), &mut dice, How::Durable).unwrap();
        }
        drop(db);
        disk.patch(FILE, block::SLOTS[0], &old);
        if let Some(read) = contained_read(&disk) {
            assert!(read == old_rows, "seed {seed}: neither then nor damaged");
        }
    }
}

/// The same without redb, whose own structures often break first.
#[test]
fn a_block_written_under_an_unknown_header_is_damage() {
    let disk = SimDisk::new();
    let block = [1; block::BLOCK_BYTES];
    let file = CheckedFile::create(disk.open(FILE, true).unwrap()).unwrap();
    file.set_len(3 * 4096).unwrap();
    file.write(4096, &block).unwrap();
    let mut old = vec![];
    for header in 0..4 {
        file.write(0, &[header; 320]).unwrap();
        file.write(8192, &block).unwrap();
        file.sync_data().unwrap();
        old.push(disk.content(FILE)[4096..20_480].to_vec());
    }
    for (header, slots) in (0..).zip(old) {
        let disk = disk.reopen(Crash::KeepAll);
        disk.patch(FILE, block::SLOTS[0], &slots);
        let file = CheckedFile::open(disk.open(FILE, false).unwrap()).unwrap();
        let mut read = [0; block::BLOCK_BYTES];
        file.read(0, &mut read[..1]).unwrap();
        assert_eq!(read[0], header);
        file.read(4096, &mut read).unwrap();
        // Written under header 2, before 3 was: from there on it may be part of what the header knows.
        assert_eq!(file.read(8192, &mut read).is_ok(), header >= 2, "under {header}");
        file.write(0, &[9; 320]).unwrap();
        file.sync_data().unwrap();
        assert_eq!(file.read(8192, &mut read).is_ok(), header >= 2, "still under {header}");
        assert_eq!(file.damage().met(), header < 2);
    }
}

#[test]
fn any_truncation_is_noticed_or_costs_nothing() {
    let (disk, rows) = closed_database(5);
    let len = disk.content(FILE).len() as u64;
    for cut in (0..len).step_by(1777).chain(len - 20..len) {
        let hurt = disk.reopen(Crash::LoseAll);
        hurt.truncate(FILE, cut);
        if let Some(read) = contained_read(&hurt) {
            assert!(read == rows, "cut at {cut}: wrong values");
        }
    }
}

/// After a failed sync redb gives up until it is opened again; what is shown then must be on the disk.
#[test]
fn what_is_read_after_a_failed_sync_is_durable() {
    for n in 0..20 {
        let disk = SimDisk::new();
        let db = open(&disk).unwrap();
        let mut dice = Dice(n);
        let mut rows = Rows::new();
        for _ in 0..5 {
            commit(&db, &mut rows, &mut dice, How::OnePhase).unwrap();
        }
        let mut next = rows.clone();
        disk.fail_sync(disk.syncs() + 1);
        let error = commit(&db, &mut next, &mut dice, How::OnePhase).unwrap_err();
        assert!(matches!(db.explain(error), CheckedError::Io(_)));
        drop(db);
        // The same kernel, which still shows what it could not write.
        let db = open(&disk).unwrap();
        let mut shown = read_all(&db).unwrap();
        assert!(shown == rows || shown == next, "{n}");
        commit(&db, &mut shown, &mut dice, How::Durable).unwrap();
        let left = contained_read(&disk.reopen(Crash::LoseAll)).expect("not damaged");
        assert!(left == shown, "{n}: not what was shown");
    }
}

/// A full disk is an error and no more: what was durable is there when it is opened again.
#[test]
fn a_full_disk_costs_only_what_was_not_durable() {
    let disk = SimDisk::new();
    let db = open(&disk).unwrap();
    let mut run = Run::new();
    let mut dice = Dice(11);
    run.work(&db, &mut dice, 10).unwrap();
    disk.set_capacity(Some(disk.used_bytes() + 30_000));
    run.work(&db, &mut dice, 500).unwrap_err();
    drop(db);
    let rows = contained_read(&disk.reopen(Crash::LoseAll)).expect("not damaged");
    assert!(run.states.contains(&rows));
    disk.set_capacity(None);
    let db = open(&disk).unwrap();
    run.states = vec![read_all(&db).unwrap()];
    run.work(&db, &mut dice, 10).unwrap();
}

/// Blocks are written some hundred at a time: the one after each such run was once left out.
#[test]
fn long_runs_of_blocks_are_written_whole() {
    let disk = SimDisk::new();
    let file = CheckedFile::create(disk.open(FILE, true).unwrap()).unwrap();
    let blocks = 900;
    file.set_len(blocks * 4096).unwrap();
    let bytes = |block: u64| vec![(block % 251) as u8 + 1; 4096];
    for block in 0..blocks {
        file.write(block * 4096, &bytes(block)).unwrap();
    }
    file.sync_data().unwrap();
    for block in 0..blocks {
        let mut read = vec![0; 4096];
        file.read(block * 4096, &mut read).unwrap();
        assert!(read == bytes(block), "block {block}");
    }
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let (disk, _) = closed_database(1);
    let mut head = disk.content(FILE)[..32].to_vec();
    head[8] = 9;
    head[12..16].fill(0);
    let crc = crc32c::crc32c(&head);
    head[12..16].copy_from_slice(&crc.to_le_bytes());
    disk.patch(FILE, 0, &head);
    assert!(matches!(open(&disk), Err(CheckedError::NewerFormat { found: 9, known: 1 })));
}

fn seed() -> u64 {
    let seed = std::env::var("KEEPSHARE_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| crate::disk::random_id().unwrap() >> 16);
    println!("KEEPSHARE_TEST_SEED={seed}");
    seed
}
