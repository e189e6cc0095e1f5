//! What the journal gives when a destination lags, when it is full, lost, or the process ends.

use std::{
    fs,
    os::unix::fs::{FileExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use keepshare_base::{
    ContentHash, Epoch, Event, FileTime, Kind, Meta, Owner, Position, PresentFile, RequestId,
    RestoreGround, RestoreOutcome, Seq, SetPath, VersionId,
};
use keepshare_replication::source::{
    CaptureMode::Inotify, RestoreRequest, Source, SourceAlarm, SourceError,
};

use keepshare_proto::Act;

use super::{
    edits::captures,
    support::{Model, Rig, listing, open},
};

/// An hour offline keeps every save: content goes to the spool, and comes from there after a restart.
#[test]
fn a_lagging_destination_gets_every_save() {
    let mut rig = Rig::with(captures()[0], |_| {}, |config| config.limits.cache_bytes_max = 30_000);
    for i in 0..40u8 {
        saved(&rig, "doc", &vec![i; 5000]);
    }
    assert!(rig.handle.status().spool_bytes > 0 || spool_files(&rig) > 0);
    rig.reopen();
    rig.settle();
    let file = rig.file("doc");
    let versions = rig.versions(file);
    for i in 0..40u8 {
        assert!(versions.contains(&vec![i; 5000]), "save {i} was lost");
    }
    rig.acked();
    rig.wait("the spool to be emptied", |rig| spool_files(rig) == 0);
}

/// A destination that was away gets changes a few at a time, however little content they have: all of them at once would take a
/// master's memory.
#[test]
fn what_is_read_of_the_journal_at_once_has_an_end() {
    let mut rig = Rig::new(captures()[0]);
    rig.begin();
    let target = "x".repeat(4000);
    for link in 0..2000 {
        std::os::unix::fs::symlink(&target, rig.path(&format!("{link}"))).unwrap();
    }
    let soon = std::time::Instant::now() + std::time::Duration::from_secs(60);
    assert!(rig.handle.ask_settled().wait(soon));
    let asked = 1 << 20;
    let entries = rig.handle.entries(rig.at.next(), asked).unwrap();
    let weights = entries.iter().map(|entry| keepshare_proto::weight(&entry.filled) as u64);
    let (bytes, longest) = (weights.clone().sum::<u64>(), weights.max().unwrap());
    assert!(bytes < asked + longest, "{bytes} bytes in {} changes", entries.len());
}

/// What was saved while a destination was away is on disk before the process can be killed: a copy of what it left at any
/// later moment has it.
#[test]
fn what_waits_for_a_destination_survives_a_kill() {
    let mut rig = Rig::new(captures()[0]);
    rig.begin();
    // Within a page, so that none is seen half written: a short rest would go into the change and not to the spool.
    for i in 0..5u8 {
        saved(&rig, "doc", &vec![i; 4000]);
    }
    let file = rig.handle.entries(rig.at.next(), 1 << 20).unwrap()[0].filled.change.files[0].file;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while rig.handle.status().spool_bytes < 20_000 {
        assert!(std::time::Instant::now() < deadline, "{:?}", rig.handle.status());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    // The notes of where it is are written before it is shown.
    let left = copy_state(&rig);
    rig.handle.shutdown();
    fs::write(rig.path("doc"), "and then something else").unwrap();
    open_state(&mut rig, left);
    rig.settle();
    let versions = rig.versions(file);
    for i in 0..5u8 {
        assert!(versions.contains(&vec![i; 4000]), "save {i} was lost");
    }
}

/// What a mirror learnt of the files' content is on disk when it ends: after a kill a page of a large file is still sent as a
/// page, and the first save does not wait for all that to be written.
#[test]
fn what_a_mirror_learnt_survives_a_kill() {
    let mut rig = Rig::with(
        captures()[0],
        |root| fs::write(root.join("large"), vec![1; 6_000_000]).unwrap(),
        |_| {},
    );
    rig.begin();
    let left = copy_state(&rig);
    rig.handle.shutdown();
    patch(&rig.path("large"), 1_000_000, b"changed");
    rig.payload_bytes = 0;
    open_state(&mut rig, left);
    rig.settle();
    assert_eq!(
        rig.model.files[&rig.file("large")].bytes.to_vec()[1_000_000..1_000_007],
        *b"changed"
    );
    assert!(rig.payload_bytes < 100_000, "{} bytes for a page", rig.payload_bytes);
}

/// Returns a copy of what is on disk now: what a kill at this moment leaves.
fn copy_state(rig: &Rig) -> PathBuf {
    let left = rig.dir.path().join("left");
    fs::create_dir(&left).unwrap();
    for entry in walk(&rig.config.state_dir) {
        let to = left.join(entry.strip_prefix(&rig.config.state_dir).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(&entry, to).unwrap();
    }
    left
}

/// Goes on from a copied state.
fn open_state(rig: &mut Rig, state: PathBuf) {
    rig.config.spool_dir = state.join("journal");
    rig.config.state_dir = state;
    rig.handle = open(&rig.config);
}

/// Content that is nowhere any more is withheld, with everything built on it, until the file is sent whole.
#[test]
fn what_cannot_be_given_is_superseded_and_corrected() {
    let configure = |config: &mut keepshare_replication::source::SourceConfig| {
        config.limits.cache_bytes_max = 0;
        config.limits.spool_bytes_max = 0;
    };
    for mode in captures() {
        let mut rig = Rig::with(mode, |_| {}, configure);
        rig.begin();
        let x = vec![b'x'; 300_000];
        let y = vec![b'y'; 300_000];
        // x→y→x: the last state equals one that was sent, and yet it was not.
        for content in [&x, &y, &x, &y, &x] {
            journaled(&rig, || fs::write(rig.path("f"), content).unwrap());
        }
        journaled(&rig, || patch(&rig.path("f"), 5000, b"page"));
        patch(&rig.path("f"), 5000, b"xxxx");
        rig.settle();
        let file = rig.file("f");
        for version in rig.versions(file) {
            let same = version.iter().all(|byte| *byte == version[0]);
            let paged = version.len() == x.len() && &version[5000..5004] == b"page";
            assert!(same || paged, "a version that never was");
        }
        assert_eq!(rig.model.files[&file].bytes.to_vec(), x);
    }
}

/// A process may end anywhere: what it left is compared with the folder, and nothing is lost.
#[test]
fn work_while_nobody_looks_is_found() {
    for mode in captures() {
        let mut rig = Rig::new(mode);
        fs::create_dir(rig.path("d")).unwrap();
        fs::write(rig.path("d/a"), "one").unwrap();
        fs::write(rig.path("large"), vec![1; 6_000_000]).unwrap();
        rig.begin();
        let (d, a) = (rig.file("d"), rig.file("d/a"));
        rig.handle.shutdown();
        fs::rename(rig.path("d"), rig.path("e")).unwrap();
        fs::write(rig.path("e/b"), "new").unwrap();
        patch(&rig.path("large"), 1_000_000, b"changed");
        fs::rename(rig.path("e/a"), rig.path("a")).unwrap();
        rig.handle = open(&rig.config);
        rig.settle();
        assert_eq!((rig.file("e"), rig.file("a")), (d, a));
        assert!(rig.payload_bytes < 10_000, "{} bytes", rig.payload_bytes);
    }
}

#[test]
fn a_full_journal_drops_the_oldest_loudly() {
    let limit = |config: &mut keepshare_replication::source::SourceConfig| {
        config.limits.journal_entries_max = 10;
    };
    let mut rig = Rig::with(captures()[0], |_| {}, limit);
    rig.begin();
    for i in 0..40 {
        journaled(&rig, || fs::write(rig.path(&format!("f{i}")), "x").unwrap());
    }
    let alarmed = |rig: &Rig| {
        let alarms = rig.handle.status().alarms;
        alarms.iter().any(|alarm| matches!(alarm, SourceAlarm::Dropped { .. }))
    };
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !alarmed(&rig) {
        assert!(std::time::Instant::now() < deadline, "{:?}", rig.handle.status());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(matches!(rig.handle.entries(rig.at.next(), 1000), Err(SourceError::Gone(_))));
    let oldest = rig.handle.oldest().unwrap();
    assert!(oldest > rig.at.next());
    assert!(
        rig.handle.running_at(Seq(oldest.0 - 1)).unwrap().is_some(),
        "the place before is known"
    );
    rig.mirror();
    rig.settle();
}

/// A journal that is lost, or comes back from a backup, must not cost a copy of everything.
#[test]
fn a_new_epoch_recopies_nothing_that_is_equal() {
    for mode in captures() {
        let mut rig = Rig::with(
            mode,
            |root| {
                fs::create_dir_all(root.join("a/b")).unwrap();
                for i in 0..50 {
                    fs::write(root.join(format!("a/b/{i}")), vec![i; 10_000]).unwrap();
                }
                fs::write(root.join("large"), vec![3; 1_000_000]).unwrap();
            },
            |_| {},
        );
        fs::write(rig.path("later"), "later").unwrap();
        rig.settle();
        let (b, large) = (rig.file("a/b"), rig.file("large"));
        rig.handle.shutdown();
        fs::remove_file(rig.config.state_dir.join("test.redb")).unwrap();
        fs::write(rig.path("while-lost"), "new").unwrap();
        fs::remove_file(rig.path("a/b/7")).unwrap();
        rig.handle = open(&rig.config);
        let above = Epoch::new(7).unwrap();
        let head = rig.handle.new_epoch(above, Some(listing(&rig.model))).unwrap();
        assert_eq!(head.epoch, Epoch::new(8).unwrap());
        let parts = rig.mirror();
        let bytes: usize = parts.iter().map(|part| part.filled.payload.len()).sum();
        assert_eq!(bytes, 3, "only what is new is sent");
        assert_eq!((rig.file("a/b"), rig.file("large")), (b, large));
        assert!(rig.model.resolve("a/b/7").is_none(), "what is gone is gone there, too");
        rig.settle();
        assert_eq!(rig.file("while-lost").epoch, head.epoch);
    }
}

/// A journal that is put back may begin an epoch that it began before, and one that is lost the first of all. Were their files
/// called by the same numbers, a station that has seen both would refuse the later file, or take it for the earlier one.
#[test]
fn no_file_is_called_what_another_was_in_an_epoch_that_is_begun_twice() {
    let mut rig = Rig::new(captures()[0]);
    rig.begin();
    let copy = copy_state(&rig);
    let born = |rig: &mut Rig, name: &str, epoch: Epoch| {
        fs::write(rig.path(name), name).unwrap();
        (rig.model, rig.at) = (Model::default(), Seq(0));
        rig.mirror();
        rig.settle();
        fs::remove_file(rig.path(name)).unwrap();
        let file = rig.file(name);
        assert_eq!((file.epoch, rig.handle.head().epoch), (epoch, epoch));
        file
    };
    let (first, second) = (Epoch::FIRST, Epoch::FIRST.next());
    rig.handle.new_epoch(first, None).unwrap();
    let one = born(&mut rig, "one", second);
    rig.handle.shutdown();
    open_state(&mut rig, copy);
    rig.handle.new_epoch(first, None).unwrap();
    assert_ne!(born(&mut rig, "other", second), one);
    let mut lost = Vec::new();
    for name in ["a", "b"] {
        rig.handle.shutdown();
        fs::remove_file(rig.config.state_dir.join("test.redb")).unwrap();
        rig.handle = open(&rig.config);
        lost.push(born(&mut rig, name, first));
    }
    assert_ne!(lost[0], lost[1]);
}

/// What a destination lists is its word: ids that are not this origin's, or of an epoch to come, would have every other
/// destination refuse all that the master ever says again.
#[test]
fn a_listing_gives_no_ids_that_a_station_refuses() {
    let mut rig = Rig::with(
        captures()[0],
        |root| ["a", "b", "c"].iter().for_each(|name| fs::write(root.join(name), name).unwrap()),
        |_| {},
    );
    rig.settle();
    let own = super::support::ORIGIN;
    let ids = [
        (b"a", keepshare_base::OriginId(9), Epoch::FIRST),
        (b"b", own, Epoch::new(u64::MAX).unwrap()),
        (b"c", own, Epoch::new(8).unwrap()),
    ];
    let mut lies = keepshare_replication::source::Listing::default();
    for (name, origin, epoch) in ids {
        let file = keepshare_base::FileId { origin, epoch, counter: 1 };
        let name = keepshare_base::Name::new(name).unwrap();
        assert!(lies.push_name(&((keepshare_base::FileId::ROOT, name), (file, Kind::File))));
    }
    let head = rig.handle.new_epoch(Epoch::new(7).unwrap(), Some(lies)).unwrap();
    rig.model = Model::default();
    let parts = rig.mirror();
    let rows = parts.iter().flat_map(|part| {
        assert_eq!(part.filled.change.check(own), Ok(()));
        &part.filled.change.files
    });
    let born: Vec<_> = rows.map(|row| row.file.epoch).collect();
    assert!(born.len() >= 3, "{} files came", born.len());
    assert!(born.into_iter().all(|epoch| epoch <= head.epoch), "not born yet");
}

#[test]
fn a_source_that_vanished_is_an_alarm_and_never_a_delete() {
    for mode in captures() {
        let mut rig = Rig::new(mode);
        fs::write(rig.path("a"), "one").unwrap();
        fs::create_dir(rig.path("d")).unwrap();
        rig.begin();
        let aside = rig.dir.path().join("aside");
        fs::rename(rig.root(), &aside).unwrap();
        // An empty mount point.
        fs::create_dir(rig.root()).unwrap();
        fs::write(aside.join("poke"), "").unwrap();
        rig.handle.rescan();
        rig.wait("the alarm", |rig| {
            let alarms = rig.handle.status().alarms;
            alarms.iter().any(|alarm| matches!(alarm, SourceAlarm::Vanished(_)))
        });
        assert!(rig.model.resolve("a").is_some(), "nothing was deleted");
        let head = rig.handle.head();
        assert!(rig.handle.mirror().is_err());
        assert_eq!(rig.handle.head(), head, "a mirror that cannot begin was journaled");
        fs::remove_dir(rig.root()).unwrap();
        fs::rename(&aside, rig.root()).unwrap();
        rig.settle();
        assert!(rig.model.resolve("poke").is_some());
        assert!(rig.handle.status().alarms.is_empty());
        // A station that missed a removal meanwhile is mirrored.
        let before = rig.model.clone();
        fs::remove_file(rig.path("poke")).unwrap();
        rig.settle();
        rig.model = before;
        assert!(rig.model.resolve("poke").is_some());
        rig.mirror();
        assert!(rig.model.resolve("poke").is_none(), "what is gone is gone there, too");
    }
}

/// A new disk with the same files, put in place on purpose.
#[test]
fn another_folder_is_accepted_when_asked() {
    let mut rig = Rig::new(captures()[0]);
    fs::write(rig.path("a"), "one").unwrap();
    rig.settle();
    let a = rig.file("a");
    fs::rename(rig.root(), rig.dir.path().join("aside")).unwrap();
    fs::create_dir(rig.root()).unwrap();
    fs::write(rig.path("a"), "one").unwrap();
    fs::write(rig.path("b"), "two").unwrap();
    rig.handle.rescan();
    rig.wait("the alarm", |rig| !rig.handle.status().alarms.is_empty());
    rig.handle.accept_root(keepshare_base::Epoch::FIRST).unwrap();
    rig.mirror();
    rig.settle();
    assert_eq!(rig.file("a"), a);
}

#[test]
fn a_restore_is_written_once_and_answered_always() {
    for mode in captures() {
        let mut rig = Rig::new(mode);
        fs::write(rig.path("doc"), "wrong").unwrap();
        fs::hard_link(rig.path("doc"), rig.path("again")).unwrap();
        fs::write(rig.path("other"), "wrong").unwrap();
        rig.begin();
        let content = rig.config.state_dir.join("version");
        fs::write(&content, "right").unwrap();
        let file = rig.file("doc");
        for (path, number) in [("doc", 1u8), ("other", 2), ("gone", 3)] {
            let request = || request(path, number, &content);
            let known = rig.model.resolve(path);
            let first = rig.handle.restore(request()).unwrap();
            assert_eq!(first.outcome, RestoreOutcome::Written);
            assert_eq!(rig.handle.restore(request()).unwrap(), first, "a repeat is answered");
            rig.settle();
            if let Some((known, _)) = known {
                assert_eq!(rig.file(path), known, "it is still the same file");
            }
            let (_, change) =
                rig.changes.iter().find(|(seq, _)| *seq == first.position.seq).unwrap();
            assert_eq!(change.restore.as_ref().unwrap().request, request().request);
            assert!(change.files.iter().any(|row| row.event == Event::Restored && row.cut));
            assert_eq!(change.user.as_deref(), Some("anna"));
            assert_eq!(fs::read(rig.path(path)).unwrap(), b"right");
        }
        assert_eq!(fs::read(rig.path("again")).unwrap(), b"right", "both names are one file");
        let equal = rig.handle.restore(request("doc", 9, &content)).unwrap();
        assert_eq!(equal.outcome, RestoreOutcome::Equal);
        rig.settle();
        assert_eq!(rig.file("doc"), file);
        let refused = rig.handle.restore(request("no/such/folder", 4, &content));
        assert!(matches!(refused, Err(SourceError::Refused(_))));
        rig.reopen();
        let again = rig.handle.restore(request("doc", 9, &content)).unwrap();
        assert_eq!(again, equal, "answered after a restart, too");
    }
}

/// Whoever asked for a restore is answered, whatever becomes of the file meanwhile.
#[test]
fn a_restore_of_what_vanishes_is_answered() {
    for mode in captures() {
        let patience = std::time::Duration::from_millis(100);
        let rig = Rig::with(mode, |_| {}, |config| config.restores.patience = patience);
        let content = rig.config.state_dir.join("version");
        fs::write(&content, "right").unwrap();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let _ = fs::remove_file(rig.path("doc"));
                }
            });
            for number in 0..30 {
                match rig.handle.restore(request("doc", number, &content)) {
                    Ok(_) | Err(SourceError::Refused(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            over.store(true, Ordering::Relaxed);
        });
    }
}

/// What was saved a moment before a restore is a version, or the restore is not done: it could not be undone else.
#[test]
fn a_restore_keeps_what_was_saved_right_before_it() {
    for mode in captures() {
        let mut rig = Rig::new(mode);
        fs::write(rig.path("doc"), "first").unwrap();
        rig.begin();
        let content = rig.config.state_dir.join("version");
        fs::write(&content, "right").unwrap();
        let file = rig.file("doc");
        for number in 0..20u8 {
            let saved = vec![number; 3000];
            fs::write(rig.path("doc"), &saved).unwrap();
            rig.handle.restore(request("doc", number, &content)).unwrap();
            rig.settle();
            assert!(rig.versions(file).contains(&saved), "save {number} was lost");
        }
        assert_eq!(fs::read(rig.path("doc")).unwrap(), b"right");
    }
}

/// A restore was allowed onto one file in one folder, not onto whatever is there when it comes.
#[test]
fn a_restore_onto_something_else_than_was_seen_is_refused() {
    for mode in captures() {
        let mut rig = Rig::new(mode);
        fs::create_dir(rig.path("a")).unwrap();
        fs::create_dir(rig.path("b")).unwrap();
        for name in ["a/doc", "b/doc"] {
            fs::write(rig.path(name), name).unwrap();
        }
        rig.begin();
        let content = rig.config.state_dir.join("version");
        fs::write(&content, "right").unwrap();
        let meta = |rig: &Rig, name: &str| {
            let entries = &rig.model.files[&rig.file(name)];
            entries.meta.clone()
        };
        let present = Some(PresentFile::new(rig.file("a/doc"), &meta(&rig, "a/doc")));
        let ground = RestoreGround { folder: rig.file("a"), present, still: None };
        let mut numbers = 1u8..;
        let mut ask = |rig: &Rig, ground: &RestoreGround| {
            let number = numbers.next().unwrap();
            let request = request("a/doc", number, &content);
            rig.handle.restore(RestoreRequest { ground: Some(ground.clone()), ..request })
        };
        let refused = |asked: Result<_, SourceError>| {
            assert!(matches!(asked, Err(SourceError::Refused(_))), "{asked:?}");
        };
        // Another mode, another file, another folder, nothing: none of them is what was seen.
        fs::set_permissions(rig.path("a/doc"), fs::Permissions::from_mode(0o600)).unwrap();
        refused(ask(&rig, &ground));
        fs::set_permissions(rig.path("a/doc"), fs::Permissions::from_mode(0o644)).unwrap();
        fs::rename(rig.path("b/doc"), rig.path("a/other")).unwrap();
        fs::rename(rig.path("a/doc"), rig.path("b/doc")).unwrap();
        refused(ask(&rig, &ground));
        fs::rename(rig.path("a/other"), rig.path("a/doc")).unwrap();
        refused(ask(&rig, &ground));
        fs::rename(rig.path("a"), rig.path("c")).unwrap();
        fs::rename(rig.path("b"), rig.path("a")).unwrap();
        refused(ask(&rig, &ground));
        rig.settle();
        assert_eq!(fs::read(rig.path("a/doc")).unwrap(), b"a/doc");
        assert_eq!(fs::read(rig.path("c/doc")).unwrap(), b"b/doc");
        let present = Some(PresentFile::new(rig.file("a/doc"), &meta(&rig, "a/doc")));
        let ground = RestoreGround { folder: rig.file("a"), present, still: None };
        assert!(ask(&rig, &ground).is_ok());
        assert_eq!(fs::read(rig.path("a/doc")).unwrap(), b"right");
    }
}

/// A name that looks like one of ours is a user's all the same.
#[test]
fn a_users_file_with_a_name_like_ours_is_kept() {
    for mode in captures() {
        let mut rig = Rig::new(mode);
        let name = ".keepshare-restore~0123456789abcdef";
        fs::write(rig.path(name), "mine").unwrap();
        rig.begin();
        rig.reopen();
        rig.settle();
        assert_eq!(fs::read(rig.path(name)).unwrap(), b"mine");
        assert!(rig.model.resolve(name).is_some(), "it is replicated");
    }
}

#[test]
fn a_source_around_the_state_is_refused() {
    let rig = Rig::new(Inotify);
    let mut config = rig.config.clone();
    config.root = rig.dir.path().to_owned();
    let database = redb::Builder::new().create(rig.dir.path().join("other.redb")).unwrap();
    let refused = Source::open(config, database);
    assert!(matches!(refused, Err(SourceError::Root { .. })));
}

/// A first mirror that was cut off, or whose listing is old, only sends what is missing.
#[test]
fn an_interrupted_mirror_begins_anew_and_cheaply() {
    let prepare = |root: &Path| {
        for i in 0..200 {
            fs::create_dir_all(root.join(format!("d{}", i % 7))).unwrap();
            fs::write(root.join(format!("d{}/{i}", i % 7)), vec![b'x'; 20_000]).unwrap();
        }
    };
    let mut rig = Rig::with(captures()[0], prepare, |_| {});
    rig.model = Model::default();
    let parts = rig.mirror();
    let whole = parts.iter().map(|part| part.filled.payload.len()).sum::<usize>();
    assert!(parts.len() > 2, "there is something to interrupt");
    rig.model = Model { keep_versions: true, ..Model::default() };
    rig.model.apply(&parts[0].filled, true);
    let parts = rig.mirror();
    let rest = parts.iter().map(|part| part.filled.payload.len()).sum::<usize>();
    assert!(rest < whole, "{rest} of {whole}");
    // Names that moved, files that became folders: everything the listing has wrong is put right.
    rig.settle();
    let before = listing(&rig.model);
    fs::remove_dir_all(rig.path("d0")).unwrap();
    fs::write(rig.path("d0"), "now a file").unwrap();
    fs::rename(rig.path("d1"), rig.path("d2/inner")).unwrap();
    fs::rename(rig.path("d3"), rig.path("d1")).unwrap();
    let behind = std::mem::take(&mut rig.model);
    rig.model = Model { keep_versions: true, ..Model::default() };
    wait_quiet(&rig);
    rig.model = behind;
    assert_eq!(before.counts().0, rig.model.names.len());
    rig.mirror();
    rig.settle();
    assert!(matches!(rig.model.resolve("d2/inner"), Some((_, Kind::Dir))));
}

pub(crate) fn request(path: &str, number: u8, content: &Path) -> RestoreRequest {
    RestoreRequest {
        request: RequestId([number; 32]),
        version: VersionId(Position {
            origin: super::support::ORIGIN,
            epoch: Epoch::FIRST,
            seq: Seq(1),
        }),
        user: Some("anna".to_owned()),
        path: SetPath::parse(path.as_bytes()).unwrap(),
        meta: Meta {
            kind: Kind::File,
            size: 5,
            mode: 0o640,
            owner: Owner { id: rustix::process::geteuid().as_raw(), name: String::new() },
            group: Owner { id: rustix::process::getegid().as_raw(), name: String::new() },
            mtime: FileTime { secs: 1_600_000_000, nanos: 5 },
            symlink: vec![],
            rdev: 0,
            xattrs: vec![],
        },
        content: content.to_owned(),
        ground: None,
        act: Act::Write,
    }
}

fn patch(path: &Path, offset: u64, bytes: &[u8]) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, offset).unwrap();
}

/// Does something, and waits until it is journaled.
fn journaled(rig: &Rig, work: impl FnOnce()) {
    let before = rig.handle.head().seq;
    work();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while rig.handle.head().seq <= before || rig.handle.status().dirty > 0 {
        assert!(std::time::Instant::now() < deadline, "{:?}", rig.handle.status());
        std::thread::sleep(std::time::Duration::from_micros(200));
    }
}

/// Saves a file, and waits until the save is a version.
fn saved(rig: &Rig, path: &str, content: &[u8]) {
    let before = rig.handle.head().seq;
    fs::write(rig.path(path), content).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let is_cut = |rig: &Rig| {
        let entries = rig.handle.entries(before.next(), 1 << 30).unwrap();
        let hash = Some(ContentHash::of(content));
        let changes = entries.iter().map(|entry| &entry.filled.change);
        let mut rest =
            changes.skip_while(|c| c.files.iter().all(|row| row.hash != hash)).peekable();
        // The folder that the file is in is cut in such changes, too.
        let file = rest
            .peek()
            .and_then(|c| c.files.iter().find(|row| row.hash == hash))
            .map(|row| row.file);
        rest.any(|c| {
            c.cuts.iter().any(|cut| Some(*cut) == file)
                || c.files.iter().any(|row| row.cut && Some(row.file) == file)
        })
    };
    while !is_cut(rig) {
        assert!(std::time::Instant::now() < deadline, "{:?}", rig.handle.status());
        std::thread::sleep(std::time::Duration::from_micros(500));
    }
}

fn wait_quiet(rig: &Rig) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let mut quiet_since = std::time::Instant::now();
    while quiet_since.elapsed() < std::time::Duration::from_millis(100) {
        assert!(std::time::Instant::now() < deadline, "{:?}", rig.handle.status());
        if rig.handle.status().dirty > 0 {
            quiet_since = std::time::Instant::now();
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

fn spool_files(rig: &Rig) -> usize {
    fs::read_dir(&rig.config.spool_dir).unwrap().count()
}

/// The state folder was put back from an older backup: what is new has a number that no file had before, or two histories
/// would become one.
#[test]
fn a_journal_that_was_put_back_gives_no_number_twice() {
    let mut rig = Rig::new(Inotify);
    fs::write(rig.path("a"), "a").unwrap();
    rig.settle();
    rig.handle.shutdown();
    let (journal, copy) = (rig.config.state_dir.join("test.redb"), rig.dir.path().join("copy"));
    fs::copy(&journal, &copy).unwrap();
    let mut known = Vec::new();
    for name in ["b", "c"] {
        fs::copy(&copy, &journal).unwrap();
        fs::write(rig.path(name), name).unwrap();
        rig.reopen();
        rig.model = Model::default();
        rig.mirror();
        rig.settle();
        known.push(rig.file(name));
        rig.handle.shutdown();
        fs::remove_file(rig.path(name)).unwrap();
    }
    assert_ne!(known[0], known[1]);
}
