//! How a copy is thinned at night, how its disk fills meanwhile, and what is told of that.

use std::{
    sync::Weak,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use tokio::sync::watch;

use keepshare_base::Stamp;
use keepshare_control::retention::{RetentionRun, RetentionStatus};
use keepshare_host::clock;

use super::Replica;

/// How often the disk is looked at.
const MEASURE_EVERY: Duration = Duration::from_secs(60 * 60);

impl Replica {
    /// Returns how it is thinned.
    pub(super) fn retention_status(&self) -> Option<RetentionStatus> {
        let (last_run, is_applied) = match self.retention.standing() {
            Ok(standing) => (standing.last_run, standing.is_applied),
            // One that cannot be read is why nothing is removed.
            Err(failure) => {
                let run = RetentionRun::refused(clock::now().to_string(), failure.one_line());
                (Some(run), false)
            }
        };
        let next = || Stamp::from(self.thin_at.next(self.zone, Utc::now())).to_string();
        let (next_run, forecast) = (is_applied.then(next), self.retention.usage().forecast());
        Some(RetentionStatus { last_run, next_run, forecast })
    }

    /// Tells whether the last time at which it was to be thinned passed without.
    pub(super) fn missed_thinning(&self, now: DateTime<Utc>) -> bool {
        self.retention.is_due_since(self.thin_at.last(self.zone, now))
    }

    /// Looks how much of its disk it takes, but not during a mirror: what the first one brings is no growth. Tells whether it did. Blocks.
    fn measure(&self, passed: Duration) -> bool {
        let place = self.reader.view().ok().and_then(|view| view.position(self.origin).ok());
        if place.flatten().is_none_or(|place| place.last.is_none() || place.mirror.is_some()) {
            return false;
        }
        let measured = self.retention.usage().measure(passed);
        if let Err(error) = &measured {
            let error = format!("{error:#}");
            tracing::warn!(set = %self.name, error, "it is not known how the disk fills");
        }
        measured.is_ok()
    }
}

/// Thins a copy on a thread of its own.
pub(super) fn thin(replica: &Weak<Replica>) {
    let Some(replica) = replica.upgrade() else { return };
    if let Some(rollback) = replica.rolling_back() {
        tracing::warn!(set = %replica.name, rollback, "versions are not thinned while a roll-back goes on");
        return;
    }
    tokio::task::spawn_blocking(move || {
        let run = replica.open_store().and_then(|store| replica.retention.run(&store));
        if let Err(failure) = run {
            tracing::error!(set = %replica.name, %failure, "versions were not thinned");
        }
    });
}

/// Looks again and again how much of its disk a copy takes.
pub(super) async fn measure(replica: Weak<Replica>, mut stopping: watch::Receiver<bool>) {
    let mut before = Instant::now();
    loop {
        let Some(measured) = replica.upgrade() else { return };
        let passed = before.elapsed();
        let measured = tokio::task::spawn_blocking(move || measured.measure(passed)).await;
        if measured.is_ok_and(|measured| measured) {
            before += passed;
        }
        tokio::select! {
            () = tokio::time::sleep(MEASURE_EVERY) => {}
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
    }
}
