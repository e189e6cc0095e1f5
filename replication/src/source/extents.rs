//! Where two files that share their blocks differ, as the file system tells it (`FS_IOC_FIEMAP`, the kernel's
//! Documentation/filesystems/fiemap.rst).
//!
//! Two places that lie in the same block of the disk hold the same bytes. The reverse is not said: what was written anew with
//! the same bytes lies elsewhere, and is read for nothing.

use std::{io, iter::Peekable, ops::Range, os::fd::AsFd};

use fiemap::{Fiemap, FiemapExtent, FiemapExtentFlags as Flags, FiemapFlags};

/// Extents of whose bytes their place says nothing: compressed, within metadata, or not written to the disk yet.
const UNTOLD: Flags = Flags::UNKNOWN
    .union(Flags::DELALLOC)
    .union(Flags::ENCODED)
    .union(Flags::DATA_ENCRYPTED)
    .union(Flags::NOT_ALIGNED)
    .union(Flags::DATA_INLINE)
    .union(Flags::DATA_TAIL);

/// The most ranges that are told: where more differs it is as well read whole.
const RANGES_MAX: usize = 1 << 16;

/// Stretches of a file, in order, which do not touch.
pub(crate) type Ranges = Vec<Range<u64>>;

/// Has what was written to a file go to its blocks.
pub(crate) fn flush(file: impl AsFd) -> io::Result<()> {
    Fiemap::with_flags(file, FiemapFlags::SYNC).next().transpose().map(drop)
}

/// Returns where `now` may differ from `before` within its first `len` bytes; `None` where that cannot be told, or in more
/// than 65,536 places.
pub(crate) fn differences(
    before: impl AsFd,
    now: impl AsFd,
    len: u64,
) -> io::Result<Option<Ranges>> {
    let mapped = |file| Fiemap::with_flags(file, FiemapFlags::SYNC).map(|e| Ok(Extent::of(&e?)));
    let (before, now) = (before.as_fd(), now.as_fd());
    compare(&mut mapped(before).peekable(), &mut mapped(now).peekable(), len)
}

/// A stretch of a file that has blocks.
#[derive(Clone, Copy, Debug)]
struct Extent {
    start: u64,
    end: u64,
    at: At,
}

/// Where bytes lie.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum At {
    Hole,
    Block(u64),
    /// In this block, which holds zeros until it is written to.
    Unwritten(u64),
    /// Nobody can say.
    Untold,
}

impl Extent {
    fn of(extent: &FiemapExtent) -> Self {
        let (start, end) = (extent.fe_logical, extent.fe_logical.saturating_add(extent.fe_length));
        let at = if extent.fe_flags.intersects(UNTOLD) {
            At::Untold
        } else if extent.fe_flags.contains(Flags::UNWRITTEN) {
            At::Unwritten(extent.fe_physical)
        } else {
            At::Block(extent.fe_physical)
        };
        Self { start, end, at }
    }

    fn at(&self, offset: u64) -> At {
        let by = offset - self.start;
        match self.at {
            At::Block(block) => At::Block(block.wrapping_add(by)),
            At::Unwritten(block) => At::Unwritten(block.wrapping_add(by)),
            at => at,
        }
    }
}

fn compare<I: Iterator<Item = io::Result<Extent>>>(
    before: &mut Peekable<I>,
    now: &mut Peekable<I>,
    len: u64,
) -> io::Result<Option<Ranges>> {
    let mut ranges = Ranges::new();
    let mut offset = 0;
    while offset < len {
        let (was, was_until) = next(before, offset)?;
        let (is, is_until) = next(now, offset)?;
        let until = was_until.min(is_until).min(len);
        if was != is || is == At::Untold {
            let count = ranges.len();
            match ranges.last_mut() {
                Some(last) if last.end == offset => last.end = until,
                _ if count >= RANGES_MAX => return Ok(None),
                _ => ranges.push(offset..until),
            }
        }
        offset = until;
    }
    Ok(Some(ranges))
}

/// Returns where the byte at `offset` lies, and until where that goes on.
fn next<I: Iterator<Item = io::Result<Extent>>>(
    extents: &mut Peekable<I>,
    offset: u64,
) -> io::Result<(At, u64)> {
    loop {
        match extents.peek() {
            None => return Ok((At::Hole, u64::MAX)),
            Some(Ok(extent)) if extent.end <= offset => drop(extents.next()),
            Some(Ok(extent)) if extent.start > offset => return Ok((At::Hole, extent.start)),
            Some(Ok(extent)) => return Ok((extent.at(offset), extent.end)),
            Some(Err(_)) => {
                let error = extents.next().and_then(Result::err);
                return Err(error.unwrap_or_else(|| io::Error::other("no extents")));
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "one stretch of several that could be")]
mod tests {
    use super::*;

    fn told(before: &[(u64, u64, At)], now: &[(u64, u64, At)], len: u64) -> Option<Ranges> {
        let extents = |of: &[(u64, u64, At)]| {
            let of = of.iter().map(|(start, end, at)| (*start, *end, *at)).collect::<Vec<_>>();
            of.into_iter().map(|(start, end, at)| Ok(Extent { start, end, at })).peekable()
        };
        compare(&mut extents(before), &mut extents(now), len).unwrap()
    }

    #[test]
    fn what_lies_elsewhere_differs() {
        let before = [(0, 100, At::Block(1000)), (200, 300, At::Block(5000))];
        assert_eq!(told(&before, &before, 300), Some(vec![]));
        // The same blocks, told in other pieces.
        let pieces =
            [(0, 50, At::Block(1000)), (50, 100, At::Block(1050)), (200, 300, At::Block(5000))];
        assert_eq!(told(&before, &pieces, 300), Some(vec![]));
        let written = [
            (0, 40, At::Block(1000)),
            (40, 60, At::Block(9000)),
            (60, 100, At::Block(1060)),
            (150, 200, At::Block(9100)),
            (200, 300, At::Block(5000)),
        ];
        assert_eq!(told(&before, &written, 300), Some(vec![40..60, 150..200]));
        assert_eq!(told(&before, &written, 160), Some(vec![40..60, 150..160]));
        assert_eq!(told(&before, &before[..1], 300), Some(vec![200..300]), "a hole was punched");
        let moved = [(0, 100, At::Block(1000)), (200, 300, At::Block(5001))];
        assert_eq!(told(&before, &moved, 300), Some(vec![200..300]));
    }

    #[test]
    fn what_is_not_told_differs() {
        let untold = [(0, 100, At::Untold)];
        assert_eq!(told(&untold, &untold, 100), Some(vec![0..100]));
        let (zeros, bytes) = ([(0, 100, At::Unwritten(10))], [(0, 100, At::Block(10))]);
        assert_eq!(told(&zeros, &bytes, 100), Some(vec![0..100]), "it was written to in place");
        assert_eq!(told(&zeros, &zeros, 100), Some(vec![]));
        assert_eq!(told(&[], &zeros, 100), Some(vec![0..100]));
    }

    #[test]
    fn too_many_places_are_none() {
        let every_second = |from: u64| {
            let blocks = (0..RANGES_MAX as u64 + 1).map(move |n| 2 * n);
            blocks.map(|at| (at, at + 1, At::Block(from + at))).collect::<Vec<_>>()
        };
        let len = 2 * (RANGES_MAX as u64 + 1);
        assert_eq!(told(&every_second(0), &every_second(1 << 40), len), None);
        assert_eq!(told(&every_second(0), &every_second(0), len), Some(vec![]));
    }
}
