//! Bursts: many files of a set that turn, within minutes, into what no longer reads as what they were.
//!
//! That is what ransomware leaves, and what a person wants to hear of at once. [`Watch`] looks at what changed since it looked last and
//! says when it is too much; `Tally` is the rule alone. Whoever asks has what was before kept: nothing is decided here. What it
//! counts is lost with the station's process: a burst that a restart falls into is told of when the rest of it is one.

use std::{fmt, num::ParseIntError};

use crate::retention::{Span, SpanError};

mod look;
mod tally;

pub use look::{Burst, Looked, Watch};

use tally::Tally;

/// Fewer files than this are no burst, however few a set has: people encrypt a folder of theirs, too.
pub const FILES_MIN: u64 = 20;

/// The longest time in which files are counted.
const WITHIN_MAX: Span = Span::days(1);

/// The most files that can be asked for.
const FILES_MAX: u64 = 60_000;

/// From how much on it is a burst.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rule {
    /// It is looked for bursts at all.
    pub is_on: bool,
    /// More files than this that were rewritten or deleted…
    pub files: u64,
    /// …or more than this many percent of those of the set, but [`FILES_MIN`] at least…
    pub share: u64,
    /// …within this time of the set's running here…
    pub within: Span,
    /// …where this many percent of them no longer read as what they were.
    pub spoiled: u64,
}

impl Default for Rule {
    fn default() -> Self {
        Self { is_on: true, files: 500, share: 20, within: TEN_MINUTES, spoiled: 70 }
    }
}

/// Ten minutes.
const TEN_MINUTES: Span = Span::minutes(10);

/// What was said of a rule is none.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RuleError {
    /// There is no such key.
    #[error(
        "{0:?} is nothing that can be said of alarms: write watch, files, share, within or spoiled, as in files=500"
    )]
    NoKey(String),
    /// What is said of a key is no number.
    #[error("{key} is a number, as in {key}={example}")]
    NoNumber {
        /// The key.
        key: &'static str,
        /// A number that it could be.
        example: u64,
        /// Why what was said is none.
        source: ParseIntError,
    },
    /// A number is out of bounds.
    #[error("{key} is {from} to {to}")]
    Bounds {
        /// The key.
        key: &'static str,
        /// The least.
        from: u64,
        /// The most.
        to: u64,
    },
    /// What is said of `watch`.
    #[error("watch is on or off")]
    Watch,
    /// What is said of `within` is no span of time.
    #[error(transparent)]
    Span(#[from] SpanError),
    /// A span is out of bounds.
    #[error("within is 1m to {WITHIN_MAX}")]
    Within,
}

impl Rule {
    /// Returns the same with what is said as `KEY=VALUE`s.
    pub fn with<'s>(mut self, said: impl IntoIterator<Item = &'s str>) -> Result<Self, RuleError> {
        for said in said {
            let no_key = || RuleError::NoKey(said.chars().take(64).collect());
            let (key, value) = said.split_once('=').ok_or_else(no_key)?;
            match key {
                "watch" => self.is_on = on_or_off(value)?,
                "files" => self.files = number(value, "files", (1, FILES_MAX), 500)?,
                "share" => self.share = number(value, "share", (1, 100), 20)?,
                "spoiled" => self.spoiled = number(value, "spoiled", (1, 100), 70)?,
                "within" => self.within = within(value.parse()?)?,
                _ => return Err(no_key()),
            }
        }
        Ok(self)
    }

    /// Returns how many files are too many in a set of so many.
    fn files_of(&self, count: u64) -> u64 {
        let share = count.saturating_mul(self.share) / 100;
        self.files.min(share.max(FILES_MIN))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { is_on, files, share, within, spoiled } = self;
        let watch = if *is_on { "on" } else { "off" };
        write!(f, "watch={watch} files={files} share={share} within={within} spoiled={spoiled}")
    }
}

fn on_or_off(value: &str) -> Result<bool, RuleError> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(RuleError::Watch),
    }
}

fn number(
    value: &str,
    key: &'static str,
    (from, to): (u64, u64),
    example: u64,
) -> Result<u64, RuleError> {
    // People write 20% where percent are meant.
    let digits = value.strip_suffix('%').unwrap_or(value);
    let number: u64 =
        digits.parse().map_err(|source| RuleError::NoNumber { key, example, source })?;
    let is_within = (from..=to).contains(&number);
    is_within.then_some(number).ok_or(RuleError::Bounds { key, from, to })
}

fn within(span: Span) -> Result<Span, RuleError> {
    let is_within = (Span::minutes(1)..=WITHIN_MAX).contains(&span);
    is_within.then_some(span).ok_or(RuleError::Within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_as_they_are_written() {
        let rule = Rule::default();
        assert_eq!(rule.to_string(), "watch=on files=500 share=20 within=10m spoiled=70");
        let other = rule.with(["watch=off", "files=7", "share=5%", "within=2h"]).unwrap();
        assert_eq!(Rule::default().with(other.to_string().split(' ')).unwrap(), other);
        for wrong in ["files", "files=0", "share=101", "within=5s", "within=2d", "watch=no", "x=1"]
        {
            rule.with([wrong]).unwrap_err();
        }
    }

    #[test]
    fn a_share_counts_in_small_sets_only_and_never_a_handful() {
        let rule = Rule::default();
        let files = [0, 50, 100, 1_000, 2_500, 1_000_000].map(|count| rule.files_of(count));
        assert_eq!(files, [20, 20, 20, 200, 500, 500]);
    }
}
