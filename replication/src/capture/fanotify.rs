//! Marks from one fanotify mark on the file system: no watch per folder, renames with both their names.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nix::sys::fanotify::{EventFFlags, InitFlags, MarkFlags, MaskFlags};

use super::{
    Capture, Marks, Touch,
    events::{self, Handle},
    handle,
};

/// The most handles whose inode is remembered; then all are forgotten and asked for again.
const HANDLES_MAX: usize = 1 << 16;

/// One read takes this many bytes of events.
const BUFFER_BYTES: usize = 256 * 1024;

/// The most reads of one drain, so that a writer that never pauses does not keep us from examining.
const READS_MAX: usize = 16;

/// Fanotify on a whole file system.
#[derive(Debug)]
pub(crate) struct Fanotify {
    group: nix::sys::fanotify::Fanotify,
    mount: OwnedFd,
    inodes: HashMap<(i32, Box<[u8]>), Option<u64>>,
    buffer: Vec<u8>,
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
        let mount = root.try_clone()?;
        Ok(Self { group, mount, inodes: HashMap::new(), buffer: vec![0; BUFFER_BYTES] })
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
                note(&event, self.mount.as_fd(), &mut self.inodes, marks);
            }
            if !bytes.is_empty() {
                tracing::warn!(bytes = bytes.len(), "the kernel sent events of an unknown form");
                marks.all();
            }
        }
        Ok(())
    }

    fn watch(&mut self, _inode: u64, _folder: BorrowedFd<'_>) -> io::Result<()> {
        Ok(())
    }

    fn unwatch(&mut self, _inode: u64) {}
}

const NAME_MASK: MaskFlags =
    MaskFlags::FAN_CREATE.union(MaskFlags::FAN_DELETE).union(MaskFlags::FAN_RENAME);
const CONTENT_MASK: MaskFlags = MaskFlags::FAN_MODIFY.union(MaskFlags::FAN_CLOSE_WRITE);

fn note(
    event: &events::Event<'_>,
    mount: BorrowedFd<'_>,
    inodes: &mut HashMap<(i32, Box<[u8]>), Option<u64>>,
    marks: &mut Marks,
) {
    let mask = MaskFlags::from_bits_retain(event.mask);
    if mask.contains(MaskFlags::FAN_Q_OVERFLOW) {
        marks.all();
        return;
    }
    if mask.intersects(NAME_MASK) {
        for (folder, name) in &event.names {
            let Some(inode) = inode_of(mount, inodes, *folder, marks) else { continue };
            // The folder itself is reported as "." in it.
            if !name.is_empty() && *name != b"." {
                marks.name(inode, name, Touch::default());
            }
            // Its times changed with its names, also where the name is gone again by now.
            marks.object(inode, Touch::default());
        }
    }
    if mask.intersects(CONTENT_MASK | MaskFlags::FAN_ATTRIB) {
        // What happens to a folder itself comes with its own handle and the name ".", and without an object.
        let itself = event.names.iter().find(|(_, name)| *name == b".").map(|(folder, _)| *folder);
        let object = event.object.or(itself);
        if let Some(inode) = object.and_then(|it| inode_of(mount, inodes, it, marks)) {
            let touch = Touch {
                modified: mask.contains(MaskFlags::FAN_MODIFY),
                closed: mask.contains(MaskFlags::FAN_CLOSE_WRITE),
                moved: false,
            };
            marks.object(inode, touch);
        }
    }
    if mask.contains(MaskFlags::FAN_ATTRIB) {
        // What could not be read may be readable now, and is known by its name only.
        for (folder, name) in event.names.iter().filter(|(_, name)| *name != b".") {
            if let Some(inode) =
                inode_of(mount, inodes, *folder, marks).filter(|_| !name.is_empty())
            {
                marks.name(inode, name, Touch::default());
            }
        }
    }
}

/// Returns the inode number behind a handle; `None` when it is gone.
fn inode_of(
    mount: BorrowedFd<'_>,
    inodes: &mut HashMap<(i32, Box<[u8]>), Option<u64>>,
    handle: Handle<'_>,
    marks: &mut Marks,
) -> Option<u64> {
    let key = (handle.kind, handle.bytes.into());
    if let Some(inode) = inodes.get(&key) {
        return *inode;
    }
    let stale = rustix::io::Errno::STALE.raw_os_error();
    let opened = handle::open(mount, handle);
    let inode = match opened.and_then(|place| Ok(rustix::fs::fstat(&place)?.st_ino)) {
        Ok(inode) => Some(inode),
        Err(error) if error.raw_os_error() == Some(stale) => None,
        Err(error) => {
            tracing::warn!(%error, "cannot resolve a file handle, comparing everything");
            marks.all();
            return None;
        }
    };
    if inodes.len() >= HANDLES_MAX {
        inodes.clear();
    }
    // A handle names one object for ever (it holds the generation), so what is gone stays gone.
    inodes.insert(key, inode);
    inode
}
