use std::sync::Arc;

use keepshare_base::{CommitId, Epoch, OriginId, Position, RunningHash, Seq, Stamp};

use super::{
    WriteRows,
    apply::{Source, apply},
    files,
};
use crate::{
    checked::open_checked,
    disk::{Disk, sim::SimDisk},
    record::{FirstCommitValue, Row},
    state::Place,
};

const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

fn first_commit(number: u64, stamp: i64, arrival: i64) -> Row {
    let position = Position { origin: OriginId(1), epoch: Epoch::FIRST, seq: Seq(number) };
    let (stamp, arrival) = (Stamp(stamp), Stamp(arrival));
    let value = FirstCommitValue { arrival, position, complete: true, stamp, user: None };
    Row::FirstCommit { at: CommitId(number), value }
}

/// A log of before moments were kept: stamps forced upward behind a wrong clock, and arrivals forced upward behind 2099.
#[test]
fn commits_of_the_last_release_get_moments() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new());
    let database = open_checked(&disk, "index.redb", 1 << 20).unwrap();
    let rows = [
        first_commit(1, 0, 10),
        // A master an hour ahead for one save, and what was forced behind it.
        first_commit(2, HOUR, 20),
        first_commit(3, HOUR + 1, 30),
        first_commit(4, DAY, DAY + 10),
        // The station in 2099 for one save, and what was forced behind that.
        first_commit(5, 2 * DAY, 73 * YEAR),
        first_commit(6, 3 * DAY, 73 * YEAR + 1),
    ];
    let told = database
        .contain(|database| {
            let txn = database.begin_write().unwrap();
            let mut write = WriteRows::new(&txn);
            write.open_all().unwrap();
            let last = Some((Epoch::FIRST, Seq(6), RunningHash::EMPTY));
            let place = Place { last, fence: Epoch::FIRST, mirror: None };
            let place = Row::Place { origin: OriginId(1), place };
            apply(&mut write, Source::Snapshot, &[place]).unwrap();
            for (row, number) in rows.iter().zip(1..) {
                let record = Source::Record(CommitId(number));
                apply(&mut write, record, std::slice::from_ref(row)).unwrap();
            }
            let told = (1..=6).map(|at| {
                let info = files::commit_info(&write, CommitId(at)).unwrap().unwrap();
                let found = files::commit_at(&write, info.moment, CommitId::MAX).unwrap();
                assert_eq!(found, CommitId(at), "a typed time finds it");
                (info.moment.0, info.running_micros)
            });
            told.collect::<Vec<_>>()
        })
        .unwrap();
    let day = DAY.unsigned_abs();
    let expected = [
        (0, 0),
        (20, 10),
        (30, 20),
        (DAY, day),
        // A jump counts for a day of running time at most.
        (2 * DAY, 2 * day),
        (3 * DAY, 2 * day + 1),
    ];
    assert_eq!(told, expected);
}
