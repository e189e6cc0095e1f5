//! The single writer of a set.
//!
//! A change is checked against the set as it will be with all that is pending, its content goes to the packs, its rows
//! into one record of the log and into the index's pending write. [`Store::sync`] makes packs and log durable and only
//! then shows the rows, so that no reader ever sees what a crash could take back.

mod clocks;
mod forgetting;
mod frames;
mod maintain;
mod open;
mod open_states;
mod plan;
mod points;
mod removal;
mod scrubbing;

use std::sync::Arc;

use keepshare_base::{CommitId, Epoch, OriginId, Position, Seq, Stamp};

use crate::{
    CommitError, OriginState, Reader, Refusal, StoreError,
    check::Incoming,
    checked::CheckedDb,
    disk::{Disk, RESERVE_BYTES},
    index::{
        IndexError, WriteRows,
        apply::{Source, apply},
        commits,
        values::set_log_position,
    },
    log::{Log, LogPosition},
    moment::{Arrival, Clock, ClockAlarm, Told},
    pack::PackWriter,
    reader::Shared,
    record::{RECORD_BYTES_MAX, Row, encode, packed},
};

pub(crate) use maintain::{LOCATED, location};
pub(crate) use open::INDEX;
pub use points::{Held, POINTS_IN_ALL_MAX, POINTS_MAX, among_last};
pub(crate) use scrubbing::Holder;

use frames::Frames;
use maintain::Housekeeping;
use plan::PlanError;

pub use removal::ASIDE_MICROS;

/// How many bytes of records and content may wait for a sync; beyond it a change syncs first.
const PENDING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How much must be free for the index to be made durable, in bytes; the log is meanwhile.
const FLUSH_BYTES_MIN: u64 = 1024 * 1024;

/// So many commits may those be behind who follow a set: what was before is forgotten, and they hear that everything may differ.
pub(crate) const FOLLOWED_COMMITS_MAX: u64 = 20_000;

/// The single writer of a set.
#[derive(Debug)]
pub struct Store {
    disk: Arc<dyn Disk>,
    options: StoreOptions,
    shared: Arc<Shared>,
    /// The rows that are not shown yet. Before the database, which must outlive it.
    pending: Option<Pending>,
    database: Arc<CheckedDb>,
    log: Log,
    packs: PackWriter,
    /// How much content was appended since the last sync, in bytes.
    unsynced_bytes: usize,
    clock: Clock,
    clock_alarm: Option<ClockAlarm>,
    /// The running time as it was told last, in microseconds.
    now_micros: u64,
    live: CommitId,
    /// Through which commit those who follow the set looked; the last one there can be where nobody follows.
    followed: CommitId,
    /// Where log and live tree were at the last flush.
    flushed: Option<(LogPosition, CommitId)>,
    housekeeping: Housekeeping,
    /// The running time at which a point ends next; `None`: it is to be looked for.
    next_end: Option<u64>,
    /// The index failed and must be built anew.
    broken: bool,
    poisoned: bool,
}

/// What a store can be told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoreOptions {
    /// How much memory the index may use to keep pages, in bytes.
    pub cache_bytes: usize,
    /// No change is taken when less than this is free on the disk, so that removal can always work.
    pub reserve_bytes: u64,
    /// A log shorter than this is not written anew, in bytes.
    pub log_bytes_min: u64,
    /// So many versions are let go of before it is looked for their rows, whatever the log is; [`u64::MAX`]: it is never looked.
    pub let_go_min: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 64 * 1024 * 1024,
            reserve_bytes: 64 * 1024 * 1024,
            log_bytes_min: 32 * 1024 * 1024,
            let_go_min: 4096,
        }
    }
}

/// What opening a set found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct OpenReport {
    /// The newest commit.
    pub latest: CommitId,
    /// How many entries of the log were replayed into the index.
    pub replayed: u64,
    /// Why the index was built anew, where it was.
    pub rebuilt: Option<String>,
    /// How many bytes of a torn tail were cut from the log; they were never acknowledged.
    pub torn_bytes: u64,
}

/// Which space a record may take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Room {
    /// What is free beyond the reserve.
    BeyondReserve,
    /// The reserve too: it makes room, or is short and must be.
    Reserve,
}

/// How the index was brought back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Renewed {
    /// Its file was opened anew.
    Opened,
    /// It was built from the log.
    Built,
}

