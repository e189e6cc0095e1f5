//! From a change to the rows of its record.

use std::collections::HashSet;

use keepshare_base::{CommitId, FileId, FileRow, Made};

use crate::{
    Refusal, StoreError,
    body::{BodyError, Data, Old, write},
    check::{CheckError, Incoming, check, check_content},
    error::CommitError,
    index::{IndexError, Rows, apply::body_users, commits, files, names},
    moment::{Told, moment},
    pack::{Hashed, PackError},
    record::{Body, BodyId, CommitValue, FileValue, Mark, Row},
};

use self::fate::Fate;
use super::{frames::Frames, points};

pub(super) mod fate;

/// Why there is no record.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlanError {
    /// The change is refused.
    #[error("the change is refused")]
    Refused(#[from] Refusal),
    /// The index failed.
    #[error("the index failed")]
    Index(#[from] IndexError),
    /// A pack failed.
    #[error("a pack failed")]
    Pack(#[from] PackError),
}

impl From<CheckError> for PlanError {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::Refused(refusal) => Self::Refused(refusal),
            CheckError::Index(error) => Self::Index(error),
        }
    }
}

impl PlanError {
    fn of_body(error: BodyError, file: FileId) -> Self {
        match error {
            BodyError::Index(error) => Self::Index(error),
            BodyError::Pack(error) => Self::Pack(error),
            BodyError::Expired => Self::Refused(Refusal::NoFile(file)),
        }
    }
}

impl From<PlanError> for CommitError {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::Refused(refusal) => Self::Refused(refusal),
            PlanError::Index(error) => StoreError::from(error).into(),
            PlanError::Pack(error) => StoreError::from(error).into(),
        }
    }
}

/// Checks a change, stores its content and returns its rows.
pub(super) fn change(
    rows: &impl Rows,
    frames: &mut Frames<'_>,
    at: CommitId,
    told: &Told,
    incoming: &Incoming,
) -> Result<Vec<Row>, PlanError> {
    let origin = incoming.position.origin;
    let place_before = commits::place(rows, origin)?;
    let place = check(rows, at, incoming)?;
    let hashed = check_content(&incoming.filled)?;
    // The end of a mirror belongs to it.
    let mirror = place.mirror.or(place_before.and_then(|before| before.mirror));
    let position = incoming.position;
    let change = &incoming.filled.change;
    let before = commits::moment_before(rows, position.origin, at)?;
    let value = CommitValue {
        arrival: told.arrival,
        moment: moment(change.stamp, told.arrival, told.verdict, before),
        running_micros: told.running_micros,
        position,
        complete: incoming.complete,
        stamp: change.stamp,
        user: change.user.clone(),
    };
    let began = mirror.map(|mirror| mirror.began);
    let out = vec![Row::Commit { at, value }];
    let now_micros = told.running_micros;
    let mut plan = Plan { rows, frames, at, now_micros, began, incoming, out };
    plan.cuts()?;
    plan.files(&hashed)?;
    plan.names()?;
    let mut out = plan.out;
    out.push(Row::Place { origin, place });
    if let Some(point) = &change.point {
        out.extend(points::said(rows, (at, position), told, point)?);
    }
    out.extend(change.restore.clone().map(|row| Row::Restore { at, row, position }));
    Ok(out)
}

struct Plan<'a, 'f, R> {
    rows: &'a R,
    frames: &'a mut Frames<'f>,
    at: CommitId,
    /// The running time.
    now_micros: u64,
    /// In a mirror, the commit at which it began.
    began: Option<CommitId>,
    incoming: &'a Incoming,
    out: Vec<Row>,
}

impl<R: Rows> Plan<'_, '_, R> {
    /// Makes present states versions of this commit.
    fn cuts(&mut self) -> Result<(), PlanError> {
        let change = &self.incoming.filled.change;
        let cuts: HashSet<FileId> = change.cuts.iter().copied().collect();
        let versions = change.files.iter().filter(|row| row.is_version()).map(|row| row.file);
        let versions: HashSet<FileId> = versions.collect();
        for file in cuts {
            let Some((at, value)) = files::newest(self.rows, file, CommitId::MAX)? else {
                continue;
            };
            // A mirror knows that a state ends here, and not what the origin called it. What this station cut before the
            // origin's word came is the origin's from now on.
            let mark = match (&value.mark, self.began) {
                (Mark::Open(_), Some(_)) => Mark::Station,
                (Mark::Open(_), None) => Mark::Change,
                // One place names one version of a file: where the change brings another, this one stays the station's.
                (Mark::Station, None) if !versions.contains(&file) => Mark::Change,
                _ => continue,
            };
            self.out.push(Row::Cut { at, file, cut: self.at, mark });
        }
        Ok(())
    }

