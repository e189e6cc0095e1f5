//! Large files on file systems that share blocks between files: only what was written is read.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt,
};

use keepshare_base::ContentHash;
use keepshare_support::{Scratch, tools};
use rand::{Rng, SeedableRng, rngs::StdRng};
use rustix::fs::{FallocateFlags, fallocate};

use super::{
    contents::{noise, patch},
    edits::captures,
    mounts::in_own_mounts,
    support::Rig,
};

const MIB: u64 = 1 << 20;

/// What a file has that is followed by shadows: they begin at 16 MiB.
const LARGE: usize = 24 << 20;

/// Runs a test on XFS and on btrfs.
fn on_both(test: &str, body: impl Fn(&mut Rig)) {
    in_own_mounts(&format!("{}::{test}", module_path!()), || {
        for kind in ["xfs", "btrfs"] {
            let mut scratch = Scratch::new("ranges").unwrap();
            let Some(place) = scratch.mount_image("mounted", kind, 600 * MIB).unwrap() else {
                tools::skip(test, &format!("no {kind} can be made and mounted here"));
                continue;
            };
            let mode = captures()[0];
            eprintln!("{kind}, {mode:?}");
            body(&mut Rig::with_place(mode, &place));
        }
    });
}

/// Makes a large file that has a shadow. It may not have one after its first reading, which began while it was short.
fn make(rig: &mut Rig, name: &str) {
    fs::write(rig.path(name), noise(LARGE, 1)).unwrap();
    rig.begin();
    patch(&rig.path(name), 100, b"changed in place");
    rig.begin();
}

