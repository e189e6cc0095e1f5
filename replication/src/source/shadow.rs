//! Shadows: what large files held when they were read last, on file systems that share blocks between files (XFS, btrfs).
//!
//! A shadow is a file without a name that shares its blocks with the one that it was made of (`FICLONE`). It costs nothing
//! until that one is written to; then it keeps the old blocks. Where the two differ is where somebody wrote since
//! ([`super::extents`]), whoever it was and however: through a memory map, past the page cache, while nobody watched. So only
//! that is read, and from the next shadow, which nobody changes under the reader: a file that is being written all the time
//! is read as it was at one moment.
//!
//! A clone waits until what was written to the file is on the disk. So it is made on a thread of its own, and the file is read
//! when it is there ([`Awaited`]).
//!
//! Shadows end with the process, with the folder, and when the disk gets short of space. What is read without one is
//! compared by its block hashes, as on any other file system.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, Receiver},
    },
    thread,
    time::Duration,
};

use keepshare_base::{ContentHash, FileId, PartHash};
use keepshare_decide::{FileRecord, Signature, compose::When};
use keepshare_host::clock::now;
use keepshare_proto::MonoTime;
use rustix::{
    fs::{self, Mode, OFlags},
    process::{Resource, getrlimit},
};

use super::{
    extents::{self, Ranges},
    shared::Shared,
    tree::{self, Seen},
};
use crate::clock::mono;

/// Smaller files are read as fast.
const FILE_BYTES_MIN: u64 = 16 << 20;

/// The hashes of the parts of larger ones would take too much memory: 32 bytes for each 64 KiB.
const FILE_BYTES_MAX: u64 = 64 << 30;

/// The most files with a shadow, each of which is an open file of ours. The one that was read longest ago makes room.
const FILES_MAX: usize = 256;

/// And no more than one part in so many of the files that this process may open: other sets have shadows, too.
const OPEN_PART: u64 = 16;

/// The most bytes of files with a shadow: what is kept of their parts takes 64 MiB. As many may be of those that are being read.
const TOTAL_BYTES_MAX: u64 = 128 << 30;

/// The most files that are cloned at a time, each by a thread.
const AT_ONCE: usize = 4;

/// One part in so many of the disk is left to others: where less is free all shadows end.
const FREE_PART: u64 = 16;

/// How often it is looked whether the disk gets short.
const LOOK_EVERY: Duration = Duration::from_secs(1);

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
    /// How long it took to have it.
    pub(crate) took: Duration,
    /// Holds its share of what may be read at a time.
    pub(crate) room: Room,
    /// Where it may differ from what was read last, and the hashes of the parts of that; `None`: anywhere.
    pub(crate) since: Option<(Ranges, Option<Vec<PartHash>>)>,
}

/// What a file will be seen to hold.
#[derive(Debug)]
pub(crate) struct Awaited {
    shot: Receiver<Shot>,
    is_there: Arc<AtomicBool>,
}

/// Bytes of files that are being cloned, or read from a clone, given back on drop.
#[derive(Debug)]
pub(crate) struct Room {
    bytes: u64,
    taken: Arc<AtomicU64>,
}

/// The shadows of a source's files.
#[derive(Debug)]
pub(crate) struct Shadows {
    exact_times: bool,
    /// Whose thread waits for shots.
    shared: Arc<Shared>,
    /// As many as threads that make one, and one more.
    running: Arc<()>,
    taken: Arc<AtomicU64>,
    files_max: usize,
    files: HashMap<FileId, (u64, Shadow)>,
    count: u64,
    next_look: MonoTime,
}

