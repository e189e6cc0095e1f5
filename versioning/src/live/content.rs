//! A file's content, from the store into a plain file.

use std::{fs::File, io, ops::Range, os::unix::fs::FileExt};

use rustix::{fs::FallocateFlags, io::Errno};

use super::{Fail, beneath::step};
use crate::{BodyChanges, FileState, Reader, View};

/// How much is read and written at once, in bytes.
const PIECE_BYTES: u64 = 1024 * 1024;

/// Zeros are left out as holes in blocks of this many bytes.
const BLOCK_BYTES: usize = 4096;

/// Fills an empty file; zeros stay holes. Returns how many bytes were written.
pub(super) fn fill(
    file: &File,
    state: &FileState,
    view: &View,
    reader: &Reader,
) -> Result<u64, Fail> {
    let size = state.meta.size;
    let mut to = Writer::new(file, (view, reader), Zeros::AreThere);
    if size > PIECE_BYTES {
        // A file system that cannot hold so much says so before anything is written.
        step()?;
        file.set_len(size)?;
        to.end = size;
    }
    to.copy(state, 0..size)?;
    if to.end < size {
        step()?;
        file.set_len(size)?;
    }
    Ok(to.written)
}

/// Writes what changed over what a file holds and makes it `state`'s size. Returns how many bytes were written.
pub(super) fn patch(
    file: &File,
    size_now: u64,
    state: &FileState,
    changes: BodyChanges,
    from: (&View, &Reader),
) -> Result<u64, Fail> {
    if size_now != state.meta.size {
        step()?;
        file.set_len(state.meta.size)?;
    }
    let mut to = Writer::new(file, from, Zeros::AreNot);
    match changes {
        BodyChanges::Whole => to.copy(state, 0..state.meta.size)?,
        BodyChanges::Ranges(ranges) => {
            ranges.into_iter().try_for_each(|range| to.copy(state, range))?;
        }
    }
    Ok(to.written)
}

/// What came of comparing content.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Compared {
    /// Nothing differs to the end.
    Same,
    /// From this byte on something does.
    Differs(u64),
    /// Nothing differs before this byte, from which on it was not looked.
    More(u64),
}

/// Compares a file with a state of its size from `part.start` on, up to about `part.end`: only where one of them has
/// data. Returns how many bytes were compared, too.
pub(super) fn compare(
    file: &File,
    state: &FileState,
    (view, reader): (&View, &Reader),
    part: Range<u64>,
) -> Result<(Compared, u64), Fail> {
    let size = state.meta.size;
    let (mut offset, mut bytes) = (part.start, 0);
    let mut live = vec![];
    loop {
        let stored = view.next_data(state, offset)?;
        let next = [stored, next_data(file, offset)].into_iter().flatten().min();
        let Some(next) = next.filter(|next| *next < size) else {
            return Ok((Compared::Same, bytes));
        };
        if next >= part.end {
            return Ok((Compared::More(next), bytes));
        }
        // Pieces end on borders, so that they are blocks of the store.
        let end = ((next / PIECE_BYTES + 1) * PIECE_BYTES).min(size);
        let want = usize::try_from(end - next).expect("a piece fits into memory");
        let wanted = reader.read_in(view, state, next, want).map_err(Fail::Content)?;
        live.resize(want, 0);
        file.read_exact_at(&mut live, next)?;
        bytes += want as u64;
        let differs = wanted.iter().zip(&live).position(|(a, b)| a != b);
        if let Some(at) = differs.or((wanted.len() != want).then_some(wanted.len())) {
            return Ok((Compared::Differs(next + at as u64), bytes));
        }
        offset = end;
    }
}

/// Returns where from `offset` on a file has data; `None` where only a hole is left. A file system that does not tell has
/// data everywhere.
fn next_data(file: &File, offset: u64) -> Option<u64> {
    match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(offset)) {
        Ok(at) => Some(at.max(offset)),
        Err(Errno::NXIO) => None,
        Err(_) => Some(offset),
    }
}

