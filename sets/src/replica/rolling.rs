//! Rolling a folder back in place: planned here, where its past is, and done by the set's master step by step.
//!
//! Points of before and after are made on the master and held for 30 days: they are what an undo goes by. It goes on by itself
//! when whoever ordered it goes away, when the master was away, and after a restart.

use std::{
    fs::File,
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
    time::Duration,
};

use anyhow::Context;

use keepshare_base::{CommitId, SetPath};
use keepshare_control::{Code, Failure, Outcome, answers::Progress, rollback::RolledBack};
use keepshare_proto::restore::RESTORES_MAX;
use keepshare_versioning::rollback::{Back, PlanError, Planned, Step, Wanted as Goal};

use super::{Replica, restoring::new_request};
use crate::{
    asking::read_failure,
    rollback::{self, Going, Header, Line, Record, write_line},
};

use steps::{Came, may_go_together};

mod steps;

/// How often it is told how far it is.
const TELL_EVERY: Duration = Duration::from_millis(250);

/// The most steps of one roll-back: some 500 bytes each in memory while it is planned.
const STEPS_MAX: usize = 1_000_000;

/// An order to roll a folder back.
#[derive(Clone, Debug)]
pub struct Order {
    /// The folder.
    pub path: SetPath,
    /// What comes back.
    pub back: Back,
    /// Only what is as it was then is touched; [`CommitId::MAX`]: as it is now.
    pub base: CommitId,
    /// Files that have names outside of the folder are written, too.
    pub links: bool,
    /// What came back, as it was typed.
    pub to: String,
    /// Who orders it.
    pub user: String,
}

/// A roll-back that goes on.
#[derive(Debug)]
pub struct Begun(Arc<Going>);

impl Replica {
    /// Tells what a roll-back would do, with the first `limit` steps. Blocks.
    pub fn preview_rollback(&self, order: &Order, limit: usize) -> Outcome<RolledBack> {
        let (mut told, mut steps) = (self.begun(order, "preview"), Vec::new());
        self.plan(order, &mut told, &mut |told, step| {
            rollback::count(told, &step);
            if steps.len() < limit {
                steps.extend(rollback::step_told(&step));
            }
        })?;
        told.steps = steps;
        Ok(told)
    }

    /// Begins to roll a folder back; that goes on by itself. Blocks until it is planned.
    pub fn roll_back(self: &Arc<Self>, order: &Order, may_be_nearest: bool) -> Outcome<Begun> {
        if !self.is_connected() {
            return Err(Failure::unavailable(format!("{} is not connected", self.from)).hint(
                "a folder is rolled back on its master: try again when keepshare status shows it",
            ));
        }
        let id = new_request()?.to_string()[..8].to_owned();
        let going = self.rollbacks.begin(&id)?;
        let begun = self.begin_rollback(order, may_be_nearest, &going);
        let record = match begun {
            Ok(record) => record,
            Err(failure) => {
                self.rollbacks.ended(&going);
                return Err(failure);
            }
        };
        self.run_beside(record, &going)?;
        Ok(Begun(going))
    }

    /// Tells what of a roll-back is done, once it has ended. Blocks.
    pub fn stop_rollback(&self, id: &str) -> Outcome<RolledBack> {
        let going = self.rollbacks.going().filter(|going| going.id == id);
        let going = going.ok_or_else(|| match self.rollbacks.read(id) {
            Ok(_) => Failure::refused(format!("roll-back {id} does not go on any more")),
            Err(failure) => failure,
        })?;
        going.is_ending.store(true, Relaxed);
        Begun(going).follow(|_| Ok(()))
    }

    /// Tells of all roll-backs that are written down, newest first.
    pub fn rollbacks(&self) -> Outcome<Vec<RolledBack>> {
        self.rollbacks.all().iter().map(Record::told).collect()
    }

    /// Returns the order that takes a roll-back back.
    pub fn undo_of(&self, id: &str, user: &str) -> Outcome<Order> {
        let record = self.rollbacks.read(id)?;
        let Some((after, ..)) = record.end else {
            return Err(Failure::refused(format!("roll-back {id} goes on"))
                .hint(format!("keepshare rollback --stop {id} --set {} ends it", self.name)));
        };
        let back = Back::To { at: record.header.before, is_point: true };
        let (path, to) = (record.header.path, format!("undo {id}"));
        Ok(Order { path, back, base: after, links: true, to, user: user.to_owned() })
    }

    /// Goes on with the roll-back that did not end when the station did.
    pub(super) fn resume_rollback(self: &Arc<Self>) {
        let unfinished = self.rollbacks.all().into_iter().find(|record| record.end.is_none());
        let Some(record) = unfinished else { return };
        let id = record.header.id.clone();
        tracing::info!(set = %self.name, rollback = id, "a roll-back goes on");
        let resumed = self.rollbacks.begin(&id).and_then(|going| self.run_beside(record, &going));
        if let Err(failure) = resumed {
            tracing::error!(set = %self.name, error = failure.one_line(), "it cannot go on");
        }
    }

