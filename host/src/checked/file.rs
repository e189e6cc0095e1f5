//! The checked blocks under redb.

use std::{
    collections::BTreeMap,
    fmt, io,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::disk::{Disk, DiskFile, is_unreadable, random_id};

use super::{
    CheckedError, Damage,
    block::{
        BLOCK_BYTES, BLOCKS_MAX, FORMAT, Head, HeadError, SLOTS, STORED_BYTES, block_start,
        blocks_in, file_len, push_block, read_block,
    },
};

/// A [`redb::StorageBackend`] of checked blocks.
///
/// Writes wait in memory until they are many or a sync comes, and go out sorted, neighbours together: redb hands its
/// pages over one by one and in no order.
pub struct CheckedFile {
    file: Arc<dyn DiskFile>,
    id: u64,
    damage: Damage,
    /// The mark of the header that was found on opening; no block that it knows has a higher one.
    opened: u64,
    /// The first mark of our own.
    first_mark: u64,
    state: Mutex<State>,
    /// A sync failed: it is unknown what the file holds.
    failed: AtomicBool,
    /// Where to leave word of a failed sync for the next opening.
    watch: Option<(Arc<dyn Disk>, String)>,
    /// redb looks for torn pages itself, by its own checksums.
    repairing: Arc<AtomicBool>,
}

struct State {
    /// redb's header: block 0.
    header: Box<[u8; BLOCK_BYTES]>,
    header_dirty: bool,
    /// The mark of the last header that was written.
    mark: u64,
    /// The slot of the last durable header. Only the other one is written.
    durable_slot: usize,
    /// Blocks that are not in the file yet, as they will stand there.
    waiting: BTreeMap<u64, Vec<u8>>,
}

impl CheckedFile {
    /// Makes a checked file without blocks of an empty file.
    pub fn create(file: Arc<dyn DiskFile>) -> io::Result<Self> {
        let id = random_id()?;
        file.set_len(file_len(0))?;
        file.write_all_at(&Head { id }.to_bytes(), 0)?;
        Ok(Self::new(file, id, Slot { header: Box::new([0; BLOCK_BYTES]), mark: 0, slot: 0 }))
    }

    /// Opens a checked file.
    pub fn open(file: Arc<dyn DiskFile>) -> Result<Self, CheckedError> {
        let head = read_head(&*file)?;
        let slots = [0, 1].map(|slot| read_slot(&*file, head.id, slot));
        if slots.iter().any(Option::is_none) {
            // A crash tears at most the newer one, and then nothing was built on it. If it was damaged after more was
            // written, the marks of that give it away.
            tracing::warn!("one of the two headers of a database is torn or damaged");
        }
        let newest = slots.into_iter().flatten().max_by_key(|slot| slot.mark);
        let newest = newest.ok_or_else(|| CheckedError::Damaged("no header is left".to_owned()))?;
        if blocks_in(file.len()?) == 0 {
            // redb would begin a new database here.
            return Err(CheckedError::Damaged("no block is left".to_owned()));
        }
        Ok(Self::new(file, head.id, newest))
    }

    /// Leaves an empty file with this name when a sync fails.
    pub(super) fn watched(mut self, disk: Arc<dyn Disk>, name: String) -> Self {
        self.watch = Some((disk, name));
        self
    }

    /// Returns what tells whether damage was met.
    pub fn damage(&self) -> &Damage {
        &self.damage
    }

    /// Returns the switch under which bad blocks are given as they are: while redb compares every page that it will use
    /// with checksums of its own, and goes back by one commit where a crash tore one.
    pub(super) fn repairing(&self) -> &Arc<AtomicBool> {
        &self.repairing
    }

    fn new(file: Arc<dyn DiskFile>, id: u64, newest: Slot) -> Self {
        let first_mark = newest.mark.saturating_add(MARKS_SKIPPED);
        let state = State {
            header: newest.header,
            header_dirty: false,
            mark: first_mark,
            durable_slot: newest.slot,
            waiting: BTreeMap::new(),
        };
        Self {
            file,
            id,
            damage: Damage::default(),
            opened: newest.mark,
            first_mark,
            state: Mutex::new(state),
            failed: AtomicBool::new(false),
            watch: None,
            repairing: Arc::default(),
        }
    }

    /// Fills `out` from whole blocks.
    fn read_blocks(&self, blocks: Range<u64>, out: &mut [u8]) -> io::Result<()> {
        // What waits is taken first: it reaches the file only under the same lock, so the file has the rest.
        let taken = self.state().waiting_in(blocks.clone());
        let bytes = usize::try_from(blocks.end - blocks.start).unwrap_or(usize::MAX) * STORED_BYTES;
        let mut stored = vec![];
        if taken.len() * STORED_BYTES < bytes {
            stored.resize(bytes, 0);
            let read = self.file.read_exact_at(&mut stored, block_start(blocks.start));
            // Whoever opened the file anew may have written there meanwhile.
            drop(self.damage.in_use()?);
            match read {
                Err(error) if is_unreadable(&error) && self.is_repairing() => stored.fill(0),
                Err(error) if is_unreadable(&error) => return Err(self.damaged(blocks.start)),
                read => read?,
            }
        }
        let mut taken = taken.into_iter().peekable();
        for (i, out) in out.chunks_exact_mut(BLOCK_BYTES).enumerate() {
            let block = blocks.start + i as u64;
            match taken.next_if(|(waiting, _)| *waiting == block) {
                Some((_, bytes)) => out.copy_from_slice(&bytes[..BLOCK_BYTES]),
                None => self.read_block(block, &stored[i * STORED_BYTES..][..STORED_BYTES], out)?,
            }
        }
        Ok(())
    }

    fn read_block(&self, block: u64, stored: &[u8], out: &mut [u8]) -> io::Result<()> {
        let number = u32::try_from(block).map_err(|_| self.damaged(block))?;
        match read_block(stored, self.id, number) {
            // A block written under a header that we do not know says that ours is an old one.
            Some((bytes, mark)) if mark <= self.opened || mark >= self.first_mark => {
                out.copy_from_slice(bytes);
            }
            _ if self.is_repairing() => out.copy_from_slice(&stored[..BLOCK_BYTES]),
            _ => return Err(self.damaged(block)),
        }
        Ok(())
    }

    fn is_repairing(&self) -> bool {
        self.repairing.load(Ordering::Acquire)
    }

    fn damaged(&self, block: u64) -> io::Error {
        self.damage.set();
        tracing::error!(block, "a block of a database is damaged");
        io::Error::new(io::ErrorKind::InvalidData, format!("block {block} is damaged"))
    }

    /// Writes what waits, sorted, neighbours together. After an error all of it still waits.
    fn write_waiting(&self, state: &mut State) -> io::Result<()> {
        let mut run = Vec::with_capacity(state.waiting.len().min(RUN_BLOCKS_MAX) * STORED_BYTES);
        let mut blocks = state.waiting.iter().peekable();
        while let Some((&first, bytes)) = blocks.next() {
            run.clear();
            run.extend_from_slice(bytes);
            let mut next = first + 1;
            // The room first: a block that is taken must be written.
            while run.len() < RUN_BLOCKS_MAX * STORED_BYTES
                && let Some((_, bytes)) = blocks.next_if(|(block, _)| **block == next)
            {
                run.extend_from_slice(bytes);
                next += 1;
            }
            self.file.write_all_at(&run, block_start(first))?;
        }
        state.waiting.clear();
        Ok(())
    }

    /// Writes everything, the header last, and returns the header's bytes and slot if there was a new one.
    fn write_all(&self) -> io::Result<Option<(Vec<u8>, usize)>> {
        let mut state = self.state();
        self.write_waiting(&mut state)?;
        if !state.header_dirty {
            return Ok(None);
        }
        let (slot, mark) = (1 - state.durable_slot, state.mark.saturating_add(1));
        let mut stored = Vec::with_capacity(STORED_BYTES);
        push_block(&mut stored, self.id, 0, mark, &*state.header);
        self.file.write_all_at(&stored, SLOTS[slot])?;
        (state.header_dirty, state.mark) = (false, mark);
        Ok(Some((stored, slot)))
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        drop(self.damage.in_use()?);
        if let Some(range) = in_header(offset, out.len()) {
            out.copy_from_slice(&self.state().header[range]);
            return Ok(());
        }
        let blocks = whole_blocks(offset, out.len())?;
        let pieces = out.chunks_mut(RUN_BLOCKS_MAX * BLOCK_BYTES);
        for (out, start) in pieces.zip(blocks.step_by(RUN_BLOCKS_MAX)) {
            self.read_blocks(start..start + (out.len() / BLOCK_BYTES) as u64, out)?;
        }
        Ok(())
    }

    fn set_blocks(&self, len: u64) -> io::Result<()> {
        let blocks = len / BLOCK_BYTES as u64;
        if !len.is_multiple_of(BLOCK_BYTES as u64) || blocks > BLOCKS_MAX {
            return Err(not_blocks());
        }
        let _in_use = self.damage.in_use()?;
        let mut state = self.state();
        self.file.set_len(file_len(blocks))?;
        state.waiting.split_off(&blocks);
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let _in_use = self.damage.in_use()?;
        let mut state = self.state();
        if let Some(range) = in_header(offset, data.len()) {
            state.header[range].copy_from_slice(data);
            state.header_dirty = true;
            return Ok(());
        }
        let blocks = whole_blocks(offset, data.len())?;
        if state.waiting.len() >= WAITING_BLOCKS_MAX {
            self.write_waiting(&mut state)?;
        }
        for (block, bytes) in blocks.zip(data.chunks_exact(BLOCK_BYTES)) {
            let number = u32::try_from(block).map_err(|_| not_blocks())?;
            let mut stored = Vec::with_capacity(STORED_BYTES);
            push_block(&mut stored, self.id, number, state.mark, bytes);
            state.waiting.insert(block, stored);
        }
        Ok(())
    }

    /// Remembers an error of the disk: redb answers nothing more after it.
    fn noted<T>(&self, done: io::Result<T>) -> io::Result<T> {
        done.inspect_err(|error| self.damage.note(error))
    }

    fn sync(&self) -> io::Result<()> {
        if self.failed.load(Ordering::Acquire) {
            return Err(io::Error::other("an earlier sync failed"));
        }
        // Whoever opens the file anew finds what is synced here, or what says that it was not.
        let _in_use = self.damage.in_use()?;
        let header = self.write_all()?;
        self.file.sync_data().inspect_err(|_| self.fail())?;
        if let Some((stored, slot)) = header {
            self.state().durable_slot = slot;
            // The copy becomes durable with the next sync; until then the first one is.
            if let Err(error) = self.file.write_all_at(&stored, SLOTS[1 - slot]) {
                tracing::warn!(%error, "cannot write the second header of a database");
            }
        }
        Ok(())
    }

    /// Notes that a sync failed. The note need not survive a loss of power: then what it is about does not either.
    fn fail(&self) {
        self.failed.store(true, Ordering::Release);
        if let Some((disk, name)) = &self.watch
            && let Err(error) = disk.open(name, true)
        {
            tracing::error!(%error, "cannot note that a sync of a database failed");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing here panics halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl redb::StorageBackend for CheckedFile {
    fn len(&self) -> io::Result<u64> {
        self.noted(self.file.len()).map(|len| blocks_in(len) * BLOCK_BYTES as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.noted(self.read_at(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.noted(self.set_blocks(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.noted(self.sync())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.noted(self.write_at(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        if self.failed.load(Ordering::Acquire) || self.damage.failed() {
            return Ok(());
        }
        self.sync()?;
        // The copy of the header too, so that no single damaged place costs a database that lies idle.
        self.file.sync_data().inspect_err(|_| self.fail())
    }
}

impl State {
    fn waiting_in(&self, blocks: Range<u64>) -> Vec<(u64, Vec<u8>)> {
        self.waiting.range(blocks).map(|(&block, bytes)| (block, bytes.clone())).collect()
    }
}

impl fmt::Debug for CheckedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckedFile").field("file", &self.file).finish_non_exhaustive()
    }
}

/// A header slot that reads well.
pub(super) struct Slot {
    header: Box<[u8; BLOCK_BYTES]>,
    mark: u64,
    slot: usize,
}

/// Reads a header slot; one that cannot be read is as good as damaged.
pub(super) fn read_slot(file: &dyn DiskFile, id: u64, slot: usize) -> Option<Slot> {
    let mut stored = [0; STORED_BYTES];
    file.read_exact_at(&mut stored, SLOTS[slot]).ok()?;
    let (bytes, mark) = read_block(&stored, id, 0)?;
    let header = Box::new(*bytes.first_chunk()?);
    Some(Slot { header, mark, slot })
}

pub(super) fn read_head(file: &dyn DiskFile) -> Result<Head, CheckedError> {
    let damaged = || CheckedError::Damaged("its head is not readable".to_owned());
    let mut bytes = [0; Head::BYTES];
    match file.read_exact_at(&mut bytes, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(damaged()),
        other => other?,
    }
    Head::from_bytes(&bytes).map_err(|error| match error {
        HeadError::Damaged => damaged(),
        HeadError::Newer(found) => CheckedError::NewerFormat { found, known: FORMAT },
    })
}

/// Returns the range of block 0, redb's header, if that is what is meant.
fn in_header(offset: u64, len: usize) -> Option<Range<usize>> {
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(len)?;
    (end <= BLOCK_BYTES).then_some(start..end)
}

/// Returns the blocks that are meant; redb reads and writes whole pages everywhere but in its header.
fn whole_blocks(offset: u64, len: usize) -> io::Result<Range<u64>> {
    let block = BLOCK_BYTES as u64;
    let end = offset.checked_add(len as u64).ok_or_else(not_blocks)?;
    let whole = offset.is_multiple_of(block) && end.is_multiple_of(block);
    if whole && offset > 0 && end / block <= BLOCKS_MAX {
        Ok(offset / block..end / block)
    } else {
        Err(not_blocks())
    }
}

fn not_blocks() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not whole blocks, or too many")
}

/// How many blocks are read or written at once: 1 MiB.
const RUN_BLOCKS_MAX: usize = 256;

/// How many blocks wait before they are written, plus those of the last write: 4 MiB.
const WAITING_BLOCKS_MAX: usize = 1024;

/// The gap between the marks of one opening and the next, so that blocks of a time that a header does not know of are
/// never taken for our own.
const MARKS_SKIPPED: u64 = 1 << 32;
