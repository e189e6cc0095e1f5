//! The live tree against a store: following, crashes, power cuts and people who write into it.

use std::{fs, os::unix::fs::MetadataExt, path::PathBuf};

use keepshare_base::{FileId, Kind};

use super::beneath::trip;
use crate::{
    ReadError,
    disk::sim::{Crash, Dice},
    live::ProblemCause,
};

mod attack;
pub(super) mod bench;
mod limits;
mod master;
mod shape;
mod steps;

use bench::{Bench, is_root};
use master::Master;

/// Returns the seed of a random test, from `KEEPSHARE_SEED` where it is set, and prints it.
fn seed() -> u64 {
    let given = std::env::var("KEEPSHARE_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        u64::try_from(now.unwrap().as_nanos() & 0xffff_ffff).unwrap()
    });
    println!("KEEPSHARE_SEED={seed}");
    seed
}

/// Runs a test without root's powers, and with them where there are any.
fn both(test: impl Fn(bool)) {
    test(false);
    if is_root() {
        test(true);
    }
}

/// Whatever a master does, the folder shows it, change by change or many at once.
#[test]
fn the_folder_is_what_the_set_is() {
    let seed = seed();
    both(|as_root| {
        let (mut bench, mut master) = (Bench::new(as_root), Master::new(seed));
        for _ in 0..300 {
            for _ in 0..=master.dice.below(4) {
                master.mutate();
            }
            bench.send(&mut master);
            if master.dice.below(3) != 0 {
                let applied = bench.apply();
                assert!(applied.problems.is_empty(), "{:?}", applied.problems);
                bench.expect(&master.set);
            }
            if master.dice.below(20) == 0 {
                bench.sync();
                bench.open();
            }
        }
        let reader = bench.store.reader();
        let checked = bench.tree().check(&reader, true).unwrap();
        assert!(checked.differences.is_empty(), "{:?}", checked.differences);
    });
}

/// The process dies anywhere in the middle; the tree is ahead of its records.
#[test]
fn a_crash_in_the_middle_is_made_good() {
    let seed = seed();
    both(|as_root| {
        let (mut bench, mut master) = (Bench::new(as_root), Master::new(seed));
        let mut state = bench.sync();
        for _ in 0..150 {
            for _ in 0..=master.dice.below(6) {
                master.mutate();
            }
            bench.send(&mut master);
            match master.dice.below(4) {
                0 => {
                    bench.apply();
                    if master.dice.below(2) == 0 {
                        state = bench.sync();
                    }
                }
                1 => {}
                _ => {
                    let steps = master.dice.below(60) as u64;
                    trip::after(Some(steps));
                    let reader = bench.store.reader();
                    let _ = bench.tree().apply(&reader, true);
                    trip::after(None);
                    bench.crash(&state);
                    let applied = bench.apply();
                    assert!(applied.problems.is_empty(), "{:?}", applied.problems);
                    bench.expect(&master.set);
                }
            }
        }
    });
}

/// The disk refuses from some point on, then works again: nothing but time is lost.
#[test]
fn what_failed_is_tried_again() {
    let seed = seed();
    both(|as_root| {
        let (mut bench, mut master) = (Bench::new(as_root), Master::new(seed));
        for round in 0..150 {
            for _ in 0..=master.dice.below(6) {
                master.mutate();
            }
            bench.send(&mut master);
            let reader = bench.store.reader();
            trip::after(Some(master.dice.below(60) as u64));
            let applied = bench.tree().apply(&reader, round % 3 != 0).unwrap();
            trip::after(None);
            let failed = bench.tree().has_retries();
            assert!(failed || applied.problems.is_empty());
            if master.dice.below(4) == 0 {
                bench.sync();
                bench.open();
            }
            if master.dice.below(2) == 0 {
                let applied = bench.apply();
                assert!(applied.problems.is_empty(), "{:?}", applied.problems);
                bench.expect(&master.set);
            }
        }
    });
}

