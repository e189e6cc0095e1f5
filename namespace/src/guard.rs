//! What decides whether a principal gets to a thing: its rights, and the folders that it is in.

use std::sync::Arc;

use keepshare_base::{CommitId, FileId, Name};

use crate::rights::Rights;

/// The most places of one file that are looked at: with more, those beyond let nobody through.
const PLACES_MAX: usize = 1024;

/// Whose rights count.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Time {
    /// The present ones, or the last ones of what is gone.
    Now,
    /// Those of this commit.
    At(CommitId),
}

/// A thing as its rights and its places are at some time.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    pub(crate) rights: Option<Rights>,
    /// The folders it is in, each once, at most [`PLACES_MAX`]: one for a folder, none for the root.
    pub(crate) above: Arc<[FileId]>,
    /// These are places of today.
    pub(crate) present: bool,
}

impl Guard {
    /// Returns how much of a cache it takes.
    pub(crate) fn weight(&self) -> usize {
        1 + self.above.len()
    }
}

/// Returns the folders of places, each once: names of one folder come one after another.
pub(crate) fn folders(places: Vec<(FileId, Name)>) -> Arc<[FileId]> {
    let mut folders: Vec<FileId> = places.into_iter().map(|(folder, _)| folder).collect();
    folders.dedup();
    folders.truncate(PLACES_MAX);
    folders.into()
}
