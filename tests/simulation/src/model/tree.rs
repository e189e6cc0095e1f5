//! A tree of files, and random edits to it.

use std::collections::{BTreeMap, BTreeSet};

use keepshare_base::{
    Change, Content, ContentHash, Event, Extent, FileId, FileRow, FilledChange, Kind, Meta, Name,
    NameRow, Owner, Stamp,
};
use keepshare_proto::{FileLine, NameLine, StateDigest};
use rand::{Rng, rngs::StdRng, seq::IteratorRandom};

use crate::sides::{Shown, shown};

/// The most files that edits make, so that trees stay small and names are used again and again.
const FILES_MAX: usize = 24;

/// The longest content.
const CONTENT_BYTES_MAX: usize = 64;

/// The present names and files of a set.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tree {
    names: BTreeMap<(FileId, Name), (FileId, Kind)>,
    files: BTreeMap<FileId, (Meta, Vec<u8>)>,
}

impl Tree {
    /// Makes the tree what the change says it is afterwards.
    pub fn apply(&mut self, filled: &FilledChange) {
        for (row, bytes) in filled.contents() {
            let old = self.files.remove(&row.file).map(|(_, content)| content).unwrap_or_default();
            self.files.insert(row.file, (row.meta.clone(), content_after(old, row, bytes)));
        }
        for row in &filled.change.names {
            let key = (row.parent, row.name.clone());
            match row.target {
                Some(target) => self.names.insert(key, target),
                None => self.names.remove(&key),
            };
        }
    }

    /// Forgets files without a name, as a master's identity map does.
    pub fn prune(&mut self) {
        let named: BTreeSet<_> = self.names.values().map(|(file, _)| *file).collect();
        self.files.retain(|file, _| named.contains(file));
    }

    /// Returns the names from `after` on, and whether there are no more.
    pub fn names_page(
        &self,
        after: Option<&(FileId, Name)>,
        limit: usize,
    ) -> (Vec<NameLine>, bool) {
        let mut rest = self.names.iter().filter(|(key, _)| after.is_none_or(|after| *key > after));
        let line = |((parent, name), (file, kind)): (&(FileId, Name), &(FileId, Kind))| NameLine {
            parent: *parent,
            name: name.clone(),
            file: *file,
            kind: *kind,
        };
        let lines = rest.by_ref().take(limit).map(line).collect();
        (lines, rest.next().is_none())
    }

    /// Returns the files from `after` on, and whether there are no more.
    pub fn files_page(&self, after: Option<FileId>, limit: usize) -> (Vec<FileLine>, bool) {
        let mut rest = self.files.keys().filter(|file| after.is_none_or(|after| **file > after));
        let line =
            |file: &FileId| FileLine { file: *file, digest: self.digest(*file), version: None };
        let lines = rest.by_ref().take(limit).map(line).collect();
        (lines, rest.next().is_none())
    }

    /// Returns the digest of a file that is there.
    pub fn digest(&self, file: FileId) -> StateDigest {
        let (meta, content) = &self.files[&file];
        StateDigest::of(meta, Some(&ContentHash::of(content)))
    }

    /// Returns what a user sees of it.
    pub fn shown(&self) -> Shown {
        let names = self.names.iter();
        let names = names.map(|((parent, name), (file, _))| ((*parent, name.to_string()), *file));
        shown(FileId::ROOT, names, |file| {
            let (meta, content) = &self.files[&file];
            (meta.kind, meta.mode, content.clone())
        })
    }

