//! Opens the small databases of a station.

use std::{fs::OpenOptions, os::unix::fs::OpenOptionsExt, path::Path};

use anyhow::Context;

use crate::files;

/// What a database may keep in memory, in bytes.
const CACHE_BYTES: usize = 16 << 20;

/// Opens a database, making it where there is none.
pub(crate) fn open(path: &Path) -> anyhow::Result<redb::Database> {
    if let Some(dir) = path.parent() {
        files::create_private_dir(dir)?;
    }
    // Made with the right mode first: what is inside is nobody else's business, whatever the umask is.
    let mut options = OpenOptions::new();
    let made = options.write(true).create(true).truncate(false).mode(0o600).open(path);
    made.with_context(|| format!("cannot open {}", path.display()))?;
    redb::Database::builder()
        .set_cache_size(CACHE_BYTES)
        .create(path)
        .with_context(|| format!("cannot open {}", path.display()))
}
