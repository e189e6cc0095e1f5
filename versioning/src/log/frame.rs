//! The bytes of a log file: its header and its frames (docs/formats/log.md).
//!
//! Every checksum is seeded with the file's random id and the frame's place, so that bytes of another log, of another
//! place, or planted in a body never read as a frame here.

use keepshare_base::CommitId;

use crate::bytes::{u32_at, u64_at};

use super::BODY_BYTES_MAX;

/// The header of a log file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct FileHeader {
    pub(super) generation: u64,
    pub(super) id: u64,
    /// The commit whose state the snapshot is; 0 in the first generation, which has none.
    pub(super) base: CommitId,
    /// The running hash at that commit.
    pub(super) running: [u8; 32],
}

/// Why a file does not begin with a header of ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum HeaderError {
    Damaged,
    Newer(u32),
}

impl FileHeader {
    pub(super) const BYTES: usize = 72;

    pub(super) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(FILE_MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.generation.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.id.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.base.0.to_le_bytes());
        bytes[40..].copy_from_slice(&self.running);
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
        let format = u32_at(bytes, 8);
        if format != FORMAT {
            return Err(HeaderError::Newer(format));
        }
        let mut running = [0; 32];
        running.copy_from_slice(&bytes[40..]);
        Ok(Self {
            generation: u64_at(bytes, 16),
            id: u64_at(bytes, 24),
            base: CommitId(u64_at(bytes, 32)),
            running,
        })
    }
}

/// What a frame holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum FrameKind {
    Record,
    Mark,
    Snapshot,
    SnapshotEnd,
}

impl FrameKind {
    fn magic(self) -> u32 {
        u32::from_le_bytes(*match self {
            Self::Record => b"KLr\xb1",
            Self::Mark => b"KLm\xb2",
            Self::Snapshot => b"KLs\xb3",
            Self::SnapshotEnd => b"KLe\xb4",
        })
    }

    fn from_magic(magic: u32) -> Option<Self> {
        [Self::Record, Self::Mark, Self::Snapshot, Self::SnapshotEnd]
            .into_iter()
            .find(|kind| kind.magic() == magic)
    }
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct FrameHeader {
    pub(super) kind: FrameKind,
    pub(super) body_len: usize,
    /// The record's commit; of a mark, the last one before it; of the snapshot, the one whose state it is.
    pub(super) commit: CommitId,
    /// The highest commit known durable when this was written.
    pub(super) durable: CommitId,
    body_crc: u32,
}

impl FrameHeader {
    pub(super) const BYTES: usize = 32;

    /// Reads a header at `offset` of the file with `id`; `None` where there is none, or a damaged one.
    pub(super) fn from_bytes(id: u64, offset: u64, bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::BYTES] = bytes.first_chunk()?;
        let kind = FrameKind::from_magic(u32_at(bytes, 0))?;
        if header_crc(id, offset, bytes) != u32_at(bytes, 4) {
            return None;
        }
        let body_len = usize::try_from(u32_at(bytes, 12)).ok()?;
        (body_len <= BODY_BYTES_MAX).then_some(Self {
            kind,
            body_len,
            commit: CommitId(u64_at(bytes, 16)),
            durable: CommitId(u64_at(bytes, 24)),
            body_crc: u32_at(bytes, 8),
        })
    }

    /// Returns how many bytes the frame takes, with its padding.
    pub(super) fn frame_len(&self) -> usize {
        frame_len(self.body_len)
    }

    /// Returns the body out of the frame's bytes after the header, or `None` where they are not what was written.
    pub(super) fn body<'a>(&self, id: u64, offset: u64, padded: &'a [u8]) -> Option<&'a [u8]> {
        (crc32c::crc32c_append(seed(id, offset), padded) == self.body_crc)
            .then(|| &padded[..self.body_len])
    }
}

/// Appends a frame that will stand at `offset` of the file with `id`.
pub(super) fn push_frame(
    out: &mut Vec<u8>,
    (id, offset): (u64, u64),
    kind: FrameKind,
    (commit, durable): (CommitId, CommitId),
    body: &[u8],
) {
    let start = out.len();
    out.reserve(frame_len(body.len()));
    out.extend_from_slice(&[0; FrameHeader::BYTES]);
    out.extend_from_slice(body);
    out.resize(start + frame_len(body.len()), 0);
    let (header, padded) = out[start..].split_at_mut(FrameHeader::BYTES);
    let body_len = u32::try_from(body.len()).expect("bodies are limited to BODY_BYTES_MAX");
    let body_crc = crc32c::crc32c_append(seed(id, offset), padded);
    header[..4].copy_from_slice(&kind.magic().to_le_bytes());
    header[8..12].copy_from_slice(&body_crc.to_le_bytes());
    header[12..16].copy_from_slice(&body_len.to_le_bytes());
    header[16..24].copy_from_slice(&commit.0.to_le_bytes());
    header[24..32].copy_from_slice(&durable.0.to_le_bytes());
    let crc = header_crc(id, offset, header);
    header[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// Returns the body of the frame that ends a snapshot.
pub(super) fn snapshot_end(parts: u64, hasher: &blake3::Hasher) -> [u8; 40] {
    let mut body = [0; 40];
    body[..8].copy_from_slice(&parts.to_le_bytes());
    body[8..].copy_from_slice(hasher.finalize().as_bytes());
    body
}

/// Returns the running hash after one more record.
pub(super) fn extend_running(running: &[u8; 32], commit: CommitId, body: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(running).update(&commit.0.to_le_bytes()).update(body);
    *hasher.finalize().as_bytes()
}

fn header_crc(id: u64, offset: u64, header: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(seed(id, offset), &header[..4]);
    crc32c::crc32c_append(crc, &header[8..])
}

fn seed(id: u64, offset: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&id.to_le_bytes()), &offset.to_le_bytes())
}

fn frame_len(body_len: usize) -> usize {
    FrameHeader::BYTES + body_len.next_multiple_of(ALIGN)
}

/// The version of the format that this code writes.
pub(super) const FORMAT: u32 = 1;

/// Frames begin at multiples of this.
pub(super) const ALIGN: usize = 8;

const FILE_MAGIC: &[u8; 8] = b"KEEPLOG\n";
