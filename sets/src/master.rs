//! The source of a set on its master: it is watched, and sent to every destination.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context;
use tokio::sync::{Notify, watch};

use keepshare_base::{
    Seq, SetName, StationName,
    health::{LinkHealth, Part, SetHealth, SetProblem},
};
use keepshare_control::{
    Code, Failure, Outcome,
    answers::{DestinationStatus, HealthStatus, SetStatus, SharedStatus, SweptStatus},
};
use keepshare_host::{clock, panics};
use keepshare_proto::cut::CutRule;
use keepshare_replication::{
    clock::seconds_since,
    drivers::{
        Inlet, Way,
        agreement::Agreement,
        restores::{MasterRestores, May},
        ship::{Ship, Shipping},
    },
    source::{
        CaptureMode, Head, RestoreTimes, Settled, Source, SourceAlarm, SourceConfig, SourceError,
        SourceHandle, SourceLimits, SourceStatus, Swept,
    },
};

use crate::{
    backlog::{Backlog, Lag},
    checkup::{Checkup, Told, texts, worst},
    context::{SetContext, Task},
    database,
    record::SourcePart,
    schedule::ring_at,
};

use health::Seen;
use point_times::PointTimes;

pub use point_times::PointTime;
pub use restoring::Restoring;

mod health;
mod point_times;
mod points;
mod restoring;

/// A source is compared whole at the latest after this time, should nobody have asked for it.
const RESCAN_EVERY: Duration = Duration::from_secs(8 * 24 * 3600);

/// How long whoever asks how a set is waits for what was saved a moment ago.
const SETTLE_MAX: Duration = Duration::from_millis(50);

/// The folder for the content of restores that are asked for here, beside those of the stations: none of them is called so.
const ASKED_HERE: &str = "@here";

/// The source of a set.
#[derive(Debug)]
pub struct Master {
    name: SetName,
    root: PathBuf,
    journal: PathBuf,
    source: SourceHandle,
    destinations: Vec<Destination>,
    agreement: Arc<Agreement>,
    /// Where content of restores that are asked for here is put aside.
    aside: PathBuf,
    times: PointTimes,
    stopping: watch::Receiver<bool>,
}

/// A station that receives the set.
#[derive(Debug)]
struct Destination {
    to: StationName,
    shown: watch::Receiver<Shipping>,
    mirror_wanted: Arc<Notify>,
    backlog: Mutex<Backlog>,
    /// What it may have done here.
    may: May,
}

/// How far a mirror that somebody asks for may go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MirrorKind {
    /// In the present epoch.
    Same,
    /// In a new one: the stations take what is here for what comes after all that they have.
    NewEpoch,
    /// In a new one, though another master took the set on.
    TakeOver,
    /// In a new one, with the folder that is at the source's path now.
    NewSource,
}

