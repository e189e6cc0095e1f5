//! Sessions as they go on: when they were used last is written down now and then, and whose they are is told to what goes on for long.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use keepshare_auth::{Accounts, Principal, SessionId};
use keepshare_base::SetName;
use keepshare_host::clock;
use keepshare_namespace::Logins;

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

/// The users of this station, for whatever they ordered that still goes on.
#[derive(Debug)]
pub(crate) struct UsersHere(pub(crate) Arc<Accounts>);

impl Logins for UsersHere {
    fn principal(&self, session: u64, set: &SetName) -> Option<Arc<Principal>> {
        let user = self.0.holder(SessionId(session)).unwrap_or_else(|error| {
            let error = format!("{:#}", anyhow::Error::new(error));
            tracing::error!(%error, "cannot read whose login it is that something was ordered with");
            None
        });
        user.filter(|user| user.sets.allow(set)).map(|user| Arc::new(user.principal()))
    }
}
