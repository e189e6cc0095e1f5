//! What a station kept, and that it keeps it.
//!
//! It reads the set as any client does and shares nothing with what decides there.

use std::collections::{BTreeMap, BTreeSet};

use keepshare_base::{CommitId, FileId, Kind, Name, SetPath, Stamp, VersionId};
use keepshare_versioning::{CommitInfo, FileState, Reader, View};

use super::station::ORIGIN;

/// Bytes that are read at once.
const READ_BYTES: usize = 1 << 16;

/// Blocks of this length count where they are not all zeros, so that it is the same how a hole is kept.
const BLOCK_BYTES: usize = 4096;

/// So many things that a name stood for are asked for.
const HELD_MAX: usize = 100_000;

/// What a name stood for, newest first.
type Held = Vec<Option<(FileId, Kind)>>;

/// Everything that was ever seen to be kept.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    versions: BTreeMap<(FileId, CommitId), Version>,
    commits: BTreeMap<CommitId, CommitInfo>,
    names: BTreeMap<(FileId, Name), Held>,
    /// What was typed as a time, and which commit it meant.
    times: Vec<(Stamp, CommitId)>,
}

/// A version as it was first seen, or as its origin called it later.
#[derive(Clone, Debug)]
struct Version {
    /// All but where the content is.
    state: FileState,
    content: [u8; 32],
    links: Vec<(FileId, Name)>,
    path: Option<SetPath>,
}

impl Keeper {
    /// Takes in what is kept now, and may not go from now on.
    pub(crate) fn note(&mut self, reader: &Reader) {
        let view = reader.view().unwrap();
        let mirror = view.position(ORIGIN).unwrap().and_then(|place| place.mirror);
        for file in every_file(&view) {
            for state in view.versions(file).unwrap() {
                // What the running mirror brought it may bring once more.
                let is_settled = mirror.is_none_or(|mirror| state.cut_at < mirror.began);
                let key = (file, state.commit);
                if is_settled && !self.versions.contains_key(&key) {
                    let content = digest(reader, &state);
                    let links = view.links(file, state.commit).unwrap();
                    let path = view.path_of(file, state.commit).unwrap();
                    self.versions.insert(key, Version { state, content, links, path });
                }
            }
        }
        self.note_commits(&view);
        self.note_names(&view);
    }

    fn note_commits(&mut self, view: &View) {
        let from = self.commits.last_key_value().map_or(1, |(last, _)| last.0 + 1);
        for at in from..=view.latest().0 {
            let info = view.commit_info(CommitId(at)).unwrap();
            self.commits.extend(info.map(|info| (CommitId(at), info)));
        }
        let Some(newest) = self.commits.values().map(|info| info.moment).max() else { return };
        let moments: BTreeSet<Stamp> = self.commits.values().map(|info| info.moment).collect();
        self.times = moments
            .into_iter()
            // What is said to be made before the newest moment is made at it.
            .filter(|moment| *moment < newest)
            .map(|moment| (moment, view.commit_at(moment).unwrap()))
            .collect();
    }

    fn note_names(&mut self, view: &View) {
        let mut named: BTreeSet<(FileId, Name)> = self.names.keys().cloned().collect();
        named.extend(self.versions.values().flat_map(|version| version.links.iter().cloned()));
        for (parent, name) in named {
            let held = view.held(parent, &name, HELD_MAX).unwrap();
            self.names.insert((parent, name), held);
        }
    }

    /// Returns how many versions may not go.
    pub(crate) fn len(&self) -> usize {
        self.versions.len()
    }

