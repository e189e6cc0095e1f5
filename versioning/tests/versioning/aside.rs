//! What retention removed comes back as it was, for a day, or until the disk is short.

use std::sync::Arc;

use keepshare_base::{CommitId, FileId, Kind};
use keepshare_versioning::{
    ASIDE_MICROS, Arrival, Aside, CommitError, ReadError, Store, StoreOptions,
    disk::{
        Disk,
        sim::{Crash, SimDisk},
    },
};

use crate::rig::{NOW, Part, ROOT, Rig, SECOND, bytes, edit, meta, options};

const HOUR: i64 = 3600 * SECOND;

/// Removes the index, so that it is built from the log.
fn rebuild(rig: &mut Rig) {
    rig.store.flush().unwrap();
    let disk = rig.disk.reopen(Crash::KeepAll);
    disk.remove("index.redb").unwrap();
    disk.sync_dir("").unwrap();
    rig.reopen_on(disk);
    assert!(rig.report.rebuilt.is_some());
}

fn ids(aside: &[Aside]) -> Vec<(FileId, CommitId)> {
    aside.iter().map(|aside| (aside.file, aside.commit)).collect()
}

/// A version that is aside is shown as removed, whoever asks, and comes back under its own name with its own bytes.
#[test]
fn what_was_removed_is_shown_to_nobody_and_comes_back() {
    let mut rig = Rig::new();
    let contents = [bytes(1, 300), bytes(2, 40_000), bytes(3, 300_000), b"now".to_vec()];
    let file = rig.add(ROOT, "f", &contents[0]);
    for content in &contents[1..] {
        rig.apply(edit().whole(file, content, true));
    }
    let before = rig.view().versions(file).unwrap();
    let gone: Vec<_> = before[1..].iter().rev().map(|state| (file, state.commit)).collect();
    let aside = rig.set_aside(&gone);
    assert_eq!(ids(&aside), gone);
    assert_eq!(rig.aside(), aside);
    assert_eq!(aside.iter().map(|aside| aside.size).collect::<Vec<_>>(), [300, 40_000, 300_000]);
    let shown = rig.view().versions(file).unwrap();
    assert_eq!(
        shown.iter().map(|state| state.expired).collect::<Vec<_>>(),
        [false, true, true, true]
    );
    for state in &shown[1..] {
        let error = rig.reader().read(state, 0, 1).unwrap_err();
        assert!(matches!(error, ReadError::Expired { .. }), "{error:?}");
    }
    assert_eq!(rig.store.set_aside(rig.master.now, 9, &gone).unwrap(), [], "it went already");
    let newest = [(file, before[0].commit)];
    assert_eq!(rig.store.set_aside(rig.master.now, 9, &newest).unwrap(), [], "it is what is there");
    rebuild(&mut rig);
    assert_eq!(rig.aside(), aside);
    assert_eq!(rig.bring_back(0), aside);
    assert_eq!(rig.aside(), []);
    assert_eq!(rig.view().versions(file).unwrap(), before);
    for (state, content) in before.iter().rev().zip(&contents) {
        assert!(rig.read(state) == *content, "{}", state.commit);
    }
    assert_eq!(rig.bring_back(0), [], "once");
}

/// What is gone for good cannot be put aside, and what is aside can be removed at once.
#[test]
fn what_is_gone_stays_gone() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "f", &bytes(1, 300_000));
    let first = (file, rig.store.latest());
    let second = (file, rig.apply(edit().whole(file, &bytes(2, 300_000), true)));
    rig.apply(edit().whole(file, b"now", true));
    rig.store.expire(&[first]).unwrap();
    assert_eq!(ids(&rig.set_aside(&[first, second])), [second]);
    rig.store.expire(&[second]).unwrap();
    while rig.store.maintain().unwrap() {}
    assert_eq!(rig.aside(), []);
    assert_eq!(rig.bring_back(0), []);
    assert_eq!(rig.content(NOW, "f"), b"now");
    let empty = keepshare_base::ContentHash(*blake3::Hasher::new().finalize().as_bytes());
    for (table, digest) in rig.view().digests().unwrap() {
        let is_empty = ["aside", "base", "page", "sweep", "body", "pack"].contains(&table);
        assert!(!is_empty || digest == empty, "{table} is not empty");
    }
}

