//! How a copy is thinned at night, and what is told of it.

use std::sync::Weak;

use super::Replica;

/// Thins a copy on a thread of its own.
pub(super) fn thin(replica: &Weak<Replica>) {
    let Some(replica) = replica.upgrade() else { return };
    tokio::task::spawn_blocking(move || {
        let run = replica.open_store().and_then(|store| replica.retention.run(&store));
        if let Err(failure) = run {
            tracing::error!(set = %replica.name, %failure, "versions were not thinned");
        }
    });
}
