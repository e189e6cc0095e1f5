//! Writes down now and then when sessions were used last.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use keepshare_auth::Accounts;
use keepshare_host::clock;

/// How often the times of use of the sessions are written down.
const FLUSH_EVERY: Duration = Duration::from_secs(60);

/// Writes the times of use of the sessions down, now and then and at the end.
pub(crate) async fn keep(accounts: Arc<Accounts>, mut stop: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(FLUSH_EVERY);
    loop {
        let stops = tokio::select! {
            _ = tick.tick() => false,
            _ = stop.wait_for(|stop| *stop) => true,
        };
        let sessions = accounts.sessions().clone();
        let flushed = tokio::task::spawn_blocking(move || sessions.flush(clock::now())).await;
        match flushed {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let error = format!("{:#}", anyhow::Error::new(error));
                tracing::error!(%error, "cannot write down when sessions were used");
            }
            Err(error) => tracing::error!(%error, "writing down the sessions failed"),
        }
        if stops {
            return;
        }
    }
}
