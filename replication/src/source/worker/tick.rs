//! What is done now and then: cuts after a pause, acknowledgements, trimming, the spool, the status.

use std::{os::fd::AsFd, sync::Arc};

use keepshare_base::{FileTime, Seq};
use keepshare_decide::{Known, agenda::FileTask};
use keepshare_proto::MonoTime;

use super::{Attached, TICK, Worker, chain};
use crate::{
    clock::mono,
    source::{
        PROBLEMS_MAX, SourceAlarm, SourceError, SourceLimits,
        ledger::Tx,
        shared::{Shared, Unseen, lock},
        transfer::Transfer,
    },
};

/// The journal is trimmed when so many changes have gathered that nobody needs.
const TRIM_AFTER: u64 = 256;

/// So many changes are kept while no destination is known.
const KEPT_FOR_NOBODY: u64 = 1000;

impl Worker {
    /// Tells whether there is something to do at the next tick.
    pub(super) fn has_notes(&self) -> bool {
        self.ledger.has_failed()
            || self.cutting.is_waiting()
            || self.has_points()
            || self.pending.agenda.has_linked()
            || self.owners.is_waiting()
            || !self.replaced.is_empty()
            || self.aside.is_some()
            || !lock(&self.shared.acks).changed.is_empty()
            || self
                .shared
                .acked_by_all()
                .is_some_and(|acked| lock(&self.shared.payloads).has_waiting(acked))
    }

    /// Does what is due now and then.
    pub(super) fn tick(&mut self) {
        let now = mono();
        if now < self.next_tick {
            return;
        }
        self.next_tick = now + TICK;
        if self.attached.is_some() && self.ledger.has_failed() {
            // Somebody who only reads met it.
            self.fail(&SourceError::journal(std::io::Error::other("the disk failed")));
        }
        let can_turn = self.attached.is_some() && self.short_until.is_none();
        let cuts = if can_turn { self.cutting.due(now) } else { Vec::new() };
        if !cuts.is_empty()
            && let Err(error) = self.turn(cuts)
        {
            self.fail(&error);
        }
        if self.ledger.check_space().is_ok() {
            self.keep_notes();
        }
        self.end_shadows();
        self.name_owners();
        self.watch_linked();
        self.look_at_replaced();
        self.sync_gone();
        self.end_aside();
        if !self.pending.agenda.may_find_new() {
            self.pending.agenda.strangers.forget_old(now);
        }
    }

    /// Returns when it is to be looked whether shadows take space that others need.
    pub(super) fn next_shadow_look(&self) -> Option<MonoTime> {
        let Some(Attached { shadows, .. }) = &self.attached else { return None };
        let is_needed =
            !shadows.is_empty() || self.pending.transfers.iter().any(Transfer::is_of_shot);
        is_needed.then(|| shadows.next_look())
    }

    /// Ends shadows, also those that are being read, where the disk gets short of space.
    fn end_shadows(&mut self) {
        if self.next_shadow_look().is_none_or(|next| mono() < next) {
            return;
        }
        let Some(Attached { tree, shadows, .. }) = &mut self.attached else { return };
        if shadows.look_at_space(tree.root().as_fd(), mono()) {
            self.pending.transfers.iter_mut().for_each(Transfer::end_shot);
        }
    }

    /// Looks again at files whose owners had no name because nobody answered, once somebody does.
    fn name_owners(&mut self) {
        if self.attached.is_none() || self.short_until.is_some() {
            return;
        }
        let files = self.owners.answered();
        if files.is_empty() {
            return;
        }
        // Their times say nothing of it, so what is known of them counts for older.
        let marked = self.ledger.write(|tx| {
            for file in &files {
                if let Some(mut record) = tx.map.record(*file)? {
                    record.signature.ctime = FileTime::default();
                    tx.map.set_record(*file, &record)?;
                }
            }
            Ok(())
        });
        match marked {
            Ok(()) => {
                for file in files {
                    self.pending.agenda.add_file(file, FileTask::default());
                }
            }
            Err(error) => self.fail(&error),
        }
    }

