//! An identity map and a journal in memory: for tests and simulations.

use std::{collections::BTreeMap, convert::Infallible};

use keepshare_base::{Change, Epoch, FileId, Kind, Name, OriginId, Position, RestoreRow, Seq};

use crate::{FileRecord, Known, Ledger, MapEntry};

const ORIGIN: OriginId = OriginId(1);

/// The identity map and the journal, in memory.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    pub(crate) names: BTreeMap<(FileId, Name), (FileId, Kind)>,
    pub(crate) files: BTreeMap<FileId, FileRecord>,
    inodes: BTreeMap<u64, FileId>,
    next: u64,
    /// What was journaled.
    pub journal: Vec<Change>,
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
        Ok(FileId { origin: ORIGIN, epoch: Epoch::FIRST, counter })
    }

    fn end_stale(&mut self, _file: FileId) -> Result<(), Infallible> {
        Ok(())
    }

    fn append(&mut self, change: &Change) -> Result<Position, Infallible> {
        self.journal.push(change.clone());
        let seq = Seq(self.journal.len() as u64);
        Ok(Position { origin: ORIGIN, epoch: Epoch::FIRST, seq })
    }

    fn answer(&mut self, _restore: &RestoreRow, _position: Position) -> Result<(), Infallible> {
        Ok(())
    }
}
