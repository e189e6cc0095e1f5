//! The ids of files in a new epoch.

use std::sync::{Mutex, PoisonError};

use keepshare_base::Epoch;

use crate::source::{Listing, SourceError, SourceHandle};

/// Whether the files of a new epoch know their ids of before.
///
/// A journal that was lost begins with other ids for the same files. A mirror from it would take everything away and
/// bring it again; so the first listing that a station gives is handed to the source, which takes the ids from there.
#[derive(Debug, Default)]
pub struct Seeding(Mutex<Option<Epoch>>);

impl Seeding {
    /// Says that a new epoch begins above this one, because the journal does not continue what stations have. Blocks.
    pub fn want(&self, above: Epoch) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(above);
    }

    /// Gives a listing back where the files of `epoch` have their ids. Else one more epoch begins with the ids of the
    /// listing, and the mirror is over: it begins anew there. Blocks.
    pub(super) fn seed(
        &self,
        source: &SourceHandle,
        epoch: Epoch,
        listing: Listing,
    ) -> Result<Option<Listing>, SourceError> {
        // Held meanwhile: no other mirror goes on from an epoch without ids.
        let mut wanted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if listing.counts().0 == 0 || wanted.is_none_or(|above| epoch <= above) {
            return Ok(Some(listing));
        }
        source.new_epoch(epoch, Some(listing))?;
        *wanted = None;
        Ok(None)
    }
}
