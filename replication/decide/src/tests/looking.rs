//! What a round believes of what it sees.

use keepshare_base::{ContentHash, FileTime, Kind};

use super::{Source, at};
use crate::Known;

fn with(files: &[(&str, u64)]) -> Source {
    let mut source = Source::new();
    for (path, number) in files {
        let is_folder = files.iter().any(|(other, _)| other.starts_with(&format!("{path}/")));
        source.folder.make(path, *number, if is_folder { Kind::Dir } else { Kind::File });
        if !is_folder {
            source.folder.write(path, 100, path);
        }
    }
    for (path, _) in files.iter().filter(|(path, _)| !path.contains('/')) {
        source.told(path);
    }
    source.rest(at(0));
    source.map.journal.clear();
    source
}

/// A name that shows nothing may have moved to where nobody has looked yet: the file keeps its id and its history.
#[test]
fn a_file_that_moved_is_one_change_though_its_old_name_is_told_first() {
    let mut source = with(&[("a", 2)]);
    let file = source.file("a");
    source.folder.rename("a", "b");
    source.told("a");
    source.turn(at(100));
    assert!(source.map.journal.is_empty(), "it is not believed at the first look");
    source.told("b");
    source.rest(at(101));
    assert_eq!(source.told_names(), ["b -a"]);
    assert_eq!(source.file("b"), file);
}

/// The second look is not put off for ever by what is told of others, and a file that is gone goes.
#[test]
fn what_is_gone_goes_on_the_second_look() {
    let mut source = with(&[("a", 2), ("b", 3)]);
    source.folder.objects.remove("a");
    source.told("a");
    source.rest(at(100));
    assert_eq!(source.told_names(), ["-a"]);
}

/// A file went into a folder that is new while another took its name: it was lost, and came back as another file.
#[test]
fn a_file_whose_name_was_taken_is_the_same_in_a_folder_that_is_new() {
    let mut source = with(&[("a", 2), ("b", 3)]);
    let (a, b) = (source.file("a"), source.file("b"));
    source.folder.make("new", 4, Kind::Dir);
    source.folder.rename("a", "new/a");
    source.folder.rename("b", "a");
    for name in ["a", "b", "new"] {
        source.told(name);
    }
    source.rest(at(100));
    assert_eq!((source.file("new/a"), source.file("a")), (a, b));
    assert_eq!(source.told_names(), ["a -b", "new", "a"]);
    // What the destinations have of it may have gone there by now.
    let rows = source.map.journal.iter().flat_map(|change| &change.files);
    let whole = rows.filter(|row| row.file == a && row.content.payload_len() > 0).count();
    assert_eq!(whole, 1, "it is sent with its content");
}

/// A folder does so, and with it what is in it.
#[test]
fn a_folder_whose_name_was_taken_is_the_same_with_all_that_is_in_it() {
    let mut source = with(&[("d", 2), ("d/e", 3), ("d/e/x", 4), ("f", 5), ("f/y", 6)]);
    let known = ["d", "d/e", "d/e/x", "f", "f/y"].map(|path| source.file(path));
    source.folder.make("new", 7, Kind::Dir);
    source.folder.rename("d", "new/d");
    source.folder.rename("f", "d");
    for name in ["d", "f", "new"] {
        source.told(name);
    }
    source.rest(at(100));
    let now = ["new/d", "new/d/e", "new/d/e/x", "d", "d/y"].map(|path| source.file(path));
    assert_eq!(now, known);
}

/// What of its content could not be given any more was before it was lost: what it holds now is given.
#[test]
fn what_is_found_again_is_not_withheld() {
    let mut source = with(&[("a", 2), ("b", 3)]);
    let a = source.file("a");
    source.map.forget(&[(a, keepshare_base::Seq(0))]);
    source.folder.make("new", 4, Kind::Dir);
    source.folder.rename("a", "new/a");
    source.folder.rename("b", "a");
    for name in ["a", "b", "new"] {
        source.told(name);
    }
    source.rest(at(100));
    assert_eq!(source.file("new/a"), a);
    let sent = source.map.journal.iter().position(|change| {
        change.files.iter().any(|row| row.file == a && row.content.payload_len() > 0)
    });
    let seq = keepshare_base::Seq(sent.expect("it is sent") as u64 + 1);
    assert!(!crate::withhold::is_withheld(a, seq, &source.map.stale));
}