    fn names(&mut self) -> Result<(), PlanError> {
        for row in &self.incoming.filled.change.names {
            let now = names::lookup(self.rows, row.parent, &row.name, CommitId::MAX)?;
            if now != row.target {
                self.out.push(Row::Name {
                    at: self.at,
                    parent: row.parent,
                    name: row.name.clone(),
                    target: row.target,
                });
            }
        }
        Ok(())
    }

    fn files(&mut self, hashed: &[Hashed]) -> Result<(), PlanError> {
        let incoming = self.incoming;
        let rows = incoming.filled.contents().zip(hashed).zip(incoming.filled.change.made());
        for (index, (((row, bytes), hashed), made)) in rows.enumerate() {
            self.file(index, row, Data { bytes, hashed }, made)?;
        }
        Ok(())
    }

    fn file(
        &mut self,
        index: usize,
        row: &FileRow,
        data: Data<'_>,
        made: Option<&Made>,
    ) -> Result<(), PlanError> {
        let before = files::newest(self.rows, row.file, CommitId::MAX)?;
        if let Some((at, value)) = &before
            && let Some(made) = made
            && self.is_late_cut(row, value)
            && self.newest_place(row.file)?.is_below(made.position)
        {
            // Only that it is a version, and which, was missing.
            let (cut, mark) = (Some(self.at), Mark::Origin(made.clone()));
            let value = FileValue { event: row.event, cut, mark, ..value.clone() };
            self.out.push(Row::File { at: *at, file: row.file, value });
            return Ok(());
        }
        let fate = match &before {
            Some(before) => self.fate(row, data.bytes, made, before)?,
            None => Fate::Stays,
        };
        if let (Fate::Cut, Some((at, _))) = (fate, &before) {
            let (at, cut) = (*at, self.at);
            self.out.push(Row::Cut { at, file: row.file, cut, mark: Mark::Station });
        }
        let (kept, gone) = match &before {
            Some((before_at, value)) if fate == Fate::Goes => {
                let earlier = CommitId(before_at.0.saturating_sub(1));
                let kept = files::newest(self.rows, row.file, earlier)?;
                (kept.map_or(CommitId(0), |(kept, _)| kept), Some((*before_at, value)))
            }
            Some((before_at, _)) => (*before_at, None),
            None => (CommitId(0), None),
        };
        let old = before.as_ref().map(|(at, value)| Old { at: *at, value, kept });
        let written = write(self.rows, self.frames, self.at, index, old, row, data);
        let written = written.map_err(|error| PlanError::of_body(error, row.file))?;
        let unused = match gone {
            Some((_, FileValue { body: Body::Mapped(body), .. }))
                if written.body != Body::Mapped(*body) =>
            {
                self.unused_without(*body, row.file)?
            }
            _ => None,
        };
        let is_version = row.is_version();
        let mark = if is_version {
            self.mark(row.file, made, gone.is_some_and(|(_, value)| value.cut.is_some()))?
        } else {
            let since = match gone {
                Some((_, FileValue { mark: Mark::Open(since), .. })) => *since,
                _ => self.at,
            };
            Mark::Open(since)
        };
        let value = FileValue {
            event: row.event,
            meta: row.meta.clone(),
            hash: row.hash,
            fuzzy: row.fuzzy,
            cut: is_version.then_some(self.at),
            since: written.since,
            body: written.body,
            mark,
        };
        self.out.push(Row::File { at: self.at, file: row.file, value });
        self.out.extend(written.rows);
        self.out.extend(gone.map(|(at, _)| Row::FileGone { at, file: row.file }));
        self.out.extend(unused.map(|body| Row::Sweep { at: self.at, body }));
        Ok(())
    }

    /// Returns a body where only one state uses it.
    fn unused_without(&self, body: BodyId, file: FileId) -> Result<Option<BodyId>, PlanError> {
        Ok(body_users(self.rows, body)?.filter(|users| *users == (file, 1)).map(|_| body))
    }
}
