//! Journals that a new epoch ended.
//!
//! What such a journal held and no station had is found in it by whoever needs it; nothing reads it by itself.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use keepshare_base::{Epoch, SetName};
use keepshare_host::files::sync_dir;

/// The most journals kept of one set.
const KEPT_MAX: usize = 2;

/// What must be free beside a copy, in bytes: the journal itself has to go on.
const FREE_BYTES_MIN: u64 = 256 << 20;

/// Copies the journal of a set as that of an epoch that ends. Nobody may write to it meanwhile.
pub(crate) fn keep(folder: &Path, set: &SetName, epoch: Epoch) -> io::Result<()> {
    let from = folder.join(format!("{set}.redb"));
    let disk = rustix::fs::statvfs(folder)?;
    check_space(fs::metadata(&from)?.len(), disk.f_bavail.saturating_mul(disk.f_frsize))?;
    let unfinished = unfinished(folder, set);
    let to = folder.join(format!("{set}.epoch-{epoch}.redb"));
    let copied = copy(&from, &unfinished).and_then(|()| fs::rename(&unfinished, to));
    if let Err(error) = copied {
        forget_unfinished(folder, set)?;
        return Err(error);
    }
    sync_dir(folder)?;
    forget_older(folder, set)
}

/// Removes a copy that did not get done: nobody else would, and it may be most of a full disk.
pub(crate) fn forget_unfinished(folder: &Path, set: &SetName) -> io::Result<()> {
    match fs::remove_file(unfinished(folder, set)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn unfinished(folder: &Path, set: &SetName) -> PathBuf {
    folder.join(format!("{set}.epoch.new"))
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)?;
    File::open(to)?.sync_all()
}

/// Refuses a copy that would leave the journal no space to go on.
fn check_space(bytes: u64, free_bytes: u64) -> io::Result<()> {
    let needed = bytes.saturating_add(FREE_BYTES_MIN);
    if free_bytes < needed {
        let reason = format!("{free_bytes} bytes are free, a copy needs {needed}");
        return Err(io::Error::new(io::ErrorKind::StorageFull, reason));
    }
    Ok(())
}

fn forget_older(folder: &Path, set: &SetName) -> io::Result<()> {
    let mut kept = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if let Some(epoch) = epoch_of(&entry.file_name().to_string_lossy(), set) {
            kept.push((epoch, entry.path()));
        }
    }
    kept.sort_unstable();
    let over = kept.len().saturating_sub(KEPT_MAX);
    kept.iter().take(over).try_for_each(|(_, path)| fs::remove_file(path))
}

/// Returns the epoch in the name of a kept journal of this set.
fn epoch_of(name: &str, set: &SetName) -> Option<u64> {
    let rest = name.strip_prefix(set.as_str())?.strip_prefix(".epoch-")?;
    rest.strip_suffix(".redb")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A copy that fills the disk ends all replication: an ended journal is kept where there is room for it.
    #[test]
    fn a_copy_leaves_the_journal_room_to_go_on() {
        assert!(check_space(2 << 30, 1 << 30).is_err());
        assert!(check_space(2 << 30, (2 << 30) + FREE_BYTES_MIN - 1).is_err());
        assert!(check_space(2 << 30, (2 << 30) + FREE_BYTES_MIN).is_ok());
    }

    #[test]
    fn what_fails_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let set: SetName = "projects".parse().unwrap();
        fs::write(folder.path().join("projects.redb"), "now").unwrap();
        // A folder that is not empty gives its name to no file.
        fs::create_dir_all(folder.path().join("projects.epoch-3.redb/x")).unwrap();
        keep(folder.path(), &set, Epoch::new(3).unwrap()).unwrap_err();
        assert!(!unfinished(folder.path(), &set).exists());
        fs::write(unfinished(folder.path(), &set), "of a start before").unwrap();
        forget_unfinished(folder.path(), &set).unwrap();
        forget_unfinished(folder.path(), &set).unwrap();
        assert!(!unfinished(folder.path(), &set).exists());
    }

    #[test]
    fn the_newest_journals_are_kept_and_those_of_other_sets_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let set: SetName = "projects".parse().unwrap();
        fs::write(folder.path().join("projects.redb"), "now").unwrap();
        fs::write(folder.path().join("projects-2.epoch-1.redb"), "another's").unwrap();
        for epoch in [1, 2, 9, 10] {
            keep(folder.path(), &set, Epoch::new(epoch).unwrap()).unwrap();
        }
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string();
        let mut left: Vec<String> =
            fs::read_dir(folder.path()).unwrap().map(|entry| name(entry).unwrap()).collect();
        left.sort_unstable();
        let want = [
            "projects-2.epoch-1.redb",
            "projects.epoch-10.redb",
            "projects.epoch-9.redb",
            "projects.redb",
        ];
        assert_eq!(left, want);
    }
}
