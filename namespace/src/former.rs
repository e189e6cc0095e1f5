//! Folders that stood at a folder's path before it: their past goes on in its `@versions`.
//!
//! A folder that is removed, or renamed away, and made again is another one for the index, and the names in it would
//! begin without a past, just when someone wants it back.

use std::sync::Arc;

use keepshare_base::{CommitId, DEPTH_MAX, FileId, Kind, Name, SetPath};
use keepshare_versioning::{Ended, HistoryEntry};

use crate::{
    Denial,
    dated::{Dated, Remembered, SIGN_HOLDS},
    history::VERSIONS_MAX,
    question::Question,
};

/// How many folders that stood at one path are gone through.
const FOLDERS_MAX: usize = 64;

/// How many changes of one name are searched for folders.
const CHANGES_MAX: usize = 1000;

/// Folders that stood where one is.
pub(crate) type Formers = Remembered<FileId, Vec<FileId>>;

impl Question<'_> {
    /// Returns the history of a name: what it held in its folder and, before that, in folders at the same path as long
    /// as the path led to them; newest first.
    pub(crate) fn whole_history(
        &self,
        folder: FileId,
        name: &Name,
    ) -> Result<Vec<HistoryEntry>, Denial> {
        let mut history = self.view.history(folder, name, VERSIONS_MAX)?;
        let before = history.len();
        for former in self.former_folders(folder)?.iter().flat_map(|former| former.iter()) {
            self.add_history_before(&mut history, folder, (*former, name))?;
        }
        if history.len() > before {
            history.sort_by_key(|entry| std::cmp::Reverse(entry.since));
            history.truncate(VERSIONS_MAX);
        }
        Ok(history)
    }

    /// Returns names that a folder has or had, or that folders before it had, in order, after `after`.
    pub(crate) fn names_at_path(
        &self,
        folder: FileId,
        after: Option<&Name>,
        limit: usize,
    ) -> Result<Vec<Name>, Denial> {
        let mut names = self.view.names_ever(folder, after, limit)?;
        for former in self.former_folders(folder)?.iter().flat_map(|former| former.iter()) {
            // Of each folder the first ones are enough: what comes after the first `limit` of all is not asked for.
            names.extend(self.view.names_ever(*former, after, limit)?);
        }
        names.sort_unstable();
        names.dedup();
        names.truncate(limit);
        Ok(names)
    }

    /// Returns the folders that were where a folder is, without itself, the last one first; nothing for the root.
    fn former_folders(&self, folder: FileId) -> Result<Option<Arc<Dated<Vec<FileId>>>>, Denial> {
        let Some((above, name)) = self.view.links(folder, CommitId::MAX)?.pop() else {
            return Ok(None);
        };
        let (all, place) = (&self.share.formers, (above, &name));
        if let Some(known) = self.remembered(all, &folder, place, SIGN_HOLDS)? {
            return Ok(Some(known));
        }
        let mut former = self.find_former_folders(folder)?;
        former.retain(|other| *other != folder);
        let weight = former.len() + 1;
        self.remember(all, folder, place, (former, weight)).map(Some)
    }

    fn find_former_folders(&self, folder: FileId) -> Result<Vec<FileId>, Denial> {
        let mut names = Vec::new();
        let mut at = folder;
        while at != FileId::ROOT {
            let place = self.view.links(at, CommitId::MAX)?.pop();
            let Some((above, name)) = place.filter(|_| names.len() < DEPTH_MAX) else {
                return Ok(vec![]);
            };
            names.push(name);
            at = above;
        }
        let mut folders = vec![FileId::ROOT];
        for name in names.iter().rev() {
            let mut next = Vec::new();
            for above in folders {
                for target in self.view.held(above, name, CHANGES_MAX)? {
                    if let Some((file, Kind::Dir)) = target
                        && !next.contains(&file)
                        && next.len() < FOLDERS_MAX
                    {
                        next.push(file);
                    }
                }
            }
            folders = next;
        }
        Ok(folders)
    }

    /// Adds what a name held in a folder before, as long as that stood where `folder` is.
    fn add_history_before(
        &self,
        history: &mut Vec<HistoryEntry>,
        folder: FileId,
        (former, name): (FileId, &Name),
    ) -> Result<(), Denial> {
        if self.view.held(former, name, 1)?.is_empty() {
            return Ok(());
        }
        let Some(path) = self.view.path_of(folder, CommitId::MAX)? else { return Ok(()) };
        let path: SetPath = path.join(name.clone());
        let read = |limit| self.view.history(former, name, limit).map_err(Denial::from);
        let was_here = |mut entry: HistoryEntry| -> Result<Option<HistoryEntry>, Denial> {
            let then = self.view.resolve(&path, entry.since)?;
            if then.is_none_or(|(file, _)| file != entry.state.file) {
                return Ok(None);
            }
            entry.current = false;
            // What its path led to at some moment is found by that path.
            entry.until = entry.since;
            // It went with its folder, where it is still somewhere.
            entry.held_until = entry.held_until.or(Some((entry.held_from, Ended::Renamed)));
            Ok(Some(entry))
        };
        history.extend(first_fitting(VERSIONS_MAX, read, was_here)?);
        Ok(())
    }
}

/// Returns the first `limit` of what fits, in the order in which it is read.
///
/// `read` gives as many from the beginning as it is asked for. What does not fit takes no place from what does: more is
/// read until there is enough, or nothing more, or 100,000 were gone through.
pub fn first_fitting<T, E>(
    limit: usize,
    mut read: impl FnMut(usize) -> Result<Vec<T>, E>,
    mut fits: impl FnMut(T) -> Result<Option<T>, E>,
) -> Result<Vec<T>, E> {
    let mut asked = limit.clamp(1, READ_MAX);
    loop {
        let all = read(asked)?;
        let is_all = all.len() < asked || asked == READ_MAX;
        let mut fitting = Vec::new();
        for one in all {
            if fitting.len() == limit {
                break;
            }
            fitting.extend(fits(one)?);
        }
        if is_all || fitting.len() == limit {
            return Ok(fitting);
        }
        asked = asked.saturating_mul(4).min(READ_MAX);
    }
}

/// How many entries [`first_fitting`] goes through.
const READ_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// A limit is on what is shown, not on what is looked at: what is left out must not hide what is there.
    #[test]
    fn what_does_not_fit_takes_no_place() {
        let read = |limit| Ok::<_, ()>((0..1000).take(limit).collect::<Vec<u32>>());
        let late = |n: u32| Ok((n >= 900).then_some(n));
        for limit in [1, 3, 50, 100] {
            let found = first_fitting(limit, read, late).unwrap();
            assert_eq!(found, (900..).take(limit).collect::<Vec<_>>());
        }
        assert_eq!(first_fitting(5000, read, late).unwrap().len(), 100);
        assert_eq!(first_fitting(0, read, late).unwrap().len(), 0);
        let endless = |limit| Ok::<_, ()>(vec![0_u32; limit]);
        assert_eq!(first_fitting(1, endless, |_| Ok(None)).unwrap().len(), 0);
    }
}
