//! One change's worth of a file's content.

use std::io;

use keepshare_base::{Content, ContentHash, EXTENT_BYTES_MAX, Extent, PAYLOAD_BYTES_MAX};

use keepshare_host::buffers;

use super::blocks::PAGE_BYTES;

/// The most extents put into one change, below what a change may have.
const EXTENTS_MAX: usize = 4096;

/// What is added at once from here on is part of much new content.
const LARGE_BYTES: usize = 64 * 1024;

/// Extents and their bytes, as long as they fit into one change.
#[derive(Clone, Debug, Default)]
pub(crate) struct Piece {
    extents: Vec<Extent>,
    payload: Vec<u8>,
    zeros: u64,
}

impl Piece {
    /// Tells whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.extents.is_empty()
    }

    /// Adds as much of `bytes` as fits and returns how much that was; only whole pages unless all of it fits.
    pub(crate) fn data(&mut self, offset: u64, bytes: &[u8]) -> usize {
        let room = usize::try_from(PAYLOAD_BYTES_MAX).unwrap_or(usize::MAX) - self.payload.len();
        let fits = if bytes.len() <= room { bytes.len() } else { room - room % PAGE_BYTES };
        if fits == 0 || !self.push(offset, fits as u64, false) {
            return 0;
        }
        if fits >= LARGE_BYTES {
            // More of the same is to come: grow once.
            if self.payload.is_empty() {
                self.payload = buffers::take(room);
            }
            self.payload.reserve_exact(room);
        }
        self.payload.extend_from_slice(&bytes[..fits]);
        fits
    }

    /// Adds as many zeros as fit and returns how many that were.
    pub(crate) fn zeros(&mut self, offset: u64, len: u64) -> u64 {
        let fits = len.min(EXTENT_BYTES_MAX - self.zeros);
        if fits == 0 || !self.push(offset, fits, true) {
            return 0;
        }
        self.zeros += fits;
        fits
    }

    /// Returns one with memory for as much of `bytes` as goes into one change.
    pub(crate) fn with_room(bytes: u64) -> Self {
        let bytes = usize::try_from(bytes.min(PAYLOAD_BYTES_MAX)).expect("less than a change has");
        Self { payload: buffers::take(bytes), ..Self::default() }
    }

    /// Returns how much can be read at once, in whole pages; nothing where so little room is left that the rest is better read
    /// with what comes next.
    pub(crate) fn room(&self) -> usize {
        let len = self.payload.len();
        let room = usize::try_from(PAYLOAD_BYTES_MAX).unwrap_or(usize::MAX) - len;
        let room = room - room % PAGE_BYTES;
        // At worst every other page is zeros.
        let is_cut_up = self.extents.len() + room / PAGE_BYTES > EXTENTS_MAX;
        if len > 0 && (room < LARGE_BYTES || is_cut_up) { 0 } else { room }
    }

    /// Has `read` put `len` bytes that stand at `offset` behind the content, and keeps what of them is not zeros. What is there
    /// already is zeros, or was not read: no zeros are told of.
    pub(crate) fn read(
        &mut self,
        offset: u64,
        len: usize,
        read: impl FnOnce(&mut Vec<u8>) -> io::Result<()>,
    ) -> io::Result<()> {
        let from = self.payload.len();
        read(&mut self.payload)?;
        assert_eq!(self.payload.len(), from + len, "other than what was to be read");
        let mut kept = from;
        let mut at = from;
        while at < from + len {
            let end = (at + PAGE_BYTES).min(from + len);
            if self.payload[at..end].iter().any(|byte| *byte != 0) {
                let is_pushed = self.push(offset + (at - from) as u64, (end - at) as u64, false);
                assert!(is_pushed, "there was room for every page");
                if kept < at {
                    self.payload.copy_within(at..end, kept);
                }
                kept += end - at;
            }
            at = end;
        }
        self.payload.truncate(kept);
        Ok(())
    }

    /// Returns the content and its bytes.
    pub(crate) fn into_content(self, fresh: bool) -> (Content, Vec<u8>) {
        if self.extents.is_empty() && !fresh {
            return (Content::Same, Vec::new());
        }
        let hash = ContentHash::of(&self.payload);
        (Content::Extents { fresh, extents: self.extents, hash }, self.payload)
    }

    fn push(&mut self, offset: u64, len: u64, zero: bool) -> bool {
        let count = self.extents.len();
        match self.extents.last_mut() {
            Some(last) if last.zero == zero && last.offset + last.len == offset => last.len += len,
            _ if count >= EXTENTS_MAX => return false,
            _ => self.extents.push(Extent { offset, len, zero }),
        }
        true
    }
}
