//! Shadows: what large files held when they were read last, on file systems that share blocks between files (XFS, btrfs).
//!
//! A shadow is a file without a name that shares its blocks with the one that it was made of (`FICLONE`). It costs nothing
//! until that one is written to; then it keeps the old blocks. Where the two differ is where somebody wrote since
//! ([`super::extents`]), whoever it was and however: through a memory map, past the page cache, while nobody watched. So only
//! that is read, and from the next shadow, which nobody changes under the reader: a file that is being written all the time
//! is read as it was at one moment.
//!
//! Shadows end with the process, with the folder, and when the disk gets short of space. What is read without one is
//! compared by its block hashes, as on any other file system.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use keepshare_base::{ContentHash, FileId, PartHash};
use keepshare_decide::{FileRecord, Signature, compose::When};
use keepshare_host::clock::now;
use keepshare_proto::MonoTime;
use rustix::fs::{self, Mode, OFlags};

use super::{
    extents::{self, Ranges},
    tree::{self, Seen},
};
use crate::clock::mono;

/// Smaller files are read as fast.
const FILE_BYTES_MIN: u64 = 16 << 20;

/// The hashes of the parts of larger ones would take too much memory: 32 bytes for each 64 KiB.
const FILE_BYTES_MAX: u64 = 64 << 30;

/// The most files with a shadow, each of which is an open file of ours. The one that was read longest ago makes room.
const FILES_MAX: usize = 256;

/// The most bytes of files with a shadow: what is kept of their parts takes 64 MiB.
const TOTAL_BYTES_MAX: u64 = 128 << 30;

/// One part in so many of the disk is left to others: where less is free all shadows end.
const FREE_PART: u64 = 16;

/// How often it is looked whether the disk gets short.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

/// What a file held.
#[derive(Debug)]
pub(crate) struct Shadow {
    content: OwnedFd,
    len: u64,
    /// What the map says of the file where its block hashes are those of this content.
    signature: Signature,
    hash: Option<ContentHash>,
    parts: Option<Vec<PartHash>>,
}

/// What a file holds now, and what is known of it.
#[derive(Debug)]
pub(crate) struct Shot {
    /// What the file looked like before.
    pub(crate) seen: Seen,
    /// Something may have been written after this was taken, and have left the file's time.
    pub(crate) is_racy: bool,
    /// The content.
    pub(crate) content: OwnedFd,
    /// Where it may differ from what was read last, and the hashes of the parts of that; `None`: anywhere.
    pub(crate) since: Option<(Ranges, Option<Vec<PartHash>>)>,
}

/// The shadows of a source's files.
#[derive(Debug)]
pub(crate) struct Shadows {
    exact_times: bool,
    files: HashMap<FileId, (u64, Shadow)>,
    count: u64,
    next_look: MonoTime,
}

impl Shadows {
    /// Begins with none; with `exact_times` two changes of a file never leave the same time.
    pub(crate) fn new(exact_times: bool) -> Self {
        Self { exact_times, files: HashMap::new(), count: 0, next_look: mono() }
    }

    /// Takes what a file holds at this moment; `None` where its file system cannot, or it is not worth it. Its shadow is
    /// gone then: with [`Self::keep`] comes the next, when the map knows what was read.
    pub(crate) fn shoot(
        &mut self,
        root: BorrowedFd<'_>,
        open: BorrowedFd<'_>,
        file: FileId,
        record: &FileRecord,
    ) -> Option<Shot> {
        let former = self.files.remove(&file).map(|(_, shadow)| shadow);
        let seen = tree::look_at(open).ok()?;
        let len = seen.signature.size;
        if !(FILE_BYTES_MIN..=FILE_BYTES_MAX).contains(&len) || is_short(root) {
            return None;
        }
        let content = clone(root, open).ok()?;
        // It grew or was cut in between.
        if tree::look_at(content.as_fd()).ok()?.signature.size != len {
            return None;
        }
        let former = former.filter(|former| former.is_known_to(record));
        let since = former.and_then(|former| {
            let mut ranges = extents::differences(&former.content, &content, len).ok()??;
            add_border(&mut ranges, former.len, len);
            let differ: u64 = ranges.iter().map(|range| range.end - range.start).sum();
            (differ <= len / 2).then_some((ranges, former.parts))
        });
        let when = When { stamp: now(), now: mono(), exact_times: self.exact_times };
        Some(Shot { seen, is_racy: when.is_racy(seen.signature.mtime), content, since })
    }

    /// Keeps what was read of a file.
    pub(crate) fn keep(&mut self, file: FileId, shadow: Shadow) {
        self.files.remove(&file);
        let total = |files: &HashMap<_, (u64, Shadow)>| {
            files.values().map(|(_, shadow)| shadow.len).sum::<u64>()
        };
        while self.files.len() >= FILES_MAX
            || !self.files.is_empty() && total(&self.files) + shadow.len > TOTAL_BYTES_MAX
        {
            let oldest = self.files.iter().min_by_key(|(_, (count, _))| *count);
            let Some(oldest) = oldest.map(|(file, _)| *file) else { break };
            self.files.remove(&oldest);
        }
        self.count += 1;
        self.files.insert(file, (self.count, shadow));
    }

    /// Forgets files that are gone: nothing else would give their blocks back.
    pub(crate) fn forget(&mut self, files: &[FileId]) {
        for file in files {
            self.files.remove(file);
        }
    }

    /// Ends all shadows where the disk gets short of space; tells whether it is.
    pub(crate) fn look_at_space(&mut self, root: BorrowedFd<'_>, now: MonoTime) -> bool {
        self.next_look = now + LOOK_EVERY;
        let is_short = is_short(root);
        if is_short && !self.files.is_empty() {
            let files = self.files.len();
            tracing::info!(files, "little space is left: large files are read whole again");
            self.files.clear();
        }
        is_short
    }

    /// Returns when it is to be looked whether the disk gets short.
    pub(crate) fn next_look(&self) -> MonoTime {
        self.next_look
    }

    /// Tells whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

impl Shadow {
    /// Returns the shadow of a content that was read, and is known to the map by this signature and hash.
    pub(crate) fn new(
        content: OwnedFd,
        signature: Signature,
        hash: Option<ContentHash>,
        parts: Option<Vec<PartHash>>,
    ) -> Self {
        Self { content, len: signature.size, signature, hash, parts }
    }

    /// Tells whether the block hashes of the map are those of this content.
    fn is_known_to(&self, record: &FileRecord) -> bool {
        let is_same = match (self.hash, record.hash) {
            (None, None) => self.signature == record.signature,
            (here, there) => here == there,
        };
        is_same && record.blocks && !record.forgotten
    }
}

/// The hash of a part says how long it is, too: where a file ended, and where it ends now, it is hashed anew.
fn add_border(ranges: &mut Ranges, before: u64, now: u64) {
    if before == now {
        return;
    }
    let from = before.min(now).saturating_sub(1);
    ranges.retain(|range| range.start < from);
    match ranges.last_mut() {
        Some(last) if last.end >= from => last.end = now,
        _ => ranges.push(from..now),
    }
}

fn clone(root: BorrowedFd<'_>, open: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    let content = fs::openat(root, ".", flags, Mode::RUSR | Mode::WUSR)?;
    // Whoever writes to it waits while it is cloned: what is not on the disk by then goes there before.
    extents::flush(open)?;
    fs::ioctl_ficlone(&content, open)?;
    Ok(content)
}

fn is_short(root: BorrowedFd<'_>) -> bool {
    fs::fstatvfs(root).is_ok_and(|disk| disk.f_bavail < disk.f_blocks / FREE_PART)
}
