//! A copy of a set: received from another station, or in place beside its source.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context;
use tokio::sync::{mpsc, watch};

use keepshare_base::{
    OriginId, SetName, StationName,
    health::{Part, SetProblem},
};
use keepshare_control::{Failure, Outcome, answers::SetStatus};
use keepshare_host::{clock, files, panics};
use keepshare_namespace::Share;
use keepshare_proto::{Frame, restore::RESTORES_MAX};
use keepshare_replication::{
    clock::{mono, seconds_since},
    drivers::{
        Inlet,
        pump::Pump,
        receive::{Ask, Receive, Receiving, failures},
    },
    link::LinkControl,
};
use keepshare_versioning::{
    Reader,
    live::LiveOptions,
    set::{LivePlace, SetOptions, SetStore, Status, is_thread_of},
};

use crate::{
    alarms::Alarms,
    asking::Catalog,
    checkup::{Checkup, Told, texts},
    context::{SetContext, Task},
    hidden_names::HiddenNames,
    record::CopyPart,
    retention::Retention,
    rollback::Rollbacks,
    schedule::{Weekly, ring_at},
    scrub::Scrubbing,
    sync_tree,
    turns::Turns,
    verdicts::Verdicts,
    writer::on_writer,
};

pub use rolling::{Begun, Order};

pub use crate::rollback::By;

pub(crate) use restoring::{EQUAL, RETURN_POLL, RETURN_TIMEOUT, WRITTEN};

use following::follow;
use health::Seen;
use thinning::{measure, thin};

mod bringing;
mod comparing;
mod following;
mod health;
mod restoring;
mod rolling;
mod scrubbing;
mod thinning;
mod versions;

/// How many links and restores may wait for the set's loop.
const WAITING_MAX: usize = 8;

/// How many more restores wait for a turn; with those under way fewer than the questions that are answered at once.
const TURNS_WAITING_MAX: usize = 16;

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
    scrubbing: Scrubbing,
    thin_at: Weekly,
    rollbacks: Rollbacks,
    alarms: Alarms,
    verdicts: Verdicts,
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
        let scrubbing = Scrubbing::open(&dir, &live, context.schedules.scrub);
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
            hidden: HiddenNames::default(),
            turns: Turns::new(RESTORES_MAX, TURNS_WAITING_MAX),
            retention,
            scrubbing,
            thin_at: context.schedules.thin_at,
            rollbacks: Rollbacks::new(&dir, Arc::clone(&context.logins)),
            alarms: Alarms::open(name, &dir),
            verdicts: Verdicts::open(name, &dir),
        };
        let replica = Arc::new(replica);
        replica.resume_rollback();
        let (at, zone) = (context.schedules.thin_at, context.zone);
        let (thinned, measured) = (Arc::downgrade(&replica), Arc::downgrade(&replica));
        let (asked, scrubbed) = (Arc::downgrade(&replica), Arc::downgrade(&replica));
        let missed = move |now| asked.upgrade().is_some_and(|replica| replica.missed_thinning(now));
        let thin = ring_at(at, zone, stopping.clone(), missed, move || thin(&thinned));
        let thin: Task = Box::pin(thin);
        let measure: Task = Box::pin(measure(measured, stopping.clone()));
        let follow: Task = Box::pin(follow(Arc::downgrade(&replica), stopping.clone()));
        let scrub: Task = Box::pin(scrubbing::scrub(scrubbed, stopping.clone()));
        Ok((replica, vec![receive, follow, thin, measure, scrub]))
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

    /// Returns what is told of bursts in it.
    pub fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    /// Returns which of its points were found good.
    pub fn verdicts(&self) -> &Verdicts {
        &self.verdicts
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
        let (health, of_scrub) = self.with_scrub(health);
        let problems = health::problems(&health, &shown.alarms, &store, damage, clock::now());
        let of_scrub: Vec<_> =
            of_scrub.into_iter().filter(|problem| !problems.contains(problem)).collect();
        let hidden = self.hidden.problem(&self.reader).map(SetProblem::HiddenNames);
        let not_thinned = self.retention.trouble().map(SetProblem::NotThinned);
        let bursts = self.alarms.told().into_iter().map(SetProblem::Burst);
        let problems =
            problems.into_iter().chain(of_scrub).chain(bursts).chain(not_thinned).chain(hidden);
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
            scrub: Some(self.scrubbing.status()),
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
