//! Frames that were appended and cannot be read from the disk yet.

use std::collections::HashMap;

use crate::{
    body,
    pack::{PackError, PackLoc, PackReader, PackWriter},
};

/// The content of frames since the last sync, for changes that write over parts of it.
#[derive(Debug, Default)]
pub(super) struct Unsynced {
    frames: HashMap<(u64, u64), Vec<u8>>,
    bytes: usize,
}

impl Unsynced {
    /// Returns how many bytes they are.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets them all: they can be read from the disk.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// The packs of a store with what is not synced yet.
pub(super) struct Frames<'a> {
    pub(super) packs: &'a mut PackWriter,
    pub(super) unsynced: &'a mut Unsynced,
    pub(super) synced: &'a PackReader,
}

impl body::Frames for Frames<'_> {
    fn read(&self, loc: PackLoc) -> Result<Vec<u8>, PackError> {
        match self.unsynced.frames.get(&(loc.pack, loc.offset)) {
            Some(raw) => Ok(raw.clone()),
            None => self.synced.read(loc),
        }
    }
}

impl body::FramesMut for Frames<'_> {
    fn append(&mut self, raw: &[u8]) -> Result<PackLoc, PackError> {
        let loc = self.packs.append(raw)?;
        self.unsynced.frames.insert((loc.pack, loc.offset), raw.to_vec());
        self.unsynced.bytes += raw.len();
        Ok(loc)
    }
}
