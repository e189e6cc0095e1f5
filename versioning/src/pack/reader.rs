//! Reading packs: one read per piece of content, nothing given out unchecked.

use std::{
    cell::RefCell,
    collections::HashMap,
    io,
    sync::{Arc, PoisonError, RwLock},
};

use zstd::bulk::Decompressor;

use crate::disk::{Disk, DiskFile, is_unreadable};

use super::{
    PackError, PackLoc, RAW_BYTES_MAX,
    frame::{Codec, FORMAT, FrameHeader, HeaderError, PackHeader, hash},
    name, numbers,
};

/// Reads packs; clones share the open files.
#[derive(Clone, Debug)]
pub struct PackReader {
    disk: Arc<dyn Disk>,
    open: Arc<RwLock<HashMap<u64, OpenPack>>>,
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
        Self { disk, open: Arc::default() }
    }

    /// Returns the content at `loc`, checked; only what was written can be read.
    pub fn read(&self, loc: PackLoc) -> Result<Vec<u8>, PackError> {
        let limit = u32::try_from(RAW_BYTES_MAX).unwrap_or(u32::MAX);
        if loc.raw > limit || loc.stored > loc.raw {
            return Err(loc.damaged());
        }
        let pack = self.pack(&loc)?;
        let len = usize::try_from(loc.frame_bytes()).expect("a frame fits in memory");
        let mut frame = vec![0; len];
        pack.file.read_exact_at(&mut frame, loc.offset).map_err(|error| gone(&loc, error))?;
        checked(pack.id, loc, frame).ok_or_else(|| loc.damaged())
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
pub(super) fn checked(id: u64, loc: PackLoc, frame: Vec<u8>) -> Option<Vec<u8>> {
    let header = FrameHeader::from_bytes(id, loc.offset, &frame)
        .filter(|header| loc.is_of(header))
        .filter(|header| header.holds(id, loc.offset, &frame[FrameHeader::BYTES..]))?;
    content(&header, frame).filter(|raw| hash(raw) == header.hash)
}

/// Returns the content out of a whole frame.
fn content(header: &FrameHeader, mut frame: Vec<u8>) -> Option<Vec<u8>> {
    let (stored, raw) = (usize::try_from(header.stored).ok()?, usize::try_from(header.raw).ok()?);
    match header.codec {
        Codec::Raw => {
            frame.drain(..FrameHeader::BYTES);
            frame.truncate(stored);
            (stored == raw).then_some(frame)
        }
        Codec::Zstd => {
            let stored = &frame[FrameHeader::BYTES..][..stored];
            decompress(stored, raw).filter(|content| content.len() == raw)
        }
        Codec::Seal => None,
    }
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
}

/// How many packs are kept open; a set of 16 GiB fits.
const FILES_OPEN_MAX: usize = 256;
