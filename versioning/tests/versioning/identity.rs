//! What a version is called, and that nothing a master sends takes it away.

use std::collections::BTreeMap;

use keepshare_base::{
    CommitId, Content, Epoch, FileId, Kind, Made, Meta, OriginId, Position, Seq, Stamp, VersionId,
};
use keepshare_versioning::{
    CommitError, FileState, Incoming, Refusal,
    disk::sim::{Crash, Dice},
};

use crate::rig::{Edit, NOW, ROOT, Rig, SECOND, START, bytes, edit, meta, seed};

fn made(seq: u64) -> Made {
    let position = Position { origin: OriginId(1), epoch: Epoch::FIRST, seq: Seq(seq) };
    Made { position, stamp: START.plus_micros(seq as i64), user: Some("ben".into()) }
}

fn id(text: &str) -> VersionId {
    text.parse().unwrap()
}

impl Edit {
    /// The newest row is a version that the origin made at this place.
    fn made(mut self, seq: u64) -> Self {
        let file = self.change.files.last().unwrap().file;
        self.change.made.push((file, made(seq)));
        self
    }
}

impl Rig {
    /// Takes a part of the mirror that leads to the master's present place, or its end.
    fn mirror(&mut self, edit: Edit, complete: bool) {
        let incoming = self.master.at_place(edit, complete);
        self.store.commit(self.master.now, &incoming).unwrap();
        self.store.sync().unwrap();
    }

    /// Moves the master to the place of a mirror of its own.
    fn marker(&mut self) {
        let _ = self.master.next(edit());
    }

    fn mirror_refused(&mut self, edit: Edit, complete: bool) -> Refusal {
        let incoming = self.master.at_place(edit, complete);
        match self.store.commit(self.master.now, &incoming) {
            Err(CommitError::Refused(refusal)) => refusal,
            other => panic!("not refused: {other:?}"),
        }
    }

    fn ids(&self, file: FileId) -> Vec<(String, Vec<u8>)> {
        let versions = self.view().versions(file).unwrap();
        versions.iter().map(|it| (it.version().unwrap().to_string(), self.read(it))).collect()
    }
}

fn shown(list: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
    list.iter().map(|(id, content)| ((*id).to_owned(), content.as_bytes().to_vec())).collect()
}

/// An archive that was mirrored once: three files, each its only copy.
fn archive() -> (Rig, Vec<FileId>) {
    let mut rig = Rig::new();
    let files: Vec<FileId> = (0..3).map(|_| rig.master.file()).collect();
    rig.marker();
    rig.marker();
    rig.mirror(edit(), false);
    let mut part = edit();
    for (i, file) in files.iter().enumerate() {
        let content = format!("only copy of {i}");
        part =
            part.whole(*file, content.as_bytes(), true).made(1).put(ROOT, &format!("f{i}"), *file);
    }
    rig.mirror(part, false);
    rig.mirror(edit(), true);
    (rig, files)
}

/// A master that was taken over must not be able to write over the past: not by a mirror at the place of the last one.
#[test]
fn a_second_mirror_to_the_same_place_replaces_nothing() {
    let (mut rig, files) = archive();
    let junk = edit().whole(files[0], b"ENCRYPTED", true).made(1);
    for (edit, complete) in [(edit(), false), (junk.clone(), false), (junk, true)] {
        let refusal = rig.mirror_refused(edit, complete);
        let fits = matches!(refusal, Refusal::MirrorPlace { .. } | Refusal::Old { .. });
        assert!(fits || matches!(refusal, Refusal::Made { .. }), "{refusal:?}");
    }
    assert_eq!(rig.ids(files[0]), shown(&[("v1.1.1", "only copy of 0")]));
}

/// Nor by one that has a place of its own and says of its content what was said of the first: it gets another id.
#[test]
fn a_mirror_takes_no_version_and_no_id_of_the_one_before() {
    let (mut rig, files) = archive();
    rig.marker();
    rig.mirror(edit(), false);
    rig.mirror(edit().whole(files[0], b"ENCRYPTED", true).made(1), false);
    rig.mirror(edit().whole(files[1], b"ENCRYPTED", true), false);
    rig.mirror(edit().whole(files[2], b"ENCRYPTED", false), false);
    rig.mirror(edit(), true);
    let want = [("v1.1.3", "ENCRYPTED"), ("v1.1.1", "only copy of 0")];
    assert_eq!(rig.ids(files[0]), shown(&want));
    assert_eq!(rig.ids(files[1])[1..], shown(&[("v1.1.1", "only copy of 1")]));
    assert_eq!(rig.ids(files[2]), shown(&[("v1.1.1", "only copy of 2")]));
}

