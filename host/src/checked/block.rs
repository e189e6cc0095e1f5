//! The bytes of a checked file: its head, the two header slots and the blocks (docs/formats/index-blocks.md).

use crate::bytes::{u32_at, u64_at};

/// How many bytes of redb's a block holds.
pub(super) const BLOCK_BYTES: usize = 4096;

/// How many bytes a block takes in the file: its bytes, its number, the checksum and the mark.
pub(super) const STORED_BYTES: usize = BLOCK_BYTES + 16;

/// How many blocks a file may have, so that a number fits (16 TiB).
pub(super) const BLOCKS_MAX: u64 = 1 << 32;

/// Where the header slots begin; no two share a page of the file system.
pub(super) const SLOTS: [u64; 2] = [4096, 12_288];

/// Where block 1 begins.
pub(super) const BLOCKS_START: u64 = 20_480;

/// The head of a checked file, which is written once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Head {
    pub(super) id: u64,
}

/// Why a file does not begin with a head of ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum HeadError {
    Damaged,
    Newer(u32),
}

impl Head {
    pub(super) const BYTES: usize = 32;

    pub(super) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.id.to_le_bytes());
        let crc = crc32c::crc32c(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; Self::BYTES]) -> Result<Self, HeadError> {
        let mut cleared = *bytes;
        cleared[12..16].fill(0);
        if &bytes[..8] != MAGIC || crc32c::crc32c(&cleared) != u32_at(bytes, 12) {
            return Err(HeadError::Damaged);
        }
        match u32_at(bytes, 8) {
            FORMAT => Ok(Self { id: u64_at(bytes, 16) }),
            found => Err(HeadError::Newer(found)),
        }
    }
}

/// Appends a block as it stands in the file with `id`. Block 0 is redb's header; its mark is its number in order.
pub(super) fn push_block(out: &mut Vec<u8>, id: u64, block: u32, mark: u64, bytes: &[u8]) {
    let start = out.len();
    out.extend_from_slice(bytes);
    out.extend_from_slice(&block.to_le_bytes());
    out.extend_from_slice(&mark.to_le_bytes());
    let crc = checksum(id, &out[start..]);
    out.extend_from_slice(&crc.to_le_bytes());
}

/// Returns the bytes and the mark of a block, or `None` where something else stands there.
pub(super) fn read_block(stored: &[u8], id: u64, block: u32) -> Option<(&[u8], u64)> {
    let (checked, crc) = stored.split_last_chunk::<4>()?;
    let (bytes, trailer) = checked.split_at_checked(BLOCK_BYTES)?;
    let right = u32::from_le_bytes(*crc) == checksum(id, checked) && u32_at(trailer, 0) == block;
    right.then(|| (bytes, u64_at(trailer, 4)))
}

/// Returns where a block other than 0 begins.
pub(super) fn block_start(block: u64) -> u64 {
    BLOCKS_START + (block - 1) * STORED_BYTES as u64
}

/// Returns the length of a file with so many blocks.
pub(super) fn file_len(blocks: u64) -> u64 {
    if blocks == 0 { SLOTS[0] } else { block_start(blocks) }
}

/// Returns how many blocks a file of this length has; what is left of a piece of one does not count.
pub(super) fn blocks_in(file_len: u64) -> u64 {
    file_len.checked_sub(BLOCKS_START).map_or(0, |bytes| 1 + bytes / STORED_BYTES as u64)
}

fn checksum(id: u64, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&id.to_le_bytes()), bytes)
}

/// The version of the format that this code writes.
pub(super) const FORMAT: u32 = 1;

const MAGIC: &[u8; 8] = b"KEEPBLK\n";
