//! One pass over a file's content against its block hashes.
//!
//! The same code finds what changed in a known file and what there is in a new one: a file without block hashes is all
//! zeros. Each pass is a delta to what the ones before it gave, so a file that changes while it is read is simply passed
//! again. Holes are skipped where the file system tells of them, and so is what is known not to have changed.

use std::{collections::VecDeque, io, ops::Range, os::fd::OwnedFd};

use keepshare_base::{ContentHash, FileId, PART_BYTES, PartHash};
use rustix::{fs::SeekFrom, io::Errno};

use super::{
    SourceError,
    blocks::{self, REGION_BYTES, Run},
    extents::Ranges,
    hashing::Hashing,
    piece::Piece,
    tree::{self, Seen},
};

const REGION: u64 = REGION_BYTES as u64;

/// Where the block hashes of a file come from and go to.
pub(crate) trait Regions {
    /// Returns the hashes of a region; `None` where it is zeros.
    fn region(&self, file: FileId, region: u32) -> Result<Option<Vec<u8>>, SourceError>;
    /// Returns the first region from `from` on that is not zeros.
    fn region_from(&self, file: FileId, from: u32) -> Result<Option<u32>, SourceError>;
    /// Takes the hashes of a region.
    fn set_region(
        &mut self,
        file: FileId,
        region: u32,
        hashes: Option<&[u8]>,
    ) -> Result<(), SourceError>;
    /// Forgets the regions from `from` on.
    fn clear_blocks(&mut self, file: FileId, from: u32) -> Result<(), SourceError>;
}

/// A file being read from front to end.
#[derive(Debug)]
pub(crate) struct Pass {
    id: FileId,
    /// What it looked like when the pass began.
    pub(crate) start: Seen,
    region: u32,
    region_count: u32,
    buffer: Vec<u8>,
    hashes: Option<Vec<u8>>,
    runs: VecDeque<Run>,
    in_region: bool,
    hashing: Hashing,
    /// Nothing else differs from what the block hashes say; `None`: anything may.
    changed: Option<Ranges>,
    /// Bytes read so far.
    pub(crate) read: u64,
}

/// Why a pass paused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Pause {
    /// The piece is full.
    Full,
    /// The budget is used up.
    Budget,
    /// The file's end.
    End,
}

/// Why a pass broke off.
#[derive(Debug)]
pub(crate) enum PassError {
    /// The file cannot be read.
    Read(io::Error),
    /// The map failed.
    Map(SourceError),
}

impl From<SourceError> for PassError {
    fn from(error: SourceError) -> Self {
        Self::Map(error)
    }
}

impl Pass {
    /// Begins a pass over a file that looks like `start`.
    pub(crate) fn new(id: FileId, start: Seen) -> Self {
        Self::begin(id, start, Hashing::in_order(), None)
    }

    /// Begins a pass that leaves the hashes of the parts.
    pub(crate) fn in_parts(id: FileId, start: Seen) -> Self {
        let hashing = Hashing::in_parts(Vec::new(), start.signature.size);
        Self::begin(id, start, hashing, None)
    }

    /// Begins a pass over what changed alone; `parts` are those of the content that the block hashes are of, where they
    /// are known.
    pub(crate) fn over(
        id: FileId,
        start: Seen,
        changed: Ranges,
        parts: Option<Vec<PartHash>>,
    ) -> Self {
        let len = start.signature.size;
        let hashing = parts.map_or_else(Hashing::unknown, |parts| Hashing::in_parts(parts, len));
        Self::begin(id, start, hashing, Some(changed))
    }

    fn begin(id: FileId, start: Seen, hashing: Hashing, changed: Option<Ranges>) -> Self {
        let regions = start.signature.size.div_ceil(REGION);
        Self {
            id,
            start,
            region: 0,
            region_count: u32::try_from(regions).unwrap_or(u32::MAX),
            buffer: Vec::new(),
            hashes: None,
            runs: VecDeque::new(),
            in_region: false,
            hashing,
            changed,
            read: 0,
        }
    }

    /// Reads on into `piece` until that is full, `budget` bytes are read or the file ends.
    pub(crate) fn step(
        &mut self,
        file: &OwnedFd,
        map: &mut impl Regions,
        piece: &mut Piece,
        budget: u64,
    ) -> Result<Pause, PassError> {
        let until = self.read.saturating_add(budget);
        loop {
            if !self.in_region {
                if self.region >= self.region_count {
                    map.clear_blocks(self.id, self.region_count)?;
                    return Ok(Pause::End);
                }
                if self.read >= until {
                    return Ok(Pause::Budget);
                }
                match &self.changed {
                    None => self.skip_hole(file, map)?,
                    Some(changed) => {
                        let next = next_changed(changed, self.region);
                        self.region = next.unwrap_or(u32::MAX).min(self.region_count);
                    }
                }
                if self.region >= self.region_count {
                    continue;
                }
                self.enter_region(file, map)?;
            }
            while let Some(run) = self.runs.front_mut() {
                let offset = u64::from(self.region) * REGION + run.start as u64;
                let taken = if run.zero {
                    let taken = piece.zeros(offset, (run.end - run.start) as u64);
                    usize::try_from(taken).unwrap_or(usize::MAX)
                } else {
                    piece.data(offset, &self.buffer[run.start..run.end])
                };
                run.start += taken;
                if run.start < run.end {
                    return Ok(Pause::Full);
                }
                self.runs.pop_front();
            }
            map.set_region(self.id, self.region, self.hashes.as_deref())?;
            self.in_region = false;
            self.region += 1;
        }
    }

