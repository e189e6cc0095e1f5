//! What makes a station keep less: it is counted for a day of running time, and can be taken back until then.
//!
//! The day is the station's own running time: a wrong clock, or one that somebody set, ends nothing early, and neither does a
//! machine that was switched off.

use serde::{Deserialize, Serialize};

use keepshare_base::{SetName, StationName};

use crate::{Document, SetId};

/// For how long a station keeps what it is told to keep no more, in seconds of its own running time.
pub const KEPT_S: u64 = 24 * 3600;

/// A set that a station is to keep no more.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Pending {
    /// What it is called.
    pub name: SetName,
    /// Which set.
    pub id: SetId,
    /// For how many seconds the station ran since it was told.
    pub ran_s: u64,
}

impl Pending {
    /// Returns what a station is told to keep no more once `new` holds: what of `pending` is not taken back, and what `old` said
    /// that it keeps and `new` does not.
    pub fn after(
        pending: &[Self],
        old: Option<&Document>,
        new: &Document,
        station: &StationName,
    ) -> Vec<Self> {
        // Under another name, or as another set of that name, a station begins anew: what it has grows no more.
        let is_kept = |id: SetId, name: &SetName| {
            let mut is = new.sets.iter().filter(|set| set.id == id && set.name == *name);
            is.any(|set| set.is_kept_by(station))
        };
        let mut after: Vec<Self> =
            pending.iter().filter(|known| !is_kept(known.id, &known.name)).cloned().collect();
        for set in old.into_iter().flat_map(|old| &old.sets) {
            let is_told = after.iter().any(|known| known.id == set.id && known.name == set.name);
            if set.is_kept_by(station) && !is_kept(set.id, &set.name) && !is_told {
                after.push(Self { name: set.name.clone(), id: set.id, ran_s: 0 });
            }
        }
        after
    }

    /// Counts time that the station ran.
    pub fn ran(&mut self, seconds: u64) {
        self.ran_s = self.ran_s.saturating_add(seconds);
    }

    /// Returns for how many seconds more it is kept; 0 where it need not be any more.
    pub fn left_s(&self) -> u64 {
        KEPT_S.saturating_sub(self.ran_s)
    }
}