/// One name of a file could not be removed, the other one could: what is left is still known for what it is.
#[test]
fn a_name_that_could_not_be_removed_is_not_taken_for_foreign() {
    both(|as_root| {
        let (mut bench, mut master) = (Bench::new(as_root), Master::new(1));
        let folder = master.make(FileId::ROOT, "folder", Kind::Dir, b"");
        let file = master.make(FileId::ROOT, "one", Kind::File, b"content");
        master.put(folder, "two", file);
        bench.follow(&mut master);
        master.set.names.remove(&(FileId::ROOT, master::name("one")));
        bench.send(&mut master);
        trip::after(Some(0));
        let reader = bench.store.reader();
        bench.tree().apply(&reader, true).unwrap();
        trip::after(None);
        assert!(bench.tree().has_retries());
        master.set.names.remove(&(folder, master::name("two")));
        bench.send(&mut master);
        bench.tree().apply(&reader, false).unwrap();
        let applied = bench.apply();
        assert!(applied.problems.is_empty(), "{:?}", applied.problems);
        bench.expect(&master.set);
    });
}

/// After a power cut, of everything since the last sync any part may be on the disk, in any order.
#[test]
fn a_power_cut_is_made_good() {
    let seed = seed();
    both(|as_root| {
        let (mut bench, mut master) = (Bench::new(as_root), Master::new(seed));
        for _ in 0..60 {
            bench.apply();
            let state = bench.sync();
            let synced = bench.tree().synced();
            for _ in 0..=master.dice.below(4) {
                for _ in 0..=master.dice.below(4) {
                    master.mutate();
                }
                bench.send(&mut master);
                if master.dice.below(2) == 0 {
                    bench.apply();
                }
            }
            bench.apply();
            damage(&bench, &mut master.dice, synced, false);
            bench.crash(&state);
            let applied = bench.apply();
            assert!(applied.problems.is_empty(), "{:?}", applied.problems);
            bench.expect(&master.set);
        }
    });
}

/// A new folder took the name of another new one, and the records know neither: what was in the old one does not stay.
#[test]
fn an_adopted_folder_keeps_nothing_of_another() {
    both(|as_root| {
        for depth in 0..3 {
            let (mut bench, mut master) = (Bench::new(as_root), Master::new(1));
            bench.follow(&mut master);
            let state = bench.sync();
            let build = |master: &mut Master, top: &str| {
                let mut folder = master.make(FileId::ROOT, top, Kind::Dir, b"");
                for at in 0..depth {
                    folder = master.make(folder, &format!("inner {at}"), Kind::Dir, b"");
                }
                folder
            };
            let first = build(&mut master, "folder");
            let kept = master.make(first, "kept", Kind::File, b"kept");
            master.make(first, "both", Kind::File, b"of the first");
            let sub = master.make(first, "sub", Kind::Dir, b"");
            master.make(sub, "below", Kind::File, b"below");
            bench.follow(&mut master);
            let top = master.set.names.remove(&(FileId::ROOT, master::name("folder"))).unwrap();
            master.put(FileId::ROOT, "moved", top);
            let second = build(&mut master, "folder");
            master.make(second, "both", Kind::File, b"of the second");
            master.put(second, "linked", kept);
            bench.send(&mut master);
            bench.crash(&state);
            let applied = bench.apply();
            assert!(applied.problems.is_empty(), "{:?}", applied.problems);
            bench.expect(&master.set);
        }
    });
}

