//! Packs: append-only files of content.
//!
//! A pack is a row of frames, each compressed where that pays and checked when it is read. Nothing in a pack is ever
//! changed or cut; which frames are alive is the index's knowledge. The format is in docs/formats/packs.md.

use std::io;

use serde::{Deserialize, Serialize};

mod frame;
mod fresh;
mod reader;
mod sum;
#[cfg(test)]
mod tests;
mod writer;

pub use reader::PackReader;
pub(crate) use sum::{Hashed, Sum};
pub use writer::PackWriter;

use frame::{FrameHeader, frame_bytes};

use crate::{
    bytes::{u32_at, u64_at},
    disk::Disk,
};

/// The most content in one frame, in bytes.
pub const RAW_BYTES_MAX: usize = 1024 * 1024;

/// The length at which a pack is sealed and the next begun, in bytes.
pub const PACK_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Why content could not be stored or given back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// What is there is not what was stored.
    #[error("pack {pack} is damaged at byte {offset}")]
    Damaged {
        /// Which pack.
        pack: u64,
        /// The frame's beginning.
        offset: u64,
    },
    /// Written by a newer Keepshare.
    #[error("pack {pack} has format {found}; this version of Keepshare knows {known}")]
    NewerFormat {
        /// Which pack.
        pack: u64,
        /// What the file says.
        found: u32,
        /// What we know.
        known: u32,
    },
    /// More than [`RAW_BYTES_MAX`].
    #[error("{0} bytes are too many for one frame")]
    TooLong(usize),
    /// The disk is full; nothing is lost, and the same call may be made again when there is space.
    #[error("no space for content")]
    Full(#[source] io::Error),
    /// An earlier error left it unknown what is on the disk; open the packs again.
    #[error("the packs failed before and must be opened again")]
    Poisoned,
    /// The disk failed.
    #[error("cannot read or write a pack")]
    Io(#[from] io::Error),
}

/// Where a piece of content is, and enough of its hash to notice when something else is there.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub struct PackLoc {
    /// Which pack.
    pub pack: u64,
    /// The frame's first byte.
    pub offset: u64,
    /// The content's length as stored.
    pub stored: u32,
    /// The content's length.
    pub raw: u32,
    /// The first bytes of the content's hash.
    pub check: u32,
}

impl PackLoc {
    /// How many bytes [`Self::to_bytes`] gives.
    pub const BYTES: usize = 28;

    /// Returns the bytes under which indexes keep it.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.pack.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.offset.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.stored.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.raw.to_le_bytes());
        bytes[24..].copy_from_slice(&self.check.to_le_bytes());
        bytes
    }

    /// Reads what [`Self::to_bytes`] wrote; `None` for another number of bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::BYTES] = bytes.try_into().ok()?;
        Some(Self {
            pack: u64_at(bytes, 0),
            offset: u64_at(bytes, 8),
            stored: u32_at(bytes, 16),
            raw: u32_at(bytes, 20),
            check: u32_at(bytes, 24),
        })
    }

    /// Returns how many bytes of the pack the frame takes, for counting what is live.
    pub fn frame_bytes(&self) -> u64 {
        frame_bytes(u64::from(self.stored))
    }

    /// Whether `header` is the one that was written where this points.
    fn is_of(&self, header: &FrameHeader) -> bool {
        (self.stored, self.raw, self.check) == (header.stored, header.raw, header.check())
    }

    fn damaged(&self) -> PackError {
        PackError::Damaged { pack: self.pack, offset: self.offset }
    }
}

/// Has a reader show what a writer wrote last from the memory that it was written from.
pub(crate) fn beside(reader: PackReader, writer: &PackWriter) -> PackReader {
    reader.with_fresh(writer.fresh().clone())
}

fn name(pack: u64) -> String {
    format!("{DIR}/{pack:010}")
}

/// Returns the numbers of the packs there are, in order.
fn numbers(disk: &dyn Disk) -> io::Result<Vec<u64>> {
    let number = |file: &String| {
        let pack = file.parse().ok()?;
        (name(pack) == format!("{DIR}/{file}")).then_some(pack)
    };
    let mut packs: Vec<u64> = disk.list(DIR)?.iter().filter_map(number).collect();
    packs.sort_unstable();
    Ok(packs)
}

const DIR: &str = "packs";