impl Master {
    /// Opens the journal and begins to watch the folder; returns what ships, too, which the caller runs. Where this station
    /// keeps a copy itself, `own` takes it in: one destination among others.
    pub fn open(
        context: &SetContext,
        name: &SetName,
        SourcePart { origin, folder: root, to: others }: &SourcePart,
        own: Option<Inlet>,
        stopping: &watch::Receiver<bool>,
    ) -> Outcome<(Arc<Self>, Vec<Task>)> {
        let dirs = &context.dirs;
        let may = |to: &StationName| match *to == context.here {
            true => May::RollBack,
            false => context.orders.of(name, to),
        };
        let put_aside = |to: &StationName| {
            let restores = MasterRestores::new(dirs.restores(name).join(to.as_str()));
            let restores = restores.context("cannot prepare for restores")?;
            Ok(restores.letting(to.clone(), may(to)))
        };
        let own = own.map(|inlet| (context.here.clone(), Way::Here(inlet)));
        let others = others.iter().map(|to| {
            let peers = Arc::clone(&context.receivers).of(name);
            (to.clone(), Way::Network { peers, link: context.link })
        });
        let (to, ways): (Vec<_>, Vec<_>) = own.into_iter().chain(others).unzip();
        // First, as it can fail: a source that is open has a thread, which goes on writing to the journal.
        let restores = to.iter().map(put_aside).collect::<anyhow::Result<Vec<_>>>()?;
        let aside = dirs.restores(name).join(ASKED_HERE);
        MasterRestores::new(aside.clone()).context("cannot prepare for restores")?;
        let config = SourceConfig {
            set: name.clone(),
            origin: *origin,
            root: root.clone(),
            state_dir: dirs.state().to_owned(),
            spool_dir: dirs.spool(name),
            capture: CaptureMode::Auto,
            cut: CutRule::default(),
            limits: SourceLimits::default(),
            rescan_every: RESCAN_EVERY,
            rescan_shared_every: context.schedules.shared_every,
            keep_journals: Some(dirs.journals()),
            restores: RestoreTimes::default(),
        };
        let journal = dirs.journal(name);
        let source = Source::open(config, database::open_journal(&journal)?)
            .map_err(|error| cannot_replicate(root, error))?;
        // Known to the journal before anything is written, so that it keeps what they have not got.
        for station in &to {
            if source.acked_by(station.as_str()).is_none() {
                source.acked(station.as_str(), source.head().epoch, Seq(0));
            }
        }
        let agreement = Arc::new(Agreement::new(&to));
        let mut tasks: Vec<Task> = Vec::new();
        let ship = |((to, way), restores): ((StationName, Way), MasterRestores)| {
            let mirror_wanted = Arc::new(Notify::new());
            let ship = Ship {
                set: name.clone(),
                origin: *origin,
                to: to.clone(),
                source: source.clone(),
                agreement: Arc::clone(&agreement),
                mirror_wanted: Arc::clone(&mirror_wanted),
                way,
                restores,
            };
            let (shown_to, shown) = watch::channel(Shipping::default());
            tasks.push(Box::pin(ship.run(shown_to, stopping.clone())));
            let may = may(&to);
            Destination { to, shown, mirror_wanted, backlog: Mutex::default(), may }
        };
        let destinations = to.into_iter().zip(ways).zip(restores).map(ship).collect();
        let (at, zone, stopping) = (context.schedules.scan_at, context.zone, stopping.clone());
        let scanned = source.clone();
        let scan = ring_at(at, zone, stopping.clone(), |_| false, move || scanned.rescan());
        tasks.push(Box::pin(scan));
        let times = PointTimes::open(dirs.points(name), zone);
        let (name, root) = (name.clone(), root.clone());
        let master =
            Self { name, root, journal, source, destinations, agreement, aside, times, stopping };
        let master = Arc::new(master);
        let stopping = master.stopping.clone();
        tasks.push(Box::pin(point_times::make(Arc::downgrade(&master), stopping)));
        Ok((master, tasks))
    }

    /// Returns the folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns who receives the set.
    pub fn to(&self) -> impl Iterator<Item = &StationName> {
        self.destinations.iter().map(|destination| &destination.to)
    }

    /// Tells whether there is a link to this station now.
    pub fn is_connected(&self, to: &StationName) -> bool {
        let mut known = self.destinations.iter().filter(|destination| destination.to == *to);
        known.any(|destination| health::link(&destination.shown.borrow()).is_connected())
    }

    /// Asks whether everything that was saved until now is looked at, for [`Self::check`].
    pub fn ask_settled(&self) -> Asked {
        Asked { settled: self.source.ask_settled(), until: Instant::now() + SETTLE_MAX }
    }

