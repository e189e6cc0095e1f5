//! Folders that are rolled back: what a plan says is done to a tree here, which then must be what it was.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use keepshare_base::{CommitId, FileId, Kind, PresentFile, SetPath};
use keepshare_versioning::{
    disk::sim::Dice,
    rollback::{Anything, Back, Doing, Left, PlanError, Planned, Present, Step, Wanted, Why},
};

use crate::rig::{Edit, NOW, ROOT, Rig, bytes, edit, path, seed};

/// What is below a folder, by path from it.
type Tree = BTreeMap<String, (FileId, Kind, Vec<u8>)>;

fn tree(rig: &Rig, folder: &str, at: CommitId) -> Tree {
    let view = rig.view();
    let mut tree = Tree::new();
    let Some((top, Kind::Dir)) = view.resolve(&path(folder), at).unwrap() else { return tree };
    let mut folders = vec![(top, String::new())];
    while let Some((folder, above)) = folders.pop() {
        for entry in view.list(folder, at, None, usize::MAX).unwrap() {
            let path = format!("{above}{}", entry.name);
            let content = match entry.kind {
                Kind::File => rig.read(&view.file(entry.file, at).unwrap().unwrap()),
                _ => Vec::new(),
            };
            if entry.kind == Kind::Dir {
                folders.push((entry.file, format!("{path}/")));
            }
            tree.insert(path, (entry.file, entry.kind, content));
        }
    }
    tree
}

fn shapes(tree: &Tree) -> BTreeMap<&str, (Kind, &[u8])> {
    tree.iter().map(|(path, (_, kind, content))| (&path[..], (*kind, &content[..]))).collect()
}

fn plan(rig: &Rig, wanted: &Wanted) -> (Vec<Step>, Vec<Left>) {
    let (mut steps, mut left) = (Vec::new(), Vec::new());
    let mut take = |planned| match planned {
        Planned::Step(step) => steps.push(step),
        Planned::Left(one) => left.push(one),
    };
    rig.view().plan_back(wanted, &Anything, &mut take).unwrap();
    (steps, left)
}

fn to(folder: &str, at: CommitId) -> Wanted {
    let back = Back::To { at, is_point: false };
    Wanted { path: path(folder), back, base: NOW, only: None, links: false }
}

/// Finds the folder of a path, and its name.
fn place(rig: &Rig, path: &SetPath) -> (FileId, String) {
    let (above, name) = path.split_last().unwrap();
    let found = rig.view().resolve(&above, NOW).unwrap();
    let (folder, kind) = found.unwrap_or_else(|| panic!("no folder {above}"));
    assert_eq!(kind, Kind::Dir, "{above}");
    (folder, name.to_string())
}

/// Checks that something is as a step says that it must be, as masters do.
fn check(rig: &Rig, what: &Present) {
    let now = rig.view().file(what.file.file, NOW).unwrap().unwrap();
    assert_eq!(what.file, PresentFile::new(now.file, &now.meta));
    if let Some(still) = what.still {
        assert_eq!(still, (now.meta.size, now.meta.mtime), "{}", now.file);
    }
}

