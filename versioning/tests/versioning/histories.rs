//! How programs save, and the history that each way must show.

use keepshare_base::{CommitId, FileId, Kind, SetPath, Stamp};
use keepshare_versioning::{Ended, HistoryEntry, NameAt, ReadError};

use crate::rig::{NOW, ROOT, Rig, SECOND, START, edit, name};

/// One line of a history: content, name then, since which second, until which and how, and whether it is current.
type Line<'a> = (&'a str, &'a str, i64, Option<(i64, Ended)>, bool);

fn check(rig: &Rig, parent: FileId, text: &str, want: &[Line<'_>]) {
    let seconds = |stamp: Stamp| stamp.micros_since(START) / SECOND;
    let line = |entry: &HistoryEntry| {
        let content = String::from_utf8(rig.read(&entry.state)).unwrap();
        let until = entry.held_until.map(|(stamp, ended)| (seconds(stamp), ended));
        let then = entry.name.to_string();
        (content, then, seconds(entry.held_from), until, entry.current)
    };
    let history = rig.view().history(parent, &name(text), 100).unwrap();
    let got: Vec<_> = history.iter().map(line).collect();
    let want = want.iter().map(|(content, then, from, until, current)| {
        ((*content).to_owned(), (*then).to_owned(), *from, *until, *current)
    });
    assert_eq!(got, want.collect::<Vec<_>>());
    for entry in &history {
        assert_eq!(Some(entry.version), entry.state.version());
    }
}

const fn replaced(at: i64) -> Option<(i64, Ended)> {
    Some((at, Ended::Replaced))
}

const fn renamed(at: i64) -> Option<(i64, Ended)> {
    Some((at, Ended::Renamed))
}

const fn deleted(at: i64) -> Option<(i64, Ended)> {
    Some((at, Ended::Deleted))
}

/// Writes in place: each close is a version.
/// Rights to the past go by where things are or were last, and by what they were, content or not.
#[test]
fn last_places_and_attributes_outlive_names_and_content() {
    let mut rig = Rig::new();
    let dir = rig.add_dir(ROOT, "dir");
    let file = rig.add(dir, "a", b"one");
    let linked = rig.apply(edit().put(ROOT, "b", file));
    let view = rig.view();
    let both = vec![(ROOT, name("b")), (dir, name("a"))];
    assert_eq!(view.last_links(file).unwrap(), (NOW, both.clone()));
    assert_eq!(view.link_count(file).unwrap(), 2);
    assert_eq!(view.empty_since(ROOT, &name("b")).unwrap(), None);
    let gone = rig.apply(edit().gone(ROOT, "b").gone(dir, "a"));
    let view = rig.view();
    assert_eq!(view.last_links(file).unwrap(), (linked, both));
    assert_eq!(view.link_count(file).unwrap(), 0);
    assert_eq!(view.empty_since(ROOT, &name("b")).unwrap(), Some(gone));
    assert_eq!(view.empty_since(ROOT, &name("never")).unwrap(), None);
    assert_eq!(view.first_linked(file, linked).unwrap(), Some(linked));
    assert_eq!(view.first_linked(file, gone).unwrap(), None);
    assert_eq!(view.names_ever(ROOT, None, 9).unwrap(), [name("b"), name("dir")]);
    assert_eq!(view.names_ever(ROOT, Some(&name("b")), 1).unwrap(), [name("dir")]);
    let held = view.held(ROOT, &name("b"), 9).unwrap();
    assert_eq!(held, [None, Some((file, Kind::File))]);
    let unborn = rig.master.file();
    let early = rig.apply(edit().whole(unborn, b"x", true));
    let late = rig.apply(edit().put(ROOT, "late", unborn));
    let newer = rig.apply(edit().whole(unborn, b"y", true));
    rig.store.expire(&[(unborn, early)]).unwrap();
    rig.store.sync().unwrap();
    let view = rig.view();
    assert_eq!(view.first_linked(unborn, early).unwrap(), Some(late));
    assert_eq!(view.meta(unborn, late).unwrap().unwrap().0, early);
    assert_eq!(view.meta(unborn, NOW).unwrap().unwrap().0, newer);
    assert_eq!(view.last_links(rig.master.clone().file()).unwrap(), (CommitId(0), vec![]));
}

#[test]
fn saves_in_place() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "f", b"one");
    rig.apply(edit().whole(file, b"two", true));
    rig.apply(edit().whole(file, b"three", true));
    check(
        &rig,
        ROOT,
        "f",
        &[
            ("three", "f", 3, None, true),
            ("two", "f", 2, replaced(3), false),
            ("one", "f", 1, replaced(2), false),
        ],
    );
}

