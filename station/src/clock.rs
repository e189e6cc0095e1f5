//! The clocks: this crate and what it drives get the time from here and nowhere else.

use std::{
    sync::{Arc, OnceLock},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use rustls::time_provider::{DefaultTimeProvider, TimeProvider};

use keepshare_base::Stamp;
use keepshare_proto::MonoTime;

/// Returns the time of day.
pub(crate) fn now() -> Stamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Stamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Returns for how long this machine has been up, its sleep included, in microseconds.
pub(crate) fn up_micros() -> u64 {
    let up = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let secs = u64::try_from(up.tv_sec).unwrap_or(0);
    secs.saturating_mul(1_000_000).saturating_add(u64::try_from(up.tv_nsec).unwrap_or(0) / 1000)
}

/// Returns the running clock, which no change of the time of day moves.
pub(crate) fn mono() -> MonoTime {
    static START: OnceLock<Instant> = OnceLock::new();
    let since = START.get_or_init(Instant::now).elapsed();
    MonoTime(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// Returns how many whole seconds ago that was.
pub(crate) fn seconds_since(then: MonoTime) -> u64 {
    mono().since(then).as_secs()
}

/// Returns the instant at which [`mono`] shows `at`.
pub(crate) fn instant(at: MonoTime) -> tokio::time::Instant {
    tokio::time::Instant::now() + at.since(mono())
}

/// Returns the clock that certificates are judged by.
pub(crate) fn tls() -> Arc<dyn TimeProvider> {
    Arc::new(DefaultTimeProvider)
}
