use std::{cell::Cell, ops::Bound, sync::Arc};

use keepshare_base::{
    CommitId, Epoch, FileId, Kind, Name, OriginId, Position, RunningHash, Seq, Stamp,
};

use super::{
    IndexError, Range, Rows, Table, WriteRows,
    apply::{Source, apply},
    commits, names,
};
use crate::{
    checked::open_checked,
    disk::{Disk, sim::SimDisk},
    record::{FirstCommitValue, OriginState, Row},
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
            let place = OriginState { last, fence: Epoch::FIRST, mirror: None };
            let place = Row::Place { origin: OriginId(1), place };
            apply(&mut write, Source::Snapshot, &[place]).unwrap();
            for (row, number) in rows.iter().zip(1..) {
                let record = Source::Record(CommitId(number));
                apply(&mut write, record, std::slice::from_ref(row)).unwrap();
            }
            let told = (1..=6).map(|at| {
                let info = commits::commit_info(&write, CommitId(at)).unwrap().unwrap();
                let found = commits::commit_at(&write, info.moment, CommitId::MAX).unwrap();
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

/// Counts how often rows are looked for.
struct Counted<'a, R> {
    rows: &'a R,
    asked: Cell<usize>,
}

impl<R: Rows> Rows for Counted<'_, R> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<super::Guard<'_>>, IndexError> {
        self.asked.set(self.asked.get() + 1);
        self.rows.get(table, key)
    }

    fn range(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
    ) -> Result<Range<'_>, IndexError> {
        self.asked.set(self.asked.get() + 1);
        self.rows.range(table, from, to)
    }
}

/// A folder through which thousands of names have passed, as one of a program that saves by renaming, is shown as fast as
/// what it held.
#[test]
fn a_past_folder_costs_what_it_shows() {
    const PASSED: u64 = 5000;
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new());
    let database = open_checked(&disk, "index.redb", 1 << 20).unwrap();
    let file = |counter| FileId { origin: OriginId(1), epoch: Epoch::FIRST, counter };
    let row = |at, text: &str, counter: Option<u64>| Row::Name {
        at: CommitId(at),
        parent: FileId::ROOT,
        name: Name::new(text.as_bytes()).unwrap(),
        target: counter.map(|counter| (file(counter), Kind::File)),
    };
    let passing = (1..=PASSED).flat_map(|n| {
        let name = format!("m{n}");
        [row(2 * n, &name, Some(n)), row(2 * n + 1, &name, None)]
    });
    let last = 2 * PASSED + 1;
    let held = [
        row(last + 1, "a", Some(PASSED + 1)),
        row(last + 1, "m5", Some(PASSED + 2)),
        row(last + 1, "z", Some(PASSED + 3)),
        // What comes later is not there yet, and what goes later still is.
        row(last + 2, "a", None),
        row(last + 2, "b", Some(PASSED + 4)),
        row(last + 3, "m5", None),
        row(last + 4, "m5", Some(PASSED + 5)),
    ];
    let rows: Vec<_> = passing.chain(held).collect();
    database
        .contain(|database| {
            let txn = database.begin_write().unwrap();
            let mut write = WriteRows::new(&txn);
            write.open_all().unwrap();
            apply(&mut write, Source::Snapshot, &rows).unwrap();
            let counted = Counted { rows: &write, asked: Cell::new(0) };
            let list = |at, after: Option<&Name>, limit| {
                counted.asked.set(0);
                let latest = CommitId(last + 4);
                let page = names::list(&counted, FileId::ROOT, CommitId(at), latest, after, limit);
                let page = page.unwrap().into_iter();
                let page: Vec<_> =
                    page.map(|entry| (entry.name.to_string(), entry.file.counter)).collect();
                (page, counted.asked.get())
            };
            let shown = |held: &[(&str, u64)]| -> Vec<_> {
                held.iter().map(|(name, n)| ((*name).to_owned(), PASSED + n)).collect()
            };
            let (page, asked) = list(last + 1, None, 10);
            assert_eq!(page, shown(&[("a", 1), ("m5", 2), ("z", 3)]));
            assert!(asked < 20, "{asked} times");
            // A page at a time, where more than a few went since as well.
            let m = Name::new(b"m").unwrap();
            assert_eq!(list(last + 1, Some(&m), 1).0, shown(&[("m5", 2)]));
            assert_eq!(list(last + 2, None, 9).0, shown(&[("b", 4), ("m5", 2), ("z", 3)]));
            assert_eq!(list(last + 3, None, 9).0, shown(&[("b", 4), ("z", 3)]));
            assert_eq!(list(40, None, 9).0, [("m20".to_owned(), 20)]);
        })
        .unwrap();
}
