//! Makes changes of what a round found.
//!
//! A composer says which contents are to be read ([`Composer::next`]), hears what was read ([`Composer::hear`]), decides which
//! states are versions (`contents`), puts names and files that belong together into one change ([`grouping`], [`fitting`])
//! and appends it to the journal ([`Composer::end`]). Content that does not fit goes ahead in changes of its own, so that a
//! name never shows a file that is not whole.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    time::Duration,
};

use keepshare_base::{
    Content, ContentHash, Event, FileId, FileRow, FileTime, Kind, Meta, Name, Position, RestoreRow,
    Seq, Stamp,
};
use keepshare_proto::MonoTime;

use crate::{
    At, Failure, FileRecord, Ledger, Seen, Touch,
    agenda::{Agenda, FileTask, NameTask, RACY_LOOK},
    look::{Findings, INLINE_BYTES_MAX, NameDiff, SeenFile},
};

mod contents;
pub mod cutting;
pub mod fitting;
pub mod grouping;
mod journaling;
mod late;

use cutting::Cutting;

/// A file up to this size is read within its round; a longer one in steps between rounds.
pub const STEPLESS_BYTES_MAX: u64 = 4 << 20;

/// The most that is read beyond a round's share, of files that take names.
const NAMED_BYTES_MAX: u64 = 64 << 20;

/// The longest time for which a file is left alone.
const REST_MAX: Duration = Duration::from_secs(2);

/// A row with its content.
#[derive(Clone, Debug)]
pub struct Row {
    /// The row.
    pub row: FileRow,
    /// Its bytes.
    pub payload: Vec<u8>,
}

/// A content that was read to its end.
#[derive(Debug)]
pub struct Done {
    /// The row; its content is `Same` when only attributes differ.
    pub row: Row,
    /// What the content belongs to.
    pub seen: Seen,
    /// There are block hashes for it.
    pub blocks: bool,
    /// Something of the content differed from what was sent before.
    pub changed: bool,
}

/// A restore that is waiting for its change.
#[derive(Clone, Debug)]
pub struct RestoreNote {
    /// What the change says of it.
    pub row: RestoreRow,
    /// Who asked.
    pub user: Option<String>,
    /// Where it was written.
    pub place: (FileId, Name),
    /// The file was not known before.
    pub born: bool,
}

/// The times of a round, and what the file system can tell of times.
#[derive(Clone, Copy, Debug)]
pub struct When {
    /// The time of day: what changes are stamped with.
    pub stamp: Stamp,
    /// The running clock.
    pub now: MonoTime,
    /// The file system's times tell every modification.
    pub exact_times: bool,
}

impl When {
    /// Tells whether something may have happened after a time of a file, and have left that time all the same.
    pub fn is_racy(self, time: FileTime) -> bool {
        let age = self.stamp.micros_since(time.to_stamp());
        !self.exact_times && contents::RACY_MICROS.contains(&age)
    }
}

/// What a composer wants to have read.
#[derive(Clone, Debug)]
pub enum Want {
    /// A content: answered by any number of [`Got::Part`]s and one of the others.
    Content {
        /// Of which file.
        file: FileId,
        /// Where it was seen.
        at: SeenFile,
        /// What is known of it.
        record: Box<FileRecord>,
        /// It is long: it is read in steps, after this round ([`Got::InSteps`]).
        in_steps: bool,
    },
    /// The attributes of a file where it was seen: answered by [`Got::Meta`].
    Meta(FileId, SeenFile),
    /// What a folder is now: answered by [`Got::Folder`].
    Folder(FileId),
}

/// What was read.
#[derive(Debug)]
pub enum Got {
    /// A part of a content that is not its last; the last of a pass over it or not.
    Part(Box<Row>, bool),
    /// A content was read to its end, in this time.
    Content(Box<Done>, Duration),
    /// A content is read in steps from now on.
    InSteps,
    /// A content could not be read to its end, after this time; some of it may have been read, or nothing.
    Unread(Failure, Duration, bool),
    /// The attributes.
    Meta(Result<Meta, Failure>),
    /// A folder and its attributes; `None`: it is not there, or cannot be read.
    Folder(Option<(Seen, Meta)>),
}

/// What was journaled, and what is left to do.
#[derive(Debug, Default)]
pub struct Composed {
    /// The content of journaled changes.
    pub payloads: Vec<(Seq, Vec<u8>)>,
    /// The changes that answer restores.
    pub restored: Vec<(RestoreRow, Position)>,
    /// What is to be looked at again.
    pub again: Again,
    /// Files that could not be read.
    pub problems: Vec<(At, String)>,
    /// Files that are shipped, but for something of them.
    pub partial: Vec<(At, String)>,
}

