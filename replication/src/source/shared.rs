//! What the source's thread and its callers share.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    os::fd::OwnedFd,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    time::{Duration, Instant},
};

use keepshare_base::{Epoch, FileId, PointRow, Position, RequestId, Seq};
use keepshare_decide::At;
use keepshare_host::shared::SharedDb;
use tokio::sync::watch;

use super::{
    Head, Listing, PointMade, RestoreAnswer, RestoreRequest, SourceAlarm, SourceConfig,
    SourceError, SourceStatus,
    filling::Filled,
    ledger::Snapshot,
    payloads::Payloads,
    sweep::Sweep,
    tree::Tree,
    writing::{LookedAgain, Wrote},
};

/// Shared by everyone who works for one source.
#[derive(Debug)]
pub(crate) struct Shared {
    /// As it was opened.
    pub(crate) config: SourceConfig,
    database: Mutex<Option<SharedDb>>,
    /// The last durable change.
    pub(crate) head: watch::Sender<Head>,
    /// Content of changes.
    pub(crate) payloads: Mutex<Payloads>,
    /// What every destination has.
    pub(crate) acks: Mutex<Acks>,
    /// For whoever asks.
    pub(crate) status: Mutex<SourceStatus>,
    /// What could not be looked at, and may be there for all we know.
    pub(crate) unseen: Mutex<Unseen>,
    /// Files that are asked about whether somebody has them open.
    pub(crate) sweep: Mutex<Sweep>,
    /// The folder, while it is there.
    pub(crate) tree: Mutex<Option<Arc<Tree>>>,
    phase: Mutex<Phase>,
    phase_changed: Condvar,
    requests: Mutex<Vec<Request>>,
    wake: OwnedFd,
}

/// What of the folder may be there though the map does not have it.
#[derive(Clone, Debug)]
pub(crate) enum Unseen {
    /// Nobody has gone through the folder since it was opened: anything.
    NotYetKnown,
    /// These places.
    Places(Arc<HashSet<At>>),
    /// More than are remembered: anything.
    TooMany,
}

/// How far the source's thread is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Phase {
    /// The folder is being opened, or the first scan runs.
    Scanning,
    /// Everything is known.
    Running,
    /// It has ended.
    Ended,
}

/// How long a mirror waits for the folder to be gone through.
const LOOKED_PATIENCE: Duration = Duration::from_secs(20);

/// What every destination has.
#[derive(Debug)]
pub(crate) struct Acks {
    /// Of which epoch.
    pub(crate) epoch: Epoch,
    /// By destination.
    pub(crate) through: BTreeMap<String, Seq>,
    /// Not yet in the journal.
    pub(crate) changed: BTreeMap<String, Seq>,
}

/// What callers ask of the source's thread.
#[derive(Debug)]
pub(crate) enum Request {
    /// What destinations have of these files after these changes cannot be relied on: send them whole.
    Forget(Vec<(FileId, Seq)>, Reply<()>),
    /// Compare everything.
    Rescan,
    /// Look at these files; compare their content, whatever their times say, where that is asked for.
    Compare(Vec<(FileId, bool)>),
    /// Answer when all that was noticed until now is examined.
    Settled(Reply<()>),
    /// Make a point, for so many microseconds, when all that was done until now is examined.
    Point(PointRow, Reply<PointMade>),
    /// Journal what is said of a point.
    OfPoint(PointRow, Reply<Position>),
    /// The files that are open were looked at for this question and all before it.
    Swept(u64),
    /// Write a version back.
    Restore(Box<RestoreRequest>, Reply<RestoreAnswer>),
    /// The content of a restore is written beside, or is what is there already.
    Wrote(RequestId, u64, io::Result<Wrote>),
    /// A restore was written into the file that was there, or was not.
    Filled(RequestId, u64, io::Result<Filled>),
    /// The folder of a restore is on disk.
    Synced(RequestId, io::Result<()>),
    /// What a restore replaced was looked at again.
    Looked(LookedAgain),
    /// That these files are gone from the private folder is on disk.
    Gone(Vec<String>, io::Result<()>),
    /// Journal that a mirror begins, and give what there is at that place.
    Mirror(Reply<Snapshot>),
    /// Begin an epoch.
    NewEpoch(Epoch, Option<Box<Listing>>, Reply<Head>),
    /// Take the folder that is there for the source.
    AcceptRoot(Epoch, Reply<Head>),
    /// End.
    Shutdown,
}

/// Where an answer goes.
pub(crate) type Reply<T> = mpsc::SyncSender<Result<T, SourceError>>;

impl Shared {
    /// Puts together what is shared.
    pub(crate) fn new(
        config: SourceConfig,
        database: SharedDb,
        head: Head,
        payloads: Payloads,
        acks: BTreeMap<String, Seq>,
    ) -> std::io::Result<Self> {
        let flags = rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK;
        Ok(Self {
            config,
            database: Mutex::new(Some(database)),
            head: watch::channel(head).0,
            payloads: Mutex::new(payloads),
            acks: Mutex::new(Acks { epoch: head.epoch, through: acks, changed: BTreeMap::new() }),
            status: Mutex::default(),
            unseen: Mutex::new(Unseen::NotYetKnown),
            phase: Mutex::new(Phase::Scanning),
            phase_changed: Condvar::new(),
            sweep: Mutex::default(),
            tree: Mutex::default(),
            requests: Mutex::default(),
            wake: rustix::event::eventfd(0, flags)?,
        })
    }

    /// Asks something of the source's thread. When that has ended, whoever waits for an answer hears so.
    pub(crate) fn request(&self, request: Request) {
        let mut requests = lock(&self.requests);
        // Under the same lock as the end takes what was asked: nothing is left behind that nobody answers.
        if !self.has_ended() {
            requests.push(request);
            drop(requests);
            self.wake_up();
        }
    }

