//! Rolling a folder back in place: planned here, where its past is, and done by the set's master step by step.
//!
//! Points of before and after are made on the master and held for 30 days: they are what an undo goes by. It goes on by itself
//! when whoever ordered it goes away, when the master was away, and after a restart.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
    time::Duration,
};

use keepshare_base::{CommitId, FileId, SetPath};
use keepshare_control::{Code, Failure, Outcome, answers::Progress, rollback::RolledBack};
use keepshare_host::clock;
use keepshare_proto::restore::RESTORES_MAX;
use keepshare_versioning::rollback::{Back, PlanError, Planned, Step, Wanted as Goal};

use super::Replica;
use crate::{
    asking::read_failure,
    request::new_request,
    rollback::{self, By, Done, Going, Header, Line, Record},
};

use steps::{AGAIN, Broken, Came, NOT_BACK, may_go_together};

mod rights;
mod steps;
mod undoing;

/// How often it is told how far it is.
const TELL_EVERY: Duration = Duration::from_millis(250);

/// The most steps of one roll-back: some 500 bytes each in memory while it is planned.
const STEPS_MAX: usize = 1_000_000;

/// The most steps of one that a user orders.
const STEPS_OF_A_USER_MAX: usize = 100_000;

/// How many steps of a user's are done at once: as many as a user has turns, which leaves those of others, and places to wait for the
/// user's own restores.
const AT_ONCE_OF_A_USER: usize = 2;

/// An order to roll a folder back.
#[derive(Clone, Debug)]
pub struct Order {
    /// The folder.
    pub path: SetPath,
    /// What comes back.
    pub back: Back,
    /// Only what is as it was then is touched; [`CommitId::MAX`]: as it is now.
    pub base: CommitId,
    /// Only these files are touched, where it is said which, and what holds what it held then.
    pub only: Option<HashMap<FileId, CommitId>>,
    /// Files that have names outside of the folder are written, too.
    pub links: bool,
    /// What came back, as it was typed.
    pub to: String,
    /// Who orders it.
    pub by: By,
}

/// A roll-back that goes on.
#[derive(Debug)]
pub struct Begun(Arc<Going>);

impl Replica {
    /// Tells what a roll-back would do, with the first `limit` steps. Blocks.
    pub fn preview_rollback(&self, order: &Order, limit: usize) -> Outcome<RolledBack> {
        let (mut told, mut steps) = (self.begun(order, "preview"), Vec::new());
        let mut growth = 0;
        self.plan(order, &mut told, &mut |told, step| {
            rollback::count(told, &step);
            growth += rollback::growth_of(&step);
            if steps.len() < limit {
                steps.extend(rollback::step_told(&step));
            }
        })?;
        told.steps = steps;
        told.grows = u64::try_from(growth).unwrap_or(0);
        told.room = self.room();
        Ok(told)
    }

    /// Begins to roll a folder back; that goes on by itself. Blocks until it is planned.
    pub fn roll_back(self: &Arc<Self>, order: &Order, may_be_nearest: bool) -> Outcome<Begun> {
        if !self.is_connected() {
            return Err(Failure::unavailable(format!("{} is not connected", self.from)).hint(
                "a folder is rolled back on its master: try again when keepshare status shows it",
            ));
        }
        if order.by.login.is_some() {
            self.rollbacks.has_room_for(&order.by.user, self.rollback_points()?)?;
        }
        let id = new_request()?.to_string()[..8].to_owned();
        let going = self.rollbacks.begin(&id)?;
        let begun = self.begin_rollback(order, may_be_nearest, &going);
        let record = match begun {
            Ok(record) => record,
            Err(failure) => {
                self.rollbacks.ended(&going);
                // Somebody may wait for its end.
                going.finish(Err(failure.clone()));
                return Err(failure);
            }
        };
        self.run_beside(record, &going)?;
        Ok(Begun(going))
    }