/// What a person undoes is what the last run removed; everything is a wider word.
#[test]
fn runs_come_back_one_by_one() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "f", b"0");
    let mut commits = vec![(file, rig.store.latest())];
    for save in 1..6 {
        commits.push((file, rig.apply(edit().whole(file, &[save], true))));
    }
    let first = rig.set_aside(&commits[..2]);
    rig.master.now = rig.master.now.plus_micros(HOUR);
    let second = rig.set_aside(&commits[2..4]);
    let newest = rig.view().newest_aside().unwrap().unwrap();
    assert_eq!(newest, second[0].since_micros);
    assert!(newest > first[0].since_micros);
    let page = rig.view().aside(0, Some(&first[0]), 2).unwrap();
    assert_eq!(page, [first[1], second[0]]);
    assert_eq!(rig.bring_back(newest), second);
    assert_eq!(rig.aside(), first);
    assert_eq!(rig.store.bring_back(0, 1).unwrap(), first[..1]);
    assert_eq!(rig.bring_back(0), first[1..]);
}

/// While a version is aside, packs are emptied and moved, and bodies are looked through for others that go: it keeps each
/// byte.
#[test]
fn what_is_aside_moves_and_is_swept_around() {
    let mut rig = Rig::new();
    let size = 600 * 1024;
    let mut content = bytes(1, size);
    let file = rig.add(ROOT, "db", &content);
    let mut versions = vec![((file, rig.store.latest()), content.clone())];
    let small = rig.add(ROOT, "small", &bytes(5, 3000));
    let small = ((small, rig.store.latest()), bytes(5, 3000));
    rig.apply(edit().whole(small.0.0, b"now", true));
    let mut others = vec![];
    for i in 0..150_u64 {
        let page = bytes(100 + i, 4096);
        let offset = (i as usize * 7 % 40) * 8192;
        content[offset..offset + 4096].copy_from_slice(&page);
        let part = [Part::Data(offset as u64, &page)];
        let at = rig.apply(edit().write(file, size as u64, false, &part, true));
        versions.push(((file, at), content.clone()));
        let text = format!("f{i}");
        let large = rig.add(ROOT, &text, &bytes(1000 + i, size));
        others.push((large, rig.store.latest()));
        rig.apply(edit().gone(ROOT, &text));
    }
    // Cut off and longer again: what is aside needs what a void hides from those after it.
    for size in [size / 2, size] {
        let at = rig.apply(edit().resize(file, size as u64, true));
        content.resize(size, 0);
        versions.push(((file, at), content.clone()));
    }
    rig.apply(edit().write(file, size as u64, false, &[Part::Data(0, b"now")], true));
    versions.push(small);
    let is_aside = |i: usize| i.is_multiple_of(3) || i > 148;
    let aside: Vec<_> =
        (0..versions.len()).filter(|i| is_aside(*i)).map(|i| versions[i].0).collect();
    let gone = (0..versions.len()).filter(|i| !is_aside(*i)).map(|i| versions[i].0);
    rig.set_aside(&aside);
    rig.store.expire(&gone.chain(others).collect::<Vec<_>>()).unwrap();
    let before = rig.disk.list("packs").unwrap();
    for _ in 0..2 {
        while rig.store.maintain().unwrap() {}
        rig.store.empty_packs().unwrap();
    }
    while rig.store.maintain().unwrap() {}
    let after = rig.disk.list("packs").unwrap();
    assert!(before.len() > 1 && !after.contains(&before[0]), "{before:?}, {after:?}");
    assert_eq!(rig.aside().len(), aside.len());
    rebuild(&mut rig);
    let digests = rig.view().digests().unwrap();
    let back = rig.bring_back(0);
    assert_eq!(back.len(), aside.len());
    for (i, ((file, at), content)) in versions.iter().enumerate() {
        let state = rig.view().file(*file, *at).unwrap().unwrap();
        assert_eq!(state.commit == *at, is_aside(i));
        assert!(!is_aside(i) || rig.read(&state) == *content, "version {i}");
    }
    let aside = |digests: &[(&'static str, keepshare_base::ContentHash)]| {
        let kept = digests.iter().filter(|(table, _)| ["blob", "body", "pack"].contains(table));
        kept.copied().collect::<Vec<_>>()
    };
    assert_eq!(aside(&rig.view().digests().unwrap()), aside(&digests), "it counted as there");
}

/// An index that is behind follows what happened to what is aside, and one that is built anew says the same.
#[test]
fn an_index_that_is_behind_or_lost_lists_the_same() {
    let mut rig = Rig::new();
    let mut versions = vec![];
    for i in 0..40_u64 {
        let len = [100, 3000, 200_000][i as usize % 3];
        let file = rig.add(ROOT, &format!("f{i}"), &bytes(i, len));
        versions.push((file, rig.store.latest()));
        rig.apply(edit().whole(file, b"now", true));
    }
    rig.set_aside(&versions[..10]);
    // All of what follows is replayed over an index that knows this.
    rig.store.flush().unwrap();
    rig.store.bring_back(0, 4).unwrap();
    rig.store.sync().unwrap();
    rig.master.now = rig.master.now.plus_micros(HOUR);
    rig.set_aside(&versions[2..20]);
    rig.store.expire(&versions[5..7]).unwrap();
    rig.store.bring_back(rig.view().newest_aside().unwrap().unwrap(), 3).unwrap();
    rig.store.sync().unwrap();
    let (aside, digests) = (rig.aside(), rig.view().digests().unwrap());
    assert!(aside.len() > 10, "{}", aside.len());
    rig.crash(Crash::LoseAll);
    assert_eq!(rig.report.rebuilt, None);
    assert!(rig.report.replayed > 0);
    assert_eq!((rig.aside(), rig.view().digests().unwrap()), (aside.clone(), digests.clone()));
    rebuild(&mut rig);
    assert_eq!((rig.aside(), rig.view().digests().unwrap()), (aside, digests));
}

/// The log's next generation holds what is aside, too.
#[test]
fn a_log_that_is_written_anew_keeps_what_is_aside() {
    let mut rig = Rig::new();
    let few = StoreOptions { log_bytes_min: 4096, ..options() };
    (rig.store, _) = Store::open(Arc::new(rig.disk.clone()), few).unwrap();
    let file = rig.add(ROOT, "f", &bytes(1, 400));
    let mut versions = vec![(file, rig.store.latest())];
    for i in 2..60 {
        versions.push((file, rig.apply(edit().whole(file, &bytes(i, 400), true))));
    }
    versions.pop();
    let aside = rig.set_aside(&versions);
    for i in 0..200 {
        rig.apply(edit().whole(file, &bytes(1000 + i, 400), true));
        rig.store.maintain().unwrap();
    }
    assert_ne!(rig.disk.list("log").unwrap(), ["0000000001"]);
    rebuild(&mut rig);
    assert_eq!(rig.bring_back(0), aside);
    for (i, (_, at)) in versions.iter().enumerate() {
        assert_eq!(rig.content(*at, "f"), bytes(1 + i as u64, 400));
    }
}

/// The day that is promised is one of running time: no clock that is wrong takes an hour of it.
#[test]
fn a_day_is_one_of_running_time() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "f", b"1");
    let first = (file, rig.store.latest());
    rig.apply(edit().whole(file, b"2", true));
    let year = 365 * 24 * HOUR;
    let began = rig.master.now;
    // So long after the last change.
    let at = |clock, up: i64| {
        let up_micros = Some(1_000_000_000 + up.unsigned_abs());
        Arrival { clock: began.plus_micros(clock), up_micros, sent: None }
    };
    let is_aside = |rig: &mut Rig, now| {
        rig.store.tick(now);
        while rig.store.maintain().unwrap() {}
        !rig.aside().is_empty()
    };
    rig.store.tick(at(0, 0));
    // It runs for ten days without a change.
    let day = 24 * HOUR;
    let removed = at(10 * day, 10 * day);
    rig.store.tick(removed);
    let since = rig.store.running_micros(&removed);
    assert_eq!(rig.store.set_aside(removed, since, &[first]).unwrap().len(), 1);
    for clock in [-year, 10 * day, year] {
        assert!(is_aside(&mut rig, at(clock, 10 * day + HOUR)), "{clock}");
    }
    // Opened again, it goes on from where it was removed, and by the machine that is up since.
    rig.crash(Crash::LoseAll);
    assert!(is_aside(&mut rig, at(10 * day + 2 * HOUR, 0)), "before anything told the time");
    assert!(is_aside(&mut rig, at(year, 21 * HOUR)));
    let over = at(year, 22 * HOUR);
    assert!(!is_aside(&mut rig, over), "{} µs", rig.store.running_micros(&over) - since);
    assert_eq!(rig.bring_back(0), []);
}

