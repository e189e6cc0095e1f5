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

/// Tells whether something of a change is withheld: a row, or that a state is a version.
pub fn is_stale(change: &Change, seq: Seq, stale: &Stale) -> bool {
    let files = change.files.iter().map(|row| row.file);
    files.chain(change.cuts.iter().copied()).any(|file| is_withheld(file, seq, stale))
}

/// Takes rows out of a change that build on content that cannot be given.
///
/// A file that is new keeps a row without content, because its name needs it; of others the last whole state stays. What was
/// restored is told of before ([`Composer::journal`](crate::compose::Composer::journal)).
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::id;

    /// A state that a destination never had is no version there, whatever else the change tells.
    #[test]
    fn a_cut_alone_is_withheld_too() {
        let stale = Stale::from([(id(1), (Seq(3), Seq(9)))]);
        let cut = Change { cuts: vec![id(1), id(2)], ..Change::default() };
        for (seq, withheld) in [(3, false), (4, true), (8, true), (9, false)] {
            assert_eq!(is_stale(&cut, Seq(seq), &stale), withheld, "{seq}");
            let mut given = cut.clone();
            strip(&mut given, Seq(seq), &stale);
            assert_eq!(given.cuts.contains(&id(1)), !withheld, "{seq}");
            assert!(given.cuts.contains(&id(2)));
        }
    }
}
