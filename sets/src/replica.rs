//! A copy of a set: received from another station, or in place beside its source.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context;
use tokio::sync::{mpsc, oneshot, watch};

use keepshare_base::{
    Kind, OriginId, RequestId, RestoreGround, SetName, SetPath, StationName, VersionId,
    health::{Part, SetProblem},
};
use keepshare_control::{
    Code, Failure, Outcome,
    answers::{Restored, SetStatus},
};
use keepshare_host::{clock, files, panics};
use keepshare_namespace::{Restorable, Restore, RestoreError, Share};
use keepshare_proto::{
    Frame, RestoreAnswer, RestoreRequest, Text,
    restore::{RESTORES_MAX, RestoreEnd},
};
use keepshare_replication::{
    clock::{mono, seconds_since},
    drivers::{
        Inlet, Wanted,
        pump::Pump,
        receive::{Ask, Receive, Receiving, failures},
    },
    link::LinkControl,
};
use keepshare_versioning::{
    FileState, Reader,
    live::LiveOptions,
    names,
    set::{LivePlace, SetOptions, SetStore, Status, is_thread_of},
};

use crate::{
    asking::Catalog,
    checkup::{Checkup, Told, texts},
    content::content_hash,
    context::{SetContext, Task},
    hidden_names::HiddenNames,
    record::CopyPart,
    retention::Retention,
    schedule::{Weekly, ring_at},
    sync_tree,
    turns::Turns,
    writer::on_writer,
};

use health::Seen;
use thinning::{measure, thin};

mod comparing;
mod health;
mod thinning;
mod versions;

/// How many links and restores may wait for the set's loop.
const WAITING_MAX: usize = 8;

/// How long a restore that its master has done may take to come back as a change.
pub(crate) const RETURN_TIMEOUT: Duration = Duration::from_secs(30);

/// How many more restores wait for a turn; with those under way fewer than the questions that are answered at once.
const TURNS_WAITING_MAX: usize = 16;

/// How long a restore waits for its turn.
const TURN_PATIENCE: Duration = Duration::from_secs(30);

/// What came of a restore: the master wrote it.
pub(crate) const WRITTEN: &str = "written";

/// What came of a restore: the file had these bytes already.
pub(crate) const EQUAL: &str = "equal";

/// How often it is looked for.
pub(crate) const RETURN_POLL: Duration = Duration::from_millis(20);

/// How long whoever closes the store waits for answers that read it.
const CLOSE_MAX: Duration = Duration::from_secs(10);

/// A copy of a set.
#[derive(Debug)]
pub struct Replica {
    name: SetName,
    origin: OriginId,
    from: StationName,
    live: PathBuf,
    /// The live tree is the source's folder.
    is_in_place: bool,
    /// None once it is closed.
    store: Mutex<Option<Arc<SetStore>>>,
    reader: Reader,
    /// Whom paths are asked of.
    share: Share,
    zone: chrono_tz::Tz,
    links: mpsc::Sender<(Pump, Frame)>,
    /// The newest link that came from another station.
    link: Mutex<Option<LinkControl>>,
    asks: mpsc::Sender<Ask>,
    shown: watch::Receiver<Receiving>,
    stopping: watch::Receiver<bool>,
    hidden: HiddenNames,
    /// For restores; the master does no more of one station at a time.
    turns: Turns,
    retention: Arc<Retention>,
    thin_at: Weekly,
}

/// Where a copy is whose live tree is the source's folder.
#[derive(Clone, Debug)]
pub struct Place {
    /// The source's folder.
    pub folder: PathBuf,
    /// Where the link from the source comes in.
    pub inlet: Inlet,
}

