//! How fast a link may send: a token bucket that is told the time.

use std::time::Duration;

/// How much may be sent at once after a pause: what the limit gives in this time.
const BURST: Duration = Duration::from_millis(100);

/// Spreads bytes over time.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    /// When all that was taken so far is paid for.
    paid_at: Duration,
}

impl Throttle {
    /// Takes `bytes` at `now` and returns how long to wait before sending them; without a limit not at all.
    pub(crate) fn take(
        &mut self,
        now: Duration,
        bytes: usize,
        limit_bytes_per_s: Option<u64>,
    ) -> Duration {
        let Some(limit) = limit_bytes_per_s.filter(|limit| *limit > 0) else {
            self.paid_at = now;
            return Duration::ZERO;
        };
        let price_ns = (bytes as u128 * 1_000_000_000).div_ceil(u128::from(limit));
        let price = Duration::from_nanos(u64::try_from(price_ns).unwrap_or(u64::MAX));
        self.paid_at = self.paid_at.max(now.saturating_sub(BURST)).saturating_add(price);
        self.paid_at.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_holds_over_time_and_a_pause_saves_up_little() {
        let mut throttle = Throttle::default();
        let start = Duration::from_secs(100);
        let mut now = start;
        for _ in 0..100 {
            now += throttle.take(now, 10_000, Some(100_000));
        }
        // 1 MB at 100 kB/s takes ten seconds, less the burst.
        assert_eq!(now - start, Duration::from_millis(9_900));

        now += Duration::from_secs(3600);
        assert_eq!(throttle.take(now, 10_000, Some(100_000)), Duration::ZERO);
        assert_eq!(throttle.take(now, 10_000, Some(100_000)), Duration::from_millis(100));
    }

    #[test]
    fn a_limit_can_come_and_go() {
        let mut throttle = Throttle::default();
        let now = Duration::from_secs(1);
        assert_eq!(throttle.take(now, 1 << 30, None), Duration::ZERO);
        assert_eq!(throttle.take(now, 1000, Some(1000)), Duration::from_secs(1));
        assert_eq!(throttle.take(now, 1 << 30, None), Duration::ZERO);
        assert_eq!(throttle.take(now, 1000, Some(1000)), Duration::from_secs(1));
        assert_eq!(throttle.take(now, 5, Some(0)), Duration::ZERO);
    }
}
