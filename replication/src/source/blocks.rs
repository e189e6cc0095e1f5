//! Block hashes of a file: which pages differ from what was sent last.
//!
//! A file is hashed in regions of 1 MiB. A region's row is 16 bytes over the whole region, so that an unchanged one is
//! passed over with certainty, then 8 bytes for each page of 4 KiB, looked at only where the region differs. A page of
//! zeros has the hash 0, and a region of zeros has no row at all: holes cost nothing. Where only some of a region was read,
//! the 16 bytes are zeros, and its pages alone tell. The hashes never leave the machine; what travels carries BLAKE3.
//!
//! A small file is one region whose pages are as small as its size lets them be: an edit of a few bytes in it would send
//! all of it else. A tiny one has no hashes: they would take a good part of what they save to send, for ever.

use std::{fmt, ops::Range};

use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_128};

use super::hashing::ZEROS;

/// What is sent at least.
pub(crate) const PAGE_BYTES: usize = 4096;

/// A file up to here is tiny: it is always sent whole.
pub(crate) const TINY_BYTES_MAX: usize = 1024;

/// A small file has at most so many pages.
const SMALL_PAGES_MAX: usize = 128;

/// The smallest page of a small file: what its hash takes and where it lies must stay little beside it.
const SMALL_PAGE_BYTES_MIN: usize = 64;

/// What has one row of hashes.
pub(crate) const REGION_BYTES: usize = 1 << 20;

/// The hash over a whole region that is not known.
const NOT_KNOWN: [u8; 16] = [0; 16];

/// A stretch of a region whose bytes changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Run {
    /// Where in the region it begins.
    pub(crate) start: usize,
    /// Where it ends.
    pub(crate) end: usize,
    /// It is zeros now.
    pub(crate) zero: bool,
}

/// Hashes a region; `None` where it is all zeros.
pub(crate) fn hash_region(bytes: &[u8]) -> Option<Vec<u8>> {
    hash(bytes, PAGE_BYTES)
}

/// Hashes a small file, which is all of its region; `None` where it is all zeros.
pub(crate) fn hash_small(bytes: &[u8]) -> Option<Vec<u8>> {
    let page = bytes.len().div_ceil(SMALL_PAGES_MAX).next_power_of_two().max(SMALL_PAGE_BYTES_MIN);
    let mut row = hash(bytes, page)?;
    // One byte beyond whole hashes says which pages they are of.
    row.extend(u8::try_from(page.ilog2()));
    Some(row)
}

/// Hashes what was read anew of a region: `bytes` is all of it, right within `read`, whose borders are those of pages, and
/// is as `before` says elsewhere. `None` where it is all zeros.
pub(crate) fn hash_read(
    before: Option<&[u8]>,
    bytes: &[u8],
    read: &[Range<usize>],
) -> Option<Vec<u8>> {
    let pages = bytes.chunks(PAGE_BYTES).enumerate().map(|(page, bytes)| {
        let is_read = read.iter().any(|range| range.contains(&(page * PAGE_BYTES)));
        if is_read { hash_page(bytes) } else { page_hash(before, page) }
    });
    row(&pages.collect::<Vec<_>>(), || 0)
}

/// Tells whether a row has hashes of pages of 4 KiB, as those of regions of large files have.
pub(crate) fn is_of_pages(row: Option<&[u8]>) -> bool {
    row.is_none_or(|row| page_bytes(row) == PAGE_BYTES)
}

/// Hashes the regions of a file that is read from front to end, however much of it comes at once.
#[derive(Default)]
pub(crate) struct RegionHasher {
    region: u32,
    /// Bytes of the region so far.
    len: usize,
    whole: Xxh3,
    pages: Vec<u64>,
}

