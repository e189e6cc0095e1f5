//! One turn: one transaction's worth of looking, deciding and journaling.
//!
//! What is due on the agenda is surveyed, decided about and composed into changes ([`keepshare_decide::turn`]), and all of it
//! becomes durable together. Big files are read a part in each turn ([`super::reading`]).

use std::collections::{HashMap, VecDeque};

use keepshare_base::{Change, FileId, Seq};
use keepshare_decide::{
    At, Seed,
    agenda::NameTask,
    compose::{Composed, RestoreNote, When},
    look::Findings,
    restores::Version,
    turn::{self, Told, is_folder},
};

use keepshare_decide::Known;

use super::{
    Attached, Worker,
    noted::{NotedFile, noted},
    now,
};
use crate::{
    clock::mono,
    source::{
        FileProblem, RestoreAnswer, SourceAlarm, SourceError,
        keeping::Keeping,
        ledger::Tx,
        pending::Pending,
        shared::{Phase, lock},
        survey::Survey,
        transfer::Transfer,
    },
};

/// A scan is made durable once in so many turns.
const DURABLE_TURNS: u64 = 64;

/// What a turn works with.
pub(super) struct Turn<'a, 't> {
    /// What looks, decides and composes.
    pub(super) deciding: turn::Turn<'a, Tx<'t>, Survey<'a>>,
    pub(super) transfers: &'a mut VecDeque<Transfer>,
    pub(super) keeping: &'a mut VecDeque<Keeping>,
    pub(super) restores: &'a HashMap<FileId, RestoreNote>,
    seed: &'a mut Seed,
    pub(super) left: Left,
}

/// What a turn leaves to be done when it is durable.
#[derive(Default)]
pub(super) struct Left {
    pub(super) composed: Composed,
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
    pub(super) fn turn(&mut self, mut cuts: Vec<FileId>) -> Result<(), SourceError> {
        self.turns += 1;
        // What is sent of a big file until now was its content at no moment: it becomes a version when it is read.
        cuts.retain(|file| !self.pending.end_writing(*file));
        let durable = self.turns.is_multiple_of(DURABLE_TURNS);
        let Some(Attached { tree, capture, shadows, exact_times, .. }) = &mut self.attached else {
            return Err(SourceError::Vanished("the folder is not there".to_owned()));
        };
        let when = When { stamp: now(), now: mono(), exact_times: *exact_times };
        let (pending, marks) = (&mut self.pending, &mut self.marks);
        let (owners, cutting) = (&mut self.owners, &mut self.cutting);
        let left = self.ledger.write(|tx| {
            pending.resolve(when.now, marks, tx)?;
            let Pending { agenda, transfers, keeping, restores, seed } = pending;
            let survey = &mut Survey::new(tree, owners, shadows, &mut **capture);
            let told = Told::default();
            let deciding =
                turn::Turn { ledger: tx, survey, agenda, cutting, when, told, in_itself: false };
            let left = Left::default();
            let mut turn = Turn { deciding, transfers, keeping, restores, seed, left };
            turn.take(cuts)?;
            turn.tell()?;
            let Turn { deciding: turn::Turn { ledger: tx, agenda, .. }, left, .. } = turn;
            tx.state.reading = agenda.readings.named();
            tx.durable |= durable && agenda.is_scanning();
            Ok(left)
        })?;
        self.publish(left);
        Ok(())
    }

    /// Shows what a turn journaled, and takes up what it left.
    fn publish(&mut self, left: Left) {
        let (shared, now) = (self.shared.clone(), mono());
        let Composed { payloads, restored, again, .. } = left.composed;
        if !payloads.is_empty() {
            let acked = shared.acked_by_all().unwrap_or(Seq(u64::MAX));
            let mut known = lock(&shared.payloads);
            for (seq, payload) in payloads {
                known.insert(seq, payload, acked);
            }
        }
        self.show_head();
        let agenda = &mut self.pending.agenda;
        again.put_on(agenda, now);
        for folder in left.folders {
            if agenda.problems.is_closed(folder) {
                agenda.add_folder(folder, true);
            }
        }
        agenda.note_linked(left.linked, &left.lost);
        self.note_files(&left.noted, &left.lost);
        if let Some(Attached { shadows, .. }) = &mut self.attached {
            shadows.forget(&left.lost);
        }
        self.break_restores(&left.lost, &left.problems);
        self.pending.agenda.problems.update(now, left.looked, left.problems, left.partial);
        self.show_problems(left.scan_ended);
        if left.scan_ended {
            shared.set_phase(Phase::Running);
            // One that takes long is not followed by the next at once.
            self.next_scan = self.next_scan.max(now + now.since(self.scan_began));
        }
        self.clear_alarm(|alarm| matches!(alarm, SourceAlarm::Journal(_)));
        let answer = |(row, position)| {
            let answer = RestoreAnswer::journaled(&row, position);
            (row, answer)
        };
        self.answer_restores(restored.into_iter().map(answer).collect());
        for (aside, kept) in left.kept {
            self.kept_replaced(&aside, kept);
        }
    }
}

