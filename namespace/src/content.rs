//! Content of files, a part at a time.
//!
//! The store checks whole blocks, so a small part of one costs as much as all of it. Blocks of which small parts were
//! read stay in memory for a while. A block belongs to one state of one file, which never changes; whether that state is
//! still there, and may be read, is decided before anything is taken from here.

use std::sync::{Arc, Mutex};

use keepshare_base::{CommitId, FileId};
use keepshare_versioning::{FileState, ReadError, Reader};

use crate::cache::{Forgetful, locked};

/// A block: the file, the commit of its state, and the block's number.
type BlockKey = (FileId, CommitId, u64);

/// Blocks of content, checked.
#[derive(Debug)]
pub(crate) struct Blocks(Mutex<Forgetful<BlockKey, Arc<Vec<u8>>>>);

impl Blocks {
    /// Returns a memory of nothing.
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Forgetful::new(BLOCK_BYTES_KEPT)))
    }

    /// Appends at most `len` bytes of a state from `offset`: fewer only at its end and beyond
    /// [`keepshare_versioning::READ_BYTES_MAX`].
    pub(crate) fn read_into(
        &self,
        reader: &Reader,
        state: &FileState,
        offset: u64,
        len: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), ReadError> {
        let number = offset / BLOCK_BYTES;
        let in_block = offset % BLOCK_BYTES;
        // What is read in long stretches is seldom read again soon, and would only drive out what is.
        if len > SMALL_BYTES_MAX || in_block + len as u64 > BLOCK_BYTES {
            return reader.read_into(state, offset, len, out);
        }
        let key = (state.file, state.commit, number);
        let known = locked(&self.0).find(&key);
        let block = match known {
            Some(block) => block,
            None => {
                let start = number * BLOCK_BYTES;
                let block = Arc::new(reader.read(state, start, BLOCK_LEN)?);
                locked(&self.0).keep(key, block.clone(), block.len() + KEY_BYTES);
                block
            }
        };
        out.extend_from_slice(part(&block, in_block, len));
        Ok(())
    }
}

/// Returns the part of these bytes that begins at `offset`, at most `len` bytes.
pub(crate) fn part(bytes: &[u8], offset: u64, len: usize) -> &[u8] {
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
    &bytes[start..start.saturating_add(len).min(bytes.len())]
}

/// How many bytes a block has: as many as the store checks at once.
const BLOCK_LEN: usize = 64 * 1024;
const BLOCK_BYTES: u64 = BLOCK_LEN as u64;

/// The longest part for which a whole block is kept, in bytes.
const SMALL_BYTES_MAX: usize = 32 * 1024;

/// About what a block takes beside its bytes.
const KEY_BYTES: usize = 128;

/// How much content is remembered, in bytes, in each half.
const BLOCK_BYTES_KEPT: usize = 32 * 1024 * 1024;
