//! Making names stand for what they should.
//!
//! First what no name may stand for any more goes, so that there is room. Then names are put in place from the root
//! down: when one is, everything above it stays where it is, so no folder can be moved into itself. What has to be
//! somewhere else and is in the way waits in the stage. Anything that exists is renamed or linked, the rest is made.

use std::sync::Arc;

use keepshare_base::{FileId, Kind, Name};

use super::{
    Fail, LiveError,
    beneath::{Folder, Part, see_open},
    stage::{is_taken, making},
    survey::{Occupant, Opening},
    work::{About, Spot, Work},
};
use crate::FileState;

/// How many entries of a folder are asked of the index at once.
pub(super) const PAGE_ENTRIES: usize = 1000;

/// Where something comes from that gets a name.
#[derive(Debug)]
enum Source {
    /// A place that it leaves.
    Leaves(Spot),
    /// A place where it stays.
    Stays(Spot),
    /// Nowhere yet.
    Nowhere,
}

impl Work<'_> {
    /// Empties touched names that must stand for nothing; returns those whose file has to leave for another first.
    pub(super) fn evict(&mut self) -> Result<Vec<(FileId, Name)>, LiveError> {
        let mut leaving = Vec::new();
        for (parent, name) in self.touched.iter().cloned().collect::<Vec<_>>() {
            if self.wanted.name(parent, &name)?.is_some() {
                continue;
            }
            self.retries.names.remove(&(parent, name.clone()));
            match self.evict_name(parent, &name) {
                Ok(true) => {}
                Ok(false) => leaving.push((parent, name)),
                Err(fail) => self.note(Err(fail), || About::Name(parent, name))?,
            }
        }
        Ok(leaving)
    }

    /// Looks at names that had to be left; one that still has its file is tried again with that file's other names.
    pub(super) fn evict_left(&mut self, left: Vec<(FileId, Name)>) -> Result<(), LiveError> {
        for (parent, name) in left {
            match self.evict_name(parent, &name) {
                Ok(true) => {}
                Ok(false) => self.retries.add_name(parent, name),
                Err(fail) => self.note(Err(fail), || About::Name(parent, name))?,
            }
        }
        Ok(())
    }

    /// Makes touched names stand for what they should, from the root down.
    pub(super) fn put_names(&mut self) -> Result<(), LiveError> {
        let mut wanted = Vec::new();
        for (parent, name) in self.touched.iter().cloned().collect::<Vec<_>>() {
            if let Some((file, kind)) = self.wanted.name(parent, &name)?
                && let Some(depth) = self.wanted.depth(parent)?
            {
                wanted.push((depth, parent, name, file, kind));
            }
        }
        wanted.sort();
        for (_, parent, name, file, kind) in wanted {
            self.retries.names.remove(&(parent, name.clone()));
            let result = self.put(parent, &name, file, kind);
            self.note(result.map(drop), || About::Name(parent, name))?;
            self.fill_folders()?;
        }
        Ok(())
    }

    /// Makes a name stand for a file of the set; true where that was made anew.
    pub(super) fn put(
        &mut self,
        parent: FileId,
        name: &Name,
        file: FileId,
        kind: Kind,
    ) -> Result<bool, Fail> {
        let folder = self.open_there(parent)?;
        let occupant = self.look(&folder, Part::from(name))?;
        let to = Spot::Live(parent, name.clone());
        if occupant.is_some_and(|o| o.file == Some(file) && o.seen.kind == kind) {
            if kind == Kind::Dir && self.is_uncertain(&(parent, name.clone())) {
                // It may have come here inside another one.
                self.places.insert(file, vec![to]);
            }
            return Ok(false);
        }
        if let Some(Occupant { seen, file: None }) = &occupant
            && self.adopt(&folder, Part::from(name), &to, (file, kind), seen)?
        {
            self.places.remove(&file);
            if self.is_uncertain(&(parent, name.clone())) {
                self.places.insert(file, vec![to]);
            }
            return Ok(false);
        }
        let over = match occupant {
            Some(occupant) => self.clear(&folder, parent, name, &occupant, kind)?,
            None => false,
        };
        match self.source(file, kind)? {
            Source::Leaves(from) => self.move_to(file, kind, &from, (&folder, name, over), to)?,
            Source::Stays(from) => self.link_to(file, &from, (&folder, name, over), to)?,
            Source::Nowhere => {
                let Some(state) = self.wanted.file(file)? else { return Err(Fail::NoFolder) };
                self.make(&state, (&folder, name, over))?;
                self.files.remove(&file);
                self.retries.files.remove(&file);
                // Where the name is not a touched one, the index tells where it is.
                self.places.remove(&file);
                if self.is_uncertain(&(parent, name.clone())) {
                    self.places.insert(file, vec![to]);
                }
                self.folder_changed(parent)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Puts the children of new folders in place, and theirs.
    pub(super) fn fill_folders(&mut self) -> Result<(), LiveError> {
        while let Some(folder) = self.fill.pop() {
            let mut after: Option<Name> = None;
            loop {
                let at = self.wanted.at();
                let page = self.wanted.view().list(folder, at, after.as_ref(), PAGE_ENTRIES)?;
                let last = page.len() < PAGE_ENTRIES;
                after = page.last().map(|entry| entry.name.clone());
                for entry in page.into_iter().filter(|entry| entry.kind.is_live()) {
                    let result = self.put(folder, &entry.name, entry.file, entry.kind);
                    let was_there = matches!(result, Ok(false));
                    self.note(result.map(drop), || About::Name(folder, entry.name))?;
                    if was_there && self.everything {
                        self.compare(entry.file, entry.kind)?;
                    }
                }
                if last {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Makes a file, folder or symlink in the stage and gives it its name; `over` another where that is so.
    pub(super) fn make(
        &mut self,
        state: &FileState,
        (folder, name, over): (&Folder, &Name, bool),
    ) -> Result<(), Fail> {
        let temporary = making(state.file);
        let made = self.make_in_stage(state, &temporary).and_then(|identity| {
            let (from, to) = (Part::from(&temporary), Part::from(name));
            if over {
                self.tree.stage.replace(from, folder, to)?;
            } else {
                self.tree.stage.rename(from, folder, to)?;
            }
            Ok(self.tree.records.set(state.file, identity)?)
        });
        match made {
            Ok(()) => {
                self.counts().made += 1;
                if state.meta.kind == Kind::Dir {
                    self.open.remove(&state.file);
                    self.fill.push(state.file);
                    self.folder_changed(state.file)?;
                }
                Ok(())
            }
            Err(fail) => {
                // Leave no half file to take the space that may be what is missing.
                self.tree.stage_state.left_something();
                let stage = Arc::clone(&self.tree.stage);
                let _ = self.retire(&stage, &temporary);
                Err(fail)
            }
        }
    }

    fn make_in_stage(
        &mut self,
        state: &FileState,
        temporary: &Name,
    ) -> Result<super::identity::Identity, Fail> {
        let (stage, part) = (Arc::clone(&self.tree.stage), Part::from(temporary));
        let taken = match state.meta.kind {
            Kind::Dir => stage.make_folder(part).err(),
            Kind::Symlink => stage.make_symlink(part, &state.meta.symlink).err(),
            _ => match self.file_in_stage(state, temporary) {
                Ok(file) => {
                    let seen = see_open(&file)?;
                    let left = self.tree.attributes.set_seen(&file, &seen, &state.meta)?;
                    self.note_left_out(state.file, left);
                    return Ok(seen.identity);
                }
                Err(Fail::Io(error)) => Some(error),
                Err(fail) => return Err(fail),
            },
        };
        match taken {
            Some(error) if is_taken(&error) => {
                self.retire(&stage, temporary)?;
                self.make_in_stage(state, temporary)
            }
            Some(error) => Err(error.into()),
            None => {
                if state.meta.kind == Kind::Symlink {
                    let left = self.tree.attributes.set_symlink(&stage, part, &state.meta)?;
                    self.note_left_out(state.file, left);
                }
                let seen = stage.see(part)?.ok_or(Fail::NoFolder)?;
                Ok(seen.identity)
            }
        }
    }

    /// Empties a name; false where its file is wanted elsewhere and only there.
    fn evict_name(&mut self, parent: FileId, name: &Name) -> Result<bool, Fail> {
        let Opening::Open(folder) = self.open(parent)? else { return Ok(true) };
        let Some(occupant) = self.look(&folder, Part::from(name))? else { return Ok(true) };
        if let Some(file) = occupant.file
            && !self.wanted.names(file)?.is_empty()
            && !self.is_elsewhere(file, &Spot::Live(parent, name.clone()))?
        {
            return Ok(false);
        }
        self.clear(&folder, parent, name, &occupant, Kind::Dir)?;
        Ok(true)
    }

    /// Gets what stands at a name out of the way of something of `kind`; true where that can just replace it.
    fn clear(
        &mut self,
        folder: &Folder,
        parent: FileId,
        name: &Name,
        occupant: &Occupant,
        kind: Kind,
    ) -> Result<bool, Fail> {
        let spot = Spot::Live(parent, name.clone());
        self.folder_changed(parent)?;
        if let Some(file) = occupant.file {
            if self.wanted.names(file)?.is_empty() {
                self.gone.push((file, spot.clone()));
            } else if !self.is_elsewhere(file, &spot)? {
                self.park(file, &spot)?;
                return Ok(false);
            }
        } else if !self.tree.redo {
            let about = About::Name(parent, name.clone());
            self.set_aside(folder, Part::from(name), &about)?;
            return Ok(false);
        }
        if occupant.seen.kind == Kind::Dir {
            self.doom(folder, Part::from(name), occupant)?;
            return Ok(false);
        }
        if let Some(file) = occupant.file {
            self.places.entry(file).or_default().retain(|other| *other != spot);
        }
        if kind == Kind::Dir {
            folder.remove_file(Part::from(name))?;
            self.counts().removed += 1;
        }
        Ok(kind != Kind::Dir)
    }

    /// Tells whether a file is at another spot than this one.
    pub(super) fn is_elsewhere(&mut self, file: FileId, here: &Spot) -> Result<bool, Fail> {
        for spot in self.places.get(&file).cloned().unwrap_or_default() {
            if spot != *here && self.is_at(file, &spot)? {
                return Ok(true);
            }
        }
        for (parent, name) in self.wanted.names(file)? {
            let spot = Spot::Live(parent, name);
            if spot != *here && self.is_at(file, &spot)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Finds where a file can come from that gets a name.
    fn source(&mut self, file: FileId, kind: Kind) -> Result<Source, Fail> {
        if self.tree.records.identity(file)?.is_none() {
            // No inode is this file: it can stand nowhere.
            return Ok(Source::Nowhere);
        }
        let mut stays = None;
        for spot in self.places.get(&file).cloned().unwrap_or_default() {
            if !self.is_at(file, &spot)? {
                continue;
            }
            let Spot::Live(parent, name) = &spot else { return Ok(Source::Leaves(spot)) };
            if self.wanted.name(*parent, name)?.is_none_or(|(wanted, _)| wanted != file) {
                return Ok(Source::Leaves(spot));
            }
            stays = Some(spot);
        }
        if kind == Kind::Dir {
            return Ok(Source::Nowhere);
        }
        if stays.is_none() {
            for (parent, name) in self.wanted.names(file)? {
                let spot = Spot::Live(parent, name);
                if self.is_at(file, &spot)? {
                    stays = Some(spot);
                    break;
                }
            }
        }
        Ok(stays.map_or(Source::Nowhere, Source::Stays))
    }

    fn move_to(
        &mut self,
        file: FileId,
        kind: Kind,
        from: &Spot,
        (folder, name, over): (&Folder, &Name, bool),
        to: Spot,
    ) -> Result<(), Fail> {
        let (source, source_name) = self.reach(from)?;
        let (from_part, to_part) = (Part::from(&source_name), Part::from(name));
        let renamed = if over {
            source.replace(from_part, folder, to_part)
        } else {
            source.rename(from_part, folder, to_part)
        };
        match (renamed, from) {
            // The folder would come to be inside itself, because that one has not moved yet.
            (Err(error), Spot::Live(..))
                if kind == Kind::Dir && error.kind() == std::io::ErrorKind::InvalidInput =>
            {
                self.park(file, from)?;
                let parked = self.places.get(&file).and_then(|spots| spots.first()).cloned();
                let Some(Spot::Stage(parked)) = parked else { return Err(Fail::NoFolder) };
                self.tree.stage.rename(Part::from(&parked), folder, to_part)?;
                self.counts().renamed += 1;
                self.moved(file, &Spot::Stage(parked), to)
            }
            (renamed, from) => {
                renamed?;
                self.counts().renamed += 1;
                self.moved(file, from, to)
            }
        }
    }

    fn link_to(
        &mut self,
        file: FileId,
        from: &Spot,
        (folder, name, over): (&Folder, &Name, bool),
        to: Spot,
    ) -> Result<(), Fail> {
        let (source, source_name) = self.reach(from)?;
        let (from_part, to_part) = (Part::from(&source_name), Part::from(name));
        if over {
            let stage = Arc::clone(&self.tree.stage);
            let temporary = making(file);
            self.retire(&stage, &temporary)?;
            source.link(from_part, &stage, Part::from(&temporary))?;
            stage.replace(Part::from(&temporary), folder, to_part)?;
        } else {
            source.link(from_part, folder, to_part)?;
        }
        self.counts().linked += 1;
        if let Spot::Live(parent, _) = &to {
            self.folder_changed(*parent)?;
        }
        self.places.entry(file).or_default().push(to);
        Ok(())
    }
}
