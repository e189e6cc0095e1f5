//! What was sent and is not yet acknowledged.

use std::collections::VecDeque;

use keepshare_base::FilledChange;

use crate::codec::change_len;

/// The most that a master sends ahead of the acknowledgements, by [`weight`], give or take one change.
pub const WINDOW_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What a change weighs beside its rows and content, and so the least that any weighs.
pub const CHANGE_WEIGHT_MIN: usize = 1024;

/// Returns what a change counts in windows and queues: its rows, its content and a fixed cost.
pub fn weight(filled: &FilledChange) -> usize {
    CHANGE_WEIGHT_MIN + change_len(&filled.change) + filled.payload.len()
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

    #[test]
    fn many_small_changes_are_bounded_too() {
        assert!(weight(&FilledChange::default()) > CHANGE_WEIGHT_MIN);
    }
}
