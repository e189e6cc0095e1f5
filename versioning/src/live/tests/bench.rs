//! A store, a live tree, and a look at the folder that trusts neither.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use keepshare_base::{FileId, Kind, Stamp};

use super::master::{Master, Set};
use crate::{
    Incoming, Store, StoreOptions,
    checked::open_checked,
    disk::{
        Disk,
        sim::{Crash, SimDisk},
    },
    live::{Applied, LiveDirs, LiveError, LiveOptions, LiveTree, Memory},
};

/// A set with a live tree.
pub(super) struct Bench {
    pub(super) store: Store,
    /// Holds the store.
    pub(super) disk: SimDisk,
    pub(super) tree: Option<LiveTree>,
    pub(super) dir: tempfile::TempDir,
    /// Holds the records of the live tree.
    pub(super) state: SimDisk,
    pub(super) as_root: bool,
    /// The run of the machine.
    pub(super) boot: u8,
    pub(super) own: bool,
}

/// Tells whether this test runs as root.
pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Returns a folder for a test: in `KEEPSHARE_TEST_DIR` where that is set, else in memory where that can be.
pub(crate) fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    match std::env::var_os("KEEPSHARE_TEST_DIR") {
        Some(chosen) => tempfile::tempdir_in(chosen),
        None if memory.is_dir() => tempfile::tempdir_in(memory),
        None => tempfile::tempdir(),
    }
    .unwrap()
}

impl Bench {
    pub(super) fn new(as_root: bool) -> Self {
        let disk = SimDisk::new();
        let (store, _) = Store::open(Arc::new(disk.clone()), StoreOptions::default()).unwrap();
        let (dir, state) = (folder(), SimDisk::new());
        let (boot, own) = (1, false);
        let mut bench = Self { store, disk, tree: None, dir, state, as_root, boot, own };
        bench.open();
        bench
    }

    pub(super) fn live(&self) -> PathBuf {
        self.dir.path().join("live")
    }

    pub(super) fn stage(&self) -> PathBuf {
        self.dir.path().join("stage")
    }

    /// Opens the tree anew with what the state disk has.
    pub(super) fn open(&mut self) {
        self.tree = None;
        self.tree = Some(self.try_open().unwrap());
    }

    pub(super) fn try_open(&self) -> Result<LiveTree, LiveError> {
        self.try_open_from(|| ())
    }

    /// Opens the tree with its records open already when `then` is done.
    pub(super) fn try_open_from(&self, then: impl FnOnce()) -> Result<LiveTree, LiveError> {
        let disk: Arc<dyn Disk> = Arc::new(self.state.clone());
        let db = open_checked(&disk, "live.redb", 1 << 20).unwrap();
        let dirs = LiveDirs { live: self.live(), stage: self.stage() };
        let options = LiveOptions { as_root: self.as_root, own: self.own };
        let memory = Memory { disk, boot: [self.boot; 16] };
        then();
        LiveTree::open(dirs, Arc::new(db), Some(memory), options)
    }

    /// Forgets the tree, and its records back to `state`.
    pub(super) fn crash(&mut self, state: &SimDisk) {
        self.tree = None;
        self.state = state.reopen(Crash::KeepAll);
        self.open();
    }

    /// Ends the process, not the machine: whatever was written is there.
    pub(super) fn kill(&mut self) {
        self.tree = None;
        self.state = self.state.reopen(Crash::KeepAll);
        self.open();
    }

    pub(super) fn tree(&mut self) -> &mut LiveTree {
        self.tree.as_mut().unwrap()
    }

    pub(super) fn commit(&mut self, incoming: &Incoming) {
        self.store.commit(Stamp(1), incoming).unwrap();
        self.store.sync().unwrap();
    }

    /// Commits what the master did.
    pub(super) fn send(&mut self, master: &mut Master) {
        let incoming = master.send();
        self.commit(&incoming);
    }

    /// Applies until nothing newer is left; returns what came of the last step, and all that was done.
    pub(super) fn apply(&mut self) -> Applied {
        let reader = self.store.reader();
        let mut applied = self.tree().apply(&reader, true).unwrap();
        while applied.behind {
            applied = self.tree().apply(&reader, true).unwrap();
        }
        applied
    }

