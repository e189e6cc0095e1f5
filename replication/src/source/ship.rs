//! Makes journaled changes of what a round found.
//!
//! Reads the content of files that differ, decides what is a version, puts names and files that belong together into
//! one change and appends it to the journal. Content that does not fit goes ahead in changes of its own, so that a name
//! never shows a file that is not whole.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use keepshare_base::{
    Change, Content, Epoch, Event, FILES_PER_CHANGE_MAX, FileId, FileRow, Kind, Name, NameRow,
    OriginId, Position, RestoreRow, Seq, Stamp,
};

use super::{
    RestoreAnswer, SourceError,
    cutting::Cutting,
    fitting::{self, Rows},
    folders::Folders,
    ledger::Tx,
    map::{FileRecord, Inode, Signature, Told},
    owners::Owners,
    pass::Regions,
    plan::{self, NameDiff},
    round::{Findings, SeenFile},
    transfer::{self, Done, Row, Step, Transfer, WHOLE_BYTES_MAX},
    tree::{self, AtName, Tree},
};
use crate::capture::Touch;

/// A file up to this size is read within its round; a longer one in steps between rounds.
pub(crate) const STEPLESS_BYTES_MAX: u64 = 4 << 20;

/// The most that is read beyond a round's share, of files that take names.
const NAMED_BYTES_MAX: u64 = 64 << 20;

/// A file that was read faster than this may be read again at once.
const REST_FROM: Duration = Duration::from_millis(5);

/// The longest time for which a file is left alone.
const REST_MAX: Duration = Duration::from_secs(2);

/// A modification this close to the moment of reading may not be told by the file's times.
const RACY_MICROS: i64 = 10_000;

/// What shipping works with.
pub(crate) struct Composer<'a, 't> {
    pub(crate) tx: &'a mut Tx<'t>,
    pub(crate) tree: &'a Tree,
    pub(crate) owners: &'a mut Owners,
    /// The time of day.
    pub(crate) now: Stamp,
    /// Which states are versions.
    pub(crate) cutting: &'a mut Cutting,
    /// The file system's times tell every modification.
    pub(crate) exact_times: bool,
    /// Files that are being read in steps.
    pub(crate) in_transfer: &'a HashSet<FileId>,
    /// Rows that are ready: the last ones of files that were read in steps.
    pub(crate) ready: BTreeMap<FileId, Row>,
    /// Files that are left alone for a while.
    pub(crate) resting: Option<&'a HashMap<FileId, Instant>>,
    /// Restores just written.
    pub(crate) restores: HashMap<FileId, RestoreNote>,
    pub(crate) out: Composed,
    /// Files of which only that their state is a version is to be journaled.
    late_cuts: Vec<FileId>,
    folders: Folders,
    left: u64,
    /// Files that have taken a name in this round.
    named: HashSet<FileId>,
    named_left: u64,
}

/// A restore that is waiting for its change.
#[derive(Clone, Debug)]
pub(crate) struct RestoreNote {
    /// What the change says of it.
    pub(crate) row: RestoreRow,
    /// Who asked.
    pub(crate) user: Option<String>,
    /// Where it was written.
    pub(crate) place: (FileId, Name),
    /// The file was not known before.
    pub(crate) born: bool,
}

/// What was journaled, and what is left to do.
#[derive(Debug, Default)]
pub(crate) struct Composed {
    /// The content of journaled changes.
    pub(crate) payloads: Vec<(Seq, Vec<u8>)>,
    /// Big files to be read in steps.
    pub(crate) transfers: Vec<Transfer>,
    /// Files to look at again at once.
    pub(crate) again: Vec<(FileId, Touch)>,
    /// Files that were written and perhaps are still open.
    pub(crate) open: Vec<FileId>,
    /// Files that took long to read, and for how long they are now left alone.
    pub(crate) resting: Vec<(FileId, Duration)>,
    /// Files to look at when they have been left alone.
    pub(crate) put_off: Vec<(FileId, Touch, Instant)>,
    /// Names to look at again at once: what stood there went while it was read.
    pub(crate) names_again: Vec<(FileId, Name)>,
    /// Files whose times may hide a change: to be compared a little later.
    pub(crate) racy: Vec<FileId>,
    /// Files that could not be read.
    pub(crate) problems: Vec<(FileId, Option<Name>, String)>,
    /// Files that are shipped, but for something of them.
    pub(crate) partial: Vec<(FileId, Option<Name>, String)>,
    /// The changes that answer restores.
    pub(crate) restored: Vec<(RestoreRow, RestoreAnswer)>,
}

