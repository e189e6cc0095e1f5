//! People and programs that write into a live tree.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use keepshare_base::{FileId, Kind};

use super::{
    bench::{Bench, folder, is_root},
    master::Master,
};
use crate::{
    disk::sim::{Crash, SimDisk},
    live::{Difference, DifferenceKind, LiveError, ProblemCause},
};

/// A folder is swapped for a symlink that leads outside, again and again, while files below it change.
#[test]
fn a_swapped_folder_leads_nowhere() {
    let outside = folder();
    let (mut bench, mut master) = (Bench::new(false), Master::new(1));
    let target = master.make(FileId::ROOT, "folder", Kind::Dir, b"");
    let files: Vec<_> = (0..10)
        .map(|at| master.make(target, &format!("f{at}"), Kind::File, format!("{at}").as_bytes()))
        .collect();
    for at in 0..10 {
        fs::write(outside.path().join(format!("f{at}")), "canary").unwrap();
    }
    bench.follow(&mut master);
    let seen = |path: &std::path::Path| {
        let mut seen: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let about = entry.metadata().unwrap();
                let bytes = fs::read(entry.path()).unwrap();
                (entry.file_name(), about.ino(), about.ctime(), about.ctime_nsec(), bytes)
            })
            .collect();
        seen.sort();
        seen
    };
    let before = seen(outside.path());

    let stop = Arc::new(AtomicBool::new(false));
    let swapper = {
        let (stop, live, out) = (Arc::clone(&stop), bench.live(), outside.path().to_owned());
        std::thread::spawn(move || {
            let (place, away) = (live.join("folder"), live.join("away"));
            while !stop.load(Ordering::Relaxed) {
                let _ = fs::rename(&place, &away);
                let _ = symlink(&out, &place);
                std::thread::yield_now();
                if place.is_symlink() {
                    let _ = fs::remove_file(&place);
                }
                let _ = fs::rename(&away, &place);
                std::thread::yield_now();
            }
        })
    };
    let reader = bench.store.reader();
    for round in 0..300 {
        let file = files[round % files.len()];
        master.write(file, format!("round {round}").into_bytes());
        bench.send(&mut master);
        bench.tree().apply(&reader, round % 5 == 0).unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    swapper.join().unwrap();

    assert_eq!(seen(outside.path()), before);
    bench.tree().compare_all();
    bench.apply();
    bench.apply();
    bench.expect(&master.set);
}

/// Someone saves their own work into the live folder: it is not lost, and the set's file is back.
#[test]
fn foreign_work_is_set_aside_and_told() {
    let (mut bench, mut master) = (Bench::new(false), Master::new(1));
    let file = master.make(FileId::ROOT, "report", Kind::File, b"first");
    bench.follow(&mut master);
    fs::remove_file(bench.live().join("report")).unwrap();
    fs::write(bench.live().join("report"), "mine").unwrap();
    let reader = bench.store.reader();
    let checked = bench.tree().check(&reader, true).unwrap();
    assert!(matches!(checked.differences[0].kind, DifferenceKind::Foreign));
    master.write(file, b"second".to_vec());
    bench.send(&mut master);
    let applied = bench.apply();
    bench.expect(&master.set);
    let ProblemCause::Foreign { kept: Some(kept) } = &applied.problems[0].cause else {
        panic!("{:?}", applied.problems);
    };
    let kept = bench.stage().join(std::str::from_utf8(kept.as_bytes()).unwrap());
    assert_eq!(fs::read(kept).unwrap(), b"mine");
    assert!(bench.apply().problems.is_empty());
}

/// What someone did to the tree is found when all of it is compared, wherever it is.
#[test]
fn comparing_finds_and_mends_everything() {
    let (mut bench, mut master) = (Bench::new(false), Master::new(1));
    let folder = master.make(FileId::ROOT, "folder", Kind::Dir, b"");
    let inner = master.make(folder, "inner", Kind::Dir, b"");
    for at in 0..5 {
        master.make(inner, &format!("f{at}"), Kind::File, b"content");
    }
    bench.follow(&mut master);
    let live = bench.live();
    fs::rename(live.join("folder/inner"), live.join("elsewhere")).unwrap();
    fs::remove_file(live.join("elsewhere/f1")).unwrap();
    fs::hard_link(live.join("elsewhere/f2"), live.join("extra")).unwrap();
    fs::create_dir(live.join("elsewhere/f1")).unwrap();
    fs::write(live.join("@versions"), "reserved").unwrap();
    bench.tree().compare_all();
    bench.apply();
    bench.expect(&master.set);
    let reader = bench.store.reader();
    let checked = bench.tree().check(&reader, true).unwrap();
    assert!(checked.differences.is_empty(), "{:?}", checked.differences);
}

/// Returns what a comparison tells, in order of the paths.
fn differences(bench: &mut Bench) -> Vec<String> {
    let reader = bench.store.reader();
    let checked = bench.tree().check(&reader, true).unwrap();
    assert_eq!(checked.more_differences, 0);
    let line = |difference: &Difference| format!("{}: {}", difference.path, difference.kind);
    let mut lines: Vec<String> = checked.differences.iter().map(line).collect();
    lines.sort();
    lines
}

