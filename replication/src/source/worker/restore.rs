//! Restores on their way: each is looked at, written beside the live file by a thread of its own, put in place, journaled
//! and answered.
//!
//! The content goes into the source's private folder and is exchanged with the live file, so that nobody sees half a
//! file, and nothing is lost that was saved while it was written: what comes out of the exchange is looked at again
//! ([`super::replaced`]). Only where that cannot be done is a file written where it is, while nobody else has it open: a
//! file with several names, whose other names would keep the old content, and file systems that cannot exchange. Either
//! way the file keeps its id, and its history goes on. The change that carries it is journaled even when the bytes were
//! equal, with the answer to the request in the same transaction.

use std::{
    io,
    os::fd::AsFd,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use keepshare_base::{FileId, Kind, RequestId, RestoreOutcome, RestoreRow};
use keepshare_decide::{
    At, FileRecord,
    agenda::{FileTask, NameTask},
};
use keepshare_proto::Act;

use super::{
    Worker, chain,
    standing::{Standing, Stands, TAKEN, Target, Unkept, away, failed, refused},
};
use crate::capture::Touch;
use crate::source::{
    FileProblem, RestoreAnswer, RestoreRequest, SourceError,
    aside::{Note, is_impossible, random_name},
    ledger::Tx,
    shared::{Reply, Request, Shared},
    tree::{Seen, Tree},
    writing::{self, Wrote},
};

/// How often it is looked whether a restore that waits can go on.
pub(super) const WAITING_LOOK: Duration = Duration::from_millis(20);

/// The most restores under way, each of which may have a thread.
const RESTORES_MAX: usize = 64;

/// The most who wait for one restore.
const ASKERS_MAX: usize = 16;

/// A restore that is under way.
#[derive(Debug)]
pub(super) struct Restoring {
    pub(super) request: Box<RestoreRequest>,
    replies: Vec<Reply<RestoreAnswer>>,
    /// When waiting ends.
    pub(super) until: Instant,
    /// When it is looked at again.
    pub(super) next: Instant,
    /// Which thread it listens to: the answers of others come too late.
    pub(super) attempt: Attempt,
    pub(super) stage: Stage,
}

/// Counts what threads were asked for.
pub(crate) type Attempt = u64;

/// How far a restore is.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there are as many as restores under way: few")]
pub(super) enum Stage {
    /// Nothing was written.
    New,
    /// The content is written into this file of the private folder.
    Writing(String),
    /// It lies ready there.
    Ready(String, Seen),
    /// The live file is written where it is.
    Filling(Option<(String, Seen)>, Target),
    /// It is in place: answered when it is journaled and on disk; an act when it is on disk.
    Placed {
        /// The folders are on disk.
        synced: bool,
        /// What the journal says.
        answer: Option<RestoreAnswer>,
    },
}

/// What a restore does next.
pub(super) enum Next {
    /// Something else will say.
    Go,
    /// It looks again in a while.
    Wait(&'static str),
    /// It was done before.
    Answer(RestoreAnswer),
}

/// What is found where a restore goes.
#[expect(clippy::large_enum_variant, reason = "looked at once and taken apart")]
enum Look {
    /// This very request was answered before.
    Answered(RestoreAnswer),
    /// Something that was not looked at yet, or is no version yet: what was saved a moment ago must not be lost.
    Unkept(Unkept),
    /// The place.
    Target(Target),
}

impl Worker {
    /// Begins a restore, or waits for the same one.
    pub(super) fn restore(&mut self, request: Box<RestoreRequest>, reply: Reply<RestoreAnswer>) {
        let id = request.request;
        if let Some(restoring) = self.restoring.get_mut(&id) {
            if restoring.replies.len() < ASKERS_MAX {
                restoring.replies.push(reply);
            }
            return;
        }
        if self.restoring.len() >= RESTORES_MAX {
            let text = "too many restores are under way; try again in a moment";
            return drop(reply.send(Err(SourceError::NotNow(text.to_owned()))));
        }
        let next = Instant::now();
        let until = next + self.shared.config.restores.patience;
        let (replies, stage) = (vec![reply], Stage::New);
        let restoring = Restoring { request, replies, until, next, attempt: 0, stage };
        self.restoring.insert(id, restoring);
        self.advance(id);
    }

    /// Looks again at the restores that wait.
    pub(super) fn take_waiting(&mut self) {
        let now = Instant::now();
        let is_due = |restoring: &Restoring| restoring.is_waiting() && restoring.next <= now;
        let waiting = self.restoring.iter().filter(|(_, restoring)| is_due(restoring));
        let waiting: Vec<RequestId> = waiting.map(|(id, _)| *id).collect();
        waiting.into_iter().for_each(|id| self.advance(id));
    }

    /// Tells whether a restore waits for something that nobody tells of.
    pub(super) fn has_waiting(&self) -> bool {
        self.restoring.values().any(Restoring::is_waiting)
    }

    /// Takes what a thread wrote beside the live file.
    pub(super) fn wrote(&mut self, id: RequestId, attempt: Attempt, wrote: io::Result<Wrote>) {
        let restoring = self.restoring.get_mut(&id);
        let Some(restoring) = restoring.filter(|restoring| restoring.attempt == attempt) else {
            return;
        };
        let Stage::Writing(temporary) = &restoring.stage else { return };
        let temporary = temporary.clone();
        match wrote {
            Ok(Wrote::New(seen)) => {
                restoring.stage = Stage::Ready(temporary, seen);
                restoring.until = Instant::now() + self.shared.config.restores.patience;
                self.advance(id);
            }
            Ok(Wrote::Equal) => {
                restoring.stage = Stage::New;
                self.discard(temporary);
                match self.is_equal(id) {
                    Ok(true) => {}
                    Ok(false) => self.advance(id),
                    Err(error) => self.end_restore(id, error),
                }
            }
            Err(error) => self.end_restore(id, failed(error)),
        }
    }

    /// Hears that the folder of a restore is on disk.
    pub(super) fn synced(&mut self, id: RequestId, done: io::Result<()>) {
        if let Err(error) = done {
            return self.end_restore(id, failed(error));
        }
        if let Some(Restoring { stage: Stage::Placed { synced, .. }, .. }) =
            self.restoring.get_mut(&id)
        {
            *synced = true;
        }
        self.answer_restore(id);
    }

    /// Hears which restores are journaled now.
    pub(super) fn answer_restores(&mut self, restored: Vec<(RestoreRow, RestoreAnswer)>) {
        for (row, journaled) in restored {
            self.pending.restores.retain(|_, note| note.row.request != row.request);
            if let Some(Restoring { stage: Stage::Placed { answer, .. }, .. }) =
                self.restoring.get_mut(&row.request)
            {
                *answer = Some(journaled);
            }
            self.answer_restore(row.request);
        }
    }

    /// Answers those whose files went again before they were journaled, or cannot be read.
    pub(super) fn break_restores(&mut self, lost: &[FileId], problems: &[(At, FileProblem)]) {
        self.lost_torn(lost);
        if self.pending.restores.is_empty() {
            return;
        }
        let mut broken: Vec<(FileId, String)> = lost
            .iter()
            .map(|file| (*file, "the file was removed while it was restored".to_owned()))
            .collect();
        for ((parent, name), problem) in problems {
            let Some(name) = name else { continue };
            for (file, note) in &self.pending.restores {
                if note.place == (*parent, name.clone()) {
                    broken.push((*file, problem.reason.clone()));
                }
            }
        }
        for (file, reason) in broken {
            let Some(note) = self.pending.restores.remove(&file) else { continue };
            self.end_restore(note.row.request, refused(reason));
        }
    }

    /// Does the next step of a restore that waits or is new.
    pub(super) fn advance(&mut self, id: RequestId) {
        let next = self.step(id);
        let Some(restoring) = self.restoring.get_mut(&id) else { return };
        match next {
            Ok(Next::Go) => {}
            Ok(Next::Wait(why)) => {
                restoring.next = restoring.next.max(Instant::now() + WAITING_LOOK);
                if Instant::now() >= restoring.until {
                    // While nothing can be journaled nothing becomes known as it is, nor a version.
                    let is_short = self.ledger.check_space().err();
                    self.end_restore(id, is_short.unwrap_or_else(|| refused(why)));
                }
            }
            Ok(Next::Answer(answer)) => {
                let stage = std::mem::replace(
                    &mut restoring.stage,
                    Stage::Placed { synced: true, answer: Some(answer) },
                );
                self.discard_of(stage);
                self.answer_restore(id);
            }
            Err(error) => self.end_restore(id, error),
        }
    }

    fn step(&mut self, id: RequestId) -> Result<Next, SourceError> {
        let Some(restoring) = self.restoring.get(&id) else { return Ok(Next::Go) };
        if self.attached.is_some() && !self.ledger.state().scanned {
            // The map does not have all that is there.
            return Err(SourceError::NotLooked);
        }
        if restoring.request.act != Act::Write {
            return self.act(id);
        }
        let ready = match &restoring.stage {
            Stage::New => None,
            Stage::Ready(temporary, seen) => Some((temporary.clone(), *seen)),
            Stage::Writing(_) | Stage::Filling(..) | Stage::Placed { .. } => return Ok(Next::Go),
        };
        let target = match self.look_for(id, ready.is_none())? {
            Look::Answered(answer) => return Ok(Next::Answer(answer)),
            Look::Unkept(unkept) => return Ok(self.wait_for(unkept)),
            Look::Target(target) => target,
        };
        match ready {
            Some((temporary, seen)) => self.put(id, target, temporary, seen),
            None => self.begin_writing(id, target),
        }
    }

    /// Has something looked at that is not known as it is, or is no version.
    pub(super) fn wait_for(&mut self, unkept: Unkept) -> Next {
        let Unkept { parent, name, file, why } = unkept;
        self.pending.agenda.add_name(parent, name, NameTask::default());
        if let Some(file) = file {
            // What is there becomes a version now, whoever has it open.
            let touch = Touch { closed: true, ..Touch::default() };
            self.pending.agenda.add_file(file, FileTask { touch, ..FileTask::default() });
        }
        Next::Wait(why)
    }

    fn look_for(&mut self, id: RequestId, may_be_done: bool) -> Result<Look, SourceError> {
        let Some(attached) = &self.attached else {
            return Err(away());
        };
        let tree = attached.tree.clone();
        let Some(restoring) = self.restoring.get(&id) else { return Err(SourceError::Closed) };
        let request = &restoring.request;
        self.ledger.write(|tx| look(tx, &tree, request, may_be_done))
    }

    /// Has a thread write the content beside the live file.
    fn begin_writing(&mut self, id: RequestId, target: Target) -> Result<Next, SourceError> {
        match self.open_aside() {
            Ok(()) => {}
            Err(SourceError::Io { source, .. }) if is_impossible(&source) => {
                tracing::debug!(error = %source, "no private folder in the source, writing into the file");
                return self.begin_filling(id, None, target);
            }
            // What may go by is no reason to write where others look.
            Err(error) => return Err(not_opened(error)),
        }
        let Some(restoring) = self.restoring.get_mut(&id) else { return Ok(Next::Go) };
        let temporary = random_name().map_err(failed)?;
        let (place, path) = ((target.parent, target.name.clone()), restoring.request.path.clone());
        self.ledger.set_note(&temporary, &Note { place, path, kept: None, restored: None })?;
        let created = self.aside.as_ref().map(|aside| aside.create(&temporary));
        let file = match created {
            Some(Ok(file)) => file,
            Some(Err(error)) => {
                self.discard(temporary);
                return Err(failed(error));
            }
            None => return Err(away()),
        };
        let Some(attached) = &self.attached else { return Err(away()) };
        let tree = attached.tree.clone();
        self.attempts += 1;
        let attempt = self.attempts;
        (restoring.attempt, restoring.stage) = (attempt, Stage::Writing(temporary));
        let (content, meta) = (restoring.request.content.clone(), restoring.request.meta.clone());
        let name = target.name;
        let live = match target.now {
            Some((seen, _, record)) if writing::has_attributes(&record.meta, &meta) => {
                Some((target.folder, name, seen.signature))
            }
            _ => None,
        };
        beside(&self.shared, move || {
            let is_equal = live.is_some_and(|(folder, name, now)| {
                writing::is_equal(folder.as_fd(), &name, now, &content)
            });
            let wrote = if is_equal {
                Ok(Wrote::Equal)
            } else {
                writing::copy(&tree, file, &content, &meta).map(Wrote::New)
            };
            Request::Wrote(id, attempt, wrote)
        })?;
        Ok(Next::Go)
    }

    /// Has it journaled that the live file is the version already; `false` where it is not any more.
    fn is_equal(&mut self, id: RequestId) -> Result<bool, SourceError> {
        let Look::Target(target) = self.look_for(id, true)? else { return Ok(false) };
        let Some(restoring) = self.restoring.get(&id) else { return Ok(false) };
        match &target.now {
            Some((seen, _, record))
                if writing::has_attributes(&record.meta, &restoring.request.meta) =>
            {
                let seen = *seen;
                self.placed(id, &target, &seen, RestoreOutcome::Equal)?;
                self.synced(id, Ok(()));
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Answers a restore that is journaled and on disk.
    fn answer_restore(&mut self, id: RequestId) {
        let Some(Restoring { stage: Stage::Placed { synced: true, answer: Some(answer) }, .. }) =
            self.restoring.get(&id)
        else {
            return;
        };
        let answer = RestoreAnswer { still_open: self.is_still_open(id), ..answer.clone() };
        for reply in self.restoring.remove(&id).into_iter().flat_map(|restoring| restoring.replies)
        {
            // Whoever asked may have gone away.
            let _ = reply.send(Ok(answer.clone()));
        }
    }

    /// Gives a restore up.
    pub(super) fn end_restore(&mut self, id: RequestId, error: SourceError) {
        let Some(restoring) = self.restoring.remove(&id) else { return };
        self.discard_of(restoring.stage);
        let again = || match &error {
            SourceError::Refused(reason) => refused(reason.clone()),
            SourceError::NoRoom(reason) => SourceError::NoRoom(reason.clone()),
            error if error.is_for_now() => SourceError::NotNow(chain(error)),
            error => refused(chain(error)),
        };
        let others: Vec<_> = restoring.replies.iter().skip(1).map(|_| again()).collect();
        for (reply, error) in restoring.replies.iter().zip([error].into_iter().chain(others)) {
            let _ = reply.send(Err(error));
        }
    }

    /// Lets go of all restores, as the folder is let go of: whoever waits asks again under the same id.
    pub(super) fn end_restores(&mut self) {
        for reply in self.restoring.drain().flat_map(|(_, restoring)| restoring.replies) {
            let _ = reply.send(Err(away()));
        }
    }

    fn discard_of(&mut self, stage: Stage) {
        match stage {
            Stage::Writing(temporary)
            | Stage::Ready(temporary, _)
            | Stage::Filling(Some((temporary, _)), _) => self.discard(temporary),
            Stage::New | Stage::Filling(None, _) | Stage::Placed { .. } => {}
        }
    }
}

impl Restoring {
    fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::New | Stage::Ready(..))
    }
}

/// Does something long on a thread of its own, and has the source's thread take what came of it.
pub(super) fn beside(
    shared: &Arc<Shared>,
    work: impl FnOnce() -> Request + Send + 'static,
) -> Result<(), SourceError> {
    let to = shared.clone();
    let run = move || to.request(work());
    match thread::Builder::new().name(format!("restore-{}", shared.config.set)).spawn(run) {
        Ok(_) => Ok(()),
        Err(error) => Err(SourceError::NotNow(format!("cannot start a thread: {error}"))),
    }
}

/// Says why the private folder is not there.
pub(super) fn not_opened(error: SourceError) -> SourceError {
    match error {
        SourceError::Io { what, source } => match failed(source) {
            SourceError::NoRoom(why) => SourceError::NoRoom(format!("{what}: {why}")),
            SourceError::NotNow(why) => SourceError::NotNow(format!("{what}: {why}")),
            SourceError::Refused(why) => refused(format!("{what}: {why}")),
            error => error,
        },
        error => error,
    }
}

/// Finds the place of a restore, and whether it is what it was when the restore was allowed; or, where it may be done already, what it is
/// to be: whoever had it put there may have ended, or let go of the folder, before it was journaled that they had.
fn look(
    tx: &mut Tx<'_>,
    tree: &Tree,
    request: &RestoreRequest,
    may_be_done: bool,
) -> Result<Look, SourceError> {
    if let Some(answer) = tx.restore(request.request)? {
        return Ok(Look::Answered(answer));
    }
    if request.meta.kind != Kind::File {
        return Err(refused("only files are restored in place"));
    }
    let at = Standing::find(tx, tree, &request.path)?;
    if at.seen.is_some_and(|seen| seen.kind != Kind::File) {
        return Err(refused(TAKEN));
    }
    let stands = match (at.check(request.ground.as_ref()), &request.ground) {
        (Err(SourceError::Refused(why)), Some(ground)) => {
            at.check_folder(ground)?;
            let is_as_wanted = |(_, record): &(FileId, FileRecord)| {
                record.meta.size == request.meta.size
                    && writing::has_attributes(&record.meta, &request.meta)
            };
            if !may_be_done || !at.known.as_ref().is_some_and(is_as_wanted) {
                return Err(refused(why));
            }
            at.check(None)?
        }
        (stands, _) => stands?,
    };
    Ok(match stands {
        Stands::Unkept(unkept) => Look::Unkept(unkept),
        Stands::As(now) => {
            let Standing { folder, parent, name, .. } = at;
            Look::Target(Target { folder, parent, name, now })
        }
    })
}
