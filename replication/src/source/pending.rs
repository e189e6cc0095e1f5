//! What a source still has to look at. In memory only: a restart begins with a scan.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    mem,
    time::{Duration, Instant},
};

use keepshare_base::{FileId, Name, escape_name};

use super::{
    SourceError,
    keeping::Keeping,
    ledger::Tx,
    round::{FileTask, NameTask, Seed},
    ship::RestoreNote,
    transfer::Transfer,
};
use crate::capture::{Marks, Object, Touch};

/// Names, files and folders to look at, and contents being read.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// Names.
    pub(crate) names: BTreeMap<(FileId, Name), NameTask>,
    /// Names that were seen to be gone, and are looked at again when what may have moved has been found.
    pub(crate) seconds: BTreeMap<(FileId, Name), NameTask>,
    /// They wait for names and folders that are put off.
    pub(crate) seconds_wait: bool,
    /// Since when there are some.
    pub(crate) seconds_since: Option<Instant>,
    /// Files.
    pub(crate) files: BTreeMap<FileId, FileTask>,
    /// Folders to compare whole, and whether all below them too.
    pub(crate) walks: VecDeque<(FileId, bool)>,
    walking: HashSet<FileId>,
    /// Files that are left alone for a while.
    pub(crate) resting: HashMap<FileId, Instant>,
    /// How objects were touched that the map does not know yet.
    pub(crate) strange: Strange,
    /// Everything is being compared.
    pub(crate) scanning: bool,
    /// Names that the running scan did not find: looked at again at its end, when what moved has been found.
    pub(crate) vanished: Vec<(FileId, Name)>,
    /// Big files being read in steps.
    pub(crate) transfers: VecDeque<Transfer>,
    /// New big files being read, by inode.
    pub(crate) reading: HashMap<u64, FileId>,
    /// The names that they get at the end.
    pub(crate) waiting: HashMap<FileId, Vec<(FileId, Name)>>,
    /// What restores replaced and is to become versions.
    pub(crate) keeping: VecDeque<Keeping>,
    /// Restores that were written and wait for their change.
    pub(crate) restores: HashMap<FileId, RestoreNote>,
    /// Which file each name stood for at a station, when the map was lost.
    pub(crate) seed: Seed,
}

/// How objects were touched that the map does not know (yet).
///
/// A capture tells of a new file before anyone has looked into its folder, and of files that have nothing to do with the
/// source: what nobody asked for in a while is forgotten. At most [`STRANGE_MAX`]; a file whose touch was forgotten becomes
/// a version when it has been quiet.
#[derive(Debug, Default)]
pub(crate) struct Strange(HashMap<Object, (Touch, Instant)>);

/// The most objects.
const STRANGE_MAX: usize = 1 << 16;

/// For how long they are remembered when there is nothing to look at.
const STRANGE_FOR: Duration = Duration::from_secs(1);

impl Strange {
    /// Remembers how an object was touched.
    pub(crate) fn add(&mut self, object: Object, touch: Touch) {
        let has_room = self.0.len() < STRANGE_MAX || self.0.contains_key(&object);
        if has_room && touch != Touch::default() {
            let (known, at) = self.0.entry(object).or_insert((touch, Instant::now()));
            known.add(touch);
            *at = Instant::now();
        }
    }

    /// Returns how an object that is known now was touched.
    pub(crate) fn take(&mut self, object: Object) -> Touch {
        self.0.remove(&object).map_or_else(Touch::default, |(touch, _)| touch)
    }

    /// Forgets what nobody asked for.
    pub(crate) fn forget_old(&mut self) {
        self.0.retain(|_, (_, at)| at.elapsed() < STRANGE_FOR);
    }
}

impl Pending {
    /// Tells whether there is something to do now.
    pub(crate) fn is_busy(&self) -> bool {
        self.scanning
            || !self.names.is_empty()
            || (!self.seconds.is_empty() && !self.seconds_wait)
            || !self.files.is_empty()
            || !self.walks.is_empty()
            || !self.transfers.is_empty()
            || !self.keeping.is_empty()
    }

    /// Returns how much there is to do.
    pub(crate) fn len(&self) -> usize {
        let names = self.names.len() + self.seconds.len();
        names + self.files.len() + self.walks.len() + self.transfers.len() + self.keeping.len()
    }

    /// Adds a name.
    pub(crate) fn add_name(&mut self, parent: FileId, name: Name, task: NameTask) {
        let names = if task.second { &mut self.seconds } else { &mut self.names };
        let entry = names.entry((parent, name)).or_insert(task);
        entry.touch.add(task.touch);
        entry.scan |= task.scan;
        entry.delayed &= task.delayed;
        entry.tries = entry.tries.max(task.tries);
    }

    /// Adds a file.
    pub(crate) fn add_file(&mut self, file: FileId, task: FileTask) {
        let entry = self.files.entry(file).or_insert(task);
        entry.touch.add(task.touch);
        entry.verify |= task.verify;
        entry.suspect |= task.suspect;
    }

