//! Rolling a folder back in place: planned here, where its past is, and done by the set's master step by step.
//!
//! Points of before and after are made on the master and held for 30 days: they are what an undo goes by. It goes on by itself
//! when whoever ordered it goes away, when the master was away, and after a restart.

use std::{
    fs::File,
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use keepshare_base::{CommitId, ContentHash, FileId, RequestId, RestoreGround, SetPath, VersionId};
use keepshare_control::{Code, Failure, Outcome, answers::Progress, rollback::RolledBack};
use keepshare_proto::{
    Act, Elsewhere, RestoreAnswer, RestoreRequest, Text, restore::RESTORES_MAX, restore::RestoreEnd,
};
use keepshare_replication::drivers::Wanted;
use keepshare_versioning::{
    FileState, POINTS_MAX,
    rollback::{Back, Doing, PlanError, Planned, Present, Step, Wanted as Goal},
};

use super::{
    Replica,
    restoring::{RETURN_POLL, RETURN_TIMEOUT, TURN_PATIENCE, new_request},
};
use crate::{
    asking::read_failure,
    content::content_hash,
    rollback::{self, Going, Header, Line, Record, write_line},
};

/// How long points of before and after are held, in microseconds: 30 days.
const HELD_MICROS: u64 = 30 * 86_400 * 1_000_000;

/// How often it is told how far it is.
const TELL_EVERY: Duration = Duration::from_millis(250);

/// How long it is waited before the master is asked again.
const AGAIN: Duration = Duration::from_millis(500);

/// How often a step is asked for that a master which is there does not answer.
const TRIES_MAX: u32 = 5;

/// The most steps of one roll-back.
const STEPS_MAX: usize = 5_000_000;

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

/// What came of asking for a step.
enum Came {
    Done,
    Left(String),
    /// The station stops, or somebody ended it.
    Ended,
}

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

    /// Rolls a folder back, and tells how far it is until that is done; what was ordered goes on where that cannot be told. Blocks.
    pub fn roll_back(
        self: &Arc<Self>,
        order: &Order,
        may_be_nearest: bool,
        tell: impl FnMut(&Progress) -> Outcome<()>,
    ) -> Outcome<RolledBack> {
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
        follow(&going, tell)
    }

    /// Tells what of a roll-back is done, once it has ended. Blocks.
    pub fn stop_rollback(&self, id: &str) -> Outcome<RolledBack> {
        let going = self.rollbacks.going().filter(|going| going.id == id);
        let going = going.ok_or_else(|| match self.rollbacks.read(id) {
            Ok(_) => Failure::refused(format!("roll-back {id} does not go on any more")),
            Err(failure) => failure,
        })?;
        going.is_ending.store(true, Relaxed);
        follow(&going, |_| Ok(()))
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
                && may_go_together(&together[0], next)
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

    /// Has the master do steps that may be done at once.
    fn perform_all(&self, steps: &[Step], user: &str, going: &Going) -> Vec<Came> {
        thread::scope(|scope| {
            let ask = |step| scope.spawn(move || self.perform(step, user, going));
            let asked: Vec<_> = steps.iter().map(ask).collect();
            let broke = |_| Came::Left("it broke off".to_owned());
            asked.into_iter().map(|asked| asked.join().unwrap_or_else(broke)).collect()
        })
    }

    /// Has the master do one step; a master that is away is waited for.
    fn perform(&self, step: &Step, user: &str, going: &Going) -> Came {
        let request = match new_request() {
            Ok(request) => request,
            Err(failure) => return Came::Left(failure.one_line()),
        };
        let mut tries = 0;
        loop {
            if *self.stopping.borrow() || going.is_ending.load(Relaxed) {
                return Came::Ended;
            }
            let (order, state) = match self.order(step, request, user) {
                Ok(order) => order,
                Err(failure) => return Came::Left(failure.one_line()),
            };
            let Some(turn) = self.turns.take(None, TURN_PATIENCE, &Wanted::always()) else {
                continue;
            };
            let end = self.ask(order, state, Wanted::always());
            drop(turn);
            let why = match end {
                Ok(RestoreEnd::Answered(RestoreAnswer::Failed(why))) => {
                    return Came::Left(why.to_string());
                }
                Ok(RestoreEnd::Answered(_)) => {
                    going.waits.store(false, Relaxed);
                    return Came::Done;
                }
                Ok(RestoreEnd::NotAsked(why) | RestoreEnd::Unknown(why)) => why.to_string(),
                Err(failure) => failure.one_line(),
            };
            if self.is_connected() {
                tries += 1;
                if tries >= TRIES_MAX {
                    return Came::Left(why);
                }
            } else {
                going.waits.store(true, Relaxed);
            }
            thread::sleep(AGAIN);
        }
    }

    /// Returns what the master is asked for, and the state whose content goes with it.
    fn order(
        &self,
        step: &Step,
        request: RequestId,
        user: &str,
    ) -> Outcome<(RestoreRequest, FileState)> {
        let gone = || Failure::not_found("it is not kept any more");
        let state_of = |what| {
            let view = self.reader.view().map_err(read_failure)?;
            view.state_of(what).map_err(read_failure)?.ok_or_else(gone)
        };
        let now = |file: FileId| {
            let view = self.reader.view().map_err(read_failure)?;
            view.file(file, CommitId::MAX).map_err(read_failure)?.ok_or_else(gone)
        };
        let mut ground = self.ground(&step.path, step.folder)?;
        let stands = |ground: &mut RestoreGround, present: &Present| {
            ground.present = Some(present.file.clone());
            ground.still = present.still;
        };
        let elsewhere = |path: &SetPath, folder| -> Outcome<Elsewhere> {
            Ok(Elsewhere { path: path.clone(), ground: self.ground(path, folder)? })
        };
        let (act, state) = match &step.doing {
            Doing::Write { what, over, .. } => {
                over.iter().for_each(|over| stands(&mut ground, over));
                (Act::Write, state_of(*what)?)
            }
            Doing::Make { what, .. } => (Act::Make, state_of(*what)?),
            Doing::SetAttributes { what, over, .. } => {
                match over {
                    Some(over) => stands(&mut ground, over),
                    None => ground.present = self.wait_for_present(&step.path)?,
                }
                (Act::SetAttributes, state_of(*what)?)
            }
            Doing::Move { what, to, folder, .. } => {
                stands(&mut ground, what);
                (Act::Move(elsewhere(to, *folder)?), now(what.file.file)?)
            }
            Doing::Link { what, to, folder } => {
                let present = match what {
                    Some(what) => Some(what.file.clone()),
                    None => self.wait_for_present(&step.path)?,
                };
                let file = present.as_ref().ok_or_else(gone)?.file;
                ground.present = present;
                (Act::Link(elsewhere(to, *folder)?), now(file)?)
            }
            Doing::Remove { what, .. } => {
                stands(&mut ground, what);
                (Act::Remove, now(what.file.file)?)
            }
        };
        let hash = match act {
            Act::Write => content_hash(&self.reader, &state, &Wanted::always())?,
            _ => ContentHash([0; 32]),
        };
        let request = RestoreRequest {
            request,
            path: step.path.clone(),
            version: VersionId(state.position),
            meta: state.meta.clone(),
            hash,
            user: Some(Text::new(user)),
            ground: Some(ground),
            act,
        };
        Ok((request, state))
    }

    /// Returns the ground of a path whose folder is `known`, or is made by a step before: then its change is waited for.
    fn ground(&self, path: &SetPath, known: Option<FileId>) -> Outcome<RestoreGround> {
        let Some((above, _)) = path.split_last() else {
            return Ok(RestoreGround { folder: FileId::ROOT, present: None, still: None });
        };
        let deadline = Instant::now() + RETURN_TIMEOUT;
        loop {
            let view = self.reader.view().map_err(read_failure)?;
            let found = view.resolve(&above, CommitId::MAX).map_err(read_failure)?;
            drop(view);
            match found {
                Some((folder, _)) if known.is_none_or(|known| known == folder) => {
                    return Ok(RestoreGround { folder, present: None, still: None });
                }
                _ if Instant::now() >= deadline || *self.stopping.borrow() => {
                    return Err(Failure::refused(format!("its folder {above} is not there")));
                }
                _ => thread::sleep(RETURN_POLL),
            }
        }
    }

    /// Returns what a step before put at a path, once its change has come.
    fn wait_for_present(&self, path: &SetPath) -> Outcome<Option<keepshare_base::PresentFile>> {
        let deadline = Instant::now() + RETURN_TIMEOUT;
        loop {
            let view = self.reader.view().map_err(read_failure)?;
            if let Some((file, _)) = view.resolve(path, CommitId::MAX).map_err(read_failure)? {
                let state = view.file(file, CommitId::MAX).map_err(read_failure)?;
                return Ok(state.map(|state| keepshare_base::PresentFile::new(file, &state.meta)));
            }
            drop(view);
            if Instant::now() >= deadline || *self.stopping.borrow() {
                return Err(Failure::refused("it was not brought back"));
            }
            thread::sleep(RETURN_POLL);
        }
    }

    /// Has the master make a point, and returns where it is here.
    fn make_point(&self, name: &str, user: &str, going: &Going) -> Outcome<CommitId> {
        let state = self
            .reader
            .view()
            .and_then(|view| view.file(FileId::ROOT, CommitId::MAX))
            .map_err(read_failure)?
            .ok_or_else(|| Failure::refused(format!("nothing of set {} is here yet", self.name)))?;
        let request = RestoreRequest {
            request: new_request()?,
            path: SetPath::default(),
            version: VersionId(state.position),
            meta: state.meta.clone(),
            hash: ContentHash([0; 32]),
            user: Some(Text::new(user)),
            ground: None,
            act: Act::Point { name: Text::new(name), lasts_micros: HELD_MICROS },
        };
        loop {
            match self.ask(request.clone(), state.clone(), Wanted::always())? {
                RestoreEnd::Answered(RestoreAnswer::Failed(why)) => {
                    return Err(Failure::new(
                        Code::Failed,
                        format!("{} made no point: {why}", self.from),
                    )
                    .hint("nothing was changed"));
                }
                RestoreEnd::Answered(_) => break,
                RestoreEnd::NotAsked(why) | RestoreEnd::Unknown(why)
                    if *self.stopping.borrow() || going.is_ending.load(Relaxed) =>
                {
                    return Err(Failure::unavailable(format!(
                        "{} made no point: {why}",
                        self.from
                    )));
                }
                RestoreEnd::NotAsked(_) | RestoreEnd::Unknown(_) => {
                    going.waits.store(true, Relaxed);
                    thread::sleep(AGAIN);
                }
            }
        }
        going.waits.store(false, Relaxed);
        let deadline = Instant::now() + RETURN_TIMEOUT;
        loop {
            let points = self
                .reader
                .view()
                .and_then(|view| view.points(CommitId(0), POINTS_MAX))
                .map_err(read_failure)?;
            if let Some(point) = points.iter().rfind(|point| point.point.name == name) {
                return Ok(point.commit);
            }
            if Instant::now() >= deadline || *self.stopping.borrow() {
                return Err(Failure::unavailable(format!("the point '{name}' did not arrive"))
                    .hint(format!(
                        "a set has {POINTS_MAX} points at the most: keepshare point list"
                    )));
            }
            thread::sleep(RETURN_POLL);
        }
    }
}

/// Tells how far one is until it is over, and returns what came of it.
fn follow(going: &Going, mut tell: impl FnMut(&Progress) -> Outcome<()>) -> Outcome<RolledBack> {
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

/// Tells whether two steps that follow each other may be done at once.
fn may_go_together(first: &Step, next: &Step) -> bool {
    use keepshare_base::Kind;
    let is_leaf = |kind: &Kind| *kind != Kind::Dir;
    match (&first.doing, &next.doing) {
        (Doing::Write { .. }, Doing::Write { .. }) => true,
        (Doing::Remove { kind: one, .. }, Doing::Remove { kind: other, .. }) => {
            is_leaf(one) && is_leaf(other)
        }
        _ => false,
    }
}

fn line(done: &mut File, line: &Line) -> Outcome<()> {
    write_line(done, line).context("cannot write down how far a roll-back is")?;
    Ok(())
}
