//! Brings one destination to the state of one place of the journal, sending only what differs.
//!
//! First the destination's names that stand for something else here, or for nothing, are taken away, the deepest first;
//! then everything is gone through from the root down: a folder before what is in it, content before the name. Nothing a
//! part says is undone by a later one, so an interrupted mirror is simply begun again.
//!
//! A file that is not what it was at that place any more cannot be given as it was then. It is made known without
//! content, and everything of it that the journal holds after that place is withheld until it has been sent whole
//! ([`provider`](super::provider)): a version is what once was, or it is none.
//!
//! Memory: the listing, 20 bytes for each folder that still has to be gone through and each file with several names, one
//! part, one region of a file, and up to 64 MiB of block hashes.
//! The view pins the journal's database, which grows while it is held by what is written meanwhile.

use std::{
    collections::{HashMap, HashSet},
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use keepshare_base::{
    Content, ContentHash, Event, FileId, FileRow, FilledChange, Kind, Made, Name, NameRow,
    OriginId, Position, Seq, Stamp,
};
use keepshare_host::buffers;
use keepshare_proto::StateDigest;

use keepshare_decide::{At, FileRecord, MapEntry, compose::fitting::Load};

use super::{
    Head, Listing, MirrorPart, MirrorProgress, MirrorSink, SourceError,
    ledger::Snapshot,
    mirror_read::{self, Learned, Read},
    provider,
    shared::{Request, Shared, Unseen, lock},
    tree::{self, Tree},
};

/// So many names are taken from the map at a time.
const PAGE: usize = 512;

/// Content of so many bytes is what a part begins with, and is not copied; less is gathered.
const LARGE_BYTES: usize = 256 * 1024;

/// Progress is told once in so many files.
const PROGRESS_EVERY: u64 = 64;

/// A view of a set at one place of its journal, to bring a destination there.
pub struct Mirror {
    shared: Arc<Shared>,
    snapshot: Snapshot,
}

impl std::fmt::Debug for Mirror {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mirror").field("head", &self.head()).finish_non_exhaustive()
    }
}

impl Mirror {
    pub(crate) fn begin(shared: Arc<Shared>) -> Result<Self, SourceError> {
        shared.wait_scanned()?;
        shared.wait_looked()?;
        let snapshot = shared.ask(Request::Mirror)?;
        Ok(Self { shared, snapshot })
    }

    /// Returns the place that the mirror leads to.
    pub fn head(&self) -> Head {
        self.snapshot.state.head()
    }

    /// Returns the journal's time there.
    pub fn stamp(&self) -> Stamp {
        self.snapshot.state.stamp
    }

    /// Gives everything that differs from `listing`. Blocks until all is taken.
    pub fn run(self, listing: &Listing, sink: &mut dyn MirrorSink) -> Result<Head, SourceError> {
        let head = self.head();
        let tree = lock(&self.shared.tree).clone();
        let tree = tree.ok_or_else(|| SourceError::Vanished("the folder".to_owned()))?;
        let progress = MirrorProgress {
            files_total: self.snapshot.map.file_count()?,
            bytes_total: self.snapshot.map.content_bytes()?,
            ..MirrorProgress::default()
        };
        let lost = self.snapshot.state.reading.iter().map(|(file, ..)| (*file, head.seq)).collect();
        let mut run = Run {
            shared: &self.shared,
            snapshot: &self.snapshot,
            tree: &tree,
            listing,
            sink,
            head,
            stamp: self.stamp(),
            part: FilledChange::default(),
            load: Load::default(),
            progress,
            lost,
            learned: Learned::default(),
            linked: HashSet::new(),
            open: None,
        };
        run.removals()?;
        run.tree()?;
        run.learned.keep_all(&self.shared.database()?)?;
        let lost = std::mem::take(&mut run.lost);
        if !lost.is_empty() {
            // Before the destination goes on from here: what the journal says of these files must be withheld.
            self.shared.ask(|reply| Request::Forget(lost, reply))?;
        }
        run.flush(true)?;
        Ok(head)
    }
}

/// A mirror at work.
struct Run<'a> {
    shared: &'a Shared,
    snapshot: &'a Snapshot,
    tree: &'a Tree,
    listing: &'a Listing,
    sink: &'a mut dyn MirrorSink,
    head: Head,
    stamp: Stamp,
    part: FilledChange,
    /// What its rows come to.
    load: Load,
    progress: MirrorProgress,
    lost: Vec<(FileId, Seq)>,
    learned: Learned,
    linked: HashSet<FileId>,
    /// The folder that was opened last: files come folder by folder.
    open: Option<(FileId, Option<OwnedFd>)>,
}

