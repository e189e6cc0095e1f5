//! Puts what a restore wrote in place.

use std::os::fd::AsFd;

use keepshare_base::{RequestId, RestoreOutcome, RestoreRow, unescape_name};
use keepshare_decide::{
    FileRecord, Inode, Known, Signature,
    agenda::NameTask,
    compose::{RestoreNote, When},
    restores::{Kept, Writers, is_still_ours, may_come_out},
};
use rustix::fs;

use super::{
    Worker, now,
    restore::{Next, Stage, beside},
    standing::{Target, away, failed},
};
use crate::{
    clock::mono,
    lease::{Lease, NoLease},
    source::{
        SourceError,
        aside::{Aside, Exchanged, Note},
        shared::Request,
        tree::Seen,
    },
};

/// Why a restore looks again.
pub(super) const MOVED: &str = "the file is being replaced again and again; try again in a moment";

impl Worker {
    /// Puts what was written in place of what is there, or where nothing is.
    pub(super) fn put(
        &mut self,
        id: RequestId,
        target: Target,
        temporary: String,
        seen: Seen,
    ) -> Result<Next, SourceError> {
        let Some(restoring) = self.restoring.get_mut(&id) else { return Ok(Next::Go) };
        if target.now.as_ref().is_some_and(|(now, ..)| now.links > 1) {
            return self.begin_filling(id, Some((temporary, seen)), target);
        }
        let kept = target.now.as_ref().map(|(now, file, record)| Kept::new(now, *file, record));
        let place = (target.parent, target.name.clone());
        let (path, restored) = (restoring.request.path.clone(), Some(seen.inode));
        let note = Note { place, path, kept, restored };
        // Before anything moves: whoever starts after a crash tells by it which of the two lies there.
        self.ledger.set_note(&temporary, &note)?;
        let Some(aside) = &self.aside else { return Err(away()) };
        let raw = unescape_name(&target.name);
        let folder = target.folder.as_fd();
        let exchanged = match target.now {
            Some(_) => aside.exchange(&temporary, folder, &raw),
            None => aside.place(&temporary, folder, &raw),
        };
        match exchanged {
            Exchanged::Done => {}
            Exchanged::Moved => return Ok(Next::Wait(MOVED)),
            Exchanged::Impossible(error) => {
                tracing::debug!(%error, "cannot exchange files here, writing into the file");
                return self.begin_filling(id, Some((temporary, seen)), target);
            }
            Exchanged::Failed(error) => return Err(failed(error)),
        }
        // What lies there is not ours to discard any more.
        restoring.stage = Stage::New;
        if target.now.is_none() {
            self.discard(temporary);
            return self.in_place(id, &target, &seen);
        }
        let was = target.now.as_ref().map(|(now, ..)| now.inode);
        // Whoever was allowed to replace one file was not allowed to replace another.
        let may_be_other = restoring.request.ground.is_none();
        let is_right = |out: &Seen| may_come_out(out, was, may_be_other);
        match aside.look(&temporary) {
            Ok(Some(out)) if is_right(&out) => {
                self.add_replaced(temporary, note, Some(id));
                let target =
                    Target { now: target.now.filter(|_| was == Some(out.inode)), ..target };
                self.in_place(id, &target, &seen)
            }
            // A folder, a file that has got a second name meanwhile, or one that was not asked for: it stays where it was.
            Ok(out) => {
                let out = out.map(|out| out.inode);
                self.take_back(id, &target, temporary, note, (&seen, out))
            }
            Err(error) => {
                self.add_replaced(temporary, note, None);
                Err(failed(error))
            }
        }
    }

    /// Undoes an exchange.
    fn take_back(
        &mut self,
        id: RequestId,
        target: &Target,
        temporary: String,
        note: Note,
        (seen, out): (&Seen, Option<Inode>),
    ) -> Result<Next, SourceError> {
        let Some(aside) = &self.aside else { return Err(away()) };
        let raw = unescape_name(&target.name);
        let is_back = put_back(aside, &temporary, target.folder.as_fd(), &raw);
        let (writers, back) = look_at(aside, &temporary);
        let exact_times = self.attached.as_ref().is_some_and(|attached| attached.exact_times);
        let when = When { stamp: now(), now: mono(), exact_times };
        let is_written = is_back && back.is_some_and(|back| back.inode == seen.inode);
        let Some(restoring) = self.restoring.get_mut(&id) else { return Ok(Next::Go) };
        if is_written && back.is_some_and(|back| is_still_ours(seen, &back, writers, when)) {
            restoring.stage = Stage::Ready(temporary, *seen);
            return Ok(Next::Wait(MOVED));
        }
        // Somebody replaced in that moment what was restored, or wrote into it: what came out is theirs.
        let note = Note { kept: None, ..note };
        let noted = if is_written {
            // What stands at the name again was restored to it: what lies here is not to be discarded after a crash either.
            let restored = out.or(Some(Inode::default()));
            self.ledger.set_note(&temporary, &Note { restored, ..note.clone() })
        } else {
            Ok(())
        };
        self.add_replaced(temporary, note, None);
        noted.map(|()| Next::Wait(MOVED))
    }