/// What an id, a name and a time are made of comes with the row, not with the commit that brought it.
#[test]
fn a_mirrored_version_is_what_its_origin_made_it() {
    let (mut rig, files) = archive();
    for round in 0..2 {
        let state = rig.state(NOW, "f1").unwrap();
        assert_eq!((state.version(), state.stamp), (Some(id("v1.1.1")), made(1).stamp));
        assert_eq!(state.user.as_deref(), Some("ben"));
        let found = rig.view().version(files[1], id("v1.1.1")).unwrap();
        assert_eq!(found.as_ref(), Some(&state), "round {round}");
        assert_eq!(rig.view().version(files[1], id("v1.1.2")).unwrap(), None);
        let disk = rig.disk.reopen(Crash::LoseAll);
        // Whatever the index said, the log says the same.
        let _ = keepshare_versioning::disk::Disk::remove(&disk, "index.redb");
        rig.reopen_on(disk);
    }
}

/// A folder as of a version is shown as it was after the mirror that brought it: in the middle of one nothing is whole.
#[test]
fn the_set_as_of_a_mirrored_version_is_the_one_after_its_mirror() {
    let (mut rig, files) = archive();
    let end = rig.view().latest();
    let later = rig.apply(edit().whole(files[0], b"later", true));
    let with = |text, file| rig.view().commit_with(id(text), file).unwrap();
    assert_eq!(with("v1.1.1", Some(files[0])), Some(end));
    assert_eq!(with("v1.1.1", None), None, "which file of the mirror is not said");
    assert_eq!((with("v1.1.3", Some(files[0])), with("v1.1.3", None)), (Some(later), Some(later)));
    assert_eq!(with("v1.1.4", Some(files[0])), None, "it has not come");
}

/// What lies between two positions that are kept is what was there at the lower one.
#[test]
fn a_position_that_a_mirror_passed_over_means_the_one_before_it() {
    let (mut rig, _) = archive();
    let place = |seq| Position { origin: OriginId(1), epoch: Epoch::FIRST, seq: Seq(seq) };
    let first = rig.view().latest();
    (0..4).for_each(|_| rig.marker());
    rig.mirror(edit(), false);
    rig.mirror(edit(), true);
    let (view, second) = (rig.view(), rig.view().latest());
    assert_eq!(view.commit_of(place(4)).unwrap(), None);
    assert_eq!(view.commit_through(place(4)).unwrap(), Some(first));
    assert_eq!(view.commit_through(place(6)).unwrap(), Some(second));
    assert_eq!(view.commit_through(place(1)).unwrap(), None, "nothing was here yet");
}

#[test]
fn a_version_is_from_before_the_mirror_and_from_no_change_that_says_so_of_itself() {
    let (mut rig, files) = archive();
    let later = edit().whole(files[0], b"x", true).made(9);
    assert!(matches!(rig.refused(later.clone()), Refusal::Made { .. }));
    rig.marker();
    rig.mirror(edit(), false);
    assert!(matches!(rig.mirror_refused(later, false), Refusal::Made { .. }));
    let itself = edit().whole(files[0], b"x", true).made(3);
    assert!(matches!(rig.mirror_refused(itself, false), Refusal::Made { .. }));
}

