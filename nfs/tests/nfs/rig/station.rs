//! A station in one hand: a store fed by one master, a user with a ticket, a server.

use std::{
    net::{IpAddr, Ipv4Addr, TcpListener},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::{SystemTime, UNIX_EPOCH},
};

use keepshare_auth::{Accounts, Audit, Binding, SessionId, User, UserSets};
use keepshare_base::{
    Change, CommitId, Content, ContentHash, Epoch, Event, Extent, FileId, FileRow, FileTime,
    FilledChange, Kind, Meta, Name, NameRow, OriginId, Owner, Position, RunningHash, Seq, SetName,
    Stamp,
};
use keepshare_namespace::{
    AskedBy, Restore, RestoreError, Restorer, Share, ShareConfig, ShareId, Show,
};
use keepshare_nfs::{Limits, Parts, Server, Shares};
use keepshare_versioning::{Incoming, Store, StoreOptions, disk::RealDisk};

/// Anna's number on the station.
pub(crate) const ANNA: u32 = 1000;

/// Anna's number on her own machine, which is somebody else's on the station.
pub(crate) const ANNA_AT_HOME: u32 = 501;

pub(crate) const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

const START: Stamp = Stamp(1_763_600_000_000_000);

/// Returns the time of day.
pub(crate) fn now() -> Stamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Stamp(i64::try_from(since.as_micros()).unwrap())
}

pub(crate) fn set() -> SetName {
    "projects".parse().unwrap()
}

/// A master that writes old versions back, when it is let.
#[derive(Debug)]
pub(crate) struct Master {
    tree: Arc<Mutex<Tree>>,
    pub(crate) asked: Mutex<Vec<Restore>>,
    answer: Mutex<Answer>,
    changed: Condvar,
}

/// What the master does when it is asked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Restore,
    Wait,
    Fail(RestoreError),
    Panic,
}

impl Master {
    pub(crate) fn will(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
        self.changed.notify_all();
    }

    pub(crate) fn times_asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

impl Restorer for Master {
    fn restore(&self, restore: &Restore, by: AskedBy) -> Result<(), RestoreError> {
        assert!(by.address.is_loopback(), "the audit log would tell another address: {by:?}");
        self.asked.lock().unwrap().push(restore.clone());
        let answer = self.answer.lock().unwrap();
        let answer = self.changed.wait_while(answer, |answer| *answer == Answer::Wait).unwrap();
        match answer.clone() {
            Answer::Restore => self.tree.lock().unwrap().restore(restore),
            Answer::Fail(error) => return Err(error),
            Answer::Panic | Answer::Wait => panic!("the master was told to panic"),
        }
        Ok(())
    }
}

pub(crate) struct Station {
    tree: Arc<Mutex<Tree>>,
    pub(crate) master: Arc<Master>,
    pub(crate) accounts: Accounts,
    pub(crate) shares: Shares,
    pub(crate) server: Server,
    pub(crate) port: u16,
}

impl Station {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default())
    }

    pub(crate) fn with(limits: Limits) -> Self {
        let tree = Tree::new();
        let backend = redb::backends::InMemoryBackend::new();
        let db = redb::Database::builder().create_with_backend(backend).unwrap();
        let accounts = Accounts::open(Arc::new(db), Audit::none()).unwrap();
        accounts.add_user(user("anna"), "correct horse", now()).unwrap();
        let shares = Shares::default();
        shares.insert(tree.share());
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let tree = Arc::new(Mutex::new(tree));
        let master = Arc::new(Master {
            tree: tree.clone(),
            asked: Mutex::default(),
            answer: Mutex::new(Answer::Restore),
            changed: Condvar::new(),
        });
        let parts = Parts {
            shares: shares.clone(),
            sessions: accounts.sessions().clone(),
            restorer: master.clone(),
            clock: now,
            limits,
        };
        let server = Server::start(listener, parts).unwrap();
        let port = server.address().port();
        Self { tree, master, accounts, shares, server, port }
    }

    /// Returns the master's files, to change them.
    pub(crate) fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap()
    }

    /// Gives Anna a ticket, for the address and the number she has there. It takes any port: tests are no kernel.
    pub(crate) fn ticket(&self, address: IpAddr, client_uid: Option<u32>) -> String {
        self.ticket_bound_to(Binding { address, uid: client_uid, any_port: true })
    }

    pub(crate) fn ticket_bound_to(&self, binding: Binding) -> String {
        self.ticket_of("anna", binding)
    }

    fn ticket_of(&self, name: &str, binding: Binding) -> String {
        let login = self.accounts.ticket_for(&name.parse().unwrap(), &set(), binding, now());
        login.unwrap().unwrap().ticket.reveal()
    }

    /// Adds a user with Anna's number, and returns a ticket as Anna's.
    pub(crate) fn ticket_of_another(&self, name: &str) -> String {
        self.accounts.add_user(user(name), "correct horse", now()).unwrap();
        let binding = Binding { address: LOCALHOST, uid: Some(ANNA_AT_HOME), any_port: true };
        self.ticket_of(name, binding)
    }

    /// Returns the session that was made last.
    pub(crate) fn newest_session(&self) -> SessionId {
        let sessions = self.accounts.sessions().list();
        sessions.iter().max_by_key(|session| session.created).unwrap().id
    }
}

