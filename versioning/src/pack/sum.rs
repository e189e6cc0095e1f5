//! What frames keep of their content's hash, computed once for all that came together.
//!
//! BLAKE3 is a tree: the hash of a long content is merged from the chaining values of its parts, so whoever checks what
//! came has the hashes of its parts as well, each of which becomes one frame.

use keepshare_base::{ContentHash, PART_BYTES, PartHash, hash_part, merge_parts};

/// The first bytes of a frame's hash, and what was hashed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Sum {
    pub(super) bytes: [u8; 16],
    /// Of which part of something longer it is the chaining value; `None`: it is the hash of the content itself.
    pub(super) part: Option<u8>,
}

impl Sum {
    /// Returns that of a content by itself.
    pub(crate) fn of(content: &[u8]) -> Self {
        Self { bytes: first(blake3::hash(content).as_bytes()), part: None }
    }

    /// Tells whether it is that of `content`.
    pub(crate) fn is_of(&self, content: &[u8]) -> bool {
        match self.part {
            None => Self::of(content) == *self,
            Some(part) => {
                (1..=PART_BYTES).contains(&content.len())
                    && first(&hash_part(u64::from(part), content)) == self.bytes
            }
        }
    }
}

/// The hash of bytes that came together, and of each part of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hashed {
    whole: Option<ContentHash>,
    len: usize,
    /// The chaining values of the parts; none where there is only one.
    parts: Vec<PartHash>,
}

impl Hashed {
    /// Hashes bytes, each once.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let len = bytes.len();
        if len <= PART_BYTES {
            return Self { whole: Some(ContentHash::of(bytes)), len, parts: Vec::new() };
        }
        let parts = bytes.chunks(PART_BYTES).zip(0..).map(|(bytes, part)| hash_part(part, bytes));
        let parts: Vec<_> = parts.collect();
        Self { whole: merge_parts(&parts, len as u64), len, parts }
    }

    /// Returns the hash of all of them; `None` where nothing was hashed.
    pub(crate) fn whole(&self) -> Option<ContentHash> {
        self.whole
    }

    /// Returns what a frame keeps of the hash of `len` bytes from `at` on; `None` where those are no part, nor all.
    pub(crate) fn sum(&self, at: usize, len: usize) -> Option<Sum> {
        if (at, len) == (0, self.len) && self.parts.is_empty() {
            return self.whole.map(|whole| Sum { bytes: first(&whole.0), part: None });
        }
        let is_part = at.is_multiple_of(PART_BYTES)
            && (len == PART_BYTES || (len > 0 && len < PART_BYTES && at + len == self.len));
        let number = at / PART_BYTES;
        let value = self.parts.get(number).filter(|_| is_part)?;
        let part = u8::try_from(number).ok().filter(|part| *part < u8::MAX)?;
        Some(Sum { bytes: first(value), part: Some(part) })
    }
}

fn first(hash: &[u8; 32]) -> [u8; 16] {
    *hash.first_chunk().expect("a hash has 32 bytes")
}

#[cfg(test)]
mod tests {
    use blake3::Hasher;

    use super::*;

    fn bytes(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    /// The merged hash is what decides whether content is taken: it must be BLAKE3, whatever the length.
    #[test]
    fn the_merged_hash_is_that_of_all_bytes() {
        let borders = (0..12).flat_map(|n| [-1_isize, 0, 1].map(|by| n * PART_BYTES as isize + by));
        let odd = [1023, 1024, 1025, 70_000, 655_360, 1_000_003];
        for len in borders.filter_map(|len| usize::try_from(len).ok()).chain(odd) {
            let bytes = bytes(len);
            let hashed = Hashed::of(&bytes);
            assert_eq!(hashed.whole(), Some(ContentHash::of(&bytes)), "{len} bytes");
            let mut found = 0;
            for at in (0..len.max(1)).step_by(PART_BYTES) {
                let part = &bytes[at..len.min(at + PART_BYTES)];
                let sum = hashed.sum(at, part.len()).expect("every part has one");
                assert!(sum.is_of(part), "{len} bytes, from {at}");
                found += part.len();
                if let Some(first) = part.first() {
                    let other = [&[first ^ 1], &part[1..]].concat();
                    assert!(!sum.is_of(&other) && !sum.is_of(&part[1..]));
                }
            }
            assert_eq!(found, len);
        }
    }

    /// What is no part has no hash yet: to take one for it would make a frame that is damaged from the beginning.
    #[test]
    fn what_is_no_part_is_not_known() {
        let hashed = Hashed::of(&bytes(3 * PART_BYTES + 5));
        for (at, len) in
            [(1, 64), (0, 64), (0, 2 * PART_BYTES), (PART_BYTES, 5), (0, 3 * PART_BYTES + 5)]
        {
            assert_eq!(hashed.sum(at, len), None, "{len} bytes from {at}");
        }
        assert!(hashed.sum(3 * PART_BYTES, 5).is_some());
        let small = Hashed::of(&bytes(100));
        assert_eq!((small.sum(0, 99), small.sum(1, 99)), (None, None));
        assert_eq!(Hashed::default().sum(0, 10), None);
    }
}
