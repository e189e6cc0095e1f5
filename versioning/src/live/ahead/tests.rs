//! Notes on a disk that fails.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::disk::sim::SimDisk;

/// A disk on which names may be refused.
#[derive(Debug)]
struct Unnamed(SimDisk, AtomicBool);

impl Disk for Unnamed {
    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        self.0.open(name, create)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.0.list(dir)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        if self.1.load(Ordering::Relaxed) {
            return Err(rustix::io::Errno::IO.into());
        }
        self.0.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.0.sync_dir(dir)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.0.free_bytes()
    }

    fn hold_reserve(&self) -> io::Result<()> {
        self.0.hold_reserve()
    }

    fn release_reserve(&self) -> io::Result<bool> {
        self.0.release_reserve()
    }
}

/// Steps that were not noted are done again: notes that say nothing of them would have them taken for done.
#[test]
fn notes_that_could_not_be_begun_anew_are_not_believed() {
    for is_full in [false, true] {
        let disk = Arc::new(Unnamed(SimDisk::new(), AtomicBool::new(false)));
        let memory = || Some(Memory { disk: Arc::clone(&disk) as Arc<dyn Disk>, boot: [1; 16] });
        let tree = Identity::from_bytes(&[1; 20]).unwrap();
        let retries = Retries::default();
        let stored = Stored { position: CommitId(0), retries: retries.clone(), step: 0 };
        let (mut ahead, _) = Ahead::open(memory(), tree, &stored);
        ahead.restart(true, CommitId(0), &retries, Vec::new());
        ahead.begin(Some(CommitId(1)));
        ahead.done(CommitId(1), &retries, Vec::new());
        let (_, found) = Ahead::open(memory(), tree, &stored);
        let found = found.map(|found| (found.position, found.redo));
        assert_eq!(found, Some((CommitId(1), Redo::Nothing)));
        if is_full {
            disk.0.set_capacity(Some(disk.0.used_bytes()));
        } else {
            disk.1.store(true, Ordering::Relaxed);
        }
        ahead.restart(false, CommitId(1), &retries, Vec::new());
        assert!(!ahead.is_complete() && !ahead.can_begin());
        ahead.begin(Some(CommitId(2)));
        ahead.done(CommitId(2), &retries, Vec::new());
        let (_, found) = Ahead::open(memory(), tree, &stored);
        let is_believed = found.is_some_and(|found| found.redo == Redo::Nothing);
        assert!(!is_believed, "is_full: {is_full}");
        // Once the records are stored the next time, all is well.
        disk.0.set_capacity(None);
        disk.1.store(false, Ordering::Relaxed);
        ahead.restart(true, CommitId(2), &retries, Vec::new());
        assert!(ahead.is_complete());
    }
}