/// Does what a step says, as a master does: nothing is replaced by a move, and only what is empty or expected goes.
fn perform(rig: &mut Rig, step: &Step) {
    let view = rig.view();
    let now = |path: &SetPath| view.resolve(path, NOW).unwrap();
    let known = |path: &SetPath, folder: Option<FileId>| {
        let is = place(rig, path).0;
        assert!(folder.is_none_or(|folder| folder == is), "{path} is in another folder");
    };
    if !step.path.names().is_empty() {
        known(&step.path, step.folder);
    }
    match &step.doing {
        Doing::Write { what, over, size, .. } => {
            let state = view.state_of(*what).unwrap().expect("kept");
            let content = rig.read(&state);
            assert_eq!(content.len() as u64, *size);
            let (folder, name) = place(rig, &step.path);
            match (now(&step.path), over) {
                (Some((file, _)), Some(over)) => {
                    check(rig, over);
                    rig.apply(edit().whole(file, &content, true));
                }
                (None, None) => drop(rig.add(folder, &name, &content)),
                (now, over) => panic!("{}: {now:?} is not {over:?}", step.path),
            }
        }
        Doing::Make { kind, .. } => {
            assert_eq!((now(&step.path), *kind), (None, Kind::Dir));
            let (folder, name) = place(rig, &step.path);
            rig.add_dir(folder, &name);
        }
        Doing::SetAttributes { .. } => {
            assert!(now(&step.path).is_some(), "{}", step.path);
        }
        Doing::Move { what, to, folder, .. } => {
            let (file, kind) = now(&step.path).unwrap_or_else(|| panic!("no {}", step.path));
            assert_eq!((file, now(to)), (what.file.file, None), "{} to {to}", step.path);
            check(rig, what);
            known(to, *folder);
            let (from, into) = (place(rig, &step.path), place(rig, to));
            let moved = edit().gone(from.0, &from.1).target(into.0, &into.1, Some((file, kind)));
            rig.apply(moved);
        }
        Doing::Link { what, to, .. } => {
            let (file, kind) = now(&step.path).unwrap_or_else(|| panic!("no {}", step.path));
            assert!(what.as_ref().is_none_or(|what| what.file.file == file));
            assert_eq!(now(to), None, "{to}");
            let into = place(rig, to);
            rig.apply(edit().target(into.0, &into.1, Some((file, kind))));
        }
        Doing::Remove { what, kind } => {
            assert_eq!(now(&step.path), Some((what.file.file, *kind)), "{}", step.path);
            check(rig, what);
            let held = view.list(what.file.file, NOW, None, 1).unwrap();
            assert!(*kind != Kind::Dir || held.is_empty(), "{} is not empty", step.path);
            let (folder, name) = place(rig, &step.path);
            rig.apply(edit().gone(folder, &name));
        }
    }
}

fn roll_back(rig: &mut Rig, wanted: &Wanted) -> Vec<Left> {
    let (steps, left) = plan(rig, wanted);
    if std::env::var_os("KEEPSHARE_TRACE").is_some() {
        steps.iter().for_each(|step| eprintln!("{} {:?}", step.path, step.doing));
        eprintln!("{left:?}");
    }
    steps.iter().for_each(|step| perform(rig, step));
    left
}

/// People who work in two folders.
struct People {
    dice: Dice,
    saved: u64,
}

impl People {
    fn folders(rig: &Rig) -> Vec<(FileId, String)> {
        let mut folders = Vec::new();
        for top in ["f", "o"] {
            let (file, _) = rig.view().resolve(&path(top), NOW).unwrap().unwrap();
            folders.push((file, top.to_owned()));
            let inner = tree(rig, top, NOW).into_iter();
            let inner = inner.filter(|(_, (_, kind, _))| *kind == Kind::Dir);
            folders.extend(inner.map(|(path, (file, ..))| (file, format!("{top}/{path}"))));
        }
        folders
    }

    fn things(rig: &Rig) -> Vec<(String, FileId, Kind)> {
        let of = |top: &str| {
            let below = tree(rig, top, NOW).into_iter();
            let top = top.to_owned();
            below.map(move |(path, (file, kind, _))| (format!("{top}/{path}"), file, kind))
        };
        of("f").chain(of("o")).collect()
    }

    fn choose<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        let chosen = self.dice.below(from.len().max(1));
        from.get(chosen).cloned()
    }

    fn act(&mut self, rig: &mut Rig) {
        self.saved += 1;
        let name = format!("n{}", self.dice.below(5));
        let (folder, above) = self.choose(&Self::folders(rig)).unwrap();
        let is_free = rig.view().resolve(&path(&format!("{above}/{name}")), NOW).unwrap().is_none();
        let thing = self.choose(&Self::things(rig));
        match (self.dice.below(10), thing) {
            (0..=2, _) if is_free => drop(rig.add(folder, &name, &bytes(self.saved, 30))),
            (3, _) if is_free => drop(rig.add_dir(folder, &name)),
            (4 | 5, Some((_, file, Kind::File))) => {
                rig.apply(edit().whole(file, &bytes(self.saved, 40), true));
            }
            (6 | 7, Some((from, file, kind)))
                if is_free && !format!("{above}/").starts_with(&format!("{from}/")) =>
            {
                let (parent, old) = place(rig, &path(&from));
                let there = Some((file, kind));
                rig.apply(edit().gone(parent, &old).target(folder, &name, there));
            }
            (8, Some((_, file, Kind::File))) if is_free && self.dice.below(3) == 0 => {
                rig.apply(edit().put(folder, &name, file));
            }
            (9, Some((from, _, _))) => self.remove(rig, &from),
            _ => {}
        }
    }

    /// Removes something with all that is in it, in one change or in several.
    fn remove(&mut self, rig: &mut Rig, from: &str) {
        let mut inner: Vec<String> =
            tree(rig, from, NOW).into_keys().map(|inner| format!("{from}/{inner}")).collect();
        inner.insert(0, from.to_owned());
        inner.reverse();
        let mut at_once = Edit::default();
        let in_one = self.dice.below(2) == 0;
        for path_of in inner {
            let (parent, name) = place(rig, &path(&path_of));
            match in_one {
                true => at_once = at_once.gone(parent, &name),
                false => drop(rig.apply(edit().gone(parent, &name))),
            }
        }
        if in_one {
            rig.apply(at_once);
        }
    }
}

