//! The steps of a roll-back, which the set's master does.

use std::{
    collections::HashSet,
    sync::atomic::Ordering::Relaxed,
    thread,
    time::{Duration, Instant},
};

use keepshare_base::{
    CommitId, ContentHash, FileId, Kind, PresentFile, RequestId, RestoreGround, SetPath, VersionId,
};
use keepshare_control::{Code, Failure, Outcome};
use keepshare_proto::{
    Act, Elsewhere, NO_ROOM, RestoreAnswer, RestoreRequest, Text, restore::RestoreEnd,
};
use keepshare_replication::drivers::Wanted;
use keepshare_versioning::{
    FileState, POINTS_IN_ALL_MAX, POINTS_MAX,
    rollback::{Doing, Present, Step},
};

use super::super::{
    Replica,
    restoring::{RETURN_POLL, RETURN_TIMEOUT, TURN_PATIENCE},
};
use crate::{
    asking::read_failure,
    content::content_hash,
    request::new_request,
    rollback::{Going, Header, Record},
};

/// How long points of before and after are held, in microseconds: 30 days.
const HELD_MICROS: u64 = 30 * 86_400 * 1_000_000;

/// How long a master is asked for a point.
const POINT_TIMEOUT: Duration = Duration::from_secs(120);

/// How long it is waited before the master is asked again.
pub(super) const AGAIN: Duration = Duration::from_millis(500);

/// How often a step is asked for that a master which is there does not answer.
const TRIES_MAX: u32 = 5;

/// Why what belongs to something is left.
pub(super) const NOT_BACK: &str = "what it belongs to did not come back";

/// What came of asking for a step.
pub(super) enum Came {
    Done,
    Left(String),
    /// The master's disk has no room for it, as told.
    NoRoom(String),
    /// The station stops, or somebody ended it.
    Ended,
}

impl Replica {
    /// Has the master do steps that may be done at once, the first of which has this number. Where one before them waits for room, `waits`,
    /// so do all but those that make some: they are in an order in which each may need what was done before it.
    pub(super) fn perform_all(
        &self,
        (record, first): (&Record, u64),
        steps: &[Step],
        (broken, waits): (&Broken, bool),
        going: &Going,
    ) -> Vec<Came> {
        thread::scope(|scope| {
            let ask = |(number, step)| {
                scope.spawn(move || {
                    if broken.is_above(step) {
                        Came::Left(NOT_BACK.to_owned())
                    } else if waits && !makes_room(step) {
                        Came::NoRoom(NOT_BACK.to_owned())
                    } else {
                        self.perform((record, number), step, false, going)
                    }
                })
            };
            let asked: Vec<_> = (first..).zip(steps).map(ask).collect();
            let broke = |_| Came::Left("it broke off".to_owned());
            asked.into_iter().map(|asked| asked.join().unwrap_or_else(broke)).collect()
        })
    }

    /// Has the master do one step; a master that is away, or cannot do it just now, is waited for, and one whose disk is full where it
    /// is said so.
    pub(super) fn perform(
        &self,
        (record, number): (&Record, u64),
        step: &Step,
        waits_for_room: bool,
        going: &Going,
    ) -> Came {
        // Asked again after a restart, it is the same request: the master answers what it did.
        let request = request_of(&record.header, number);
        let header = &record.header;
        let holder = header.login.map(|_| &*header.user);
        let mut unanswered = 0;
        loop {
            if self.is_over(going) {
                return Came::Ended;
            }
            let (order, state) = match self.order(step, request, (header, going)) {
                Ok(order) => order,
                Err(_) if self.is_over(going) => return Came::Ended,
                Err(failure) => return Came::Left(failure.one_line()),
            };
            let Some(turn) = self.turns.take(holder, TURN_PATIENCE, &Wanted::always()) else {
                thread::sleep(RETURN_POLL);
                continue;
            };
            let sent = order.ground.as_ref().and_then(|ground| ground.present.clone());
            let end = self.ask(order, state, Wanted::always());
            drop(turn);
            let why = match end {
                Ok(
                    RestoreEnd::Answered(RestoreAnswer::Failed(why)) | RestoreEnd::Unreadable(why),
                ) => {
                    if is_about_what_came(step) && self.is_other_now(&step.path, &sent, going) {
                        continue;
                    }
                    return Came::Left(why.to_string());
                }
                Ok(RestoreEnd::Answered(answer)) if answer.is_for_room() && !waits_for_room => {
                    return Came::NoRoom(NO_ROOM.to_owned());
                }
                Ok(RestoreEnd::Answered(RestoreAnswer::NotNow(why))) => why.to_string(),
                Ok(RestoreEnd::NotAsked(why)) => format!("{} cannot be asked: {why}", self.from),
                Ok(RestoreEnd::Answered(_)) => {
                    going.waits_for(None);
                    going.did_something();
                    return Came::Done;
                }
                Ok(RestoreEnd::Unknown(why)) => {
                    unanswered += 1;
                    if unanswered >= TRIES_MAX && self.is_connected() {
                        return Came::Left(why.to_string());
                    }
                    format!("{} gave no answer: {why}", self.from)
                }
                // Nobody is there to ask: the station stops.
                Err(_) => return Came::Ended,
            };
            going.waits_for(Some(why));
            thread::sleep(AGAIN);
        }
    }

