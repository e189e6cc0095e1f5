//! Which changes are a burst, and from when the set is as it was before.

use keepshare_base::{CommitId, FileId, RequestId, RestoreOutcome, RestoreRow, VersionId};
use keepshare_versioning::{
    Reader, Touched,
    burst::{Burst, Rule, Watch},
    disk::sim::Crash,
};

use crate::rig::{Edit, ROOT, Rig, SECOND, edit, name};

/// How many files a set has.
const FILES: u64 = 100;

/// What does not compress.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    let mut bytes = vec![0; len];
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

fn text(seed: u64) -> Vec<u8> {
    (0..200).flat_map(|line| format!("{seed}: line {line} of a report\n").into_bytes()).collect()
}

/// What does not compress and begins as a photograph does.
fn photo(seed: u64) -> Vec<u8> {
    [b"\xff\xd8\xff\xe0\0\x10JFIF\0".to_vec(), noise(seed, 5000)].concat()
}

/// A set in which somebody works, and who looks at it.
struct Office {
    rig: Rig,
    watch: Watch,
    files: Vec<FileId>,
    /// The newest change before anything is done in a test.
    before: CommitId,
}

impl Office {
    fn new(content: impl Fn(u64) -> Vec<u8>) -> Self {
        let mut rig = Rig::new();
        let files = (0..FILES).map(|n| rig.add(ROOT, &called(n), &content(n))).collect();
        let before = rig.view().latest();
        let mut watch = Watch::new(CommitId(0));
        look(&mut watch, &rig);
        // They were there before anybody looked, and long ago.
        rig.master.now = rig.master.now.plus_micros(3600 * SECOND);
        Self { rig, watch, files, before }
    }

    /// Does something to each of some files, and looks now and then.
    fn each(
        &mut self,
        some: impl Iterator<Item = u64>,
        what: impl Fn(&mut Rig, u64, FileId) -> Edit,
    ) -> Option<Burst> {
        let mut burst = None;
        for n in some {
            let file = self.files[usize::try_from(n).unwrap()];
            let edit = what(&mut self.rig, n, file);
            self.rig.apply(edit);
            if n % 7 == 0 {
                burst = look(&mut self.watch, &self.rig).or(burst);
            }
        }
        look(&mut self.watch, &self.rig).or(burst)
    }
}

fn look(watch: &mut Watch, rig: &Rig) -> Option<Burst> {
    let now = rig.store.running_micros(&rig.master.now.into());
    loop {
        let looked = watch.look(&rig.reader(), &Rule::default(), now).unwrap();
        if !looked.has_more {
            assert_eq!(watch.through(), rig.view().latest());
            return looked.burst;
        }
    }
}

fn called(n: u64) -> String {
    format!("report-{n}.txt")
}

fn all() -> std::ops::Range<u64> {
    0..FILES
}

#[test]
fn files_that_are_encrypted_in_place_are_a_burst_and_what_was_before_is_named() {
    let mut office = Office::new(text);
    // Somebody works, too.
    assert_eq!(office.each(0..5, |_, n, file| edit().whole(file, &text(n + 1000), true)), None);
    let good = office.rig.view().latest();
    assert_eq!(office.each(10..25, |_, n, file| edit().whole(file, &noise(n, 9000), true)), None);
    let burst =
        office.each(25..60, |_, n, file| edit().whole(file, &noise(n, 9000), true)).unwrap();
    assert_eq!(burst.good, good);
    assert_eq!((burst.changed, burst.spoiled), (55, 50));
    assert_eq!(burst.shown[0].to_string(), called(10));
    assert_eq!(burst.users, ["anna"]);
    // It is one for as long as its files count.
    office.rig.master.now = office.rig.master.now.plus_micros(500 * SECOND);
    assert_eq!(look(&mut office.watch, &office.rig).unwrap().good, good);
    office.rig.master.now = office.rig.master.now.plus_micros(150 * SECOND);
    assert_eq!(look(&mut office.watch, &office.rig), None);
}

