//! One fanotify group for a file system, whatever number of sources lie on it.
//!
//! The mark tells of everything on the file system. Folders of the sources are known by their handles, about 100 bytes for
//! each of them, and their events are marked without a system call. A folder that is not known is opened once: it is a new
//! one in a source that nobody has gone through yet, or it is outside, and what happens in it later costs a lookup. A file of
//! a source that has a name outside too is known by its own handle.
//!
//! A thread reads, so that a source is woken by its own events alone.

use std::{
    collections::{HashMap, HashSet},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread,
    time::Duration,
};

use keepshare_base::FileTime;
use nix::sys::fanotify::{EventFFlags, InitFlags, MarkFlags, MaskFlags};
use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, eventfd, poll},
    fs::{AtFlags, StatxFlags},
    io::Errno,
};

use super::{
    Marks, Object, Touch,
    events::{self, Event, Handle},
    handle,
};

/// The most handles of objects, and of folders outside, that are remembered; then all are forgotten and asked for again.
const HANDLES_MAX: usize = 1 << 16;

/// The most files with names outside that are told of.
const LINKED_MAX: usize = 1 << 20;

/// How often a handle is opened before it is given up.
const OPENED_MAX: usize = 5;

/// One read takes this many bytes of events.
const BUFFER_BYTES: usize = 256 * 1024;

/// The most reads at a time, so that a writer that never pauses does not keep a source from examining.
const READS_MAX: usize = 16;

/// How long events of others may gather: reading each by itself costs more than it.
const FOREIGN_PAUSE: Duration = Duration::from_millis(5);

/// A source among those on the file system.
pub(super) type MemberId = u64;

/// Stands for every source.
const ALL: MemberId = 0;

type Key = (i32, Box<[u8]>);

/// A group and all sources that it tells.
#[derive(Debug)]
pub(super) struct Hub {
    group: nix::sys::fanotify::Fanotify,
    device: u64,
    /// Readable when the thread is to end.
    stop: OwnedFd,
    inner: Mutex<Inner>,
}

/// What a source takes its marks from.
#[derive(Debug)]
pub(super) struct Member {
    root: PathBuf,
    /// Goes with the source: whoever has it open keeps the file system from being unmounted.
    mount: OwnedFd,
    marks: Mutex<Marks>,
    wake: OwnedFd,
}

/// Which inodes handles stand for, and whose they are.
#[derive(Debug)]
struct Inner {
    members: HashMap<MemberId, Arc<Member>>,
    next_member: MemberId,
    /// The sources' folders, and their files with names outside.
    known: HashMap<Key, Known>,
    handles: HashMap<(MemberId, u64), Key>,
    /// An event had a handle that was asked for: on this file system both are the same.
    is_same: bool,
    /// Folders outside of all sources.
    outside: HashSet<Key>,
    /// Other objects; `None`: gone.
    objects: HashMap<Key, Option<Object>>,
    buffer: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    member: MemberId,
    inode: u64,
}

/// All groups of this process.
static HUBS: Mutex<Vec<Weak<Hub>>> = Mutex::new(Vec::new());

impl Hub {
    /// Joins the group of the file system of `root`, or makes it.
    pub(super) fn join(root: &OwnedFd) -> io::Result<(Arc<Self>, MemberId, Arc<Member>)> {
        // A file system without handles cannot tell which folder an event is of.
        handle::of(root.as_fd())?;
        let device = rustix::fs::fstat(root)?.st_dev;
        let member = Arc::new(Member {
            mount: root.try_clone()?,
            root: std::fs::read_link(fd_path(root.as_fd()))?,
            marks: Mutex::default(),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        });
        let mut hubs = locked(&HUBS);
        hubs.retain(|hub| hub.strong_count() > 0);
        let running = hubs.iter().filter_map(Weak::upgrade).find(|hub| hub.device == device);
        let hub = match running {
            Some(hub) => hub,
            None => {
                let hub = Self::open(root, device)?;
                hubs.push(Arc::downgrade(&hub));
                hub
            }
        };
        let mut inner = hub.inner();
        let id = inner.next_member;
        inner.next_member += 1;
        inner.members.insert(id, member.clone());
        drop(inner);
        Ok((hub, id, member))
    }

    fn open(root: &OwnedFd, device: u64) -> io::Result<Arc<Self>> {
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
        let inner = Inner {
            members: HashMap::new(),
            next_member: 1,
            known: HashMap::new(),
            handles: HashMap::new(),
            is_same: false,
            outside: HashSet::new(),
            objects: HashMap::new(),
            buffer: vec![0; BUFFER_BYTES],
        };
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let hub = Arc::new(Self { group, device, stop, inner: Mutex::new(inner) });
        let reading = hub.clone();
        thread::Builder::new().name("fanotify".to_owned()).spawn(move || reading.run())?;
        Ok(hub)
    }

