use std::sync::Arc;

use keepshare_base::{Epoch, Event, FileTime, Name, OriginId, Owner, Seq};

use super::*;
use crate::{
    checked::open_checked,
    disk::{
        Disk,
        sim::{Dice, SimDisk},
    },
    index::{
        WriteRows,
        apply::{Source, apply},
    },
};

const LAST: u64 = 400;

fn file(counter: u64) -> FileId {
    FileId { origin: OriginId(1), epoch: Epoch::FIRST, counter }
}

fn commit(at: u64) -> Row {
    let position = Position { origin: OriginId(1), epoch: Epoch::FIRST, seq: Seq(at) };
    let stamp = Stamp(at.cast_signed() * 1_000_000);
    let value = CommitValue {
        arrival: stamp,
        moment: stamp,
        running_micros: at,
        position,
        complete: true,
        stamp,
        user: None,
    };
    Row::Commit { at: CommitId(at), value }
}

fn state(dice: &mut Dice, at: u64, of: u64) -> Row {
    let at = CommitId(at);
    let meta = Meta {
        kind: Kind::File,
        size: 0,
        mode: if dice.below(12) == 0 { 0o600 } else { 0o644 },
        owner: Owner::default(),
        group: Owner::default(),
        mtime: FileTime { secs: 0, nanos: 0 },
        symlink: vec![],
        rdev: 0,
        xattrs: vec![],
    };
    let is_kept = dice.below(6) == 0;
    let value = FileValue {
        event: Event::Saved,
        meta,
        hash: None,
        fuzzy: false,
        cut: Some(at),
        since: at,
        body: if is_kept { Body::Inline(vec![]) } else { Body::Expired },
        mark: Mark::Change,
    };
    Row::File { at, file: file(of), value }
}

/// A set in which files are saved, let go of and moved.
fn set(seed: u64) -> Vec<Row> {
    let mut dice = Dice(seed);
    let mut rows = vec![];
    for at in 1..=LAST {
        rows.push(commit(at));
        let of = 1 + dice.below(3) as u64;
        match dice.below(20) {
            0 => rows.push(Row::Name {
                at: CommitId(at),
                parent: FileId::ROOT,
                name: Name::new(format!("n{}", dice.below(5)).as_bytes()).unwrap(),
                target: Some((file(of), Kind::File)),
            }),
            1 | 2 => {}
            _ => rows.push(state(&mut dice, at, of)),
        }
    }
    rows
}

/// Returns what goes of a set where so many rows are looked at in one step; `between` comes after the first one.
fn gone(set: &[Row], rows: usize, between: &[Row]) -> Vec<Row> {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new());
    let database = open_checked(&disk, "index.redb", 1 << 20).unwrap();
    let look = |database: &redb::Database| {
        let txn = database.begin_write().unwrap();
        let mut write = WriteRows::new(&txn);
        write.open_all().unwrap();
        apply(&mut write, Source::Snapshot, set).unwrap();
        let mut forget = Forget::begin(CommitId(0), CommitId(LAST));
        let (mut all, mut is_first) = (vec![], true);
        loop {
            let step = Step { rows, before_micros: u64::MAX };
            let (gone, done) = forget.step(&write, step).unwrap();
            apply(&mut write, Source::Record(CommitId(LAST + 1)), &gone).unwrap();
            all.extend(gone);
            if std::mem::take(&mut is_first) {
                apply(&mut write, Source::Record(CommitId(LAST + 1)), between).unwrap();
            }
            if done {
                assert_eq!(forget.counts().gone, all.len() as u64);
                return all;
            }
        }
    };
    database.contain(look).unwrap()
}

/// However short its steps are, it finds the same.
#[test]
fn steps_of_any_length_find_the_same() {
    for seed in 1..20 {
        let set = set(seed);
        let all = gone(&set, usize::MAX, &[]);
        let is_state = |row: &&Row| matches!(row, Row::FileGone { .. });
        let states = all.iter().filter(is_state).count();
        assert!(states > 20 && all.len() > states + 20, "{states} of {}", all.len());
        for rows in [1, 2, 3, 7, 64] {
            assert!(gone(&set, rows, &[]) == all, "seed {seed}, {rows} rows");
        }
    }
}

/// What comes while it looks takes nothing from what was there, and nothing of it goes.
#[test]
fn what_comes_meanwhile_stays() {
    let mut dice = Dice(7);
    let set = set(7);
    let mut new = vec![];
    for at in LAST + 2..LAST + 20 {
        new.push(commit(at));
        new.push(state(&mut dice, at, 1 + at % 3));
    }
    for rows in [1, 5] {
        let gone = gone(&set, rows, &new);
        assert!(gone.len() > 40, "{} rows", gone.len());
        for row in gone {
            let (Row::FileGone { at, .. } | Row::CommitGone { at }) = row else {
                panic!("{row:?}")
            };
            assert!(at.0 <= LAST, "{at}");
        }
    }
}