impl Run<'_> {
    /// Takes away the destination's names that stand for something else here.
    fn removals(&mut self) -> Result<(), SourceError> {
        let mut wrong = Vec::new();
        for ((parent, name), (file, kind)) in &self.listing.names {
            if self.snapshot.map.lookup(*parent, name)? != Some((*file, *kind)) {
                wrong.push((*parent, name, *file, *kind));
            }
        }
        let folders: Folders<'_> = self
            .listing
            .names
            .iter()
            .filter(|(_, (_, kind))| *kind == Kind::Dir)
            .map(|((parent, name), (file, _))| (*file, (*parent, name)))
            .collect();
        let unseen = lock(&self.shared.unseen).clone();
        let unseen = match &unseen {
            // It was opened anew since the mirror began.
            Unseen::NotYetKnown => return Err(SourceError::NotLooked),
            Unseen::Places(places) => Some(&**places),
            Unseen::TooMany => None,
        };
        wrong.retain(|(parent, name, file, kind)| {
            // A name that stands for something else now was seen.
            let is_gone = !matches!(self.snapshot.map.lookup(*parent, name), Ok(Some(_)));
            // A folder has one name: what is elsewhere now has not stayed where nobody can look.
            let has_moved = *kind == Kind::Dir
                && self.snapshot.map.links(*file, 1).is_ok_and(|links| !links.is_empty());
            !is_gone || has_moved || !is_unseen(unseen, &folders, *parent, name)
        });
        wrong.sort_by_cached_key(|(parent, name, ..)| {
            (std::cmp::Reverse(depth(&folders, *parent)), *parent, (*name).clone())
        });
        for (parent, name, file, kind) in wrong {
            let row = NameRow { parent, name: name.clone(), target: None };
            let ends = kind == Kind::File && self.snapshot.map.links(file, 1)?.is_empty();
            let cut = if ends { Load::of_cut(file) } else { Load::default() };
            self.room(Load::of_name(&row).with(cut))?;
            self.part.change.names.push(row);
            self.part.change.cuts.extend(ends.then_some(file));
        }
        // A name that is taken away may come again: not in one change.
        self.flush(false)
    }

    /// Goes through everything from the root down.
    fn tree(&mut self) -> Result<(), SourceError> {
        if let Some(record) = self.snapshot.map.record(FileId::ROOT)? {
            self.attributes(FileId::ROOT, &record)?;
        }
        let mut folders = vec![FileId::ROOT];
        while let Some(folder) = folders.pop() {
            let mut after: Option<Name> = None;
            loop {
                let entries = self.snapshot.map.list(folder, after.as_ref(), PAGE)?;
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

    fn entry(&mut self, parent: FileId, entry: &MapEntry) -> Result<(), SourceError> {
        let Some(record) = self.snapshot.map.record(entry.file)? else { return Ok(()) };
        // What has several names is met several times: a folder has one.
        let links = if entry.kind == Kind::Dir { 0 } else { 2 };
        let met = self.snapshot.map.links(entry.file, links)?.len() > 1
            && !self.linked.insert(entry.file);
        if !met {
            if entry.kind == Kind::File {
                self.file(parent, entry, &record)?;
            } else {
                self.attributes(entry.file, &record)?;
            }
            self.progress.files_done += 1;
            self.progress.bytes_done += record.meta.size;
            if self.progress.files_done.is_multiple_of(PROGRESS_EVERY) {
                self.sink.progress(self.progress);
            }
        }
        let there = self.listing.names.get(&(parent, entry.name.clone()));
        if there != Some(&(entry.file, entry.kind)) {
            let target = Some((entry.file, entry.kind));
            let row = NameRow { parent, name: entry.name.clone(), target };
            self.room(Load::of_name(&row))?;
            self.part.change.names.push(row);
        }
        Ok(())
    }

    /// Sends the row of something that has no content, if it differs.
    fn attributes(&mut self, file: FileId, record: &FileRecord) -> Result<(), SourceError> {
        let digest = StateDigest::of(&record.meta, record.hash.as_ref());
        if self.listing.files.get(&file).is_some_and(|(there, _)| *there == digest) {
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
    ) -> Result<(), SourceError> {
        let file = entry.file;
        let listed = self.listing.files.get(&file).copied();
        let there = listed.map(|(digest, _)| digest);
        let is_cut = listed.is_some_and(|(_, version)| version.is_some());
        let digest = |record: &FileRecord| StateDigest::of(&record.meta, record.hash.as_ref());
        if there == Some(digest(record)) && record.hash.is_some() && !record.forgotten {
            return if is_cut { Ok(()) } else { self.late_cut(file, record, record.hash) };
        }
        let folder = self.folder(parent)?;
        let open = folder.and_then(|folder| tree::open_file(folder.as_fd(), &entry.name).ok());
        let Some(mut read) = open.and_then(|open| Read::begin(self.tree, open, file, record))
        else {
            return self.moved_on(file, record);
        };
        if record.hash.is_none() && there.is_some() {
            // Perhaps the destination has just this: reading is cheaper than sending.
            let hash = mirror_read::hash_of(&mut read)?;
            if hash.is_some() && there == Some(StateDigest::of(&record.meta, hash.as_ref())) {
                self.learned.learn(read.finish(hash));
                if !is_cut {
                    self.late_cut(file, record, hash)?;
                }
                return self.learned.keep_some(&self.shared.database()?);
            }
            read.rewind();
        }
        loop {
            let Some((piece, end)) = read.next()? else {
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
                self.learned.learn(read.finish(hash));
                return self.learned.keep_some(&self.shared.database()?);
            }
            self.push(row(file, record, content), payload, None)?;
            self.flush(false)?;
        }
    }

    /// Says that a state which is there is a version, where the destination was not told so.
    fn late_cut(
        &mut self,
        file: FileId,
        record: &FileRecord,
        hash: Option<ContentHash>,
    ) -> Result<(), SourceError> {
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
            None => (self.snapshot.state.base?, None),
        };
        let origin = OriginId(self.snapshot.state.origin);
        let position = Position { origin, epoch: cut.epoch, seq: cut.seq };
        // What was learnt of right at the mirror's beginning is its own.
        let is_before = (cut.epoch, cut.seq) < (self.head.epoch, self.head.seq);
        is_before.then_some(Made { position, stamp: cut.stamp, user })
    }

    /// Returns a folder where the map has it; `None` where it cannot be opened there.
    fn folder(&mut self, folder: FileId) -> Result<Option<&OwnedFd>, SourceError> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != folder) {
            let path = self.snapshot.map.path(folder)?;
            let open = path.and_then(|path| self.tree.folder(&path).ok());
            self.open = Some((folder, open));
        }
        Ok(self.open.as_ref().and_then(|(_, open)| open.as_ref()))
    }

    /// Makes a file known that cannot be given as it was.
    fn moved_on(&mut self, file: FileId, record: &FileRecord) -> Result<(), SourceError> {
        self.lost.push((file, self.head.seq));
        if self.listing.files.contains_key(&file) {
            return Ok(());
        }
        let row = provider::placeholder(&row(file, record, Content::Same));
        self.push(row, Vec::new(), None)
    }

    fn push(
        &mut self,
        row: FileRow,
        payload: Vec<u8>,
        made: Option<Made>,
    ) -> Result<(), SourceError> {
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
                *part = buffers::take(buffers::BUFFER_BYTES);
            }
            part.extend_from_slice(&payload);
        }
        Ok(())
    }

    /// Makes room in the part for rows that come next.
    fn room(&mut self, more: Load) -> Result<(), SourceError> {
        if !self.load.add(more) {
            self.flush(false)?;
            self.load = more;
        }
        Ok(())
    }

    fn flush(&mut self, complete: bool) -> Result<(), SourceError> {
        let mut filled = std::mem::take(&mut self.part);
        self.load = Load::default();
        let change = &filled.change;
        let empty = change.names.is_empty() && change.files.is_empty() && change.cuts.is_empty();
        if empty && !complete {
            return Ok(());
        }
        filled.change.stamp = self.stamp;
        self.sink.progress(self.progress);
        let part = MirrorPart { head: self.head, complete, filled };
        if self.sink.part(part) { Ok(()) } else { Err(SourceError::GivenUp) }
    }
}

