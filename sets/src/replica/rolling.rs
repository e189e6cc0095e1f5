//! Rolling a folder back in place: planned here, where its past is, and done by the set's master step by step.
//!
//! Points of before and after are made on the master and held for 30 days: they are what an undo goes by. It goes on by itself
//! when whoever ordered it goes away, when the master was away, and after a restart.

use std::{
    collections::HashSet,
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
    time::Duration,
};

use anyhow::Context;

use keepshare_base::{CommitId, FileId, SetPath};
use keepshare_control::{Code, Failure, Outcome, answers::Progress, rollback::RolledBack};
use keepshare_proto::restore::RESTORES_MAX;
use keepshare_versioning::rollback::{Back, PlanError, Planned, Step, Wanted as Goal};

use super::{Replica, restoring::new_request};
use crate::{
    asking::read_failure,
    rollback::{self, Going, Header, Line, Record, write_line},
};

use steps::{Broken, Came, may_go_together};

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
    /// Only these files are touched, where it is said which.
    pub only: Option<HashSet<FileId>>,
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
        let Some(going) = self.rollbacks.going().filter(|going| going.id == id) else {
            let mut record = self.rollbacks.read(id)?;
            if record.end.is_some() {
                return Err(Failure::refused(format!("roll-back {id} does not go on any more")));
            }
            // It broke off.
            let after = self.reader.view().map_err(read_failure)?.latest();
            drop(record.open_done()?);
            record.write_end(after, true)?;
            return record.told();
        };
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
        let Some((after, _, until)) = record.end.clone() else {
            return Err(Failure::refused(format!("roll-back {id} goes on"))
                .hint(format!("keepshare rollback --stop {id} --set {} ends it", self.name)));
        };
        if until < rollback::rfc3339(chrono::Utc::now()) {
            return Err(Failure::refused(format!("roll-back {id} could be undone until {until}"))
                .hint("what it replaced are versions: keepshare versions"));
        }
        let back = Back::To { at: record.header.before, is_point: true };
        let only = Some(self.touched_by(&record, after)?);
        let (path, to) = (record.header.path, format!("undo {id}"));
        Ok(Order { path, back, base: after, only, links: true, to, user: user.to_owned() })
    }

    /// Returns the files that a roll-back touched: those alone are its own to take back.
    fn touched_by(&self, record: &Record, after: CommitId) -> Outcome<HashSet<FileId>> {
        let mut touched = HashSet::new();
        let view = self.reader.view().map_err(read_failure)?;
        for (number, step) in record.steps()?.enumerate() {
            let (number, step) = (number as u64, step?);
            if number >= record.through {
                break;
            }
            if record.left.contains_key(&number) {
                continue;
            }
            touched.extend(step.files());
            for path in step.paths() {
                touched
                    .extend(view.resolve(path, after).map_err(read_failure)?.map(|(file, _)| file));
            }
        }
        Ok(touched)
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
            only: order.only.clone(),
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
        let (mut full, mut counted) = (false, RolledBack::default());
        self.plan(order, &mut told, &mut |_, step| {
            rollback::count(&mut counted, &step);
            full |= steps.len() >= STEPS_MAX;
            if !full {
                steps.push(step);
            }
        })?;
        if full {
            return Err(Failure::refused(format!("that takes more than {STEPS_MAX} steps"))
                .hint("roll the folders in it back, one after the other"));
        }
        // What is counted in the end is what was done.
        checked(&RolledBack { lost: told.lost, ..counted })?;
        let mut header = Header::new(going.id.clone(), order.path.clone(), &order.user, before);
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
            self.rollbacks.ended(going);
            return Err(anyhow::Error::new(error).context("cannot start a thread").into());
        }
        Ok(())
    }

    fn run(&self, mut record: Record, going: &Going) -> Outcome<RolledBack> {
        going.steps.store(record.header.steps, Relaxed);
        let mut done = record.open_done()?;
        let user = record.header.user.clone();
        let mut broken = Broken::default();
        let mut steps = record.steps()?.peekable();
        for past in 0..record.through {
            let Some(step) = steps.next().transpose()? else { break };
            if record.left.contains_key(&past) {
                broken.note(&step);
            }
        }
        let (mut number, mut is_ended) = (record.through, false);
        while let Some(first) = steps.next() {
            let mut together = vec![first?];
            while together.len() < RESTORES_MAX
                && let Some(Ok(next)) = steps.peek()
                && may_go_together(&together, next)
            {
                together.extend(steps.next().transpose()?);
            }
            let came = self.perform_all((number, &together), &broken, &user, going);
            is_ended = came.iter().any(|came| matches!(came, Came::Ended));
            if is_ended {
                break;
            }
            for (came, step) in came.into_iter().zip(&together) {
                if let Came::Left(why) = came {
                    broken.note(step);
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
        record.write_end(after, stopped)?;
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
