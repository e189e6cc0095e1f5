//! The places of folders as a search shows them, and what is told of a name there.
//!
//! A folder has one: where it is or, if it is gone, where it was last. What is in a folder that has another name now is found there.

use std::{collections::HashMap, sync::Arc};

use keepshare_base::{CommitId, DEPTH_MAX, FileId, Kind, Name, SetPath, Stamp};
use keepshare_versioning::{Ended, FileState, HistoryEntry, NameAt};

use crate::{
    AskError, Denial,
    asking::told::{Folders, before},
    guard::Time,
    question::Question,
    rights::Want,
};

/// The most versions of one name that are counted.
const COUNTED_MAX: usize = 1000;

/// Places that are known while one view lasts; `None`: the user learns of none.
#[derive(Default)]
pub(super) struct Places(HashMap<FileId, Option<Arc<Place>>>);

/// Where a folder is found.
pub(super) struct Place {
    pub(super) file: FileId,
    pub(super) path: SetPath,
    /// How it went, where it is not there any more.
    pub(super) end: Option<End>,
    /// The user may list it now and, where it is gone, might have when it went.
    may_list: bool,
    /// The folders at its path, this one too, as the versions of what is in it are counted; and the last living one on that path, which
    /// may be another one of this name.
    folders: Folders,
}

impl Place {
    /// Returns the living folder through which the user gets there.
    pub(super) fn through(&self) -> FileId {
        self.folders.through
    }
}

/// How a name's hold of something ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct End {
    pub(super) stamp: Stamp,
    pub(super) ended: Ended,
    /// The last commit at which it was there.
    pub(super) last: CommitId,
}

impl End {
    /// Returns how an entry of a history ended.
    pub(super) fn of(entry: &HistoryEntry) -> Option<Self> {
        let last = before(entry.until);
        entry.held_until.map(|(stamp, ended)| Self { stamp, ended, last })
    }
}

/// What is told of a name.
pub(super) struct Told {
    pub(super) file: FileId,
    pub(super) kind: Kind,
    /// `None` where the user may read the name and know no more of it.
    pub(super) state: Option<FileState>,
    /// `None` where it is there.
    pub(super) end: Option<End>,
}

