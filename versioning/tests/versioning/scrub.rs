//! Damage where nobody reads: found by one pass, told with what it hurts, put right where the same is elsewhere, never given out.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::Path,
    sync::{Arc, mpsc},
};

use keepshare_base::{CommitId, FileId};
use keepshare_versioning::{
    ReadError, Store, StoreOptions,
    disk::{
        Disk,
        sim::{Crash, Dice, SimDisk},
    },
    scrub::{Cursor, Found, Scrub},
    set::{LivePlace, SetOptions, SetStore, Submission},
};

use crate::rig::{Edit, Master, Part, ROOT, SECOND, bytes, edit, seed};

const INDEX: &str = "index.redb";

/// A set with its live tree, fed by one master.
struct Kept {
    disk: SimDisk,
    dir: tempfile::TempDir,
    set: SetStore,
    master: Master,
    scrub: Scrub,
}

fn open(disk: &SimDisk, dir: &Path) -> SetStore {
    let store =
        StoreOptions { cache_bytes: 8 << 20, reserve_bytes: 16 << 20, ..StoreOptions::default() };
    let options = SetOptions { store, live: LivePlace::Beside, ..SetOptions::default() };
    SetStore::open_on(Arc::new(disk.clone()), dir, options).unwrap()
}

impl Kept {
    fn new() -> Self {
        let (disk, dir) = (SimDisk::new(), tempfile::tempdir().unwrap());
        let set = open(&disk, dir.path());
        let scrub = Scrub::new(Some(&dir.path().join("live")));
        Self { disk, dir, set, master: Master::new(), scrub }
    }

    /// Ends the process, and begins the next one on the same disk.
    fn reopen(&mut self) {
        let disk = self.disk.reopen(Crash::KeepAll);
        // The old one goes first: it holds the folder of the live tree.
        let empty = tempfile::tempdir().unwrap();
        self.set = open(&SimDisk::new(), empty.path());
        self.disk = disk;
        self.set = open(&self.disk, self.dir.path());
        self.scrub = Scrub::new(Some(&self.live("")));
    }

    fn live(&self, path: &str) -> std::path::PathBuf {
        self.dir.path().join("live").join(path)
    }

    fn apply(&mut self, mut edit: Edit) -> CommitId {
        for row in &mut edit.change.files {
            // As a master does that read the whole file.
            if let keepshare_base::Content::Extents { hash, fresh: true, .. } = &row.content {
                row.hash = Some(*hash);
            }
        }
        let (answer, answered) = mpsc::channel();
        let incoming = self.master.next(edit);
        let reply = Box::new(move |taken| drop(answer.send(taken)));
        self.set.submit(Submission { incoming, arrival: self.master.now.into(), reply }).unwrap();
        answered.recv().unwrap().unwrap()
    }

    fn add(&mut self, parent: FileId, text: &str, content: &[u8]) -> FileId {
        let file = self.master.file();
        self.apply(edit().whole(file, content, true).put(parent, text, file));
        file
    }

    /// Lets time pass until everything that waits for it is done.
    fn settle(&mut self) {
        for _ in 0..40 {
            self.master.now = self.master.now.plus_micros(61 * SECOND);
            self.set.tick(self.master.now);
            // Both threads have taken the tick in when they have done what is ordered after it.
            self.set.ask_store(|_| ()).unwrap();
            let (answer, answered) = mpsc::channel();
            self.set.with_live(move |_, _| answer.send(()).unwrap());
            answered.recv().unwrap();
        }
    }

    /// Goes on with a pass to its end.
    fn pass_from(&mut self, mut at: Cursor) -> Vec<Found> {
        let mut all = Vec::new();
        for _ in 0..10_000 {
            let stepped = self.scrub.step(&self.set, at).unwrap();
            all.extend(stepped.found);
            match stepped.next {
                Some(next) => at = next,
                None => return all,
            }
        }
        panic!("a pass without end");
    }

    fn pass(&mut self) -> Vec<Found> {
        self.pass_from(Cursor::START)
    }

