//! A source in a temporary folder, and a model of a station that follows it.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use keepshare_base::{
    Change, Content, ContentHash, FileId, FilledChange, Kind, Meta, Name, OriginId, Seq,
    unescape_name,
};
use keepshare_host::{
    checked::CheckedError,
    disk::RealDisk,
    shared::{DbOptions, SharedDb},
};
use keepshare_proto::{StateDigest, codec::has_room, cut::CutRule};
use keepshare_replication::source::{
    CaptureMode, Listing, MirrorPart, MirrorProgress, MirrorSink, RestoreTimes, Source,
    SourceConfig, SourceHandle, SourceLimits,
};
use tempfile::TempDir;

pub(crate) const ORIGIN: OriginId = OriginId(1);
/// How a source's journal is kept.
pub(crate) const JOURNAL_OPTIONS: DbOptions =
    DbOptions { cache_bytes: 4 << 20, two_phases: false, heals: false };

const PATIENCE: Duration = Duration::from_secs(60);
const PAGE: u64 = 4096;

/// A source, its folder, and a station that follows it.
pub(crate) struct Rig {
    pub(crate) dir: TempDir,
    pub(crate) handle: SourceHandle,
    pub(crate) config: SourceConfig,
    pub(crate) model: Model,
    pub(crate) at: Seq,
    /// Every change that was applied.
    pub(crate) changes: Vec<(Seq, Change)>,
    pub(crate) payload_bytes: u64,
    pub(crate) row_bytes: u64,
}

/// Bytes with holes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Bytes {
    pub(crate) size: u64,
    pages: BTreeMap<u64, Vec<u8>>,
}

/// A file of the model.
#[derive(Clone, Debug)]
pub(crate) struct ModelFile {
    pub(crate) meta: Meta,
    pub(crate) bytes: Bytes,
    pub(crate) hash: Option<ContentHash>,
    pub(crate) uncut: bool,
}

/// A version of the model.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) file: FileId,
    pub(crate) bytes: Bytes,
}

/// What a station would have.
#[derive(Clone, Default)]
pub(crate) struct Model {
    pub(crate) names: BTreeMap<(FileId, Name), (FileId, Kind)>,
    pub(crate) files: HashMap<FileId, ModelFile>,
    pub(crate) versions: Vec<Version>,
    pub(crate) keep_versions: bool,
    /// The names of every change, to tell the story of a failure.
    pub(crate) story: Vec<String>,
}

/// One entry of a tree, to compare.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Shown {
    kind: Kind,
    mode: u32,
    mtime: (i64, u32),
    bytes: Option<Bytes>,
    symlink: Vec<u8>,
    links: Vec<PathBuf>,
}

impl Rig {
    /// Opens a source that captures by `mode`, brings the model level with it.
    pub(crate) fn new(mode: CaptureMode) -> Self {
        Self::with(mode, |_| {}, |_| {})
    }

    pub(crate) fn with(
        mode: CaptureMode,
        prepare: impl FnOnce(&Path),
        configure: impl FnOnce(&mut SourceConfig),
    ) -> Self {
        Self::open(mode, &place(), prepare, configure)
    }

    /// Opens a source on the file system of a folder.
    pub(crate) fn with_place(mode: CaptureMode, place: &Path) -> Self {
        Self::open(mode, place, |_| {}, |_| {})
    }

    fn open(
        mode: CaptureMode,
        place: &Path,
        prepare: impl FnOnce(&Path),
        configure: impl FnOnce(&mut SourceConfig),
    ) -> Self {
        let dir = tempfile::Builder::new().prefix("keepshare").tempdir_in(place).unwrap();
        let root = dir.path().join("source");
        let state_dir = dir.path().join("state");
        fs::create_dir(&root).unwrap();
        fs::create_dir(&state_dir).unwrap();
        prepare(&root);
        let mut config = SourceConfig {
            set: "test".parse().unwrap(),
            origin: ORIGIN,
            root,
            spool_dir: state_dir.join("journal"),
            state_dir,
            capture: mode,
            limits: SourceLimits::default(),
            cut: CutRule::new(300, 3000).unwrap(),
            rescan_every: Duration::from_secs(3600),
            rescan_shared_every: Duration::from_secs(300),
            keep_journals: None,
            restores: RestoreTimes::default(),
        };
        configure(&mut config);
        let handle = open(&config);
        let model = Model { keep_versions: true, ..Model::default() };
        let mut rig = Self {
            dir,
            handle,
            config,
            model,
            at: Seq(0),
            changes: Vec::new(),
            payload_bytes: 0,
            row_bytes: 0,
        };
        rig.mirror();
        rig
    }

