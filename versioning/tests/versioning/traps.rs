//! Single cases that once went wrong, here or elsewhere.

use keepshare_base::{CommitId, Point, PointKind, PointRow};
use keepshare_versioning::{BodyChanges, ReadError, Touched, disk::sim::Crash};

use crate::rig::{NOW, Part, ROOT, Rig, SECOND, bytes, edit, name};

const KIB: u64 = 1024;

/// Bytes behind a shrink must not come back when the file grows again, whatever their grain.
#[test]
fn what_a_shrink_cut_off_stays_off() {
    for size in [300, 40 * KIB, 200 * KIB] {
        for cut in [true, false] {
            let mut rig = Rig::new();
            let before = bytes(1, size as usize);
            let file = rig.add(ROOT, "f", &before);
            let half = size / 2 + 1;
            rig.apply(edit().resize(file, half, cut));
            let patch = bytes(2, 10);
            let grown = [Part::Data(half + 50, &patch)];
            let at = rig.apply(edit().write(file, size, false, &grown, cut));
            let mut want = before[..half as usize].to_vec();
            want.resize(size as usize, 0);
            want[half as usize + 50..][..10].copy_from_slice(&patch);
            assert_eq!(rig.content(NOW, "f"), want, "size {size}, cut {cut}");
            rig.apply(edit().resize(file, 2 * size, true));
            want.resize(2 * size as usize, 0);
            assert_eq!(rig.content(NOW, "f"), want, "size {size}, cut {cut}");
            if cut {
                want.truncate(size as usize);
                assert_eq!(rig.content(at, "f"), want, "size {size}");
            }
            assert_eq!(rig.content(CommitId(1), "f"), before);
        }
    }
}

/// One change that cuts a file off and writes behind the cut: the void hides what was, not what it brings.
#[test]
fn a_void_does_not_hide_the_pages_of_its_own_commit() {
    let mut rig = Rig::new();
    let before = bytes(1, 300 * 1024);
    let file = rig.add(ROOT, "f", &before);
    let (patch, page) = (bytes(2, 100), bytes(3, 4096));
    let size = 300 * KIB;
    let parts = [
        Part::Zeros(70 * KIB, 30 * KIB),
        Part::Data(100 * KIB, &patch),
        Part::Data(128 * KIB, &page),
        Part::Zeros(132 * KIB, size - 132 * KIB),
    ];
    rig.apply(edit().write(file, size, false, &parts, true));
    let mut want = before.clone();
    want[70 * 1024..100 * 1024].fill(0);
    want[100 * 1024..][..100].copy_from_slice(&patch);
    want[128 * 1024..][..4096].copy_from_slice(&page);
    want[132 * 1024..].fill(0);
    assert_eq!(rig.content(NOW, "f"), want);
    // And once more over the void: shorter, then a page at the very end.
    let parts = [Part::Data(90 * KIB, &patch)];
    rig.apply(edit().write(file, 90 * KIB + 100, false, &parts, true));
    want.truncate(90 * 1024 + 100);
    want[90 * 1024..].copy_from_slice(&patch);
    assert_eq!(rig.content(NOW, "f"), want);
    assert_eq!(rig.content(CommitId(1), "f"), before);
}

/// Zeros over the end of a file that grows in the same breath: they hide what was there, not what comes behind them.
#[test]
fn zeros_to_the_old_end_do_not_hide_what_is_added_behind() {
    for zeros_from in [50 * KIB, 99_000] {
        for added_at in [100_000, 100_050, 160_000] {
            let mut rig = Rig::new();
            let before = bytes(1, 100_000);
            let file = rig.add(ROOT, "f", &before);
            let added = bytes(2, 20_000);
            let size = added_at + 20_000;
            let parts =
                [Part::Zeros(zeros_from, 100_000 - zeros_from), Part::Data(added_at, &added)];
            rig.apply(edit().write(file, size, false, &parts, true));
            let mut want = before[..zeros_from as usize].to_vec();
            want.resize(added_at as usize, 0);
            want.extend_from_slice(&added);
            assert!(rig.content(NOW, "f") == want, "zeros from {zeros_from}, more at {added_at}");
            assert_eq!(rig.content(CommitId(1), "f"), before);
        }
    }
}

