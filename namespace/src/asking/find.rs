//! Finds files by name: those that are there, and those that were.
//!
//! The index has every name that there is or was, in rows that are quick to look through: it says which names of which folders are
//! meant. Only for these the folders above are asked for, then and now. A user finds what listing every folder would show: names in
//! folders that may be listed, now and, for what is gone, then.
//!
//! Names come in the order of their folders' numbers, some at a time and each time through a short view: what is found first does not
//! depend on where something is, and whoever has the first ones goes on after the last of them.

mod changed;
mod places;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod walk;

use std::cell::RefCell;

use keepshare_base::{FileId, Name, SetPath};
use keepshare_versioning::NamesFrom;

use crate::{AskError, Pattern, question::Question};

use self::{
    changed::Since,
    places::{Places, Told},
};
use super::{Asking, FoundPath, Interrupted};

/// What is looked for.
#[derive(Clone, Debug)]
pub struct Sought {
    /// Names like this.
    pub pattern: Pattern,
    /// Only what is, or was, below this path.
    pub within: SetPath,
    /// Only what is other since then, as it is typed; of what is gone, what went since.
    pub since: Option<String>,
    /// Where to begin: after what was found before, see [`FoundPath::next`].
    pub from: NamesFrom,
}

impl Asking<'_> {
    /// Gives out what matches, and returns how many there were; stops at `limit`.
    ///
    /// Memory: some 500 names and the folders that they are in.
    pub fn find<E>(
        &self,
        sought: &Sought,
        limit: usize,
        mut take: impl FnMut(FoundPath) -> Result<(), E>,
    ) -> Result<usize, Interrupted<E>> {
        let since = match &sought.since {
            Some(typed) => Some(self.question()?.since(typed)?),
            None => None,
        };
        let (mut found, mut from) = (0, Some(sought.from.clone()));
        let room = RefCell::new(Vec::new());
        while found < limit
            && let Some(here) = from
        {
            let ask = self.question()?;
            let may_have = |names: &[u8]| sought.pattern.may_be_in(names, &mut room.borrow_mut());
            let (names, next) =
                ask.view.names_like(&here, &may_have, &|name| sought.pattern.fits(name))?;
            let (mut places, mut page) = (Places::default(), Vec::new());
            for (folder, name) in names {
                page.extend(ask.found(&mut places, (folder, name), (sought, since))?);
                if found + page.len() == limit {
                    break;
                }
            }
            drop(ask);
            for path in page {
                found += 1;
                take(path).map_err(Interrupted::Taker)?;
            }
            from = next;
        }
        Ok(found)
    }
}

impl Question<'_> {
    /// Returns what is told of a name of a folder, where that is looked for.
    fn found(
        &self,
        places: &mut Places,
        (folder, name): (FileId, Name),
        (sought, since): (&Sought, Option<Since>),
    ) -> Result<Option<FoundPath>, AskError> {
        let Some(place) = self.place(places, folder)? else { return Ok(None) };
        if !place.path.names().starts_with(sought.within.names()) {
            return Ok(None);
        }
        let Some(told) = self.told_at(&place, &name, None)? else { return Ok(None) };
        let ended = told.end.map(|end| end.ended);
        if !sought.pattern.wants(ended) || self.is_covered(places, &place, &name, &told)? {
            return Ok(None);
        }
        let changed = self.changed(&place, &name, &told)?;
        if let Some(since) = since
            && !changed.as_ref().is_some_and(|changed| since.is_before(changed))
        {
            return Ok(None);
        }
        let Told { kind, state, end, .. } = told;
        let path = place.path.join(name.clone());
        Ok(Some(FoundPath {
            versions: self.count_versions(&place, &path)?,
            path,
            kind,
            meta: state.map(|state| state.meta),
            gone: end.map(|end| (end.stamp, end.ended)),
            changed: changed.as_ref().map(|changed| changed.stamp),
            user: changed.and_then(|changed| changed.user),
            next: NamesFrom::after(folder, &name),
        }))
    }
}
