//! What follows the commits of a copy: names that Windows cannot show, and bursts.

use std::{
    sync::Weak,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use keepshare_control::Outcome;
use keepshare_versioning::{
    burst::{Burst, Rule, Watch},
    retention::Now,
    set::SetStore,
};

use super::Replica;
use crate::{asking::read_failure, writer::now_soon};

/// How often it is looked whether there are new commits.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Follows a copy until it stops.
pub(super) async fn follow(replica: Weak<Replica>, mut stopping: watch::Receiver<bool>) {
    let mut watch = None::<Watch>;
    loop {
        let Some(here) = replica.upgrade() else { return };
        let began = Instant::now();
        let looked = tokio::task::spawn_blocking(move || {
            let has_more = here.look(&mut watch);
            (watch, has_more)
        });
        // After a fault it begins anew.
        let (went_on, has_more) = looked.await.unwrap_or((None, false));
        watch = went_on;
        // It takes half of a core at most, whatever comes.
        let rest = if has_more { began.elapsed() } else { LOOK_EVERY };
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
    }
}

impl Replica {
    /// Looks at the next commits; tells whether there are more. Blocks.
    fn look(&self, watch: &mut Option<Watch>) -> bool {
        let Ok(store) = self.open_store() else { return false };
        let hidden = self.hidden.refresh(&self.reader);
        if let Err(error) = &hidden {
            tracing::debug!(%error, "cannot look for names that Windows cannot show");
        }
        let has_more = self.look_for_bursts(&store, watch).unwrap_or_else(|failure| {
            tracing::debug!(set = %self.name, %failure, "cannot look for bursts");
            false
        });
        if let (Ok(hidden), Some(watch)) = (hidden, watch) {
            store.followed(hidden.min(watch.through()));
        }
        has_more
    }

    fn look_for_bursts(&self, store: &SetStore, watch: &mut Option<Watch>) -> Outcome<bool> {
        // A writer that is busy says it the next time; nothing of what changes is missed.
        let Some(now) = now_soon(store) else { return Ok(false) };
        let watch = match watch {
            Some(watch) => watch,
            None => {
                let latest = self.reader.view().map_err(read_failure)?.latest();
                watch.insert(Watch::new(latest))
            }
        };
        if self.alarms.end_what_is_over(now.running_micros)? {
            self.alarms.settle(store)?;
        }
        // A rule that cannot be read keeps nothing unseen.
        let rule = self.alarms.rule().unwrap_or_else(|_| Rule::default());
        let looked = watch.look(&self.reader, &rule, now.running_micros).map_err(read_failure)?;
        if let Some(burst) = looked.burst.filter(|_| rule.is_on) {
            self.hear(&burst, now);
        }
        Ok(looked.has_more)
    }

    fn hear(&self, burst: &Burst, now: Now) {
        if let Err(failure) = self.alarms.hear(burst, now) {
            tracing::error!(set = %self.name, %failure, "a burst cannot be written down");
        }
    }
}
