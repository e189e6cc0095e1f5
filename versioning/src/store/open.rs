//! Opening a set: the log decides, the index follows.

use std::{io, ops::Bound, sync::Arc};

use keepshare_base::CommitId;

use crate::{
    StoreError,
    checked::{CheckedDb, open_checked},
    disk::{Disk, RESERVE_BYTES},
    index::{
        FORMAT, IndexError, ReadRows, WriteRows,
        apply::{Source, apply},
        aside, commits,
        values::{clock, log_position, meta, meta_number, set_log_position, set_meta_number},
    },
    log::{Log, LogEntry, LogEntryKind, LogError, LogPosition},
    moment::Clock,
    pack::{self, PackReader, PackWriter},
    reader::Shared,
    record::{self, RecordError, decode, rows_len},
};

use super::{OpenReport, Pending, Store, StoreOptions, begin_write, maintain::Housekeeping};

/// The index's file.
pub(crate) const INDEX: &str = "index.redb";

/// How many bytes of records are applied in one write when the log is replayed.
const REPLAY_BYTES: usize = 8 * 1024 * 1024;

/// Opens a set, and makes it where there is none.
pub(super) fn open(
    disk: Arc<dyn Disk>,
    options: StoreOptions,
) -> Result<(Store, OpenReport), StoreError> {
    let free = disk.free_bytes()?;
    let reserve = if free < options.reserve_bytes.min(RESERVE_BYTES) {
        // What was not durable is replayed, which takes space.
        disk.release_reserve().map(drop)
    } else {
        disk.hold_reserve()
    };
    if let Err(error) = reserve {
        tracing::debug!(%error, "the disk's reserve stays as it is");
    }
    let found = open_index(&disk, &options);
    let known = found.as_ref().ok().map(|(_, position)| *position);
    let reader = PackReader::new(disk.clone());
    let (log, start, end, known, torn_bytes) = match Log::open(disk.clone(), known) {
        Ok((log, found)) => (log, found.start, found.end, found.known, found.torn_bytes),
        Err(LogError::Missing) => {
            let commit = known.map_or(CommitId(0), |known| known.commit);
            if commit > CommitId(0) || !reader.packs()?.is_empty() {
                return Err(StoreError::LogMissing(commit));
            }
            let log = Log::create(disk.clone())?;
            let start = log.position();
            (log, start, start, None, 0)
        }
        Err(error) => return Err(error.into()),
    };
    let mut report = OpenReport { latest: end.commit, torn_bytes, ..OpenReport::default() };
    let caught_up = match (found, known) {
        (Ok((database, _)), Some(from)) => {
            let caught_up = replay(&database, &log, from, end);
            caught_up.map(|replayed| (database, replayed)).map_err(|error| error.to_string())
        }
        (Ok((_, at)), None) => Err(format!("it is at commit {} of another log", at.commit)),
        (Err(reason), _) => Err(reason),
    };
    let database = match caught_up {
        Ok((database, replayed)) => {
            report.replayed = replayed;
            Arc::new(database)
        }
        Err(reason) => {
            if end != start {
                tracing::warn!(%reason, "the index is built anew from the log");
                report.rebuilt = Some(reason);
            }
            let (database, replayed) = build_from(&disk, &options, &log, start, end)?;
            report.replayed = replayed;
            database
        }
    };
    let (clock, floor) = summary(&database)?;
    let packs = PackWriter::open(disk.clone(), floor)?;
    let shared = Arc::new(Shared::new(database.clone(), pack::beside(reader, &packs)));
    let store = Store {
        packs,
        disk,
        options,
        shared,
        pending: None,
        database,
        log,
        unsynced_bytes: 0,
        clock,
        clock_alarm: None,
        now_micros: 0,
        live: CommitId(0),
        followed: CommitId::MAX,
        flushed: None,
        housekeeping: Housekeeping::default(),
        next_end: None,
        broken: false,
        poisoned: false,
    };
    Ok((store, report))
}

/// Builds the index of a whole log anew.
pub(super) fn build(
    disk: &Arc<dyn Disk>,
    options: &StoreOptions,
    log: &Log,
) -> Result<Arc<CheckedDb>, StoreError> {
    let end = log.position();
    let start = LogPosition { generation: end.generation, ..LogPosition::EMPTY };
    // Nobody has read the log since it was opened: where it is damaged, the index may be all that still has its rows.
    log.replay(start).try_for_each(|entry| entry.map(drop))?;
    build_from(disk, options, log, start, end).map(|(database, _)| database)
}