    /// Has the source's thread look for what there is to do.
    pub(crate) fn wake_up(&self) {
        // A full counter wakes as well.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// Asks something of the source's thread and waits for the answer.
    pub(crate) fn ask<T>(
        &self,
        request: impl FnOnce(Reply<T>) -> Request,
    ) -> Result<T, SourceError> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.request(request(reply));
        answer.recv().unwrap_or(Err(SourceError::Closed))
    }

    /// Tells whether the thread has ended.
    pub(crate) fn has_ended(&self) -> bool {
        *lock(&self.phase) == Phase::Ended
    }

    /// Returns the database, for snapshots.
    pub(crate) fn database(&self) -> Result<SharedDb, SourceError> {
        lock(&self.database).clone().ok_or(SourceError::Closed)
    }

    /// Shows something that a person must look at.
    pub(crate) fn alarm(&self, alarm: SourceAlarm) {
        let mut status = lock(&self.status);
        if !status.alarms.contains(&alarm) {
            tracing::error!(set = %self.config.set, ?alarm, "the source needs someone");
            // Why it is gone may change; that it is gone is said once.
            let is_gone = |alarm: &SourceAlarm| matches!(alarm, SourceAlarm::Vanished(_));
            status.alarms.retain(|known| !is_gone(known) || !is_gone(&alarm));
            status.alarms.push(alarm);
        }
    }

    /// Says that the thread has ended, and lets go of the database, so that it can be opened again.
    pub(crate) fn end(&self) {
        *lock(&self.database) = None;
        self.set_phase(Phase::Ended);
        // Whoever asked too late gets no answer, which they take for closed.
        drop(self.take_requests());
    }

    /// Shows how far the thread is.
    pub(crate) fn set_phase(&self, phase: Phase) {
        *lock(&self.phase) = phase;
        self.phase_changed.notify_all();
    }

    /// Waits until the first scan is done.
    pub(crate) fn wait_scanned(&self) -> Result<(), SourceError> {
        match self.wait_past(&[Phase::Scanning]) {
            Phase::Ended => Err(SourceError::Closed),
            Phase::Scanning | Phase::Running => Ok(()),
        }
    }

    /// Waits until the folder was gone through since it was opened, so that what it does not hold is known. Not for long:
    /// whoever waits for it asks again.
    pub(crate) fn wait_looked(&self) -> Result<(), SourceError> {
        let deadline = Instant::now() + LOOKED_PATIENCE;
        let mut phase = lock(&self.phase);
        while matches!(*lock(&self.unseen), Unseen::NotYetKnown) {
            if *phase == Phase::Ended {
                return Err(SourceError::Closed);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(SourceError::NotLooked);
            }
            let waited = self.phase_changed.wait_timeout(phase, left);
            phase = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    /// Waits until the thread has ended.
    pub(crate) fn wait_ended(&self) {
        self.wait_past(&[Phase::Scanning, Phase::Running]);
    }

    fn wait_past(&self, phases: &[Phase]) -> Phase {
        let wait = self.phase_changed.wait_while(lock(&self.phase), |phase| phases.contains(phase));
        *wait.unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what was asked.
    pub(crate) fn take_requests(&self) -> Vec<Request> {
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        std::mem::take(&mut *lock(&self.requests))
    }

    /// Becomes readable when something is asked.
    pub(crate) fn wake(&self) -> &OwnedFd {
        &self.wake
    }

    /// Returns the change through which every destination has everything; `None` where there is no destination.
    pub(crate) fn acked_by_all(&self) -> Option<Seq> {
        lock(&self.acks).through.values().min().copied()
    }
}

/// Locks; a thread that panicked while holding the lock left nothing half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{path::Path, thread, time::Duration};

    use keepshare_base::{OriginId, RunningHash};
    use keepshare_proto::cut::CutRule;
    use redb::{Database, backends::InMemoryBackend};

    use super::*;
    use crate::source::{CaptureMode, RestoreTimes, SourceLimits};

    /// Returns a configuration of a source that has everything in one folder.
    fn config(folder: &Path) -> SourceConfig {
        SourceConfig {
            set: "test".parse().unwrap(),
            origin: OriginId(1),
            root: folder.to_owned(),
            spool_dir: folder.to_owned(),
            state_dir: folder.to_owned(),
            capture: CaptureMode::Inotify,
            limits: SourceLimits::default(),
            cut: CutRule::new(300, 3000).unwrap(),
            rescan_every: Duration::from_secs(3600),
            rescan_shared_every: Duration::from_secs(300),
            keep_journals: None,
            restores: RestoreTimes::default(),
        }
    }

    fn shared(folder: &Path, database: SharedDb) -> Shared {
        let config = config(folder);
        let payloads = Payloads::open(&config.set, folder, 0, 0, BTreeMap::new());
        let head = Head { epoch: Epoch::FIRST, seq: Seq(0), running: RunningHash::EMPTY };
        Shared::new(config, database, head, payloads, BTreeMap::new()).unwrap()
    }

    /// Whoever asks while the source's thread ends hears that it has ended, and waits for nobody.
    #[test]
    fn what_is_asked_at_the_end_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        let database = SharedDb::from(database);
        for round in 0..3000 {
            let shared = Arc::new(shared(folder.path(), database.clone()));
            let (done, ended) = mpsc::channel();
            let asking = Arc::clone(&shared);
            thread::spawn(move || drop(done.send(asking.ask(Request::Settled))));
            for _ in 0..round {
                std::hint::spin_loop();
            }
            shared.end();
            let answer = ended.recv_timeout(Duration::from_secs(60)).expect("nobody answers");
            assert!(matches!(answer, Err(SourceError::Closed)), "{answer:?}");
        }
    }
}
