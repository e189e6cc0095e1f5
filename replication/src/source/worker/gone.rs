//! What is gone from the private folder is forgotten when that is on disk, and the folder when nothing is left in it.

use std::io;

use super::{Worker, chain, restore::beside};
use crate::source::shared::Request;

/// What is gone from the private folder, and whose notes are still to be forgotten.
#[derive(Debug, Default)]
pub(super) struct Gone {
    pub(super) names: Vec<String>,
    /// A thread writes that to disk.
    is_syncing: bool,
}

impl Worker {
    /// Has what is gone from the private folder written to disk: a note that is forgotten before its file is gone for good
    /// would leave, after a loss of power, a file that nobody knows.
    pub(super) fn sync_gone(&mut self) {
        if self.gone.names.is_empty() || self.gone.is_syncing {
            return;
        }
        let Some(Ok(folder)) = self.aside.as_ref().map(|aside| aside.folder().try_clone()) else {
            return;
        };
        let names = self.gone.names.clone();
        let sync = move || {
            let synced = rustix::fs::fsync(&folder).map_err(Into::into);
            Request::Gone(names, synced)
        };
        if beside(&self.shared, sync).is_ok() {
            (self.gone.is_syncing, self.gone.names) = (true, Vec::new());
        }
    }

    /// Hears that files are gone from the private folder for good, and forgets what was noted of them.
    pub(super) fn forget_gone(&mut self, names: Vec<String>, synced: io::Result<()>) {
        self.gone.is_syncing = false;
        if let Err(error) = synced {
            tracing::warn!(%error, "cannot write the private folder to disk");
            return self.gone.names.extend(names);
        }
        for name in names {
            if let Err(error) = self.ledger.forget_note(&name) {
                tracing::warn!(error = chain(&error), "cannot forget a restore's note");
            }
        }
    }

    /// Removes the private folder when nothing is in it.
    pub(super) fn end_aside(&mut self) {
        let Some(attached) = &self.attached else { return };
        let is_used = !self.replaced.is_empty()
            || !self.restoring.is_empty()
            || self.gone.is_syncing
            || !self.gone.names.is_empty();
        let Some(aside) = self.aside.take_if(|_| !is_used) else { return };
        if !aside.remove() {
            self.aside = Some(aside);
            return;
        }
        attached.tree.hide(None);
        if let Err(error) = self.ledger.set_home(None) {
            tracing::warn!(error = chain(&error), "cannot forget the private folder");
        }
    }
}
