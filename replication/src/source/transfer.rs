//! Turns a file's content into rows: whole for small files, by block hashes for the others, in steps for big ones.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use keepshare_base::{Content, ContentHash, Event, FileId, FileRow, Meta, Seq};
use keepshare_decide::{
    FileRecord,
    compose::{Done, Row},
};

use super::{
    SourceError,
    blocks::{self, Run},
    ledger::Tx,
    owners::Owners,
    pass::{self, Pass, PassError, Pause, Regions},
    piece::Piece,
    shadow::{Awaited, Room, Shadow, Shot},
    tree::{self, Seen},
};
use crate::capture::Touch;

/// A file up to this size is read at once, and sent whole unless little of it differs.
pub(crate) const WHOLE_BYTES_MAX: u64 = 64 << 10;

/// How often a file that changes while it is read is read.
const PASSES_MAX: u32 = 3;

/// A file's content on its way into rows.
#[derive(Debug)]
pub(crate) struct Transfer {
    /// Which file.
    pub(crate) file: FileId,
    /// How it was touched, up to now.
    pub(crate) touch: Touch,
    /// It was written to since the present pass began, whatever its times say.
    pub(crate) written: bool,
    /// The present pass is over, and the file changed under it.
    again: bool,
    /// The file has no name yet.
    pub(crate) born: bool,
    open: OwnedFd,
    content: From,
    /// How it was touched since it is not read itself.
    later: Touch,
    pass: Pass,
    meta: Meta,
    fresh: bool,
    passes: u32,
    read_before: u64,
    changed: bool,
    /// How long reading took until now.
    pub(crate) took: Duration,
}

/// What is read.
#[derive(Debug)]
enum From {
    /// The file itself.
    File,
    /// What it holds at a moment that is to come: nothing is read until then.
    Awaited(Awaited),
    /// What it held at one moment, and the room that this takes.
    Shot { content: OwnedFd, _room: Room },
}

/// What a step gave.
#[derive(Debug)]
pub(crate) enum Step {
    /// A part; there is more.
    Part(Box<Row>),
    /// The budget is used up.
    Paused,
    /// The last row, not decided about cutting; and what was seen.
    Done(Box<Done>),
    /// The file cannot be read.
    Failed(io::Error),
}

impl Transfer {
    /// Begins to read an open file by its block hashes.
    pub(crate) fn begin(
        tx: &mut Tx<'_>,
        owners: &mut Owners,
        open: OwnedFd,
        file: FileId,
        record: &FileRecord,
        born: bool,
    ) -> Result<io::Result<Self>, SourceError> {
        let looked = tree::look_at(open.as_fd())
            .and_then(|seen| Ok((tree::meta_of_open(owners, open.as_fd(), &seen)?, seen)));
        let (mut meta, seen) = match looked {
            Ok(looked) => looked,
            Err(error) => return Ok(Err(error)),
        };
        owners.keep(&mut meta, &record.meta);
        owners.note(file, &meta);
        let fresh = born || record.forgotten || !record.blocks;
        if fresh {
            tx.map.clear_blocks(file, 0)?;
        }
        if record.forgotten {
            // From its first part on this is a base that later changes can build on.
            tx.end_stale(file, Seq(tx.state.head).next())?;
        }
        Ok(Ok(Self {
            file,
            touch: Touch::default(),
            written: false,
            again: false,
            born,
            open,
            content: From::File,
            later: Touch::default(),
            pass: Pass::new(file, seen),
            meta,
            fresh,
            passes: 1,
            read_before: 0,
            changed: fresh,
            took: Duration::ZERO,
        }))
    }

    /// Has what the file holds at one moment be read instead of it, when that is there.
    pub(crate) fn wait_for(&mut self, shot: Awaited) {
        self.content = From::Awaited(shot);
    }