impl Composed {
    /// Adds what was shipped after it.
    pub(crate) fn append(&mut self, after: Self) {
        self.payloads.extend(after.payloads);
        self.transfers.extend(after.transfers);
        self.again.extend(after.again);
        self.resting.extend(after.resting);
        self.open.extend(after.open);
        self.put_off.extend(after.put_off);
        self.names_again.extend(after.names_again);
        self.racy.extend(after.racy);
        self.problems.extend(after.problems);
        self.partial.extend(after.partial);
        self.restored.extend(after.restored);
    }
}

impl<'a, 't> Composer<'a, 't> {
    /// Prepares to ship.
    pub(crate) fn new(
        tx: &'a mut Tx<'t>,
        tree: &'a Tree,
        owners: &'a mut Owners,
        cutting: &'a mut Cutting,
        now: Stamp,
        in_transfer: &'a HashSet<FileId>,
    ) -> Self {
        Self {
            tx,
            tree,
            owners,
            now,
            cutting,
            exact_times: false,
            in_transfer,
            ready: BTreeMap::new(),
            resting: None,
            restores: HashMap::new(),
            out: Composed::default(),
            late_cuts: Vec::new(),
            folders: Folders::default(),
            left: super::round::INLINE_BYTES_MAX,
            named: HashSet::new(),
            named_left: NAMED_BYTES_MAX,
        }
    }

    /// Journals what a round found.
    pub(crate) fn ship(mut self, mut found: Findings) -> Result<Composed, SourceError> {
        let mut rows = std::mem::take(&mut self.ready);
        let (mut cuts, mut failed) = (Vec::new(), Vec::new());
        let named = found.diffs.values().filter(|diff| diff.old != diff.new);
        self.named = named.filter_map(|diff| diff.new).map(|(file, _)| file).collect();
        for (file, seen_file) in &found.files {
            if let Some(row) = rows.get(file) {
                self.note_left_out(seen_file, row.row.meta.left_out());
                continue;
            }
            if self.in_transfer.contains(file) {
                continue;
            }
            let mut left_out = None;
            match self.row_of(*file, seen_file, &mut cuts, &mut left_out)? {
                Ok(Some(row)) => {
                    self.note_left_out(seen_file, row.row.meta.left_out());
                    rows.insert(*file, row);
                }
                Ok(None) => self.note_left_out(seen_file, left_out),
                Err(error) => failed.push((*file, seen_file, error)),
            }
        }
        let mut lost: HashMap<FileId, FileRecord> = found.lost.into_iter().collect();
        for (file, seen_file, error) in failed {
            self.unreadable(file, seen_file, &error, &mut found.diffs, &mut lost)?;
        }
        let diffs: Vec<NameDiff> =
            found.order.iter().filter_map(|key| found.diffs.remove(key)).collect();
        let diffs: Vec<NameDiff> = diffs.into_iter().filter(|d| d.old != d.new).collect();
        let mut parents = self.parent_rows(&found.parents, &rows)?;
        let groups = plan::group(diffs);
        let mut last_use: HashMap<FileId, usize> = HashMap::new();
        for (i, group) in groups.iter().enumerate() {
            last_use.extend(group.iter().map(|diff| (diff.parent, i)));
        }
        for (i, group) in groups.into_iter().enumerate() {
            let touched = group.iter().filter(|diff| last_use.get(&diff.parent) == Some(&i));
            let folders: Vec<Row> = touched.filter_map(|d| parents.remove(&d.parent)).collect();
            self.journal_group(group, &mut rows, folders, &lost)?;
        }
        let mut alone: Vec<Row> = rows.into_values().collect();
        alone.extend(parents.into_values());
        for row in alone {
            self.journal(Vec::new(), vec![row], Vec::new())?;
        }
        self.journal_cuts(cuts)?;
        self.journal_late_cuts()?;
        Ok(self.out)
    }

    /// Journals that the states of files that were read and found as they were are versions.
    pub(crate) fn journal_late_cuts(&mut self) -> Result<(), SourceError> {
        let late = std::mem::take(&mut self.late_cuts);
        self.journal_cuts(late)
    }

