//! Restores that are written where they are to be: into the live file, or into a new file at its name.
//!
//! Each is noted, durably, before its first byte: where it is cut off in the middle, the file is half of one version and
//! half of another, is captured so, and a person is told.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use keepshare_base::{FileId, Name, RequestId};
use keepshare_decide::{
    Known,
    agenda::{FileTask, NameTask},
    restores::Kept,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    Worker, chain,
    placing::MOVED,
    restore::{Attempt, Next, Stage, beside},
    standing::{Target, UNKEPT, away, failed, refused},
};
use crate::{
    capture::Touch,
    clock::mono,
    source::{
        PROBLEMS_MAX, SourceError,
        aside::{Note, random_name},
        filling::{self, Fill, FillLimits, Filled},
        folders::Folders,
        shared::{Request, lock},
        tree::{AtName, Seen, Tree},
    },
};

/// Capture leaves a file alone for so long while a restore writes into it; the end of that is told.
const FILLING_MAX: Duration = Duration::from_secs(3600);

/// How often it is tried to write into a file that is open.
const OPEN_LOOK: Duration = Duration::from_millis(200);

/// So long the process waits at its end for what was begun.
const END_MAX: Duration = Duration::from_secs(30);

/// How notes of what is written where it is begin, unlike the names of files in the private folder.
const NOTE_PREFIX: &str = "in-place~";

/// Why a restore waits for what somebody has open.
const OPEN: &str =
    "the file is open in a program, and can only be restored where it is; close it and try again";

/// What is written where it is.
#[derive(Debug, Default)]
pub(super) struct Fills {
    /// By the attempt that writes: the note, and the file where there was one.
    running: HashMap<Attempt, (String, Note)>,
    /// What was cut off, by note.
    torn: BTreeMap<String, Note>,
    /// Nothing more is begun.
    ending: Arc<AtomicBool>,
}

impl Fills {
    /// Tells whether a file is being written to.
    pub(super) fn holds(&self, file: FileId) -> bool {
        self.running.values().any(|(_, note)| file_of(note) == Some(file))
    }
}

