//! The roll-back that goes on, as long as it does.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use keepshare_control::{Outcome, rollback::RolledBack};

/// The roll-back that goes on.
#[derive(Debug, Default)]
pub(crate) struct Going {
    /// Its id.
    pub(crate) id: String,
    /// How many steps it has.
    pub(crate) steps: AtomicU64,
    /// How many of them are done.
    pub(crate) done: AtomicU64,
    /// What it waits for.
    waits: Mutex<Option<String>>,
    /// When the master did something last: what follows from it takes its time to come here.
    did: Mutex<Option<Instant>>,
    /// Somebody ended it.
    pub(crate) is_ending: AtomicBool,
    /// What came of it.
    pub(crate) end: Mutex<Option<Outcome<RolledBack>>>,
}

impl Going {
    /// Returns one that just begins.
    pub(crate) fn new(id: &str) -> Self {
        Self { id: id.to_owned(), ..Self::default() }
    }

    /// Says what came of it.
    pub(crate) fn finish(&self, end: Outcome<RolledBack>) {
        *self.end.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
    }

    /// Notes what it waits for; `None`: nothing.
    pub(crate) fn waits_for(&self, what: Option<String>) {
        *self.waits.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }

    /// Returns what it waits for.
    pub(crate) fn waiting(&self) -> Option<String> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes that the master did something just now.
    pub(crate) fn did_something(&self) {
        *self.did.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Tells whether the master did nothing for so long.
    pub(crate) fn did_nothing_for(&self, time: Duration) -> bool {
        let did = self.did.lock().unwrap_or_else(PoisonError::into_inner);
        did.is_none_or(|did| did.elapsed() >= time)
    }

    /// Returns what came of it, where it is over.
    pub(crate) fn came(&self) -> Option<Outcome<RolledBack>> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes how far it is.
    pub(crate) fn reached(&self, done: u64) {
        self.done.store(done, Relaxed);
    }
}
