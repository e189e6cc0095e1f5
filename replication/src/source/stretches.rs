//! A large file that is read from nothing, as a first mirror does: each stretch into the memory that it is sent from.
//!
//! A [`Pass`](super::pass::Pass) compares, region by region, and copies what differs; here all differs that is not zeros,
//! so that nothing is copied. Both find the same block hashes. Holes are skipped where the file system tells of them.

use std::{io, os::fd::OwnedFd};

use keepshare_base::ContentHash;
use rustix::{buffer::spare_capacity, io::Errno};

use super::{
    blocks::{PAGE_BYTES, RegionHasher},
    hashing::Hashing,
    pass::{self, REGION},
    piece::Piece,
};

const PAGE: u64 = PAGE_BYTES as u64;

/// A file being read from front to end, by whoever has nothing of it.
#[derive(Debug)]
pub(crate) struct Stretches {
    /// The file's size as it was seen.
    size: u64,
    /// How far it was read: a page's beginning, or the end.
    offset: u64,
    regions: RegionHasher,
    hashing: Hashing,
}

impl Stretches {
    /// Begins with a file of this size.
    pub(crate) fn new(size: u64) -> Self {
        let (regions, hashing) = (RegionHasher::default(), Hashing::in_order());
        Self { size, offset: 0, regions, hashing }
    }

    /// Returns as much as goes into one change; `each` gets the number and the hashes of every region that is not zeros. The
    /// file is over after it when [`Self::is_over`] says so.
    pub(crate) fn next(
        &mut self,
        file: &OwnedFd,
        mut each: impl FnMut(u32, Vec<u8>),
    ) -> io::Result<Piece> {
        let mut piece = Piece::with_room(self.size - self.offset);
        while !self.is_over() {
            let data = pass::data_from(file, self.offset).min(self.size);
            let data = if data < self.size { data / PAGE * PAGE } else { data };
            if data > self.offset {
                self.skip(data - self.offset, &mut each);
                continue;
            }
            let len =
                piece.room().min(usize::try_from(self.size - self.offset).unwrap_or(usize::MAX));
            if len == 0 {
                break;
            }
            let Self { offset, regions, hashing, .. } = self;
            piece.read(*offset, len, |payload| {
                let from = payload.len();
                read_behind(file, payload, len, *offset)?;
                let bytes = &payload[from..];
                hashing.bytes(*offset, bytes);
                regions.take(bytes, &mut each);
                Ok(())
            })?;
            self.offset += len as u64;
        }
        if self.is_over() {
            self.regions.end(&mut each);
        }
        Ok(piece)
    }

    /// Tells whether everything was read.
    pub(crate) fn is_over(&self) -> bool {
        self.offset >= self.size
    }

    /// Returns the hash of the whole content, at its end.
    pub(crate) fn hash(&self) -> Option<ContentHash> {
        self.hashing.hash(self.size)
    }

    /// Takes a hole for the zeros that it is.
    fn skip(&mut self, len: u64, each: &mut impl FnMut(u32, Vec<u8>)) {
        let end = self.offset + len;
        // Where a pass finds a hash there has to be one, and it counts whole regions.
        let last = if end < self.size { end / REGION * REGION } else { end };
        self.hashing.count_holes(last.saturating_sub(self.offset.next_multiple_of(REGION)));
        self.hashing.zeros(self.offset, len);
        self.regions.skip(len, each);
        self.offset += len;
    }
}

