//! One turn: one transaction's worth of looking, deciding and journaling.
//!
//! What is due on the agenda is surveyed and decided about ([`Turn::look`]), contents that may differ are read and composed
//! into changes ([`Turn::compose`]), and all of it becomes durable together. Big files are read a part in each turn
//! ([`super::reading`]).

use std::collections::BTreeMap;

use keepshare_base::{Change, FileId, Kind, Name};
use keepshare_decide::{
    At,
    agenda::{self, FileTask, NameTask},
    compose::{Composed, Composer, Got, Row, STEPLESS_BYTES_MAX, Want, When, cutting::Cutting},
    look::{self, Findings, Look, More, SeenFile},
};

use super::{
    Attached, Worker,
    noted::{NotedFile, noted, unusable_reason},
    now,
};
use crate::{
    capture::Capture,
    clock::mono,
    source::{
        FileProblem, RestoreAnswer, SourceAlarm, SourceError,
        keeping::Version,
        ledger::Tx,
        pending::Pending,
        shared::{Phase, lock},
        survey::{Reading, Survey},
        transfer::Step,
        tree,
    },
};
use std::os::fd::AsFd;

/// The most names and files looked at in one turn.
pub(super) const TASKS_PER_TURN: usize = 1024;

/// The most folders gone through in one turn, which ends when there are names enough for it.
const FOLDERS_PER_TURN: usize = 256;

/// A scan is made durable once in so many turns.
const DURABLE_TURNS: u64 = 64;

/// What a turn works with.
pub(super) struct Turn<'a, 't> {
    pub(super) tx: &'a mut Tx<'t>,
    pub(super) pending: &'a mut Pending,
    pub(super) survey: Survey<'a>,
    capture: &'a mut dyn Capture,
    pub(super) cutting: &'a mut Cutting,
    pub(super) when: When,
    pub(super) left: Left,
}

/// What a turn leaves to be done when it is durable.
#[derive(Default)]
pub(super) struct Left {
    pub(super) composed: Composed,
    /// What was looked at.
    looked: Vec<At>,
    problems: Vec<(At, FileProblem)>,
    /// Names that are replicated, but for something of them.
    partial: Vec<(At, FileProblem)>,
    /// Folders that were looked at.
    folders: Vec<FileId>,
    /// Files that are gone.
    lost: Vec<FileId>,
    /// Files that may be written to without an event.
    noted: Vec<NotedFile>,
    /// Files that have more names than the source knows.
    linked: Vec<FileId>,
    scan_ended: bool,
    /// What restores replaced and is a version now, or cannot be one.
    pub(super) kept: Vec<(String, Result<Version, String>)>,
}

impl Worker {
    /// Takes one turn, which also makes the present states of `cuts` versions.
    pub(super) fn turn(&mut self, cuts: Vec<FileId>) -> Result<(), SourceError> {
        self.turns += 1;
        let durable = self.turns.is_multiple_of(DURABLE_TURNS);
        let Some(Attached { tree, capture, exact_times, .. }) = &mut self.attached else {
            return Err(SourceError::Vanished("the folder is not there".to_owned()));
        };
        let when = When { stamp: now(), now: mono(), exact_times: *exact_times };
        let (pending, marks) = (&mut self.pending, &mut self.marks);
        let (survey, cutting) = (Survey::new(tree, &mut self.owners), &mut self.cutting);
        let left = self.ledger.write(|tx| {
            pending.resolve(when.now, marks, tx)?;
            let capture = &mut **capture;
            let left = Left::default();
            let mut turn = Turn { tx, pending, survey, capture, cutting, when, left };
            turn.take(cuts)?;
            let Turn { tx, pending, left, .. } = turn;
            tx.state.reading = pending.agenda.readings.named();
            tx.durable |= durable && pending.agenda.is_scanning();
            // Had the folder vanished meanwhile, all that was seen to be gone would be a lie.
            tree.is_in_place().map_err(SourceError::Vanished)?;
            Ok(left)
        })?;
        self.publish(left);
        Ok(())
    }

