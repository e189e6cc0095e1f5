//! Brings one destination to the state of one place of the journal: reads for [`keepshare_decide::mirror`], which says what
//! is sent.
//!
//! Memory: one region of a file, and up to 64 MiB of block hashes. The view pins the journal's database, which grows while
//! it is held by what is written meanwhile.

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use keepshare_base::{ContentHash, FileId, FilledChange, Name, OriginId, Seq, Stamp};
use keepshare_decide::{
    FileRecord, Known,
    mirror::{self, Filled, Goal, Listing, MirrorProgress, Reader},
};
use keepshare_host::buffers;

use super::{
    Head, MirrorPart, MirrorSink, SourceError,
    ledger::Snapshot,
    map::MapView,
    mirror_read::{Learned, Read},
    shared::{Request, Shared, Unseen, lock},
    tree::{self, Tree},
};

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
        let (head, state) = (self.head(), &self.snapshot.state);
        let tree = lock(&self.shared.tree).clone();
        let tree = tree.ok_or_else(|| SourceError::Vanished("the folder".to_owned()))?;
        let progress = MirrorProgress {
            files_total: self.snapshot.map.file_count()?,
            bytes_total: self.snapshot.map.content_bytes()?,
            ..MirrorProgress::default()
        };
        let goal = Goal {
            origin: OriginId(state.origin),
            epoch: head.epoch,
            seq: head.seq,
            stamp: self.stamp(),
            base: state.base,
            reading: state.reading.iter().map(|(file, ..)| *file).collect(),
        };
        let unseen = lock(&self.shared.unseen).clone();
        let unseen = match &unseen {
            // It was opened anew since the mirror began.
            Unseen::NotYetKnown => return Err(SourceError::NotLooked),
            Unseen::Places(places) => Some(&**places),
            Unseen::TooMany => None,
        };
        let (shared, learned) = (&*self.shared, Learned::default());
        let mut reading = Reading { shared, tree: &tree, sink, head, learned, folder: None };
        let map = &self.snapshot.map;
        mirror::Mirror::new(map, &mut reading, listing, &goal, progress).run(unseen)?;
        Ok(head)
    }
}

/// Reads for a mirror, and hands its parts on.
struct Reading<'a> {
    shared: &'a Shared,
    tree: &'a Tree,
    sink: &'a mut dyn MirrorSink,
    head: Head,
    learned: Learned,
    /// The folder that was opened last: files come folder by folder.
    folder: Option<(FileId, Option<OwnedFd>)>,
}

impl Reading<'_> {
    /// Returns a folder where the map has it; `None` where it cannot be opened there.
    fn folder(&mut self, map: &MapView, folder: FileId) -> Result<Option<&OwnedFd>, SourceError> {
        if self.folder.as_ref().is_none_or(|(open, _)| *open != folder) {
            let path = map.path(folder)?;
            let open = path.and_then(|path| self.tree.folder(&path).ok());
            self.folder = Some((folder, open));
        }
        Ok(self.folder.as_ref().and_then(|(_, open)| open.as_ref()))
    }
}

impl Reader<MapView> for Reading<'_> {
    type Open = Read;

    fn open(
        &mut self,
        map: &MapView,
        file: FileId,
        (parent, name): (FileId, &Name),
        record: &FileRecord,
    ) -> Result<Option<Read>, SourceError> {
        let folder = self.folder(map, parent)?;
        let open = folder.and_then(|folder| tree::open_file(folder.as_fd(), name).ok());
        Ok(open.and_then(|open| Read::begin(self.tree, open, file, record)))
    }

    fn next(
        &mut self,
        open: &mut Read,
    ) -> Result<Option<(Filled, Option<Option<ContentHash>>)>, SourceError> {
        open.next()
    }

    fn rewind(&mut self, open: &mut Read) {
        open.rewind();
    }

    fn learn(&mut self, open: Read, hash: Option<ContentHash>) -> Result<(), SourceError> {
        self.learned.learn(open.finish(hash));
        self.learned.keep_some(&self.shared.database()?)
    }

    fn forget(&mut self, lost: Vec<(FileId, Seq)>) -> Result<(), SourceError> {
        self.shared.ask(|reply| Request::Forget(lost, reply))
    }

    fn part(&mut self, complete: bool, filled: FilledChange) -> Result<(), SourceError> {
        if complete {
            self.learned.keep_all(&self.shared.database()?)?;
        }
        let part = MirrorPart { head: self.head, complete, filled };
        if self.sink.part(part) { Ok(()) } else { Err(SourceError::GivenUp) }
    }

    fn progress(&mut self, progress: MirrorProgress) {
        self.sink.progress(progress);
    }

    fn buffer(&mut self) -> Vec<u8> {
        buffers::take(buffers::BUFFER_BYTES)
    }
}
