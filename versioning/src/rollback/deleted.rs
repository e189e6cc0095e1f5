//! Bringing back what was deleted, and nothing else.

use keepshare_base::{CommitId, FileId, Kind, Name, SetPath};

use super::{Folder, PAGE, Plan, PlanError, Why, places::Thing};
use crate::{Entry, ReadError};

/// How many folders of one name are looked through, one after the other.
const FORMER_MAX: usize = 64;

/// A folder in which it is looked for what was deleted.
struct Searched {
    file: FileId,
    /// Where it is, or comes back to.
    folder: Folder,
    path: SetPath,
    /// The last commit at which it was there, where it is gone.
    last: Option<CommitId>,
}

impl Plan<'_> {
    /// Brings back what went after `since`.
    pub(super) fn bring_deleted(&mut self, since: CommitId) -> Result<(), PlanError> {
        let path = self.wanted.path.clone();
        let mut folders = Vec::new();
        if let Some(file) = self.places.root() {
            if !self.lists(file, CommitId::MAX)? {
                return Err(PlanError::NotListed);
            }
            if let Some((above, name)) = path.split_last()
                && let Some((parent, _)) = self.view.resolve(&above, CommitId::MAX)?
            {
                folders.extend(self.former(parent, name, (file, path.clone()), since)?);
            }
            folders.push(Searched { file, folder: Folder::Known(file), path, last: None });
        } else {
            // The folder itself went.
            let Some((above, name)) = path.split_last() else { return Err(PlanError::NotThere) };
            let Some((parent, Kind::Dir)) = self.view.resolve(&above, CommitId::MAX)? else {
                return Err(PlanError::NoFolder(above));
            };
            let found = self.deleted(parent, name, since)?.ok_or(PlanError::NotThere)?;
            let (last, entry) = found;
            if !self.sees(entry.file, last)? {
                return Err(PlanError::NotThere);
            }
            folders.extend(self.bring_one(entry, last, Folder::Known(parent), &above)?);
        }
        while let Some(searched) = folders.pop() {
            let is_listed = self.lists(searched.file, searched.last.unwrap_or(CommitId::MAX))?;
            if !is_listed || !self.lists_now(searched.folder)? {
                continue;
            }
            let mut after: Option<Name> = None;
            loop {
                let names = self.view.deleted_names(searched.file, after.as_ref(), PAGE)?;
                let Some(last) = names.last() else { break };
                after = Some(last.clone());
                for name in names {
                    let Some((last, entry)) = self.deleted(searched.file, &name, since)? else {
                        continue;
                    };
                    // It was listed then, too.
                    if !self.lists(searched.file, last)? {
                        continue;
                    }
                    folders.extend(self.bring_into(entry, last, &searched)?);
                }
            }
            // Of a folder that is gone, this is what it held when it went.
            let mut after: Option<Name> = None;
            loop {
                let page = self.view.list(searched.file, CommitId::MAX, after.as_ref(), PAGE)?;
                let Some(last) = page.last() else { break };
                after = Some(last.name.clone());
                for entry in page {
                    if let Some(last) = searched.last {
                        folders.extend(self.bring_into(entry, last, &searched)?);
                    } else if entry.kind == Kind::Dir {
                        let (file, folder) = (entry.file, Folder::Known(entry.file));
                        let path = searched.path.join(entry.name.clone());
                        let known = (file, path.clone());
                        folders.extend(self.former(searched.file, &entry.name, known, since)?);
                        folders.push(Searched { file, folder, path, last: None });
                    }
                }
            }
            self.do_later()?;
        }
        Ok(())
    }

    /// Returns the folders that had the name of one that is there now, and were deleted after `since`: what was in them is looked for
    /// in its place. A program that makes a folder again must not hide what was in the one before.
    fn former(
        &self,
        parent: FileId,
        name: &Name,
        (now, path): (FileId, SetPath),
        since: CommitId,
    ) -> Result<Vec<Searched>, PlanError> {
        let mut former = Vec::new();
        for held in self.view.held(parent, name, FORMER_MAX)? {
            let Some((file, Kind::Dir)) = held.filter(|(file, _)| *file != now) else { continue };
            let (last, names) = self.view.last_links(file)?;
            let is_it = last != CommitId::MAX && last >= since && names == [(parent, name.clone())];
            let is_known = former.iter().any(|known: &Searched| known.file == file);
            if is_it && !is_known {
                let (folder, path) = (Folder::Known(now), path.clone());
                former.push(Searched { file, folder, path, last: Some(last) });
            }
        }
        // The newest is looked through first: what it held is what went last.
        former.reverse();
        Ok(former)
    }

    /// Brings back one thing of a folder that is gone: into a folder that is there under its name, and in no other thing's place.
    fn bring_into(
        &mut self,
        entry: Entry,
        last: CommitId,
        searched: &Searched,
    ) -> Result<Option<Searched>, PlanError> {
        let Searched { folder, path, .. } = searched;
        if !self.sees(entry.file, last)? {
            return Ok(None);
        }
        let there = self.places.at(*folder, &entry.name)?;
        let Some((there, kind)) = there else { return self.bring_one(entry, last, *folder, path) };
        let path = path.join(entry.name);
        match (there, kind, entry.kind) {
            (Thing::File(there), Kind::Dir, Kind::Dir) => {
                let (file, folder) = (entry.file, Folder::Known(there));
                return Ok(Some(Searched { file, folder, path, last: Some(last) }));
            }
            (Thing::File(there), ..) => {
                let is_it = match (self.view.file(entry.file, last)?, self.present(there)?) {
                    (Some(then), Some(now)) => then.hash.is_some() && then.hash == now.hash,
                    _ => false,
                };
                if !is_it {
                    self.left(path, Why::Taken);
                }
            }
            // One that was deleted later came back there.
            (Thing::Made, ..) => {}
        }
        Ok(None)
    }

    /// Brings one thing back; returns what is to be looked through for more, where it is a folder.
    fn bring_one(
        &mut self,
        entry: Entry,
        last: CommitId,
        folder: Folder,
        path: &SetPath,
    ) -> Result<Option<Searched>, PlanError> {
        if is_temporary(&entry.name) {
            self.left(path.join(entry.name), Why::Temporary);
            return Ok(None);
        }
        let file = entry.file;
        let brought = self.bring(&entry, (last, false), folder, path)?;
        Ok(brought.map(|(folder, path)| Searched { file, folder, path, last: Some(last) }))
    }

    /// Returns what a name stood for until it was deleted after `since`, and the last commit at which it did; `None` where it is
    /// there, went before, or stands elsewhere now.
    fn deleted(
        &self,
        folder: FileId,
        name: &Name,
        since: CommitId,
    ) -> Result<Option<(CommitId, Entry)>, ReadError> {
        let Some(gone) = self.view.empty_since(folder, name)? else { return Ok(None) };
        if gone <= since {
            return Ok(None);
        }
        let last = CommitId(gone.0 - 1);
        let Some((file, kind)) = self.view.lookup(folder, name, last)? else { return Ok(None) };
        // Names in a folder that is gone do not count.
        let is_living = !self.view.links(file, CommitId::MAX)?.is_empty()
            && self.view.path_of(file, CommitId::MAX)?.is_some();
        Ok((!is_living).then(|| (last, Entry { name: name.clone(), file, kind })))
    }
}

/// Tells whether programs make files of such names for a moment, and nobody misses them.
fn is_temporary(name: &Name) -> bool {
    let name = name.as_bytes();
    let has = |begin: &[u8], end: &[u8]| {
        name.len() >= begin.len() + end.len() && name.starts_with(begin) && name.ends_with(end)
    };
    has(b"~$", b"")
        || has(b"", b".tmp")
        || has(b".~lock.", b"#")
        || has(b"", b"-shm")
        || [&b".DS_Store"[..], b"Thumbs.db"].contains(&name)
}
