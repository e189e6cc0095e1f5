//! The machine's clocks. Whatever is told the time is told it from here.

use std::time::{SystemTime, UNIX_EPOCH};

use keepshare_base::Stamp;

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
