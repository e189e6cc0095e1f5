//! Points of a set on its master.

use std::time::{Duration, Instant};

use anyhow::Context;
use keepshare_base::{Point, PointRow, Position, StationName};
use keepshare_control::{Failure, Outcome};
use keepshare_replication::source::{PointMade, SourceError};

use super::Master;

/// How long it is waited until stations that have a link have heard of a point.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is looked whether they have.
const LOOK_EVERY: Duration = Duration::from_millis(10);

impl Master {
    /// Makes a point of all that was saved until now; `held` says whether it is held, and for how many microseconds. Blocks.
    pub fn make_point(
        &self,
        point: Point,
        lasts_micros: Option<u64>,
        held: Option<Option<u64>>,
    ) -> Outcome<(PointMade, Vec<StationName>)> {
        let made = self.source.point(point, lasts_micros);
        if matches!(made, Err(SourceError::NotLooked)) {
            return Err(Failure::unavailable(format!(
                "the folder of set {} is gone through, and not all of it is known yet",
                self.name
            ))
            .hint("try again when keepshare status says that it is in sync"));
        }
        let made = made.with_context(|| format!("cannot make a point of set {}", self.name))?;
        let mut last = made.position;
        if let Some(lasts_micros) = held {
            let row = PointRow::Held { point: made.position, lasts_micros };
            last = self.source.of_point(row).context("the point is made, and cannot be held")?;
        }
        Ok((made, self.missing(last)))
    }

    /// Says of a point for how long it stays. Blocks; returns which stations have not heard of it.
    pub fn say_of_point(&self, row: PointRow) -> Outcome<Vec<StationName>> {
        let said = self.source.of_point(row);
        let last =
            said.with_context(|| format!("nothing can be said of points of set {}", self.name))?;
        Ok(self.missing(last))
    }

    /// Waits until all stations that have a link have a change; returns those that do not.
    fn missing(&self, last: Position) -> Vec<StationName> {
        let until = Instant::now() + PATIENCE;
        let lacks = |to: &&StationName| {
            let acked = self.source.acked_by(to.as_str());
            acked.is_none_or(|acked| acked < last.seq) || self.source.head().epoch != last.epoch
        };
        loop {
            let missing: Vec<&StationName> = self.to().filter(lacks).collect();
            let is_waiting = missing.iter().any(|to| self.is_connected(to));
            if !is_waiting || Instant::now() >= until || *self.stopping.borrow() {
                return missing.into_iter().cloned().collect();
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}
