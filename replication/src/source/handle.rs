//! What callers hold of a source that runs.

use std::{
    fs,
    path::Path,
    sync::{Arc, mpsc},
    thread,
    time::Instant,
};

use keepshare_base::{Epoch, Point, PointRow, Position, RunningHash, Schedule, Seq};
use keepshare_host::{accounts::MachineAccounts, shared::SharedDb};
use tokio::sync::watch;

use super::{
    ChangeSize, Head, JournaledChange, Listing, Mirror, PointMade, RestoreAnswer, RestoreRequest,
    Source, SourceAlarm, SourceConfig, SourceError, SourceStatus, Swept, kept,
    ledger::{Ledger, Snapshot, contained},
    payloads::Payloads,
    provider,
    shared::{Request, Shared, lock},
    tree::Tree,
    worker::Worker,
};

/// A source that runs: clones share it. Its methods block unless they say otherwise.
#[derive(Clone, Debug)]
pub struct SourceHandle {
    shared: Arc<Shared>,
}

impl Source {
    /// Opens the source of a set with its journal, and starts to watch and scan it.
    ///
    /// Returns before the first scan is done; [`SourceHandle::mirror`] waits for it. A folder that is not there, but was
    /// when the journal was written, is an alarm in the status: it may come back.
    pub fn open(
        config: SourceConfig,
        database: impl Into<SharedDb>,
    ) -> Result<SourceHandle, SourceError> {
        Self::open_with(config, database, MachineAccounts::of_this_machine())
    }

    /// Opens the source of a set whose owners are among these accounts; see [`Source::open`].
    pub fn open_with(
        config: SourceConfig,
        database: impl Into<SharedDb>,
        accounts: MachineAccounts,
    ) -> Result<SourceHandle, SourceError> {
        let ledger = Ledger::open(database.into(), config.origin)?;
        refuse_overlap(&config.root, &config.state_dir)?;
        if ledger.state().root == Default::default() {
            Tree::open(&config.root).map_err(|error| SourceError::Root {
                path: config.root.clone(),
                reason: error.to_string(),
            })?;
        }
        if let Some(folder) = &config.keep_journals
            && let Err(error) = kept::forget_unfinished(folder, &config.set)
        {
            tracing::warn!(set = %config.set, %error, "what is left of an ended journal stays");
        }
        let io = |source| {
            let what = format!("cannot prepare {}", config.spool_dir.display());
            SourceError::Io { what, source }
        };
        fs::create_dir_all(&config.spool_dir).map_err(io)?;
        let snapshot = Snapshot::open(&ledger.database())?;
        let limits = &config.limits;
        let payloads = Payloads::open(
            &config.set,
            &config.spool_dir,
            limits.cache_bytes_max,
            limits.spool_bytes_max,
            snapshot.spooled()?,
        );
        let (head, acks) = (ledger.state().head(), snapshot.acks()?);
        let database = ledger.database();
        let set = config.set.clone();
        let shared = Shared::new(config, database, head, payloads, acks);
        let shared = Arc::new(shared.map_err(|source| SourceError::Io {
            what: "cannot make an event descriptor".to_owned(),
            source,
        })?);
        let worker = Worker::new(shared.clone(), ledger, accounts);
        thread::Builder::new()
            .name(format!("source-{set}"))
            .spawn(move || worker.watched())
            .map_err(|source| SourceError::Io {
                what: "cannot start a thread".to_owned(),
                source,
            })?;
        Ok(SourceHandle { shared })
    }
}

impl SourceHandle {
    /// Returns the last journaled change. Does not block.
    pub fn head(&self) -> Head {
        *self.shared.head.borrow()
    }

    /// Returns a watch that changes with the head. Does not block.
    pub fn watch(&self) -> watch::Receiver<Head> {
        self.shared.head.subscribe()
    }

