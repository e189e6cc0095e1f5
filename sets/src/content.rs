//! The hash of a state's content.

use keepshare_base::ContentHash;
use keepshare_control::{Failure, Outcome};
use keepshare_replication::drivers::Wanted;
use keepshare_versioning::{FileState, Reader};

use crate::asking::read_failure;

/// How much content is read at once.
const READ_BYTES: usize = 512 * 1024;

/// Returns the hash of a state's content, reading all of it where the origin gave none, as long as that is wanted: a file
/// of a few bytes may be terabytes long.
pub(crate) fn content_hash(
    reader: &Reader,
    state: &FileState,
    wanted: &Wanted,
) -> Outcome<ContentHash> {
    if let Some(hash) = state.hash {
        return Ok(hash);
    }
    let mut hasher = blake3::Hasher::new();
    let mut offset = 0;
    while offset < state.meta.size {
        if !wanted.is_wanted() {
            return Err(Failure::refused("nobody wants it any more"));
        }
        let bytes = reader.read(state, offset, READ_BYTES).map_err(read_failure)?;
        if bytes.is_empty() {
            break;
        }
        offset += bytes.len() as u64;
        hasher.update(&bytes);
    }
    Ok(ContentHash(*hasher.finalize().as_bytes()))
}