/// What a composer leaves for the agenda.
#[derive(Debug, Default)]
pub struct Again {
    /// Files to look at again at once.
    pub files: Vec<(FileId, Touch)>,
    /// Names to look at again at once: what stood there went while it was read.
    pub names: Vec<(FileId, Name)>,
    /// Files whose times may hide a change of the content: to be compared a little later.
    pub racy: Vec<FileId>,
    /// And those whose times may hide one of the attributes.
    pub unsure: Vec<FileId>,
    /// Files that were written and perhaps are still open.
    pub open: Vec<FileId>,
    /// Files that took long to read, and for how long they are now left alone.
    pub resting: Vec<(FileId, Duration)>,
    /// Files to look at when they have been left alone.
    pub put_off: Vec<(FileId, Touch, MonoTime)>,
}

impl Again {
    /// Has attributes read again a little later that may have changed since they were seen without another time; tells whether
    /// they may. The map must say so, too, for the scan after a crash.
    fn doubt_attributes(&mut self, when: When, file: FileId, record: &mut FileRecord) -> bool {
        let is_racy = when.is_racy(record.signature.ctime);
        if is_racy {
            self.unsure.push(file);
            record.signature.ctime = FileTime::default();
        }
        is_racy
    }

    /// The same of a file that nobody has read: its content, too, may be another under the same times.
    pub(crate) fn doubt_unread(
        &mut self,
        when: When,
        file: FileId,
        record: &mut FileRecord,
    ) -> bool {
        let is_racy = record.meta.kind == Kind::File && when.is_racy(record.signature.mtime);
        if is_racy {
            self.racy.push(file);
            record.signature.mtime = FileTime::default();
        }
        is_racy || self.doubt_attributes(when, file, record)
    }

    /// Puts it on the agenda.
    pub fn put_on(self, agenda: &mut Agenda, now: MonoTime) {
        let task = |touch| FileTask { touch, ..FileTask::default() };
        for (file, touch) in self.files {
            agenda.add_file(file, task(touch));
        }
        for (file, touch, until) in self.put_off {
            agenda.put_file_off(until, file, task(touch));
        }
        for file in self.open {
            agenda.was_written(now, file);
        }
        for (file, rest) in self.resting {
            agenda.rest(file, now + rest);
        }
        for (parent, name) in self.names {
            agenda.add_name(parent, name, NameTask::default());
        }
        for file in self.racy {
            let task = FileTask { verify: true, ..FileTask::default() };
            agenda.put_file_off(now + RACY_LOOK, file, task);
        }
        for file in self.unsure {
            agenda.put_file_off(now + RACY_LOOK, file, FileTask::default());
        }
    }
}

impl Composed {
    /// Adds what was composed after it.
    pub fn append(&mut self, after: Self) {
        self.payloads.extend(after.payloads);
        self.restored.extend(after.restored);
        self.problems.extend(after.problems);
        self.partial.extend(after.partial);
        let Again { files, names, racy, unsure, open, resting, put_off } = after.again;
        self.again.files.extend(files);
        self.again.names.extend(names);
        self.again.racy.extend(racy);
        self.again.unsure.extend(unsure);
        self.again.open.extend(open);
        self.again.resting.extend(resting);
        self.again.put_off.extend(put_off);
    }
}

/// Makes changes of one round.
///
/// Beyond ten fields: what it is given, what it collects, and what it has left of its shares.
#[derive(Debug)]
pub struct Composer<'a> {
    when: When,
    /// Which states are versions.
    cutting: &'a mut Cutting,
    /// Restores just written.
    restores: HashMap<FileId, RestoreNote>,
    found: Findings,
    /// Files still to be decided about, then folders.
    files: VecDeque<(FileId, SeenFile)>,
    folders: VecDeque<FileId>,
    /// The row of each file, ready to be journaled.
    rows: BTreeMap<FileId, Row>,
    parents: BTreeMap<FileId, Row>,
    failed: Vec<(FileId, SeenFile, Failure)>,
    /// Files of which only that their state is a version is to be journaled: by what was seen, and by what was read.
    cuts: Vec<FileId>,
    late_cuts: Vec<FileId>,
    /// Files that have taken a name in this round.
    named: HashSet<FileId>,
    left: u64,
    named_left: u64,
    awaiting: Option<Awaiting>,
    out: Composed,
}