impl Worker {
    /// Has a thread write into the live file, or make one.
    pub(super) fn begin_filling(
        &mut self,
        id: RequestId,
        written: Option<(String, Seen)>,
        target: Target,
    ) -> Result<Next, SourceError> {
        let Some(attached) = &self.attached else { return Err(away()) };
        let tree = attached.tree.clone();
        if let Some((_, file, record)) = &target.now {
            if self.fills.holds(*file) {
                return Ok(Next::Wait(OPEN));
            }
            // What nobody has read yet is no version yet, and nothing is left of it here.
            let is_fuzzy = record.told.as_ref().is_some_and(|told| told.fuzzy);
            if record.hash.is_none() && (!record.blocks || is_fuzzy) {
                let touch = Touch { closed: true, ..Touch::default() };
                let task = FileTask { touch, verify: true, ..FileTask::default() };
                self.pending.agenda.add_file(*file, task);
                return Ok(Next::Wait(UNKEPT));
            }
        }
        let Some(restoring) = self.restoring.get_mut(&id) else { return Ok(Next::Go) };
        let folder = target.folder.try_clone().map_err(failed)?;
        let request = &restoring.request;
        let (content, meta) = (request.content.clone(), request.meta.clone());
        let name = target.name.clone();
        let now =
            target.now.as_ref().map(|(now, file, record)| (*now, Kept::new(now, *file, record)));
        let random = random_name().map_err(failed)?;
        let noted = format!("{NOTE_PREFIX}{random}");
        let place = (target.parent, name.clone());
        let kept = now.as_ref().map(|(_, kept)| *kept);
        let note = Note { place, path: request.path.clone(), kept, restored: None };
        self.ledger.set_note(&noted, &note)?;
        if let Some(file) = file_of(&note) {
            // Reading it would have whoever holds the lease hurry.
            self.pending.agenda.rest(file, mono() + FILLING_MAX);
            lock(&self.shared.sweep).leave(file);
        }
        self.attempts += 1;
        let attempt = self.attempts;
        (restoring.attempt, restoring.stage) = (attempt, Stage::Filling(written, target));
        self.fills.running.insert(attempt, (noted, note));
        let ending = self.fills.ending.clone();
        let begun = beside(&self.shared, move || {
            let filled = match &now {
                Some((now, kept)) => {
                    let limits = FillLimits::of_this_system();
                    let (content, meta, ending) = (content.as_path(), &meta, &*ending);
                    let fill = Fill { now, kept, content, meta, limits, ending };
                    filling::fill(&tree, folder.as_fd(), &name, &fill)
                }
                None => match filling::create(&tree, folder.as_fd(), &name, &content, &meta) {
                    Ok(seen) => Ok(Filled::Done(seen)),
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        Ok(Filled::Differs)
                    }
                    Err(error) => Err(error),
                },
            };
            Request::Filled(id, attempt, filled)
        });
        if begun.is_err() {
            self.end_fill(attempt, false);
        }
        begun.map(|()| Next::Go)
    }

    /// Takes what a thread wrote into the live file.
    pub(super) fn filled(&mut self, id: RequestId, attempt: Attempt, filled: io::Result<Filled>) {
        self.end_fill(attempt, matches!(filled, Ok(Filled::Torn(_))));
        let restoring = self.restoring.get_mut(&id);
        let Some(restoring) = restoring.filter(|restoring| restoring.attempt == attempt) else {
            return;
        };
        let Stage::Filling(written, target) = std::mem::replace(&mut restoring.stage, Stage::New)
        else {
            return;
        };
        if let Some((_, file, _)) = &target.now {
            self.pending.agenda.forget_later(*file);
            let verify = !matches!(filled, Ok(Filled::Done(_) | Filled::Open));
            self.pending.agenda.add_file(*file, FileTask { verify, ..FileTask::default() });
        }
        self.pending.agenda.add_name(target.parent, target.name.clone(), NameTask::default());
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
            Ok(Filled::Torn(error)) => {
                let text = format!(
                    "{error}; it is half of one version and half of another by now: restore it again"
                );
                return self.end_filled(id, written, refused(text));
            }
            Err(error) => return self.end_filled(id, written, failed(error)),
        };
        if let Some((temporary, seen)) = written {
            restoring.stage = Stage::Ready(temporary, seen);
        }
        restoring.next = Instant::now() + OPEN_LOOK;
        if Instant::now() >= restoring.until {
            self.end_restore(id, refused(why));
        }
    }

    fn end_filled(&mut self, id: RequestId, written: Option<(String, Seen)>, why: SourceError) {
        if let Some((temporary, _)) = written {
            self.discard(temporary);
        }
        self.end_restore(id, why);
    }

    /// Hears that a thread has ended that wrote into a live file.
    fn end_fill(&mut self, attempt: Attempt, is_torn: bool) {
        let Some((noted, note)) = self.fills.running.remove(&attempt) else { return };
        if let Some(file) = file_of(&note) {
            lock(&self.shared.sweep).take_up(file);
            self.pending.agenda.end_rest(file);
        }
        if is_torn {
            self.fills.torn.insert(noted, note);
            self.show_torn();
        } else {
            self.forget_fill(&noted);
        }
    }

    /// Takes over the notes of what was cut off when the process ended; returns the others.
    pub(super) fn find_torn(
        &mut self,
        tree: &Tree,
        notes: Vec<(String, Note)>,
    ) -> Result<Vec<(String, Note)>, SourceError> {
        let is_fill = |(name, _): &(String, Note)| name.starts_with(NOTE_PREFIX);
        let (fills, others) = notes.into_iter().partition::<Vec<_>, _>(is_fill);
        self.fills.torn.clear();
        for (noted, note) in fills {
            if self.fills.running.values().any(|(running, _)| *running == noted) {
                continue;
            }
            if self.may_be_torn(tree, &note)? {
                self.fills.torn.insert(noted, note);
            } else {
                self.forget_fill(&noted);
            }
        }
        self.show_torn();
        Ok(others)
    }

    fn may_be_torn(&mut self, tree: &Tree, note: &Note) -> Result<bool, SourceError> {
        let (parent, name) = &note.place;
        self.ledger.write(|tx| {
            let folder = Folders::default().open(&tx.map, tree, *parent)?;
            // Elsewhere a new file gets its name when it is whole.
            let is_named =
                folder.as_ref().is_some_and(|folder| !filling::makes_unnamed(folder.as_fd()));
            let found = folder.and_then(|folder| tree.look(folder.as_fd(), name).ok());
            let Some(kept) = &note.kept else {
                return Ok(is_named && matches!(found, Some(AtName::Object(_))));
            };
            let known = tx.map.record(kept.file)?;
            let is_there = known.is_some_and(|record| record.inode == kept.inode);
            let is_untouched = matches!(&found, Some(AtName::Object(seen)) if kept.is_still(seen));
            Ok(is_there && !is_untouched)
        })
    }

    /// Forgets that these files were cut off in the middle: they are gone, or a restore made them whole.
    pub(super) fn forget_torn(&mut self, is_over: impl Fn(&Note) -> bool) {
        let over = self.fills.torn.iter().filter(|(_, note)| is_over(note));
        let over: Vec<String> = over.map(|(noted, _)| noted.clone()).collect();
        for noted in &over {
            self.fills.torn.remove(noted);
            self.forget_fill(noted);
        }
        if !over.is_empty() {
            self.show_torn();
        }
    }

    /// Forgets it of what a restore has just put in place.
    pub(super) fn is_whole(&mut self, file: FileId, place: &(FileId, Name)) {
        self.forget_torn(|note| file_of(note) == Some(file) || note.place == *place);
    }

    /// Forgets it of files that are gone.
    pub(super) fn lost_torn(&mut self, lost: &[FileId]) {
        self.forget_torn(|note| file_of(note).is_some_and(|file| lost.contains(&file)));
    }

    /// Waits, at the end, for what was begun: half a file is worse than a moment.
    pub(super) fn end_fills(&mut self) {
        self.fills.ending.store(true, Ordering::Relaxed);
        let until = Instant::now() + END_MAX;
        while !self.fills.running.is_empty() && Instant::now() < until {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            let wake = self.shared.wake().as_fd();
            // Interrupted or not: it is looked again.
            let _ = poll(&mut [PollFd::from_borrowed_fd(wake, PollFlags::IN)], Some(&timeout));
            for request in self.shared.take_requests() {
                if let Request::Filled(id, attempt, filled) = request {
                    self.filled(id, attempt, filled);
                }
            }
        }
    }

    fn forget_fill(&mut self, noted: &str) {
        if let Err(error) = self.ledger.forget_note(noted) {
            tracing::warn!(error = chain(&error), "cannot forget a restore's note");
        }
    }

    fn show_torn(&self) {
        let torn = self.fills.torn.values().map(|note| note.path.to_string()).take(PROBLEMS_MAX);
        lock(&self.shared.status).torn = torn.collect();
    }
}

fn file_of(note: &Note) -> Option<FileId> {
    note.kept.as_ref().map(|kept| kept.file)
}
