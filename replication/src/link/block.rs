//! Blocks: what a link puts on the wire, each some whole frames, compressed together where that pays.
//!
//! `kind u8 · raw length u32 · stored length u32 · stored bytes`, little-endian. Many small frames share a block, so
//! they share one write and one compression. Both lengths are checked before anything is allocated for them. Pure: no
//! sockets here.

use std::io;

use zstd::bulk::{Compressor, Decompressor};

use keepshare_proto::codec::FRAME_BYTES_MAX;

/// The most bytes of frames in a block; one frame of the largest size fits.
pub(crate) const BLOCK_BYTES_MAX: usize = 8 + FRAME_BYTES_MAX;

/// Frames are gathered into a block until it has this many bytes.
pub(crate) const BLOCK_BYTES_WANTED: usize = 128 * 1024;

/// The bytes before the stored ones.
pub(crate) const HEADER_BYTES: usize = 9;

/// The kind of the one empty block that a listener sends first: "your certificate was taken".
pub(crate) const READY: [u8; HEADER_BYTES] = [0; HEADER_BYTES];

const RAW: u8 = 1;
const ZSTD: u8 = 2;

/// Blocks shorter than this are not worth a compression.
const COMPRESS_BYTES_MIN: usize = 192;

/// Longer blocks are judged by a sample first.
const PROBE_BYTES: usize = 8 * 1024;

const LEVEL: i32 = 1;

/// Why bytes are not a block.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    /// A kind of block that this version does not know.
    #[error("a block of the unknown kind {0}")]
    Kind(u8),
    /// Lengths over the limit, zero, or that contradict each other.
    #[error("a block of {raw} bytes stored in {stored} is not allowed")]
    Length {
        /// The length announced for the frames.
        raw: u32,
        /// The length announced for what is stored.
        stored: u32,
    },
    /// What is stored does not decompress to the length that was announced.
    #[error("a block does not decompress")]
    Content,
}

/// Makes blocks.
pub(crate) struct Packer {
    /// `None` where the link is not to compress.
    zstd: Option<Compressor<'static>>,
}

impl Packer {
    pub(crate) fn new(compress: bool) -> io::Result<Self> {
        Ok(Self { zstd: compress.then(|| Compressor::new(LEVEL)).transpose()? })
    }

    /// Returns the block with the frames that stand in `block` behind room for its header.
    ///
    /// What does not compress stays where it is: content is not copied once more.
    pub(crate) fn pack<'b>(&mut self, block: &'b mut [u8], scratch: &'b mut Vec<u8>) -> &'b [u8] {
        let raw = block.len() - HEADER_BYTES;
        assert!((1..=BLOCK_BYTES_MAX).contains(&raw), "a block of {raw} bytes");
        if self.compress(&block[HEADER_BYTES..], scratch) {
            let stored = scratch.len() - HEADER_BYTES;
            scratch[..HEADER_BYTES].copy_from_slice(&header(ZSTD, raw, stored));
            scratch
        } else {
            put_raw_header(block, raw);
            block
        }
    }

    /// Tells whether content may be worth a compression, by a sample of it.
    pub(crate) fn may_pay(&mut self, content: &[u8], scratch: &mut Vec<u8>) -> bool {
        let Some(zstd) = &mut self.zstd else { return false };
        compress(zstd, sample(content), scratch)
    }

    /// Compresses into `out`, behind room for a header, if that saves at least a sixteenth; tells whether it does.
    fn compress(&mut self, frames: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(zstd) = &mut self.zstd else { return false };
        if frames.len() < COMPRESS_BYTES_MIN {
            return false;
        }
        // A sample from the middle: the beginning is often a header unlike the rest.
        if frames.len() > 4 * PROBE_BYTES && !compress(zstd, sample(frames), out) {
            return false;
        }
        compress(zstd, frames, out)
    }
}

/// Writes the header of a block whose frames, so many bytes, go as they are.
pub(crate) fn put_raw_header(block: &mut [u8], raw: usize) {
    block[..HEADER_BYTES].copy_from_slice(&header(RAW, raw, raw));
}

/// Returns some bytes of the middle.
fn sample(bytes: &[u8]) -> &[u8] {
    let start = bytes.len() / 2;
    &bytes[start..bytes.len().min(start + PROBE_BYTES)]
}

fn header(kind: u8, raw: usize, stored: usize) -> [u8; HEADER_BYTES] {
    let length = |bytes| u32::try_from(bytes).expect("a block is far below 4 GiB").to_le_bytes();
    let mut header = [kind; HEADER_BYTES];
    header[1..5].copy_from_slice(&length(raw));
    header[5..].copy_from_slice(&length(stored));
    header
}

fn compress(zstd: &mut Compressor<'_>, bytes: &[u8], out: &mut Vec<u8>) -> bool {
    // No room for more than what would pay; running out of it is how zstd says that it does not.
    let limit = bytes.len() - bytes.len() / 16;
    out.resize(HEADER_BYTES + limit, 0);
    match zstd.compress_to_buffer(bytes, &mut out[HEADER_BYTES..]) {
        Ok(len) => {
            out.truncate(HEADER_BYTES + len);
            true
        }
        Err(_) => false,
    }
}

/// What the start of a buffer holds.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Unpacked {
    /// Not yet a whole block.
    Missing,
    /// A block that takes this many bytes of the buffer; its frames are those behind its header.
    Raw(usize),
    /// A block that takes this many bytes of the buffer; its frames are in the output.
    Block(usize),
}

/// Reads blocks.
pub(crate) struct Unpacker {
    zstd: Decompressor<'static>,
}

