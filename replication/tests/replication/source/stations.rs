//! What a version is called, when and by whom: the same on every station, however it came there.

use std::{
    collections::BTreeMap, fs, io::Write as _, os::unix::fs::PermissionsExt as _, sync::Arc,
};

use keepshare_base::{
    Change, Event, FileId, FilledChange, Meta, Position, RunningHash, Seq, Stamp, VersionId,
};
use keepshare_proto::StateDigest;
use keepshare_replication::source::{
    CaptureMode, Head, Listing, MirrorPart, MirrorProgress, MirrorSink, SourceHandle,
};
use keepshare_versioning::{FileState, Incoming, Store, StoreOptions, disk::sim::SimDisk};

use super::support::{ORIGIN, Rig};

/// A store that takes what a source gives.
struct Station {
    store: Store,
    at: Seq,
    now: Stamp,
}

/// All that is told of a version.
type Shown = (VersionId, Stamp, Option<String>, Event, Meta, Option<keepshare_base::ContentHash>);

impl Station {
    fn new() -> Self {
        let options = StoreOptions { reserve_bytes: 0, ..StoreOptions::default() };
        let (store, _) = Store::open(Arc::new(SimDisk::new()), options).unwrap();
        Self { store, at: Seq(0), now: Stamp(1_763_600_000_000_000) }
    }

    fn commit(&mut self, at: (Head, RunningHash), complete: bool, filled: FilledChange) {
        let (Head { epoch, seq, .. }, running) = at;
        let position = Position { origin: ORIGIN, epoch, seq };
        self.now = self.now.plus_micros(1000);
        let incoming = Incoming { position, complete, running, filled };
        self.store.commit(self.now, &incoming).unwrap();
    }

    fn mirror(&mut self, source: &SourceHandle) {
        let mirror = source.mirror().unwrap();
        let head = mirror.head();
        let change = Change { stamp: mirror.stamp(), ..Change::default() };
        self.commit((head, head.running), false, FilledChange { change, payload: vec![] });
        self.store.sync().unwrap();
        let listing = self.listing();
        mirror.run(&listing, self).unwrap();
        self.at = head.seq;
        self.store.sync().unwrap();
    }

    fn follow(&mut self, source: &SourceHandle) {
        let head = source.head();
        while self.at < head.seq {
            for entry in source.entries(self.at.next(), 1 << 20).unwrap() {
                let at = Head { seq: entry.seq, ..head };
                self.commit((at, entry.running), true, entry.filled);
                self.at = entry.seq;
            }
        }
        self.store.sync().unwrap();
    }

    fn listing(&self) -> Listing {
        let view = self.store.reader().view().unwrap();
        let names = view.names_after(None, usize::MAX).unwrap();
        let named = names
            .into_iter()
            .map(|(parent, entry)| ((parent, entry.name.clone()), (entry.file, entry.kind)));
        let listed = |state: FileState| {
            let id = state.version().filter(|id| id.station_commit().is_none());
            let digest = StateDigest::of(&state.meta, state.hash.as_ref());
            (state.file, (digest, id.map(|VersionId(at)| (at.epoch, at.seq))))
        };
        let mut files = view.files_after(None, usize::MAX).unwrap().into_iter().map(listed);
        let mut listing = Listing::default();
        listing.extend(named);
        assert!(files.all(|file| listing.push_file(&file)));
        listing
    }

    /// Returns the versions of all files that are there now, newest first.
    fn versions(&self) -> BTreeMap<FileId, Vec<Shown>> {
        let view = self.store.reader().view().unwrap();
        let shown = |state: FileState| {
            let id = state.version().unwrap();
            (id, state.stamp, state.user, state.event, state.meta, state.hash)
        };
        let files = view.files_after(None, usize::MAX).unwrap().into_iter();
        let versions = |file| view.versions(file).unwrap().into_iter().map(shown).collect();
        files.map(|state| (state.file, versions(state.file))).collect()
    }
}

impl MirrorSink for Station {
    fn part(&mut self, part: MirrorPart) -> bool {
        self.commit((part.head, part.head.running), part.complete, part.filled);
        true
    }