/// Power fails between any two parts, and the index with it: what the first try brought is there once, and what was there
/// before is there, too.
#[test]
fn a_mirror_begun_again_after_a_crash_brings_each_version_once() {
    for rebuilt in [false, true] {
        for again_at in [0, 1] {
            let (mut rig, files) = archive();
            let new = rig.master.file();
            rig.marker();
            let crash = |rig: &mut Rig| {
                let disk = rig.disk.reopen(Crash::LoseAll);
                if rebuilt {
                    let _ = keepshare_versioning::disk::Disk::remove(&disk, "index.redb");
                }
                rig.reopen_on(disk);
            };
            rig.mirror(edit(), false);
            crash(&mut rig);
            let part = || edit().whole(new, b"new", true).made(2).put(ROOT, "new", new);
            rig.mirror(part(), false);
            let half = edit().whole(files[1], b"half of it", false);
            rig.mirror(half, false);
            crash(&mut rig);
            for _ in 0..again_at {
                rig.marker();
            }
            rig.mirror(edit(), false);
            crash(&mut rig);
            rig.mirror(part(), false);
            crash(&mut rig);
            rig.mirror(edit().whole(files[1], b"all of it", true), false);
            rig.mirror(edit(), true);
            assert!(rig.view().position(OriginId(1)).unwrap().unwrap().mirror.is_none());
            assert_eq!(rig.ids(new), shown(&[("v1.1.2", "new")]));
            let of_mirror = format!("v1.1.{}", 3 + again_at);
            let want = [(of_mirror.as_str(), "all of it"), ("v1.1.1", "only copy of 1")];
            assert_eq!(rig.ids(files[1]), shown(&want));
            assert_eq!(rig.ids(files[0]), shown(&[("v1.1.1", "only copy of 0")]));
        }
    }
}

/// A mirror of a master that is another by now may not bring anything of the old one's once more.
#[test]
fn a_mirror_of_another_epoch_is_not_the_one_that_broke_off() {
    let (mut rig, files) = archive();
    rig.marker();
    rig.mirror(edit(), false);
    rig.mirror(edit().whole(files[0], b"last save", true).made(2), false);
    (rig.master.epoch, rig.master.seq) = (Epoch::new(2).unwrap(), Seq(1));
    rig.mirror(edit(), false);
    rig.mirror(edit().whole(files[0], b"ENCRYPTED", true).made(2), false);
    rig.mirror(edit(), true);
    let kept = rig.ids(files[0]);
    assert_eq!(kept[1..], shown(&[("v1.1.2", "last save"), ("v1.1.1", "only copy of 0")]));
}

/// A state that was no version yet when a mirror brings another one is lost to nobody.
#[test]
fn what_was_open_before_a_mirror_is_cut_and_not_dropped() {
    let (mut rig, files) = archive();
    rig.apply(edit().whole(files[0], b"just typed", false));
    rig.marker();
    rig.mirror(edit(), false);
    rig.mirror(edit().whole(files[0], b"mirrored", true), false);
    rig.mirror(edit(), true);
    let ids = rig.ids(files[0]);
    assert_eq!(ids.len(), 3, "{ids:?}");
    assert_eq!(ids[1].1, b"just typed");
    let own: VersionId = ids[1].0.parse().unwrap();
    assert!(own.station_commit().is_some(), "{own} is not called this station's own");
    let found = rig.view().version(files[0], own).unwrap().unwrap();
    assert_eq!(rig.read(&found), b"just typed");
}

/// What a gap kept from a station is only that a state is a version: it gets the origin's id, and no second copy.
#[test]
fn a_late_word_of_the_origin_names_the_state_that_is_there() {
    for cut_here in [false, true] {
        let (mut rig, files) = archive();
        rig.apply(edit().whole(files[0], b"typed", false));
        if cut_here {
            assert!(rig.store.cut_open(rig.master.now.plus_micros(11 * SECOND)).unwrap());
            rig.store.sync().unwrap();
            assert!(rig.ids(files[0])[0].0.starts_with('s'));
        }
        rig.master.seq.0 += 1;
        let seq = rig.master.seq.0;
        rig.marker();
        rig.mirror(edit(), false);
        let state = rig.state(NOW, "f0").unwrap();
        let row = edit().row(files[0], state.meta.clone(), keepshare_base::Content::Same, true);
        rig.mirror(row.made(seq), false);
        rig.mirror(edit(), true);
        let want = [("v1.1.4", "typed"), ("v1.1.1", "only copy of 0")];
        assert_eq!((seq, rig.ids(files[0])), (4, shown(&want)));
    }
}

