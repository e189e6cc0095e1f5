//! The stage: where things are while they are on their way.
//!
//! Its entries are named by what they are there for: `f…` a file or folder of the set that waits for its name,
//! `new-f…` one that is being made, `gone-N` what is being removed, `kept-N` what someone else put into the live tree,
//! `tree` the mark that says whose stage it is.

use std::{collections::HashSet, sync::Arc};

use keepshare_base::{FileId, Kind, Name};
use rustix::io::Errno;

use super::{
    Fail, LiveError, ProblemCause,
    beneath::{Folder, Part},
    claim,
    survey::Occupant,
    work::{About, Spot, Work},
};

/// How many foreign files and folders are kept; what comes after stays where it is, in the way.
const KEPT_MAX: usize = 100_000;

/// What is known of the stage between runs.
#[derive(Debug, Default)]
pub(super) struct StageState {
    /// Whether it was looked through since the tree was opened, or since something was left there.
    clean: bool,
    /// The last number given to a `gone-N` or `kept-N`.
    number: u64,
    /// Entries being removed.
    gone: Vec<Name>,
    /// How many foreign entries are kept.
    kept: usize,
}

impl StageState {
    /// Has the next run look through the stage.
    pub(super) fn left_something(&mut self) {
        self.clean = false;
    }
}

