//! Small secret files: written whole or not at all, and readable by their owner only.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// The longest file read here, in bytes; ours have about two thousand.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Why a file of the identity cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is there already.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// Others may read it, so the key in it is no secret any more.
    #[error("{} holds a private key and others may read it (mode {mode:o}); it must be 600", path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is longer than such a file can be.
    #[error("{} is longer than {FILE_BYTES_MAX} bytes", .0.display())]
    TooLong(PathBuf),
}

/// Reads a file that holds a private key.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let failed = |source| FileError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(FileError::Exposed { path: path.to_owned(), mode });
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(FileError::TooLong(path.to_owned()));
    }
    Ok(bytes)
}

/// Puts `bytes` in the place of `name`, durably: after a crash the file is the old one or the new one, whole.
///
/// With `fresh` a file that exists is left alone and reported.
pub(crate) fn write(dir: &Path, name: &str, bytes: &[u8], fresh: bool) -> Result<(), FileError> {
    let path = dir.join(name);
    let failed = |source| FileError::Write { path: path.clone(), source };
    make_dir(dir).map_err(failed)?;
    let temporary = dir.join(format!(".{name}.new"));
    // Left by a crash, or by nobody: nothing reads it.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let mut file =
        options.write(true).create_new(true).mode(0o600).open(&temporary).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    if fresh {
        // A link fails where a rename would replace.
        let linked = fs::hard_link(&temporary, &path);
        fs::remove_file(&temporary).map_err(failed)?;
        match linked {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(FileError::Exists(path));
            }
            linked => linked.map_err(failed)?,
        }
    } else {
        fs::rename(&temporary, &path).map_err(failed)?;
    }
    sync_dir(dir).map_err(failed)
}

fn make_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    DirBuilder::new().mode(0o700).recursive(true).create(dir)?;
    dir.parent().filter(|parent| parent.is_dir()).map_or(Ok(()), sync_dir)
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("identity");
        write(&inner, "key", b"secret", true).unwrap();
        assert_eq!(read(&inner.join("key")).unwrap(), b"secret");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&inner), mode(&inner.join("key"))), (0o700, 0o600));

        fs::set_permissions(inner.join("key"), fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(read(&inner.join("key")), Err(FileError::Exposed { mode: 0o640, .. })));
    }

    /// `init` run twice must not replace the key that every certificate of the cluster hangs on.
    #[test]
    fn a_fresh_file_never_replaces_one() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "key", b"one", true).unwrap();
        assert!(matches!(write(dir.path(), "key", b"two", true), Err(FileError::Exists(_))));
        assert_eq!(read(&dir.path().join("key")).unwrap(), b"one");
        write(dir.path(), "key", b"three", false).unwrap();
        assert_eq!(read(&dir.path().join("key")).unwrap(), b"three");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a temporary file was left");
    }
}