    fn begun(&self, order: &Order, state: &str) -> RolledBack {
        RolledBack {
            set: self.name.to_string(),
            path: order.path.to_string(),
            to: order.to.clone(),
            state: state.to_owned(),
            ..RolledBack::default()
        }
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
            links: order.links,
        };
        let view = self.reader.view().map_err(read_failure)?;
        told.seen = view.latest().0;
        let planned = view.plan_back(&goal, &mut |planned| match planned {
            Planned::Step(step) => take(told, step),
            Planned::Left(left) => rollback::left(told, &left),
        });
        told.unchanged = planned.map_err(|error| self.not_planned(order, error))?;
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
            PlanError::InTheWay => {
                Failure::refused(format!("{place} is no folder now, and is not replaced"))
                    .hint("move it away first")
            }
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
        checked(&self.preview_rollback(order, 0)?)?;
        let before =
            self.make_point(&format!("rollback-{}-before", going.id), &order.user, going)?;
        let mut full = false;
        self.plan(order, &mut told, &mut |_, step| {
            full |= steps.len() >= STEPS_MAX;
            if !full {
                steps.push(step);
            }
        })?;
        if full {
            return Err(Failure::refused(format!("that takes more than {STEPS_MAX} steps"))
                .hint("roll the folders in it back, one after the other"));
        }
        let mut header = Header::new(going.id.clone(), order.path.clone(), &order.user, before);
        header.told = told;
        self.rollbacks.write(header, &steps)
    }

    /// Has a thread do what is written down.
    fn run_beside(self: &Arc<Self>, record: Record, going: &Arc<Going>) -> Outcome<()> {
        let (replica, run) = (Arc::clone(self), Arc::clone(going));
        let work = move || {
            let came = replica.run(record, &run);
            if let Err(failure) = &came {
                tracing::error!(set = %replica.name, rollback = run.id, error = failure.one_line(), "a roll-back was broken off");
            }
            replica.rollbacks.ended(&run);
            run.finish(came);
        };
        let begun = thread::Builder::new().name(format!("rollback-{}", self.name)).spawn(work);
        if let Err(error) = begun {
            self.rollbacks.ended(going);
            return Err(anyhow::Error::new(error).context("cannot start a thread").into());
        }
        Ok(())
    }

    fn run(&self, mut record: Record, going: &Going) -> Outcome<RolledBack> {
        going.steps.store(record.header.steps, Relaxed);
        let mut done = record.open_done()?;
        let user = record.header.user.clone();
        let skipped = usize::try_from(record.through).unwrap_or(usize::MAX);
        let mut steps = record.steps()?.skip(skipped).peekable();
        let (mut number, mut is_ended) = (record.through, false);
        while let Some(first) = steps.next() {
            let mut together = vec![first?];
            while together.len() < RESTORES_MAX
                && let Some(Ok(next)) = steps.peek()
                && may_go_together(&together, next)
            {
                together.extend(steps.next().transpose()?);
            }
            let came = self.perform_all(&together, &user, going);
            is_ended = came.iter().any(|came| matches!(came, Came::Ended));
            if is_ended {
                break;
            }
            for came in came {
                if let Came::Left(why) = came {
                    line(&mut done, &Line::Left { step: number, why: why.clone() })?;
                    record.left.insert(number, why);
                }
                number += 1;
            }
            line(&mut done, &Line::Through(number))?;
            going.reached(number);
        }
        drop(steps);
        record.through = number;
        let stopped = going.is_ending.load(Relaxed);
        if is_ended && !stopped {
            return Err(Failure::unavailable(
                "the station is stopping; it goes on when it is started",
            ));
        }
        let name = format!("rollback-{}-after", going.id);
        let after = match self.make_point(&name, &user, going) {
            Ok(after) => after,
            Err(_) if *self.stopping.borrow() => {
                return Err(Failure::unavailable("the station is stopping"));
            }
            // What was done is done.
            Err(failure) => {
                tracing::warn!(error = failure.one_line(), "no point of after a roll-back");
                self.reader.view().map_err(read_failure)?.latest()
            }
        };
        let until = chrono::Utc::now() + chrono::Duration::days(30);
        let until = until.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        line(&mut done, &Line::End { after, stopped, until: until.clone() })?;
        done.sync_all().context("cannot write down what was done")?;
        record.end = Some((after, stopped, until));
        record.told()
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
            let doing = match going.waits.load(Relaxed) {
                true => "waiting for the master".to_owned(),
                false => format!("rolling back ({})", going.id),
            };
            let (done, total) = (going.done.load(Relaxed), going.steps.load(Relaxed));
            tell(&Progress { doing, done, total: (total > 0).then_some(total) })?;
            thread::sleep(TELL_EVERY);
        }
    }
}

fn line(done: &mut File, line: &Line) -> Outcome<()> {
    write_line(done, line).context("cannot write down how far a roll-back is")?;
    Ok(())
}
