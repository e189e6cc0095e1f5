//! The packs as a change sees them: with what was appended and cannot be read from the disk yet.

use crate::{
    body,
    pack::{PackError, PackLoc, PackReader, PackWriter, Sum},
};

/// The packs of a store with what is not synced yet, for changes that write over parts of it.
pub(super) struct Frames<'a> {
    pub(super) packs: &'a mut PackWriter,
    /// How much content was appended since the last sync, in bytes.
    pub(super) unsynced_bytes: &'a mut usize,
    pub(super) written: &'a PackReader,
}

impl body::Frames for Frames<'_> {
    fn read(&self, loc: PackLoc) -> Result<Vec<u8>, PackError> {
        self.packs.unwritten(loc).unwrap_or_else(|| self.written.read(loc))
    }
}

impl body::FramesMut for Frames<'_> {
    fn append(&mut self, raw: &[u8], sum: Option<Sum>) -> Result<PackLoc, PackError> {
        let loc = self.packs.append_summed(raw, sum)?;
        *self.unsynced_bytes += raw.len();
        Ok(loc)
    }
}
