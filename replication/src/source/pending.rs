//! What a source is in the middle of. In memory only: a restart begins with a scan.

use std::collections::{HashMap, VecDeque};

use keepshare_base::FileId;
use keepshare_decide::{
    Marks, Seed,
    agenda::{Agenda, NameTask},
    compose::RestoreNote,
};
use keepshare_proto::MonoTime;

use super::{SourceError, keeping::Keeping, ledger::Tx, transfer::Transfer};

/// What is to be looked at, and contents being read.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// What is to be looked at, and when.
    pub(crate) agenda: Agenda,
    /// Big files being read in steps.
    pub(crate) transfers: VecDeque<Transfer>,
    /// What restores replaced and is to become versions.
    pub(crate) keeping: VecDeque<Keeping>,
    /// Restores that were written and wait for their change.
    pub(crate) restores: HashMap<FileId, RestoreNote>,
    /// Which file each name stood for at a station, when the map was lost.
    pub(crate) seed: Seed,
}

impl Pending {
    /// Tells whether there is something to do now.
    pub(crate) fn is_busy(&self) -> bool {
        self.agenda.is_busy()
            || self.transfers.iter().any(|transfer| !transfer.is_waiting())
            || !self.keeping.is_empty()
    }

    /// Returns how much there is to do.
    pub(crate) fn len(&self) -> usize {
        self.agenda.len() + self.transfers.len() + self.keeping.len()
    }

    /// Takes up what capture marked; whoever reads a file just now hears of it.
    pub(crate) fn resolve(
        &mut self,
        now: MonoTime,
        marks: &mut Marks,
        tx: &Tx<'_>,
    ) -> Result<(), SourceError> {
        self.agenda.resolve(now, marks, tx)?;
        for transfer in &mut self.transfers {
            if let Some(task) = self.agenda.take_file(transfer.file) {
                transfer.touched(task.touch);
                // What was read of it before is compared once more.
                transfer.written |= task.verify;
            }
        }
        Ok(())
    }

    /// Has a file become a version when it is read; tells whether it is being read.
    pub(crate) fn end_writing(&mut self, file: FileId) -> bool {
        let reading = self.transfers.iter_mut().find(|transfer| transfer.file == file);
        reading.map(Transfer::end_writing).is_some()
    }

    /// Gives up the reading of a big file: the names that waited for it are looked at anew.
    pub(crate) fn break_transfer(&mut self, file: FileId) {
        self.transfers.retain(|transfer| transfer.file != file);
        for (parent, name) in self.agenda.readings.end(file) {
            self.agenda.add_name(parent, name, NameTask::default());
        }
    }
}
