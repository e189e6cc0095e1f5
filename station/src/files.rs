//! Small files written so that after a power cut there is the old one or the new one, never half of one.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::Context;

/// Writes `bytes` to `path`, durable when it returns.
pub fn write_synced(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let temporary = temporary_of(path);
    let write = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_dir_of(path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Makes a folder and those above it, readable by nobody else.
pub fn create_private_dir(path: &Path) -> anyhow::Result<()> {
    create_dir(path, 0o700)
}

fn create_dir(path: &Path, mode: u32) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .with_context(|| format!("cannot create the folder {}", path.display()))
}

/// What was made for something that may yet fail; gone again unless it is kept.
#[derive(Debug, Default)]
pub struct Tentative {
    dirs: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

impl Tentative {
    /// Makes a folder and those above it.
    pub fn dir(&mut self, path: &Path, mode: u32) -> anyhow::Result<()> {
        let missing = path.ancestors().take_while(|dir| !dir.as_os_str().is_empty());
        let mut missing: Vec<PathBuf> =
            missing.take_while(|dir| !dir.exists()).map(Path::to_owned).collect();
        missing.reverse();
        self.dirs.extend(missing);
        create_dir(path, mode)
    }

    /// Is told of a file before it is made; one that is there already stays.
    pub fn file(&mut self, path: &Path) {
        if !path.exists() {
            self.files.push(path.to_owned());
        }
    }

    /// Keeps everything.
    pub fn keep(mut self) {
        self.dirs.clear();
        self.files.clear();
    }
}

impl Drop for Tentative {
    fn drop(&mut self) {
        // Best effort: what cannot be removed, such as a folder that somebody has put something into, stays.
        for file in self.files.drain(..).rev() {
            let _ = fs::remove_file(file);
        }
        for dir in self.dirs.drain(..).rev() {
            let _ = fs::remove_dir(dir);
        }
    }
}

/// Tells why no file can be made in a folder, without leaving one.
pub fn try_to_write_in(dir: &Path) -> anyhow::Result<()> {
    let probe = dir.join(".keepshare.new");
    let mut options = OpenOptions::new();
    let tried = options.write(true).create(true).truncate(true).mode(0o600).open(&probe);
    tried
        .and_then(|_| fs::remove_file(&probe))
        .with_context(|| format!("cannot write into the folder {}", dir.display()))
}

fn temporary_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

fn sync_dir_of(path: &Path) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_kept_is_gone_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("a/b"));
        fs::write(&old, "old").unwrap();
        let mut made = Tentative::default();
        made.dir(&new, 0o700).unwrap();
        for file in [&old, &new.join("file")] {
            made.file(file);
            fs::write(file, "new").unwrap();
        }
        drop(made);
        assert!(old.exists() && !dir.path().join("a").exists());
        let mut made = Tentative::default();
        made.dir(&new, 0o700).unwrap();
        made.keep();
        assert!(new.exists());
    }
}