    /// Journals that the present states of these files are versions.
    pub(crate) fn journal_cuts(&mut self, cuts: Vec<FileId>) -> Result<(), SourceError> {
        let mut due = Vec::new();
        for file in cuts {
            let Some(mut record) = self.tx.map.record(file)? else { continue };
            self.cutting.forget(file);
            if record.uncut.take().is_some() {
                self.tx.map.set_record(file, &record)?;
                due.push(file);
            }
        }
        for files in due.chunks(FILES_PER_CHANGE_MAX) {
            self.journal(Vec::new(), Vec::new(), files.to_vec())?;
        }
        Ok(())
    }

    /// Journals a part of a file's content that is not its last. The part that ends a pass tells how long the file was
    /// then, also where nothing else differed: the pages beyond are forgotten, and must be forgotten by everyone.
    pub(crate) fn journal_part(&mut self, row: Row, ends_pass: bool) -> Result<(), SourceError> {
        if ends_pass || row.row.content != Content::Same {
            self.journal(Vec::new(), vec![row], Vec::new())?;
        }
        Ok(())
    }

    /// Brings the map to what was read and decides about cutting.
    pub(crate) fn finish(
        &mut self,
        file: FileId,
        mut done: Done,
        touch: Touch,
    ) -> Result<Option<Row>, SourceError> {
        let Some(mut record) = self.tx.map.record(file)? else { return Ok(None) };
        let restore = self.restores.get(&file);
        let ended = touch.ended() || restore.is_some();
        let row = &mut done.row.row;
        let born = row.event == Event::Created;
        let forced = born || record.forgotten || restore.is_some();
        let differs = done.changed || row.meta.size != record.meta.size;
        let changed = forced || (differs && (row.hash.is_none() || row.hash != record.hash));
        let seen = done.seen.signature;
        let attributes = record.learn(self.owners, file, &mut row.meta, seen);
        if !changed {
            row.content = Content::Same;
            // What it was read for before is not done with until it is a version.
            let is_open = record.uncut.is_some();
            row.event = if is_open { Event::Saved } else { Event::Attributes };
            done.row.payload = Vec::new();
        }
        if restore.is_some() {
            row.event = Event::Restored;
        }
        row.cut = if changed {
            self.cutting.written(file, ended)
        } else if record.uncut.is_some() {
            ended
        } else {
            attributes
        };
        if row.cut && !changed && !attributes {
            // Only that it is a version is new.
            self.late_cuts.push(file);
            row.cut = false;
        }
        if record.blocks && !done.blocks {
            self.tx.map.clear_blocks(file, 0)?;
        }
        record.hash = row.hash;
        record.blocks = done.blocks;
        let was_forgotten = std::mem::take(&mut record.forgotten);
        record.uncut = match (row.cut, changed) {
            (true, _) => None,
            (false, true) => record.uncut.or(Some(self.now)),
            (false, false) => record.uncut,
        };
        if record.uncut.is_none() {
            self.cutting.forget(file);
        } else if changed {
            self.out.open.push(file);
        }
        self.tx.map.set_record(file, &record)?;
        let age = self.now.micros_since(done.seen.signature.mtime.to_stamp());
        if !self.exact_times && (-RACY_MICROS..RACY_MICROS).contains(&age) || row.fuzzy {
            self.out.racy.push(file);
        }
        if was_forgotten {
            self.tx.end_stale(file, Seq(self.tx.state.head).next())?;
        }
        Ok((changed || attributes).then_some(done.row))
    }

    /// Leaves a file alone for as long as it took to read: one that never stops changing must not take all the time.
    pub(crate) fn rest(&mut self, file: FileId, took: Duration, fuzzy: bool) {
        if took >= REST_FROM {
            let rest = if fuzzy { 4 * took } else { took };
            self.out.resting.push((file, rest.min(REST_MAX)));
        }
    }

    fn note_left_out(&mut self, at: &SeenFile, what: Option<String>) {
        self.out.partial.extend(what.map(|what| (at.parent, at.name.clone(), what)));
    }

