//! Finding out where things are.
//!
//! A folder that no touched name speaks of is where it was: at its name in the index, under its parent. A folder that
//! was moved, and everything below it, is found by looking at the touched names: at one of them its inode stands.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    sync::Arc,
};

use keepshare_base::{DEPTH_MAX, FileId, Kind, Name};
use rustix::io::Errno;

use super::{
    Fail, LiveError, ProblemCause,
    beneath::{Folder, Part, Seen},
    work::{About, Spot, Work},
};

/// How many folders are held open at once.
const OPEN_MAX: usize = 128;

/// How often it is looked again, after something turned up that changes where things are.
const ROUNDS_MAX: usize = 64;

/// What stands at a name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Occupant {
    /// The inode and its attributes.
    pub(super) seen: Seen,
    /// Which file of the set; `None` where it is not ours.
    pub(super) file: Option<FileId>,
}

/// How a folder was found.
#[derive(Debug)]
pub(super) enum Opening {
    /// It is there.
    Open(Arc<Folder>),
    /// This folder, itself or above it, has touched names and was not found at one of them yet.
    Waits(FileId),
    /// This folder, itself or above it, is not where nothing of ours moved it from.
    Lost(FileId),
}

/// What looking at the touched names turned up.
#[derive(Debug, Default)]
struct Surveyed {
    /// Folders that are not where nothing of ours moved them from.
    lost: BTreeSet<FileId>,
    /// Unknown folders, which were emptied of what is known.
    unknown: bool,
}

