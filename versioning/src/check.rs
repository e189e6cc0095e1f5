//! What a change must be to be taken: checked before anything of it is kept.
//!
//! The rules look at the set as it will be with all pending changes. They only ask and never write.

use std::collections::{HashMap, HashSet};

use keepshare_base::{
    Change, ChangeError, CommitId, Content, DEPTH_MAX, Epoch, FileId, FilledChange, Kind, Name,
    Position, RunningHash, Seq,
};

use crate::{
    error::Refusal,
    index::{IndexError, Rows, commits, files, names},
    pack::Hashed,
    record::{MirrorMark, OriginState},
};

/// A change as it comes from its master.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Incoming {
    /// Its place in the origin's journal.
    pub position: Position,
    /// False for a part of a mirror: it does not move the position; an empty one begins a mirror. The mirror's last
    /// part is complete, and may jump to where the mirror was taken.
    pub complete: bool,
    /// The hash over the journal up to this change.
    pub running: RunningHash,
    /// The change and its payload.
    pub filled: FilledChange,
}

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

/// Checks a change, which will be commit `at`, and returns the origin's place after it.
///
/// Whether its content is what its origin read is for [`check_content`] to say.
pub(crate) fn check(
    rows: &impl Rows,
    at: CommitId,
    incoming: &Incoming,
) -> Result<OriginState, CheckError> {
    let origin = incoming.position.origin;
    incoming.filled.check_rows(origin).map_err(Refusal::from)?;
    let before = commits::place(rows, origin)?;
    // Only a mirror's beginning has to be above everything.
    let highest = if incoming.complete { None } else { commits::highest(rows, origin)? };
    let Incoming { position, complete, running, .. } = *incoming;
    let step = Step { at, got: position, complete, running };
    let place = next_place(before, highest, step)?;
    let change = &incoming.filled.change;
    let in_mirror = !complete || before.is_some_and(|before| before.mirror.is_some());
    for (file, made) in &change.made {
        let of = (made.position.epoch, made.position.seq);
        if !in_mirror || of >= (position.epoch, position.seq) {
            return Err(Refusal::Made { file: *file, got: made.position }.into());
        }
    }
    check_files(rows, position.epoch, change)?;
    Names::new(rows, change).check()?;
    Ok(place)
}

/// Checks that the content of a change, whose rows were checked, is what its origin read; returns the hashes of each row's
/// bytes, so that nothing is hashed twice.
pub(crate) fn check_content(filled: &FilledChange) -> Result<Vec<Hashed>, Refusal> {
    let checked = filled.contents().map(|(row, bytes)| match &row.content {
        Content::Same => Ok(Hashed::default()),
        Content::Extents { hash, .. } => {
            let hashed = Hashed::of(bytes);
            let is_it = hashed.whole() == Some(*hash);
            is_it.then_some(hashed).ok_or(ChangeError::Hash(row.file))
        }
    });
    Ok(checked.collect::<Result<_, _>>()?)
}

/// Where a change says that it belongs.
#[derive(Clone, Copy)]
struct Step {
    /// The commit that it will be.
    at: CommitId,
    got: Position,
    complete: bool,
    running: RunningHash,
}

/// Returns the place after a change, if it may come now.
///
/// A complete change is the very next one of its epoch, the first one of a new epoch, or the end of the mirror that runs.
/// Parts of a mirror never move the place. A mirror begins at a place above everything that its origin ever sent, so that
/// no version's place is ever given to another.
fn next_place(
    before: Option<OriginState>,
    highest: Option<(Epoch, Seq)>,
    step: Step,
) -> Result<OriginState, Refusal> {
    let Step { at, got, complete, running } = step;
    let before = before.unwrap_or(OriginState { last: None, fence: Epoch::FIRST, mirror: None });
    if got.epoch < before.fence {
        return Err(Refusal::Fenced { got: got.epoch, fence: before.fence });
    }
    if !got.epoch.may_follow(before.fence) || got.seq > Seq::MAX {
        return Err(Refusal::Beyond { got, fence: before.fence });
    }
    let fence = before.fence.max(got.epoch);
    let last = before.last.map(|(epoch, seq, _)| (epoch, seq));
    let is_running = |mirror: &MirrorMark| {
        got.seq > Seq(0) && (mirror.epoch, mirror.seq) == (got.epoch, got.seq)
    };
    if before.mirror.is_some_and(|mirror| is_running(&mirror)) {
        return Ok(if complete {
            OriginState { last: Some((got.epoch, got.seq, running)), fence, mirror: None }
        } else {
            OriginState { fence, ..before }
        });
    }
    let at_place = |(epoch, seq): (Epoch, Seq)| Position { origin: got.origin, epoch, seq };
    if !complete {
        let above = highest.max(last).unwrap_or((Epoch::FIRST, Seq(0)));
        if (got.epoch, got.seq) <= above || got.seq == Seq(0) {
            return Err(Refusal::MirrorPlace { got, above: at_place(above) });
        }
        // A mirror begun again goes on with what it brought; that of another epoch is another's.
        let known = |mirror: &MirrorMark| mirror.began < CommitId::MAX;
        let again = before.mirror.filter(known).filter(|mirror| mirror.epoch == got.epoch);
        let began = again.map_or(at, |mirror| mirror.began);
        let mirror = Some(MirrorMark { began, epoch: got.epoch, seq: got.seq });
        return Ok(OriginState { fence, mirror, ..before });
    }
    let want = match last {
        Some((epoch, seq)) if got.epoch == epoch => seq.next(),
        _ => Seq(1),
    };
    match last.filter(|last| (got.epoch, got.seq) <= *last) {
        Some(last) => Err(Refusal::Old { got, last: at_place(last) }),
        // The tree is a mixture of two places: it takes nothing but the rest of the mirror.
        None if got.seq != want || before.mirror.is_some() => Err(Refusal::Gap { got, want }),
        None => Ok(OriginState { last: Some((got.epoch, got.seq, running)), fence, mirror: None }),
    }
}

