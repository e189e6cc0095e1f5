//! What a source still has to look at: the one place where a name, a file or a folder waits. In memory only: a restart begins
//! with a scan.
//!
//! Who has something looked at, when, and until when:
//!
//! | why | what | who says so | when | until |
//! |---|---|---|---|---|
//! | told | a name, a file | capture ([`Agenda::resolve`]) | at once | it was looked at |
//! | new | a folder, with all names in it | a look that found it | at once, before folders of a scan | it was read |
//! | scan | a folder, then its names; `suspect`: what is written raises no event | [`Agenda::begin_scan`]: start, schedule, events lost, a mount | after what was told | the scan ends |
//! | gone | a name that showed nothing | a look | after [`SECOND_LOOK`], when nothing that was told or is astray is left to show where it has moved to, but after 100 ms and some rounds in any case; in a scan at its end | the second look, or something is told of it |
//! | astray | a name, a folder whose folder is not where the map has it, and the names on the way there | a look | after [`RETRY`] | its folder was found, or is known to be gone |
//! | too much | a name, a file | a round that read as much as it may | the next round | it was read |
//! | racy | a file, compared whole, or its attributes | a look so close to a modification that times may hide another, or at a file that changed meanwhile; the map says so too, for the scan after a crash | after [`RACY_LOOK`] | a look that is neither |
//! | resting | a file | a reading that took long | when it has rested for as long ([`Agenda::rest`]) | it was read |
//! | written | a file, `suspect`: stores through a memory map raise no event | a reading that left it open | every [`WRITTEN_EVERY`], for [`WRITTEN_FOR`] | that is over |
//! | open | a file, compared where it was open before | whoever asks the kernel who has files open (`Sweep`) | at once | it was looked at |
//! | linked | a file with names outside | a look that counted its names | when nothing else is left | it is watched |
//! | failed | a name, a folder | a look that failed ([`problems`]) | after 1 s, twice as long each time, at most 60 s | it is well |
//! | waiting | the names of a new big file | a look that found it | when its content was read ([`Readings`]) | it has them |
//!
//! What is told of an item that waits has it looked at at once, for both reasons: it never waits in two places.
//! What a restore replaced is in nobody's folder any more: who looks at that again stands in [`restores`](crate::restores).

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque},
    time::Duration,
};

use keepshare_base::{FileId, Name, escape_name};
use keepshare_proto::MonoTime;

use crate::{Ledger, Marks, Object, Touch};

mod gone;
mod later;
mod lost;
pub mod problems;
mod readings;
mod rests;
mod strangers;

use gone::Gone;
use later::{Item, Later, Task};
pub use lost::Lost;
use problems::Problems;
pub use readings::Readings;
use rests::Rests;
pub use rests::{WRITTEN_EVERY, WRITTEN_FOR};
pub use strangers::Strangers;

/// When a name that is gone is looked at again, before its file is given up.
pub const SECOND_LOOK: Duration = Duration::from_millis(4);

/// When a file is compared again whose times may hide a change.
pub const RACY_LOOK: Duration = Duration::from_millis(12);

/// When a name whose folder could not be opened is tried again.
pub const RETRY: Duration = Duration::from_millis(20);

/// A name to look at.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct NameTask {
    /// How what it stands for was touched.
    pub touch: Touch,
    /// It was seen to be gone before.
    pub second: bool,
    /// A scan asks: nobody said that it changed, and nobody would have.
    pub scan: bool,
    /// Its folder was not where the map had it.
    pub is_astray: bool,
    /// How often that was so.
    pub tries: u8,
}

/// A file to look at.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FileTask {
    /// How it was touched.
    pub touch: Touch,
    /// Compare its content even if its times say nothing.
    pub verify: bool,
    /// Compare its content where its times differ at all: nobody would have told that it was written.
    pub suspect: bool,
}

/// What is to be looked at, and when.
///
/// Beyond ten fields: one for each way to wait, and what is remembered for who looks.
#[derive(Debug, Default)]
pub struct Agenda {
    names: BTreeMap<(FileId, Name), NameTask>,
    /// Names that are tried again because their folder was not found: what is gone does not wait for them for ever, whose
    /// folder may be gone.
    astray: BTreeMap<(FileId, Name), NameTask>,
    files: BTreeMap<FileId, FileTask>,
    folders: Folders,
    gone: Gone,
    later: Later,
    scan: Scan,
    /// New big files being read, and the names that wait for them.
    pub readings: Readings,
    /// How objects were touched that the map does not know yet.
    pub strangers: Strangers,
    /// What lost its last name a short while ago.
    pub lost: Lost,
    /// What could not be looked at.
    pub problems: Problems,
    rests: Rests,
}