/// While the set was stopped, no more than a day passes, and before somebody says what time it is none.
#[test]
fn nothing_is_let_go_of_before_the_time_is_told() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "f", b"1");
    let first = (file, rig.store.latest());
    rig.apply(edit().whole(file, b"2", true));
    let aside = rig.set_aside(&[first]);
    rig.crash(Crash::LoseAll);
    while rig.store.maintain().unwrap() {}
    assert_eq!(rig.aside(), aside);
    rig.master.now = rig.master.now.plus_micros(i64::try_from(ASIDE_MICROS).unwrap() - SECOND);
    rig.store.tick(rig.master.now);
    while rig.store.maintain().unwrap() {}
    assert_eq!(rig.aside(), aside);
    rig.store.tick(rig.master.now.plus_micros(SECOND));
    while rig.store.maintain().unwrap() {}
    assert_eq!(rig.aside(), []);
}

/// A disk that is short takes the oldest first, and no more than it needs; what is left comes back.
#[test]
fn a_short_disk_takes_what_is_aside() {
    let disk = SimDisk::new();
    let mut rig = Rig::on(disk.clone());
    let reserve_bytes = 16 << 20;
    let options = StoreOptions { reserve_bytes, ..options() };
    (rig.store, _) = Store::open(Arc::new(disk.clone()), options).unwrap();
    let file = rig.add(ROOT, "f", b"0");
    let mut versions = vec![];
    for i in 0..1300_u64 {
        versions.push((file, rig.commit(edit().whole(file, &bytes(i, 60_000), true))));
    }
    rig.apply(edit().whole(file, b"now", true));
    let half = rig.set_aside(&versions[..700]);
    rig.master.now = rig.master.now.plus_micros(HOUR);
    let late = rig.set_aside(&versions[700..]);
    while rig.store.maintain().unwrap() {}
    assert_eq!(rig.aside().len(), half.len() + late.len(), "there is space");
    disk.set_capacity(Some(disk.used_bytes() + (12 << 20)));
    let refused = rig.master.clone().next(edit());
    let refused = rig.store.commit(rig.master.now, &refused);
    assert!(matches!(refused, Err(CommitError::Full)), "{refused:?}");
    while rig.store.maintain().unwrap() {}
    let free = disk.free_bytes().unwrap();
    assert!(free > reserve_bytes, "{free} free");
    let left = rig.aside();
    assert!(!left.is_empty() && late.ends_with(&left), "{} are left", left.len());
    rig.add(ROOT, "more", b"space");
    assert_eq!(rig.bring_back(0), left);
    for aside in &left {
        let i = versions.iter().position(|version| version.1 == aside.commit).unwrap();
        assert!(rig.content(aside.commit, "f") == bytes(i as u64, 60_000), "version {i}");
    }
    assert_eq!(rig.content(NOW, "f"), b"now");
}