    /// Tells what of a roll-back is done, once it has ended. Blocks.
    pub fn stop_rollback(&self, id: &str, by: &By) -> Outcome<RolledBack> {
        let going = self.rollbacks.going().filter(|going| going.id == id);
        // One that is being planned is written down a moment later.
        if going.is_none() || by.login.is_some() {
            self.rollbacks.read(id, by)?;
        }
        let Some(going) = going else {
            let mut record = self.rollbacks.read(id, by)?;
            if record.end.is_some() {
                return Err(Failure::refused(format!("roll-back {id} does not go on any more")));
            }
            // It broke off; what came since then is others' work.
            let after = match record.at {
                Some(at) => at,
                None => self.reader.view().map_err(read_failure)?.latest(),
            };
            drop(record.open_done()?);
            record.write_end(after, true)?;
            return record.told();
        };
        going.is_ending.store(true, Relaxed);
        Begun(going).follow(|_| Ok(()))
    }

    /// Tells of all roll-backs that are written down and that somebody may know of, newest first.
    pub fn rollbacks(&self, by: &By) -> Outcome<Vec<RolledBack>> {
        let going = self.rollbacks.going();
        let told = |record: &Record| {
            let mut told = record.told().map_err(|failure| {
                tracing::warn!(set = %self.name, rollback = record.header.id, error = failure.one_line(), "a roll-back cannot be read");
            }).ok()?;
            let this = going.as_ref().filter(|going| going.id == record.header.id);
            told.waits = this.and_then(|going| going.waiting());
            Some(told)
        };
        Ok(self.rollbacks.all().iter().filter(|record| record.is_of(by)).filter_map(told).collect())
    }

    /// Tells which roll-back goes on, where one does: what it brings back is not to be removed meanwhile.
    pub fn rolling_back(&self) -> Option<String> {
        self.rollbacks.going().map(|going| going.id.clone())
    }

    /// Goes on with the roll-back that did not end when the station did.
    pub(super) fn resume_rollback(self: &Arc<Self>) {
        let Some(record) = self.rollbacks.unfinished() else { return };
        let id = record.header.id.clone();
        tracing::info!(set = %self.name, rollback = id, "a roll-back goes on");
        let resumed = self.rollbacks.begin(&id).and_then(|going| self.run_beside(record, &going));
        if let Err(failure) = resumed {
            tracing::error!(set = %self.name, error = failure.one_line(), "it cannot go on");
        }
    }

    fn begun(&self, order: &Order, state: &str) -> RolledBack {
        let time = match order.back {
            Back::To { at, .. } | Back::Anew { at, .. } => {
                let info = self.reader.view().and_then(|view| view.commit_info(at));
                info.ok().flatten().map(|info| info.moment.to_string())
            }
            Back::Deleted { .. } => None,
        };
        RolledBack {
            set: self.name.to_string(),
            path: order.path.to_string(),
            to: order.to.clone(),
            time,
            state: state.to_owned(),
            unseen_left: order.by.login.is_some(),
            ..RolledBack::default()
        }
    }

