#[expect(dead_code, reason = "these tests need a part of it")]
#[path = "../../../tests/namespace/rig.rs"]
mod rig;

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    time::{Duration, Instant},
};

use proptest::prelude::*;

use keepshare_base::{Kind, NameRow};
use keepshare_versioning::Ended;

use super::{walk::walk, *};
use crate::Who;

use self::rig::{Edit, ROOT, Rig, SECOND, anna, bob, edit, eve, name};

const NAMES: [&[u8]; 8] = [
    b"a",
    b"B",
    b"Report.txt",
    b"old report",
    b"x\xff",
    "Ü1".as_bytes(),
    b"\x01c",
    "Ma\u{17f}\u{212a}e".as_bytes(),
];
const MODES: [u32; 6] = [0o755, 0o755, 0o750, 0o700, 0o711, 0o744];
const PATTERNS: [&str; 10] = ["", "*", "REPORT", "*.TXT", "b", "ü?", "xff", "u{1", "?", "ask"];

/// What a set is, as its master knows it.
struct World {
    rig: Rig,
    names: BTreeMap<(FileId, Name), FileId>,
    dirs: BTreeSet<FileId>,
    files: Vec<FileId>,
}

/// What happens next: what, and three numbers that pick where.
type Act = (u8, usize, usize, usize);

impl World {
    fn new() -> Self {
        let (names, files) = (BTreeMap::new(), Vec::new());
        Self { rig: Rig::new(), names, dirs: BTreeSet::from([ROOT]), files }
    }

    fn folder(&self, number: usize) -> FileId {
        let folders: Vec<_> = self.dirs.iter().filter(|dir| self.is_attached(**dir)).collect();
        *folders[number % folders.len()]
    }

    fn is_attached(&self, file: FileId) -> bool {
        let mut above = self.names.iter().filter(|(_, target)| **target == file);
        file == ROOT || above.any(|((parent, _), _)| self.is_attached(*parent))
    }

    fn is_below(&self, file: FileId, folder: FileId) -> bool {
        let mut above = self.names.iter().filter(|(_, target)| **target == file);
        file == folder || above.any(|((parent, _), _)| self.is_below(*parent, folder))
    }

    fn place(&self, number: usize) -> Option<((FileId, Name), FileId)> {
        let all: Vec<_> =
            self.names.iter().filter(|((parent, _), _)| self.is_attached(*parent)).collect();
        let (place, file) = all.get(number % all.len().max(1))?;
        Some(((*place).clone(), **file))
    }

    fn beneath(&self, folder: FileId, all: &mut Vec<(FileId, Name)>) {
        for (place, file) in self.names.range((folder, name("\x01"))..) {
            if place.0 == folder {
                self.beneath(*file, all);
                all.push(place.clone());
            }
        }
    }

    /// Returns names as rows, and makes them what is there.
    fn row(&mut self, edit: &mut Edit, (parent, name): (FileId, Name), target: Option<FileId>) {
        self.names.remove(&(parent, name.clone()));
        self.names.extend(target.map(|file| ((parent, name.clone()), file)));
        let kind = |file| if self.dirs.contains(&file) { Kind::Dir } else { Kind::File };
        let target = target.map(|file| (file, kind(file)));
        edit.change.names.retain(|row| (row.parent, &row.name) != (parent, &name));
        edit.change.names.push(NameRow { parent, name, target });
    }