    fn progress(&mut self, _: MirrorProgress) {}
}

/// Holds that two stations say the same of all versions that both have, and of what is there now.
#[track_caller]
fn assert_same(one: &Station, other: &Station, when: &str) {
    let (one, other) = (one.versions(), other.versions());
    assert!(one.keys().eq(other.keys()), "{when}: other files");
    for (file, versions) in &one {
        let there = &other[file];
        assert_eq!(versions.first(), there.first(), "{when}: {file}");
        let ids = |list: &[Shown]| list.iter().map(|it| it.0).collect::<Vec<_>>();
        let (fewer, more) =
            if versions.len() < there.len() { (versions, there) } else { (there, versions) };
        for version in fewer {
            assert!(more.contains(version), "{when}: {file}: {version:?} in {:?}", ids(more));
        }
    }
}

/// One that follows, and one that was mirrored, away and mirrored again, a third that comes late, after a restart.
#[test]
fn a_version_is_called_the_same_on_every_station() {
    let prepare = |root: &std::path::Path| {
        fs::create_dir(root.join("d")).unwrap();
        for name in ["a", "b", "c", "d/e"] {
            fs::write(root.join(name), format!("{name} of before")).unwrap();
        }
    };
    let mut rig = Rig::with(CaptureMode::Auto, prepare, |_| {});
    let mut one = Station::new();
    one.mirror(&rig.handle);
    let save = |rig: &Rig, name: &str, text: &str| fs::write(rig.path(name), text).unwrap();
    save(&rig, "a", "saved once");
    save(&rig, "new", "new");
    rig.settle();
    save(&rig, "a", "saved twice");
    fs::set_permissions(rig.path("b"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(rig.path("c"), rig.path("d/moved")).unwrap();
    rig.settle();
    one.follow(&rig.handle);

    let mut two = Station::new();
    two.mirror(&rig.handle);
    one.follow(&rig.handle);
    assert_same(&one, &two, "after a first mirror");

    let mut open = fs::File::create(rig.path("log")).unwrap();
    open.write_all(b"open").unwrap();
    save(&rig, "d/e", "followed by both");
    rig.settle();
    one.follow(&rig.handle);
    two.follow(&rig.handle);

    // The second one is away: what was open is closed, and more is saved.
    drop(open);
    save(&rig, "a", "saved thrice");
    save(&rig, "b", "b saved");
    fs::remove_file(rig.path("new")).unwrap();
    rig.wait("the log is a version", |rig| !rig.model.files[&rig.file("log")].uncut);
    rig.settle();
    save(&rig, "b", "b saved again");
    rig.settle();
    two.mirror(&rig.handle);
    one.follow(&rig.handle);
    assert_same(&one, &two, "after a gap");

    save(&rig, "a", "saved after the gap");
    rig.settle();
    one.follow(&rig.handle);
    two.follow(&rig.handle);
    assert_same(&one, &two, "after a catch-up");

    rig.reopen();
    let mut three = Station::new();
    three.mirror(&rig.handle);
    one.follow(&rig.handle);
    two.follow(&rig.handle);
    assert_same(&one, &three, "on a third one, after a restart");
    let ids = one.versions();
    let names: Vec<String> = ids.values().flatten().map(|it| it.0.to_string()).collect();
    assert!(names.iter().all(|id| id.starts_with('v')), "{names:?}");
}

/// Each mirror has a place of its own, and none leads to where another did.
#[test]
fn every_mirror_has_its_own_place() {
    let rig = Rig::new(CaptureMode::Auto);
    let mut places = vec![rig.handle.head().seq];
    let mut stations = [Station::new(), Station::new()];
    for _ in 0..2 {
        for station in &mut stations {
            station.mirror(&rig.handle);
            places.push(station.at);
        }
        // One that breaks off.
        places.push(rig.handle.mirror().unwrap().head().seq);
    }
    assert!(places.is_sorted_by(|a, b| a < b), "{places:?}");
    for station in &mut stations {
        station.follow(&rig.handle);
    }
    assert_same(&stations[0], &stations[1], "after all of them");
}