/// A file that outgrows one frame keeps its first bytes, in the past and now.
#[test]
fn a_small_file_grows_into_blocks() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "f", &bytes(1, 5000));
    let tail = bytes(2, 70_000);
    let grown = [Part::Data(60_000, &tail)];
    rig.apply(edit().write(file, 130_000, false, &grown, true));
    let mut want = bytes(1, 5000);
    want.resize(130_000, 0);
    want[60_000..].copy_from_slice(&tail);
    assert_eq!(rig.content(NOW, "f"), want);
    assert_eq!(rig.content(CommitId(1), "f"), bytes(1, 5000));
}

/// Long content arrives in pieces; only the last is a version, and the pieces are no versions in between.
#[test]
fn content_in_pieces_is_one_version() {
    let mut rig = Rig::new();
    let file = rig.master.file();
    let whole = bytes(1, 1_000_000);
    for (i, piece) in whole.chunks(640 * 1024).enumerate() {
        let offset = i * 640 * 1024;
        let part = [Part::Data(offset as u64, piece)];
        let end = (offset + piece.len()) as u64;
        rig.apply(edit().write(file, end, i == 0, &part, end == 1_000_000));
    }
    rig.apply(edit().put(ROOT, "f", file));
    assert_eq!(rig.content(NOW, "f"), whole);
    assert_eq!(rig.view().versions(file).unwrap().len(), 1);
}

/// Two folders change names in one change; what is inside follows without a row of its own.
#[test]
fn folders_can_be_exchanged() {
    let mut rig = Rig::new();
    let (a, b) = (rig.add_dir(ROOT, "a"), rig.add_dir(ROOT, "b"));
    rig.add(a, "x", b"in a");
    rig.add(b, "x", b"in b");
    let before = rig.store.latest();
    rig.apply(edit().put_dir(ROOT, "a", b).put_dir(ROOT, "b", a));
    assert_eq!(rig.content(NOW, "a/x"), b"in b");
    assert_eq!(rig.content(NOW, "b/x"), b"in a");
    assert_eq!(rig.content(before, "a/x"), b"in a");
    assert_eq!(rig.view().links(a, NOW).unwrap(), [(ROOT, name("b"))]);
    assert_eq!(rig.view().links(a, before).unwrap(), [(ROOT, name("a"))]);
    // A folder can move into the one it was exchanged with, in the same breath.
    rig.apply(edit().gone(ROOT, "b").put_dir(b, "inner", a));
    assert_eq!(rig.content(NOW, "a/inner/x"), b"in a");
}

#[test]
fn all_names_of_a_file_show_one_content() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "a", b"one");
    rig.apply(edit().put(ROOT, "b", file));
    rig.apply(edit().whole(file, b"two", true));
    assert_eq!(rig.content(NOW, "a"), b"two");
    assert_eq!(rig.content(NOW, "b"), b"two");
    rig.apply(edit().gone(ROOT, "a"));
    assert_eq!(rig.view().links(file, NOW).unwrap(), [(ROOT, name("b"))]);
    assert_eq!(rig.content(NOW, "b"), b"two");
    assert!(rig.state(NOW, "a").is_none());
    assert_eq!(rig.view().deleted_names(ROOT, None, 10).unwrap(), [name("a")]);
}

/// A station whose clock jumps ten years ahead for one change keeps it for that one alone.
#[test]
fn an_arrival_is_the_clock_as_it_was() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "f", b"today");
    let jump = 11 * 365 * 24 * 3600 * SECOND;
    let mut arrivals = vec![];
    for (i, step) in [0, jump, -jump, 1, 1].into_iter().enumerate() {
        rig.master.now = rig.master.now.plus_micros(step);
        let at = rig.apply(edit().whole(file, &[i as u8], true));
        arrivals.push(rig.view().commit_info(at).unwrap().unwrap().arrival);
        let alarm = rig.store.take_clock_alarm();
        assert_eq!(alarm.is_some(), i == 2, "the jump back is told once");
        assert_eq!(arrivals[i], rig.master.now, "as it was read");
    }
    rig.crash(Crash::LoseAll);
    rig.master.now = rig.master.now.plus_micros(-jump);
    rig.apply(edit().whole(file, b"later", true));
    assert!(rig.store.take_clock_alarm().is_some(), "over a restart, too");
}

