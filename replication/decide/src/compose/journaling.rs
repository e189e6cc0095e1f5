//! Puts rows that belong together into changes, and appends those to the journal.

use std::collections::{BTreeMap, HashMap};

use keepshare_base::{
    Change, Content, Event, FILES_PER_CHANGE_MAX, FileId, FileRow, FileTime, Kind, Name, NameRow,
    Position, Seq,
};

use super::{
    Composer, Row,
    fitting::{self, Rows},
};
use crate::{
    CutPlace, Failure, FileRecord, Inode, Ledger,
    look::{NameDiff, SeenFile},
    withhold::placeholder,
};

impl Composer<'_> {
    /// Returns what was journaled until now.
    pub fn journaled(&self) -> &[(Seq, Vec<u8>)] {
        &self.out.payloads
    }

    /// Has a file compared a little later, or by the scan after a crash: it was written to while it was read, whatever its
    /// times say.
    pub fn doubt<L: Ledger>(&mut self, ledger: &mut L, file: FileId) -> Result<(), L::Error> {
        self.was_written(file);
        let Some(mut record) = ledger.record(file)? else { return Ok(()) };
        record.signature.mtime = FileTime::default();
        ledger.set_record(file, &record)
    }

    pub(super) fn was_written(&mut self, file: FileId) {
        self.out.again.racy.push(file);
    }

    /// Journals that the states of files that were read and found as they were are versions.
    pub fn journal_late_cuts<L: Ledger>(&mut self, ledger: &mut L) -> Result<(), L::Error> {
        let late = std::mem::take(&mut self.late_cuts);
        self.journal_cuts(ledger, late)
    }

    /// Journals that the present states of these files are versions.
    pub fn journal_cuts<L: Ledger>(
        &mut self,
        ledger: &mut L,
        cuts: Vec<FileId>,
    ) -> Result<(), L::Error> {
        let mut due = Vec::new();
        for file in cuts {
            let Some(mut record) = ledger.record(file)? else { continue };
            self.cutting.forget(file);
            if record.uncut.take().is_some() {
                ledger.set_record(file, &record)?;
                due.push(file);
            }
        }
        for files in due.chunks(FILES_PER_CHANGE_MAX) {
            self.journal(ledger, Vec::new(), Vec::new(), files.to_vec())?;
        }
        Ok(())
    }

    /// Journals a part of a file's content that is not its last. The part that ends a pass tells how long the file was
    /// then, also where nothing else differed: the pages beyond are forgotten, and must be forgotten by everyone.
    pub fn journal_part<L: Ledger>(
        &mut self,
        ledger: &mut L,
        row: Row,
        ends_pass: bool,
    ) -> Result<(), L::Error> {
        if ends_pass || row.row.content != Content::Same {
            self.journal(ledger, Vec::new(), vec![row], Vec::new())?;
        }
        Ok(())
    }

    /// Takes a file that cannot be read out of what is shipped.
    pub(super) fn unreadable<L: Ledger>(
        &mut self,
        ledger: &mut L,
        file: FileId,
        at: &SeenFile,
        failure: Failure,
        diffs: &mut BTreeMap<(FileId, Name), NameDiff>,
        lost: &mut HashMap<FileId, FileRecord>,
    ) -> Result<(), L::Error> {
        let Failure { is_missing, text } = failure;
        if !is_missing {
            self.out.problems.push(((at.parent, at.name.clone()), text));
        }
        // What a restore made is known to us alone until its row has left.
        let born = at.born || self.restores.get(&file).is_some_and(|note| note.born);
        if !born {
            if is_missing {
                // Under another name perhaps.
                self.out.again.files.push((file, at.touch));
            }
            return Ok(());
        }
        for diff in diffs.values_mut().filter(|diff| diff.new.is_some_and(|(f, _)| f == file)) {
            diff.new = match diff.old {
                // The stations keep what was replaced until its successor can be read: one that was itself replaced
                // while it was read never left the name empty.
                Some((old, kind)) if is_kept(ledger, old, lost)? => Some((old, kind)),
                // What the name stood for before is elsewhere, whatever stands there now.
                _ => None,
            };
            ledger.set_name(diff.parent, &diff.name, diff.new)?;
            if is_missing {
                self.out.again.names.push((diff.parent, diff.name.clone()));
            }
        }
        ledger.remove_file(file)
    }

    /// Journals names that change together, with the files that they show.
    pub(super) fn journal_group<L: Ledger>(
        &mut self,
        ledger: &mut L,
        group: Vec<NameDiff>,
        folders: Vec<Row>,
        lost: &HashMap<FileId, FileRecord>,
    ) -> Result<(), L::Error> {
        let mut files: Vec<Row> = folders;
        let mut cuts = Vec::new();
        for diff in &group {
            if let Some((file, _)) = diff.new {
                files.extend(self.rows.remove(&file));
            }
            if let Some((file, _)) = diff.old
                && let Some(record) = lost.get(&file)
            {
                self.cutting.forget(file);
                cuts.extend(record.uncut.map(|_| file));
            }
        }
        cuts.sort_unstable();
        cuts.dedup();
        let to_row =
            |diff: NameDiff| NameRow { parent: diff.parent, name: diff.name, target: diff.new };
        let names = group.into_iter().map(to_row).collect();
        for Rows { names, files, cuts } in fitting::changes(names, files, cuts) {
            self.journal(ledger, names, files, cuts)?;
        }
        Ok(())
    }

    /// Journals one change. Before content that a restore brought under a name that nothing had goes a row without any: no
    /// destination knows the file, and where its content can be given no more, its name must still be told of something.
    pub fn journal<L: Ledger>(
        &mut self,
        ledger: &mut L,
        names: Vec<NameRow>,
        files: Vec<Row>,
        cuts: Vec<FileId>,
    ) -> Result<(), L::Error> {
        if let Some(row) = files.iter().find(|row| self.is_new_to_all(&row.row)) {
            let row = FileRow { event: Event::Created, ..placeholder(&row.row) };
            self.journal(ledger, Vec::new(), vec![Row { row, payload: Vec::new() }], Vec::new())?;
        }
        let is_answer = |row: &&Row| row.row.event == Event::Restored;
        let answering = files.iter().find(is_answer).map(|row| row.row.file);
        let restore = answering.and_then(|file| self.restores.remove(&file));
        let payload: Vec<u8> = files.iter().flat_map(|row| row.payload.iter().copied()).collect();
        let change = Change {
            // The clock as it is: seq gives the order.
            stamp: self.when.stamp,
            user: restore.as_ref().and_then(|note| note.user.clone()),
            names,
            files: files.into_iter().map(|row| row.row).collect(),
            cuts,
            point: None,
            restore: restore.as_ref().map(|note| note.row.clone()),
            made: Vec::new(),
        };
        let position = ledger.append(&change)?;
        let Position { epoch, seq, .. } = position;
        ledger.note_told(&change, CutPlace { epoch, seq, stamp: change.stamp })?;
        if let Some(note) = restore {
            ledger.answer(&note.row, position)?;
            self.out.restored.push((note.row, position));
        }
        if !payload.is_empty() {
            self.out.payloads.push((seq, payload));
        }
        Ok(())
    }

    /// Tells whether a row is the first of a file that a restore made.
    fn is_new_to_all(&self, row: &FileRow) -> bool {
        row.event != Event::Created
            && matches!(row.content, Content::Extents { fresh: true, .. })
            && self.restores.get(&row.file).is_some_and(|note| note.born)
    }
}

/// Takes a file that was lost back into the map, known by its names only; tells whether it is there.
fn is_kept<L: Ledger>(
    ledger: &mut L,
    file: FileId,
    lost: &mut HashMap<FileId, FileRecord>,
) -> Result<bool, L::Error> {
    if let Some(record) = ledger.record(file)? {
        return Ok(record.inode == Inode::default());
    }
    match lost.get(&file) {
        Some(record) if record.meta.kind != Kind::Dir => {
            let (inode, blocks) = (Inode::default(), false);
            ledger.set_record(file, &FileRecord { inode, blocks, ..record.clone() })?;
            lost.remove(&file);
            Ok(true)
        }
        _ => Ok(false),
    }
}
