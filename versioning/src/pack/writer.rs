//! Writing packs: into a buffer, out in large pieces, durable on demand.

use std::{borrow::Cow, fmt, io, sync::Arc};

use zstd::bulk::Compressor;

use crate::disk::{Disk, DiskFile, is_full, random_id};

use super::{
    DIR, PACK_BYTES_MAX, PackError, PackLoc, RAW_BYTES_MAX,
    frame::{Codec, PackHeader, frame_bytes, push_frame},
    fresh::{Fresh, PIECE_BYTES_MIN, Piece},
    name, numbers,
    reader::checked,
    sum::Sum,
};

/// Appends to the packs of a set. There is one at a time.
pub struct PackWriter {
    disk: Arc<dyn Disk>,
    /// The pack being written; none before the first content.
    open: Option<OpenPack>,
    /// The highest number that a pack has or a row knows.
    last: u64,
    compressor: Compressor<'static>,
    compressed: Vec<u8>,
    /// What was written last, for readers.
    fresh: Fresh,
    poisoned: bool,
}

/// The pack being written.
#[derive(Debug)]
struct OpenPack {
    pack: u64,
    id: u64,
    file: Arc<dyn DiskFile>,
    /// Frames that are not in the file yet, and where they will begin there.
    buffer: Vec<u8>,
    written: u64,
    /// Whether something was written that no sync has made durable.
    dirty: bool,
    /// Whether its name is not durable yet.
    unnamed: bool,
}

impl PackWriter {
    /// Opens the packs; new packs get numbers above `floor`, the highest that any row knows.
    ///
    /// A new pack begins with the first content. A pack of before is never gone on with: after a failed sync it can look
    /// whole and have pages, even its first, that are not on the disk.
    pub fn open(disk: Arc<dyn Disk>, floor: u64) -> Result<Self, PackError> {
        let last = numbers(&*disk)?.last().map_or(floor, |&newest| newest.max(floor));
        Ok(Self {
            disk,
            open: None,
            last,
            compressor: Compressor::new(LEVEL)?,
            compressed: Vec::new(),
            fresh: Fresh::default(),
            poisoned: false,
        })
    }

    /// Adds a piece of content to the memory buffer, compressed where that gains at least 5 %.
    ///
    /// A reader finds it there after [`Self::sync`] at the latest.
    pub fn append(&mut self, raw: &[u8]) -> Result<PackLoc, PackError> {
        self.append_summed(raw, None)
    }

    /// Adds content as [`Self::append`] does; `sum` is that of it where somebody has hashed it already.
    pub(crate) fn append_summed(
        &mut self,
        raw: &[u8],
        sum: Option<Sum>,
    ) -> Result<PackLoc, PackError> {
        if self.poisoned {
            return Err(PackError::Poisoned);
        }
        if raw.len() > RAW_BYTES_MAX {
            return Err(PackError::TooLong(raw.len()));
        }
        let sum = sum.unwrap_or_else(|| Sum::of(raw));
        let codec = self.compress(raw);
        let stored = if codec == Codec::Zstd { self.compressed.len() } else { raw.len() };
        self.make_room(frame_bytes(stored as u64))?;
        let open = self.open.as_mut().expect("there is room in a pack");
        let stored = if codec == Codec::Zstd { &self.compressed } else { raw };
        let offset = open.end();
        let header =
            push_frame(&mut open.buffer, (open.id, offset), (codec, raw.len(), sum), stored);
        open.dirty = true;
        let (stored, raw, check) = (header.stored, header.raw, header.check());
        Ok(PackLoc { pack: open.pack, offset, stored, raw, check })
    }

    /// Returns the content at `loc` where that is still in the memory buffer.
    pub(crate) fn unwritten(&self, loc: PackLoc) -> Option<Result<Vec<u8>, PackError>> {
        let open = self.open.as_ref().filter(|open| open.pack == loc.pack)?;
        let start = usize::try_from(loc.offset.checked_sub(open.written)?).ok()?;
        let len = usize::try_from(loc.frame_bytes()).ok()?;
        let frame = open.buffer.get(start..start.checked_add(len)?);
        let raw = frame.and_then(|frame| checked(open.id, loc, frame));
        Some(raw.map(Cow::into_owned).ok_or_else(|| loc.damaged()))
    }

