//! The hash of a long content from the hashes of its parts.
//!
//! BLAKE3 is a tree: the hash of all is merged from the chaining values of its subtrees (the BLAKE3 paper, §2.1). Whoever has
//! those of the parts needs to hash again only what changed.

use blake3::{
    Hasher,
    hazmat::{HasherExt, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root},
};

use crate::ContentHash;

/// How long a part is, in bytes; the last one may be shorter. A whole subtree of BLAKE3.
pub const PART_BYTES: usize = 64 * 1024;

/// The chaining value of a part: it tells which part it is, too.
pub type PartHash = blake3::hazmat::ChainingValue;

/// Returns the chaining value of part `number`, which is not empty and no longer than [`PART_BYTES`].
pub fn hash_part(number: u64, bytes: &[u8]) -> PartHash {
    let mut hasher = Hasher::new();
    hasher.set_input_offset(number * PART_BYTES as u64).update(bytes);
    hasher.finalize_non_root()
}

/// Returns the hash of `len` bytes, given their parts; `None` where these are not the parts of so many bytes, or where there
/// is only one, whose hash cannot be told from its chaining value.
pub fn merge_parts(parts: &[PartHash], len: u64) -> Option<ContentHash> {
    if len <= PART_BYTES as u64 || parts.len() as u64 != len.div_ceil(PART_BYTES as u64) {
        return None;
    }
    let (left, right) = halves(parts, len);
    Some(ContentHash(*merge_subtrees_root(&left, &right, Mode::Hash).as_bytes()))
}

/// Returns the chaining values of the two subtrees under the top of `len` bytes, which are more than one part.
fn halves(parts: &[PartHash], len: u64) -> (PartHash, PartHash) {
    let left = left_subtree_len(len);
    let count = usize::try_from(left / PART_BYTES as u64).expect("fewer than there are");
    let (before, after) = parts.split_at(count);
    (merged(before, left), merged(after, len - left))
}

fn merged(parts: &[PartHash], len: u64) -> PartHash {
    if let [only] = parts {
        return *only;
    }
    let (left, right) = halves(parts, len);
    merge_subtrees_non_root(&left, &right, Mode::Hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_merged_hash_is_that_of_all_bytes() {
        let part = PART_BYTES as u64;
        for len in (1..10).flat_map(|n| [n * part - 1, n * part, n * part + 1]) {
            let bytes: Vec<u8> = (0..len).map(|at| (at / 7 + at).to_le_bytes()[0]).collect();
            let parts = bytes.chunks(PART_BYTES).zip(0..).map(|(bytes, n)| hash_part(n, bytes));
            let parts: Vec<_> = parts.collect();
            let expected = (len > part).then(|| ContentHash::of(&bytes));
            assert_eq!(merge_parts(&parts, len), expected, "{len} bytes");
            assert_eq!(merge_parts(&parts[1..], len), None);
            assert_eq!(merge_parts(&parts, len + part), None);
        }
        assert_eq!(merge_parts(&[], 0), None);
    }
}
