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

/// A set in place writes no tree; should its copy need one some day, that is filled with all that came before.
#[test]
fn what_is_durable_in_place_is_live_and_a_tree_can_follow_later() {
    let dir = bench_folder();
    let in_place = || {
        SetStore::open(dir.path(), SetOptions { live: LivePlace::InPlace, ..SetOptions::default() })
    };
    let set = in_place().unwrap();
    let commit = submit(&set, change(1, b"first")).recv_timeout(PATIENCE).unwrap().unwrap();
    let status = set.status();
    assert_eq!((status.live, status.live_synced), (commit, commit));
    let (told, dropped) = mpsc::channel::<()>();
    set.with_live(move |_, _| drop(told));
    assert!(dropped.recv_timeout(PATIENCE).is_err(), "there is no tree to work on");
    set.tick(Stamp(2_000_000));
    set.close();
    let set = in_place().unwrap();
    assert_eq!(set.status().live, commit);
    set.close();
    assert!(!dir.path().join("live").exists());

    let set = open(dir.path());
    wait_for(&set, |status| status.live >= commit && status.live_failed.is_none());
    assert_eq!(fs::read(dir.path().join("live/file")).unwrap(), b"first");
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
        live: LivePlace::Dirs(LiveDirs {
            live: dir.path().join("live"),
            stage: dir.path().join("stage"),
        }),
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

/// Whatever became of the live folder: what is kept can be read, why is told, and it goes on when that is mended.
#[test]
fn history_is_read_whatever_the_live_tree_is() {
    let dir = bench_folder();
    let set = open(dir.path());
    let commit = submit(&set, change(1, b"first")).recv_timeout(PATIENCE).unwrap().unwrap();
    wait_for(&set, |status| status.live >= commit);
    set.close();
    let live = dir.path().join("live");
    fs::rename(&live, dir.path().join("away")).unwrap();
    fs::write(&live, "no folder").unwrap();

    let set = open(dir.path());
    assert!(set.status().live_failed.is_some());
    let view = set.reader().view().unwrap();
    let name = Name::new(b"file").unwrap();
    let (file, _) = view.lookup(FileId::ROOT, &name, CommitId::MAX).unwrap().unwrap();
    let state = view.file(file, CommitId::MAX).unwrap().unwrap();
    assert_eq!(set.reader().read(&state, 0, 10).unwrap(), b"first");
    // Changes are taken, too, and who asks for the tree hears that there is none.
    let commit = submit(&set, change(2, b"second")).recv_timeout(PATIENCE).unwrap().unwrap();
    let (ask, asked) = mpsc::channel::<()>();
    set.with_live(move |_, _| {
        let _ = ask.send(());
    });
    set.tick(Stamp(2_000_000));
    assert!(asked.recv_timeout(PATIENCE).is_err());
    fs::remove_file(&live).unwrap();
    set.tick(Stamp(3_000_000));
    let status = wait_for(&set, |status| status.live >= commit);
    assert_eq!(status.live_failed, None);
    assert_eq!(fs::read(live.join("file")).unwrap(), b"second");
}

/// The live folder is held open, and that goes on working wherever somebody moves it: who looks where it should be must
/// not be told that everything is there.
#[test]
fn a_live_folder_that_is_moved_away_shows_nothing_until_it_is_back() {
    let dir = bench_folder();
    let set = open(dir.path());
    let (live, away) = (dir.path().join("live"), dir.path().join("away"));
    let mut now = Stamp(1_000_000);
    let mut tick = |set: &SetStore| {
        now = now.plus_micros(1_000_000);
        set.tick(now);
    };
    let mut commit = submit(&set, change(1, b"1")).recv_timeout(PATIENCE).unwrap().unwrap();
    // What is in its place: nothing, an empty folder, a file, a way to where it went.
    for place in 0..4_u8 {
        wait_for(&set, |status| status.live >= commit && status.live_failed.is_none());
        fs::rename(&live, &away).unwrap();
        match place {
            0 => {}
            1 => fs::create_dir(&live).unwrap(),
            2 => fs::write(&live, "no folder").unwrap(),
            _ => std::os::unix::fs::symlink(&away, &live).unwrap(),
        }
        // A comparison says so at once, the status when it is looked after.
        let compare = || {
            let (answer, answered) = mpsc::channel();
            set.with_live(move |tree, reader| {
                answer.send(tree.check(reader, true).map_err(|error| chain(&error))).unwrap();
            });
            answered.recv_timeout(PATIENCE).unwrap()
        };
        assert!(compare().unwrap_err().contains(live.to_str().unwrap()));
        tick(&set);
        let status = wait_for(&set, |status| status.live_failed.is_some());
        assert_eq!(status.live, CommitId(0));
        assert!(status.live_failed.unwrap().contains(live.to_str().unwrap()));

        // Changes are kept, and not shown where nobody looks.
        let before = fs::read(away.join("file")).unwrap();
        let bytes = [b'2' + place];
        let answers = submit(&set, change(2 + u64::from(place), &bytes));
        commit = answers.recv_timeout(PATIENCE).unwrap().unwrap();
        tick(&set);
        assert!(compare().is_err());
        assert_eq!(set.status().live, CommitId(0));
        assert_eq!(fs::read(away.join("file")).unwrap(), before);

        match place {
            0 => {}
            1 => fs::remove_dir(&live).unwrap(),
            _ => fs::remove_file(&live).unwrap(),
        }
        fs::rename(&away, &live).unwrap();
        tick(&set);
        wait_for(&set, |status| status.live >= commit && status.live_failed.is_none());
        assert_eq!(fs::read(live.join("file")).unwrap(), bytes);
        assert!(compare().unwrap().differences.is_empty());
    }

    // It is gone for good: the next start builds it again.
    fs::remove_dir_all(&live).unwrap();
    tick(&set);
    wait_for(&set, |status| status.live_failed.is_some());
    set.close();
    let set = open(dir.path());
    wait_for(&set, |status| status.live >= commit && status.live_failed.is_none());
    assert_eq!(fs::read(live.join("file")).unwrap(), b"5");
}

/// A stop waits for no disk that is busy with other things, and what was shown is shown again at once.
#[test]
fn a_stop_waits_for_no_sync_of_the_live_tree() {
    let dir = bench_folder();
    let (begun, started) = mpsc::channel();
    let begun = Mutex::new(begun);
    // A sync that never ends by itself.
    let sync: SyncTree = Arc::new(move |_, leaving| {
        let _ = begun.lock().unwrap().send(());
        while !leaving.load(std::sync::atomic::Ordering::Relaxed) {
            std::thread::yield_now();
        }
        Err(io::ErrorKind::Interrupted.into())
    });
    let options = SetOptions { sync: Some(sync), ..SetOptions::default() };
    let set = SetStore::open(dir.path(), options).unwrap();
    let commit = submit(&set, change(1, b"first")).recv_timeout(PATIENCE).unwrap().unwrap();
    wait_for(&set, |status| status.live >= commit);
    set.tick(Stamp(2_000_000));
    started.recv_timeout(PATIENCE).unwrap();
    set.close();
    let set = open(dir.path());
    assert_eq!((set.status().live, set.status().live_synced), (commit, CommitId(0)));
    let commit = submit(&set, change(2, b"second")).recv_timeout(PATIENCE).unwrap().unwrap();
    wait_for(&set, |status| status.live >= commit);
    set.tick(Stamp(4_000_000));
    wait_for(&set, |status| status.live_synced >= commit);
}

/// One error of the disk, and a disk that was full, are gone on with by index and live tree without a restart.
#[test]
fn index_and_live_tree_go_on_after_the_disk_failed() {
    let (disk, dir) = (SimDisk::new(), bench_folder());
    let options = SetOptions {
        live: LivePlace::Dirs(LiveDirs {
            live: dir.path().join("live"),
            stage: dir.path().join("stage"),
        }),
        ..SetOptions::default()
    };
    let set = SetStore::open_on(Arc::new(disk.clone()), dir.path(), options).unwrap();
    let mut now = 1;
    let mut tick = |set: &SetStore| {
        now += 1_000_000;
        set.tick(Stamp(now));
    };
    for seq in 1..=6_u8 {
        if seq == 4 {
            disk.set_capacity(Some(disk.used_bytes()));
        }
        let answers = submit(&set, change(u64::from(seq), &[seq; 3000]));
        if seq == 4 {
            wait_for(&set, |status| status.full);
            disk.set_capacity(None);
            tick(&set);
        }
        let commit = answers.recv_timeout(PATIENCE).unwrap().unwrap();
        wait_for(&set, |status| status.live >= commit);
        if seq == 2 || seq == 3 {
            // Both the index and the records may be what is synced next.
            (1..=2).for_each(|n| disk.fail_sync(disk.syncs() + n));
        }
        let began = std::time::Instant::now();
        while set.status().live_synced < commit || set.status().full {
            assert!(began.elapsed() < PATIENCE, "change {seq}: {:?}", set.status());
            tick(&set);
            std::thread::sleep(Duration::from_millis(5));
        }
        let status = set.status();
        assert_eq!((status.poisoned, status.failing, status.live_failed), (None, None, None));
        assert_eq!(fs::read(dir.path().join("live/file")).unwrap(), [seq; 3000]);
    }
}

/// A log that is never written anew grows for ever: also a set that has no pause at all finds time for it.
#[test]
fn a_set_without_a_pause_writes_its_log_anew() {
    let (disk, dir) = (SimDisk::new(), bench_folder());
    let options = SetOptions {
        store: StoreOptions { reserve_bytes: 0, log_bytes_min: 4096, ..StoreOptions::default() },
        live: LivePlace::Dirs(LiveDirs {
            live: dir.path().join("live"),
            stage: dir.path().join("stage"),
        }),
        ..SetOptions::default()
    };
    let set = SetStore::open_on(Arc::new(disk.clone()), dir.path(), options).unwrap();
    let (send, answers) = mpsc::channel();
    let generation = || disk.list("log").unwrap();
    let first = generation();
    let mut sent = 0;
    // The queue is full from the beginning, and what is answered is replaced at once.
    while generation() == first {
        while sent < 100_000 && set.queued().0 < QUEUE_CHANGES_MAX {
            sent += 1;
            let send = send.clone();
            let reply: Reply = Box::new(move |answer| send.send(answer.is_ok()).unwrap_or(()));
            let submission =
                Submission { incoming: change(sent, b"x"), arrival: Stamp(1).into(), reply };
            assert!(set.submit(submission).is_ok());
        }
        assert!(answers.recv_timeout(PATIENCE).unwrap());
        assert!(set.queued().0 > 0 || sent < 100_000, "it had no pause and the log is {first:?}");
        set.tick(Stamp(i64::try_from(sent).unwrap() * 1000));
    }
    assert!(sent < 100_000);
}

/// Whether a state was open for ten seconds is told by how long the machine was up: a clock that is set must neither make
/// a version of every save, nor put versions off until it has caught up.
#[test]
fn a_clock_that_is_set_cuts_nothing_and_puts_no_version_off() {
    const HOUR: i64 = 3_600_000_000;
    let dir = bench_folder();
    let set = open(dir.path());
    let at = |clock: i64, up_seconds: u64| Arrival {
        clock: Stamp(1_000 * HOUR + clock),
        up_micros: Some(up_seconds * 1_000_000),
        sent: None,
    };
    let mut open_state = change(1, b"typed");
    open_state.filled.change.files[0].cut = false;
    let (answer, answered) = mpsc::channel();
    let reply: Reply = Box::new(move |kept| drop(answer.send(kept)));
    set.submit(Submission { incoming: open_state, arrival: at(0, 100), reply }).unwrap();
    let commit = answered.recv_timeout(PATIENCE).unwrap().unwrap();
    set.tick(at(HOUR, 101));
    // The first may be done together with the tick and before what that brings, the second is done after it.
    for _ in 0..2 {
        let (say, said) = mpsc::channel();
        set.with_store(move |store| say.send(store.latest()).unwrap());
        assert_eq!(said.recv_timeout(PATIENCE).unwrap(), commit, "it was open for a second");
    }
    set.tick(at(-HOUR, 111));
    wait_for(&set, |status| status.durable > commit);
}