impl Unpacker {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { zstd: Decompressor::new()? })
    }

    /// Reads the block at the start of `buffer` and, where it is compressed, puts its frames into `frames`, in place of what was
    /// there. Others are not copied.
    pub(crate) fn unpack(
        &mut self,
        buffer: &[u8],
        frames: &mut Vec<u8>,
    ) -> Result<Unpacked, BlockError> {
        let Some((header, rest)) = buffer.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(Unpacked::Missing);
        };
        let (kind, raw, stored) = read_header(header)?;
        let Some(bytes) = rest.get(..stored) else {
            return Ok(Unpacked::Missing);
        };
        if kind == RAW {
            return Ok(Unpacked::Raw(HEADER_BYTES + stored));
        }
        frames.clear();
        frames.resize(raw, 0);
        let len = self.zstd.decompress_to_buffer(bytes, frames.as_mut_slice());
        if !len.is_ok_and(|len| len == raw) {
            return Err(BlockError::Content);
        }
        Ok(Unpacked::Block(HEADER_BYTES + stored))
    }
}

/// Returns how many bytes of frames the block has whose header these are, where they stand there as they are.
pub(crate) fn raw_len(header: &[u8; HEADER_BYTES]) -> Result<Option<usize>, BlockError> {
    let (kind, raw, _) = read_header(header)?;
    Ok((kind == RAW).then_some(raw))
}

fn read_header(header: &[u8; HEADER_BYTES]) -> Result<(u8, usize, usize), BlockError> {
    let [kind, lengths @ ..] = header;
    let [r0, r1, r2, r3, s0, s1, s2, s3] = *lengths;
    let (raw, stored) =
        (u32::from_le_bytes([r0, r1, r2, r3]), u32::from_le_bytes([s0, s1, s2, s3]));
    let wrong = BlockError::Length { raw, stored };
    let fits = match *kind {
        RAW => raw == stored,
        ZSTD => stored > 0 && stored < raw,
        other => return Err(BlockError::Kind(other)),
    };
    match (usize::try_from(raw), usize::try_from(stored)) {
        (Ok(raw), Ok(stored)) if fits && (1..=BLOCK_BYTES_MAX).contains(&raw) => {
            Ok((*kind, raw, stored))
        }
        _ => Err(wrong),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(frames: &[u8]) -> Vec<u8> {
        let mut block = [&[0; HEADER_BYTES][..], frames].concat();
        Packer::new(true).unwrap().pack(&mut block, &mut Vec::new()).to_vec()
    }

    fn round_trip(frames: &[u8]) -> usize {
        let wire = packed(frames);
        let mut unpacker = Unpacker::new().unwrap();
        let mut out = Vec::new();
        for cut in [0, 5, HEADER_BYTES, wire.len() - 1] {
            assert!(matches!(unpacker.unpack(&wire[..cut], &mut out), Ok(Unpacked::Missing)));
        }
        match unpacker.unpack(&wire, &mut out).unwrap() {
            Unpacked::Raw(taken) => {
                assert_eq!((taken, &wire[HEADER_BYTES..]), (wire.len(), frames));
            }
            Unpacked::Block(taken) => assert_eq!((taken, &out[..]), (wire.len(), frames)),
            Unpacked::Missing => panic!("all of it is there"),
        }
        wire.len()
    }

    fn noise(len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        blake3::Hasher::new().finalize_xof().fill(&mut out);
        out
    }

    #[test]
    fn frames_come_back_and_compress_where_it_pays() {
        round_trip(b"x");
        assert!(round_trip(&[7; 100_000]) < 200);
        for len in [300, 100_000, BLOCK_BYTES_MAX] {
            assert_eq!(round_trip(&noise(len)), HEADER_BYTES + len);
        }
        let mut mixed = noise(20_000);
        mixed.extend([1; 80_000]);
        assert!(round_trip(&mixed) < 25_000);
    }

    /// Nothing may be set aside for a length that a peer only announces.
    #[test]
    fn impossible_lengths_are_refused_by_their_header() {
        let header = |kind: u8, raw: u32, stored: u32| {
            [&[kind][..], &raw.to_le_bytes(), &stored.to_le_bytes()].concat()
        };
        let max = u32::try_from(BLOCK_BYTES_MAX).unwrap();
        let wrong = [
            header(RAW, 10, 11),
            header(RAW, 0, 0),
            header(RAW, max + 1, max + 1),
            header(RAW, u32::MAX, u32::MAX),
            header(ZSTD, max + 1, 10),
            header(ZSTD, 10, 10),
            header(ZSTD, 10, 0),
            header(0, 0, 0),
            header(3, 1, 1),
        ];
        let mut unpacker = Unpacker::new().unwrap();
        let mut out = Vec::new();
        for bytes in wrong {
            assert!(unpacker.unpack(&bytes, &mut out).is_err(), "{bytes:?} was taken");
        }
        assert_eq!(out.capacity(), 0);
    }

    /// A block that claims less or more than it holds is damage, not data.
    #[test]
    fn a_block_that_decompresses_to_another_length_is_refused() {
        let wire = packed(&[7; 1000]);
        let mut unpacker = Unpacker::new().unwrap();
        for raw in [999_u32, 1001, 100_000] {
            let mut bytes = wire.clone();
            bytes[1..5].copy_from_slice(&raw.to_le_bytes());
            let unpacked = unpacker.unpack(&bytes, &mut Vec::new());
            assert!(matches!(unpacked, Err(BlockError::Content)), "{raw} was taken");
        }
        let mut torn = wire.clone();
        torn.truncate(HEADER_BYTES);
        torn[5..9].copy_from_slice(&4_u32.to_le_bytes());
        torn.extend(b"junk");
        assert!(matches!(unpacker.unpack(&torn, &mut Vec::new()), Err(BlockError::Content)));
    }
}
