//! A tree that forgets nothing, as simple as can be.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use keepshare_base::{
    CommitId, Content, Extent, FileId, FileRow, Kind, Name, Position, Stamp, VersionId,
};
use keepshare_versioning::{Aside, Incoming, disk::sim::Dice};

use crate::rig::{NOW, SECOND};

pub(crate) type Target = Option<(FileId, Kind)>;

const PAGE: u64 = 4096;

/// Content as shared pages, so that remembering all of it stays affordable; a page without bytes is zeros.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bytes {
    len: u64,
    pages: BTreeMap<u64, Arc<Vec<u8>>>,
}

impl Bytes {
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn slice(&self, start: u64, end: u64) -> Vec<u8> {
        if start >= end {
            return vec![];
        }
        let mut bytes = vec![0; (end - start) as usize];
        for number in start / PAGE..=(end - 1) / PAGE {
            if let Some(page) = self.pages.get(&number) {
                let from = start.max(number * PAGE);
                let to = end.min((number + 1) * PAGE);
                let part = &page[(from - number * PAGE) as usize..(to - number * PAGE) as usize];
                bytes[(from - start) as usize..(to - start) as usize].copy_from_slice(part);
            }
        }
        bytes
    }

    fn resize(&mut self, len: u64) {
        if len < self.len {
            self.pages.split_off(&len.div_ceil(PAGE));
            if let Some(page) = self.pages.get_mut(&(len / PAGE)) {
                Arc::make_mut(page)[(len % PAGE) as usize..].fill(0);
            }
        }
        self.len = len;
    }

    fn put(&mut self, offset: u64, mut bytes: &[u8]) {
        let mut at = offset;
        while !bytes.is_empty() {
            let skip = (at % PAGE) as usize;
            let (part, rest) = bytes.split_at(bytes.len().min(PAGE as usize - skip));
            let page =
                self.pages.entry(at / PAGE).or_insert_with(|| Arc::new(vec![0; PAGE as usize]));
            Arc::make_mut(page)[skip..skip + part.len()].copy_from_slice(part);
            (at, bytes) = (at + part.len() as u64, rest);
        }
    }
}

/// One state of a file.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) at: CommitId,
    pub(crate) content: Bytes,
    pub(crate) mode: u32,
    pub(crate) cut: Option<CommitId>,
    /// When the station cut it by itself.
    own: Option<CommitId>,
    /// Since when its file is open.
    since: CommitId,
    /// When a newer state took the place of this one, which was no version.
    gone: Option<CommitId>,
    /// What retention did to it, in order.
    removals: Vec<(CommitId, Removal)>,
}

/// What retention did to a version.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Removal {
    /// It is aside since then.
    Aside(u64),
    /// It came back.
    Back,
    /// It is gone for good.
    Gone,
}

impl Row {
    pub(crate) fn is_expired(&self) -> bool {
        matches!(self.removals.last(), Some((_, Removal::Aside(_) | Removal::Gone)))
    }

    /// It is a version, and cannot come back.
    fn is_let_go(&self) -> bool {
        self.is_cut() && matches!(self.removals.last(), Some((_, Removal::Gone)))
    }

    fn aside_since(&self) -> Option<u64> {
        match self.removals.last() {
            Some((_, Removal::Aside(since))) => Some(*since),
            _ => None,
        }
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.cut.or(self.own).is_some()
    }
}

#[derive(Default)]
pub(crate) struct Memory {
    names: BTreeMap<(FileId, Name), Vec<(CommitId, Target)>>,
    files: BTreeMap<FileId, Vec<Row>>,
    commits: BTreeMap<CommitId, (Position, Stamp)>,
    pub(crate) present: BTreeMap<(FileId, Name), (FileId, Kind)>,
}

