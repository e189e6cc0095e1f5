//! The running clock of whoever drives a machine.

use std::{ops::Add, time::Duration};

/// A moment on the driver's running clock, in microseconds since it began; unmoved by changes of the time of day.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MonoTime(pub u64);

impl MonoTime {
    /// Returns how long after `earlier` this is; nothing where it is before it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for MonoTime {
    type Output = Self;

    fn add(self, after: Duration) -> Self {
        let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(micros))
    }
}
