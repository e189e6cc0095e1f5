//! What a link has received and not yet handed on.

use std::{fmt, io, sync::atomic::AtomicU64};

use keepshare_proto::{
    Frame,
    codec::{Clocks, decode_told, parse_lengths},
};

use super::{
    LinkError, add,
    block::{Unpacked, Unpacker},
};

/// How much room there is for each read.
const READ_BYTES: usize = 64 * 1024;

/// Bytes as they arrive, the frames of the present block, and how far both have been used.
pub(super) struct Input {
    unpacker: Unpacker,
    bytes: Vec<u8>,
    used: usize,
    frames: Vec<u8>,
    handed_on: usize,
}

impl fmt::Debug for Input {
    /// Leaves the contents out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

impl Input {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            unpacker: Unpacker::new()?,
            bytes: Vec::new(),
            used: 0,
            frames: Vec::new(),
            handed_on: 0,
        })
    }

    /// Returns the buffer to read into, with room at its end.
    ///
    /// It grows with what arrives, never with what was only announced, and holds no more than the rest of one block and
    /// what one read brings.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        self.bytes.drain(..self.used);
        self.used = 0;
        self.bytes.reserve(READ_BYTES);
        &mut self.bytes
    }

    pub(super) fn is_between_blocks(&self) -> bool {
        self.used == self.bytes.len()
    }
}

impl Input {
    /// Returns the next whole frame; `None` until more is read.
    pub(super) fn next_frame(
        &mut self,
        received_raw_bytes: &AtomicU64,
    ) -> Result<Option<(Frame, Clocks)>, LinkError> {
        while self.handed_on == self.frames.len() {
            match self.unpacker.unpack(&self.bytes[self.used..], &mut self.frames)? {
                Unpacked::Missing => return Ok(None),
                Unpacked::Block(bytes) => {
                    self.used += bytes;
                    self.handed_on = 0;
                    add(received_raw_bytes, self.frames.len());
                }
            }
        }
        // A block holds whole frames.
        let rest = &self.frames[self.handed_on..];
        let (lengths, rest) = rest.split_first_chunk().ok_or(LinkError::Torn)?;
        let (frame_len, header_len) = parse_lengths(lengths)?;
        let told = decode_told(rest.get(..frame_len).ok_or(LinkError::Torn)?, header_len)?;
        self.handed_on += lengths.len() + frame_len;
        Ok(Some(told))
    }
}
