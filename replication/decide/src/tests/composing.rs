//! Which states are read, which are versions, and what is journaled together.

use std::collections::HashMap;

use keepshare_base::{
    Event, FileId, FileRow, Kind, NameRow, Position, RequestId, RestoreOutcome, RestoreRow, Seq,
    Stamp, VersionId,
};

use super::{Source, at, id, name};
use crate::{
    Known, Touch,
    agenda::FileTask,
    compose::{Composer, RestoreNote, Row, When},
    withhold::{Stale, strip},
};

fn saved() -> (Source, keepshare_base::FileId) {
    let mut source = Source::new();
    source.folder.make("a", 2, Kind::File);
    source.folder.write("a", 100, "one");
    source.told("a");
    source.rest(at(0));
    let file = source.file("a");
    (source, file)
}

fn touched(source: &mut Source, file: keepshare_base::FileId, touch: Touch) {
    source.agenda.add_file(file, FileTask { touch, ..FileTask::default() });
}

const CLOSED: Touch = Touch { modified: false, closed: true, moved: false };
const MODIFIED: Touch = Touch { modified: true, closed: false, moved: false };

/// A new file comes with its content in the change that shows its name.
#[test]
fn a_name_never_shows_a_file_that_is_not_whole() {
    let (source, file) = saved();
    let change = &source.map.journal[0];
    assert_eq!(change.names.len(), 1);
    assert_eq!((change.files[0].file, change.files[0].event), (file, Event::Created));
    assert_eq!(change.files[0].content.payload_len(), 3);
}

/// Whoever closes a file makes a version of it; whoever only writes does not, until it was quiet.
#[test]
fn a_state_is_a_version_when_its_writer_closes() {
    let (mut source, file) = saved();
    source.folder.write("a", 200, "two");
    touched(&mut source, file, MODIFIED);
    source.turn(at(100));
    assert!(!source.map.journal.last().unwrap().files[0].cut, "it is still being written");
    touched(&mut source, file, CLOSED);
    source.turn(at(101));
    let last = source.map.journal.last().unwrap();
    assert_eq!(
        (last.files.len(), last.cuts.as_slice()),
        (0, &[file][..]),
        "only that it is a version"
    );
    touched(&mut source, file, CLOSED);
    let before = source.map.journal.len();
    source.turn(at(102));
    assert_eq!(source.map.journal.len(), before, "a state is a version once");
}

/// What replaces a file by a rename leaves its last state a version, in the same change.
#[test]
fn what_is_replaced_is_a_version_first() {
    let (mut source, old) = saved();
    source.folder.write("a", 200, "two");
    touched(&mut source, old, MODIFIED);
    source.turn(at(100));
    source.folder.make("t", 3, Kind::File);
    source.folder.write("t", 300, "three");
    source.folder.rename("t", "a");
    source.told("a");
    source.turn(at(101));
    let last = source.map.journal.last().unwrap();
    assert_eq!((last.names.len(), last.cuts.as_slice()), (1, &[old][..]));
}

/// Bytes that are as they were are no change, whatever the times say; that the times changed is one.
#[test]
fn the_same_bytes_are_no_version_of_their_own() {
    let (mut source, file) = saved();
    touched(&mut source, file, CLOSED);
    source.turn(at(50));
    source.folder.write("a", 200, "one");
    touched(&mut source, file, CLOSED);
    source.turn(at(100));
    let row = &source.map.journal.last().unwrap().files[0];
    assert_eq!((row.event, row.content.payload_len()), (Event::Attributes, 0));
}

/// A save within the same tick leaves no other time. That it is looked at again is not enough: where the process ends before, the map says
/// that what it knows may be something else, until a later look is sure.
#[test]
fn what_was_written_within_a_tick_is_unsure_in_the_map_until_it_is_looked_at_again() {
    let (mut source, file) = saved();
    source.ticks = true;
    source.folder.write("a", 1000, "two");
    touched(&mut source, file, CLOSED);
    source.turn(at(5));
    let seen = source.folder.objects["a"].signature;
    let mtime_known =
        |source: &Source| source.map.record(file).unwrap().unwrap().signature.mtime == seen.mtime;
    assert!(!mtime_known(&source), "a scan after a crash would believe it");
    source.rest(at(20));
    assert!(mtime_known(&source));
}