/// A typed time means when changes were made, and the last one made then.
#[test]
fn a_moment_finds_its_commit() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "f", b"1");
    let (first, first_stamp) = (rig.store.latest(), rig.master.now);
    rig.apply(edit().whole(file, b"2", true));
    let (second, second_stamp) = (rig.store.latest(), rig.master.now);
    let view = rig.view();
    assert_eq!(view.commit_at(first_stamp.plus_micros(-1)).unwrap(), CommitId(0));
    assert_eq!(view.commit_at(first_stamp).unwrap(), first);
    assert_eq!(view.commit_at(second_stamp.plus_micros(-1)).unwrap(), first);
    assert_eq!(view.commit_at(second_stamp).unwrap(), second);
    assert_eq!(view.commit_at(keepshare_base::Stamp::MAX).unwrap(), second);
}

/// A state that was no version may lose bytes that newer states do not need: it is gone, not wrong.
#[test]
fn a_state_that_is_not_kept_is_never_read_wrong() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "f", &bytes(1, 100_000));
    let page = bytes(2, 4096);
    rig.apply(edit().write(file, 100_000, false, &[Part::Data(0, &page)], false));
    let uncut = rig.state(NOW, "f").unwrap();
    rig.read(&uncut);
    rig.apply(edit().write(file, 100_000, false, &[Part::Data(0, &bytes(3, 4096))], true));
    let error = rig.reader().read(&uncut, 0, 10).unwrap_err();
    assert!(matches!(error, ReadError::Gone { .. }), "{error:?}");
}

/// A later change can make a present state a version: the version is of that change.
#[test]
fn a_state_can_be_cut_later() {
    let mut rig = Rig::new();
    let file = rig.master.file();
    rig.apply(edit().whole(file, b"draft", false).put(ROOT, "f", file));
    assert!(rig.view().versions(file).unwrap().is_empty());
    let at = rig.apply(edit().cut(file).whole(file, b"next", false));
    let versions = rig.view().versions(file).unwrap();
    assert_eq!(versions.len(), 1);
    assert_eq!(rig.read(&versions[0]), b"draft");
    assert_eq!(versions[0].commit, CommitId(1));
    let info = rig.view().commit_info(at).unwrap().unwrap();
    assert_eq!((versions[0].position, versions[0].stamp), (info.position, info.stamp));
    assert_eq!(rig.content(NOW, "f"), b"next");
}

/// The live tree asks what to look at, and of a long file only which bytes.
#[test]
fn what_was_touched_is_told_until_the_live_tree_has_it() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "f", &bytes(1, 600_000));
    let before = rig.store.latest();
    rig.apply(edit().write(file, 600_000, false, &[Part::Data(5000, b"x")], true));
    rig.apply(edit().write(file, 500_000, false, &[Part::Data(70_000, b"x")], true));
    let view = rig.view();
    assert_eq!(view.touched(before).unwrap(), Touched::Known { names: vec![], files: vec![file] });
    let state = rig.state(NOW, "f").unwrap();
    let changes = BodyChanges::Ranges(vec![4096..8192, 69_632..73_728]);
    assert_eq!(view.body_changes(&state, before).unwrap(), changes);
    assert_eq!(view.body_changes(&state, CommitId(0)).unwrap(), BodyChanges::Whole);
    assert_eq!(view.body_changes(&state, NOW).unwrap(), BodyChanges::Ranges(vec![]));
    drop(view);
    rig.store.set_live(rig.store.latest());
    rig.store.flush().unwrap();
    let view = rig.view();
    assert_eq!(view.touched(before).unwrap(), Touched::Everything);
    assert_eq!(view.body_changes(&state, before).unwrap(), changes, "found by looking");
}

/// Who reads a file from end to end is told what comes next: it may be said to be longer than anyone can go through.
#[test]
fn what_a_file_holds_is_found_however_long_it_is() {
    const LONG: u64 = 1 << 53;
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "f", &bytes(1, 600_000));
    rig.apply(edit().resize(file, 300_000, true));
    let cut = rig.store.latest();
    rig.apply(edit().resize(file, LONG, true));
    rig.apply(edit().write(file, LONG, false, &[Part::Data(LONG - 9, b"the end.!")], true));
    let data = |at| {
        let (view, state) = (rig.view(), rig.state(at, "f").unwrap());
        let (mut found, mut offset) = (vec![], 0);
        while let Some(next) = view.next_data(&state, offset).unwrap() {
            let read = rig.reader().read(&state, next, 65_536).unwrap();
            found.push((next, read.len()));
            offset = (next / 65_536 + 1) * 65_536;
        }
        found
    };
    let now = data(NOW);
    assert_eq!(now[now.len() - 1], (LONG - 4096, 4096));
    assert!(now.len() <= 11 && now[now.len() - 2].0 < 600_000, "{now:?}");
    let then = data(cut);
    assert!(then.len() == 5 && then[4].0 + then[4].1 as u64 == 300_000, "{then:?}");
}

