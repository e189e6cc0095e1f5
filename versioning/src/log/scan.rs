//! Walking the frames of a log file, and finding the next good one behind a bad one.
//!
//! A walker says what is there and decides nothing: whether a bad place is a torn tail or damage is [`super::open`]'s to
//! say, which knows what is durable.

use std::{io, sync::Arc};

use keepshare_base::CommitId;

use crate::disk::DiskFile;

use super::frame::{ALIGN, FrameHeader, FrameKind};

/// Walks the frames of one file, reading it in large pieces.
#[derive(Debug)]
pub(super) struct Walker {
    file: Arc<dyn DiskFile>,
    id: u64,
    /// Where the next frame is expected.
    offset: u64,
    /// Where the file ends, for this walk.
    end: u64,
    window: Vec<u8>,
    window_start: u64,
}

/// What a walker finds at its place.
#[derive(Debug)]
pub(super) enum Step<'a> {
    /// A good frame, which it has gone past.
    Frame { header: FrameHeader, body: &'a [u8], end: u64 },
    /// No good frame; it has stayed.
    Bad,
    /// The end of the file.
    End,
}

/// What is behind a bad place.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Behind {
    /// The highest commit that anything behind it says is durable.
    pub(super) durable: CommitId,
    /// Where the walk can go on with nothing missing but marks.
    pub(super) resume: Option<u64>,
}

impl Walker {
    pub(super) fn new(file: Arc<dyn DiskFile>, id: u64, offset: u64, end: u64) -> Self {
        Self { file, id, offset, end, window: vec![], window_start: offset }
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn go_to(&mut self, offset: u64) {
        self.offset = offset;
    }

    /// Reads the frame here and goes past it, if it is good.
    pub(super) fn step(&mut self) -> io::Result<Step<'_>> {
        if self.offset >= self.end {
            return Ok(Step::End);
        }
        let (id, offset) = (self.id, self.offset);
        let Some(header) = FrameHeader::from_bytes(id, offset, self.fill(FrameHeader::BYTES)?)
        else {
            return Ok(Step::Bad);
        };
        let len = header.frame_len();
        if self.fill(len)?.len() < len || self.body(&header).is_none() {
            return Ok(Step::Bad);
        }
        self.offset += len as u64;
        let at = self.index(offset);
        let body = &self.window[at + FrameHeader::BYTES..][..header.body_len];
        Ok(Step::Frame { header, body, end: self.offset })
    }

    /// Looks at everything behind the bad frame here, the last good record being `commit`'s. Stays.
    pub(super) fn look_behind(&mut self, commit: CommitId) -> io::Result<Behind> {
        let start = self.offset;
        let mut behind = Behind::default();
        let mut first = true;
        self.skip_bad()?;
        loop {
            let here = self.offset;
            match self.step()? {
                Step::End => break,
                Step::Bad => {
                    // Its header can still be good and tell what is durable.
                    behind.durable = behind.durable.max(self.durable_here()?);
                    self.skip_bad()?;
                }
                Step::Frame { header, .. } => {
                    if first && follows(&header, commit) {
                        behind.resume = Some(here);
                        break;
                    }
                    first = false;
                    behind.durable = behind.durable.max(header.durable);
                }
            }
        }
        self.offset = start;
        Ok(behind)
    }

    /// Goes from a bad frame to the next place that could hold a good one.
    ///
    /// A good header is trusted for its length, so that what users put in a body is never taken for frames.
    fn skip_bad(&mut self) -> io::Result<()> {
        let (id, offset) = (self.id, self.offset);
        if let Some(header) = FrameHeader::from_bytes(id, offset, self.fill(FrameHeader::BYTES)?) {
            self.offset = offset.saturating_add(header.frame_len() as u64).min(self.end);
            return Ok(());
        }
        loop {
            self.offset = self.offset.saturating_add(ALIGN as u64).min(self.end);
            let (id, offset) = (self.id, self.offset);
            if offset == self.end
                || FrameHeader::from_bytes(id, offset, self.fill(FrameHeader::BYTES)?).is_some()
            {
                return Ok(());
            }
        }
    }

    fn durable_here(&mut self) -> io::Result<CommitId> {
        let (id, offset) = (self.id, self.offset);
        let header = FrameHeader::from_bytes(id, offset, self.fill(FrameHeader::BYTES)?);
        Ok(header.map_or(CommitId(0), |header| header.durable))
    }

    fn body(&self, header: &FrameHeader) -> Option<&[u8]> {
        let at = self.index(self.offset);
        let padded = &self.window[at + FrameHeader::BYTES..at + header.frame_len()];
        header.body(self.id, self.offset, padded)
    }

    /// Returns the next `len` bytes, or as many as there are before the end.
    fn fill(&mut self, len: usize) -> io::Result<&[u8]> {
        let left = self.end - self.offset;
        let len = usize::try_from(left).map_or(len, |left| left.min(len));
        let held = self.window_start <= self.offset
            && self.offset + len as u64 <= self.window_start + self.window.len() as u64;
        if !held {
            let piece = usize::try_from(left).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
            self.window.resize(piece.max(len), 0);
            self.window_start = self.offset;
            self.file.read_exact_at(&mut self.window, self.offset)?;
        }
        let at = self.index(self.offset);
        Ok(&self.window[at..at + len])
    }

    fn index(&self, offset: u64) -> usize {
        usize::try_from(offset - self.window_start).expect("the window is in memory")
    }
}

/// Whether a frame directly follows the record of `commit`, so that nothing but marks can be missing between.
fn follows(header: &FrameHeader, commit: CommitId) -> bool {
    match header.kind {
        FrameKind::Record => is_next(header.commit, commit),
        FrameKind::Mark => header.commit == commit,
        FrameKind::Snapshot | FrameKind::SnapshotEnd => false,
    }
}

/// Whether `commit` is the one after `last`.
pub(super) fn is_next(commit: CommitId, last: CommitId) -> bool {
    last.0.checked_add(1) == Some(commit.0)
}

/// How much of the file is read at once, in bytes; longer frames are read whole.
const PIECE_BYTES: usize = 1024 * 1024;
