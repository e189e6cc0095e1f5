//! What travels of a file's content.

use std::{
    collections::HashMap,
    fs,
    io::Write,
    os::unix::fs::FileExt,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use keepshare_replication::source::CaptureMode::Scan;

use super::{edits::captures, support::Rig};

pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    use rand::{RngCore, SeedableRng};
    let mut bytes = vec![0; len];
    rand::rngs::StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

pub(crate) fn patch(path: &std::path::Path, offset: u64, bytes: &[u8]) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, offset).unwrap();
}

#[test]
fn one_page_of_a_large_file_costs_one_page() {
    for mode in captures() {
        let mut rig = Rig::with(
            mode,
            |root| fs::write(root.join("db"), noise(20_000_000, 1)).unwrap(),
            |_| {},
        );
        rig.begin();
        patch(&rig.path("db"), 5_000_000, b"changed");
        rig.settle();
        assert_eq!(rig.payload_bytes, 4096, "{mode:?}");
        rig.wait("a version", |rig| !rig.model.versions.last().unwrap().bytes.to_vec().is_empty());
    }
}

/// Small files that are edited all the time must not travel whole each time.
#[test]
fn a_small_edit_of_a_small_file_costs_little() {
    for mode in captures() {
        let grow = |root: &std::path::Path| fs::write(root.join("mirrored"), noise(7000, 5));
        let mut rig = Rig::with(mode, |root| grow(root).unwrap(), |_| {});
        fs::write(rig.path("born"), noise(60_000, 6)).unwrap();
        rig.settle();
        for (name, most) in [("mirrored", 64), ("born", 512)] {
            rig.begin();
            patch(&rig.path(name), 1000, b"!");
            rig.settle();
            assert!((1..=most).contains(&rig.payload_bytes), "{name}: {}", rig.payload_bytes);
        }
        // The next one builds on the one before, after a restart too.
        rig.reopen();
        rig.settle();
        rig.begin();
        patch(&rig.path("mirrored"), 6999, b"the end");
        rig.settle();
        assert!((1..=128).contains(&rig.payload_bytes), "{}", rig.payload_bytes);
    }
}

#[test]
fn a_small_file_that_becomes_large_and_small_again_is_followed() {
    for mode in captures() {
        let mut rig = Rig::new(mode);
        fs::write(rig.path("f"), noise(3000, 7)).unwrap();
        rig.settle();
        for (size, seed) in
            [(65_536, 8), (65_537, 9), (2_000_000, 10), (65_000, 11), (64, 12), (5000, 13)]
        {
            let file = fs::OpenOptions::new().write(true).open(rig.path("f")).unwrap();
            file.set_len(size).unwrap();
            file.write_all_at(&noise(50, seed), size - 60).unwrap();
            drop(file);
            rig.settle();
        }
        rig.begin();
        patch(&rig.path("f"), 0, &[0; 64]);
        rig.settle();
        assert_eq!(rig.payload_bytes, 0, "zeros are only named");
    }
}

/// Ten gigabytes of nothing are neither read nor sent nor hashed page by page.
#[test]
fn a_sparse_file_costs_what_it_holds() {
    for mode in captures() {
        let mut rig = Rig::new(mode);
        rig.model.keep_versions = false;
        let file = fs::File::create(rig.path("disk")).unwrap();
        file.set_len(10 << 30).unwrap();
        file.write_all_at(&noise(8192, 2), 3 << 30).unwrap();
        drop(file);
        rig.wait("the file", |rig| rig.model.resolve("disk").is_some());
        rig.settle();
        assert!(rig.payload_bytes <= 8192, "{} bytes for two pages", rig.payload_bytes);
        rig.begin();
        patch(&rig.path("disk"), (7 << 30) + 100, b"page");
        rig.settle();
        assert_eq!(rig.payload_bytes, 4096, "{mode:?}");
        rig.begin();
        let file = fs::OpenOptions::new().write(true).open(rig.path("disk")).unwrap();
        file.set_len(4 << 30).unwrap();
        drop(file);
        rig.settle();
        assert_eq!(rig.payload_bytes, 0, "cutting off sends nothing");
    }
}