impl Replica {
    /// Opens what is kept; returns what receives, too, which the caller runs.
    pub fn open(
        context: &SetContext,
        name: &SetName,
        CopyPart { origin, from, .. }: &CopyPart,
        in_place: Option<Place>,
        stopping: &watch::Receiver<bool>,
    ) -> Outcome<(Arc<Self>, Vec<Task>)> {
        let dir = context.dirs.copy(name);
        let is_in_place = in_place.is_some();
        let (live, place) = match &in_place {
            Some(Place { folder, .. }) => (folder.clone(), LivePlace::InPlace),
            None => (dir.join("live"), LivePlace::Beside),
        };
        files::create_private_dir(&dir).map_err(anyhow::Error::new)?;
        let as_root = rustix::process::geteuid().is_root();
        let live_options = LiveOptions { as_root, ..LiveOptions::default() };
        let sync = Some(sync_tree::in_a_child());
        let options = SetOptions {
            name: name.to_string(),
            live: place,
            live_options,
            sync,
            ..SetOptions::default()
        };
        let retention = Arc::new(Retention::open(name, &dir, stopping.clone()));
        let store = SetStore::open(&dir, options)
            .with_context(|| format!("cannot open the set in {}", dir.display()))?;
        tracing::info!(set = %name, report = ?store.report(), "set opened");
        let reader = store.reader();
        let store = Arc::new(store);
        let (links_to, links) = mpsc::channel(WAITING_MAX);
        if let Some(Place { inlet, .. }) = in_place {
            inlet.open(links_to.clone());
        }
        let (asks_to, asks) = mpsc::channel(WAITING_MAX);
        let (shown_to, shown) =
            watch::channel(Receiving { away_since: Some(mono()), ..Receiving::default() });
        let receive =
            Receive { set: name.clone(), origin: *origin, store: Arc::clone(&store), links, asks };
        let receive: Task = Box::pin(receive.run(shown_to, stopping.clone()));
        let hidden = HiddenNames::default();
        let (follow, mut stop) = (hidden.clone().follow(reader.clone()), stopping.clone());
        let follow: Task = Box::pin(async move {
            tokio::select! {
                () = follow => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        });
        let replica = Self {
            name: name.clone(),
            origin: *origin,
            from: from.clone(),
            live,
            is_in_place,
            store: Mutex::new(Some(store)),
            share: Share::asked_by_path(name.clone(), reader.clone(), context.zone),
            reader,
            zone: context.zone,
            links: links_to,
            link: Mutex::default(),
            asks: asks_to,
            shown,
            stopping: stopping.clone(),
            hidden,
            turns: Turns::new(RESTORES_MAX, TURNS_WAITING_MAX),
            retention,
            thin_at: context.schedules.thin_at,
        };
        let replica = Arc::new(replica);
        let (at, zone) = (context.schedules.thin_at, context.zone);
        let (thinned, measured) = (Arc::downgrade(&replica), Arc::downgrade(&replica));
        let asked = Arc::downgrade(&replica);
        let missed = move |now| asked.upgrade().is_some_and(|replica| replica.missed_thinning(now));
        let thin = ring_at(at, zone, stopping.clone(), missed, move || thin(&thinned));
        let thin: Task = Box::pin(thin);
        let measure: Task = Box::pin(measure(measured, stopping.clone()));
        Ok((replica, vec![receive, follow, thin, measure]))
    }

    /// Returns who sends it.
    pub fn from(&self) -> &StationName {
        &self.from
    }

    /// Returns the live tree's folder.
    pub fn live(&self) -> &Path {
        &self.live
    }

    /// Tells whether its live tree is the folder of a source on this station.
    pub fn is_in_place(&self) -> bool {
        self.is_in_place
    }

    /// Tells whether its master is connected now.
    pub fn is_connected(&self) -> bool {
        self.shown.borrow().peer.is_some()
    }

    /// Returns what reads the set.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Returns what answers questions about the set's past.
    pub fn catalog(&self) -> Catalog {
        Catalog::new(self.share.clone(), self.zone)
    }

    /// Takes a link that brings this set, and the hello it began with.
    pub async fn take_link(&self, pump: Pump, hello: Frame) {
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = pump.control();
        // A set that is closing takes no links; dropping one ends it.
        let _ = self.links.send((pump, hello)).await;
    }

    /// Ends the link that brings this set; what was received stays.
    pub fn end_link(&self) {
        if let Some(link) = self.link.lock().unwrap_or_else(PoisonError::into_inner).take() {
            link.close();
        }
    }

    /// Has the master write an old version back at `path`, and waits until it has come back as a new one. Blocks.
    pub fn restore(
        &self,
        path: &SetPath,
        Restorable { state, ground }: &Restorable,
        (user, holder): (&str, Option<&str>),
    ) -> Outcome<Restored> {
        let id = new_request()?;
        let wanted = Wanted::always();
        let turn = self.turns.take(holder, TURN_PATIENCE, &wanted).ok_or_else(|| {
            let set = &self.name;
            Failure::unavailable(format!(
                "{RESTORES_MAX} restores of set {set} are under way, and others wait"
            ))
            .hint("nothing was changed; try again in a moment")
        })?;
        let asked = (id, user, ground.clone());
        let end = self.ask_master(asked, path, state, wanted)?;
        drop(turn);
        let still_open = matches!(&end, RestoreEnd::Answered(RestoreAnswer::StillOpen(_)));
        let (outcome, on_its_way) = self.outcome(end, id, path)?;
        Ok(Restored {
            set: self.name.to_string(),
            path: path.to_string(),
            version: names::id(state).to_string(),
            outcome: outcome.to_owned(),
            still_open,
            on_its_way,
        })
    }

    /// Does what a door asks: a repeat of a request, after a restart of this station too, is answered and not done
    /// again. Returns what came of it. Nothing more is done for who does not want it any more. Blocks.
    pub fn restore_for_door(
        &self,
        restore: &Restore,
        wanted: Wanted,
    ) -> Result<&'static str, RestoreError> {
        let Restore { path, state, user, request, ground, .. } = restore;
        let known = self.reader.view().ok().and_then(|view| view.restore(*request).ok());
        let mut result = "repeated";
        if known.flatten().is_none() {
            let turn = self.turns.take(Some(user.as_str()), TURN_PATIENCE, &wanted);
            let turn = turn.ok_or(RestoreError::Busy)?;
            let asked = (*request, &user[..], Some(ground.clone()));
            let end = self.ask_master(asked, path, state, wanted);
            drop(turn);
            match end.map_err(|failure| RestoreError::Refused(failure.one_line()))? {
                RestoreEnd::Answered(RestoreAnswer::Written(_) | RestoreAnswer::StillOpen(_)) => {
                    result = WRITTEN;
                }
                RestoreEnd::Answered(RestoreAnswer::Equal(_)) => result = EQUAL,
                RestoreEnd::Answered(RestoreAnswer::Failed(reason)) => {
                    return Err(RestoreError::Refused(reason.to_string()));
                }
                RestoreEnd::NotAsked(_) => return Err(RestoreError::Away),
                RestoreEnd::Unknown(_) => return Err(RestoreError::Unknown),
            }
        }
        if self.wait_for(*request) { Ok(result) } else { Err(RestoreError::Unknown) }
    }

