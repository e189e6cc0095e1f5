//! Which sources lie on a file system, which inodes the handles of its events stand for, and whose they are.

use std::{
    collections::{HashMap, HashSet},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    sync::{Arc, Mutex},
};

use keepshare_base::FileTime;
use nix::sys::fanotify::MaskFlags;
use rustix::{
    event::{EventfdFlags, eventfd},
    fs::{AtFlags, StatxFlags},
    io::Errno,
};

use super::locked;
use crate::capture::{
    Marks, Object, Touch,
    events::{Event, Handle},
    handle,
};

/// A source among those on the file system.
pub(in crate::capture) type MemberId = u64;

/// Stands for every source.
const ALL: MemberId = 0;

pub(super) type Key = (i32, Box<[u8]>);

/// The most handles of objects, and of folders outside, that are remembered; then all are forgotten and asked for again.
const HANDLES_MAX: usize = 1 << 16;

/// One read takes this many bytes of events.
const BUFFER_BYTES: usize = 256 * 1024;

/// How often a handle is opened before it is given up.
const OPENED_MAX: usize = 5;

/// What a source takes its marks from.
#[derive(Debug)]
pub(in crate::capture) struct Member {
    pub(super) root: PathBuf,
    /// Goes with the source: whoever has it open keeps the file system from being unmounted.
    pub(super) mount: OwnedFd,
    pub(super) marks: Mutex<Marks>,
    pub(super) wake: OwnedFd,
}

/// Which inodes handles stand for, and whose they are.
#[derive(Debug)]
pub(super) struct Members {
    pub(super) members: HashMap<MemberId, Arc<Member>>,
    pub(super) next_member: MemberId,
    /// The sources' folders, and their files with names outside.
    pub(super) known: HashMap<Key, Known>,
    pub(super) handles: HashMap<(MemberId, u64), Key>,
    /// An event had a handle that was asked for: on this file system both are the same.
    pub(super) is_same: bool,
    /// Folders outside of all sources.
    pub(super) outside: HashSet<Key>,
    /// Other objects; `None`: gone.
    pub(super) objects: HashMap<Key, Option<Object>>,
    pub(super) buffer: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) member: MemberId,
    pub(super) inode: u64,
}

