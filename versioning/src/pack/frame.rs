//! The bytes of a pack: its header and its frames (docs/formats/packs.md).
//!
//! Checksums are seeded with the pack's random id and the frame's place, so that bytes of another pack or place never
//! read as a frame here.

use super::sum::Sum;
use crate::bytes::{u32_at, u64_at};

/// The header of a pack.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct PackHeader {
    pub(super) pack: u64,
    pub(super) id: u64,
}

/// Why a file does not begin with a header of ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum HeaderError {
    Damaged,
    Newer(u32),
}

impl PackHeader {
    pub(super) const BYTES: usize = 32;

    pub(super) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(FILE_MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.pack.to_le_bytes());
        bytes[24..].copy_from_slice(&self.id.to_le_bytes());
        let crc = crc32c::crc32c(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; Self::BYTES]) -> Result<Self, HeaderError> {
        let mut cleared = *bytes;
        cleared[12..16].fill(0);
        if &bytes[..8] != FILE_MAGIC || crc32c::crc32c(&cleared) != u32_at(bytes, 12) {
            return Err(HeaderError::Damaged);
        }
        match u32_at(bytes, 8) {
            // Format 1 had no parts.
            1 | FORMAT => Ok(Self { pack: u64_at(bytes, 16), id: u64_at(bytes, 24) }),
            found => Err(HeaderError::Newer(found)),
        }
    }
}

/// How a frame's content is stored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Codec {
    Raw,
    Zstd,
    /// No content: the last frame of a pack.
    Seal,
}

impl Codec {
    /// Returns the four bytes that say how content is stored, and of which part of something longer its hash is.
    fn to_bytes(self, part: Option<u8>) -> [u8; 4] {
        let part = part.map_or(0, |part| part + 1);
        match self {
            Self::Raw => [0, part, 0, 0],
            Self::Zstd => [1, part, 0, 0],
            Self::Seal => [u8::MAX; 4],
        }
    }

    fn from_bytes(bytes: [u8; 4]) -> Option<(Self, Option<u8>)> {
        let codec = match bytes {
            [0, _, 0, 0] => Self::Raw,
            [1, _, 0, 0] => Self::Zstd,
            [u8::MAX, u8::MAX, u8::MAX, u8::MAX] => return Some((Self::Seal, None)),
            _ => return None,
        };
        Some((codec, bytes[1].checked_sub(1)))
    }
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct FrameHeader {
    pub(super) codec: Codec,
    pub(super) stored: u32,
    pub(super) raw: u32,
    /// What is kept of the content's hash.
    pub(super) sum: Sum,
    stored_crc: u32,
}

impl FrameHeader {
    pub(super) const BYTES: usize = 40;

    /// Reads a header at `offset` of the pack with `id`; `None` where there is none, or a damaged one.
    pub(super) fn from_bytes(id: u64, offset: u64, bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::BYTES] = bytes.first_chunk()?;
        if u32_at(bytes, 0) != MAGIC || header_crc(id, offset, bytes) != u32_at(bytes, 4) {
            return None;
        }
        let (codec, part) = Codec::from_bytes(*bytes[20..].first_chunk()?)?;
        Some(Self {
            codec,
            stored: u32_at(bytes, 12),
            raw: u32_at(bytes, 16),
            sum: Sum { bytes: *bytes[24..].first_chunk()?, part },
            stored_crc: u32_at(bytes, 8),
        })
    }

    /// Returns the part of the hash that a location carries.
    pub(super) fn check(&self) -> u32 {
        u32_at(&self.sum.bytes, 0)
    }

    /// Whether the bytes after the header, with the padding, are those that were written.
    pub(super) fn holds(&self, id: u64, offset: u64, padded: &[u8]) -> bool {
        crc32c::crc32c_append(seed(id, offset), padded) == self.stored_crc
    }
}

/// Appends a frame that will stand at `offset` of the pack with `id`, and returns its header.
pub(super) fn push_frame(
    out: &mut Vec<u8>,
    (id, offset): (u64, u64),
    (codec, raw_len, sum): (Codec, usize, Sum),
    stored: &[u8],
) -> FrameHeader {
    let short = |len: usize| u32::try_from(len).expect("contents are limited to RAW_BYTES_MAX");
    let start = out.len();
    out.extend_from_slice(&[0; FrameHeader::BYTES]);
    out.extend_from_slice(stored);
    out.resize(start + FrameHeader::BYTES + stored.len().next_multiple_of(ALIGN), 0);
    let (bytes, padded) = out[start..].split_at_mut(FrameHeader::BYTES);
    let header = FrameHeader {
        codec,
        stored: short(stored.len()),
        raw: short(raw_len),
        sum,
        stored_crc: crc32c::crc32c_append(seed(id, offset), padded),
    };
    bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
    bytes[8..12].copy_from_slice(&header.stored_crc.to_le_bytes());
    bytes[12..16].copy_from_slice(&header.stored.to_le_bytes());
    bytes[16..20].copy_from_slice(&header.raw.to_le_bytes());
    bytes[20..24].copy_from_slice(&codec.to_bytes(sum.part));
    bytes[24..].copy_from_slice(&sum.bytes);
    let crc = header_crc(id, offset, bytes);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    header
}

/// Returns how many bytes a frame with `stored` bytes takes.
pub(super) fn frame_bytes(stored: u64) -> u64 {
    FrameHeader::BYTES as u64 + stored.next_multiple_of(ALIGN as u64)
}

fn header_crc(id: u64, offset: u64, header: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(seed(id, offset), &header[..4]);
    crc32c::crc32c_append(crc, &header[8..])
}

fn seed(id: u64, offset: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&id.to_le_bytes()), &offset.to_le_bytes())
}

/// The version of the format that this code writes.
pub(super) const FORMAT: u32 = 2;

/// Frames begin at multiples of this.
const ALIGN: usize = 8;

const FILE_MAGIC: &[u8; 8] = b"KEEPPAK\n";
const MAGIC: u32 = u32::from_le_bytes(*b"KPf\xb5");
