//! One turn over what is due: looking, deciding and composing, over whoever looks for it.
//!
//! A turn works in one transaction of the [`Ledger`]. It is the same over a real folder and over a simulated one: what is
//! different there is a [`Survey`].

use std::collections::{BTreeMap, BTreeSet, HashMap};

use keepshare_base::{DEPTH_MAX, FileId, Kind, Meta, Name};

use crate::{
    At, AtName, Failure, FileRecord, Known, Ledger, Looked, MapEntry, NoFolder, Seed, Seen,
    Signature,
    agenda::{self, Agenda, FileTask, NameTask},
    compose::{
        Again, Composed, Composer, Got, RestoreNote, Row, STEPLESS_BYTES_MAX, Want, When,
        cutting::Cutting,
    },
    look::{Ask, Context, Fact, Findings, Look, SeenFile},
};

/// The most names and files looked at in one turn.
pub const TASKS_PER_TURN: usize = 1024;

/// The most folders gone through in one turn, which ends when there are names enough for it.
const FOLDERS_PER_TURN: usize = 256;

/// The most files that a scan finds unchanged while it goes through the folders of one turn.
const SETTLED_PER_TURN: usize = 4096;

/// A file up to this size is passed over by a scan that finds it unchanged; a longer one may be written without any event,
/// and is remembered for that.
const SETTLED_BYTES_MAX: u64 = (1 << 20) - 1;

/// Whoever looks at a folder: it answers with facts, and decides nothing.
pub trait Survey<L: Ledger> {
    /// Answers what a round asks.
    fn answer(&mut self, ledger: &L, ask: &Ask) -> Result<Fact, L::Error>;

    /// Lets go of open folders: some have moved in the map.
    fn forget_folders(&mut self);

    /// Looks whether the source's folder is still what stands in its place; says why not.
    fn is_in_place(&self) -> Result<(), String>;

    /// Reads the names of a folder, from now on watched, or says why it cannot be opened.
    fn list(
        &mut self,
        ledger: &L,
        folder: FileId,
        record: &FileRecord,
    ) -> Result<Result<Listed, NoFolder>, L::Error>;

    /// Reads the attributes of a file of the map, where it was seen.
    fn meta(
        &mut self,
        ledger: &L,
        file: FileId,
        at: &SeenFile,
    ) -> Result<Result<Meta, Failure>, L::Error>;

    /// Looks at a folder of the map and reads its attributes; `None`: it is not there, or cannot be read.
    fn folder_meta(&mut self, ledger: &L, folder: FileId)
    -> Result<Option<(Seen, Meta)>, L::Error>;

    /// Reads a content, or begins to; `part` takes what comes before its last part.
    fn read(
        &mut self,
        ledger: &mut L,
        content: Content<'_>,
        part: &mut TakePart<'_, L>,
    ) -> Result<Got, L::Error>;
}

/// Takes a part of a content that is not its last, and whether it ends a pass over it.
pub type TakePart<'a, L> = dyn FnMut(&mut L, Row, bool) -> Result<(), <L as Known>::Error> + 'a;

/// A content to be read.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a> {
    /// Of which file.
    pub file: FileId,
    /// Where it was seen.
    pub at: &'a SeenFile,
    /// What is known of it.
    pub record: &'a FileRecord,
    /// It is long: it is read in steps, after this round.
    pub in_steps: bool,
}

/// The names of a folder.
#[derive(Debug, Default)]
pub struct Listed {
    /// Its names.
    pub names: Vec<Name>,
    /// What is wrong with it, for people.
    pub problems: Vec<String>,
}

/// What a turn works with.
#[derive(Debug)]
pub struct Turn<'a, L, S> {
    /// The map and the journal.
    pub ledger: &'a mut L,
    /// Who looks.
    pub survey: &'a mut S,
    /// What is due.
    pub agenda: &'a mut Agenda,
    /// Which states are versions.
    pub cutting: &'a mut Cutting,
    /// When it is.
    pub when: When,
    /// What is said of places for people.
    pub told: Told,
    /// What was seen cannot have been at one moment: [`Void::InItself`].
    pub in_itself: bool,
}

