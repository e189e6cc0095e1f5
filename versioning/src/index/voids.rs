//! The smallest start of a body's voids over a stretch of commits, in a few seeks however many voids there are.
//!
//! A row of a body is hidden from the smallest start on of all voids that are newer and not after what is read. So besides
//! the voids themselves the index keeps the smallest start of each 16, 256, 4,096 and 65,536 commits with voids.

use std::ops::Bound::Included;

use keepshare_base::CommitId;

use crate::record::BodyId;

use super::{IndexError, Rows, Table, WriteRows, keys, values::decode_u64};

/// How many bits of a commit one level takes together.
const LEVEL_BITS: u32 = 4;

/// The highest level; its stretches are gone through one by one.
const LEVEL_MAX: u8 = 4;

/// Brings the stretches with a commit up to date, after a void of it came or went.
pub(crate) fn update(
    rows: &mut WriteRows<'_>,
    body: BodyId,
    at: CommitId,
) -> Result<(), IndexError> {
    for level in 1..=LEVEL_MAX {
        let number = at.0 >> (LEVEL_BITS * u32::from(level));
        let (first, last) = (number << LEVEL_BITS, (number << LEVEL_BITS) | 15);
        let smallest = scan(rows, body, level - 1, first, last)?;
        let key = keys::voids(body, level, number);
        match smallest {
            Some(from) => rows.put(Table::Voids, &key, &from.to_be_bytes())?,
            None => drop(rows.remove(Table::Voids, &key)?),
        }
    }
    Ok(())
}

/// Returns the smallest start of the voids of commits from `first` to `last`.
pub(crate) fn smallest(
    rows: &impl Rows,
    body: BodyId,
    first: CommitId,
    last: CommitId,
) -> Result<Option<u64>, IndexError> {
    let (mut first, mut last) = (first.0, last.0);
    let mut found: Option<u64> = None;
    for level in 0..=LEVEL_MAX {
        if first > last {
            break;
        }
        let next = first.next_multiple_of(1 << LEVEL_BITS);
        // The first number after the whole stretches of the next level.
        let end = (last + 1) & !((1 << LEVEL_BITS) - 1);
        let parts = match level {
            LEVEL_MAX => [Some((first, last)), None],
            _ if next >= end => [Some((first, last)), None],
            _ => [(first < next).then(|| (first, next - 1)), (end <= last).then_some((end, last))],
        };
        for (from, to) in parts.into_iter().flatten() {
            found = found.into_iter().chain(scan(rows, body, level, from, to)?).min();
        }
        if level == LEVEL_MAX || next >= end {
            break;
        }
        (first, last) = (next >> LEVEL_BITS, (end >> LEVEL_BITS) - 1);
    }
    Ok(found)
}

/// Returns the smallest start of stretches of one level; at level 0 they are commits.
fn scan(
    rows: &impl Rows,
    body: BodyId,
    level: u8,
    first: u64,
    last: u64,
) -> Result<Option<u64>, IndexError> {
    let mut smallest: Option<u64> = None;
    let (table, from, to) = if level == 0 {
        // Newest first.
        let (newest, oldest) = (CommitId(last), CommitId(first));
        (Table::Void, keys::void(body, newest), keys::void(body, oldest))
    } else {
        (Table::Voids, keys::voids(body, level, first), keys::voids(body, level, last))
    };
    for row in rows.range(table, Included(&from), Included(&to))? {
        let start = decode_u64(table, row?.1.value())?;
        smallest = smallest.into_iter().chain([start]).min();
    }
    Ok(smallest)
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, collections::BTreeMap, ops::Bound};

    use super::*;
    use crate::{
        disk::sim::Dice,
        index::{Guard, Range},
    };

    /// Counts the seeks.
    struct Counted<'a, R>(&'a R, Cell<usize>);

    impl<R: Rows> Rows for Counted<'_, R> {
        fn get(&self, table: Table, key: &[u8]) -> Result<Option<Guard<'_>>, IndexError> {
            self.1.set(self.1.get() + 1);
            self.0.get(table, key)
        }

        fn range(
            &self,
            table: Table,
            from: Bound<&[u8]>,
            to: Bound<&[u8]>,
        ) -> Result<Range<'_>, IndexError> {
            self.1.set(self.1.get() + 1);
            self.0.range(table, from, to)
        }
    }

    fn with_rows(test: impl FnOnce(&mut WriteRows<'_>)) {
        let backend = redb::backends::InMemoryBackend::new();
        let database = redb::Database::builder().create_with_backend(backend).unwrap();
        let txn = database.begin_write().unwrap();
        let mut rows = WriteRows::new(&txn);
        rows.open_all().unwrap();
        test(&mut rows);
    }

    fn put(rows: &mut WriteRows<'_>, body: BodyId, at: u64, from: u64) {
        let key = keys::void(body, CommitId(at));
        rows.put(Table::Void, &key, &from.to_be_bytes()).unwrap();
        update(rows, body, CommitId(at)).unwrap();
    }

    /// A file that was cut ten thousand times is read with a few seeks, however old what is read is.
    #[test]
    fn ten_thousand_voids_cost_a_few_seeks() {
        with_rows(|rows| {
            let body = BodyId(7);
            for at in 1..=10_000 {
                put(rows, body, 3 * at, 1_000_000 + at);
            }
            for (first, last) in [(2, 30_000), (4, 29_999), (17, 30_000), (29_998, 30_000)] {
                let counted = Counted(&*rows, Cell::new(0));
                let found = smallest(&counted, body, CommitId(first), CommitId(last)).unwrap();
                assert_eq!(found, Some(1_000_000 + u64::div_ceil(first, 3)));
                assert!(counted.1.get() <= 9, "{} seeks", counted.1.get());
            }
        });
    }

    /// Whatever comes and goes, the answer is that of looking at each void.
    #[test]
    fn it_is_the_smallest_of_all_between() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let given = std::env::var("KEEPSHARE_SEED").ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| u64::from(now.subsec_nanos()));
        println!("KEEPSHARE_SEED={seed}");
        let mut dice = Dice(seed);
        with_rows(|rows| {
            let (body, other) = (BodyId(7), BodyId(8));
            let mut model: BTreeMap<u64, u64> = BTreeMap::new();
            for _ in 0..2_000 {
                let commits = [40, 3_000, 300_000][dice.below(3)];
                let at = dice.below(commits) as u64;
                if dice.below(3) == 0 {
                    rows.remove(Table::Void, &keys::void(body, CommitId(at))).unwrap();
                    update(rows, body, CommitId(at)).unwrap();
                    model.remove(&at);
                } else {
                    let from = dice.below(1_000_000) as u64;
                    put(rows, body, at, from);
                    put(rows, other, at, 0);
                    model.insert(at, from);
                }
                let (a, b) = (dice.below(commits) as u64, dice.below(commits) as u64);
                let (first, last) = (a.min(b), a.max(b));
                let found = smallest(&*rows, body, CommitId(first), CommitId(last)).unwrap();
                assert_eq!(found, model.range(first..=last).map(|(_, from)| *from).min());
            }
            for at in model.into_keys() {
                rows.remove(Table::Void, &keys::void(body, CommitId(at))).unwrap();
                update(rows, body, CommitId(at)).unwrap();
            }
            let prefix = keys::body(body);
            assert!(rows.first_under(Table::Voids, &prefix, &prefix).unwrap().is_none());
        });
    }
}