/// vim: the old file becomes `f~`, a new one is made under the name, the backup goes.
#[test]
fn vim_save() {
    let mut rig = Rig::new();
    let old = rig.add(ROOT, "f", b"one");
    let new = rig.master.file();
    rig.apply(edit().gone(ROOT, "f").put(ROOT, "f~", old));
    rig.apply(edit().whole(new, b"two", true).put(ROOT, "f", new));
    rig.apply(edit().gone(ROOT, "f~"));
    check(&rig, ROOT, "f", &[("two", "f", 3, None, true), ("one", "f", 1, renamed(2), false)]);
    check(&rig, ROOT, "f~", &[("one", "f~", 1, deleted(4), false)]);
}

/// Word: writes a temporary file, renames the old one away, the temporary one in, and removes the old one.
#[test]
fn word_save() {
    let mut rig = Rig::new();
    let old = rig.add(ROOT, "f.docx", b"one");
    let temp = rig.add(ROOT, "~wrd1.tmp", b"two");
    rig.apply(edit().gone(ROOT, "f.docx").put(ROOT, "~wrl2.tmp", old));
    rig.apply(edit().gone(ROOT, "~wrd1.tmp").put(ROOT, "f.docx", temp));
    rig.apply(edit().gone(ROOT, "~wrl2.tmp"));
    check(
        &rig,
        ROOT,
        "f.docx",
        &[("two", "f.docx", 4, None, true), ("one", "f.docx", 1, renamed(3), false)],
    );
}

/// Most programs today: a temporary file renamed onto the name, so that the name is never empty.
#[test]
fn temp_and_replace() {
    let mut rig = Rig::new();
    rig.add(ROOT, "f", b"one");
    for (i, content) in ["two", "three"].into_iter().enumerate() {
        let temp = rig.add(ROOT, &format!(".f.{i}"), content.as_bytes());
        rig.apply(edit().gone(ROOT, &format!(".f.{i}")).put(ROOT, "f", temp));
    }
    check(
        &rig,
        ROOT,
        "f",
        &[
            ("three", "f", 5, None, true),
            ("two", "f", 3, replaced(5), false),
            ("one", "f", 1, replaced(3), false),
        ],
    );
}

/// The very first save by temporary file: shown under the name that was meant.
#[test]
fn first_save_by_temp() {
    let mut rig = Rig::new();
    let temp = rig.add(ROOT, ".f.0", b"one");
    rig.apply(edit().gone(ROOT, ".f.0").put(ROOT, "f", temp));
    check(&rig, ROOT, "f", &[("one", "f", 1, None, true)]);
}

/// Renamed for good: the history goes along, and the old name shows what it held.
#[test]
fn rename_and_go_on() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "draft", b"one");
    rig.apply(edit().whole(file, b"two", true));
    rig.apply(edit().gone(ROOT, "draft").put(ROOT, "final", file));
    rig.apply(edit().whole(file, b"three", true));
    check(
        &rig,
        ROOT,
        "final",
        &[
            ("three", "final", 4, None, true),
            ("two", "final", 2, replaced(4), false),
            ("one", "draft", 1, replaced(2), false),
        ],
    );
    check(
        &rig,
        ROOT,
        "draft",
        &[("two", "draft", 2, renamed(3), false), ("one", "draft", 1, replaced(2), false)],
    );
    assert_eq!(rig.view().deleted_names(ROOT, None, 10).unwrap(), [name("draft")]);
}

/// Renamed away, and a new file under the name much later: two histories, and none is lost.
#[test]
fn rename_away_and_recreate_later() {
    let mut rig = Rig::new();
    let old = rig.add(ROOT, "log", b"monday");
    rig.apply(edit().gone(ROOT, "log").put(ROOT, "log.1", old));
    rig.master.now = rig.master.now.plus_micros(3600 * SECOND);
    rig.add(ROOT, "log", b"tuesday");
    check(
        &rig,
        ROOT,
        "log",
        &[("tuesday", "log", 3603, None, true), ("monday", "log", 1, renamed(2), false)],
    );
    check(&rig, ROOT, "log.1", &[("monday", "log.1", 1, None, true)]);
}