/// Reads `len` bytes behind what is in a buffer that has room for them. What was cut off meanwhile is zeros; whoever looks
/// at the file afterwards sees that it changed.
fn read_behind(file: &OwnedFd, out: &mut Vec<u8>, len: usize, offset: u64) -> io::Result<()> {
    let (from, to) = (out.len(), out.len() + len);
    while out.len() < to {
        let at = offset + (out.len() - from) as u64;
        match rustix::io::pread(file, spare_capacity(out), at) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    out.resize(to, 0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::fs::FileExt};

    use keepshare_base::{Content, FileId, PAYLOAD_BYTES_MAX};

    use super::{
        super::{
            SourceError,
            hashing::HASHED_HOLES_MAX,
            pass::{Pass, Pause, Regions},
            tree,
        },
        *,
    };

    /// Rows of regions, as a pass gives them.
    #[derive(Default)]
    struct Rows(Vec<(u32, Vec<u8>)>);

    impl Regions for Rows {
        fn region(&self, _: FileId, _: u32) -> Result<Option<Vec<u8>>, SourceError> {
            Ok(None)
        }

        fn region_from(&self, _: FileId, _: u32) -> Result<Option<u32>, SourceError> {
            Ok(None)
        }

        fn set_region(
            &mut self,
            _: FileId,
            region: u32,
            hashes: Option<&[u8]>,
        ) -> Result<(), SourceError> {
            self.0.extend(hashes.map(|hashes| (region, hashes.to_vec())));
            Ok(())
        }

        fn clear_blocks(&mut self, _: FileId, _: u32) -> Result<(), SourceError> {
            Ok(())
        }
    }

    fn noise(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    /// Puts a piece over what there is, and says how much content it carried.
    fn put(piece: Piece, fresh: bool, bytes: &mut [u8]) -> usize {
        let (content, payload) = piece.into_content(fresh);
        assert!(payload.len() as u64 <= PAYLOAD_BYTES_MAX);
        let Content::Extents { extents, hash, .. } = content else { return 0 };
        assert_eq!(hash, ContentHash::of(&payload));
        let mut from = 0;
        for extent in extents {
            let (at, len) =
                (usize::try_from(extent.offset).unwrap(), usize::try_from(extent.len).unwrap());
            assert!(!extent.zero && len > 0);
            bytes[at..at + len].copy_from_slice(&payload[from..from + len]);
            from += len;
        }
        assert_eq!(from, payload.len());
        from
    }

    /// What a first mirror sends must be the file, and what it learns must be what a later look at it compares with.
    #[test]
    fn a_file_read_from_nothing_is_what_a_pass_over_it_finds() {
        let (mib, page) = (1 << 20, PAGE_BYTES);
        let sizes =
            [65_537, 640 << 10, (640 << 10) + 1, mib, mib + 5, 3 * mib - page, 5 * mib + 17];
        // Where there is data, with what stands there; the rest is a hole.
        let layouts: [&[(usize, usize, bool)]; 5] = [
            &[(0, usize::MAX, true)],
            &[(0, 3 * page, true), (4 * page, page, false), (7 * page, usize::MAX, true)],
            &[(page + 9, 100, true), (2 * mib + 3, page, true)],
            &[(0, 2 * mib, false), (2 * mib, page, true)],
            &[],
        ];
        for (size, layout) in sizes.into_iter().flat_map(|size| layouts.map(|l| (size, l))) {
            let file = tempfile::tempfile().unwrap();
            file.set_len(size as u64).unwrap();
            let mut expected = vec![0; size];
            for &(at, len, is_noise) in layout.iter().filter(|(at, ..)| *at < size) {
                let len = len.min(size - at);
                if is_noise {
                    expected[at..at + len].copy_from_slice(&noise(len));
                }
                file.write_all_at(&expected[at..at + len], at as u64).unwrap();
            }
            check(file, &expected);
        }
    }

    fn check(file: File, expected: &[u8]) {
        let open = OwnedFd::from(file);
        let seen = tree::look_at(std::os::fd::AsFd::as_fd(&open)).unwrap();
        let (mut rows, mut bytes, mut sent) = (Vec::new(), vec![0; expected.len()], 0);
        let mut stretches = Stretches::new(expected.len() as u64);
        while !stretches.is_over() {
            let piece = stretches.next(&open, |region, row| rows.push((region, row))).unwrap();
            sent += put(piece, sent == 0, &mut bytes);
        }
        assert!(bytes == expected, "{} bytes", expected.len());
        assert_eq!(stretches.hash(), Some(ContentHash::of(expected)));
        let (mut pass, mut passed, mut before) =
            (Pass::new(FileId::ROOT, seen), Rows::default(), 0);
        loop {
            let mut piece = Piece::default();
            let pause = pass.step(&open, &mut passed, &mut piece, u64::MAX).unwrap();
            before += put(piece, before == 0, &mut vec![0; expected.len()]);
            if pause == Pause::End {
                break;
            }
        }
        assert_eq!((sent, rows), (before, passed.0), "{} bytes", expected.len());
        assert_eq!(stretches.hash(), pass.hash());
    }

    /// A state that has a hash at the origin and comes without one would be sent again by every mirror.
    #[test]
    fn a_file_with_holes_has_a_hash_where_a_pass_gives_it_one() {
        let regions = HASHED_HOLES_MAX / REGION + 8;
        for (every, has_hash) in [(1, true), (regions, false)] {
            let file = tempfile::tempfile().unwrap();
            file.set_len(regions * REGION).unwrap();
            for region in (0..regions).step_by(usize::try_from(every).unwrap()) {
                file.write_all_at(b"data", region * REGION + 5 * PAGE).unwrap();
            }
            let open = OwnedFd::from(file);
            let mut stretches = Stretches::new(regions * REGION);
            while !stretches.is_over() {
                stretches.next(&open, |_, _| {}).unwrap();
            }
            let seen = tree::look_at(std::os::fd::AsFd::as_fd(&open)).unwrap();
            let mut pass = Pass::new(FileId::ROOT, seen);
            let (mut rows, mut piece) = (Rows::default(), Piece::default());
            while pass.step(&open, &mut rows, &mut piece, u64::MAX).unwrap() != Pause::End {
                piece = Piece::default();
            }
            assert_eq!((stretches.hash().is_some(), stretches.hash()), (has_hash, pass.hash()));
        }
    }

    /// What is cut off while it is read must not end the reading, nor give bytes that never were there.
    #[test]
    fn what_was_cut_off_meanwhile_is_zeros() {
        let file = tempfile::tempfile().unwrap();
        let bytes = noise(PAGE_BYTES + 10);
        file.write_all_at(&bytes, 0).unwrap();
        let open = OwnedFd::from(file);
        let mut stretches = Stretches::new(2 << 20);
        let mut got = vec![0; 2 << 20];
        while !stretches.is_over() {
            put(stretches.next(&open, |_, _| {}).unwrap(), true, &mut got);
        }
        assert!(got.starts_with(&bytes) && got[bytes.len()..].iter().all(|byte| *byte == 0));
    }
}