    pub(crate) fn root(&self) -> &Path {
        &self.config.root
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.config.root.join(path)
    }

    /// Closes the source and opens it again.
    pub(crate) fn reopen(&mut self) {
        self.handle.shutdown();
        self.handle = open(&self.config);
    }

    /// Brings the model to the source's head by a mirror; returns its parts.
    pub(crate) fn mirror(&mut self) -> Vec<MirrorPart> {
        let mirror = self.handle.mirror().unwrap();
        let mut sink = Sink { model: &mut self.model, parts: Vec::new() };
        let head = mirror.run(&listing(sink.model), &mut sink).unwrap();
        let parts = sink.parts;
        assert!(parts.last().unwrap().complete);
        self.at = head.seq;
        self.acked();
        parts
    }

    /// Says how far the model is.
    pub(crate) fn acked(&self) {
        self.handle.acked("model", self.handle.head().epoch, self.at);
    }

    /// Applies all journaled changes.
    pub(crate) fn catch_up(&mut self) {
        // Not further than what is there now: a busy folder never ends.
        let until = self.handle.head().seq;
        while self.at < until {
            let entries = self.handle.entries(self.at.next(), 1 << 20).unwrap();
            for entry in entries {
                assert_eq!(entry.seq, self.at.next());
                self.at = entry.seq;
                self.payload_bytes += entry.filled.payload.len() as u64;
                self.row_bytes += postcard::to_stdvec(&entry.filled.change).unwrap().len() as u64;
                self.model.apply(&entry.filled, false);
                self.changes.push((entry.seq, entry.filled.change));
            }
        }
        self.acked();
    }

    /// Waits until the model shows what the folder does.
    pub(crate) fn settle(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.catch_up();
            let (want, got) = (disk_tree(self.root()), self.model.tree());
            if want == got && self.handle.status().dirty == 0 && self.handle.head().seq == self.at {
                return;
            }
            if Instant::now() > deadline {
                show_difference(&want, &got);
                panic!("the model did not become the folder: {:?}", self.handle.status());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until something is true of the model.
    pub(crate) fn wait(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.catch_up();
            if is_so(self) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "never happened: {what}; {:?}",
                self.handle.status()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Forgets what was applied up to now, to look at what follows.
    pub(crate) fn begin(&mut self) {
        self.settle();
        // What is seen may have been told of in part: an event of before must not count as one of after.
        assert!(self.handle.ask_settled().wait(Instant::now() + PATIENCE), "it never settles");
        self.settle();
        self.changes.clear();
        self.payload_bytes = 0;
        self.row_bytes = 0;
    }

    pub(crate) fn file(&self, path: &str) -> FileId {
        self.model.resolve(path).unwrap_or_else(|| panic!("no {path}")).0
    }

    /// The contents of the versions of a file.
    pub(crate) fn versions(&self, file: FileId) -> Vec<Vec<u8>> {
        let versions = self.model.versions.iter().filter(|version| version.file == file);
        versions.map(|version| version.bytes.to_vec()).collect()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

/// Runs a test as a user from whom a folder can be closed; whatever threads it starts are that user's, too.
pub(crate) fn as_ordinary_user(test: impl FnOnce() + Send) {
    if !rustix::process::geteuid().is_root() {
        return test();
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Of this thread and those that it starts alone.
            let nobody = 65534;
            rustix::thread::set_thread_groups(&[]).unwrap();
            rustix::thread::set_thread_gid(rustix::fs::Gid::from_raw(nobody)).unwrap();
            rustix::thread::set_thread_uid(rustix::fs::Uid::from_raw(nobody)).unwrap();
            test();
        });
    });
}

/// Opens the source of a configuration.
pub(crate) fn open(config: &SourceConfig) -> SourceHandle {
    Source::open(config.clone(), database(config).unwrap()).unwrap()
}

/// Opens the journal of a configuration.
pub(crate) fn database(config: &SourceConfig) -> Result<SharedDb, CheckedError> {
    let disk = RealDisk::open_shared(&config.state_dir).unwrap();
    SharedDb::open(std::sync::Arc::new(disk), "test.redb", JOURNAL_OPTIONS)
}

/// Where temporary folders go: memory, because these tests are not about disks.
fn place() -> PathBuf {
    let chosen = std::env::var_os("KEEPSHARE_TEST_DIR").map(PathBuf::from);
    chosen.unwrap_or_else(|| {
        let shm = PathBuf::from("/dev/shm");
        if shm.is_dir() { shm } else { std::env::temp_dir() }
    })
}

struct Sink<'a> {
    model: &'a mut Model,
    parts: Vec<MirrorPart>,
}

impl MirrorSink for Sink<'_> {
    fn part(&mut self, part: MirrorPart) -> bool {
        self.model.apply(&part.filled, true);
        self.parts.push(part);
        true
    }