    /// Returns the hash of the whole content, at the end of a pass during which the file did not change.
    pub(crate) fn hash(&self) -> Option<ContentHash> {
        self.hashing.hash(self.start.signature.size)
    }

    /// Returns the hashes of the parts, at the end of a pass that leaves them.
    pub(crate) fn take_parts(&mut self) -> Option<Vec<PartHash>> {
        std::mem::replace(&mut self.hashing, Hashing::unknown()).into_parts()
    }

    /// Moves to the next region that holds data, or had data when it was read last.
    fn skip_hole(&mut self, file: &OwnedFd, map: &impl Regions) -> Result<(), PassError> {
        let offset = u64::from(self.region) * REGION;
        let size = self.start.signature.size;
        let data = match rustix::fs::seek(file, SeekFrom::Data(offset)) {
            Ok(data) => data.min(size),
            Err(Errno::NXIO) => size,
            // No such seek here: all of it is data.
            Err(_) => offset,
        };
        let data_region = u32::try_from(data / REGION).unwrap_or(u32::MAX);
        let data_region = if data >= size { self.region_count } else { data_region };
        if data_region <= self.region {
            return Ok(());
        }
        let known = map.region_from(self.id, self.region)?.unwrap_or(u32::MAX);
        let next = data_region.min(known).min(self.region_count);
        let skipped = (u64::from(next) * REGION).min(size) - offset.min(size);
        self.hashing.zeros(offset, skipped);
        self.region = next;
        Ok(())
    }

    fn enter_region(&mut self, file: &OwnedFd, map: &impl Regions) -> Result<(), PassError> {
        let offset = u64::from(self.region) * REGION;
        let len = (self.start.signature.size - offset).min(REGION);
        let len = usize::try_from(len).unwrap_or(REGION_BYTES);
        let before = map.region(self.id, self.region)?;
        self.buffer.resize(len, 0);
        let all = [Range { start: 0, end: len }];
        let parts = match &self.changed {
            Some(changed) if blocks::is_of_pages(before.as_deref()) => {
                changed_parts(changed, offset, len)
            }
            _ => all.to_vec(),
        };
        for part in &parts {
            let (at, bytes) = (offset + part.start as u64, &mut self.buffer[part.clone()]);
            let read = read_full(file, bytes, at).map_err(PassError::Read)?;
            // Cut while it was read: the missing rest is zeros until the next pass sees the new size.
            bytes[read..].fill(0);
            self.read += bytes.len() as u64;
            self.hashing.bytes(at, bytes);
        }
        self.hashes = match parts == all {
            true => blocks::hash_region(&self.buffer),
            false => blocks::hash_read(before.as_deref(), &self.buffer, &parts),
        };
        self.runs = blocks::changed(before.as_deref(), self.hashes.as_deref(), len).into();
        self.in_region = true;
        Ok(())
    }
}

/// Returns the first region from `region` on in which something changed.
fn next_changed(changed: &[Range<u64>], region: u32) -> Option<u32> {
    let offset = u64::from(region) * REGION;
    let next = changed.get(changed.partition_point(|range| range.end <= offset))?;
    Some(u32::try_from(next.start / REGION).unwrap_or(u32::MAX).max(region))
}

/// Returns the parts of `len` bytes from `offset` on in which something changed, as stretches of these bytes.
fn changed_parts(changed: &[Range<u64>], offset: u64, len: usize) -> Vec<Range<usize>> {
    let touches = |part: &Range<usize>| {
        let (start, end) = (offset + part.start as u64, offset + part.end as u64);
        let next = changed.partition_point(|range| range.end <= start);
        changed.get(next).is_some_and(|range| range.start < end)
    };
    let parts = (0..len).step_by(PART_BYTES).map(|at| at..len.min(at + PART_BYTES));
    parts.filter(touches).collect()
}

/// Reads a whole small file; `None` when it is longer than `len_max`.
pub(crate) fn read_small(file: &OwnedFd, len_max: usize) -> io::Result<Option<Vec<u8>>> {
    let size = tree::look_at(std::os::fd::AsFd::as_fd(file))?.signature.size;
    read_sized(file, size, len_max)
}

/// Reads what [`read_small`] reads; the file was seen to have `size` bytes.
pub(crate) fn read_sized(file: &OwnedFd, size: u64, len_max: usize) -> io::Result<Option<Vec<u8>>> {
    let hint = usize::try_from(size).unwrap_or(usize::MAX);
    if hint > len_max {
        return Ok(None);
    }
    let mut bytes = vec![0; hint + 1];
    loop {
        let len = read_full(file, &mut bytes, 0)?;
        if len < bytes.len() {
            bytes.truncate(len);
            return Ok(Some(bytes));
        }
        if bytes.len() > len_max {
            return Ok(None);
        }
        bytes.resize((bytes.len() * 2).min(len_max + 1), 0);
    }
}

/// Reads until the buffer is full or the file ends.
pub(crate) fn read_full(file: &OwnedFd, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match rustix::io::pread(file, &mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(len) => done += len,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(done)
}