    /// Does what can be done of it.
    fn act(&mut self, (what, one, other, third): Act) -> Option<()> {
        let mode = MODES[third % MODES.len()];
        let spot = (self.folder(one), Name::new(NAMES[other % NAMES.len()]).unwrap());
        let there = self.names.get(&spot).copied();
        let is_dir = there.is_some_and(|there| self.dirs.contains(&there));
        let mut next = edit();
        match what {
            0..=2 if !is_dir => {
                let file = self.rig.file();
                self.files.push(file);
                next = next.whole(file, mode & 0o666, b"new");
                self.row(&mut next, spot, Some(file));
            }
            3..=5 if there.is_none() => {
                let dir = self.rig.file();
                self.dirs.insert(dir);
                next = next.dir(dir, mode);
                self.row(&mut next, spot, Some(dir));
            }
            6 => {
                let (_, file) = self.place(one)?;
                next = match self.dirs.contains(&file) {
                    true => next.dir(file, mode),
                    false => next.whole(file, mode & 0o666, b"saved"),
                };
            }
            7 if there.is_none() => {
                let file = *self.files.get(third % self.files.len().max(1))?;
                self.names.values().find(|there| **there == file)?;
                self.row(&mut next, spot, Some(file));
            }
            8..=10 => {
                let (from, file) = self.place(third)?;
                if is_dir || there == Some(file) || self.is_below(spot.0, file) {
                    return None;
                }
                self.row(&mut next, from.clone(), None);
                self.row(&mut next, spot, Some(file));
                // What takes its name at once, and may go without ever having been a version of it.
                if what == 10 {
                    let new = self.rig.file();
                    self.files.push(new);
                    next = next.whole(new, mode & 0o666, b"instead");
                    self.row(&mut next, from, Some(new));
                }
            }
            11 => {
                let (from, file) = self.place(third)?;
                let (to, changed) = self.place(one)?;
                if self.is_below(to.0, file) || self.is_below(from.0, changed) || from == to {
                    return None;
                }
                self.row(&mut next, from, Some(changed));
                self.row(&mut next, to, Some(file));
            }
            // As a master removes: everything in it goes too. A mirror may have said only that the folder is gone.
            12..=14 => {
                let (gone, file) = self.place(one)?;
                let mut all = Vec::new();
                if what != 14 {
                    self.beneath(file, &mut all);
                }
                all.into_iter().for_each(|below| self.row(&mut next, below, None));
                self.row(&mut next, gone, None);
            }
            _ => return None,
        }
        self.rig.user = ["anna", "bob"][third % 2];
        self.rig.apply_after(SECOND * (1 + 50 * (other as i64 % 3)), next);
        Some(())
    }

    fn found(&self, who: Who<'_>, sought: &Sought, limit: usize) -> Vec<FoundPath> {
        let mut found = Vec::new();
        let take = |path| {
            found.push(path);
            Ok::<_, Infallible>(())
        };
        assert_eq!(
            self.rig.share.ask(who, self.rig.now).find(sought, limit, take).unwrap(),
            found.len()
        );
        found
    }

    /// Holds the search against the walk, for everybody.
    fn check(&self) {
        let users = [anna(), bob(), eve()];
        for who in users.iter().map(Who::User).chain([Who::Admin]) {
            for (text, deleted) in PATTERNS.iter().flat_map(|text| [(text, false), (text, true)]) {
                let pattern = Pattern::new(text, deleted).unwrap();
                let wanted = walk(&self.rig.share.ask(who, self.rig.now), &pattern).unwrap();
                let mut sought = like(text);
                sought.pattern = pattern;
                let all = self.found(who, &sought, usize::MAX);
                let mut found: Vec<_> = all.iter().map(told).collect();
                found.sort_by(|one, other| one.0.cmp(&other.0));
                assert_eq!(found, wanted, "{text} {deleted} for {who:?}");
                // Some at a time come to the same.
                let mut parts = Vec::new();
                loop {
                    let page = self.found(who, &sought, 3);
                    let Some(last) = page.last() else { break };
                    sought.from = last.next.to_string().parse().unwrap();
                    parts.extend(page);
                }
                assert!(parts.iter().map(told).eq(all.iter().map(told)), "{text} {deleted}");
                sought.from = NamesFrom::default();
                for within in all.iter().filter(|path| path.kind == Kind::Dir).take(2) {
                    sought.within = within.path.clone();
                    let inside = all.iter().filter(|path| {
                        let (names, above) = (path.path.names(), within.path.names());
                        names.len() > above.len() && names.starts_with(above)
                    });
                    let below = self.found(who, &sought, usize::MAX);
                    assert!(below.iter().map(told).eq(inside.map(told)), "{text} {}", within.path);
                }
            }
        }
    }
}

