//! A station's real live tree: plain files that follow the store, through kills and crashes.

use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt, path::Path, sync::Arc};

use keepshare_base::{CommitId, Kind};
use keepshare_versioning::{
    Reader,
    checked::open_checked,
    disk::{
        Disk,
        sim::{Crash, SimDisk},
    },
    live::{LiveDirs, LiveOptions, LiveTree, Memory},
};

use crate::sides::Shown;

/// A live tree, the folder it is in, and the disk with its records.
#[derive(Debug)]
pub(crate) struct Live {
    dir: tempfile::TempDir,
    disk: SimDisk,
    /// `None` only while it is opened anew.
    tree: Option<LiveTree>,
    /// The run of the machine.
    boot: u8,
}

impl Live {
    pub(crate) fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let dir = dir.expect("a folder for a test");
        let mut live = Self { dir, disk: SimDisk::new(), tree: None, boot: 1 };
        live.open();
        live
    }

    fn open(&mut self) {
        self.tree = None;
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let db = open_checked(&disk, "live.redb", 1 << 20).expect("records that can be opened");
        let at = |name: &str| self.dir.path().join(name);
        let dirs = LiveDirs { live: at("live"), stage: at("stage") };
        let memory = Memory { disk, boot: [self.boot; 16] };
        let options = LiveOptions::default();
        let tree = LiveTree::open(dirs, Arc::new(db), Some(memory), options);
        self.tree = Some(tree.expect("a live tree that can be opened"));
    }

    fn tree(&mut self) -> &mut LiveTree {
        self.tree.as_mut().expect("it is open")
    }

    /// Follows the store to its newest commit.
    pub(crate) fn follow(&mut self, reader: &Reader) {
        loop {
            let applied = self.tree().apply(reader, true).expect("a live tree that works");
            assert!(applied.problems.is_empty(), "{:?}", applied.problems);
            if !applied.behind {
                return;
            }
        }
    }

    /// Makes it durable; returns through which commit it is.
    pub(crate) fn sync(&mut self) -> CommitId {
        self.tree().sync().expect("a disk that works");
        self.tree().synced()
    }

    /// The process or the machine ends. All that was written to plain files is there, which a disk may have done.
    pub(crate) fn crash(&mut self, crash: Crash) {
        self.tree = None;
        if crash != Crash::KeepAll {
            self.boot = self.boot.wrapping_add(1);
        }
        self.disk = self.disk.reopen(crash);
        self.open();
    }

    /// Holds the plain files to what the store shows.
    pub(crate) fn check(&self, shown: &Shown) {
        let mut found = BTreeMap::new();
        walk(&self.dir.path().join("live"), "", &mut found);
        let mut firsts = BTreeMap::new();
        let want: BTreeMap<String, (Kind, Vec<u8>, u64)> = shown
            .iter()
            .map(|(path, (kind, _, content, first))| {
                let inode = found.get(first).map_or(0, |(_, _, inode)| *inode);
                let known = *firsts.entry(inode).or_insert(first);
                assert_eq!(known, first, "two files are one in the live tree");
                (path.clone(), (*kind, content.clone(), inode))
            })
            .collect();
        assert_eq!(found, want, "the live tree is not what the store shows");
    }
}

fn walk(folder: &Path, path: &str, found: &mut BTreeMap<String, (Kind, Vec<u8>, u64)>) {
    for entry in fs::read_dir(folder).expect("a folder that can be read") {
        let at = entry.expect("an entry").path();
        let name = at.file_name().expect("a name").to_string_lossy();
        let path = format!("{path}/{name}");
        let about = fs::symlink_metadata(&at).expect("it is there");
        let (kind, content) = if about.is_dir() {
            walk(&at, &path, found);
            (Kind::Dir, Vec::new())
        } else {
            (Kind::File, fs::read(&at).expect("a file that can be read"))
        };
        found.insert(path, (kind, content, about.ino()));
    }
}
