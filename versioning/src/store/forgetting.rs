//! Rows of what was let go of, which go with it: before the log is written anew, and whenever much was let go of.

use keepshare_base::CommitId;

use super::{ASIDE_MICROS, Store};
use crate::{
    StoreError,
    forget::{Counts, Forget, Step},
};

/// The rows that one step looks at.
const ROWS_PER_STEP: usize = 4096;

/// It is looked again when as many versions were let go of as this part of the rows that the last look saw: looking is never most of
/// the work.
const PART_OF_SEEN: u64 = 8;

/// When rows are looked for that nothing needs.
#[derive(Debug, Default)]
pub(super) struct Forgetting {
    now: Option<Forget>,
    /// After which commit the next look goes on, where the set has more of them than one look takes.
    after: CommitId,
    last: Counts,
    /// How many versions were let go of since the last look.
    let_go: u64,
    /// It was looked since the log was written anew.
    is_done: bool,
}

impl Forgetting {
    pub(super) fn let_go_of(&mut self, versions: usize) {
        self.let_go = self.let_go.saturating_add(versions as u64);
    }

    pub(super) fn log_was_written(&mut self) {
        (self.is_done, self.last.gone) = (false, 0);
    }

    /// Tells whether more went, in the last look since the log was written anew, than is left.
    pub(super) fn most_went(&self) -> bool {
        self.now.is_none() && self.last.gone > self.last.seen / 2
    }
}

impl Store {
    /// Tells whether it is to be looked for rows that go before the log is written anew.
    pub(super) fn forgets_before_log(&self) -> bool {
        let forgetting = &self.housekeeping.forgetting;
        forgetting.now.is_some() || (!forgetting.is_done && self.options.let_go_min < u64::MAX)
    }

    /// Tells whether so much was let go of that it is looked for its rows.
    pub(super) fn forgets_by_itself(&self) -> bool {
        let forgetting = &self.housekeeping.forgetting;
        let enough = self.options.let_go_min.max(forgetting.last.seen / PART_OF_SEEN);
        forgetting.now.is_some() || forgetting.let_go >= enough
    }

    /// Looks at some rows, and removes those that nothing needs.
    pub(super) fn forget_step(&mut self) -> Result<(), StoreError> {
        let through = self.latest();
        let forgetting = &mut self.housekeeping.forgetting;
        let mut forget = match forgetting.now.take() {
            Some(forget) => forget,
            None => {
                forgetting.let_go = 0;
                Forget::begin(forgetting.after, through)
            }
        };
        let before_micros = self.now_micros.saturating_sub(ASIDE_MICROS);
        let step = Step { rows: ROWS_PER_STEP, before_micros };
        let Ok((gone, done)) = self.ask_once_mut(|rows| forget.step(rows, step)) else {
            return self.mend_index();
        };
        self.append_own(&gone)?;
        let forgetting = &mut self.housekeeping.forgetting;
        if !done {
            forgetting.now = Some(forget);
            return Ok(());
        }
        (forgetting.last, forgetting.after) = (forget.counts(), forget.next_after());
        forgetting.is_done = true;
        let Counts { seen, gone } = forgetting.last;
        tracing::debug!(seen, gone, "rows that nothing needs went");
        Ok(())
    }
}