impl Member {
    /// Takes no marks yet.
    pub(super) fn new(root: &OwnedFd) -> io::Result<Self> {
        Ok(Self {
            mount: root.try_clone()?,
            root: std::fs::read_link(fd_path(root.as_fd()))?,
            marks: Mutex::default(),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    /// Becomes readable when there are marks.
    pub(in crate::capture) fn wake(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Takes the marks gathered so far.
    pub(in crate::capture) fn take(&self, into: &mut Marks) {
        // Empty, or it held what is taken now.
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        into.append(std::mem::take(&mut *locked(&self.marks)));
    }
}

/// Where an unknown folder lies.
enum Lies {
    /// In these sources.
    In(Vec<MemberId>),
    Outside,
}

impl Members {
    /// Begins with no source.
    pub(super) fn new() -> Self {
        Self {
            members: HashMap::new(),
            next_member: 1,
            known: HashMap::new(),
            handles: HashMap::new(),
            is_same: false,
            outside: HashSet::new(),
            objects: HashMap::new(),
            buffer: vec![0; BUFFER_BYTES],
        }
    }

    pub(super) fn note(&mut self, event: &Event<'_>, told: &mut HashSet<MemberId>) {
        let mask = MaskFlags::from_bits_retain(event.mask);
        if mask.contains(MaskFlags::FAN_Q_OVERFLOW) {
            return self.tell_all(told);
        }
        let touch = Touch {
            modified: mask.contains(MaskFlags::FAN_MODIFY),
            closed: mask.contains(MaskFlags::FAN_CLOSE_WRITE),
            moved: false,
        };
        let mut is_elsewhere = true;
        for (i, (folder, name)) in event.names.iter().enumerate() {
            let Some(known) = self.folder(*folder) else { continue };
            is_elsewhere = false;
            // Its times changed with its names, also where the name is gone again by now.
            let is_about_folder = mask.intersects(NAME_MASK) || *name == b".";
            let moved = event.moved && i + 1 == event.names.len();
            self.mark(known.member, told, |marks| {
                // The folder itself is reported as "." in it.
                if !name.is_empty() && *name != b"." {
                    marks.name(known.inode, name, Touch { moved, ..touch });
                }
                if is_about_folder {
                    marks.object(known.inode, Touch::default());
                }
            });
        }
        if let Some(object) = event.object
            && is_elsewhere
            && mask.intersects(CONTENT_MASK | MaskFlags::FAN_ATTRIB)
        {
            self.note_stranger(event, object, touch, told);
        }
    }

    /// Notes what happened to an object where no folder is known.
    fn note_stranger(
        &mut self,
        event: &Event<'_>,
        object: Handle<'_>,
        touch: Touch,
        told: &mut HashSet<MemberId>,
    ) {
        if let Some(known) = self.known.get(&key(object)).copied() {
            // A folder of a source, or a file with a name outside.
            return self.mark(known.member, told, |marks| marks.object(known.inode, touch));
        }
        let members = match event.names.first() {
            Some((folder, _)) => match self.lies(*folder) {
                Lies::In(members) => members,
                Lies::Outside => return,
            },
            // Nobody knows where: it was opened by its handle, as NFS servers do, or has lost a name.
            None => vec![ALL],
        };
        let is_content = touch.modified || touch.closed;
        // That a file got or lost a name somewhere is looked at when its source looks anyway: who knows whose it is.
        let mut nobody = HashSet::new();
        let told = if is_content || !event.names.is_empty() { told } else { &mut nobody };
        let found = self.object(object);
        for member in members {
            match found {
                Ok(Some(object)) => self.mark(member, told, |marks| marks.stranger(object, touch)),
                Ok(None) => {}
                // The folder that it is in is new, and read whole.
                Err(_) if !is_content || !event.names.is_empty() => {}
                Err(_) => self.mark(member, told, Marks::all),
            }
        }
    }

    /// Returns the folder of a source that a handle stands for.
    fn folder(&mut self, folder: Handle<'_>) -> Option<Known> {
        let key = key(folder);
        if let Some(known) = self.known.get(&key) {
            self.is_same = true;
            return Some(*known);
        }
        if self.is_same || self.outside.contains(&key) {
            return None;
        }
        // Perhaps the events of this file system have other handles than it gives.
        let inode = self.object(folder).ok()??.number;
        let mut members = self.members.keys();
        let member = members.find(|member| self.handles.contains_key(&(**member, inode)))?;
        Some(Known { member: *member, inode })
    }

    /// Tells where a folder lies that is not known.
    fn lies(&mut self, folder: Handle<'_>) -> Lies {
        let key = key(folder);
        if self.outside.contains(&key) {
            return Lies::Outside;
        }
        // One that is gone, or on its way, is looked at again should it come back.
        let Ok(open) = self.open(folder) else { return Lies::In(Vec::new()) };
        let Ok(path) = std::fs::read_link(fd_path(open.as_fd())) else {
            return Lies::In(Vec::new());
        };
        let holds = |member: &Arc<Member>| path.starts_with(&member.root);
        let inside = self.members.iter().filter(|(_, member)| holds(member));
        let inside: Vec<MemberId> = inside.map(|(id, _)| *id).collect();
        if !inside.is_empty() {
            return Lies::In(inside);
        }
        if self.outside.len() >= HANDLES_MAX {
            self.outside.clear();
        }
        self.outside.insert(key);
        Lies::Outside
    }

    /// Returns the object behind a handle; `None` when it is gone.
    fn object(&mut self, handle: Handle<'_>) -> io::Result<Option<Object>> {
        let key = key(handle);
        if let Some(object) = self.objects.get(&key) {
            return Ok(*object);
        }
        let object = match self.open(handle).and_then(|open| look(open.as_fd())) {
            Ok(object) => Some(object),
            Err(error) if error.raw_os_error() == Some(Errno::STALE.raw_os_error()) => None,
            Err(error) => {
                tracing::debug!(%error, "cannot resolve a file handle");
                return Err(error);
            }
        };
        if self.objects.len() >= HANDLES_MAX {
            self.objects.clear();
        }
        // A handle names one object for ever (it holds the generation), so what is gone stays gone.
        self.objects.insert(key, object);
        Ok(object)
    }

    fn open(&self, handle: Handle<'_>) -> io::Result<OwnedFd> {
        let member = self.members.values().next().ok_or(io::ErrorKind::NotFound)?;
        let mount = member.mount.as_fd();
        let mut opened = handle::open(mount, handle);
        for _ in 1..OPENED_MAX {
            match &opened {
                // It passes: what it is connected to was just being moved.
                Err(error) if error.raw_os_error() == Some(Errno::NOMEM.raw_os_error()) => {
                    opened = handle::open(mount, handle);
                }
                _ => break,
            }
        }
        opened
    }

    fn mark(&self, wanted: MemberId, told: &mut HashSet<MemberId>, mark: impl Fn(&mut Marks)) {
        for (id, member) in &self.members {
            if *id == wanted || wanted == ALL {
                mark(&mut locked(&member.marks));
                told.insert(*id);
            }
        }
    }

    pub(super) fn tell_all(&self, told: &mut HashSet<MemberId>) {
        self.mark(ALL, told, Marks::all);
    }

    pub(super) fn wake(&self, told: &HashSet<MemberId>) {
        for member in told.iter().filter_map(|member| self.members.get(member)) {
            // A full counter wakes as well.
            let _ = rustix::io::write(&member.wake, &1u64.to_ne_bytes());
        }
    }
}

pub(super) const NAME_MASK: MaskFlags =
    MaskFlags::FAN_CREATE.union(MaskFlags::FAN_DELETE).union(MaskFlags::FAN_RENAME);
pub(super) const CONTENT_MASK: MaskFlags = MaskFlags::FAN_MODIFY.union(MaskFlags::FAN_CLOSE_WRITE);

fn key(handle: Handle<'_>) -> Key {
    (handle.kind, handle.bytes.into())
}

pub(super) fn fd_path(fd: BorrowedFd<'_>) -> PathBuf {
    use std::os::fd::AsRawFd;
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

fn look(object: BorrowedFd<'_>) -> io::Result<Object> {
    let flags = AtFlags::EMPTY_PATH;
    let stat = rustix::fs::statx(object, c"", flags, StatxFlags::INO | StatxFlags::BTIME)?;
    let has_birth = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME);
    let birth = FileTime { secs: stat.stx_btime.tv_sec, nanos: stat.stx_btime.tv_nsec };
    let birth = if has_birth { birth } else { FileTime::default() };
    Ok(Object { number: stat.stx_ino, birth })
}