/// Whoever removes a file gives its folder another time: what else is wrong below must not hide behind that.
#[test]
fn a_folder_with_other_attributes_is_gone_through_all_the_same() {
    let (mut bench, mut master) = (Bench::new(false), Master::new(1));
    let folder = master.make(FileId::ROOT, "folder", Kind::Dir, b"");
    let inner = master.make(folder, "inner", Kind::Dir, b"");
    for at in 0..4 {
        master.make(inner, &format!("f{at}"), Kind::File, b"content");
    }
    let gone = master.make(folder, "gone", Kind::Dir, b"");
    master.make(gone, "below", Kind::File, b"below");
    bench.follow(&mut master);
    let inside = bench.live().join("folder/inner");
    fs::remove_file(inside.join("f1")).unwrap();
    fs::write(inside.join("f2"), "x").unwrap();
    fs::write(inside.join("more"), "not of the set").unwrap();
    let of_inner = [
        "folder/inner/f1: missing",
        "folder/inner/f2: other content from byte 1 on",
        "folder/inner/more: not of the set",
        "folder/inner: other attributes",
    ];
    assert_eq!(differences(&mut bench), of_inner);

    // Only the mode of this one differs; a folder that is gone is one difference.
    fs::set_permissions(bench.live().join("folder"), fs::Permissions::from_mode(0o750)).unwrap();
    fs::remove_dir_all(bench.live().join("folder/gone")).unwrap();
    let mut all = vec!["folder/gone: missing"];
    all.extend(of_inner);
    all.push("folder: other attributes");
    assert_eq!(differences(&mut bench), all);

    if !is_root() {
        fs::set_permissions(&inside, fs::Permissions::from_mode(0o000)).unwrap();
        let told = differences(&mut bench);
        fs::set_permissions(&inside, fs::Permissions::from_mode(0o700)).unwrap();
        let of_inner = told.iter().filter(|line| line.starts_with("folder/inner"));
        assert_eq!(of_inner.count(), 2, "what cannot be opened is told once: {told:?}");
    }
}

/// Thousands of files are gone: the list of what differs keeps its bound, and says how many there are.
#[test]
fn what_differs_is_told_up_to_a_bound() {
    let (mut bench, mut master) = (Bench::new(false), Master::new(1));
    let folder = master.make(FileId::ROOT, "folder", Kind::Dir, b"");
    for at in 0..1010 {
        master.make(folder, &format!("f{at}"), Kind::File, b"");
    }
    bench.follow(&mut master);
    for at in 0..1010 {
        fs::remove_file(bench.live().join(format!("folder/f{at}"))).unwrap();
    }
    let reader = bench.store.reader();
    let checked = bench.tree().check(&reader, true).unwrap();
    assert_eq!((checked.differences.len(), checked.more_differences), (1000, 11));
    assert_eq!(checked.differences[0].path.to_string(), "folder");
}

/// An admin points a set at a folder with someone's work in it.
#[test]
fn a_folder_with_work_in_it_is_not_taken() {
    let mut bench = Bench::new(false);
    bench.tree = None;
    fs::remove_dir_all(bench.stage()).unwrap();
    fs::write(bench.live().join("thesis"), "years").unwrap();
    assert!(matches!(bench.try_open(), Err(LiveError::NotOurs { .. })));
    // Nor after the records are lost, or with a stage that served another folder.
    bench.state = SimDisk::new();
    assert!(matches!(bench.try_open(), Err(LiveError::NotOurs { .. })));
    assert_eq!(fs::read(bench.live().join("thesis")).unwrap(), b"years");
}

/// Someone removed the whole live folder: it begins again, empty, and fills.
#[test]
fn a_live_folder_that_is_gone_is_built_again() {
    let (mut bench, mut master) = (Bench::new(false), Master::new(1));
    let folder = master.make(FileId::ROOT, "folder", Kind::Dir, b"");
    master.make(folder, "file", Kind::File, b"content");
    bench.follow(&mut master);
    bench.sync();
    bench.tree = None;
    fs::remove_dir_all(bench.live()).unwrap();
    bench.open();
    assert!(bench.apply().problems.is_empty());
    bench.expect(&master.set);
}

/// An admin empties the live folder by making it anew, and the disk fails, or the process ends, before the records of the
/// old one are gone: the files of the set come back all the same.
#[test]
fn a_folder_that_was_made_anew_is_filled_whenever_the_start_was_cut_off() {
    for nth in 1..=6 {
        let (mut bench, mut master) = (Bench::new(false), Master::new(1));
        master.make(FileId::ROOT, "file", Kind::File, b"content");
        bench.follow(&mut master);
        bench.sync();
        bench.tree = None;
        fs::remove_dir_all(bench.live()).unwrap();
        fs::create_dir(bench.live()).unwrap();
        let _ = bench.try_open_from(|| bench.state.crash_at(bench.state.syncs() + nth));
        bench.state = bench.state.reopen(Crash::LoseAll);
        bench.open();
        bench.apply();
        bench.expect(&master.set);
    }
}