/// Folders to read, and whether all below them are to be compared too.
#[derive(Debug, Default)]
struct Folders {
    queue: VecDeque<(FileId, bool)>,
    queued: HashSet<FileId>,
    /// Folders that were not where the map has them, and are tried again: nothing waits for them for ever, who may be gone.
    astray: BTreeMap<FileId, bool>,
}

/// The scan that runs.
#[derive(Debug, Default)]
struct Scan {
    is_running: bool,
    /// Names that it did not find: looked at again at its end, when what moved has been found.
    vanished: BTreeSet<(FileId, Name)>,
}

impl Agenda {
    /// Tells whether there is something to do now.
    pub fn is_busy(&self) -> bool {
        // What a scan has put off has its time.
        (self.scan.is_running && (!self.scan.vanished.is_empty() || !self.later.has_scan()))
            || !self.names.is_empty()
            || !self.astray.is_empty()
            || self.gone.is_due()
            || !self.files.is_empty()
            || !self.folders.queue.is_empty()
            || !self.folders.astray.is_empty()
    }

    /// Returns how much there is to do, now or later, but for what is only looked at now and then.
    pub fn len(&self) -> usize {
        let names = self.names.len() + self.astray.len() + self.gone.len();
        let folders = self.folders.queue.len() + self.folders.astray.len();
        names + self.scan.vanished.len() + self.files.len() + folders + self.later.len()
    }

    /// Tells whether nothing is to be looked at.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns when there is something to do next; `None`: when something is told.
    pub fn next_deadline(&self) -> Option<MonoTime> {
        let written = (!self.rests.written.is_empty()).then_some(self.rests.next_written);
        [self.later.next(), self.problems.next_try(), written].into_iter().flatten().min()
    }

    /// Has a name looked at. One that waits for its second look goes on to: nobody says that something happened to it.
    pub fn add_name(&mut self, parent: FileId, name: Name, task: NameTask) {
        let place = (parent, name);
        if task.second {
            self.gone.add(place, task);
        } else if !self.gone.join(&place, task) && !self.later.join_second(&place, task) {
            self.tell(place, task);
        }
    }

    /// Hears that something happened to a name: whatever it waits for, this is its first look.
    fn tell_name(&mut self, parent: FileId, name: Name, touch: Touch) {
        let place = (parent, name);
        self.gone.remove(&place);
        self.tell(place, NameTask { touch, ..NameTask::default() });
    }

    fn tell(&mut self, place: (FileId, Name), task: NameTask) {
        let waiting = match self.later.take_name(&place) {
            Some(Task::Name(waiting)) if !waiting.second => Some(waiting),
            _ => None,
        };
        let mut task = task;
        waiting.into_iter().for_each(|waiting| task.merge(waiting));
        self.astray.remove(&place).into_iter().for_each(|astray| task.merge(astray));
        if task.is_astray && !self.names.contains_key(&place) {
            self.astray.insert(place, task);
        } else {
            self.names.entry(place).or_insert(task).merge(task);
        }
    }

    /// Has a file looked at.
    pub fn add_file(&mut self, file: FileId, task: FileTask) {
        let entry = self.files.entry(file).or_insert(task);
        entry.merge(task);
        if let Some(Task::File(waiting)) = self.later.take(&Item::File(file)) {
            entry.merge(waiting);
        }
    }

    /// Has a folder read, and all below it too where a scan asks.
    pub fn add_folder(&mut self, folder: FileId, scan: bool) {
        let waited = matches!(self.later.take(&Item::Folder(folder)), Some(Task::Folder(true)));
        let Folders { queue, queued, astray } = &mut self.folders;
        let scan = scan || waited || astray.remove(&folder) == Some(true);
        if !queued.insert(folder) {
            if !scan {
                return;
            }
            queue.retain(|(queued, _)| *queued != folder);
        }
        if scan {
            queue.push_back((folder, scan));
        } else {
            // Something was made or moved just now: what is in it is not left to wait for a scan.
            queue.push_front((folder, scan));
        }
    }