    /// Shows what a turn journaled, and takes up what it left.
    fn publish(&mut self, left: Left) {
        let (shared, now) = (self.shared.clone(), mono());
        let Composed { payloads, restored, again, .. } = left.composed;
        let head = self.ledger.state().head();
        if !payloads.is_empty() {
            let acked = shared.acked_by_all().unwrap_or(keepshare_base::Seq(u64::MAX));
            let mut known = lock(&shared.payloads);
            for (seq, payload) in payloads {
                known.insert(seq, payload, acked);
            }
        }
        shared.head.send_if_modified(|shown| std::mem::replace(shown, head) != head);
        let agenda = &mut self.pending.agenda;
        again.put_on(agenda, now);
        for folder in left.folders {
            if agenda.problems.is_closed(folder) {
                agenda.add_folder(folder, true);
            }
        }
        agenda.note_linked(left.linked, &left.lost);
        self.note_files(&left.noted, &left.lost);
        self.break_restores(&left.lost, &left.problems);
        self.pending.agenda.problems.update(now, left.looked, left.problems, left.partial);
        self.show_problems(left.scan_ended);
        if left.scan_ended {
            shared.set_phase(Phase::Running);
            // One that takes long is not followed by the next at once.
            self.next_scan = self.next_scan.max(now + now.since(self.scan_began));
        }
        self.clear_alarm(|alarm| matches!(alarm, SourceAlarm::Journal(_)));
        let restored = restored.into_iter().map(|(row, position)| {
            let answer = RestoreAnswer::journaled(&row, position);
            (row, answer)
        });
        self.answer_restores(restored.collect());
        for (aside, kept) in left.kept {
            self.kept_replaced(&aside, kept);
        }
    }
}

impl Turn<'_, '_> {
    fn take(&mut self, cuts: Vec<FileId>) -> Result<(), SourceError> {
        let silent = !self.tx.state.scanned;
        let (mut ready, finished) = self.step_transfer()?;
        if !silent {
            self.step_keeping()?;
        }
        for _ in 0..FOLDERS_PER_TURN {
            if self.pending.agenda.names_len() >= TASKS_PER_TURN {
                break;
            }
            let Some((folder, scan)) = self.pending.agenda.take_folder() else { break };
            self.read_folder(folder, scan)?;
        }
        let mut names = self.pending.agenda.take_names(TASKS_PER_TURN);
        // What they stand for was read just now, and would have to be read again later.
        names
            .extend(finished.into_iter().map(|(parent, name)| (parent, name, NameTask::default())));
        let mut found = self.look(names, silent)?;
        self.note_unrestored()?;
        let More { names, folders, linked } = std::mem::take(&mut found.more);
        self.left.linked = linked;
        for (folder, scan) in folders {
            self.pending.agenda.add_folder(folder, scan);
        }
        self.pending.agenda.look_again(self.when.now, names);
        if silent {
            self.learn(&found)?;
        } else {
            self.begin_big(std::mem::take(&mut found.big))?;
            self.drop_nameless(&mut ready)?;
            self.compose(found, ready, cuts)?;
        }
        self.end_scan()
    }

    /// Looks at names, at what is told of files, and at whatever else they lead to.
    fn look(
        &mut self,
        names: Vec<(FileId, Name, NameTask)>,
        silent: bool,
    ) -> Result<Findings, SourceError> {
        let files = self.pending.agenda.take_files(TASKS_PER_TURN);
        self.note_looked(&names, &files)?;
        let Pending { agenda, seed, .. } = &mut *self.pending;
        let context = look::Context {
            big_bytes: (!silent).then_some(STEPLESS_BYTES_MAX),
            is_scanning: agenda.is_scanning(),
            reading: agenda.readings.inodes(),
            strangers: &mut agenda.strangers,
            seed,
        };
        let mut look = Look::new(context, names, files);
        while let Some(ask) = look.next(self.tx)? {
            if look.take_moved() {
                self.survey.forget_folders();
            }
            let fact = self.survey.answer(self.tx, &ask)?;
            look.hear(self.tx, fact)?;
        }
        self.survey.forget_folders();
        let mut found = look.end();
        let is_folder = |seen: &SeenFile| seen.seen.kind == Kind::Dir;
        let folders = found.files.iter().filter(|(_, seen)| is_folder(seen));
        self.left.folders = folders.map(|(file, _)| *file).collect();
        self.left.lost = found.lost.iter().map(|(file, _)| *file).collect();
        self.left.noted = noted(&found, self.when.stamp);
        found.unwatch.drain(..).for_each(|number| self.capture.unwatch(number));
        self.note_born(&found)?;
        self.problems(std::mem::take(&mut found.problems))?;
        self.partial(std::mem::take(&mut found.partial))?;
        Ok(found)
    }

