//! Big files, read a part in each turn, so that what is saved meanwhile does not wait for them.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use keepshare_base::{FileId, Kind, Name};
use keepshare_decide::{
    FileRecord, Signature,
    agenda::{FileTask, NameTask},
    compose::{Composer, Row, give_up},
    look::Big,
    turn::{self, Survey as _},
};

use keepshare_decide::{Known, Ledger};

use super::turn::Turn;
use crate::source::{SourceError, keeping::Kept, pass::Regions as _, transfer::Step};

/// The most content of a big file read in one turn.
const STEP_BYTES: u64 = 8 << 20;

/// Reading a big file keeps what is saved meanwhile waiting for no longer than this and one part more.
const STEP_MAX: Duration = Duration::from_millis(25);

/// So many big files are read at a time.
const TRANSFERS_MAX: usize = 64;

/// The last rows of big files, and the names that waited for them.
type Finished = (BTreeMap<FileId, Row>, Vec<(FileId, Name)>);

impl Turn<'_, '_> {
    /// Reads on in the next big file; returns the last row of one that is finished, and the names that waited for it.
    pub(super) fn step_transfer(&mut self) -> Result<Finished, SourceError> {
        let (mut ready, mut names) = (BTreeMap::new(), Vec::new());
        let next = self.transfers.iter().position(|transfer| !transfer.is_waiting());
        let Some(mut transfer) = next.and_then(|next| self.transfers.remove(next)) else {
            return Ok((ready, names));
        };
        let file = transfer.file;
        if self.give_up_gone(file)? {
            return Ok((ready, names));
        }
        let turn::Turn { ledger: tx, survey, agenda, cutting, when, told, .. } = &mut self.deciding;
        let mut composer = Composer::new(*when, cutting, self.restores.clone());
        let until = transfer.read_bytes() + STEP_BYTES;
        let mut problem = None;
        let began = Instant::now();
        loop {
            let budget = until.saturating_sub(transfer.read_bytes());
            match transfer.step(tx, survey.owners(), budget)? {
                Step::Part(row) => {
                    let is_between = transfer.is_between_passes();
                    composer.journal_part(*tx, *row, is_between)?;
                    // Between passes not before all that was told until now was heard.
                    if is_between || began.elapsed() >= STEP_MAX {
                        transfer.took += began.elapsed();
                        self.transfers.push_back(transfer);
                        break;
                    }
                }
                Step::Paused => {
                    transfer.took += began.elapsed();
                    self.transfers.push_back(transfer);
                    break;
                }
                Step::Done(done) => {
                    let hash = done.row.row.hash;
                    composer.rest(file, transfer.took + began.elapsed(), done.row.row.fuzzy);
                    let row = composer.finish(*tx, file, *done, transfer.touch)?;
                    ready.extend(row.map(|row| (file, row)));
                    composer.journal_late_cuts(*tx)?;
                    if transfer.written {
                        composer.doubt(*tx, file)?;
                    }
                    if let Some(touch) = transfer.later() {
                        agenda.add_file(file, FileTask { touch, ..FileTask::default() });
                    }
                    survey.end_transfer(transfer, hash);
                    names = agenda.readings.end(file);
                    break;
                }
                Step::Failed(error) => {
                    if tx.map.links(file, 1)?.is_empty() {
                        // It begins anew under another id.
                        tx.map.clear_blocks(file, 0)?;
                        tx.map.remove_file(file)?;
                    } else {
                        give_up(*tx, file)?;
                    }
                    problem = Some(error.to_string());
                    break;
                }
            }
        }
        let composed = composer.end(*tx)?;
        self.left.composed.append(composed);
        if let Some(reason) = problem {
            let waiting = agenda.readings.end(file);
            let place = tx.map.links(file, 1)?.into_iter().chain(waiting).next();
            if let Some((parent, name)) = place {
                told.problems.push(((parent, Some(name)), reason));
            }
        }
        Ok((ready, names))
    }

    /// Gives up the reading of files that are gone: one that is found again is read anew, from its beginning.
    pub(super) fn drop_gone(&mut self) -> Result<(), SourceError> {
        for _ in 0..self.transfers.len() {
            let Some(transfer) = self.transfers.pop_front() else { break };
            if !self.give_up_gone(transfer.file)? {
                self.transfers.push_back(transfer);
            }
        }
        Ok(())
    }