    fn progress(&mut self, progress: MirrorProgress) {
        assert!(progress.files_done <= progress.files_total + 1, "{progress:?}");
    }
}

/// What a station with this model would list.
pub(crate) fn listing(model: &Model) -> Listing {
    let mut listing = Listing::default();
    listing.extend(model.names.iter().map(|(key, target)| (key.clone(), *target)));
    let digest = |file: &ModelFile| StateDigest::of(&file.meta, file.hash.as_ref());
    let version = Some((keepshare_base::Epoch::FIRST, keepshare_base::Seq(1)));
    let listed = |file: &ModelFile| (digest(file), version.filter(|_| !file.uncut));
    let mut files: Vec<_> = model.files.iter().map(|(id, file)| (*id, listed(file))).collect();
    files.sort_unstable_by_key(|(id, _)| *id);
    assert!(files.iter().all(|file| listing.push_file(file)));
    listing
}

impl Model {
    /// Applies a change as a station would, refusing what it would refuse.
    pub(crate) fn apply(&mut self, filled: &FilledChange, mirrored: bool) {
        filled.check(ORIGIN).unwrap();
        assert!(has_room(&filled.change), "no frame has room for it");
        let change = &filled.change;
        for file in &change.cuts {
            self.cut(*file);
        }
        for (row, payload) in filled.contents() {
            let file = self.files.entry(row.file).or_insert_with(|| ModelFile {
                meta: row.meta.clone(),
                bytes: Bytes::default(),
                hash: None,
                uncut: false,
            });
            assert_eq!(file.meta.kind, row.meta.kind, "{} changed its kind", row.file);
            if let Content::Extents { fresh, extents, .. } = &row.content {
                if *fresh {
                    file.bytes = Bytes::default();
                }
                file.bytes.resize(row.meta.size);
                let mut rest = payload;
                for extent in extents {
                    let len = usize::try_from(extent.len).unwrap();
                    if extent.zero {
                        file.bytes.zero(extent.offset, extent.len);
                    } else {
                        file.bytes.write(extent.offset, &rest[..len]);
                        rest = &rest[len..];
                    }
                }
                file.uncut = true;
            }
            file.bytes.resize(row.meta.size);
            file.meta = row.meta.clone();
            if !matches!(row.content, Content::Same) || row.hash.is_some() {
                file.hash = row.hash;
            }
            if let Some(hash) = row.hash.filter(|_| row.meta.size < 64 << 20) {
                assert_eq!(hash, file.bytes.hash(), "wrong bytes for {}: {row:?}", row.file);
            }
            if row.cut {
                self.cut(row.file);
            }
        }
        for row in &change.names {
            let parent =
                self.files.get(&row.parent).unwrap_or_else(|| panic!("no parent: {row:?}"));
            assert_eq!(parent.meta.kind, Kind::Dir);
            match row.target {
                Some((file, kind)) => {
                    let known = self.files.get(&file).unwrap_or_else(|| panic!("unknown: {row:?}"));
                    assert_eq!(known.meta.kind, kind);
                    self.names.insert((row.parent, row.name.clone()), (file, kind));
                }
                None => {
                    self.names.remove(&(row.parent, row.name.clone()));
                }
            }
        }
        let brief = |row: &keepshare_base::NameRow| {
            format!("{}/{} -> {:?}", row.parent, row.name, row.target.map(|(f, _)| f.to_string()))
        };
        let names: Vec<String> = change.names.iter().map(brief).collect();
        self.story.push(names.join(", "));
        self.check_folders(change, mirrored);
    }

