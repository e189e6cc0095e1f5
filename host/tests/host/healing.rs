//! A database that several threads find failed, and go on with.

use std::{
    io,
    sync::{
        Arc, Barrier, Condvar, Mutex,
        atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering},
    },
    time::Duration,
};

use keepshare_host::{
    disk::{
        Disk, DiskFile,
        sim::{Crash, SimDisk},
    },
    shared::{DbOptions, SharedDb},
};
use redb::{ReadableTable, TableDefinition};

const TABLE: TableDefinition<'_, u64, u64> = TableDefinition::new("rows");
const FILE: &str = "auth.redb";
const HEALS: DbOptions = DbOptions { cache_bytes: 64 * 1024, two_phases: true, heals: true };

/// For how long somebody is held up for others to come by, who on a slow machine may not.
const HOLD_UP: Duration = Duration::from_millis(300);

/// A disk that counts how often files are opened, and holds up who writes.
#[derive(Debug, Default)]
struct Watched {
    disk: SimDisk,
    opened: AtomicUsize,
    /// Openings take a while.
    slow: AtomicBool,
    gate: Arc<Gate>,
}

/// Where some write waits.
#[derive(Debug)]
struct Gate {
    /// So many writes pass before one waits.
    passes: AtomicIsize,
    waits: Mutex<bool>,
    changed: Condvar,
}

impl Default for Gate {
    fn default() -> Self {
        let (waits, changed) = (Mutex::default(), Condvar::default());
        Self { passes: AtomicIsize::new(-1), waits, changed }
    }
}

impl Gate {
    fn say(&self, waits: bool) {
        *self.waits.lock().unwrap() = waits;
        self.changed.notify_all();
    }

    /// Waits where this is the write that is held up, for others to come by.
    fn pass(&self) {
        if self.passes.fetch_sub(1, Ordering::SeqCst) == 0 {
            self.say(true);
            let mut waits = self.waits.lock().unwrap();
            while *waits {
                let (still, timeout) = self.changed.wait_timeout(waits, HOLD_UP).unwrap();
                waits = still;
                if timeout.timed_out() {
                    return;
                }
            }
        }
    }

    fn wait_for_somebody(&self) {
        drop(self.changed.wait_while(self.waits.lock().unwrap(), |waits| !*waits).unwrap());
    }
}

#[derive(Debug)]
struct WatchedFile(Arc<dyn DiskFile>, Arc<Gate>);

impl DiskFile for WatchedFile {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buf, offset)
    }
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.1.pass();
        self.0.write_all_at(buf, offset)
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

impl Disk for Watched {
    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        if name == FILE {
            self.opened.fetch_add(1, Ordering::SeqCst);
            if self.slow.load(Ordering::SeqCst) {
                std::thread::sleep(HOLD_UP);
            }
        }
        Ok(Arc::new(WatchedFile(self.disk.open(name, create)?, Arc::clone(&self.gate))))
    }
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }
    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }
    fn hold_reserve(&self) -> io::Result<()> {
        self.disk.hold_reserve()
    }
    fn release_reserve(&self) -> io::Result<bool> {
        self.disk.release_reserve()
    }
}

fn open(disk: &Arc<Watched>) -> SharedDb {
    SharedDb::open(Arc::clone(disk) as Arc<dyn Disk>, FILE, HEALS).unwrap()
}

fn put(db: &SharedDb, key: u64) -> Result<(), redb::Error> {
    let write = db.begin_write()?;
    write.open_table(TABLE)?.insert(key, key)?;
    Ok(write.commit()?)
}

fn keys(db: &SharedDb) -> Vec<u64> {
    let rows = db.begin_read().unwrap().open_table(TABLE).unwrap();
    rows.iter().unwrap().map(|row| row.unwrap().0.value()).collect()
}

/// Threads that meet a failure together open the file anew once: a second time would take away what one of them committed
/// and was told to be durable.
#[test]
fn threads_that_meet_a_failure_together_heal_it_once() {
    const THREADS: usize = 4;
    let disk = Arc::new(Watched::default());
    let db = open(&disk);
    put(&db, 0).unwrap();
    let fail = || {
        disk.disk.fail_sync(disk.disk.syncs() + 1);
        put(&db, 1).unwrap_err();
        assert!(db.failed());
        disk.opened.store(0, Ordering::SeqCst);
    };
    fail();
    keys(&db);
    let once = disk.opened.load(Ordering::SeqCst);
    fail();
    disk.slow.store(true, Ordering::SeqCst);
    let barrier = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (db, barrier) = (&db, &barrier);
            scope.spawn(move || {
                barrier.wait();
                put(db, 10 + thread as u64).unwrap();
            });
        }
    });
    assert_eq!(disk.opened.load(Ordering::SeqCst), once, "it was opened anew more than once");
    assert_eq!(keys(&db), [0, 10, 11, 12, 13]);
}

/// What is being written when the file is opened anew is in what is opened, or its writer hears that it is not.
#[test]
fn a_commit_under_way_while_the_file_is_opened_anew_is_kept_or_fails() {
    // Every write of a commit: blocks, then the header, then its copy.
    for passes in 0..8 {
        let disk = Arc::new(Watched::default());
        let db = open(&disk);
        put(&db, 0).unwrap();
        let (said, held_up) = std::thread::scope(|scope| {
            let commit = scope.spawn(|| {
                let write = db.begin_write().unwrap();
                write.open_table(TABLE).unwrap().insert(1, 1).unwrap();
                disk.gate.passes.store(passes, Ordering::SeqCst);
                let done = write.commit().is_ok();
                disk.gate.say(true);
                done
            });
            disk.gate.wait_for_somebody();
            db.reopen().unwrap();
            put(&db, 2).unwrap();
            disk.gate.say(false);
            (commit.join().unwrap(), passes)
        });
        let found = keys(&db);
        assert!(found.contains(&2), "held up at write {held_up}: {found:?}");
        assert!(!said || found.contains(&1), "held up at write {held_up}: {found:?}");
        drop(db);
        let durable =
            Arc::new(Watched { disk: disk.disk.reopen(Crash::LoseAll), ..Watched::default() });
        assert_eq!(keys(&open(&durable)), found, "held up at write {held_up}");
    }
}
