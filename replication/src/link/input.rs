//! What a link has received and not yet handed on.

use std::{fmt, io, sync::atomic::AtomicU64};

use keepshare_host::buffers;
use keepshare_proto::{
    Frame,
    codec::{Clocks, decode_into, parse_lengths},
};

use super::{
    LinkError, add,
    block::{HEADER_BYTES, Unpacked, Unpacker},
};

/// How much room there is for each read.
const READ_BYTES: usize = 64 * 1024;

/// Bytes as they arrive, the frames of the present block, and how far both have been used.
pub(super) struct Input {
    unpacker: Unpacker,
    bytes: Vec<u8>,
    used: usize,
    /// The frames of the last block that was compressed.
    unpacked: Vec<u8>,
    block: Block,
}

/// What was not handed on of the present block.
#[derive(Clone, Copy, Debug, Default)]
struct Block {
    from: usize,
    to: usize,
    /// It stands among the bytes that arrived, as it came.
    is_raw: bool,
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
            unpacked: Vec::new(),
            block: Block::default(),
        })
    }

    /// Returns the buffer to read into, with room at its end.
    ///
    /// It grows with what arrives, never with what was only announced, and holds no more than the rest of one block and
    /// what one read brings. Call it only when [`Self::next_frame`] has no more.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        assert!(self.block.from == self.block.to, "frames of a block were not handed on");
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
        while self.block.from == self.block.to {
            let at = self.used;
            let (taken, block) =
                match self.unpacker.unpack(&self.bytes[at..], &mut self.unpacked)? {
                    Unpacked::Missing => return Ok(None),
                    Unpacked::Raw(taken) => {
                        (taken, Block { from: at + HEADER_BYTES, to: at + taken, is_raw: true })
                    }
                    Unpacked::Block(taken) => {
                        (taken, Block { from: 0, to: self.unpacked.len(), is_raw: false })
                    }
                };
            self.used += taken;
            self.block = block;
            add(received_raw_bytes, block.to - block.from);
        }
        // A block holds whole frames.
        let Block { from, to, is_raw } = self.block;
        let rest = if is_raw { &self.bytes[from..to] } else { &self.unpacked[from..to] };
        let (lengths, rest) = rest.split_first_chunk().ok_or(LinkError::Torn)?;
        let (frame_len, header_len) = parse_lengths(lengths)?;
        let frame = rest.get(..frame_len).ok_or(LinkError::Torn)?;
        let told = decode_into(frame, header_len, buffers::take)?;
        self.block.from += lengths.len() + frame_len;
        Ok(Some(told))
    }
}