/// How many bytes this process, which runs one test, has read from files.
fn read_bytes() -> u64 {
    let io = fs::read_to_string("/proc/self/io").unwrap();
    io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

/// How many files without a name are open: shadows.
fn shadows() -> usize {
    let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let targets = open.filter_map(|entry| fs::read_link(entry.path()).ok());
    let targets = targets.map(|to| to.to_string_lossy().into_owned());
    targets.filter(|to| to.contains("/#") && to.ends_with(" (deleted)")).count()
}

/// Waits until the model has a file as it is, as a version with its hash.
fn follow(rig: &mut Rig, name: &str) {
    let bytes = fs::read(rig.path(name)).unwrap();
    let (file, hash) = (rig.file(name), ContentHash::of(&bytes));
    rig.wait("the content and its hash", |rig| rig.model.files[&file].hash == Some(hash));
    rig.wait("a version", |rig| rig.versions(file).last() == Some(&bytes));
}

#[test]
fn only_what_was_written_is_read() {
    on_both("only_what_was_written_is_read", |rig| {
        make(rig, "db");
        for round in 0..3 {
            rig.begin();
            let (before, file) = (read_bytes(), rig.file("db"));
            let versions = rig.versions(file).len();
            patch(&rig.path("db"), 5_000_000 + 7_777_777 * round, b"changed");
            rig.wait("it is journaled", |rig| rig.payload_bytes > 0);
            rig.wait("a version", |rig| rig.versions(file).len() > versions);
            let read = read_bytes() - before;
            assert_eq!(rig.payload_bytes, 4096);
            assert!(read < 4 * MIB, "{read} bytes were read for a page");
            follow(rig, "db");
        }
        // What was read by ranges is known as well as what is read whole: after a restart nothing is sent again.
        rig.reopen();
        rig.begin();
        patch(&rig.path("db"), 9_000_000, b"after a restart");
        rig.settle();
        assert_eq!(rig.payload_bytes, 4096);
        follow(rig, "db");
    });
}

#[test]
fn whatever_is_done_to_a_large_file_is_followed() {
    on_both("whatever_is_done_to_a_large_file_is_followed", |rig| {
        let seed = tools::seed("whatever_is_done_to_a_large_file_is_followed");
        let mut rng = StdRng::seed_from_u64(seed);
        fs::write(rig.path("f"), noise(LARGE, seed)).unwrap();
        rig.begin();
        for _ in 0..20 {
            let file = OpenOptions::new().read(true).write(true).open(rig.path("f")).unwrap();
            let len = file.metadata().unwrap().len();
            let at = rng.random_range(0..len);
            let size = rng.random_range(1..200_000).min(usize::try_from(len - at).unwrap());
            match rng.random_range(0..8) {
                0 => file.set_len(rng.random_range(17 * MIB..32 * MIB)).unwrap(),
                1 => file.set_len(len + rng.random_range(1..5000)).unwrap(),
                2 => file.write_all_at(&noise(size, rng.random()), len).unwrap(),
                3 => {
                    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                    fallocate(&file, punch, at, size as u64).unwrap();
                    // Punching a hole raises no event of its own.
                    file.write_all_at(b".", at).unwrap();
                }
                4 => file.write_all_at(&vec![0; size], at).unwrap(),
                5 => {
                    fallocate(&file, FallocateFlags::empty(), len, size as u64).unwrap();
                    file.write_all_at(b"beyond", len + size as u64 / 2).unwrap();
                }
                _ => {
                    for _ in 0..rng.random_range(1..40) {
                        let at = rng.random_range(0..len);
                        file.write_all_at(&noise(7, rng.random()), at).unwrap();
                    }
                }
            }
            if rng.random_ratio(1, 3) {
                file.sync_all().unwrap();
            }
            drop(file);
            follow(rig, "f");
        }
        rig.settle();
    });
}

/// What was read is what a file held at one moment, however much is written to it meanwhile.
#[test]
fn a_file_that_is_always_written_is_seen_as_it_was_at_one_moment() {
    on_both("a_file_that_is_always_written_is_seen_as_it_was_at_one_moment", |rig| {
        // Each page holds the number of its round, written from front to end: no page is ahead of one before it, and none
        // is more than one round behind.
        let pages = LARGE as u64 / 4096;
        fs::write(rig.path("log"), vec![0; LARGE]).unwrap();
        rig.begin();
        let path = rig.path("log");
        let is_over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let file = OpenOptions::new().write(true).open(&path).unwrap();
                for round in 1_u64.. {
                    for page in 0..pages {
                        file.write_all_at(&round.to_be_bytes(), page * 4096).unwrap();
                        if is_over.load(std::sync::atomic::Ordering::Relaxed) {
                            return;
                        }
                    }
                }
            });
            let file = rig.file("log");
            rig.wait("three versions", |rig| rig.versions(file).len() >= 4);
            is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        let file = rig.file("log");
        for bytes in rig.versions(file).iter().skip(1) {
            let rounds =
                bytes.chunks(4096).map(|page| u64::from_be_bytes(*page.first_chunk().unwrap()));
            let rounds: Vec<u64> = rounds.collect();
            assert!(rounds.is_sorted_by(|a, b| a >= b), "a later page is ahead of an earlier one");
            assert!(rounds[0] - rounds[rounds.len() - 1] <= 1, "a mix of more than two rounds");
        }
        rig.settle();
    });
}

#[test]
fn shadows_end_with_their_files_and_when_the_disk_is_short() {
    on_both("shadows_end_with_their_files_and_when_the_disk_is_short", |rig| {
        let before = shadows();
        for name in ["a", "b", "c"] {
            make(rig, name);
        }
        rig.wait("three shadows", |_| shadows() == before + 3);
        fs::remove_file(rig.path("a")).unwrap();
        rig.wait("two shadows", |_| shadows() == before + 2);
        fs::write(rig.path("new"), noise(LARGE, 4)).unwrap();
        fs::rename(rig.path("new"), rig.path("b")).unwrap();
        rig.begin();
        patch(&rig.path("b"), 1000, b"changed in place");
        rig.wait("two shadows", |_| shadows() == before + 2);
        let filling = rig.dir.path().join("filling");
        let filled = File::create(&filling).unwrap();
        let is_short = || {
            let disk = rustix::fs::statvfs(rig.root()).unwrap();
            disk.f_bavail < disk.f_blocks / 17
        };
        // On btrfs less is left than it says, and the last pieces may not fit.
        let mut at = 0;
        while !is_short() && fallocate(&filled, FallocateFlags::empty(), at, 5 * MIB).is_ok() {
            at += 5 * MIB;
        }
        assert!(at > 0, "nothing was filled");
        rig.wait("no shadow", |_| shadows() == before);
        drop(filled);
        fs::remove_file(filling).unwrap();
        patch(&rig.path("c"), 1000, b"read whole");
        follow(rig, "c");
        rig.settle();
    });
}