/// What was there then is there again, all that stays is told, and an undo brings back what was there before.
#[test]
fn whatever_people_did_a_folder_is_what_it_was_and_an_undo_takes_that_back() {
    let seed = seed();
    for life in 0..300 {
        let mut people = People { dice: Dice(seed.wrapping_add(life)), saved: 0 };
        let mut rig = Rig::new();
        for top in ["f", "o"] {
            rig.add_dir(ROOT, top);
        }
        let mut commits = vec![rig.view().latest()];
        for _ in 0..5 + people.dice.below(55) {
            people.act(&mut rig);
            commits.push(rig.view().latest());
        }
        let then = people.choose(&commits).unwrap();
        let context = format!("KEEPSHARE_SEED={seed} life {life} to {then}");
        let (was, before) = (tree(&rig, "f", then), tree(&rig, "f", NOW));
        if std::env::var_os("KEEPSHARE_TRACE").is_some() {
            let names = |tree: &Tree| -> Vec<String> {
                tree.iter().map(|(path, (file, ..))| format!("{path}={}", file.counter)).collect()
            };
            eprintln!("{context}\nwas {:?}\nnow {:?}", names(&was), names(&before));
        }
        let (outside, before_at) = (tree(&rig, "o", NOW), rig.view().latest());
        let left = roll_back(&mut rig, &to("f", then));
        let (is, after_at) = (tree(&rig, "f", NOW), rig.view().latest());
        assert_eq!(shapes(&tree(&rig, "o", NOW)), shapes(&outside), "{context}: outside");
        // What is written under one of its names shows under all of them.
        let linked_outside: BTreeSet<FileId> = left
            .iter()
            .filter(|left| left.why == Why::LinkedOutside)
            .filter_map(|left| {
                let path = left.path.to_string();
                let beside = path.strip_prefix("f/")?.split("~restored-").next()?;
                was.get(beside)
            })
            .map(|(file, ..)| *file)
            .collect();
        let stays: BTreeSet<String> = left.iter().map(|left| left.path.to_string()).collect();
        for (path, (file, kind, content)) in &was {
            let shown = format!("f/{path}");
            if linked_outside.contains(file) {
                continue;
            }
            // Beside what stays there it has another name, and so has all that is in it.
            let beside = stays
                .iter()
                .any(|stays| shown == *stays || shown.starts_with(&format!("{stays}/")));
            match is.get(path) {
                Some((_, now, bytes)) if now == kind && bytes == content => {}
                _ if beside => {
                    let found = is.iter().any(|(other, (_, now, bytes))| {
                        other.contains("~restored-") && now == kind && bytes == content
                    });
                    assert!(found, "{context}: {path} is nowhere");
                }
                now => panic!("{context}: {path} is {now:?}"),
            }
        }
        for path in is.keys().filter(|path| !was.contains_key(*path)) {
            let told = |stays: &String| format!("f/{path}/").starts_with(&format!("{stays}/"));
            let is_told = path.contains("~restored-") || stays.iter().any(told);
            assert!(is_told, "{context}: {path} was not there, and stays untold: {left:?}");
        }
        let again = plan(&rig, &to("f", then)).0;
        let again: Vec<_> = again
            .iter()
            .filter(|step| {
                !matches!(
                    step.doing,
                    Doing::SetAttributes { .. } | Doing::Write { .. } | Doing::Link { .. }
                )
            })
            .collect();
        let names = |file| rig.view().links(file, then).unwrap().len();
        let has_links = was.values().any(|(file, ..)| names(*file) > 1);
        if left.is_empty() && !has_links {
            assert!(again.is_empty(), "{context}: there is more to do: {again:?}");
        }
        // Undone, it is as it was before, wherever nobody did anything else.
        let undo = Wanted { base: after_at, ..to("f", before_at) };
        let undone = roll_back(&mut rig, &undo);
        if left.is_empty() {
            assert!(
                undone.iter().all(|left| left.why == Why::LinkedOutside),
                "{context}: {undone:?}"
            );
            let back = tree(&rig, "f", NOW);
            if undone.is_empty() {
                assert_eq!(shapes(&back), shapes(&before), "{context}: undone");
            }
        }
    }
}

