//! Whose rights count in a roll-back: an admin's go everywhere, a user's are looked at when it is planned and before every step.
//!
//! A user's goes on as long as the login with which it was ordered: whoever logs out, or is logged out, has it ended as `--stop` does.

use std::{
    sync::{TryLockError, atomic::Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use keepshare_base::{FileId, Meta};
use keepshare_control::{Failure, Outcome};
use keepshare_host::clock;
use keepshare_namespace::{StepError, StepPlace, Who};
use keepshare_proto::{Act, RestoreRequest};
use keepshare_versioning::{FileState, rollback::Step};

use super::super::Replica;
use crate::{
    asking::read_failure,
    rollback::{By, Going, Header, NOT_YOURS},
};

/// How long somebody waits while something is planned for another user.
const PLAN_PATIENCE: Duration = Duration::from_secs(30);

/// How often they look.
const PLAN_POLL: Duration = Duration::from_millis(50);

impl Replica {
    /// Does something with the rights that whoever orders has now.
    pub(super) fn as_who<T>(&self, by: &By, act: impl FnOnce(Who<'_>) -> Outcome<T>) -> Outcome<T> {
        let Some(session) = by.login else { return act(Who::Admin) };
        let principal = self.rollbacks.logins.principal(session, &self.name);
        act(Who::User(&*principal.ok_or_else(login_ended)?))
    }

    /// Plans something; of users' plans there is one at a time.
    pub(super) fn in_turn<T>(&self, by: &By, plan: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
        if by.login.is_none() {
            return plan();
        }
        let until = Instant::now() + PLAN_PATIENCE;
        let _turn = loop {
            match self.rollbacks.planning.try_lock() {
                Ok(turn) => break turn,
                Err(TryLockError::Poisoned(turn)) => break turn.into_inner(),
                Err(TryLockError::WouldBlock) if Instant::now() >= until => {
                    return Err(Failure::unavailable("something is planned for somebody else")
                        .hint("nothing was changed; try again in a moment"));
                }
                Err(TryLockError::WouldBlock) => thread::sleep(PLAN_POLL),
            }
        };
        plan()
    }

    /// Returns the attributes that a step gives, where whoever ordered it may still do that.
    pub(super) fn may_do(
        &self,
        header: &Header,
        (step, request): (&Step, &RestoreRequest),
        state: &FileState,
        going: &Going,
    ) -> Outcome<Meta> {
        let Some(ground) = &request.ground else { return Ok(state.meta.clone()) };
        let to = match &request.act {
            Act::Move(to) | Act::Link(to) => Some(to.ground.folder),
            _ => None,
        };
        let made: Option<FileId> = ground.present.as_ref().map(|present| present.file);
        let place = StepPlace { folder: ground.folder, to, made };
        let by = header.by();
        let is_known = by
            .login
            .is_none_or(|login| self.rollbacks.logins.principal(login, &self.name).is_some());
        if !is_known {
            going.is_ending.store(true, Relaxed);
            return Err(login_ended());
        }
        self.as_who(&by, |who| {
            let may = self.share.ask(who, clock::now()).may_do(step, place, state);
            may.map_err(|error| match error {
                StepError::Store(error) => read_failure(error),
                _ => Failure::refused(NOT_YOURS),
            })
        })
    }
}

fn login_ended() -> Failure {
    Failure::refused("the login with which it was ordered has ended").hint("log in again")
}
