//! Finds files by name: those that are there, and those that were.
//!
//! The folders are gone through one after the other, the dead ones below the places where they stood last, a page at a
//! time and each through a short view: memory is a page and the folders still to be gone through. A user finds what
//! listing every folder would show: names in folders that may be listed, now and, for what is gone, then.

use keepshare_base::{CommitId, FileId, Kind, Name, SetPath, Stamp};
use keepshare_versioning::{Ended, HistoryEntry, NameAt};

use crate::{AskError, Denial, Pattern, guard::Time, question::Question, rights::Want};

use super::{Asking, FoundPath, Interrupted, told::before};

/// How many names of a folder are looked at through one view.
const PAGE: usize = 512;

impl Asking<'_> {
    /// Gives out what matches, and returns how many there were; stops at `limit`.
    pub fn find<E>(
        &self,
        pattern: &Pattern,
        limit: usize,
        take: impl FnMut(FoundPath) -> Result<(), E>,
    ) -> Result<usize, Interrupted<E>> {
        let root = Folder {
            file: FileId::ROOT,
            path: SetPath::default(),
            through: FileId::ROOT,
            end: None,
        };
        let mut search =
            Search { asking: self, pattern, limit, take, found: 0, folders: vec![root] };
        while search.found < limit
            && let Some(folder) = search.folders.pop()
        {
            search.present(&folder)?;
            search.past(&folder)?;
        }
        Ok(search.found)
    }
}

struct Search<'a, T> {
    asking: &'a Asking<'a>,
    pattern: &'a Pattern,
    limit: usize,
    take: T,
    found: usize,
    folders: Vec<Folder>,
}

/// A folder that is still to be gone through.
struct Folder {
    file: FileId,
    path: SetPath,
    /// The last living folder on its path.
    through: FileId,
    /// How it went, where it is not there any more.
    end: Option<End>,
}

/// How a name's hold of something ended.
#[derive(Clone, Copy)]
struct End {
    stamp: Stamp,
    ended: Ended,
    /// The last commit at which it was there.
    last: CommitId,
}

impl End {
    fn told(self) -> (Stamp, Ended) {
        (self.stamp, self.ended)
    }
}

impl<E, T: FnMut(FoundPath) -> Result<(), E>> Search<'_, T> {
    /// Goes through the names that a folder holds, or held when it went.
    fn present(&mut self, folder: &Folder) -> Result<(), Interrupted<E>> {
        let mut after: Option<Name> = None;
        loop {
            let ask = self.asking.question()?;
            if !ask.may_list(folder)? {
                return Ok(());
            }
            let page = ask.view.list(folder.file, CommitId::MAX, after.as_ref(), PAGE)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.name.clone());
            let mut found = Vec::new();
            let knows_more = ask.passes(folder.file, Time::Now)?;
            for entry in page {
                let at = folder.end.map_or(CommitId::MAX, |end| end.last);
                let state = ask.view.file(entry.file, at)?;
                let is_seen = match &state {
                    // Living names are listed to whoever may read their folder, whatever they stand for.
                    _ if folder.end.is_none() => true,
                    Some(state) => ask.is_seen(folder.through, (entry.file, at), state)?,
                    None => ask.who.is_admin(),
                };
                if !is_seen {
                    continue;
                }
                let path = folder.path.join(entry.name.clone());
                if entry.kind == Kind::Dir && knows_more {
                    let through = if folder.end.is_none() { entry.file } else { folder.through };
                    let (file, path, end) = (entry.file, path.clone(), folder.end);
                    self.folders.push(Folder { file, path, through, end });
                }
                if self.pattern.matches(&entry.name, folder.end.map(|end| end.ended)) {
                    let meta = state.filter(|_| knows_more).map(|state| state.meta);
                    let gone = folder.end.map(End::told);
                    found.push(FoundPath { path, kind: entry.kind, meta, gone });
                }
            }
            drop(ask);
            self.give(found)?;
        }
    }

    /// Goes through the names that a folder held once and does not any more.
    fn past(&mut self, folder: &Folder) -> Result<(), Interrupted<E>> {
        let mut after: Option<Name> = None;
        loop {
            let ask = self.asking.question()?;
            if !ask.may_list(folder)? {
                return Ok(());
            }
            let page = ask.view.deleted_names(folder.file, after.as_ref(), PAGE)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            let mut found = Vec::new();
            for name in page {
                let path = folder.path.join(name.clone());
                let Some(entry) = ask.last_told(folder, &name, &path)? else { continue };
                let kind = entry.state.meta.kind;
                let end = entry.held_until.map(|(stamp, ended)| End {
                    stamp,
                    ended,
                    last: before(entry.until),
                });
                // What is in a folder that has another name now is found there.
                if kind == Kind::Dir && end.is_some_and(|end| end.ended != Ended::Renamed) {
                    let (file, path, through) = (entry.state.file, path.clone(), folder.through);
                    self.folders.push(Folder { file, path, through, end });
                }
                if self.pattern.matches(&name, end.map(|end| end.ended)) {
                    let (meta, gone) = (Some(entry.state.meta), end.map(End::told));
                    found.push(FoundPath { path, kind, meta, gone });
                }
            }
            drop(ask);
            self.give(found)?;
        }
    }

    fn give(&mut self, found: Vec<FoundPath>) -> Result<(), Interrupted<E>> {
        for path in found {
            if self.found == self.limit {
                break;
            }
            self.found += 1;
            (self.take)(path).map_err(Interrupted::Taker)?;
        }
        Ok(())
    }
}

impl Question<'_> {
    /// Tells whether the user may list a folder now and, where it is gone, might have listed it when it went.
    fn may_list(&self, folder: &Folder) -> Result<bool, Denial> {
        if !self.may_now(folder.file, Want::Read)? {
            return Ok(false);
        }
        match folder.end {
            Some(end) => self.may_folder(folder.through, (folder.file, end.last), Want::Read),
            None => Ok(true),
        }
    }

    /// Returns the last that a name of a folder held, of what may be told and was in the folder when it could be listed.
    fn last_told(
        &self,
        folder: &Folder,
        name: &Name,
        path: &SetPath,
    ) -> Result<Option<HistoryEntry>, AskError> {
        let at = NameAt { folders: &[folder.file], path };
        let tell = |entry: &HistoryEntry| {
            let last = (folder.file, before(entry.until));
            Ok::<_, AskError>(
                (entry.parent, &entry.name) == (folder.file, name)
                    && self.may_tell(folder.through, entry)?
                    && self.may_folder(folder.through, last, Want::Read)?,
            )
        };
        Ok(self.view.history_at(at, 1, tell)?.pop())
    }
}
