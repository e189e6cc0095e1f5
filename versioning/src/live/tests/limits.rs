//! What a live tree's file system cannot hold keeps nothing else back.

use std::fs;

use keepshare_base::{FileId, Kind};

use super::{bench::Bench, is_root, master::Master, trip};
use crate::{Touched, live::ProblemCause};

/// Attributes that the file system does not take: content and name go on, and what is left out is told.
#[test]
fn attributes_that_do_not_fit_hold_no_content_back() {
    let (mut bench, mut master) = (Bench::new(false), Master::new(1));
    let file = master.make(FileId::ROOT, "file", Kind::File, b"one");
    bench.follow(&mut master);
    trip::xattr_bytes_max(1000);
    let mut write = |bytes: &[u8], xattrs: Vec<(Vec<u8>, Vec<u8>)>| {
        master.write(file, bytes.to_vec());
        master.set.files.get_mut(&file).unwrap().meta.xattrs = xattrs;
        bench.send(&mut master);
        let problems = bench.apply().problems;
        bench.expect(&master.set);
        problems
    };
    let (fits, big) = ((b"user.a".to_vec(), vec![1; 10]), (b"user.b".to_vec(), vec![1; 8000]));
    for bytes in [&b"two"[..], b"three"] {
        let problems = write(bytes, vec![fits.clone(), big.clone()]);
        let [problem] = &problems[..] else { panic!("{problems:?}") };
        assert!(matches!(&problem.cause, ProblemCause::Attributes(_)), "{problem}");
        assert!(problem.to_string().contains("user.b"), "{problem}");
        assert_eq!(problem.file, Some(file));
    }
    assert!(write(b"four", vec![fits]).is_empty());
    trip::xattr_bytes_max(usize::MAX);
    assert!(!bench.tree().has_retries());
}

/// What did not fit is tried again, and right where it does.
#[test]
fn attributes_that_fit_later_are_set_then() {
    let (mut bench, mut master) = (Bench::new(false), Master::new(1));
    let file = master.make(FileId::ROOT, "file", Kind::File, b"one");
    master.set.files.get_mut(&file).unwrap().meta.xattrs =
        vec![(b"user.b".to_vec(), vec![1; 8000])];
    bench.send(&mut master);
    trip::xattr_bytes_max(1000);
    assert_eq!(bench.apply().problems.len(), 1);
    bench.sync();
    bench.open();
    assert_eq!(bench.apply().problems.len(), 1, "it is told after a restart, too");
    trip::xattr_bytes_max(usize::MAX);
    assert!(bench.apply().problems.is_empty());
    assert!(!bench.tree().has_retries());
    bench.expect(&master.set);
}

/// Without its access list, the group bits of a file are a mask that must not become rights.
#[test]
fn a_list_that_is_left_out_gives_no_one_more_rights() {
    if !is_root() {
        return;
    }
    let (mut bench, mut master) = (Bench::new(true), Master::new(1));
    let file = master.make(FileId::ROOT, "file", Kind::File, b"one");
    let meta = &mut master.set.files.get_mut(&file).unwrap().meta;
    meta.mode = 0o670;
    // No list that the kernel knows.
    meta.xattrs = vec![(b"system.posix_acl_access".to_vec(), vec![9; 8])];
    bench.send(&mut master);
    let applied = bench.apply();
    assert_eq!(applied.problems.len(), 1, "{:?}", applied.problems);
    let mode =
        std::os::unix::fs::MetadataExt::mode(&fs::metadata(bench.live().join("file")).unwrap());
    assert_eq!(mode & 0o7777, 0o600);
}

