//! Logs written anew, content removed, packs emptied: what is kept reads as before.

use std::sync::Arc;

use keepshare_base::{CommitId, Kind};
use keepshare_versioning::{
    ReadError, Store, StoreOptions, Touched,
    disk::{Disk, sim::Crash},
};

use crate::rig::{NOW, Part, ROOT, Rig, bytes, edit, meta, options};

fn reopen(rig: &mut Rig, log_bytes_min: u64) {
    rig.disk = rig.disk.reopen(Crash::LoseAll);
    let options = StoreOptions { log_bytes_min, ..options() };
    (rig.store, rig.report) = Store::open(Arc::new(rig.disk.clone()), options).unwrap();
}

/// The log is written anew in steps; changes come in between, and none is lost or seen twice.
#[test]
fn a_log_is_written_anew_while_changes_come() {
    let mut rig = Rig::new();
    reopen(&mut rig, 4096);
    let file = rig.add(ROOT, "f", b"0");
    for i in 1..400_u32 {
        rig.apply(edit().whole(file, &i.to_le_bytes(), i % 3 == 0));
        rig.store.maintain().unwrap();
    }
    let generation = rig.disk.list("log").unwrap();
    assert_eq!(generation.len(), 1, "{generation:?}");
    assert_ne!(generation[0], "0000000001");
    let digests = rig.view().digests().unwrap();
    let before = CommitId(rig.store.latest().0 - 300);
    rig.disk.remove("index.redb").unwrap();
    rig.disk.sync_dir("").unwrap();
    reopen(&mut rig, 4096);
    assert!(rig.report.rebuilt.is_some());
    assert!(rig.report.replayed < 400, "{} replayed", rig.report.replayed);
    assert_eq!(rig.view().digests().unwrap(), digests);
    assert_eq!(rig.view().touched(before).unwrap(), Touched::Everything, "the detail is gone");
    assert_eq!(rig.content(NOW, "f"), 399_u32.to_le_bytes());
}

/// Removing versions of a database file gives its pages back, and no page that another version needs.
#[test]
fn removed_versions_free_their_pages_only() {
    let mut rig = Rig::new();
    let size = 600 * 1024;
    let mut content = bytes(1, size);
    let file = rig.add(ROOT, "db", &content);
    let mut versions = vec![(rig.store.latest(), content.clone())];
    for i in 0..24_u64 {
        let page = bytes(100 + i, 4096);
        let offset = (i as usize * 7 % 40) * 8192;
        content[offset..offset + 4096].copy_from_slice(&page);
        let at = rig.apply(edit().write(
            file,
            size as u64,
            false,
            &[Part::Data(offset as u64, &page)],
            true,
        ));
        versions.push((at, content.clone()));
    }
    let keep = |i: usize| i.is_multiple_of(6);
    let gone: Vec<_> = (0..24).filter(|i| !keep(*i)).map(|i| (file, versions[i].0)).collect();
    let late = rig.view().file(file, versions[5].0).unwrap().unwrap();
    rig.store.expire(&gone).unwrap();
    while rig.store.maintain().unwrap() {}
    let error = rig.reader().read(&late, 0, 10).unwrap_err();
    assert!(matches!(error, ReadError::Expired { .. }), "{error:?}");
    for (i, (at, content)) in versions.iter().enumerate() {
        let state = rig.view().file(file, *at).unwrap().unwrap();
        if keep(i) {
            assert_eq!(state.commit, *at);
            assert!(rig.read(&state) == *content, "version {i}");
        } else {
            assert_eq!(state.commit, versions[i - i % 6].0, "the nearest older kept one");
        }
    }
    let marked = rig.view().versions(file).unwrap();
    assert_eq!(marked.len(), 25);
    assert_eq!(marked.iter().filter(|state| state.expired).count(), gone.len());
}

/// A void stays as long as anything that it hides, or what was cut off would come back.
#[test]
fn a_void_goes_after_what_it_hides() {
    let mut rig = Rig::new();
    let long = bytes(1, 300_000);
    let file = rig.add(ROOT, "f", &long);
    let first = rig.store.latest();
    let short = rig.apply(edit().resize(file, 100_000, true));
    let again = rig.apply(edit().resize(file, 300_000, true));
    rig.apply(edit().write(file, 300_000, false, &[Part::Data(0, b"now")], true));
    let mut want = long[..100_000].to_vec();
    want.resize(300_000, 0);
    let void = |rig: &Rig| rig.view().digests().unwrap().into_iter().find(|(t, _)| *t == "void");
    let with_void = void(&rig);
    for gone in [short, first] {
        rig.store.expire(&[(file, gone)]).unwrap();
        while rig.store.maintain().unwrap() {}
        let state = rig.view().file(file, again).unwrap().unwrap();
        assert!(rig.read(&state) == want, "with {gone} removed");
        if gone == short {
            assert_eq!(void(&rig), with_void, "the first version still needs what it hides");
            let state = rig.view().file(file, first).unwrap().unwrap();
            assert!(rig.read(&state) == long);
        }
    }
}

