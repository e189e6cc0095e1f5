//! The machine's clock as certificates are judged by it.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use rustls::{pki_types::UnixTime, time_provider::TimeProvider};

/// Returns the machine's clock as certificates are judged by it.
pub fn machine_clock() -> Arc<dyn TimeProvider> {
    Arc::new(MachineClock)
}

/// The time of day; a clock that was set to before 1970 shows 1970, where the usual provider would panic.
#[derive(Debug)]
struct MachineClock;

impl TimeProvider for MachineClock {
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
