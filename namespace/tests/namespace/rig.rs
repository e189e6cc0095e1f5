//! A master, a store and a share in one hand.

use std::sync::Arc;

use chrono_tz::Tz;

use keepshare_auth::Principal;
use keepshare_base::{
    Change, CommitId, Content, ContentHash, Epoch, Event, FileId, FileRow, FileTime, FilledChange,
    Kind, Meta, Name, NameRow, OriginId, Owner, Point, PointKind, PointRow, Position, RunningHash,
    Seq, Stamp,
};
use keepshare_namespace::{
    Attributes, Denial, Found, Listed, Node, Share, ShareConfig, ShareId, Show,
};
use keepshare_versioning::{
    Arrival, FileState, Incoming, Sent, Store, StoreOptions, disk::RealDisk,
};

pub(crate) const ROOT: FileId = FileId::ROOT;

/// The stamp before the first change of every test: 2026-11-20 15:00 in Berlin.
pub(crate) const START: Stamp = Stamp(1_795_183_200_000_000);

pub(crate) const SECOND: i64 = 1_000_000;

pub(crate) const ANNA: u32 = 1000;
pub(crate) const BOB: u32 = 1001;
pub(crate) const EVE: u32 = 1002;

/// The group of Anna and Bob.
pub(crate) const STAFF: u32 = 100;

pub(crate) fn anna() -> Principal {
    who("anna", ANNA, STAFF)
}

pub(crate) fn bob() -> Principal {
    who("bob", BOB, STAFF)
}

pub(crate) fn eve() -> Principal {
    who("eve", EVE, 999)
}

