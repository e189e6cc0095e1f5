//! Opening a log: reading all of it, and telling a torn tail from damage.
//!
//! A crash tears only what was not durable. So a bad place with nothing durable at or above its commit is a torn tail
//! and is cut; anything else is damage and nothing is touched.

use std::{collections::VecDeque, io, sync::Arc};

use keepshare_base::CommitId;

use crate::disk::{Disk, DiskFile};

use super::{
    Log, LogError, LogPosition, Recovery,
    frame::{FORMAT, FileHeader, FrameHeader, FrameKind, HeaderError, snapshot_end},
    replay::{damage, follow},
    scan::{Step, Walker},
};

pub(super) fn open(
    disk: Arc<dyn Disk>,
    known: Option<LogPosition>,
) -> Result<(Log, Recovery), LogError> {
    let generation = newest_generation(&*disk)?.ok_or(LogError::Missing)?;
    let file = disk.open(&name(generation), false)?;
    let header = read_header(&*file, generation)?;
    let len = file.len()?;
    let mut reading = Reading::new(header, known);
    let end = reading.read(&file, len)?;
    if end < len {
        tracing::warn!(generation, offset = end, bytes = len - end, "cut the log's torn tail");
        file.set_len(end)?;
    }
    write_again(&*file, reading.durable_end, end)?;
    file.sync_data()?;
    // The name may not be durable yet, and the generations before it must not come back.
    disk.sync_dir(DIR)?;
    remove_others(&*disk, generation)?;
    let position = LogPosition { offset: end, ..reading.position };
    let log = Log {
        disk,
        file,
        id: header.id,
        generation,
        buffer: vec![],
        written: end,
        commit: position.commit,
        running: position.running,
        durable: position.commit,
        marked: reading.marked,
        tail_start: reading.tail_start,
        poisoned: false,
    };
    let recovery = Recovery {
        start: start(generation),
        end: position,
        known: reading.known_here,
        torn_bytes: len - end,
        damaged_marks: reading.damaged_marks,
    };
    Ok((log, recovery))
}

/// One reading of a whole log.
struct Reading {
    header: FileHeader,
    /// The place after the last good record.
    position: LogPosition,
    /// The snapshot's parts and their hash while we are in it.
    snapshot: Option<(u64, blake3::Hasher)>,
    tail_start: u64,
    /// The highest commit that a frame says is durable.
    marked: CommitId,
    /// The same, or what the index knows.
    durable: CommitId,
    /// Where what is known durable ends, and where the records after it do.
    durable_end: u64,
    undurable: VecDeque<(CommitId, u64)>,
    known: Option<LogPosition>,
    known_here: Option<LogPosition>,
    damaged_marks: u64,
}

impl Reading {
    fn new(header: FileHeader, known: Option<LogPosition>) -> Self {
        let position = start(header.generation);
        let mut reading = Self {
            header,
            position,
            snapshot: (header.generation > 1).then(|| (0, blake3::Hasher::new())),
            tail_start: position.offset,
            marked: CommitId(0),
            durable: known.map_or(header.base, |known| known.commit.max(header.base)),
            durable_end: position.offset,
            undurable: VecDeque::new(),
            known,
            known_here: None,
            damaged_marks: 0,
        };
        if reading.snapshot.is_none() {
            reading.recognise();
        }
        reading
    }

    /// Reads every frame and returns where the good ones end: before a torn tail, or at `len`.
    fn read(&mut self, file: &Arc<dyn DiskFile>, len: u64) -> Result<u64, LogError> {
        let mut walker = Walker::new(file.clone(), self.header.id, self.position.offset, len);
        loop {
            let place = walker.offset();
            match walker.step()? {
                Step::Frame { header, body, end } => {
                    if !self.take(&header, body, end)? {
                        return Err(damage(self.position.commit, place));
                    }
                }
                Step::Bad => {
                    let behind = walker.look_behind(self.position.commit)?;
                    match behind.resume {
                        Some(offset) if self.snapshot.is_none() => {
                            tracing::warn!(offset = place, "a mark in the log is damaged");
                            self.damaged_marks += 1;
                            walker.go_to(offset);
                        }
                        Some(_) | None => return self.end(place, behind.durable),
                    }
                }
                Step::End => return self.end(len, CommitId(0)),
            }
        }
    }