impl Work<'_> {
    /// Opens a folder of the set where it is now.
    pub(super) fn open(&mut self, folder: FileId) -> Result<Opening, Fail> {
        let mut below: Vec<(FileId, Name)> = Vec::new();
        let mut next = folder;
        let mut open = loop {
            if next == FileId::ROOT {
                break Arc::clone(&self.tree.live);
            }
            if let Some(open) = self.open.get(&next) {
                break Arc::clone(open);
            }
            let spot = self.places.get(&next).and_then(|spots| spots.first()).cloned();
            let (parent, name) = match spot {
                Some(Spot::Live(parent, name)) => (parent, name),
                Some(Spot::Stage(name)) => match self.enter(&self.tree.stage, next, &name)? {
                    Some(open) => {
                        self.hold(next, &open);
                        break open;
                    }
                    None => return Ok(Opening::Waits(next)),
                },
                None => match self.wanted.folder_name(next)? {
                    Some(at) if self.everything || !self.is_uncertain(&at) => at,
                    _ => return Ok(Opening::Waits(next)),
                },
            };
            if below.len() > DEPTH_MAX {
                return Ok(Opening::Waits(folder));
            }
            below.push((next, name));
            next = parent;
        };
        for (child, name) in below.into_iter().rev() {
            match self.enter(&open, child, &name)? {
                Some(entered) => open = entered,
                None => return Ok(Opening::Lost(child)),
            }
            self.hold(child, &open);
        }
        Ok(Opening::Open(open))
    }

    /// Opens a folder that has to be there.
    pub(super) fn open_there(&mut self, folder: FileId) -> Result<Arc<Folder>, Fail> {
        match self.open(folder)? {
            Opening::Open(open) => Ok(open),
            Opening::Waits(_) | Opening::Lost(_) => Err(Fail::NoFolder),
        }
    }

    /// Opens the folder in which a spot is, and returns the name there.
    pub(super) fn reach(&mut self, spot: &Spot) -> Result<(Arc<Folder>, Name), Fail> {
        match spot {
            Spot::Live(parent, name) => Ok((self.open_there(*parent)?, name.clone())),
            Spot::Stage(name) => Ok((Arc::clone(&self.tree.stage), name.clone())),
        }
    }

    /// Tells what stands at a name of an open folder.
    pub(super) fn look(&self, folder: &Folder, name: Part<'_>) -> Result<Option<Occupant>, Fail> {
        let Some(seen) = folder.see(name)? else { return Ok(None) };
        Ok(Some(Occupant { seen, file: self.tree.records.file(seen.identity)? }))
    }

    /// Tells whether a file of the set stands at a spot.
    pub(super) fn is_at(&mut self, file: FileId, spot: &Spot) -> Result<bool, Fail> {
        let (folder, name) = match self.reach(spot) {
            Err(Fail::NoFolder | Fail::Io(_)) => return Ok(false),
            reached => reached?,
        };
        let occupant = self.look(&folder, Part::from(&name))?;
        Ok(occupant.is_some_and(|occupant| occupant.file == Some(file)))
    }

    /// Keeps a folder open.
    pub(super) fn hold(&mut self, folder: FileId, open: &Arc<Folder>) {
        if self.open.len() >= OPEN_MAX {
            self.open.clear();
        }
        self.open.insert(folder, Arc::clone(open));
    }

    /// Finds what stands at the touched names.
    pub(super) fn survey(&mut self) -> Result<(), LiveError> {
        for _ in 0..ROUNDS_MAX {
            for spots in self.places.values_mut() {
                spots.retain(|spot| matches!(spot, Spot::Stage(_)));
            }
            self.places.retain(|_, spots| !spots.is_empty());
            self.open.clear();
            let found = self.survey_once()?;
            // They are touched names now, and what stands there may be of use elsewhere.
            let surplus = std::mem::take(&mut self.surplus);
            if !found.unknown && found.lost.is_empty() && surplus.is_empty() {
                return Ok(());
            }
            // Someone took folders away that nothing of ours touched: they are made again like new ones.
            for folder in found.lost {
                if let Some((parent, name)) = self.wanted.folder_name(folder)? {
                    let about = About::Name(parent, name.clone());
                    self.report(&about, ProblemCause::Foreign { kept: None })?;
                    self.touched.insert((parent, name));
                }
            }
        }
        Ok(())
    }

    /// Looks at all touched names.
    fn survey_once(&mut self) -> Result<Surveyed, LiveError> {
        let mut names: BTreeMap<FileId, Vec<Name>> = BTreeMap::new();
        for (parent, name) in self.touched.union(&self.left_alone) {
            names.entry(*parent).or_default().push(name.clone());
        }
        let mut queue: Vec<FileId> = names.keys().rev().copied().collect();
        let mut waiting: HashMap<FileId, Vec<FileId>> = HashMap::new();
        let mut found = Surveyed::default();
        while let Some(parent) = queue.pop() {
            let folder = match self.open(parent) {
                Ok(Opening::Open(folder)) => folder,
                Ok(Opening::Waits(above)) => {
                    waiting.entry(above).or_default().push(parent);
                    continue;
                }
                Ok(Opening::Lost(folder)) => {
                    found.lost.insert(folder);
                    continue;
                }
                Err(fail) => {
                    self.note(Err(fail), || About::File(parent))?;
                    continue;
                }
            };
            for name in names.get(&parent).into_iter().flatten() {
                match self.survey_name(&folder, parent, name, &mut found) {
                    Ok(Some(child)) => queue.extend(waiting.remove(&child).into_iter().flatten()),
                    Ok(None) => {}
                    Err(fail) => self.note(Err(fail), || About::Name(parent, name.clone()))?,
                }
            }
        }
        Ok(found)
    }

    /// Looks at one touched name; returns the folder of the set that is there.
    fn survey_name(
        &mut self,
        folder: &Folder,
        parent: FileId,
        name: &Name,
        found: &mut Surveyed,
    ) -> Result<Option<FileId>, Fail> {
        let Some(occupant) = self.look(folder, Part::from(name))? else { return Ok(None) };
        let is_folder = occupant.seen.kind == Kind::Dir;
        let Some(file) = occupant.file else {
            if is_folder && self.adopt_folder(folder, parent, name, &occupant)? {
                let file = self.wanted.name(parent, name)?.map(|(file, _)| file);
                let Some(file) = file else { return Ok(None) };
                self.places.entry(file).or_default().push(Spot::Live(parent, name.clone()));
                return Ok(Some(file));
            }
            // Made by a run that was cut off. Known things may be in it, and have to be found before anything moves.
            if is_folder && self.tree.redo {
                self.folder_changed(parent)?;
                self.doom(folder, Part::from(name), &occupant)?;
                found.unknown = true;
            }
            return Ok(None);
        };
        let spot = Spot::Live(parent, name.clone());
        self.places.entry(file).or_default().push(spot);
        Ok(is_folder.then_some(file))
    }

    /// Takes an unknown folder for the one that is wanted there, where that is nowhere yet.
    fn adopt_folder(
        &mut self,
        folder: &Folder,
        parent: FileId,
        name: &Name,
        occupant: &Occupant,
    ) -> Result<bool, Fail> {
        let Some((file, Kind::Dir)) = self.wanted.name(parent, name)? else { return Ok(false) };
        if self.tree.records.identity(file)?.is_some() {
            return Ok(false);
        }
        let spot = Spot::Live(parent, name.clone());
        self.adopt(folder, Part::from(name), &spot, (file, Kind::Dir), &occupant.seen)
    }

    /// Opens an entry as a certain folder of the set; `None` where it is not that one.
    fn enter(
        &self,
        folder: &Folder,
        child: FileId,
        name: &Name,
    ) -> Result<Option<Arc<Folder>>, Fail> {
        match folder.folder(Part::from(name)) {
            Ok(open) => {
                let file = self.tree.records.file(open.see_self()?.identity)?;
                Ok((file == Some(child)).then(|| Arc::new(open)))
            }
            Err(error) if is_no_folder(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Tells whether an error says that what stands there is no folder that can be gone into.
fn is_no_folder(error: &io::Error) -> bool {
    let error = Errno::from_io_error(error);
    matches!(error, Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV))
}