fn who(user: &str, uid: u32, gid: u32) -> Principal {
    Principal { user: user.to_owned(), uid, gid, groups: vec![], may_write: true }
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

pub(crate) fn meta(kind: Kind, mode: u32, size: usize) -> Meta {
    Meta {
        kind,
        size: size as u64,
        mode,
        owner: Owner { id: ANNA, name: "anna".into() },
        group: Owner { id: STAFF, name: "staff".into() },
        mtime: FileTime { secs: 1_700_000_000, nanos: 5 },
        symlink: vec![],
        rdev: 0,
        xattrs: vec![],
    }
}

/// Returns attributes of somebody's, in a group of their own.
pub(crate) fn meta_of(owner: u32, kind: Kind, mode: u32, size: usize) -> Meta {
    let of = |id| Owner { id, name: String::new() };
    let group = if owner == EVE { of(999) } else { of(STAFF) };
    Meta { owner: of(owner), group, ..meta(kind, mode, size) }
}

/// A change in the making.
#[derive(Default)]
pub(crate) struct Edit {
    pub(crate) change: Change,
    payload: Vec<u8>,
}

pub(crate) fn edit() -> Edit {
    Edit::default()
}

impl Edit {
    pub(crate) fn put(self, parent: FileId, text: &str, file: FileId) -> Self {
        self.target(parent, text, Some((file, Kind::File)))
    }

    pub(crate) fn put_dir(self, parent: FileId, text: &str, file: FileId) -> Self {
        self.target(parent, text, Some((file, Kind::Dir)))
    }

    pub(crate) fn gone(self, parent: FileId, text: &str) -> Self {
        self.target(parent, text, None)
    }

    pub(crate) fn target(
        mut self,
        parent: FileId,
        text: &str,
        target: Option<(FileId, Kind)>,
    ) -> Self {
        self.change.names.push(NameRow { parent, name: name(text), target });
        self
    }

    pub(crate) fn dir(self, file: FileId, mode: u32) -> Self {
        self.row(file, meta(Kind::Dir, mode, 0), Content::Same, Event::Created)
    }

    /// A file's whole content, as a version.
    pub(crate) fn whole(mut self, file: FileId, mode: u32, bytes: &[u8]) -> Self {
        self.payload.extend_from_slice(bytes);
        let meta = meta(Kind::File, mode, bytes.len());
        self.row(file, meta, Content::whole(bytes), Event::Saved)
    }

    /// The same of another owner, who is in no group of others.
    pub(crate) fn whole_of(mut self, owner: u32, file: FileId, mode: u32, bytes: &[u8]) -> Self {
        self.payload.extend_from_slice(bytes);
        let meta = meta_of(owner, Kind::File, mode, bytes.len());
        let mut edit = self.row(file, meta, Content::whole(bytes), Event::Saved);
        let row = edit.change.files.last_mut().unwrap();
        row.hash = Some(ContentHash::of(bytes));
        edit
    }

    /// A folder of another owner.
    pub(crate) fn dir_of(self, owner: u32, file: FileId, mode: u32) -> Self {
        self.row(file, meta_of(owner, Kind::Dir, mode, 0), Content::Same, Event::Created)
    }

    /// The same content under another mode, as a version.
    pub(crate) fn mode(self, file: FileId, mode: u32, size: usize) -> Self {
        self.row(file, meta(Kind::File, mode, size), Content::Same, Event::Attributes)
    }

    pub(crate) fn link(self, file: FileId, target: &str) -> Self {
        let meta = Meta { symlink: target.into(), ..meta(Kind::Symlink, 0o777, 0) };
        self.row(file, meta, Content::Same, Event::Created)
    }

    pub(crate) fn row(mut self, file: FileId, meta: Meta, content: Content, event: Event) -> Self {
        let (hash, cut, fuzzy) = (None, true, false);
        self.change.files.push(FileRow { file, event, meta, content, hash, cut, fuzzy });
        self
    }

    pub(crate) fn point(mut self, name: &str) -> Self {
        let point = Point { name: name.to_owned(), kind: PointKind::App };
        self.change.point = Some(PointRow::Made { point, lasts_micros: None });
        self
    }
}

/// A store in a folder that goes with it, fed by one master, and a share of it.
pub(crate) struct Rig {
    pub(crate) store: Store,
    pub(crate) share: Share,
    /// The stamp of the last change, and its arrival.
    pub(crate) now: Stamp,
    pub(crate) user: &'static str,
    /// How far the master's clock is ahead, in microseconds.
    pub(crate) ahead: i64,
    seq: Seq,
    running: RunningHash,
    counter: u64,
    dir: tempfile::TempDir,
}

impl Rig {
    /// Returns a set whose root everybody may read and search.
    pub(crate) fn new() -> Self {
        let mut rig = Self::empty();
        rig.apply(edit().dir(ROOT, 0o755));
        rig
    }

    /// Returns a set of which nothing has come yet.
    pub(crate) fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir);
        let share = share(&store, Show::Root);
        Self {
            store,
            share,
            now: START,
            user: "anna",
            ahead: 0,
            seq: Seq(0),
            running: RunningHash::EMPTY,
            counter: 0,
            dir,
        }
    }

    /// Opens the store and the share anew, as after a restart.
    pub(crate) fn restart(self) -> Self {
        let Self { store, share: old, dir, .. } = self;
        drop((store, old));
        let store = open(&dir);
        let share = share(&store, Show::Root);
        Self { store, share, dir, ..self }
    }

    pub(crate) fn show(&mut self, show: Show) {
        self.share = share(&self.store, show);
    }

    /// Gives a new file its id.
    pub(crate) fn file(&mut self) -> FileId {
        self.counter += 1;
        FileId { origin: OriginId(1), epoch: Epoch::FIRST, counter: self.counter }
    }

    /// Takes the next change in, a second after the last, and makes it visible.
    pub(crate) fn apply(&mut self, edit: Edit) -> CommitId {
        self.apply_after(SECOND, edit)
    }

    /// Takes the next change in, so many microseconds after the last, and makes it visible.
    pub(crate) fn apply_after(&mut self, micros: i64, edit: Edit) -> CommitId {
        let at = self.commit_after(micros, edit);
        self.store.sync().unwrap();
        at
    }

    pub(crate) fn commit_after(&mut self, micros: i64, edit: Edit) -> CommitId {
        self.now = self.now.plus_micros(micros);
        self.commit_stamped(self.now.plus_micros(self.ahead), edit)
    }

    /// Takes a change in that was made earlier, and makes it visible.
    pub(crate) fn apply_stamped(&mut self, stamp: Stamp, edit: Edit) -> CommitId {
        let at = self.commit_stamped(stamp, edit);
        self.store.sync().unwrap();
        at
    }

    /// Takes a part of a mirror in, a second after the last change, and makes it visible: all parts have the place at which
    /// the next change stands, which the last of them completes.
    pub(crate) fn apply_part(&mut self, edit: Edit) -> CommitId {
        self.now = self.now.plus_micros(SECOND);
        let position = Position { seq: self.seq.next(), ..self.position() };
        let running = self.running.extended(&position.seq.0.to_le_bytes());
        let at = self.commit_at((position, false, running), self.now, edit);
        self.store.sync().unwrap();
        at
    }

    fn commit_stamped(&mut self, stamp: Stamp, edit: Edit) -> CommitId {
        self.seq = self.seq.next();
        self.running = self.running.extended(&self.seq.0.to_le_bytes());
        self.commit_at((self.position(), true, self.running), stamp, edit)
    }

    fn commit_at(
        &mut self,
        (position, complete, running): (Position, bool, RunningHash),
        stamp: Stamp,
        edit: Edit,
    ) -> CommitId {
        let change = Change { stamp, user: Some(self.user.into()), ..edit.change };
        let incoming = Incoming {
            position,
            complete,
            running,
            filled: FilledChange { change, payload: edit.payload },
        };
        let clock = self.now.plus_micros(self.ahead);
        let sent = Some(Sent { clock, heard: Some(self.now.plus_micros(-SECOND)) });
        self.store.commit(Arrival { sent, ..self.now.into() }, &incoming).unwrap()
    }

    /// Returns the position of the last change.
    pub(crate) fn position(&self) -> Position {
        Position { origin: OriginId(1), epoch: Epoch::FIRST, seq: self.seq }
    }

    /// Adds a new file under a name.
    pub(crate) fn add(&mut self, parent: FileId, text: &str, mode: u32, bytes: &[u8]) -> FileId {
        let file = self.file();
        self.apply(edit().whole(file, mode, bytes).put(parent, text, file));
        file
    }

    /// Adds a new folder under a name.
    pub(crate) fn add_dir(&mut self, parent: FileId, text: &str, mode: u32) -> FileId {
        let dir = self.file();
        self.apply(edit().dir(dir, mode).put_dir(parent, text, dir));
        dir
    }

    /// Saves a file anew.
    pub(crate) fn save(&mut self, file: FileId, mode: u32, bytes: &[u8]) -> CommitId {
        self.apply(edit().whole(file, mode, bytes))
    }

    /// Goes down a path from the root.
    pub(crate) fn find(&self, who: &Principal, path: &str) -> Result<Found, Denial> {
        self.find_from(who, live(ROOT), path)
    }

    pub(crate) fn find_from(
        &self,
        who: &Principal,
        node: Node,
        path: &str,
    ) -> Result<Found, Denial> {
        let mut found = Found { node, attributes: self.attributes(who, node)? };
        for part in path.split('/').filter(|part| !part.is_empty()) {
            found = self.share.lookup(who, found.node, part.as_bytes(), self.now)?;
        }
        Ok(found)
    }

    pub(crate) fn node(&self, who: &Principal, path: &str) -> Node {
        self.find(who, path).unwrap_or_else(|error| panic!("{path}: {error}")).node
    }

    pub(crate) fn attributes(&self, who: &Principal, node: Node) -> Result<Attributes, Denial> {
        self.share.attributes(who, node, self.now)
    }

    /// Lists a folder whole, so many entries at a time.
    pub(crate) fn list_by(
        &self,
        who: &Principal,
        node: Node,
        limit: usize,
    ) -> Result<Vec<Listed>, Denial> {
        let (mut entries, mut after) = (Vec::<Listed>::new(), 0);
        loop {
            let page = self.share.list(who, node, after, limit, self.now)?;
            assert!(page.entries.len() <= limit);
            if let Some(last) = page.entries.last() {
                after = last.cookie;
            }
            let empty = page.entries.is_empty();
            entries.extend(page.entries);
            if page.end {
                return Ok(entries);
            }
            assert!(!empty, "no entries, and not the end");
        }
    }

    /// Returns the content of a state.
    pub(crate) fn store_content(&self, state: &FileState) -> String {
        let bytes = self.store.reader().read(state, 0, 4096).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    /// Returns the names that a folder lists.
    pub(crate) fn names(&self, who: &Principal, path: &str) -> Result<Vec<String>, Denial> {
        let found = self.find(who, path)?;
        self.names_in(who, found.node)
    }

    pub(crate) fn names_in(&self, who: &Principal, node: Node) -> Result<Vec<String>, Denial> {
        let entries = self.list_by(who, node, 3)?;
        Ok(entries.into_iter().map(|entry| String::from_utf8(entry.name).unwrap()).collect())
    }

    pub(crate) fn read(&self, who: &Principal, path: &str) -> Result<String, Denial> {
        let found = self.find(who, path)?;
        self.read_node(who, found.node)
    }

    pub(crate) fn read_node(&self, who: &Principal, node: Node) -> Result<String, Denial> {
        let (bytes, attributes) = self.share.read(who, node, 0, 1 << 24, self.now)?;
        assert_eq!(attributes.size, bytes.len() as u64);
        Ok(String::from_utf8(bytes).unwrap())
    }
}