    /// Sends the master a request and the content that goes with it, and returns how it ended. Blocks.
    fn ask_master(
        &self,
        (id, user, ground): (RequestId, &str, Option<RestoreGround>),
        path: &SetPath,
        state: &FileState,
        wanted: Wanted,
    ) -> Outcome<RestoreEnd> {
        let request = RestoreRequest {
            request: id,
            path: path.clone(),
            version: VersionId(state.position),
            meta: state.meta.clone(),
            hash: content_hash(&self.reader, state, &wanted)?,
            user: Some(Text::new(user)),
            ground,
        };
        let (done, ended) = oneshot::channel();
        let ask = Ask { request, state: state.clone(), wanted, done };
        let stopping = || Failure::unavailable("the station is stopping");
        self.asks.blocking_send(ask).map_err(|_| stopping())?;
        ended.blocking_recv().map_err(|_| stopping())
    }

    /// Returns what came of a restore, and whether its version is still on its way here.
    fn outcome(
        &self,
        end: RestoreEnd,
        request: RequestId,
        path: &SetPath,
    ) -> Outcome<(&'static str, bool)> {
        let from = &self.from;
        match end {
            RestoreEnd::Answered(RestoreAnswer::Written(_) | RestoreAnswer::StillOpen(_)) => {
                Ok((WRITTEN, !self.wait_for(request)))
            }
            RestoreEnd::Answered(RestoreAnswer::Equal(_)) => Ok((EQUAL, false)),
            RestoreEnd::Answered(RestoreAnswer::Failed(reason)) => {
                let failure =
                    |code| Failure::new(code, format!("{from} did not restore it: {reason}"));
                Err(match self.missing_folder(path) {
                    Some(folder) => failure(Code::Refused).hint(format!(
                        "make the folder {folder} in the source on {from} first, or restore elsewhere with --to DIR"
                    )),
                    None => failure(Code::Failed)
                        .hint("nothing was changed; --to DIR restores without the master"),
                })
            }
            RestoreEnd::NotAsked(reason) => {
                Err(Failure::unavailable(format!("{from} cannot be asked: {reason}"))
                    .hint("nothing was changed; --to DIR restores without the master"))
            }
            RestoreEnd::Unknown(reason) => {
                Err(Failure::unavailable(format!("{from} gave no answer: {reason}"))
                    .hint("it may have been restored: keepshare versions shows it when it was"))
            }
        }
    }

    /// Returns the first folder above `path` that is not there now.
    fn missing_folder(&self, path: &SetPath) -> Option<SetPath> {
        let view = self.reader.view().ok()?;
        let (parent, _) = path.split_last()?;
        let mut folder = SetPath::default();
        for name in parent.names() {
            folder = folder.join(name.clone());
            let found = view.resolve(&folder, view.latest()).ok()?;
            if found.is_none_or(|(_, kind)| kind != Kind::Dir) {
                return Some(folder);
            }
        }
        None
    }

