//! A master that changes a set at random, and knows what it must look like.

use std::collections::{BTreeMap, BTreeSet};

use keepshare_base::{
    Change, Content, ContentHash, Epoch, Event, Extent, FileId, FileRow, FileTime, FilledChange,
    Kind, Meta, Name, NameRow, OriginId, Owner, Position, RunningHash, Seq, Stamp,
};

use crate::{Incoming, disk::sim::Dice};

/// A file as it must be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct File {
    pub(super) meta: Meta,
    pub(super) bytes: Vec<u8>,
}

/// The set as it must be.
#[derive(Clone, Debug, Default)]
pub(super) struct Set {
    pub(super) names: BTreeMap<(FileId, Name), FileId>,
    pub(super) files: BTreeMap<FileId, File>,
}

/// Makes changes.
#[derive(Debug)]
pub(super) struct Master {
    pub(super) set: Set,
    pub(super) dice: Dice,
    born: u64,
    seq: u64,
    /// The set as the last change left it.
    sent: Set,
}

pub(super) fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

impl Set {
    pub(super) fn children(&self, parent: FileId) -> Vec<(Name, FileId)> {
        let all = self.names.iter().filter(|((p, _), _)| *p == parent);
        all.map(|((_, name), file)| (name.clone(), *file)).collect()
    }

    pub(super) fn is_folder(&self, file: FileId) -> bool {
        file == FileId::ROOT || self.files[&file].meta.kind == Kind::Dir
    }

    /// Returns a folder and all folders above it.
    fn above(&self, folder: FileId) -> BTreeSet<FileId> {
        let mut above = BTreeSet::from([folder]);
        let mut next = folder;
        while let Some(((parent, _), _)) = self.names.iter().find(|(_, file)| **file == next) {
            above.insert(*parent);
            next = *parent;
        }
        above
    }

    /// Removes a name and, for a folder, everything below.
    pub(super) fn remove(&mut self, parent: FileId, name: &Name) {
        if let Some(file) = self.names.remove(&(parent, name.clone()))
            && self.is_folder(file)
        {
            for (name, _) in self.children(file) {
                self.remove(file, &name);
            }
        }
    }
}

impl Master {
    pub(super) fn new(seed: u64) -> Self {
        let (set, sent) = (Set::default(), Set::default());
        Self { set, dice: Dice(seed), born: 0, seq: 0, sent }
    }

    /// Makes a new file of no name.
    pub(super) fn birth(&mut self, kind: Kind, bytes: Vec<u8>) -> FileId {
        self.born += 1;
        let file = FileId { origin: OriginId(1), epoch: Epoch::FIRST, counter: self.born };
        let mut meta = Meta {
            kind,
            size: bytes.len() as u64,
            mode: 0o644,
            owner: Owner::default(),
            group: Owner::default(),
            mtime: FileTime::default(),
            symlink: if kind == Kind::Symlink { b"/nowhere".to_vec() } else { vec![] },
            rdev: 0,
            xattrs: vec![],
        };
        self.shuffle(&mut meta);
        self.set.files.insert(file, File { meta, bytes });
        file
    }

    pub(super) fn put(&mut self, parent: FileId, text: &str, file: FileId) {
        self.set.names.insert((parent, name(text)), file);
    }

    /// Makes a new file with a name.
    pub(super) fn make(&mut self, parent: FileId, text: &str, kind: Kind, bytes: &[u8]) -> FileId {
        let file = self.birth(kind, bytes.to_vec());
        self.put(parent, text, file);
        file
    }

    pub(super) fn write(&mut self, file: FileId, bytes: Vec<u8>) {
        let mut meta = self.set.files[&file].meta.clone();
        meta.size = bytes.len() as u64;
        self.shuffle(&mut meta);
        self.set.files.insert(file, File { meta, bytes });
    }

    /// Turns everything since the last time into one change.
    pub(super) fn send(&mut self) -> Incoming {
        self.seq += 1;
        let mut change = Change { stamp: Stamp(self.seq.cast_signed()), ..Change::default() };
        for (parent, name) in self.set.names.keys().chain(self.sent.names.keys()) {
            let key = (*parent, name.clone());
            let (now, before) = (self.set.names.get(&key), self.sent.names.get(&key));
            let known = change.names.iter().any(|row| row.parent == *parent && row.name == *name);
            if now != before && !known {
                let target = now.map(|file| (*file, self.set.files[file].meta.kind));
                change.names.push(NameRow { parent: *parent, name: name.clone(), target });
            }
        }
        let mut payload = Vec::new();
        for (id, file) in &self.set.files {
            let before = self.sent.files.get(id);
            if before == Some(file) {
                continue;
            }
            let (content, bytes) = content(file, before, &mut self.dice);
            payload.extend(bytes);
            change.files.push(FileRow {
                file: *id,
                event: if before.is_none() { Event::Created } else { Event::Saved },
                meta: file.meta.clone(),
                content,
                hash: None,
                cut: self.dice.below(2) == 0,
                fuzzy: false,
            });
        }
        self.sent = self.set.clone();
        Incoming {
            position: Position { origin: OriginId(1), epoch: Epoch::FIRST, seq: Seq(self.seq) },
            complete: true,
            running: RunningHash::EMPTY,
            filled: FilledChange { change, payload },
        }
    }