    /// Waits until something else stands at a path here than what was said to the master: what a step before wrote there takes its time
    /// to come. False where nothing else does.
    fn is_other_now(&self, path: &SetPath, sent: &Option<PresentFile>, going: &Going) -> bool {
        loop {
            let found = self.reader.view().and_then(|view| {
                let found = view.resolve(path, CommitId::MAX)?;
                let state = found.map(|(file, _)| view.file(file, CommitId::MAX)).transpose()?;
                Ok(state.flatten().map(|state| PresentFile::new(state.file, &state.meta)))
            });
            match found {
                Ok(found) if found != *sent => return true,
                Err(_) => return false,
                Ok(_) if self.has_come(going) || self.is_over(going) => return false,
                Ok(_) => thread::sleep(RETURN_POLL),
            }
        }
    }

    /// Tells whether what the master did last has had its time to come here. Time without a link does not count.
    fn has_come(&self, going: &Going) -> bool {
        if !self.is_connected() {
            going.did_something();
        }
        going.did_nothing_for(RETURN_TIMEOUT)
    }

    /// Tells whether it is to end: the station stops, or somebody said so.
    fn is_over(&self, going: &Going) -> bool {
        *self.stopping.borrow() || going.is_ending.load(Relaxed)
    }

    /// Returns what the master is asked for, and the state whose content goes with it.
    fn order(
        &self,
        step: &Step,
        request: RequestId,
        (header, going): (&Header, &Going),
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
        let mut ground = self.ground(&step.path, step.folder, going)?;
        let stands = |ground: &mut RestoreGround, present: &Present| {
            ground.present = Some(present.file.clone());
            ground.still = present.still;
        };
        let elsewhere = |path: &SetPath, folder| -> Outcome<Elsewhere> {
            Ok(Elsewhere { path: path.clone(), ground: self.ground(path, folder, going)? })
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
                    None => ground.present = self.wait_for_present(&step.path, going)?,
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
                    None => self.wait_for_present(&step.path, going)?,
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
        let mut request = RestoreRequest {
            request,
            path: step.path.clone(),
            version: VersionId(state.position),
            meta: state.meta.clone(),
            hash,
            user: Some(Text::new(&header.user)),
            ground: Some(ground),
            act,
        };
        request.meta = self.may_do(header, (step, &request), &state, going)?;
        Ok((request, state))
    }

    /// Returns the ground of a path whose folder is `known`, or is made by a step before: then its change is waited for.
    fn ground(
        &self,
        path: &SetPath,
        known: Option<FileId>,
        going: &Going,
    ) -> Outcome<RestoreGround> {
        let Some((above, _)) = path.split_last() else {
            return Ok(RestoreGround { folder: FileId::ROOT, present: None, still: None });
        };
        loop {
            let view = self.reader.view().map_err(read_failure)?;
            let found = view.resolve(&above, CommitId::MAX).map_err(read_failure)?;
            drop(view);
            match found {
                Some((folder, _)) if known.is_none_or(|known| known == folder) => {
                    return Ok(RestoreGround { folder, present: None, still: None });
                }
                _ if self.has_come(going) || self.is_over(going) => {
                    return Err(Failure::refused(format!("its folder {above} is not there")));
                }
                _ => thread::sleep(RETURN_POLL),
            }
        }
    }

    /// Returns what a step before put at a path, once its change has come.
    fn wait_for_present(&self, path: &SetPath, going: &Going) -> Outcome<Option<PresentFile>> {
        loop {
            let view = self.reader.view().map_err(read_failure)?;
            if let Some((file, _)) = view.resolve(path, CommitId::MAX).map_err(read_failure)? {
                let state = view.file(file, CommitId::MAX).map_err(read_failure)?;
                return Ok(state.map(|state| PresentFile::new(file, &state.meta)));
            }
            drop(view);
            if self.has_come(going) || self.is_over(going) {
                return Err(Failure::refused("it was not brought back"));
            }
            thread::sleep(RETURN_POLL);
        }
    }

    /// Returns how many points of roll-backs the set has, those of such among them that went no further.
    pub(super) fn rollback_points(&self) -> Outcome<usize> {
        let view = self.reader.view().map_err(read_failure)?;
        let points = view.points(CommitId(0), POINTS_IN_ALL_MAX).map_err(read_failure)?;
        Ok(points.iter().filter(|point| point.point.name.starts_with("rollback-")).count())
    }

    /// Has the master make a point, and returns where it is here.
    pub(super) fn make_point(&self, name: &str, user: &str, going: &Going) -> Outcome<CommitId> {
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
        let asked_until = Instant::now() + POINT_TIMEOUT;
        loop {
            match self.ask(request.clone(), state.clone(), Wanted::always())? {
                RestoreEnd::Answered(RestoreAnswer::Failed(why) | RestoreAnswer::NotNow(why)) => {
                    return Err(Failure::new(
                        Code::Failed,
                        format!("{} made no point: {why}", self.from),
                    )
                    .hint("nothing was changed"));
                }
                RestoreEnd::Unreadable(why) => {
                    return Err(Failure::new(Code::Failed, format!("no point was made: {why}"))
                        .hint("nothing was changed"));
                }
                RestoreEnd::Answered(_) => break,
                RestoreEnd::NotAsked(why) | RestoreEnd::Unknown(why)
                    if self.is_over(going) || Instant::now() >= asked_until =>
                {
                    return Err(Failure::unavailable(format!(
                        "{} made no point: {why}",
                        self.from
                    )));
                }
                RestoreEnd::NotAsked(why) | RestoreEnd::Unknown(why) => {
                    going.waits_for(Some(format!("{} makes no point: {why}", self.from)));
                    thread::sleep(AGAIN);
                }
            }
        }
        going.waits_for(None);
        let deadline = Instant::now() + RETURN_TIMEOUT;
        loop {
            let points = self
                .reader
                .view()
                .and_then(|view| view.points(CommitId(0), POINTS_IN_ALL_MAX))
                .map_err(read_failure)?;
            if let Some(point) = points.iter().rfind(|point| point.point.name == name) {
                return Ok(point.commit);
            }
            // One that is ended needs its point, too: an undo goes by it.
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

/// Names the request for a step, the same after a restart, and such that nobody else can have asked under it.
pub(super) fn request_of(header: &Header, step: u64) -> RequestId {
    let key = if header.key.is_empty() { &header.id } else { &header.key };
    let mut hasher = blake3::Hasher::new_derive_key("keepshare rollback step v1");
    hasher.update(key.as_bytes()).update(&step.to_le_bytes());
    RequestId(*hasher.finalize().as_bytes())
}

/// Paths at which something did not come back: what belongs to it does not either, wherever something else stands there.
#[derive(Debug, Default)]
pub(super) struct Broken(HashSet<SetPath>);

impl Broken {
    /// Notes a step that was not done.
    pub(super) fn note(&mut self, step: &Step) {
        let path = match &step.doing {
            Doing::Write { over: None, .. } | Doing::Make { .. } => &step.path,
            Doing::Move { to, .. } | Doing::Link { to, .. } => to,
            Doing::Write { .. } | Doing::SetAttributes { .. } | Doing::Remove { .. } => return,
        };
        self.0.insert(path.clone());
    }

    /// Tells whether a step needs something that did not come back.
    pub(super) fn is_above(&self, step: &Step) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let made_here = is_about_what_came(step);
        let is_below = |path: &SetPath| {
            let mut at = path.clone();
            while let Some((above, _)) = at.split_last() {
                if self.0.contains(&above) {
                    return true;
                }
                at = above;
            }
            false
        };
        let (Doing::Move { to, .. } | Doing::Link { to, .. }) = &step.doing else {
            return is_below(&step.path) || (made_here && self.0.contains(&step.path));
        };
        is_below(&step.path) || is_below(to) || (made_here && self.0.contains(&step.path))
    }
}

/// Tells whether a step is about what a step before it wrote.
fn is_about_what_came(step: &Step) -> bool {
    matches!(&step.doing, Doing::SetAttributes { over: None, .. } | Doing::Link { what: None, .. })
}

/// Tells whether a step takes something away, and needs nothing of what waits.
fn makes_room(step: &Step) -> bool {
    matches!(&step.doing, Doing::Remove { kind, .. } if *kind != Kind::Dir)
}

/// Tells whether a step may be done at once with those before it.
pub(super) fn may_go_together(before: &[Step], next: &Step) -> bool {
    let is_leaf = |kind: &Kind| *kind != Kind::Dir;
    // What is moved has its name until then.
    let is_free = |to: &SetPath| before.iter().all(|step| step.path != *to);
    before.iter().all(|step| match (&step.doing, &next.doing) {
        (Doing::Write { .. }, Doing::Write { .. }) => true,
        (Doing::Remove { kind: one, .. }, Doing::Remove { kind: other, .. }) => {
            is_leaf(one) && is_leaf(other)
        }
        (
            Doing::Move { what: one, aside: false, .. },
            Doing::Move { what: other, to, aside: false, .. },
        ) => one.still.is_some() && other.still.is_some() && is_free(to),
        _ => false,
    })
}