    /// Waits until a restore has come back as a change and is in the live tree, and tells whether it has; it is done either
    /// way.
    fn wait_for(&self, request: RequestId) -> bool {
        let deadline = Instant::now() + RETURN_TIMEOUT;
        while Instant::now() < deadline {
            let known = self.reader.view().ok().and_then(|view| view.restore(request).ok());
            if let Some(info) = known.flatten()
                && self.store_status().live >= info.commit
            {
                return true;
            }
            std::thread::sleep(RETURN_POLL);
        }
        false
    }

    /// Puts times right that a wrong clock left, and returns of how many changes. Blocks.
    pub fn repair_clock(&self) -> Outcome<u64> {
        let store = self.open_store()?;
        let repaired = on_writer(&store, |store| {
            let repaired = store.repair_clock(clock::now())?;
            store.sync()?;
            Ok(repaired)
        });
        repaired.map_err(|failure| failure.context("cannot put the times of changes right"))
    }

    /// Returns what thins it.
    pub fn retention(&self) -> &Retention {
        &self.retention
    }

    /// Returns the open store.
    pub fn open_store(&self) -> Outcome<Arc<SetStore>> {
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner).clone();
        store.ok_or_else(|| Failure::unavailable("the station is stopping"))
    }

    /// Returns how the set is.
    pub fn check(&self) -> Checkup {
        let (shown, store) = (self.shown.borrow().clone(), self.store_status());
        let gone = self.why_gone();
        let linked = shown.peer.is_some() && gone.is_none();
        let place = self.reader.view().ok().and_then(|view| view.position(self.origin).ok());
        let place = place.flatten();
        let durable = place.and_then(|place| place.last).map(|(epoch, seq, _)| (epoch, seq));
        let head = shown.head.max(durable);
        let mirroring = durable.is_none() || place.is_some_and(|place| place.mirror.is_some());
        let seen = Seen { linked, mirroring, has_all: head == durable };
        let damage = self.reader.damage();
        let health = health::health(gone, &store, damage, seen);
        let problems = health::problems(&health, &shown.alarms, &store, damage, clock::now());
        let hidden = self.hidden.problem(&self.reader).map(SetProblem::HiddenNames);
        let not_thinned = self.retention.trouble().map(SetProblem::NotThinned);
        let problems = problems.into_iter().chain(not_thinned).chain(hidden);
        let problems: Vec<Told> = problems.map(Told::from).collect();
        let (texts, alarms) = texts(&problems);
        let status = SetStatus {
            live: Some(self.live.clone()),
            head: head.map(|(_, seq)| seq.0),
            durable: durable.map(|(_, seq)| seq.0),
            commit: Some(store.durable.0),
            live_commit: Some(store.live.0),
            from: Some(self.from.to_string()),
            incomplete: failures(&store),
            away_seconds: shown.away_since.map(seconds_since),
            retention: self.retention_status(),
            problems: texts,
            alarms,
            ..SetStatus::new(self.name.as_str(), "replica", &health)
        };
        Checkup { own: Some(health), links: Vec::new(), problems, status }
    }

    /// Makes everything durable and ends the set's threads. Blocks.
    pub fn close(&self) {
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut store) = store else { return };
        let deadline = Instant::now() + CLOSE_MAX;
        loop {
            match Arc::try_unwrap(store) {
                Ok(store) => return store.close(),
                // An answer holds it for one step; one that takes longer closes it when done.
                Err(_) if Instant::now() > deadline => return,
                Err(held) => store = held,
            }
            std::thread::sleep(RETURN_POLL);
        }
    }

    /// Returns why nothing is received or kept any more, where that is so.
    fn why_gone(&self) -> Option<SetProblem> {
        // The loop ends with the station and never before.
        let loop_gone = self.shown.has_changed().is_err() && !*self.stopping.borrow();
        let loop_gone = loop_gone.then(|| "its loop has ended".to_owned());
        let why = panics::of(|thread| is_thread_of(self.name.as_str(), thread)).or(loop_gone)?;
        Some(SetProblem::ThreadGone(Part::Receiver, Some(why)))
    }

    fn store_status(&self) -> Status {
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        store.as_ref().map(|store| store.status()).unwrap_or_default()
    }
}

pub(crate) fn new_request() -> Outcome<RequestId> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| {
        Failure::new(Code::Failed, format!("there are no random numbers: {error}"))
    })?;
    Ok(RequestId(bytes))
}