    /// Has a name looked at later, unless it is looked at before.
    pub fn put_name_off(&mut self, until: MonoTime, parent: FileId, name: Name, task: NameTask) {
        let place = (parent, name.clone());
        let now = self.names.get_mut(&place).or_else(|| self.astray.get_mut(&place));
        match now {
            // What was told of it since the look counts for a first look.
            Some(now) if !task.second => now.merge(task),
            Some(_) => {}
            None => self.later.put(until, Item::Name(parent, name), Task::Name(task)),
        }
    }

    /// Has a file looked at later, unless it is looked at before.
    pub fn put_file_off(&mut self, until: MonoTime, file: FileId, task: FileTask) {
        match self.files.get_mut(&file) {
            Some(now) => now.merge(task),
            None => self.later.put(until, Item::File(file), Task::File(task)),
        }
    }

    /// Has a folder tried again.
    fn add_astray(&mut self, folder: FileId, scan: bool) {
        if !self.folders.queued.contains(&folder) {
            *self.folders.astray.entry(folder).or_insert(scan) |= scan;
        } else if scan {
            self.add_folder(folder, true);
        }
    }

    /// Has a folder read later, unless it is read before.
    pub fn put_folder_off(&mut self, until: MonoTime, folder: FileId, scan: bool) {
        if !self.folders.queued.contains(&folder) {
            self.later.put(until, Item::Folder(folder), Task::Folder(scan));
        } else if scan {
            self.add_folder(folder, true);
        }
    }

    /// Takes back what a look leaves of names: at once, later, or at the end of the scan.
    pub fn look_again(&mut self, now: MonoTime, names: Vec<(FileId, Name, NameTask)>) {
        for (parent, name, task) in names {
            if task.second && task.scan && self.scan.is_running {
                self.scan.vanished.insert((parent, name));
            } else if task.second {
                self.put_name_off(now + SECOND_LOOK, parent, name, task);
            } else if task.is_astray && task.tries > 0 {
                self.put_name_off(now + RETRY, parent, name, task);
            } else {
                self.add_name(parent, name, task);
            }
        }
    }

    /// Has everything compared.
    pub fn begin_scan(&mut self) {
        self.scan.is_running = true;
        self.problems.begin_scan();
        self.add_folder(FileId::ROOT, true);
        self.add_file(FileId::ROOT, FileTask::default());
    }

    /// Tells whether everything is being compared.
    pub fn is_scanning(&self) -> bool {
        self.scan.is_running
    }

    /// Ends the scan where nothing of it is left; tells whether it has ended.
    ///
    /// What it did not find is looked at for the second time before, when all that moved has been found. What is astray is not
    /// waited for with that: the folder that it waits for may be among what was not found.
    pub fn end_scan(&mut self) -> bool {
        let is_left =
            !self.names.is_empty() || !self.gone.is_empty() || !self.folders.queue.is_empty();
        if !self.scan.is_running || is_left {
            return false;
        }
        let vanished = std::mem::take(&mut self.scan.vanished);
        let is_astray = self.folders.astray.values().any(|scan| *scan)
            || self.astray.values().any(|task| task.scan);
        self.scan.is_running = !vanished.is_empty() || is_astray || self.later.has_scan();
        for (parent, name) in vanished {
            self.add_name(parent, name, NameTask { second: true, ..NameTask::default() });
        }
        !self.scan.is_running
    }

    /// Takes up what waited until now.
    pub fn take_due(&mut self, now: MonoTime) {
        for (item, task) in self.later.take_due(now) {
            match (item, task) {
                (Item::Name(parent, name), Task::Name(task)) => self.add_name(parent, name, task),
                (Item::File(file), Task::File(task)) => self.add_file(file, task),
                (Item::Folder(folder), Task::Folder(scan)) => self.add_astray(folder, scan),
                (item, task) => unreachable!("{task:?} of {item:?}"),
            }
        }
        for (parent, name) in self.problems.take_due(now) {
            match name {
                Some(name) => self.add_name(parent, name, NameTask::default()),
                None => self.add_folder(parent, true),
            }
        }
        if !self.scan.is_running {
            self.lost.forget_old(now);
        }
        self.take_written(now);
        self.rests.resting.retain(|_, until| *until > now);
        let is_astray =
            self.later.has_astray() || !self.astray.is_empty() || !self.folders.astray.is_empty();
        self.gone.pass(now, is_astray);
    }