    /// Reads what may differ, and journals what was found.
    fn compose(
        &mut self,
        found: Findings,
        ready: BTreeMap<FileId, Row>,
        cuts: Vec<FileId>,
    ) -> Result<(), SourceError> {
        let restores = self.pending.restores.clone();
        let mut composer = Composer::new(self.when, self.cutting, restores);
        composer.journal_cuts(self.tx, cuts)?;
        let Pending { agenda, transfers, .. } = &mut *self.pending;
        composer.take(found, ready, |file| transfers.iter().any(|transfer| transfer.file == file));
        while let Some(want) = composer.next(self.tx, |file| agenda.resting(file))? {
            let got = match want {
                Want::Meta(file, at) => Got::Meta(self.survey.meta(self.tx, file, &at)?),
                Want::Folder(folder) => Got::Folder(self.survey.folder_meta(self.tx, folder)?),
                Want::Content { file, at, record, in_steps } => {
                    let began = mono();
                    match self.survey.read(self.tx, file, &at, &record)? {
                        Err(failure) => Got::Unread(failure, mono().since(began), false),
                        Ok(Reading::Whole(done)) => Got::Content(done, mono().since(began)),
                        Ok(Reading::Steps(transfer)) if in_steps => {
                            transfers.push_back(*transfer);
                            Got::InSteps
                        }
                        Ok(Reading::Steps(mut transfer)) => loop {
                            match transfer.step(self.tx, self.survey.owners(), u64::MAX)? {
                                Step::Part(row) => {
                                    let part = Got::Part(row, transfer.is_between_passes());
                                    composer.hear(self.tx, part)?;
                                }
                                Step::Paused => {}
                                Step::Done(done) => {
                                    break Got::Content(done, mono().since(began));
                                }
                                Step::Failed(error) => {
                                    break Got::Unread(error.into(), mono().since(began), true);
                                }
                            }
                        },
                    }
                }
            };
            composer.hear(self.tx, got)?;
        }
        let mut composed = composer.end(self.tx)?;
        self.problems(std::mem::take(&mut composed.problems))?;
        self.partial(std::mem::take(&mut composed.partial))?;
        self.left.composed.append(composed);
        Ok(())
    }

    /// Reads a folder, and has every name in it or in the map looked at.
    fn read_folder(&mut self, folder: FileId, scan: bool) -> Result<(), SourceError> {
        self.left.looked.push((folder, None));
        let Some(record) = self.tx.map.record(folder)? else { return Ok(()) };
        let task = NameTask { scan, ..NameTask::default() };
        let found = self.survey.folder(self.tx, folder)?;
        // A folder is opened where it is now.
        self.survey.forget_folders();
        let open = match found {
            Ok(open) => open,
            Err(keepshare_decide::NoFolder::Denied(failure)) => {
                return self.problem((folder, None), failure.text);
            }
            Err(none) => {
                // Moved or gone, which shows at the names on the way to it; what is in it is still unknown.
                for (parent, name) in self.tx.map.places(folder)? {
                    self.pending.agenda.add_name(parent, name, task);
                }
                if none == keepshare_decide::NoFolder::Elsewhere {
                    let until = self.when.now + agenda::RETRY;
                    self.pending.agenda.put_folder_off(until, folder, scan);
                }
                return Ok(());
            }
        };
        if let Err(error) = self.capture.watch(record.inode.number, open.as_fd()) {
            let reason = format!("changes in it are seen by scans only: {error}");
            self.problem((folder, None), reason)?;
        }
        let (names, unusable) = match tree::list(open.as_fd()) {
            Ok(listed) => listed,
            Err(error) => return self.problem((folder, None), error.to_string()),
        };
        if !unusable.is_empty() {
            self.problem((folder, None), unusable_reason(&unusable))?;
        }
        // What came and went in it before it was known, or watched, left only its own times.
        self.pending.agenda.add_file(folder, FileTask::default());
        for name in names {
            self.pending.agenda.add_name(folder, name, task);
        }
        let mut after: Option<Name> = None;
        loop {
            let known = self.tx.map.list(folder, after.as_ref(), TASKS_PER_TURN)?;
            let Some(last) = known.last() else { return Ok(()) };
            after = Some(last.name.clone());
            for entry in known {
                self.pending.agenda.add_name(folder, entry.name, task);
            }
        }
    }