/// Whoever may write to the source can make a file as long as its file system lets it be, and it costs them nothing. A station
/// refuses what is longer than any file of a set, with all that comes after it.
#[test]
fn a_file_too_long_for_a_set_stops_nothing_else() {
    let mut rig = Rig::new(captures()[0]);
    fs::write(rig.path("grows"), "a state").unwrap();
    rig.begin();
    let file = fs::File::create(rig.path("endless")).unwrap();
    if file.set_len(5 << 50).is_err() {
        println!("skipped: no file system here holds a file of 5 PiB");
        return;
    }
    let grows = fs::OpenOptions::new().write(true).open(rig.path("grows")).unwrap();
    grows.set_len(5 << 50).unwrap();
    fs::write(rig.path("after"), "and this").unwrap();
    rig.wait("the other file", |rig| rig.model.resolve("after").is_some());
    rig.wait("the problems", |rig| rig.handle.status().problem_count == 2);
    assert!(rig.model.resolve("endless").is_none());
    assert!(rig.model.resolve("grows").is_some(), "its last state stays");
    for (seq, change) in &rig.changes {
        assert_eq!(change.check(super::support::ORIGIN), Ok(()), "change {seq} stops the set");
    }
    fs::remove_file(rig.path("endless")).unwrap();
    grows.set_len(7).unwrap();
    rig.wait("no problem", |rig| rig.handle.status().problem_count == 0);
    rig.settle();
}

#[test]
fn a_large_new_file_gets_its_name_when_it_is_whole() {
    for mode in captures() {
        let mut rig = Rig::new(mode);
        let bytes = noise(9_000_000, 3);
        let outside = rig.dir.path().join("film");
        fs::write(&outside, &bytes).unwrap();
        fs::rename(&outside, rig.path("film")).unwrap();
        rig.wait("its name", |rig| rig.changes.iter().any(|(_, c)| !c.names.is_empty()));
        rig.settle();
        let (seq, _) = rig.changes.iter().find(|(_, c)| !c.names.is_empty()).unwrap();
        let last_part = rig.changes.iter().rfind(|(_, c)| c.payload_len() > 0).unwrap();
        assert!(*seq >= last_part.0, "the name came before the content");
        let file = rig.file("film");
        rig.wait("a version", |rig| !rig.versions(file).is_empty());
        assert_eq!(rig.versions(file).last().unwrap(), &bytes);
    }
}

#[test]
fn growing_shrinking_and_holes_are_followed() {
    for mode in captures() {
        let mut rig = Rig::new(mode);
        fs::write(rig.path("f"), noise(2_500_000, 4)).unwrap();
        rig.begin();
        for _ in 0..10 {
            // Again and again: what matters is how far a shrink is when a pass over the file ends.
            let file = fs::OpenOptions::new().write(true).open(rig.path("f")).unwrap();
            for size in [1_000_001, 5_000_000, 70_000, 10, 0, 3_000_000] {
                file.set_len(size).unwrap();
                file.write_all_at(&noise(5000, size), size / 2).unwrap();
                rig.handle.head();
            }
            drop(file);
            rig.settle();
        }
        let file = fs::OpenOptions::new().write(true).open(rig.path("f")).unwrap();
        let mode_bits =
            rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        if rustix::fs::fallocate(&file, mode_bits, 1_400_000, 200_000).is_ok() {
            drop(file);
            rig.settle();
        }
    }
}

/// Who writes beside and renames over never shows half a file; nor may a station.
#[test]
fn a_name_comes_with_the_content_that_was_written_for_it() {
    const LEN: usize = 3_000_000;
    for mode in captures() {
        let mut rig = Rig::new(mode);
        rig.model.keep_versions = false;
        fs::write(rig.path("doc"), noise(LEN, 0)).unwrap();
        rig.begin();
        for round in 1..=20 {
            let mut file = fs::File::create(rig.path("new")).unwrap();
            for piece in noise(LEN, round).chunks(LEN / 10) {
                file.write_all(piece).unwrap();
                // It is looked at in the middle, and takes long enough to read to be left alone then.
                rig.catch_up();
                std::thread::sleep(Duration::from_millis(5));
            }
            drop(file);
            fs::rename(rig.path("new"), rig.path("doc")).unwrap();
        }
        rig.settle();
        let (mut sizes, mut taken) = (HashMap::new(), 0);
        for (_, change) in &rig.changes {
            sizes.extend(change.files.iter().map(|row| (row.file, row.meta.size)));
            for row in change.names.iter().filter(|row| row.name.as_bytes() == b"doc") {
                let Some((file, _)) = row.target else { continue };
                assert_eq!(sizes.get(&file), Some(&(LEN as u64)), "{mode:?}: {change:?}");
                taken += 1;
            }
        }
        assert!(taken > 0);
    }
}

