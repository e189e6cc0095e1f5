//! What is not given of a journaled change, because the content that it builds on cannot be given any more.
//!
//! Content is kept for a while only. Where it is gone and the file is something else by now, that state goes without content
//! and without a cut, as do all later ones that build on it, until the file has been sent whole again: a version is what
//! once was, or it is none.

use std::collections::{BTreeMap, BTreeSet};

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
/// A file that is new keeps a row without content, because its name needs it; of others the last whole state stays.
pub fn strip(change: &mut Change, seq: Seq, stale: &Stale) {
    change.cuts.retain(|file| !is_withheld(*file, seq, stale));
    let targets = change.names.iter().filter_map(|row| row.target);
    let named: BTreeSet<FileId> = targets.map(|(file, _)| file).collect();
    change.files.retain_mut(|row| {
        if !is_withheld(row.file, seq, stale) || row.meta.kind != Kind::File {
            return true;
        }
        // What was restored under a name that nothing had is new as well.
        let may_be_first = match row.event {
            Event::Created => true,
            Event::Restored => named.contains(&row.file),
            _ => false,
        };
        let is_first =
            may_be_first && !matches!(row.content, Content::Extents { fresh: false, .. });
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
    use keepshare_base::{FileTime, Meta, NameRow, Owner};

    use super::*;
    use crate::tests::{id, name};

    /// A name never shows a file that nobody has: a change that said so would be refused.
    #[test]
    fn what_was_restored_under_a_new_name_is_known_without_its_content() {
        let meta = Meta {
            kind: Kind::File,
            size: 4,
            mode: 0o644,
            owner: Owner::default(),
            group: Owner::default(),
            mtime: FileTime::default(),
            symlink: vec![],
            rdev: 0,
            xattrs: vec![],
        };
        let row = |counter, event| FileRow {
            file: id(counter),
            event,
            meta: meta.clone(),
            content: Content::whole(b"lost"),
            hash: Some(ContentHash::of(b"lost")),
            cut: true,
            fuzzy: false,
        };
        let target = |counter| Some((id(counter), Kind::File));
        let name =
            |counter| NameRow { parent: FileId::ROOT, name: name("back"), target: target(counter) };
        let files = vec![row(1, Event::Restored), row(2, Event::Restored), row(3, Event::Saved)];
        let mut change = Change { names: vec![name(1)], files, ..Change::default() };
        let stale = [1, 2, 3].map(|counter| (id(counter), (Seq(3), Seq(9)))).into();
        strip(&mut change, Seq(4), &stale);
        let left: Vec<_> = change.files.iter().map(|row| (row.file, row.meta.size)).collect();
        assert_eq!(left, [(id(1), 0)], "of what was there the last state stays");
    }

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
