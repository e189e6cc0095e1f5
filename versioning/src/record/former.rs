//! Rows of format 1: versions were called and dated by the commit that cut them, and which mirror ran was not noted.

use serde::Deserialize;

use keepshare_base::{
    CommitId, ContentHash, Epoch, Event, FileId, Kind, Meta, Name, OriginId, Point, Position,
    RestoreRow, RunningHash, Seq, Stamp,
};

use super::{Body, BodyId, FileValue, FirstCommitValue, Mark, MirrorMark, OriginState, Piece, Row};
use crate::pack::PackLoc;

#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
pub(super) struct FormerFile {
    event: Event,
    meta: Meta,
    hash: Option<ContentHash>,
    fuzzy: bool,
    cut: Option<CommitId>,
    since: CommitId,
    body: Body,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
pub(super) struct FormerOriginState {
    last: Option<(Epoch, Seq, RunningHash)>,
    fence: Epoch,
    mirroring: bool,
}

/// In the order of format 1.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
pub(super) enum FormerRow {
    FirstCommit { at: CommitId, value: FirstCommitValue },
    Name { at: CommitId, parent: FileId, name: Name, target: Option<(FileId, Kind)> },
    File { at: CommitId, file: FileId, value: FormerFile },
    FileGone { at: CommitId, file: FileId },
    Content { piece: Piece, loc: Option<PackLoc> },
    ContentGone { piece: Piece },
    Void { at: CommitId, body: BodyId, from: u64 },
    VoidGone { at: CommitId, body: BodyId },
    Sweep { at: CommitId, body: BodyId },
    Swept { at: CommitId, body: BodyId },
    Place { origin: OriginId, place: FormerOriginState },
    Point { at: CommitId, point: Point, position: Position },
    Restore { at: CommitId, row: RestoreRow, position: Position },
    Clock { arrival: Stamp },
}

/// Returns the rows as they are now.
pub(super) fn rows(former: Vec<FormerRow>) -> Vec<Row> {
    former.into_iter().map(row).collect()
}

fn row(former: FormerRow) -> Row {
    match former {
        FormerRow::FirstCommit { at, value } => Row::FirstCommit { at, value },
        FormerRow::Name { at, parent, name, target } => Row::Name { at, parent, name, target },
        FormerRow::File { at, file, value } => Row::File { at, file, value: value.now(at) },
        FormerRow::FileGone { at, file } => Row::FileGone { at, file },
        FormerRow::Content { piece, loc } => Row::Content { piece, loc },
        FormerRow::ContentGone { piece } => Row::ContentGone { piece },
        FormerRow::Void { at, body, from } => Row::Void { at, body, from },
        FormerRow::VoidGone { at, body } => Row::VoidGone { at, body },
        FormerRow::Sweep { at, body } => Row::Sweep { at, body },
        FormerRow::Swept { at, body } => Row::Swept { at, body },
        FormerRow::Place { origin, place } => Row::Place { origin, place: place.now() },
        FormerRow::Point { at, point, position } => Row::Point { at, point, position },
        FormerRow::Restore { at, row, position } => Row::Restore { at, row, position },
        FormerRow::Clock { arrival } => Row::Clock { arrival },
    }
}

impl FormerFile {
    fn now(self, at: CommitId) -> FileValue {
        let Self { event, meta, hash, fuzzy, cut, since, body } = self;
        let mark = if cut.is_some() { Mark::Change } else { Mark::Open(at) };
        FileValue { event, meta, hash, fuzzy, cut, since, body, mark }
    }
}

impl FormerOriginState {
    /// Where a mirror of then began is not known: nothing is taken for what it brought.
    fn now(self) -> OriginState {
        let Self { last, fence, mirroring } = self;
        let unknown = MirrorMark { began: CommitId::MAX, epoch: fence, seq: Seq(0) };
        OriginState { last, fence, mirror: mirroring.then_some(unknown) }
    }
}

#[cfg(test)]
impl FormerRow {
    /// Returns a row as it was then, with what it knew.
    pub(super) fn of(row: Row) -> Self {
        match row {
            Row::FirstCommit { at, value } => Self::FirstCommit { at, value },
            Row::Commit { .. }
            | Row::Cut { .. }
            | Row::KeptPoint { .. }
            | Row::ScheduledPoint { .. }
            | Row::PointGone { .. }
            | Row::CommitGone { .. } => unreachable!("format 1 has none"),
            Row::Name { at, parent, name, target } => Self::Name { at, parent, name, target },
            Row::File { at, file, value } => {
                let FileValue { event, meta, hash, fuzzy, cut, since, body, .. } = value;
                let value = FormerFile { event, meta, hash, fuzzy, cut, since, body };
                Self::File { at, file, value }
            }
            Row::FileGone { at, file } => Self::FileGone { at, file },
            Row::Content { piece, loc } => Self::Content { piece, loc },
            Row::ContentGone { piece } => Self::ContentGone { piece },
            Row::Void { at, body, from } => Self::Void { at, body, from },
            Row::VoidGone { at, body } => Self::VoidGone { at, body },
            Row::Sweep { at, body } => Self::Sweep { at, body },
            Row::Swept { at, body } => Self::Swept { at, body },
            Row::Place { origin, place: OriginState { last, fence, .. } } => {
                Self::Place { origin, place: FormerOriginState { last, fence, mirroring: false } }
            }
            Row::Point { at, point, position } => Self::Point { at, point, position },
            Row::Restore { at, row, position } => Self::Restore { at, row, position },
            Row::Clock { arrival } => Self::Clock { arrival },
        }
    }
}