/// Deleted, and another file moved to the name a day later: its own past comes with it.
#[test]
fn another_file_takes_a_name_that_was_long_empty() {
    let mut rig = Rig::new();
    let plan = rig.add(ROOT, "plan", b"old plan");
    rig.apply(edit().gone(ROOT, "plan"));
    let other = rig.add(ROOT, "idea", b"idea");
    rig.master.now = rig.master.now.plus_micros(86_400 * SECOND);
    rig.apply(edit().gone(ROOT, "idea").put(ROOT, "plan", other));
    rig.apply(edit().whole(other, b"new plan", true));
    check(
        &rig,
        ROOT,
        "plan",
        &[("new plan", "plan", 86_405, None, true), ("idea", "plan", 3, replaced(86_405), false)],
    );
    assert_eq!(rig.view().versions(plan).unwrap().len(), 1, "and the old plan is kept");
}

#[test]
fn delete_and_recreate() {
    let mut rig = Rig::new();
    rig.add(ROOT, "f", b"one");
    rig.apply(edit().gone(ROOT, "f"));
    check(&rig, ROOT, "f", &[("one", "f", 1, deleted(2), false)]);
    rig.add(ROOT, "f", b"two");
    check(&rig, ROOT, "f", &[("two", "f", 3, None, true), ("one", "f", 1, deleted(2), false)]);
}

/// A state that was never closed becomes a version in the change that removes its name.
#[test]
fn delete_cuts_what_was_open() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "f", b"one");
    rig.apply(edit().whole(file, b"two", false));
    rig.apply(edit().cut(file).gone(ROOT, "f"));
    check(
        &rig,
        ROOT,
        "f",
        &[("two", "f", 2, deleted(3), false), ("one", "f", 1, replaced(2), false)],
    );
}

/// A folder's new name is one row; what is inside keeps its history, under the folder's id.
#[test]
fn folder_rename() {
    let mut rig = Rig::new();
    let dir = rig.add_dir(ROOT, "2025");
    let file = rig.add(dir, "f", b"one");
    rig.apply(edit().gone(ROOT, "2025").put_dir(ROOT, "archive", dir));
    rig.apply(edit().whole(file, b"two", true));
    check(&rig, dir, "f", &[("two", "f", 4, None, true), ("one", "f", 2, replaced(4), false)]);
    assert_eq!(rig.content(NOW, "archive/f"), b"two");
    assert_eq!(rig.view().path_of(file, NOW).unwrap().unwrap().to_bytes(), b"archive/f");
}

/// A log that is appended to without being closed: versions are what was cut, the rest is the present.
#[test]
fn append_log() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "log", b"a");
    let append = |rig: &mut Rig, offset: u64, bytes: &[u8], cut| {
        let part = [crate::rig::Part::Data(offset, bytes)];
        rig.apply(edit().write(file, offset + bytes.len() as u64, false, &part, cut));
    };
    append(&mut rig, 1, b"b", false);
    append(&mut rig, 2, b"c", true);
    append(&mut rig, 3, b"d", false);
    check(
        &rig,
        ROOT,
        "log",
        &[("abc", "log", 3, replaced(4), false), ("a", "log", 1, replaced(3), false)],
    );
    assert_eq!(rig.content(NOW, "log"), b"abcd");
}

/// Two files change names: each name shows both, as it held them.
#[test]
fn exchange() {
    let mut rig = Rig::new();
    let a = rig.add(ROOT, "a", b"A");
    let b = rig.add(ROOT, "b", b"B");
    rig.apply(edit().put(ROOT, "a", b).put(ROOT, "b", a));
    check(&rig, ROOT, "a", &[("B", "a", 3, None, true), ("A", "a", 1, replaced(3), false)]);
    check(&rig, ROOT, "b", &[("A", "b", 3, None, true), ("B", "b", 2, replaced(3), false)]);
}

/// Renamed away and back an hour later: one entry for one version, held under both.
#[test]
fn rename_there_and_back() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "f", b"one");
    rig.apply(edit().gone(ROOT, "f").put(ROOT, "g", file));
    rig.master.now = rig.master.now.plus_micros(3600 * SECOND);
    rig.apply(edit().gone(ROOT, "g").put(ROOT, "f", file));
    check(&rig, ROOT, "f", &[("one", "f", 1, None, true)]);
}