    /// Turns what capture marked, which knows inode numbers, into names and files.
    pub fn resolve<L: Ledger>(
        &mut self,
        now: MonoTime,
        marks: &mut Marks,
        ledger: &L,
    ) -> Result<(), L::Error> {
        for ((folder, name), touch) in marks.names.drain() {
            let Some(parent) = ledger.by_number(folder)? else { continue };
            let Ok(name) = escape_name(&name) else {
                // No set can hold it: reading the folder tells whether it is there.
                self.add_folder(parent, false);
                continue;
            };
            self.tell_name(parent, name, touch);
        }
        for (object, touch) in marks.objects.drain() {
            // It may have been forgotten since.
            if let Some(file) = ledger.by_number(object)? {
                self.add_file(file, FileTask { touch, ..FileTask::default() });
            }
        }
        for (object, touch) in marks.strangers.drain() {
            let known = ledger.by_number(object.number)?;
            let record = known.map(|file| ledger.record(file)).transpose()?.flatten();
            match (known, record) {
                (Some(file), Some(record)) if Object::from(record.inode) == object => {
                    self.add_file(file, FileTask { touch, ..FileTask::default() });
                }
                _ => self.strangers.add(now, object, touch),
            }
        }
        Ok(())
    }

    /// Tells whether something may have been moved to where nobody has looked yet.
    pub fn may_find_moved(&self) -> bool {
        !self.names.is_empty() || self.folders.queue.front().is_some_and(|(_, scan)| !scan)
    }

    /// Tells whether something may be found that is not known yet.
    pub fn may_find_new(&self) -> bool {
        !self.names.is_empty() || !self.folders.queue.is_empty()
    }

    /// Returns how many names are to be looked at at once.
    pub fn names_len(&self) -> usize {
        self.names.len()
    }

    /// Takes the next folder.
    pub fn take_folder(&mut self) -> Option<(FileId, bool)> {
        let Folders { queue, queued, astray } = &mut self.folders;
        let Some((folder, scan)) = queue.pop_front() else { return astray.pop_first() };
        queued.remove(&folder);
        Some((folder, scan))
    }

    /// Takes the names of a round, at most `limit` and as many that are gone: what is told first, then what is astray, and what
    /// is gone when nothing is told, or has waited long enough.
    pub fn take_names(&mut self, limit: usize) -> Vec<(FileId, Name, NameTask)> {
        let may_have_moved = self.may_find_moved();
        let mut taken = first(&mut self.names, limit);
        taken.append(&mut first(&mut self.astray, limit - taken.len()));
        taken.append(&mut self.gone.take(limit, may_have_moved));
        taken.into_iter().map(|((parent, name), task)| (parent, name, task)).collect()
    }

    /// Takes the files of a round, at most `limit`.
    pub fn take_files(&mut self, limit: usize) -> Vec<(FileId, FileTask)> {
        first(&mut self.files, limit).into_iter().collect()
    }

    /// Takes what is told of one file out of the agenda: whoever reads it just now hears of it.
    pub fn take_file(&mut self, file: FileId) -> Option<FileTask> {
        self.files.remove(&file)
    }

    /// Forgets when a file was to be looked at later.
    pub fn forget_later(&mut self, file: FileId) {
        self.later.take(&Item::File(file));
    }
}

/// Takes the first entries, at most `limit`.
fn first<K: Clone + Ord, V>(from: &mut BTreeMap<K, V>, limit: usize) -> BTreeMap<K, V> {
    let rest = match from.keys().nth(limit).cloned() {
        Some(next) => from.split_off(&next),
        None => BTreeMap::new(),
    };
    std::mem::replace(from, rest)
}

impl NameTask {
    fn merge(&mut self, other: Self) {
        self.touch.add(other.touch);
        self.scan |= other.scan;
        self.is_astray &= other.is_astray;
        self.tries = self.tries.max(other.tries);
    }
}

impl FileTask {
    fn merge(&mut self, other: Self) {
        self.touch.add(other.touch);
        self.verify |= other.verify;
        self.suspect |= other.suspect;
    }
}
