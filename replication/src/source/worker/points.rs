//! Points of the whole set: named moments in the order of the journal.

use std::collections::HashMap;

use keepshare_base::{Change, OriginId, PointRow, Position};
use keepshare_decide::{
    Ledger,
    compose::{Composer, When},
};

use super::{Worker, now};
use crate::{
    clock::mono,
    source::{
        PointMade, SourceError,
        shared::{Unseen, lock},
    },
};

impl Worker {
    /// Makes the states that are no versions yet versions, and a point right after: what it shows of each file is a version.
    ///
    /// What is being read in steps was at no moment what has been read of it: the point has what that file was before.
    pub(super) fn make_point(&mut self, row: PointRow) -> Result<PointMade, SourceError> {
        let unsettled = self.dirty() as u64;
        let Some(attached) = &self.attached else {
            return Err(SourceError::Vanished("the folder is not there".to_owned()));
        };
        // Until it is gone through after a start the map is partly of an earlier moment.
        let is_unknown = matches!(*lock(&self.shared.unseen), Unseen::NotYetKnown);
        if !self.ledger.state().scanned || is_unknown {
            return Err(SourceError::NotLooked);
        }
        self.ledger.check_space()?;
        let when = When { stamp: now(), now: mono(), exact_times: attached.exact_times };
        let mut cuts = self.cutting.point(when.now);
        // A failed write has its states cut by time.
        let open = cuts.clone();
        cuts.retain(|file| !self.pending.transfers.iter().any(|read| read.file == *file));
        let cutting = &mut self.cutting;
        let made = self.ledger.write(|tx| {
            Composer::new(when, cutting, HashMap::new()).journal_cuts(tx, cuts)?;
            let stamp = when.stamp;
            let position =
                Ledger::append(tx, &Change { stamp, point: Some(row), ..Change::default() })?;
            Ok(PointMade { position, stamp, unsettled })
        });
        if made.is_err() {
            open.into_iter().for_each(|file| self.cutting.was_written(when.now, file));
        } else {
            self.show_head();
        }
        made
    }

    /// Journals what is said of points that were made before.
    pub(super) fn say_of_point(&mut self, row: PointRow) -> Result<Position, SourceError> {
        let own = OriginId(self.ledger.state().origin);
        match &row {
            PointRow::Held { point, .. }
            | PointRow::Released { point }
            | PointRow::Removed { point } => {
                if point.origin != own {
                    return Err(SourceError::Refused("another master made that point".to_owned()));
                }
            }
            PointRow::Unscheduled { .. } => {}
            PointRow::Made { .. } | PointRow::Scheduled { .. } => {
                unreachable!("a point is asked for")
            }
        }
        self.ledger.check_space()?;
        let position = self.ledger.write(|tx| {
            Ledger::append(tx, &Change { stamp: now(), point: Some(row), ..Change::default() })
        })?;
        self.show_head();
        Ok(position)
    }
}