impl RegionHasher {
    /// Takes what comes next, whole pages but at the file's end; `each` gets every region that is over and not zeros.
    pub(crate) fn take(&mut self, mut bytes: &[u8], each: &mut impl FnMut(u32, Vec<u8>)) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(REGION_BYTES - self.len));
            self.whole.update(now);
            self.pages.extend(now.chunks(PAGE_BYTES).map(hash_page));
            self.advance(now.len(), each);
            bytes = later;
        }
    }

    /// Takes zeros: whole pages, but at the file's end.
    pub(crate) fn skip(&mut self, mut len: u64, each: &mut impl FnMut(u32, Vec<u8>)) {
        while len > 0 {
            if self.len == 0 && len >= REGION_BYTES as u64 {
                // Regions of nothing else have no rows, however many they are.
                let regions = len / REGION_BYTES as u64;
                self.region =
                    self.region.saturating_add(u32::try_from(regions).unwrap_or(u32::MAX));
                len %= REGION_BYTES as u64;
                continue;
            }
            let step = len.min((REGION_BYTES - self.len) as u64);
            let bytes = usize::try_from(step).unwrap_or(REGION_BYTES);
            self.pages.resize(self.pages.len() + bytes.div_ceil(PAGE_BYTES), 0);
            for at in (0..bytes).step_by(ZEROS.len()) {
                self.whole.update(&ZEROS[..ZEROS.len().min(bytes - at)]);
            }
            self.advance(bytes, each);
            len -= step;
        }
    }

    /// Gives the last region.
    pub(crate) fn end(&mut self, each: &mut impl FnMut(u32, Vec<u8>)) {
        if let Some(row) = row(&self.pages, || self.whole.digest128()) {
            each(self.region, row);
        }
        self.whole.reset();
        self.pages.clear();
        self.len = 0;
        self.region = self.region.saturating_add(1);
    }

    fn advance(&mut self, bytes: usize, each: &mut impl FnMut(u32, Vec<u8>)) {
        self.len += bytes;
        if self.len == REGION_BYTES {
            self.end(each);
        }
    }
}

impl fmt::Debug for RegionHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegionHasher")
            .field("region", &self.region)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

fn hash(bytes: &[u8], page_bytes: usize) -> Option<Vec<u8>> {
    let pages: Vec<u64> = bytes.chunks(page_bytes).map(hash_page).collect();
    row(&pages, || xxh3_128(bytes))
}

fn row(pages: &[u64], whole: impl FnOnce() -> u128) -> Option<Vec<u8>> {
    if pages.iter().all(|page| *page == 0) {
        return None;
    }
    let mut row = Vec::with_capacity(16 + 8 * pages.len() + 1);
    row.extend(whole().to_le_bytes());
    row.extend(pages.iter().flat_map(|page| page.to_le_bytes()));
    Some(row)
}

/// Returns where a region of `len` bytes with the hashes `now` differs from one with the hashes `before`.
pub(crate) fn changed(before: Option<&[u8]>, now: Option<&[u8]>, len: usize) -> Vec<Run> {
    let is_known = [before, now].into_iter().flatten().all(|row| whole(row) != NOT_KNOWN);
    if is_known && before.map(whole) == now.map(whole) {
        return Vec::new();
    }
    let page_bytes = now.or(before).map_or(PAGE_BYTES, page_bytes);
    if before.is_some_and(|row| self::page_bytes(row) != page_bytes) {
        // Hashes of other pages say nothing of these.
        return runs(page_bytes, len, |_| true, now);
    }
    let differs = |page| page_hash(before, page) != page_hash(now, page);
    let runs = runs(page_bytes, len, differs, now);
    let same_length = before.is_some_and(|b| now.is_some_and(|n| b.len() == n.len()));
    if runs.is_empty() && same_length && is_known {
        // The region differs and no page does: two pages with one short hash. Everything is sent.
        return self::runs(page_bytes, len, |_| true, now);
    }
    runs
}

fn runs(
    page_bytes: usize,
    len: usize,
    differs: impl Fn(usize) -> bool,
    now: Option<&[u8]>,
) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for page in (0..len.div_ceil(page_bytes)).filter(|page| differs(*page)) {
        let (start, end) = (page * page_bytes, ((page + 1) * page_bytes).min(len));
        let zero = page_hash(now, page) == 0;
        match runs.last_mut() {
            Some(last) if last.end == start && last.zero == zero => last.end = end,
            _ => runs.push(Run { start, end, zero }),
        }
    }
    runs
}