impl Work<'_> {
    /// Looks through the stage where the last run left something there.
    pub(super) fn survey_stage(&mut self) -> Result<(), LiveError> {
        if self.tree.stage_state.clean {
            return Ok(());
        }
        let stage = Arc::clone(&self.tree.stage);
        let mut names = Vec::new();
        stage
            .each(|part| {
                names.extend(Name::new(part.as_bytes()).ok());
                Ok::<_, std::io::Error>(true)
            })
            .map_err(|source| self.stage_failed(source))?;
        let mut state = StageState { clean: true, ..StageState::default() };
        for name in &names {
            let number = |prefix: &str| {
                let text = std::str::from_utf8(name.as_bytes()).ok()?;
                text.strip_prefix(prefix)?.parse::<u64>().ok()
            };
            if let Some(number) = number("gone-") {
                state.number = state.number.max(number);
                state.gone.push(name.clone());
            } else if let Some(number) = number("kept-") {
                state.number = state.number.max(number);
                state.kept += 1;
            }
        }
        self.tree.stage_state = state;
        let prepared: HashSet<Name> = self.tree.prepared.names().collect();
        for name in names.into_iter().filter(|name| !prepared.contains(name)) {
            let known = [&b"gone-"[..], b"kept-"].iter().any(|p| name.as_bytes().starts_with(p));
            if !known && name.as_bytes() != claim::MARK.as_bytes() {
                let result = self.take_in(&name);
                self.note(result, || About::File(FileId::ROOT))?;
            }
        }
        if self.tree.redo || self.everything {
            self.salvage(0)?;
        }
        Ok(())
    }

    /// Renames a file or folder of the set into the stage, where it waits for its name.
    pub(super) fn park(&mut self, file: FileId, spot: &Spot) -> Result<(), Fail> {
        let (folder, name) = self.reach(spot)?;
        let parked = stage_name(&file.to_string());
        let stage = Arc::clone(&self.tree.stage);
        if stage.see(Part::from(&parked))?.is_some() {
            self.retire(&stage, &parked)?;
        }
        self.tree.stage_state.left_something();
        folder.rename(Part::from(&name), &stage, Part::from(&parked))?;
        self.counts().renamed += 1;
        self.moved(file, spot, Spot::Stage(parked))
    }

    /// Moves a folder that is not wanted out of the live tree, to be emptied later.
    pub(super) fn doom(
        &mut self,
        folder: &Folder,
        part: Part<'_>,
        occupant: &Occupant,
    ) -> Result<(), Fail> {
        let gone = self.numbered("gone-");
        folder.rename(part, &self.tree.stage, Part::from(&gone))?;
        self.counts().renamed += 1;
        self.tree.stage_state.gone.push(gone.clone());
        if let Some(file) = occupant.file {
            self.places.insert(file, vec![Spot::Stage(gone)]);
        }
        // In an unknown folder there may be known ones, moved there before the records could say so.
        if self.tree.redo || self.everything {
            self.salvage(self.tree.stage_state.gone.len() - 1)?;
        }
        Ok(())
    }

    /// Moves what someone else put into the live tree out of it.
    pub(super) fn set_aside(
        &mut self,
        folder: &Folder,
        part: Part<'_>,
        about: &About,
    ) -> Result<(), Fail> {
        if self.tree.stage_state.kept >= KEPT_MAX {
            return Err(std::io::Error::other("too much is kept of what others put here").into());
        }
        let kept = self.numbered("kept-");
        folder.rename(part, &self.tree.stage, Part::from(&kept))?;
        self.counts().renamed += 1;
        self.tree.stage_state.kept += 1;
        Ok(self.report(about, ProblemCause::Foreign { kept: Some(kept) })?)
    }

    /// Removes from the stage what has its name in the tree, as one of several links.
    pub(super) fn settle(&mut self) -> Result<(), LiveError> {
        let staged = |(file, spots): (&FileId, &Vec<Spot>)| {
            let spot = spots.iter().find(|spot| matches!(spot, Spot::Stage(_)));
            spot.map(|spot| (*file, spot.clone()))
        };
        for (file, spot) in self.places.iter().filter_map(staged).collect::<Vec<_>>() {
            let result = self.settle_file(file, &spot);
            self.note(result, || About::File(file))?;
        }
        Ok(())
    }

    fn settle_file(&mut self, file: FileId, spot: &Spot) -> Result<(), Fail> {
        let (stage, name) = self.reach(spot)?;
        let parked = name.as_bytes().starts_with(b"f");
        let is_file = stage.see(Part::from(&name))?.is_some_and(|seen| seen.kind != Kind::Dir);
        if parked && is_file && self.is_elsewhere(file, spot)? {
            self.counts().removed += 1;
            stage.remove_file(Part::from(&name))?;
        }
        Ok(())
    }

    /// Removes entries of folders that are gone, at most `entries_max`; tells whether some are left.
    pub(super) fn purge(&mut self, entries_max: usize) -> Result<bool, LiveError> {
        let mut left = entries_max;
        while let Some(name) = self.tree.stage_state.gone.pop() {
            match self.empty(&name, &mut left) {
                Ok(true) => {}
                Ok(false) => {
                    self.tree.stage_state.gone.push(name);
                    return Ok(true);
                }
                Err(Fail::Fatal(error)) => return Err(error),
                Err(_) => {
                    // Looked at again when the stage is.
                    self.tree.stage_state.left_something();
                }
            }
        }
        Ok(false)
    }

    /// Puts something on the way out, whatever it is.
    pub(super) fn retire(&mut self, folder: &Folder, name: &Name) -> Result<(), Fail> {
        let Some(occupant) = self.look(folder, Part::from(name))? else { return Ok(()) };
        if occupant.seen.kind == Kind::Dir {
            self.doom(folder, Part::from(name), &occupant)
        } else {
            self.counts().removed += 1;
            Ok(folder.remove_file(Part::from(name))?)
        }
    }

    /// Notes that a file of the set is somewhere else now.
    pub(super) fn moved(&mut self, file: FileId, from: &Spot, to: Spot) -> Result<(), Fail> {
        let spots = self.places.entry(file).or_default();
        spots.retain(|spot| spot != from && *spot != to);
        // The first one is where a folder is looked for.
        spots.insert(0, to.clone());
        for spot in [from, &to] {
            if let Spot::Live(parent, _) = spot {
                self.folder_changed(*parent)?;
            }
        }
        Ok(())
    }

    /// Finds out what an entry is that the last run left in the stage.
    fn take_in(&mut self, name: &Name) -> Result<(), Fail> {
        let stage = Arc::clone(&self.tree.stage);
        let Some(occupant) = self.look(&stage, Part::from(name))? else { return Ok(()) };
        if let Some(file) = occupant.file {
            let making = name.as_bytes().starts_with(b"new-");
            if !making && !self.wanted.names(file)?.is_empty() {
                self.places.entry(file).or_default().push(Spot::Stage(name.clone()));
                // It is still here when this run fails to give it its name.
                self.tree.stage_state.left_something();
                return Ok(());
            }
        }
        self.retire(&stage, name)
    }

    /// Takes known things that are wanted out of what is on the way out, from the `at`-th on.
    fn salvage(&mut self, mut at: usize) -> Result<(), LiveError> {
        while at < self.tree.stage_state.gone.len() {
            let name = self.tree.stage_state.gone[at].clone();
            at += 1;
            // What cannot be read cannot be taken out: it is built again from the store.
            if let Err(Fail::Fatal(error)) = self.salvage_from(&name) {
                return Err(error);
            }
        }
        Ok(())
    }

    fn salvage_from(&mut self, name: &Name) -> Result<(), Fail> {
        let stage = Arc::clone(&self.tree.stage);
        let Ok(folder) = stage.folder(Part::from(name)) else { return Ok(()) };
        folder.each(|part| {
            let Some(occupant) = self.look(&folder, part)? else { return Ok(true) };
            if let Some(file) = occupant.file
                && !self.wanted.names(file)?.is_empty()
            {
                if self.places.contains_key(&file) {
                    return Ok(true);
                }
                let parked = stage_name(&file.to_string());
                if stage.see(Part::from(&parked))?.is_none() {
                    self.tree.stage_state.left_something();
                    folder.rename(part, &stage, Part::from(&parked))?;
                    self.counts().renamed += 1;
                    self.places.insert(file, vec![Spot::Stage(parked)]);
                }
                return Ok(true);
            }
            if occupant.seen.kind == Kind::Dir {
                let gone = self.numbered("gone-");
                folder.rename(part, &stage, Part::from(&gone))?;
                self.tree.stage_state.gone.push(gone.clone());
                if let Some(file) = occupant.file {
                    self.places.insert(file, vec![Spot::Stage(gone)]);
                }
            }
            Ok::<_, Fail>(true)
        })
    }

    /// Empties and removes a folder of the stage, or removes what is no folder; false when `left` ran out before.
    fn empty(&mut self, name: &Name, left: &mut usize) -> Result<bool, Fail> {
        let stage = Arc::clone(&self.tree.stage);
        let Some(occupant) = self.look(&stage, Part::from(name))? else { return Ok(true) };
        if let Some(file) = occupant.file {
            self.tree.records.forget(file)?;
        }
        if occupant.seen.kind != Kind::Dir {
            stage.remove_file(Part::from(name))?;
            return Ok(true);
        }
        let folder = stage.folder(Part::from(name))?;
        let mut emptied = true;
        folder.each(|part| {
            if *left == 0 {
                emptied = false;
                return Ok(false);
            }
            *left -= 1;
            let Some(occupant) = self.look(&folder, part)? else { return Ok(true) };
            if occupant.seen.kind == Kind::Dir {
                // Up into the stage rather than down into it: no depth can be too much.
                let gone = self.numbered("gone-");
                folder.rename(part, &stage, Part::from(&gone))?;
                self.tree.stage_state.gone.push(gone);
                return Ok(true);
            }
            if let Some(file) = occupant.file
                && occupant.seen.links == 1
            {
                self.tree.records.forget(file)?;
            }
            self.counts().removed += 1;
            folder.remove_file(part)?;
            Ok::<_, Fail>(true)
        })?;
        if emptied {
            stage.remove_folder(Part::from(name))?;
            self.counts().removed += 1;
        }
        Ok(emptied)
    }

    fn numbered(&mut self, prefix: &str) -> Name {
        let state = &mut self.tree.stage_state;
        state.number += 1;
        stage_name(&format!("{prefix}{}", state.number))
    }

    fn stage_failed(&self, source: std::io::Error) -> LiveError {
        LiveError::Folder { path: self.tree.dirs.stage.clone(), source }
    }
}

/// Returns the name in the stage under which a file of the set is made.
pub(super) fn making(file: FileId) -> Name {
    stage_name(&format!("new-{file}"))
}

/// Tells whether an error says that a name is not free.
pub(super) fn is_taken(error: &std::io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::EXIST)
}

fn stage_name(text: &str) -> Name {
    Name::new(text.as_bytes()).expect("names of the stage are short and have no slash")
}
