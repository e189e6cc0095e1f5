//! What was written to the packs a moment ago, in the memory that it was written from.
//!
//! The live tree shows content right after it was kept. It takes it from here, where nobody has to read it from the disk
//! and to check what the disk gave; what is not here any more is read like everything else.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{PackLoc, frame::FrameHeader};

/// How much memory is held, in bytes: some groups of changes, so that a live tree a little behind finds all of it.
const BYTES_MAX: usize = 32 * 1024 * 1024;

/// What is shorter is read again, in bytes: it takes as much memory as something long.
pub(super) const PIECE_BYTES_MIN: usize = 64 * 1024;

/// What was written last; clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Fresh(Arc<Mutex<Pieces>>);

#[derive(Debug, Default)]
struct Pieces {
    newest_last: VecDeque<Arc<Piece>>,
    /// What they take.
    bytes: usize,
    /// Memory for what is written next.
    spare: Option<Vec<u8>>,
}

/// Whole frames as they stand in a pack, one after the other.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) pack: u64,
    pub(super) id: u64,
    /// Where the first one begins.
    pub(super) start: u64,
    pub(super) frames: Vec<u8>,
}

impl Fresh {
    /// Takes what was written, and gives memory back for what is written next, where some can be had.
    pub(super) fn put(&self, piece: Piece) -> Option<Vec<u8>> {
        let mut pieces = self.lock();
        pieces.bytes += piece.frames.capacity();
        pieces.newest_last.push_back(Arc::new(piece));
        let mut free = pieces.spare.take();
        while pieces.bytes > BYTES_MAX {
            let Some(oldest) = pieces.newest_last.pop_front() else { break };
            pieces.bytes -= oldest.frames.capacity();
            // Whoever reads it just now lets go of it later.
            free = Arc::into_inner(oldest).map(|oldest| oldest.frames).or(free);
        }
        free
    }

    /// Returns the piece that has the frame at `loc`.
    pub(super) fn find(&self, loc: &PackLoc) -> Option<Arc<Piece>> {
        let pieces = self.lock();
        pieces.newest_last.iter().find(|piece| piece.frame(loc).is_some()).cloned()
    }

    /// Lets go of everything but memory for what is written next.
    pub(super) fn clear(&self) {
        let mut pieces = self.lock();
        let last = pieces.newest_last.pop_back().and_then(Arc::into_inner);
        let spare = last.map(|last| last.frames).or(pieces.spare.take());
        *pieces = Pieces { spare, ..Pieces::default() };
    }

    fn lock(&self) -> MutexGuard<'_, Pieces> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Piece {
    /// Returns the bytes from a frame's beginning to its end.
    pub(super) fn frame(&self, loc: &PackLoc) -> Option<&[u8]> {
        let at = loc.offset.checked_sub(self.start).filter(|_| loc.pack == self.pack)?;
        let (at, len) = (usize::try_from(at).ok()?, usize::try_from(loc.frame_bytes()).ok()?);
        self.frames.get(at..at.checked_add(len)?)
    }

    /// Returns the header of the frame at `loc`; `None` where another one stands there.
    pub(super) fn header(&self, loc: &PackLoc) -> Option<FrameHeader> {
        let header = FrameHeader::from_bytes(self.id, loc.offset, self.frame(loc)?)?;
        Some(header).filter(|header| loc.is_of(header))
    }
}