/// Parts of a mirror leave the place alone; its end moves it, and only what is complete is a moment.
#[test]
fn a_mirror_jumps_at_its_end() {
    let mut rig = Rig::new();
    rig.add(ROOT, "f", b"1");
    let (before, before_stamp) = (rig.store.latest(), rig.master.now);
    let place = |rig: &Rig| rig.view().position(keepshare_base::OriginId(1)).unwrap().unwrap();
    let (first, second) = (rig.master.file(), rig.master.file());
    rig.master.seq.0 += 40;
    rig.master.now = rig.master.now.plus_micros(SECOND);
    let parts = [
        (edit(), false),
        (edit().whole(first, b"first", true).put(ROOT, "first", first), false),
        (edit().whole(second, b"second", true).put(ROOT, "second", second), true),
    ];
    for (part, complete) in parts {
        let was = place(&rig);
        let incoming = rig.master.at_place(part, complete);
        rig.store.commit(rig.master.now, &incoming).unwrap();
        rig.store.sync().unwrap();
        assert_eq!(place(&rig).mirror.is_some(), !complete);
        if complete {
            let here = (rig.master.epoch, rig.master.seq, rig.master.running);
            assert_eq!(place(&rig).last, Some(here));
        } else {
            assert_eq!(place(&rig).last, was.last);
            assert_eq!(rig.view().commit_at(rig.master.now).unwrap(), before);
        }
    }
    assert_eq!(rig.view().commit_at(before_stamp).unwrap(), before);
    assert_eq!(rig.view().commit_at(rig.master.now).unwrap(), rig.store.latest());
    assert_eq!(rig.apply(edit()), rig.store.latest(), "the journal goes on from there");
}

/// A mirror begun again brings the same files at the same position: one version each, the newest.
#[test]
fn a_mirror_begun_again_leaves_one_version() {
    let mut rig = Rig::new();
    let file = rig.master.file();
    rig.master.seq.0 = 7;
    let start = rig.master.at_place(edit(), false);
    rig.store.commit(rig.master.now, &start).unwrap();
    for content in [&b"first try"[..], b"second try"] {
        let part = edit().whole(file, content, true).put(ROOT, "f", file);
        let incoming = rig.master.at_place(part, false);
        rig.store.commit(rig.master.now, &incoming).unwrap();
    }
    rig.store.sync().unwrap();
    assert_eq!(rig.view().versions(file).unwrap().len(), 1);
    assert_eq!(rig.content(NOW, "f"), b"second try");
}

#[test]
fn points_and_answers_to_restores_are_found_again() {
    let mut rig = Rig::new();
    let mut change = edit();
    let point = Point { name: "release-7".into(), kind: PointKind::App };
    change.change.point = Some(PointRow::Made { point, lasts_micros: None });
    let request = keepshare_base::RequestId([7; 32]);
    let version = "v1.1.1".parse().unwrap();
    let outcome = keepshare_base::RestoreOutcome::Equal;
    change.change.restore = Some(keepshare_base::RestoreRow { request, version, outcome });
    let at = rig.apply(change);
    rig.crash(Crash::LoseAll);
    let points = rig.view().points(CommitId(0), 10).unwrap();
    assert_eq!((points.len(), points[0].commit), (1, at));
    assert!(rig.view().points(at, 10).unwrap().is_empty());
    let answer = rig.view().restore(request).unwrap().unwrap();
    assert_eq!((answer.commit, answer.row.version), (at, version));
}

/// What is not synced is not seen: an answer must never be taken back by a crash.
#[test]
fn pending_rows_are_seen_by_checks_and_by_no_one_else() {
    let mut rig = Rig::new();
    let dir = rig.master.file();
    rig.commit(edit().dir(dir).put_dir(ROOT, "d", dir));
    let file = rig.master.file();
    rig.commit(edit().whole(file, &bytes(1, 70_000), false).put(dir, "f", file));
    rig.commit(edit().write(file, 70_000, false, &[Part::Data(10, b"over pending")], true));
    assert!(rig.state(NOW, "d").is_none());
    rig.store.sync().unwrap();
    assert_eq!(&rig.content(NOW, "d/f")[10..22], b"over pending");
}
