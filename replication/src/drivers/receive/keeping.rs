//! What the store is given to keep, and what it says of it.

use tokio::sync::watch;

use keepshare_base::{Epoch, Seq, chain};
use keepshare_host::clock;
use keepshare_proto::{
    Text,
    receiver::{Commit, Input},
};
use keepshare_versioning::{
    Arrival, CommitError, Incoming,
    live::ProblemCause,
    set::{QueueFull, SetStore, Status, Submission, SubmitError},
};

use super::{Done, Driver};

impl Driver {
    pub(super) fn commit(&mut self, commit: Commit) {
        let Commit { ticket, position, running, complete, filled } = commit;
        self.saw_head(position.epoch, position.seq);
        let incoming = Incoming { position, complete, running, filled };
        let (answers, set) = (self.answers_to.clone(), self.set.clone());
        let place = complete.then_some((position.epoch, position.seq));
        let reply = Box::new(move |kept: Result<_, SubmitError>| {
            let done = match kept {
                Ok(commit) => Done::Committed(ticket, place.map(|(e, s)| (commit, e, s))),
                Err(SubmitError::Commit(CommitError::Refused(refusal))) => {
                    let reason = chain(&refusal);
                    Done::Input(Input::CommitRefused { ticket, reason: Text::new(&reason) })
                }
                Err(error) => {
                    let reason = chain(&error);
                    tracing::error!(%set, %reason, "a change could not be kept");
                    Done::Input(Input::Stopped { reason: Text::new(&reason) })
                }
            };
            // A loop that has ended needs no answer.
            let _ = answers.send(done);
        });
        let arrival = self.arrived.unwrap_or_else(|| clock::now().into());
        self.waiting.push_back(Box::new(Submission { incoming, arrival, reply }));
        self.submit();
    }

    /// Hands the store what it has room for.
    pub(super) fn submit(&mut self) {
        while let Some(submission) = self.waiting.pop_front() {
            if let Err(QueueFull(back)) = self.store.submit(*submission) {
                return self.waiting.push_front(back);
            }
        }
    }

    pub(super) fn fence(&mut self, epoch: Epoch) {
        let (answers, origin) = (self.answers_to.clone(), self.origin);
        self.store.with_store(move |store| {
            let fenced = store.fence(clock::now(), origin, epoch);
            let done = match fenced.and_then(|_| Ok(store.sync()?)) {
                Ok(_) => Done::Input(Input::Fenced { epoch }),
                // The same is asked again: a disk has space some day.
                Err(error) if error.is_passing() => Done::Unfenced(epoch),
                Err(error) => {
                    let reason = chain(&error);
                    Done::Input(Input::Stopped { reason: Text::new(&reason) })
                }
            };
            let _ = answers.send(done);
        });
    }

    pub(super) fn tick(&mut self) {
        self.store.tick(Arrival { up_micros: Some(clock::up_micros()), ..clock::now().into() });
        if let Some(epoch) = self.unfenced.take() {
            self.fence(epoch);
        }
    }

    /// Tells the receiver how far the live tree is; what could not be shown is not shown, and what was may be gone.
    pub(super) fn show_live(&mut self) {
        let status = self.store.status();
        if let Some(gone) = self.reached.take_if(|(commit, ..)| *commit > status.live) {
            let (_, epoch, _) = gone;
            // It is older than all that waits.
            self.unshown.push_front(gone);
            self.handle(Input::Live { epoch, through: Seq(0) });
        }
        while self.unshown.front().is_some_and(|(commit, ..)| *commit <= status.live) {
            // Of those that are reached only the last is ever told: one file that cannot be written gathers none.
            self.reached = self.unshown.pop_front();
            self.is_told = false;
        }
        if failures(&status) == 0
            && !self.is_told
            && let Some((_, epoch, through)) = self.reached
        {
            self.is_told = true;
            self.handle(Input::Live { epoch, through });
        }
    }

    /// Tells the receiver when the store has no space, and when it has again.
    pub(super) fn look_at_store(&mut self) {
        let status = self.store.status();
        if let Some(reason) = &status.poisoned {
            self.handle(Input::Stopped { reason: Text::new(reason) });
        }
        let held = if status.full { Some("disk full".to_owned()) } else { status.failing };
        if held != self.held {
            self.handle(match &held {
                Some(reason) => Input::Full { reason: Text::new(reason) },
                None => Input::Resumed,
            });
            self.held = held;
        }
        self.submit();
        self.show_live();
    }
}

/// Returns a watch that changes with the store's status.
pub(super) fn watch_status(store: &SetStore) -> watch::Receiver<()> {
    let (changed, watched) = watch::channel(());
    store.watch(move || {
        changed.send_replace(());
    });
    watched
}

/// Returns how much is missing in the live tree, or other than it should be.
pub fn failures(status: &Status) -> u64 {
    let failed = |cause: &ProblemCause| !matches!(cause, ProblemCause::Foreign { .. });
    let known = status.problems.iter().filter(|problem| failed(&problem.cause)).count();
    status.more_problems + known as u64
}
