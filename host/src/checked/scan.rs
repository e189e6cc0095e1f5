//! Looking through the stored blocks of a database while it is in use.
//!
//! What redb keeps in memory it does not read again: a block can be damaged on the disk for months before anybody meets it. Here every
//! block is read from the disk itself. Blocks that redb does not refer to may be torn since a crash and are no damage, which only who
//! reads through the database can tell.

use std::io;

use crate::disk::{DiskFile, is_unreadable};

use super::{
    CheckedError,
    block::{STORED_BYTES, block_start, blocks_in, read_block},
    file::{read_head, read_slot},
};

/// A block that is being written just now is read again so often.
const LOOKS_MAX: u32 = 4;

/// What a look at some blocks found.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Scanned {
    /// How many of them are not what was written.
    pub bad: u64,
    /// How many bytes were read.
    pub bytes: u64,
    /// Where to go on; `None` at the end of the file.
    pub next: Option<u64>,
}

/// Looks at the stored blocks of a checked file from `from` on, so many at most; block 0 stands for the head and both header slots.
///
/// A file with a bad head has one bad block, and nothing more can be said of it.
pub fn scan(file: &dyn DiskFile, from: u64, count: u64) -> Result<Scanned, CheckedError> {
    let head = match read_head(file) {
        Ok(head) => head,
        Err(CheckedError::Damaged(_)) => return Ok(Scanned { bad: 1, ..Scanned::default() }),
        Err(error) => return Err(error),
    };
    let end = blocks_in(file.len()?);
    let mut scanned = Scanned::default();
    let mut stored = vec![0; STORED_BYTES];
    for block in from..end.min(from.saturating_add(count)) {
        let is_good = match u32::try_from(block) {
            Ok(0) => settles(|| Ok((0..2).all(|slot| read_slot(file, head.id, slot).is_some())))?,
            Ok(number) => settles(|| {
                match file.read_exact_at(&mut stored, block_start(block)) {
                    Err(error) if is_unreadable(&error) => return Ok(false),
                    read => read?,
                }
                // Nothing was written there yet, or it was lost: whoever reads it notices.
                let is_empty = stored.iter().all(|byte| *byte == 0);
                Ok(is_empty || read_block(&stored, head.id, number).is_some())
            })?,
            Err(_) => false,
        };
        scanned.bad += u64::from(!is_good);
        scanned.bytes += STORED_BYTES as u64;
    }
    let next = from.saturating_add(count);
    Ok(Scanned { next: (next < end).then_some(next), ..scanned })
}

/// Looks again where something is not right, in case it is being written.
fn settles(mut look: impl FnMut() -> io::Result<bool>) -> io::Result<bool> {
    for _ in 0..LOOKS_MAX {
        if look()? {
            return Ok(true);
        }
        std::thread::yield_now();
    }
    Ok(false)
}