    /// Returns how the set is, true of the moment of the question.
    pub fn check(&self, asked: Asked) -> Checkup {
        let settled = asked.settled.wait(asked.until);
        let (head, mut source) = (self.source.head(), self.source.status());
        let gone = self.why_gone();
        let unread = gone.is_some() || source.alarms.iter().any(health::stops_reading);
        if !settled && !unread {
            // Something of before the question may still be unread.
            source.dirty = source.dirty.max(1);
        }
        let own: Vec<SetProblem> = gone.into_iter().chain(health::alarms(&source)).collect();
        let (mut links, mut destinations) = (Vec::new(), Vec::new());
        let mut problems: Vec<Told> = own.iter().cloned().map(Told::from).collect();
        for Destination { to, shown, backlog, may, .. } in &self.destinations {
            // A loop ends with the station and never before: what it showed last is not how it is.
            let gone = shown.has_changed().is_err() && !*self.stopping.borrow();
            let shown = shown.borrow().clone();
            let seen = Seen { unread, gone, kept: self.keeps_after(&shown, head) };
            let health = health::health(&shown, head, &source, seen);
            problems.extend(health::link_problems(to, &health, &shown));
            let lag = self.lag(backlog, &shown, head);
            let of = destination_status((to, *may), &shown, head, &health, lag, gone);
            destinations.push(of);
            links.push((to.clone(), health));
        }
        problems.extend(health::states_in(&self.root).map(Told::from));
        problems.extend(health::source_problems(&source).into_iter().map(Told::from));
        let own = own.into_iter().next().map(SetHealth::Alarm);
        let shown = own.clone().unwrap_or_else(|| worst(&links));
        let (texts, alarms) = texts(&problems);
        let status = SetStatus {
            source: Some(self.root.clone()),
            head: Some(head.seq.0),
            destinations,
            swept: swept(&source),
            shared: shared(&source),
            incomplete: source.problem_count,
            problems: texts,
            alarms,
            ..SetStatus::new(self.name.as_str(), "master", &shown)
        };
        Checkup { own, links, problems, status }
    }

    /// Tells whether the journal keeps every change that a destination without a link lacks.
    fn keeps_after(&self, shown: &Shipping, head: Head) -> bool {
        let Some(acked) = health::acked_of(shown, head) else { return false };
        // With a link nobody asks, and the journal need not be read.
        health::link(shown) != LinkHealth::Up
            && self.source.oldest().is_ok_and(|oldest| oldest <= acked.next())
    }

    /// Returns how far a destination is behind, where the journal can be read.
    fn lag(&self, backlog: &Mutex<Backlog>, shown: &Shipping, head: Head) -> Option<Lag> {
        let acked = health::acked_of(shown, head).unwrap_or(Seq(0));
        let sizes = |from, limit| {
            let unread = |error| {
                let error = format!("{:#}", anyhow::Error::new(error));
                tracing::debug!(set = %self.name, %error, "cannot read how large changes are");
            };
            self.source.sizes(from, limit).map_err(unread).ok()
        };
        backlog.lock().unwrap_or_else(PoisonError::into_inner).look(acked, head, sizes)
    }

    /// Returns why nobody looks at the folder any more, where that is so.
    fn why_gone(&self) -> Option<SetProblem> {
        let name = format!("source-{}", self.name);
        let why = panics::of(|thread| thread == name)?;
        Some(SetProblem::ThreadGone(Part::Source, Some(why)))
    }

    /// Has one destination mirrored, or all. A mirror in a new epoch is one of all. Blocks.
    pub fn mirror(&self, to: Option<&StationName>, kind: MirrorKind) -> Outcome<()> {
        let chosen = |destination: &&Destination| to.is_none_or(|to| destination.to == *to);
        if self.destinations.iter().filter(chosen).count() == 0 {
            let (name, to) = (&self.name, to.map_or("any station", StationName::as_str));
            return Err(Failure::not_found(format!("set {name} is not sent to {to}"))
                .hint(format!("keepshare set show {name} lists the stations that receive it")));
        }
        if kind != MirrorKind::NewSource {
            refuse_vanished(&self.name, &self.root, &self.source.status().alarms)?;
        }
        let fenced = self.agreement.fenced().borrow().clone();
        let name = &self.name;
        match (kind, fenced) {
            (MirrorKind::Same | MirrorKind::NewEpoch | MirrorKind::NewSource, Some(by)) => {
                return Err(Failure::refused(format!(
                    "{by} tells that another master has taken set {name} on; nothing is sent from here"
                ))
                .hint(format!(
                    "where this one is to have it again: keepshare set mirror {name} --take-over"
                )));
            }
            (MirrorKind::TakeOver, None) => {
                return Err(Failure::refused(format!(
                    "no station tells of another master of set {name}; there is nothing to take over"
                ))
                .hint(format!("keepshare set mirror {name} mirrors it as it is")));
            }
            (MirrorKind::Same, None) => {
                let chosen = self.destinations.iter().filter(chosen);
                chosen.for_each(|destination| destination.mirror_wanted.notify_one());
            }
            (MirrorKind::NewEpoch, None) | (MirrorKind::TakeOver, Some(_)) => {
                let epoch = self.source.head().epoch;
                let head = self.agreement.begin_epoch(&self.source, epoch);
                let head = head.context("cannot begin a new epoch")?;
                tracing::warn!(set = %self.name, epoch = %head.epoch, "a new epoch was asked for");
            }
            (MirrorKind::NewSource, None) => {
                let is_gone = |alarm: &SourceAlarm| matches!(alarm, SourceAlarm::Vanished(_));
                if !self.source.status().alarms.iter().any(is_gone) {
                    return Err(Failure::refused(format!(
                        "the source folder of set {name} is the one it was; there is no other to take"
                    ))
                    .hint(format!("keepshare set mirror {name} mirrors it as it is")));
                }
                let head = self.agreement.take_source(&self.source);
                let head = head.context("cannot take the folder that is there")?;
                tracing::warn!(set = %self.name, epoch = %head.epoch, "another source folder was taken");
            }
        }
        Ok(())
    }

