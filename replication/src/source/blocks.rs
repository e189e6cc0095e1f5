//! Block hashes of a file: which pages differ from what was sent last.
//!
//! A file is hashed in regions of 1 MiB. A region's row is 16 bytes over the whole region, so that an unchanged one is
//! passed over with certainty, then 8 bytes for each page of 4 KiB, looked at only where the region differs. A page of
//! zeros has the hash 0, and a region of zeros has no row at all: holes cost nothing. The hashes never leave the machine;
//! what travels carries BLAKE3.

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// What is sent at least.
pub(crate) const PAGE_BYTES: usize = 4096;

/// What has one row of hashes.
pub(crate) const REGION_BYTES: usize = 1 << 20;

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
    let pages: Vec<u64> = bytes.chunks(PAGE_BYTES).map(hash_page).collect();
    if pages.iter().all(|page| *page == 0) {
        return None;
    }
    let mut row = xxh3_128(bytes).to_le_bytes().to_vec();
    row.extend(pages.iter().flat_map(|page| page.to_le_bytes()));
    Some(row)
}

/// Returns where a region of `len` bytes with the hashes `now` differs from one with the hashes `before`.
pub(crate) fn changed(before: Option<&[u8]>, now: Option<&[u8]>, len: usize) -> Vec<Run> {
    if before.map(whole) == now.map(whole) {
        return Vec::new();
    }
    let pages = len.div_ceil(PAGE_BYTES);
    let mut runs = runs(pages, len, |page| page_hash(before, page) != page_hash(now, page), now);
    let same_length = before.is_some_and(|b| now.is_some_and(|n| b.len() == n.len()));
    if runs.is_empty() && same_length {
        // The region differs and no page does: two pages with one short hash. Everything is sent.
        runs = self::runs(pages, len, |_| true, now);
    }
    runs
}

fn runs(pages: usize, len: usize, differs: impl Fn(usize) -> bool, now: Option<&[u8]>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for page in (0..pages).filter(|page| differs(*page)) {
        let (start, end) = (page * PAGE_BYTES, ((page + 1) * PAGE_BYTES).min(len));
        let zero = page_hash(now, page) == 0;
        match runs.last_mut() {
            Some(last) if last.end == start && last.zero == zero => last.end = end,
            _ => runs.push(Run { start, end, zero }),
        }
    }
    runs
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

    #[test]
    fn growing_and_shrinking_touch_the_edge() {
        let edge = |start, end| [Run { start, end, zero: false }];
        assert_eq!(diff(&[1; 5000], &[1; 9000]), edge(4096, 9000));
        assert_eq!(diff(&[1; 9000], &[1; 5000]), edge(4096, 5000));
        assert_eq!(diff(&[1; 8192], &[1; 4096]), [], "cutting whole pages off changes no page");
    }
}
