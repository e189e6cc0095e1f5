//! Spans of time as people type them: `30s`, `10m`, `12h`, `14d`, `8w`, `2y`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

const SECOND: u64 = 1_000_000;

/// The units, the longest first: what stands behind the number, and how many microseconds one is. A year is 365 days.
const UNITS: [(char, u64); 6] = [
    ('y', 365 * 86_400 * SECOND),
    ('w', 7 * 86_400 * SECOND),
    ('d', 86_400 * SECOND),
    ('h', 3_600 * SECOND),
    ('m', 60 * SECOND),
    ('s', SECOND),
];

/// The longest span, in years.
const YEARS_MAX: u64 = 1000;

/// How long something lasts, in microseconds, a thousand years at most.
#[derive(
    Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Span(u64);

/// A text is no span.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0:?} is no span of time: write a whole number and s, m, h, d, w or y, as in 12h or 90d")]
pub struct SpanError(String);

impl Span {
    /// No time at all.
    pub const NONE: Self = Self(0);

    /// Returns a span of whole days.
    pub const fn days(days: u32) -> Self {
        Self(days as u64 * 86_400 * SECOND)
    }

    /// Returns a span of whole hours.
    pub const fn hours(hours: u32) -> Self {
        Self(hours as u64 * 3_600 * SECOND)
    }

    /// Returns a span of whole minutes.
    pub const fn minutes(minutes: u32) -> Self {
        Self(minutes as u64 * 60 * SECOND)
    }

    /// Returns how many microseconds it has.
    pub fn micros(self) -> u64 {
        self.0
    }
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let wrong = || SpanError(text.chars().take(64).collect());
        if text == "0" {
            return Ok(Self::NONE);
        }
        let unit = text.chars().last().ok_or_else(wrong)?;
        let (_, micros) = UNITS.iter().find(|(known, _)| *known == unit).ok_or_else(wrong)?;
        let digits = &text[..text.len() - 1];
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        let span = digits.parse::<u64>().ok().and_then(|count| count.checked_mul(*micros));
        span.filter(|span| *span <= YEARS_MAX * UNITS[0].1).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for Span {
    /// Writes it in the longest unit that it is a whole number of, but weeks and years, which people count in days.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0");
        }
        let mut units = UNITS.iter().filter(|(unit, _)| !matches!(unit, 'w' | 'y'));
        match units.find(|(_, micros)| self.0.is_multiple_of(*micros)) {
            Some((unit, micros)) => write!(f, "{}{unit}", self.0 / micros),
            None => write!(f, "{} µs", self.0),
        }
    }
}

impl TryFrom<String> for Span {
    type Error = SpanError;

    fn try_from(text: String) -> Result<Self, SpanError> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_written() {
        for (text, micros, written) in [
            ("0", 0, "0"),
            ("0d", 0, "0"),
            ("90s", 90 * SECOND, "90s"),
            ("120s", 120 * SECOND, "2m"),
            ("24h", 86_400 * SECOND, "1d"),
            ("36h", 36 * 3_600 * SECOND, "36h"),
            ("2w", 14 * 86_400 * SECOND, "14d"),
            ("1y", 365 * 86_400 * SECOND, "365d"),
            ("1000y", 365_000 * 86_400 * SECOND, "365000d"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!((span.micros(), span.to_string().as_str()), (micros, written), "{text}");
            assert_eq!(written.parse(), Ok(span));
        }
        for text in [
            "",
            "d",
            "5",
            "-1d",
            "+1d",
            "1.5h",
            "1 d",
            "1D",
            "1001y",
            "99999999999999999999d",
            "1µ",
            "é",
        ] {
            assert!(text.parse::<Span>().is_err(), "{text:?}");
        }
    }
}
