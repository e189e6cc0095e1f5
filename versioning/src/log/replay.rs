//! Reading a log again, entry by entry.

use std::sync::Arc;

use keepshare_base::CommitId;

use crate::disk::DiskFile;

use super::{
    LogEntry, LogEntryKind, LogError, LogPosition,
    frame::{FileHeader, FrameHeader, FrameKind, extend_running},
    scan::{Step, Walker, is_next},
};

/// The entries of a log in order; after an error there are no more.
///
/// Reads the file as it goes, so nothing but one entry and a window of the file is in memory.
#[derive(Debug)]
pub struct Replay {
    walker: Walker,
    file: Arc<dyn DiskFile>,
    position: LogPosition,
    failed: bool,
}

impl Replay {
    pub(super) fn new(file: Arc<dyn DiskFile>, id: u64, from: LogPosition, end: u64) -> Self {
        let walker = Walker::new(file.clone(), id, from.offset, end);
        Self { walker, file, position: from, failed: false }
    }

    fn advance(&mut self) -> Result<Option<LogEntry>, LogError> {
        loop {
            match self.walker.step()? {
                Step::End => return Ok(None),
                Step::Bad => {
                    let (commit, place) = (self.position.commit, self.walker.offset());
                    let behind = self.walker.look_behind(commit)?;
                    self.walker.go_to(behind.resume.ok_or_else(|| damage(commit, place))?);
                }
                Step::Frame { header, body, end } => {
                    let kind = match header.kind {
                        FrameKind::Record => {
                            self.position = follow(self.position, &header, body, end)?;
                            LogEntryKind::Record
                        }
                        // Commit and running hash stay those of the start: there is no resuming inside a snapshot.
                        FrameKind::Snapshot => {
                            self.position.offset = end;
                            LogEntryKind::Snapshot
                        }
                        FrameKind::SnapshotEnd => {
                            self.position = after_snapshot(&self.file, self.position, end)?;
                            continue;
                        }
                        FrameKind::Mark => continue,
                    };
                    let (commit, body, position) = (header.commit, body.to_vec(), self.position);
                    return Ok(Some(LogEntry { kind, commit, body, position }));
                }
            }
        }
    }
}

impl Iterator for Replay {
    type Item = Result<LogEntry, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let entry = self.advance().transpose();
        self.failed = matches!(entry, Some(Err(_)));
        entry
    }
}

/// Returns the place after a record.
pub(super) fn follow(
    position: LogPosition,
    header: &FrameHeader,
    body: &[u8],
    end: u64,
) -> Result<LogPosition, LogError> {
    if !is_next(header.commit, position.commit) {
        return Err(damage(position.commit, end - header.frame_len() as u64));
    }
    let running = extend_running(&position.running, header.commit, body);
    Ok(LogPosition { offset: end, commit: header.commit, running, ..position })
}

pub(super) fn damage(last_good: CommitId, offset: u64) -> LogError {
    LogError::Damaged { commit: CommitId(last_good.0.saturating_add(1)), offset }
}

/// Returns the place where the records begin, which the file's header knows.
fn after_snapshot(
    file: &Arc<dyn DiskFile>,
    position: LogPosition,
    end: u64,
) -> Result<LogPosition, LogError> {
    let mut bytes = [0; FileHeader::BYTES];
    file.read_exact_at(&mut bytes, 0)?;
    let header = FileHeader::from_bytes(&bytes).map_err(|_| damage(CommitId(0), 0))?;
    Ok(LogPosition { offset: end, commit: header.base, running: header.running, ..position })
}
