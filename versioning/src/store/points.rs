//! Points: named moments, for how long they stay, and their end.

use std::collections::HashMap;

use keepshare_base::{
    CommitId, OriginId, POINT_NOTICE_MICROS, Point, PointRow, Position, Schedule,
};

use super::{Room, Store};
use crate::{
    PointInfo,
    error::CommitError,
    index::{IndexError, Rows, commits},
    moment::{Arrival, Told},
    record::{PointValue, Row},
};

/// The most points of a set: a master that makes them without end must not have all versions kept. Those beyond are not taken: none
/// that is there goes for them, or a master that was taken over could end points at once by making others.
pub const POINTS_MAX: usize = 4096;

/// The most points that there can be: those that masters make, and those that a station holds by itself.
pub const POINTS_IN_ALL_MAX: usize = POINTS_MAX + 16;

/// What became of a commit that a station holds by itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Held {
    /// What its point is called: as was said, or as it was called already.
    pub name: String,
    /// The station kept it already, whatever its master says.
    pub was_kept: bool,
}

/// Tells of points, oldest first, which are among the last of their schedule: those stay also after their time.
pub fn among_last(points: &[PointInfo]) -> Vec<bool> {
    let mut counts = HashMap::<(OriginId, u64), u32>::new();
    let is_among = |point: &PointInfo| {
        point.schedule.is_some_and(|schedule| {
            let of_schedule = (point.position.origin, schedule.every_micros);
            let count = counts.entry(of_schedule).or_default();
            *count += 1;
            *count <= schedule.keep
        })
    };
    let mut among: Vec<bool> = points.iter().rev().map(is_among).collect();
    among.reverse();
    among
}

/// Returns the rows of what a change says of a point. A point that is not here, because only a mirror brought what it was of, is
/// passed over.
pub(super) fn said(
    rows: &impl Rows,
    (at, position): (CommitId, Position),
    told: &Told,
    said: &PointRow,
) -> Result<Vec<Row>, IndexError> {
    let after = |micros: u64| told.running_micros.saturating_add(micros);
    let (point, said) = match said {
        PointRow::Made { point, lasts_micros } => {
            let ends = lasts_micros.map_or(u64::MAX, after);
            let value = PointValue { ends, ..PointValue::new(point.clone(), position) };
            return made(rows, at, told, value, None);
        }
        PointRow::Scheduled { point, schedule } => {
            let ends = after(schedule.lasts_micros());
            let value = PointValue { ends, ..PointValue::new(point.clone(), position) };
            return made(rows, at, told, value, Some(*schedule));
        }
        PointRow::Unscheduled { every_micros } => {
            return unscheduled(rows, position.origin, *every_micros, after(POINT_NOTICE_MICROS));
        }
        PointRow::Held { point, .. }
        | PointRow::Released { point }
        | PointRow::Removed { point } => (*point, said),
    };
    let Some(at) = commits::commit_of(rows, point)? else { return Ok(Vec::new()) };
    let Some((mut value, mut schedule)) = commits::point(rows, at)? else {
        return Ok(Vec::new());
    };
    match said {
        PointRow::Held { lasts_micros, .. } => {
            value.held = value.held.max(lasts_micros.map_or(u64::MAX, after));
        }
        PointRow::Released { .. } => value.held = value.held.min(after(POINT_NOTICE_MICROS)),
        _ => {
            // One of a schedule may be there after its time, and has its day from now on, too.
            let ends = if schedule.is_some() { u64::MAX } else { value.ends };
            value.ends = ends.min(after(POINT_NOTICE_MICROS));
            schedule = None;
        }
    }
    Ok(vec![value.row(at, schedule)])
}

/// Returns the rows of a point that is made.
fn made(
    rows: &impl Rows,
    at: CommitId,
    told: &Told,
    value: PointValue,
    schedule: Option<Schedule>,
) -> Result<Vec<Row>, IndexError> {
    let mut out = Vec::new();
    if commits::has_points(rows, POINTS_MAX)? {
        let known = commits::points(rows, CommitId(0), POINTS_IN_ALL_MAX)?;
        let Some(gone) = late(rows, told, &known)? else {
            let name = &value.point.name;
            tracing::error!(name, "there are too many points; this one is not kept");
            return Ok(out);
        };
        out.push(Row::PointGone { at: gone });
    }
    out.push(value.row(at, schedule));
    Ok(out)
}

