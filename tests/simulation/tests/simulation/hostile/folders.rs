//! The live tree in a scratch folder, and what lies around it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use keepshare_base::CommitId;
use keepshare_versioning::{
    Reader,
    checked::open_checked,
    disk::sim::Crash,
    live::{LiveDirs, LiveOptions, LiveTree, Memory, Problem, ProblemCause},
};

use super::platter::Platter;

/// A live tree with canaries around it.
pub(crate) struct Folders {
    scratch: tempfile::TempDir,
    /// Holds the tree's records.
    platter: Platter,
    tree: Option<LiveTree>,
    problems: Vec<Arc<Problem>>,
    before: BTreeMap<PathBuf, About>,
}

/// What of a file outside must not change.
#[derive(Clone, Debug, Eq, PartialEq)]
struct About {
    inode: u64,
    mode: u32,
    links: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Folders {
    /// Makes the folders; there is no tree yet.
    pub(crate) fn new() -> Self {
        let scratch = folder();
        let beside = scratch.path().join("beside");
        fs::create_dir_all(beside.join("deep")).unwrap();
        fs::create_dir_all(scratch.path().join("a/b/c/set")).unwrap();
        for canary in [
            beside.join("canary"),
            beside.join("deep/canary"),
            scratch.path().join("canary"),
            scratch.path().join("a/b/c/canary"),
        ] {
            fs::write(canary, "outside").unwrap();
        }
        let mut folders = Self {
            scratch,
            platter: Platter::new(),
            tree: None,
            problems: Vec::new(),
            before: BTreeMap::new(),
        };
        folders.open();
        folders.before = folders.outside();
        folders
    }

    /// Opens the tree with what its records say.
    pub(crate) fn open(&mut self) {
        self.tree = None;
        let state = open_checked(&self.platter.disk(), "live.redb", 1 << 20).unwrap();
        let set = self.scratch.path().join("a/b/c/set");
        let dirs = LiveDirs { live: set.join("live"), stage: set.join("stage") };
        let memory = Memory { disk: self.platter.disk(), boot: [1; 16] };
        let options = LiveOptions { as_root: is_root(), own: true };
        self.tree = Some(LiveTree::open(dirs, Arc::new(state), Some(memory), options).unwrap());
    }

    /// The process dies; what it wrote into the folder is there.
    pub(crate) fn crash(&mut self) {
        self.tree = None;
        self.platter = self.platter.reopen(Crash::KeepAll);
        self.open();
    }

    /// Makes the tree equal to the newest commit.
    pub(crate) fn follow(&mut self, reader: &Reader) {
        let tree = self.tree.as_mut().expect("it is open");
        let mut applied = tree.apply(reader, true).expect("a tree that can be worked on");
        while applied.behind {
            applied = tree.apply(reader, false).expect("a tree that can be worked on");
        }
        self.problems = applied.problems;
    }

    /// Tells whether the last look found everything to be as it should be.
    pub(crate) fn has_no_problem(&self) -> bool {
        self.problems.is_empty()
    }

    /// Makes the tree durable as far as it is, and returns how far that is. Its folder outlives every crash here.
    pub(crate) fn sync(&mut self) -> CommitId {
        let tree = self.tree.as_mut().expect("it is open");
        if let Some(job) = tree.begin_sync() {
            let done = job.run_with(|_| Ok(()));
            tree.end_sync(done).expect("records that can be written");
        }
        tree.synced()
    }

    /// Checks that the tree is what the index says, holds nothing that it must not, and that nothing around it has changed.
    pub(crate) fn check(&mut self, reader: &Reader) {
        self.follow(reader);
        let tree = self.tree.as_mut().expect("it is open");
        let checked = tree.check(reader, true).expect("a tree that can be read");
        // What the file system does not take is told, once for all names that a file has.
        let view = reader.view().unwrap();
        let told: BTreeSet<_> = self.problems.iter().filter_map(|problem| problem.file).collect();
        for difference in checked.differences {
            let file = view.resolve(&difference.path, CommitId::MAX).unwrap().map(|it| it.0);
            let meta = file.map(|file| view.meta(file, CommitId::MAX).unwrap());
            let is_told = file.is_some_and(|file| told.contains(&file));
            assert!(
                is_told,
                "the live tree differs: {difference:?} of {file:?} {meta:?}, {told:?}"
            );
        }
        for problem in &self.problems {
            let is_foreign = matches!(problem.cause, ProblemCause::Foreign { .. });
            assert!(!is_foreign, "nobody else writes here: {problem}");
        }
        let set = self.scratch.path().join("a/b/c/set");
        for folder in ["live", "stage"] {
            let mut there = BTreeMap::new();
            gather(&set.join(folder), &mut |path, about| {
                there.insert(path.to_owned(), about.clone());
                let kind = about.file_type();
                let is_plain = kind.is_file() || kind.is_dir() || kind.is_symlink();
                let is_node = kind.is_fifo()
                    || kind.is_socket()
                    || kind.is_block_device()
                    || kind.is_char_device();
                assert!(is_plain && !is_node, "{} is {kind:?}", path.display());
                let powers = about.mode() & 0o6000;
                assert!(kind.is_dir() || powers == 0, "{} has set-id bits", path.display());
            });
        }
        assert_eq!(self.outside(), self.before, "something outside was made or changed");
    }

    /// Returns paths that lead out of the live folder, from some folder in it.
    pub(crate) fn ways_out(&self) -> Vec<Vec<u8>> {
        use std::os::unix::ffi::OsStrExt;
        let beside = self.scratch.path().join("beside");
        let mut ways: Vec<Vec<u8>> =
            ["..", "../stage", "../../canary", "../../../../beside", "../../../../../beside/deep"]
                .iter()
                .map(|way| way.as_bytes().to_vec())
                .collect();
        ways.push(beside.as_os_str().as_bytes().to_vec());
        ways.push(beside.join("canary").as_os_str().as_bytes().to_vec());
        ways
    }

    fn outside(&self) -> BTreeMap<PathBuf, About> {
        let mut seen = BTreeMap::new();
        let root = self.scratch.path();
        let set = root.join("a/b/c/set");
        gather_but(root, &set, &mut |path, about| {
            let about = About {
                inode: about.ino(),
                mode: about.mode(),
                links: about.nlink(),
                size: about.size(),
                modified: (about.mtime(), about.mtime_nsec()),
                changed: (about.ctime(), about.ctime_nsec()),
            };
            seen.insert(path.to_owned(), about);
        });
        let inside = fs::read_dir(&set).unwrap().map(|entry| entry.unwrap().file_name());
        for name in inside {
            let is_ours = name == "live" || name == "stage";
            assert!(is_ours, "{} came to be beside the live folder", name.display());
        }
        seen
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        // A folder that may not be searched could not be removed by an ordinary user.
        self.tree = None;
        if !is_root() {
            open_up(self.scratch.path());
        }
    }
}

fn open_up(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let Ok(about) = path.symlink_metadata() else { return };
    if about.is_dir() {
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            open_up(&entry.path());
        }
    }
}

fn gather(path: &Path, see: &mut dyn FnMut(&Path, &fs::Metadata)) {
    gather_but(path, Path::new(""), see);
}

fn gather_but(path: &Path, but: &Path, see: &mut dyn FnMut(&Path, &fs::Metadata)) {
    if path == but {
        return;
    }
    let about = path.symlink_metadata().unwrap();
    see(path, &about);
    if about.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            gather_but(&entry.unwrap().path(), but, see);
        }
    }
}

/// Tells whether this test runs as root.
fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|about| about.uid() == 0)
}

/// Returns a folder: in `KEEPSHARE_TEST_DIR` where that is set, else in memory where that can be.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    match std::env::var_os("KEEPSHARE_TEST_DIR") {
        Some(chosen) => tempfile::tempdir_in(chosen),
        None if memory.is_dir() => tempfile::tempdir_in(memory),
        None => tempfile::tempdir(),
    }
    .unwrap()
}
