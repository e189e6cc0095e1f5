//! What becomes of a file's present state when another one comes, and what a version is called.
//!
//! A version stays, whatever comes. What is no version yet goes when its origin says what it is now, but not for long, and not
//! unseen: an origin that never says that a state is a version must not leave a file without a past.

use keepshare_base::{CommitId, Content, FileId, FileRow, Made, Position};

use super::{Plan, PlanError};
use crate::{
    body::{Old, small_content},
    index::{Rows, commits, files, names},
    record::{BLOB_BYTES_MAX, FileValue, Mark},
};

/// How long an origin may leave a state open, in microseconds: then this station makes it a version.
pub(in crate::store) const OPEN_MICROS_MAX: u64 = 10_000_000;

/// So many states of a file that this station cut by itself are passed over on the way to the newest one of its origin.
const OWN_CUTS_MAX: usize = 64;

/// What becomes of a file's present state when another one comes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fate {
    /// It stays, as the version that it is or that the change makes it.
    Stays,
    /// It becomes a version of this station's own.
    Cut,
    /// It goes: it was no version, or it is the one that the running mirror brings once more.
    Goes,
}

/// Where the newest version of a file that its origin cut is from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum NewestPlace {
    /// There is none.
    Nowhere,
    /// From there.
    At(Position),
    /// Too far back to look.
    Unknown,
}

impl NewestPlace {
    /// Tells whether no version has this place or a higher one.
    pub(super) fn is_below(self, position: Position) -> bool {
        match self {
            Self::Nowhere => true,
            Self::At(newest) => newest < position,
            Self::Unknown => false,
        }
    }
}

impl<R: Rows> Plan<'_, '_, R> {
    /// Tells what becomes of a file's present state `before` when `row` comes, whose data is `bytes`.
    pub(super) fn fate(
        &self,
        row: &FileRow,
        bytes: &[u8],
        made: Option<&Made>,
        before: &(CommitId, FileValue),
    ) -> Result<Fate, PlanError> {
        let (at, value) = before;
        let Some(cut) = value.cut else {
            let is_cut = self.incoming.filled.change.cuts.contains(&row.file);
            return Ok(match self.began {
                _ if is_cut => Fate::Stays,
                Some(began) if *at > began => Fate::Goes,
                Some(_) => Fate::Cut,
                None if self.is_kept_open(row, bytes, *at, value)? => Fate::Cut,
                None => Fate::Goes,
            });
        };
        let again = self.began.is_some_and(|began| cut > began)
            && row.is_version()
            && !value.body.is_gone();
        let is_it = match (&value.mark, made) {
            (Mark::Origin(before), Some(made)) => before.position == made.position,
            (Mark::Change, None) if again => {
                let cut = commits::commit(self.rows, cut)?;
                cut.is_some_and(|cut| cut.position == self.incoming.position)
            }
            _ => false,
        };
        Ok(if again && is_it { Fate::Goes } else { Fate::Stays })
    }

    /// Tells whether a state that is open must not be lost to the next one: it is long open, or most of it is replaced.
    fn is_kept_open(
        &self,
        row: &FileRow,
        bytes: &[u8],
        at: CommitId,
        value: &FileValue,
    ) -> Result<bool, PlanError> {
        // What has no name is being written, and nobody has seen it yet.
        if names::count(self.rows, row.file)? == 0 {
            return Ok(false);
        }
        let Mark::Open(since) = value.mark else { return Ok(true) };
        if self.is_older(since)? {
            return Ok(true);
        }
        if 2 * self.replaced_bytes(row, bytes, at, value)? <= value.meta.size {
            return Ok(false);
        }
        // Once in that time: a file that is written anew all the time must not flood its own history.
        let before = files::newest(self.rows, row.file, CommitId(at.0.saturating_sub(1)))?;
        Ok(match before {
            Some((before, FileValue { mark: Mark::Station, .. })) => self.is_older(before)?,
            _ => true,
        })
    }

    /// Tells whether a commit arrived longer ago than a state may be open.
    fn is_older(&self, commit: CommitId) -> Result<bool, PlanError> {
        let then = commits::commit(self.rows, commit)?.map(|commit| commit.running_micros);
        Ok(then.is_none_or(|then| self.now_micros.saturating_sub(then) >= OPEN_MICROS_MAX))
    }