    /// Returns the row that a file needs, or why it cannot be read; says what is `left_out` of it where it needs none.
    fn row_of(
        &mut self,
        file: FileId,
        at: &SeenFile,
        cuts: &mut Vec<FileId>,
        left_out: &mut Option<String>,
    ) -> Result<io::Result<Option<Row>>, SourceError> {
        let Some(mut record) = self.tx.map.record(file)? else { return Ok(Ok(None)) };
        *left_out = record.meta.left_out();
        let (seen, then) = (at.seen.signature, record.signature);
        let is_file = at.seen.kind == Kind::File;
        let times_differ = seen.size != then.size || seen.mtime != then.mtime;
        let told = at.touch.modified || at.touch.closed;
        // What goes on while a file is read leaves the times of its beginning, and is told at its end. Stores through a
        // map may leave no times at all until it is closed, which is not worth another look at much content.
        let unseen = at.touch.modified || (told && seen.size <= STEPLESS_BYTES_MAX);
        let written = times_differ || unseen || (seen.ctime != then.ctime && (told || at.suspect));
        let owed = at.born || record.forgotten || self.restores.contains_key(&file);
        if is_file && (written || owed || at.verify) {
            let resting = self.resting.and_then(|resting| resting.get(&file).copied());
            // Who writes beside and renames over shows nobody half of it: the name comes with what was written for it.
            if let (Some(until), false) = (resting, owed || self.named.contains(&file)) {
                let touch = Touch { modified: true, ..at.touch };
                let until = until.min(Instant::now() + REST_MAX);
                self.out.put_off.push((file, touch, until));
                self.out.racy.extend(at.verify.then_some(file));
                return Ok(Ok(None));
            }
            let began = Instant::now();
            let row = self.content_of(file, at, &record)?;
            let fuzzy = matches!(&row, Ok(Some(row)) if row.row.fuzzy);
            self.rest(file, began.elapsed(), fuzzy);
            return Ok(row);
        }
        if record.uncut.is_some() {
            if at.touch.ended() {
                cuts.push(file);
            } else {
                self.cutting.was_written(file);
            }
        }
        if at.born {
            return Ok(Ok(Some(attributes_row(file, &record, Event::Created))));
        }
        if seen == then {
            return Ok(Ok(None));
        }
        let mut meta = match self.meta(at)? {
            Ok(meta) => meta,
            Err(error) => return Ok(Err(error)),
        };
        let differs = record.learn(self.owners, file, &mut meta, seen);
        self.tx.map.set_record(file, &record)?;
        Ok(Ok(differs.then(|| attributes_row(file, &record, Event::Attributes))))
    }

    fn meta(&mut self, at: &SeenFile) -> Result<io::Result<keepshare_base::Meta>, SourceError> {
        let folder = self.folders.open(&self.tx.map, self.tree, at.parent)?;
        let Some(folder) = folder else { return Ok(Err(io::ErrorKind::NotFound.into())) };
        let meta = tree::meta(self.owners, folder.as_fd(), at.name.as_ref(), &at.seen);
        // Attributes are read by the name: something else may have taken it since the look.
        let is_still = at.name.as_ref().is_none_or(|name| {
            let now = self.tree.look(folder.as_fd(), name);
            matches!(now, Ok(AtName::Object(now)) if now.inode == at.seen.inode)
        });
        Ok(if is_still { meta } else { Err(io::ErrorKind::NotFound.into()) })
    }

    fn content_of(
        &mut self,
        file: FileId,
        at: &SeenFile,
        record: &FileRecord,
    ) -> Result<io::Result<Option<Row>>, SourceError> {
        let size = at.seen.signature.size;
        let is_too_much = size > self.left && size <= STEPLESS_BYTES_MAX && !at.born;
        if is_too_much && !self.takes_name(file, size) {
            self.out.again.push((file, Touch { modified: true, ..at.touch }));
            self.out.racy.extend(at.verify.then_some(file));
            return Ok(Ok(None));
        }
        self.left = self.left.saturating_sub(size);
        let Some(name) = &at.name else { return Ok(Ok(None)) };
        let folder = self.folders.open(&self.tx.map, self.tree, at.parent)?;
        let Some(folder) = folder else { return Ok(Err(io::ErrorKind::NotFound.into())) };
        let open = match tree::open_file(folder.as_fd(), name) {
            Ok(open) => open,
            Err(error) => return Ok(Err(error)),
        };
        match self.tree.look_at(open.as_fd()) {
            Ok(now) if now.inode == record.inode => {}
            Ok(_) => return Ok(Err(io::ErrorKind::NotFound.into())),
            Err(error) => return Ok(Err(error)),
        }
        if size <= WHOLE_BYTES_MAX {
            match transfer::whole(self.tx, self.owners, &open, file, record, at.born)? {
                Ok(Some(done)) => return Ok(Ok(self.finish(file, done, at.touch)?)),
                Ok(None) => {}
                Err(error) => return Ok(Err(error)),
            }
        }
        let begun = Transfer::begin(self.tx, self.owners, open, file, record, at.born)?;
        let mut transfer = match begun {
            Ok(transfer) => transfer,
            Err(error) => return Ok(Err(error)),
        };
        transfer.touch = at.touch;
        if size > STEPLESS_BYTES_MAX && !at.born {
            // What is known of it is true of no moment until the transfer ends.
            let (signature, hash) = (Signature::default(), None);
            self.tx.map.set_record(file, &FileRecord { signature, hash, ..record.clone() })?;
            self.out.transfers.push(transfer);
            return Ok(Ok(None));
        }
        let mut sent = false;
        loop {
            match transfer.step(self.tx, self.owners, u64::MAX)? {
                Step::Part(row) => {
                    if !sent && !at.born {
                        // Once a part has left, a file that is again what it was before is still a change.
                        let (signature, hash) = (Signature::default(), None);
                        let record = FileRecord { signature, hash, ..record.clone() };
                        self.tx.map.set_record(file, &record)?;
                        sent = true;
                    }
                    self.journal_part(*row, transfer.is_between_passes())?;
                }
                Step::Paused => {}
                Step::Done(done) => return Ok(Ok(self.finish(file, *done, at.touch)?)),
                Step::Failed(error) => {
                    self.give_up(file)?;
                    return Ok(Err(error));
                }
            }
        }
    }

