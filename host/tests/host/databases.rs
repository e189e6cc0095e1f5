//! Databases that become checked ones, that crash in the middle of a commit, and whose disk fails for a while.

use std::{
    collections::BTreeMap,
    fmt, io,
    sync::{Arc, Mutex},
};

use keepshare_host::{
    checked::{CheckedError, PLAIN, forget_plain},
    disk::{
        Disk, DiskFile,
        sim::{Crash, Dice, SimDisk},
    },
    shared::{DbOptions, SharedDb},
};
use redb::{Builder, ReadableTable, StorageBackend, TableDefinition};

const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("rows");
const FILE: &str = "auth.redb";
const ONE: DbOptions = DbOptions { cache_bytes: 64 * 1024, two_phases: false, heals: false };
const HEALS: DbOptions = DbOptions { two_phases: true, heals: true, ..ONE };

type Rows = BTreeMap<u64, Vec<u8>>;

/// A plain file of redb's on a disk in memory.
struct Plain(Arc<dyn DiskFile>);

impl fmt::Debug for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plain")
    }
}

impl StorageBackend for Plain {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }
}

fn value(key: u64, round: u64) -> Vec<u8> {
    let len = usize::try_from(10 + (key * 37 + round * 11) % 900).unwrap();
    vec![u8::try_from((key * 7 + round) % 251).unwrap(); len]
}

/// A closed plain database with some rows, all durable.
fn plain() -> (SimDisk, Rows) {
    let disk = SimDisk::new();
    let file = disk.open(FILE, true).unwrap();
    let db = Builder::new().create_with_backend(Plain(file)).unwrap();
    let mut rows = Rows::new();
    for round in 0..5 {
        let write = db.begin_write().unwrap();
        for key in (0..200).filter(|key| key % (round + 1) == 0) {
            let value = value(key, round);
            write.open_table(TABLE).unwrap().insert(key, value.as_slice()).unwrap();
            rows.insert(key, value);
        }
        write.commit().unwrap();
    }
    drop(db);
    disk.sync_dir("").unwrap();
    (disk, rows)
}

fn open(disk: &SimDisk, options: DbOptions) -> Result<SharedDb, CheckedError> {
    SharedDb::open(Arc::new(disk.clone()), FILE, options)
}

fn read(db: &SharedDb) -> Result<Rows, redb::Error> {
    let table = match db.begin_read()?.open_table(TABLE) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Rows::new()),
        table => table?,
    };
    let mut rows = Rows::new();
    for row in table.iter()? {
        let (key, value) = row?;
        rows.insert(key.value(), value.value().to_vec());
    }
    Ok(rows)
}

fn put(db: &SharedDb, rows: &mut Rows, round: u64) -> Result<(), redb::Error> {
    let write = db.begin_write()?;
    let mut next = rows.clone();
    for key in (round % 7..200).step_by(5) {
        let value = value(key, round);
        write.open_table(TABLE)?.insert(key, value.as_slice())?;
        next.insert(key, value);
    }
    write.commit()?;
    *rows = next;
    Ok(())
}

/// What users and journals were kept in becomes checked without a person, and the old file goes only later.
#[test]
fn a_plain_file_becomes_a_checked_one_once() {
    let (disk, mut rows) = plain();
    let db = open(&disk, HEALS).unwrap();
    assert_eq!(read(&db).unwrap(), rows);
    put(&db, &mut rows, 9).unwrap();
    drop(db);
    assert!(disk.content(FILE).starts_with(b"KEEPBLK\n"));
    assert!(disk.list("").unwrap().contains(&format!("{FILE}{PLAIN}")), "the old one is kept");
    forget_plain(&disk, FILE).unwrap();
    assert_eq!(disk.list("").unwrap(), [FILE]);
    assert_eq!(read(&open(&disk, HEALS).unwrap()).unwrap(), rows);
}

/// A kill at any step of the conversion loses nothing; the next start does it again.
#[test]
fn a_kill_at_any_step_of_the_conversion_loses_nothing() {
    let (whole, rows) = plain();
    let all = whole.reopen(Crash::KeepAll);
    drop(open(&all, HEALS).unwrap());
    let check = |disk: &SimDisk, what: &str| {
        for crash in [Crash::LoseAll, Crash::KeepAll, Crash::Tear(disk.writes())] {
            let disk = disk.reopen(crash);
            let db = open(&disk, HEALS).unwrap_or_else(|error| panic!("{what}: {error:?}"));
            assert!(read(&db).unwrap() == rows, "{what}, {crash:?}");
        }
    };
    for n in 1..=all.writes() {
        let disk = whole.reopen(Crash::KeepAll);
        disk.crash_at_write(n);
        let _ = open(&disk, HEALS);
        check(&disk, &format!("write {n}"));
    }
    for n in 1..=all.syncs() {
        let disk = whole.reopen(Crash::KeepAll);
        disk.crash_at(n);
        let _ = open(&disk, HEALS);
        check(&disk, &format!("sync {n}"));
    }
}