    /// Checks that everything that was kept is there as it was: id, time, path, attributes and, where `bytes` says so, content.
    pub(crate) fn check(&mut self, reader: &Reader, bytes: bool) {
        let view = reader.view().unwrap();
        let files: BTreeSet<FileId> = self.versions.keys().map(|(file, _)| *file).collect();
        for file in files {
            let now: BTreeMap<CommitId, FileState> =
                view.versions(file).unwrap().into_iter().map(|it| (it.commit, it)).collect();
            let ids: BTreeSet<VersionId> = now.values().filter_map(FileState::version).collect();
            assert_eq!(ids.len(), now.len(), "two versions of {file} have one id: {now:?}");
            let range = (file, CommitId(0))..=(file, CommitId::MAX);
            for ((_, commit), was) in self.versions.range_mut(range) {
                let Some(state) = now.get(commit) else {
                    panic!("a version is gone: {file} at {commit}, it was {was:?}");
                };
                was.check(&view, state);
                if bytes {
                    assert_eq!(digest(reader, state), was.content, "other bytes: {was:?}");
                }
            }
        }
        for (at, was) in &self.commits {
            assert_eq!(view.commit_info(*at).unwrap().as_ref(), Some(was), "a commit is another");
        }
        for (time, was) in &self.times {
            assert_eq!(view.commit_at(*time).unwrap(), *was, "{time} means another moment");
        }
        for ((parent, name), was) in &self.names {
            let now = view.held(*parent, name, HELD_MAX).unwrap();
            assert!(now.ends_with(was), "{name} in {parent} held {was:?}, and now {now:?}");
        }
    }
}

impl Version {
    fn check(&mut self, view: &View, now: &FileState) {
        let was = &self.state;
        let id = was.version().expect("it is a version");
        if id.station_commit().is_some() && now.position != was.position {
            // What a station cut by itself is its origin's as soon as that says so: then it is called by that.
            assert!(now.cut && !now.expired, "{now:?}");
            self.state.position = now.position;
            (self.state.stamp, self.state.cut_at) = (now.stamp, now.cut_at);
            (self.state.arrival, self.state.user) = (now.arrival, now.user.clone());
            self.state.event = now.event;
        }
        let was = &self.state;
        let same = FileState { body: was.body.clone(), ..now.clone() };
        assert_eq!(&same, was, "a version is another");
        let id = was.version().expect("it is a version");
        let found = view.version(was.file, id).unwrap();
        assert_eq!(found.as_ref(), Some(now), "{id} of {} means another version", was.file);
        let (file, at) = (was.file, was.commit);
        assert_eq!(view.links(file, at).unwrap(), self.links, "{file} had other names at {at}");
        assert_eq!(view.path_of(file, at).unwrap(), self.path, "{file} was elsewhere at {at}");
    }
}

/// Reads everything that a set has, so that what cannot be given back is noticed.
pub(crate) fn read_everything(reader: &Reader) {
    let view = reader.view().unwrap();
    for file in every_file(&view) {
        let mut states = view.versions(file).unwrap();
        states.extend(view.file(file, CommitId::MAX).unwrap());
        for state in states {
            digest(reader, &state);
        }
    }
}

fn every_file(view: &View) -> Vec<FileId> {
    let mut files = view.ever_after(None, 1024).unwrap();
    while let Some(last) = files.last().copied() {
        let more = view.ever_after(Some(last), 1024).unwrap();
        if more.is_empty() {
            break;
        }
        files.extend(more);
    }
    files
}

/// Returns a hash of a state's content; what cannot be read fails the test.
fn digest(reader: &Reader, state: &FileState) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&state.meta.size.to_le_bytes());
    if state.meta.kind != Kind::File || state.expired {
        return *hasher.finalize().as_bytes();
    }
    let view = reader.view().unwrap();
    let block = BLOCK_BYTES as u64;
    let mut done = 0;
    while let Some(offset) = view.next_data(state, done).unwrap() {
        // Whole blocks, each once.
        let offset = offset / block * block;
        let bytes = reader.read(state, offset, READ_BYTES).unwrap_or_else(|error| {
            panic!("{} at {} cannot be read: {error:?}", state.file, state.commit)
        });
        assert!(!bytes.is_empty(), "content is missing: {state:?}");
        for (index, piece) in bytes.chunks(BLOCK_BYTES).enumerate() {
            if piece.iter().any(|byte| *byte != 0) {
                let at = offset + index as u64 * block;
                hasher.update(&at.to_le_bytes()).update(piece);
            }
        }
        done = offset + (bytes.len() as u64).next_multiple_of(block);
    }
    *hasher.finalize().as_bytes()
}
