//! What somebody meant who asked for a path that is not there.

use keepshare_base::{CommitId, FileId, Kind, Name, SetPath};
use keepshare_versioning::{HistoryEntry, NameAt};

use crate::{AskError, guard::Time, question::Question, rights::Want};

/// How many names of a folder are compared with what was asked for.
const NAMES_MAX: usize = 10_000;

/// How many names of a folder are read at once.
const PAGE: usize = 1024;

/// What a name stands for.
type Target = (FileId, Kind);

/// A folder on the way, and the last living one up to it.
#[derive(Clone, Copy)]
struct Way {
    folder: FileId,
    through: FileId,
}

impl Question<'_> {
    /// Says why a path has no versions, and what may be meant.
    pub(super) fn no_history(&self, path: &SetPath) -> Result<AskError, AskError> {
        Ok(match self.readable_now(path)? {
            Some(file) if self.view.versions(file)?.is_empty() => AskError::NotYet,
            Some(_) => AskError::NoneReadable,
            None => AskError::NeverThere { near: self.near(path)? },
        })
    }

    /// Returns what is at a path now, where the user may read it or, if it is a folder, go through it.
    fn readable_now(&self, path: &SetPath) -> Result<Option<FileId>, AskError> {
        let (mut file, mut kind) = (FileId::ROOT, Kind::Dir);
        for name in path.names() {
            if kind != Kind::Dir || !self.passes(file, Time::Now)? {
                return Ok(None);
            }
            match self.view.lookup(file, name, CommitId::MAX)? {
                Some(next) => (file, kind) = next,
                None => return Ok(None),
            }
        }
        Ok(self.may_now(file, Want::to_see(kind))?.then_some(file))
    }

    /// Returns a path that is or was there and is near to this one, or near as far as it goes.
    fn near(&self, path: &SetPath) -> Result<Option<SetPath>, AskError> {
        let (mut near, mut is_other) = (SetPath::default(), false);
        let mut way = Way { folder: FileId::ROOT, through: FileId::ROOT };
        for name in path.names() {
            let mut known = self.known(way, &near, name)?.map(|target| (name.clone(), target));
            if known.is_none() {
                is_other = true;
                known = self.near_name(way, &near, name)?;
            }
            let Some((name, (file, kind))) = known else { break };
            near = near.join(name.clone());
            if kind != Kind::Dir {
                break;
            }
            let is_living = way.folder == way.through && !self.view.is_gone(way.folder, &name)?;
            way = Way { folder: file, through: if is_living { file } else { way.through } };
        }
        Ok((is_other && !near.names().is_empty()).then_some(near))
    }

    /// Returns what a name stands for, or stood for last, as far as the user may know.
    fn known(
        &self,
        Way { folder, through }: Way,
        above: &SetPath,
        name: &Name,
    ) -> Result<Option<Target>, AskError> {
        if let Some((file, kind)) = self.view.lookup(folder, name, CommitId::MAX)?
            && self.passes(folder, Time::Now)?
            && self.may_now(file, Want::to_see(kind))?
        {
            return Ok(Some((file, kind)));
        }
        let at = NameAt { folders: &[folder], path: &above.join(name.clone()) };
        let tell = |entry: &HistoryEntry| self.may_tell(through, entry);
        let newest = self.view.history_at(at, 1, tell)?.pop();
        Ok(newest.map(|entry| (entry.state.file, entry.state.meta.kind)))
    }

    /// Returns the name of a folder that is nearest to one, if one is near enough, and what it stands for.
    fn near_name(
        &self,
        way: Way,
        above: &SetPath,
        name: &Name,
    ) -> Result<Option<(Name, Target)>, AskError> {
        // A suggestion lists, and is for whoever may list.
        if !self.may_now(way.folder, Want::Read)? {
            return Ok(None);
        }
        let small = |name: &Name| name.to_string().to_lowercase();
        let meant = small(name);
        let meant_chars = meant.chars().count();
        let distance_max = meant_chars / 3 + 1;
        let (mut near, mut after, mut compared) = (Vec::new(), None::<Name>, 0);
        while compared < NAMES_MAX {
            let page = self.view.names_ever(way.folder, after.as_ref(), PAGE)?;
            let Some(last) = page.last() else { break };
            after = Some(last.clone());
            compared += page.len();
            for name in page {
                let word = small(&name);
                // Cheap to see, and most names are no better.
                if word.chars().count().abs_diff(meant_chars) > distance_max {
                    continue;
                }
                let distance = strsim::levenshtein(&meant, &word);
                if distance <= distance_max {
                    near.push((distance, word, name));
                }
            }
        }
        near.sort_unstable();
        for (_, _, name) in near {
            if let Some(target) = self.known(way, above, &name)? {
                return Ok(Some((name, target)));
            }
        }
        Ok(None)
    }
}
