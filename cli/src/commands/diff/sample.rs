//! Entries for the tests.

use keepshare_base::{ContentHash, Kind, Meta, Name};
use keepshare_control::answers::ShownEntry;

use super::tree::Change;

/// Returns an entry below the folder, one itself where its path ends in a slash; of this version where that is not empty.
pub(super) fn entry(path: &str, version: &str, content: &str) -> ShownEntry {
    let kind = if path.is_empty() || path.ends_with('/') { Kind::Dir } else { Kind::File };
    let names = path.split('/').filter(|name| !name.is_empty());
    let is_file = kind == Kind::File;
    let size = if is_file { content.len() as u64 } else { 0 };
    ShownEntry {
        path: names.map(|name| Name::new(name.as_bytes()).unwrap()).collect(),
        meta: Meta { kind, size, mode: 0o644, ..Meta::unknown() },
        version: (!version.is_empty()).then(|| format!("v1.1.{version}")),
        hash: is_file.then(|| ContentHash::of(content.as_bytes())),
        same_as: None,
        damaged: None,
        uncut: None,
    }
}

/// Returns a difference as a text.
pub(super) fn shown(change: &Change) -> String {
    let path: Vec<String> = change.path().iter().map(ToString::to_string).collect();
    format!("{:?} {}", change.what, path.join("/"))
}
