//! Opens the databases beside the stores: the journal of a set, and the station's users and sessions.

use std::{path::Path, sync::Arc};

use anyhow::Context;

use keepshare_control::{Code, Failure, Outcome};
use keepshare_host::{
    checked::{CheckedError, forget_plain},
    disk::{Disk, RealDisk},
    files,
    shared::{DbOptions, SharedDb},
};

/// What a database may keep in memory, in bytes.
const CACHE_BYTES: usize = 16 << 20;

/// What to do about a journal that cannot be used.
pub const JOURNAL_HINT: &str = "take the journal from a backup, or stop the station, move the file away and start \
                                       it: everything is compared again, and what is equal is not sent";

/// What to do about users and sessions that cannot be used.
const AUTH_HINT: &str = "take auth.redb from a backup; without one, move it away: users are added anew, stations join anew, \
                         and the files are not concerned";

/// Opens a set's journal, making it where there is none.
///
/// A commit of it costs one sync. After a loss of power a damaged newest commit is gone back behind, which shows at the
/// next handshake and is made good by a mirror.
pub fn open_journal(path: &Path) -> Outcome<SharedDb> {
    open(
        path,
        DbOptions { cache_bytes: CACHE_BYTES, two_phases: false, heals: false },
        JOURNAL_HINT,
    )
}

/// Opens users, sessions and members, making them where there are none.
pub fn open_auth(path: &Path) -> Outcome<SharedDb> {
    open(path, DbOptions { cache_bytes: CACHE_BYTES, two_phases: true, heals: true }, AUTH_HINT)
}

/// Says that a database was used and closed in order: what it was made of is not needed any more.
pub fn closed(path: &Path) {
    let forgotten = place(path).and_then(|(disk, name)| Ok(forget_plain(&*disk, name)?));
    if let Err(error) = forgotten {
        tracing::warn!(error = format!("{error:#}"), "an old database stays");
    }
}

fn open(path: &Path, options: DbOptions, hint: &str) -> Outcome<SharedDb> {
    if let Some(dir) = path.parent() {
        files::create_private_dir(dir).map_err(anyhow::Error::new)?;
    }
    let (disk, name) = place(path)?;
    let shown = path.display();
    SharedDb::open(disk, name, options).map_err(|error| {
        let is_damaged = matches!(error, CheckedError::Damaged(_));
        let failure = Failure::because(Code::Failed, error).context(format!("cannot open {shown}"));
        if is_damaged { failure.hint_if_none(hint) } else { failure }
    })
}

/// Returns the folder of a database and its name there. The station's lock keeps others out.
fn place(path: &Path) -> anyhow::Result<(Arc<dyn Disk>, &str)> {
    let name = path.file_name().and_then(|name| name.to_str());
    let (Some(dir), Some(name)) = (path.parent(), name) else {
        anyhow::bail!("{} is no place for a database", path.display());
    };
    let disk = RealDisk::open_shared(dir);
    let disk = disk.with_context(|| format!("cannot open the folder {}", dir.display()))?;
    Ok((Arc::new(disk), name))
}
