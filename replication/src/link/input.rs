//! What a link has received and not yet handed on.

use std::{fmt, io, sync::atomic::AtomicU64};

use keepshare_host::buffers;
use keepshare_proto::{
    Frame,
    codec::{Clocks, LENGTHS_BYTES, decode_apart, decode_into, parse_lengths},
};

use super::{
    LinkError, add,
    block::{HEADER_BYTES, Unpacked, Unpacker, raw_len},
};

/// How much room there is for each read.
const READ_BYTES: usize = 64 * 1024;

/// Content of so many bytes, in a frame that is a block of its own, is read to where it stays; less is copied there.
const APART_BYTES_MIN: usize = 128 * 1024;

/// Bytes as they arrive, the frames of the present block, and how far both have been used.
pub(super) struct Input {
    unpacker: Unpacker,
    bytes: Vec<u8>,
    used: usize,
    /// The frames of the last block that was compressed.
    unpacked: Vec<u8>,
    block: Block,
    apart: Option<Apart>,
}

/// A frame with much content that is a block of its own.
struct Apart {
    header: Vec<u8>,
    payload: Vec<u8>,
    /// How many bytes of the payload have not arrived.
    missing: usize,
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
            apart: None,
        })
    }

    /// Returns the buffer to read into, with room at its end, and how much may be read at most.
    ///
    /// It grows with what arrives, and not with what was only announced, but for the content of one change. It holds no more
    /// than the rest of one block and what one read brings. Call it only when [`Self::next_frame`] has no more.
    pub(super) fn buffer(&mut self) -> (&mut Vec<u8>, usize) {
        assert!(self.block.from == self.block.to, "frames of a block were not handed on");
        self.bytes.drain(..self.used);
        self.used = 0;
        match &mut self.apart {
            Some(Apart { payload, missing, .. }) => (payload, *missing),
            None => {
                self.bytes.reserve(READ_BYTES);
                (&mut self.bytes, usize::MAX)
            }
        }
    }

    /// Hears how much was read into [`Self::buffer`].
    pub(super) fn arrived(&mut self, bytes: usize) {
        if let Some(apart) = &mut self.apart {
            apart.missing -= bytes;
        }
    }

    pub(super) fn is_between_blocks(&self) -> bool {
        self.used == self.bytes.len() && self.apart.is_none()
    }
}