impl Turn<'_, '_> {
    fn take(&mut self, cuts: Vec<FileId>) -> Result<(), SourceError> {
        let is_silent = !self.deciding.ledger.state.scanned;
        let (mut ready, finished) = self.step_transfer()?;
        if !is_silent {
            self.step_keeping()?;
        }
        self.deciding.read_folders()?;
        // What the names of big files stand for was read just now, and would have to be read again later.
        let finished = finished.into_iter();
        let finished = finished.map(|(parent, name)| (parent, name, NameTask::default())).collect();
        let mut found = self.deciding.look(finished, self.seed, is_silent)?;
        self.note(&mut found)?;
        if !found.lost.is_empty() {
            self.drop_gone()?;
        }
        if is_silent {
            self.left.composed.again = self.deciding.learn(&found)?;
        } else {
            self.begin_big(std::mem::take(&mut found.big))?;
            self.drop_nameless(&mut ready)?;
            let (restores, transfers) = (self.restores.clone(), &*self.transfers);
            let is_read = |file| transfers.iter().any(|transfer| transfer.file == file);
            let composed = self.deciding.compose(found, ready, cuts, restores, is_read)?;
            self.transfers.extend(self.deciding.survey.take_begun());
            self.left.composed.append(composed);
        }
        self.end()
    }

    /// Remembers what was found, for when it is durable.
    fn note(&mut self, found: &mut Findings) -> Result<(), SourceError> {
        let folders = found.files.iter().filter(|(_, seen)| is_folder(seen));
        self.left.folders = folders.map(|(file, _)| *file).collect();
        self.left.lost = found.lost.iter().map(|(file, _)| *file).collect();
        let settled = std::mem::take(&mut self.deciding.told.settled);
        self.left.noted = noted(found, &settled, self.deciding.when.stamp);
        self.left.linked = std::mem::take(&mut found.more.linked);
        let capture = self.deciding.survey.capture();
        found.unwatch.drain(..).for_each(|number| capture.unwatch(number));
        self.note_born(found)?;
        self.note_unrestored()
    }

    /// Ends the turn, and the scan when nothing of it is left.
    fn end(&mut self) -> Result<(), SourceError> {
        let ended = self.deciding.end().map_err(|void| match void {
            turn::Void::Vanished(reason) => SourceError::Vanished(reason),
            turn::Void::InItself => SourceError::Moving,
        });
        if !ended? {
            return Ok(());
        }
        self.left.scan_ended = true;
        let tx = &mut *self.deciding.ledger;
        if !tx.state.scanned {
            tx.state.scanned = true;
            *self.seed = Seed::new();
            tx.append(&Change { stamp: now(), ..Change::default() })?;
            tx.state.base = tx.state.base.or(Some(tx.state.here()));
        }
        Ok(())
    }

    /// Forgets files that were restored under names that were not known, and were gone before they were looked at.
    fn note_unrestored(&mut self) -> Result<(), SourceError> {
        let turn::Turn { ledger: tx, agenda, told, .. } = &mut self.deciding;
        for (file, note) in self.restores {
            let (parent, name) = &note.place;
            let looked = told.looked.iter().any(|(p, n)| p == parent && n.as_ref() == Some(name));
            let waits = agenda.readings.has_names(*file);
            if looked && !waits && tx.map.links(*file, 1)?.is_empty() {
                tx.map.remove_file(*file)?;
                self.left.lost.push(*file);
            }
        }
        Ok(())
    }

    /// Remembers new files that go without the names of their owners, because nobody answers.
    fn note_born(&mut self, found: &Findings) -> Result<(), SourceError> {
        let turn::Turn { ledger: tx, survey, .. } = &mut self.deciding;
        if !survey.owners().is_in_doubt() {
            return Ok(());
        }
        for (file, _) in found.files.iter().filter(|(_, at)| at.born) {
            if let Some(record) = tx.map.record(*file)? {
                survey.owners().note(*file, &record.meta);
            }
        }
        Ok(())
    }

    /// Says of places, for people, what was told of them.
    fn tell(&mut self) -> Result<(), SourceError> {
        let Told { looked, problems, partial, settled: _ } =
            std::mem::take(&mut self.deciding.told);
        self.left.looked = looked;
        for (at, reason) in problems {
            let problem = self.file_problem(&at, reason)?;
            let FileProblem { path, reason } = &problem;
            tracing::debug!(path, reason, "a name of the source cannot be replicated");
            self.left.problems.push((at, problem));
        }
        for (at, what) in partial {
            let problem = self.file_problem(&at, format!("without {what}"))?;
            self.left.partial.push((at, problem));
        }
        Ok(())
    }

    fn file_problem(
        &self,
        (parent, name): &At,
        reason: String,
    ) -> Result<FileProblem, SourceError> {
        let mut path = self.deciding.ledger.map.path(*parent)?.unwrap_or_default();
        path.extend(name.clone());
        let path = keepshare_base::SetPath::from(path).to_string();
        Ok(FileProblem { path, reason })
    }
}
