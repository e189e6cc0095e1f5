//! What retention removed and can still be brought back.

use super::View;
use crate::{Aside, ReadError, index::aside};

impl View {
    /// Returns versions that are aside since `from_micros` of running time or later, oldest first, after `after`.
    pub fn aside(
        &self,
        from_micros: u64,
        after: Option<&Aside>,
        limit: usize,
    ) -> Result<Vec<Aside>, ReadError> {
        self.ask(|rows| aside::list(rows, from_micros, after, limit))
    }

    /// Returns since when that is aside which was removed last; `None` where nothing is.
    pub fn newest_aside(&self) -> Result<Option<u64>, ReadError> {
        self.ask(aside::newest)
    }
}
