//! What is written down of a copy's retention: `docs/formats/retention.md`.

use serde::{Deserialize, Serialize};

use keepshare_control::{Code, Failure, Outcome, retention::RetentionRun};
use keepshare_versioning::{ASIDE_MICROS, retention::Policy};

/// The format; those before it are read: 2 did not know which run was the last, 1 knew of no removals either.
const FORMAT: u32 = 3;

/// The oldest format that is read.
const FORMER: u32 = 1;

/// The most runs that are remembered.
const REMOVALS_MAX: usize = 64;

/// What is written down: `docs/formats/retention.md`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    format: u32,
    /// The policy as `KEY=VALUE`s; the one that sets begin with where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) policy: Option<String>,
    /// The policy of the last plan that was applied by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) applied: Option<String>,
    /// What came of the last run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) last_run: Option<RetentionRun>,
    /// The running time at which the last run began that was not refused, by hand or by itself, in microseconds: what was settled then
    /// is what a station hesitates to remove by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reviewed_micros: Option<u64>,
    /// Runs that removed something which may still come back, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) removals: Vec<Removal>,
}

/// What a run removed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Removal {
    /// The running time of the set when it began, in microseconds.
    pub(super) since_micros: u64,
    /// How many versions went and did not come back; 0 while it runs, and where the station broke off in it.
    pub(super) removed: u64,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            format: FORMAT,
            policy: None,
            applied: None,
            last_run: None,
            reviewed_micros: None,
            removals: Vec::new(),
        }
    }
}

impl Written {
    /// Returns the policy.
    pub(super) fn policy(&self) -> Outcome<Policy> {
        let said = self.policy.as_deref().unwrap_or_default();
        Policy::default()
            .with(said.split_whitespace())
            .map_err(|error| Failure::because(Code::Failed, error))
    }

    /// Notes what a run removed, and forgets what cannot come back any more.
    pub(super) fn note_removal(&mut self, removal: Removal) {
        let is_over = |other: &Removal| {
            other.since_micros.saturating_add(ASIDE_MICROS) <= removal.since_micros
        };
        self.removals.retain(|other| !is_over(other));
        let over = (self.removals.len() + 1).saturating_sub(REMOVALS_MAX);
        self.removals.drain(..over);
        self.removals.push(removal);
    }

    /// Notes how many versions a run removed.
    pub(super) fn went(&mut self, since_micros: u64, removed: u64) {
        if let Some(removal) = self.of_run(since_micros) {
            removal.removed = removed;
        }
        self.removals.retain(|removal| removal.removed > 0);
    }

    /// Notes that versions came back that went then.
    pub(super) fn came_back(&mut self, since_micros: u64, count: u64) {
        if let Some(removal) = self.of_run(since_micros) {
            removal.removed = removal.removed.saturating_sub(count);
        }
    }

    /// Returns the run that removed what went then: the last that had begun.
    fn of_run(&mut self, since_micros: u64) -> Option<&mut Removal> {
        self.removals.iter_mut().rfind(|removal| removal.since_micros <= since_micros)
    }

    /// Returns when the run began that removed what went then.
    pub(super) fn began(&self, since_micros: u64) -> u64 {
        let known = self.removals.iter().rfind(|removal| removal.since_micros <= since_micros);
        known.map_or(since_micros, |removal| removal.since_micros)
    }

    /// Returns how many versions went since then that did not come back.
    pub(super) fn gone_since(&self, since_micros: u64) -> u64 {
        let since = self.removals.iter().filter(|removal| removal.since_micros >= since_micros);
        since.map(|removal| removal.removed).fold(0, u64::saturating_add)
    }
}

/// Reads what was written; a newer format is refused by its number.
pub(super) fn read_written(text: &str) -> Outcome<Written> {
    #[derive(Deserialize)]
    struct Header {
        format: u32,
    }
    let Header { format } = toml::from_str(text).map_err(anyhow::Error::new)?;
    if !(FORMER..=FORMAT).contains(&format) {
        return Err(Failure::refused(format!(
            "its format is {format}; this release reads {FORMAT}"
        ))
        .hint("a newer release wrote it: start that one"));
    }
    let written: Written = toml::from_str(text).map_err(anyhow::Error::new)?;
    Ok(Written { format: FORMAT, ..written })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000_000;

    fn removal(hours: u64, removed: u64) -> Removal {
        Removal { since_micros: hours * HOUR, removed }
    }

    #[test]
    fn what_went_is_counted_for_a_day() {
        let mut written = Written::default();
        for hours in [0, 1, 23] {
            written.note_removal(removal(hours, 10));
        }
        assert_eq!(written.gone_since(0), 30);
        assert_eq!(written.gone_since(HOUR), 20);
        // What went a while after it began is the same run's.
        written.came_back(23 * HOUR + 5, 7);
        assert_eq!((written.began(22 * HOUR), written.began(23 * HOUR + 5)), (HOUR, 23 * HOUR));
        assert_eq!(written.gone_since(HOUR), 13);
        written.note_removal(removal(24, 1));
        assert_eq!(written.removals, [removal(1, 10), removal(23, 3), removal(24, 1)]);
        let text = toml::to_string(&written).unwrap();
        assert_eq!(read_written(&text).unwrap().removals, written.removals);
        for _ in 0..200 {
            written.note_removal(removal(24, 1));
        }
        assert_eq!(written.removals.len(), REMOVALS_MAX);
    }

    /// A policy that was set before runs were remembered goes on to hold.
    #[test]
    fn former_formats_are_read() {
        for former in 1..FORMAT {
            let text = format!("format = {former}\napplied = \"last=3\"");
            let read = read_written(&text).unwrap();
            assert_eq!((read.format, read.applied.as_deref()), (FORMAT, Some("last=3")));
            assert!(read.removals.is_empty() && read.reviewed_micros.is_none());
        }
    }
}