    /// Returns the oldest change that the journal can give with all after it; the one after the head where it is empty.
    /// The running hash of the place right before it is still known.
    pub fn oldest(&self) -> Result<Seq, SourceError> {
        let oldest = self.look(|snapshot| {
            Ok(snapshot.map.oldest()?.unwrap_or(Seq(snapshot.state.head).next()))
        })?;
        // What is damaged, and what is before it, nobody gets any more.
        let damaged = |alarm: &SourceAlarm| match alarm {
            SourceAlarm::Damaged { seq } => Some(seq.next()),
            _ => None,
        };
        let after = lock(&self.shared.status).alarms.iter().filter_map(damaged).max();
        Ok(after.map_or(oldest, |after| after.max(oldest)))
    }

    /// Returns the running hash with change `seq`; `None` where the journal does not know it (any more).
    pub fn running_at(&self, seq: Seq) -> Result<Option<RunningHash>, SourceError> {
        self.look(|snapshot| {
            let state = &snapshot.state;
            if seq.0 == state.head {
                return Ok(Some(RunningHash(state.running)));
            }
            if seq.0 == state.dropped {
                return Ok(Some(RunningHash(state.dropped_running)));
            }
            snapshot.map.running(seq)
        })
    }

    /// Returns how large journaled changes are, from `from` on or the oldest after it, at most so many.
    pub fn sizes(&self, from: Seq, limit: usize) -> Result<Vec<ChangeSize>, SourceError> {
        self.look(|snapshot| snapshot.map.sizes(from, limit))
    }

    /// Returns changes from `from` on, at least one where there is one, until their content passes `bytes_max`.
    ///
    /// Empty when `from` is after the head; [`SourceError::Gone`] when it is before the oldest.
    pub fn entries(&self, from: Seq, bytes_max: u64) -> Result<Vec<JournaledChange>, SourceError> {
        let database = self.shared.database()?;
        let entries = contained(&database, || provider::entries(&self.shared, from, bytes_max));
        entries.inspect_err(|error| {
            if let SourceError::DamagedChange(seq) = error {
                self.shared.alarm(SourceAlarm::Damaged { seq: *seq });
            }
            // A journal that failed is opened anew.
            self.shared.wake_up();
        })
    }

    /// Says that a destination durably has everything through `through`, so that the journal may forget it when all
    /// destinations have it; [`Seq`] 0 makes it known with nothing, and keeps the journal for it. What is said of an
    /// epoch that has passed says nothing. Does not block.
    pub fn acked(&self, destination: &str, epoch: Epoch, through: Seq) {
        let mut acks = lock(&self.shared.acks);
        if acks.epoch != epoch {
            return;
        }
        if acks.through.insert(destination.to_owned(), through) != Some(through) {
            let is_first = acks.changed.is_empty();
            acks.changed.insert(destination.to_owned(), through);
            drop(acks);
            if is_first {
                // It may be idle: what nobody needs any more is dropped soon, not when something happens again.
                self.shared.wake_up();
            }
        }
    }

    /// Returns what a destination was last known to have. Does not block.
    pub fn acked_by(&self, destination: &str) -> Option<Seq> {
        lock(&self.shared.acks).through.get(destination).copied()
    }

    /// Begins a mirror: a view of the set at one place of the journal. Waits for the first scan.
    pub fn mirror(&self) -> Result<Mirror, SourceError> {
        Mirror::begin(self.shared.clone())
    }

    /// Writes a version back onto a live name and journals it. A repeat is answered, never done twice.
    pub fn restore(&self, request: RestoreRequest) -> Result<RestoreAnswer, SourceError> {
        self.shared.ask(|reply| Request::Restore(Box::new(request), reply))
    }

    /// Makes a point of the whole set, for so many microseconds or until it is removed. What was saved before is in it.
    pub fn point(&self, point: Point, lasts_micros: Option<u64>) -> Result<PointMade, SourceError> {
        self.make_point(PointRow::Made { point, lasts_micros })
    }