    /// Tells whether a file takes a name, and may be read for it although much was read in this round.
    fn takes_name(&mut self, file: FileId, size: u64) -> bool {
        let takes = self.named.contains(&file) && size <= self.named_left;
        if takes {
            self.named_left -= size;
        }
        takes
    }

    /// Forgets what is known of a content whose reading broke off: block hashes may be of bytes that never left.
    pub(crate) fn give_up(&mut self, file: FileId) -> Result<(), SourceError> {
        let Some(record) = self.tx.map.record(file)? else { return Ok(()) };
        let (signature, hash, blocks) = (Signature::default(), None, false);
        self.tx.map.set_record(file, &FileRecord { signature, hash, blocks, ..record })?;
        self.tx.map.clear_blocks(file, 0)
    }

    /// Takes a file that cannot be read out of what is shipped.
    fn unreadable(
        &mut self,
        file: FileId,
        at: &SeenFile,
        error: &io::Error,
        diffs: &mut BTreeMap<(FileId, Name), NameDiff>,
        lost: &mut HashMap<FileId, FileRecord>,
    ) -> Result<(), SourceError> {
        if error.kind() != io::ErrorKind::NotFound {
            self.out.problems.push((at.parent, at.name.clone(), error.to_string()));
        }
        // What a restore made is known to us alone until its row has left.
        let born = at.born || self.restores.get(&file).is_some_and(|note| note.born);
        if !born {
            if error.kind() == io::ErrorKind::NotFound {
                // Under another name perhaps.
                self.out.again.push((file, at.touch));
            }
            return Ok(());
        }
        for diff in diffs.values_mut().filter(|diff| diff.new.is_some_and(|(f, _)| f == file)) {
            diff.new = match diff.old {
                // The stations keep what was replaced until its successor can be read: one that was itself replaced
                // while it was read never left the name empty.
                Some((old, kind)) if self.is_kept(old, lost)? => Some((old, kind)),
                // What the name stood for before is elsewhere, whatever stands there now.
                _ => None,
            };
            self.tx.map.set_name(diff.parent, &diff.name, diff.new)?;
            if error.kind() == io::ErrorKind::NotFound {
                self.out.names_again.push((diff.parent, diff.name.clone()));
            }
        }
        self.tx.map.remove_file(file)
    }

