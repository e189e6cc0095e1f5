//! Small secret files: readable by their owner only, or they are no secret.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use keepshare_host::files;

/// The longest file read here, in bytes; ours have about two thousand.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Why a file of the identity cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
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
    #[error(transparent)]
    Write(#[from] files::FileError),
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
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, SecretError> {
    let failed = |source| SecretError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SecretError::Exposed { path: path.to_owned(), mode });
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(SecretError::TooLong(path.to_owned()));
    }
    Ok(bytes)
}

/// Puts `bytes` in the place of `name` in a folder that is nobody else's.
///
/// With `fresh` a file that exists is left alone and reported.
pub(crate) fn write(dir: &Path, name: &str, bytes: &[u8], fresh: bool) -> Result<(), SecretError> {
    files::create_private_dir(dir)?;
    let write = if fresh { files::write_new_synced } else { files::write_synced };
    Ok(write(&dir.join(name), bytes, 0o600)?)
}

#[cfg(test)]
mod tests {
    use std::fs;

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
        assert!(matches!(read(&inner.join("key")), Err(SecretError::Exposed { mode: 0o640, .. })));
    }

    /// `init` run twice must not replace the key that every certificate of the cluster hangs on.
    #[test]
    fn a_fresh_file_never_replaces_one() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "key", b"one", true).unwrap();
        let again = write(dir.path(), "key", b"two", true);
        assert!(matches!(again, Err(SecretError::Write(files::FileError::Exists(_)))));
        assert_eq!(read(&dir.path().join("key")).unwrap(), b"one");
        write(dir.path(), "key", b"three", false).unwrap();
        assert_eq!(read(&dir.path().join("key")).unwrap(), b"three");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a temporary file was left");
    }
}