impl Question<'_> {
    /// Returns where a folder is found; `None` where the user learns of no such place.
    pub(super) fn place(
        &self,
        places: &mut Places,
        folder: FileId,
    ) -> Result<Option<Arc<Place>>, AskError> {
        let (mut way, mut at) = (Vec::new(), folder);
        let mut above = loop {
            if let Some(known) = places.0.get(&at) {
                break known.clone();
            }
            if at == FileId::ROOT {
                let root = Some(Arc::new(self.make_place(at, SetPath::default(), None)?));
                places.0.insert(at, root.clone());
                break root;
            }
            let Some((parent, name)) = self.last_place(at)?.filter(|_| way.len() < DEPTH_MAX)
            else {
                way.push((at, None));
                break None;
            };
            way.push((at, Some(name)));
            at = parent;
        };
        for (file, name) in way.into_iter().rev() {
            above = match above.zip(name) {
                Some((above, name)) => self.place_in(&above, &name, file)?.map(Arc::new),
                None => None,
            };
            places.0.insert(file, above.clone());
        }
        Ok(above)
    }

    /// Returns the place that a folder has or had last; `None` for one that never had a name.
    pub(super) fn last_place(&self, folder: FileId) -> Result<Option<(FileId, Name)>, AskError> {
        let (_, places) = self.view.last_links(folder)?;
        Ok(places.into_iter().next())
    }

    /// Returns the place of a folder that has this name, or had it last.
    fn place_in(
        &self,
        above: &Place,
        name: &Name,
        file: FileId,
    ) -> Result<Option<Place>, AskError> {
        let Some(told) = self.told_at(above, name, Some(file))? else { return Ok(None) };
        let is_there = self.view.lookup(above.file, name, CommitId::MAX)?;
        let may_enter = match is_there {
            Some((there, _)) if there == file => self.passes(above.file, Time::Now)?,
            _ => told.end.is_some_and(|end| end.ended != Ended::Renamed),
        };
        if told.kind != Kind::Dir || !may_enter {
            return Ok(None);
        }
        Ok(Some(self.make_place(file, above.path.join(name.clone()), told.end)?))
    }

    fn make_place(&self, file: FileId, path: SetPath, end: Option<End>) -> Result<Place, AskError> {
        let folders = self.folders_told(&path)?;
        let may_list = self.may_list((file, folders.through), end)?;
        Ok(Place { file, path, end, may_list, folders })
    }

    /// Tells whether the user may list a folder now and, where it is gone, might have listed it when it went.
    pub(super) fn may_list(
        &self,
        (file, through): (FileId, FileId),
        end: Option<End>,
    ) -> Result<bool, Denial> {
        if !self.may_now(file, Want::Read)? {
            return Ok(false);
        }
        match end {
            Some(end) => self.may_folder(through, (file, end.last), Want::Read),
            None => Ok(true),
        }
    }

    /// Returns what is told of a name of a folder: what it stands for or, where that is nothing, stood for last. Of a folder that went
    /// and whose last name this was, where `of` says which, that is told though the name stands for another one since.
    pub(super) fn told_at(
        &self,
        place: &Place,
        name: &Name,
        of: Option<FileId>,
    ) -> Result<Option<Told>, AskError> {
        if !place.may_list {
            return Ok(None);
        }
        let is_there = self.view.lookup(place.file, name, CommitId::MAX)?;
        if let Some((file, kind)) = is_there.filter(|(file, _)| of.is_none_or(|of| of == *file)) {
            return self.told_there(place, (file, kind));
        }
        let path = place.path.join(name.clone());
        let entry = self.last_told((place.file, place.through()), (name, &path), of)?;
        Ok(entry.map(|entry| {
            let (file, kind, end) = (entry.state.file, entry.state.meta.kind, End::of(&entry));
            Told { file, kind, state: Some(entry.state), end }
        }))
    }

    /// Returns what is told of what a name of a folder stands for, or stood for when the folder went.
    fn told_there(
        &self,
        place: &Place,
        (file, kind): (FileId, Kind),
    ) -> Result<Option<Told>, AskError> {
        let at = place.end.map_or(CommitId::MAX, |end| end.last);
        let state = self.view.file(file, at)?;
        let is_seen = match &state {
            // Living names are listed to whoever may read their folder, whatever they stand for.
            _ if place.end.is_none() => true,
            Some(state) => self.is_seen(place.through(), (file, at), state)?,
            None => self.who.is_admin(),
        };
        if !is_seen {
            return Ok(None);
        }
        let state = match state {
            Some(state) if self.passes(place.file, Time::Now)? => Some(state),
            _ => None,
        };
        Ok(Some(Told { file, kind, state, end: place.end }))
    }

    /// Returns the last that a name of a folder held, of what may be told and was in the folder when it could be listed; of one
    /// file alone where `of` says which.
    pub(super) fn last_told(
        &self,
        (folder, through): (FileId, FileId),
        (name, path): (&Name, &SetPath),
        of: Option<FileId>,
    ) -> Result<Option<HistoryEntry>, AskError> {
        let at = NameAt { folders: &[folder], path };
        let tell = |entry: &HistoryEntry| {
            let last = (folder, before(entry.until));
            Ok::<_, AskError>(
                (entry.parent, &entry.name) == (folder, name)
                    && of.is_none_or(|of| of == entry.state.file)
                    && self.may_tell(through, entry)?
                    && self.may_folder(through, last, Want::Read)?,
            )
        };
        Ok(self.view.history_at(at, 1, tell)?.pop())
    }

    /// Tells whether something else is told at the path of what went with its folder: what is there, or went later.
    pub(super) fn is_covered(
        &self,
        places: &mut Places,
        place: &Place,
        name: &Name,
        told: &Told,
    ) -> Result<bool, AskError> {
        let Some(end) = told.end.filter(|_| place.end.is_some()) else { return Ok(false) };
        for other in place.folders.all.iter().filter(|other| **other != place.file) {
            let Some(other) = self.place(places, *other)? else { continue };
            if other.path != place.path {
                continue;
            }
            let Some(there) = self.told_at(&other, name, None)? else { continue };
            let later = |there: End| (there.last, other.file) > (end.last, place.file);
            if other.end.is_none() || there.end.is_none_or(later) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns how many versions of a path may be told, 1000 at most.
    pub(super) fn count_versions(&self, place: &Place, path: &SetPath) -> Result<usize, AskError> {
        let Folders { all, through, .. } = &place.folders;
        let at = NameAt { folders: all, path };
        let tell = |entry: &HistoryEntry| Ok::<_, AskError>(self.may_tell(*through, entry)?);
        Ok(self.view.history_at(at, COUNTED_MAX, tell)?.len())
    }
}
