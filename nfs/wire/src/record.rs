//! Record marking: how RPC messages are told apart on a stream (RFC 5531 §11).
//!
//! A record is one or more fragments, each after four bytes that hold its length and whether it is the last.

use std::ops::Range;

use crate::Encoder;

/// The most fragments of one record: looking for the end of a record stays cheap, whatever its sender does.
pub const FRAGMENTS_MAX: usize = 64;

/// Marks the last fragment.
const LAST: u32 = 1 << 31;

/// Why a stream cannot be followed any further.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// A record longer than the receiver takes.
    #[error("a record of {0} bytes or more is too long")]
    TooLong(usize),
    /// More than [`FRAGMENTS_MAX`] fragments.
    #[error("a record of too many fragments")]
    Fragments,
}

/// What is at the front of a receive buffer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Framed {
    /// A part of a record, or nothing.
    Partial,
    /// A whole record.
    Whole {
        /// Where its bytes are in the buffer.
        record: Range<usize>,
        /// How many bytes of the buffer it took with its marks.
        consumed: usize,
    },
}

/// Looks for a record of at most `max` bytes at the front of `buffer`; moves the fragments of one together, in place.
///
/// A record that announces too much is refused at its mark, before its bytes are there.
pub fn next_record(buffer: &mut [u8], max: usize) -> Result<Framed, RecordError> {
    let (mut at, mut total) = (0, 0_usize);
    for fragments in 1..=FRAGMENTS_MAX {
        let Some(mark) = mark_at(buffer, at) else { return Ok(Framed::Partial) };
        total = total.saturating_add(mark.len);
        if total > max {
            return Err(RecordError::TooLong(total));
        }
        at += 4 + mark.len;
        if at > buffer.len() {
            return Ok(Framed::Partial);
        }
        if mark.last {
            if fragments > 1 {
                join(buffer, fragments);
            }
            return Ok(Framed::Whole { record: 4..4 + total, consumed: at });
        }
    }
    Err(RecordError::Fragments)
}

/// Appends one record of one fragment, whose bytes `body` appends.
pub fn append_record(out: &mut Vec<u8>, body: impl FnOnce(&mut Encoder<'_>)) {
    let mut encoder = Encoder::new(out);
    let start = encoder.len();
    encoder.u32(0);
    body(&mut encoder);
    let len = u32::try_from(encoder.len() - start - 4).expect("no message of ours nears 2 GiB");
    encoder.patch_u32(start, len | LAST);
}

struct Mark {
    len: usize,
    last: bool,
}

fn mark_at(buffer: &[u8], at: usize) -> Option<Mark> {
    let mark = u32::from_be_bytes(*buffer.get(at..)?.first_chunk::<4>()?);
    Some(Mark { len: usize::try_from(mark & !LAST).ok()?, last: mark & LAST != 0 })
}

/// Moves the bytes of all fragments behind those of the first.
fn join(buffer: &mut [u8], fragments: usize) {
    let (mut from, mut to) = (0, 4);
    for _ in 0..fragments {
        let mark = mark_at(buffer, from).expect("the marks were read before");
        buffer.copy_within(from + 4..from + 4 + mark.len, to);
        from += 4 + mark.len;
        to += mark.len;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fragment(last: bool, bytes: &[u8]) -> Vec<u8> {
        let mark = u32::try_from(bytes.len()).unwrap() | if last { LAST } else { 0 };
        [&mark.to_be_bytes(), bytes].concat()
    }

    #[test]
    fn two_gibibytes_are_refused_at_their_mark() {
        let refused = next_record(&mut [0xff, 0xff, 0xff, 0xff], 1 << 20);
        assert_eq!(refused, Err(RecordError::TooLong(0x7fff_ffff)));
        // So is a sum of fragments.
        let mut buffer = [fragment(false, &[1; 60]), vec![0x80, 0, 0, 60]].concat();
        assert_eq!(next_record(&mut buffer, 100), Err(RecordError::TooLong(120)));
    }

    /// Empty fragments cost their sender nothing, and must cost us as little.
    #[test]
    fn fragments_without_end_are_refused() {
        assert_eq!(next_record(&mut [0; 4096], 1 << 20), Err(RecordError::Fragments));
    }

    proptest! {
        /// A record is the same in however many pieces it comes, and what follows stays untouched.
        #[test]
        fn fragments_become_one_record(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..FRAGMENTS_MAX),
            after in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let whole = parts.concat();
            let mut buffer = vec![];
            for (i, part) in parts.iter().enumerate() {
                buffer.extend(fragment(i + 1 == parts.len(), part));
            }
            let sent = buffer.len();
            for len in 0..sent {
                prop_assert_eq!(next_record(&mut buffer[..len], 4096), Ok(Framed::Partial));
            }
            buffer.extend(&after);
            let Ok(Framed::Whole { record, consumed }) = next_record(&mut buffer, 4096) else {
                panic!("not whole");
            };
            prop_assert_eq!(&buffer[record], &whole[..]);
            prop_assert_eq!(consumed, sent);
            prop_assert_eq!(&buffer[consumed..], &after[..]);
        }

        #[test]
        fn random_streams_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = next_record(&mut bytes, 100);
        }
    }
}
