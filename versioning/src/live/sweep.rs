//! Comparing the whole tree with the index, for when nothing is known of what was touched.
//!
//! What is not where it should be is taken out of the tree first, into the stage where it is wanted somewhere. Then
//! the index is walked from the root, and every name is put in place like a touched one.

use std::{collections::HashSet, sync::Arc};

use keepshare_base::{FileId, Kind, Name};

use super::{
    Fail, LiveError,
    beneath::{Folder, Part},
    survey::Occupant,
    work::{About, Spot, Work},
};

impl Work<'_> {
    /// Makes the whole tree equal to the index.
    pub(super) fn compare_all(&mut self) -> Result<(), LiveError> {
        self.everything = true;
        self.files = self.tree.retries.files.clone();
        // Looked through again, now that everything of use is to be taken out of it.
        self.tree.stage_state.left_something();
        self.places.clear();
        self.survey_stage()?;
        self.clean_up()?;
        self.folder_changed(FileId::ROOT)?;
        self.fill.push(FileId::ROOT);
        self.fill_folders()
    }

    /// Brings something up to date that was put in place.
    pub(super) fn compare(&mut self, file: FileId, kind: Kind) -> Result<(), LiveError> {
        let since = self.files.get(&file).copied().unwrap_or(self.base);
        let result = self.refresh(file, since);
        self.note(result, || About::File(file))?;
        if kind == Kind::Dir {
            self.fill.push(file);
        }
        Ok(())
    }

    /// Takes everything out of the tree that is not where it should be.
    fn clean_up(&mut self) -> Result<(), LiveError> {
        let mut cleaned = HashSet::new();
        let mut folders = vec![FileId::ROOT];
        loop {
            self.clean_up_in(&mut folders)?;
            // Folders that were found in the stage, or brought there, go on being folders of the set.
            for (id, name) in self.staged() {
                let is_folder = self.is_folder(&name).unwrap_or(false);
                if is_folder && self.wanted.depth(id)?.is_some() && cleaned.insert(id) {
                    folders.push(id);
                }
            }
            if folders.is_empty() {
                return Ok(());
            }
        }
    }

    fn staged(&self) -> Vec<(FileId, Name)> {
        let staged = |(file, spots): (&FileId, &Vec<Spot>)| match spots.first() {
            Some(Spot::Stage(name)) => Some((*file, name.clone())),
            _ => None,
        };
        self.places.iter().filter_map(staged).collect()
    }

    fn is_folder(&self, name: &Name) -> Result<bool, Fail> {
        let seen = self.tree.stage.see(Part::from(name))?;
        Ok(seen.is_some_and(|seen| seen.kind == Kind::Dir))
    }

    fn clean_up_in(&mut self, folders: &mut Vec<FileId>) -> Result<(), LiveError> {
        while let Some(id) = folders.pop() {
            let folder = match self.open_there(id) {
                Ok(folder) => folder,
                Err(fail) => {
                    self.note(Err(fail), || About::File(id))?;
                    continue;
                }
            };
            let result = folder.each(|part| {
                let Some(occupant) = self.look(&folder, part)? else { return Ok(true) };
                if self.is_right(id, part, &occupant)? {
                    if let (Some(file), Kind::Dir) = (occupant.file, occupant.seen.kind) {
                        folders.push(file);
                    }
                    return Ok(true);
                }
                if let Some((file, kind)) = self.adopt_in(&folder, id, part, &occupant)? {
                    if kind == Kind::Dir {
                        folders.push(file);
                    }
                    return Ok(true);
                }
                let result = self.take_out(&folder, id, part, &occupant);
                let name = Name::new(part.as_bytes()).ok();
                self.note(result, || name.map_or(About::File(id), |name| About::Name(id, name)))?;
                Ok::<_, Fail>(true)
            });
            self.note(result, || About::File(id))?;
        }
        Ok(())
    }

    /// Takes an unknown thing for what is wanted there, where it is that; what cannot be told is not that.
    fn adopt_in(
        &mut self,
        folder: &Folder,
        parent: FileId,
        part: Part<'_>,
        occupant: &Occupant,
    ) -> Result<Option<(FileId, Kind)>, Fail> {
        let (None, Ok(name)) = (occupant.file, Name::new(part.as_bytes())) else {
            return Ok(None);
        };
        let Some(wanted) = self.wanted.name(parent, &name)? else { return Ok(None) };
        let spot = Spot::Live(parent, name);
        match self.adopt(folder, part, &spot, wanted, &occupant.seen) {
            Ok(true) => Ok(Some(wanted)),
            Err(Fail::Fatal(error)) => Err(error.into()),
            Ok(false) | Err(_) => Ok(None),
        }
    }

    fn is_right(
        &mut self,
        parent: FileId,
        part: Part<'_>,
        occupant: &Occupant,
    ) -> Result<bool, Fail> {
        let Ok(name) = Name::new(part.as_bytes()) else { return Ok(false) };
        let wanted = self.wanted.name(parent, &name)?;
        Ok(wanted
            .is_some_and(|(file, kind)| occupant.file == Some(file) && occupant.seen.kind == kind))
    }

    fn take_out(
        &mut self,
        folder: &Arc<Folder>,
        parent: FileId,
        part: Part<'_>,
        occupant: &Occupant,
    ) -> Result<(), Fail> {
        self.folder_changed(parent)?;
        let Ok(name) = Name::new(part.as_bytes()) else {
            return self.set_aside(folder, part, &About::File(parent));
        };
        let about = About::Name(parent, name.clone());
        match occupant.file {
            None if !self.tree.redo => self.set_aside(folder, part, &about),
            Some(file) if !self.wanted.names(file)?.is_empty() => {
                let spot = Spot::Live(parent, name.clone());
                let kept = self.places.get(&file).is_some_and(|spots| !spots.is_empty());
                if kept && occupant.seen.kind != Kind::Dir {
                    return self.retire(folder, &name);
                }
                self.places.entry(file).or_default().push(spot.clone());
                self.park(file, &spot)
            }
            file => {
                self.gone.extend(file.map(|file| (file, Spot::Live(parent, name.clone()))));
                self.retire(folder, &name)
            }
        }
    }
}