    /// Takes a source out; the last one ends the group.
    pub(super) fn leave(&self, id: MemberId) {
        let mut hubs = locked(&HUBS);
        let mut inner = self.inner();
        inner.members.remove(&id);
        inner.known.retain(|_, known| known.member != id);
        inner.handles.retain(|(member, _), _| *member != id);
        if inner.members.is_empty() {
            hubs.retain(|hub| !std::ptr::eq(hub.as_ptr(), self));
            // A full counter ends it as well.
            let _ = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
        }
    }

    /// Begins to tell a source of an object of it.
    pub(super) fn know(
        &self,
        member: MemberId,
        inode: u64,
        object: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let key = handle::of(object)?;
        let mut inner = self.inner();
        inner.objects.remove(&key);
        inner.outside.remove(&key);
        inner.known.insert(key.clone(), Known { member, inode });
        let former = inner.handles.insert((member, inode), key.clone());
        if let Some(former) = former.filter(|former| *former != key) {
            inner.known.remove(&former);
        }
        Ok(())
    }

    /// As [`Self::know`], of a file with names outside: there may be too many of them.
    pub(super) fn know_linked(
        &self,
        id: MemberId,
        inode: u64,
        file: BorrowedFd<'_>,
    ) -> io::Result<()> {
        if self.inner().known.len() >= LINKED_MAX {
            return Err(io::Error::other("too many files with names outside of the source"));
        }
        self.know(id, inode, file)
    }

    /// Tells a source no more of an object.
    pub(super) fn forget(&self, member: MemberId, inode: u64) {
        let mut inner = self.inner();
        if let Some(key) = inner.handles.remove(&(member, inode)) {
            inner.known.remove(&key);
        }
    }

    /// Reads events and gives them to their sources; tells whether none is left, and whether there was one for a source.
    pub(super) fn read(&self) -> io::Result<(bool, bool)> {
        let mut inner = self.inner();
        let mut buffer = std::mem::take(&mut inner.buffer);
        let read = self.read_into(&mut inner, &mut buffer);
        inner.buffer = buffer;
        read
    }

    fn read_into(&self, inner: &mut Inner, buffer: &mut [u8]) -> io::Result<(bool, bool)> {
        let mut told = HashSet::new();
        let mut emptied = false;
        for _ in 0..READS_MAX {
            let len = match rustix::io::read(&self.group, &mut *buffer) {
                Ok(0) | Err(Errno::AGAIN) => {
                    emptied = true;
                    break;
                }
                Err(Errno::INTR) => continue,
                Ok(len) => len,
                Err(error) => {
                    inner.tell_all(&mut told);
                    inner.wake(&told);
                    return Err(error.into());
                }
            };
            let mut bytes = &buffer[..len];
            while let Some((event, rest)) = events::next_event(bytes) {
                bytes = rest;
                inner.note(&event, &mut told);
            }
            if !bytes.is_empty() {
                tracing::warn!(bytes = bytes.len(), "the kernel sent events of an unknown form");
                inner.tell_all(&mut told);
            }
        }
        inner.wake(&told);
        Ok((emptied, !told.is_empty()))
    }

