//! Opens sets again that could not be opened for lack of space: nobody should have to restart a station that only waited.

use std::{sync::Arc, time::Duration};

use crate::service::Station;

/// How often it is tried.
const EVERY: Duration = Duration::from_secs(10);

/// Tries until the station stops.
pub(crate) async fn keep(station: Arc<Station>) {
    let mut stopping = station.stopping();
    let mut tick = tokio::time::interval(EVERY);
    loop {
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            _ = tick.tick() => {}
        }
        let again = Arc::clone(&station);
        let tried = tokio::task::spawn_blocking(move || again.reopen_full_sets()).await;
        if let Err(error) = tried {
            tracing::error!(%error, "opening sets again failed");
        }
    }
}