/// Returns which pages a row has hashes of.
fn page_bytes(row: &[u8]) -> usize {
    match row.last() {
        Some(log) if row.len() % 8 == 1 => 1_usize.checked_shl(u32::from(*log)).unwrap_or(0).max(1),
        _ => PAGE_BYTES,
    }
}

fn hash_page(page: &[u8]) -> u64 {
    let zero = page.iter().all(|byte| *byte == 0);
    if zero { 0 } else { xxh3_64(page).max(1) }
}

fn whole(row: &[u8]) -> &[u8] {
    row.get(..16).unwrap_or_default()
}

/// Returns the hash of a page; what lies beyond the row is zeros.
fn page_hash(row: Option<&[u8]>, page: usize) -> u64 {
    let at = 16 + 8 * page;
    let bytes = row.and_then(|row| row.get(at..at + 8)).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "one stretch of several that could be")]
mod tests {
    use super::*;

    fn diff(before: &[u8], now: &[u8]) -> Vec<Run> {
        changed(hash_region(before).as_deref(), hash_region(now).as_deref(), now.len())
    }

    #[test]
    fn one_byte_costs_one_page() {
        let before = vec![7; 10 * PAGE_BYTES];
        let mut now = before.clone();
        now[3 * PAGE_BYTES + 5] = 8;
        let run = Run { start: 3 * PAGE_BYTES, end: 4 * PAGE_BYTES, zero: false };
        assert_eq!(diff(&before, &now), [run]);
        assert_eq!(diff(&before, &before), []);
    }

    #[test]
    fn zeros_cost_nothing_and_becoming_zeros_is_a_change() {
        assert_eq!(hash_region(&[0; 5000]), None);
        assert_eq!(diff(&[0; 5000], &[0; 9000]), []);
        let zeroed = diff(&[1; 5000], &[0; 5000]);
        assert_eq!(zeroed, [Run { start: 0, end: 5000, zero: true }]);
    }

    /// A sparse file may be as long as a file system lets it be: a hole is passed over at once.
    #[test]
    fn a_hole_costs_no_time() {
        let (mut hasher, mut rows) = (RegionHasher::default(), Vec::new());
        let hole = 3 * REGION_BYTES as u64 + 8 * PAGE_BYTES as u64;
        hasher.take(&[7; PAGE_BYTES], &mut |region, row| rows.push((region, row)));
        hasher.skip(hole, &mut |region, row| rows.push((region, row)));
        hasher.take(&[8; 10], &mut |region, row| rows.push((region, row)));
        hasher.skip(u64::MAX / 2, &mut |region, row| rows.push((region, row)));
        let first = [&[7; PAGE_BYTES][..], &[0; REGION_BYTES - PAGE_BYTES]].concat();
        assert_eq!(rows[0], (0, hash_region(&first).unwrap()));
        assert_eq!((rows.len(), rows[1].0), (2, 3));
    }

    #[test]
    fn growing_and_shrinking_touch_the_edge() {
        let edge = |start, end| [Run { start, end, zero: false }];
        assert_eq!(diff(&[1; 5000], &[1; 9000]), edge(4096, 9000));
        assert_eq!(diff(&[1; 9000], &[1; 5000]), edge(4096, 5000));
        assert_eq!(diff(&[1; 8192], &[1; 4096]), [], "cutting whole pages off changes no page");
    }

    fn small_diff(before: &[u8], now: &[u8]) -> Vec<Run> {
        changed(hash_small(before).as_deref(), hash_small(now).as_deref(), now.len())
    }