    /// Returns how many bytes are free where a roll-back writes, where that is a disk of this station.
    fn room(&self) -> Option<u64> {
        let stat = rustix::fs::statvfs(&self.live).ok().filter(|_| self.is_in_place)?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn plan(
        &self,
        order: &Order,
        told: &mut RolledBack,
        take: &mut dyn FnMut(&mut RolledBack, Step),
    ) -> Outcome<()> {
        let goal = Goal {
            path: order.path.clone(),
            back: order.back,
            base: order.base,
            only: order.only.clone(),
            links: order.links,
        };
        let mut tell = |planned| match planned {
            Planned::Step(step) => take(told, step),
            Planned::Left(left) => rollback::left(told, &left),
        };
        let planned = self.in_turn(&order.by, || {
            self.as_who(&order.by, |who| {
                let planned = self.share.ask(who, clock::now()).plan_back(&goal, &mut tell);
                planned.map_err(|error| self.not_planned(order, error))
            })
        })?;
        (told.seen, told.unchanged) = (planned.seen.0, planned.unchanged);
        Ok(())
    }

    fn not_planned(&self, order: &Order, error: PlanError) -> Failure {
        let place = format!("{}:{}", self.name, order.path);
        match error {
            PlanError::Read(error) => read_failure(error),
            PlanError::NotThere => Failure::not_found(format!("{place} was not there then"))
                .hint(format!("keepshare versions {place} shows when it was")),
            PlanError::NotAFolder(_) => Failure::refused(format!(
                "{place} was no folder then, and only folders are rolled back"
            ))
            .hint(format!("keepshare restore '{place}@TIME' brings a file back")),
            PlanError::InTheWay => Failure::refused(format!(
                "{place} is no folder now, and is not replaced"
            ))
            .hint(format!(
                "keepshare restore '{place}@TIME' brings a file back; else move it away first"
            )),
            PlanError::NotListed => {
                Failure::refused(format!("you may not list {place}, as it is or as it was"))
                    .hint("keepshare restore brings a single file back")
            }
            PlanError::ReadOnly => Failure::refused("you may read, and change nothing")
                .hint("an admin says who may: keepshare user list shows it"),
            error @ PlanError::NoFolder(_) => Failure::because(Code::Refused, error)
                .hint("roll the folder above it back, or make it first"),
            error => Failure::because(Code::Failed, error),
        }
    }

    /// Makes the point of before, plans, and writes that down.
    fn begin_rollback(
        &self,
        order: &Order,
        may_be_nearest: bool,
        going: &Arc<Going>,
    ) -> Outcome<Record> {
        let (mut told, mut steps) = (self.begun(order, "going-on"), Vec::new());
        let checked = |told: &RolledBack| {
            match told.nearest + told.lost {
            0 => Ok(()),
            _ if may_be_nearest => Ok(()),
            count => Err(Failure::refused(format!(
                "of {count} files what they were then is not kept: {} would become an older version, {} would stay as they are",
                told.nearest, told.lost
            ))
            .hint("look at the preview; if that is meant, say --nearest")),
        }
        };
        // Before anything is asked of the master.
        let steps_max = match order.by.login {
            Some(_) => STEPS_OF_A_USER_MAX,
            None => STEPS_MAX,
        };
        let is_full = |count: usize| match count > steps_max {
            true => Err(Failure::refused(format!("that takes more than {steps_max} steps"))
                .hint("roll the folders in it back, one after the other")),
            false => Ok(()),
        };
        let (mut would, mut count) = (self.begun(order, "preview"), 0);
        self.plan(order, &mut would, &mut |would, step| {
            rollback::count(would, &step);
            count += 1;
        })?;
        checked(&would)?;
        is_full(count)?;
        let before =
            self.make_point(&format!("rollback-{}-before", going.id), &order.by.user, going)?;
        let (mut count, mut counted) = (0, RolledBack::default());
        self.plan(order, &mut told, &mut |_, step| {
            rollback::count(&mut counted, &step);
            count += 1;
            if count <= steps_max {
                steps.push(step);
            }
        })?;
        is_full(count)?;
        // What is counted in the end is what was done.
        checked(&RolledBack { lost: told.lost, ..counted })?;
        let named = (going.id.clone(), new_request()?.to_string());
        let mut header = Header::new(named, order.path.clone(), order.by.clone(), before);
        header.told = told;
        self.rollbacks.write(header, &steps)
    }

    /// Has a thread do what is written down.
    fn run_beside(self: &Arc<Self>, record: Record, going: &Arc<Going>) -> Outcome<()> {
        let (replica, run) = (Arc::clone(self), Arc::clone(going));
        let work = move || {
            let came = catch_unwind(AssertUnwindSafe(|| replica.run(record, &run)));
            let broke = |_| Err(Failure::new(Code::Failed, "it broke off; --stop ends it"));
            let came = came.unwrap_or_else(broke);
            if let Err(failure) = &came {
                tracing::error!(set = %replica.name, rollback = run.id, error = failure.one_line(), "a roll-back was broken off");
            }
            replica.rollbacks.ended(&run);
            run.finish(came);
        };
        let begun = thread::Builder::new().name(format!("rollback-{}", self.name)).spawn(work);
        if let Err(error) = begun {
            let failure = Failure::from(anyhow::Error::new(error).context("cannot start a thread"));
            self.rollbacks.ended(going);
            going.finish(Err(failure.clone()));
            return Err(failure);
        }
        Ok(())
    }

    fn run(&self, mut record: Record, going: &Going) -> Outcome<RolledBack> {
        going.steps.store(record.header.steps, Relaxed);
        going.did_something();
        let mut done = record.open_done()?;
        let mut broken = Broken::default();
        let mut later = Vec::new();
        let mut steps = record.steps()?.peekable();
        for past in 0..record.through {
            let Some(step) = steps.next().transpose()? else { break };
            if record.left.contains_key(&past) {
                broken.note(&step);
            } else if record.later.contains(&past) {
                later.push((past, step));
            }
        }
        let mut is_ended = false;
        while !is_ended && let Some(first) = steps.next() {
            let mut together = vec![first?];
            let at_once =
                if record.header.login.is_some() { AT_ONCE_OF_A_USER } else { RESTORES_MAX };
            while together.len() < at_once
                && let Some(Ok(next)) = steps.peek()
                && may_go_together(&together, next)
            {
                together.extend(steps.next().transpose()?);
            }
            let waits = !later.is_empty();
            let came =
                self.perform_all((&record, record.through), &together, (&broken, waits), going);
            is_ended = came.iter().any(|came| matches!(came, Came::Ended));
            if is_ended && !going.is_ending.load(Relaxed) {
                return Err(stopping());
            }
            let mut lines = Vec::new();
            for (came, step) in came.into_iter().zip(together) {
                let number = record.through;
                let why = match came {
                    Came::Done => None,
                    Came::Left(why) => Some(why),
                    Came::Ended => Some("it was ended before that".to_owned()),
                    Came::NoRoom(_) => {
                        record.later.insert(number);
                        lines.push(Line::Later(number));
                        later.push((number, step));
                        record.through += 1;
                        continue;
                    }
                };
                if let Some(why) = why {
                    broken.note(&step);
                    lines.push(Line::Left { step: number, why: why.clone() });
                    record.left.insert(number, why);
                }
                record.through += 1;
            }
            self.note(&mut done, (lines, record.through), going)?;
        }
        drop(steps);
        // What found no room is done when all is gone that goes.
        for (number, step) in later {
            let came = match broken.is_above(&step) {
                true => Came::Left(NOT_BACK.to_owned()),
                false => self.perform((&record, number), &step, true, going),
            };
            let line = match came {
                Came::Done => Line::Came(number),
                Came::Ended if !going.is_ending.load(Relaxed) => return Err(stopping()),
                Came::Ended => break,
                Came::Left(why) | Came::NoRoom(why) => {
                    broken.note(&step);
                    record.left.insert(number, why.clone());
                    Line::Left { step: number, why }
                }
            };
            record.later.remove(&number);
            self.note(&mut done, (vec![line], record.through), going)?;
        }
        let stopped = going.is_ending.load(Relaxed);
        let user = record.header.user.clone();
        let name = format!("rollback-{}-after", going.id);
        let after = match self.make_point(&name, &user, going) {
            Ok(after) => after,
            Err(_) if *self.stopping.borrow() => return Err(stopping()),
            // What was done is done.
            Err(failure) => {
                tracing::warn!(error = failure.one_line(), "no point of after a roll-back");
                self.reader.view().map_err(read_failure)?.latest()
            }
        };
        record.write_end(after, stopped)?;
        record.told()
    }
}

impl Replica {
    /// Writes down how far it is, when there is room for that.
    fn note(
        &self,
        done: &mut Done,
        (mut lines, through): (Vec<Line>, u64),
        going: &Going,
    ) -> Outcome<()> {
        let latest = self.reader.view().map_err(read_failure)?.latest();
        lines.extend([Line::Through(through), Line::At(latest)]);
        while let Err(error) = done.write(&lines) {
            if *self.stopping.borrow() || going.is_ending.load(Relaxed) {
                let error = anyhow::Error::new(error);
                return Err(error.context("cannot write down how far a roll-back is").into());
            }
            going.waits_for(Some(format!("it cannot be written down how far it is: {error}")));
            thread::sleep(AGAIN);
        }
        going.waits_for(None);
        going.reached(through);
        Ok(())
    }
}

impl Begun {
    /// Returns its id.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// Tells how far it is until it is over, and returns what came of it; it goes on where that cannot be told. Blocks.
    pub fn follow(&self, mut tell: impl FnMut(&Progress) -> Outcome<()>) -> Outcome<RolledBack> {
        let going = &self.0;
        loop {
            if let Some(came) = going.came() {
                return came;
            }
            let doing = match going.waiting() {
                Some(why) => format!("waiting: {why}"),
                None => format!("rolling back ({})", going.id),
            };
            let (done, total) = (going.done.load(Relaxed), going.steps.load(Relaxed));
            tell(&Progress { doing, done, total: (total > 0).then_some(total) })?;
            thread::sleep(TELL_EVERY);
        }
    }
}

fn stopping() -> Failure {
    Failure::unavailable("the station is stopping; it goes on when it is started")
}
