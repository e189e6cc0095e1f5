//! The store of a cluster whose primary alone writes: small files in the state folder, each replaced whole and synced.
//!
//! What is read is what was written, or damage that is told: no earlier revision ever takes the place of a damaged one by
//! itself. Whether a revision may hold is decided before it comes here.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use keepshare_base::SetName;
use keepshare_cluster::{Pending, Revision, SIGNED_BYTES_MAX, SignedDocument, SignedError};
use keepshare_host::files::{self, FileError};

/// The file of the revision that holds.
pub const DOCUMENT_FILE: &str = "cluster.doc";

/// The file of the revision that held before.
pub const BEFORE_FILE: &str = "cluster.doc.before";

/// The file of what is kept for a day more.
const PENDING_FILE: &str = "pending.toml";

/// The longest file read here, in bytes.
const FILE_BYTES_MAX: usize = SIGNED_BYTES_MAX + HASH_BYTES;

const HASH_BYTES: usize = 32;

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file cannot be written.
    #[error(transparent)]
    Write(#[from] FileError),
    /// A file is not what was written.
    #[error("{} is damaged", .0.display())]
    Damaged(PathBuf),
    /// A file was written whole, and yet holds no document.
    #[error("{} holds no document", path.display())]
    Document {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: SignedError,
    },
    /// The list of what is kept for a day more cannot be read.
    #[error("{} is not usable: {why}", path.display())]
    Pending {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Another revision holds than the one that was to be replaced.
    #[error("another revision of the document holds meanwhile")]
    Changed,
}

/// The document of a cluster as one station keeps it.
#[derive(Debug)]
pub struct LocalStore {
    dir: PathBuf,
    /// Two that replace the same revision must not both succeed.
    writing: Mutex<()>,
}

impl LocalStore {
    /// Names the folder.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), writing: Mutex::default() }
    }

    /// Returns the revision that holds; its signatures are not verified here.
    pub fn get(&self) -> Result<Option<SignedDocument>, StoreError> {
        self.read(DOCUMENT_FILE)
    }

    /// Returns the revision that held before.
    pub fn before(&self) -> Result<Option<SignedDocument>, StoreError> {
        self.read(BEFORE_FILE)
    }

    /// Has a revision hold in the place of `old`; durable when this returns.
    pub fn replace(&self, old: Option<Revision>, new: &SignedDocument) -> Result<(), StoreError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let held = self.get()?;
        if held.as_ref().map(|held| held.unverified().revision) != old {
            return Err(StoreError::Changed);
        }
        if let Some(held) = held {
            self.write(BEFORE_FILE, &held)?;
        }
        self.write(DOCUMENT_FILE, new)
    }

    /// Returns what is kept for a day more.
    pub fn pending(&self) -> Result<Vec<Pending>, StoreError> {
        let path = self.dir.join(PENDING_FILE);
        let Some(bytes) = read(&path)? else { return Ok(Vec::new()) };
        let unusable = |why: String| StoreError::Pending { path: path.clone(), why };
        let text = String::from_utf8(bytes).map_err(|error| unusable(error.to_string()))?;
        let file: PendingFile =
            toml::from_str(&text).map_err(|error| unusable(error.to_string()))?;
        let rows = file.sets.into_iter().map(|row| {
            let id = row.id.parse().map_err(|error| unusable(format!("{error}")))?;
            Ok(Pending { name: row.name, id, ran_s: row.ran_s })
        });
        rows.collect()
    }

    /// Writes what is kept for a day more; durable when this returns.
    pub fn set_pending(&self, pending: &[Pending]) -> Result<(), StoreError> {
        let row = |Pending { name, id, ran_s }: &Pending| PendingRow {
            name: name.clone(),
            id: id.to_string(),
            ran_s: *ran_s,
        };
        let file = PendingFile { sets: pending.iter().map(row).collect() };
        let text = toml::to_string(&file).expect("names and numbers can be written down");
        let text = format!("# Written by the station itself.\n\n{text}");
        Ok(files::write_synced(&self.dir.join(PENDING_FILE), text.as_bytes(), 0o600)?)
    }

    fn read(&self, name: &str) -> Result<Option<SignedDocument>, StoreError> {
        let path = self.dir.join(name);
        let Some(bytes) = read(&path)? else { return Ok(None) };
        let damaged = || StoreError::Damaged(path.clone());
        let (document, hash) = bytes.split_last_chunk::<HASH_BYTES>().ok_or_else(damaged)?;
        if blake3::hash(document) != *hash {
            return Err(damaged());
        }
        let document = SignedDocument::decode(document);
        document.map(Some).map_err(|source| StoreError::Document { path, source })
    }

    fn write(&self, name: &str, document: &SignedDocument) -> Result<(), StoreError> {
        let mut bytes = document.encode();
        let hash = blake3::hash(&bytes);
        bytes.extend_from_slice(hash.as_bytes());
        Ok(files::write_synced(&self.dir.join(name), &bytes, 0o600)?)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PendingFile {
    #[serde(default, rename = "set")]
    sets: Vec<PendingRow>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PendingRow {
    name: SetName,
    id: String,
    ran_s: u64,
}

/// Reads a small file; one that is not there is none.
fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    let failed = |source| StoreError::Read { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(StoreError::Damaged(path.to_owned()));
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use keepshare_base::{ClusterId, Role, Stamp};
    use keepshare_cluster::{Document, Member, SetId};

    use super::*;

    fn first() -> SignedDocument {
        let mut document = Document::first(ClusterId([7; 16]), Stamp(9));
        document.members.push(Member {
            name: "office".parse().unwrap(),
            role: Role::Primary,
            address: "office:7846".parse().unwrap(),
            joined: Stamp(5),
            certificates: Vec::new(),
        });
        SignedDocument::new(document, vec![3; 72])
    }

    fn next(of: &SignedDocument) -> SignedDocument {
        SignedDocument::new(of.unverified().next(Stamp(10)), vec![4; 72])
    }

    fn revision(of: &SignedDocument) -> Option<Revision> {
        Some(of.unverified().revision)
    }

    /// What the primary wrote last holds after a restart; what held before is there for people.
    #[test]
    fn a_revision_takes_the_place_of_the_one_that_was_meant() {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::new(dir.path());
        assert_eq!(store.get().unwrap(), None);
        let (one, two) = (first(), next(&first()));
        store.replace(None, &one).unwrap();
        assert!(matches!(store.replace(None, &two), Err(StoreError::Changed)));
        store.replace(revision(&one), &two).unwrap();
        assert!(matches!(store.replace(revision(&one), &two), Err(StoreError::Changed)));
        let again = LocalStore::new(dir.path());
        assert_eq!((again.get().unwrap(), again.before().unwrap()), (Some(two), Some(one)));
        let mode = fs::metadata(dir.path().join(DOCUMENT_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    /// Half a document, or yesterday's, would have a station do what nobody decided.
    #[test]
    fn damage_is_told_and_no_older_revision_stands_in() {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::new(dir.path());
        let (one, two) = (first(), next(&first()));
        store.replace(None, &one).unwrap();
        store.replace(revision(&one), &two).unwrap();
        let path = dir.path().join(DOCUMENT_FILE);
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut flipped = good.clone();
            flipped[at] ^= 1;
            fs::write(&path, &flipped).unwrap();
            assert!(matches!(store.get(), Err(StoreError::Damaged(_))), "byte {at}");
            fs::write(&path, &good[..at]).unwrap();
            assert!(matches!(store.get(), Err(StoreError::Damaged(_))), "cut at {at}");
        }
        assert!(matches!(store.replace(revision(&two), &one), Err(StoreError::Damaged(_))));
        fs::write(&path, vec![0; FILE_BYTES_MAX + 1]).unwrap();
        assert!(matches!(store.get(), Err(StoreError::Damaged(_))), "too long");
    }

    /// A day that began counts on after a restart.
    #[test]
    fn what_is_kept_for_a_day_more_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::new(dir.path());
        assert_eq!(store.pending().unwrap(), []);
        let pending = [Pending { name: "work".parse().unwrap(), id: SetId([5; 16]), ran_s: 7 }];
        store.set_pending(&pending).unwrap();
        assert_eq!(LocalStore::new(dir.path()).pending().unwrap(), pending);
        fs::write(dir.path().join(PENDING_FILE), "set = 7").unwrap();
        assert!(matches!(store.pending(), Err(StoreError::Pending { .. })));
    }
}
