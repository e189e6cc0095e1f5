//! Whether something is still wanted by who asked for it.

use std::{fmt, sync::Arc};

/// Tells whether something is still wanted by who asked for it.
#[derive(Clone)]
pub struct Wanted(Arc<dyn Fn() -> bool + Send + Sync>);

impl Wanted {
    /// Asks `is_wanted` whenever that matters.
    pub fn new(is_wanted: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(is_wanted))
    }

    /// Wanted to the end.
    pub fn always() -> Self {
        Self::new(|| true)
    }

    /// Tells whether it is wanted now.
    pub fn is_wanted(&self) -> bool {
        (self.0)()
    }
}

impl fmt::Debug for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Wanted").field(&self.is_wanted()).finish()
    }
}
