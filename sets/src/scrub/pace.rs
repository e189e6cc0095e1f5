//! How fast a copy is gone through.

use serde::Deserialize;

use keepshare_control::{Failure, Outcome};

/// In how many days a pass is to be through, where nothing else is said.
const DAYS: u32 = 30;

/// The most of it that is read in a second, where nothing else is said, in MiB.
const MIB_PER_S: u32 = 8;

/// The most days that can be said: beyond, bits rot faster than they are read.
const DAYS_MAX: u32 = 365;

/// The most that can be said to be read in a second, in MiB.
const MIB_PER_S_MAX: u32 = 1024;

/// So much is read in a second at least, in bytes: a small copy is through within hours.
const BYTES_PER_S_MIN: u64 = 256 * 1024;

/// How fast a copy is gone through.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pace {
    days: u32,
    mib_per_s: u32,
}

/// The table `[scrub]` of a config as it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScrubTable {
    days: Option<u32>,
    mib_per_s: Option<u32>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { days: DAYS, mib_per_s: MIB_PER_S }
    }
}

impl Pace {
    /// Reads the table of a config.
    pub fn parse(ScrubTable { days, mib_per_s }: ScrubTable) -> Outcome<Self> {
        let read = |key: &str, said: Option<u32>, or: u32, max: u32| match said {
            None => Ok(or),
            Some(number) if (1..=max).contains(&number) => Ok(number),
            Some(number) => Err(Failure::usage(format!("scrub.{key} is {number}"))
                .hint(format!("write 1 to {max}; keepshare scrub pause stops it for a while"))),
        };
        Ok(Self {
            days: read("days", days, DAYS, DAYS_MAX)?,
            mib_per_s: read("mib_per_s", mib_per_s, MIB_PER_S, MIB_PER_S_MAX)?,
        })
    }

    /// Returns how many bytes are read in a second of a copy of this size.
    pub(super) fn bytes_per_s(self, bytes: u64) -> u64 {
        let most = u64::from(self.mib_per_s) * 1024 * 1024;
        let in_time = bytes / (u64::from(self.days) * 24 * 60 * 60);
        in_time.max(BYTES_PER_S_MIN).min(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_is_through_in_time_and_never_faster_than_said() {
        let pace = Pace::default();
        assert_eq!(pace.bytes_per_s(1 << 30), BYTES_PER_S_MIN);
        // 10 TiB in 30 days are 4 MiB a second.
        let ten = pace.bytes_per_s(10 << 40);
        assert!((4_200_000..4_300_000).contains(&ten), "{ten}");
        assert_eq!(pace.bytes_per_s(1 << 50), 8 << 20);
        let said = ScrubTable { days: Some(1), mib_per_s: Some(100) };
        assert_eq!(Pace::parse(said).unwrap().bytes_per_s(1 << 50), 100 << 20);
        for (days, mib_per_s) in [(Some(0), None), (Some(366), None), (None, Some(0))] {
            assert!(Pace::parse(ScrubTable { days, mib_per_s }).is_err());
        }
    }
}