/// The index's pending write.
struct Pending(redb::WriteTransaction);

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pending")
    }
}

impl Store {
    /// Opens a set, and makes it where there is none: replays what the index lacks, or builds it anew.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: StoreOptions,
    ) -> Result<(Self, OpenReport), StoreError> {
        open::open(disk, options)
    }

    /// Returns a reader of this set.
    pub fn reader(&self) -> Reader {
        Reader::new(self.shared.clone())
    }

    /// Returns the newest commit taken in, durable or not.
    pub fn latest(&self) -> CommitId {
        self.log.position().commit
    }

    /// Takes a change in, after all that are pending. It is durable and visible after the next [`Self::sync`].
    ///
    /// A refused change leaves no trace.
    pub fn commit(
        &mut self,
        arrival: impl Into<Arrival>,
        incoming: &Incoming,
    ) -> Result<CommitId, CommitError> {
        self.check_writable(Room::BeyondReserve)?;
        let at = self.latest().next();
        let arrival = arrival.into();
        let told = self.clock.tell(&arrival);
        let rows = match self.plan(at, &told, incoming) {
            Err(PlanError::Index(_)) => {
                self.mend_index()?;
                self.plan(at, &told, incoming)?
            }
            planned => planned?,
        };
        self.append(at, &rows)?;
        if incoming.filled.change.point.is_some() {
            self.next_end = None;
        }
        let alarm = self.clock.advance(&arrival, &told);
        self.now_micros = told.running_micros;
        self.clock_alarm = alarm.or(self.clock_alarm);
        Ok(at)
    }

    /// Refuses all epochs of `origin` below `epoch` from now on.
    ///
    /// It is short and may use the disk's reserve: nobody should hear an agreement taken back because a disk is full.
    pub fn fence(
        &mut self,
        arrival: Stamp,
        origin: OriginId,
        epoch: Epoch,
    ) -> Result<CommitId, CommitError> {
        self.check_writable(Room::Reserve)?;
        let at = self.latest().next();
        let before = self.asked(|rows| commits::place(rows, origin))?;
        let before =
            before.unwrap_or(OriginState { last: None, fence: Epoch::FIRST, mirror: None });
        if !epoch.may_follow(before.fence) {
            let got = Position { origin, epoch, seq: Seq(0) };
            return Err(Refusal::Beyond { got, fence: before.fence }.into());
        }
        let place = OriginState { fence: before.fence.max(epoch), ..before };
        self.append(at, &[Row::Place { origin, place }, Row::Clock { arrival }])?;
        self.clock_alarm = self.clock.note(arrival).or(self.clock_alarm);
        Ok(at)
    }

    /// Makes everything taken in durable and then visible; returns the newest commit.
    ///
    /// After [`StoreError::Full`] nothing is lost: the same call may be made again. After any other error of log or
    /// packs the set must be opened again.
    pub fn sync(&mut self) -> Result<CommitId, StoreError> {
        self.check_poison()?;
        let latest = self.latest();
        if self.log.durable() < latest {
            let synced = self.packs.sync().map_err(StoreError::from);
            let synced = synced.and_then(|()| self.log.sync().map_err(StoreError::from));
            self.poison_on_failure(synced)?;
        }
        if self.pending.is_some() && !self.is_broken() {
            self.broken |= self.show(latest).is_err();
        }
        if self.is_broken() {
            self.mend_index()?;
        }
        self.unsynced_bytes = 0;
        Ok(latest)
    }

    /// Makes the index durable, so that less has to be replayed; call it about once a second, with nothing new too: it
    /// is where an index that a reader found damaged is mended.
    pub fn flush(&mut self) -> Result<(), StoreError> {
        self.sync()?;
        let floor = CommitId(self.latest().0.saturating_sub(FOLLOWED_COMMITS_MAX));
        let done = self.live.min(self.followed.max(floor));
        let here = (self.log.position(), done);
        if self.flushed == Some(here) && !self.is_broken() {
            return Ok(());
        }
        self.keep_reserve();
        // redb gives nothing more after a write that does not fit; the log has everything.
        if self.disk.free_bytes()? < self.options.reserve_bytes.min(FLUSH_BYTES_MIN) {
            return Err(StoreError::Full);
        }
        let flushed =
            self.in_write(redb::Durability::Immediate, |rows| maintain::forget_touched(rows, done));
        if flushed.is_err() {
            self.mend_index()?;
        }
        self.flushed = Some(here);
        self.log.mark();
        let written = self.log.write().map_err(StoreError::from);
        self.poison_on_failure(written)
    }

    /// Says that the live tree holds everything through this commit, so that what they touched can be forgotten.
    pub fn set_live(&mut self, through: CommitId) {
        self.live = self.live.max(through);
        if self.live >= self.latest() {
            self.packs.forget_fresh();
        }
    }

    /// Says that those who follow the set looked through this commit. Until somebody says so nobody follows; from then on what
    /// commits touched is remembered for them, too, but no further back than `FOLLOWED_COMMITS_MAX`.
    pub fn set_followed(&mut self, through: CommitId) {
        self.followed = through;
    }

    /// Returns what a person should know of clocks, as it was noticed since the last call.
    pub fn take_clock_alarm(&mut self) -> Option<ClockAlarm> {
        self.clock_alarm.take()
    }

    fn plan(
        &mut self,
        at: CommitId,
        told: &Told,
        incoming: &Incoming,
    ) -> Result<Vec<Row>, PlanError> {
        self.begin()?;
        let Self { pending, packs, unsynced_bytes, shared, database, .. } = self;
        let Pending(txn) = pending.as_ref().expect("it was begun just now");
        let mut frames = Frames { packs, unsynced_bytes, written: &shared.packs };
        let planned = database
            .contain(|_| plan::change(&WriteRows::new(txn), &mut frames, at, told, incoming));
        planned.map_err(IndexError::from)?
    }

    /// Asks the index as it is with all that is pending; builds it anew where it fails.
    fn asked<T>(
        &mut self,
        question: impl Fn(&WriteRows<'_>) -> Result<T, IndexError>,
    ) -> Result<T, StoreError> {
        match self.ask_once(&question) {
            Ok(answer) => Ok(answer),
            Err(_) => {
                self.mend_index()?;
                Ok(self.ask_once(&question)?)
            }
        }
    }

    fn ask_once<T>(
        &mut self,
        question: impl Fn(&WriteRows<'_>) -> Result<T, IndexError>,
    ) -> Result<T, IndexError> {
        self.begin()?;
        let Pending(txn) = self.pending.as_ref().expect("it was begun just now");
        self.database.contain(|_| question(&WriteRows::new(txn)))?
    }

    /// Adds a record to the log and its rows to the pending write.
    fn append(&mut self, at: CommitId, rows: &[Row]) -> Result<(), CommitError> {
        let body = encode(rows);
        if body.len() > RECORD_BYTES_MAX {
            let (got, limit) = (body.len(), RECORD_BYTES_MAX);
            return Err(Refusal::TooLarge { got, limit }.into());
        }
        let raw_bytes = body.len();
        let body = packed(body);
        self.log.append(at, &body).map_err(StoreError::from)?;
        // The rows that wait for the index are as long as they were.
        self.unsynced_bytes += raw_bytes - body.len();
        // From here on the record is the truth: an index that fails to take it is built from the log.
        self.broken |= self.apply(at, rows).is_err();
        Ok(())
    }

    fn apply(&mut self, at: CommitId, rows: &[Row]) -> Result<(), IndexError> {
        self.begin()?;
        let Pending(txn) = self.pending.as_ref().expect("it was begun just now");
        let work = |_: &redb::Database| apply(&mut WriteRows::new(txn), Source::Record(at), rows);
        self.database.contain(work)?
    }

    /// Begins the pending write where there is none.
    fn begin(&mut self) -> Result<(), IndexError> {
        if self.pending.is_none() {
            self.pending = Some(begin_write(&self.database, redb::Durability::None)?);
        }
        Ok(())
    }

    /// Shows the pending rows.
    fn show(&mut self, latest: CommitId) -> Result<(), IndexError> {
        let Some(Pending(txn)) = self.pending.take() else { return Ok(()) };
        let position = self.log.position();
        assert!(position.commit == latest, "the log is at {}, not {latest}", position.commit);
        self.database.contain(move |_| {
            set_log_position(&mut WriteRows::new(&txn), &position)?;
            Ok(txn.commit()?)
        })?
    }

    /// Does work in a write of its own; nothing is pending then.
    fn in_write<T>(
        &mut self,
        durability: redb::Durability,
        work: impl FnOnce(&mut WriteRows<'_>) -> Result<T, IndexError>,
    ) -> Result<T, IndexError> {
        let position = self.log.position();
        let Pending(txn) = begin_write(&self.database, durability)?;
        self.database.contain(move |_| {
            let mut rows = WriteRows::new(&txn);
            let done = work(&mut rows)?;
            set_log_position(&mut rows, &position)?;
            drop(rows);
            txn.commit()?;
            Ok(done)
        })?
    }

    /// Brings an index that failed back, with everything taken in, and shows it: opened anew where the disk failed, built
    /// from the log where it is damaged, or where that does not help.
    fn mend_index(&mut self) -> Result<(), StoreError> {
        let damage = self.database.damage();
        let reopens = damage.disk_error().is_some() && !damage.met();
        self.renew(reopens).map(drop)
    }

    /// Opens the index anew where `reopens` says that this may help, or builds it, and tells which.
    fn renew(&mut self, reopens: bool) -> Result<Renewed, StoreError> {
        self.broken = true;
        if let Some(Pending(txn)) = self.pending.take() {
            // A failed index may not even let go in peace.
            let _ = self.database.contain(move |_| drop(txn));
        }
        let synced = self.packs.sync().map_err(StoreError::from);
        let synced = synced.and_then(|()| self.log.sync().map_err(StoreError::from));
        self.poison_on_failure(synced)?;
        let log_is_damaged = self.housekeeping.log_is_damaged;
        self.housekeeping = Housekeeping::default();
        self.housekeeping.log_is_damaged = log_is_damaged;
        self.database.retire();
        let reopened =
            if reopens { open::reopen(&self.disk, &self.options, &self.log)? } else { None };
        let (database, renewed) = match reopened {
            Some(database) => (database, Renewed::Opened),
            None => (open::build(&self.disk, &self.options, &self.log)?, Renewed::Built),
        };
        tracing::warn!(commit = %self.latest(), ?renewed, "the index was brought back from disk or log");
        self.database = database;
        self.shared.set_database(self.database.clone());
        self.unsynced_bytes = 0;
        self.broken = false;
        Ok(renewed)
    }

    fn is_broken(&self) -> bool {
        self.broken || self.database.damage().failed()
    }

    fn check_poison(&self) -> Result<(), StoreError> {
        if self.poisoned { Err(StoreError::Poisoned) } else { Ok(()) }
    }

    fn check_writable(&mut self, room: Room) -> Result<(), CommitError> {
        self.check_poison()?;
        if room == Room::Reserve {
            self.keep_reserve();
        }
        if self.is_broken() {
            self.mend_index()?;
        }
        if self.log.buffered_bytes() + self.unsynced_bytes > PENDING_BYTES_MAX {
            self.sync()?;
        }
        let free = self.disk.free_bytes().map_err(StoreError::from)?;
        let is_full = room == Room::BeyondReserve && free < self.options.reserve_bytes;
        if is_full { Err(CommitError::Full) } else { Ok(()) }
    }

    fn poison_on_failure(&mut self, result: Result<(), StoreError>) -> Result<(), StoreError> {
        if let Err(error) = &result {
            self.poisoned |= !matches!(error, StoreError::Full);
        }
        result
    }

    /// Gives the disk's reserve free where the index could not be written else, and takes it back.
    fn keep_reserve(&self) {
        let Ok(free) = self.disk.free_bytes() else { return };
        let kept = if free < self.options.reserve_bytes.min(RESERVE_BYTES) {
            self.disk.release_reserve().map(drop)
        } else if free > self.options.reserve_bytes.saturating_add(2 * RESERVE_BYTES) {
            self.disk.hold_reserve()
        } else {
            Ok(())
        };
        if let Err(error) = kept {
            tracing::debug!(%error, "the disk's reserve stays as it is");
        }
    }
}

/// Begins a write.
fn begin_write(database: &CheckedDb, durability: redb::Durability) -> Result<Pending, IndexError> {
    let begin = |database: &redb::Database| {
        let mut txn = database.begin_write()?;
        txn.set_durability(durability)?;
        txn.set_quick_repair(matches!(durability, redb::Durability::Immediate));
        Ok::<_, IndexError>(Pending(txn))
    };
    database.contain(begin)?
}
