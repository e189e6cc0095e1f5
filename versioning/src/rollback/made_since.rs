//! What was made since goes, where its present state is a version; what came in stays, and so do the folders around it.

use keepshare_base::{CommitId, DEPTH_MAX, FileId, Kind, Name, SetPath};

use super::{Doing, Folder, PAGE, Plan, PlanError, Why};
use crate::{Entry, ReadError};

impl Plan<'_> {
    /// Removes what is in the folder now and was made since.
    pub(super) fn remove_made_since(&mut self) -> Result<(), PlanError> {
        let path = self.wanted.path.clone();
        if let Some(root) = self.places.root() {
            self.remove_in(root, &path, true, 0)?;
        }
        Ok(())
    }

    /// Removes the folder itself, which was not there then: an undo takes it away that brought it back.
    pub(super) fn remove_whole(&mut self, at: CommitId) -> Result<(), PlanError> {
        let (Some(root), Some((above, name))) = (self.places.root(), self.wanted.path.split_last())
        else {
            return Ok(());
        };
        let Some((parent, Kind::Dir)) = self.view.resolve(&above, CommitId::MAX)? else {
            return Ok(());
        };
        self.was = Some((root, at));
        let entry = Entry { name: name.clone(), file: root, kind: Kind::Dir };
        self.remove_one(parent, &entry, 0)?;
        Ok(())
    }

    /// Removes what was made since in a folder that is at `path` by now; tells whether something stays in it. In a folder that
    /// stays as it is, `goes` false, only what was in the one that is rolled back is looked at.
    fn remove_in(
        &mut self,
        folder: FileId,
        path: &SetPath,
        goes: bool,
        depth: usize,
    ) -> Result<bool, PlanError> {
        if depth > DEPTH_MAX || !self.lists(folder, CommitId::MAX)? {
            return Ok(true);
        }
        let (mut after, mut stays): (Option<Name>, bool) = (None, false);
        loop {
            let page = self.view.list(folder, CommitId::MAX, after.as_ref(), PAGE)?;
            let Some(last) = page.last() else { return Ok(stays) };
            after = Some(last.name.clone());
            for entry in page {
                stays |= match self.was_inside(entry.file)? {
                    true => self.look_below(folder, &entry, path, depth)?,
                    false if goes => self.remove_one(folder, &entry, depth)?,
                    false => {
                        if entry.kind == Kind::Dir {
                            self.remove_in(entry.file, &path.join(entry.name), false, depth + 1)?;
                        }
                        true
                    }
                };
            }
        }
    }

    /// Looks for what was made since below something that comes back; tells whether that stays where it is.
    fn look_below(
        &mut self,
        folder: FileId,
        entry: &Entry,
        above: &SetPath,
        depth: usize,
    ) -> Result<bool, PlanError> {
        let Entry { file, kind, name } = entry;
        let path = above.join(name.clone());
        let own = (Folder::Known(folder), name.clone());
        let names = self.places.of(*file)?;
        let mut stays = names.contains(&own);
        // A name that it got since.
        if stays && names.len() > 1 && !self.had_name(*file, folder, name)? {
            match self.present(*file)?.filter(|now| now.cut) {
                Some(now) if self.is_as_at_base(*file, *kind)? => {
                    let doing = Doing::Remove { what: self.stands(&now), kind: *kind };
                    if self.may(own.0, &doing)? {
                        self.step(path.clone(), own.0, doing);
                        self.places.removes(*file, own)?;
                        stays = false;
                    } else {
                        self.left(path.clone(), Why::NotYours);
                    }
                }
                Some(_) => self.left(path.clone(), Why::Changed),
                None => self.left(path.clone(), Why::NotAVersion),
            }
        }
        // What is in a folder whose names then may not be read was not there for whoever orders it: it is no newer than that.
        if *kind == Kind::Dir && self.listed_then(*file)? {
            // What is in it went along.
            let path = self.places.path(Folder::Known(*file))?.unwrap_or(path);
            self.remove_in(*file, &path, true, depth + 1)?;
        }
        Ok(stays)
    }

    /// Removes one thing that was not in the folder then, where it was made since; tells whether it stays.
    fn remove_one(
        &mut self,
        folder: FileId,
        entry: &Entry,
        depth: usize,
    ) -> Result<bool, PlanError> {
        let (file, kind) = (entry.file, entry.kind);
        // A step may have moved it aside, or removed it.
        let (names, own) = (self.places.of(file)?, (Folder::Known(folder), entry.name.clone()));
        let (holder, name) = match names.contains(&own) {
            true => own,
            false => match names.into_iter().next().filter(|_| kind == Kind::Dir) {
                Some(aside) => aside,
                None => return Ok(false),
            },
        };
        let Some(above) = self.places.path(holder)? else { return Ok(true) };
        let path = above.join(name);
        let now = self.present(file)?;
        let why = match &now {
            _ if !self.is_made_since(file)? => Some(Why::MovedIn),
            _ if !self.is_as_at_base(file, kind)? => {
                let was_there = !self.view.links(file, self.wanted.base)?.is_empty();
                Some(if was_there { Why::Changed } else { Why::CameSince })
            }
            Some(now) if kind == Kind::File && !now.cut => Some(Why::NotAVersion),
            _ if !matches!(kind, Kind::File | Kind::Dir | Kind::Symlink) => {
                Some(Why::Special(kind))
            }
            Some(_) if kind == Kind::Dir && !self.lists(file, CommitId::MAX)? => {
                Some(Why::NotListed)
            }
            Some(now) if !self.may(holder, &Doing::Remove { what: self.stands(now), kind })? => {
                Some(Why::NotYours)
            }
            Some(_) if kind == Kind::Dir && self.remove_in(file, &path, true, depth + 1)? => {
                Some(Why::HoldsWhatStays)
            }
            Some(_) => None,
            None => Some(Why::NotAVersion),
        };
        let (None, Some(now)) = (why, now) else {
            if kind == Kind::Dir && why != Some(Why::HoldsWhatStays) {
                self.remove_in(file, &path, false, depth + 1)?;
            }
            self.left(path, why.unwrap_or(Why::NotAVersion));
            return Ok(true);
        };
        self.step(path, holder, Doing::Remove { what: self.stands(&now), kind });
        Ok(false)
    }

    /// Tells whether the names in a folder may be read as they were then; what was made since at its place stands for it.
    fn listed_then(&self, folder: FileId) -> Result<bool, ReadError> {
        match self.was {
            Some((_, at)) if !self.adopted.contains(&folder) => self.lists(folder, at),
            _ => Ok(true),
        }
    }

    /// Tells whether something was in the folder then, or stands for what was.
    pub(super) fn was_inside(&mut self, file: FileId) -> Result<bool, ReadError> {
        let Some((was, at)) = self.was else { return Ok(false) };
        if self.adopted.contains(&file) {
            return Ok(true);
        }
        for (parent, _) in self.view.links(file, at)? {
            if self.places.is_inside(parent, at, was)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Tells whether something was nowhere then.
    pub(super) fn is_made_since(&self, file: FileId) -> Result<bool, ReadError> {
        let Some((_, at)) = self.was else { return Ok(false) };
        Ok(self.view.links(file, at)?.is_empty() && self.view.path_of(file, at)?.is_none())
    }

    /// Tells whether a file had this very name then.
    fn had_name(&self, file: FileId, folder: FileId, name: &Name) -> Result<bool, ReadError> {
        let Some((_, at)) = self.was else { return Ok(true) };
        let is_settled = self.settled.contains(&(Folder::Known(folder), name.clone()));
        let then = (self.parent_then(folder), name.clone());
        Ok(is_settled || self.view.links(file, at)?.contains(&then))
    }
}
