//! A set with its threads, on a real folder and on a disk that fills up.

use std::{
    fs,
    path::Path,
    sync::{Arc, Condvar, Mutex, mpsc},
    time::Duration,
};

use keepshare_base::{
    Change, CommitId, Content, Epoch, Event, FileId, FileRow, FileTime, FilledChange, Kind, Meta,
    Name, NameRow, OriginId, Owner, Position, RunningHash, Seq, Stamp,
};

use super::*;
use crate::{disk::sim::SimDisk, live::bench_folder};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

fn change(seq: u64, bytes: &[u8]) -> Incoming {
    let file = FileId { origin: OriginId(1), epoch: Epoch::FIRST, counter: 1 };
    let meta = Meta {
        kind: Kind::File,
        size: bytes.len() as u64,
        mode: 0o644,
        owner: Owner::default(),
        group: Owner::default(),
        mtime: FileTime::default(),
        symlink: vec![],
        rdev: 0,
        xattrs: vec![],
    };
    let row = FileRow {
        file,
        event: Event::Saved,
        meta,
        content: Content::whole(bytes),
        hash: None,
        cut: true,
        fuzzy: false,
    };
    let name = NameRow {
        parent: FileId::ROOT,
        name: Name::new(b"file").unwrap(),
        target: Some((file, Kind::File)),
    };
    let change = Change { names: vec![name], files: vec![row], ..Change::default() };
    Incoming {
        position: Position { origin: OriginId(1), epoch: Epoch::FIRST, seq: Seq(seq) },
        complete: true,
        running: RunningHash::EMPTY,
        filled: FilledChange { change, payload: bytes.to_vec() },
    }
}

type Answers = mpsc::Receiver<Result<CommitId, SubmitError>>;

fn submit(set: &SetStore, incoming: Incoming) -> Answers {
    let (send, answers) = mpsc::channel();
    let reply: Reply = Box::new(move |answer| drop(send.send(answer)));
    set.submit(Submission { incoming, arrival: Stamp(1).into(), reply }).unwrap();
    answers
}

fn wait_for(set: &SetStore, wanted: impl Fn(&Status) -> bool) -> Status {
    let bell = Arc::new((Mutex::new(()), Condvar::new()));
    let ring = Arc::clone(&bell);
    set.watch(move || {
        drop(ring.0.lock().unwrap());
        ring.1.notify_all();
    });
    let mut held = bell.0.lock().unwrap();
    loop {
        let status = set.status();
        if wanted(&status) {
            return status;
        }
        let (again, timeout) = bell.1.wait_timeout(held, PATIENCE).unwrap();
        assert!(!timeout.timed_out(), "{status:?}");
        held = again;
    }
}

fn open(dir: &Path) -> SetStore {
    SetStore::open(dir, SetOptions::default()).unwrap()
}

/// What was answered is durable, shows in the folder, and is there again after a restart.
#[test]
fn a_change_is_answered_shown_and_kept() {
    let dir = bench_folder();
    let set = open(dir.path());
    let commit = submit(&set, change(1, b"first")).recv_timeout(PATIENCE).unwrap().unwrap();
    wait_for(&set, |status| status.live >= commit);
    assert_eq!(fs::read(dir.path().join("live/file")).unwrap(), b"first");
    set.tick(Stamp(2_000_000));
    wait_for(&set, |status| status.live_synced >= commit);
    set.close();

    let set = open(dir.path());
    assert_eq!(set.status().live, commit);
    let next = submit(&set, change(2, b"second")).recv_timeout(PATIENCE).unwrap().unwrap();
    wait_for(&set, |status| status.live >= next);
    assert_eq!(fs::read(dir.path().join("live/file")).unwrap(), b"second");
}

/// Answers come in order, whatever was grouped, and a refused change takes nothing with it.
#[test]
fn answers_come_in_order() {
    let dir = bench_folder();
    let set = open(dir.path());
    let (send, answers) = mpsc::channel();
    for seq in [1, 2, 3, 3, 4] {
        let send = send.clone();
        let reply: Reply = Box::new(move |answer| send.send((seq, answer.is_ok())).unwrap_or(()));
        let incoming = change(seq, format!("{seq}").as_bytes());
        set.submit(Submission { incoming, arrival: Stamp(1).into(), reply }).unwrap();
    }
    let got: Vec<_> = (0..5).map(|_| answers.recv_timeout(PATIENCE).unwrap()).collect();
    assert_eq!(got, [(1, true), (2, true), (3, true), (3, false), (4, true)]);
}

/// On a full disk changes wait; they are taken when there is space, and reading goes on meanwhile.
#[test]
fn a_full_disk_is_waited_for() {
    let (disk, dir) = (SimDisk::new(), bench_folder());
    let options = SetOptions {
        store: StoreOptions { reserve_bytes: 0, ..StoreOptions::default() },
        live: Some(LiveDirs { live: dir.path().join("live"), stage: dir.path().join("stage") }),
        ..SetOptions::default()
    };
    let set = SetStore::open_on(Arc::new(disk.clone()), dir.path(), options).unwrap();
    submit(&set, change(1, b"first")).recv_timeout(PATIENCE).unwrap().unwrap();
    disk.set_capacity(Some(disk.used_bytes()));
    let incompressible = blake3::Hasher::new().finalize_xof();
    let mut bytes = vec![0; 600_000];
    { incompressible }.fill(&mut bytes);
    let answers = submit(&set, change(2, &bytes));
    wait_for(&set, |status| status.full);
    assert!(answers.try_recv().is_err());
    assert!(set.reader().view().is_ok());
    disk.set_capacity(None);
    set.tick(Stamp(5_000_000));
    let commit = answers.recv_timeout(PATIENCE).unwrap().unwrap();
    let status = wait_for(&set, |status| status.live >= commit);
    assert!(!status.full);
}

/// A closed set answers everything: nobody waits for ever.
#[test]
fn closing_answers_everyone() {
    let dir = bench_folder();
    let set = open(dir.path());
    let answers: Vec<_> = (1..50).map(|seq| submit(&set, change(seq, b"x"))).collect();
    drop(set);
    for answer in answers {
        answer.recv_timeout(PATIENCE).unwrap().unwrap();
    }
}

/// A master that is faster than the disk is told, and gets its change back.
#[test]
fn the_queue_has_an_end() {
    let dir = bench_folder();
    let set = open(dir.path());
    let (go, wait) = mpsc::channel::<()>();
    let (begun, started) = mpsc::channel();
    set.with_store(move |_| {
        begun.send(()).unwrap();
        let _ = wait.recv_timeout(PATIENCE);
    });
    started.recv_timeout(PATIENCE).unwrap();
    let mut seq = 0;
    let back = loop {
        seq += 1;
        let reply: Reply = Box::new(|_| {});
        let submission =
            Submission { incoming: change(seq, b"x"), arrival: Stamp(1).into(), reply };
        if let Err(QueueFull(back)) = set.submit(submission) {
            break back;
        }
    };
    assert_eq!(back.incoming.position.seq.0, seq);
    assert_eq!(set.queued().0, QUEUE_CHANGES_MAX);
    go.send(()).unwrap();
}