    /// Returns what happened to a file's names.
    fn story_of(&self, file: FileId) -> String {
        let wanted = format!("\"{file}\"");
        let names: Vec<String> = self
            .names
            .iter()
            .filter(|(_, (target, _))| *target == file)
            .map(|((parent, name), _)| format!("{parent}/{name}"))
            .collect();
        let about = |line: &&String| {
            line.contains(&wanted) || names.iter().any(|name| line.contains(name.as_str()))
        };
        self.story.iter().filter(about).cloned().collect::<Vec<_>>().join("\n")
    }

    fn check_folders(&self, change: &Change, mirrored: bool) {
        for row in &change.names {
            let Some((file, Kind::Dir)) = row.target else { continue };
            let places = self.names.iter().filter(|(_, (target, _))| *target == file).count();
            let story = self.story_of(file);
            assert_eq!(places, 1, "a folder with {places} names (mirror: {mirrored}): {story}");
            let mut at = row.parent;
            let mut seen = 0;
            while at != FileId::ROOT {
                assert_ne!(at, file, "a folder in itself: {change:?}");
                match self.names.iter().find(|(_, (target, _))| *target == at) {
                    Some(((parent, _), _)) => at = *parent,
                    None => break,
                }
                seen += 1;
                assert!(seen < 10_000, "a cycle: {change:?}");
            }
        }
    }

    fn cut(&mut self, id: FileId) {
        let Some(file) = self.files.get_mut(&id) else { panic!("cut of unknown {id}") };
        file.uncut = false;
        if self.keep_versions {
            let bytes = file.bytes.clone();
            self.versions.push(Version { file: id, bytes });
        }
    }

    /// Finds a path.
    pub(crate) fn resolve(&self, path: &str) -> Option<(FileId, Kind)> {
        let mut at = (FileId::ROOT, Kind::Dir);
        for part in path.split('/').filter(|part| !part.is_empty()) {
            at = *self.names.get(&(at.0, Name::new(part.as_bytes()).unwrap()))?;
        }
        Some(at)
    }

    /// Shows the tree.
    pub(crate) fn tree(&self) -> BTreeMap<PathBuf, Shown> {
        let mut children: HashMap<FileId, Vec<(&Name, FileId)>> = HashMap::new();
        for ((parent, name), (file, _)) in &self.names {
            children.entry(*parent).or_default().push((name, *file));
        }
        let mut tree = BTreeMap::new();
        let mut links: HashMap<FileId, Vec<PathBuf>> = HashMap::new();
        let mut stack = vec![(FileId::ROOT, PathBuf::new())];
        while let Some((folder, at)) = stack.pop() {
            for (name, file) in children.get(&folder).into_iter().flatten() {
                use std::os::unix::ffi::OsStringExt;
                let path = at.join(std::ffi::OsString::from_vec(unescape_name(name)));
                let known = &self.files[file];
                if known.meta.kind == Kind::File {
                    links.entry(*file).or_default().push(path.clone());
                }
                let is_file = known.meta.kind == Kind::File;
                let shown = Shown {
                    kind: known.meta.kind,
                    mode: known.meta.mode,
                    mtime: (known.meta.mtime.secs, known.meta.mtime.nanos),
                    bytes: is_file.then(|| known.bytes.clone()),
                    symlink: known.meta.symlink.clone(),
                    links: vec![],
                };
                tree.insert(path.clone(), shown);
                stack.push((*file, path));
            }
        }
        share_links(&mut tree, links.into_values());
        tree
    }
}

/// Shows a folder of the disk.
pub(crate) fn disk_tree(root: &Path) -> BTreeMap<PathBuf, Shown> {
    let mut tree = BTreeMap::new();
    let mut links: HashMap<(u64, u64), Vec<PathBuf>> = HashMap::new();
    let mut stack = vec![PathBuf::new()];
    while let Some(at) = stack.pop() {
        let Ok(entries) = fs::read_dir(root.join(&at)) else { continue };
        for entry in entries.flatten() {
            let path = at.join(entry.file_name());
            let full = root.join(&path);
            let Ok(meta) = fs::symlink_metadata(&full) else { continue };
            let kind = match meta.file_type() {
                t if t.is_dir() => Kind::Dir,
                t if t.is_symlink() => Kind::Symlink,
                _ => Kind::File,
            };
            if kind == Kind::Dir {
                stack.push(path.clone());
            }
            let is_file = kind == Kind::File;
            if is_file {
                links.entry((meta.dev(), meta.ino())).or_default().push(path.clone());
            }
            let symlink = fs::read_link(&full).map(|target| target.into_os_string());
            let shown = Shown {
                kind,
                mode: meta.mode() & 0o7777,
                mtime: (meta.mtime(), u32::try_from(meta.mtime_nsec()).unwrap()),
                bytes: is_file.then(|| Bytes::read(&full)),
                symlink: symlink.map(|s| s.into_encoded_bytes()).unwrap_or_default(),
                links: vec![],
            };
            tree.insert(path, shown);
        }
    }
    share_links(&mut tree, links.into_values());
    tree
}