/// What the next answer is about.
#[derive(Debug)]
struct Awaiting {
    file: FileId,
    at: Option<SeenFile>,
    /// A part of its content has left.
    has_left: bool,
}

impl<'a> Composer<'a> {
    /// Begins with nothing found.
    pub fn new(
        when: When,
        cutting: &'a mut Cutting,
        restores: HashMap<FileId, RestoreNote>,
    ) -> Self {
        Self {
            when,
            cutting,
            restores,
            found: Findings::default(),
            files: VecDeque::new(),
            folders: VecDeque::new(),
            rows: BTreeMap::new(),
            parents: BTreeMap::new(),
            failed: Vec::new(),
            cuts: Vec::new(),
            late_cuts: Vec::new(),
            named: HashSet::new(),
            left: INLINE_BYTES_MAX,
            named_left: NAMED_BYTES_MAX,
            awaiting: None,
            out: Composed::default(),
        }
    }

    /// Takes in what a round found, but for files that `is_read` in steps just now. `ready` are the last rows of files that
    /// were read in steps.
    pub fn take(
        &mut self,
        mut found: Findings,
        ready: BTreeMap<FileId, Row>,
        is_read: impl Fn(FileId) -> bool,
    ) {
        self.rows = ready;
        let named = found.diffs.values().filter(|diff| diff.old != diff.new);
        self.named = named.filter_map(|diff| diff.new).map(|(file, _)| file).collect();
        for (file, at) in std::mem::take(&mut found.files) {
            match self.rows.get(&file) {
                Some(row) => {
                    let what = row.row.meta.left_out();
                    self.note_left_out(&at, what);
                }
                None if is_read(file) => {}
                None => self.files.push_back((file, at)),
            }
        }
        self.folders = found.parents.iter().copied().collect();
        self.found = found;
    }

    /// Returns what is to be read next, to be answered by [`Self::hear`]; `None` when nothing is.
    pub fn next<L: Ledger>(
        &mut self,
        ledger: &mut L,
        resting: impl Fn(FileId) -> Option<MonoTime>,
    ) -> Result<Option<Want>, L::Error> {
        assert!(self.awaiting.is_none(), "a question was not answered");
        while let Some((file, at)) = self.files.pop_front() {
            if let Some(want) = self.decide(ledger, file, &at, resting(file))? {
                self.awaiting = Some(Awaiting { file, at: Some(at), has_left: false });
                return Ok(Some(want));
            }
        }
        while let Some(folder) = self.folders.pop_front() {
            if !self.rows.contains_key(&folder) && ledger.record(folder)?.is_some() {
                self.awaiting = Some(Awaiting { file: folder, at: None, has_left: false });
                return Ok(Some(Want::Folder(folder)));
            }
        }
        Ok(None)
    }

    /// Hears what was read.
    ///
    /// # Panics
    ///
    /// When it answers something else.
    pub fn hear<L: Ledger>(&mut self, ledger: &mut L, got: Got) -> Result<(), L::Error> {
        let awaiting = self.awaiting.take().expect("something was asked for");
        match (awaiting, got) {
            (Awaiting { file, at: Some(at), has_left }, Got::Part(row, ends_pass)) => {
                if !has_left
                    && !at.born
                    && let Some(mut record) = ledger.record(file)?
                {
                    // Once a part has left, a file that is again what it was before is still a change.
                    record.doubt();
                    ledger.set_record(file, &record)?;
                }
                self.awaiting = Some(Awaiting { file, at: Some(at), has_left: true });
                self.journal_part(ledger, *row, ends_pass)
            }
            (Awaiting { file, at: Some(at), .. }, Got::Content(done, took)) => {
                let fuzzy = done.row.row.fuzzy;
                let row = self.finish(ledger, file, *done, at.touch)?;
                self.rest(file, took, fuzzy && row.is_some());
                if let Some(row) = row {
                    let what = row.row.meta.left_out();
                    self.note_left_out(&at, what);
                    self.rows.insert(file, row);
                } else {
                    self.note_known_left_out(ledger, file, &at)?;
                }
                Ok(())
            }
            (Awaiting { file, .. }, Got::InSteps) => {
                // What is known of it is true of no moment until it was read.
                let Some(mut record) = ledger.record(file)? else { return Ok(()) };
                record.doubt();
                ledger.set_record(file, &record)
            }
            (Awaiting { file, at: Some(at), .. }, Got::Unread(failure, took, has_begun)) => {
                if has_begun {
                    give_up(ledger, file)?;
                }
                self.rest(file, took, false);
                self.failed.push((file, at, failure));
                Ok(())
            }
            (Awaiting { file, at: Some(at), .. }, Got::Meta(meta)) => {
                self.learn(ledger, file, at, meta)
            }
            (Awaiting { file, at: None, .. }, Got::Folder(folder)) => {
                let (Some((seen, meta)), Some(mut record)) = (folder, ledger.record(file)?) else {
                    return Ok(());
                };
                let differs = record.learn(&meta, seen.signature);
                if self.doubt_attributes(file, &mut record) || differs {
                    ledger.set_record(file, &record)?;
                }
                if differs {
                    let row = attributes_row(file, &record, Event::Attributes);
                    self.parents.insert(file, row);
                }
                Ok(())
            }
            (awaiting, got) => panic!("{got:?} answers nothing: {awaiting:?}"),
        }
    }