    /// Does something to the set.
    pub(super) fn mutate(&mut self) {
        match self.dice.below(16) {
            0..=3 => self.make_something(),
            4 | 5 => self.change_content(),
            6 => self.change_attributes(),
            7 | 8 => self.rename(),
            9 => self.exchange(),
            10 => self.link(),
            11 | 12 => self.remove(),
            13 => self.turn_over(),
            14 => self.replace_by_new(),
            _ => {
                self.birth(Kind::File, vec![7; 100]);
            }
        }
    }

    /// Gives a file other bytes somewhere.
    pub(super) fn change_content(&mut self) {
        let files = self.of_kind(Kind::File);
        if files.is_empty() {
            return;
        }
        let file = files[self.dice.below(files.len())];
        let mut bytes = self.set.files[&file].bytes.clone();
        match self.dice.below(4) {
            0 => bytes = self.bytes(),
            1 => bytes.truncate(self.dice.below(bytes.len() + 1)),
            2 => bytes.resize((bytes.len() + self.dice.below(60_000)).min(90_000), 0),
            _ if bytes.is_empty() => bytes.push(1),
            _ => {
                let from = self.dice.below(bytes.len());
                let to = bytes.len().min(from + 1 + self.dice.below(9000));
                let with = if self.dice.below(4) == 0 { 0 } else { self.dice.below(256) };
                bytes[from..to].fill(u8::try_from(with).unwrap());
            }
        }
        self.write(file, bytes);
    }

    fn make_something(&mut self) {
        let (parent, text) = self.free_spot();
        let kind = match self.dice.below(8) {
            0..=3 => Kind::File,
            4..=5 => Kind::Dir,
            6 => Kind::Symlink,
            _ => Kind::Fifo,
        };
        let bytes = if kind == Kind::File { self.bytes() } else { vec![] };
        self.make(parent, &text, kind, &bytes);
    }

    fn change_attributes(&mut self) {
        let files: Vec<_> = self.set.files.keys().copied().collect();
        if !files.is_empty() {
            let file = files[self.dice.below(files.len())];
            let mut meta = self.set.files[&file].meta.clone();
            self.shuffle(&mut meta);
            if meta.kind == Kind::Symlink && self.dice.below(2) == 0 {
                meta.symlink = format!("target/{}", self.dice.below(1000)).into_bytes();
            }
            self.set.files.get_mut(&file).unwrap().meta = meta;
        }
    }

    fn rename(&mut self) {
        let Some((parent, from, file)) = self.some_name() else { return };
        let folders = self.folders();
        let folder = folders[self.dice.below(folders.len())];
        if self.set.above(folder).contains(&file) {
            return;
        }
        let to = name(&format!("n{}", self.dice.below(12)));
        if (folder, &to) == (parent, &from) || self.is_above(folder, &to, parent) {
            return;
        }
        self.set.names.remove(&(parent, from));
        self.set.remove(folder, &to);
        self.set.names.insert((folder, to), file);
    }

    fn exchange(&mut self) {
        let (Some(a), Some(b)) = (self.some_name(), self.some_name()) else { return };
        if self.set.above(a.0).contains(&b.2) || self.set.above(b.0).contains(&a.2) {
            return;
        }
        self.set.names.insert((a.0, a.1), b.2);
        self.set.names.insert((b.0, b.1), a.2);
    }

    fn link(&mut self) {
        let files = self.of_kind(Kind::File);
        if !files.is_empty() {
            let (parent, text) = self.free_spot();
            let file = files[self.dice.below(files.len())];
            self.put(parent, &text, file);
        }
    }

    fn remove(&mut self) {
        if let Some((parent, name, _)) = self.some_name() {
            self.set.remove(parent, &name);
        }
    }

    /// A folder comes to be inside what was inside it.
    fn turn_over(&mut self) {
        let Some((parent, outer_name, outer)) = self.some_name() else { return };
        if !self.set.is_folder(outer) {
            return;
        }
        let inner = self.set.children(outer).into_iter().find(|(_, f)| self.set.is_folder(*f));
        if let Some((inner_name, inner)) = inner {
            self.set.names.remove(&(outer, inner_name.clone()));
            self.set.remove(inner, &inner_name);
            self.set.names.insert((parent, outer_name), inner);
            self.set.names.insert((inner, inner_name), outer);
        }
    }