/// Why nothing of a turn may be kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Void {
    /// The folder has vanished meanwhile, for this reason: all that was seen to be gone would be a lie.
    Vanished(String),
    /// Folders were moved while they were looked at, and what was seen puts one into itself: no station could show that. All is to be
    /// looked at anew.
    InItself,
}

/// What a turn tells of places.
#[derive(Debug, Default)]
pub struct Told {
    /// What was looked at.
    pub looked: Vec<At>,
    /// What is not replicated, and why.
    pub problems: Vec<(At, String)>,
    /// What is replicated, but for something of it.
    pub partial: Vec<(At, String)>,
    /// Files that a scan found as they were.
    pub settled: Vec<Settled>,
}

/// A file that is as it was.
#[derive(Clone, Debug)]
pub struct Settled {
    /// Which one.
    pub file: FileId,
    /// One of its names.
    pub name: Name,
    /// How it is.
    pub signature: Signature,
}

impl<'a, L: Ledger, S: Survey<L>> Turn<'a, L, S> {
    /// Reads the folders that are due, until there are names enough for a turn.
    pub fn read_folders(&mut self) -> Result<(), L::Error> {
        for _ in 0..FOLDERS_PER_TURN {
            let settled = self.told.settled.len();
            if self.agenda.names_len() >= TASKS_PER_TURN || settled >= SETTLED_PER_TURN {
                break;
            }
            let Some((folder, scan)) = self.agenda.take_folder() else { break };
            self.read_folder(folder, scan)?;
        }
        Ok(())
    }

    /// Reads a folder, and has every name in it or in the map looked at.
    fn read_folder(&mut self, folder: FileId, scan: bool) -> Result<(), L::Error> {
        self.told.looked.push((folder, None));
        let Some(record) = self.ledger.record(folder)? else { return Ok(()) };
        let task = NameTask { scan, ..NameTask::default() };
        // A folder is opened where it is now.
        self.survey.forget_folders();
        let listed = match self.survey.list(self.ledger, folder, &record)? {
            Ok(listed) => listed,
            Err(NoFolder::Denied(failure)) => {
                self.told.problems.push(((folder, None), failure.text));
                return Ok(());
            }
            Err(none) => {
                // Moved or gone, which shows at the names on the way to it; what is in it is still unknown. It is that alone
                // which a scan goes on with: else it would begin with all that is on the way, again and again.
                let is_astray = none == NoFolder::Elsewhere;
                let task = NameTask { is_astray, scan: scan && !is_astray, ..task };
                for (parent, name) in self.ledger.places(folder)? {
                    self.agenda.add_name(parent, name, task);
                }
                if is_astray {
                    let until = self.when.now + agenda::RETRY;
                    self.agenda.put_folder_off(until, folder, scan);
                }
                return Ok(());
            }
        };
        let problems = listed.problems.into_iter().map(|problem| ((folder, None), problem));
        self.told.problems.extend(problems);
        // What came and went in it before it was known, or watched, left only its own times.
        self.agenda.add_file(folder, FileTask::default());
        let mut names: BTreeSet<Name> = listed.names.into_iter().collect();
        let mut after: Option<Name> = None;
        loop {
            let known = self.ledger.list(folder, after.as_ref(), TASKS_PER_TURN)?;
            let Some(last) = known.last() else { break };
            after = Some(last.name.clone());
            for entry in known {
                if scan && names.contains(&entry.name) && self.settle(folder, &entry)? {
                    names.remove(&entry.name);
                } else {
                    self.agenda.add_name(folder, entry.name, task);
                }
            }
        }
        for name in names {
            self.agenda.add_name(folder, name, task);
        }
        Ok(())
    }

