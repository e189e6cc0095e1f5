//! What a share is made of.

use std::path::PathBuf;

use chrono_tz::Tz;

use keepshare_base::SetName;
use keepshare_versioning::Reader;

/// Numbers a share of a station; part of every handle, and never used again for another set.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ShareId(pub u16);

/// Where `@versions` is listed; it always answers by name.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Show {
    /// In the drive's root alone.
    #[default]
    Root,
    /// Nowhere.
    Never,
    /// In every folder.
    Everywhere,
}

/// What a share is made of.
#[derive(Clone, Debug)]
pub struct ShareConfig {
    /// The share's number, which is in every handle.
    pub id: ShareId,
    /// Its set.
    pub set: SetName,
    /// Reads the set.
    pub reader: Reader,
    /// The zone of typed times without an offset.
    pub zone: Tz,
    /// Where `@versions` is listed.
    pub show: Show,
    /// Keys the hashes of names and of ids, so that nobody can make two collide.
    pub key: [u8; 32],
    /// A folder of the file system whose room is shown as the drive's.
    pub room: PathBuf,
}
