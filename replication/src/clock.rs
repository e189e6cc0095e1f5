//! The running clock that the machines of `keepshare-proto` are told.

use std::{sync::OnceLock, time::Instant};

use keepshare_proto::MonoTime;

/// Returns the running clock, which no change of the time of day moves.
pub fn mono() -> MonoTime {
    static START: OnceLock<Instant> = OnceLock::new();
    let since = START.get_or_init(Instant::now).elapsed();
    MonoTime(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// Returns how many whole seconds ago that was.
pub fn seconds_since(then: MonoTime) -> u64 {
    mono().since(then).as_secs()
}

/// Sleeps until [`mono`] shows `at`, or for ever.
pub async fn sleep_until(at: Option<MonoTime>) {
    match at {
        Some(at) => tokio::time::sleep(at.since(mono())).await,
        None => std::future::pending().await,
    }
}