impl Shadows {
    /// Begins with none; with `exact_times` two changes of a file never leave the same time.
    pub(crate) fn new(exact_times: bool, shared: Arc<Shared>) -> Self {
        // No limit is none to heed.
        let open_max = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) / OPEN_PART;
        Self {
            exact_times,
            shared,
            running: Arc::default(),
            taken: Arc::default(),
            files_max: usize::try_from(open_max).unwrap_or(usize::MAX).clamp(1, FILES_MAX),
            files: HashMap::new(),
            count: 0,
            next_look: mono(),
        }
    }

    /// Has what a file holds be taken at one moment; `None` where it is not worth it, or enough are being taken. Its shadow
    /// is gone then: with [`Self::keep`] comes the next, when the map knows what was read.
    pub(crate) fn shoot(
        &mut self,
        root: BorrowedFd<'_>,
        open: BorrowedFd<'_>,
        file: FileId,
        record: &FileRecord,
    ) -> Option<Awaited> {
        let former = self.files.remove(&file).map(|(_, shadow)| shadow);
        let former = former.filter(|former| former.is_known_to(record));
        let len = tree::look_at(open).ok()?.signature.size;
        let is_busy = Arc::strong_count(&self.running) > AT_ONCE;
        if !(FILE_BYTES_MIN..=FILE_BYTES_MAX).contains(&len) || is_busy {
            return None;
        }
        let room = Room::take(&self.taken, len)?;
        let (root, open) = (root.try_clone_to_owned().ok()?, open.try_clone_to_owned().ok()?);
        let (send, shot) = mpsc::sync_channel(1);
        let is_there = Arc::new(AtomicBool::new(false));
        let end = End { is_there: is_there.clone(), shared: self.shared.clone() };
        let (running, exact_times) = (self.running.clone(), self.exact_times);
        let taking = move || {
            let _end = end;
            let _running = running;
            if let Some(shot) = take(root.as_fd(), open.as_fd(), former, room, exact_times) {
                // Nobody waits for it any more where this fails.
                let _ = send.send(shot);
            }
        };
        let name = format!("shadow-{}", self.shared.config.set);
        thread::Builder::new().name(name).spawn(taking).ok()?;
        Some(Awaited { shot, is_there })
    }

    /// Keeps what was read of a file.
    pub(crate) fn keep(&mut self, file: FileId, shadow: Shadow) {
        self.files.remove(&file);
        let total = |files: &HashMap<_, (u64, Shadow)>| {
            files.values().map(|(_, shadow)| shadow.len).sum::<u64>()
        };
        while self.files.len() >= self.files_max
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

impl Room {
    /// Takes room for a file; `None` where too much is taken.
    fn take(taken: &Arc<AtomicU64>, bytes: u64) -> Option<Self> {
        let fits = |now: u64| (now + bytes <= TOTAL_BYTES_MAX).then_some(now + bytes);
        taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(Self { bytes, taken: taken.clone() })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Awaited {
    /// Tells whether it is known what the file held, or that it cannot be had.
    pub(crate) fn is_there(&self) -> bool {
        self.is_there.load(Ordering::Acquire)
    }

    /// Takes what the file held, `Some(None)` where that cannot be had; `None`: it is not known yet.
    pub(crate) fn take(&self) -> Option<Option<Shot>> {
        self.is_there().then(|| self.shot.try_recv().ok())
    }
}

/// Says at the end of a thread, however it comes, that no more is to be waited for.
struct End {
    is_there: Arc<AtomicBool>,
    shared: Arc<Shared>,
}

impl Drop for End {
    fn drop(&mut self) {
        self.is_there.store(true, Ordering::Release);
        self.shared.wake_up();
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

/// Takes what a file holds; `None` where its file system cannot, or is short of space.
fn take(
    root: BorrowedFd<'_>,
    open: BorrowedFd<'_>,
    former: Option<Shadow>,
    room: Room,
    exact_times: bool,
) -> Option<Shot> {
    let began = mono();
    if is_short(root) {
        return None;
    }
    // Whoever writes to the file waits while it is cloned: what is not on the disk by then goes there before.
    extents::flush(open).ok()?;
    let seen = tree::look_at(open).ok()?;
    let when = When { stamp: now(), now: mono(), exact_times };
    let len = seen.signature.size;
    let content = clone(root, open).ok()?;
    // It grew or was cut in between.
    if tree::look_at(content.as_fd()).ok()?.signature.size != len {
        return None;
    }
    let since = former.and_then(|former| {
        let mut ranges = extents::differences(&former.content, &content, len).ok()??;
        add_border(&mut ranges, former.len, len);
        let differ: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        (differ <= len / 2).then_some((ranges, former.parts))
    });
    let (is_racy, took) = (when.is_racy(seen.signature.mtime), mono().since(began));
    Some(Shot { seen, is_racy, content, took, room, since })
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
    fs::ioctl_ficlone(&content, open)?;
    Ok(content)
}

fn is_short(root: BorrowedFd<'_>) -> bool {
    fs::fstatvfs(root).is_ok_and(|disk| disk.f_bavail < disk.f_blocks / FREE_PART)
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "one stretch of several that could be")]
mod tests {
    use super::*;

    /// What is known of the parts of files that are read takes memory, however many are written to at a time.
    #[test]
    fn no_more_is_read_at_a_time_than_there_is_room_for() {
        let taken = Arc::default();
        let first = Room::take(&taken, FILE_BYTES_MAX).unwrap();
        let second = Room::take(&taken, TOTAL_BYTES_MAX - FILE_BYTES_MAX).unwrap();
        assert!(Room::take(&taken, 1).is_none());
        drop(first);
        assert!(Room::take(&taken, FILE_BYTES_MAX + 1).is_none());
        assert!(Room::take(&taken, FILE_BYTES_MAX).is_some(), "it was given back");
        drop(second);
        assert_eq!(taken.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn where_a_file_ended_and_ends_it_is_read() {
        let bordered = |mut ranges: Ranges, before, now| {
            add_border(&mut ranges, before, now);
            ranges
        };
        assert_eq!(bordered(vec![1..5, 90..100], 100, 100), [1..5, 90..100]);
        assert_eq!(bordered(vec![1..5], 100, 150), [1..5, 99..150]);
        assert_eq!(bordered(vec![1..5, 90..120], 100, 150), [1..5, 90..150]);
        assert_eq!(bordered(vec![1..5, 110..120], 100, 150), [1..5, 99..150]);
        assert_eq!(bordered(vec![1..5], 150, 100), [1..5, 99..100]);
        assert_eq!(bordered(vec![], 150, 100), [99..100]);
    }
}