/// What was dead already is given back first: nothing has to go for that.
#[test]
fn a_short_disk_takes_nothing_that_is_not_needed() {
    let disk = SimDisk::new();
    let mut rig = Rig::on(disk.clone());
    let options = StoreOptions { reserve_bytes: 16 << 20, ..options() };
    (rig.store, _) = Store::open(Arc::new(disk.clone()), options).unwrap();
    let mut dead = vec![];
    for i in 0..130_u64 {
        let file = rig.add(ROOT, "f", &bytes(i, 600 * 1024));
        dead.push((file, rig.store.latest()));
        rig.apply(edit().gone(ROOT, "f"));
    }
    let file = rig.add(ROOT, "kept", &bytes(1, 3000));
    let version = (file, rig.store.latest());
    rig.apply(edit().whole(file, b"now", true));
    let aside = rig.set_aside(&[version]);
    disk.set_capacity(Some(disk.used_bytes() + (2 << 20)));
    rig.store.expire(&dead).unwrap();
    while rig.store.maintain().unwrap() {}
    assert!(disk.free_bytes().unwrap() > 16 << 20, "{} free", disk.free_bytes().unwrap());
    assert_eq!(rig.aside(), aside);
}

/// Removal and undo work where there is no space for anything else.
#[test]
fn a_full_disk_takes_a_removal_and_an_undo() {
    let disk = SimDisk::new();
    let mut rig = Rig::on(disk.clone());
    let options = StoreOptions { reserve_bytes: 16 << 20, ..options() };
    (rig.store, _) = Store::open(Arc::new(disk.clone()), options).unwrap();
    let mut versions = vec![];
    for i in 0..130_u64 {
        let file = rig.add(ROOT, "f", &bytes(i, 600 * 1024));
        versions.push((file, rig.store.latest()));
        rig.apply(edit().gone(ROOT, "f"));
    }
    disk.set_capacity(Some(disk.used_bytes()));
    assert_eq!(rig.set_aside(&versions).len(), 130);
    assert_eq!(rig.bring_back(0).len(), 130);
    let (file, at) = versions[7];
    let state = rig.view().file(file, at).unwrap().unwrap();
    assert!(rig.read(&state) == bytes(7, 600 * 1024));
    assert_eq!(rig.set_aside(&versions).len(), 130);
    while rig.store.maintain().unwrap() {}
    assert!(disk.free_bytes().unwrap() > 40 << 20, "{} free", disk.free_bytes().unwrap());
    rig.add(ROOT, "more", b"space");
}

