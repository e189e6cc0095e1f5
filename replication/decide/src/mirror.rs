//! What a destination lacks of a set at one place of its journal.
//!
//! First the destination's names that stand for something else here, or for nothing, are taken away, the deepest first;
//! then everything is gone through from the root down: a folder before what is in it, content before the name. Nothing a
//! part says is undone by a later one, so an interrupted mirror is simply begun again.
//!
//! A file that is not what it was at that place any more cannot be given as it was then. It is made known without
//! content, and everything of it that the journal holds after that place is withheld until it has been sent whole
//! ([`withhold`](crate::withhold)).
//!
//! Memory: the listing, its folders, the names that are taken away, 20 bytes for each folder that still has to be gone through
//! and each file with several names, one part, and what is read at a time.

use std::collections::{HashMap, HashSet};

use keepshare_base::{
    Content, ContentHash, DEPTH_MAX, Epoch, Event, FileId, FileRow, FilledChange, Kind, Made, Name,
    NameRow, OriginId, Position, Seq, Stamp,
};
use keepshare_proto::StateDigest;

use crate::{
    At, CutPlace, FileRecord, Known, MapEntry, compose::fitting::Load, withhold::placeholder,
};

mod listing;

pub use listing::{ListedFile, ListedName, Listing};

/// So many names are taken from the map at a time.
const PAGE: usize = 512;

/// Content of so many bytes is what a part begins with, and is not copied; less is gathered.
const LARGE_BYTES: usize = 256 * 1024;

/// Progress is told once in so many files.
const PROGRESS_EVERY: u64 = 64;

/// The place of a journal that a mirror leads to.
#[derive(Clone, Debug)]
pub struct Goal {
    /// Whose journal it is.
    pub origin: OriginId,
    /// Its epoch.
    pub epoch: Epoch,
    /// The change.
    pub seq: Seq,
    /// The journal's time there.
    pub stamp: Stamp,
    /// The change that stands for all that made versions of states of which nothing else is noted.
    pub base: Option<CutPlace>,
    /// Files of which parts are journaled already, and that have no name yet.
    pub reading: Vec<FileId>,
}

/// How far a mirror is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct MirrorProgress {
    /// Names and files compared or sent.
    pub files_done: u64,
    /// Names and files of the set.
    pub files_total: u64,
    /// Content compared or sent, in bytes.
    pub bytes_done: u64,
    /// Content of the set, in bytes.
    pub bytes_total: u64,
}

/// A content and its bytes.
pub type Filled = (Content, Vec<u8>);

/// Whoever reads for a mirror, and takes what it says.
pub trait Reader<L: Known> {
    /// A file that is being read.
    type Open;

    /// Begins to read a file where the map has it; `None` when it is not what the map has.
    fn open(
        &mut self,
        map: &L,
        file: FileId,
        at: (FileId, &Name),
        record: &FileRecord,
    ) -> Result<Option<Self::Open>, L::Error>;

    /// Returns the next stretch of content, and with the last one the hash of it all where there is one; `None` when the
    /// file changed, or cannot be read.
    #[expect(clippy::type_complexity, reason = "a stretch, and at the end perhaps a hash")]
    fn next(
        &mut self,
        open: &mut Self::Open,
    ) -> Result<Option<(Filled, Option<Option<ContentHash>>)>, L::Error>;

    /// Goes back to the beginning.
    fn rewind(&mut self, open: &mut Self::Open);

    /// Learns what a file is that was read to its end.
    fn learn(&mut self, open: Self::Open, hash: Option<ContentHash>) -> Result<(), L::Error>;

    /// Has the content of these files withheld after these changes: before the destination goes on from the mirror.
    fn forget(&mut self, lost: Vec<(FileId, Seq)>) -> Result<(), L::Error>;

    /// Takes a part of the mirror; an error where it is not wanted any more.
    fn part(&mut self, complete: bool, filled: FilledChange) -> Result<(), L::Error>;

    /// Hears how far the mirror is.
    fn progress(&mut self, progress: MirrorProgress);

