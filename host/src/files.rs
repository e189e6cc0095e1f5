//! Small files written so that after a power cut there is the old one or the new one, never half of one, and private folders.
//!
//! What is there when a function returns is there after a power cut, too: a file, its name, and every folder that was made for
//! it are synced.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Why a file or folder could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// A file could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file that was to be new is there already.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// A folder could not be made.
    #[error("cannot create the folder {}", path.display())]
    Folder {
        /// Which folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No file can be made in a folder.
    #[error("cannot write into the folder {}", path.display())]
    Closed {
        /// Which folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Puts `bytes` in the place of a file, or makes it.
pub fn write_synced(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    write(path, bytes, mode, |temporary| fs::rename(temporary, path))
}

/// Makes a file; one that is there is left alone and reported.
pub fn write_new_synced(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    // A link fails where a rename would replace.
    let link = |temporary: &Path| {
        fs::hard_link(temporary, path)?;
        fs::remove_file(temporary)
    };
    write(path, bytes, mode, link).map_err(|error| match error {
        FileError::Write { path, source } if source.kind() == io::ErrorKind::AlreadyExists => {
            FileError::Exists(path)
        }
        error => error,
    })
}

/// Makes a folder and those above it, readable by nobody else.
pub fn create_private_dir(path: &Path) -> Result<(), FileError> {
    create_dir(path, 0o700, &mut Vec::new())
}

/// What was made for something that may yet fail; gone again unless it is kept.
#[derive(Debug, Default)]
pub struct Tentative {
    dirs: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

impl Tentative {
    /// Makes a folder and those above it.
    pub fn dir(&mut self, path: &Path, mode: u32) -> Result<(), FileError> {
        create_dir(path, mode, &mut self.dirs)
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
pub fn try_to_write_in(dir: &Path) -> Result<(), FileError> {
    let probe = dir.join(".keepshare.new");
    let tried = make_anew(&probe, 0o600).and_then(|_| fs::remove_file(&probe));
    tried.map_err(|source| FileError::Closed { path: dir.to_owned(), source })
}

/// Makes the names in a folder durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes the name of a file or folder durable.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    sync_dir(parent.unwrap_or(Path::new(".")))
}

/// Writes a file under another name, and has it put in its place.
fn write(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    place: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<(), FileError> {
    let temporary = temporary_of(path);
    let write = || -> io::Result<()> {
        let mut file = make_anew(&temporary, mode)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        place(&temporary)
    };
    let written = write().inspect_err(|_| {
        // A full disk needs the space, and nobody reads it.
        let _ = fs::remove_file(&temporary);
    });
    let synced = written.and_then(|()| sync_parent(path));
    synced.map_err(|source| FileError::Write { path: path.to_owned(), source })
}

/// Makes an empty file with this mode, whatever has its name.
fn make_anew(path: &Path, mode: u32) -> io::Result<File> {
    // Left by a crash, or by nobody.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
}

/// Makes a folder and those above it that are missing, which are added to `made`.
fn create_dir(path: &Path, mode: u32, made: &mut Vec<PathBuf>) -> Result<(), FileError> {
    let above = path.ancestors().take_while(|dir| !dir.as_os_str().is_empty());
    let missing: Vec<&Path> = above.take_while(|dir| !dir.is_dir()).collect();
    for dir in missing.into_iter().rev() {
        let created = match DirBuilder::new().mode(mode).create(dir) {
            Ok(()) => {
                made.push(dir.to_owned());
                sync_parent(dir)
            }
            // Somebody else was faster.
            Err(_) if dir.is_dir() => Ok(()),
            Err(error) => Err(error),
        };
        created.map_err(|source| FileError::Folder { path: path.to_owned(), source })?;
    }
    Ok(())
}

fn temporary_of(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

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

    /// `init` run twice must not replace the key that every certificate of the cluster hangs on.
    #[test]
    fn a_new_file_never_replaces_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_new_synced(&path, b"one", 0o600).unwrap();
        let again = write_new_synced(&path, b"two", 0o600);
        assert!(matches!(again, Err(FileError::Exists(exists)) if exists == path));
        assert_eq!(fs::read(&path).unwrap(), b"one");
        write_synced(&path, b"three", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a temporary file was left");
    }

    /// What a crash left under the temporary name may be readable by all, and may even be a link to somewhere else.
    #[test]
    fn a_secret_goes_into_no_file_that_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("key"), dir.path().join("other"));
        fs::write(&other, "other").unwrap();
        std::os::unix::fs::symlink(&other, temporary_of(&path)).unwrap();
        write_synced(&path, b"secret", 0o600).unwrap();
        assert_eq!((mode(&path), fs::read(&other).unwrap()), (0o600, b"other".to_vec()));
        fs::write(temporary_of(&path), "left").unwrap();
        fs::set_permissions(temporary_of(&path), fs::Permissions::from_mode(0o644)).unwrap();
        write_synced(&path, b"secret", 0o600).unwrap();
        assert_eq!(mode(&path), 0o600);
    }

    /// A file that cannot be put in its place leaves nothing behind.
    #[test]
    fn a_file_that_fails_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("taken");
        fs::create_dir(&path).unwrap();
        assert!(matches!(write_synced(&path, b"text", 0o600), Err(FileError::Write { .. })));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a temporary file was left");
    }

    #[test]
    fn private_folders_are_nobody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a/b");
        create_private_dir(&inner).unwrap();
        create_private_dir(&inner).unwrap();
        assert_eq!((mode(&dir.path().join("a")), mode(&inner)), (0o700, 0o700));
        fs::write(dir.path().join("file"), "").unwrap();
        let under_a_file = create_private_dir(&dir.path().join("file/c"));
        assert!(matches!(under_a_file, Err(FileError::Folder { .. })));
        assert!(try_to_write_in(&inner).is_ok() && fs::read_dir(&inner).unwrap().count() == 0);
        assert!(matches!(try_to_write_in(&dir.path().join("none")), Err(FileError::Closed { .. })));
    }
}