    /// Decides about the end of the good frames at `place`: an end, a torn tail, or damage.
    fn end(&self, place: u64, durable_behind: CommitId) -> Result<u64, LogError> {
        // A snapshot is whole before its file gets a name.
        let durable = self.durable.max(durable_behind) > self.position.commit;
        if self.snapshot.is_some() || durable {
            return Err(damage(self.position.commit, place));
        }
        Ok(place)
    }

    /// Takes a good frame; `false` where it cannot stand here.
    fn take(&mut self, header: &FrameHeader, body: &[u8], end: u64) -> Result<bool, LogError> {
        match (header.kind, &mut self.snapshot) {
            (FrameKind::Snapshot, Some((parts, hasher))) => {
                *parts += 1;
                hasher.update(body);
            }
            (FrameKind::SnapshotEnd, Some((parts, hasher))) => {
                if body != snapshot_end(*parts, hasher) {
                    return Ok(false);
                }
                self.snapshot = None;
                self.tail_start = end;
                self.durable_end = end;
                let FileHeader { base, running, .. } = self.header;
                self.position = LogPosition { commit: base, running, ..self.position };
                self.position.offset = end;
                self.recognise();
            }
            (FrameKind::Record, None) => {
                self.position = follow(self.position, header, body, end)?;
                self.undurable.push_back((header.commit, end));
                self.recognise();
            }
            (FrameKind::Mark, None) if header.commit == self.position.commit => {}
            _ => return Ok(false),
        }
        self.marked = self.marked.max(header.durable);
        self.durable = self.durable.max(header.durable);
        while let Some(&(commit, end)) = self.undurable.front()
            && commit <= self.durable
        {
            self.durable_end = end;
            self.undurable.pop_front();
        }
        Ok(true)
    }

    /// Notes where the index is, if it is here.
    fn recognise(&mut self) {
        let here = self.position;
        if let Some(known) = self.known
            && (known.commit, known.running) == (here.commit, here.running)
        {
            self.known_here = Some(here);
        }
    }
}

/// Returns the highest generation that has a file.
pub(super) fn newest_generation(disk: &dyn Disk) -> io::Result<Option<u64>> {
    Ok(disk.list(DIR)?.iter().filter_map(|file| generation_of(file)).max())
}

/// Returns the name of a generation's file.
pub(super) fn name(generation: u64) -> String {
    format!("{DIR}/{generation:010}")
}

fn generation_of(file: &str) -> Option<u64> {
    let generation = file.parse().ok()?;
    (name(generation) == format!("{DIR}/{file}")).then_some(generation)
}

fn start(generation: u64) -> LogPosition {
    LogPosition { generation, ..LogPosition::EMPTY }
}

fn read_header(file: &dyn DiskFile, generation: u64) -> Result<FileHeader, LogError> {
    let damaged = || damage(CommitId(0), 0);
    let mut bytes = [0; FileHeader::BYTES];
    match file.read_exact_at(&mut bytes, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(damaged()),
        other => other?,
    }
    let header = FileHeader::from_bytes(&bytes).map_err(|error| match error {
        HeaderError::Damaged => damaged(),
        HeaderError::Newer(found) => LogError::NewerFormat { found, known: FORMAT },
    })?;
    if header.generation == generation { Ok(header) } else { Err(damaged()) }
}

/// Writes what is not known durable once more: after a failed sync the kernel can hold it for clean, and then no sync
/// would bring it to the disk.
fn write_again(file: &dyn DiskFile, from: u64, end: u64) -> io::Result<()> {
    let mut piece = vec![];
    let mut offset = from;
    while offset < end {
        let len = (end - offset).min(PIECE_BYTES);
        piece.resize(usize::try_from(len).expect("a piece is small"), 0);
        file.read_exact_at(&mut piece, offset)?;
        file.write_all_at(&piece, offset)?;
        offset += len;
    }
    Ok(())
}

/// Removes earlier generations and an unfinished one; what stays is removed at the next open.
fn remove_others(disk: &dyn Disk, generation: u64) -> io::Result<()> {
    for file in disk.list(DIR)? {
        let path = format!("{DIR}/{file}");
        let earlier = generation_of(&file).is_some_and(|other| other != generation);
        if (earlier || path == TEMPORARY)
            && let Err(error) = disk.remove(&path)
        {
            tracing::warn!(%error, "cannot remove an old log");
        }
    }
    Ok(())
}

pub(super) const DIR: &str = "log";

/// The name of a generation that is not finished.
pub(super) const TEMPORARY: &str = "log/next.new";

const PIECE_BYTES: u64 = 1024 * 1024;