    /// Something new takes a name; what had it keeps it under another, sometimes.
    fn replace_by_new(&mut self) {
        let Some((parent, at, file)) = self.some_name() else { return };
        if self.dice.below(2) == 0 {
            self.set.names.insert((parent, name("backup~")), file);
            self.set.names.remove(&(parent, at.clone()));
            if self.dangling() {
                self.set = self.sent.clone();
                return;
            }
        } else {
            self.set.remove(parent, &at);
        }
        let kind = if self.dice.below(4) == 0 { Kind::Dir } else { Kind::File };
        let bytes = if kind == Kind::File { self.bytes() } else { vec![] };
        let new = self.birth(kind, bytes);
        self.set.names.insert((parent, at), new);
    }

    /// Tells whether something has a name in a folder that has none.
    fn dangling(&self) -> bool {
        let named: BTreeSet<_> = self.set.names.values().copied().collect();
        self.set.names.keys().any(|(p, _)| *p != FileId::ROOT && !named.contains(p))
    }

    fn is_above(&self, folder: FileId, name: &Name, of: FileId) -> bool {
        let there = self.set.names.get(&(folder, name.clone()));
        there.is_some_and(|file| self.set.above(of).contains(file) || *file == folder)
            || there.is_some_and(|file| self.set.above(folder).contains(file))
    }

    fn some_name(&mut self) -> Option<(FileId, Name, FileId)> {
        let count = self.set.names.len();
        let ((parent, name), file) =
            self.set.names.iter().nth(if count == 0 { 0 } else { self.dice.below(count) })?;
        Some((*parent, name.clone(), *file))
    }

    fn free_spot(&mut self) -> (FileId, String) {
        let folders = self.folders();
        loop {
            let folder = folders[self.dice.below(folders.len())];
            let text = format!("n{}", self.dice.below(1000));
            if !self.set.names.contains_key(&(folder, name(&text))) {
                return (folder, text);
            }
        }
    }

    fn folders(&self) -> Vec<FileId> {
        let named = self.set.names.values().filter(|file| self.set.is_folder(**file)).copied();
        std::iter::once(FileId::ROOT).chain(named).collect()
    }

    fn of_kind(&self, kind: Kind) -> Vec<FileId> {
        let is = |file: &&FileId| self.set.files[*file].meta.kind == kind;
        self.set.names.values().filter(is).copied().collect()
    }

    fn bytes(&mut self) -> Vec<u8> {
        let len = match self.dice.below(6) {
            0 => 0,
            1 | 2 => self.dice.below(513),
            3 | 4 => self.dice.below(70_000),
            _ => self.dice.below(90_000),
        };
        let mut bytes = vec![0; len];
        for piece in bytes.chunks_mut(3000) {
            if self.dice.below(4) != 0 {
                let seed = self.dice.roll();
                piece
                    .iter_mut()
                    .zip(0u64..)
                    .for_each(|(b, i)| *b = seed.wrapping_mul(i + 1).to_le_bytes()[5]);
            }
        }
        bytes
    }

    fn shuffle(&mut self, meta: &mut Meta) {
        meta.mode = [0o644, 0o600, 0o755, 0o4755, 0o1777, 0o400][self.dice.below(6)];
        meta.owner.id = [0, 1000, 12345][self.dice.below(3)];
        meta.group.id = [0, 1000, 12345][self.dice.below(3)];
        let secs = i64::try_from(self.dice.below(2_000_000_000)).unwrap();
        let nanos = u32::try_from(self.dice.below(1_000_000_000)).unwrap();
        meta.mtime = FileTime { secs, nanos };
        if meta.kind == Kind::File && self.dice.below(3) == 0 {
            let value = self.dice.roll().to_le_bytes().to_vec();
            meta.xattrs = vec![(b"user.tag".to_vec(), value)];
        }
    }
}

/// Says a file's content as a row would: whole, or what differs.
fn content(file: &File, before: Option<&File>, dice: &mut Dice) -> (Content, Vec<u8>) {
    let bytes = &file.bytes;
    let Some(before) = before else { return whole(bytes) };
    if file.meta.kind != Kind::File {
        return (Content::Same, vec![]);
    }
    let mut resized = before.bytes.clone();
    resized.resize(bytes.len(), 0);
    if resized == *bytes {
        return (Content::Same, vec![]);
    }
    if dice.below(4) == 0 {
        return whole(bytes);
    }
    let mut extents: Vec<Extent> = Vec::new();
    let mut payload = Vec::new();
    for (at, page) in bytes.chunks(4096).enumerate() {
        let offset = at * 4096;
        if resized[offset..offset + page.len()] == *page {
            continue;
        }
        let zero = page.iter().all(|b| *b == 0);
        extents.push(Extent { offset: offset as u64, len: page.len() as u64, zero });
        if !zero {
            payload.extend(page);
        }
    }
    (Content::Extents { fresh: false, extents, hash: ContentHash::of(&payload) }, payload)
}

fn whole(bytes: &[u8]) -> (Content, Vec<u8>) {
    if bytes.is_empty() { (Content::Same, vec![]) } else { (Content::whole(bytes), bytes.to_vec()) }
}
