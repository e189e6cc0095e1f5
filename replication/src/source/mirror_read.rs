//! Reads files for a mirror, exactly as the map has them, and remembers what was learnt on the way.
//!
//! The first scan of a source reads no contents; the first mirror does, and gives the map the hashes it lacks.

use std::os::fd::{AsFd, OwnedFd};

use keepshare_base::{Content, ContentHash, FileId};
use keepshare_host::shared::SharedDb;
use redb::Durability;

use keepshare_decide::{FileRecord, Known, Signature, mirror::Filled};

use super::{
    SourceError, blocks,
    map::MapTx,
    pass::{self, Regions as _},
    stretches::Stretches,
    transfer::WHOLE_BYTES_MAX,
    tree::{self, Tree},
};

/// So many files' hashes are kept before they are written into the map.
const LEARNED_FILES_MAX: usize = 4096;

/// So many bytes of block hashes are kept; a file with more is sent whole when it changes.
const LEARNED_BYTES_MAX: usize = 64 << 20;

/// A file being read.
#[derive(Debug)]
pub(crate) struct Read {
    open: OwnedFd,
    file: FileId,
    signature: Signature,
    /// How far a large file was read; a small one is read at once.
    stretches: Option<Stretches>,
    regions: Collected,
    fresh: bool,
}

/// What was learnt of one file.
#[derive(Debug)]
pub(crate) struct LearnedFile {
    file: FileId,
    signature: Signature,
    hash: Option<ContentHash>,
    regions: Option<Vec<(u32, Vec<u8>)>>,
}

/// What was learnt and is not in the map yet.
#[derive(Debug, Default)]
pub(crate) struct Learned {
    files: Vec<LearnedFile>,
    bytes: usize,
}

/// Block hashes of a file that is read from nothing.
#[derive(Debug, Default)]
struct Collected {
    rows: Vec<(u32, Vec<u8>)>,
    bytes: usize,
    /// There are too many, or so few that they do not pay.
    left_out: bool,
}

impl Read {
    /// Begins to read a file; `None` when it is not what the map has.
    pub(crate) fn begin(
        tree: &Tree,
        open: OwnedFd,
        file: FileId,
        record: &FileRecord,
    ) -> Option<Self> {
        let seen = tree.look_at(open.as_fd()).ok()?;
        let is_it = seen.inode == record.inode && seen.signature == record.signature;
        is_it.then(|| Self {
            stretches: Self::stretches(record.signature.size),
            open,
            file,
            signature: record.signature,
            regions: Collected::default(),
            fresh: true,
        })
    }

    /// Returns the next stretch of content, and with the last one the hash of it all where there is one; `None` when the
    /// file changed, or cannot be read.
    #[expect(clippy::type_complexity, reason = "a stretch, and at the end perhaps a hash")]
    pub(crate) fn next(
        &mut self,
    ) -> Result<Option<(Filled, Option<Option<ContentHash>>)>, SourceError> {
        let Some(stretches) = &mut self.stretches else { return Ok(self.whole()) };
        let regions = &mut self.regions;
        let Ok(piece) = stretches.next(&self.open, |region, row| regions.take(region, row)) else {
            return Ok(None);
        };
        let filled = piece.into_content(std::mem::take(&mut self.fresh));
        if !stretches.is_over() {
            return Ok(Some((filled, None)));
        }
        let hash = stretches.hash();
        Ok(self.is_unchanged().then_some((filled, Some(hash))))
    }

    /// Goes back to the beginning.
    pub(crate) fn rewind(&mut self) {
        self.stretches = Self::stretches(self.signature.size);
        self.regions = Collected::default();
        self.fresh = true;
    }

    /// Returns what was learnt.
    pub(crate) fn finish(self, hash: Option<ContentHash>) -> LearnedFile {
        let regions = (!self.regions.left_out).then_some(self.regions.rows);
        LearnedFile { file: self.file, signature: self.signature, hash, regions }
    }

    fn stretches(size: u64) -> Option<Stretches> {
        (size > WHOLE_BYTES_MAX).then(|| Stretches::new(size))
    }

    fn whole(&mut self) -> Option<(Filled, Option<Option<ContentHash>>)> {
        let size = usize::try_from(self.signature.size).ok()?;
        let mut payload = vec![0; size];
        // Whether that is all of it says the look at it afterwards.
        let read = pass::read_full(&self.open, &mut payload, 0).ok()?;
        payload.truncate(read);
        if payload.len() as u64 != self.signature.size || !self.is_unchanged() {
            return None;
        }
        self.regions.left_out = payload.len() <= blocks::TINY_BYTES_MAX;
        let row = if self.regions.left_out { None } else { blocks::hash_small(&payload) };
        self.regions.bytes += row.as_ref().map_or(0, Vec::len);
        self.regions.rows.extend(row.map(|row| (0, row)));
        let content = Content::whole(&payload);
        // All of the content is its own hash's.
        let hash = match &content {
            Content::Extents { hash, .. } => *hash,
            Content::Same => ContentHash::of(&payload),
        };
        Some(((content, payload), Some(Some(hash))))
    }

    fn is_unchanged(&self) -> bool {
        tree::look_at(self.open.as_fd()).is_ok_and(|now| now.signature == self.signature)
    }
}

impl Learned {
    /// Takes what was learnt of a file.
    pub(crate) fn learn(&mut self, file: LearnedFile) {
        let regions = file.regions.iter().flatten();
        self.bytes += regions.map(|(_, row)| row.len()).sum::<usize>();
        self.files.push(file);
    }

    /// Writes it into the map when it is enough.
    pub(crate) fn keep_some(&mut self, database: &SharedDb) -> Result<(), SourceError> {
        if self.files.len() >= LEARNED_FILES_MAX || self.bytes >= LEARNED_BYTES_MAX / 8 {
            self.write(database, Durability::None)?;
        }
        Ok(())
    }

    /// Writes the rest of a mirror. All that the mirror learnt is durable then: else the first save after the mirror would wait
    /// for it, and a crash would have every file read again.
    pub(crate) fn keep_all(&mut self, database: &SharedDb) -> Result<(), SourceError> {
        self.write(database, Durability::Immediate)
    }

    /// Writes it into the map: of files that are still what was read.
    fn write(&mut self, database: &SharedDb, durability: Durability) -> Result<(), SourceError> {
        self.bytes = 0;
        let mut transaction = database.begin_write()?;
        transaction.set_durability(durability).map_err(SourceError::journal)?;
        {
            let mut map = MapTx::open(&transaction)?;
            for learned in self.files.drain(..) {
                let Some(mut record) = map.record(learned.file)? else { continue };
                if record.signature != learned.signature
                    || record.hash.is_some()
                    || record.forgotten
                {
                    continue;
                }
                record.hash = learned.hash;
                if let Some(rows) = learned.regions {
                    map.clear_blocks(learned.file, 0)?;
                    for (region, row) in rows {
                        map.set_region(learned.file, region, Some(&row))?;
                    }
                    record.blocks = true;
                }
                map.set_record(learned.file, &record)?;
            }
            map.write()?;
        }
        transaction.commit()?;
        Ok(())
    }
}

impl Collected {
    fn take(&mut self, region: u32, row: Vec<u8>) {
        self.bytes += row.len();
        self.left_out |= self.bytes > LEARNED_BYTES_MAX;
        if self.left_out {
            self.rows = Vec::new();
        } else {
            self.rows.push((region, row));
        }
    }
}
