//! Steps towards the newest commit, and going on from them when the process was ended.

use std::fs;

use keepshare_base::{CommitId, Content, ContentHash, Extent, FileId, Kind};

use super::{bench::Bench, both, damage, master::Master, seed, trip};
use crate::{
    disk::sim::Crash,
    live::{Checking, DifferenceKind, STEP_ROWS_MAX, check::CATCH_UP_STEPS},
};

/// Commits folders of files, each folder a change.
fn folders(bench: &mut Bench, master: &mut Master, folders: usize, files: usize) {
    for at in 0..folders {
        let folder = master.make(FileId::ROOT, &format!("folder {at}"), Kind::Dir, b"");
        for at in 0..files {
            master.make(folder, &format!("file {at}"), Kind::File, format!("{at}").as_bytes());
        }
        bench.send(master);
    }
}

/// However much there is to be shown, a step ends soon, and with a commit: others get their turn, and what it did counts.
#[test]
fn a_step_is_bounded_and_ends_with_a_commit() {
    let (mut bench, mut master) = (Bench::new(false), Master::new(1));
    bench.follow(&mut master);
    folders(&mut bench, &mut master, 5, 600);
    let (reader, before) = (bench.store.reader(), bench.tree().reached());
    let applied = bench.tree().apply(&reader, false).unwrap();
    // Names and files, and the folders themselves: two changes go into one step.
    const { assert!(2 * 600 < STEP_ROWS_MAX && STEP_ROWS_MAX < 4 * 600) };
    assert_eq!(applied.reached, CommitId(before.0 + 2));
    assert!(applied.behind);
    assert_eq!(fs::read_dir(bench.live()).unwrap().count(), 2);
    let mut steps = 1;
    while bench.tree().apply(&reader, false).unwrap().behind {
        steps += 1;
    }
    assert!(steps <= 3, "{steps}");
    bench.expect(&master.set);
}

/// Names of an older commit with the newest content are what a later step goes on from, whatever happened in between.
#[test]
fn many_steps_lead_where_one_does() {
    let seed = seed();
    both(|as_root| {
        let (mut bench, mut master) = (Bench::new(as_root), Master::new(seed));
        let mut last = CommitId(0);
        for _ in 0..30 {
            for _ in 0..12 {
                for _ in 0..=master.dice.below(3) {
                    master.mutate();
                }
                bench.send(&mut master);
            }
            let reader = bench.store.reader();
            // As if each commit were more than a step takes.
            loop {
                let view = reader.view().unwrap();
                let next = CommitId(last.0 + 1 + master.dice.below(3) as u64).min(view.latest());
                let applied = bench.tree().step(&reader, view, false, Some(next)).unwrap().0;
                assert!(applied.problems.is_empty(), "{:?}", applied.problems);
                last = applied.reached;
                if !applied.behind {
                    break;
                }
            }
            bench.expect(&master.set);
        }
    });
}

/// The process was killed at rest: nothing of what the disk does not have yet is done again.
#[test]
fn a_kill_at_rest_costs_nothing() {
    let (mut bench, mut master) = (Bench::new(false), Master::new(1));
    bench.follow(&mut master);
    bench.sync();
    folders(&mut bench, &mut master, 4, 700);
    bench.apply();
    let stored = bench.tree().synced();
    bench.kill();
    assert_eq!(bench.tree().reached(), bench.store.reader().view().unwrap().latest());
    let applied = bench.apply();
    assert!(applied.problems.is_empty(), "{:?}", applied.problems);
    let counts = applied.counts;
    assert_eq!((counts.made, counts.renamed, counts.adopted, counts.bytes), (0, 0, 0, 0));
    assert_eq!(bench.tree().synced(), stored, "nothing is called durable for that");
    bench.expect(&master.set);
    bench.sync();
    assert_eq!(bench.tree().synced(), bench.tree().reached());
    bench.kill();
    assert_eq!(bench.apply().counts.made, 0);
}