/// Undoes, loses and garbles what was touched since `synced`; only garbles and leaves the times as they were where
/// `keep_times` says so.
fn damage(bench: &Bench, dice: &mut Dice, synced: keepshare_base::CommitId, keep_times: bool) {
    let view = bench.store.reader().view().unwrap();
    let at = view.latest();
    let crate::Touched::Known { names, files } = view.touched(synced).unwrap() else { return };
    let path_of = |parent: FileId, name: &keepshare_base::Name| {
        let path = if parent == FileId::ROOT {
            Some(keepshare_base::SetPath::default())
        } else {
            view.path_of(parent, at).unwrap()
        };
        let bytes = path?.join(name.clone()).to_bytes();
        Some(bench.live().join(std::str::from_utf8(&bytes).unwrap()))
    };
    for file in files {
        let Some(path) = view.path_of(file, at).unwrap() else { continue };
        let path = bench.live().join(std::str::from_utf8(&path.to_bytes()).unwrap());
        let Some(state) = view.file(file, at).unwrap() else { continue };
        if state.meta.kind != Kind::File || dice.below(2) == 0 {
            continue;
        }
        let changes = view.body_changes(&state, synced).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        match changes {
            crate::BodyChanges::Whole if dice.below(2) == 0 && !keep_times => bytes.clear(),
            crate::BodyChanges::Whole => bytes.fill(0xee),
            crate::BodyChanges::Ranges(ranges) => {
                for range in ranges {
                    let end = usize::try_from(range.end).unwrap().min(bytes.len());
                    let start = usize::try_from(range.start).unwrap().min(end);
                    bytes[start..end].fill(0xee);
                }
            }
        }
        let before = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, bytes).unwrap();
        if keep_times {
            let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            file.set_modified(before).unwrap();
        }
    }
    if keep_times {
        return;
    }
    let spots: Vec<_> = names.iter().filter_map(|(p, n)| path_of(*p, n)).collect();
    let folder_of = |path: &PathBuf| fs::metadata(path.parent()?).map(|about| about.ino()).ok();
    let folders: Vec<_> = spots.iter().map(folder_of).collect();
    for _ in 0..spots.len() {
        let (a, b) = (dice.below(spots.len()), dice.below(spots.len()));
        // Only names that were there can be there again: not those of a folder that its path leads to by now.
        if [a, b].iter().any(|at| folders[*at] != folder_of(&spots[*at])) {
            continue;
        }
        let (a, b) = (&spots[a], &spots[b]);
        match dice.below(4) {
            0 if a.is_dir() && !a.is_symlink() => drop(fs::remove_dir(a)),
            0 => drop(fs::remove_file(a)),
            // What was renamed may be back, or somewhere in between.
            1 | 2 if !b.exists() => drop(fs::rename(a, b)),
            _ => {}
        }
    }
}

/// The records are lost: everything is built again, and nothing else is left.
#[test]
fn lost_records_cost_a_rebuild_and_nothing_else() {
    let seed = seed();
    let (mut bench, mut master) = (Bench::new(false), Master::new(seed));
    for _ in 0..60 {
        master.mutate();
        bench.send(&mut master);
    }
    bench.apply();
    bench.expect(&master.set);
    bench.crash(&crate::disk::sim::SimDisk::new());
    let applied = bench.apply();
    assert!(applied.problems.is_empty(), "{:?}", applied.problems);
    bench.expect(&master.set);
}

/// Nothing is known of what was touched: the whole tree is compared, and what only moved is moved.
#[test]
fn everything_can_be_compared() {
    let seed = seed();
    both(|as_root| {
        let (mut bench, mut master) = (Bench::new(as_root), Master::new(seed));
        for _ in 0..30 {
            for _ in 0..10 {
                master.mutate();
                bench.send(&mut master);
            }
            bench.tree().compare_all();
            let applied = bench.apply();
            assert!(applied.problems.is_empty(), "{:?}", applied.problems);
            bench.expect(&master.set);
        }
        while bench.apply().more_to_remove {}
        let stage = fs::read_dir(bench.stage()).unwrap();
        let left: Vec<_> = stage.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["tree"]);
    });
}

/// The state file is of another set, or the set lost its newest commits.
#[test]
fn records_from_the_future_are_not_believed() {
    let (mut bench, mut master) = (Bench::new(false), Master::new(3));
    for _ in 0..10 {
        master.mutate();
        bench.send(&mut master);
    }
    bench.apply();
    let state = bench.sync();
    let mut other = Bench::new(false);
    let mut young = Master::new(4);
    young.make(FileId::ROOT, "only", Kind::File, b"x");
    other.send(&mut young);
    other.dir = bench.dir;
    other.tree = None;
    other.state = state.reopen(Crash::KeepAll);
    other.open();
    other.apply();
    other.expect(&young.set);
    let about = fs::metadata(other.live().join("only")).unwrap();
    assert_eq!(about.nlink(), 1);
}

