//! A set whose users write on this station.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context;
use chrono::Utc;
use chrono_tz::Tz;
use tokio::sync::{Notify, watch};

use keepshare_base::{OriginId, Seq, SetName, StationName};
use keepshare_control::{
    Code, Failure, Outcome,
    answers::{DestinationStatus, SetStatus, SharedStatus, SweptStatus},
    standing::{self, BEHIND, IN_SYNC, arrived, has_arrived, rank},
};
use keepshare_host::clock;
use keepshare_proto::{cut::CutRule, shipper::Doing};
use keepshare_replication::{
    clock::seconds_since,
    drivers::{
        MirrorShown, Peers,
        agreement::Agreement,
        restores::Restores,
        ship::{Ship, Shipping},
    },
    source::{
        CaptureMode, FileProblem, Head, RestoreTimes, Settled, Source, SourceAlarm, SourceConfig,
        SourceError, SourceHandle, SourceLimits, SourceStatus, Swept,
    },
};

use crate::{
    backlog::{Backlog, Lag},
    database, panics,
    schedule::{AlarmClock, Weekly},
    service::{Station, Task},
    state::states_inside,
};

/// A source is compared whole at the latest after this time, should nobody have asked for it.
const RESCAN_EVERY: Duration = Duration::from_secs(8 * 24 * 3600);

/// How often it is looked whether it is time for that: the clock may be set.
const CLOCK_LOOK: Duration = Duration::from_secs(30);

/// How long whoever asks how a set is waits for what was saved a moment ago.
const SETTLE_MAX: Duration = Duration::from_millis(50);

/// A set whose users write on this station.
#[derive(Debug)]
pub(crate) struct Master {
    name: SetName,
    root: PathBuf,
    journal: PathBuf,
    source: SourceHandle,
    destinations: Vec<Destination>,
    agreement: Arc<Agreement>,
    stopping: watch::Receiver<bool>,
}

/// A station that receives the set.
#[derive(Debug)]
struct Destination {
    to: StationName,
    shown: watch::Receiver<Shipping>,
    mirror_wanted: Arc<Notify>,
    backlog: Mutex<Backlog>,
}