    /// Forgets what was read of a file where it is gone, and tells whether it is.
    fn give_up_gone(&mut self, file: FileId) -> Result<bool, SourceError> {
        let turn::Turn { ledger: tx, agenda, .. } = &mut self.deciding;
        let is_gone = tx.map.record(file)?.is_none();
        if is_gone {
            tx.map.clear_blocks(file, 0)?;
            // The names that waited for it are looked at anew.
            for (parent, name) in agenda.readings.end(file) {
                agenda.add_name(parent, name, NameTask::default());
            }
        }
        Ok(is_gone)
    }

    /// Journals on of what a restore replaced.
    pub(super) fn step_keeping(&mut self) -> Result<(), SourceError> {
        let Some(mut keeping) = self.keeping.pop_front() else { return Ok(()) };
        let turn::Turn { ledger: tx, survey, cutting, when, .. } = &mut self.deciding;
        let mut composer = Composer::new(*when, cutting, HashMap::new());
        let step = keeping.step(tx, survey.owners(), &mut composer)?;
        let kept = match step {
            Kept::More => None,
            Kept::Done(version) => Some(Ok(version)),
            Kept::Failed(error) => Some(Err(error.to_string())),
        };
        let composed = composer.end(*tx)?;
        self.left.composed.append(composed);
        match kept {
            Some(kept) => self.left.kept.push((keeping.aside, kept)),
            None => self.keeping.push_back(keeping),
        }
        Ok(())
    }

    /// Begins to read new big files; their names wait.
    pub(super) fn begin_big(&mut self, big: Vec<Big>) -> Result<(), SourceError> {
        let turn::Turn { ledger: tx, survey, agenda, when, told, .. } = &mut self.deciding;
        for Big { parent, name, seen, touch } in big {
            let number = seen.inode.number;
            if let Some(file) = agenda.readings.inodes().get(&number).copied() {
                let reading = self.transfers.iter_mut();
                let reading = reading.filter(|transfer| transfer.file == file);
                reading.for_each(|transfer| transfer.touched(touch));
                agenda.readings.wait(file, (parent, name));
                continue;
            }
            let later = NameTask { touch, is_astray: true, ..NameTask::default() };
            if self.transfers.len() >= TRANSFERS_MAX {
                agenda.look_again(when.now, vec![(parent, name, later)]);
                continue;
            }
            let Ok(folder) = survey.folder(tx, parent)? else {
                // Perhaps it is being moved: the name is looked at when that has been seen.
                agenda.look_again(when.now, vec![(parent, name, later)]);
                continue;
            };
            let opened = survey.open_new(&folder, &name);
            let (meta, seen, open) = match opened {
                Ok(opened) => opened,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => {
                    told.problems.push(((parent, Some(name)), error.to_string()));
                    continue;
                }
            };
            if seen.kind != Kind::File || tx.map.by_number(seen.inode.number)?.is_some() {
                agenda.look_again(when.now, vec![(parent, name, later)]);
                continue;
            }
            let file = match agenda.lost.find(&seen) {
                Some(file) if tx.map.record(file)?.is_none() => {
                    Ledger::end_stale(*tx, file)?;
                    file
                }
                _ => tx.new_file()?,
            };
            // No signature yet: were we to end here, the file would be seen to differ and be read again.
            let record = FileRecord::new(seen.inode, Signature::default(), meta);
            tx.map.set_record(file, &record)?;
            match survey.begin_transfer(tx, open, file, &record, true)? {
                Ok(mut transfer) => {
                    transfer.touch = touch;
                    agenda.readings.begin(seen.inode.number, file, (parent, name));
                    self.transfers.push_back(transfer);
                }
                Err(error) => {
                    tx.map.remove_file(file)?;
                    told.problems.push(((parent, Some(name)), error.to_string()));
                }
            }
        }
        survey.forget_folders();
        Ok(())
    }

    /// Forgets new files that were removed before their content was read.
    pub(super) fn drop_nameless(
        &mut self,
        ready: &mut BTreeMap<FileId, Row>,
    ) -> Result<(), SourceError> {
        let map = &mut self.deciding.ledger.map;
        let files: Vec<FileId> = ready.keys().copied().collect();
        for file in files {
            if map.links(file, 1)?.is_empty() {
                map.remove_file(file)?;
                ready.remove(&file);
            }
        }
        Ok(())
    }
}