/// One file that cannot be written must not have the index remember what all others were touched by.
#[test]
fn a_file_that_fails_keeps_no_rows_of_others() {
    let (mut bench, mut master) = (Bench::new(false), Master::new(1));
    let noise: Vec<u8> =
        (0..40_000u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let large = master.make(FileId::ROOT, "large", Kind::File, &noise[..50_000]);
    let small = master.make(FileId::ROOT, "small", Kind::File, b"small");
    bench.follow(&mut master);
    bench.sync();
    master.write(large, noise[70_000..120_000].to_vec());
    bench.send(&mut master);
    let pack = "packs/0000000001";
    let middle = bench.disk.content(pack).len() as u64 - 20_000;
    bench.disk.flip(pack, middle, 3);
    let reader = bench.store.reader();
    for round in 0..200 {
        master.write(small, format!("round {round}").into_bytes());
        bench.send(&mut master);
        bench.tree().apply(&reader, false).unwrap();
    }
    assert!(bench.tree().has_retries());
    let reached = bench.tree().reached();
    bench.sync();
    bench.store.flush().unwrap();
    let view = reader.view().unwrap();
    let before = keepshare_base::CommitId(reached.0 - 1);
    assert!(matches!(view.touched(before).unwrap(), Touched::Everything), "rows stay");
    drop(view);
    bench.disk.flip(pack, middle, 3);
    let applied = bench.apply();
    assert!(applied.problems.is_empty(), "{:?}", applied.problems);
    bench.expect(&master.set);
}

/// Content that went while a file could not be written, and of which nothing is known any more, goes from it too.
#[test]
fn what_went_meanwhile_goes_when_the_file_can_be_written_again() {
    for seed in 0..12 {
        let (mut bench, mut master) = (Bench::new(false), Master::new(seed));
        let noise: Vec<u8> =
            (0..60_000u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let file = master.make(FileId::ROOT, "disk", Kind::File, &noise);
        bench.follow(&mut master);
        bench.sync();
        let reader = bench.store.reader();
        let at = bench.tree().reached;
        for len in [0, 240_000] {
            let mut bytes = noise[..len.min(4096)].to_vec();
            bytes.resize(len, 0);
            master.write(file, bytes);
            bench.send(&mut master);
            // As if it could not be written.
            bench.tree().retries.add_file(file, at);
            bench.tree().reached = reader.view().unwrap().latest();
        }
        bench.sync();
        bench.store.flush().unwrap();
        while bench.store.maintain().unwrap() {}
        bench.store.flush().unwrap();
        let applied = bench.apply();
        assert!(applied.problems.is_empty(), "{:?}", applied.problems);
        bench.expect(&master.set);
    }
}

/// A row costs a master nothing, however long it says that a file is: only what there is of it is gone through.
#[test]
fn a_file_as_long_as_it_is_said_to_be_is_not_gone_through() {
    const LONG: u64 = 1 << 43;
    let (mut bench, mut master) = (Bench::new(false), Master::new(1));
    let noise: Vec<u8> =
        (0..60_000u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let file = master.make(FileId::ROOT, "disk", Kind::File, &noise);
    let other = master.make(FileId::ROOT, "other", Kind::File, b"other");
    bench.follow(&mut master);
    for (round, size) in [100_000, LONG, 70_000, LONG].into_iter().enumerate() {
        master.write(other, vec![1; round]);
        let mut incoming = master.send();
        let rows = &mut incoming.filled.change.files;
        let mut row = rows[0].clone();
        row.file = file;
        (row.meta.size, row.content, row.cut) = (size, keepshare_base::Content::Same, true);
        rows.push(row);
        bench.commit(&incoming);
        if round > 0 {
            let applied = bench.apply();
            assert!(applied.problems.is_empty(), "{:?}", applied.problems);
        }
    }
    let live = fs::File::open(bench.live().join("disk")).unwrap();
    assert_eq!(live.metadata().unwrap().len(), LONG);
    let mut start = vec![1; 120_000];
    std::os::unix::fs::FileExt::read_exact_at(&live, &mut start, 0).unwrap();
    assert!(start[..70_000] == noise[..70_000] && start[70_000..].iter().all(|byte| *byte == 0));
    let reader = bench.store.reader();
    let checked = bench.tree().check(&reader, true).unwrap();
    assert!(checked.differences.is_empty(), "{:?}", checked.differences);
    // Made anew, and compared to be taken as it is.
    bench.sync();
    fs::remove_file(bench.live().join("disk")).unwrap();
    bench.tree().compare_all();
    bench.apply();
    let checked = bench.tree().check(&reader, true).unwrap();
    assert!(checked.differences.is_empty(), "{:?}", checked.differences);
}