/// The process is killed anywhere, again and again, with or without a sync in between.
#[test]
fn a_kill_in_the_middle_is_made_good() {
    let seed = seed();
    both(|as_root| {
        let (mut bench, mut master) = (Bench::new(as_root), Master::new(seed));
        for _ in 0..80 {
            for _ in 0..=master.dice.below(6) {
                master.mutate();
            }
            bench.send(&mut master);
            match master.dice.below(5) {
                0 => {
                    bench.apply();
                    bench.sync();
                }
                1 => drop(bench.apply()),
                2 => {}
                _ => {
                    trip::after(Some(master.dice.below(60) as u64));
                    let reader = bench.store.reader();
                    let _ = bench.tree().apply(&reader, true);
                    bench.kill();
                    trip::after(None);
                    let applied = bench.apply();
                    assert!(applied.problems.is_empty(), "{:?}", applied.problems);
                    bench.expect(&master.set);
                }
            }
        }
    });
}

/// After a restart of the machine the notes prove nothing: whatever the disk did not keep is made good, and what it kept
/// is taken as it is.
#[test]
fn after_a_power_cut_what_is_right_is_adopted() {
    let (mut bench, mut master) = (Bench::new(false), Master::new(1));
    bench.follow(&mut master);
    bench.sync();
    folders(&mut bench, &mut master, 3, 400);
    bench.apply();
    fs::write(bench.live().join("folder 1/file 7"), "").unwrap();
    bench.boot += 1;
    bench.state = bench.state.reopen(Crash::KeepAll);
    bench.open();
    let counts = bench.apply().counts;
    assert_eq!(counts.made, 1);
    assert_eq!(counts.adopted, 3 * 400 + 3 - 1);
    bench.expect(&master.set);
}

/// What looks right after a power cut may hold nothing: it is only taken when every byte is there.
#[test]
fn content_that_was_lost_is_never_adopted() {
    let seed = seed();
    both(|as_root| {
        let (mut bench, mut master) = (Bench::new(as_root), Master::new(seed));
        for _ in 0..30 {
            bench.apply();
            let state = bench.sync();
            let synced = bench.tree().synced();
            for _ in 0..8 {
                master.mutate();
            }
            bench.send(&mut master);
            bench.apply();
            damage(&bench, &mut master.dice, synced, true);
            bench.crash(&state);
            let applied = bench.apply();
            assert!(applied.problems.is_empty(), "{:?}", applied.problems);
            bench.expect(&master.set);
        }
    });
}

/// Copies the live tree as `cp -a` does, links and times included, in the place of the one there was.
fn copy(bench: &mut Bench, with_stage: bool) {
    bench.tree = None;
    let (live, old) = (bench.live(), bench.dir.path().join("old"));
    fs::rename(&live, &old).unwrap();
    let copied = std::process::Command::new("cp").arg("-a").args([&old, &live]).status().unwrap();
    assert!(copied.success());
    fs::remove_dir_all(&old).unwrap();
    if !with_stage {
        fs::remove_dir_all(bench.stage()).unwrap();
    }
    bench.own = !with_stage;
}

/// A state on a new disk, or from a backup: the live tree is another one, and what is right in it stays as it is.
#[test]
fn a_copied_tree_is_adopted() {
    let seed = seed();
    for with_stage in [true, false] {
        both(|as_root| {
            let (mut bench, mut master) = (Bench::new(as_root), Master::new(seed));
            for _ in 0..40 {
                master.mutate();
                bench.send(&mut master);
            }
            let folder = master.make(FileId::ROOT, "folder of ours", Kind::Dir, b"");
            let file = master.make(folder, "changed", Kind::File, b"as it was");
            master.make(folder, "same", Kind::File, b"same");
            bench.follow(&mut master);
            bench.sync();
            copy(&mut bench, with_stage);
            fs::write(bench.live().join("folder of ours/changed"), "by someone").unwrap();
            fs::write(bench.live().join("folder of ours/thesis"), "years").unwrap();
            let made_before = master.set.names.len() as u64;
            bench.open();
            let applied = bench.apply();
            bench.expect(&master.set);
            assert!(applied.counts.made <= 3, "{:?} of {made_before}", applied.counts);
            assert!(applied.counts.adopted > 0);
            // Nothing that nobody else has is removed.
            let kept: Vec<_> = fs::read_dir(bench.stage())
                .unwrap()
                .filter_map(|entry| fs::read(entry.unwrap().path()).ok())
                .collect();
            for bytes in [&b"by someone"[..], b"years"] {
                assert!(kept.iter().any(|kept| kept == bytes), "{bytes:?}");
            }
            master.write(file, b"goes on".to_vec());
            bench.follow(&mut master);
            bench.sync();
            bench.open();
            assert_eq!(bench.apply().counts.adopted, 0);
        });
    }
}