    /// Returns how many bytes of a state are cut off or written over.
    fn replaced_bytes(
        &self,
        row: &FileRow,
        bytes: &[u8],
        at: CommitId,
        value: &FileValue,
    ) -> Result<u64, PlanError> {
        let (old, new) = (value.meta.size, row.meta.size);
        let both = old.min(new);
        let cut_off = old - both;
        Ok(match &row.content {
            Content::Same => cut_off,
            Content::Extents { fresh: true, .. } if old.max(new) > BLOB_BYTES_MAX => old,
            Content::Extents { fresh: true, extents, .. } => {
                let old = Old { at, value, kept: CommitId(0) };
                let then = small_content(self.rows, self.frames, Some(old), both)
                    .map_err(|error| PlanError::of_body(error, row.file))?;
                let mut now = vec![0; then.len()];
                let mut data = bytes;
                for extent in extents.iter().filter(|extent| !extent.zero) {
                    let len = usize::try_from(extent.len).unwrap_or(usize::MAX).min(data.len());
                    let (piece, rest) = data.split_at(len);
                    data = rest;
                    let start = usize::try_from(extent.offset).unwrap_or(usize::MAX);
                    let room = now.get_mut(start.min(then.len())..).unwrap_or_default();
                    let len = piece.len().min(room.len());
                    room[..len].copy_from_slice(&piece[..len]);
                }
                let differ = then.iter().zip(&now).filter(|(then, now)| then != now).count();
                cut_off + differ as u64
            }
            Content::Extents { extents, .. } => {
                let over = extents.iter().map(|extent| {
                    both.min(extent.offset + extent.len).saturating_sub(extent.offset)
                });
                cut_off + over.sum::<u64>()
            }
        })
    }

    /// Tells whether a row says of a state that is open, or was cut here, only that it is a version.
    pub(super) fn is_late_cut(&self, row: &FileRow, value: &FileValue) -> bool {
        self.began.is_some()
            && row.is_version()
            && matches!(value.mark, Mark::Open(_) | Mark::Station)
            && row.content == Content::Same
            && row.meta == value.meta
            && row.hash == value.hash
            && !value.body.is_gone()
    }

    /// Returns who makes the state of a row a version; `again`: the version that it brings once more goes. An id means one
    /// version for ever: what comes under one that is taken gets another.
    pub(super) fn mark(
        &self,
        file: FileId,
        made: Option<&Made>,
        again: bool,
    ) -> Result<Mark, PlanError> {
        // Changes come in order, so the place of one that is no part of a mirror is never taken.
        if self.began.is_none() {
            return Ok(Mark::Change);
        }
        let by_origin = made.map_or(Mark::Change, |made| Mark::Origin(made.clone()));
        if again {
            return Ok(by_origin);
        }
        let newest = self.newest_place(file)?;
        Ok(match made {
            Some(made) if newest.is_below(made.position) => by_origin,
            _ if newest.is_below(self.incoming.position) => Mark::Change,
            _ => Mark::Station,
        })
    }

    /// Returns where the newest version of a file that its origin cut is from.
    pub(super) fn newest_place(&self, file: FileId) -> Result<NewestPlace, PlanError> {
        let mut at = CommitId::MAX;
        for _ in 0..OWN_CUTS_MAX {
            let Some((commit, value)) = files::newest(self.rows, file, at)? else {
                return Ok(NewestPlace::Nowhere);
            };
            match value.mark {
                Mark::Origin(newest) => return Ok(NewestPlace::At(newest.position)),
                Mark::Change => {
                    let cut = commits::commit(self.rows, value.cut.unwrap_or(commit))?;
                    let at = cut.map(|cut| NewestPlace::At(cut.position));
                    return Ok(at.unwrap_or(NewestPlace::Unknown));
                }
                Mark::Station | Mark::Open(_) if commit.0 == 0 => return Ok(NewestPlace::Nowhere),
                Mark::Station | Mark::Open(_) => at = CommitId(commit.0 - 1),
            }
        }
        Ok(NewestPlace::Unknown)
    }
}
