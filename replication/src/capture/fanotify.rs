//! Marks from one fanotify mark on the file system: no watch per folder, renames with both their names.
//!
//! The mark tells of everything on the file system. The source's folders are known by their handles, about 100 bytes for
//! each of them, so that what happens elsewhere costs a lookup. Only content written where no folder is known is looked
//! at further: it may be a file of the source under a name outside, or in a folder that nobody has gone through yet.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use keepshare_base::FileTime;
use nix::sys::fanotify::{EventFFlags, InitFlags, MarkFlags, MaskFlags};
use rustix::{
    fs::{AtFlags, StatxFlags},
    io::Errno,
};

use super::{
    Capture, Marks, Object, Touch,
    events::{self, Handle},
    handle,
};

/// The most handles of files whose inode is remembered; then all are forgotten and asked for again.
const HANDLES_MAX: usize = 1 << 16;

/// How often a handle is opened before it is given up.
const OPENED_MAX: usize = 5;

/// One read takes this many bytes of events.
const BUFFER_BYTES: usize = 256 * 1024;

/// The most reads of one drain, so that a writer that never pauses does not keep us from examining.
const READS_MAX: usize = 16;

/// Fanotify on a whole file system.
#[derive(Debug)]
pub(crate) struct Fanotify {
    group: nix::sys::fanotify::Fanotify,
    known: Known,
    buffer: Vec<u8>,
}

type Key = (i32, Box<[u8]>);

/// Which inodes handles stand for.
#[derive(Debug)]
struct Known {
    mount: OwnedFd,
    /// The source's folders.
    folders: HashMap<Key, u64>,
    handles: HashMap<u64, Key>,
    /// An event had a handle that was asked for: on this file system both are the same.
    is_same: bool,
    /// Other objects; `None`: gone.
    objects: HashMap<Key, Option<Object>>,
}

impl Fanotify {
    /// Marks the file system of the folder `root`.
    pub(crate) fn open(root: &OwnedFd) -> io::Result<Self> {
        // nix does not name the flags that report file handles.
        let report = InitFlags::from_bits_retain(
            libc::FAN_REPORT_FID
                | libc::FAN_REPORT_DIR_FID
                | libc::FAN_REPORT_NAME
                | libc::FAN_REPORT_TARGET_FID,
        );
        let group = nix::sys::fanotify::Fanotify::init(
            InitFlags::FAN_CLASS_NOTIF
                | InitFlags::FAN_UNLIMITED_QUEUE
                | InitFlags::FAN_CLOEXEC
                | InitFlags::FAN_NONBLOCK
                | report,
            EventFFlags::O_RDONLY,
        )?;
        group.mark(
            MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_FILESYSTEM,
            NAME_MASK | CONTENT_MASK | MaskFlags::FAN_ATTRIB | MaskFlags::FAN_ONDIR,
            root,
            Some("."),
        )?;
        let known = Known {
            mount: root.try_clone()?,
            folders: HashMap::new(),
            handles: HashMap::new(),
            is_same: false,
            objects: HashMap::new(),
        };
        Ok(Self { group, known, buffer: vec![0; BUFFER_BYTES] })
    }
}

impl Capture for Fanotify {
    fn name(&self) -> &'static str {
        "fanotify"
    }

    fn readable(&self) -> Option<BorrowedFd<'_>> {
        Some(self.group.as_fd())
    }

    fn drain(&mut self, marks: &mut Marks) -> io::Result<()> {
        for _ in 0..READS_MAX {
            let len = match rustix::io::read(&self.group, &mut self.buffer) {
                Ok(0) | Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(rustix::io::Errno::INTR) => continue,
                Ok(len) => len,
                Err(error) => return Err(error.into()),
            };
            let mut bytes = &self.buffer[..len];
            while let Some((event, rest)) = events::next_event(bytes) {
                bytes = rest;
                note(&event, &mut self.known, marks);
            }
            if !bytes.is_empty() {
                tracing::warn!(bytes = bytes.len(), "the kernel sent events of an unknown form");
                marks.all();
            }
        }
        Ok(())
    }

    fn watch(&mut self, inode: u64, folder: BorrowedFd<'_>) -> io::Result<()> {
        let key = handle::of(folder)?;
        self.known.objects.remove(&key);
        self.known.folders.insert(key.clone(), inode);
        if let Some(former) = self.known.handles.insert(inode, key.clone()).filter(|f| *f != key) {
            self.known.folders.remove(&former);
        }
        Ok(())
    }

    fn unwatch(&mut self, inode: u64) {
        if let Some(key) = self.known.handles.remove(&inode) {
            self.known.folders.remove(&key);
        }
    }
}

