//! Where a station keeps what belongs to its sets.

use std::path::{Path, PathBuf};

use keepshare_base::SetName;

/// The paths of sets inside a station's state folder.
#[derive(Clone, Debug)]
pub struct SetDirs(PathBuf);

impl SetDirs {
    /// Names the state folder.
    pub fn new(state: &Path) -> Self {
        Self(state.to_owned())
    }

    /// Returns the state folder itself.
    pub fn state(&self) -> &Path {
        &self.0
    }

    /// Where all journals are.
    pub fn journals(&self) -> PathBuf {
        self.0.join("journal")
    }

    /// Where the journal of a set is, on its master.
    pub fn journal(&self, set: &SetName) -> PathBuf {
        self.journals().join(format!("{set}.redb"))
    }

    /// Where it is written down when points of a set are made, on its master.
    pub fn points(&self, set: &SetName) -> PathBuf {
        self.journals().join(format!("{set}.points.toml"))
    }

    /// Where content waits for destinations that lag, on a set's master.
    pub fn spool(&self, set: &SetName) -> PathBuf {
        self.journals().join(format!("{set}.spool"))
    }

    /// Where content of a restore waits until it is whole, on a set's master.
    pub fn restores(&self, set: &SetName) -> PathBuf {
        self.journals().join(format!("{set}.restores"))
    }

    /// Where a set is that is kept.
    pub fn copy(&self, set: &SetName) -> PathBuf {
        self.0.join("sets").join(set.as_str())
    }
}
