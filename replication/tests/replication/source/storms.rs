//! Many changes at once, in orders that events cannot tell.

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{edits::captures, support::Rig};

/// a→b, b→a, a→b read late says the wrong end if events are believed.
#[test]
fn a_rename_storm_ends_right() {
    for mode in captures() {
        let mut rig = Rig::new(mode);
        fs::write(rig.path("a"), "one").unwrap();
        fs::create_dir_all(rig.path("d/inner")).unwrap();
        fs::write(rig.path("d/inner/file"), "two").unwrap();
        rig.begin();
        for _ in 0..500 {
            fs::rename(rig.path("a"), rig.path("b")).unwrap();
            fs::rename(rig.path("d"), rig.path("e")).unwrap();
            fs::rename(rig.path("b"), rig.path("a")).unwrap();
            fs::rename(rig.path("e"), rig.path("d")).unwrap();
        }
        fs::rename(rig.path("a"), rig.path("b")).unwrap();
        fs::rename(rig.path("d"), rig.path("a")).unwrap();
        rig.settle();
        assert!(rig.model.resolve("a/inner/file").is_some());
        assert!(rig.model.resolve("d").is_none());
    }
}

/// Whatever happens in whatever order: the station becomes the folder, and every step of the journal is one that a
/// station can take. `KEEPSHARE_SEED` repeats a run.
#[test]
fn random_work_is_followed() {
    let seed = std::env::var("KEEPSHARE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| rand::rng().random());
    println!("KEEPSHARE_SEED={seed}");
    for mode in captures() {
        let mut rig = Rig::new(mode);
        let mut random = StdRng::seed_from_u64(seed);
        for round in 0..12 {
            for _ in 0..150 {
                act(&rig, &mut random);
            }
            if round % 3 == 2 {
                rig.settle();
            } else {
                rig.catch_up();
            }
            if round == 5 {
                rig.reopen();
            }
            if round == 8 {
                rig.handle.rescan();
            }
        }
        rig.settle();
        let parts = rig.mirror();
        let rows = parts.iter().map(|part| part.filled.change.names.len()).sum::<usize>();
        assert_eq!(rows, 0, "the map knows what the station has");
    }
}

/// The same, while the journal is being read and mirrors are taken.
#[test]
fn a_mirror_of_a_busy_folder_is_completed_by_the_journal() {
    let seed = std::env::var("KEEPSHARE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| rand::rng().random());
    println!("KEEPSHARE_SEED={seed}");
    for mode in captures() {
        let mut rig = Rig::new(mode);
        let stop = AtomicBool::new(false);
        let root = rig.root().to_owned();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut random = StdRng::seed_from_u64(seed);
                while !stop.load(Ordering::Relaxed) {
                    act_in(&root, &mut random);
                    if random.random_ratio(1, 50) {
                        std::thread::yield_now();
                    }
                }
            });
            for _ in 0..5 {
                rig.catch_up();
                rig.model = super::support::Model { keep_versions: true, ..Default::default() };
                rig.mirror();
                rig.catch_up();
                rig.mirror();
            }
            stop.store(true, Ordering::Relaxed);
        });
        rig.settle();
    }
}

fn act(rig: &Rig, random: &mut StdRng) {
    act_in(rig.root(), random);
}

/// Does something to one of a few names; most of it works, and what fails is as good.
fn act_in(root: &std::path::Path, random: &mut StdRng) {
    let name = |random: &mut StdRng| -> PathBuf {
        let mut path = root.to_owned();
        for _ in 0..random.random_range(0..3) {
            path.push(format!("d{}", random.random_range(0..4)));
        }
        path.push(format!(
            "{}{}",
            ["d", "f"][random.random_range(0..2)],
            random.random_range(0..4)
        ));
        path
    };
    let (a, b) = (name(random), name(random));
    let size = [0, 10, 5000, 70_000, 300_000][random.random_range(0..5)];
    let byte: u8 = random.random();
    let _ = match random.random_range(0..14) {
        0..=2 => fs::write(&a, vec![byte; size]),
        3 => patch(&a, random.random_range(0..400_000), byte),
        4 | 5 => fs::rename(&a, &b),
        6 => fs::create_dir(&a),
        7 => fs::remove_file(&a),
        8 => fs::remove_dir_all(&a),
        9 => fs::hard_link(&a, &b),
        10 => exchange(&a, &b),
        11 | 12 => set_mtime(&a, random.random_range(0..1 << 30)),
        _ => std::os::unix::fs::symlink("target", &a),
    };
}

fn set_mtime(path: &std::path::Path, secs: i64) -> std::io::Result<()> {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
    let time = Timespec { tv_sec: secs, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

fn exchange(a: &std::path::Path, b: &std::path::Path) -> std::io::Result<()> {
    let (cwd, flags) = (rustix::fs::CWD, rustix::fs::RenameFlags::EXCHANGE);
    Ok(rustix::fs::renameat_with(cwd, a, cwd, b, flags)?)
}

/// Folders that are moved and exchanged while their times are set: events name folders that are elsewhere by then.
/// `KEEPSHARE_STORMS` says how many times this is tried, `KEEPSHARE_SEED` with which first seed.
#[test]
fn times_of_folders_that_move_are_followed() {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let first = number("KEEPSHARE_SEED").unwrap_or_else(|| rand::rng().random_range(0..1 << 40));
    for mode in captures() {
        for seed in first..first + number("KEEPSHARE_STORMS").unwrap_or(2) {
            println!("{mode:?} KEEPSHARE_SEED={seed}");
            let mut rig = Rig::new(mode);
            let mut random = StdRng::seed_from_u64(seed);
            for folder in ["a/x/s", "a/y", "b/x/s/t", "b/y/u", "c"] {
                fs::create_dir_all(rig.path(folder)).unwrap();
                fs::write(rig.path(folder).join("f"), folder).unwrap();
            }
            for _ in 0..12 {
                for _ in 0..random.random_range(1..60) {
                    move_or_touch(&rig, &mut random);
                    let pause = [0, 0, 0, 200, 1000, 4000][random.random_range(0..6)];
                    if pause > 0 {
                        std::thread::sleep(std::time::Duration::from_micros(pause));
                    }
                }
                rig.settle();
            }
        }
    }
}

fn move_or_touch(rig: &Rig, random: &mut StdRng) {
    let root = rig.root().to_owned();
    let name = |random: &mut StdRng| {
        let mut path = root.clone();
        for _ in 0..random.random_range(1..4) {
            path.push(["a", "b", "c", "x", "y", "s", "f"][random.random_range(0..7)]);
        }
        path
    };
    let (a, b) = (name(random), name(random));
    let _ = match random.random_range(0..10) {
        0..=3 => exchange(&a, &b),
        4 => fs::rename(&a, &b),
        5 => fs::create_dir(&a),
        6 => fs::write(&a, "content"),
        7 => fs::remove_dir(&a).or_else(|_| fs::remove_file(&a)),
        _ => set_mtime(&a, random.random_range(0..1 << 30)),
    };
}

fn patch(path: &std::path::Path, offset: u64, byte: u8) -> std::io::Result<()> {
    use std::os::unix::fs::FileExt;
    let file = fs::OpenOptions::new().write(true).open(path)?;
    file.write_all_at(&[byte; 100], offset)
}