    /// Looks at a name of a folder that is watched by now, and tells whether nothing is to be done about it: most names that a
    /// scan goes through stand for what they stood for, unchanged.
    fn settle(&mut self, folder: FileId, entry: &MapEntry) -> Result<bool, L::Error> {
        if entry.kind != Kind::File || self.told.settled.len() >= SETTLED_PER_TURN {
            return Ok(false);
        }
        let Some(record) = self.ledger.record(entry.file)? else { return Ok(false) };
        let is_plain = record.meta.kind == Kind::File
            && record.meta.size <= SETTLED_BYTES_MAX
            && record.uncut.is_none()
            && !record.forgotten
            && record.meta.left_out().is_none()
            && !self.agenda.readings.inodes().contains_key(&record.inode.number);
        if !is_plain {
            return Ok(false);
        }
        let ask = Ask::Name(folder, entry.name.clone());
        let Fact::Looked(Looked::Saw(AtName::Object(seen))) =
            self.survey.answer(self.ledger, &ask)?
        else {
            return Ok(false);
        };
        let is_same = seen.kind == Kind::File
            && seen.links == 1
            && seen.inode == record.inode
            && seen.signature == record.signature
            && self.ledger.by_number(seen.inode.number)? == Some(entry.file);
        if is_same {
            let name = entry.name.clone();
            self.told.looked.push((folder, Some(name.clone())));
            let signature = seen.signature;
            self.told.settled.push(Settled { file: entry.file, name, signature });
        }
        Ok(is_same)
    }

    /// Looks at what is due, at these names too, and at whatever else they lead to. What is left of it is on the agenda then.
    ///
    /// Nothing is read where `is_silent`: the first scan only learns what there is.
    pub fn look(
        &mut self,
        more: Vec<(FileId, Name, NameTask)>,
        seed: &Seed,
        is_silent: bool,
    ) -> Result<Findings, L::Error> {
        let mut names = self.agenda.take_names(TASKS_PER_TURN);
        names.extend(more);
        let files = self.agenda.take_files(TASKS_PER_TURN);
        self.note_looked(&names, &files)?;
        let context = Context {
            big_bytes: (!is_silent).then_some(STEPLESS_BYTES_MAX),
            is_scanning: self.agenda.is_scanning(),
            reading: self.agenda.readings.inodes(),
            strangers: &mut self.agenda.strangers,
            lost: &self.agenda.lost,
            seed,
        };
        let mut look = Look::new(context, names, files);
        while let Some(ask) = look.next(self.ledger)? {
            if look.take_moved() {
                self.survey.forget_folders();
            }
            let fact = self.survey.answer(self.ledger, &ask)?;
            look.hear(self.ledger, fact)?;
        }
        self.survey.forget_folders();
        let mut found = look.end();
        for (file, record) in &found.lost {
            // One that was made a moment ago is not to be told from the next that gets its number.
            if !self.when.is_racy(record.inode.birth) {
                self.agenda.lost.add(self.when.now, *file, record);
            }
        }
        self.told.problems.append(&mut found.problems);
        self.told.partial.append(&mut found.partial);
        for (folder, scan) in std::mem::take(&mut found.more.folders) {
            self.agenda.add_folder(folder, scan);
        }
        let names = std::mem::take(&mut found.more.names);
        self.agenda.look_again(self.when.now, names);
        self.in_itself |= self.has_ring(&found)?;
        Ok(found)
    }

    /// Tells whether a folder that moved is in itself now: one on the way to its place has moved too, since that was looked at.
    fn has_ring(&self, found: &Findings) -> Result<bool, L::Error> {
        let folders = found.diffs.values().filter_map(|diff| diff.new);
        let folders = folders.filter(|(_, kind)| *kind == Kind::Dir).map(|(folder, _)| folder);
        // A new one has nothing in it that it could be in.
        let moved = folders.filter(|folder| found.files.get(folder).is_none_or(|at| !at.born));
        for folder in moved {
            let mut at = folder;
            for _ in 0..=DEPTH_MAX {
                let Some((parent, _)) = self.ledger.links(at, 1)?.pop() else { break };
                if parent == folder {
                    return Ok(true);
                }
                at = parent;
            }
        }
        Ok(false)
    }