/// Content that only dead versions had leaves the disk; what lives in the same pack is moved and reads on.
#[test]
fn packs_that_are_mostly_dead_are_emptied() {
    let mut rig = Rig::new();
    let mut files = vec![];
    // More than one pack, since only sealed ones are looked at.
    for i in 0..150_u64 {
        let file = rig.master.file();
        let text = format!("f{i}");
        rig.apply(edit().whole(file, &bytes(i, 600 * 1024), true).put(ROOT, &text, file));
        files.push((file, rig.store.latest()));
    }
    let small = rig.add(ROOT, "small", &bytes(1000, 3000));
    let packs = rig.disk.list("packs").unwrap().len();
    assert!(packs > 1, "{packs} packs");
    let mut gone = vec![];
    for (i, (file, at)) in files.iter().enumerate() {
        if i % 10 != 0 {
            rig.apply(edit().gone(ROOT, &format!("f{i}")));
            gone.push((*file, *at));
        }
    }
    let used = rig.disk.used_bytes();
    rig.store.expire(&gone).unwrap();
    while rig.store.maintain().unwrap() {}
    rig.store.empty_packs().unwrap();
    while rig.store.maintain().unwrap() {}
    assert!(rig.disk.used_bytes() < used - 40_000_000, "{} of {used}", rig.disk.used_bytes());
    let check = |rig: &Rig| {
        for i in (0..150_u64).step_by(10) {
            assert!(rig.content(NOW, &format!("f{i}")) == bytes(i, 600 * 1024), "f{i}");
        }
        assert!(rig.content(NOW, "small") == bytes(1000, 3000));
    };
    check(&rig);
    let digests = rig.view().digests().unwrap();
    rig.disk.remove("index.redb").unwrap();
    rig.disk.sync_dir("").unwrap();
    reopen(&mut rig, 1 << 30);
    assert_eq!(rig.view().digests().unwrap(), digests);
    check(&rig);
    assert_eq!(rig.view().versions(small).unwrap().len(), 1);
}

/// A file written over in one go while it was open, and had no name yet, leaves no content behind that nothing needs.
#[test]
fn content_that_was_never_a_version_is_swept() {
    let mut rig = Rig::new();
    let file = rig.master.file();
    rig.apply(edit().whole(file, &bytes(1, 300_000), false));
    rig.apply(edit().whole(file, &bytes(2, 300_000), false));
    rig.apply(edit().resize(file, 100_000, false));
    rig.apply(edit().whole(file, &bytes(3, 100), true).put(ROOT, "f", file));
    while rig.store.maintain().unwrap() {}
    let empty = keepshare_base::ContentHash(*blake3::Hasher::new().finalize().as_bytes());
    for (table, digest) in rig.view().digests().unwrap() {
        if ["base", "page", "void", "sweep", "body", "pack"].contains(&table) {
            assert_eq!(digest, empty, "{table} is not empty");
        }
    }
    assert_eq!(rig.content(NOW, "f"), bytes(3, 100));
}

/// A body with more needless pages than one record should hold is looked through in short ones, and nothing stops.
#[test]
fn a_body_with_many_needless_pages_is_swept_in_short_records() {
    let mut rig = Rig::new();
    let size = 32 << 20;
    let file = rig.master.file();
    let first = edit().write(file, size, true, &[Part::Data(0, &bytes(1, 4096))], true);
    rig.apply(first.put(ROOT, "image", file));
    // With 104 of them the rows of one step would not fit into the longest record.
    let count = std::env::var("KEEPSHARE_SWEEP_VERSIONS").map_or(8, |count| count.parse().unwrap());
    let mut versions = vec![];
    for _ in 0..count {
        let zeros: Vec<_> = (0..512).map(|block| Part::Zeros(block * 65_536, 61_440)).collect();
        versions.push((file, rig.apply(edit().write(file, size, false, &zeros, true))));
    }
    versions.pop();
    let pages = versions.len() as u64 * 7680;
    let before = rig.store.expire(&versions).unwrap();
    while rig.store.maintain().unwrap() {}
    let records = rig.store.latest().0 - before.0;
    assert!(records > pages / 20_000, "{records} records for {pages} rows");
    rig.apply(edit().whole(file, b"goes on", true));
    rig.crash(Crash::LoseAll);
    while rig.store.maintain().unwrap() {}
    assert_eq!(rig.content(NOW, "image"), b"goes on");
}

/// Rows with long attributes make the records of a move long, not the content that moves.
#[test]
fn rows_with_long_attributes_move_in_short_records() {
    let mut rig = Rig::new();
    let mut kept = vec![];
    for i in 0..160_u64 {
        let file = rig.master.file();
        let mut attributes = meta(Kind::File, 4000);
        let value = bytes(5000 + i, 60_000);
        attributes.xattrs = vec![(b"user.long".to_vec(), value)];
        let mut content = edit().whole(file, &bytes(i, 4000), true);
        content.change.files[0].meta = attributes;
        rig.apply(content.put(ROOT, &format!("k{i}"), file));
        kept.push(file);
    }
    let mut gone = vec![];
    for i in 0..150_u64 {
        let file = rig.add(ROOT, &format!("f{i}"), &bytes(i, 600 * 1024));
        gone.push((file, rig.store.latest()));
        rig.apply(edit().gone(ROOT, &format!("f{i}")));
    }
    assert!(rig.disk.list("packs").unwrap().len() > 1);
    rig.store.expire(&gone).unwrap();
    while rig.store.maintain().unwrap() {}
    rig.store.empty_packs().unwrap();
    let used = rig.disk.used_bytes();
    while rig.store.maintain().unwrap() {}
    assert!(!rig.disk.list("packs").unwrap().contains(&"0000000001".to_owned()), "{used}");
    for (i, _) in kept.iter().enumerate() {
        assert!(rig.content(NOW, &format!("k{i}")) == bytes(i as u64, 4000), "k{i}");
    }
}