fn row(file: FileId, record: &FileRecord, content: Content) -> FileRow {
    let event = record.told.as_ref().map_or(Event::Mirrored, |told| told.event);
    let meta = record.meta.clone();
    FileRow { file, event, meta, content, hash: None, cut: false, fuzzy: false }
}

/// Where the destination has its folders.
type Folders<'a> = HashMap<FileId, (FileId, &'a Name)>;

/// Tells whether nobody could look whether a name is still there: it or a folder above could not be looked at, or not be
/// read.
fn is_unseen(
    unseen: Option<&HashSet<At>>,
    folders: &Folders<'_>,
    parent: FileId,
    name: &Name,
) -> bool {
    let Some(unseen) = unseen else { return true };
    if unseen.is_empty() {
        return false;
    }
    let (mut at, mut name) = (parent, name);
    for _ in 0..keepshare_base::DEPTH_MAX {
        if unseen.contains(&(at, Some(name.clone()))) || unseen.contains(&(at, None)) {
            return true;
        }
        match folders.get(&at) {
            Some(above) => (at, name) = *above,
            None => break,
        }
    }
    false
}

/// Returns how deep a folder of the destination lies; a folder that hangs in the air, or in itself, is as deep as can be.
fn depth(folders: &Folders<'_>, folder: FileId) -> usize {
    let mut at = folder;
    for depth in 0..keepshare_base::DEPTH_MAX {
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
