//! Random changes that make sense.

use std::collections::{BTreeMap, BTreeSet};

use keepshare_base::{FileId, Kind, Name};
use keepshare_versioning::disk::sim::Dice;

use crate::rig::{Edit, Master, Part, ROOT, edit as empty_edit, name};

use super::memory::{Memory, pick};

/// Names in use at a time; beyond it more is deleted than made.
const NAMES_MAX: usize = 120;

/// Folders in use at a time.
const DIRS_MAX: usize = 12;

/// Returns a change of one or several operations, and how many they are.
pub(crate) fn edit(dice: &mut Dice, master: &mut Master, memory: &Memory) -> (Edit, usize) {
    let mut draft = Draft {
        dice,
        master,
        memory,
        names: memory.present.clone(),
        files: BTreeSet::new(),
        edit: empty_edit(),
    };
    let several = draft.dice.below(10) < 4;
    let operations = if several { 2 + draft.dice.below(4) } else { 1 };
    for _ in 0..operations {
        draft.operation();
    }
    (draft.finish(), operations)
}

/// Returns a change that saves a file anew, and no more.
pub(crate) fn save(dice: &mut Dice, file: FileId) -> Edit {
    let data = dice.roll().to_le_bytes().repeat(1 + dice.below(300));
    let mut edit = empty_edit().whole(file, &data, true);
    if dice.below(8) == 0 {
        edit.change.files[0].meta.mode = 0o600;
    }
    edit
}

type Key = (FileId, Name);

struct Draft<'a> {
    dice: &'a mut Dice,
    master: &'a mut Master,
    memory: &'a Memory,
    /// The names as the change will leave them.
    names: BTreeMap<Key, (FileId, Kind)>,
    /// Files that have their row.
    files: BTreeSet<FileId>,
    edit: Edit,
}

