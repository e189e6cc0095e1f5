//! What a master may not do, each by the name under which it is refused. A refused change leaves no trace.

use keepshare_base::{Epoch, FileId, Kind, OriginId, Seq};
use keepshare_versioning::{CommitError, Refusal, disk::sim::Crash};

use crate::rig::{Edit, NOW, ROOT, Rig, edit, meta, name};

/// A change, and whether this is why it should be refused.
type Case = (Edit, fn(&Refusal) -> bool);

/// A set with a file `f`, and a folder `d` with a folder `e` in it.
fn rig() -> (Rig, FileId, FileId, FileId) {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "f", b"content");
    let dir = rig.add_dir(ROOT, "d");
    let inner = rig.add_dir(dir, "e");
    (rig, file, dir, inner)
}

#[test]
fn hostile_changes_are_refused_by_name() {
    let (mut rig, file, dir, inner) = rig();
    let unknown = FileId { counter: 999, ..file };
    let foreign = FileId { origin: OriginId(2), ..file };
    let cases: [Case; 12] = [
        (edit().put(foreign, "x", file), |r| matches!(r, Refusal::Change(_))),
        (edit().put(unknown, "x", file), |r| matches!(r, Refusal::NoParent(_))),
        (edit().put(file, "x", file), |r| matches!(r, Refusal::NotAFolder(_))),
        (edit().put(ROOT, "x", unknown), |r| matches!(r, Refusal::NoFile(_))),
        (edit().put(ROOT, "x", dir), |r| matches!(r, Refusal::Kind(_))),
        (edit().put_dir(ROOT, "x", file), |r| matches!(r, Refusal::Kind(_))),
        (edit().dir(file), |r| matches!(r, Refusal::Kind(_))),
        (edit().put_dir(ROOT, "x", dir), |r| matches!(r, Refusal::TwoNames(_))),
        (edit().gone(ROOT, "d").put_dir(ROOT, "x", dir).put_dir(ROOT, "y", dir), |r| {
            matches!(r, Refusal::TwoNames(_))
        }),
        (edit().gone(ROOT, "d").put_dir(inner, "x", dir), |r| matches!(r, Refusal::Cycle(_))),
        (edit().gone(ROOT, "d").put_dir(dir, "x", dir), |r| matches!(r, Refusal::Cycle(_))),
        (edit().cut(unknown), |r| matches!(r, Refusal::NoFile(_))),
    ];
    let before = (rig.store.latest(), rig.view().digests().unwrap());
    for (i, (case, is_wanted)) in cases.into_iter().enumerate() {
        let refusal = rig.refused(case);
        assert!(is_wanted(&refusal), "case {i}: {refusal:?}");
    }
    rig.store.sync().unwrap();
    assert_eq!((rig.store.latest(), rig.view().digests().unwrap()), before, "no trace");
    rig.crash(Crash::LoseAll);
    assert_eq!((rig.store.latest(), rig.view().digests().unwrap()), before, "no trace on disk");
    assert_eq!(rig.content(NOW, "f"), b"content");
}

/// Whoever holds an origin gives its ids: one that a former master took beforehand would keep the next one from its files.
#[test]
fn ids_of_epochs_to_come_are_not_given_beforehand() {
    let (mut rig, file, ..) = rig();
    let next = FileId { epoch: Epoch::FIRST.next(), counter: 1, ..file };
    let refusal = rig.refused(edit().dir(next).put_dir(ROOT, "x", next));
    assert_eq!(refusal, Refusal::Unborn { file: next, epoch: Epoch::FIRST });
    (rig.master.epoch, rig.master.seq) = (Epoch::FIRST.next(), Seq(0));
    rig.apply(edit().whole(next, b"mine", true).put(ROOT, "x", next));
    assert_eq!(rig.content(NOW, "x"), b"mine");
}

/// Folders inside each other end where paths end.
#[test]
fn folders_are_not_deeper_than_paths() {
    let mut rig = Rig::new();
    let mut chain = edit();
    let mut parent = ROOT;
    for _ in 0..1024 {
        let dir = rig.master.file();
        chain = chain.dir(dir).put_dir(parent, "x", dir);
        parent = dir;
    }
    rig.apply(chain);
    assert_eq!(rig.view().path_of(parent, NOW).unwrap().unwrap().names().len(), 1024);
    let below = rig.master.file();
    let refusal = rig.refused(edit().dir(below).put_dir(parent, "x", below));
    assert!(matches!(refusal, Refusal::TooDeep { .. }), "{refusal:?}");
}