    /// Makes the journal durable.
    pub fn close(&self) {
        // A thread that is gone would never answer; its journal is as durable as after a crash.
        if self.why_gone().is_none() {
            self.source.shutdown();
            database::closed(&self.journal);
        }
    }
}

/// A question whether everything is looked at.
#[derive(Debug)]
pub struct Asked {
    settled: Settled,
    until: Instant,
}

/// Refuses to mirror what is not there.
fn refuse_vanished(name: &SetName, root: &Path, alarms: &[SourceAlarm]) -> Outcome<()> {
    let why = alarms.iter().find_map(|alarm| match alarm {
        SourceAlarm::Vanished(why) => Some(why),
        _ => None,
    });
    let Some(why) = why else { return Ok(()) };
    let failure = Failure::refused(format!(
        "the source folder of set {name} is gone: {why}; nothing is deleted anywhere"
    ));
    Err(if root.is_dir() {
        failure.hint(format!(
            "where the folder that is in its place is there on purpose: keepshare set mirror {name} --new-source"
        ))
    } else {
        failure.hint(format!("put {} back, and all of it is compared", root.display()))
    })
}

/// Returns the files that are open for writing, as they are shown.
fn swept(source: &SourceStatus) -> Option<SweptStatus> {
    let Swept { files, ago } = source.swept;
    (files > 0).then_some(SweptStatus { files, seconds: ago.as_secs() })
}

/// Returns where others write to the source, as it is shown.
fn shared(source: &SourceStatus) -> Option<SharedStatus> {
    let shared = source.shared?;
    let seconds = shared.rescan_every.as_secs();
    Some(SharedStatus { file_system: shared.name.to_owned(), scan_every_seconds: seconds })
}

fn cannot_replicate(root: &Path, error: SourceError) -> Failure {
    let code = match &error {
        SourceError::Root { .. } => Code::Refused,
        _ => Code::Failed,
    };
    let is_journal = matches!(
        error,
        SourceError::Journal(_) | SourceError::Damaged(_) | SourceError::DamagedChange(_)
    );
    let failure =
        Failure::because(code, error).context(format!("cannot replicate {}", root.display()));
    let failure = match () {
        () if failure.is_no_space() => failure
            .hint_if_none("make space where the station keeps its state: it goes on by itself"),
        () if is_journal => failure.hint_if_none(database::JOURNAL_HINT),
        () => failure,
    };
    failure.hint_if_none(match code {
        Code::Refused => {
            "name a folder outside of every station's state, that this station can read"
        }
        _ => "the station's log says more",
    })
}

fn destination_status(
    (to, may): (&StationName, May),
    shown: &Shipping,
    head: Head,
    health: &SetHealth,
    lag: Option<Lag>,
    gone: bool,
) -> DestinationStatus {
    let acked = health::acked_of(shown, head);
    let link = health::link(shown);
    let connected = link.is_connected() && !gone;
    let mirror = shown.mirror.map(|mirror| mirror.bytes_total.saturating_sub(mirror.bytes_done));
    DestinationStatus {
        station: to.to_string(),
        health: HealthStatus::from(health),
        connected,
        acknowledged: acked.map(|acked| acked.0),
        lag_changes: head.seq.0.saturating_sub(acked.map_or(0, |acked| acked.0)),
        lag_bytes: mirror.or(lag.map(|lag| lag.bytes)),
        lag_seconds: lag.map(|Lag { since, .. }| {
            since.map_or(0, |since| seconds(clock::now().micros_since(since)))
        }),
        away_seconds: shown.away_since.filter(|_| !connected).map(seconds_since),
        sent_bytes: shown.counts.sent_bytes,
        received_bytes: shown.counts.received_bytes,
        error: link.error().map(ToOwned::to_owned),
        may_order: (may != May::default()).then(|| may.word().to_owned()),
    }
}