impl Memory {
    pub(crate) fn apply(&mut self, at: CommitId, incoming: &Incoming) {
        let change = &incoming.filled.change;
        self.commits.insert(at, (incoming.position, change.stamp));
        for file in &change.cuts {
            let newest = self.files.get_mut(file).and_then(|rows| rows.last_mut()).unwrap();
            let brings_another = change.files.iter().any(|row| row.file == *file && row.cut);
            if newest.own.is_none() || !brings_another {
                newest.cut = newest.cut.or(Some(at));
            }
        }
        for (row, mut bytes) in incoming.filled.contents() {
            let named = self.present.values().any(|(file, _)| *file == row.file);
            let rows = self.files.entry(row.file).or_default();
            let mut content = rows.last().map(|row| row.content.clone()).unwrap_or_default();
            if let Content::Extents { fresh: true, .. } = row.content {
                content = Bytes::default();
            }
            content.resize(row.meta.size);
            if let Content::Extents { extents, .. } = &row.content {
                for extent in extents {
                    let len = extent.len as usize;
                    if extent.zero {
                        content.put(extent.offset, &vec![0; len]);
                    } else {
                        content.put(extent.offset, &bytes[..len]);
                        bytes = &bytes[len..];
                    }
                }
            }
            let mut since = at;
            if let Some(open) = rows.last().filter(|last| !last.is_cut()).cloned() {
                let long = |then: CommitId| {
                    self.commits[&at].1.micros_since(self.commits[&then].1) >= 10 * SECOND
                };
                let own_before = rows.iter().rev().skip(1).find(|row| row.gone.is_none());
                let own_before = own_before
                    .is_some_and(|row| row.cut.is_none() && row.own.is_some() && !long(row.at));
                let most = 2 * replaced(&open.content, &content, row) > open.content.len();
                let last = rows.last_mut().unwrap();
                if named && (long(open.since) || (most && !own_before)) {
                    last.own = Some(at);
                } else {
                    last.gone = Some(at);
                    since = open.since;
                }
            }
            let (cut, mode, removals) = (row.cut.then_some(at), row.meta.mode, vec![]);
            rows.push(Row { at, content, mode, cut, own: None, since, gone: None, removals });
        }
        for row in &change.names {
            let key = (row.parent, row.name.clone());
            if self.present.get(&key).copied() != row.target {
                self.names.entry(key.clone()).or_default().push((at, row.target));
                match row.target {
                    Some(target) => self.present.insert(key, target),
                    None => self.present.remove(&key),
                };
            }
        }
    }

    /// Goes back to a commit.
    pub(crate) fn forget_after(&mut self, latest: CommitId) {
        let keep = |mark: &mut Option<CommitId>| *mark = mark.filter(|at| *at <= latest);
        self.names.values_mut().for_each(|rows| rows.retain(|(at, _)| *at <= latest));
        self.names.retain(|_, rows| !rows.is_empty());
        for rows in self.files.values_mut() {
            rows.retain(|row| row.at <= latest);
            for row in rows {
                keep(&mut row.cut);
                keep(&mut row.own);
                keep(&mut row.gone);
                row.removals.retain(|(at, _)| *at <= latest);
            }
        }
        self.files.retain(|_, rows| !rows.is_empty());
        self.commits.retain(|at, _| *at <= latest);
        let last = self.names.iter().filter_map(|(key, rows)| Some((key.clone(), rows.last()?.1?)));
        self.present = last.collect();
    }

    pub(crate) fn all_names(&self) -> impl Iterator<Item = &(FileId, Name)> {
        self.names.keys()
    }

    pub(crate) fn all_files(&self) -> impl Iterator<Item = FileId> {
        self.files.keys().copied()
    }

    pub(crate) fn some_name(&self, dice: &mut Dice) -> Option<(FileId, Name)> {
        pick(dice, self.names.keys()).cloned()
    }

    pub(crate) fn some_file(&self, dice: &mut Dice) -> Option<FileId> {
        pick(dice, self.files.keys()).copied()
    }

    pub(crate) fn lookup(&self, parent: FileId, name: &Name, at: CommitId) -> Target {
        self.row_at(parent, name, at).and_then(|(_, target)| target)
    }

    fn row_at(&self, parent: FileId, name: &Name, at: CommitId) -> Option<(CommitId, Target)> {
        let rows = self.names.get(&(parent, name.clone()))?;
        rows.iter().rev().find(|(since, _)| *since <= at).copied()
    }

    pub(crate) fn list(&self, parent: FileId, at: CommitId) -> Vec<(Name, FileId)> {
        let names = self.names.keys().filter(|(of, _)| *of == parent);
        let entry =
            |(_, name): &(FileId, Name)| Some((name.clone(), self.lookup(parent, name, at)?.0));
        names.filter_map(entry).collect()
    }