/// Work that is saved in the seconds in which it begins is not lost by going back.
#[test]
fn the_good_moment_is_right_before_the_first_file_that_is_spoiled() {
    let mut office = Office::new(text);
    for n in 0..50 {
        office.rig.apply(edit().whole(office.files[n], &text(n as u64 + 900), true));
    }
    let good = office.rig.view().latest();
    for round in 0..3 {
        for n in 10..60 {
            let key = noise(n as u64 + round * 1000, 9000);
            office.rig.apply(edit().whole(office.files[n], &key, true));
        }
    }
    assert_eq!(look(&mut office.watch, &office.rig).unwrap().good, good);
}

#[test]
fn it_is_seen_however_it_is_done() {
    type How = fn(&mut Rig, u64, FileId) -> Edit;
    let ways: [(&str, How); 5] = [
        ("renamed with another extension", |_, n, file| {
            edit().gone(ROOT, &called(n)).put(ROOT, &format!("{}.locked", called(n)), file)
        }),
        ("replaced by another file", |rig, n, _| {
            let other = rig.master.file();
            edit().whole(other, &noise(n, 9000), true).put(ROOT, &called(n), other)
        }),
        ("written beside, then deleted", |rig, n, _| {
            let other = rig.master.file();
            let beside = format!("{}.crypt", called(n));
            rig.apply(edit().whole(other, &noise(n, 9000), true).put(ROOT, &beside, other));
            edit().gone(ROOT, &called(n))
        }),
        ("written beside with another extension, then deleted", |rig, n, _| {
            let other = rig.master.file();
            let beside = called(n).replace(".txt", ".wcry");
            rig.apply(edit().whole(other, &noise(n, 9000), true).put(ROOT, &beside, other));
            edit().gone(ROOT, &called(n))
        }),
        ("written twice", |rig, n, file| {
            rig.apply(edit().whole(file, &noise(n, 9000), true));
            edit().whole(file, &noise(n + 5000, 9000), true)
        }),
    ];
    for (way, how) in ways {
        let mut office = Office::new(text);
        let burst = office.each(all(), how);
        let burst = burst.unwrap_or_else(|| panic!("{way} is no burst"));
        assert_eq!(burst.good, office.before, "{way}");
        assert_eq!(burst.spoiled, burst.changed, "{way}");
    }
    // What did not compress before is told by how it begins.
    let mut office = Office::new(photo);
    assert!(office.each(all(), |_, n, file| edit().whole(file, &noise(n, 5000), true)).is_some());
}

#[test]
fn what_people_and_programs_do_is_none() {
    type How = fn(&mut Rig, u64, FileId) -> Edit;
    let ways: [(&str, How); 8] = [
        ("texts are saved", |_, n, file| edit().whole(file, &text(n + 500), true)),
        ("a branch is checked out", |rig, n, _| {
            let other = rig.master.file();
            edit().whole(other, &text(n + 500), true).put(ROOT, &called(n), other)
        }),
        ("all is deleted", |_, n, _| edit().gone(ROOT, &called(n))),
        ("all is renamed", |_, n, file| {
            edit().gone(ROOT, &called(n)).put(ROOT, &format!("old-{}", called(n)), file)
        }),
        ("photographs are unpacked", |rig, n, _| {
            let other = rig.master.file();
            edit().whole(other, &photo(n), true).put(ROOT, &format!("{n}.jpg"), other)
        }),
        ("new files get their names at the end", |rig, n, _| {
            let other = rig.master.file();
            let part = format!("{n}.jpg.part");
            rig.apply(edit().whole(other, &photo(n), true).put(ROOT, &part, other));
            edit().gone(ROOT, &part).put(ROOT, &format!("{n}.jpg"), other)
        }),
        ("modes are changed", |rig, n, file| {
            let state = rig.state(CommitId::MAX, &called(n)).unwrap();
            let meta = keepshare_base::Meta { mode: 0o600, ..state.meta };
            edit().row(file, meta, keepshare_base::Content::Same, true)
        }),
        ("they are packed, one by one, and deleted", |rig, n, _| {
            let other = rig.master.file();
            // A few of them, as a script that rotates logs does.
            if n >= 20 {
                return edit();
            }
            let gz = format!("{}.gz", called(n));
            rig.apply(edit().whole(other, &noise(n, 900), true).put(ROOT, &gz, other));
            edit().gone(ROOT, &called(n))
        }),
    ];
    for (way, how) in ways {
        let mut office = Office::new(text);
        assert_eq!(office.each(all(), how), None, "{way}");
    }
    let mut office = Office::new(photo);
    let save = |_: &mut Rig, n, file| edit().whole(file, &photo(n + 500), true);
    assert_eq!(office.each(all(), save), None, "photographs are saved");
    // And what is made just then is nobody's work yet.
    let mut office = Office::new(text);
    let made: Vec<FileId> =
        (0..FILES).map(|n| office.rig.add(ROOT, &format!("{n}.o"), &text(n))).collect();
    assert_eq!(look(&mut office.watch, &office.rig), None);
    office.files = made;
    let link = |_: &mut Rig, n, file| edit().whole(file, &noise(n, 9000), true);
    assert_eq!(office.each(all(), link), None, "a build writes over what it made");
}