/// What was done after a roll-back is nobody's to take back.
#[test]
fn an_undo_leaves_what_changed_since() {
    let mut rig = Rig::new();
    let folder = rig.add_dir(ROOT, "f");
    let kept = rig.add(folder, "kept", b"one");
    let other = rig.add(folder, "other", b"one");
    let then = rig.view().latest();
    rig.apply(edit().whole(kept, b"two", true));
    rig.apply(edit().whole(other, b"two", true));
    let new = rig.add(folder, "new", b"new");
    let before = rig.view().latest();
    assert_eq!(roll_back(&mut rig, &to("f", then)), []);
    assert_eq!(rig.content(NOW, "f/kept"), b"one");
    assert_eq!(rig.state(NOW, "f/new"), None);
    let after = rig.view().latest();
    rig.apply(edit().whole(kept, b"three", true));
    rig.add(folder, "later", b"later");
    let left = roll_back(&mut rig, &Wanted { base: after, ..to("f", before) });
    let left: Vec<_> = left.iter().map(|left| (left.path.to_string(), left.why)).collect();
    let expected = [("f/kept".to_owned(), Why::Changed), ("f/later".to_owned(), Why::CameSince)];
    assert_eq!(left, expected);
    assert_eq!(rig.content(NOW, "f/kept"), b"three");
    assert_eq!(rig.content(NOW, "f/other"), b"two");
    assert_eq!(rig.content(NOW, "f/new"), b"new");
    assert_ne!(rig.state(NOW, "f/new").unwrap().file, new);
}

/// What is being written is no version yet, and so nothing that may go.
#[test]
fn nothing_goes_that_is_no_version() {
    let mut rig = Rig::new();
    let folder = rig.add_dir(ROOT, "f");
    rig.add(folder, "kept", b"one");
    let then = rig.view().latest();
    let open = rig.master.file();
    rig.apply(edit().whole(open, b"half", false).put(folder, "open", open));
    let (steps, left) = plan(&rig, &to("f", then));
    assert!(!steps.iter().any(|step| matches!(step.doing, Doing::Remove { .. })), "{steps:?}");
    assert_eq!(left[0].why, Why::NotAVersion);
}

/// What was deleted comes back, with the folders around it, and nothing else changes.
#[test]
fn what_was_deleted_comes_back() {
    let mut rig = Rig::new();
    let folder = rig.add_dir(ROOT, "f");
    rig.add(folder, "old", b"old");
    rig.apply(edit().gone(folder, "old"));
    let since = rig.view().latest();
    let inner = rig.add_dir(folder, "inner");
    let one = rig.add(inner, "one", b"1");
    rig.add(inner, "two", b"2");
    rig.apply(edit().whole(one, b"one", true));
    let changed = rig.add(folder, "changed", b"1");
    rig.add(folder, "~$open.docx", b"x");
    // As `rm -r` does it: one after the other.
    rig.apply(edit().gone(inner, "one"));
    rig.apply(edit().gone(inner, "two"));
    rig.apply(edit().gone(folder, "inner"));
    rig.apply(edit().gone(folder, "~$open.docx"));
    rig.apply(edit().whole(changed, b"2", true));
    let before = tree(&rig, "f", NOW);
    let wanted = Wanted { back: Back::Deleted { since }, ..to("f", NOW) };
    let left = roll_back(&mut rig, &wanted);
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0].why, Why::Temporary);
    let mut is = tree(&rig, "f", NOW);
    for (path, content) in [("inner/one", &b"one"[..]), ("inner/two", b"2"), ("inner", b"")] {
        assert_eq!(is.remove(path).unwrap().2, content, "{path}");
    }
    assert_eq!(shapes(&is), shapes(&before));
    assert_eq!(plan(&rig, &wanted).0.len(), 0);
}

