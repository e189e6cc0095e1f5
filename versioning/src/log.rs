//! The row log: what a station acknowledged.
//!
//! One commit is one record; a record is acknowledged when the `fdatasync` after it returned. Records carry bodies that
//! this module does not look into. It tells a torn tail, which a crash leaves and which is cut, from damage, which is
//! never cut. When the log has grown it is written anew as a snapshot and what came since. The format is in
//! docs/formats/log.md.

use std::{io, sync::Arc};

use keepshare_base::CommitId;

use crate::disk::{Disk, DiskFile, is_full};

mod frame;
mod look;
mod open;
mod replay;
mod rewrite;
mod scan;
#[cfg(test)]
mod tests;

pub(crate) use look::{LOOK_START, Looked, look};
pub use replay::Replay;
pub use rewrite::LogRewriter;

use frame::{FileHeader, FrameKind, extend_running, push_frame};

/// The longest body of a record, in bytes.
pub const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Why the log cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// There is no log.
    #[error("there is no log")]
    Missing,
    /// There is one already.
    #[error("there is a log already")]
    Exists,
    /// Something durable does not read back; nothing was cut.
    #[error("the log is damaged at byte {offset}, from commit {commit} on")]
    Damaged {
        /// The first commit that does not read.
        commit: CommitId,
        /// Where in the file.
        offset: u64,
    },
    /// Written by a newer Keepshare.
    #[error("the log has format {found}; this version of Keepshare knows {known}")]
    NewerFormat {
        /// What the file says.
        found: u32,
        /// What we know.
        known: u32,
    },
    /// A body over [`BODY_BYTES_MAX`].
    #[error("a record of {0} bytes is too long for the log")]
    TooLong(usize),
    /// The disk is full; nothing is lost, and the same call may be made again when there is space.
    #[error("no space for the log")]
    Full(#[source] io::Error),
    /// An earlier error left it unknown what is on the disk; open the log again.
    #[error("the log failed before and must be opened again")]
    Poisoned,
    /// The disk failed.
    #[error("cannot read or write the log")]
    Io(#[from] io::Error),
}

/// A place in the log: right after the record of `commit`.
///
/// Commit and running hash say which place it is, in every generation; generation and offset say where to find it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LogPosition {
    /// Counts the rewrites of the log.
    pub generation: u64,
    /// The byte after the record.
    pub offset: u64,
    /// The last commit before this place.
    pub commit: CommitId,
    /// The hash over all records up to here, the same in every generation.
    pub running: [u8; 32],
}

/// What an entry of the log is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogEntryKind {
    /// Part of the snapshot with which the log begins.
    Snapshot,
    /// One commit.
    Record,
}

/// An entry of the log, as replay gives it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogEntry {
    /// Whether it is a commit or a part of the snapshot.
    pub kind: LogEntryKind,
    /// Which commit; for a part of the snapshot, the commit whose state the snapshot is.
    pub commit: CommitId,
    /// The bytes that were appended.
    pub body: Vec<u8>,
    /// The place after it.
    pub position: LogPosition,
}

/// What opening a log found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Recovery {
    /// Where replay of everything begins.
    pub start: LogPosition,
    /// The end of the log; all before it is durable.
    pub end: LogPosition,
    /// Where the index is in this log; `None` where it is of another log or in front of the snapshot: build it anew.
    pub known: Option<LogPosition>,
    /// How many bytes of torn tail were cut.
    pub torn_bytes: u64,
    /// How many places were damaged where nothing but marks stood; they cost nothing.
    pub damaged_marks: u64,
}

/// The log of a set. Dropping it loses what was not written.
#[derive(Debug)]
pub struct Log {
    disk: Arc<dyn Disk>,
    file: Arc<dyn DiskFile>,
    id: u64,
    generation: u64,
    /// Frames that are not in the file yet, and where they will begin there.
    buffer: Vec<u8>,
    written: u64,
    commit: CommitId,
    running: [u8; 32],
    durable: CommitId,
    /// The highest `durable` that a frame says.
    marked: CommitId,
    /// Where the snapshot ends and the records begin.
    tail_start: u64,
    poisoned: bool,
}

impl Log {
    /// Makes the first log of a set, empty and durable; [`LogError::Exists`] where there is one.
    pub fn create(disk: Arc<dyn Disk>) -> Result<Self, LogError> {
        if open::newest_generation(&*disk)?.is_some() {
            return Err(LogError::Exists);
        }
        let rewriter = LogRewriter::first(disk.clone())?;
        let (log, _) = rewriter.publish(LogPosition::EMPTY)?;
        Ok(log)
    }

    /// Opens the log, reads all of it, cuts a torn tail and makes the rest durable.
    ///
    /// `known` is the durable place that the index remembers: nothing up to it can be a torn tail.
    pub fn open(
        disk: Arc<dyn Disk>,
        known: Option<LogPosition>,
    ) -> Result<(Self, Recovery), LogError> {
        open::open(disk, known)
    }