    /// Makes the tree durable; returns what a crash right after would find of its records.
    pub(super) fn sync(&mut self) -> SimDisk {
        self.tree().sync().unwrap();
        let synced = self.tree().synced();
        self.store.set_live(synced);
        self.state.reopen(Crash::LoseAll)
    }

    /// Commits, applies, and expects the folder to be right.
    pub(super) fn follow(&mut self, master: &mut Master) -> Applied {
        self.send(master);
        let applied = self.apply();
        assert!(applied.problems.is_empty(), "{:?}", applied.problems);
        self.expect(&master.set);
        applied
    }

    /// Compares the folder with what it must be.
    pub(super) fn expect(&self, set: &Set) {
        let mut there = BTreeMap::new();
        walk(&self.live(), &mut there);
        let mut inodes = BTreeMap::new();
        self.expect_folder(set, FileId::ROOT, &self.live(), &mut there, &mut inodes);
        assert!(there.is_empty(), "not of the set: {:?}", there.keys());
    }

    fn expect_folder(
        &self,
        set: &Set,
        parent: FileId,
        path: &Path,
        there: &mut BTreeMap<PathBuf, fs::Metadata>,
        inodes: &mut BTreeMap<FileId, u64>,
    ) {
        for (name, id) in set.children(parent) {
            let file = &set.files[&id];
            let path = path.join(std::str::from_utf8(name.as_bytes()).unwrap());
            if !file.meta.kind.is_live() {
                continue;
            }
            let about = there.remove(&path).unwrap_or_else(|| panic!("{path:?} {id} is missing"));
            let kind = match about.file_type() {
                kind if kind.is_dir() => Kind::Dir,
                kind if kind.is_symlink() => Kind::Symlink,
                _ => Kind::File,
            };
            assert_eq!(kind, file.meta.kind, "{path:?}");
            let inode = *inodes.entry(id).or_insert(about.ino());
            assert_eq!(inode, about.ino(), "{path:?} {id} is not one inode");
            match kind {
                Kind::Dir => self.expect_folder(set, id, &path, there, inodes),
                Kind::Symlink => {
                    let target = fs::read_link(&path).unwrap();
                    assert_eq!(target.as_os_str().as_encoded_bytes(), file.meta.symlink);
                }
                _ => {
                    let bytes = fs::read(&path).unwrap();
                    assert_eq!(bytes.len(), file.bytes.len(), "{path:?} {id}: length");
                    let differs = bytes.iter().zip(&file.bytes).position(|(a, b)| a != b);
                    assert_eq!(differs, None, "{path:?} {id}: content");
                    let names = set.names.values().filter(|other| **other == id).count();
                    let stage = || fs::read_dir(self.stage()).unwrap().collect::<Vec<_>>();
                    assert_eq!(about.nlink(), names as u64, "{path:?} {id}: links, {:?}", stage());
                }
            }
            let mtime = (about.mtime(), about.mtime_nsec());
            let wanted = (file.meta.mtime.secs, i64::from(file.meta.mtime.nanos));
            assert_eq!(mtime, wanted, "{path:?} {id}: time");
            let mode = about.permissions().mode() & 0o7777;
            if self.as_root {
                let (owner, group) = (file.meta.owner.id, file.meta.group.id);
                assert_eq!((about.uid(), about.gid()), (owner, group), "{path:?}: owner");
            }
            match kind {
                Kind::Symlink => {}
                _ if self.as_root => assert_eq!(mode, file.meta.mode & 0o1777, "{path:?}: mode"),
                Kind::Dir => assert_eq!(mode, 0o700, "{path:?}: mode"),
                _ => assert_eq!(mode, 0o600, "{path:?}: mode"),
            }
        }
    }
}

fn walk(folder: &Path, found: &mut BTreeMap<PathBuf, fs::Metadata>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let about = fs::symlink_metadata(&path).unwrap();
        if about.is_dir() {
            walk(&path, found);
        }
        found.insert(path, about);
    }
}