/// A file that takes long to read is left alone for as long; a name that it takes is not made to wait.
#[test]
fn a_file_that_rests_is_read_when_it_has_rested() {
    let (mut source, file) = saved();
    source.agenda.rest(file, at(500));
    source.folder.write("a", 200, "two");
    touched(&mut source, file, MODIFIED);
    let before = source.map.journal.len();
    source.turn(at(100));
    assert_eq!(source.map.journal.len(), before);
    assert_eq!(source.agenda.len(), 1, "it waits, in one place");
    source.turn(at(499));
    assert_eq!(source.map.journal.len(), before);
    source.turn(at(501));
    assert_eq!(source.map.journal.last().unwrap().files[0].file, file);
}

/// What went while it was read is looked at again, and shows no name without a content.
#[test]
fn a_file_that_cannot_be_read_is_not_shown() {
    let mut source = Source::new();
    source.folder.make("a", 2, Kind::File);
    // No content: whoever opens it finds nothing.
    source.told("a");
    source.turn(at(0));
    assert!(source.map.journal.is_empty());
    assert!(source.agenda.is_busy(), "its name is looked at again");
    source.folder.write("a", 100, "there");
    source.rest(at(1));
    assert_eq!(source.told_names(), ["a"]);
}

/// No station knows a file that a restore made: whatever becomes of its content, its name tells of something.
#[test]
fn what_a_restore_made_is_known_before_its_content() {
    let (mut source, _) = saved();
    let (file, place) = (id(50), (FileId::ROOT, name("b")));
    let first = &source.map.journal[0].files[0];
    let row = FileRow { file, event: Event::Restored, cut: true, ..first.clone() };
    let version = VersionId(Position { origin: file.origin, epoch: file.epoch, seq: Seq(1) });
    let outcome = RestoreOutcome::Written;
    let answer = RestoreRow { request: RequestId([7; 32]), version, outcome };
    let note = RestoreNote { row: answer, user: None, place, born: true };
    let when = When { stamp: Stamp(9), now: at(9), exact_times: true };
    let before = source.map.journal.len();
    let mut composer = Composer::new(when, &mut source.cutting, HashMap::from([(file, note)]));
    let target = Some((file, Kind::File));
    let named = NameRow { parent: FileId::ROOT, name: name("b"), target };
    let rows = vec![Row { row, payload: b"one".to_vec() }];
    composer.journal(&mut source.map, vec![named], rows, vec![]).unwrap();
    let mut told = source.map.journal.split_off(before);
    let stale = Stale::from([(file, (Seq(0), Seq(u64::MAX)))]);
    told.iter_mut().for_each(|change| strip(change, Seq(9), &stale));
    let [first, second] = &told[..] else { panic!("{told:?}") };
    assert_eq!((first.files[0].file, first.files[0].meta.size), (file, 0));
    assert_eq!((second.names.len(), second.files.len(), second.restore.is_some()), (1, 0, true));
}

/// A clock may be set back, and a change says what it says then: numbers give the order. Stamps that are forced upward would
/// stay ahead of every clock for as long as one was wrong.
#[test]
fn a_change_has_the_time_of_the_clock_as_it_is() {
    let (mut source, file) = saved();
    let former = source.map.journal.last().unwrap().stamp;
    let when = When { stamp: Stamp(9), now: at(9), exact_times: true };
    assert!(when.stamp < former);
    let mut composer = Composer::new(when, &mut source.cutting, HashMap::new());
    composer.journal(&mut source.map, vec![], vec![], vec![file]).unwrap();
    assert_eq!(source.map.journal.last().unwrap().stamp, Stamp(9));
}