    /// Writes acknowledgements and spool places into the journal, and drops what nobody needs.
    pub(super) fn keep_notes(&mut self) {
        let shared = self.shared.clone();
        let changed = std::mem::take(&mut lock(&shared.acks).changed);
        let acked = shared.acked_by_all();
        let spooled = {
            let mut payloads = lock(&shared.payloads);
            if let Some(acked) = acked {
                payloads.spool_waiting(acked);
            }
            payloads.take_spooled()
        };
        let noted = self.ledger.write(|tx| {
            for (destination, through) in &changed {
                tx.set_ack(destination, *through)?;
            }
            for (seq, place) in &spooled {
                tx.set_spooled(*seq, *place)?;
            }
            tx.durable = !spooled.is_empty();
            trim(tx, &shared)
        });
        match noted {
            Ok((dropped, keep)) => {
                lock(&self.shared.payloads).noted(&spooled);
                if let Some(keep) = keep {
                    lock(&self.shared.payloads).trim(keep);
                }
                if let Some(through) = dropped {
                    self.clear_alarm(|alarm| matches!(alarm, SourceAlarm::Dropped { .. }));
                    self.alarm(SourceAlarm::Dropped { through });
                }
            }
            Err(error) => {
                lock(&self.shared.payloads).note_again(spooled);
                self.fail_with(&error);
            }
        }
        self.sync_spool();
        let dropped = self.ledger.state().dropped;
        self.clear_alarm(|alarm| matches!(alarm, SourceAlarm::Damaged { seq } if seq.0 <= dropped));
    }

    /// Ends in order: what only memory holds goes to disk.
    pub(super) fn close(mut self) {
        self.end_fills();
        let acked = self.shared.acked_by_all().unwrap_or(Seq(u64::MAX));
        lock(&self.shared.payloads).spool_all(acked);
        self.keep_notes();
        if let Err(error) = self.ledger.write(|tx| {
            tx.durable = true;
            Ok(())
        }) {
            tracing::error!(error = chain(&error), "cannot end the journal in order");
        }
        let shared = self.shared.clone();
        drop(self);
        shared.end();
    }

    /// Shows how the source is.
    pub(super) fn show(&self) {
        let mut status = lock(&self.shared.status);
        let state = self.ledger.state();
        status.capture = self.attached.as_ref().map_or("none", |a| a.capture.name());
        status.dirty = self.dirty() as u64;
        status.scanning = self.pending.agenda.is_scanning();
        status.journal_bytes = state.journal_bytes;
        status.journal_entries = state.journal_entries;
        status.spool_bytes = lock(&self.shared.payloads).spool_bytes();
    }

    /// Shows what cannot be read, if that changed. What is not in the folder is known once a scan has ended.
    pub(super) fn show_problems(&mut self, scan_ended: bool) {
        let mut unseen = lock(&self.shared.unseen);
        let is_known = scan_ended || !matches!(*unseen, Unseen::NotYetKnown);
        if !self.pending.agenda.problems.take_changed() && !scan_ended {
            return;
        }
        if is_known {
            let places = self.pending.agenda.problems.places();
            *unseen = places.map_or(Unseen::TooMany, |places| Unseen::Places(Arc::new(places)));
        }
        drop(unseen);
        let mut status = lock(&self.shared.status);
        status.problem_count = self.pending.agenda.problems.count();
        status.problems =
            self.pending.agenda.problems.shown().take(PROBLEMS_MAX).cloned().collect();
    }
}

/// Drops changes that all destinations have, and, when the journal is full, the oldest ones. Returns through which change
/// something was dropped that a destination lacks, and the oldest change kept.
fn trim(tx: &mut Tx<'_>, shared: &Shared) -> Result<(Option<Seq>, Option<Seq>), SourceError> {
    let limits: &SourceLimits = &shared.config.limits;
    let acked = shared.acked_by_all();
    let Some(oldest) = tx.map.oldest()? else { return Ok((None, None)) };
    let head = tx.state.head;
    let needed = match acked {
        Some(acked) => Seq(acked.0 + 1),
        None => Seq((head + 1).saturating_sub(KEPT_FOR_NOBODY)),
    };
    let mut keep = oldest;
    // Content on disk that everybody has may be what the next change waits for.
    let is_worth_it = needed.0 > head || lock(&shared.payloads).spool_bytes() > 0;
    if needed.0 >= oldest.0 + TRIM_AFTER || is_worth_it && needed > oldest && acked.is_some() {
        keep = Seq(needed.0.min(head + 1));
    }
    let bytes_over = tx.state.journal_bytes.saturating_sub(limits.journal_bytes_max);
    let entries_over = tx.state.journal_entries.saturating_sub(limits.journal_entries_max);
    if bytes_over > 0 || entries_over > 0 {
        keep = keep.max(tx.map.oldest_after(bytes_over, entries_over)?).min(Seq(head + 1));
    }
    if keep <= oldest {
        return Ok((None, None));
    }
    tx.trim(keep)?;
    let dropped = acked.filter(|acked| keep.0 > acked.0 + 1).map(|_| Seq(keep.0 - 1));
    Ok((dropped, Some(keep)))
}