/// A second name for a file: it shows what the file was before, too.
#[test]
fn hard_link() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "a", b"one");
    rig.apply(edit().whole(file, b"two", true));
    rig.apply(edit().put(ROOT, "b", file));
    check(&rig, ROOT, "b", &[("two", "b", 2, None, true), ("one", "a", 1, replaced(2), false)]);
}

/// What somebody may not see takes no place from what they may.
#[test]
fn limits_count_what_is_told() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "f", b"v000");
    for n in 1..200 {
        rig.apply(edit().whole(file, format!("v{n:03}").as_bytes(), true));
    }
    let view = rig.view();
    let path = SetPath::default().join(name("f"));
    let at = NameAt { folders: &[ROOT], path: &path };
    let told = |limit, through: usize| {
        let mut newest = 200;
        let tell = |_: &HistoryEntry| {
            newest -= 1;
            Ok::<_, ReadError>(newest < through)
        };
        let told = view.history_at(at, limit, tell).unwrap();
        told.iter().map(|entry| String::from_utf8(rig.read(&entry.state)).unwrap()).collect()
    };
    let expected = |from: usize, count: usize| -> Vec<String> {
        (0..count).map(|n| format!("v{:03}", from - n)).collect()
    };
    let three: Vec<String> = told(3, 10);
    assert_eq!(three, expected(9, 3));
    let all: Vec<String> = told(1000, 10);
    assert_eq!(all, expected(9, 10));
    assert_eq!(told(0, 200), Vec::<String>::new());
    let failed = view.history_at(at, 3, |_| Err(ReadError::Gone { file }));
    assert!(matches!(failed, Err(ReadError::Gone { .. })), "{failed:?}");
}

/// A folder that came to its path by a rename, with files that were not saved since, and was removed there and made again: what
/// the path held is not lost with it, and what it never held is not told.
#[test]
fn what_a_renamed_folder_brought_to_its_path_is_of_that_path() {
    let mut rig = Rig::new();
    let folder = rig.add_dir(ROOT, "draft");
    let old = rig.add(folder, "a", b"one");
    let path = SetPath::default().join(name("plans")).join(name("a"));
    rig.apply(edit().gone(ROOT, "draft").put_dir(ROOT, "plans", folder));
    rig.apply(edit().gone(ROOT, "plans").put_dir(ROOT, "away", folder));
    rig.apply(edit().whole(old, b"elsewhere", true));
    let second = rig.add_dir(ROOT, "plans");
    rig.add(second, "a", b"two");
    let view = rig.view();
    let folders = view.folders_at(&SetPath::default().join(name("plans"))).unwrap();
    assert_eq!(folders, [second, folder]);
    let at = NameAt { folders: &folders, path: &path };
    let history = view.history_at(at, 10, |_| Ok::<_, ReadError>(true)).unwrap();
    let told: Vec<_> = history.iter().map(|entry| rig.read(&entry.state)).collect();
    assert_eq!(told, [b"two".to_vec(), b"one".to_vec()]);
}

/// A folder that was removed and made again goes on with the past of its names; what a folder held elsewhere, before it came
/// to its path or after it left, is not of that path.
#[test]
fn a_folder_made_again_keeps_its_past() {
    let mut rig = Rig::new();
    let first = rig.add_dir(ROOT, "plans");
    let old = rig.add(first, "a", b"one");
    rig.apply(edit().gone(ROOT, "plans").put_dir(ROOT, "old plans", first));
    rig.apply(edit().whole(old, b"elsewhere", true));
    let second = rig.add_dir(ROOT, "plans");
    rig.add(second, "a", b"two");
    let view = rig.view();
    let folder = SetPath::default().join(name("plans"));
    let folders = view.folders_at(&folder).unwrap();
    assert_eq!(folders, [second, first]);
    let path = folder.join(name("a"));
    let at = NameAt { folders: &folders, path: &path };
    let history = view.history_at(at, 10, |_| Ok::<_, ReadError>(true)).unwrap();
    let told: Vec<_> =
        history.iter().map(|entry| (rig.read(&entry.state), entry.current)).collect();
    assert_eq!(told, [(b"two".to_vec(), true), (b"one".to_vec(), false)]);
    assert!(history[1].held_until.is_some(), "it ended when the folder went");
}
