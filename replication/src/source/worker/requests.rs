//! What callers ask of the source's thread.

use std::collections::HashMap;

use keepshare_base::{Change, Epoch, FileId, OriginId, Seq};
use keepshare_decide::{Inode, Known, Seed, agenda::FileTask};

use super::{Worker, now};
use crate::source::{
    Head, Listing, SourceAlarm, SourceError, kept,
    ledger::{Snapshot, Tx},
    pass::Regions,
    shared::{Phase, Request, lock},
};

impl Worker {
    /// Does what a caller asked.
    pub(super) fn answer(&mut self, request: Request) {
        // Whoever asked may have gone away: an answer nobody takes is no failure.
        match request {
            Request::Forget(files, reply) => drop(reply.send(self.forget(&files))),
            Request::Rescan => self.begin_scan(),
            Request::Compare(files) => self.compare(files),
            Request::Settled(reply) => self.ask(reply),
            Request::Point(row, reply) => self.ask_point(row, reply),
            Request::OfPoint(row, reply) => drop(reply.send(self.say_of_point(row))),
            Request::Swept(question) => self.swept(question),
            Request::Restore(request, reply) => self.restore(request, reply),
            Request::Wrote(id, attempt, wrote) => self.wrote(id, attempt, wrote),
            Request::Filled(id, attempt, filled) => self.filled(id, attempt, filled),
            Request::Synced(id, synced) => self.synced(id, synced),
            Request::Looked(looked) => self.looked_again(looked),
            Request::Gone(names, synced) => self.forget_gone(names, synced),
            Request::Mirror(reply) => drop(reply.send(self.begin_mirror())),
            Request::NewEpoch(above, listing, reply) => {
                drop(reply.send(self.new_epoch_as_listed(above, listing.as_deref())));
            }
            Request::AcceptRoot(above, reply) => drop(reply.send(self.accept_root(above))),
            Request::Shutdown => self.stopping = true,
        }
    }

    /// What destinations have of these files cannot be relied on: they are sent whole.
    fn forget(&mut self, files: &[(FileId, Seq)]) -> Result<(), SourceError> {
        self.ledger.check_space()?;
        for (file, _) in files {
            // A new file that is being read has no name yet: it begins anew, as another file.
            if self.pending.transfers.iter().any(|transfer| transfer.file == *file) {
                self.pending.break_transfer(*file);
            }
        }
        self.ledger.write(|tx| {
            for (file, after) in files {
                tx.set_stale(*file, *after)?;
                match tx.map.record(*file)? {
                    Some(mut record) if !tx.map.links(*file, 1)?.is_empty() => {
                        record.forgotten = true;
                        record.hash = None;
                        record.blocks = false;
                        tx.map.clear_blocks(*file, 0)?;
                        tx.map.set_record(*file, &record)?;
                    }
                    Some(_) => {
                        tx.map.remove_file(*file)?;
                        tx.end_stale(*file, Seq(tx.state.head).next())?;
                    }
                    None => tx.end_stale(*file, Seq(tx.state.head).next())?,
                }
            }
            tx.durable = true;
            Ok(())
        })?;
        self.keep_again(files);
        for (file, _) in files {
            self.pending.agenda.add_file(*file, FileTask { verify: true, ..FileTask::default() });
        }
        Ok(())
    }

    /// Journals that a mirror begins, so that it leads to a place that is its own, and takes what there is there.
    fn begin_mirror(&mut self) -> Result<Snapshot, SourceError> {
        // Nothing is journaled for a mirror that cannot begin: it is tried again and again.
        if self.attached.is_none() {
            return Err(SourceError::Vanished("the folder".to_owned()));
        }
        self.ledger.check_space()?;
        self.ledger.write(|tx| {
            let stamp = now();
            tx.append(&Change { stamp, ..Change::default() })?;
            tx.state.base = tx.state.base.or(Some(tx.state.here()));
            Ok(())
        })?;
        self.keep_behind_mirror();
        let snapshot = Snapshot::open(&self.ledger.database())?;
        self.show_head();
        Ok(snapshot)
    }

    /// Shows what was journaled last.
    pub(super) fn show_head(&self) {
        let head = self.ledger.state().head();
        self.shared.head.send_if_modified(|shown| std::mem::replace(shown, head) != head);
    }