fn told(found: &FoundPath) -> (SetPath, Option<Ended>) {
    (found.path.clone(), found.gone.map(|(_, ended)| ended))
}

fn like(text: &str) -> Sought {
    Sought {
        pattern: Pattern::new(text, false).unwrap(),
        within: SetPath::default(),
        since: None,
        from: NamesFrom::default(),
    }
}

fn words(found: &[FoundPath]) -> String {
    let words = found.iter().map(|found| {
        let gone = found.gone.map_or("", |(_, ended)| ended.word());
        format!("{}:{gone}:{}", found.path, found.user.as_deref().unwrap_or("?"))
    });
    words.collect::<Vec<_>>().join(" ")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever was named, linked, moved, exchanged, removed and made again, and whatever anybody may see: what the index tells is
    /// what going through every folder tells, each once, also some at a time.
    #[test]
    fn the_search_finds_what_a_walk_finds(
        acts in prop::collection::vec((0..15_u8, 0..99_usize, 0..99_usize, 0..99_usize), 1..60),
    ) {
        let mut world = World::new();
        for act in acts {
            world.act(act);
        }
        world.check();
    }
}

/// A folder that is made again must not hide what was lost with the one before.
#[test]
fn what_went_with_a_folder_is_found_though_the_folder_was_made_again() {
    let mut world = World::new();
    let rig = &mut world.rig;
    let plan = rig.add_dir(ROOT, "plan", 0o755);
    for lost in ["budget", "again"] {
        rig.add(plan, lost, 0o644, b"1");
    }
    rig.apply(edit().gone(plan, "budget").gone(plan, "again").gone(ROOT, "plan"));
    let plan = rig.add_dir(ROOT, "plan", 0o755);
    rig.add(plan, "again", 0o644, b"2");
    let eve = eve();
    for who in [Who::Admin, Who::User(&eve)] {
        assert_eq!(words(&world.found(who, &like("budget"), 9)), "plan/budget:deleted:anna");
        let again = world.found(who, &like("again"), 9);
        assert_eq!(words(&again), "plan/again::anna", "what is there is not told as deleted");
        assert_eq!(again[0].versions, 2, "as versions tells");
    }
}

/// What is other since some time goes by the last change, and tells nothing of a change that may not be known.
#[test]
fn changes_are_found_by_time() {
    let mut world = World::new();
    let rig = &mut world.rig;
    let dir = rig.add_dir(ROOT, "dir", 0o755);
    let old = rig.add(dir, "x-old", 0o644, b"1");
    rig.add(dir, "x-gone-before", 0o644, b"1");
    rig.add(dir, "x-gone", 0o644, b"1");
    rig.apply(edit().gone(dir, "x-gone-before"));
    rig.apply_after(3600 * SECOND, edit().point("noon"));
    let noon = rig.now;
    rig.user = "bob";
    rig.add(dir, "x-new", 0o644, b"1");
    rig.add(dir, "x-own", 0o600, b"1");
    rig.apply(edit().gone(dir, "x-gone"));
    rig.apply(edit().gone(dir, "x-old").put(dir, "x-moved", old));
    let (anna, eve) = (anna(), eve());
    let ask = |who, since: Option<&str>, deleted| {
        let sought = Sought {
            since: since.map(str::to_owned),
            pattern: Pattern::new("x-", deleted).unwrap(),
            ..like("x-")
        };
        words(&world.found(who, &sought, 99))
    };
    let all = "dir/x-gone:deleted:bob dir/x-moved::bob dir/x-new::bob dir/x-old:renamed:bob dir/x-own::bob";
    let noon = format!("unix:{}", noon.0 / SECOND);
    for since in [noon.as_str(), "point:noon", "1m"] {
        assert_eq!(ask(Who::Admin, Some(since), false), all, "{since}");
        assert_eq!(ask(Who::User(&anna), Some(since), false), all, "{since}");
        let may_know = all.replace(" dir/x-own::bob", "");
        assert_eq!(ask(Who::User(&eve), Some(since), false), may_know, "{since}");
        assert_eq!(ask(Who::Admin, Some(since), true), "dir/x-gone:deleted:bob");
    }
    assert!(ask(Who::User(&eve), None, false).contains("dir/x-own::?"), "the name is listed");
    assert_eq!(ask(Who::Admin, Some("10d"), false), ask(Who::Admin, None, false));
    assert_eq!(ask(Who::Admin, Some("latest"), false), "");
}

