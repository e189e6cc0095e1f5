//! Names that showed nothing once.

use std::{collections::BTreeMap, time::Duration};

use keepshare_base::{FileId, Name};
use keepshare_proto::MonoTime;

use super::{NameTask, first};

/// How long names that are gone wait for what may show where they are now.
pub(super) const WAIT_MAX: Duration = Duration::from_millis(100);

/// So many rounds they wait at least, however long these take: each may show what is in a new folder.
pub(super) const ROUNDS_MIN: u32 = 8;

type Place = (FileId, Name);

/// Names that showed nothing once, and whose second look is due.
#[derive(Debug, Default)]
pub(super) struct Gone {
    /// They wait for what may show where they are now.
    waiting: BTreeMap<Place, NameTask>,
    /// They have waited long enough: somebody always does something somewhere, and machines are slow.
    overdue: BTreeMap<Place, NameTask>,
    /// Since when there are some that wait, and for how many rounds.
    since: Option<MonoTime>,
    rounds: u32,
    /// Something is astray that they wait for.
    waits: bool,
}

impl Gone {
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.overdue.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells whether there is something to look at now.
    pub(super) fn is_due(&self) -> bool {
        !self.overdue.is_empty() || (!self.waiting.is_empty() && !self.waits)
    }

    /// Adds a name, or what is said of one that is here.
    pub(super) fn add(&mut self, place: Place, task: NameTask) {
        if !self.join(&place, task) {
            self.waiting.insert(place, task);
        }
    }

    /// Adds to the task of a name that is here; tells whether it is.
    pub(super) fn join(&mut self, place: &Place, more: NameTask) -> bool {
        let Self { waiting, overdue, .. } = self;
        let known = overdue.get_mut(place).or_else(|| waiting.get_mut(place));
        known.map(|known| known.merge(more)).is_some()
    }

    /// Takes a name away.
    pub(super) fn remove(&mut self, place: &Place) {
        self.waiting.remove(place);
        self.overdue.remove(place);
    }

    /// Says what time it is, and whether something is astray. They may wait for each other: what is in a folder that is gone,
    /// and the folder's name.
    pub(super) fn pass(&mut self, now: MonoTime, is_astray: bool) {
        self.waits = is_astray;
        if self.waiting.is_empty() {
            (self.since, self.rounds) = (None, 0);
            return;
        }
        let since = *self.since.get_or_insert(now);
        if now >= since + WAIT_MAX && self.rounds >= ROUNDS_MIN {
            self.overdue.append(&mut self.waiting);
            (self.since, self.rounds) = (None, 0);
        }
    }

    /// Takes the names of a round, at most `limit`.
    pub(super) fn take(&mut self, limit: usize, may_have_moved: bool) -> BTreeMap<Place, NameTask> {
        self.rounds = self.rounds.saturating_add(1);
        let mut taken = first(&mut self.overdue, limit);
        if !may_have_moved && !self.waits {
            taken.append(&mut first(&mut self.waiting, limit - taken.len()));
        }
        taken
    }
}