    /// Returns memory for content that is gathered.
    fn buffer(&mut self) -> Vec<u8> {
        Vec::new()
    }
}

/// A mirror at work.
#[derive(Debug)]
pub struct Mirror<'a, L, R> {
    map: &'a L,
    reader: &'a mut R,
    listing: &'a Listing,
    goal: &'a Goal,
    part: FilledChange,
    /// What its rows come to.
    load: Load,
    progress: MirrorProgress,
    lost: Vec<(FileId, Seq)>,
    linked: HashSet<FileId>,
}

impl<'a, L: Known, R: Reader<L>> Mirror<'a, L, R> {
    /// Prepares a mirror of what is in `map`, where `goal` is.
    pub fn new(
        map: &'a L,
        reader: &'a mut R,
        listing: &'a Listing,
        goal: &'a Goal,
        progress: MirrorProgress,
    ) -> Self {
        Self {
            map,
            reader,
            listing,
            goal,
            part: FilledChange::default(),
            load: Load::default(),
            progress,
            lost: goal.reading.iter().map(|file| (*file, goal.seq)).collect(),
            linked: HashSet::new(),
        }
    }

    /// Gives everything that differs from the listing. `unseen` are places where nobody could look; `None`: too many.
    pub fn run(mut self, unseen: Option<&HashSet<At>>) -> Result<(), L::Error> {
        self.removals(unseen)?;
        self.tree()?;
        let lost = std::mem::take(&mut self.lost);
        if !lost.is_empty() {
            self.reader.forget(lost)?;
        }
        self.flush(true)
    }

    /// Takes away the destination's names that stand for something else here.
    fn removals(&mut self, unseen: Option<&HashSet<At>>) -> Result<(), L::Error> {
        let mut wrong = Vec::new();
        let mut folders = Folders::new();
        for ((parent, name), (file, kind)) in self.listing.names() {
            if kind == Kind::Dir {
                folders.insert(file, (parent, name.clone()));
            }
            if self.map.lookup(parent, &name)? != Some((file, kind)) {
                wrong.push((parent, name, file, kind));
            }
        }
        wrong.retain(|(parent, name, file, kind)| {
            // A name that stands for something else now was seen.
            let is_gone = !matches!(self.map.lookup(*parent, name), Ok(Some(_)));
            // A folder has one name: what is elsewhere now has not stayed where nobody can look.
            let has_moved =
                *kind == Kind::Dir && self.map.links(*file, 1).is_ok_and(|links| !links.is_empty());
            !is_gone || has_moved || !is_unseen(unseen, &folders, *parent, name)
        });
        wrong.sort_by_cached_key(|(parent, name, ..)| {
            (std::cmp::Reverse(depth(&folders, *parent)), *parent, name.clone())
        });
        for (parent, name, file, kind) in wrong {
            let row = NameRow { parent, name, target: None };
            let ends = kind == Kind::File && self.map.links(file, 1)?.is_empty();
            let cut = if ends { Load::of_cut(file) } else { Load::default() };
            self.room(Load::of_name(&row).with(cut))?;
            self.part.change.names.push(row);
            self.part.change.cuts.extend(ends.then_some(file));
        }
        // A name that is taken away may come again: not in one change.
        self.flush(false)
    }