/// A master that never says that a state is a version leaves no file without a past.
#[test]
fn a_master_that_never_cuts_leaves_versions() {
    let mut rig = Rig::new();
    let file = rig.master.file();
    rig.apply(edit().whole(file, &bytes(1, 100), false).put(ROOT, "f", file));
    assert!(!rig.store.cut_open(rig.master.now.plus_micros(9 * SECOND)).unwrap());
    assert!(rig.store.cut_open(rig.master.now.plus_micros(10 * SECOND)).unwrap());
    assert!(!rig.store.cut_open(rig.master.now.plus_micros(30 * SECOND)).unwrap(), "once");
    rig.store.sync().unwrap();
    let [(own, _)] = &rig.ids(file)[..] else { panic!("{:?}", rig.ids(file)) };
    assert!(own.starts_with('s'), "{own}");
    // And what the origin says late is said of the same version.
    rig.apply(edit().cut(file));
    assert_eq!(rig.ids(file)[0].0, format!("v1.1.{}", rig.master.seq));
    assert_eq!(rig.ids(file).len(), 1);
    // Unless that place names the version that comes with it.
    rig.apply(edit().whole(file, &bytes(2, 100), false));
    assert!(rig.store.cut_open(rig.master.now.plus_micros(10 * SECOND)).unwrap());
    rig.apply(edit().cut(file).whole(file, &bytes(3, 100), true));
    let ids = rig.ids(file);
    assert!(ids[1].0.starts_with('s') && ids[0].0 == format!("v1.1.{}", rig.master.seq), "{ids:?}");
}

#[test]
fn most_of_a_state_is_not_replaced_unseen() {
    let mut rig = Rig::new();
    let file = rig.master.file();
    let content = bytes(1, 1000);
    rig.apply(edit().whole(file, &content[..600], false).put(ROOT, "f", file));
    // What is added replaces nothing, however it is sent.
    rig.apply(edit().whole(file, &content, false));
    assert!(rig.ids(file).is_empty());
    rig.apply(edit().whole(file, &bytes(2, 1000), false));
    assert_eq!(rig.ids(file).iter().map(|it| it.1.clone()).collect::<Vec<_>>(), [content]);
    // A file that is written anew all the time does not flood its history.
    for round in 3..12 {
        rig.apply(edit().whole(file, &bytes(round, 1000), false));
    }
    assert!(rig.ids(file).len() <= 2, "{}", rig.ids(file).len());
}

/// However large the attributes are of what is cut together: a record refused would be sent again for ever.
#[test]
fn states_with_large_attributes_are_cut_together() {
    const FILES: usize = 140;
    for how in ["by the change", "by this station", "by a mirror", "by what a mirror brings"] {
        let mut rig = Rig::new();
        let files: Vec<FileId> = (0..FILES).map(|_| rig.master.file()).collect();
        for (n, file) in files.iter().enumerate() {
            let meta = Meta {
                xattrs: vec![(b"user.acl".to_vec(), vec![7; 65_000])],
                ..meta(Kind::File, 4)
            };
            let row = edit().row(*file, meta, Content::Same, false);
            rig.apply(row.put(ROOT, &format!("f{n}"), *file));
        }
        let all = |edit: Edit, with: fn(Edit, FileId) -> Edit| {
            files.iter().fold(edit, |edit, file| with(edit, *file))
        };
        match how {
            "by the change" => drop(rig.apply(all(edit(), Edit::cut))),
            "by this station" => {
                let later = rig.master.now.plus_micros(20 * SECOND);
                assert!(rig.store.cut_open(later).unwrap());
                rig.store.sync().unwrap();
            }
            _ => {
                rig.marker();
                rig.mirror(edit(), false);
                let brings = how != "by a mirror";
                let with =
                    if brings { |edit: Edit, file| edit.resize(file, 4, true) } else { Edit::cut };
                rig.mirror(all(edit(), with), false);
                rig.mirror(edit(), true);
            }
        }
        let versions = |rig: &Rig| -> Vec<Vec<FileState>> {
            files.iter().map(|file| rig.view().versions(*file).unwrap()).collect()
        };
        let cut = versions(&rig);
        for versions in &cut {
            let oldest = versions.last().unwrap();
            assert_eq!(oldest.meta.xattrs[0].1.len(), 65_000, "{how}");
        }
        let disk = rig.disk.reopen(Crash::LoseAll);
        keepshare_versioning::disk::Disk::remove(&disk, "index.redb").unwrap();
        rig.reopen_on(disk);
        assert!(versions(&rig) == cut, "{how}: the log tells something else");
    }
}