/// Returns for how long this thread has worked: a machine that does other things, too, does not count.
fn worked() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

/// How long it takes among a million names, beside the walk, and what each name takes on the disk; run it built for release.
#[test]
#[ignore = "takes minutes, and measures"]
fn a_name_among_a_million() {
    let files =
        std::env::var("KEEPSHARE_FIND_FILES").map_or(1_000_000, |text| text.parse().unwrap());
    let mut rig = Rig::new();
    let mut rows = 0_u64;
    let started = Instant::now();
    for number in 0..files / 1000 {
        let dir = rig.add_dir(ROOT, &format!("folder {number:04}"), 0o755);
        let mut next = edit();
        for number in 0..1000 {
            let file = rig.file();
            let text = match number {
                7 => format!("Budget {rows}.xlsx"),
                _ => format!("document {rows:07}.{}", ["docx", "pdf", "txt"][number % 3]),
            };
            next = next.whole(file, 0o644, b"").put(dir, &text, file);
            rows += 1;
        }
        rig.apply(next);
    }
    rig.store.flush().unwrap();
    println!("{rows} files committed in {:?}", started.elapsed());
    let world = World { rig, ..World::new() };
    let eve = eve();
    for who in [Who::Admin, Who::User(&eve)] {
        for text in
            ["budget 345007", "*GET 345007.x*", "document 0345678.docx", "nothing-like-it", "ärger"]
        {
            let mut times: Vec<_> = (0..9)
                .map(|_| {
                    let (started, before) = (Instant::now(), worked());
                    let found = world.found(who, &like(text), 1000).len();
                    (worked() - before, started.elapsed(), found)
                })
                .collect();
            times.sort();
            let [(least, _, _), .., (most, _, _)] = times[..] else { panic!("nine times") };
            let (middle, elapsed, found) = times[4];
            println!(
                "{text}: {found} found by {middle:?} of work, {least:?} to {most:?}, in {elapsed:?}"
            );
        }
        for (text, limit) in [("budget", 1000), ("*.docx", 1000), ("*", 100_000)] {
            let started = Instant::now();
            let found = world.found(who, &like(text), limit).len();
            println!("{text}, {limit} at most: {found} found in {:?}", started.elapsed());
        }
    }
    let started = Instant::now();
    let found =
        walk(&world.rig.share.ask(Who::Admin, world.rig.now), &like("budget 345007").pattern);
    println!("by a walk: {} found in {:?}", found.unwrap().len(), started.elapsed());
    let bytes =
        world.rig.share.ask(Who::Admin, world.rig.now).question().unwrap().view.names_bytes();
    println!("on the disk: {:.1} bytes a name", bytes.unwrap() as f64 / rows as f64);
}

/// What commits of small files cost, a hundred of them made durable at once; run it built for release, with and without names being
/// kept to be found.
#[test]
#[ignore = "takes a while, and measures"]
fn small_files_one_by_one() {
    let mut rig = Rig::new();
    let dirs: Vec<_> =
        (0..100).map(|number| rig.add_dir(ROOT, &format!("dir {number}"), 0o755)).collect();
    let started = Instant::now();
    for number in 0..100_000_usize {
        let file = rig.file();
        let text = format!("document {:06}.docx", number * 7919 % 100_000);
        let next = edit().whole(file, 0o644, b"small").put(dirs[number % 100], &text, file);
        rig.commit_after(SECOND, next);
        if number % 100 == 99 {
            rig.store.sync().unwrap();
        }
    }
    rig.store.flush().unwrap();
    println!("100000 commits in {:?}", started.elapsed());
}
