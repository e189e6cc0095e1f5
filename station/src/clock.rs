//! The clocks: this crate and what it drives get the time from here and nowhere else.

use std::{
    sync::{Arc, OnceLock},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use rustls::{pki_types::UnixTime, time_provider::TimeProvider};

use keepshare_base::Stamp;
use keepshare_proto::MonoTime;

/// Returns the time of day.
pub fn now() -> Stamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Stamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Returns for how long this machine has been up, its sleep included, in microseconds.
pub fn up_micros() -> u64 {
    let up = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let secs = u64::try_from(up.tv_sec).unwrap_or(0);
    secs.saturating_mul(1_000_000).saturating_add(u64::try_from(up.tv_nsec).unwrap_or(0) / 1000)
}

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

/// Returns the instant at which [`mono`] shows `at`.
pub fn instant(at: MonoTime) -> tokio::time::Instant {
    tokio::time::Instant::now() + at.since(mono())
}

/// Returns the clock that certificates are judged by.
pub fn tls() -> Arc<dyn TimeProvider> {
    Arc::new(TlsClock)
}

/// The time of day; a clock that was set to before 1970 shows 1970, where the usual provider would panic.
#[derive(Debug)]
struct TlsClock;

impl TimeProvider for TlsClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix_time(SystemTime::now()))
    }
}

fn unix_time(at: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(at.duration_since(UNIX_EPOCH).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A clock that was set wrong must not end a link's thread for good.
    #[test]
    fn a_time_before_1970_is_no_panic() {
        let second = Duration::from_secs(1);
        assert_eq!(unix_time(UNIX_EPOCH - second).as_secs(), 0);
        assert_eq!(unix_time(UNIX_EPOCH + second).as_secs(), 1);
    }
}
