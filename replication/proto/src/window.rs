//! What was sent and is not yet acknowledged.

use std::collections::VecDeque;

use keepshare_base::{Content, FileRow, FilledChange, NameRow};

use crate::codec::change_len;

/// The most that a master sends ahead of the acknowledgements, by [`weight`], give or take one change.
pub const WINDOW_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What a change weighs beside its rows and content, and so the least that any weighs.
pub const CHANGE_WEIGHT_MIN: usize = 1024;

/// Returns what a change counts in windows and queues: its rows, its content and a fixed cost.
pub fn weight(filled: &FilledChange) -> usize {
    CHANGE_WEIGHT_MIN + change_len(&filled.change) + filled.payload.len()
}

/// Returns what a change counts while it waits for a store: its weight, or the memory that it takes where that is more. Rows that are
/// few bytes on their way can be ten times as many then.
pub(crate) fn held(filled: &FilledChange) -> usize {
    let change = &filled.change;
    let names = change.names.iter().map(|row| size_of::<NameRow>() + block(row.name.as_bytes()));
    let files = change.files.iter().map(|row| {
        let xattrs = row.meta.xattrs.iter();
        let xattrs = xattrs
            .map(|(name, value)| size_of::<(Vec<u8>, Vec<u8>)>() + block(name) + block(value));
        let extents = match &row.content {
            Content::Same => 0,
            Content::Extents { extents, .. } => size_of_val(&extents[..]),
        };
        let texts = [row.meta.owner.name.as_bytes(), row.meta.group.name.as_bytes()];
        let texts = texts.into_iter().chain([&row.meta.symlink[..]]).map(block);
        size_of::<FileRow>() + xattrs.sum::<usize>() + extents + texts.sum::<usize>()
    });
    let others = size_of_val(&change.cuts[..]) + size_of_val(&change.made[..]);
    let rows = names.sum::<usize>() + files.sum::<usize>() + others;
    weight(filled).max(CHANGE_WEIGHT_MIN + rows + filled.payload.len())
}

/// Returns what some bytes of their own take with what an allocator adds; no bytes take nothing.
fn block(bytes: &[u8]) -> usize {
    if bytes.is_empty() { 0 } else { bytes.len() + 16 }
}

/// Changes on their way, oldest first, each with a number that grows and what the sender wants back.
#[derive(Debug)]
pub(crate) struct Window<T> {
    sent: VecDeque<(u64, usize, T)>,
    bytes: usize,
}

impl<T> Window<T> {
    pub(crate) fn new() -> Self {
        Self { sent: VecDeque::new(), bytes: 0 }
    }

    /// Returns how much more may be sent; with room for anything there is room for one change of any size.
    pub(crate) fn room(&self) -> usize {
        WINDOW_BYTES_MAX.saturating_sub(self.bytes)
    }

    pub(crate) fn push(&mut self, number: u64, bytes: usize, back: T) {
        self.bytes += bytes;
        self.sent.push_back((number, bytes, back));
    }

    /// Takes out everything through `number` and returns what came with the last of it.
    pub(crate) fn acked(&mut self, number: u64) -> Option<T> {
        let mut last = None;
        while self.sent.front().is_some_and(|(n, ..)| *n <= number)
            && let Some((_, bytes, back)) = self.sent.pop_front()
        {
            self.bytes -= bytes;
            last = Some(back);
        }
        last
    }

    /// Takes out `number` and everything after it: it will be sent again.
    pub(crate) fn rewind(&mut self, number: u64) {
        while self.sent.back().is_some_and(|(n, ..)| *n >= number)
            && let Some((_, bytes, _)) = self.sent.pop_back()
        {
            self.bytes -= bytes;
        }
    }

    /// Returns the oldest number that is not acknowledged.
    pub(crate) fn first(&self) -> Option<u64> {
        self.sent.front().map(|(number, ..)| *number)
    }
}

#[cfg(test)]
mod tests {
    use keepshare_base::{FileId, Name};

    use super::*;

    #[test]
    fn room_comes_back_with_acknowledgements_and_rewinding() {
        let mut window = Window::new();
        (1..=4).for_each(|n| window.push(n, 1000, n));
        assert_eq!(window.room(), WINDOW_BYTES_MAX - 4000);
        assert_eq!(window.acked(2), Some(2));
        assert_eq!(window.acked(2), None, "acknowledged twice is acknowledged");
        window.rewind(4);
        assert_eq!(window.first(), Some(3));
        assert_eq!(window.room(), WINDOW_BYTES_MAX - 1000);
        assert_eq!(window.acked(9), Some(3));
        assert_eq!(window.room(), WINDOW_BYTES_MAX);
    }

    /// A station's memory is what waits for its store, not what came over the link.
    #[test]
    fn wide_changes_count_by_what_they_take() {
        let name = |at: u32| NameRow {
            parent: FileId::ROOT,
            name: Name::new(&at.to_le_bytes().map(|byte| byte | 0x80)).unwrap(),
            target: None,
        };
        let mut filled = FilledChange::default();
        assert_eq!(held(&filled), weight(&filled));
        filled.change.names = (0..4096).map(name).collect();
        assert!(held(&filled) > 4096 * 80, "{}", held(&filled));
        assert!(weight(&filled) < 4096 * 12, "{}", weight(&filled));
    }

    #[test]
    fn many_small_changes_are_bounded_too() {
        assert!(weight(&FilledChange::default()) > CHANGE_WEIGHT_MIN);
    }
}
