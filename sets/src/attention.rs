//! The log says once when something begins for which a person must act, and once when it ends.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::concerns::{Known, News};
use keepshare_control::answers::Concern;

/// How often it is looked whether something has begun or ended.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Logs what begins and what ends of what needs a person, until the station stops.
pub async fn keep(
    look: impl Fn() -> Vec<Concern> + Send + Sync + 'static,
    mut stop: watch::Receiver<bool>,
) {
    let look = Arc::new(look);
    let mut tick = tokio::time::interval(LOOK_EVERY);
    let mut known = Known::default();
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            _ = tick.tick() => {}
        }
        let looking = Arc::clone(&look);
        // A status reads the journal.
        let looked = tokio::task::spawn_blocking(move || looking()).await;
        // Of a station that has begun to stop a status tells nothing: its sets are gone from it.
        if *stop.borrow() {
            return;
        }
        let Ok(concerns) = looked else { continue };
        let News { begun, ended } = known.take(concerns);
        for Concern { about, what, .. } in ended {
            tracing::info!(%about, alarm = %what, "alarm ended");
        }
        for Concern { about, what, .. } in begun {
            tracing::error!(%about, alarm = %what, "alarm: a person must act");
        }
    }
}
