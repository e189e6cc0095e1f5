//! What is nowhere comes back: it is made, written, or one more name of what was written.

use keepshare_base::{CommitId, FileId, Kind, SetPath};

use super::{Asked, Doing, Folder, Place, Plan, PlanError, Present, StateOf, Why};
use crate::{Entry, FileState};

impl Plan<'_> {
    /// Brings a folder of then back to where nothing is, under whichever name, with all that was in it: a copy, whatever became of it.
    pub(super) fn bring_anew(&mut self, of: FileId, at: CommitId) -> Result<(), PlanError> {
        let Some((above, name)) = self.wanted.path.split_last() else {
            return Err(PlanError::InTheWay);
        };
        if self.places.root().is_some() {
            return Err(PlanError::InTheWay);
        }
        let Some((parent, Kind::Dir)) = self.view.resolve(&above, CommitId::MAX)? else {
            return Err(PlanError::NoFolder(above));
        };
        match self.view.meta(of, at)? {
            Some((_, meta)) if meta.kind == Kind::Dir => {}
            Some((_, meta)) => return Err(PlanError::NotAFolder(meta.kind)),
            None => return Err(PlanError::NotThere),
        }
        if !self.sees(of, at)? || !self.lists(of, at)? {
            return Err(PlanError::NotListed);
        }
        let entry = Entry { name: name.clone(), file: of, kind: Kind::Dir };
        let then = (at, false);
        let made = self.bring(&entry, then, Folder::Known(parent), &above)?;
        self.bring_content(made.map(|(folder, path)| (of, folder, path)), then)
    }

    pub(super) fn makes(
        &mut self,
        entry: &Entry,
        (state, exact): (FileState, bool),
        place: Place,
        path: SetPath,
    ) -> Result<Option<(Folder, SetPath)>, PlanError> {
        let (what, size, folder) = (StateOf::new(&state), state.meta.size, place.0);
        // Whatever comes back there, it takes this.
        let doing = Doing::Make { what, kind: entry.kind };
        if !self.may(folder, &doing)? {
            self.left(path, Why::NotYours);
            return Ok(None);
        }
        self.settled.insert(place.clone());
        match entry.kind {
            Kind::Dir => {
                self.step(path.clone(), folder, doing);
                let made = self.places.makes_folder(place, path.clone());
                self.comes_back(Some(state), made, path.clone());
                Ok(Some((made, path)))
            }
            Kind::Symlink => {
                self.step(path, folder, doing);
                self.places.makes(place, Kind::Symlink);
                Ok(None)
            }
            _ => {
                match self.other_name(&place, entry.file)? {
                    Some((source, what)) => {
                        self.touched.insert(folder);
                        let (to, folder) = (path, folder.known());
                        let is_known = what.is_some();
                        self.step_later(source, Doing::Link { what, to, folder });
                        if is_known {
                            self.places.links((entry.file, Kind::File), place)?;
                            return Ok(None);
                        }
                    }
                    None => {
                        let doing = Doing::Write { what, exact, size, over: None };
                        self.step_later(place.clone(), doing);
                    }
                }
                self.places.makes(place, Kind::File);
                Ok(None)
            }
        }
    }

    /// Returns a name inside of the folder that a file has there, or that a step before brought back, where another one of its
    /// names comes back; notes where it comes back first.
    fn other_name(
        &mut self,
        place: &Place,
        file: FileId,
    ) -> Result<Option<(Place, Option<Present>)>, PlanError> {
        if let Some(first) = self.written.get(&file) {
            return Ok(Some((first.clone(), None)));
        }
        for (folder, name) in self.places.of(file)? {
            if !self.is_inside_by_then(folder)? {
                continue;
            }
            // Another name would be given to what may not be changed, or told of.
            if !self.judge.may(Asked::Linked { file })? || !self.tells_way(folder)? {
                continue;
            }
            if let Some(now) = self.present(file)? {
                let what = Present { still: None, ..self.stands(&now) };
                return Ok(Some(((folder, name), Some(what))));
            }
        }
        self.note_written(place, file)?;
        Ok(None)
    }

    /// Notes where a file of several names comes back first.
    pub(super) fn note_written(&mut self, place: &Place, file: FileId) -> Result<(), PlanError> {
        if let Some((_, at)) = self.was
            && self.view.links(file, at)?.len() > 1
        {
            self.written.insert(file, place.clone());
        }
        Ok(())
    }

    /// Tells whether a file has a name in the folder by then, which another one of its names is linked with.
    pub(super) fn has_other_name(&mut self, file: FileId) -> Result<bool, PlanError> {
        if self.written.contains_key(&file) {
            return Ok(true);
        }
        for (folder, _) in self.places.of(file)? {
            if self.is_inside_by_then(folder)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