/// Every message of a master in any order, with crashes between them: no version goes, and no id means two.
#[test]
fn no_order_of_changes_takes_a_version_away() {
    let mut dice = Dice(seed());
    for _ in 0..12 {
        let (mut rig, files) = archive();
        rig.add(ROOT, "f3", b"last save");
        let mut known = BTreeMap::new();
        for step in 0..40 {
            let incoming = any(&mut rig, &mut dice, &files);
            match rig.store.commit(rig.master.now, &incoming) {
                Ok(_) | Err(CommitError::Refused(_)) => {}
                Err(error) => panic!("step {step}: {error:?}"),
            }
            rig.store.sync().unwrap();
            match dice.below(12) {
                0 => rig.crash(Crash::LoseAll),
                1 => {
                    let disk = rig.disk.reopen(Crash::LoseAll);
                    let _ = keepshare_versioning::disk::Disk::remove(&disk, "index.redb");
                    rig.reopen_on(disk);
                }
                2 => drop(rig.store.cut_open(rig.master.now.plus_micros(20 * SECOND))),
                _ => {}
            }
            rig.store.sync().unwrap();
            check_kept(&rig, &files, &mut known);
        }
    }
}

/// Returns some change or part of a mirror, at a place that fits, nearly fits or does not.
fn any(rig: &mut Rig, dice: &mut Dice, files: &[FileId]) -> Incoming {
    let mut edit = edit();
    let file = files[dice.below(files.len())];
    let content = bytes(dice.roll(), 1 + dice.below(900));
    match dice.below(5) {
        0 => {}
        1 => edit = edit.cut(file),
        _ => {
            let cut = dice.below(3) > 0;
            edit = edit.whole(file, &content, cut);
            if cut && dice.below(2) == 0 {
                edit = edit.made(1 + dice.below(rig.master.seq.0 as usize + 2) as u64);
            }
        }
    }
    let place = rig.view().position(OriginId(1)).unwrap().unwrap();
    let highest = rig.view().highest(OriginId(1)).unwrap().unwrap();
    let running = place.mirror.map_or(highest, |mirror| (mirror.epoch, mirror.seq));
    (rig.master.epoch, rig.master.seq) = match dice.below(6) {
        0 => (highest.0, highest.1.next()),
        1 => highest,
        2 => (highest.0, Seq(dice.below(highest.1.0 as usize + 3) as u64)),
        3 if dice.below(8) == 0 => (highest.0.next(), Seq(1)),
        _ => running,
    };
    rig.master.now = rig.master.now.plus_micros(SECOND);
    rig.master.at_place(edit, dice.below(4) == 0)
}

/// What was a version and was brought by no mirror that still runs is there, under its id.
fn check_kept(rig: &Rig, files: &[FileId], known: &mut BTreeMap<(FileId, CommitId), Known>) {
    let mirror = rig.view().position(OriginId(1)).unwrap().unwrap().mirror;
    for file in files {
        let versions = rig.view().versions(*file).unwrap();
        let mut ids: Vec<VersionId> = versions.iter().filter_map(FileState::version).collect();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count, "two versions of {file} have one id: {ids:?}");
        for state in &versions {
            let found = rig.view().version(*file, state.version().unwrap()).unwrap();
            assert_eq!(found.as_ref(), Some(state));
            let is_settled = mirror.is_none_or(|mirror| state.cut_at < mirror.began);
            if is_settled {
                let kept =
                    Known { content: rig.read(state), stamp: state.stamp, id: state.version() };
                known.entry((*file, state.commit)).or_insert(kept);
            }
        }
    }
    for ((file, commit), was) in known.iter_mut() {
        let versions = rig.view().versions(*file).unwrap();
        let state = versions.iter().find(|state| state.commit == *commit);
        let state = state.unwrap_or_else(|| panic!("{file} at {commit} is gone: {was:?}"));
        assert_eq!(rig.read(state), was.content, "{file} at {commit}");
        if was.id.is_some_and(|id| id.station_commit().is_none()) {
            assert_eq!((state.version(), state.stamp), (was.id, was.stamp));
        }
        was.id = state.version();
        was.stamp = state.stamp;
    }
}

#[derive(Debug)]
struct Known {
    content: Vec<u8>,
    stamp: Stamp,
    id: Option<VersionId>,
}
