//! The names of a set that Windows clients cannot show, kept up to date as commits come.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use keepshare_base::{CommitId, FileId, Name, counted};
use keepshare_namespace::shows_on_windows;
use keepshare_versioning::{ReadError, Reader, Touched, View};

/// The most names that are remembered; with more, the count is "more than".
const NAMES_MAX: usize = 10_000;

/// How many names are read through one view.
const PAGE: usize = 4096;

/// How many are named in status.
const SHOWN: usize = 5;

/// The names of one set that Windows cannot show; clones share them. At most [`NAMES_MAX`] are kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct HiddenNames(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// Up to which commit.
    at: Option<CommitId>,
    names: BTreeSet<(FileId, Name)>,
    is_full: bool,
}

impl HiddenNames {
    /// Returns what to tell about them, where there are any.
    pub(crate) fn problem(&self, reader: &Reader) -> Option<String> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.names.is_empty() {
            return None;
        }
        let view = reader.view().ok()?;
        let path = |(folder, name): &(FileId, Name)| {
            let folder = view.path_of(*folder, view.latest()).ok().flatten();
            folder.unwrap_or_default().join(name.clone()).to_string()
        };
        let some: Vec<String> = known.names.iter().take(SHOWN).map(path).collect();
        let more = if known.is_full { "more than " } else { "" };
        let dots = if known.names.len() > SHOWN { ", …" } else { "" };
        Some(format!(
            "Windows clients cannot show {more}{}: {}{dots}",
            counted(known.names.len() as u64, "name"),
            some.join(", ")
        ))
    }

    /// Looks at what changed since the last look: at all names the first time, and after very many changes. Returns through which commit
    /// it looked.
    pub(crate) fn refresh(&self, reader: &Reader) -> Result<CommitId, ReadError> {
        let view = reader.view()?;
        let (latest, at) = {
            let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            (view.latest(), known.at)
        };
        if at == Some(latest) {
            return Ok(latest);
        }
        let touched = at.map_or(Ok(Touched::Everything), |at| view.touched(at))?;
        match touched {
            Touched::Known { names, .. } => self.update(&view, names)?,
            Touched::Everything => {
                drop(view);
                self.gather(reader)?;
            }
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.at = Some(latest);
        Ok(latest)
    }

    fn update(&self, view: &View, touched: Vec<(FileId, Name)>) -> Result<(), ReadError> {
        for (folder, name) in touched {
            if shows_on_windows(name.as_bytes()) {
                continue;
            }
            let is_there = view.lookup(folder, &name, view.latest())?.is_some();
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if !is_there {
                known.names.remove(&(folder, name));
            } else if known.names.len() < NAMES_MAX {
                known.names.insert((folder, name));
            } else {
                known.is_full = true;
            }
        }
        Ok(())
    }

    /// Goes through all names; what changes meanwhile is touched since, and looked at in the next round.
    fn gather(&self, reader: &Reader) -> Result<(), ReadError> {
        let (mut names, mut is_full) = (BTreeSet::new(), false);
        let mut after: Option<(FileId, Name)> = None;
        loop {
            let from = after.as_ref().map(|(folder, name)| (*folder, name));
            let page = reader.view()?.names_after(from, PAGE)?;
            let Some((folder, last)) = page.last() else { break };
            after = Some((*folder, last.name.clone()));
            for (folder, entry) in page {
                if shows_on_windows(entry.name.as_bytes()) {
                    continue;
                }
                if names.len() < NAMES_MAX {
                    names.insert((folder, entry.name));
                } else {
                    is_full = true;
                }
            }
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (known.names, known.is_full) = (names, is_full);
        Ok(())
    }
}
