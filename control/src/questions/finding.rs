//! Questions about names, wherever they are.

use serde::{Deserialize, Serialize};

use keepshare_base::SetName;

use super::Location;

/// Names that are or were in the sets kept here. What is left out is not said: a station of before knows no such field.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Find {
    /// In which set; in all where none is named.
    #[serde(default)]
    pub set: Option<SetName>,
    /// Only what is or was below this folder. It says the set, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Location>,
    /// What they are like: `*` is anything, `?` one character, a part of a name is enough without.
    pub pattern: String,
    /// Leave out what is there.
    #[serde(default)]
    pub deleted_only: bool,
    /// Only what is other since then, or went since then; as typed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Go on after a name that was found before: its `after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// How many at most: 1 to [`LIMIT_MAX`](super::LIMIT_MAX).
    pub limit: usize,
}