impl Draft<'_> {
    fn operation(&mut self) {
        let full = self.names.len() > NAMES_MAX;
        match self.dice.below(100) {
            0..=14 if !full => self.create(),
            15..=17 if self.dirs().len() < DIRS_MAX => self.create_dir(),
            18..=29 => self.rename(),
            30..=33 => self.exchange(),
            34..=36 if !full => self.link(),
            37..=46 => self.delete(),
            47..=50 => self.cut(),
            51..=60 => self.rewrite(),
            61..=70 => self.resize(),
            71..=73 => self.save_by_temp(),
            _ => self.write(),
        }
    }

    fn create(&mut self) {
        let file = self.master.file();
        let key = self.some_key();
        if self.is_dir(&key) {
            return;
        }
        self.whole(file);
        self.names.insert(key, (file, Kind::File));
    }

    fn create_dir(&mut self) {
        let key = self.some_key();
        if self.is_dir(&key) {
            return;
        }
        let dir = self.master.file();
        self.edit = std::mem::take(&mut self.edit).dir(dir);
        self.files.insert(dir);
        self.names.insert(key, (dir, Kind::Dir));
    }

    /// Moves a name, over another file where one is there.
    fn rename(&mut self) {
        let Some((from, target)) = self.some_entry() else { return };
        let to = self.some_key();
        if from == to || self.is_dir(&to) || self.is_inside(to.0, target.0) {
            return;
        }
        self.names.remove(&from);
        self.names.insert(to, target);
    }

    fn exchange(&mut self) {
        let (Some((a, at_a)), Some((b, at_b))) = (self.some_entry(), self.some_entry()) else {
            return;
        };
        if self.is_gone(a.0) || self.is_gone(b.0) {
            return;
        }
        if self.is_inside(b.0, at_a.0) || self.is_inside(a.0, at_b.0) {
            return;
        }
        self.names.insert(a, at_b);
        self.names.insert(b, at_a);
    }

    fn link(&mut self) {
        let Some((file, _)) = self.some_file() else { return };
        let key = self.some_key();
        if !self.is_dir(&key) {
            self.names.insert(key, (file, Kind::File));
        }
    }

    fn delete(&mut self) {
        let Some((key, (file, kind))) = self.some_entry() else { return };
        let is_empty = !self.names.keys().any(|(parent, _)| *parent == file);
        if kind == Kind::File || is_empty || self.dice.below(20) == 0 {
            self.names.remove(&key);
            if kind == Kind::File && self.dice.below(2) == 0 {
                self.cut_file(file);
            }
        }
    }

    fn cut(&mut self) {
        if let Some((file, _)) = self.some_file() {
            self.cut_file(file);
        }
    }

    fn cut_file(&mut self, file: FileId) {
        let known = self.memory.newest(file).is_some();
        if known && !self.files.contains(&file) && !self.edit.change.cuts.contains(&file) {
            self.edit = std::mem::take(&mut self.edit).cut(file);
        }
    }

    fn rewrite(&mut self) {
        if let Some((file, _)) = self.some_file()
            && !self.files.contains(&file)
        {
            self.whole(file);
        }
    }

    fn save_by_temp(&mut self) {
        let Some((key, (_, Kind::File))) = self.some_entry() else { return };
        if self.is_gone(key.0) {
            return;
        }
        let temp = self.master.file();
        self.whole(temp);
        self.names.insert(key, (temp, Kind::File));
    }

    fn resize(&mut self) {
        let Some((file, size)) = self.writable_file() else { return };
        let size = match self.dice.below(3) {
            0 => size / 2,
            1 => (size + self.dice.roll() % 9000).min(400_000),
            _ => self.size(),
        };
        let cut = self.takes_cut(file);
        self.edit = std::mem::take(&mut self.edit).resize(file, size, cut);
        self.files.insert(file);
    }

    /// Writes some parts over a file, which may grow or shrink.
    fn write(&mut self) {
        let Some((file, old_size)) = self.writable_file() else { return };
        if self.is_long() {
            return;
        }
        let size = match self.dice.below(6) {
            0 => self.size(),
            1 => (old_size + self.dice.roll() % 5000).min(400_000),
            _ => old_size,
        };
        let fresh = self.dice.below(12) == 0;
        let mut spans = vec![];
        let mut from = 0;
        for _ in 0..1 + self.dice.below(3) {
            if from >= size {
                break;
            }
            let start = from + self.dice.roll() % (size - from);
            let longest = match self.dice.below(8) {
                0 => size - start,
                1 => 70_000,
                _ => 3000,
            };
            let end = (start + 1 + self.dice.roll() % longest).min(size);
            let aligned = self.dice.below(4) == 0;
            let (start, end) = if aligned && start / 4096 * 4096 >= from {
                (start / 4096 * 4096, end.next_multiple_of(4096).min(size))
            } else {
                (start, end)
            };
            spans.push((start, end, self.dice.below(4) == 0));
            from = end;
        }
        let data: Vec<Vec<u8>> = spans
            .iter()
            .map(
                |(start, end, zero)| if *zero { vec![] } else { self.data((end - start) as usize) },
            )
            .collect();
        let parts: Vec<Part<'_>> = spans
            .iter()
            .zip(&data)
            .map(|((start, end, zero), data)| match zero {
                true => Part::Zeros(*start, end - start),
                false => Part::Data(*start, data),
            })
            .collect();
        let cut = self.takes_cut(file);
        self.edit = std::mem::take(&mut self.edit).write(file, size, fresh, &parts, cut);
        self.files.insert(file);
    }

    fn whole(&mut self, file: FileId) {
        let size = self.size() as usize;
        let data = self.data(size);
        let cut = self.takes_cut(file);
        self.edit = std::mem::take(&mut self.edit).whole(file, &data, cut);
        self.files.insert(file);
    }

    /// Most states become versions; none twice in one change.
    fn takes_cut(&mut self, file: FileId) -> bool {
        self.dice.below(10) < 6 && !self.edit.change.cuts.contains(&file)
    }

    /// Tells whether one more long content could be too much for one change.
    fn is_long(&self) -> bool {
        self.edit.payload_len() > 200_000
    }

    fn size(&mut self) -> u64 {
        match self.dice.below(20) {
            _ if self.is_long() => 10,
            0..=8 => self.dice.roll() % 700,
            9..=15 => self.dice.roll() % 10_000,
            16..=17 => self.dice.roll() % 66_000,
            _ => 60_000 + self.dice.roll() % 140_000,
        }
    }

    /// Returns bytes that say which they are, and that pack well.
    fn data(&mut self, len: usize) -> Vec<u8> {
        let tag = self.dice.roll().to_le_bytes();
        let chunk = |i: u32| [&tag[..4], &i.to_le_bytes()].concat();
        (0u32..).flat_map(chunk).take(len).collect()
    }

    fn some_key(&mut self) -> Key {
        let dirs = self.dirs();
        let parent = dirs[self.dice.below(dirs.len())];
        let text = ["a", "b", "c", "d", "e", "f", "g", "h", "Ä", "f.docx", "~tmp", "log"];
        (parent, name(text[self.dice.below(text.len())]))
    }

    fn dirs(&self) -> Vec<FileId> {
        let dirs = self.names.values().filter(|(_, kind)| *kind == Kind::Dir);
        [ROOT].into_iter().chain(dirs.map(|(dir, _)| *dir)).collect()
    }

    fn some_entry(&mut self) -> Option<(Key, (FileId, Kind))> {
        pick(self.dice, self.names.iter()).map(|(key, target)| (key.clone(), *target))
    }

    fn some_file(&mut self) -> Option<(FileId, Key)> {
        let files = self.names.iter().filter(|(_, (_, kind))| *kind == Kind::File);
        pick(self.dice, files).map(|(key, (file, _))| (*file, key.clone()))
    }

    /// Returns a file that has no row in this change, and its size.
    fn writable_file(&mut self) -> Option<(FileId, u64)> {
        let (file, _) = self.some_file()?;
        let size = self.memory.newest(file)?.content.len();
        (!self.files.contains(&file)).then_some((file, size))
    }

    fn is_dir(&self, key: &Key) -> bool {
        self.names.get(key).is_some_and(|(_, kind)| *kind == Kind::Dir)
    }

    /// Tells whether nothing may be put into a folder any more: it may have been removed for good by now.
    fn is_gone(&self, dir: FileId) -> bool {
        !self.dirs().contains(&dir)
    }

    /// Tells whether a folder is another one, or somewhere below it.
    fn is_inside(&self, dir: FileId, other: FileId) -> bool {
        let mut above = Some(dir);
        while let Some(dir) = above {
            if dir == other {
                return true;
            }
            let named = self.names.iter().find(|(_, (target, _))| *target == dir);
            above = named.map(|((parent, _), _)| *parent);
        }
        false
    }

    /// Adds the difference of the names.
    fn finish(self) -> Edit {
        let mut edit = self.edit;
        for row in &mut edit.change.files {
            if self.dice.below(8) == 0 {
                row.meta.mode = 0o600;
            }
        }
        for (parent, of) in self.memory.present.keys() {
            if !self.names.contains_key(&(*parent, of.clone())) {
                edit = edit.target(*parent, &of.to_string(), None);
            }
        }
        for ((parent, of), target) in &self.names {
            if self.memory.present.get(&(*parent, of.clone())) != Some(target) {
                edit = edit.target(*parent, &of.to_string(), Some(*target));
            }
        }
        edit
    }
}
