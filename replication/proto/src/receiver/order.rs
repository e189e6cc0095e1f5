//! Changes in their order: next ones, replayed ones, and after a gap.

use std::cmp::Ordering;

use keepshare_base::{FilledChange, Position, RunningHash, Seq};

use super::{Open, Receiver, State, What, Wrong};
use crate::{Message, Step, WINDOW_BYTES_MAX, weight};

/// The most gaps asked for again on one link.
const RESENDS_MAX: u32 = 8;

/// Changes passed over since something missing was asked for again.
#[derive(Debug)]
pub(super) struct Gap {
    /// The last one passed over.
    highest: Seq,
    /// What all of them weigh: no more can be on its way than a window.
    bytes: usize,
}

impl Receiver {
    pub(super) fn on_change(
        &mut self,
        position: Position,
        running: RunningHash,
        step: Step,
        filled: FilledChange,
    ) -> Result<(), Wrong> {
        let State::Open(open) = &self.state else { return Err(Wrong::BeforeWelcome) };
        if position.origin != self.options.origin {
            return Err(Wrong::Origin { got: position.origin, ours: self.options.origin });
        }
        if position.epoch != open.epoch {
            return Err(Wrong::Epoch { got: position.epoch, agreed: open.epoch });
        }
        match step {
            Step::Next => self.on_next(position, running, filled),
            Step::Part { number } => self.on_part(position, running, number, filled, false),
            Step::Last { number } => self.on_part(position, running, number, filled, true),
        }
    }

    fn on_next(
        &mut self,
        position: Position,
        running: RunningHash,
        filled: FilledChange,
    ) -> Result<(), Wrong> {
        let seq = position.seq;
        let State::Open(open) = &mut self.state else { return Err(Wrong::BeforeWelcome) };
        if open.mirror.is_some() {
            return Err(Wrong::InsideMirror(seq));
        }
        let next = open.received.ok_or(Wrong::NeedsMirror(seq))?.next();
        if seq > Seq::MAX {
            return Err(Wrong::Beyond(seq));
        }
        match seq.cmp(&next) {
            Ordering::Equal => {
                self.check(seq, &filled)?;
                if let State::Open(open) = &mut self.state {
                    open.received = Some(seq);
                    open.gap = None;
                }
                self.submit(What::Change(seq), position, running, filled);
            }
            // Ask again rather than skip: a change passed over is a version no one can restore.
            Ordering::Greater => {
                if open.on_gap(next, seq, weight(&filled))? {
                    self.send(Message::Resend { from: next });
                }
            }
            // We have it; our ack was lost. One that is not durable yet will be acknowledged when it is.
            Ordering::Less => {
                let durable = open.durable.filter(|durable| *durable >= seq);
                if let Some(through) = durable {
                    self.send(Message::Ack { through });
                }
            }
        }
        Ok(())
    }

    /// Checks all that can be checked without knowing the set, but for the content's hashes: those the store checks, which
    /// takes nothing unchecked, and once is enough.
    pub(super) fn check(&self, seq: Seq, filled: &FilledChange) -> Result<(), Wrong> {
        filled.check_rows(self.options.origin).map_err(|source| Wrong::Change { seq, source })
    }
}

impl Open {
    /// Tells whether to ask for `want` again, now that `got` came in its place.
    fn on_gap(&mut self, want: Seq, got: Seq, bytes: usize) -> Result<bool, Wrong> {
        match &mut self.gap {
            None if self.resends >= RESENDS_MAX => Err(Wrong::Gaps),
            None => {
                self.resends += 1;
                self.gap = Some(Gap { highest: got, bytes });
                Ok(true)
            }
            // What was on its way when we asked.
            Some(gap) if got > gap.highest && gap.bytes <= WINDOW_BYTES_MAX => {
                *gap = Gap { highest: got, bytes: gap.bytes + bytes };
                Ok(false)
            }
            Some(_) => Err(Wrong::Gap { got, want }),
        }
    }
}