    #[test]
    fn one_byte_of_a_small_file_costs_a_small_page() {
        for (len, page) in [(70, 64), (5000, 64), (8193, 128), (65_536, 512)] {
            let before = vec![7; len];
            let mut now = before.clone();
            now[66] = 8;
            let (start, end) = (66 / page * page, ((66 / page + 1) * page).min(len));
            assert_eq!(small_diff(&before, &now), [Run { start, end, zero: false }], "{len}");
            assert_eq!(small_diff(&before, &before), []);
        }
    }

    #[test]
    fn zeros_of_a_small_file_are_told() {
        assert_eq!(hash_small(&[0; 5000]), None);
        assert_eq!(small_diff(&[1; 100], &[0; 100]), [Run { start: 0, end: 100, zero: true }]);
        let run = |start, end, zero| Run { start, end, zero };
        assert_eq!(small_diff(&[0; 100], &[1; 100]), [run(0, 100, false)]);
        let mut now = [1; 200];
        now[64..128].fill(0);
        assert_eq!(small_diff(&[1; 200], &now), [run(64, 128, true)]);
    }

    /// What was read in part is known as well as what was read whole, but for the hash over all.
    #[test]
    fn what_was_read_in_part_is_known_by_its_pages() {
        let before = [7; 10 * PAGE_BYTES + 5];
        let mut now = before;
        now[3 * PAGE_BYTES + 5] = 8;
        now[5 * PAGE_BYTES..6 * PAGE_BYTES].fill(0);
        let whole_before = hash_region(&before);
        let mut bytes = [0; 10 * PAGE_BYTES + 5];
        let read = [3 * PAGE_BYTES..4 * PAGE_BYTES, 5 * PAGE_BYTES..7 * PAGE_BYTES];
        for range in &read {
            bytes[range.clone()].copy_from_slice(&now[range.clone()]);
        }
        let row = hash_read(whole_before.as_deref(), &bytes, &read);
        let run = |from: usize, to: usize, zero| Run {
            start: from * PAGE_BYTES,
            end: to * PAGE_BYTES,
            zero,
        };
        let expected = [run(3, 4, false), run(5, 6, true)];
        assert_eq!(changed(whole_before.as_deref(), row.as_deref(), before.len()), expected);
        // From here on it is what was known before.
        let whole_now = hash_region(&now);
        assert_eq!(changed(row.as_deref(), whole_now.as_deref(), now.len()), []);
        assert_eq!(changed(row.as_deref(), row.as_deref(), now.len()), []);
        let back = changed(row.as_deref(), whole_before.as_deref(), now.len());
        assert_eq!(back, [run(3, 4, false), run(5, 6, false)]);
        assert_eq!(
            hash_read(row.as_deref(), &[0; 10], &[0..10]),
            None,
            "all that is left is zeros"
        );
        assert!(is_of_pages(row.as_deref()) && !is_of_pages(hash_small(&[1; 100]).as_deref()));
    }

    /// A file that grows out of its pages, or out of being small, is not compared by hashes of other pages.
    #[test]
    fn hashes_of_other_pages_say_nothing() {
        let all = |end| [Run { start: 0, end, zero: false }];
        assert_eq!(small_diff(&[1; 8192], &[1; 8193]), all(8193));
        assert_eq!(small_diff(&[1; 8193], &[1; 8192]), all(8192));
        let (small, large) = (hash_small(&[1; 65_536]), hash_region(&[1; 65_537]));
        assert_eq!(changed(small.as_deref(), large.as_deref(), 65_537), all(65_537));
        assert_eq!(changed(large.as_deref(), small.as_deref(), 65_536), all(65_536));
        let zeroed = [Run { start: 0, end: 65_536, zero: true }];
        assert_eq!(changed(small.as_deref(), None, 65_537), zeroed, "it ended there");
    }

    #[test]
    fn small_rows_stay_small() {
        for len in [1, 64, 4096, 10_000, 65_536] {
            let row = hash_small(&vec![3; len]).unwrap();
            assert!(row.len() <= 16 + 8 * SMALL_PAGES_MAX + 1, "{len}: {}", row.len());
            assert_eq!(row.len() % 8, 1);
        }
    }
}
