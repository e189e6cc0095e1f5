//! What a source still has to look at. In memory only: a restart begins with a scan.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    mem,
    time::Instant,
};

use keepshare_base::{FileId, Name, escape_name};

use super::{
    SourceError, is_leftover,
    ledger::Tx,
    round::{FileTask, NameTask, Seed},
    ship::RestoreNote,
    transfer::Transfer,
};
use crate::capture::{Marks, Touch};

/// Names, files and folders to look at, and contents being read.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// Names.
    pub(crate) names: BTreeMap<(FileId, Name), NameTask>,
    /// Files.
    pub(crate) files: BTreeMap<FileId, FileTask>,
    /// Folders to compare whole, and whether all below them too.
    pub(crate) walks: VecDeque<(FileId, bool)>,
    walking: HashSet<FileId>,
    /// Files that are left alone for a while.
    pub(crate) resting: HashMap<FileId, Instant>,
    /// How objects were touched that the map does not know yet.
    pub(crate) strange: HashMap<u64, Touch>,
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
    /// Restores that were written and wait for their change.
    pub(crate) restores: HashMap<FileId, RestoreNote>,
    /// Which file each name stood for at a station, when the map was lost.
    pub(crate) seed: Seed,
}

impl Pending {
    /// Tells whether there is something to do now.
    pub(crate) fn is_busy(&self) -> bool {
        self.scanning
            || !self.names.is_empty()
            || !self.files.is_empty()
            || !self.walks.is_empty()
            || !self.transfers.is_empty()
    }

    /// Returns how much there is to do.
    pub(crate) fn len(&self) -> usize {
        self.names.len() + self.files.len() + self.walks.len() + self.transfers.len()
    }

    /// Adds a name.
    pub(crate) fn add_name(&mut self, parent: FileId, name: Name, task: NameTask) {
        let entry = self.names.entry((parent, name)).or_insert(task);
        entry.touch.add(task.touch);
        entry.second |= task.second;
        entry.scan |= task.scan;
        entry.delayed &= task.delayed;
    }

    /// Adds a file.
    pub(crate) fn add_file(&mut self, file: FileId, task: FileTask) {
        let entry = self.files.entry(file).or_insert(task);
        entry.touch.add(task.touch);
        entry.verify |= task.verify;
    }

    /// Adds a folder.
    pub(crate) fn add_walk(&mut self, folder: FileId, scan: bool) {
        if !self.walking.insert(folder) {
            if !scan {
                return;
            }
            self.walks.retain(|(queued, _)| *queued != folder);
        }
        self.walks.push_back((folder, scan));
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
            if is_leftover(&name) {
                continue;
            }
            if let Ok(name) = escape_name(&name) {
                let entry = self.names.entry((parent, name)).or_default();
                entry.touch.add(touch);
                // Something happened since the first look.
                entry.second = false;
            }
        }
        for (object, touch) in marks.objects.drain() {
            match tx.map.by_number(object)? {
                Some(file) => self.add_file(file, FileTask { touch, verify: false }),
                None if self.strange.len() < crate::capture::MARKS_MAX => {
                    self.strange.entry(object).or_default().add(touch);
                }
                None => {}
            }
        }
        for transfer in &mut self.transfers {
            if let Some(task) = self.files.remove(&transfer.file) {
                transfer.touch.add(task.touch);
            }
        }
        Ok(())
    }

    /// Takes the names that one turn looks at.
    pub(crate) fn take_names(&mut self, limit: usize) -> Vec<(FileId, Name, NameTask)> {
        let rest = match self.names.keys().nth(limit).cloned() {
            Some(next) => self.names.split_off(&next),
            None => BTreeMap::new(),
        };
        let names = mem::replace(&mut self.names, rest);
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

    /// Ends the reading of a big file and lets the names go that waited for it.
    pub(crate) fn end_transfer(&mut self, file: FileId) {
        self.transfers.retain(|transfer| transfer.file != file);
        self.reading.retain(|_, read| *read != file);
        for (parent, name) in self.waiting.remove(&file).unwrap_or_default() {
            self.add_name(parent, name, NameTask::default());
        }
    }
}
