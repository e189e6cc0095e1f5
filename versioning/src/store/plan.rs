//! From a change to the rows of its record.

use std::collections::HashSet;

use keepshare_base::{CommitId, FileId, FileRow, Kind};

use crate::{
    Incoming, Refusal, StoreError,
    body::{BodyError, Old, write},
    check::{CheckError, check},
    error::CommitError,
    index::{IndexError, Rows, apply::body_users, files, names},
    moment::{Told, moment},
    pack::PackError,
    record::{Body, BodyId, CommitValue, FileValue, Row},
};

use super::frames::Frames;

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
    let place = check(rows, incoming)?;
    let position = incoming.position;
    let change = &incoming.filled.change;
    let before = files::moment_before(rows, position.origin, at)?;
    let value = CommitValue {
        arrival: told.arrival,
        moment: moment(change.stamp, told.arrival, told.verdict, before),
        running_micros: told.running_micros,
        position,
        complete: incoming.complete,
        stamp: change.stamp,
        user: change.user.clone(),
    };
    let mut plan = Plan { rows, frames, at, incoming, out: vec![Row::Commit { at, value }] };
    plan.cuts()?;
    plan.files()?;
    plan.names()?;
    let mut out = plan.out;
    out.push(Row::Place { origin: position.origin, place });
    out.extend(change.point.clone().map(|point| Row::Point { at, point, position }));
    out.extend(change.restore.clone().map(|row| Row::Restore { at, row, position }));
    Ok(out)
}

struct Plan<'a, 'f, R> {
    rows: &'a R,
    frames: &'a mut Frames<'f>,
    at: CommitId,
    incoming: &'a Incoming,
    out: Vec<Row>,
}

impl<R: Rows> Plan<'_, '_, R> {
    /// Makes present states versions of this commit.
    fn cuts(&mut self) -> Result<(), PlanError> {
        let cuts: HashSet<FileId> = self.incoming.filled.change.cuts.iter().copied().collect();
        for file in cuts {
            if let Some((at, value)) = files::newest(self.rows, file, CommitId::MAX)?
                && value.cut.is_none()
            {
                let value = FileValue { cut: Some(self.at), ..value };
                self.out.push(Row::File { at, file, value });
            }
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

    fn files(&mut self) -> Result<(), PlanError> {
        let incoming = self.incoming;
        for (index, (row, bytes)) in incoming.filled.contents().enumerate() {
            self.file(index, row, bytes)?;
        }
        Ok(())
    }

    fn file(&mut self, index: usize, row: &FileRow, bytes: &[u8]) -> Result<(), PlanError> {
        let before = files::newest(self.rows, row.file, CommitId::MAX)?;
        // A state that became no version goes when the next one comes.
        let (kept, gone) = match &before {
            Some((before_at, value)) if self.goes(row, value)? => {
                let earlier = CommitId(before_at.0.saturating_sub(1));
                let kept = files::newest(self.rows, row.file, earlier)?;
                (kept.map_or(CommitId(0), |(kept, _)| kept), Some((*before_at, value)))
            }
            Some((before_at, _)) => (*before_at, None),
            None => (CommitId(0), None),
        };
        let old = before.as_ref().map(|(at, value)| Old { at: *at, value, kept });
        let written = write(self.rows, self.frames, self.at, index, old, row, bytes);
        let written = written.map_err(|error| match error {
            BodyError::Index(error) => PlanError::Index(error),
            BodyError::Pack(error) => PlanError::Pack(error),
            BodyError::Expired => PlanError::Refused(Refusal::NoFile(row.file)),
        })?;
        let unused = match gone {
            Some((_, FileValue { body: Body::Mapped(body), .. }))
                if written.body != Body::Mapped(*body) =>
            {
                self.unused_without(*body, row.file)?
            }
            _ => None,
        };
        let value = FileValue {
            event: row.event,
            meta: row.meta.clone(),
            hash: row.hash,
            fuzzy: row.fuzzy,
            cut: is_version(row).then_some(self.at),
            since: written.since,
            body: written.body,
        };
        self.out.push(Row::File { at: self.at, file: row.file, value });
        self.out.extend(written.rows);
        self.out.extend(gone.map(|(at, _)| Row::FileGone { at, file: row.file }));
        self.out.extend(unused.map(|body| Row::Sweep { at: self.at, body }));
        Ok(())
    }

    /// Tells whether a file's present state goes when `row` comes: it is no version, or one of the very position that
    /// the new one gets, which happens when a mirror is begun again.
    fn goes(&self, row: &FileRow, value: &FileValue) -> Result<bool, PlanError> {
        let change = &self.incoming.filled.change;
        let Some(cut) = value.cut else { return Ok(!change.cuts.contains(&row.file)) };
        let Some(cut) = files::commit(self.rows, cut)? else { return Ok(false) };
        Ok(is_version(row) && value.body != Body::Expired && cut.position == self.incoming.position)
    }

    /// Returns a body where only one state uses it.
    fn unused_without(&self, body: BodyId, file: FileId) -> Result<Option<BodyId>, PlanError> {
        Ok(body_users(self.rows, body)?.filter(|users| *users == (file, 1)).map(|_| body))
    }
}

/// Tells whether a row is a version at once: where the origin says so, and for everything but files. What a folder was
/// is small, and the whole set at some moment needs it.
fn is_version(row: &FileRow) -> bool {
    row.cut || row.meta.kind != Kind::File
}

/// Returns the rows that remove a version's content.
pub(super) fn expire(
    rows: &impl Rows,
    at: CommitId,
    file: FileId,
    commit: CommitId,
) -> Result<Vec<Row>, PlanError> {
    let refused = Refusal::Removal { file, commit };
    let Some(value) = files::exactly(rows, file, commit)? else { return Err(refused.into()) };
    let newest = files::newest(rows, file, CommitId::MAX)?.is_some_and(|(at, _)| at == commit);
    let living = file == FileId::ROOT || names::count(rows, file)? > 0;
    if value.cut.is_none() || (newest && living) {
        return Err(refused.into());
    }
    let sweep = match value.body {
        Body::Mapped(body) => Some(Row::Sweep { at, body }),
        Body::Inline(_) | Body::Blob(_) | Body::Expired => None,
    };
    let value = FileValue { body: Body::Expired, ..value };
    Ok([Row::File { at: commit, file, value }].into_iter().chain(sweep).collect())
}
