//! New big files that are being read: they get their names when their content is there.

use std::collections::HashMap;

use keepshare_base::{FileId, Name};

/// New big files, and the names that wait for each.
#[derive(Debug, Default)]
pub struct Readings {
    inodes: HashMap<u64, FileId>,
    names: HashMap<FileId, Vec<(FileId, Name)>>,
}

impl Readings {
    /// Begins: the object with this number is read as `file`, which gets a name at the end.
    pub fn begin(&mut self, number: u64, file: FileId, place: (FileId, Name)) {
        self.inodes.insert(number, file);
        self.names.insert(file, vec![place]);
    }

    /// Returns the files by the number of their object.
    pub fn inodes(&self) -> &HashMap<u64, FileId> {
        &self.inodes
    }

    /// Tells whether names wait for a file.
    pub fn has_names(&self, file: FileId) -> bool {
        self.names.contains_key(&file)
    }

    /// Has another name wait for a file.
    pub fn wait(&mut self, file: FileId, place: (FileId, Name)) {
        let waiting = self.names.entry(file).or_default();
        if !waiting.contains(&place) {
            waiting.push(place);
        }
    }

    /// Ends the reading of a file, and returns the names that waited for it.
    pub fn end(&mut self, file: FileId) -> Vec<(FileId, Name)> {
        self.inodes.retain(|_, read| *read != file);
        self.names.remove(&file).unwrap_or_default()
    }

    /// Returns the files, and a name that waits for each.
    pub fn named(&self) -> Vec<(FileId, FileId, Name)> {
        let named = |(file, waiting): (&FileId, &Vec<(FileId, Name)>)| {
            waiting.first().map(|(parent, name)| (*file, *parent, name.clone()))
        };
        let mut reading: Vec<_> = self.names.iter().filter_map(named).collect();
        reading.sort_unstable();
        reading
    }
}