    /// Has what is in place journaled, and the folder written to disk meanwhile.
    pub(super) fn in_place(
        &mut self,
        id: RequestId,
        target: &Target,
        seen: &Seen,
    ) -> Result<Next, SourceError> {
        self.placed(id, target, seen, RestoreOutcome::Written)?;
        let folder = target.folder.try_clone().map_err(failed)?;
        let private = self.aside.as_ref().and_then(|aside| aside.folder().try_clone().ok());
        beside(&self.shared, move || {
            let synced = fs::fsync(&folder)
                .and_then(|()| private.map_or(Ok(()), |private| fs::fsync(&private)));
            Request::Synced(id, synced.map_err(Into::into))
        })?;
        Ok(Next::Go)
    }

    /// Makes the object in place known as the file that stood there, or as a new one, and has it journaled.
    pub(super) fn placed(
        &mut self,
        id: RequestId,
        target: &Target,
        seen: &Seen,
        outcome: RestoreOutcome,
    ) -> Result<(), SourceError> {
        let Some(restoring) = self.restoring.get_mut(&id) else { return Ok(()) };
        restoring.stage = Stage::Placed { synced: false, answer: None };
        let request = &restoring.request;
        let row = RestoreRow { request: id, version: request.version, outcome };
        let place = (target.parent, target.name.clone());
        let (user, meta) = (request.user.clone(), request.meta.clone());
        let born = target.now.is_none();
        let known = target.now.as_ref().map(|(_, file, _)| *file);
        let file = self.ledger.write(|tx| {
            let known = match known {
                Some(file) => tx.map.record(file)?.map(|record| (file, record)),
                None => None,
            };
            let (file, mut record) = match known {
                Some(known) => known,
                None => (tx.new_file()?, FileRecord::new(seen.inode, Signature::default(), meta)),
            };
            record.signature = Signature::default();
            tx.map.rebind(file, record, seen.inode)?;
            Ok(file)
        })?;
        self.is_whole(file, &place);
        // What is being read of the file until now would be taken for what was restored.
        self.pending.break_transfer(file);
        self.pending.restores.insert(file, RestoreNote { row, user, place, born });
        self.pending.agenda.add_name(target.parent, target.name.clone(), NameTask::default());
        Ok(())
    }
}

/// Looks at a file of the private folder, and who can write to it.
fn look_at(aside: &Aside, name: &str) -> (Writers, Option<Seen>) {
    let lease = aside.open(name).map(Lease::read);
    let writers = match &lease {
        Ok(Ok(_)) => Writers::Nobody,
        Ok(Err(NoLease::Open)) => Writers::Somebody,
        Ok(Err(NoLease::Unknown(_))) | Err(_) => Writers::Unknown,
    };
    (writers, aside.look(name).ok().flatten())
}

/// Puts what came out of an exchange back; tells whether it is where it was.
pub(super) fn put_back(
    aside: &Aside,
    temporary: &str,
    folder: std::os::fd::BorrowedFd<'_>,
    raw: &[u8],
) -> bool {
    match aside.exchange(temporary, folder, raw) {
        Exchanged::Done => true,
        Exchanged::Moved | Exchanged::Impossible(_) | Exchanged::Failed(_) => {
            matches!(aside.place(temporary, folder, raw), Exchanged::Done)
        }
    }
}

/// Makes the file that a restore had replaced when the process ended known by what stands at its name now.
pub(super) fn rebind_after_crash(
    worker: &mut Worker,
    kept: &Kept,
    restored: Inode,
) -> Result<(), SourceError> {
    worker.ledger.write(|tx| match tx.map.record(kept.file)? {
        Some(mut record) if record.inode == kept.inode => {
            record.signature = Signature::default();
            tx.map.rebind(kept.file, record, restored)
        }
        _ => Ok(()),
    })
}