    /// Returns the parts that turn a tree with these names and files into this one, at most `size` rows each.
    pub fn difference(
        &self,
        names: &[NameLine],
        files: &[FileLine],
        stamp: Stamp,
        size: usize,
    ) -> Vec<FilledChange> {
        let has: BTreeMap<_, _> = files.iter().map(|line| (line.file, line.digest)).collect();
        let named: BTreeMap<_, _> = names
            .iter()
            .map(|line| ((line.parent, line.name.clone()), (line.file, line.kind)))
            .collect();
        let mut parts = Vec::new();
        let wrong = self.files.keys().filter(|file| has.get(file) != Some(&self.digest(**file)));
        for file in wrong {
            let (meta, content) = &self.files[file];
            parts.push(written(*file, Event::Mirrored, meta.clone(), content, stamp));
        }
        let gone = named.keys().filter(|key| !self.names.contains_key(key)).map(|key| (key, None));
        let other = self.names.iter().filter(|(key, target)| named.get(key) != Some(target));
        let rows: Vec<_> = gone
            .chain(other.map(|(key, target)| (key, Some(*target))))
            .map(|((parent, name), target)| NameRow { parent: *parent, name: name.clone(), target })
            .collect();
        for rows in rows.chunks(size) {
            let change = Change { stamp, names: rows.to_vec(), ..Change::default() };
            parts.push(FilledChange { change, payload: Vec::new() });
        }
        parts
    }

    /// Returns a random edit of this tree, not yet applied.
    pub fn edit(&self, random: &mut StdRng, stamp: Stamp, next_id: FileId) -> FilledChange {
        let file = self.names.iter().filter(|(_, (_, kind))| *kind == Kind::File).choose(random);
        match (file, random.random_range(0..10)) {
            (Some((_, (file, _))), 0..4) => self.write(random, *file, stamp),
            (Some((key, (file, _))), 4) => self.remove(key, *file, stamp),
            (Some((key, target)), 5..7) => self.rename(random, key, *target, stamp),
            (Some(_), _) if self.names.len() >= FILES_MAX => {
                let (key, (file, _)) = file.expect("matched");
                self.remove(key, *file, stamp)
            }
            _ => self.create(random, stamp, next_id),
        }
    }

    fn create(&self, random: &mut StdRng, stamp: Stamp, file: FileId) -> FilledChange {
        let folder = random.random_bool(0.15);
        let content: Vec<u8> = if folder { Vec::new() } else { bytes(random) };
        let kind = if folder { Kind::Dir } else { Kind::File };
        let meta = meta(kind, content.len());
        let mut filled = if folder {
            let change = Change {
                stamp,
                files: vec![row(file, Event::Created, meta, Content::Same)],
                ..Change::default()
            };
            FilledChange { change, payload: Vec::new() }
        } else {
            written(file, Event::Created, meta, &content, stamp)
        };
        let parent = self.some_folder(random);
        let name = some_name(random);
        // What the name stood for before is replaced, and its last state is a version.
        let replaced = self.names.get(&(parent, name.clone())).copied();
        match replaced {
            Some((_, Kind::Dir)) => return self.touch(file, stamp),
            Some((old, _)) => filled.change.cuts.push(old),
            None => {}
        }
        filled.change.names.push(NameRow { parent, name, target: Some((file, kind)) });
        filled
    }

    /// A change that only makes a file without a name, where nothing better was found to do.
    fn touch(&self, file: FileId, stamp: Stamp) -> FilledChange {
        written(file, Event::Created, meta(Kind::File, 0), &[], stamp)
    }

    fn write(&self, random: &mut StdRng, file: FileId, stamp: Stamp) -> FilledChange {
        let (old_meta, old) = &self.files[&file];
        if random.random_bool(0.3) || old.is_empty() {
            let content = bytes(random);
            let meta = Meta { size: content.len() as u64, ..old_meta.clone() };
            return written(file, Event::Saved, meta, &content, stamp);
        }
        let offset = random.random_range(0..old.len());
        let payload = bytes(random);
        let end = (offset + payload.len()).max(random.random_range(0..=old.len()));
        let len = payload.len() as u64;
        let extents = if len == 0 {
            vec![]
        } else {
            vec![Extent { offset: offset as u64, len, zero: false }]
        };
        let hash = ContentHash::of(&payload);
        let meta = Meta { size: end as u64, ..old_meta.clone() };
        let content = Content::Extents { fresh: false, extents, hash };
        let row =
            FileRow { cut: random.random_bool(0.8), ..row(file, Event::Saved, meta, content) };
        FilledChange { change: Change { stamp, files: vec![row], ..Change::default() }, payload }
    }