/// Who renames over and over never takes the name away; nor may a station.
#[test]
fn a_name_that_is_renamed_over_without_a_pause_is_never_gone() {
    for mode in captures() {
        let mut rig = Rig::new(mode);
        rig.model.keep_versions = false;
        fs::write(rig.path("doc"), noise(300_000, 0)).unwrap();
        rig.begin();
        for round in 1..=300 {
            let new = rig.path(&format!("new-{round}"));
            fs::write(&new, noise(300_000, round)).unwrap();
            fs::rename(new, rig.path("doc")).unwrap();
        }
        rig.settle();
        let names = rig.changes.iter().flat_map(|(_, change)| &change.names);
        let targets: Vec<_> = names.filter(|row| row.name.as_bytes() == b"doc").collect();
        assert!(!targets.is_empty());
        let gone = targets.iter().filter(|row| row.target.is_none()).count();
        assert_eq!(gone, 0, "{mode:?}: of {}", targets.len());
    }
}

/// A station may keep what a part leaves: it must not call that a state of the file.
#[test]
fn a_part_of_a_content_is_not_told_as_a_state_of_one_moment() {
    for mode in captures() {
        let mut rig = Rig::new(mode);
        fs::write(rig.path("doc"), noise(3_900_000, 0)).unwrap();
        rig.begin();
        fs::write(rig.path("doc"), noise(3_900_000, 1)).unwrap();
        let file = rig.file("doc");
        rig.wait("a version", |rig| rig.versions(file).len() == 2);
        rig.settle();
        let rows: Vec<_> = rig.changes.iter().flat_map(|(_, change)| &change.files).collect();
        let rows: Vec<_> = rows.into_iter().filter(|row| row.file == file).collect();
        assert!(rows.len() > 1, "it came in one part");
        for row in &rows {
            assert_eq!(row.fuzzy, row.hash.is_none(), "{mode:?}: {row:?}");
        }
        assert!(rows.last().is_some_and(|row| !row.fuzzy), "{mode:?}: the last is the file");
    }
}

/// A file that never stops changing is shipped all the same, never as a state that it did not claim to be.
#[test]
fn a_file_that_never_rests_still_travels() {
    for mode in captures() {
        let mut rig = Rig::new(mode);
        rig.model.keep_versions = false;
        fs::write(rig.path("busy"), vec![0; 2_000_000]).unwrap();
        rig.begin();
        let stop = AtomicBool::new(false);
        let path = rig.path("busy");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
                let mut n: u64 = 0;
                while !stop.load(Ordering::Relaxed) {
                    n += 1;
                    let at = n.wrapping_mul(7919) % 2_000_000;
                    file.write_all_at(&n.to_le_bytes(), at).unwrap();
                }
            });
            rig.wait("some of it", |rig| rig.changes.len() > 20);
            rig.wait("a version while busy", |rig| {
                rig.changes.iter().any(|(_, c)| !c.cuts.is_empty() || c.files.iter().any(|f| f.cut))
            });
            stop.store(true, Ordering::Relaxed);
        });
        rig.settle();
    }
}

/// Stores through a memory map raise no event at all.
#[test]
fn a_scan_finds_what_no_event_told() {
    let mut rig = Rig::new(Scan);
    fs::write(rig.path("a"), "one").unwrap();
    fs::create_dir(rig.path("d")).unwrap();
    fs::write(rig.path("d/large"), noise(500_000, 5)).unwrap();
    rig.handle.rescan();
    rig.settle();
    let (a, d) = (rig.file("a"), rig.file("d"));
    rig.begin();
    // Moved while nobody looked: still the same files.
    fs::rename(rig.path("d"), rig.path("e")).unwrap();
    fs::rename(rig.path("a"), rig.path("e/a")).unwrap();
    patch(&rig.path("e/large"), 100_000, b"changed");
    rig.handle.rescan();
    rig.settle();
    assert_eq!((rig.file("e/a"), rig.file("e")), (a, d));
    assert_eq!(rig.payload_bytes, 4096);
    let (_, names) =
        rig.changes.iter().map(|(s, c)| (s, c.names.len())).max_by_key(|n| n.1).unwrap();
    assert!(names >= 2, "a move is one change");
    fs::remove_dir_all(rig.path("e")).unwrap();
    rig.handle.rescan();
    rig.settle();
}