    fn run(&self) {
        loop {
            let mut fds = [
                PollFd::from_borrowed_fd(self.group.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.stop.as_fd(), PollFlags::IN),
            ];
            // Interrupted or not: it is looked again.
            let _ = poll(&mut fds, None);
            if !fds[1].revents().is_empty() {
                return;
            }
            match self.read() {
                Ok((_, true)) => {}
                Ok((_, false)) => thread::sleep(FOREIGN_PAUSE),
                Err(error) => {
                    tracing::warn!(%error, "cannot read events, comparing everything");
                    thread::sleep(Duration::from_secs(1));
                }
            }
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        locked(&self.inner)
    }
}

impl Member {
    /// Becomes readable when there are marks.
    pub(super) fn wake(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Takes the marks gathered so far.
    pub(super) fn take(&self, into: &mut Marks) {
        // Empty, or it held what is taken now.
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        into.append(std::mem::take(&mut *locked(&self.marks)));
    }
}

const NAME_MASK: MaskFlags =
    MaskFlags::FAN_CREATE.union(MaskFlags::FAN_DELETE).union(MaskFlags::FAN_RENAME);
const CONTENT_MASK: MaskFlags = MaskFlags::FAN_MODIFY.union(MaskFlags::FAN_CLOSE_WRITE);

/// Where an unknown folder lies.
enum Lies {
    /// In these sources.
    In(Vec<MemberId>),
    Outside,
}

impl Inner {
    fn note(&mut self, event: &Event<'_>, told: &mut HashSet<MemberId>) {
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

    fn tell_all(&self, told: &mut HashSet<MemberId>) {
        self.mark(ALL, told, Marks::all);
    }

    fn wake(&self, told: &HashSet<MemberId>) {
        for member in told.iter().filter_map(|member| self.members.get(member)) {
            // A full counter wakes as well.
            let _ = rustix::io::write(&member.wake, &1u64.to_ne_bytes());
        }
    }
}

fn key(handle: Handle<'_>) -> Key {
    (handle.kind, handle.bytes.into())
}

fn fd_path(fd: BorrowedFd<'_>) -> PathBuf {
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

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a thread that ended by a fault left undone is at most marks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{fs, fs::File, io::Write, path::Path, time::Instant};

    use super::*;

    struct Source {
        hub: Arc<Hub>,
        id: MemberId,
        member: Arc<Member>,
    }

    impl Source {
        /// Joins with a folder that exists, and goes through it.
        fn of(path: &Path) -> Self {
            let root = OwnedFd::from(File::open(path).unwrap());
            let (hub, id, member) = Hub::join(&root).unwrap();
            let inode = rustix::fs::fstat(&root).unwrap().st_ino;
            hub.know(id, inode, root.as_fd()).unwrap();
            Self { hub, id, member }
        }

        fn is_woken(&self) -> bool {
            let mut fds = [PollFd::from_borrowed_fd(self.member.wake(), PollFlags::IN)];
            let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
            poll(&mut fds, Some(&now)).unwrap() > 0
        }

        fn marks(&self) -> Marks {
            while !self.hub.read().unwrap().0 {}
            let mut marks = Marks::default();
            self.member.take(&mut marks);
            marks
        }
    }

    impl Drop for Source {
        fn drop(&mut self) {
            self.hub.leave(self.id);
        }
    }

    fn as_root(test: impl FnOnce(&Path)) {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: fanotify needs root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        for name in ["a", "b", "outside"] {
            fs::create_dir(path.join(name)).unwrap();
        }
        test(&path);
    }

    /// Quiet sources must not pay for what others do, nor for each other.
    #[test]
    fn a_source_is_woken_by_its_own_events_alone() {
        as_root(|dir| {
            let (a, b) = (Source::of(&dir.join("a")), Source::of(&dir.join("b")));
            assert!(Arc::ptr_eq(&a.hub, &b.hub), "one group for the file system");
            for i in 0..100 {
                fs::write(dir.join(format!("outside/{i}")), "x").unwrap();
            }
            assert!(!a.is_woken() && !b.is_woken(), "for what is nobody's");
            for marks in [a.marks(), b.marks()] {
                assert!(marks.names.is_empty() && marks.objects.is_empty(), "{marks:?}");
            }
            fs::write(dir.join("a/file"), "x").unwrap();
            let deadline = Instant::now() + Duration::from_secs(30);
            while !a.is_woken() {
                assert!(Instant::now() < deadline, "nobody told of it");
                thread::yield_now();
            }
            assert!(!b.is_woken(), "for what is another's");
            let names: Vec<_> = a.marks().names.into_keys().map(|(_, name)| name).collect();
            assert_eq!(names, [Box::from(&b"file"[..])]);
        });
    }

    /// Folders outside are looked at once; a file that has a name there is known by itself.
    #[test]
    fn a_write_by_a_name_outside_is_told_although_nothing_else_of_there_is() {
        as_root(|dir| {
            let a = Source::of(&dir.join("a"));
            fs::write(dir.join("a/file"), "x").unwrap();
            fs::hard_link(dir.join("a/file"), dir.join("outside/link")).unwrap();
            fs::write(dir.join("outside/other"), "x").unwrap();
            let file = File::open(dir.join("a/file")).unwrap();
            let inode = rustix::fs::fstat(&file).unwrap().st_ino;
            a.hub.know_linked(a.id, inode, file.as_fd()).unwrap();
            a.marks();
            fs::write(dir.join("outside/other"), "y").unwrap();
            assert!(a.marks().objects.is_empty());
            let mut link =
                fs::OpenOptions::new().append(true).open(dir.join("outside/link")).unwrap();
            link.write_all(b"y").unwrap();
            drop(link);
            let touch = a.marks().objects[&inode];
            assert!(touch.modified && touch.closed);
        });
    }

    /// A source that goes leaves the others theirs, and the last one ends the group.
    #[test]
    fn sources_come_and_go() {
        as_root(|dir| {
            let (a, b) = (Source::of(&dir.join("a")), Source::of(&dir.join("b")));
            let hub = Arc::downgrade(&a.hub);
            drop(a);
            fs::write(dir.join("a/file"), "x").unwrap();
            fs::write(dir.join("b/file"), "x").unwrap();
            assert_eq!(b.marks().names.len(), 1);
            drop(b);
            let deadline = Instant::now() + Duration::from_secs(30);
            // Other tests of this process may have sources on the same file system.
            while hub.upgrade().is_some_and(|hub| hub.inner().members.is_empty()) {
                assert!(Instant::now() < deadline, "its thread reads on");
                thread::yield_now();
            }
        });
    }
}