    /// Makes one of the points that are made every so often.
    pub fn scheduled_point(
        &self,
        point: Point,
        schedule: Schedule,
    ) -> Result<PointMade, SourceError> {
        self.make_point(PointRow::Scheduled { point, schedule })
    }

    fn make_point(&self, row: PointRow) -> Result<PointMade, SourceError> {
        self.shared.ask(|reply| Request::Point(row, reply))
    }

    /// Journals for how long a point is to stay that was made before.
    pub fn of_point(&self, row: PointRow) -> Result<Position, SourceError> {
        self.shared.ask(|reply| Request::OfPoint(row, reply))
    }

    /// Starts a new epoch after `above`, because a station is ahead of this journal or has another.
    ///
    /// `seed` is that station's listing: names keep the files they have there, so that the mirror that follows need not
    /// send what is equal. Everything is scanned again then.
    pub fn new_epoch(&self, above: Epoch, seed: Option<Listing>) -> Result<Head, SourceError> {
        self.shared.ask(|reply| Request::NewEpoch(above, seed.map(Box::new), reply))
    }

    /// Takes the folder that is at the source's path now for the source, after
    /// [`SourceAlarm::Vanished`](super::SourceAlarm::Vanished). Begins a new epoch, after `above`. Where there is no folder
    /// it does nothing.
    pub fn accept_root(&self, above: Epoch) -> Result<Head, SourceError> {
        self.shared.ask(|reply| Request::AcceptRoot(above, reply))
    }

    /// Compares everything with the map, whatever the events said. Does not block.
    pub fn rescan(&self) {
        self.shared.request(Request::Rescan);
    }

    /// Asks whether everything that happened in the folder until now is examined. Does not block; the answer does.
    pub fn ask_settled(&self) -> Settled {
        let (reply, answer) = mpsc::sync_channel(1);
        self.shared.request(Request::Settled(reply));
        Settled(answer)
    }

    /// Returns how the source is.
    pub fn status(&self) -> SourceStatus {
        let mut status = lock(&self.shared.status).clone();
        let (files, ago) = lock(&self.shared.sweep).shown_open(Instant::now());
        status.swept = Swept { files, ago };
        status.files = self.look(|snapshot| snapshot.map.file_count()).unwrap_or(0);
        status
    }

    /// Waits until the first scan is done; `false` when the source ended before.
    pub fn wait_scanned(&self) -> bool {
        self.shared.wait_scanned().is_ok()
    }

    /// Stops, and waits until everything journaled is on disk.
    pub fn shutdown(&self) {
        self.shared.request(Request::Shutdown);
        self.shared.wait_ended();
    }

    /// Reads something from the last durable state. A journal that fails is opened anew.
    fn look<T>(
        &self,
        read: impl FnOnce(&Snapshot) -> Result<T, SourceError>,
    ) -> Result<T, SourceError> {
        let database = self.shared.database()?;
        let looked = contained(&database, || read(&Snapshot::open(&database)?));
        looked.inspect_err(|_| self.shared.wake_up())
    }
}

/// The answer to [`SourceHandle::ask_settled`].
#[derive(Debug)]
pub struct Settled(mpsc::Receiver<Result<(), SourceError>>);

impl Settled {
    /// Waits for the answer until then; `false`: there is more to examine than that, or nobody to do it.
    pub fn wait(self, until: Instant) -> bool {
        let patience = until.saturating_duration_since(Instant::now());
        matches!(self.0.recv_timeout(patience), Ok(Ok(())))
    }
}

/// Refuses a source that holds the state directory, or lies in it: it would replicate its own journal for ever.
fn refuse_overlap(root: &Path, state_dir: &Path) -> Result<(), SourceError> {
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let (source, state) = (real(root), real(state_dir));
    let reason = if state.starts_with(&source) {
        "it contains the state directory"
    } else if source.starts_with(&state) {
        "it lies in the state directory"
    } else {
        return Ok(());
    };
    Err(SourceError::Root { path: root.to_owned(), reason: reason.to_owned() })
}