    /// Ends a turn, and the scan where nothing of that is left; tells whether it has ended. Or says why nothing of the turn may
    /// be kept.
    pub fn end(&mut self) -> Result<bool, Void> {
        self.survey.is_in_place().map_err(Void::Vanished)?;
        if self.in_itself {
            return Err(Void::InItself);
        }
        Ok(self.agenda.end_scan())
    }

    fn note_looked(
        &mut self,
        names: &[(FileId, Name, NameTask)],
        files: &[(FileId, FileTask)],
    ) -> Result<(), L::Error> {
        let names = names.iter().map(|(parent, name, _)| (*parent, Some(name.clone())));
        self.told.looked.extend(names);
        for (file, _) in files {
            let links = self.ledger.links(*file, 64)?;
            let links = links.into_iter().map(|(parent, name)| (parent, Some(name)));
            self.told.looked.extend(links);
        }
        Ok(())
    }

    /// Takes what the first scan saw into the map: nothing is journaled, because nobody has anything yet. Returns what is to be
    /// looked at again.
    ///
    /// A mirror calls what it reads by the scan's end where the times are those that the scan saw. What was just being written
    /// may be something else under the same times, and a mirror does not take it for that.
    pub fn learn(&mut self, found: &Findings) -> Result<Again, L::Error> {
        let mut again = Again::default();
        for (file, at) in &found.files {
            let Some(mut record) = self.ledger.record(*file)? else { continue };
            let mut is_new = false;
            if !at.born
                && record.signature != at.seen.signature
                && let Ok(meta) = self.survey.meta(self.ledger, *file, at)?
            {
                record.learn(&meta, at.seen.signature);
                record.hash = None;
                is_new = true;
            }
            if again.doubt_unread(self.when, *file, &mut record) || is_new {
                self.ledger.set_record(*file, &record)?;
            }
            if let Some(what) = record.meta.left_out() {
                self.told.partial.push(((at.parent, at.name.clone()), what));
            }
        }
        Ok(again)
    }

    /// Reads what may differ, and journals what was found, and that the states of `cuts` are versions.
    ///
    /// `ready` are the last rows of files that were read in steps, and those that `is_read` tells of are still read so.
    pub fn compose(
        &mut self,
        found: Findings,
        ready: BTreeMap<FileId, Row>,
        cuts: Vec<FileId>,
        restores: HashMap<FileId, RestoreNote>,
        is_read: impl Fn(FileId) -> bool,
    ) -> Result<Composed, L::Error> {
        let mut composer = Composer::new(self.when, self.cutting, restores);
        composer.journal_cuts(self.ledger, cuts)?;
        composer.take(found, ready, is_read);
        while let Some(want) = composer.next(self.ledger, |file| self.agenda.resting(file))? {
            let got = match want {
                Want::Meta(file, at) => Got::Meta(self.survey.meta(self.ledger, file, &at)?),
                Want::Folder(folder) => Got::Folder(self.survey.folder_meta(self.ledger, folder)?),
                Want::Content { file, at, record, in_steps } => {
                    let content = Content { file, at: &at, record: &record, in_steps };
                    let mut part = |ledger: &mut L, row: Row, ends_pass: bool| {
                        composer.hear(ledger, Got::Part(Box::new(row), ends_pass))
                    };
                    self.survey.read(self.ledger, content, &mut part)?
                }
            };
            composer.hear(self.ledger, got)?;
        }
        let mut composed = composer.end(self.ledger)?;
        self.told.problems.append(&mut composed.problems);
        self.told.partial.append(&mut composed.partial);
        Ok(composed)
    }
}

/// Tells whether a file is a folder, among what was found.
pub fn is_folder(at: &SeenFile) -> bool {
    at.seen.kind == Kind::Dir
}
