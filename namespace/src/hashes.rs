//! Which names the hashes in nodes and the places in listings stand for.
//!
//! Hashes are of names that a folder has or had, so that one nobody remembers is found by going through those.

use keepshare_base::{FileId, Name};

use crate::{Denial, NameHash, cache::locked, question::Question};

impl Question<'_> {
    /// Returns what stands for a name in a node, and remembers it.
    pub(crate) fn hash(&self, name: &Name) -> NameHash {
        let hash = self.share.hasher.name(name.as_bytes());
        self.note_names(hash.0, name);
        hash
    }

    /// Calls the name with this hash among those that a folder has or had.
    pub(crate) fn name_of(&self, folder: FileId, hash: NameHash) -> Result<Name, Denial> {
        if let Some(name) = locked(&self.share.names).find(&hash.0) {
            return Ok(name);
        }
        let hasher = &self.share.hasher;
        let found = self.find_name(folder, |name| hasher.name(name.as_bytes()) == hash)?;
        let found = found.ok_or(Denial::Stale)?;
        self.note_names(hash.0, &found);
        Ok(found)
    }

    /// Returns the name after which a listing goes on.
    pub(crate) fn name_at(&self, folder: FileId, cookie: u64) -> Result<Name, Denial> {
        if let Some(name) = locked(&self.share.names).find(&cookie) {
            return Ok(name);
        }
        let hasher = &self.share.hasher;
        let found = self.find_name(folder, |name| hasher.cookie(name.as_bytes()) == cookie)?;
        let found = found.ok_or(Denial::BadCookie)?;
        self.note_names(cookie, &found);
        Ok(found)
    }

    /// Remembers what a hash or a cookie stands for.
    pub(crate) fn note_names(&self, hash: u64, name: &Name) {
        locked(&self.share.names).keep(hash, name.clone(), 1);
    }

    /// Looks through all names that a folder has or ever had, and those of folders before it, a page at a time.
    fn find_name(
        &self,
        folder: FileId,
        is_it: impl Fn(&Name) -> bool,
    ) -> Result<Option<Name>, Denial> {
        let mut after: Option<Name> = None;
        loop {
            let page = self.names_at_path(folder, after.as_ref(), NAMES_PER_PAGE)?;
            if let Some(name) = page.iter().find(|name| is_it(name)) {
                return Ok(Some(name.clone()));
            }
            match page.into_iter().next_back() {
                Some(last) => after = Some(last),
                None => return Ok(None),
            }
        }
    }
}

/// How many names are read at once where one is searched for.
const NAMES_PER_PAGE: usize = 1024;