/// A file is shown where it was until what took its name can be read. Found elsewhere meanwhile, it is no other.
#[test]
fn a_file_whose_name_was_taken_by_what_cannot_be_read_is_the_same_elsewhere() {
    let mut source = with(&[("a", 2)]);
    let a = source.file("a");
    source.folder.rename("a", "moved");
    source.folder.make("a", 3, Kind::File);
    source.told("a");
    source.turn(at(100));
    assert_eq!(source.file("a"), a, "nobody could read the other one");
    source.told("moved");
    source.turn(at(101));
    assert_eq!(source.file("moved"), a);
    source.folder.write("a", 200, "other");
    source.rest(at(102));
    assert_eq!(source.file("moved"), a);
    assert_ne!(source.file("a"), a);
    let rows = source.map.journal.iter().flat_map(|change| &change.files);
    let sent = rows.filter(|row| row.file == a && row.content.payload_len() > 0).count();
    assert_eq!(sent, 0, "the destinations have it");
}

/// A number that the file system gave again is another file: it does not take over a history.
#[test]
fn a_number_that_is_given_again_is_another_file() {
    let mut source = with(&[("a", 2)]);
    let file = source.file("a");
    source.folder.objects.remove("a");
    source.folder.make("a", 2, Kind::File);
    source.folder.objects.get_mut("a").unwrap().inode.birth.secs = 9;
    source.folder.write("a", 200, "other");
    source.told("a");
    source.rest(at(100));
    assert_ne!(source.file("a"), file);
}

/// One after the other would show a folder in itself, or a name that stands for two.
#[test]
fn folders_that_exchange_names_are_one_change_and_keep_their_ids() {
    let mut source = with(&[("a", 2), ("a/x", 3), ("b", 4), ("b/y", 5)]);
    let (a, b) = (source.file("a"), source.file("b"));
    source.folder.rename("a", "t");
    source.folder.rename("b", "a");
    source.folder.rename("t", "b");
    source.told("a");
    source.told("b");
    source.rest(at(100));
    assert_eq!(source.told_names(), ["a b"]);
    assert_eq!((source.file("a"), source.file("b")), (b, a));
}

/// An event inside of a folder comes by the folder's number; where two folders exchanged their names it must not be looked for
/// in the other one and be dropped.
#[test]
fn what_is_told_inside_a_folder_that_was_exchanged_is_not_lost() {
    let mut source = with(&[("a", 2), ("a/x", 3), ("b", 4), ("b/x", 5)]);
    let in_a = source.file("a/x");
    source.folder.write("a/x", 300, "written before the exchange");
    source.told("a/x");
    source.folder.rename("a", "t");
    source.folder.rename("b", "a");
    source.folder.rename("t", "b");
    source.rest(at(100));
    // The look at a/x finds another folder at its place, asks for the names on the way, and comes back.
    assert_eq!(source.file("b/x"), in_a);
    let rows = source.map.journal.iter().flat_map(|change| &change.files);
    assert!(
        rows.into_iter().any(|row| row.file == in_a && row.content.payload_len() > 0),
        "it was dropped"
    );
}

/// A folder that goes takes its names along, the deepest first, in one change.
#[test]
fn a_folder_that_goes_takes_its_names_along() {
    let mut source = with(&[("d", 2), ("d/e", 3), ("d/e/f", 4)]);
    source.folder.objects.retain(|path, _| !path.starts_with('d'));
    source.told("d");
    source.rest(at(100));
    assert_eq!(source.told_names(), ["-f -e -d"]);
    assert_eq!(source.map.files.len(), 1, "only the root is known");
}