    /// Reads all versions of a file, oldest first; `None` where one is damaged.
    fn versions(&self, file: FileId) -> Vec<Option<Vec<u8>>> {
        let reader = self.set.reader();
        let states = reader.view().unwrap().versions(file).unwrap();
        let read = states.iter().rev().map(|state| match reader.read(state, 0, usize::MAX) {
            Ok(bytes) => Some(bytes),
            Err(ReadError::Damaged { .. }) => None,
            Err(other) => panic!("{other:?}"),
        });
        read.collect()
    }

    /// Tells whether the next process finds an index that it can use, and that gives all answers.
    fn has_index(&self) -> bool {
        let next = Arc::new(self.disk.reopen(Crash::KeepAll));
        let (store, report) = Store::open(next, StoreOptions::default()).unwrap();
        let answers = store.reader().view().and_then(|view| view.digests());
        report.rebuilt.is_none() && answers.is_ok()
    }

    /// Returns a random place that is used in a file of the disk.
    fn place(&self, dice: &mut Dice, file: &str) -> u64 {
        let content = self.disk.content(file);
        loop {
            let at = dice.below(content.len());
            // Of the index' file the rest is room that nobody reads.
            let is_room = file == INDEX && !is_used(at as u64, content.len() as u64);
            if content[at] != 0 && !is_room {
                return at as u64;
            }
        }
    }

    fn files(&self, dir: &str) -> Vec<String> {
        let files = self.disk.list(dir).unwrap();
        files.into_iter().map(|file| format!("{dir}/{file}")).collect()
    }
}

fn is_used(at: u64, len: u64) -> bool {
    let blocks_end = 20_480 + (len.saturating_sub(20_480)) / 4112 * 4112;
    matches!(at, 0..32 | 4096..8208 | 12_288..16_400) || (20_480..blocks_end).contains(&at)
}

fn flip(path: &Path, at: u64, bit: u8) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let times = file.metadata().unwrap().modified().unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ (1 << bit)], at).unwrap();
    // As a disk does: nobody wrote.
    file.set_modified(times).unwrap();
}