/// Moved while nobody looked, each into a folder that is new, while another took its name: a scan meets the others first, and
/// finds them when it comes to that folder. They are the files that they were, also those that are read in steps.
#[test]
fn a_scan_knows_files_again_whose_names_others_have_taken() {
    let mut rig = Rig::new(Scan);
    for (name, len) in [("a", 1000), ("b", 2000), ("large", 5 << 20), ("other", 6 << 20)] {
        fs::write(rig.path(name), noise(len, len as u64)).unwrap();
    }
    if fs::metadata(rig.path("a")).unwrap().created().is_err() {
        return; // A number alone says nothing.
    }
    fs::create_dir(rig.path("d")).unwrap();
    fs::write(rig.path("d/in"), "one").unwrap();
    rig.handle.rescan();
    rig.settle();
    let known = ["a", "b", "large", "other", "d", "d/in"].map(|path| rig.file(path));
    fs::create_dir(rig.path("new")).unwrap();
    for name in ["a", "large", "d"] {
        fs::rename(rig.path(name), rig.path("new").join(name)).unwrap();
    }
    fs::rename(rig.path("b"), rig.path("a")).unwrap();
    fs::rename(rig.path("other"), rig.path("large")).unwrap();
    fs::create_dir(rig.path("d")).unwrap();
    rig.handle.rescan();
    rig.settle();
    let now = ["new/a", "a", "new/large", "large", "new/d", "new/d/in"].map(|path| rig.file(path));
    assert_eq!(now, known);
}

/// Files whose names are taken while they are read in steps, and that are found again before that has ended: each is read from its
/// beginning, once, and nobody is shown half of two readings.
#[test]
fn a_file_that_is_found_again_while_it_is_read_is_whole() {
    for mode in captures() {
        let mut rig = Rig::new(mode);
        let others = ["one", "two", "three", "four"];
        for (seed, name) in (0..).zip(others.into_iter().chain(["large"])) {
            fs::write(rig.path(name), noise(5 << 20, seed)).unwrap();
        }
        rig.settle();
        for (seed, other) in (10..).zip(others) {
            fs::write(rig.path("large"), noise(6 << 20, seed)).unwrap();
            let folder = rig.path(&format!("with {other}"));
            fs::create_dir(&folder).unwrap();
            fs::rename(rig.path("large"), folder.join("large")).unwrap();
            fs::rename(rig.path(other), rig.path("large")).unwrap();
        }
        rig.settle();
    }
}

/// Where nobody tells of anything, everything is found by the scans that come by themselves.
#[test]
fn a_scan_comes_when_it_is_time() {
    let every = Duration::from_millis(500);
    let mut rig = Rig::with(Scan, |_| {}, |config| config.rescan_every = every);
    fs::write(rig.path("a"), "one").unwrap();
    rig.settle();
    patch(&rig.path("a"), 0, b"two");
    rig.settle();
    fs::remove_file(rig.path("a")).unwrap();
    rig.settle();
}

/// Neither a store through a map nor the end of a long write leaves a time: what was read before it looks unchanged, and
/// only the events that follow tell that it is not.
#[test]
#[expect(unsafe_code, reason = "a shared map is what this is about")]
fn what_leaves_no_time_is_found_when_it_is_closed() {
    use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
    for mode in captures() {
        let mut rig = Rig::new(mode);
        fs::write(rig.path("f"), vec![b'a'; 100_000]).unwrap();
        rig.begin();
        let file = fs::OpenOptions::new().read(true).write(true).open(rig.path("f")).unwrap();
        let (all, shared) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a map of its own, of a file that stays as long as it is; unmapped below.
        let map = unsafe { mmap(std::ptr::null_mut(), 100_000, all, shared, &file, 0) }.unwrap();
        // The journal's hashes say what it knows of the file.
        // SAFETY: within the map.
        unsafe { map.cast::<u8>().write(b'b') };
        let now = fs::metadata(rig.path("f")).unwrap();
        rig.handle.rescan();
        rig.wait("the first store", |rig| {
            rig.model.files[&rig.file("f")].bytes.to_vec().starts_with(b"b")
        });
        // SAFETY: within the map.
        unsafe { map.cast::<u8>().write(b'c') };
        drop(file);
        // SAFETY: what was mapped above, and nothing else has it.
        unsafe { munmap(map, 100_000) }.unwrap();
        let then = fs::metadata(rig.path("f")).unwrap();
        assert_eq!(now.modified().unwrap(), then.modified().unwrap(), "the store left a time");
        rig.wait("the second store", |rig| {
            rig.model.files[&rig.file("f")].bytes.to_vec().starts_with(b"c")
        });
        rig.settle();
    }
}

/// New large files that wait behind many new names are read once.
#[test]
fn a_large_file_among_thousands_is_read_once() {
    let mut rig = Rig::new(captures()[0]);
    rig.begin();
    for i in 0..6000 {
        fs::write(rig.path(&format!("a{i}")), "x").unwrap();
        if i == 1000 {
            fs::write(rig.path("z-large"), noise(24 << 20, 7)).unwrap();
        }
    }
    rig.settle();
    let most = (24 << 20) + 6000 + (4 << 20);
    assert!(rig.payload_bytes < most, "{} bytes were sent", rig.payload_bytes);
}
