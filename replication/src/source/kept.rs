//! Journals that a new epoch ended.
//!
//! What such a journal held and no station had is found in it by whoever needs it; nothing reads it by itself.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use keepshare_base::{Epoch, SetName};

/// The most journals kept of one set.
const KEPT_MAX: usize = 2;

/// Copies the journal of a set as that of an epoch that ends. Nobody may write to it meanwhile.
pub(crate) fn keep(folder: &Path, set: &SetName, epoch: Epoch) -> io::Result<()> {
    let from = folder.join(format!("{set}.redb"));
    let unfinished = folder.join(format!("{set}.epoch.new"));
    fs::copy(&from, &unfinished)?;
    File::open(&unfinished)?.sync_all()?;
    fs::rename(&unfinished, folder.join(format!("{set}.epoch-{epoch}.redb")))?;
    File::open(folder)?.sync_all()?;
    forget_older(folder, set)
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
