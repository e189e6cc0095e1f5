//! An identity map and a journal in memory: for tests and simulations.

use std::{collections::BTreeMap, convert::Infallible};

use keepshare_base::{
    Change, Epoch, FileId, Kind, Name, OriginId, Position, RestoreRow, Seq, Stamp,
};

use crate::{CutPlace, FileRecord, Inode, Known, Ledger, MapEntry, withhold::Stale};

const ORIGIN: OriginId = OriginId(1);

/// The identity map and the journal, in memory.
#[derive(Clone, Debug)]
pub struct Memory {
    pub(crate) names: BTreeMap<(FileId, Name), (FileId, Kind)>,
    pub(crate) files: BTreeMap<FileId, FileRecord>,
    inodes: BTreeMap<u64, FileId>,
    next: u64,
    /// What was journaled in this epoch.
    pub journal: Vec<Change>,
    /// The epoch.
    pub epoch: Epoch,
    /// What is withheld of it.
    pub stale: Stale,
    /// The place by which everything was a version that no change told of, since there is one.
    pub base: Option<CutPlace>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            names: BTreeMap::new(),
            files: BTreeMap::new(),
            inodes: BTreeMap::new(),
            next: 0,
            journal: Vec::new(),
            epoch: Epoch::FIRST,
            stale: Stale::new(),
            base: None,
        }
    }
}

impl Memory {
    /// Returns a copy of it without what was journaled.
    #[must_use]
    pub fn without_journal(&self) -> Self {
        Self {
            names: self.names.clone(),
            files: self.files.clone(),
            inodes: self.inodes.clone(),
            next: self.next,
            journal: Vec::new(),
            epoch: self.epoch,
            stale: self.stale.clone(),
            base: self.base,
        }
    }

    /// Begins an epoch with an empty journal. New files are called by numbers above `through`: an epoch may be begun twice.
    pub fn begin_epoch(&mut self, epoch: Epoch, through: u64) {
        self.epoch = epoch;
        self.next = through;
        self.journal.clear();
        self.stale.clear();
    }

    /// Remembers that everything known is a version by now.
    pub fn set_base(&mut self, stamp: Stamp) {
        let seq = Seq(self.journal.len() as u64);
        self.base = self.base.or(Some(CutPlace { epoch: self.epoch, seq, stamp }));
    }

    /// Calls no new file by a number up to `through`.
    pub fn skip_files(&mut self, through: u64) {
        self.next = self.next.max(through);
    }

    /// Makes another object known as a file.
    pub fn rebind(&mut self, file: FileId, record: &FileRecord, inode: Inode) {
        let former = record.inode.number;
        if former != inode.number && self.inodes.get(&former) == Some(&file) {
            self.inodes.remove(&former);
        }
        self.files.insert(file, FileRecord { inode, ..record.clone() });
        self.inodes.insert(inode.number, file);
    }

    /// Has the content of files withheld after these changes, until they have been sent whole.
    pub fn forget(&mut self, lost: &[(FileId, Seq)]) {
        for (file, after) in lost {
            let since = self.stale.get(file).map_or(*after, |(since, _)| *since);
            self.stale.insert(*file, (since.min(*after), Seq(u64::MAX)));
            let has_name = self.names.values().any(|(named, _)| named == file);
            if has_name && let Some(record) = self.files.get_mut(file) {
                (record.forgotten, record.hash, record.blocks) = (true, None, false);
            } else {
                let Ok(()) = self.remove_file(*file);
                let Ok(()) = self.end_stale(*file);
            }
        }
    }
}

impl Known for Memory {
    type Error = Infallible;

    fn lookup(&self, parent: FileId, name: &Name) -> Result<Option<(FileId, Kind)>, Infallible> {
        Ok(self.names.get(&(parent, name.clone())).copied())
    }

    fn list(
        &self,
        parent: FileId,
        after: Option<&Name>,
        limit: usize,
    ) -> Result<Vec<MapEntry>, Infallible> {
        let inside = self.names.iter().filter(|((folder, name), _)| {
            *folder == parent && after.is_none_or(|after| name > after)
        });
        let entry = |((_, name), (file, kind)): (&(FileId, Name), &(FileId, Kind))| MapEntry {
            name: name.clone(),
            file: *file,
            kind: *kind,
        };
        Ok(inside.map(entry).take(limit).collect())
    }

    fn links(&self, file: FileId, limit: usize) -> Result<Vec<(FileId, Name)>, Infallible> {
        let links = self.names.iter().filter(|(_, (known, _))| *known == file);
        Ok(links.map(|(place, _)| place.clone()).take(limit).collect())
    }

    fn record(&self, file: FileId) -> Result<Option<FileRecord>, Infallible> {
        Ok(self.files.get(&file).cloned())
    }

    fn by_number(&self, number: u64) -> Result<Option<FileId>, Infallible> {
        Ok(self.inodes.get(&number).copied())
    }
}

impl Ledger for Memory {
    fn set_name(
        &mut self,
        parent: FileId,
        name: &Name,
        target: Option<(FileId, Kind)>,
    ) -> Result<(), Infallible> {
        match target {
            Some(target) => self.names.insert((parent, name.clone()), target),
            None => self.names.remove(&(parent, name.clone())),
        };
        Ok(())
    }

    fn set_record(&mut self, file: FileId, record: &FileRecord) -> Result<(), Infallible> {
        let former = self.files.insert(file, record.clone());
        let number = record.inode.number;
        // A number that is given again stands for whoever got it last.
        if former.is_none_or(|former| former.inode.number != number) {
            self.inodes.insert(number, file);
        }
        Ok(())
    }

    fn remove_file(&mut self, file: FileId) -> Result<(), Infallible> {
        let record = self.files.remove(&file);
        let number = record.map(|record| record.inode.number);
        if let Some(number) = number.filter(|number| self.inodes.get(number) == Some(&file)) {
            self.inodes.remove(&number);
        }
        Ok(())
    }

    fn clear_blocks(&mut self, _file: FileId) -> Result<(), Infallible> {
        Ok(())
    }

    fn new_file(&mut self) -> Result<FileId, Infallible> {
        self.next += 1;
        let counter = self.next;
        Ok(FileId { origin: ORIGIN, epoch: self.epoch, counter })
    }

    fn end_stale(&mut self, file: FileId) -> Result<(), Infallible> {
        let next = Seq(self.journal.len() as u64 + 1);
        if let Some((_, until @ Seq(u64::MAX))) = self.stale.get_mut(&file) {
            *until = next;
        }
        Ok(())
    }

    fn append(&mut self, change: &Change) -> Result<Position, Infallible> {
        self.journal.push(change.clone());
        let seq = Seq(self.journal.len() as u64);
        Ok(Position { origin: ORIGIN, epoch: self.epoch, seq })
    }

    fn answer(&mut self, _restore: &RestoreRow, _position: Position) -> Result<(), Infallible> {
        Ok(())
    }
}
