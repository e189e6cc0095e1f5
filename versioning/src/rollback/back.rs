//! What a folder held then comes back: what is elsewhere is moved, what is gone is made or written anew.

use keepshare_base::{CommitId, FileId, Kind, Name, SetPath};

use super::{
    Asked, Back, Doing, Folder, FolderBack, PAGE, Place, Plan, PlanError, Present, StateOf, Why,
    holds_the_same, is_same, places::Thing,
};
use crate::{Entry, FileState, ReadError};

/// Which moment is brought back: a commit, and whether it is a point's.
pub(super) type Then = (CommitId, bool);

/// What has a place in the way of something that comes back.
const MARK_ASIDE: &str = "aside";

/// What comes back beside something that stays.
const MARK_RESTORED: &str = "restored";

impl Plan<'_> {
    /// Brings the folder back as it was at a commit.
    pub(super) fn roll_back(&mut self, at: CommitId, is_point: bool) -> Result<(), PlanError> {
        let (path, then) = (self.wanted.path.clone(), (at, is_point));
        let Some((was, kind)) = self.view.resolve(&path, at)? else {
            return match self.wanted.only.is_some() {
                true => self.remove_whole(at),
                false => Err(PlanError::NotThere),
            };
        };
        if kind != Kind::Dir {
            return Err(PlanError::NotAFolder(kind));
        }
        if !self.lists(was, at)? {
            return Err(PlanError::NotListed);
        }
        self.was = Some((was, at));
        let folder = match (self.places.root(), path.split_last()) {
            (Some(root), _) if !self.lists(root, CommitId::MAX)? => {
                return Err(PlanError::NotListed);
            }
            (Some(root), _) => {
                let state = self.then(was, then)?.map(|(state, _)| state);
                self.comes_back(state, Folder::Known(root), path.clone());
                Some((Folder::Known(root), path))
            }
            (None, Some((above, name))) => {
                let Some((parent, Kind::Dir)) = self.view.resolve(&above, CommitId::MAX)? else {
                    return Err(PlanError::NoFolder(above));
                };
                let entry = Entry { name: name.clone(), file: was, kind };
                self.bring(&entry, then, Folder::Known(parent), &above)?
            }
            (None, None) => return Err(PlanError::NotThere),
        };
        self.bring_content(folder.map(|(folder, path)| (was, folder, path)), then)?;
        self.remove_made_since()
    }

    /// Brings back what a folder of then held, into one of now.
    pub(super) fn bring_content(
        &mut self,
        folder: Option<(FileId, Folder, SetPath)>,
        then: Then,
    ) -> Result<(), PlanError> {
        let mut folders = Vec::from_iter(folder);
        while let Some((was, folder, path)) = folders.pop() {
            let mut after: Option<Name> = None;
            loop {
                let page = self.view.list(was, then.0, after.as_ref(), PAGE)?;
                let Some(last) = page.last() else { break };
                after = Some(last.name.clone());
                for entry in page {
                    let brought = self.bring(&entry, then, folder, &path)?;
                    folders.extend(brought.map(|(folder, path)| (entry.file, folder, path)));
                }
            }
            self.do_later()?;
        }
        Ok(())
    }

    /// Brings one thing back to a name of a folder; returns where it is, for a folder whose content comes back, too.
    pub(super) fn bring(
        &mut self,
        entry: &Entry,
        then: Then,
        folder: Folder,
        above: &SetPath,
    ) -> Result<Option<(Folder, SetPath)>, PlanError> {
        let path = above.join(entry.name.clone());
        if !self.sees(entry.file, then.0)? {
            return Ok(None);
        }
        let Some((state, exact)) = self.seen_then(entry.file, then)? else {
            self.left(path, Why::Lost);
            return Ok(None);
        };
        if entry.kind == Kind::Dir && !self.lists(entry.file, then.0)? {
            self.left(path, Why::NotListed);
            return Ok(None);
        }
        let place = (folder, entry.name.clone());
        let names = self.places.of(entry.file)?;
        if names.contains(&place) {
            return self.in_place(entry.file, (state, exact), place, path);
        }
        let from = self.movable(entry, then, names)?;
        if !matches!(entry.kind, Kind::Dir | Kind::File | Kind::Symlink) && from.is_none() {
            self.left(path, Why::Special(entry.kind));
            return Ok(None);
        }
        // An undo brings nothing back that somebody took away since.
        if !self.is_as_at_base(entry.file, entry.kind)? {
            self.left(path, Why::Changed);
            return Ok(None);
        }
        if from.is_none()
            && !self.has_other_name(entry.file)?
            && let Some(there) = self.successor(&place, &state)?
        {
            self.adopted.insert(there);
            self.note_written(&place, entry.file)?;
            return self.in_place(there, (state, exact), place, path);
        }
        // Before anything makes room for it.
        if let Some((from, _)) = &from
            && !self.may_move(entry.file, *from, folder)?
        {
            self.left(path, Why::NotYours);
            return Ok(None);
        }
        let Some(name) = self.make_room(folder, &entry.name, above)? else { return Ok(None) };
        let (place, path) = ((folder, name.clone()), above.join(name));
        match from {
            Some(from) => self.moves(entry, (state, exact), from, place, path),
            None => self.makes(entry, (state, exact), place, path),
        }
    }

    /// Returns the state that a file had as [`Self::then`] does, unless an older one stands in for it that may not be seen.
    fn seen_then(&self, file: FileId, then: Then) -> Result<Option<(FileState, bool)>, ReadError> {
        let found = self.then(file, then)?;
        match &found {
            Some((state, false)) => {
                let asked = Asked::Seen { file, at: then.0, state: Some(state) };
                Ok(if self.judge.may(asked)? { found } else { None })
            }
            _ => Ok(found),
        }
    }

    /// Returns the state that a file had, and whether that very one is kept.
    pub(super) fn then(
        &self,
        file: FileId,
        (at, is_point): Then,
    ) -> Result<Option<(FileState, bool)>, ReadError> {
        let Some((newest, _)) = self.view.meta(file, at)? else { return Ok(None) };
        let mut before = at;
        while let Some(state) = self.view.file(file, before)? {
            let is_file = state.meta.kind == Kind::File;
            let is_version = !is_file || (state.cut && (!is_point || state.cut_at <= at));
            if is_version && !state.expired {
                let exact = state.commit == newest;
                return Ok(Some((state, exact)));
            }
            let Some(older) = state.commit.0.checked_sub(1) else { break };
            before = CommitId(older);
        }
        Ok(None)
    }

    /// Tells whether something may be moved from a folder, whose names are told with that, to another.
    fn may_move(&self, file: FileId, from: Folder, to: Folder) -> Result<bool, ReadError> {
        let leaves = from.known().map(|folder| Asked::Unnamed { folder, file });
        let comes = to.known().map(|folder| Asked::Named { folder });
        let carried = (from != to).then_some(Asked::Carried { file });
        for asked in [leaves, comes, carried].into_iter().flatten() {
            if !self.judge.may(asked)? {
                return Ok(false);
            }
        }
        self.tells_way(from)
    }

    /// Returns what was made since at the place of something that is gone, or elsewhere for good: what programs replace when they
    /// save, and what an earlier roll-back made there. Its history goes on.
    fn successor(&mut self, place: &Place, state: &FileState) -> Result<Option<FileId>, PlanError> {
        let Some((Thing::File(file), kind)) = self.places.at(place.0, &place.1)? else {
            return Ok(None);
        };
        let is_such = match kind {
            Kind::File | Kind::Dir => kind == state.meta.kind,
            // What one points to is never changed.
            Kind::Symlink => {
                self.present(file)?.is_some_and(|now| now.meta.symlink == state.meta.symlink)
            }
            _ => false,
        };
        let is_new = is_such
            && !self.was_inside(file)?
            && self.is_made_since(file)?
            && self.is_as_at_base(file, kind)?;
        let may = match kind {
            Kind::File => place
                .0
                .known()
                .map_or(Ok(true), |folder| self.judge.may(Asked::Written { folder, file })),
            Kind::Dir => self.lists(file, CommitId::MAX),
            _ => Ok(true),
        };
        if !is_new || !may? {
            return Ok(None);
        }
        // Another name would show what is written, too.
        let may_be = self.view.link_count(file)? == 1
            || self.present(file)?.is_some_and(|now| is_same(state, &now));
        Ok(may_be.then_some(file))
    }

    /// What is at its place: its content, and its attributes, may be others.
    fn in_place(
        &mut self,
        file: FileId,
        (state, exact): (FileState, bool),
        place: Place,
        path: SetPath,
    ) -> Result<Option<(Folder, SetPath)>, PlanError> {
        if state.meta.kind == Kind::Dir {
            if !self.lists(file, CommitId::MAX)? {
                self.left(path, Why::NotListed);
                return Ok(None);
            }
            self.comes_back(Some(state), Folder::Known(file), path.clone());
            self.unchanged += 1;
            return Ok(Some((Folder::Known(file), path)));
        }
        self.settle(file, (state, exact), place, path)?;
        Ok(None)
    }

    /// Makes what stands at a place what was there.
    fn settle(
        &mut self,
        file: FileId,
        (state, exact): (FileState, bool),
        place: Place,
        path: SetPath,
    ) -> Result<(), PlanError> {
        let kind = state.meta.kind;
        let Some(now) = self.present(file)? else { return Ok(()) };
        if self.view.link_count(file)? > 1 {
            self.settled.insert(place.clone());
        }
        if is_same(&state, &now) {
            self.unchanged += 1;
            return Ok(());
        }
        if !self.is_as_at_base(file, kind)? {
            self.left(path, Why::Changed);
            return Ok(());
        }
        // All names of a file show what is written under one of them.
        if kind == Kind::File && self.linked.contains_key(&file) {
            return Ok(());
        }
        let (what, over) = (StateOf::new(&state), Some(Present::new(&now)));
        let doing = match kind {
            Kind::File if !self.wanted.links && self.is_linked_outside(file)? => {
                self.left(path, Why::LinkedOutside);
                return Ok(());
            }
            // Where all that differs is its owner's alone to change, nothing is written.
            Kind::File
                if holds_the_same(&state, &now)
                    && !self.judge.may(Asked::Attributes { file, what })? =>
            {
                self.left(path, Why::NotYours);
                return Ok(());
            }
            Kind::File => Doing::Write { what, exact, size: state.meta.size, over },
            Kind::Symlink if now.meta.symlink == state.meta.symlink => {
                Doing::SetAttributes { what, over, differs: true }
            }
            kind => {
                self.left(path, Why::Special(kind));
                return Ok(());
            }
        };
        if !self.may(place.0, &doing)? {
            self.left(path, Why::NotYours);
            return Ok(());
        }
        if kind == Kind::File {
            self.linked.insert(file, state);
        }
        self.step_later(place, doing);
        Ok(())
    }

    /// Tells whether a file has a name outside of the folder.
    fn is_linked_outside(&mut self, file: FileId) -> Result<bool, ReadError> {
        let links = self.view.links(file, CommitId::MAX)?;
        if links.len() < 2 {
            return Ok(false);
        }
        for (parent, _) in links {
            if !self.places.is_inside_now(parent)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns the name from which something comes that is elsewhere in the folder now, where it has no other to keep.
    pub(super) fn movable(
        &mut self,
        entry: &Entry,
        (at, _): Then,
        names: Vec<Place>,
    ) -> Result<Option<Place>, PlanError> {
        if self.was.is_none() {
            return Ok(None);
        }
        let wanted = self.view.links(entry.file, at)?;
        for (folder, name) in names {
            let is_inside = self.is_inside_by_then(folder)?;
            // Another name that it had is not taken from it.
            let is_wanted = self.settled.contains(&(folder, name.clone()))
                || matches!(folder, Folder::Known(parent) if wanted.contains(&(self.parent_then(parent), name.clone())));
            if is_inside && !is_wanted {
                return Ok(Some((folder, name)));
            }
        }
        Ok(None)
    }

    fn moves(
        &mut self,
        entry: &Entry,
        then: (FileState, bool),
        from: Place,
        place: Place,
        path: SetPath,
    ) -> Result<Option<(Folder, SetPath)>, PlanError> {
        let Some(now) = self.present(entry.file)? else { return Ok(None) };
        let Some(above) = self.places.path(from.0)? else {
            self.left(path, Why::InItself);
            return Ok(None);
        };
        let (source, folder) = (above.join(from.1.clone()), place.0);
        let doing = Doing::Move {
            what: self.stands_by_now(&now),
            to: path.clone(),
            folder: folder.known(),
            aside: false,
        };
        self.settled.insert(place.clone());
        self.step(source, from.0, doing);
        self.touched.insert(folder);
        self.places.moves((entry.file, entry.kind), from, place.clone())?;
        if entry.kind == Kind::Dir {
            if !self.lists(entry.file, CommitId::MAX)? {
                self.left(path, Why::NotListed);
                return Ok(None);
            }
            self.comes_back(Some(then.0), Folder::Known(entry.file), path.clone());
            return Ok(Some((Folder::Known(entry.file), path)));
        }
        let unchanged = self.unchanged;
        self.settle(entry.file, then, place, path)?;
        // It was elsewhere.
        self.unchanged = unchanged;
        Ok(None)
    }

    /// Tells whether a folder is inside of the one that is rolled back; those that steps make are.
    pub(super) fn is_inside_by_then(&mut self, folder: Folder) -> Result<bool, ReadError> {
        match folder {
            Folder::Known(file) => self.places.is_inside_now(file),
            Folder::Made(_) => Ok(true),
        }
    }

    /// Notes a folder that comes back, whose attributes are set in the end.
    pub(super) fn comes_back(&mut self, state: Option<FileState>, folder: Folder, path: SetPath) {
        self.folders.extend(state.map(|state| FolderBack { state, folder, path }));
    }

    /// Makes a name free, and returns it, or another beside what stays there.
    fn make_room(
        &mut self,
        folder: Folder,
        name: &Name,
        above: &SetPath,
    ) -> Result<Option<Name>, PlanError> {
        let Some((thing, kind)) = self.places.at(folder, name)? else {
            return Ok(Some(name.clone()));
        };
        let path = above.join(name.clone());
        let other = match thing {
            Thing::File(file) => self.clear(file, kind, (folder, name.clone()), &path)?,
            Thing::Made => false,
        };
        if other {
            return Ok(Some(name.clone()));
        }
        let free = self.places.free(folder, name, MARK_RESTORED)?;
        if free.is_none() {
            self.left(path, Why::Changed);
        }
        Ok(free)
    }

    /// Moves or removes what is in the way; tells whether it is not any more.
    fn clear(
        &mut self,
        file: FileId,
        kind: Kind,
        place: Place,
        path: &SetPath,
    ) -> Result<bool, PlanError> {
        let Some(now) = self.present(file)? else { return Ok(false) };
        if self.was.is_none() || !self.is_as_at_base(file, kind)? || now.meta.kind != kind {
            return Ok(false);
        }
        // What is in it might stay, and it with that, under another name.
        if kind == Kind::Dir && !self.lists(file, CommitId::MAX)? {
            return Ok(false);
        }
        let was_inside = self.was_inside(file)?;
        let is_new = !was_inside && self.is_made_since(file)?;
        if !was_inside && !is_new {
            return Ok(false);
        }
        // What came back already stays, and so does what would find no other place: pipes are not made again.
        let is_special = !matches!(kind, Kind::File | Kind::Dir | Kind::Symlink);
        if self.settled.contains(&place) || is_special {
            return Ok(false);
        }
        if was_inside
            && let Back::To { at, is_point } = self.wanted.back
            && self.then(file, (at, is_point))?.is_none()
        {
            return Ok(false);
        }
        let what = self.stands_by_now(&now);
        let has_others = self.places.of(file)?.len() > 1;
        if (is_new && kind != Kind::Dir) || has_others {
            let doing = Doing::Remove { what, kind };
            if (kind == Kind::File && !now.cut) || !self.may(place.0, &doing)? {
                return Ok(false);
            }
            self.step(path.clone(), place.0, doing);
            self.places.removes(file, place)?;
            return Ok(true);
        }
        let Some(free) = self.places.free(place.0, &place.1, MARK_ASIDE)? else { return Ok(false) };
        let Some((above, _)) = path.split_last() else { return Ok(false) };
        let to = above.join(free.clone());
        let doing = Doing::Move { what, to, folder: place.0.known(), aside: true };
        if !self.may(place.0, &doing)? {
            return Ok(false);
        }
        self.step(path.clone(), place.0, doing);
        self.places.moves((file, kind), place.clone(), (place.0, free))?;
        Ok(true)
    }
}
