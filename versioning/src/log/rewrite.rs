//! Writing a generation of the log: a snapshot, what came since, and then its name.
//!
//! It is written under a temporary name and synced before it is renamed, so a file with a log's name is always whole and
//! all of it was durable when it got the name.

use std::{io, sync::Arc};

use keepshare_base::CommitId;

use crate::disk::{Disk, DiskFile, is_full, random_id};

use super::{
    BODY_BYTES_MAX, Log, LogEntryKind, LogError, LogPosition,
    frame::{FileHeader, FrameKind, push_frame, snapshot_end},
    open::{DIR, TEMPORARY, name},
};

/// A next generation of the log on its way. Dropped, it is forgotten.
#[derive(Debug)]
pub struct LogRewriter {
    disk: Arc<dyn Disk>,
    file: Arc<dyn DiskFile>,
    header: FileHeader,
    of: LogPosition,
    buffer: Vec<u8>,
    written: u64,
    parts: u64,
    hasher: blake3::Hasher,
    /// Set once the snapshot has ended: where it did, and the place in the old log up to which records were taken over.
    tail: Option<(u64, LogPosition)>,
}

impl LogRewriter {
    /// Begins the first generation, which has no snapshot.
    pub(super) fn first(disk: Arc<dyn Disk>) -> Result<Self, LogError> {
        let mut rewriter = Self::begin(disk, LogPosition { generation: 0, ..LogPosition::EMPTY })?;
        rewriter.tail = Some((FileHeader::BYTES as u64, rewriter.of));
        Ok(rewriter)
    }

    /// Begins the generation after the one of `of`.
    pub(super) fn after(disk: Arc<dyn Disk>, of: LogPosition) -> Result<Self, LogError> {
        Self::begin(disk, of)
    }

    fn begin(disk: Arc<dyn Disk>, of: LogPosition) -> Result<Self, LogError> {
        match disk.remove(TEMPORARY) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        let file = disk.open(TEMPORARY, true).map_err(full_or_io)?;
        let id = random_id()?;
        let header =
            FileHeader { generation: of.generation + 1, id, base: of.commit, running: of.running };
        Ok(Self {
            disk,
            file,
            header,
            of,
            buffer: header.to_bytes().to_vec(),
            written: 0,
            parts: 0,
            hasher: blake3::Hasher::new(),
            tail: None,
        })
    }

    /// Returns the place whose state the snapshot must be.
    pub fn of(&self) -> LogPosition {
        self.of
    }

    /// Adds a part of the snapshot; replay gives the parts in the same order.
    ///
    /// Not after [`Self::catch_up`], which ends the snapshot.
    pub fn append(&mut self, body: &[u8]) -> Result<(), LogError> {
        assert!(self.tail.is_none(), "a part added to a snapshot that has ended");
        if body.len() > BODY_BYTES_MAX {
            return Err(LogError::TooLong(body.len()));
        }
        self.make_room()?;
        self.parts += 1;
        self.hasher.update(body);
        self.push(FrameKind::Snapshot, (self.of.commit, self.of.commit), body);
        Ok(())
    }

    /// Ends the snapshot and takes over records that the old log got since, as many as fit in about `bytes_max`.
    ///
    /// Returns whether it has all that are written. Calling it before [`Log::switch`] keeps that one short.
    pub fn catch_up(&mut self, log: &Log, bytes_max: u64) -> Result<bool, LogError> {
        let (tail_start, mut from) = match self.tail {
            Some(tail) => tail,
            None => self.end_snapshot()?,
        };
        let stop = from.offset.saturating_add(bytes_max);
        for entry in log.replay(from) {
            let entry = entry?;
            assert!(entry.kind == LogEntryKind::Record, "the snapshot is behind us");
            self.make_room()?;
            // All of this file is durable before it has a name, so every record may call itself so.
            self.push(FrameKind::Record, (entry.commit, entry.commit), &entry.body);
            from = entry.position;
            self.tail = Some((tail_start, from));
            if from.offset >= stop {
                break;
            }
        }
        Ok(from.offset >= log.written)
    }

    /// Syncs the file and gives it its name; `last` is the place it must have reached.
    ///
    /// Returns the log and the generation that it replaces. [`LogError::Poisoned`] where it is unknown which is the log.
    pub(super) fn publish(mut self, last: LogPosition) -> Result<(Log, u64), LogError> {
        let (tail_start, reached) = self.tail.expect("caught up before it is published");
        assert!(
            reached.commit == last.commit,
            "commits {} to {} left out",
            reached.commit,
            last.commit
        );
        // The last record has none behind it that could call it durable.
        if last.commit > self.header.base {
            self.push(FrameKind::Mark, (last.commit, last.commit), &[]);
        }
        self.write()?;
        self.file.sync_data().map_err(full_or_io)?;
        let named = self.disk.rename(TEMPORARY, &name(self.header.generation));
        if let Err(error) = &named
            && is_full(error)
        {
            // It has not happened.
            return Err(LogError::Full(named.expect_err("it is one")));
        }
        named.and_then(|()| self.disk.sync_dir(DIR)).map_err(|error| {
            tracing::error!(%error, generation = self.header.generation, "cannot name a log");
            LogError::Poisoned
        })?;
        let log = Log {
            disk: self.disk,
            file: self.file,
            id: self.header.id,
            generation: self.header.generation,
            buffer: vec![],
            written: self.written,
            commit: last.commit,
            running: last.running,
            durable: last.commit,
            marked: last.commit,
            tail_start,
            poisoned: false,
        };
        Ok((log, self.of.generation))
    }

    fn end_snapshot(&mut self) -> Result<(u64, LogPosition), LogError> {
        let body = snapshot_end(self.parts, &self.hasher);
        self.push(FrameKind::SnapshotEnd, (self.of.commit, self.of.commit), &body);
        self.make_room()?;
        let tail = (self.written + self.buffer.len() as u64, self.of);
        self.tail = Some(tail);
        Ok(tail)
    }

    fn push(&mut self, kind: FrameKind, commits: (CommitId, CommitId), body: &[u8]) {
        let place = (self.header.id, self.written + self.buffer.len() as u64);
        push_frame(&mut self.buffer, place, kind, commits, body);
    }

    /// Writes the buffer when it is long. An error leaves everything as it was, so that the caller can come again.
    fn make_room(&mut self) -> Result<(), LogError> {
        if self.buffer.len() < BUFFER_BYTES_MAX { Ok(()) } else { self.write() }
    }

    fn write(&mut self) -> Result<(), LogError> {
        self.file.write_all_at(&self.buffer, self.written).map_err(full_or_io)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

fn full_or_io(error: io::Error) -> LogError {
    if is_full(&error) { LogError::Full(error) } else { LogError::Io(error) }
}

/// How much is written at once, in bytes.
const BUFFER_BYTES_MAX: usize = 1024 * 1024;
