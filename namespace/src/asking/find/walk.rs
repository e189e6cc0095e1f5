//! The same search by listing: every folder is gone through, the dead ones where they stood last. Slow, and plain to see that it
//! is right; tests hold the search against it.

use std::collections::BTreeMap;

use keepshare_base::{CommitId, FileId, Kind, Name, SetPath};

use crate::{AskError, Asking, Pattern, guard::Time, question::Question};
use keepshare_versioning::Ended;

use super::places::End;

/// A folder that is still to be gone through.
struct Folder {
    file: FileId,
    path: SetPath,
    through: FileId,
    end: Option<End>,
}

/// A name that was found: what ended it, and its folder.
struct Hit {
    path: SetPath,
    end: Option<End>,
    of_living: bool,
    folder: FileId,
}

/// Returns the paths that match, in order, and how each ended.
pub(super) fn walk(
    asking: &Asking<'_>,
    pattern: &Pattern,
) -> Result<Vec<(SetPath, Option<Ended>)>, AskError> {
    let ask = asking.question()?;
    let (root, path) = (FileId::ROOT, SetPath::default());
    let mut folders = vec![Folder { file: root, path, through: root, end: None }];
    let mut hits = Vec::new();
    while let Some(folder) = folders.pop() {
        if ask.may_list((folder.file, folder.through), folder.end)? {
            ask.present(&folder, &mut folders, &mut hits)?;
            ask.past(&folder, &mut folders, &mut hits)?;
        }
    }
    // Of folders that followed each other at one path the last one's name is meant, and what is there before all others.
    let mut found = BTreeMap::<SetPath, Hit>::new();
    for hit in hits {
        let rank =
            |hit: &Hit| (hit.of_living, hit.end.is_none(), hit.end.map(|end| end.last), hit.folder);
        match found.get(&hit.path) {
            Some(known) if rank(known) > rank(&hit) => {}
            _ => drop(found.insert(hit.path.clone(), hit)),
        }
    }
    let found = found.into_values().filter(|hit| {
        let name = hit.path.names().last().unwrap();
        pattern.fits(name) && pattern.wants(hit.end.map(|end| end.ended))
    });
    Ok(found.map(|hit| (hit.path, hit.end.map(|end| end.ended))).collect())
}

impl Question<'_> {
    /// Goes through the names that a folder holds, or held when it went.
    fn present(
        &self,
        folder: &Folder,
        folders: &mut Vec<Folder>,
        hits: &mut Vec<Hit>,
    ) -> Result<(), AskError> {
        let knows_more = self.passes(folder.file, Time::Now)?;
        for entry in self.view.list(folder.file, CommitId::MAX, None, usize::MAX)? {
            let at = folder.end.map_or(CommitId::MAX, |end| end.last);
            let is_seen = match self.view.file(entry.file, at)? {
                _ if folder.end.is_none() => true,
                Some(state) => self.is_seen(folder.through, (entry.file, at), &state)?,
                None => self.who.is_admin(),
            };
            if !is_seen {
                continue;
            }
            let path = folder.path.join(entry.name.clone());
            if entry.kind == Kind::Dir && knows_more {
                let through = self.folders_told(&path)?.through;
                folders.push(Folder {
                    file: entry.file,
                    path: path.clone(),
                    through,
                    end: folder.end,
                });
            }
            hits.push(hit(folder, path, folder.end));
        }
        Ok(())
    }

    /// Goes through the names that a folder held once, and the folders whose last name one of them was.
    fn past(
        &self,
        folder: &Folder,
        folders: &mut Vec<Folder>,
        hits: &mut Vec<Hit>,
    ) -> Result<(), AskError> {
        let place = (folder.file, folder.through);
        for name in self.view.names_ever(folder.file, None, usize::MAX)? {
            let path = folder.path.join(name.clone());
            if self.view.is_gone(folder.file, &name)?
                && let Some(entry) = self.last_told(place, (&name, &path), None)?
            {
                hits.push(hit(folder, path.clone(), End::of(&entry)));
            }
            let mut known = Vec::new();
            for (file, kind) in
                self.view.held(folder.file, &name, usize::MAX)?.into_iter().flatten()
            {
                let is_last = |place: (FileId, Name)| place == (folder.file, name.clone());
                if kind != Kind::Dir
                    || known.contains(&file)
                    || self.view.link_count(file)? > 0
                    || !self.last_place(file)?.is_some_and(is_last)
                {
                    continue;
                }
                known.push(file);
                let Some(entry) = self.last_told(place, (&name, &path), Some(file))? else {
                    continue;
                };
                let end = End::of(&entry);
                if end.is_some_and(|end| end.ended != Ended::Renamed) {
                    let (path, through) = (path.clone(), self.folders_told(&path)?.through);
                    folders.push(Folder { file, path, through, end });
                }
            }
        }
        Ok(())
    }
}

fn hit(folder: &Folder, path: SetPath, end: Option<End>) -> Hit {
    Hit { path, end, of_living: folder.end.is_none(), folder: folder.file }
}