/// Whether a file already has zeros wherever nothing is written.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Zeros {
    AreThere,
    AreNot,
}

struct Writer<'a> {
    file: &'a File,
    /// What is wanted, and what reads it.
    from: (&'a View, &'a Reader),
    zeros: Zeros,
    written: u64,
    end: u64,
    /// What is being written, in memory that takes the next piece, too.
    bytes: Vec<u8>,
}

impl<'a> Writer<'a> {
    fn new(file: &'a File, from: (&'a View, &'a Reader), zeros: Zeros) -> Self {
        Self { file, from, zeros, written: 0, end: 0, bytes: Vec::new() }
    }

    fn copy(&mut self, state: &FileState, range: Range<u64>) -> Result<(), Fail> {
        let (view, reader) = self.from;
        let mut from = range.start;
        while let Some(offset) = self.next(state, from)?.filter(|next| *next < range.end) {
            // Pieces end on block borders, so that zero blocks are seen as such.
            let border = (offset / PIECE_BYTES + 1) * PIECE_BYTES;
            let len = border.min(range.end) - offset;
            let mut written = Ok(());
            let shown = reader.show_fresh(view, state, offset..offset + len, &mut |at, bytes| {
                if written.is_ok() {
                    written = self.piece(bytes, at);
                }
            });
            let shown = shown.map_err(Fail::Content)?;
            written?;
            from = offset + len;
            if shown {
                continue;
            }
            let want = usize::try_from(len).expect("a piece fits into memory");
            let mut bytes = std::mem::take(&mut self.bytes);
            bytes.clear();
            let read = reader.read_fresh(view, state, offset, want, &mut bytes);
            read.map_err(Fail::Content)?;
            if bytes.len() != want {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            self.piece(&bytes, offset)?;
            self.bytes = bytes;
        }
        Ok(())
    }

    /// Returns where from `offset` on the state has data, or the file has some that may have to go. Where neither has any all
    /// is well, however long that is.
    fn next(&self, state: &FileState, offset: u64) -> Result<Option<u64>, Fail> {
        let stored = self.from.0.next_data(state, offset)?;
        let there = match self.zeros {
            Zeros::AreThere => None,
            Zeros::AreNot => next_data(self.file, offset),
        };
        Ok([stored, there].into_iter().flatten().min())
    }

    /// Writes one piece, runs of zero blocks and runs of others in turn.
    fn piece(&mut self, bytes: &[u8], offset: u64) -> Result<(), Fail> {
        let mut at = 0;
        while at < bytes.len() {
            let zero = is_zero(block(bytes, at, offset));
            let start = at;
            while at < bytes.len() && is_zero(block(bytes, at, offset)) == zero {
                at += block(bytes, at, offset).len();
            }
            let run = &bytes[start..at];
            match (zero, self.zeros) {
                (true, Zeros::AreThere) => {}
                (true, Zeros::AreNot) => self.zero(run, offset + start as u64)?,
                (false, _) => self.write(run, offset + start as u64)?,
            }
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8], offset: u64) -> Result<(), Fail> {
        step()?;
        self.file.write_all_at(bytes, offset)?;
        self.written += bytes.len() as u64;
        self.end = self.end.max(offset + bytes.len() as u64);
        Ok(())
    }

    /// Makes a hole, or writes zeros where the file system has none.
    fn zero(&mut self, zeros: &[u8], offset: u64) -> Result<(), Fail> {
        step()?;
        let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(self.file, how, offset, zeros.len() as u64) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.write(zeros, offset),
            made => Ok(made.map_err(io::Error::from)?),
        }
    }
}

/// Returns the bytes from `at` to the end of its block, given that the first byte is at `offset` of the file.
fn block(bytes: &[u8], at: usize, offset: u64) -> &[u8] {
    let into = usize::try_from((offset + at as u64) % BLOCK_BYTES as u64).unwrap_or(0);
    &bytes[at..bytes.len().min(at + BLOCK_BYTES - into)]
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| *b == 0)
}