/// Content that is damaged in the store is told; what is live stays, and everything else goes on.
#[test]
fn damaged_content_stops_only_its_own_file() {
    let (mut bench, mut master) = (Bench::new(false), Master::new(5));
    let noise: Vec<u8> =
        (0..40_000u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let file = master.make(FileId::ROOT, "large", Kind::File, &noise[..50_000]);
    bench.follow(&mut master);
    master.write(file, noise[70_000..120_000].to_vec());
    master.make(FileId::ROOT, "small", Kind::File, b"small");
    let before = bench.disk.used_bytes();
    bench.send(&mut master);
    assert!(before < bench.disk.used_bytes());
    let pack = "packs/0000000001";
    let middle = bench.disk.content(pack).len() as u64 - 20_000;
    bench.disk.flip(pack, middle, 3);
    let applied = bench.apply();
    let [problem] = &applied.problems[..] else { panic!("{:?}", applied.problems) };
    assert_eq!(problem.file, Some(file));
    assert!(matches!(problem.cause, ProblemCause::Content(ReadError::Damaged { .. })));
    assert_eq!(fs::read(bench.live().join("small")).unwrap(), b"small");
    assert_eq!(fs::read(bench.live().join("large")).unwrap(), &noise[..50_000]);
    bench.disk.flip(pack, middle, 3);
    let applied = bench.apply();
    assert!(applied.problems.is_empty(), "{:?}", applied.problems);
    bench.expect(&master.set);
}

/// The name of a large file comes last, and must not cost the time to write all of it.
#[test]
fn content_that_comes_before_its_name_waits_in_the_stage() {
    both(|as_root| {
        let (mut bench, mut master) = (Bench::new(as_root), Master::new(6));
        bench.follow(&mut master);
        let mut bytes = vec![1; 300_000];
        let file = master.birth(Kind::File, bytes.clone());
        bench.follow(&mut master);
        let staged = bench.stage().join(format!("new-{file}"));
        let inode = fs::metadata(&staged).unwrap().ino();
        for (at, len, name) in [
            (100_000, 300_000, None),
            (1000, 50_000, None),
            (200_000, 290_000, None),
            (299_000, 300_000, Some("film")),
        ] {
            bytes.resize(len, 0);
            bytes[at..at + 1000].fill(2);
            master.write(file, bytes.clone());
            bench.sync();
            bench.store.flush().unwrap();
            while bench.store.maintain().unwrap() {}
            if let Some(name) = name {
                master.put(FileId::ROOT, name, file);
            }
            bench.follow(&mut master);
        }
        assert_eq!(fs::metadata(bench.live().join("film")).unwrap().ino(), inode);
        assert!(!staged.exists());
    });
}

/// What waits in the stage is worth nothing once the process that made it is gone, or somebody touched it.
#[test]
fn what_was_prepared_and_is_not_there_is_made_anew() {
    both(|as_root| {
        let (mut bench, mut master) = (Bench::new(as_root), Master::new(7));
        bench.follow(&mut master);
        for round in 0..4 {
            let mut bytes = vec![1; 200_000];
            let file = master.birth(Kind::File, bytes.clone());
            bench.follow(&mut master);
            let staged = bench.stage().join(format!("new-{file}"));
            match round {
                0 => bench.open(),
                1 => fs::remove_file(&staged).unwrap(),
                2 => {
                    fs::remove_file(&staged).unwrap();
                    fs::write(&staged, "something else").unwrap();
                }
                _ => {
                    let state = bench.sync();
                    bench.crash(&state);
                }
            }
            bytes[150_000..].fill(2);
            master.write(file, bytes);
            if round % 2 == 0 {
                bench.follow(&mut master);
            }
            master.put(FileId::ROOT, &format!("film {round}"), file);
            bench.follow(&mut master);
        }
        let left: Vec<_> = fs::read_dir(bench.stage()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    });
}
