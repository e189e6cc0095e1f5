//! The versions of a name as they are called, made once and kept for whoever asks.

use std::{collections::HashSet, ops::Range};

use chrono_tz::Tz;

use keepshare_base::{CommitId, FileId, VersionId};
use keepshare_versioning::{
    HistoryEntry,
    names::{self as version_names, Called},
};

use crate::{Cookie, ids::Hasher, names};

/// How many versions one name shows, the newest ones.
pub(crate) const VERSIONS_MAX: usize = 20_000;

/// The versions of a name, newest first, as they are called.
#[derive(Debug)]
pub(crate) struct Chronicle {
    pub(crate) entries: Vec<Kept>,
    /// What versions were called that others have come to share a time with.
    pub(crate) shared: HashSet<String>,
}

/// One version in it.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) shown: String,
    pub(crate) cookie: Cookie,
    pub(crate) file: FileId,
    pub(crate) commit: CommitId,
    version: VersionId,
    /// It has a name of its own: it is no expired one, no folder, and was not there before.
    pub(crate) listed: bool,
    /// From this commit to before that one the name held it.
    held: Range<CommitId>,
    pub(crate) extension: Option<String>,
}

impl Chronicle {
    /// Calls versions by names that never change their meaning, in whatever order they come and whichever go.
    pub(crate) fn new(hasher: &Hasher, zone: Tz, history: &[HistoryEntry]) -> Self {
        let history: Vec<_> = history.iter().filter(|entry| is_listable(entry)).collect();
        let Called { names, shared } = version_names::called(&history, zone);
        let mut seen = HashSet::new();
        let entries = history.into_iter().zip(names).map(|(entry, shown)| {
            let key = (entry.state.file, entry.state.commit);
            let place = version_names::id(&entry.state).to_string();
            Kept {
                cookie: hasher.cookie(place.as_bytes()),
                shown,
                file: key.0,
                commit: key.1,
                version: entry.version,
                listed: seen.insert(key) && !entry.state.expired,
                held: entry.since..entry.until,
                extension: version_names::extension(&entry.name).map(str::to_owned),
            }
        });
        Self { entries: entries.collect(), shared }
    }

    /// Returns the version that the name held at a commit or, where its content was removed, the next older one.
    pub(crate) fn held_at(&self, then: CommitId) -> Option<&Kept> {
        let at = self.entries.iter().position(|kept| kept.held.contains(&then))?;
        // The same version may have been there later, too, and is listed once.
        self.entries[at..].iter().find_map(|kept| {
            let is_it = |other: &&Kept| {
                (other.file, other.commit) == (kept.file, kept.commit) && other.listed
            };
            self.entries.iter().find(is_it)
        })
    }

    /// Returns the newest version of a file that was there at a commit.
    pub(crate) fn of_file(&self, file: Option<FileId>, then: CommitId) -> Option<&Kept> {
        let is_it = |kept: &&Kept| Some(kept.file) == file && kept.commit <= then && kept.listed;
        self.entries.iter().find(is_it)
    }

    /// Returns the version with an id; without its file, the newest one with it.
    pub(crate) fn with_id(&self, id: VersionId, file: Option<FileId>) -> Option<&Kept> {
        let is_meant =
            |kept: &&Kept| kept.version == id && file.is_none_or(|file| file == kept.file);
        self.entries.iter().find(is_meant)
    }
}

fn is_listable(entry: &HistoryEntry) -> bool {
    names::has_versions(entry.state.meta.kind)
}