    /// Takes a file that was lost back into the map, known by its names only; tells whether it is there.
    fn is_kept(
        &mut self,
        file: FileId,
        lost: &mut HashMap<FileId, FileRecord>,
    ) -> Result<bool, SourceError> {
        if let Some(record) = self.tx.map.record(file)? {
            return Ok(record.inode == Inode::default());
        }
        match lost.get(&file) {
            Some(record) if record.meta.kind != Kind::Dir => {
                let (inode, blocks) = (Inode::default(), false);
                self.tx.map.set_record(file, &FileRecord { inode, blocks, ..record.clone() })?;
                lost.remove(&file);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Returns rows for folders whose own attributes changed along with their names.
    fn parent_rows(
        &mut self,
        parents: &HashSet<FileId>,
        rows: &BTreeMap<FileId, Row>,
    ) -> Result<BTreeMap<FileId, Row>, SourceError> {
        let mut found = BTreeMap::new();
        for parent in parents {
            if rows.contains_key(parent) {
                continue;
            }
            let Some(mut record) = self.tx.map.record(*parent)? else { continue };
            let folder = self.folders.open(&self.tx.map, self.tree, *parent)?;
            let Some(folder) = folder else { continue };
            let Ok(seen) = self.tree.look_at(folder.as_fd()) else { continue };
            let meta = tree::meta(self.owners, folder.as_fd(), None, &seen);
            let Ok(mut meta) = meta else { continue };
            if record.learn(self.owners, *parent, &mut meta, seen.signature) {
                self.tx.map.set_record(*parent, &record)?;
                found.insert(*parent, attributes_row(*parent, &record, Event::Attributes));
            }
        }
        Ok(found)
    }

    fn journal_group(
        &mut self,
        group: Vec<NameDiff>,
        rows: &mut BTreeMap<FileId, Row>,
        folders: Vec<Row>,
        lost: &HashMap<FileId, FileRecord>,
    ) -> Result<(), SourceError> {
        let mut files: Vec<Row> = folders;
        let mut cuts = Vec::new();
        for diff in &group {
            if let Some((file, _)) = diff.new {
                files.extend(rows.remove(&file));
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
            self.journal(names, files, cuts)?;
        }
        Ok(())
    }

    pub(crate) fn journal(
        &mut self,
        names: Vec<NameRow>,
        files: Vec<Row>,
        cuts: Vec<FileId>,
    ) -> Result<(), SourceError> {
        let is_answer = |row: &&Row| row.row.event == Event::Restored;
        let answering = files.iter().find(is_answer).map(|row| row.row.file);
        let restore = answering.and_then(|file| self.restores.remove(&file));
        let payload: Vec<u8> = files.iter().flat_map(|row| row.payload.iter().copied()).collect();
        let change = Change {
            // The clock as it is: seq gives the order.
            stamp: self.now,
            user: restore.as_ref().and_then(|note| note.user.clone()),
            names,
            files: files.into_iter().map(|row| row.row).collect(),
            cuts,
            point: None,
            restore: restore.as_ref().map(|note| note.row.clone()),
            made: Vec::new(),
        };
        let seq = self.tx.append(&change)?;
        self.note_told(&change)?;
        if let Some(note) = restore {
            let epoch =
                Epoch::new(self.tx.state.epoch).ok_or(SourceError::Damaged("epoch zero"))?;
            let position = Position { origin: OriginId(self.tx.state.origin), epoch, seq };
            let outcome = note.row.outcome.clone();
            let answer = RestoreAnswer { position, outcome, still_open: false };
            self.tx.set_restore(note.row.request, &answer)?;
            self.out.restored.push((note.row, answer));
        }
        if !payload.is_empty() {
            self.out.payloads.push((seq, payload));
        }
        Ok(())
    }
}

impl Composer<'_, '_> {
    /// Notes what a change that was just journaled says of its files: a mirror says the same of them.
    fn note_told(&mut self, change: &Change) -> Result<(), SourceError> {
        let here = self.tx.state.here();
        for file in &change.cuts {
            self.tx.map.set_told(*file, |told| {
                let unknown = Told { event: Event::Saved, user: None, fuzzy: false, cut: None };
                Told { cut: Some(here), ..told.unwrap_or(unknown) }
            })?;
        }
        for row in &change.files {
            self.tx.map.set_told(row.file, |told| {
                // What was read as it is at one moment has a hash, whatever parts of it left before.
                let is_unread = row.content == Content::Same && row.hash.is_none();
                let was_fuzzy = is_unread && told.is_some_and(|told| told.fuzzy);
                Told {
                    event: row.event,
                    user: change.user.clone(),
                    fuzzy: row.fuzzy || was_fuzzy,
                    cut: row.is_version().then_some(here),
                }
            })?;
        }
        Ok(())
    }
}

fn attributes_row(file: FileId, record: &FileRecord, event: Event) -> Row {
    // What has no content is never half written, and nor is what is a version already: every state can be asked for.
    let cut = record.meta.kind != Kind::File || record.uncut.is_none();
    let content = Content::Same;
    let meta = record.meta.clone();
    let row = FileRow { file, event, meta, content, hash: record.hash, cut, fuzzy: false };
    Row { row, payload: Vec::new() }
}