/// Copied once more before the first copy was all looked at.
#[test]
fn a_copy_that_was_cut_off_is_adopted_all_the_same() {
    let (mut bench, mut master) = (Bench::new(false), Master::new(1));
    folders(&mut bench, &mut master, 2, 50);
    bench.apply();
    bench.sync();
    copy(&mut bench, true);
    fs::write(bench.live().join("folder 1/thesis"), "years").unwrap();
    bench.open();
    trip::after(Some(1));
    let reader = bench.store.reader();
    let _ = bench.tree().apply(&reader, true);
    bench.kill();
    trip::after(None);
    bench.apply();
    bench.expect(&master.set);
    let kept = fs::read_dir(bench.stage())
        .unwrap()
        .any(|entry| fs::read(entry.unwrap().path()).is_ok_and(|bytes| bytes == b"years"));
    assert!(kept);
}

/// A busy set is well: what is compared is compared with one commit, and what moved is looked at again.
#[test]
fn a_busy_set_has_no_differences() {
    let seed = seed();
    let (mut bench, mut master) = (Bench::new(false), Master::new(seed));
    for _ in 0..20 {
        for _ in 0..5 {
            master.mutate();
        }
        bench.send(&mut master);
    }
    let reader = bench.store.reader();
    for _ in 0..20 {
        let mut checking = Checking::new(true);
        loop {
            for _ in 0..=master.dice.below(3) {
                master.mutate();
                bench.send(&mut master);
            }
            if !bench.tree().check_step(&reader, &mut checking).unwrap() {
                break;
            }
        }
        let checked = checking.into_checked();
        assert!(checked.differences.is_empty(), "{:?}", checked.differences);
        bench.sync();
        bench.store.flush().unwrap();
        while bench.store.maintain().unwrap() {}
    }
}

/// A disk image of a gigabyte with a page of data is compared by that page.
#[test]
fn holes_are_not_read() {
    let (mut bench, mut master) = (Bench::new(false), Master::new(1));
    let file = master.make(FileId::ROOT, "disk", Kind::File, b"x");
    bench.follow(&mut master);
    master.write(file, b"y".to_vec());
    let mut incoming = master.send();
    let page = vec![7; 4096];
    let row = &mut incoming.filled.change.files[0];
    row.meta.size = 1 << 30;
    let extents = vec![Extent { offset: 512 << 20, len: 4096, zero: false }];
    row.content = Content::Extents { fresh: true, extents, hash: ContentHash::of(&page) };
    incoming.filled.payload = page;
    bench.commit(&incoming);
    bench.apply();
    let reader = bench.store.reader();
    let checked = bench.tree().check(&reader, true).unwrap();
    assert!(checked.differences.is_empty(), "{:?}", checked.differences);
    assert!(checked.bytes <= 4 << 20, "{} bytes were read", checked.bytes);
    // What someone wrote into the hole is found all the same.
    let live = fs::OpenOptions::new().write(true).open(bench.live().join("disk")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&live, b"z", 900 << 20).unwrap();
    let checked = bench.tree().check(&reader, true).unwrap();
    let at = checked.differences.iter().find_map(|difference| match difference.kind {
        DifferenceKind::Content(at) => Some(at),
        _ => None,
    });
    assert_eq!(at, Some(900 << 20), "{:?}", checked.differences);
}

/// A comparison waits for a tree that is far behind, and lets others have their turn meanwhile.
#[test]
fn a_comparison_takes_a_few_steps_at_a_time() {
    let (mut bench, mut master) = (Bench::new(false), Master::new(1));
    bench.follow(&mut master);
    // Each folder is more than half of what a step takes.
    folders(&mut bench, &mut master, CATCH_UP_STEPS as usize + 2, STEP_ROWS_MAX / 2);
    let (reader, latest) = (bench.store.reader(), bench.store.latest());
    let mut checking = Checking::new(true);
    assert!(bench.tree().check_step(&reader, &mut checking).unwrap());
    assert!(bench.tree().reached() < latest);
    assert_eq!(checking.checked().files, 0, "what is behind differs");
    while bench.tree().check_step(&reader, &mut checking).unwrap() {}
    let checked = checking.into_checked();
    assert!(checked.differences.is_empty(), "{:?}", checked.differences);
    assert!(checked.files > STEP_ROWS_MAX as u64);
}
