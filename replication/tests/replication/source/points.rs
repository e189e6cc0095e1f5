//! Points: named moments in the order of the journal, with all that was saved before.

use std::{
    fs::{self, File},
    io::Write as _,
};

use keepshare_base::{Point, PointKind, PointRow};
use keepshare_replication::source::SourceError;

use super::{edits::captures, support::Rig};

fn point(name: &str) -> Point {
    Point { name: name.to_owned(), kind: PointKind::Crash }
}

/// Whoever has made a point goes on with the upgrade: what was saved right before is in it, also where a program still has it open.
#[test]
fn a_point_has_all_that_was_saved_before() {
    for mode in captures() {
        let mut rig = Rig::new(mode);
        let mut log = File::create(rig.path("log")).unwrap();
        rig.begin();
        for n in 0..10 {
            fs::write(rig.path("saved"), format!("save {n}")).unwrap();
            fs::create_dir(rig.path(&format!("new{n}"))).unwrap();
            fs::write(rig.path(&format!("new{n}/in")), "in it").unwrap();
            log.write_all(format!("line {n}\n").as_bytes()).unwrap();
            let made = rig.handle.point(point(&format!("p{n}")), Some(7)).unwrap();
            assert_eq!((made.unsettled, rig.handle.head().seq), (0, made.position.seq));
            rig.catch_up();
            let (_, change) = rig.changes.last().unwrap();
            let row = PointRow::Made { point: point(&format!("p{n}")), lasts_micros: Some(7) };
            assert_eq!((&change.point, change.stamp), (&Some(row), made.stamp));
            assert!(change.names.is_empty() && change.files.is_empty() && change.cuts.is_empty());
            let last = |path: &str| rig.versions(rig.file(path)).pop().unwrap();
            assert_eq!(last("saved"), format!("save {n}").as_bytes());
            assert_eq!(last(&format!("new{n}/in")), b"in it");
            assert!(last("log").ends_with(format!("line {n}\n").as_bytes()));
        }
        rig.settle();
    }
}

/// Who never stops writing holds up no point for ever.
#[test]
fn a_point_is_made_while_somebody_never_stops_writing() {
    let mut rig = Rig::new(captures()[0]);
    rig.begin();
    fs::write(rig.path("saved"), "it").unwrap();
    let made = std::thread::scope(|scope| {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let busy = rig.path("busy");
        scope.spawn(move || {
            let mut n = 0_u64;
            while matches!(stopped.try_recv(), Err(std::sync::mpsc::TryRecvError::Empty)) {
                n += 1;
                fs::write(&busy, n.to_string()).unwrap();
            }
        });
        let made = rig.handle.point(point("p"), None);
        drop(stop);
        made.unwrap()
    });
    rig.wait("the point", |rig| rig.at >= made.position.seq);
    let at = rig.changes.iter().position(|(seq, _)| *seq == made.position.seq).unwrap();
    assert!(rig.changes[at].1.point.is_some());
    let file = rig.file("saved");
    let saved = rig.changes[..at]
        .iter()
        .any(|(_, change)| change.files.iter().any(|row| row.file == file && row.cut));
    assert!(saved, "what was saved before is before it");
    rig.settle();
}

#[test]
fn what_is_said_of_a_point_is_journaled() {
    let mut rig = Rig::new(captures()[0]);
    rig.begin();
    let made = rig.handle.point(point("p"), None).unwrap();
    for row in [
        PointRow::Held { point: made.position, lasts_micros: Some(9) },
        PointRow::Released { point: made.position },
        PointRow::Removed { point: made.position },
    ] {
        rig.handle.of_point(row.clone()).unwrap();
        rig.catch_up();
        assert_eq!(rig.changes.last().unwrap().1.point, Some(row));
    }
    let point = keepshare_base::Position {
        origin: keepshare_base::OriginId(made.position.origin.0 + 1),
        ..made.position
    };
    let refused = rig.handle.of_point(PointRow::Removed { point });
    assert!(matches!(refused, Err(SourceError::Refused(_))), "{refused:?}");
    rig.reopen();
    rig.settle();
}

/// After a start the map is of before: a point waits until the folder was gone through.
#[test]
fn no_point_is_of_two_moments() {
    for mode in captures() {
        let mut rig = Rig::new(mode);
        for n in 0..300 {
            fs::create_dir_all(rig.path(&format!("d{n}"))).unwrap();
            fs::write(rig.path(&format!("d{n}/f")), "before").unwrap();
        }
        rig.begin();
        rig.handle.shutdown();
        for n in 0..300 {
            fs::write(rig.path(&format!("d{n}/f")), "while it was down").unwrap();
        }
        rig.reopen();
        let made = loop {
            match rig.handle.point(point("p"), None) {
                Ok(made) => break made,
                Err(SourceError::NotLooked) => {}
                Err(error) => panic!("{error}"),
            }
        };
        rig.wait("the point", |rig| rig.at >= made.position.seq);
        let at = rig.changes.iter().position(|(seq, _)| *seq == made.position.seq).unwrap();
        for n in 0..300 {
            let file = rig.file(&format!("d{n}/f"));
            let is_it = |(_, change): &(_, keepshare_base::Change)| {
                change.files.iter().any(|row| row.file == file && row.cut)
                    || change.cuts.contains(&file)
            };
            assert!(rig.changes[..at].iter().any(is_it), "d{n}/f");
        }
        rig.settle();
    }
}
