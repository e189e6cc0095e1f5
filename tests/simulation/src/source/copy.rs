//! What a station makes of the journal, change by change; it knows nothing of how the changes came about.

use std::collections::BTreeMap;

use keepshare_base::{Change, FileId, FilledChange, Kind, Name};

/// A tree that follows the journal, and the versions that changes cut.
#[derive(Debug, Default)]
pub(crate) struct Copy {
    names: BTreeMap<(FileId, Name), (FileId, Kind)>,
    files: BTreeMap<FileId, (Kind, u32, String, bool)>,
    /// The contents that became versions, by file.
    pub(crate) versions: Vec<(FileId, String)>,
    /// How many changes it has.
    pub(crate) through: usize,
}

impl Copy {
    /// Follows one change, and holds it to what every station may expect of it.
    pub(crate) fn apply(&mut self, change: &Change, payload: &[u8]) {
        let filled = FilledChange { change: change.clone(), payload: payload.to_vec() };
        self.through += 1;
        for file in &change.cuts {
            if let Some((Kind::File, _, content, fuzzy)) = self.files.get(file)
                && !fuzzy
            {
                self.versions.push((*file, content.clone()));
            }
        }
        for (row, bytes) in filled.contents() {
            let known = self.files.get(&row.file);
            let (content, fuzzy) = match &row.content {
                keepshare_base::Content::Same => known
                    .map(|(_, _, content, fuzzy)| (content.clone(), *fuzzy && row.hash.is_none()))
                    .unwrap_or_default(),
                keepshare_base::Content::Extents { .. } => {
                    (String::from_utf8(bytes.to_vec()).expect("our contents are text"), row.fuzzy)
                }
            };
            if row.cut && row.meta.kind == Kind::File && !fuzzy {
                self.versions.push((row.file, content.clone()));
            }
            self.files.insert(row.file, (row.meta.kind, row.meta.mode, content, fuzzy));
        }
        for row in &change.names {
            let key = (row.parent, row.name.clone());
            match row.target {
                Some(target) => self.names.insert(key, target),
                None => self.names.remove(&key),
            };
        }
        self.check(change);
    }

    /// After every change each name stands for a file that is known, in a folder that can be reached, and no folder is in itself.
    fn check(&self, change: &Change) {
        for row in change.names.iter().filter(|row| row.target.is_some()) {
            let (file, kind) = row.target.expect("it was asked for");
            let known = self.files.get(&file);
            assert!(known.is_some(), "a name shows a file that nobody has: {change:?}");
            assert_eq!(known.map(|known| known.0), Some(kind), "a name says another kind");
            let mut at = row.parent;
            for _ in 0..64 {
                if at == FileId::ROOT {
                    break;
                }
                let up = self.names.iter().find(|(_, (file, _))| *file == at);
                at = up.map(|((parent, _), _)| *parent).unwrap_or_else(|| {
                    panic!("the folder of {} has no name: {change:?}", row.name)
                });
            }
            assert_eq!(at, FileId::ROOT, "a folder is in itself: {change:?}");
        }
        let folders = self.names.values().filter(|(_, kind)| *kind == Kind::Dir);
        let mut seen = std::collections::BTreeSet::new();
        for (folder, _) in folders {
            assert!(seen.insert(folder), "a folder has two names: {change:?}");
        }
    }

    /// Returns everything by path: kind, mode and content.
    pub(crate) fn tree(&self) -> BTreeMap<String, (Kind, u32, String)> {
        let mut found = BTreeMap::new();
        let mut folders = vec![(FileId::ROOT, String::new())];
        while let Some((folder, path)) = folders.pop() {
            for ((parent, name), (file, kind)) in &self.names {
                if *parent != folder {
                    continue;
                }
                let path = format!("{path}/{name}");
                if *kind == Kind::Dir {
                    folders.push((*file, path.clone()));
                }
                let (_, mode, content, _) = self.files[file].clone();
                found.insert(path, (*kind, mode, content));
            }
        }
        found
    }
}
