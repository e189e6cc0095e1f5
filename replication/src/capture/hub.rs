//! One fanotify group for a file system, whatever number of sources lie on it.
//!
//! The mark tells of everything on the file system. Folders of the sources are known by their handles, about 100 bytes for
//! each of them, and their events are marked without a system call. A folder that is not known is opened once: it is a new
//! one in a source that nobody has gone through yet, or it is outside, and what happens in it later costs a lookup. A file of
//! a source that has a name outside too is known by its own handle.
//!
//! A thread reads, so that a source is woken by its own events alone.

mod members;

use std::{
    collections::HashSet,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread,
    time::Duration,
};

use nix::sys::fanotify::{EventFFlags, InitFlags, MarkFlags, MaskFlags};
use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, eventfd, poll},
    io::Errno,
};

use self::members::{CONTENT_MASK, Known, Members, NAME_MASK};
pub(super) use self::members::{Member, MemberId};
use super::{events, handle};

/// The most files with names outside that are told of.
const LINKED_MAX: usize = 1 << 20;

/// The most reads at a time, so that a writer that never pauses does not keep a source from examining.
const READS_MAX: usize = 16;

/// How long events of others may gather: reading each by itself costs more than it.
const FOREIGN_PAUSE: Duration = Duration::from_millis(5);

/// A group and all sources that it tells.
#[derive(Debug)]
pub(super) struct Hub {
    group: nix::sys::fanotify::Fanotify,
    device: u64,
    /// Readable when the thread is to end.
    stop: OwnedFd,
    inner: Mutex<Members>,
}

/// All groups of this process.
static HUBS: Mutex<Vec<Weak<Hub>>> = Mutex::new(Vec::new());

impl Hub {
    /// Joins the group of the file system of `root`, or makes it.
    pub(super) fn join(root: &OwnedFd) -> io::Result<(Arc<Self>, MemberId, Arc<Member>)> {
        // A file system without handles cannot tell which folder an event is of.
        handle::of(root.as_fd())?;
        let device = rustix::fs::fstat(root)?.st_dev;
        let member = Arc::new(Member::new(root)?);
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
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let hub = Arc::new(Self { group, device, stop, inner: Mutex::new(Members::new()) });
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

    fn read_into(&self, inner: &mut Members, buffer: &mut [u8]) -> io::Result<(bool, bool)> {
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

    fn inner(&self) -> MutexGuard<'_, Members> {
        locked(&self.inner)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a thread that ended by a fault left undone is at most marks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{fs, fs::File, io::Write, path::Path, time::Instant};

    use super::*;
    use crate::capture::{
        Marks,
        events::{Event, Handle},
    };

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

    /// What comes and goes in a folder that is new, as git has it all day, is often gone before anybody asks what it was. Its
    /// folder is read whole, so that is no reason to compare all of the set.
    #[test]
    fn what_cannot_be_found_in_a_known_place_has_nothing_else_compared() {
        as_root(|dir| {
            // Not of a group, whose other sources are told of what is anywhere.
            let root = OwnedFd::from(File::open(dir.join("a")).unwrap());
            let member = Arc::new(Member::new(&root).unwrap());
            let mut members = Members::new();
            members.members.insert(1, member.clone());
            fs::create_dir(dir.join("a/new")).unwrap();
            let new = File::open(dir.join("a/new")).unwrap();
            let (kind, bytes) = handle::of(new.as_fd()).unwrap();
            let folder = Handle { kind, bytes: &bytes };
            // The kernel opens nothing by it, and does not say either that it is gone.
            let object = Some(Handle { kind, bytes: &[] });
            let mask = CONTENT_MASK.bits();
            let event = Event { mask, object, names: vec![(folder, b"x")], moved: false };
            members.note(&event, &mut HashSet::new());
            assert!(!locked(&member.marks).everything);
            members.note(&Event { names: Vec::new(), ..event }, &mut HashSet::new());
            assert!(locked(&member.marks).everything, "it may be anywhere");
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