fn share_links(tree: &mut BTreeMap<PathBuf, Shown>, links: impl Iterator<Item = Vec<PathBuf>>) {
    for mut paths in links.filter(|paths| paths.len() > 1) {
        paths.sort();
        for path in &paths {
            if let Some(shown) = tree.get_mut(path) {
                shown.links.clone_from(&paths);
            }
        }
    }
}

fn show_difference(want: &BTreeMap<PathBuf, Shown>, got: &BTreeMap<PathBuf, Shown>) {
    let brief = |shown: Option<&Shown>| {
        shown.map(|s| {
            let bytes = s.bytes.as_ref().map(|b| (b.size, b.pages.len()));
            format!("{:?} {:o} {:?} {bytes:?} {:?}", s.kind, s.mode, s.mtime, s.links)
        })
    };
    let mut shown = 0;
    let paths: std::collections::BTreeSet<_> = want.keys().chain(got.keys()).collect();
    for path in paths {
        if want.get(path) != got.get(path) && shown < 10 {
            shown += 1;
            eprintln!(
                "{path:?}: folder {:?}, model {:?}",
                brief(want.get(path)),
                brief(got.get(path))
            );
        }
    }
}

impl Bytes {
    fn read(path: &Path) -> Self {
        use std::os::fd::AsFd;
        let Ok(file) = fs::File::open(path) else { return Self::default() };
        let mut bytes = Self { size: file.metadata().unwrap().len(), pages: BTreeMap::new() };
        let mut at = 0;
        while at < bytes.size {
            let Ok(data) = rustix::fs::seek(file.as_fd(), rustix::fs::SeekFrom::Data(at)) else {
                break;
            };
            let end = rustix::fs::seek(file.as_fd(), rustix::fs::SeekFrom::Hole(data));
            let end = end.unwrap_or(bytes.size).min(bytes.size);
            let mut content = vec![0; usize::try_from(end - data).unwrap()];
            let read = std::os::unix::fs::FileExt::read_at(&file, &mut content, data).unwrap_or(0);
            bytes.write(data, &content[..read]);
            at = end.max(data + 1);
        }
        bytes
    }

    pub(crate) fn to_vec(&self) -> Vec<u8> {
        let mut all = vec![0; usize::try_from(self.size).unwrap()];
        for (page, bytes) in &self.pages {
            let start = usize::try_from(page * PAGE).unwrap();
            let len = bytes.len().min(all.len().saturating_sub(start));
            all[start..start + len].copy_from_slice(&bytes[..len]);
        }
        all
    }

    fn hash(&self) -> ContentHash {
        ContentHash::of(&self.to_vec())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (page, start) = (at / PAGE, usize::try_from(at % PAGE).unwrap());
            let len = rest.len().min(4096 - start);
            let into = self.pages.entry(page).or_insert_with(|| vec![0; 4096]);
            into[start..start + len].copy_from_slice(&rest[..len]);
            if into.iter().all(|byte| *byte == 0) {
                self.pages.remove(&page);
            }
            at += len as u64;
            rest = &rest[len..];
        }
    }

    fn zero(&mut self, offset: u64, len: u64) {
        let end = offset + len;
        let pages: Vec<u64> =
            self.pages.range(offset / PAGE..=end / PAGE).map(|(p, _)| *p).collect();
        for page in pages {
            let (start, stop) = ((page * PAGE).max(offset), ((page + 1) * PAGE).min(end));
            if start < stop {
                self.write(start, &vec![0; usize::try_from(stop - start).unwrap()]);
            }
        }
    }

    fn resize(&mut self, size: u64) {
        if size < self.size {
            self.pages.split_off(&size.div_ceil(PAGE));
            if !size.is_multiple_of(PAGE) {
                let end = (size / PAGE + 1) * PAGE;
                self.zero(size, end - size);
            }
        }
        self.size = size;
    }
}
