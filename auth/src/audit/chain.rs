//! How lines of the audit log hang together: each says its number and the hash of the line before.
//!
//! The hash has no key: whoever may write the log may read every key of the station as well. So the chain alone shows what was
//! changed by somebody who did not write all later lines anew; who did is shown by a [`Head`] that is kept elsewhere.

use std::{fmt, str::FromStr};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

/// The hash of a line, all its bytes but the newline.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct LineHash([u8; 32]);

/// What a line is before which there is none.
pub(super) const NOTHING: LineHash = LineHash([0; 32]);

/// How long a chain is, and what it ends with: it says what all lines up to there were.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Head {
    /// The number of the last line, of which the first has 1.
    pub count: u64,
    /// The hash of that line.
    pub hash: LineHash,
}

/// A text that is no head.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("'{0}' is not COUNT:HASH, as keepshare audit show --head prints it")]
pub struct HeadError(String);

/// What a line says of its place; unknown of one that was written before lines had one.
#[derive(Debug, Deserialize)]
pub(super) struct Place {
    pub(super) n: Option<u64>,
    pub(super) before: Option<String>,
    /// It is the first of its file.
    #[serde(default)]
    pub(super) opens: bool,
    #[serde(default)]
    pub(super) time: String,
    #[serde(default)]
    pub(super) event: String,
}

/// A line with its place.
#[derive(Serialize)]
struct Linked<'a, L> {
    n: u64,
    before: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    opens: bool,
    #[serde(flatten)]
    line: &'a L,
}

impl Head {
    /// What there is before the first line.
    pub(super) const START: Self = Self { count: 0, hash: NOTHING };

    /// Returns the bytes of the next line, without its newline.
    pub(super) fn link(self, line: &impl Serialize, opens: bool) -> serde_json::Result<Vec<u8>> {
        let before = self.hash.to_string();
        serde_json::to_vec(&Linked { n: self.count.saturating_add(1), before, opens, line })
    }

    /// Returns the head behind a further line.
    pub(super) fn after(self, line: &[u8]) -> Self {
        Self { count: self.count.saturating_add(1), hash: LineHash::of(line) }
    }
}

impl LineHash {
    pub(super) fn of(line: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("keepshare audit line v1");
        Self(*hasher.update(line).finalize().as_bytes())
    }
}

impl fmt::Display for LineHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", HEXLOWER.encode_display(&self.0))
    }
}

impl fmt::Debug for LineHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.count, self.hash)
    }
}

impl FromStr for Head {
    type Err = HeadError;

    fn from_str(text: &str) -> Result<Self, HeadError> {
        let read = || {
            let (count, hash) = text.split_once(':')?;
            let is_number = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
            let count = is_number.then(|| count.parse().ok())?.filter(|count| *count > 0)?;
            let hash = HEXLOWER.decode(hash.as_bytes()).ok()?.try_into().ok()?;
            Some(Self { count, hash: LineHash(hash) })
        };
        read().ok_or_else(|| HeadError(text.chars().take(100).collect()))
    }
}

impl Serialize for Head {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Head {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_typed_as_they_are_shown() {
        let head = Head::START.after(b"line");
        assert_eq!(head.to_string().parse(), Ok(head));
        let hash = "0".repeat(64);
        for wrong in ["", "1", "1:", "1:00", &format!("0:{hash}"), &format!("+1:{hash}")] {
            assert!(wrong.parse::<Head>().is_err(), "{wrong}");
        }
    }
}