/// Opens the index after an error of the disk, and replays what it lacks; `None` where it is of no use and must be built.
pub(super) fn reopen(
    disk: &Arc<dyn Disk>,
    options: &StoreOptions,
    log: &Log,
) -> Result<Option<Arc<CheckedDb>>, StoreError> {
    let end = log.position();
    let (database, from) = match open_index(disk, options) {
        Ok(found) => found,
        Err(reason) => {
            tracing::warn!(%reason, "the index cannot be opened anew");
            return Ok(None);
        }
    };
    if from.generation != end.generation {
        return Ok(None);
    }
    match replay(&database, log, from, end) {
        Ok(_) => Ok(Some(Arc::new(database))),
        // Nothing would be won by building it on a full disk.
        Err(StoreError::Full) => Err(StoreError::Full),
        Err(StoreError::Index(reason)) => {
            if let Some(error) = database.damage().disk_error() {
                return Err(error.into());
            }
            tracing::warn!(%reason, "the index does not follow the log");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn build_from(
    disk: &Arc<dyn Disk>,
    options: &StoreOptions,
    log: &Log,
    start: LogPosition,
    end: LogPosition,
) -> Result<(Arc<CheckedDb>, u64), StoreError> {
    match disk.remove(INDEX) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let database = open_checked(disk, INDEX, options.cache_bytes).map_err(IndexError::from)?;
    let replayed = replay(&database, log, start, end)?;
    Ok((Arc::new(database), replayed))
}

/// Opens the index and returns where it is in the log, or why it must be built anew.
fn open_index(
    disk: &Arc<dyn Disk>,
    options: &StoreOptions,
) -> Result<(CheckedDb, LogPosition), String> {
    match disk.open(INDEX, false) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err("there is none".into()),
        Err(error) => return Err(error.to_string()),
    }
    let database =
        open_checked(disk, INDEX, options.cache_bytes).map_err(|error| error.to_string())?;
    let read = |database: &redb::Database| {
        let rows = ReadRows::begin(database)?;
        let format = meta_number(&rows, meta::FORMAT)?;
        Ok::<_, IndexError>((format, log_position(&rows)?))
    };
    let read = database.contain(read).map_err(|error| error.to_string())?;
    match read.map_err(|error| error.to_string())? {
        (format, Some(position)) if format == u64::from(FORMAT) => Ok((database, position)),
        (format, Some(_)) => Err(format!("its format is {format}, not {FORMAT}")),
        (_, None) => Err("it was not finished".into()),
    }
}

/// Applies the entries of the log after `from` and returns how many there were.
fn replay(
    database: &CheckedDb,
    log: &Log,
    from: LogPosition,
    end: LogPosition,
) -> Result<u64, StoreError> {
    let mut entries = log.replay(from);
    let mut replayed = 0;
    loop {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while bytes < REPLAY_BYTES
            && let Some(entry) = entries.next().transpose()?
        {
            bytes += rows_len(&entry.body);
            batch.push(entry);
        }
        let done = bytes < REPLAY_BYTES;
        replay_batch(database, &batch, done.then_some(end))?;
        replayed += batch.len() as u64;
        if done {
            return Ok(replayed);
        }
    }
}

fn replay_batch(
    database: &CheckedDb,
    batch: &[LogEntry],
    end: Option<LogPosition>,
) -> Result<(), StoreError> {
    let Pending(txn) = begin_write(database, redb::Durability::Immediate)?;
    let work = move |_: &redb::Database| -> Result<(), StoreError> {
        let mut rows = WriteRows::new(&txn);
        rows.open_all()?;
        set_meta_number(&mut rows, meta::FORMAT, u64::from(FORMAT))?;
        for entry in batch {
            replay_entry(&mut rows, entry)?;
        }
        if let Some(end) = end {
            set_log_position(&mut rows, &end)?;
        }
        drop(rows);
        txn.commit().map_err(IndexError::from)?;
        Ok(())
    };
    database.contain(work).map_err(IndexError::from)?
}

fn replay_entry(rows: &mut WriteRows<'_>, entry: &LogEntry) -> Result<(), StoreError> {
    let list = decode(&entry.body).map_err(|error| match error {
        RecordError::Newer(found) => StoreError::NewerRecord { found, known: record::FORMAT },
        RecordError::Broken => StoreError::Record(entry.commit),
    })?;
    match entry.kind {
        LogEntryKind::Record => {
            apply(rows, Source::Record(entry.commit), &list)?;
            // Half a snapshot is no place to go on from; a record is.
            set_log_position(rows, &entry.position)?;
        }
        LogEntryKind::Snapshot => {
            apply(rows, Source::Snapshot, &list)?;
            set_meta_number(rows, meta::TOUCHED, entry.commit.0)?;
        }
    }
    Ok(())
}

/// Returns the clock and the highest pack that a row named.
fn summary(database: &CheckedDb) -> Result<(Clock, u64), IndexError> {
    let read = |database: &redb::Database| {
        let rows = ReadRows::begin(database)?;
        let newest = commits::newest_commit(&rows, Bound::Unbounded)?;
        let newest = newest.map(|(_, value)| (value.running_micros, value.arrival));
        let said = clock(&rows)?;
        // What was removed long after the newest commit tells how far running time had come.
        let removed = aside::newest(&rows)?.zip(said);
        let newest = newest.into_iter().chain(removed).max_by_key(|(running, _)| *running);
        let clock = Clock::stopped(said, newest);
        Ok::<_, IndexError>((clock, meta_number(&rows, meta::PACK)?))
    };
    database.contain(read)?
}