    /// Writes the memory buffer and makes everything appended durable.
    pub fn sync(&mut self) -> Result<(), PackError> {
        if self.poisoned {
            return Err(PackError::Poisoned);
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        let synced = open.sync(&*self.disk, &self.fresh);
        self.outcome(synced)
    }

    /// Returns what was written last.
    pub(super) fn fresh(&self) -> &Fresh {
        &self.fresh
    }

    /// Lets go of the memory that what was written last is in: all who wanted it have it.
    pub(crate) fn forget_fresh(&mut self) {
        self.fresh.clear();
    }

    /// Ends a pack that is being written: what is appended next begins another.
    pub(crate) fn end_pack(&mut self, pack: u64) -> Result<(), PackError> {
        if self.poisoned {
            return Err(PackError::Poisoned);
        }
        let Some(open) = self.open.as_mut().filter(|open| open.pack == pack) else { return Ok(()) };
        let sealed = open.seal(&*self.disk, &self.fresh);
        self.outcome(sealed)?;
        self.open = None;
        Ok(())
    }

    /// Returns the highest number of a pack; no lower one is ever written again.
    pub fn current(&self) -> u64 {
        self.last
    }

    /// Makes sure that a pack is open and can take a frame of `bytes`.
    fn make_room(&mut self, bytes: u64) -> Result<(), PackError> {
        let seal = frame_bytes(0);
        let fits = |open: &OpenPack| open.end() + bytes + seal <= PACK_BYTES_MAX;
        if let Some(open) = &mut self.open {
            if fits(open) {
                let is_much = open.buffer.len() >= BUFFER_BYTES;
                let written = if is_much { open.write(&self.fresh) } else { Ok(()) };
                return self.outcome(written);
            }
            let sealed = open.seal(&*self.disk, &self.fresh);
            self.outcome(sealed)?;
            self.open = None;
        }
        let open = OpenPack::begin(&*self.disk, self.last + 1).map_err(full_or_io)?;
        self.last = open.pack;
        self.open = Some(open);
        Ok(())
    }

    /// Compresses `raw` into [`Self::compressed`] and says whether that pays.
    fn compress(&mut self, raw: &[u8]) -> Codec {
        // A sample from the middle: the beginning is often a header unlike the rest.
        let sample = &raw[raw.len() / 2..];
        if is_noise(&sample[..sample.len().min(PROBE_BYTES / 2)]) {
            return Codec::Raw;
        }
        if raw.len() >= 4 * PROBE_BYTES && !self.pays(&sample[..PROBE_BYTES]) {
            return Codec::Raw;
        }
        // What does not compress is stored as it is; nothing is lost but space.
        if self.pays(raw) { Codec::Zstd } else { Codec::Raw }
    }

    /// Compresses `raw` into [`Self::compressed`] if that saves a twentieth.
    fn pays(&mut self, raw: &[u8]) -> bool {
        let worth = raw.len() - raw.len() / 20;
        // No room for more than what would pay; running out of it is how zstd says that it does not.
        self.compressed.resize(worth.saturating_sub(1), 0);
        match self.compressor.compress_to_buffer(raw, self.compressed.as_mut_slice()) {
            Ok(len) => {
                self.compressed.truncate(len);
                true
            }
            Err(_) => false,
        }
    }

    /// Poisons the writer where it is unknown what is on the disk.
    fn outcome(&mut self, done: io::Result<()>) -> Result<(), PackError> {
        done.map_err(|error| {
            let error = full_or_io(error);
            self.poisoned |= !matches!(error, PackError::Full(_));
            error
        })
    }
}

impl fmt::Debug for PackWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PackWriter")
            .field("open", &self.open.as_ref().map(|open| (open.pack, open.end())))
            .field("last", &self.last)
            .field("poisoned", &self.poisoned)
            .finish_non_exhaustive()
    }
}

impl OpenPack {
    fn begin(disk: &dyn Disk, pack: u64) -> io::Result<Self> {
        let id = random_id()?;
        let file = disk.open(&name(pack), true)?;
        let buffer = PackHeader { pack, id }.to_bytes().to_vec();
        Ok(Self { pack, id, file, buffer, written: 0, dirty: true, unnamed: true })
    }

    fn write(&mut self, fresh: &Fresh) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.file.write_all_at(&self.buffer, self.written)?;
        let start = self.written;
        self.written += self.buffer.len() as u64;
        if self.buffer.len() >= PIECE_BYTES_MIN {
            let (pack, id, frames) = (self.pack, self.id, std::mem::take(&mut self.buffer));
            let free = fresh.put(Piece { pack, id, start, frames });
            self.buffer =
                free.unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES + 2 * PIECE_BYTES_MIN));
        }
        self.buffer.clear();
        Ok(())
    }

    fn sync(&mut self, disk: &dyn Disk, fresh: &Fresh) -> io::Result<()> {
        self.write(fresh)?;
        if self.dirty {
            self.file.sync_data().map_err(not_full)?;
            self.dirty = false;
        }
        if self.unnamed {
            disk.sync_dir(DIR).map_err(not_full)?;
            self.unnamed = false;
        }
        Ok(())
    }

    /// Adds the last frame and makes the pack durable. Repeating it after a full disk adds nothing twice.
    fn seal(&mut self, disk: &dyn Disk, fresh: &Fresh) -> io::Result<()> {
        self.write(fresh)?;
        let end = self.end();
        push_frame(&mut self.buffer, (self.id, end), (Codec::Seal, 0, Sum::of(&[])), &[]);
        self.dirty = true;
        let sealed = self.sync(disk, fresh);
        if sealed.is_err() {
            self.buffer.clear();
        }
        sealed
    }

    fn end(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }
}

/// Tells whether all bytes are as frequent as in noise: nothing makes that 5 % smaller, unless it repeats within a few KiB. Much
/// content is compressed already, and to try costs more than to hash and to write it.
fn is_noise(sample: &[u8]) -> bool {
    if sample.len() < NOISE_BYTES_MIN {
        return false;
    }
    let mut counts = [0_u32; 256];
    sample.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    // Of noise it is n + n²/256, give or take little; bytes that take 7.6 bits each, a twentieth less than 8, come to a third
    // more than n²/256.
    let squares: u64 = counts.iter().map(|count| u64::from(*count).pow(2)).sum();
    let n = sample.len() as u64;
    squares.saturating_sub(n) * 10 < n * n / 256 * 12
}

fn full_or_io(error: io::Error) -> PackError {
    if is_full(&error) { PackError::Full(error) } else { PackError::Io(error) }
}

/// A sync that fails leaves it unknown what is on the disk, for lack of space too.
fn not_full(error: io::Error) -> io::Error {
    if is_full(&error) { io::Error::other(error) } else { error }
}

/// The zstd level while receiving.
const LEVEL: i32 = 3;

/// How much of long content is tried first, in bytes.
const PROBE_BYTES: usize = 4096;

/// Fewer bytes say nothing of how frequent each is, in bytes.
const NOISE_BYTES_MIN: usize = 1024;

/// How much is written at once, in bytes.
const BUFFER_BYTES: usize = 1024 * 1024;
