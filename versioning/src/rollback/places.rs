//! Where things are while a plan is made: as the view has them, but for what its steps have moved by then.

use std::collections::HashMap;

use keepshare_base::{CommitId, DEPTH_MAX, FileId, Kind, Name, SetPath};

use super::{Folder, marked};
use crate::{ReadError, View};

/// How many names are tried for what must not take the place of something else.
const NAMES_TRIED_MAX: u32 = 1000;

pub(super) struct Places<'a> {
    view: &'a View,
    /// The folder as it is there now.
    root: Option<FileId>,
    /// The names of things by now, where steps changed them.
    moved: HashMap<FileId, Vec<(Folder, Name)>>,
    /// What stands at names that steps changed.
    names: HashMap<(Folder, Name), Option<(Thing, Kind)>>,
    /// Where folders are that steps make.
    made: Vec<SetPath>,
    /// What folders are inside of the one that is rolled back: then or now, by the commit and that folder.
    inside: HashMap<(FileId, CommitId, FileId), bool>,
}

/// What stands at a name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Thing {
    /// Something that is there now.
    File(FileId),
    /// Something that a step makes.
    Made,
}

impl<'a> Places<'a> {
    pub(super) fn new(view: &'a View, root: Option<FileId>) -> Self {
        let (moved, names, made, inside) = Default::default();
        Self { view, root, moved, names, made, inside }
    }

    /// Returns the folder that is rolled back as it is there now.
    pub(super) fn root(&self) -> Option<FileId> {
        self.root
    }

    /// Returns what stands at a name by now.
    pub(super) fn at(
        &self,
        folder: Folder,
        name: &Name,
    ) -> Result<Option<(Thing, Kind)>, ReadError> {
        if let Some(known) = self.names.get(&(folder, name.clone())) {
            return Ok(*known);
        }
        let Folder::Known(parent) = folder else { return Ok(None) };
        let found = self.view.lookup(parent, name, CommitId::MAX)?;
        Ok(found.map(|(file, kind)| (Thing::File(file), kind)))
    }

    /// Returns the names that a file has by now, within and without the folder that is rolled back.
    pub(super) fn of(&self, file: FileId) -> Result<Vec<(Folder, Name)>, ReadError> {
        if let Some(names) = self.moved.get(&file) {
            return Ok(names.clone());
        }
        let links = self.view.links(file, CommitId::MAX)?;
        Ok(links.into_iter().map(|(parent, name)| (Folder::Known(parent), name)).collect())
    }

    /// Returns the path of a folder by now; `None` where it hangs nowhere.
    pub(super) fn path(&self, folder: Folder) -> Result<Option<SetPath>, ReadError> {
        let (mut at, mut names) = (folder, Vec::new());
        for _ in 0..=DEPTH_MAX {
            let file = match at {
                Folder::Made(number) => {
                    let mut path = self.made[number].names().to_vec();
                    names.reverse();
                    path.append(&mut names);
                    return Ok(Some(SetPath::from(path)));
                }
                Folder::Known(FileId::ROOT) => {
                    names.reverse();
                    return Ok(Some(SetPath::from(names)));
                }
                Folder::Known(file) => file,
            };
            let Some((parent, name)) = self.of(file)?.into_iter().next() else { return Ok(None) };
            names.push(name);
            at = parent;
        }
        Ok(None)
    }

    /// Returns the folder that is at a path now; `None` where a step makes it.
    pub(super) fn folder_at(&self, path: &SetPath) -> Result<Option<FileId>, ReadError> {
        let mut at = Folder::Known(FileId::ROOT);
        for name in path.names() {
            match self.at(at, name)? {
                Some((Thing::File(file), Kind::Dir)) => at = Folder::Known(file),
                _ => return Ok(None),
            }
        }
        Ok(at.known())
    }

    /// Notes that a step moves something.
    pub(super) fn moves(
        &mut self,
        (file, kind): (FileId, Kind),
        from: (Folder, Name),
        to: (Folder, Name),
    ) -> Result<(), ReadError> {
        self.removes(file, from)?;
        self.links((file, kind), to)
    }

    /// Notes that a step gives something a name.
    pub(super) fn links(
        &mut self,
        (file, kind): (FileId, Kind),
        to: (Folder, Name),
    ) -> Result<(), ReadError> {
        let mut names = self.of(file)?;
        names.push(to.clone());
        self.moved.insert(file, names);
        self.names.insert(to, Some((Thing::File(file), kind)));
        Ok(())
    }

    /// Notes that a step takes a name from something.
    pub(super) fn removes(&mut self, file: FileId, from: (Folder, Name)) -> Result<(), ReadError> {
        let mut names = self.of(file)?;
        names.retain(|name| *name != from);
        self.moved.insert(file, names);
        self.names.insert(from, None);
        Ok(())
    }

    /// Notes that something new is at a name.
    pub(super) fn makes(&mut self, at: (Folder, Name), kind: Kind) {
        self.names.insert(at, Some((Thing::Made, kind)));
    }

    /// Notes that a folder is made at a name.
    pub(super) fn makes_folder(&mut self, at: (Folder, Name), path: SetPath) -> Folder {
        self.makes(at, Kind::Dir);
        self.made.push(path);
        Folder::Made(self.made.len() - 1)
    }

    /// Returns a name like this one for which nothing stands.
    pub(super) fn free(
        &self,
        folder: Folder,
        name: &Name,
        mark: &str,
    ) -> Result<Option<Name>, ReadError> {
        for number in 1..=NAMES_TRIED_MAX {
            let name = marked(name, &format!("~{mark}-{number}"));
            if self.at(folder, &name)?.is_none() {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// Tells whether a folder is now, whatever steps do, the one that is rolled back or inside of it.
    pub(super) fn is_inside_now(&mut self, folder: FileId) -> Result<bool, ReadError> {
        let Some(root) = self.root else { return Ok(false) };
        self.is_inside(folder, CommitId::MAX, root)
    }

    /// Tells whether a folder was at a commit `root`, or inside of it.
    pub(super) fn is_inside(
        &mut self,
        folder: FileId,
        at: CommitId,
        root: FileId,
    ) -> Result<bool, ReadError> {
        let (mut up, mut on_the_way) = (folder, Vec::new());
        let is_inside = loop {
            if up == root {
                break true;
            }
            if let Some(known) = self.inside.get(&(up, at, root)) {
                break *known;
            }
            on_the_way.push(up);
            if up == FileId::ROOT || on_the_way.len() > DEPTH_MAX {
                break false;
            }
            match self.view.links(up, at)?.into_iter().next() {
                Some((parent, _)) => up = parent,
                None => break false,
            }
        };
        for folder in on_the_way {
            self.inside.insert((folder, at, root), is_inside);
        }
        Ok(is_inside)
    }
}
