//! Putting right what a wrong clock left in the commits.

use keepshare_base::{CommitId, Stamp};

use crate::{
    CommitError,
    index::{IndexError, Rows, commits},
    moment::{Repair, Survey, Times},
    record::{CommitValue, Row},
};

use super::{PENDING_BYTES_MAX, Store};

/// The commits that are looked at in one step, and the most of them in one record.
const COMMITS_PER_STEP: usize = 4096;

impl Store {
    /// Gives commits whose arrival cannot be right the one that is the most likely, and all of them the moments that follow;
    /// returns how many it changed. What it changes is logged.
    pub fn repair_clock(&mut self, now: Stamp) -> Result<u64, CommitError> {
        self.check_writable(super::Room::Reserve)?;
        let mut survey = Survey::default();
        self.walk(|page, _| {
            page.iter().for_each(|(at, value)| survey.add(*at, value.arrival));
            Ok(())
        })?;
        let mut repair = survey.decide(now);
        let mut repaired = 0;
        self.walk(|page, store| {
            let rows = wrong(&mut repair, page);
            repaired += rows.len() as u64;
            if rows.is_empty() {
                return Ok(());
            }
            let at = store.latest().next();
            store.append(at, &rows)?;
            if store.log.buffered_bytes() > PENDING_BYTES_MAX {
                store.sync()?;
            }
            Ok(())
        })?;
        if repaired > 0 {
            let at = self.latest().next();
            self.append(at, &[Row::Clock { arrival: now }])?;
            self.clock.repaired(now);
            tracing::warn!(commits = repaired, "the arrivals of commits were repaired");
        }
        Ok(repaired)
    }

    /// Goes through all commits, oldest first, some at a time.
    fn walk(
        &mut self,
        mut look: impl FnMut(&[(CommitId, CommitValue)], &mut Self) -> Result<(), CommitError>,
    ) -> Result<(), CommitError> {
        let mut after = CommitId(0);
        loop {
            let page = self.asked(|rows| page(rows, after))?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = *last;
            look(&page, self)?;
        }
    }
}

fn page(rows: &impl Rows, after: CommitId) -> Result<Vec<(CommitId, CommitValue)>, IndexError> {
    commits::commits_after(rows, after, COMMITS_PER_STEP)
}

/// Returns the rows of those that are to be other than they are.
fn wrong(repair: &mut Repair, page: &[(CommitId, CommitValue)]) -> Vec<Row> {
    let row = |(at, value): &(CommitId, CommitValue)| {
        let CommitValue { stamp, arrival, moment, .. } = *value;
        let origin = value.position.origin;
        let told = repair.next(&Times { origin, stamp, arrival, moment });
        let (arrival, moment) = told;
        let is_other = told != (value.arrival, value.moment);
        is_other.then(|| Row::Commit {
            at: *at,
            value: CommitValue { arrival, moment, ..value.clone() },
        })
    };
    page.iter().filter_map(row).collect()
}
