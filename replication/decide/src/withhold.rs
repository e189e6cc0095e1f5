//! What is not given of a journaled change, because the content that it builds on cannot be given any more.
//!
//! Content is kept for a while only. Where it is gone and the file is something else by now, that state goes without content
//! and without a cut, as do all later ones that build on it, until the file has been sent whole again: a version is what
//! once was, or it is none.

use std::collections::BTreeMap;

use keepshare_base::{Change, Content, ContentHash, Event, FileId, FileRow, Kind, Seq};

/// Between which changes the content of a file cannot be given: none after the first, before the second.
pub type Stale = BTreeMap<FileId, (Seq, Seq)>;

/// Tells whether the content that a change has of a file is withheld.
pub fn is_withheld(file: FileId, seq: Seq, stale: &Stale) -> bool {
    stale.get(&file).is_some_and(|(after, until)| *after < seq && seq < *until)
}

/// Tells whether something of a change is withheld.
pub fn is_stale(change: &Change, seq: Seq, stale: &Stale) -> bool {
    change.files.iter().any(|row| is_withheld(row.file, seq, stale))
}

/// Takes rows out of a change that build on content that cannot be given.
///
/// A file that is new keeps a row without content, because its name needs it; of others the last whole state stays.
pub fn strip(change: &mut Change, seq: Seq, stale: &Stale) {
    change.cuts.retain(|file| !is_withheld(*file, seq, stale));
    change.files.retain_mut(|row| {
        if !is_withheld(row.file, seq, stale) || row.meta.kind != Kind::File {
            return true;
        }
        let is_first = row.event == Event::Created
            && !matches!(row.content, Content::Extents { fresh: false, .. });
        *row = placeholder(row);
        is_first
    });
}

/// Returns a row that makes a file known and claims nothing of its content.
pub fn placeholder(row: &FileRow) -> FileRow {
    let mut meta = row.meta.clone();
    meta.size = 0;
    let content = Content::Extents { fresh: true, extents: vec![], hash: ContentHash::of(b"") };
    FileRow { meta, content, hash: None, cut: false, fuzzy: false, ..row.clone() }
}
