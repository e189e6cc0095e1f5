//! Big files, read a part in each turn, so that what is saved meanwhile does not wait for them.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use keepshare_base::{FileId, Kind, Name};
use keepshare_decide::{
    FileRecord, Signature,
    agenda::NameTask,
    compose::{Composer, Row, give_up},
    look::Big,
};

use super::turn::Turn;
use crate::source::{
    SourceError,
    keeping::Kept,
    pass::Regions as _,
    transfer::{Step, Transfer},
};

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
        let Some(mut transfer) = self.pending.transfers.pop_front() else {
            return Ok((ready, names));
        };
        let file = transfer.file;
        if self.tx.map.record(file)?.is_none() {
            self.tx.map.clear_blocks(file, 0)?;
            self.pending.break_transfer(file);
            return Ok((ready, names));
        }
        let restores = self.pending.restores.clone();
        let mut composer = Composer::new(self.when, self.cutting, restores);
        let until = transfer.read_bytes() + STEP_BYTES;
        let mut problem = None;
        let began = Instant::now();
        loop {
            let budget = until.saturating_sub(transfer.read_bytes());
            match transfer.step(self.tx, self.survey.owners(), budget)? {
                Step::Part(row) => {
                    let is_between = transfer.is_between_passes();
                    composer.journal_part(self.tx, *row, is_between)?;
                    // Between passes not before all that was told until now was heard.
                    if is_between || began.elapsed() >= STEP_MAX {
                        transfer.took += began.elapsed();
                        self.pending.transfers.push_back(transfer);
                        break;
                    }
                }
                Step::Paused => {
                    transfer.took += began.elapsed();
                    self.pending.transfers.push_back(transfer);
                    break;
                }
                Step::Done(done) => {
                    composer.rest(file, transfer.took + began.elapsed(), done.row.row.fuzzy);
                    let row = composer.finish(self.tx, file, *done, transfer.touch)?;
                    ready.extend(row.map(|row| (file, row)));
                    composer.journal_late_cuts(self.tx)?;
                    if transfer.written {
                        composer.was_written(file);
                    }
                    names = self.pending.agenda.readings.end(file);
                    break;
                }
                Step::Failed(error) => {
                    if self.tx.map.links(file, 1)?.is_empty() {
                        // It begins anew under another id.
                        self.tx.map.clear_blocks(file, 0)?;
                        self.tx.map.remove_file(file)?;
                    } else {
                        give_up(self.tx, file)?;
                    }
                    problem = Some(error.to_string());
                    break;
                }
            }
        }
        let composed = composer.end(self.tx)?;
        self.left.composed.append(composed);
        if let Some(reason) = problem {
            let waiting = self.pending.agenda.readings.end(file);
            let place = self.tx.map.links(file, 1)?.into_iter().chain(waiting).next();
            if let Some((parent, name)) = place {
                self.problem((parent, Some(name)), reason)?;
            }
        }
        Ok((ready, names))
    }

    /// Journals on of what a restore replaced.
    pub(super) fn step_keeping(&mut self) -> Result<(), SourceError> {
        let Some(mut keeping) = self.pending.keeping.pop_front() else { return Ok(()) };
        let mut composer = Composer::new(self.when, self.cutting, HashMap::new());
        let step = keeping.step(self.tx, self.survey.owners(), &mut composer)?;
        let kept = match step {
            Kept::More => None,
            Kept::Done(version) => Some(Ok(version)),
            Kept::Failed(error) => Some(Err(error.to_string())),
        };
        let composed = composer.end(self.tx)?;
        self.left.composed.append(composed);
        match kept {
            Some(kept) => self.left.kept.push((keeping.aside, kept)),
            None => self.pending.keeping.push_back(keeping),
        }
        Ok(())
    }

    /// Begins to read new big files; their names wait.
    pub(super) fn begin_big(&mut self, big: Vec<Big>) -> Result<(), SourceError> {
        for Big { parent, name, seen, touch } in big {
            let number = seen.inode.number;
            if let Some(file) = self.pending.agenda.readings.inodes().get(&number).copied() {
                let reading = self.pending.transfers.iter_mut();
                let reading = reading.filter(|transfer| transfer.file == file);
                reading.for_each(|transfer| transfer.touched(touch));
                self.pending.agenda.readings.wait(file, (parent, name));
                continue;
            }
            let later = NameTask { touch, is_astray: true, ..NameTask::default() };
            if self.pending.transfers.len() >= TRANSFERS_MAX {
                self.look_later(parent, name, later);
                continue;
            }
            let Ok(folder) = self.survey.folder(self.tx, parent)? else {
                // Perhaps it is being moved: the name is looked at when that has been seen.
                self.look_later(parent, name, later);
                continue;
            };
            let opened = self.survey.open_new(&folder, &name);
            let (meta, seen, open) = match opened {
                Ok(opened) => opened,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => {
                    self.problem((parent, Some(name)), error.to_string())?;
                    continue;
                }
            };
            if seen.kind != Kind::File || self.tx.map.by_number(seen.inode.number)?.is_some() {
                self.look_later(parent, name, later);
                continue;
            }
            let file = self.tx.new_file()?;
            // No signature yet: were we to end here, the file would be seen to differ and be read again.
            let record = FileRecord::new(seen.inode, Signature::default(), meta);
            self.tx.map.set_record(file, &record)?;
            let owners = self.survey.owners();
            match Transfer::begin(self.tx, owners, open, file, &record, true)? {
                Ok(mut transfer) => {
                    transfer.touch = touch;
                    let readings = &mut self.pending.agenda.readings;
                    readings.begin(seen.inode.number, file, (parent, name));
                    self.pending.transfers.push_back(transfer);
                }
                Err(error) => {
                    self.tx.map.remove_file(file)?;
                    self.problem((parent, Some(name)), error.to_string())?;
                }
            }
        }
        self.survey.forget_folders();
        Ok(())
    }

    fn look_later(&mut self, parent: FileId, name: Name, task: NameTask) {
        self.pending.agenda.look_again(self.when.now, vec![(parent, name, task)]);
    }

    /// Forgets new files that were removed before their content was read.
    pub(super) fn drop_nameless(
        &mut self,
        ready: &mut BTreeMap<FileId, Row>,
    ) -> Result<(), SourceError> {
        let files: Vec<FileId> = ready.keys().copied().collect();
        for file in files {
            if self.tx.map.links(file, 1)?.is_empty() {
                self.tx.map.remove_file(file)?;
                ready.remove(&file);
            }
        }
        Ok(())
    }
}
