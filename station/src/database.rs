//! Opens the small databases of a station.

use std::path::Path;

use anyhow::Context;

use crate::files;

/// What a database may keep in memory, in bytes.
const CACHE_BYTES: usize = 16 << 20;

/// Opens a database, making it where there is none.
pub(crate) fn open(path: &Path) -> anyhow::Result<redb::Database> {
    if let Some(dir) = path.parent() {
        files::create_private_dir(dir)?;
    }
    redb::Database::builder()
        .set_cache_size(CACHE_BYTES)
        .create(path)
        .with_context(|| format!("cannot open {}", path.display()))
}