    /// Adds a folder.
    pub(crate) fn add_walk(&mut self, folder: FileId, scan: bool) {
        if !self.walking.insert(folder) {
            if !scan {
                return;
            }
            self.walks.retain(|(queued, _)| *queued != folder);
        }
        if scan {
            self.walks.push_back((folder, scan));
        } else {
            // Something was made or moved just now: what is in it is not left to wait for a scan.
            self.walks.push_front((folder, scan));
        }
    }

    /// Tells whether something may have been moved to where nobody has looked yet.
    pub(crate) fn may_find_moved(&self) -> bool {
        !self.names.is_empty() || self.walks.front().is_some_and(|(_, scan)| !scan)
    }

    /// Takes the next folder.
    pub(crate) fn next_walk(&mut self) -> Option<(FileId, bool)> {
        let (folder, scan) = self.walks.pop_front()?;
        self.walking.remove(&folder);
        Some((folder, scan))
    }

    /// Begins to compare everything.
    pub(crate) fn begin_scan(&mut self) {
        self.scanning = true;
        self.add_walk(FileId::ROOT, true);
        self.add_file(FileId::ROOT, FileTask::default());
    }

    /// Turns what capture marked, which knows inode numbers, into names and files.
    pub(crate) fn resolve(&mut self, marks: &mut Marks, tx: &Tx<'_>) -> Result<(), SourceError> {
        for ((folder, name), touch) in marks.names.drain() {
            let Some(parent) = tx.map.by_number(folder)? else { continue };
            let Ok(name) = escape_name(&name) else {
                // No set can hold it: reading the folder tells whether it is there.
                self.add_walk(parent, false);
                continue;
            };
            // Something happened since the first look.
            self.seconds.remove(&(parent, name.clone()));
            self.add_name(parent, name, NameTask { touch, ..NameTask::default() });
        }
        for (object, touch) in marks.objects.drain() {
            // It may have been forgotten since.
            if let Some(file) = tx.map.by_number(object)? {
                self.add_file(file, FileTask { touch, ..FileTask::default() });
            }
        }
        for (object, touch) in marks.strangers.drain() {
            let known = tx.map.by_number(object.number)?;
            let record = known.map(|file| tx.map.record(file)).transpose()?.flatten();
            match (known, record) {
                (Some(file), Some(record)) if Object::from(record.inode) == object => {
                    self.add_file(file, FileTask { touch, ..FileTask::default() });
                }
                _ => self.strange.add(object, touch),
            }
        }
        for transfer in &mut self.transfers {
            if let Some(task) = self.files.remove(&transfer.file) {
                transfer.touched(task.touch);
                // What was read of it before is compared once more.
                transfer.written |= task.verify;
            }
        }
        Ok(())
    }

    /// Takes the names that one turn looks at: those that are gone only when there are no others.
    pub(crate) fn take_names(&mut self, limit: usize) -> Vec<(FileId, Name, NameTask)> {
        let seconds = !self.may_find_moved() && !self.seconds_wait;
        let names = if seconds { &mut self.seconds } else { &mut self.names };
        let rest = match names.keys().nth(limit).cloned() {
            Some(next) => names.split_off(&next),
            None => BTreeMap::new(),
        };
        let names = mem::replace(names, rest);
        names.into_iter().map(|((parent, name), task)| (parent, name, task)).collect()
    }

    /// Takes the files that one turn looks at.
    pub(crate) fn take_files(&mut self, limit: usize) -> Vec<(FileId, FileTask)> {
        let rest = match self.files.keys().nth(limit).copied() {
            Some(next) => self.files.split_off(&next),
            None => BTreeMap::new(),
        };
        mem::replace(&mut self.files, rest).into_iter().collect()
    }

    /// Returns the new big files being read, and a name that waits for each.
    pub(crate) fn reading(&self) -> Vec<(FileId, FileId, Name)> {
        let named = |(file, waiting): (&FileId, &Vec<(FileId, Name)>)| {
            waiting.first().map(|(parent, name)| (*file, *parent, name.clone()))
        };
        let mut reading: Vec<_> = self.waiting.iter().filter_map(named).collect();
        reading.sort_unstable();
        reading
    }

    /// Ends the reading of a big file and returns the names that waited for it.
    pub(crate) fn end_transfer(&mut self, file: FileId) -> Vec<(FileId, Name)> {
        self.transfers.retain(|transfer| transfer.file != file);
        self.reading.retain(|_, read| *read != file);
        self.waiting.remove(&file).unwrap_or_default()
    }

    /// Gives up the reading of a big file: the names that waited for it are looked at anew.
    pub(crate) fn break_transfer(&mut self, file: FileId) {
        for (parent, name) in self.end_transfer(file) {
            self.add_name(parent, name, NameTask::default());
        }
    }
}
