//! The hash of a file's whole content while a pass goes over it.

use blake3::Hasher;
use keepshare_base::{ContentHash, PART_BYTES, PartHash, hash_part, merge_parts};

/// The most holes that are hashed as zeros; a file with more has no hash of its whole content.
const HASHED_HOLES_MAX: u64 = 256 << 20;

const PART: u64 = PART_BYTES as u64;

static ZEROS: [u8; PART_BYTES] = [0; PART_BYTES];

/// Hashes a content, from front to end or where it changed.
#[derive(Debug)]
pub(crate) struct Hashing {
    state: State,
    holes: u64,
}

#[derive(Debug)]
enum State {
    /// All of it in order.
    InOrder(Box<Hasher>),
    /// Part by part: what is known of parts counts where they are not read.
    InParts(Vec<PartHash>),
    /// It is not known.
    Unknown,
}

impl Hashing {
    /// Begins to hash everything in order.
    pub(crate) fn in_order() -> Self {
        Self { state: State::InOrder(Box::default()), holes: 0 }
    }

    /// Begins to hash `len` bytes whose parts are to be known afterwards: 32 bytes are kept for each 64 KiB.
    pub(crate) fn in_parts(mut known: Vec<PartHash>, len: u64) -> Self {
        known.resize(usize::try_from(len.div_ceil(PART)).unwrap_or(usize::MAX), [0; 32]);
        Self { state: State::InParts(known), holes: 0 }
    }

    /// Hashes nothing.
    pub(crate) fn unknown() -> Self {
        Self { state: State::Unknown, holes: 0 }
    }

    /// Takes bytes from `offset` on, where a part begins; what is hashed in order comes in order.
    pub(crate) fn bytes(&mut self, offset: u64, bytes: &[u8]) {
        match &mut self.state {
            State::InOrder(hasher) => {
                hasher.update(bytes);
            }
            State::InParts(parts) => {
                for (number, bytes) in (offset / PART..).zip(bytes.chunks(PART_BYTES)) {
                    let at = usize::try_from(number).ok().and_then(|at| parts.get_mut(at));
                    if let Some(part) = at {
                        *part = hash_part(number, bytes);
                    }
                }
            }
            State::Unknown => {}
        }
    }

    /// Takes zeros from `offset` on, where a part begins.
    pub(crate) fn zeros(&mut self, offset: u64, len: u64) {
        self.holes += len;
        if self.holes > HASHED_HOLES_MAX {
            self.state = State::Unknown;
        }
        let mut at = offset;
        while at < offset + len && !matches!(self.state, State::Unknown) {
            let step = PART.min(offset + len - at);
            self.bytes(at, &ZEROS[..usize::try_from(step).unwrap_or(0)]);
            at += step;
        }
    }

    /// Returns the hash of all `len` bytes, at the end.
    pub(crate) fn hash(&self, len: u64) -> Option<ContentHash> {
        match &self.state {
            State::InOrder(hasher) => Some(ContentHash(*hasher.finalize().as_bytes())),
            State::InParts(parts) => merge_parts(parts, len),
            State::Unknown => None,
        }
    }

    /// Returns what is known of the parts.
    pub(crate) fn into_parts(self) -> Option<Vec<PartHash>> {
        match self.state {
            State::InParts(parts) => Some(parts),
            _ => None,
        }
    }
}