/// How far a mirror that somebody asks for may go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum MirrorKind {
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
    /// Opens the journal and begins to watch the folder; returns what ships, too, which the caller runs.
    pub(crate) fn open(
        station: &Arc<Station>,
        name: &SetName,
        root: &Path,
        to: &[StationName],
    ) -> Outcome<(Arc<Self>, Vec<Task>)> {
        let state = &station.state;
        let put_aside = |to: &StationName| {
            Restores::new(state.restores(name).join(to.as_str()))
                .context("cannot prepare for restores")
        };
        // First, as it can fail: a source that is open has a thread, which goes on writing to the journal.
        let restores = to.iter().map(put_aside).collect::<anyhow::Result<Vec<_>>>()?;
        let config = SourceConfig {
            set: name.clone(),
            origin: OriginId::FIRST,
            root: root.to_owned(),
            state_dir: state.root().to_owned(),
            spool_dir: state.spool(name),
            capture: CaptureMode::Auto,
            cut: CutRule::default(),
            limits: SourceLimits::default(),
            rescan_every: RESCAN_EVERY,
            rescan_shared_every: station.config.scans.shared_every,
            keep_journals: Some(state.journals()),
            restores: RestoreTimes::default(),
        };
        let journal = state.journal(name);
        let source = Source::open(config, database::open_journal(&journal)?)
            .map_err(|error| cannot_replicate(root, error))?;
        // Known to the journal before anything is written, so that it keeps what they have not got.
        for station in to {
            if source.acked_by(station.as_str()).is_none() {
                source.acked(station.as_str(), source.head().epoch, Seq(0));
            }
        }
        let agreement = Arc::new(Agreement::new(to));
        let mut tasks: Vec<Task> = Vec::new();
        let ship = |(to, restores): (&StationName, Restores)| {
            let mirror_wanted = Arc::new(Notify::new());
            let ship = Ship {
                set: name.clone(),
                origin: OriginId::FIRST,
                to: to.clone(),
                source: source.clone(),
                agreement: Arc::clone(&agreement),
                mirror_wanted: Arc::clone(&mirror_wanted),
                peers: Arc::clone(&station.peers) as Arc<dyn Peers>,
                restores,
                link: station.link_options(),
            };
            let (shown_to, shown) = watch::channel(Shipping::default());
            tasks.push(Box::pin(ship.run(shown_to, station.stopping())));
            Destination { to: to.clone(), shown, mirror_wanted, backlog: Mutex::default() }
        };
        let destinations = to.iter().zip(restores).map(ship).collect();
        let (at, zone) = (station.config.scans.at, station.config.zone);
        tasks.push(Box::pin(scan_at(at, zone, source.clone(), station.stopping())));
        let (name, root, stopping) = (name.clone(), root.to_owned(), station.stopping());
        let master = Self { name, root, journal, source, destinations, agreement, stopping };
        Ok((Arc::new(master), tasks))
    }

    /// Returns the folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns who receives the set.
    pub(crate) fn to(&self) -> impl Iterator<Item = &StationName> {
        self.destinations.iter().map(|destination| &destination.to)
    }

    /// Tells whether there is a link to this station now.
    pub(crate) fn is_connected(&self, to: &StationName) -> bool {
        let mut known = self.destinations.iter().filter(|destination| destination.to == *to);
        known.any(|destination| is_connected(&destination.shown.borrow()))
    }

    /// Asks whether everything that was saved until now is looked at, for [`Self::status_after`].
    pub(crate) fn ask_settled(&self) -> Asked {
        Asked { settled: self.source.ask_settled(), until: Instant::now() + SETTLE_MAX }
    }

    /// Returns how the set is, after a short wait for what was saved a moment ago.
    pub(crate) fn status(&self) -> SetStatus {
        self.status_after(self.ask_settled())
    }

    /// Returns how the set is, true of the moment of the question.
    pub(crate) fn status_after(&self, asked: Asked) -> SetStatus {
        let settled = asked.settled.wait(asked.until);
        let (head, mut source) = (self.source.head(), self.source.status());
        let gone = self.why_gone();
        let unread = gone.is_some() || source.alarms.iter().any(stops_reading);
        if !settled && !unread {
            // Something of before the question may still be unread.
            source.dirty = source.dirty.max(1);
        }
        let of = |Destination { to, shown, backlog, .. }: &Destination| {
            // A loop ends with the station and never before: what it showed last is not how it is.
            let gone = shown.has_changed().is_err() && !*self.stopping.borrow();
            let shown = shown.borrow().clone();
            let lag = self.lag(backlog, &shown, head);
            destination_status(to, &shown, head, &source, lag, (unread, gone))
        };
        let destinations: Vec<DestinationStatus> = self.destinations.iter().map(of).collect();
        let alarms: Vec<String> = gone.into_iter().chain(alarms(&source)).collect();
        let shipping = self.destinations.iter().flat_map(|Destination { to, shown, .. }| {
            let alarms = shown.borrow().alarms.clone();
            alarms.into_iter().map(move |alarm| format!("{to}: {alarm}"))
        });
        let state = match alarms.first() {
            Some(alarm) => format!("alarm: {alarm}"),
            None => worst(&destinations),
        };
        let alarms: Vec<String> =
            alarms.into_iter().chain(shipping).chain(states_in(&self.root)).collect();
        let still_open = source.still_open.iter().map(|path| {
            format!("{path}: what a restore replaced is still open by a writer; what that writes becomes a version")
        });
        let torn = source.torn.iter().map(|path| {
            format!(
                "{path}: half of one version and half of another, because a restore was cut off while it was written; \
                 restore it again"
            )
        });
        let problems = alarms.iter().cloned().chain(source_problems(&source));
        let problems = problems.chain(torn).chain(still_open).collect();
        SetStatus {
            name: self.name.to_string(),
            role: "master".to_owned(),
            state,
            source: Some(self.root.clone()),
            live: None,
            head: Some(head.seq.0),
            durable: None,
            commit: None,
            live_commit: None,
            destinations,
            from: None,
            swept: swept(&source),
            shared: shared(&source),
            incomplete: source.problem_count,
            away_seconds: None,
            problems,
            alarms,
        }
    }

    /// Returns how far a destination is behind, where the journal can be read.
    fn lag(&self, backlog: &Mutex<Backlog>, shown: &Shipping, head: Head) -> Option<Lag> {
        let acked = acked_of(shown, head).unwrap_or(Seq(0));
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
    fn why_gone(&self) -> Option<String> {
        let name = format!("source-{}", self.name);
        let why = panics::of(|thread| thread == name)?;
        Some(format!("the source's thread is gone, start the station anew: {why}"))
    }

    /// Has one destination mirrored, or all. A mirror in a new epoch is one of all. Blocks.
    pub(crate) fn mirror(&self, to: Option<&StationName>, kind: MirrorKind) -> Outcome<()> {
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
    pub(crate) fn close(&self) {
        // A thread that is gone would never answer; its journal is as durable as after a crash.
        if self.why_gone().is_none() {
            self.source.shutdown();
            database::closed(&self.journal);
        }
    }
}

/// A question whether everything is looked at.
#[derive(Debug)]
pub(crate) struct Asked {
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

/// Has a source compared whole at its times.
async fn scan_at(at: Weekly, zone: Tz, source: SourceHandle, mut stopping: watch::Receiver<bool>) {
    let mut alarm_clock = AlarmClock::new(at, zone, Utc::now());
    loop {
        let left = alarm_clock.left(Utc::now());
        tokio::select! {
            () = tokio::time::sleep(left.min(CLOCK_LOOK)) => {}
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
        if alarm_clock.rings(Utc::now()) {
            source.rescan();
        }
    }
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
    let failure = if is_journal { failure.hint_if_none(database::JOURNAL_HINT) } else { failure };
    failure.hint_if_none(match code {
        Code::Refused => {
            "name a folder outside of every station's state, that this station can read"
        }
        _ => "the station's log says more",
    })
}

fn is_connected(shown: &Shipping) -> bool {
    !matches!(shown.doing, None | Some(Doing::Away))
}

fn destination_status(
    to: &StationName,
    shown: &Shipping,
    head: Head,
    source: &SourceStatus,
    lag: Option<Lag>,
    (unread, gone): (bool, bool),
) -> DestinationStatus {
    let acked = acked_of(shown, head);
    let connected = is_connected(shown) && !gone;
    let state = match destination_state(shown, head, source) {
        _ if shown.stopped.is_some() && !gone => {
            format!("alarm: {}", shown.stopped.as_deref().unwrap_or_default())
        }
        _ if gone => "alarm: nothing is sent any more, start the station anew".to_owned(),
        // What is known has arrived; what there is nobody knows.
        state if unread && has_arrived(&state) => "unverified: the source is not read".to_owned(),
        state => state,
    };
    let error = shown.error.clone().filter(|_| !connected);
    let cause = error.clone().or_else(|| cause(&state, source));
    let mirror = shown.mirror.map(|mirror| mirror.bytes_total.saturating_sub(mirror.bytes_done));
    DestinationStatus {
        station: to.to_string(),
        state,
        connected,
        acknowledged: acked.map(|acked| acked.0),
        lag_changes: head.seq.0.saturating_sub(acked.map_or(0, |acked| acked.0)),
        lag_bytes: mirror.or(lag.map(|lag| lag.bytes)),
        lag_seconds: lag.map(|Lag { since, .. }| {
            since.map_or(0, |since| seconds(clock::now().micros_since(since)))
        }),
        cause,
        away_seconds: shown.away_since.filter(|_| !connected).map(seconds_since),
        sent_bytes: shown.counts.sent_bytes,
        received_bytes: shown.counts.received_bytes,
        error,
    }
}

/// Returns the newest change of this journal that a destination acknowledged.
fn acked_of(shown: &Shipping, head: Head) -> Option<Seq> {
    shown.acked.filter(|acked| acked.epoch == head.epoch).map(|acked| acked.seq)
}

/// Returns why a destination with a link is in this state, where it should be in another.
fn cause(state: &str, source: &SourceStatus) -> Option<String> {
    let why = match standing::split(state) {
        (IN_SYNC, _) => return None,
        (_, Some(why)) => why.to_owned(),
        (BEHIND, None) if source.scanning => "the source is being compared".to_owned(),
        (BEHIND, None) if source.dirty > 0 => {
            format!("{} names of the source are still to be looked at", source.dirty)
        }
        (BEHIND, None) => "changes are on their way".to_owned(),
        (word, None) => word.to_owned(),
    };
    Some(why)
}

/// Returns whole seconds; none of them where a clock went back.
fn seconds(micros: i64) -> u64 {
    u64::try_from(micros).unwrap_or(0) / 1_000_000
}

/// Returns the one word or phrase that tells how a destination is.
fn destination_state(shown: &Shipping, head: Head, source: &SourceStatus) -> String {
    match &shown.doing {
        None | Some(Doing::Away) => "disconnected".to_owned(),
        Some(Doing::Greeting) => "connecting".to_owned(),
        Some(Doing::Waiting(reason)) => format!("waiting: {reason}"),
        Some(Doing::Mirroring(_)) if source.scanning => {
            format!("mirroring, {} found", source.scanned)
        }
        Some(Doing::Mirroring(_)) => match shown.mirror {
            Some(mirror) if mirror.files_total > 0 => {
                format!("mirroring {} %", percent(&mirror))
            }
            _ => "mirroring".to_owned(),
        },
        Some(Doing::Following) => {
            let newest = Some((head.epoch, head.seq));
            let has_all = shown.acked.map(|acked| (acked.epoch, acked.seq)) == newest;
            let all_read = !source.scanning && source.dirty == 0;
            match (has_all && all_read, shown.live == newest) {
                (true, true) => arrived(source.problem_count),
                (true, false) => format!("{BEHIND}: live tree"),
                (false, _) => BEHIND.to_owned(),
            }
        }
    }
}

/// Half by files and half by bytes: many small files take as long as a few large ones.
fn percent(mirror: &MirrorShown) -> u64 {
    let part = |done: u64, total: u64| (done.min(total) * 50).checked_div(total).unwrap_or(50);
    (part(mirror.files_done, mirror.files_total) + part(mirror.bytes_done, mirror.bytes_total))
        .min(99)
}

/// Returns the state of the destination that is worst off.
fn worst(destinations: &[DestinationStatus]) -> String {
    let worst = destinations.iter().max_by_key(|destination| rank(&destination.state));
    worst.map_or_else(|| "no destination".to_owned(), |worst| worst.state.clone())
}

/// Returns which stations have begun to keep their state in the folder.
fn states_in(root: &Path) -> impl Iterator<Item = String> {
    states_inside(root).into_iter().map(|state| {
        let state = state.display();
        format!("a station keeps its state in {state}, which is sent as well: move it elsewhere")
    })
}

/// Tells whether an alarm means that nobody looks at the folder.
fn stops_reading(alarm: &SourceAlarm) -> bool {
    !matches!(alarm, SourceAlarm::Dropped { .. } | SourceAlarm::Damaged { .. })
}

/// Returns what of the folder cannot be replicated.
fn source_problems(source: &SourceStatus) -> Vec<String> {
    let line = |problem: &FileProblem| format!("{}: {}", problem.path, problem.reason);
    let mut lines: Vec<String> = source.problems.iter().map(line).collect();
    let more = source.problem_count.saturating_sub(lines.len() as u64);
    if more > 0 {
        lines.push(format!("{more} more names cannot be replicated"));
    }
    lines
}

fn alarms(source: &SourceStatus) -> Vec<String> {
    let text = |alarm: &SourceAlarm| match alarm {
        SourceAlarm::Vanished(why) => format!(
            "the source folder is gone: {why}; nothing is deleted anywhere. Where a new one is in its place on purpose: \
             keepshare set mirror SET --new-source"
        ),
        SourceAlarm::Journal(why) => format!(
            "the journal cannot be used: {why}; it is tried again, and if that does not help: stop the station, move \
             the set's file out of the folder journal of its state, and start it: everything is compared again"
        ),
        SourceAlarm::Full(why) => {
            format!(
                "the disk of the journal is full, make room there: what is in the source then follows by itself, what was \
                 saved over meanwhile becomes no version: {why}"
            )
        }
        SourceAlarm::Damaged { seq } => {
            format!(
                "change {seq} in the journal is damaged and is not sent; who lacks it is mirrored"
            )
        }
        SourceAlarm::Dropped { through } => {
            format!("changes through {through} were dropped before every station had them")
        }
        _ => "the source needs a person".to_owned(),
    };
    source.alarms.iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use keepshare_base::{Epoch, RunningHash};
    use keepshare_proto::{Place, Text};

    use super::*;

    const HEAD: Head = Head { epoch: Epoch::FIRST, seq: Seq(7), running: RunningHash::EMPTY };

    /// What is shown of a destination that has everything through the head.
    fn following() -> Shipping {
        let Head { epoch, seq, running } = HEAD;
        Shipping {
            doing: Some(Doing::Following),
            acked: Some(Place { epoch, seq, running }),
            live: Some((epoch, seq)),
            ..Shipping::default()
        }
    }

    fn state(shown: &Shipping, source: &SourceStatus) -> String {
        let unread = source.alarms.iter().any(stops_reading);
        let to = "store".parse().unwrap();
        let lag = Some(Lag::default());
        destination_status(&to, shown, HEAD, source, lag, (unread, false)).state
    }

    #[test]
    fn in_sync_is_said_only_of_what_is_equal() {
        let well = SourceStatus::default();
        assert_eq!(state(&following(), &well), "in-sync");
        assert_eq!(state(&following(), &SourceStatus { dirty: 1, ..well.clone() }), "behind");
        assert_eq!(state(&following(), &SourceStatus { scanning: true, ..well.clone() }), "behind");
        let unreadable = SourceStatus { problem_count: 2, ..well.clone() };
        assert_eq!(state(&following(), &unreadable), "incomplete: 2 problems");
        let not_live = Shipping { live: Some((Epoch::FIRST, Seq(6))), ..following() };
        assert_eq!(state(&not_live, &well), "behind: live tree");
        let not_all = Shipping { acked: None, ..following() };
        assert_eq!(state(&not_all, &unreadable), "behind");
    }

    /// What is shown was true once; where nobody looks any more, nobody knows whether it still is.
    #[test]
    fn a_source_that_is_not_read_is_never_in_sync() {
        for alarm in [SourceAlarm::Journal("full".into()), SourceAlarm::Vanished("away".into())] {
            let source = SourceStatus { alarms: vec![alarm], ..SourceStatus::default() };
            assert_eq!(state(&following(), &source), "unverified: the source is not read");
            assert!(alarms(&source)[0].len() > 10);
        }
        let dropped = SourceAlarm::Dropped { through: Seq(3) };
        let source = SourceStatus { alarms: vec![dropped], ..SourceStatus::default() };
        assert_eq!(state(&following(), &source), "in-sync", "it was mirrored since");
        let to = "store".parse().unwrap();
        let source = SourceStatus::default();
        let lag = Some(Lag::default());
        let gone = destination_status(&to, &following(), HEAD, &source, lag, (false, true));
        assert!(gone.state.starts_with("alarm: ") && !gone.connected, "{gone:?}");
    }

    /// Who reads that a station is behind wants to know by how much, since when, and why.
    #[test]
    fn lag_is_told_in_bytes_and_seconds_and_with_its_cause() {
        let (to, source) = ("store".parse().unwrap(), SourceStatus::default());
        let status = |shown: &Shipping, lag| {
            destination_status(&to, shown, HEAD, &source, lag, (false, false))
        };
        let well = status(&following(), Some(Lag::default()));
        assert_eq!((well.lag_changes, well.lag_bytes, well.lag_seconds), (0, Some(0), Some(0)));
        assert_eq!((well.cause, well.away_seconds), (None, None));
        let since = Some(clock::now().plus_micros(-90_500_000));
        let away = Shipping {
            doing: Some(Doing::Away),
            acked: None,
            error: Some("no route".into()),
            away_since: Some(keepshare_replication::clock::mono()),
            ..following()
        };
        let behind = status(&away, Some(Lag { bytes: 4096, since }));
        assert_eq!((behind.lag_changes, behind.lag_bytes), (7, Some(4096)));
        assert!(behind.lag_seconds >= Some(90), "{behind:?}");
        let unread = status(&away, None);
        assert_eq!((unread.lag_changes, unread.lag_bytes, unread.lag_seconds), (7, None, None));
        assert_eq!(behind.cause.as_deref(), Some("no route"));
        assert_eq!(behind.away_seconds, Some(0));
        let full = Shipping { doing: Some(Doing::Waiting(Text::new("disk full"))), ..following() };
        assert_eq!(status(&full, Some(Lag::default())).cause.as_deref(), Some("disk full"));
    }

    /// Ten thousand unreadable files must be counted, and need not be listed.
    #[test]
    fn problems_beyond_those_that_are_named_are_counted() {
        let problem = FileProblem { path: "a/b".into(), reason: "denied".into() };
        let source =
            SourceStatus { problems: vec![problem], problem_count: 10_000, ..Default::default() };
        assert_eq!(
            source_problems(&source),
            ["a/b: denied", "9999 more names cannot be replicated"]
        );
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