#[test]
fn what_is_brought_back_is_none() {
    let mut office = Office::new(text);
    let answers = |n: u64| {
        let request = RequestId(*blake3::hash(&n.to_le_bytes()).as_bytes());
        let version: VersionId = "v1.1.1".parse().unwrap();
        Some(RestoreRow { request, version, outcome: RestoreOutcome::Written })
    };
    // Even back to what was encrypted.
    let back = |_: &mut Rig, n, file| {
        let mut edit = edit().whole(file, &noise(n, 9000), true);
        edit.change.restore = answers(n);
        edit
    };
    assert_eq!(office.each(all(), back), None);
    assert!(office.each(all(), |_, n, file| edit().whole(file, &text(n + 900), true)).is_none());
}

/// What a roll-back moves back has a name again that it had.
#[test]
fn names_that_are_given_back_are_none() {
    let mut office = Office::new(text);
    let locked = |n| format!("{}.locked", called(n));
    let lock = |_: &mut Rig, n, file| edit().gone(ROOT, &called(n)).put(ROOT, &locked(n), file);
    let unlock = |_: &mut Rig, n, file| edit().gone(ROOT, &locked(n)).put(ROOT, &called(n), file);
    assert!(office.each(all(), lock).is_some());
    office.rig.master.now = office.rig.master.now.plus_micros(3600 * SECOND);
    assert_eq!(office.each(all(), unlock), None);
    office.rig.master.now = office.rig.master.now.plus_micros(3600 * SECOND);
    assert_eq!(office.each(all(), lock), None, "an undo has them as they were");
}

/// A mirror brings what changed while nobody looked: what was before is what there was before it began.
#[test]
fn the_good_moment_is_no_part_of_a_mirror() {
    let mut office = Office::new(text);
    let good = office.rig.view().latest();
    let mut burst = None;
    office.rig.master.seq = office.rig.master.seq.next();
    for n in all() {
        let file = office.files[usize::try_from(n).unwrap()];
        let part = edit().whole(file, &noise(n, 9000), true);
        let part = office.rig.master.at_place(part, false);
        office.rig.store.commit(office.rig.master.now, &part).unwrap();
        office.rig.store.sync().unwrap();
        burst = look(&mut office.watch, &office.rig).or(burst);
    }
    assert_eq!(burst.unwrap().good, good);
}

/// What commits touched is there for whoever follows, though the live tree has it.
#[test]
fn what_was_touched_is_remembered_for_those_who_follow() {
    let mut rig = Rig::new();
    let at = rig.add_dir(ROOT, "plan");
    let touched = |reader: &Reader, after| reader.view().unwrap().touched(after).unwrap();
    let latest = rig.view().latest();
    rig.store.set_followed(CommitId(0));
    rig.store.set_live(latest);
    rig.store.flush().unwrap();
    let known = Touched::Known { names: vec![(ROOT, name("plan"))], files: vec![at] };
    assert_eq!(touched(&rig.reader(), CommitId(0)), known);
    rig.store.set_followed(latest);
    rig.store.flush().unwrap();
    assert_eq!(touched(&rig.reader(), CommitId(0)), Touched::Everything);
    assert_ne!(touched(&rig.reader(), latest), Touched::Everything);
    // Nobody follows after a start, until somebody says so.
    rig.crash(Crash::KeepAll);
    rig.add_dir(ROOT, "more");
    let latest = rig.view().latest();
    rig.store.set_live(latest);
    rig.store.flush().unwrap();
    assert_eq!(touched(&rig.reader(), CommitId(1)), Touched::Everything);
}