const NAME_MASK: MaskFlags =
    MaskFlags::FAN_CREATE.union(MaskFlags::FAN_DELETE).union(MaskFlags::FAN_RENAME);
const CONTENT_MASK: MaskFlags = MaskFlags::FAN_MODIFY.union(MaskFlags::FAN_CLOSE_WRITE);

fn note(event: &events::Event<'_>, known: &mut Known, marks: &mut Marks) {
    let mask = MaskFlags::from_bits_retain(event.mask);
    if mask.contains(MaskFlags::FAN_Q_OVERFLOW) {
        marks.all();
        return;
    }
    let touch = Touch {
        modified: mask.contains(MaskFlags::FAN_MODIFY),
        closed: mask.contains(MaskFlags::FAN_CLOSE_WRITE),
        moved: false,
    };
    let mut is_elsewhere = true;
    for (i, (folder, name)) in event.names.iter().enumerate() {
        let Some(inode) = known.folder(*folder, marks) else { continue };
        is_elsewhere = false;
        // The folder itself is reported as "." in it.
        if !name.is_empty() && *name != b"." {
            let moved = event.moved && i + 1 == event.names.len();
            marks.name(inode, name, Touch { moved, ..touch });
        }
        // Its times changed with its names, also where the name is gone again by now.
        if mask.intersects(NAME_MASK) || *name == b"." {
            marks.object(inode, Touch::default());
        }
    }
    if is_elsewhere
        && mask.intersects(CONTENT_MASK | MaskFlags::FAN_ATTRIB)
        && let Some(object) = event.object.and_then(|object| known.object(object, marks))
    {
        marks.stranger(object, touch);
    }
}

impl Known {
    /// Returns the inode of a folder of the source.
    fn folder(&mut self, folder: Handle<'_>, marks: &mut Marks) -> Option<u64> {
        let key = (folder.kind, folder.bytes.into());
        if let Some(inode) = self.folders.get(&key) {
            self.is_same = true;
            return Some(*inode);
        }
        // A file system whose events have other handles than it gives: each must be opened to be known.
        if self.is_same { None } else { self.object(folder, marks).map(|object| object.number) }
    }

    /// Returns the object behind a handle; `None` when it is gone.
    fn object(&mut self, handle: Handle<'_>, marks: &mut Marks) -> Option<Object> {
        let key = (handle.kind, handle.bytes.into());
        if let Some(object) = self.objects.get(&key) {
            return *object;
        }
        let found = (0..OPENED_MAX).find_map(|_| match look(self.mount.as_fd(), handle) {
            // It passes: what it is connected to was just being moved.
            Err(error) if error.raw_os_error() == Some(Errno::NOMEM.raw_os_error()) => None,
            found => Some(found),
        });
        let object = match found {
            Some(Ok(object)) => Some(object),
            Some(Err(error)) if error.raw_os_error() == Some(Errno::STALE.raw_os_error()) => None,
            failed => {
                tracing::warn!(?failed, "cannot resolve a file handle, comparing everything");
                marks.all();
                return None;
            }
        };
        if self.objects.len() >= HANDLES_MAX {
            self.objects.clear();
        }
        // A handle names one object for ever (it holds the generation), so what is gone stays gone.
        self.objects.insert(key, object);
        object
    }
}

fn look(mount: BorrowedFd<'_>, handle: Handle<'_>) -> io::Result<Object> {
    let place = handle::open(mount, handle)?;
    let flags = AtFlags::EMPTY_PATH;
    let stat = rustix::fs::statx(place, c"", flags, StatxFlags::INO | StatxFlags::BTIME)?;
    let has_birth = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME);
    let birth = FileTime { secs: stat.stx_btime.tv_sec, nanos: stat.stx_btime.tv_nsec };
    let birth = if has_birth { birth } else { FileTime::default() };
    Ok(Object { number: stat.stx_ino, birth })
}
