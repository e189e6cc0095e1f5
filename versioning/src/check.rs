//! What a change must be to be taken: checked before anything of it is kept.
//!
//! The rules look at the set as it will be with all pending changes. They only ask and never write.

use std::collections::{HashMap, HashSet};

use keepshare_base::{
    Change, CommitId, Content, DEPTH_MAX, Epoch, FileId, Kind, Name, Position, RunningHash, Seq,
};

use crate::{
    error::Refusal,
    index::{IndexError, Rows, files, names},
    record::Body,
    state::Place,
    store::Incoming,
};

/// Why a change cannot be judged or is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    /// It is refused.
    #[error("the change is refused")]
    Refused(#[from] Refusal),
    /// The index failed.
    #[error("the index failed")]
    Index(#[from] IndexError),
}

/// Checks a change and returns the origin's place after it.
pub(crate) fn check(rows: &impl Rows, incoming: &Incoming) -> Result<Place, CheckError> {
    let origin = incoming.position.origin;
    incoming.filled.check(origin).map_err(Refusal::from)?;
    let before = files::place(rows, origin)?;
    let place = next_place(before, incoming.position, incoming.complete, incoming.running)?;
    let change = &incoming.filled.change;
    check_files(rows, change)?;
    Names::new(rows, change).check()?;
    Ok(place)
}

/// Returns the place after a change, if it may come now.
///
/// A complete change is the very next one of its epoch, the first one of a new epoch, or the end of a mirror, which may
/// jump ahead. Parts of a mirror never move the place back or forth.
fn next_place(
    before: Option<Place>,
    got: Position,
    complete: bool,
    running: RunningHash,
) -> Result<Place, Refusal> {
    let before = before.unwrap_or(Place { last: None, fence: Epoch::FIRST, mirroring: false });
    if got.epoch < before.fence {
        return Err(Refusal::Fenced { got: got.epoch, fence: before.fence });
    }
    if !got.epoch.may_follow(before.fence) || got.seq > Seq::MAX {
        return Err(Refusal::Beyond { got, fence: before.fence });
    }
    let last = before.last.map(|(epoch, seq, _)| Position { origin: got.origin, epoch, seq });
    let mirror = before.mirroring || !complete;
    match last {
        Some(last) if got.epoch < last.epoch => return Err(Refusal::Old { got, last }),
        Some(last) if got.epoch == last.epoch => {
            if got.seq < last.seq || (!mirror && got.seq == last.seq) {
                return Err(Refusal::Old { got, last });
            }
            if !mirror && got.seq != last.seq.next() {
                return Err(Refusal::Gap { got, want: last.seq.next() });
            }
        }
        _ if !mirror && got.seq != Seq(1) => return Err(Refusal::Gap { got, want: Seq(1) }),
        _ => {}
    }
    let fence = before.fence.max(got.epoch);
    Ok(if complete {
        Place { last: Some((got.epoch, got.seq, running)), fence, mirroring: false }
    } else {
        Place { fence, mirroring: true, ..before }
    })
}

fn check_files(rows: &impl Rows, change: &Change) -> Result<(), CheckError> {
    let cuts: HashSet<FileId> = change.cuts.iter().copied().collect();
    for row in &change.files {
        let Some((_, old)) = files::newest(rows, row.file, CommitId::MAX)? else { continue };
        if old.meta.kind != row.meta.kind {
            return Err(Refusal::Kind(row.file).into());
        }
        let fresh = matches!(row.content, Content::Extents { fresh: true, .. });
        if old.body == Body::Expired && !fresh {
            return Err(Refusal::NoFile(row.file).into());
        }
        if row.cut && old.cut.is_none() && cuts.contains(&row.file) {
            return Err(Refusal::CutTwice(row.file).into());
        }
    }
    for file in cuts {
        match files::newest(rows, file, CommitId::MAX)? {
            Some((_, old)) if old.body != Body::Expired => {}
            _ => return Err(Refusal::NoFile(file).into()),
        }
    }
    Ok(())
}

/// The names as they will be when the change is in.
struct Names<'a, R> {
    rows: &'a R,
    change: &'a Change,
    /// Kinds of the change's own files.
    kinds: HashMap<FileId, Kind>,
    /// The change's own names.
    changed: HashSet<(FileId, &'a Name)>,
    /// Where the change puts folders.
    parents: HashMap<FileId, FileId>,
}

impl<'a, R: Rows> Names<'a, R> {
    fn new(rows: &'a R, change: &'a Change) -> Self {
        let dirs = change.names.iter().filter_map(|row| match row.target {
            Some((dir, Kind::Dir)) => Some((dir, row.parent)),
            _ => None,
        });
        Self {
            rows,
            change,
            kinds: change.files.iter().map(|row| (row.file, row.meta.kind)).collect(),
            changed: change.names.iter().map(|row| (row.parent, &row.name)).collect(),
            parents: dirs.collect(),
        }
    }

    fn check(&self) -> Result<(), CheckError> {
        let mut placed = HashSet::new();
        for row in &self.change.names {
            let Some((target, kind)) = row.target else { continue };
            match self.kind(row.parent)? {
                Some(Kind::Dir) => {}
                Some(_) => return Err(Refusal::NotAFolder(row.parent).into()),
                None => return Err(Refusal::NoParent(row.parent).into()),
            }
            match self.kind(target)? {
                Some(known) if known == kind => {}
                Some(_) => return Err(Refusal::Kind(target).into()),
                None => return Err(Refusal::NoFile(target).into()),
            }
            if kind == Kind::Dir {
                if !placed.insert(target) || self.unchanged_parent(target)?.is_some() {
                    return Err(Refusal::TwoNames(target).into());
                }
                self.check_ancestors(target, row.parent, &row.name)?;
            }
        }
        Ok(())
    }

    fn kind(&self, file: FileId) -> Result<Option<Kind>, IndexError> {
        if file == FileId::ROOT {
            return Ok(Some(Kind::Dir));
        }
        if let Some(kind) = self.kinds.get(&file) {
            return Ok(Some(*kind));
        }
        let newest = files::newest(self.rows, file, CommitId::MAX)?;
        Ok(newest.filter(|(_, value)| value.body != Body::Expired).map(|(_, v)| v.meta.kind))
    }

    /// Walks up from a folder's new place to the root, or to where nothing has a name.
    fn check_ancestors(&self, dir: FileId, parent: FileId, name: &Name) -> Result<(), CheckError> {
        let mut above = parent;
        for _ in 0..DEPTH_MAX {
            if above == dir {
                return Err(Refusal::Cycle(dir).into());
            }
            if above == FileId::ROOT {
                return Ok(());
            }
            let next = match self.parents.get(&above) {
                Some(parent) => Some(*parent),
                None => self.unchanged_parent(above)?,
            };
            match next {
                Some(next) => above = next,
                None => return Ok(()),
            }
        }
        Err(Refusal::TooDeep { parent, name: name.clone() }.into())
    }

    /// Returns the folder in which a folder has a name that the change leaves as it is.
    fn unchanged_parent(&self, dir: FileId) -> Result<Option<FileId>, IndexError> {
        if names::count(self.rows, dir)? == 0 {
            return Ok(None);
        }
        let links = names::links(self.rows, dir, CommitId::MAX)?;
        let unchanged = |(parent, name): &&(FileId, Name)| !self.changed.contains(&(*parent, name));
        Ok(links.iter().find(unchanged).map(|(parent, _)| *parent))
    }
}

#[cfg(test)]
mod tests {
    use keepshare_base::OriginId;

    use super::*;

    fn at(epoch: u64, seq: u64) -> Position {
        Position { origin: OriginId(1), epoch: Epoch::new(epoch).unwrap(), seq: Seq(seq) }
    }

    fn place(epoch: u64, seq: u64, fence: u64, mirroring: bool) -> Place {
        let position = at(epoch, seq);
        Place {
            last: Some((position.epoch, position.seq, RunningHash::EMPTY)),
            fence: Epoch::new(fence).unwrap(),
            mirroring,
        }
    }

    fn next(before: Option<Place>, got: Position, complete: bool) -> Result<Place, Refusal> {
        next_place(before, got, complete, RunningHash::EMPTY)
    }

    /// A change passed over is a version no one can restore; one taken twice may undo a newer one.
    #[test]
    fn only_the_next_change_comes_next() {
        assert_eq!(next(None, at(1, 1), true), Ok(place(1, 1, 1, false)));
        assert!(matches!(next(None, at(1, 2), true), Err(Refusal::Gap { want: Seq(1), .. })));
        let here = Some(place(1, 5, 1, false));
        assert_eq!(next(here, at(1, 6), true), Ok(place(1, 6, 1, false)));
        assert!(matches!(next(here, at(1, 7), true), Err(Refusal::Gap { want: Seq(6), .. })));
        assert!(matches!(next(here, at(1, 5), true), Err(Refusal::Old { .. })));
        assert_eq!(next(here, at(2, 1), true), Ok(place(2, 1, 2, false)));
        assert!(matches!(next(here, at(2, 3), true), Err(Refusal::Gap { want: Seq(1), .. })));
    }

    #[test]
    fn only_a_mirror_may_jump_and_never_back() {
        let here = Some(place(1, 5, 1, false));
        let mirroring = next(here, at(1, 9), false).unwrap();
        assert_eq!(mirroring, place(1, 5, 1, true), "a part does not move the place");
        assert_eq!(next(Some(mirroring), at(1, 9), true), Ok(place(1, 9, 1, false)));
        assert!(matches!(next(Some(mirroring), at(1, 4), true), Err(Refusal::Old { .. })));
        assert_eq!(next(Some(mirroring), at(2, 40), true), Ok(place(2, 40, 2, false)));
    }

    #[test]
    fn a_replaced_master_is_fenced() {
        let here = Some(place(1, 5, 3, false));
        assert!(matches!(next(here, at(2, 1), true), Err(Refusal::Fenced { .. })));
        assert!(matches!(next(here, at(1, 6), true), Err(Refusal::Fenced { .. })));
        assert!(next(here, at(3, 1), true).is_ok());
    }
}