impl Input {
    /// Returns the next whole frame; `None` until more is read.
    pub(super) fn next_frame(
        &mut self,
        received_raw_bytes: &AtomicU64,
    ) -> Result<Option<(Frame, Clocks)>, LinkError> {
        if let Some(apart) = self.apart.take_if(|apart| apart.missing == 0) {
            let Apart { header, payload, .. } = apart;
            add(received_raw_bytes, LENGTHS_BYTES + header.len() + payload.len());
            return Ok(Some(decode_apart(&header, payload)?));
        }
        while self.block.from == self.block.to {
            if self.apart.is_some() {
                return Ok(None);
            }
            let at = self.used;
            let (taken, block) =
                match self.unpacker.unpack(&self.bytes[at..], &mut self.unpacked)? {
                    Unpacked::Missing => {
                        self.apart = self.begin_apart()?;
                        return Ok(None);
                    }
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

    /// Returns what has arrived of a block of one frame with much content, once that is known of it.
    fn begin_apart(&mut self) -> Result<Option<Apart>, LinkError> {
        let bytes = &self.bytes[self.used..];
        let Some((header, rest)) = bytes.split_first_chunk() else { return Ok(None) };
        let Some((lengths, rest)) = rest.split_first_chunk() else { return Ok(None) };
        let Some(raw) = raw_len(header)? else { return Ok(None) };
        let (frame_len, header_len) = parse_lengths(lengths)?;
        let payload_len = frame_len - header_len;
        let is_much = (APART_BYTES_MIN..=buffers::BUFFER_BYTES).contains(&payload_len);
        if raw != LENGTHS_BYTES + frame_len || !is_much {
            return Ok(None);
        }
        let Some((header, arrived)) = rest.split_at_checked(header_len) else { return Ok(None) };
        // The block is not whole: all that arrived is of this frame.
        let mut payload = buffers::take(payload_len);
        payload.extend_from_slice(arrived);
        let (header, missing) = (header.to_vec(), payload_len - arrived.len());
        self.used = self.bytes.len();
        Ok(Some(Apart { header, payload, missing }))
    }
}

#[cfg(test)]
mod tests {
    use keepshare_base::{Change, Epoch, OriginId, Position, RunningHash, Seq};
    use keepshare_proto::{Message, Step, codec::encode};

    use super::{
        super::block::{Packer, put_raw_header},
        *,
    };

    fn block(frames: &[&Frame], compress: bool) -> Vec<u8> {
        let mut block = vec![0; HEADER_BYTES];
        for frame in frames {
            block.extend(encode(&frame.message, &frame.payload).unwrap());
        }
        if compress {
            return Packer::new(true).unwrap().pack(&mut block, &mut Vec::new()).to_vec();
        }
        let raw = block.len() - HEADER_BYTES;
        put_raw_header(&mut block, raw);
        block
    }

    fn with_content(bytes: usize) -> Frame {
        let mut payload = vec![0; bytes];
        blake3::Hasher::new().finalize_xof().fill(&mut payload);
        let (seq, running) = (Seq(1), RunningHash::EMPTY);
        let position = Position { origin: OriginId(1), epoch: Epoch::FIRST, seq };
        let step = Step::Part { number: 1 };
        let message = Message::Change { position, running, step, change: Change::default() };
        Frame { message, payload }
    }

    /// Gives the bytes in pieces as they may arrive, no more at once than is asked for.
    fn receive(wire: &[u8], at_most: usize) -> Vec<Frame> {
        let (mut input, counted, mut frames) = (Input::new().unwrap(), AtomicU64::new(0), vec![]);
        let mut at = 0;
        loop {
            while let Some((frame, _)) = input.next_frame(&counted).unwrap() {
                frames.push(frame);
            }
            if at == wire.len() {
                assert!(input.is_between_blocks());
                return frames;
            }
            let (buffer, room) = input.buffer();
            let len = room.min(at_most).min(wire.len() - at);
            buffer.extend_from_slice(&wire[at..at + len]);
            input.arrived(len);
            at += len;
        }
    }

    /// Content that is read to where it stays is the same, in the same order, wherever what arrives is cut.
    #[test]
    fn frames_come_in_order_wherever_they_are_cut() {
        let small = Frame::from(Message::Resend { from: Seq(7) });
        let sizes = [10, APART_BYTES_MIN - 1, APART_BYTES_MIN, 500_000, buffers::BUFFER_BYTES];
        let large: Vec<_> = sizes.map(with_content).into();
        let mut wire = block(&[&small, &small], true);
        for frame in &large {
            wire.extend(block(&[frame], false));
            wire.extend(block(&[&small], false));
        }
        wire.extend(block(&[&large[2], &small, &large[3]], false));
        let mut expected = vec![small.clone(), small.clone()];
        expected.extend(large.iter().flat_map(|frame| [frame.clone(), small.clone()]));
        expected.extend([large[2].clone(), small.clone(), large[3].clone()]);
        for at_most in [1 << 20, 65_536, 16_384, 1000, 17] {
            assert!(receive(&wire, at_most) == expected, "{at_most} bytes at once");
        }
    }

    /// A link that ends in the middle of content was cut, and says so.
    #[test]
    fn half_a_content_is_not_between_blocks() {
        let wire = block(&[&with_content(200_000)], false);
        let (mut input, counted) = (Input::new().unwrap(), AtomicU64::new(0));
        for part in wire[..wire.len() - 1].chunks(50_000) {
            assert!(input.next_frame(&counted).unwrap().is_none());
            let (buffer, room) = input.buffer();
            assert!(room >= part.len());
            buffer.extend_from_slice(part);
            input.arrived(part.len());
            assert!(!input.is_between_blocks());
        }
    }
}