/// A name told in a folder that is gone waits for the folder's name, and does not keep it from its second look.
#[test]
fn a_name_in_a_folder_that_is_gone_does_not_wait_for_ever() {
    let mut source = with(&[("d", 2), ("d/f", 3)]);
    source.told("d/f");
    source.folder.objects.retain(|path, _| !path.starts_with('d'));
    let end = source.rest(at(100));
    assert_eq!(source.told_names(), ["-f -d"]);
    assert!(end < at(1000), "it took until {end:?}");
}

/// However slow a round is beside the times after which names are tried again: a folder that is gone goes, with all that was told
/// of the names in it. (They were due again before all of them had been looked at, and what is gone waited for them for ever.)
#[test]
fn a_large_folder_goes_on_a_slow_machine() {
    let mut source = with(&[("d", 2), ("d/f", 3)]);
    let folder = source.file("d");
    for n in 0..3000 {
        source.agenda.add_name(folder, super::name(&format!("{n}")), Default::default());
    }
    source.folder.objects.retain(|path, _| !path.starts_with('d'));
    for turn in 0..40 {
        source.turn(at(100 + 30 * turn));
    }
    assert_eq!(source.told_names(), ["-f -d"]);
    assert!(source.agenda.is_empty(), "{} are left", source.agenda.len());
}

/// What is the same file under two names is followed until both are known, and goes with neither.
#[test]
fn a_file_that_lost_one_of_two_names_stays() {
    let mut source = with(&[("a", 2)]);
    let seen = source.folder.objects["a"];
    source.folder.objects.insert("b".to_owned(), crate::Seen { links: 2, ..seen });
    source.folder.objects.get_mut("a").unwrap().links = 2;
    source.told("b");
    source.rest(at(100));
    assert_eq!(source.file("a"), source.file("b"));
    source.folder.objects.remove("a");
    source.folder.objects.get_mut("b").unwrap().links = 1;
    source.told("a");
    source.rest(at(200));
    assert_eq!(source.told_names(), ["b", "-a"]);
}

/// A mirror takes what it reads under the times that the first scan saw for what was there then, and names it so. What was written
/// a moment before that may be written again without another time: two mirrors gave two contents one name.
#[test]
fn what_was_just_written_when_the_first_scan_saw_it_is_read_before_it_is_believed() {
    let mut source = Source::new();
    source.folder.make("a", 2, Kind::File);
    source.folder.write("a", 1000, "one");
    source.told("a");
    source.learn(at(5));
    source.folder.write("a", 1000, "two");
    let (file, seen) = (source.file("a"), source.folder.objects["a"].signature);
    let known = source.map.record(file).unwrap().unwrap();
    assert_ne!(known.signature, seen, "a mirror would believe it");
    source.rest(at(6));
    let rows: Vec<_> = source.map.journal.iter().flat_map(|change| &change.files).collect();
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0].hash, Some(ContentHash::of(b"two")));
}

/// And so its attributes, which leave another time alone.
#[test]
fn what_was_just_made_when_the_first_scan_saw_it_has_its_attributes_read_again() {
    let mut source = Source::new();
    source.folder.make("d", 2, Kind::Dir);
    let time = FileTime { secs: 1000, nanos: 0 };
    source.folder.objects.get_mut("d").unwrap().signature.ctime = time;
    source.told("d");
    source.learn(at(5));
    source.folder.objects.get_mut("d").unwrap().mode = 0o700;
    source.rest(at(6));
    let rows: Vec<_> = source.map.journal.iter().flat_map(|change| &change.files).collect();
    assert_eq!(rows.iter().map(|row| row.meta.mode).collect::<Vec<_>>(), [0o700]);
}

/// What was left alone for a while is what the first scan saw, and is not read for it.
#[test]
fn what_rested_when_the_first_scan_saw_it_is_believed() {
    let mut source = Source::new();
    source.folder.make("a", 2, Kind::File);
    source.folder.write("a", 1000, "one");
    source.told("a");
    source.learn(at(50));
    let (file, seen) = (source.file("a"), source.folder.objects["a"].signature);
    assert_eq!(source.map.record(file).unwrap().unwrap().signature, seen);
    assert!(source.agenda.is_empty(), "{:?}", source.agenda);
}
