//! Which of a station's commits a position means, and a file that had a name once.

use keepshare_base::{OriginId, Position, Seq};

use crate::rig::{ROOT, Rig, edit};

fn at(rig: &Rig, seq: u64) -> Position {
    Position { origin: OriginId(1), epoch: rig.master.epoch, seq: Seq(seq) }
}

/// A view of the past is opened again by the position it was opened at: it must find the same commit.
#[test]
fn a_position_means_the_commit_that_brought_it() {
    let mut rig = Rig::new();
    let mut commits = vec![];
    for text in ["a", "b", "c"] {
        let file = rig.master.file();
        commits.push(rig.apply(edit().whole(file, b"x", true).put(ROOT, text, file)));
    }
    let view = rig.view();
    for (seq, commit) in (1..).zip(&commits) {
        assert_eq!(view.commit_of(at(&rig, seq)).unwrap(), Some(*commit));
        assert_eq!(view.commit_through(at(&rig, seq)).unwrap(), Some(*commit));
    }
    // What has not come here yet is not taken for the newest that has.
    let ahead = at(&rig, 4);
    let of_another = Position { origin: OriginId(2), ..at(&rig, 1) };
    for unknown in [ahead, of_another] {
        assert_eq!(view.commit_of(unknown).unwrap(), None, "{unknown}");
        assert_eq!(view.commit_through(unknown).unwrap(), None, "{unknown}");
    }
    assert_eq!(view.newest_commit().unwrap(), commits[2]);
}

#[test]
fn a_file_that_lost_its_name_had_one() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "a", b"x");
    let never = rig.master.file();
    let had = |rig: &Rig, file| rig.view().had_name(file).unwrap();
    assert!(had(&rig, file) && !had(&rig, never));
    rig.apply(edit().gone(ROOT, "a"));
    assert!(had(&rig, file) && !had(&rig, never));
}
