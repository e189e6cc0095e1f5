//! Taking a roll-back back: what it touched, and only where that is as it was left.

use std::collections::HashMap;

use keepshare_base::{CommitId, FileId};
use keepshare_control::{Failure, Outcome};
use keepshare_versioning::rollback::{Back, Doing};

use super::{super::Replica, Order, steps::request_of};
use crate::{
    asking::read_failure,
    rollback::{self, By, Record},
};

impl Replica {
    /// Returns the order that takes a roll-back back.
    pub fn undo_of(&self, id: &str, by: By) -> Outcome<Order> {
        let record = self.rollbacks.read(id, &by)?;
        let Some((after, _, until)) = record.end.clone() else {
            return Err(Failure::refused(format!("roll-back {id} goes on"))
                .hint(format!("keepshare rollback --stop {id} --set {} ends it", self.name)));
        };
        if until < rollback::rfc3339(chrono::Utc::now()) {
            return Err(Failure::refused(format!("roll-back {id} could be undone until {until}"))
                .hint("what it replaced are versions: keepshare versions"));
        }
        let undos = self.rollbacks.taken_back_by(id);
        if let Some(last) = undos.last() {
            let is_undone = undos.len() % 2 == 1;
            let what = if is_undone { "does it once more" } else { "takes it back again" };
            let undos = undos.join(", and that by ");
            return Err(Failure::refused(format!("roll-back {id} was taken back by {undos}"))
                .hint(format!("keepshare rollback --undo {last} --set {} {what}", self.name)));
        }
        let back = Back::To { at: record.header.before, is_point: true };
        let only = Some(self.touched_by(&record, after)?);
        let (path, to) = (record.header.path, rollback::undo_of(id));
        Ok(Order { path, back, base: after, only, links: true, to, by })
    }

    /// Returns the files that a roll-back touched, and when each was as it left it: those alone are its own to take back.
    fn touched_by(&self, record: &Record, after: CommitId) -> Outcome<HashMap<FileId, CommitId>> {
        let (mut written, mut moved, mut others) =
            <(HashMap<_, _>, HashMap<_, _>, HashMap<_, _>)>::default();
        let view = self.reader.view().map_err(read_failure)?;
        for (number, step) in record.steps()?.enumerate() {
            let (number, step) = (number as u64, step?);
            if number >= record.through {
                break;
            }
            if !record.is_done(number) {
                continue;
            }
            // What is written says when it came; people may have worked in it before all was done. What is moved holds what it held.
            let (known, at, held) = match step.doing {
                Doing::Write { .. } => {
                    let request = request_of(&record.header, number);
                    let answer = view.restore(request).map_err(read_failure)?;
                    let at = answer.map_or(after, |answer| answer.commit.min(after));
                    (&mut written, at, at)
                }
                Doing::Move { .. } | Doing::Link { .. } => {
                    (&mut moved, after, record.header.before)
                }
                _ => (&mut others, after, after),
            };
            known.extend(step.files().map(|file| (file, held)));
            for path in step.paths() {
                let file = view.resolve(path, at).map_err(read_failure)?;
                known.extend(file.map(|(file, _)| (file, held)));
            }
        }
        let mut touched = moved;
        touched.extend(others);
        touched.extend(written);
        Ok(touched)
    }
}