/// Steps are short, however long the attributes of what goes: a changed set waits for none.
#[test]
fn what_is_let_go_of_goes_in_short_records() {
    let mut rig = Rig::new();
    let mut versions = vec![];
    for i in 0..60_u64 {
        let file = rig.master.file();
        let mut attributes = meta(Kind::File, 10);
        attributes.xattrs = vec![(b"user.long".to_vec(), bytes(i, 60_000))];
        let mut content = edit().whole(file, &bytes(i, 10), true);
        content.change.files[0].meta = attributes;
        rig.apply(content.put(ROOT, "f", file));
        versions.push((file, rig.store.latest()));
    }
    versions.pop();
    let aside = rig.set_aside(&versions);
    assert_eq!(aside.len(), 59);
    let back = rig.store.bring_back(0, usize::MAX).unwrap();
    rig.store.sync().unwrap();
    assert!(!back.is_empty() && back.len() < 30, "{} at once", back.len());
    rig.bring_back(0);
    rig.set_aside(&versions);
    for hours in [0, 25] {
        let up_micros = Some(hours * HOUR.unsigned_abs());
        rig.store.tick(Arrival { clock: rig.master.now, up_micros, sent: None });
    }
    let mut steps = 0;
    while rig.store.maintain().unwrap() {
        steps += 1;
    }
    assert!(steps > 2 && rig.aside().is_empty(), "{steps} steps");
}