    /// Tells whether there is nothing to read yet.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(&self.content, From::Awaited(shot) if !shot.is_there())
    }

    /// Takes what the file held; `None`: it is read itself after all.
    fn take_shot(&mut self, owners: &mut Owners, shot: Option<Shot>) -> io::Result<()> {
        let Some(Shot { seen, is_racy, content, took, room, since }) = shot else {
            self.passes = 0;
            self.end_shot();
            return Ok(());
        };
        let mut meta = tree::meta_of_open(owners, self.open.as_fd(), &seen)?;
        owners.keep(&mut meta, &self.meta);
        self.meta = meta;
        self.written |= is_racy;
        // Who waited for the disk is left alone as long.
        self.took += took;
        self.pass = match since {
            Some((changed, parts)) if !self.fresh => Pass::over(self.file, seen, changed, parts),
            _ => Pass::in_parts(self.file, seen),
        };
        self.content = From::Shot { content, _room: room };
        Ok(())
    }

    /// Reads on: at most `budget` bytes, or one part.
    pub(crate) fn step(
        &mut self,
        tx: &mut Tx<'_>,
        owners: &mut Owners,
        budget: u64,
    ) -> Result<Step, SourceError> {
        if let From::Awaited(awaited) = &self.content {
            let Some(shot) = awaited.take() else { return Ok(Step::Paused) };
            if let Err(error) = self.take_shot(owners, shot) {
                return Ok(Step::Failed(error));
            }
        }
        if self.again
            && let Err(error) = self.begin_again(owners)
        {
            return Ok(Step::Failed(error));
        }
        let mut piece = Piece::default();
        let content = match &self.content {
            From::Shot { content, .. } => content,
            _ => &self.open,
        };
        let pause = match self.pass.step(content, &mut tx.map, &mut piece, budget) {
            Ok(pause) => pause,
            Err(PassError::Map(error)) => return Err(error),
            Err(PassError::Read(error)) => return Ok(Step::Failed(error)),
        };
        self.changed |= !piece.is_empty();
        if pause != Pause::End {
            if piece.is_empty() {
                return Ok(Step::Paused);
            }
            return Ok(Step::Part(Box::new(self.part(piece))));
        }
        let stable = match &self.content {
            From::Shot { .. } => true,
            _ => match tree::look_at(self.open.as_fd()) {
                Ok(now) => now.signature == self.pass.start.signature,
                Err(error) => return Ok(Step::Failed(error)),
            },
        };
        if !stable && self.passes < PASSES_MAX {
            // What was read so far is sent; the next pass brings what changed meanwhile.
            self.again = true;
            return Ok(Step::Part(Box::new(self.part(piece))));
        }
        let hash = if stable { self.pass.hash() } else { None };
        let seen = self.pass.start;
        let changed = self.changed;
        let row = self.row(piece, hash, !stable);
        Ok(Step::Done(Box::new(Done { row, seen, blocks: true, changed })))
    }

    fn begin_again(&mut self, owners: &mut Owners) -> io::Result<()> {
        let now = tree::look_at(self.open.as_fd())?;
        let mut meta = tree::meta_of_open(owners, self.open.as_fd(), &now)?;
        owners.keep(&mut meta, &self.meta);
        self.meta = meta;
        self.passes += 1;
        self.read_before += self.pass.read;
        self.pass = Pass::new(self.file, now);
        (self.again, self.written) = (false, false);
        Ok(())
    }

    /// Hears how the file was touched while it is read.
    pub(crate) fn touched(&mut self, touch: Touch) {
        if self.is_of_shot() {
            self.later.add(touch);
        } else {
            self.touch.add(touch);
            self.written |= touch.modified;
        }
    }

    /// Has the file become a version when it is read, as if whoever writes it had ended.
    pub(crate) fn end_writing(&mut self) {
        self.touch.closed = true;
    }

    /// Tells whether what is read is not the file itself.
    pub(crate) fn is_of_shot(&self) -> bool {
        !matches!(self.content, From::File)
    }

    /// Lets go of what the file held when this began: it is read itself, from its beginning.
    pub(crate) fn end_shot(&mut self) {
        if self.is_of_shot() {
            self.content = From::File;
            self.again = true;
            let later = std::mem::take(&mut self.later);
            self.touched(later);
        }
    }

    /// Returns how the file was touched since what is read of it: it is to be looked at for that when this is done.
    pub(crate) fn later(&self) -> Option<Touch> {
        (self.later != Touch::default()).then_some(self.later)
    }

    /// Returns what was read, to be the file's shadow, when all of it was.
    pub(crate) fn into_shadow(mut self, hash: Option<ContentHash>) -> Option<Shadow> {
        let parts = self.pass.take_parts();
        match self.content {
            From::Shot { content, .. } => {
                Some(Shadow::new(content, self.pass.start.signature, hash, parts))
            }
            _ => None,
        }
    }

    /// Tells whether the next step begins another pass: what was told of the file until then is in it.
    pub(crate) fn is_between_passes(&self) -> bool {
        self.again
    }

    /// Returns how much was read in all passes, in bytes.
    pub(crate) fn read_bytes(&self) -> u64 {
        self.read_before + self.pass.read
    }

    /// Returns a row that is not the last: what it leaves was the file's content at no moment.
    fn part(&mut self, piece: Piece) -> Row {
        self.row(piece, None, true)
    }

    fn row(&mut self, piece: Piece, hash: Option<ContentHash>, fuzzy: bool) -> Row {
        let fresh = std::mem::take(&mut self.fresh);
        let (content, payload) = piece.into_content(fresh);
        let event = if self.born { Event::Created } else { Event::Saved };
        let meta = self.meta.clone();
        let row = FileRow { file: self.file, event, meta, content, hash, cut: false, fuzzy };
        Row { row, payload }
    }
}