    /// Begins an epoch, with the ids that a station lists where it is asked for them. That is its word: ids of another origin, or of an
    /// epoch that this one has not seen, would have all other stations refuse what the source says from then on.
    fn new_epoch_as_listed(
        &mut self,
        above: Epoch,
        listing: Option<&Listing>,
    ) -> Result<Head, SourceError> {
        let state = self.ledger.state();
        let (origin, own) =
            (OriginId(state.origin), Epoch::new(state.epoch).unwrap_or(Epoch::FIRST));
        let may_be = |file: FileId| file.origin == origin && file.epoch <= above.max(own);
        let seed = listing.map(|listing| {
            let names = listing.names();
            names
                .filter(|((parent, _), (file, _))| {
                    (*parent == FileId::ROOT || may_be(*parent)) && may_be(*file)
                })
                .collect()
        });
        self.new_epoch(above, seed)
    }

    /// Begins an epoch. With a seed the map is made anew, with the ids that a station knows.
    pub(super) fn new_epoch(
        &mut self,
        above: Epoch,
        seed: Option<Seed>,
    ) -> Result<Head, SourceError> {
        let own = Epoch::new(self.ledger.state().epoch).unwrap_or(Epoch::FIRST);
        if own > above && seed.is_none() {
            // Another destination asked for it before.
            return Ok(self.ledger.state().head());
        }
        let epoch = above.max(own).next();
        self.keep_journal(own)?;
        let anew = seed.is_some();
        self.ledger.write(|tx| begin_epoch(tx, epoch, anew))?;
        lock(&self.shared.payloads).clear();
        self.keep_all_again();
        self.clear_alarm(|alarm| matches!(alarm, SourceAlarm::Damaged { .. }));
        let mut acks = lock(&self.shared.acks);
        acks.epoch = epoch;
        acks.through.values_mut().for_each(|through| *through = Seq(0));
        let known: Vec<String> = acks.through.keys().cloned().collect();
        acks.changed = known.into_iter().map(|name| (name, Seq(0))).collect();
        drop(acks);
        if let Some(seed) = seed {
            self.detach();
            self.pending.seed = seed;
            self.shared.set_phase(Phase::Scanning);
            self.attach();
        }
        let head = self.ledger.state().head();
        self.shared.head.send_replace(head);
        tracing::info!(set = %self.shared.config.set, %epoch, "a new epoch began");
        Ok(head)
    }

    /// Leaves a copy of the journal whose epoch ends, where it holds anything. A full disk is not in the way of an epoch.
    fn keep_journal(&mut self, own: Epoch) -> Result<(), SourceError> {
        let shared = self.shared.clone();
        let config = &shared.config;
        let Some(folder) = config.keep_journals.as_ref().filter(|_| self.ledger.state().head > 0)
        else {
            return Ok(());
        };
        // All that was written reaches the file before it is copied, and this thread alone writes.
        self.ledger.write(|tx| {
            tx.durable = true;
            Ok(())
        })?;
        if let Err(error) = kept::keep(folder, &config.set, own) {
            tracing::warn!(set = %config.set, epoch = %own, %error, "the ended journal is not kept");
        }
        Ok(())
    }

    /// Takes the folder that is there now; files keep their ids by name.
    fn accept_root(&mut self, above: Epoch) -> Result<Head, SourceError> {
        // Nothing ends before there is a folder to go on with.
        drop(self.open_root()?);
        let own = Epoch::new(self.ledger.state().epoch).unwrap_or(Epoch::FIRST);
        let seed = self.ledger.write(|tx| {
            let mut seed = HashMap::new();
            let mut folders = vec![FileId::ROOT];
            while let Some(folder) = folders.pop() {
                for entry in tx.map.list(folder, None, usize::MAX)? {
                    if entry.kind == keepshare_base::Kind::Dir {
                        folders.push(entry.file);
                    }
                    seed.insert((folder, entry.name), (entry.file, entry.kind));
                }
            }
            Ok(seed)
        })?;
        self.new_epoch(above.max(own), Some(seed))
    }
}

fn begin_epoch(tx: &mut Tx<'_>, epoch: Epoch, anew: bool) -> Result<(), SourceError> {
    tx.new_epoch(epoch)?;
    if anew {
        tx.map.clear()?;
        tx.state.root = Inode::default();
        tx.state.scanned = false;
        tx.state.base = None;
    } else if tx.state.scanned {
        let stamp = now();
        tx.append(&Change { stamp, ..Change::default() })?;
    }
    Ok(())
}