    /// Adds a record to the memory buffer; `commit` must be the one after the last.
    ///
    /// The buffer grows until [`Self::write`] or [`Self::sync`]; whoever appends bounds it by [`Self::buffered_bytes`].
    pub fn append(&mut self, commit: CommitId, body: &[u8]) -> Result<(), LogError> {
        assert!(
            commit == self.commit.next(),
            "commit {commit} appended to a log that is at {}",
            self.commit
        );
        if self.poisoned {
            return Err(LogError::Poisoned);
        }
        if body.len() > BODY_BYTES_MAX {
            return Err(LogError::TooLong(body.len()));
        }
        self.push(FrameKind::Record, commit, body);
        self.commit = commit;
        self.running = extend_running(&self.running, commit, body);
        Ok(())
    }

    /// Adds a mark to the memory buffer that says how far the log is durable, where it says something new.
    ///
    /// An idle log is marked and written a moment after its last sync, so that damage of its last records is told from
    /// a torn tail.
    pub fn mark(&mut self) {
        if self.durable > self.marked && !self.poisoned {
            self.push(FrameKind::Mark, self.commit, &[]);
        }
    }

    /// Writes the memory buffer to the file.
    pub fn write(&mut self) -> Result<(), LogError> {
        if self.poisoned {
            return Err(LogError::Poisoned);
        }
        if self.buffer.is_empty() {
            return Ok(());
        }
        match self.file.write_all_at(&self.buffer, self.written) {
            Ok(()) => {
                self.written += self.buffer.len() as u64;
                self.buffer.clear();
                self.buffer.shrink_to(BUFFER_BYTES_KEPT);
                Ok(())
            }
            // The buffer stays, and goes to the same place again.
            Err(error) if is_full(&error) => Err(LogError::Full(error)),
            Err(error) => self.poison(error),
        }
    }

    /// Writes the buffer and makes everything appended durable.
    pub fn sync(&mut self) -> Result<(), LogError> {
        self.write()?;
        if self.durable == self.commit {
            return Ok(());
        }
        match self.file.sync_data() {
            Ok(()) => {
                self.durable = self.commit;
                Ok(())
            }
            // What the kernel failed to write it may hold for clean: no later sync can be believed.
            Err(error) => self.poison(error),
        }
    }

    /// Returns how many bytes wait in the memory buffer.
    pub fn buffered_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Returns the place after the last appended record.
    pub fn position(&self) -> LogPosition {
        LogPosition {
            generation: self.generation,
            offset: self.end(),
            commit: self.commit,
            running: self.running,
        }
    }

    /// Returns the last commit known durable.
    pub fn durable(&self) -> CommitId {
        self.durable
    }

    /// Returns the bytes of the snapshot at the log's beginning, for judging when it has doubled.
    pub fn snapshot_bytes(&self) -> u64 {
        self.tail_start
    }

    /// Returns the entries written after `from`, a place that [`Recovery`], [`LogEntry`] or [`Self::position`] gave for
    /// this generation. What waits in the memory buffer is not among them.
    pub fn replay(&self, from: LogPosition) -> Replay {
        Replay::new(self.file.clone(), self.id, from, self.written)
    }

    /// Begins the next generation with a snapshot of the state at the present position, which is made durable first.
    ///
    /// Only the last one begun can become the log.
    pub fn rewrite(&mut self) -> Result<LogRewriter, LogError> {
        self.sync()?;
        LogRewriter::after(self.disk.clone(), self.position())
    }

    /// Takes back the space of a rewrite that was begun and given up.
    pub fn drop_rewrite(&self) {
        // Left behind, it is replaced by the next one.
        let _ = self.disk.remove(open::TEMPORARY);
    }

    /// Makes the new generation the log: adds what came since, syncs, renames, and removes the old one.
    ///
    /// After an error that is not [`LogError::Poisoned`] the old generation goes on.
    pub fn switch(&mut self, mut rewriter: LogRewriter) -> Result<(), LogError> {
        assert!(
            rewriter.of().generation == self.generation,
            "a rewrite of generation {} cannot follow generation {}",
            rewriter.of().generation,
            self.generation
        );
        self.sync()?;
        rewriter.catch_up(self, u64::MAX)?;
        match rewriter.publish(self.position()) {
            Ok((next, old)) => {
                *self = next;
                // Left behind, it is removed at the next open.
                let _ = self.disk.remove(&open::name(old));
                Ok(())
            }
            Err(error) => {
                self.poisoned |= matches!(error, LogError::Poisoned);
                Err(error)
            }
        }
    }

    fn push(&mut self, kind: FrameKind, commit: CommitId, body: &[u8]) {
        let place = (self.id, self.end());
        push_frame(&mut self.buffer, place, kind, (commit, self.durable), body);
        self.marked = self.durable;
    }

    fn end(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    fn poison(&mut self, error: io::Error) -> Result<(), LogError> {
        self.poisoned = true;
        Err(LogError::Io(error))
    }
}

impl LogPosition {
    /// The place before the first record of the first log.
    pub(crate) const EMPTY: Self = Self {
        generation: 1,
        offset: FileHeader::BYTES as u64,
        commit: CommitId(0),
        running: [0; 32],
    };
}

/// How much of the memory buffer is kept for the next records after a long group, in bytes.
const BUFFER_BYTES_KEPT: usize = 1024 * 1024;