/// Reads a small file at once and finds what differs of it; `None` when it is not small any more.
pub(crate) fn whole(
    tx: &mut Tx<'_>,
    owners: &mut Owners,
    open: &OwnedFd,
    file: FileId,
    record: &FileRecord,
    born: bool,
) -> Result<io::Result<Option<Done>>, SourceError> {
    let Small { mut meta, payload, seen, fuzzy } = match read_small(owners, open) {
        Ok(Some(read)) => read,
        Ok(None) => return Ok(Ok(None)),
        Err(error) => return Ok(Err(error)),
    };
    owners.keep(&mut meta, &record.meta);
    owners.note(file, &meta);
    let known = record.blocks && !record.forgotten && !born;
    let now = blocks::hash_small(&payload);
    let runs = if known {
        let before = tx.map.region(file, 0)?;
        blocks::changed(before.as_deref(), now.as_deref(), payload.len())
    } else {
        Vec::new()
    };
    if tx.map.region_from(file, 1)?.is_some() {
        // It was large once.
        tx.map.clear_blocks(file, 1)?;
    }
    tx.map.set_region(file, 0, now.as_deref())?;
    let hash = Some(ContentHash::of(&payload));
    let sent: usize = runs.iter().map(|run| run.end - run.start).sum();
    // What is mostly new anyway goes whole: it builds on nothing that a destination must have got before.
    let (content, payload) = if known && sent <= payload.len() / 2 {
        delta(&runs, &payload)
    } else {
        (Content::whole(&payload), payload)
    };
    let event = if born { Event::Created } else { Event::Saved };
    let row = FileRow { file, event, meta, content, hash, cut: false, fuzzy };
    let row = Row { row, payload };
    Ok(Ok(Some(Done { row, seen, blocks: true, changed: true })))
}

/// A small file as it was read.
struct Small {
    meta: Meta,
    payload: Vec<u8>,
    seen: Seen,
    /// It changed each time.
    fuzzy: bool,
}

/// Reads a small file and its attributes, again while it changes; `None` when it is not small any more.
fn read_small(owners: &mut Owners, open: &OwnedFd) -> io::Result<Option<Small>> {
    let limit = usize::try_from(WHOLE_BYTES_MAX).unwrap_or(usize::MAX);
    let mut passes = 0;
    loop {
        passes += 1;
        let seen = tree::look_at(open.as_fd())?;
        let mut meta = tree::meta_of_open(owners, open.as_fd(), &seen)?;
        let Some(payload) = pass::read_small(open, limit)? else { return Ok(None) };
        let now = tree::look_at(open.as_fd())?;
        let len = payload.len() as u64;
        let stable = now.signature == seen.signature && len == seen.signature.size;
        if stable || passes >= PASSES_MAX {
            meta.size = len;
            return Ok(Some(Small { meta, payload, seen, fuzzy: !stable }));
        }
    }
}

/// Returns only what differs of a small content.
fn delta(runs: &[Run], bytes: &[u8]) -> (Content, Vec<u8>) {
    let mut piece = Piece::default();
    for run in runs {
        // All of a small content fits into one piece.
        if run.zero {
            piece.zeros(run.start as u64, (run.end - run.start) as u64);
        } else {
            piece.data(run.start as u64, &bytes[run.start..run.end]);
        }
    }
    piece.into_content(false)
}