/// What was damaged before is not sealed as if it were whole.
#[test]
fn a_damaged_plain_file_is_not_converted_into_wrong_values() {
    let (whole, rows) = plain();
    let len = whole.content(FILE).len();
    let mut dice = Dice(11);
    let mut refused = 0;
    for i in 0..200 {
        let disk = whole.reopen(Crash::LoseAll);
        disk.flip(FILE, dice.below(len) as u64, 3);
        match open(&disk, HEALS) {
            Ok(db) => assert!(read(&db).unwrap() == rows, "flip {i}"),
            Err(error) => {
                refused += 1;
                assert!(disk.list("").unwrap().contains(&FILE.to_owned()), "{error}");
            }
        }
    }
    assert!(refused > 0, "the flips hit nothing");
}

/// One sync a commit, and after a loss of power at any of them there is the state before or after it.
#[test]
fn commits_of_one_phase_survive_a_crash_at_any_sync() {
    let run = |disk: &SimDisk, states: &mut Vec<Rows>| {
        let Ok(db) = open(disk, ONE) else { return };
        let mut rows = Rows::new();
        for round in 0..12 {
            let before = disk.syncs();
            if put(&db, &mut rows, round).is_err() {
                // It may be there or not.
                for key in (round % 7..200).step_by(5) {
                    rows.insert(key, value(key, round));
                }
                states.push(rows);
                return;
            }
            assert_eq!(disk.syncs(), before + 1, "one sync for a commit");
            states.clear();
            states.push(rows.clone());
        }
    };
    let whole = SimDisk::new();
    run(&whole, &mut vec![]);
    for n in 1..=whole.syncs() {
        for seed in 0..6 {
            let crash = if seed == 0 { Crash::LoseAll } else { Crash::Tear(seed * 1000 + n) };
            let disk = SimDisk::new();
            disk.crash_at(n);
            let mut states = vec![Rows::new()];
            run(&disk, &mut states);
            let disk = disk.reopen(crash);
            let db = open(&disk, ONE).unwrap_or_else(|e| panic!("sync {n}, {crash:?}: {e:?}"));
            let found = read(&db).unwrap_or_else(|e| panic!("sync {n}, {crash:?}: {e:?}"));
            assert!(states.contains(&found), "sync {n}, {crash:?}: not a committed state");
        }
    }
}

/// redb answers nothing more after an error. A disk that was full, or failed once, is gone on with.
#[test]
fn a_database_heals_when_its_disk_does() {
    let disk = SimDisk::new();
    let db = open(&disk, HEALS).unwrap();
    let mut rows = Rows::new();
    put(&db, &mut rows, 1).unwrap();
    disk.set_capacity(Some(disk.used_bytes()));
    let grow = |key: u64| -> Result<(), redb::Error> {
        let write = db.begin_write()?;
        write.open_table(TABLE)?.insert(key, &[7; 20_000][..])?;
        Ok(write.commit()?)
    };
    let mut key = 1000;
    while grow(key).is_ok() {
        rows.insert(key, vec![7; 20_000]);
        key += 1;
        assert!(key < 2000, "it never gets full");
    }
    assert!(db.failed());
    disk.set_capacity(None);
    put(&db, &mut rows, 3).unwrap();
    assert_eq!(read(&db).unwrap(), rows);
    disk.fail_sync(disk.syncs() + 1);
    let mut maybe = rows.clone();
    assert!(put(&db, &mut maybe, 5).is_err());
    assert_eq!(read(&db).unwrap(), rows, "nothing of what failed, all of what did not");
    put(&db, &mut rows, 6).unwrap();
    drop(db);
    assert_eq!(read(&open(&disk.reopen(Crash::LoseAll), HEALS).unwrap()).unwrap(), rows);
}

/// Whoever still reads from the former one gets an error, and never what was written since.
#[test]
fn a_reader_of_before_never_sees_what_was_written_after_reopening() {
    let disk = SimDisk::new();
    let db = open(&disk, ONE).unwrap();
    let mut rows = Rows::new();
    for round in 0..10 {
        put(&db, &mut rows, round).unwrap();
    }
    let former = db.begin_read().unwrap().open_table(TABLE).unwrap();
    db.reopen().unwrap();
    let then = Mutex::new(rows.clone());
    for round in 10..40 {
        put(&db, &mut rows, round).unwrap();
        for key in 0..200 {
            if let Ok(value) = former.get(key) {
                let value = value.map(|value| value.value().to_vec());
                assert_eq!(value.as_ref(), then.lock().unwrap().get(&key), "key {key}");
            }
        }
    }
    assert_eq!(read(&db).unwrap(), rows);
}
