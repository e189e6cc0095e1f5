//! Workers that go on side by side, and stop together when everything is to be looked at.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};

/// What workers have in common: when to work, when to hold, when to go home.
#[derive(Debug, Default)]
pub struct Shift {
    now: Mutex<Now>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Now {
    /// Nobody begins a step.
    is_held: bool,
    is_over: bool,
    /// How many are in the middle of a step.
    busy: usize,
}

impl Shift {
    /// Begins a shift.
    pub fn new() -> Self {
        Self::default()
    }

    /// Works until the shift is over: does a step, rests for as long as it says, does the next. An error ends the shift
    /// for all.
    ///
    /// A step is done whole or not begun when everybody holds.
    pub fn work(&self, mut step: impl FnMut() -> Result<Duration>) -> Result<()> {
        while self.begin_step() {
            // A worker that panics ends its step and the shift, too.
            let busy = Busy { shift: self, is_well: false };
            let rest = step()?;
            busy.end_well();
            self.rest(rest);
        }
        Ok(())
    }

    /// Returns after this time, or when the shift is over.
    pub fn rest(&self, time: Duration) {
        let waited = self.changed.wait_timeout_while(self.lock(), time, |now| !now.is_over);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Does this while all workers hold, each between two of its steps; an error unless they do by `deadline`.
    pub fn held<T>(&self, deadline: Duration, look: impl FnOnce() -> Result<T>) -> Result<T> {
        let until = Instant::now() + deadline;
        let mut now = self.lock();
        now.is_held = true;
        while now.busy > 0 {
            let left = until.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "not within {deadline:?}: all workers hold");
            let waited = self.changed.wait_timeout(now, left);
            now = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        // Who failed did not finish its step, so nothing is as it should be.
        if now.is_over {
            bail!("the shift is over");
        }
        drop(now);
        let looked = look();
        self.lock().is_held = false;
        self.changed.notify_all();
        looked
    }

    /// Ends the shift.
    pub fn end(&self) {
        self.lock().is_over = true;
        self.changed.notify_all();
    }

    /// Tells whether the shift is over: at its end, or as a worker failed.
    pub fn is_over(&self) -> bool {
        self.lock().is_over
    }

    /// Waits until steps may begin; tells whether they may.
    fn begin_step(&self) -> bool {
        let holds = |now: &mut Now| now.is_held && !now.is_over;
        let waited = self.changed.wait_while(self.lock(), holds);
        let mut now = waited.unwrap_or_else(PoisonError::into_inner);
        if now.is_over {
            return false;
        }
        now.busy += 1;
        true
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A step in the middle.
struct Busy<'a> {
    shift: &'a Shift,
    is_well: bool,
}

impl Busy<'_> {
    fn end_well(mut self) {
        self.is_well = true;
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let mut now = self.shift.lock();
        now.busy -= 1;
        now.is_over |= !self.is_well;
        drop(now);
        self.shift.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU64, Ordering},
        thread,
    };

    use super::*;

    /// What is looked at while workers hold must not change under the look.
    #[test]
    fn nobody_is_in_the_middle_of_a_step_while_all_hold() {
        let (shift, begun, ended) = (Shift::new(), AtomicU64::new(0), AtomicU64::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    shift.work(|| {
                        begun.fetch_add(1, Ordering::SeqCst);
                        thread::yield_now();
                        ended.fetch_add(1, Ordering::SeqCst);
                        Ok(Duration::ZERO)
                    })
                });
            }
            for _ in 0..50 {
                let looked = shift.held(Duration::from_secs(60), || {
                    let now = ended.load(Ordering::SeqCst);
                    thread::yield_now();
                    ensure!(begun.load(Ordering::SeqCst) == now, "somebody works");
                    Ok(())
                });
                looked.unwrap();
            }
            shift.end();
        });
    }

    #[test]
    fn a_worker_that_fails_ends_the_shift() {
        let shift = Shift::new();
        assert!(shift.work(|| bail!("no paper")).is_err());
        assert!(shift.is_over());
        assert!(shift.held(Duration::from_secs(60), || Ok(())).is_err());
        shift.work(|| bail!("nobody works any more")).unwrap();
    }
}