/// A program that makes a folder again hides nothing of what was in the one before, and what it put there stays.
#[test]
fn what_was_in_a_folder_that_was_made_again_comes_back() {
    let mut rig = Rig::new();
    let folder = rig.add_dir(ROOT, "f");
    let inner = rig.add_dir(folder, "inner");
    let deep = rig.add_dir(inner, "deep");
    rig.add(inner, "early", b"early");
    rig.apply(edit().gone(inner, "early"));
    let since = rig.view().latest();
    for (parent, name, content) in [
        (inner, "one", &b"1"[..]),
        (inner, "same", b"same"),
        (inner, "other", b"then"),
        (deep, "two", b"2"),
    ] {
        rig.add(parent, name, content);
    }
    for (parent, names) in [(deep, &["two"][..]), (inner, &["one", "same", "other", "deep"])] {
        for name in names {
            rig.apply(edit().gone(parent, name));
        }
    }
    rig.apply(edit().gone(folder, "inner"));
    let again = rig.add_dir(folder, "inner");
    let again_deep = rig.add_dir(again, "deep");
    let same = rig.master.file();
    let mut put = edit().whole(same, b"same", true).put(again, "same", same);
    put.change.files[0].hash = Some(keepshare_base::ContentHash::of(b"same"));
    rig.apply(put);
    rig.add(again, "other", b"now");
    rig.add(again_deep, "three", b"3");

    for top in ["f", "f/inner"] {
        let wanted = Wanted { back: Back::Deleted { since }, ..to(top, NOW) };
        let (steps, left) = plan(&rig, &wanted);
        let mut comes: Vec<String> = steps.iter().map(|step| step.path.to_string()).collect();
        comes.sort();
        comes.dedup();
        assert!(comes.contains(&"f/inner/one".to_owned()), "{top}: {comes:?}");
        assert!(comes.contains(&"f/inner/deep/two".to_owned()), "{top}: {comes:?}");
        let taken: Vec<String> = left.iter().map(|left| left.path.to_string()).collect();
        assert!(taken.contains(&"f/inner/other".to_owned()), "{top}: {left:?}");
        assert!(!comes.iter().chain(&taken).any(|path| path.ends_with("early")), "{comes:?}");
    }
    let wanted = Wanted { back: Back::Deleted { since }, ..to("f", NOW) };
    roll_back(&mut rig, &wanted);
    for (at, content) in [
        ("one", &b"1"[..]),
        ("same", b"same"),
        ("other", b"now"),
        ("deep/two", b"2"),
        ("deep/three", b"3"),
    ] {
        assert_eq!(rig.content(NOW, &format!("f/inner/{at}")), content, "{at}");
    }
    assert_eq!(plan(&rig, &wanted).0, []);
}

/// An undo takes away the folder that a roll-back brought back, but for what came since.
#[test]
fn an_undo_takes_away_a_folder_that_came_back() {
    for is_worked_in in [false, true] {
        let mut rig = Rig::new();
        let folder = rig.add_dir(ROOT, "f");
        rig.add(folder, "one", b"1");
        let then = rig.view().latest();
        rig.apply(edit().gone(folder, "one").gone(ROOT, "f"));
        let before = rig.view().latest();
        roll_back(&mut rig, &to("f", then));
        assert_eq!(rig.content(NOW, "f/one"), b"1");
        let after = rig.view().latest();
        let here = |rig: &Rig, at| rig.view().resolve(&path(at), NOW).unwrap().unwrap().0;
        let only = ["f", "f/one"].map(|at| (here(&rig, at), after)).into();
        if is_worked_in {
            let folder = here(&rig, "f");
            rig.add(folder, "new", b"new");
        }
        let undo = Wanted { base: after, only: Some(only), ..to("f", before) };
        let left = roll_back(&mut rig, &undo);
        assert_eq!(rig.view().resolve(&path("f/one"), NOW).unwrap(), None);
        if is_worked_in {
            assert_eq!(rig.content(NOW, "f/new"), b"new");
            assert!(!left.is_empty());
        } else {
            assert_eq!((rig.view().resolve(&path("f"), NOW).unwrap(), left), (None, vec![]));
        }
    }
}

