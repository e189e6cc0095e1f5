//! What the destinations of one set say of its journal, shared by their drivers.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::source::{Head, SourceError, SourceHandle};
use keepshare_base::{Epoch, Seq, StationName};
use keepshare_proto::epochs::{Disagreement, Epochs, Verdict};
use tokio::sync::watch;

use super::seeding::Seeding;

/// Decides for all destinations of a set together whether its journal may begin a new epoch.
#[derive(Debug)]
pub struct Agreement {
    epochs: Mutex<Epochs>,
    /// Who told that another master has the set; while somebody did, nothing is sent to anyone.
    fenced: watch::Sender<Option<StationName>>,
    destinations: Vec<StationName>,
    seeding: Seeding,
}

impl Agreement {
    /// Returns one for these destinations.
    pub fn new(destinations: &[StationName]) -> Self {
        Self {
            epochs: Mutex::new(Epochs::new(destinations.iter().cloned())),
            fenced: watch::channel(None).0,
            destinations: destinations.to_vec(),
            seeding: Seeding::default(),
        }
    }

    /// Returns whether files of the present epoch know their ids of before.
    pub fn seeding(&self) -> &Seeding {
        &self.seeding
    }

    /// Returns a watch of who told that another master has the set.
    pub fn fenced(&self) -> watch::Receiver<Option<StationName>> {
        self.fenced.subscribe()
    }

    /// Notes that a destination takes what the journal has.
    pub fn agrees(&self, to: &StationName) {
        self.lock().agrees(to);
    }

    /// Notes that a destination cannot be reached.
    pub fn away(&self, to: &StationName) {
        self.lock().away(to);
    }

    /// Judges what a destination says of the journal.
    pub fn judge(
        &self,
        to: &StationName,
        disagreement: Disagreement,
        told: Epoch,
        source: &SourceHandle,
    ) -> Verdict {
        let taken = |to: &StationName| source.acked_by(to.as_str()).is_some_and(|at| at > Seq(0));
        let replaced = !self.destinations.iter().any(taken);
        let mut epochs = self.lock();
        let verdict = epochs.judge(to, disagreement, told, replaced);
        self.fenced.send_replace(epochs.fenced_by().cloned());
        verdict
    }

    /// Begins an epoch above everything that is known. Blocks.
    pub fn begin_epoch(&self, source: &SourceHandle, above: Epoch) -> Result<Head, SourceError> {
        let above = above.max(self.lock().highest());
        self.seeding.want(above);
        let head = source.new_epoch(above, None)?;
        self.lock().began(head.epoch);
        self.fenced.send_replace(None);
        Ok(head)
    }

    /// Takes the folder that is at the source's path now, in an epoch above everything that is known. Blocks.
    pub fn take_source(&self, source: &SourceHandle) -> Result<Head, SourceError> {
        let head = source.accept_root(self.lock().highest())?;
        self.lock().began(head.epoch);
        Ok(head)
    }

    fn lock(&self) -> MutexGuard<'_, Epochs> {
        self.epochs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
