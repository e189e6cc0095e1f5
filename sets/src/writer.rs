//! What is asked of the writer of a copy: between two groups of changes.

use std::{sync::mpsc, time::Duration};

use keepshare_control::{Failure, Outcome};
use keepshare_host::clock;
use keepshare_versioning::{Arrival, Store, retention::Now, set::SetStore};

/// Has work done with the store of a copy and waits for it.
pub(crate) fn on_writer<T: Send + 'static>(
    store: &SetStore,
    work: impl FnOnce(&mut Store) -> anyhow::Result<T> + Send + 'static,
) -> Outcome<T> {
    let ended = || {
        Failure::unavailable("the set's writer has ended").hint(
            "the station is stopping, or keepshare status says what went wrong; restart the station",
        )
    };
    Ok(store.ask_store(work).ok_or_else(ended)??)
}

/// Returns what time it is.
pub(crate) fn arrival() -> Arrival {
    Arrival { clock: clock::now(), up_micros: Some(clock::up_micros()), sent: None }
}

/// How long it is waited for the writer by whoever only wants to know what time it is for a copy: no disk that is written to.
const PATIENCE: Duration = Duration::from_millis(500);

/// Returns what time it is for a copy, where its writer says it soon.
pub(crate) fn now_soon(store: &SetStore) -> Option<Now> {
    let now = arrival();
    let (answer, answered) = mpsc::sync_channel(1);
    store.with_store(move |store| {
        // Whoever asked may have gone on.
        let _ = answer.send(store.running_micros(&now));
    });
    let running_micros = answered.recv_timeout(PATIENCE).ok()?;
    Some(Now { running_micros, clock: now.clock })
}

/// Returns what time it is for a copy.
pub(crate) fn now(store: &SetStore) -> Outcome<Now> {
    let now = arrival();
    let running_micros = on_writer(store, move |store| Ok(store.running_micros(&now)))?;
    Ok(Now { running_micros, clock: now.clock })
}