    /// Takes what the first scan saw into the map: nothing is journaled, because nobody has anything yet.
    fn learn(&mut self, found: &Findings) -> Result<(), SourceError> {
        let mut partial = Vec::new();
        for (file, at) in &found.files {
            let Some(mut record) = self.tx.map.record(*file)? else { continue };
            if !at.born
                && record.signature != at.seen.signature
                && let Ok(meta) = self.survey.meta(self.tx, *file, at)?
            {
                record.learn(&meta, at.seen.signature);
                record.hash = None;
                self.tx.map.set_record(*file, &record)?;
            }
            if let Some(what) = record.meta.left_out() {
                partial.push(((at.parent, at.name.clone()), what));
            }
        }
        self.partial(partial)
    }

    /// Ends the scan when nothing of it is left.
    fn end_scan(&mut self) -> Result<(), SourceError> {
        if !self.pending.agenda.end_scan() {
            return Ok(());
        }
        self.left.scan_ended = true;
        if !self.tx.state.scanned {
            self.tx.state.scanned = true;
            self.pending.seed = keepshare_decide::Seed::new();
            self.tx.append(&Change { stamp: now(), ..Change::default() })?;
            self.tx.state.base = self.tx.state.base.or(Some(self.tx.state.here()));
        }
        Ok(())
    }

    /// Forgets files that were restored under names that were not known, and were gone before they were looked at.
    fn note_unrestored(&mut self) -> Result<(), SourceError> {
        for (file, note) in &self.pending.restores {
            let (parent, name) = &note.place;
            let looked =
                self.left.looked.iter().any(|(p, n)| p == parent && n.as_ref() == Some(name));
            let waits = self.pending.agenda.readings.has_names(*file);
            if looked && !waits && self.tx.map.links(*file, 1)?.is_empty() {
                self.tx.map.remove_file(*file)?;
                self.left.lost.push(*file);
            }
        }
        Ok(())
    }

    /// Remembers new files that go without the names of their owners, because nobody answers.
    fn note_born(&mut self, found: &Findings) -> Result<(), SourceError> {
        if !self.survey.owners().is_in_doubt() {
            return Ok(());
        }
        for (file, _) in found.files.iter().filter(|(_, at)| at.born) {
            if let Some(record) = self.tx.map.record(*file)? {
                self.survey.owners().note(*file, &record.meta);
            }
        }
        Ok(())
    }

    fn note_looked(
        &mut self,
        names: &[(FileId, Name, NameTask)],
        files: &[(FileId, FileTask)],
    ) -> Result<(), SourceError> {
        let names = names.iter().map(|(parent, name, _)| (*parent, Some(name.clone())));
        self.left.looked.extend(names);
        for (file, _) in files {
            let links = self.tx.map.links(*file, 64)?;
            self.left.looked.extend(links.into_iter().map(|(parent, name)| (parent, Some(name))));
        }
        Ok(())
    }

    /// Takes names that are replicated, but for extended attributes that do not fit.
    fn partial(&mut self, names: Vec<(At, String)>) -> Result<(), SourceError> {
        for (at, what) in names {
            let problem = self.file_problem(&at, format!("without {what}"))?;
            self.left.partial.push((at, problem));
        }
        Ok(())
    }

    fn problems(&mut self, problems: Vec<(At, String)>) -> Result<(), SourceError> {
        problems.into_iter().try_for_each(|(at, reason)| self.problem(at, reason))
    }

    pub(super) fn problem(&mut self, at: At, reason: String) -> Result<(), SourceError> {
        let problem = self.file_problem(&at, reason)?;
        let FileProblem { path, reason } = &problem;
        tracing::debug!(path, reason, "a name of the source cannot be replicated");
        self.left.problems.push((at, problem));
        Ok(())
    }

    fn file_problem(
        &self,
        (parent, name): &At,
        reason: String,
    ) -> Result<FileProblem, SourceError> {
        let mut path = self.tx.map.path(*parent)?.unwrap_or_default();
        path.extend(name.clone());
        let path = keepshare_base::SetPath::from(path).to_string();
        Ok(FileProblem { path, reason })
    }
}