/// Returns whole seconds; none of them where a clock went back.
fn seconds(micros: i64) -> u64 {
    u64::try_from(micros).unwrap_or(0) / 1_000_000
}

#[cfg(test)]
mod tests {
    use keepshare_base::{Epoch, RunningHash, health::State};
    use keepshare_proto::{Place, Text, shipper::Doing};

    use super::*;

    const HEAD: Head = Head { epoch: Epoch::FIRST, seq: Seq(7), running: RunningHash::EMPTY };

    /// Who reads that a station is behind wants to know by how much, since when, and why.
    #[test]
    fn lag_is_told_in_bytes_and_seconds_and_with_its_cause() {
        let (to, source) = ("store".parse().unwrap(), SourceStatus::default());
        let seen = Seen { kept: true, ..Seen::default() };
        let status = |shown: &Shipping, lag| {
            let health = health::health(shown, HEAD, &source, seen);
            destination_status((&to, May::default()), shown, HEAD, &health, lag, false)
        };
        let Head { epoch, seq, running } = HEAD;
        let following = Shipping {
            doing: Some(Doing::Following),
            acked: Some(Place { epoch, seq, running }),
            live: Some((epoch, seq)),
            ..Shipping::default()
        };
        let well = status(&following, Some(Lag::default()));
        assert_eq!((well.lag_changes, well.lag_bytes, well.lag_seconds), (0, Some(0), Some(0)));
        assert_eq!((well.health.cause, well.away_seconds), (None, None));
        let since = Some(clock::now().plus_micros(-90_500_000));
        let away = Shipping {
            doing: Some(Doing::Away),
            acked: Some(Place { epoch, seq: Seq(2), running }),
            error: Some("no route".into()),
            away_since: Some(keepshare_replication::clock::mono()),
            ..following.clone()
        };
        let lagging = status(&away, Some(Lag { bytes: 4096, since }));
        assert_eq!((lagging.lag_changes, lagging.lag_bytes), (5, Some(4096)));
        assert!(lagging.lag_seconds >= Some(90), "{lagging:?}");
        let unread = status(&away, None);
        assert_eq!((unread.lag_changes, unread.lag_bytes, unread.lag_seconds), (5, None, None));
        assert_eq!(lagging.health.state, State::Queued);
        assert_eq!(lagging.health.cause.as_deref(), Some("no route"));
        assert_eq!((lagging.error.as_deref(), lagging.connected), (Some("no route"), false));
        assert_eq!(lagging.away_seconds, Some(0));
        let full = Shipping { doing: Some(Doing::Waiting(Text::new("disk full"))), ..following };
        let full = status(&full, Some(Lag::default()));
        assert_eq!(full.health.cause.as_deref(), Some("disk full"));
    }

    /// A mirror that is asked for and cannot be must not look like one that is under way.
    #[test]
    fn a_source_that_is_gone_is_not_mirrored() {
        let (name, dir) = ("work".parse().unwrap(), tempfile::tempdir().unwrap());
        assert!(refuse_vanished(&name, dir.path(), &[]).is_ok());
        let alarms = [SourceAlarm::Vanished("another folder is there".to_owned())];
        let refused = refuse_vanished(&name, dir.path(), &alarms).unwrap_err();
        assert_eq!(refused.code, Code::Refused);
        assert!(refused.to_string().contains("another folder is there"), "{refused}");
        assert!(refused.hint.unwrap().ends_with("keepshare set mirror work --new-source"));
        let refused = refuse_vanished(&name, &dir.path().join("gone"), &alarms).unwrap_err();
        assert!(!refused.hint.unwrap().contains("--new-source"));
    }
}
