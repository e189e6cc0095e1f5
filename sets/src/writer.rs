//! What is asked of the writer of a copy: between two groups of changes.

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

/// Returns what time it is for a copy.
pub(crate) fn now(store: &SetStore) -> Outcome<Now> {
    let now = arrival();
    let running_micros = on_writer(store, move |store| Ok(store.running_micros(&now)))?;
    Ok(Now { running_micros, clock: now.clock })
}
