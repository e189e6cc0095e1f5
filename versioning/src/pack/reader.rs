//! Reading packs: one read per piece of content, nothing given out unchecked.

use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
    collections::HashMap,
    io,
    sync::{Arc, PoisonError, RwLock},
};

use zstd::bulk::Decompressor;

use crate::disk::{Disk, DiskFile, is_unreadable};

use super::{
    PackError, PackLoc, RAW_BYTES_MAX,
    frame::{Codec, FORMAT, FrameHeader, HeaderError, PackHeader},
    fresh::Fresh,
    name, numbers,
    sum::Sum,
};

/// Reads packs; clones share the open files.
#[derive(Clone, Debug)]
pub struct PackReader {
    disk: Arc<dyn Disk>,
    open: Arc<RwLock<HashMap<u64, OpenPack>>>,
    /// What was written last.
    fresh: Fresh,
}

/// A pack that was opened, and its random id.
#[derive(Clone, Debug)]
struct OpenPack {
    file: Arc<dyn DiskFile>,
    id: u64,
}

impl PackReader {
    /// Returns a reader of the packs on `disk`.
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, open: Arc::default(), fresh: Fresh::default() }
    }

    /// Has [`Self::look_fresh`] look there.
    pub(super) fn with_fresh(self, fresh: Fresh) -> Self {
        Self { fresh, ..self }
    }

    /// Returns the content at `loc`, checked; only what was written can be read.
    pub fn read(&self, loc: PackLoc) -> Result<Vec<u8>, PackError> {
        let mut content = vec![];
        self.look(loc, |seen| content.extend_from_slice(seen))?;
        Ok(content)
    }

    /// Shows the content at `loc`, checked; only what was written can be seen.
    ///
    /// The frame is in memory that its thread keeps: getting new memory costs as much as checking what is in it.
    pub fn look(&self, loc: PackLoc, look: impl FnOnce(&[u8])) -> Result<(), PackError> {
        let mut frame = FRAME.take();
        let seen = self.look_in(&mut frame, loc, look);
        if frame.len() <= FRAME_BYTES_KEPT {
            FRAME.set(frame);
        }
        seen
    }

    /// Shows what [`Self::look`] shows, from the memory that it was written from where that is still there.
    ///
    /// What stands in a pack is not looked at then: it is for who wants the content, not for who checks what is kept.
    pub(crate) fn look_fresh(
        &self,
        loc: PackLoc,
        look: impl FnOnce(&[u8]),
    ) -> Result<(), PackError> {
        let Some(piece) = self.fresh.find(&loc) else { return self.look(loc, look) };
        let seen = piece.header(&loc).zip(piece.frame(&loc));
        let seen =
            seen.and_then(|(header, frame)| content(&header, frame).map(|raw| (header, raw)));
        // What is as it came was checked when it came; nobody has looked yet whether the rest decompresses.
        let is_right = |(header, raw): &(FrameHeader, Cow<'_, [u8]>)| {
            header.codec == Codec::Raw || header.sum.is_of(raw)
        };
        let (_, raw) = seen.filter(is_right).ok_or_else(|| loc.damaged())?;
        look(&raw);
        Ok(())
    }

    /// Returns what the frame at `loc` keeps of its content's hash; `None` where its header is damaged.
    pub(crate) fn sum(&self, loc: PackLoc) -> Result<Option<Sum>, PackError> {
        let pack = match self.pack(&loc) {
            Err(PackError::Damaged { .. }) => return Ok(None),
            pack => pack?,
        };
        let mut bytes = [0; FrameHeader::BYTES];
        match pack.file.read_exact_at(&mut bytes, loc.offset) {
            Err(error) if is_unreadable(&error) => return Ok(None),
            read => read?,
        }
        let header = FrameHeader::from_bytes(pack.id, loc.offset, &bytes);
        Ok(header.filter(|header| loc.is_of(header)).map(|header| header.sum))
    }

    /// Tells whether the header of a pack is what was written, on the disk itself: whoever opened the pack before does not look again.
    pub(crate) fn has_header(&self, pack: u64) -> Result<bool, PackError> {
        let file = match self.disk.open(&name(pack), false) {
            // Its frames are missing, which is told of each.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            opened => opened?,
        };
        match read_header(&*file, pack) {
            Ok(_) => Ok(true),
            Err(PackError::Damaged { .. } | PackError::NewerFormat { .. }) => Ok(false),
            Err(PackError::Io(error)) if is_unreadable(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns the disk that the packs are on.
    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    fn look_in(
        &self,
        frame: &mut Vec<u8>,
        loc: PackLoc,
        look: impl FnOnce(&[u8]),
    ) -> Result<(), PackError> {
        let limit = u32::try_from(RAW_BYTES_MAX).unwrap_or(u32::MAX);
        if loc.raw > limit || loc.stored > loc.raw {
            return Err(loc.damaged());
        }
        let pack = self.pack(&loc)?;
        let len = usize::try_from(loc.frame_bytes()).expect("a frame fits in memory");
        if frame.len() < len {
            frame.resize(len, 0);
        }
        let frame = &mut frame[..len];
        pack.file.read_exact_at(frame, loc.offset).map_err(|error| gone(&loc, error))?;
        look(&checked(pack.id, loc, frame).ok_or_else(|| loc.damaged())?);
        Ok(())
    }

    /// Returns the numbers of the packs there are, in order, with their lengths in bytes.
    pub fn packs(&self) -> Result<Vec<(u64, u64)>, PackError> {
        let len = |pack| Ok((pack, self.disk.open(&name(pack), false)?.len()?));
        numbers(&*self.disk)?.into_iter().map(len).collect()
    }

    /// Removes a pack, for good, once nothing refers to it.
    pub fn remove(&self, pack: u64) -> Result<(), PackError> {
        self.open.write().unwrap_or_else(PoisonError::into_inner).remove(&pack);
        match self.disk.remove(&name(pack)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn pack(&self, loc: &PackLoc) -> Result<OpenPack, PackError> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner).get(&loc.pack).cloned();
        if let Some(pack) = open {
            return Ok(pack);
        }
        let file = self.disk.open(&name(loc.pack), false).map_err(|error| gone(loc, error))?;
        let header = read_header(&*file, loc.pack)?;
        let pack = OpenPack { file, id: header.id };
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= FILES_OPEN_MAX
            && let Some(&other) = open.keys().next()
        {
            open.remove(&other);
        }
        open.insert(loc.pack, pack.clone());
        Ok(pack)
    }
}

/// Reads and checks the header of a pack.
fn read_header(file: &dyn DiskFile, pack: u64) -> Result<PackHeader, PackError> {
    let damaged = || PackError::Damaged { pack, offset: 0 };
    let mut bytes = [0; PackHeader::BYTES];
    match file.read_exact_at(&mut bytes, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(damaged()),
        other => other?,
    }
    let header = PackHeader::from_bytes(&bytes).map_err(|error| match error {
        HeaderError::Damaged => damaged(),
        HeaderError::Newer(found) => PackError::NewerFormat { pack, found, known: FORMAT },
    })?;
    if header.pack == pack { Ok(header) } else { Err(damaged()) }
}

/// Returns the content out of the frame at `loc` of the pack with `id`; `None` where it is not what was stored.
pub(super) fn checked(id: u64, loc: PackLoc, frame: &[u8]) -> Option<Cow<'_, [u8]>> {
    let header = FrameHeader::from_bytes(id, loc.offset, frame)
        .filter(|header| loc.is_of(header))
        .filter(|header| is_intact(id, loc, header, &frame[FrameHeader::BYTES..]))?;
    content(&header, frame).filter(|raw| header.sum.is_of(raw))
}

/// Tells whether the bytes after a frame's header may be looked at.
///
/// Where the content is stored as it is, its hash says of every byte all that the checksum could, but for the padding.
fn is_intact(id: u64, loc: PackLoc, header: &FrameHeader, padded: &[u8]) -> bool {
    match (header.codec, usize::try_from(header.stored)) {
        (Codec::Raw, Ok(stored)) => {
            padded.get(stored..).is_some_and(|padding| padding.iter().all(|byte| *byte == 0))
        }
        _ => header.holds(id, loc.offset, padded),
    }
}

/// Returns the content out of a whole frame.
fn content<'f>(header: &FrameHeader, frame: &'f [u8]) -> Option<Cow<'f, [u8]>> {
    let (stored, raw) = (usize::try_from(header.stored).ok()?, usize::try_from(header.raw).ok()?);
    let stored = frame.get(FrameHeader::BYTES..)?.get(..stored)?;
    let content = match header.codec {
        Codec::Raw => Cow::Borrowed(stored),
        Codec::Zstd => Cow::Owned(decompress(stored, raw)?),
        Codec::Seal => return None,
    };
    (content.len() == raw).then_some(content)
}

fn decompress(stored: &[u8], raw: usize) -> Option<Vec<u8>> {
    DECOMPRESSOR.with_borrow_mut(|decompressor| {
        let decompressor = match decompressor {
            Some(decompressor) => decompressor,
            None => decompressor.insert(Decompressor::new().ok()?),
        };
        decompressor.decompress(stored, raw).ok()
    })
}

/// What is missing or unreadable where a row says that there is content is damage.
fn gone(loc: &PackLoc, error: io::Error) -> PackError {
    if error.kind() == io::ErrorKind::NotFound || is_unreadable(&error) {
        loc.damaged()
    } else {
        PackError::Io(error)
    }
}

thread_local! {
    /// Its memory takes longer to get than a page to decompress.
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };

    /// The last frame that was read, whose memory takes the next one.
    static FRAME: Cell<Vec<u8>> = const { Cell::new(vec![]) };
}

/// The largest frame whose memory a thread keeps, in bytes: one of a block, and nothing much larger.
const FRAME_BYTES_KEPT: usize = 128 * 1024;

/// How many packs are kept open; a set of 16 GiB fits.
const FILES_OPEN_MAX: usize = 256;
