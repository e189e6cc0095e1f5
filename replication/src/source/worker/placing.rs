//! Puts what a restore wrote in place.

use std::{
    io,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use keepshare_base::{FileId, Kind, RequestId, RestoreOutcome, RestoreRow, unescape_name};
use rustix::fs;

use super::{
    Later, Worker,
    restore::{Attempt, Next, Stage, Target, beside, refused},
};
use crate::source::{
    SourceError,
    aside::{Aside, Exchanged, Kept, Note},
    map::{FileRecord, Inode, Signature},
    round::{FileTask, NameTask},
    shared::Request,
    ship::RestoreNote,
    tree::Seen,
    writing::{self, Filled},
};

/// Capture leaves a file alone for so long while a restore writes into it; the end of that is told.
const FILLING_MAX: Duration = Duration::from_secs(3600);

/// How often it is tried to write into a file that is open.
const OPEN_LOOK: Duration = Duration::from_millis(200);

/// Why a restore waits for what somebody has open.
const OPEN: &str =
    "the file is open in a program, and can only be restored where it is; close it and try again";

/// Why a restore looks again.
const MOVED: &str = "the file is being replaced again and again; try again in a moment";

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
        let kept = target.now.as_ref().map(|(now, file, record)| kept(now, *file, record));
        let place = (target.parent, target.name.clone());
        let (path, restored) = (restoring.request.path.clone(), Some(seen.inode));
        let note = Note { place, path, kept, restored };
        // Before anything moves: whoever starts after a crash tells by it which of the two lies there.
        self.ledger.set_note(&temporary, &note)?;
        let Some(aside) = &self.aside else { return Err(refused("the source is not there")) };
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
        let is_right = |out: &Seen| {
            let is_file = out.kind == Kind::File && out.links == 1;
            is_file && (may_be_other || was == Some(out.inode))
        };
        match aside.look(&temporary) {
            Ok(Some(out)) if is_right(&out) => {
                self.add_replaced(temporary, note, Some(id));
                let target =
                    Target { now: target.now.filter(|_| was == Some(out.inode)), ..target };
                self.in_place(id, &target, &seen)
            }
            // A folder, a file that has got a second name meanwhile, or one that was not asked for: it stays where it was.
            Ok(_) => self.take_back(id, &target, temporary, note, &seen),
            Err(error) => {
                self.add_replaced(temporary, note, None);
                Err(refused(error.to_string()))
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
        seen: &Seen,
    ) -> Result<Next, SourceError> {
        let raw = unescape_name(&target.name);
        let is_back = self
            .aside
            .as_ref()
            .is_some_and(|aside| put_back(aside, &temporary, target.folder.as_fd(), &raw));
        let out = self.aside.as_ref().and_then(|aside| aside.look(&temporary).ok().flatten());
        let Some(restoring) = self.restoring.get_mut(&id) else { return Ok(Next::Go) };
        if is_back && out.is_some_and(|out| out.inode == seen.inode) {
            restoring.stage = Stage::Ready(temporary, *seen);
            return Ok(Next::Wait(MOVED));
        }
        // Somebody replaced what was restored in that moment: what came out is theirs.
        self.add_replaced(temporary, Note { kept: None, ..note }, None);
        Ok(Next::Wait(MOVED))
    }

    /// Has a thread write into the live file, or make one.
    pub(super) fn begin_filling(
        &mut self,
        id: RequestId,
        written: Option<(String, Seen)>,
        target: Target,
    ) -> Result<Next, SourceError> {
        let Some(attached) = &self.attached else { return Err(refused("the source is not there")) };
        let tree = attached.tree.clone();
        let Some(restoring) = self.restoring.get_mut(&id) else { return Ok(Next::Go) };
        let folder = target.folder.try_clone().map_err(|error| refused(error.to_string()))?;
        let (content, meta) = (restoring.request.content.clone(), restoring.request.meta.clone());
        let name = target.name.clone();
        let now = target.now.as_ref().map(|(now, file, record)| (*now, kept(now, *file, record)));
        if let Some((_, file, _)) = &target.now {
            // Reading it would take the lease away.
            self.pending.resting.insert(*file, Instant::now() + FILLING_MAX);
        }
        self.attempts += 1;
        let attempt = self.attempts;
        (restoring.attempt, restoring.stage) = (attempt, Stage::Filling(written, target));
        beside(&self.shared, move || {
            let filled = match &now {
                Some((now, kept)) => {
                    writing::fill(&tree, folder.as_fd(), &name, now, kept, (&content, &meta))
                }
                None => match writing::create(&tree, folder.as_fd(), &name, &content, &meta) {
                    Ok(seen) => Ok(Filled::Done(seen)),
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        Ok(Filled::Differs)
                    }
                    Err(error) => Err(error),
                },
            };
            Request::Filled(id, attempt, filled)
        })?;
        Ok(Next::Go)
    }

    /// Takes what a thread wrote into the live file.
    pub(super) fn filled(&mut self, id: RequestId, attempt: Attempt, filled: io::Result<Filled>) {
        let restoring = self.restoring.get_mut(&id);
        let Some(restoring) = restoring.filter(|restoring| restoring.attempt == attempt) else {
            return;
        };
        let Stage::Filling(written, target) = std::mem::replace(&mut restoring.stage, Stage::New)
        else {
            return;
        };
        if let Some((_, file, _)) = &target.now {
            self.pending.resting.remove(file);
            for later in self.later.values_mut() {
                later.retain(|later| !matches!(later, Later::File(other, _) if other == file));
            }
            self.later.retain(|_, later| !later.is_empty());
            self.pending.add_file(*file, FileTask::default());
            if !matches!(filled, Ok(Filled::Done(_) | Filled::Open)) {
                let task = FileTask { verify: true, ..FileTask::default() };
                self.pending.add_file(*file, task);
            }
        }
        self.pending.add_name(target.parent, target.name.clone(), NameTask::default());
        let why = match filled {
            Ok(Filled::Done(seen)) => {
                if let Some((temporary, _)) = written {
                    self.discard(temporary);
                }
                if let Err(error) = self.in_place(id, &target, &seen) {
                    self.end_restore(id, error);
                }
                return;
            }
            Ok(Filled::Open) => OPEN,
            Ok(Filled::Differs) => MOVED,
            Err(error) => {
                if let Some((temporary, _)) = written {
                    self.discard(temporary);
                }
                return self.end_restore(id, refused(error.to_string()));
            }
        };
        if let Some((temporary, seen)) = written {
            restoring.stage = Stage::Ready(temporary, seen);
        }
        restoring.next = Instant::now() + OPEN_LOOK;
        if Instant::now() >= restoring.until {
            self.end_restore(id, refused(why));
        }
    }

    /// Has what is in place journaled, and the folder written to disk meanwhile.
    fn in_place(
        &mut self,
        id: RequestId,
        target: &Target,
        seen: &Seen,
    ) -> Result<Next, SourceError> {
        self.placed(id, target, seen, RestoreOutcome::Written)?;
        let folder = target.folder.try_clone().map_err(|error| refused(error.to_string()))?;
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
        // What is being read of the file until now would be taken for what was restored.
        self.pending.break_transfer(file);
        self.pending.restores.insert(file, RestoreNote { row, user, place, born });
        self.pending.add_name(target.parent, target.name.clone(), NameTask::default());
        Ok(())
    }
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
        Exchanged::Moved | Exchanged::Impossible(_) => {
            matches!(aside.place(temporary, folder, raw), Exchanged::Done)
        }
    }
}

fn kept(seen: &Seen, file: FileId, record: &FileRecord) -> Kept {
    let (size, mtime) = (seen.signature.size, seen.signature.mtime);
    Kept { file, inode: seen.inode, size, mtime, hash: record.hash }
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