    /// Goes through everything from the root down.
    fn tree(&mut self) -> Result<(), L::Error> {
        if let Some(record) = self.map.record(FileId::ROOT)? {
            self.attributes(FileId::ROOT, &record)?;
        }
        let mut folders = vec![FileId::ROOT];
        while let Some(folder) = folders.pop() {
            let mut after: Option<Name> = None;
            loop {
                let entries = self.map.list(folder, after.as_ref(), PAGE)?;
                let Some(last) = entries.last() else { break };
                after = Some(last.name.clone());
                for entry in entries {
                    self.entry(folder, &entry)?;
                    if entry.kind == Kind::Dir {
                        folders.push(entry.file);
                    }
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, parent: FileId, entry: &MapEntry) -> Result<(), L::Error> {
        let Some(record) = self.map.record(entry.file)? else { return Ok(()) };
        // What has several names is met several times: a folder has one.
        let links = if entry.kind == Kind::Dir { 0 } else { 2 };
        let met = self.map.links(entry.file, links)?.len() > 1 && !self.linked.insert(entry.file);
        if !met {
            if entry.kind == Kind::File {
                self.file(parent, entry, &record)?;
            } else {
                self.attributes(entry.file, &record)?;
            }
            self.progress.files_done += 1;
            self.progress.bytes_done += record.meta.size;
            if self.progress.files_done.is_multiple_of(PROGRESS_EVERY) {
                self.reader.progress(self.progress);
            }
        }
        let there = self.listing.name(parent, &entry.name);
        if there != Some((entry.file, entry.kind)) {
            let target = Some((entry.file, entry.kind));
            let row = NameRow { parent, name: entry.name.clone(), target };
            self.room(Load::of_name(&row))?;
            self.part.change.names.push(row);
        }
        Ok(())
    }

    /// Sends the row of something that has no content, if it differs.
    fn attributes(&mut self, file: FileId, record: &FileRecord) -> Result<(), L::Error> {
        let digest = StateDigest::of(&record.meta, record.hash.as_ref());
        if self.listing.file(file).is_some_and(|(there, _)| there == digest) {
            return Ok(());
        }
        let row = row(file, record, Content::Same);
        let cut = record.meta.kind != Kind::File;
        self.push(FileRow { cut, ..row }, Vec::new(), self.made(record))
    }

    /// Sends a file, if it differs.
    fn file(
        &mut self,
        parent: FileId,
        entry: &MapEntry,
        record: &FileRecord,
    ) -> Result<(), L::Error> {
        let file = entry.file;
        let listed = self.listing.file(file);
        let there = listed.map(|(digest, _)| digest);
        let is_cut = listed.is_some_and(|(_, version)| version.is_some());
        let digest = |record: &FileRecord| StateDigest::of(&record.meta, record.hash.as_ref());
        if there == Some(digest(record)) && record.hash.is_some() && !record.forgotten {
            return if is_cut { Ok(()) } else { self.late_cut(file, record, record.hash) };
        }
        let at = (parent, &entry.name);
        let Some(mut open) = self.reader.open(self.map, file, at, record)? else {
            return self.moved_on(file, record);
        };
        if record.hash.is_none() && there.is_some() {
            // Perhaps the destination has just this: reading is cheaper than sending.
            let hash = self.hash_of(&mut open)?;
            if hash.is_some() && there == Some(StateDigest::of(&record.meta, hash.as_ref())) {
                if !is_cut {
                    self.late_cut(file, record, hash)?;
                }
                return self.reader.learn(open, hash);
            }
            self.reader.rewind(&mut open);
        }
        loop {
            let Some((piece, end)) = self.reader.next(&mut open)? else {
                return self.moved_on(file, record);
            };
            let (content, payload) = piece;
            if let Some(hash) = end {
                let known = record.hash.is_none() || record.hash == hash || hash.is_none();
                if !known {
                    return self.moved_on(file, record);
                }
                let mut last = row(file, record, content);
                last.hash = hash;
                last.cut = record.uncut.is_none();
                let made = if last.cut { self.made(record) } else { None };
                self.push(last, payload, made)?;
                return self.reader.learn(open, hash);
            }
            self.push(row(file, record, content), payload, None)?;
            self.flush(false)?;
        }
    }

    /// Reads a whole file only for its hash; `None` when it changed or has none.
    fn hash_of(&mut self, open: &mut R::Open) -> Result<Option<ContentHash>, L::Error> {
        loop {
            match self.reader.next(open)? {
                Some((_, Some(hash))) => return Ok(hash),
                Some((_, None)) => {}
                None => return Ok(None),
            }
        }
    }

    /// Says that a state which is there is a version, where the destination was not told so.
    fn late_cut(
        &mut self,
        file: FileId,
        record: &FileRecord,
        hash: Option<ContentHash>,
    ) -> Result<(), L::Error> {
        if record.uncut.is_some() {
            return Ok(());
        }
        let row = FileRow { hash, cut: true, ..row(file, record, Content::Same) };
        self.push(row, Vec::new(), self.made(record))
    }

    /// Returns the change that made a file's state a version; `None`: the mirror does, since this content was never told.
    fn made(&self, record: &FileRecord) -> Option<Made> {
        let (cut, user) = match &record.told {
            _ if record.forgotten => return None,
            Some(told) if told.fuzzy => return None,
            Some(told) => (told.cut?, told.user.clone()),
            None => (self.goal.base?, None),
        };
        let position = Position { origin: self.goal.origin, epoch: cut.epoch, seq: cut.seq };
        // What was learnt of right at the mirror's beginning is its own.
        let is_before = (cut.epoch, cut.seq) < (self.goal.epoch, self.goal.seq);
        is_before.then_some(Made { position, stamp: cut.stamp, user })
    }

    /// Makes a file known that cannot be given as it was.
    fn moved_on(&mut self, file: FileId, record: &FileRecord) -> Result<(), L::Error> {
        self.lost.push((file, self.goal.seq));
        if self.listing.file(file).is_some() {
            return Ok(());
        }
        let row = placeholder(&row(file, record, Content::Same));
        self.push(row, Vec::new(), None)
    }

    fn push(&mut self, row: FileRow, payload: Vec<u8>, made: Option<Made>) -> Result<(), L::Error> {
        let made = made.map(|made| (row.file, made));
        let said = made.as_ref().map_or(Load::default(), Load::of_made);
        self.room(Load::of_file(&row).with(said))?;
        self.part.change.made.extend(made);
        self.part.change.files.push(row);
        let part = &mut self.part.payload;
        if part.is_empty() && payload.len() >= LARGE_BYTES {
            *part = payload;
        } else if !payload.is_empty() {
            if part.is_empty() {
                *part = self.reader.buffer();
            }
            part.extend_from_slice(&payload);
        }
        Ok(())
    }

    /// Makes room in the part for rows that come next.
    fn room(&mut self, more: Load) -> Result<(), L::Error> {
        if !self.load.add(more) {
            self.flush(false)?;
            self.load = more;
        }
        Ok(())
    }

    fn flush(&mut self, complete: bool) -> Result<(), L::Error> {
        let mut filled = std::mem::take(&mut self.part);
        self.load = Load::default();
        let change = &filled.change;
        let empty = change.names.is_empty() && change.files.is_empty() && change.cuts.is_empty();
        if empty && !complete {
            return Ok(());
        }
        filled.change.stamp = self.goal.stamp;
        self.reader.progress(self.progress);
        self.reader.part(complete, filled)
    }
}

fn row(file: FileId, record: &FileRecord, content: Content) -> FileRow {
    let event = record.told.as_ref().map_or(Event::Mirrored, |told| told.event);
    let meta = record.meta.clone();
    FileRow { file, event, meta, content, hash: None, cut: false, fuzzy: false }
}

/// Where the destination has its folders.
type Folders = HashMap<FileId, (FileId, Name)>;

/// Tells whether nobody could look whether a name is still there: it or a folder above could not be looked at, or not be
/// read.
fn is_unseen(unseen: Option<&HashSet<At>>, folders: &Folders, parent: FileId, name: &Name) -> bool {
    let Some(unseen) = unseen else { return true };
    if unseen.is_empty() {
        return false;
    }
    let (mut at, mut name) = (parent, name);
    for _ in 0..DEPTH_MAX {
        if unseen.contains(&(at, Some(name.clone()))) || unseen.contains(&(at, None)) {
            return true;
        }
        match folders.get(&at) {
            Some((above, its)) => (at, name) = (*above, its),
            None => break,
        }
    }
    false
}

/// Returns how deep a folder of the destination lies; a folder that hangs in the air, or in itself, is as deep as can be.
fn depth(folders: &Folders, folder: FileId) -> usize {
    let mut at = folder;
    for depth in 0..DEPTH_MAX {
        if at == FileId::ROOT {
            return depth;
        }
        match folders.get(&at) {
            Some((parent, _)) => at = *parent,
            None => break,
        }
    }
    usize::MAX
}
