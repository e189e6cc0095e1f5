//! What made a version.

use serde::{Deserialize, Serialize};

/// What happened to a file, for its history.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// It came to be.
    Created,
    /// Its content changed.
    Saved,
    /// Only its attributes changed.
    Attributes,
    /// An old version was written back.
    Restored,
    /// A mirror brought it: what happened in between is not known.
    Mirrored,
}

impl Event {
    /// Returns what it is called wherever versions are listed.
    pub fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Saved => "saved",
            Self::Attributes => "attributes",
            Self::Restored => "restored",
            Self::Mirrored => "mirrored",
        }
    }
}