/// Returns the first point of a schedule that others of it have followed, so many as stay, and that was made so long ago that its time
/// would be over, had it not come late: there are many such where a station was away for long. No master makes one older than it is.
fn late(
    rows: &impl Rows,
    told: &Told,
    known: &[PointInfo],
) -> Result<Option<CommitId>, IndexError> {
    for (point, is_among_last) in known.iter().zip(among_last(known)) {
        let Some(schedule) = point.schedule.filter(|_| !is_among_last) else { continue };
        if point.kept_here || point.held > told.running_micros {
            continue;
        }
        let lasts = i64::try_from(schedule.lasts_micros()).unwrap_or(i64::MAX);
        let info = commits::commit_info(rows, point.commit)?;
        if info.is_some_and(|info| told.arrival.micros_since(info.moment) > lasts) {
            return Ok(Some(point.commit));
        }
    }
    Ok(None)
}

/// Returns the rows by which points of a schedule stay for their time alone, and until `notice` at least.
fn unscheduled(
    rows: &impl Rows,
    origin: OriginId,
    every_micros: u64,
    notice: u64,
) -> Result<Vec<Row>, IndexError> {
    let known = commits::points(rows, CommitId(0), POINTS_IN_ALL_MAX)?;
    let is_of = |point: &PointInfo| {
        point.position.origin == origin
            && point.schedule.is_some_and(|schedule| schedule.every_micros == every_micros)
    };
    let rows = known.into_iter().filter(is_of).map(|point| {
        let PointInfo { commit, point, position, ends, held, kept_here, .. } = point;
        let value = PointValue { point, position, ends: ends.max(notice), held, kept_here };
        Row::KeptPoint { at: commit, value }
    });
    Ok(rows.collect())
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
        let points = self.asked(|rows| commits::points(rows, CommitId(0), POINTS_IN_ALL_MAX))?;
        let ended: Vec<Row> = points
            .iter()
            .zip(among_last(&points))
            .filter(|(point, is_among_last)| point.until() <= now && !is_among_last)
            .map(|(point, _)| Row::PointGone { at: point.commit })
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
        let Some((at, value, schedule)) = self.point_of(position)? else { return Ok(None) };
        self.append_own(&[PointValue { kept_here, ..value }.row(at, schedule)])?;
        Ok(Some(at))
    }

    /// Has this station keep the set as it was at a commit, whatever its master says: as a point of that name, or as the point that is
    /// there. Whoever holds few enough says so at most [`POINTS_IN_ALL_MAX`] less [`POINTS_MAX`] times. `None` where the commit is not
    /// known any more.
    pub fn hold_commit(&mut self, at: CommitId, point: Point) -> Result<Option<Held>, CommitError> {
        self.check_writable(Room::Reserve)?;
        let found = self.asked(|rows| {
            let Some(commit) = commits::commit(rows, at)? else { return Ok(None) };
            Ok(Some((commit.position, commits::point(rows, at)?)))
        })?;
        let Some((position, there)) = found else { return Ok(None) };
        let was_kept = there.as_ref().is_some_and(|(value, _)| value.kept_here);
        let (value, schedule) = there.unwrap_or_else(|| (PointValue::new(point, position), None));
        let name = value.point.name.clone();
        if !was_kept {
            self.append_own(&[PointValue { kept_here: true, ..value }.row(at, schedule)])?;
        }
        Ok(Some(Held { name, was_kept }))
    }

    /// Ends a point at this station, at once. `None` where there is none of this position.
    pub fn drop_point(&mut self, position: Position) -> Result<Option<CommitId>, CommitError> {
        let Some((at, ..)) = self.point_of(position)? else { return Ok(None) };
        self.append_own(&[Row::PointGone { at }])?;
        Ok(Some(at))
    }

    fn point_of(
        &mut self,
        position: Position,
    ) -> Result<Option<(CommitId, PointValue, Option<Schedule>)>, CommitError> {
        self.check_writable(Room::Reserve)?;
        self.next_end = None;
        Ok(self.asked(|rows| {
            let Some(at) = commits::commit_of(rows, position)? else { return Ok(None) };
            Ok(commits::point(rows, at)?.map(|(value, schedule)| (at, value, schedule)))
        })?)
    }
}