    pub(crate) fn links(&self, file: FileId, at: CommitId) -> Vec<(FileId, Name)> {
        let has = |(parent, name): &&(FileId, Name)| {
            self.lookup(*parent, name, at).is_some_and(|(target, _)| target == file)
        };
        self.names.keys().filter(has).cloned().collect()
    }

    /// Returns what a view shows of a file at a commit.
    pub(crate) fn file(&self, file: FileId, at: CommitId) -> Option<&Row> {
        let rows = || self.kept(file).filter(|row| row.at <= at);
        rows().find(|row| !row.is_expired()).or_else(|| rows().next())
    }

    /// Tells whether that version is let go of.
    pub(crate) fn is_let_go(&self, file: FileId, at: CommitId) -> bool {
        self.kept(file).any(|row| row.at == at && row.is_let_go())
    }

    /// Returns the rights of the very state that a file had.
    pub(crate) fn mode(&self, file: FileId, at: CommitId) -> Option<u32> {
        self.kept(file).find(|row| row.at <= at).map(|row| row.mode)
    }

    /// Returns the changes, each with its place and its time.
    pub(crate) fn commits(&self) -> impl Iterator<Item = (CommitId, Position, Stamp)> + Clone {
        self.commits.iter().map(|(at, (position, stamp))| (*at, *position, *stamp))
    }

    /// Returns what a file was at a commit, kept or not.
    pub(crate) fn was(&self, file: FileId, at: CommitId) -> Option<&Row> {
        self.files.get(&file)?.iter().rev().find(|row| row.at <= at)
    }

    pub(crate) fn newest(&self, file: FileId) -> Option<&Row> {
        self.was(file, NOW).filter(|row| !row.is_expired())
    }

    /// Returns the kept states of a file, newest first.
    fn kept(&self, file: FileId) -> impl Iterator<Item = &Row> {
        let rows = self.files.get(&file).map_or(&[][..], Vec::as_slice);
        rows.iter().rev().filter(|row| row.gone.is_none())
    }

    pub(crate) fn versions(&self, file: FileId) -> Vec<(CommitId, Position)> {
        let by_master = |row: &Row| Some(self.commits[&row.cut?].0);
        let by_itself = |row: &Row| row.own.map(|_| VersionId::of_station(row.at).0);
        let version = |row: &Row| Some((row.at, by_master(row).or_else(|| by_itself(row))?));
        self.kept(file).filter_map(version).collect()
    }

    /// Returns the history of a name as (file, commit, folder, name) of each version.
    pub(crate) fn history(
        &self,
        parent: FileId,
        name: &Name,
    ) -> Vec<(FileId, CommitId, FileId, Name)> {
        let mut history: Vec<(FileId, CommitId, FileId, Name)> = vec![];
        let mut spot = (parent, name.clone());
        let mut bound = NOW;
        loop {
            // The newest interval before the bound in which the name held something.
            let rows: Vec<_> =
                self.names.get(&spot).into_iter().flatten().filter(|row| row.0 < bound).collect();
            let Some(i) = rows.iter().rposition(|row| row.1.is_some()) else { break };
            let (start, (file, _)) = (rows[i].0, rows[i].1.unwrap());
            let end = rows.get(i + 1).map_or(bound, |row| row.0);
            let first = self.kept(file).find(|row| row.at <= start).map_or(start, |row| row.at);
            for row in self.kept(file).filter(|row| row.at >= first && row.at < end) {
                let same = history.last().is_some_and(|last| (last.0, last.1) == (file, row.at));
                if row.is_cut() && !same {
                    history.push((file, row.at, spot.0, spot.1.clone()));
                }
            }
            let by_name = match i.checked_sub(1).map(|i| rows[i]) {
                Some((_, Some(_))) => true,
                Some((emptied, None)) => {
                    let gap = self.commits[&start].1.micros_since(self.commits[emptied].1);
                    (0..60 * SECOND).contains(&gap)
                }
                None => false,
            };
            bound = start;
            if !by_name {
                let former = self.links(file, CommitId(start.0 - 1));
                let lost = former.iter().find(|(parent, name)| {
                    self.lookup(*parent, name, start).is_none_or(|(target, _)| target != file)
                });
                if let Some(former) = lost.or(former.first()) {
                    spot = former.clone();
                }
            }
        }
        history
    }

