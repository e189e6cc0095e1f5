//! What the index wants a live tree to be.

use std::collections::HashMap;

use keepshare_base::{CommitId, DEPTH_MAX, FileId, Kind, Name};

use crate::{FileState, ReadError, View};

/// How many folders' depths are remembered at once.
const DEPTHS_MAX: usize = 100_000;

/// How many names are remembered at once.
const NAMES_MAX: usize = 10_000;

/// One commit of the index as the live tree has to show it: only what hangs under the root, and no devices.
///
/// On the way to the newest commit the names are those of an older one, and content and attributes are the newest, as
/// what no version was made of is not kept: what changed since is touched again by a later step.
#[derive(Debug)]
pub(super) struct Wanted {
    view: View,
    at: CommitId,
    depths: HashMap<FileId, Option<usize>>,
    /// What names were found to stand for: a step asks for each several times.
    names: HashMap<FileId, HashMap<Name, Option<(FileId, Kind)>>>,
    names_known: usize,
}

impl Wanted {
    /// Takes the names of commit `at`.
    pub(super) fn new(view: View, at: CommitId) -> Self {
        Self { view, at, depths: HashMap::new(), names: HashMap::new(), names_known: 0 }
    }

    /// Returns the view.
    pub(super) fn into_view(self) -> View {
        self.view
    }

    /// Returns the commit.
    pub(super) fn at(&self) -> CommitId {
        self.at
    }

    /// Returns the view.
    pub(super) fn view(&self) -> &View {
        &self.view
    }

    /// Returns what a name has to stand for; `None`: nothing may be there.
    pub(super) fn name(
        &mut self,
        parent: FileId,
        name: &Name,
    ) -> Result<Option<(FileId, Kind)>, ReadError> {
        if let Some(known) = self.names.get(&parent).and_then(|names| names.get(name)) {
            return Ok(*known);
        }
        let found = self.view.lookup(parent, name, self.at)?.filter(|(_, kind)| kind.is_live());
        let found = if found.is_some() && self.depth(parent)?.is_none() { None } else { found };
        if self.names_known >= NAMES_MAX {
            self.names.clear();
            self.names_known = 0;
        }
        self.names_known += 1;
        self.names.entry(parent).or_default().insert(name.clone(), found);
        Ok(found)
    }

    /// Returns the name that a folder has, wherever that hangs.
    pub(super) fn folder_name(&self, folder: FileId) -> Result<Option<(FileId, Name)>, ReadError> {
        Ok(self.view.links(folder, self.at)?.into_iter().next())
    }

    /// Returns the names that a file has to have in the tree; none where it must not be there.
    pub(super) fn names(&mut self, file: FileId) -> Result<Vec<(FileId, Name)>, ReadError> {
        let names = self.view.links(file, self.at)?;
        let mut reachable = Vec::with_capacity(names.len());
        for (parent, name) in names {
            if self.name(parent, &name)?.is_some_and(|(found, _)| found == file) {
                reachable.push((parent, name));
            }
        }
        Ok(reachable)
    }

    /// Returns a file's state.
    pub(super) fn file(&self, file: FileId) -> Result<Option<FileState>, ReadError> {
        self.view.file(file, CommitId::MAX)
    }

    /// Tells whether a file has a name or had one before.
    pub(super) fn had_name(&self, file: FileId) -> Result<bool, ReadError> {
        let first = self.view.first_linked(file, CommitId(0))?;
        Ok(first.is_some_and(|first| first <= self.at))
    }

    /// Returns how many folders stand above a folder; `None` where it does not hang under the root.
    pub(super) fn depth(&mut self, folder: FileId) -> Result<Option<usize>, ReadError> {
        let mut above = Vec::new();
        let mut next = folder;
        let mut depth = loop {
            if next == FileId::ROOT {
                break Some(0);
            }
            if let Some(known) = self.depths.get(&next) {
                break *known;
            }
            above.push(next);
            match self.folder_name(next)? {
                Some((parent, _)) if above.len() <= DEPTH_MAX => next = parent,
                _ => break None,
            }
        };
        if self.depths.len() > DEPTHS_MAX {
            self.depths.clear();
        }
        for folder in above.into_iter().rev() {
            // Below one that hangs nowhere, none has a depth.
            depth = depth.map(|depth| depth + 1);
            self.depths.insert(folder, depth);
        }
        Ok(depth)
    }
}