pub(crate) fn live(file: FileId) -> Node {
    Node::Live { file }
}

/// Says an answer in a word, for tables.
pub(crate) fn word<T>(answer: &Result<T, Denial>) -> &'static str {
    match answer {
        Ok(_) => "yes",
        Err(Denial::Stale) => "stale",
        Err(Denial::NotFound) => "none",
        Err(Denial::NotAllowed) => "no",
        Err(Denial::NotFolder) => "not a folder",
        Err(Denial::IsFolder) => "a folder",
        Err(Denial::WrongKind) => "wrong kind",
        Err(Denial::ReadOnly) => "read-only",
        Err(Denial::Taken) => "taken",
        Err(_) => "error",
    }
}

fn open(dir: &tempfile::TempDir) -> Store {
    let disk = Arc::new(RealDisk::open(dir.path()).unwrap());
    let options = StoreOptions { reserve_bytes: 0, let_go_min: 1, ..StoreOptions::default() };
    Store::open(disk, options).unwrap().0
}

pub(crate) fn share(store: &Store, show: Show) -> Share {
    Share::new(ShareConfig {
        id: ShareId(1),
        set: "projects".parse().unwrap(),
        reader: store.reader(),
        zone: Tz::Europe__Berlin,
        show,
        key: [42; 32],
        room: std::env::temp_dir(),
    })
}