    fn remove(&self, key: &(FileId, Name), file: FileId, stamp: Stamp) -> FilledChange {
        let names = vec![NameRow { parent: key.0, name: key.1.clone(), target: None }];
        let change = Change { stamp, names, cuts: vec![file], ..Change::default() };
        FilledChange { change, payload: Vec::new() }
    }

    fn rename(
        &self,
        random: &mut StdRng,
        key: &(FileId, Name),
        target: (FileId, Kind),
        stamp: Stamp,
    ) -> FilledChange {
        let to = (self.some_folder(random), some_name(random));
        let taken = self.names.get(&to).copied();
        if to == *key || taken.is_some_and(|(_, kind)| kind == Kind::Dir) {
            return self.remove(key, target.0, stamp);
        }
        let names = vec![
            NameRow { parent: key.0, name: key.1.clone(), target: None },
            NameRow { parent: to.0, name: to.1, target: Some(target) },
        ];
        let cuts = taken.map(|(old, _)| old).into_iter().collect();
        let change = Change { stamp, names, cuts, ..Change::default() };
        FilledChange { change, payload: Vec::new() }
    }

    fn some_folder(&self, random: &mut StdRng) -> FileId {
        let folders = self.names.values().filter(|(_, kind)| *kind == Kind::Dir);
        let folder = folders.map(|(file, _)| *file).choose(random);
        folder.filter(|_| random.random_bool(0.4)).unwrap_or(FileId::ROOT)
    }
}

fn content_after(mut content: Vec<u8>, row: &FileRow, mut bytes: &[u8]) -> Vec<u8> {
    let size = usize::try_from(row.meta.size).expect("contents are small here");
    if let Content::Extents { fresh: true, .. } = &row.content {
        content.clear();
    }
    content.resize(size, 0);
    if let Content::Extents { extents, .. } = &row.content {
        for extent in extents {
            let start = usize::try_from(extent.offset).expect("contents are small here");
            let len = usize::try_from(extent.len).expect("contents are small here");
            let place = &mut content[start..start + len];
            if extent.zero {
                place.fill(0);
            } else {
                let (now, rest) = bytes.split_at(len);
                place.copy_from_slice(now);
                bytes = rest;
            }
        }
    }
    content
}

fn written(file: FileId, event: Event, meta: Meta, content: &[u8], stamp: Stamp) -> FilledChange {
    if meta.kind != Kind::File {
        let change = Change {
            stamp,
            files: vec![row(file, event, meta, Content::Same)],
            ..Change::default()
        };
        return FilledChange { change, payload: Vec::new() };
    }
    let row = FileRow {
        hash: Some(ContentHash::of(content)),
        ..row(file, event, meta, Content::whole(content))
    };
    let change = Change { stamp, files: vec![row], ..Change::default() };
    FilledChange { change, payload: content.to_vec() }
}

fn row(file: FileId, event: Event, meta: Meta, content: Content) -> FileRow {
    FileRow { file, event, meta, content, hash: None, cut: true, fuzzy: false }
}

fn meta(kind: Kind, size: usize) -> Meta {
    Meta {
        kind,
        size: size as u64,
        mode: 0o644,
        owner: Owner::default(),
        group: Owner::default(),
        mtime: keepshare_base::FileTime::default(),
        symlink: Vec::new(),
        rdev: 0,
        xattrs: Vec::new(),
    }
}

fn bytes(random: &mut StdRng) -> Vec<u8> {
    let len = random.random_range(0..CONTENT_BYTES_MAX);
    (0..len).map(|_| random.random()).collect()
}

fn some_name(random: &mut StdRng) -> Name {
    let letter = random.random_range(b'a'..=b'p');
    Name::new(&[letter]).expect("a letter is a name")
}