/// What was changed and changed back is as it was left; what was written while a roll-back went on is not its own.
#[test]
fn an_undo_judges_by_what_files_hold() {
    let mut rig = Rig::new();
    let folder = rig.add_dir(ROOT, "f");
    let hashed = |file, content: &[u8]| {
        let mut edit = edit().whole(file, content, true);
        edit.change.files[0].hash = Some(keepshare_base::ContentHash::of(content));
        edit
    };
    let [back, early] = [rig.add(folder, "back", b"bad"), rig.add(folder, "early", b"bad")];
    let before = rig.view().latest();
    rig.apply(hashed(back, b"good"));
    let own = rig.apply(hashed(early, b"good"));
    // Somebody works in it already.
    rig.apply(hashed(early, b"work"));
    let after = rig.view().latest();
    rig.apply(hashed(back, b"else"));
    rig.apply(hashed(back, b"good"));
    let only = HashMap::from([(back, after), (early, own)]);
    let undo = Wanted { base: after, only: Some(only), ..to("f", before) };
    let left = roll_back(&mut rig, &undo);
    assert_eq!(rig.content(NOW, "f/back"), b"bad");
    assert_eq!(rig.content(NOW, "f/early"), b"work");
    assert_eq!(left.iter().map(|left| left.why).collect::<Vec<_>>(), [Why::Changed]);
}

/// What no master brings back is nothing that differs.
#[test]
fn set_id_bits_are_no_difference() {
    let mut rig = Rig::new();
    let folder = rig.add_dir(ROOT, "f");
    let file = rig.add(folder, "tool", b"tool");
    let with = |rig: &mut Rig, mode| {
        let state = rig.view().file(file, NOW).unwrap().unwrap();
        let meta = keepshare_base::Meta { mode, ..state.meta };
        let mut edit = edit().row(file, meta, keepshare_base::Content::Same, true);
        edit.change.files[0].hash = Some(keepshare_base::ContentHash::of(b"tool"));
        rig.apply(edit)
    };
    let then = with(&mut rig, 0o4755);
    with(&mut rig, 0o755);
    assert_eq!(plan(&rig, &to("f", then)).0, []);
    with(&mut rig, 0o700);
    let steps = plan(&rig, &to("f", then)).0;
    assert!(steps.iter().any(|step| matches!(step.doing, Doing::Write { .. })), "{steps:?}");
}

/// A folder that comes back to another place is made whole there, whatever became of it and of what was in it; where it is now,
/// nothing changes.
#[test]
fn a_folder_is_made_anew_at_a_free_name() {
    let mut rig = Rig::new();
    let (folder, other) = (rig.add_dir(ROOT, "f"), rig.add_dir(ROOT, "o"));
    let (sub, gone) = (rig.add_dir(folder, "sub"), rig.add(folder, "gone", b"one"));
    let moved = rig.add(sub, "moved", b"two");
    rig.apply(edit().put(folder, "linked", moved));
    let then = rig.view().latest();
    let was = tree(&rig, "f", then);
    rig.apply(edit().gone(folder, "gone"));
    rig.apply(edit().gone(sub, "moved").put(other, "moved", moved));
    rig.apply(edit().whole(moved, b"changed", true));
    rig.add(folder, "new", b"three");
    let is = tree(&rig, "f", NOW);
    let anew = |text: &str| {
        let back = Back::Anew { of: folder, at: then };
        Wanted { path: path(text), back, base: NOW, only: None, links: false }
    };
    let (steps, left) = plan(&rig, &anew("o/copy"));
    assert!(left.is_empty(), "{left:?}");
    assert!(
        steps.iter().all(|step| matches!(
            step.doing,
            Doing::Make { .. }
                | Doing::Write { over: None, .. }
                | Doing::SetAttributes { over: None, .. }
        )),
        "{steps:?}"
    );
    steps.iter().for_each(|step| perform(&mut rig, step));
    assert_eq!(shapes(&tree(&rig, "o/copy", NOW)), shapes(&was));
    assert_eq!(shapes(&tree(&rig, "f", NOW)), shapes(&is), "where it is, it is touched");
    assert_eq!(rig.view().links(gone, NOW).unwrap(), []);
    let refused = |text: &str| {
        rig.view().plan_back(&anew(text), &Anything, &mut |_| panic!("{text}")).unwrap_err()
    };
    for taken in ["o/copy", "o/moved", "f", ""] {
        assert!(matches!(refused(taken), PlanError::InTheWay), "{taken}");
    }
    assert!(matches!(refused("nowhere/copy"), PlanError::NoFolder(_)));
}