fn check_files(rows: &impl Rows, epoch: Epoch, change: &Change) -> Result<(), CheckError> {
    let cuts: HashSet<FileId> = change.cuts.iter().copied().collect();
    for row in &change.files {
        // The ids of an epoch are for whoever holds the origin then: one that is taken would keep them from their files.
        if row.file.epoch > epoch {
            return Err(Refusal::Unborn { file: row.file, epoch }.into());
        }
        let Some((_, old)) = files::newest(rows, row.file, CommitId::MAX)? else { continue };
        if old.meta.kind != row.meta.kind {
            return Err(Refusal::Kind(row.file).into());
        }
        let fresh = matches!(row.content, Content::Extents { fresh: true, .. });
        if old.body.is_gone() && !fresh {
            return Err(Refusal::NoFile(row.file).into());
        }
        if row.cut && old.cut.is_none() && cuts.contains(&row.file) {
            return Err(Refusal::CutTwice(row.file).into());
        }
    }
    for file in cuts {
        match files::newest(rows, file, CommitId::MAX)? {
            Some((_, old)) if !old.body.is_gone() => {}
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
        Ok(newest.filter(|(_, value)| !value.body.is_gone()).map(|(_, v)| v.meta.kind))
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

    fn place(epoch: u64, seq: u64, fence: u64) -> OriginState {
        let position = at(epoch, seq);
        OriginState {
            last: Some((position.epoch, position.seq, RunningHash::EMPTY)),
            fence: Epoch::new(fence).unwrap(),
            mirror: None,
        }
    }

    fn mirroring(place: OriginState, began: u64, epoch: u64, seq: u64) -> OriginState {
        let Position { epoch, seq, .. } = at(epoch, seq);
        OriginState { mirror: Some(MirrorMark { began: CommitId(began), epoch, seq }), ..place }
    }

    /// What comes at commit 100 to a set in which nothing is above the last change and the running mirror.
    fn next(
        before: Option<OriginState>,
        got: Position,
        complete: bool,
    ) -> Result<OriginState, Refusal> {
        let mirror = before.and_then(|place| place.mirror).map(|mirror| (mirror.epoch, mirror.seq));
        let step = Step { at: CommitId(100), got, complete, running: RunningHash::EMPTY };
        next_place(before, mirror, step)
    }

    /// A change passed over is a version no one can restore; one taken twice may undo a newer one.
    #[test]
    fn only_the_next_change_comes_next() {
        assert_eq!(next(None, at(1, 1), true), Ok(place(1, 1, 1)));
        assert!(matches!(next(None, at(1, 2), true), Err(Refusal::Gap { want: Seq(1), .. })));
        let here = Some(place(1, 5, 1));
        assert_eq!(next(here, at(1, 6), true), Ok(place(1, 6, 1)));
        assert!(matches!(next(here, at(1, 7), true), Err(Refusal::Gap { want: Seq(6), .. })));
        assert!(matches!(next(here, at(1, 5), true), Err(Refusal::Old { .. })));
        assert_eq!(next(here, at(2, 1), true), Ok(place(2, 1, 2)));
        assert!(matches!(next(here, at(2, 3), true), Err(Refusal::Gap { want: Seq(1), .. })));
    }

    /// A mirror has a place of its own: were it at one that is taken, its versions would be called as others are.
    #[test]
    fn a_mirror_leads_above_everything_and_ends_where_it_began() {
        let here = Some(place(1, 5, 1));
        for taken in [at(1, 5), at(1, 4)] {
            assert!(matches!(next(here, taken, false), Err(Refusal::MirrorPlace { .. })));
        }
        let running = next(here, at(1, 9), false).unwrap();
        assert_eq!(running, mirroring(place(1, 5, 1), 100, 1, 9), "a part does not move the place");
        assert_eq!(next(Some(running), at(1, 9), false), Ok(running));
        assert_eq!(next(Some(running), at(1, 9), true), Ok(place(1, 9, 1)));
        for other in [at(1, 6), at(1, 8), at(1, 10), at(2, 1)] {
            assert!(
                matches!(next(Some(running), other, true), Err(Refusal::Gap { .. })),
                "{other}"
            );
        }
        assert!(matches!(next(Some(running), at(1, 4), true), Err(Refusal::Old { .. })));
    }

    /// What the first try brought may come once more; another master's mirror is not this one's to go on with.
    #[test]
    fn a_mirror_begun_again_goes_on_in_its_epoch_only() {
        let running = mirroring(place(1, 5, 1), 40, 1, 9);
        assert_eq!(next(Some(running), at(1, 12), false), Ok(mirroring(place(1, 5, 1), 40, 1, 12)));
        let other = next(Some(running), at(2, 3), false);
        assert_eq!(other, Ok(mirroring(place(1, 5, 2), 100, 2, 3)));
        assert!(matches!(next(Some(running), at(1, 8), false), Err(Refusal::MirrorPlace { .. })));
    }

    #[test]
    fn a_replaced_master_is_fenced() {
        let here = Some(place(1, 5, 3));
        assert!(matches!(next(here, at(2, 1), true), Err(Refusal::Fenced { .. })));
        assert!(matches!(next(here, at(1, 6), true), Err(Refusal::Fenced { .. })));
        assert!(next(here, at(3, 1), true).is_ok());
    }
}