fn user(name: &str) -> User {
    User {
        name: name.parse().unwrap(),
        uid: ANNA,
        gid: 100,
        groups: vec![],
        may_write: true,
        sets: UserSets::All,
        disabled: false,
    }
}

/// A master's files in a store, in a folder that goes with it.
#[derive(Debug)]
pub(crate) struct Tree {
    store: Store,
    now: Stamp,
    seq: Seq,
    running: RunningHash,
    counter: u64,
    _dir: tempfile::TempDir,
}

impl Tree {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(RealDisk::open(dir.path()).unwrap());
        let options =
            StoreOptions { cache_bytes: 8 << 20, reserve_bytes: 0, ..StoreOptions::default() };
        let store = Store::open(disk, options).unwrap().0;
        let (seq, running) = (Seq(0), RunningHash::EMPTY);
        let mut tree = Self { store, now: START, seq, running, counter: 0, _dir: dir };
        tree.apply(Edit::default().row(
            FileId::ROOT,
            meta(Kind::Dir, 0o755, ANNA),
            Content::Same,
            b"",
        ));
        tree
    }

    pub(crate) fn share(&self) -> Share {
        Share::new(ShareConfig {
            id: ShareId(1),
            set: set(),
            reader: self.store.reader(),
            zone: chrono_tz::Tz::UTC,
            show: Show::Root,
            key: [42; 32],
            room: std::env::temp_dir(),
        })
    }

    pub(crate) fn dir(&mut self, parent: FileId, name: &str, mode: u32) -> FileId {
        self.dir_of(parent, name, ANNA, mode)
    }

    pub(crate) fn dir_of(&mut self, parent: FileId, name: &str, owner: u32, mode: u32) -> FileId {
        self.add(parent, name, meta(Kind::Dir, mode, owner))
    }

    pub(crate) fn file(&mut self, parent: FileId, name: &str, bytes: &[u8]) -> FileId {
        self.file_of(parent, name, ANNA, bytes)
    }

    pub(crate) fn file_of(
        &mut self,
        parent: FileId,
        name: &str,
        owner: u32,
        bytes: &[u8],
    ) -> FileId {
        let file = self.next_file();
        let mut edit = Edit::default().put(parent, name, file, Kind::File);
        // A change holds only so much, so a large file comes in several.
        let (mut offset, mut fresh) = (0, true);
        loop {
            let (part, end) = match bytes.split_at_checked(offset + PART_BYTES) {
                Some((head, _)) => (&head[offset..], head.len()),
                None => (&bytes[offset..], bytes.len()),
            };
            let meta = Meta { size: end as u64, ..meta(Kind::File, 0o644, owner) };
            let extent = Extent { offset: offset as u64, len: part.len() as u64, zero: false };
            let extents = if part.is_empty() { vec![] } else { vec![extent] };
            let content = Content::Extents { fresh, extents, hash: ContentHash::of(part) };
            self.apply(edit.row(file, meta, content, part));
            if end == bytes.len() {
                return file;
            }
            (offset, fresh, edit) = (end, false, Edit::default());
        }
    }

    pub(crate) fn link(&mut self, parent: FileId, name: &str, target: &str) -> FileId {
        let meta = Meta { symlink: target.into(), ..meta(Kind::Symlink, 0o777, ANNA) };
        self.add(parent, name, meta)
    }

    /// Adds many empty files in one change.
    pub(crate) fn files(&mut self, parent: FileId, names: impl Iterator<Item = String>) {
        let mut edit = Edit::default();
        for name in names {
            let file = self.next_file();
            edit = edit.row(file, meta(Kind::File, 0o644, ANNA), Content::whole(b""), b"");
            edit = edit.put(parent, &name, file, Kind::File);
        }
        self.apply(edit);
    }

    /// Saves a small file anew.
    pub(crate) fn save(&mut self, file: FileId, bytes: &[u8]) {
        let meta = Meta { size: bytes.len() as u64, ..meta(Kind::File, 0o644, ANNA) };
        self.apply(Edit::default().row(file, meta, Content::whole(bytes), bytes));
    }

    /// Writes an old version back, as a master does.
    fn restore(&mut self, restore: &Restore) {
        let reader = self.store.reader();
        if restore.folder_at.is_some() {
            let (above, name) = restore.path.split_last().expect("nobody moves a drive's root");
            let view = reader.view().unwrap();
            let (parent, _) = view.resolve(&above, CommitId::MAX).unwrap().expect("a folder");
            if view.lookup(parent, name, CommitId::MAX).unwrap().is_none() {
                self.dir(parent, &name.to_string(), 0o755);
            }
            return;
        }
        let bytes = reader.read(&restore.state, 0, usize::MAX).unwrap();
        let present = reader.view().unwrap().resolve(&restore.path, CommitId::MAX).unwrap();
        let (file, _) = present.expect("the tests restore what is there");
        self.save(file, &bytes);
    }

    fn add(&mut self, parent: FileId, name: &str, meta: Meta) -> FileId {
        let (file, kind) = (self.next_file(), meta.kind);
        self.apply(
            Edit::default().row(file, meta, Content::Same, b"").put(parent, name, file, kind),
        );
        file
    }

    fn next_file(&mut self) -> FileId {
        self.counter += 1;
        FileId { origin: OriginId(1), epoch: Epoch::FIRST, counter: self.counter }
    }

    fn apply(&mut self, edit: Edit) {
        self.now = self.now.plus_micros(1_000_000);
        self.seq = self.seq.next();
        self.running = self.running.extended(&self.seq.0.to_le_bytes());
        let change = Change { stamp: self.now, user: Some("anna".into()), ..edit.change };
        let incoming = Incoming {
            position: Position { origin: OriginId(1), epoch: Epoch::FIRST, seq: self.seq },
            complete: true,
            running: self.running,
            filled: FilledChange { change, payload: edit.payload },
        };
        self.store.commit(self.now, &incoming).unwrap();
        self.store.sync().unwrap();
    }
}

/// A change in the making.
#[derive(Default)]
struct Edit {
    change: Change,
    payload: Vec<u8>,
}

impl Edit {
    fn row(mut self, file: FileId, meta: Meta, content: Content, bytes: &[u8]) -> Self {
        self.payload.extend_from_slice(bytes);
        let (event, hash, cut, fuzzy) = (Event::Saved, None, true, false);
        self.change.files.push(FileRow { file, event, meta, content, hash, cut, fuzzy });
        self
    }

    fn put(mut self, parent: FileId, name: &str, file: FileId, kind: Kind) -> Self {
        let name = Name::new(name.as_bytes()).unwrap();
        self.change.names.push(NameRow { parent, name, target: Some((file, kind)) });
        self
    }
}

fn meta(kind: Kind, mode: u32, owner: u32) -> Meta {
    Meta {
        kind,
        size: 0,
        mode,
        owner: Owner { id: owner, name: String::new() },
        group: Owner { id: 100, name: "staff".into() },
        mtime: FileTime { secs: 1_700_000_000, nanos: 5 },
        symlink: vec![],
        rdev: 0,
        xattrs: vec![],
    }
}

/// How much of a file goes into one change.
const PART_BYTES: usize = 512 * 1024;