    /// Returns some versions that retention might remove.
    pub(crate) fn removable(&self, dice: &mut Dice, count: usize) -> Vec<(FileId, CommitId)> {
        let living: BTreeSet<FileId> = self.present.values().map(|(file, _)| *file).collect();
        let mut versions = BTreeSet::new();
        for _ in 0..count {
            let Some(file) = self.some_file(dice) else { break };
            let rows: Vec<_> = self.kept(file).collect();
            let newest = rows[0].at;
            let may = rows.into_iter().filter(|row| {
                row.is_cut() && !row.is_expired() && !(row.at == newest && living.contains(&file))
            });
            versions.extend(pick(dice, may).map(|row| (file, row.at)));
        }
        versions.into_iter().collect()
    }

    /// Returns some versions of one file, next to each other, that retention might remove.
    pub(crate) fn removable_run(&self, dice: &mut Dice, file: FileId) -> Vec<(FileId, CommitId)> {
        let living = self.present.values().any(|(living, _)| *living == file);
        let may = self.kept(file).skip(usize::from(living));
        let may = may.filter(|row| row.is_cut() && !row.is_expired());
        let (skip, take) = (dice.below(3), 1 + dice.below(20));
        let mut run: Vec<_> = may.skip(skip).take(take).map(|row| (file, row.at)).collect();
        run.sort_unstable();
        run
    }

    pub(crate) fn expire(&mut self, at: CommitId, versions: &[(FileId, CommitId)]) {
        versions.iter().for_each(|version| self.remove(*version, at, Removal::Gone));
    }

    pub(crate) fn set_aside(&mut self, at: CommitId, since: u64, versions: &[(FileId, CommitId)]) {
        versions.iter().for_each(|version| self.remove(*version, at, Removal::Aside(since)));
    }

    pub(crate) fn bring_back(&mut self, at: CommitId, versions: &[Aside]) {
        let versions = versions.iter().map(|aside| (aside.file, aside.commit));
        versions.for_each(|version| self.remove(version, at, Removal::Back));
    }

    fn remove(&mut self, (file, commit): (FileId, CommitId), at: CommitId, removal: Removal) {
        let rows = self.files.get_mut(&file).unwrap();
        let row = rows.iter_mut().find(|row| row.at == commit).unwrap();
        row.removals.push((at, removal));
    }

    /// Returns what is aside, oldest first.
    pub(crate) fn aside(&self) -> Vec<Aside> {
        let of = |(file, rows): (&FileId, &Vec<Row>)| {
            let aside = |row: &Row| {
                let (since_micros, size) = (row.aside_since()?, row.content.len());
                Some(Aside { since_micros, file: *file, commit: row.at, size })
            };
            rows.iter().filter_map(aside).collect::<Vec<_>>()
        };
        let mut aside: Vec<Aside> = self.files.iter().flat_map(of).collect();
        aside.sort_by_key(|aside| (aside.since_micros, aside.file, aside.commit));
        aside
    }
}

/// Returns how many bytes of a state the next one cuts off or writes over.
fn replaced(old: &Bytes, new: &Bytes, row: &FileRow) -> u64 {
    let both = old.len().min(new.len());
    let gone = old.len() - both;
    let Content::Extents { fresh, extents, .. } = &row.content else { return gone };
    if *fresh && old.len().max(new.len()) > 65_536 {
        return old.len();
    }
    if *fresh {
        let (old, new) = (old.slice(0, both), new.slice(0, both));
        return gone + old.iter().zip(&new).filter(|(old, new)| old != new).count() as u64;
    }
    let over = |extent: &Extent| (extent.offset + extent.len).min(both).max(extent.offset);
    gone + extents.iter().map(|extent| over(extent) - extent.offset).sum::<u64>()
}

/// Returns any one of some.
pub(crate) fn pick<T>(dice: &mut Dice, from: impl Iterator<Item = T> + Clone) -> Option<T> {
    let len = from.clone().count();
    (len > 0).then(|| from.clone().nth(dice.below(len)).unwrap())
}