    /// Journals what was found and read.
    pub fn end<L: Ledger>(mut self, ledger: &mut L) -> Result<Composed, L::Error> {
        let mut found = std::mem::take(&mut self.found);
        let mut lost: HashMap<FileId, FileRecord> = found.lost.into_iter().collect();
        for (file, at, failure) in std::mem::take(&mut self.failed) {
            self.unreadable(ledger, file, &at, failure, &mut found.diffs, &mut lost)?;
        }
        let diffs: Vec<NameDiff> =
            found.order.iter().filter_map(|key| found.diffs.remove(key)).collect();
        let diffs: Vec<NameDiff> = diffs.into_iter().filter(|d| d.old != d.new).collect();
        let groups = grouping::group(diffs);
        let mut last_use: HashMap<FileId, usize> = HashMap::new();
        for (i, group) in groups.iter().enumerate() {
            last_use.extend(group.iter().map(|diff| (diff.parent, i)));
        }
        for (i, group) in groups.into_iter().enumerate() {
            let touched = group.iter().filter(|diff| last_use.get(&diff.parent) == Some(&i));
            let folders = touched.filter_map(|d| self.parents.remove(&d.parent)).collect();
            self.journal_group(ledger, group, folders, &lost)?;
        }
        let mut alone: Vec<Row> = std::mem::take(&mut self.rows).into_values().collect();
        alone.extend(std::mem::take(&mut self.parents).into_values());
        for row in alone {
            self.journal(ledger, Vec::new(), vec![row], Vec::new())?;
        }
        let cuts = std::mem::take(&mut self.cuts);
        self.journal_cuts(ledger, cuts)?;
        self.journal_late_cuts(ledger)?;
        Ok(self.out)
    }

    /// Leaves a file alone for as long as it took to read: one that never stops changing must not take all the time.
    pub fn rest(&mut self, file: FileId, took: Duration, fuzzy: bool) {
        if took >= contents::REST_FROM {
            let rest = if fuzzy { 4 * took } else { took };
            self.out.again.resting.push((file, rest.min(REST_MAX)));
        }
    }

    fn note_left_out(&mut self, at: &SeenFile, what: Option<String>) {
        self.out.partial.extend(what.map(|what| ((at.parent, at.name.clone()), what)));
    }

    fn note_known_left_out<L: Ledger>(
        &mut self,
        ledger: &L,
        file: FileId,
        at: &SeenFile,
    ) -> Result<(), L::Error> {
        let record = ledger.record(file)?;
        self.note_left_out(at, record.and_then(|record| record.meta.left_out()));
        Ok(())
    }
}

/// Forgets what is known of a content whose reading broke off: block hashes may be of bytes that never left.
pub fn give_up<L: Ledger>(ledger: &mut L, file: FileId) -> Result<(), L::Error> {
    let Some(mut record) = ledger.record(file)? else { return Ok(()) };
    record.doubt();
    record.blocks = false;
    ledger.set_record(file, &record)?;
    ledger.clear_blocks(file)
}

fn attributes_row(file: FileId, record: &FileRecord, event: Event) -> Row {
    // What has no content is never half written, and nor is what is a version already: every state can be asked for.
    let cut = record.meta.kind != Kind::File || record.uncut.is_none();
    let content = Content::Same;
    let meta = record.meta.clone();
    let row = FileRow { file, event, meta, content, hash: record.hash, cut, fuzzy: false };
    Row { row, payload: Vec::new() }
}

/// Returns the row of a file whose content is not given: it is empty, and no version.
pub fn placeholder(row: &FileRow) -> FileRow {
    let mut meta = row.meta.clone();
    meta.size = 0;
    let content = Content::Extents { fresh: true, extents: vec![], hash: ContentHash::of(b"") };
    FileRow { meta, content, hash: None, cut: false, fuzzy: false, ..row.clone() }
}
