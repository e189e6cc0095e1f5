//! Points: named moments, for how long they stay, and their end.

use keepshare_base::{CommitId, POINT_NOTICE_MICROS, PointRow, Position};

use super::{Room, Store};
use crate::{
    PointInfo,
    error::CommitError,
    index::{IndexError, Rows, commits},
    moment::Arrival,
    record::{PointValue, Row},
};

/// The most points of a set: a master that makes them without end must not have all versions kept. Those beyond are not taken: none
/// that is there goes for them, or a master that was taken over could end points at once by making others.
pub const POINTS_MAX: usize = 4096;

/// Returns the rows of what a change says of a point; `now` is the running time. A point that is not here, because only a mirror
/// brought what it was of, is passed over.
pub(super) fn said(
    rows: &impl Rows,
    (at, position): (CommitId, Position),
    now: u64,
    said: &PointRow,
) -> Result<Vec<Row>, IndexError> {
    let after = |micros: u64| now.saturating_add(micros);
    let (point, said) = match said {
        PointRow::Made { point, lasts_micros } => {
            let known = commits::points(rows, CommitId(0), POINTS_MAX)?;
            if known.len() == POINTS_MAX {
                tracing::error!(
                    name = point.name,
                    "there are too many points; this one is not kept"
                );
                return Ok(Vec::new());
            }
            let ends = lasts_micros.map_or(u64::MAX, after);
            let value = PointValue { ends, ..PointValue::new(point.clone(), position) };
            return Ok(vec![Row::KeptPoint { at, value }]);
        }
        PointRow::Held { point, .. }
        | PointRow::Released { point }
        | PointRow::Removed { point } => (*point, said),
    };
    let Some(at) = commits::commit_of(rows, point)? else { return Ok(Vec::new()) };
    let Some(mut value) = commits::point(rows, at)? else { return Ok(Vec::new()) };
    match said {
        PointRow::Held { lasts_micros, .. } => {
            value.held = value.held.max(lasts_micros.map_or(u64::MAX, after));
        }
        PointRow::Released { .. } => value.held = value.held.min(after(POINT_NOTICE_MICROS)),
        PointRow::Made { .. } | PointRow::Removed { .. } => {
            value.ends = value.ends.min(after(POINT_NOTICE_MICROS));
        }
    }
    Ok(vec![Row::KeptPoint { at, value }])
}

impl Store {
    /// Ends points whose time has come. Returns whether there were any; they are gone with the next sync. It looks at them only
    /// when one may have to end.
    pub fn end_points(&mut self, arrival: impl Into<Arrival>) -> Result<bool, CommitError> {
        let now = self.clock.tell(&arrival.into()).running_micros;
        if self.next_end.is_some_and(|next| now < next) {
            return Ok(false);
        }
        self.check_writable(Room::Reserve)?;
        let points = self.asked(|rows| commits::points(rows, CommitId(0), POINTS_MAX))?;
        let ended: Vec<Row> = points
            .iter()
            .filter(|point| point.until() <= now)
            .map(|point| Row::PointGone { at: point.commit })
            .collect();
        let later = points.iter().map(PointInfo::until).filter(|until| *until > now);
        let next = later.min().unwrap_or(u64::MAX);
        if !ended.is_empty() {
            self.append_own(&ended)?;
        }
        self.next_end = Some(next);
        Ok(!ended.is_empty())
    }

    /// Has this station keep a point whatever its master says of it, or leave that to the master again. `None` where there is none of
    /// this position.
    pub fn keep_point(
        &mut self,
        position: Position,
        kept_here: bool,
    ) -> Result<Option<CommitId>, CommitError> {
        let Some((at, value)) = self.point_of(position)? else { return Ok(None) };
        self.append_own(&[Row::KeptPoint { at, value: PointValue { kept_here, ..value } }])?;
        Ok(Some(at))
    }

    /// Ends a point at this station, at once. `None` where there is none of this position.
    pub fn drop_point(&mut self, position: Position) -> Result<Option<CommitId>, CommitError> {
        let Some((at, _)) = self.point_of(position)? else { return Ok(None) };
        self.append_own(&[Row::PointGone { at }])?;
        Ok(Some(at))
    }

    fn point_of(
        &mut self,
        position: Position,
    ) -> Result<Option<(CommitId, PointValue)>, CommitError> {
        self.check_writable(Room::Reserve)?;
        self.next_end = None;
        Ok(self.asked(|rows| {
            let Some(at) = commits::commit_of(rows, position)? else { return Ok(None) };
            Ok(commits::point(rows, at)?.map(|value| (at, value)))
        })?)
    }
}