/// Two versions of one file with one id could not be told apart.
#[test]
fn one_change_cuts_a_file_once() {
    let mut rig = Rig::new();
    let file = rig.master.file();
    rig.apply(edit().whole(file, b"open", false).put(ROOT, "f", file));
    let refusal = rig.refused(edit().cut(file).whole(file, b"next", true));
    assert_eq!(refusal, Refusal::CutTwice(file));
    // A cut of what is a version already says nothing new.
    rig.apply(edit().whole(file, b"open and closed", true));
    rig.apply(edit().cut(file).whole(file, b"next", true));
    assert_eq!(rig.view().versions(file).unwrap().len(), 2);
}

#[test]
fn changes_out_of_order_are_refused() {
    let (mut rig, ..) = rig();
    let good = rig.master.clone();
    let refusal = |rig: &mut Rig, epoch, seq| {
        let mut master = good.clone();
        (master.epoch, master.seq) = (Epoch::new(epoch).unwrap(), Seq(seq));
        match rig.store.commit(master.now, &master.at_place(edit(), true)) {
            Err(CommitError::Refused(refusal)) => refusal,
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(refusal(&mut rig, 1, good.seq.0), Refusal::Old { .. }));
    assert!(matches!(refusal(&mut rig, 1, 1), Refusal::Old { .. }));
    assert!(matches!(refusal(&mut rig, 1, good.seq.0 + 2), Refusal::Gap { .. }));
    assert!(matches!(refusal(&mut rig, 2, 7), Refusal::Gap { .. }));
    rig.store.fence(rig.master.now, OriginId(1), Epoch::new(3).unwrap()).unwrap();
    rig.store.sync().unwrap();
    rig.crash(Crash::LoseAll);
    assert!(matches!(refusal(&mut rig, 1, good.seq.0 + 1), Refusal::Fenced { .. }));
    assert!(matches!(refusal(&mut rig, 2, 1), Refusal::Fenced { .. }));
    rig.master.epoch = Epoch::new(3).unwrap();
    rig.master.seq = Seq(0);
    rig.apply(edit());
}

/// What is wanted more than its versions is not to be removed: the newest state of a living file.
#[test]
fn the_newest_state_of_a_living_file_cannot_be_removed() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "f", b"one");
    let first = rig.store.latest();
    rig.apply(edit().whole(file, b"two", true));
    let second = rig.store.latest();
    for wrong in [(file, second), (file, keepshare_base::CommitId(77)), (ROOT, first)] {
        let refused = rig.store.expire(&[(file, first), wrong]);
        assert!(matches!(refused, Err(CommitError::Refused(Refusal::Removal { .. }))));
    }
    rig.store.expire(&[(file, first)]).unwrap();
    rig.store.sync().unwrap();
    assert_eq!(rig.content(NOW, "f"), b"two");
    rig.apply(edit().gone(ROOT, "f"));
    rig.store.expire(&[(file, second)]).unwrap();
    rig.store.sync().unwrap();
    // What has no content any more cannot be given a name or written over.
    assert_eq!(rig.refused(edit().put(ROOT, "f", file)), Refusal::NoFile(file));
    let over = [crate::rig::Part::Data(0, b"x")];
    assert_eq!(rig.refused(edit().write(file, 3, false, &over, true)), Refusal::NoFile(file));
    rig.apply(edit().whole(file, b"three", true).put(ROOT, "f", file));
    assert_eq!(rig.content(NOW, "f"), b"three");
}

/// More rows than a record holds are refused before the log sees them.
#[test]
fn a_record_is_bounded() {
    let mut rig = Rig::new();
    let mut many = edit();
    for i in 0..1000 {
        let mut attributes = meta(Kind::File, 0);
        attributes.xattrs = vec![(b"user.big".to_vec(), vec![1; 60_000])];
        let file = FileId { counter: 100 + i, ..rig.master.file() };
        many = many.row(file, attributes, keepshare_base::Content::Same, true);
    }
    let refusal = rig.refused(many);
    assert!(matches!(refusal, Refusal::TooLarge { .. }), "{refusal:?}");
    rig.add(ROOT, "f", b"and on");
    assert_eq!(rig.view().lookup(ROOT, &name("f"), NOW).unwrap().unwrap().1, Kind::File);
}