/// A file, its name, and what it held, version after version.
type Written = (FileId, &'static str, Vec<Vec<u8>>);

/// A set with small, middle and long files, each with a past.
fn office() -> (Kept, Vec<Written>) {
    let mut kept = Kept::new();
    let mut files = Vec::new();
    for (n, (name, len)) in [("small", 300), ("note", 9000), ("sheet", 60_000), ("image", 400_000)]
        .into_iter()
        .enumerate()
    {
        let first = bytes(n as u64, len);
        let file = kept.add(ROOT, name, &first);
        let second = bytes(n as u64 + 100, len + 7);
        kept.apply(edit().whole(file, &second, true));
        let mut third = second.clone();
        third[100..150].copy_from_slice(&bytes(7, 50));
        kept.apply(edit().write(
            file,
            third.len() as u64,
            false,
            &[Part::Data(100, &bytes(7, 50))],
            true,
        ));
        files.push((file, name, vec![first, second, third]));
    }
    kept.settle();
    (kept, files)
}

fn content(found: &[Found]) -> Vec<(CommitId, bool)> {
    let content = found.iter().filter_map(|one| match one {
        Found::Content(hurt) => Some((hurt.state.commit, hurt.is_mended)),
        _ => None,
    });
    content.collect()
}

#[test]
fn a_pass_over_what_is_well_finds_nothing() {
    let (mut kept, files) = office();
    let found = kept.pass();
    assert!(found.is_empty(), "{found:?}");
    for (file, _, versions) in &files {
        assert_eq!(kept.versions(*file), versions.iter().cloned().map(Some).collect::<Vec<_>>());
    }
}

/// The promise itself: whatever bit flips, wherever, no pass misses it and nobody is given wrong bytes.
#[test]
fn a_hundred_flipped_bits_are_found_and_never_given_out() {
    let mut dice = Dice(seed());
    let (mut kept, files) = office();
    let (mut mended, mut index) = (0, 0);
    for i in 0..100 {
        let bit = dice.below(8) as u8;
        let (name, at) = match i % 4 {
            0 => {
                let packs = kept.files("packs");
                let pack = packs[dice.below(packs.len())].clone();
                let at = kept.place(&mut dice, &pack);
                (pack, at)
            }
            1 => {
                let log = kept.files("log").remove(0);
                let at = kept.place(&mut dice, &log);
                (log, at)
            }
            2 => (INDEX.to_owned(), kept.place(&mut dice, INDEX)),
            _ => {
                let (_, name, versions) = &files[dice.below(files.len())];
                (format!("live/{name}"), dice.below(versions[2].len()) as u64)
            }
        };
        let case = format!("{i}: bit {bit} of byte {at} of {name}");
        match name.strip_prefix("live/") {
            Some(file) => flip(&kept.live(file), at, bit),
            None => kept.disk.flip(&name, at, bit),
        }
        // What no version needs is no damage: frames of which nothing is shown, their filling and the seal.
        let hurts: Vec<_> = files.iter().map(|(file, ..)| kept.versions(*file)).collect();
        let is_hurt = hurts.iter().flatten().any(Option::is_none);
        // Nor are blocks that the index does not refer to.
        let is_index_hurt = name == INDEX && !kept.has_index();
        let found = kept.pass();
        let is_told = match name.split_once('/') {
            Some(("packs", _)) => !is_hurt || !content(&found).is_empty(),
            Some(("log", _)) => found.iter().any(|one| matches!(one, Found::Log(_))),
            Some(_) => found.iter().any(|one| matches!(one, Found::Live { .. })),
            None => !is_index_hurt || found.iter().any(|one| matches!(one, Found::Index)),
        };
        assert!(is_told, "{case}: {found:?}");
        kept.settle();
        let listed: Vec<_> =
            content(&found).into_iter().filter(|(_, is_mended)| !is_mended).collect();
        for (file, live, versions) in &files {
            let states = kept.set.reader().view().unwrap().versions(*file).unwrap();
            let read = kept.versions(*file);
            for ((read, want), state) in read.iter().zip(versions).zip(states.iter().rev()) {
                match read {
                    Some(read) => assert!(read == want, "{case}: wrong bytes"),
                    None => assert!(
                        listed.iter().any(|(at, _)| *at == state.commit),
                        "{case}: not told"
                    ),
                }
            }
            let is_flipped = name == format!("live/{live}");
            let is_right = fs::read(kept.live(live)).unwrap() == versions[2];
            assert!(is_right != is_flipped, "{case}: {live} is nobody's to change");
        }
        if let Some(file) = name.strip_prefix("live/") {
            flip(&kept.live(file), at, bit);
        }
        mended += usize::from(is_hurt && listed.is_empty());
        index += usize::from(is_index_hurt);
        if !listed.is_empty() {
            kept.disk.flip(&name, at, bit);
        }
        let again = kept.pass();
        assert!(again.is_empty(), "{case}: {again:?}");
    }
    assert!(mended > 2 && index > 2, "{mended} contents, {index} indexes");
    // And all of it is there for the next process, which reads everything from the disk.
    kept.reopen();
    assert!(kept.set.report().rebuilt.is_none());
    for (file, _, versions) in &files {
        assert_eq!(kept.versions(*file), versions.iter().cloned().map(Some).collect::<Vec<_>>());
    }
}

/// Where a bit is flipped in the first frame of a pack: in the content.
const IN_CONTENT: u64 = 32 + 40 + 1000;

/// The same in the header, without which the frame's hash is lost.
const IN_HEADER: u64 = 32 + 3;

/// The newest version is in the live tree, too: that is where damaged content comes back from.
#[test]
fn damaged_content_comes_back_from_the_live_tree() {
    for (len, at) in [(9000, IN_CONTENT), (400_000, IN_CONTENT)] {
        let case = format!("byte {at} of {len}");
        let mut kept = Kept::new();
        let whole = bytes(1, len);
        let file = kept.add(ROOT, "f", &whole);
        kept.settle();
        let pack = kept.files("packs").remove(0);
        kept.disk.flip(&pack, at, 3);
        assert_eq!(kept.versions(file), [None], "{case}");
        let found = kept.pass();
        assert_eq!(content(&found), [(CommitId(1), true)], "{case}: {found:?}");
        assert!(kept.versions(file) == [Some(whole.clone())], "{case}");
        kept.reopen();
        assert!(kept.versions(file) == [Some(whole.clone())], "{case}");
        kept.settle();
        assert!(kept.pass().is_empty(), "{case}");
    }
}

/// A file that is not what was kept is no source for it, whatever it is called.
#[test]
fn a_live_file_with_other_content_mends_nothing() {
    let mut kept = Kept::new();
    let file = kept.add(ROOT, "f", &bytes(1, 9000));
    kept.settle();
    let pack = kept.files("packs").remove(0);
    for at in [IN_CONTENT, IN_HEADER] {
        fs::write(kept.live("f"), bytes(2, 9000)).unwrap();
        kept.disk.flip(&pack, at, 3);
        let found = kept.pass();
        assert_eq!(content(&found), [(CommitId(1), false)], "{found:?}");
        assert_eq!(kept.versions(file), [None]);
        assert!(fs::read(kept.live("f")).unwrap() == bytes(2, 9000), "nothing to compare with");
        kept.disk.flip(&pack, at, 3);
    }
}

/// The same content that is kept twice for a file is there once more.
#[test]
fn damaged_content_comes_back_from_another_version() {
    for (at, is_mended) in [(IN_CONTENT, true), (IN_HEADER, false)] {
        let mut kept = Kept::new();
        let (one, two) = (bytes(1, 9000), bytes(2, 9000));
        let file = kept.add(ROOT, "f", &one);
        for next in [&two, &one, &two] {
            kept.apply(edit().whole(file, next, true));
        }
        kept.apply(edit().gone(ROOT, "f"));
        kept.settle();
        let pack = kept.files("packs").remove(0);
        kept.disk.flip(&pack, at, 3);
        let found = kept.pass();
        // A hash that a master told, and nobody has checked, is no reason to take one content for another.
        assert_eq!(content(&found), [(CommitId(1), is_mended)], "{found:?}");
        let mut all = [&one, &two, &one, &two].map(|bytes| Some(bytes.clone()));
        if !is_mended {
            all[0] = None;
        }
        assert!(kept.versions(file) == all);
    }
}

/// What somebody wrote into the live tree is told, and nobody's to change: it may be their work.
#[test]
fn a_file_changed_by_hand_is_told_and_left() {
    let (mut kept, _) = office();
    fs::write(kept.live("note"), "by hand").unwrap();
    fs::remove_file(kept.live("sheet")).unwrap();
    fs::write(kept.live("extra"), "not of the set").unwrap();
    let found = kept.pass();
    let told: Vec<_> = found.iter().map(|one| format!("{one:?}")).collect();
    assert_eq!(found.len(), 3, "{told:?}");
    kept.settle();
    assert_eq!(fs::read(kept.live("note")).unwrap(), b"by hand");
    assert!(!kept.live("sheet").exists());
    assert_eq!(fs::read(kept.live("extra")).unwrap(), b"not of the set");
}

/// An index that cannot be built anew, because the log is damaged, too, is not given up: it may be all that has the rows.
#[test]
fn an_index_stays_where_the_log_is_damaged() {
    let (mut kept, _) = office();
    let log = kept.files("log").remove(0);
    kept.disk.flip(&log, 200, 1);
    let before = kept.disk.content(INDEX).len() as u64;
    for at in (0..before).step_by(4096) {
        kept.disk.flip(INDEX, at + 100, 1);
    }
    let mut at = Some(Cursor::START);
    while let Some(now) = at {
        at = kept.scrub.step(&kept.set, now).ok().and_then(|stepped| stepped.next);
    }
    assert!(kept.disk.content(INDEX).len() as u64 >= before, "it is there as it was");
}

/// A pass takes weeks: it goes on where it was, in the next process too.
#[test]
fn a_pass_goes_on_in_the_next_process() {
    let (mut kept, _) = office();
    let mut at = Cursor::START;
    let mut stages = Vec::new();
    loop {
        let text = format!("{at:?}");
        stages.push(at.stage());
        let Some(next) = kept.scrub.step(&kept.set, at).unwrap().next else { break };
        assert_ne!(format!("{next:?}"), text, "it goes in circles");
        at = next;
        kept.reopen();
    }
    stages.dedup();
    assert_eq!(stages, ["index", "log", "packs", "live"]);
}

/// Repairs need space. Without any, what is damaged is told, nothing is worse than before, and another pass does it.
#[test]
fn a_full_disk_puts_repairs_off() {
    let mut kept = Kept::new();
    let whole = bytes(1, 60_000);
    let file = kept.add(ROOT, "f", &whole);
    kept.settle();
    let pack = kept.files("packs").remove(0);
    kept.disk.flip(&pack, 5000, 1);
    kept.disk.set_capacity(Some(kept.disk.used_bytes() + 1000));
    let found = kept.pass();
    assert_eq!(content(&found), [(CommitId(1), false)]);
    assert_eq!(kept.versions(file), [None]);
    assert!(kept.set.status().poisoned.is_none());
    kept.disk.set_capacity(None);
    assert_eq!(content(&kept.pass()), [(CommitId(1), true)]);
    assert_eq!(kept.versions(file), [Some(whole)]);
}

/// Power may go at any sync of a repair: the version is damaged as before, or well.
#[test]
fn a_repair_that_is_cut_off_leaves_what_was() {
    let mut n = 0;
    loop {
        n += 1;
        let mut kept = Kept::new();
        let (one, two) = (bytes(1, 60_000), bytes(2, 500_000));
        let files = [kept.add(ROOT, "one", &one), kept.add(ROOT, "two", &two)];
        kept.settle();
        let pack = kept.files("packs").remove(0);
        for at in [5000, 100_000, 300_000] {
            kept.disk.flip(&pack, at, 1);
        }
        kept.disk.crash_at(kept.disk.syncs() + n);
        let mut at = Some(Cursor::START);
        let mut is_dead = false;
        while let Some(now) = at {
            match kept.scrub.step(&kept.set, now) {
                Ok(stepped) => at = stepped.next,
                Err(_) => {
                    is_dead = true;
                    break;
                }
            }
        }
        for tear in [Crash::LoseAll, Crash::Tear(n)] {
            let after = kept.disk.reopen(tear);
            let options = StoreOptions { reserve_bytes: 0, ..StoreOptions::default() };
            let (store, _) = Store::open(Arc::new(after), options).unwrap();
            let reader = store.reader();
            for (file, want) in files.iter().zip([&one, &two]) {
                let states = reader.view().unwrap().versions(*file).unwrap();
                assert_eq!(states.len(), 1);
                match reader.read(&states[0], 0, usize::MAX) {
                    Ok(read) => assert!(read == *want, "sync {n}"),
                    Err(ReadError::Damaged { .. }) => assert!(is_dead, "sync {n}: not mended"),
                    Err(other) => panic!("sync {n}: {other:?}"),
                }
            }
        }
        if !is_dead {
            break;
        }
    }
    assert!(n > 3, "only {n} syncs");
}

/// A pack whose header is gone can be read by the process that has it open, and by no later one.
#[test]
fn a_pack_without_its_header_is_emptied_in_time() {
    let (mut kept, files) = office();
    let pack = kept.files("packs").remove(0);
    kept.disk.flip(&pack, 25, 3);
    let found = kept.pass();
    assert!(found.iter().any(|one| matches!(one, Found::Pack(_))), "{found:?}");
    kept.settle();
    kept.reopen();
    for (file, _, versions) in &files {
        assert_eq!(kept.versions(*file), versions.iter().cloned().map(Some).collect::<Vec<_>>());
    }
    let again = kept.pass();
    assert!(again.is_empty(), "{again:?}");
}
