//! Marks from an inotify watch on every folder: no privilege, any file system.
//!
//! Folders are known by watch, so a moved folder needs no new one. Whoever finds a folder watches it before reading it:
//! what was made in it between its birth and the watch is then found by reading.

use std::{
    collections::{HashMap, HashSet},
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags},
    io::Errno,
};

use super::{Capture, Marks, Touch};

/// One read takes this many bytes of events.
const BUFFER_BYTES: usize = 64 * 1024;

/// The most events of one drain, so that a writer that never pauses does not keep us from examining.
const EVENTS_MAX: usize = 1 << 16;

/// The most files watched by themselves: folders need the watches more.
const FILES_MAX: usize = 1 << 14;

/// Inotify with a watch per folder.
#[derive(Debug)]
pub(crate) struct Inotify {
    queue: OwnedFd,
    folders: HashMap<i32, u64>,
    /// Those of the watches that are of files by themselves.
    files: HashSet<i32>,
    watches: HashMap<u64, i32>,
    buffer: Box<[MaybeUninit<u8>]>,
}

impl Inotify {
    /// Opens a queue that watches nothing yet.
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self {
            queue: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
            folders: HashMap::new(),
            files: HashSet::new(),
            watches: HashMap::new(),
            buffer: vec![MaybeUninit::uninit(); BUFFER_BYTES].into_boxed_slice(),
        })
    }
}

impl Capture for Inotify {
    fn name(&self) -> &'static str {
        "inotify"
    }

    fn readable(&self) -> Option<BorrowedFd<'_>> {
        Some(self.queue.as_fd())
    }

    fn drain(&mut self, marks: &mut Marks) -> io::Result<bool> {
        let mut reader = Reader::new(&self.queue, &mut self.buffer);
        for _ in 0..EVENTS_MAX {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => return Ok(true),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let flags = event.events();
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                marks.all();
                continue;
            }
            let Some(folder) = self.folders.get(&event.wd()).copied() else { continue };
            if flags.contains(ReadFlags::IGNORED) {
                self.folders.remove(&event.wd());
                self.files.remove(&event.wd());
                if self.watches.get(&folder) == Some(&event.wd()) {
                    self.watches.remove(&folder);
                }
                continue;
            }
            match event.file_name() {
                // Objects are not told: the name leads to them.
                Some(name) => {
                    let touch = Touch {
                        modified: flags.contains(ReadFlags::MODIFY),
                        closed: flags.contains(ReadFlags::CLOSE_WRITE),
                        moved: flags.contains(ReadFlags::MOVED_TO),
                    };
                    marks.name(folder, name.to_bytes(), touch);
                }
                None => {
                    let touch = Touch {
                        modified: flags.contains(ReadFlags::MODIFY),
                        closed: flags.contains(ReadFlags::CLOSE_WRITE),
                        moved: false,
                    };
                    marks.object(folder, touch);
                }
            }
        }
        Ok(false)
    }

    fn watch(&mut self, inode: u64, folder: BorrowedFd<'_>) -> io::Result<()> {
        let path = format!("/proc/self/fd/{}", folder.as_raw_fd());
        let watch = inotify::add_watch(&self.queue, path, EVENTS | WatchFlags::ONLYDIR)
            .map_err(why_no_watch)?;
        self.folders.insert(watch, inode);
        self.watches.insert(inode, watch);
        Ok(())
    }

    fn watch_file(&mut self, inode: u64, file: BorrowedFd<'_>) -> io::Result<()> {
        if self.files.len() >= FILES_MAX && !self.watches.contains_key(&inode) {
            return Err(io::Error::other("too many files with names outside of the source"));
        }
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let watch = inotify::add_watch(&self.queue, path, FILE_EVENTS).map_err(why_no_watch)?;
        self.files.insert(watch);
        self.folders.insert(watch, inode);
        self.watches.insert(inode, watch);
        Ok(())
    }

    fn unwatch(&mut self, inode: u64) {
        if let Some(watch) = self.watches.remove(&inode) {
            self.folders.remove(&watch);
            self.files.remove(&watch);
            // It is gone by itself when the folder is.
            let _ = inotify::remove_watch(&self.queue, watch);
        }
    }
}

const FILE_EVENTS: WatchFlags =
    WatchFlags::MODIFY.union(WatchFlags::CLOSE_WRITE).union(WatchFlags::ATTRIB);

const EVENTS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ATTRIB);

/// Says why there is no watch: the kernel calls a limit of watches a full disk (`inotify_add_watch(2)`).
fn why_no_watch(error: Errno) -> io::Error {
    match error {
        Errno::NOSPC => io::Error::new(
            io::ErrorKind::QuotaExceeded,
            "no inotify watch is left for this user: raise sysctl fs.inotify.max_user_watches",
        ),
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, fs::File, io::Write, os::unix::fs::MetadataExt};

    use super::*;

    /// Nobody is to look for a full disk.
    #[test]
    fn a_limit_of_watches_is_called_so() {
        let text = why_no_watch(Errno::NOSPC).to_string();
        assert!(text.contains("max_user_watches"), "{text}");
        let other = why_no_watch(Errno::NOENT);
        assert_eq!(other.kind(), std::io::ErrorKind::NotFound);
    }

    /// Files come and go for as long as a source runs: those that went leave their places to others.
    #[test]
    fn files_that_are_watched_no_more_make_room() {
        let folder = tempfile::tempdir().unwrap();
        let open = |name: &str| File::create(folder.path().join(name)).unwrap();
        let (one, other) = (open("one"), open("other"));
        let inode = |file: &File| file.metadata().unwrap().ino();
        let mut capture = Inotify::open().unwrap();
        for _ in 0..=FILES_MAX {
            capture.watch_file(inode(&one), one.as_fd()).unwrap();
            // Once more is not one more.
            capture.watch_file(inode(&one), one.as_fd()).unwrap();
            capture.unwatch(inode(&one));
        }
        // What was told of all these would leave no place in the queue.
        while !capture.drain(&mut Marks::default()).unwrap() {}
        capture.watch_file(inode(&other), other.as_fd()).unwrap();
        assert_eq!((capture.files.len(), capture.watches.len()), (1, 1));
        drop(other);
        fs::remove_file(folder.path().join("other")).unwrap();
        capture.drain(&mut Marks::default()).unwrap();
        assert_eq!((capture.files.len(), capture.watches.len()), (0, 0), "it is gone by itself");
    }

    /// The watch on a folder tells of what is written by a name in it alone: a file with a name elsewhere is watched by itself.
    #[test]
    fn a_write_by_a_name_outside_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, outside) = (folder.path().join("in"), folder.path().join("out"));
        fs::create_dir(&inside).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(inside.join("a"), "x").unwrap();
        fs::hard_link(inside.join("a"), outside.join("link")).unwrap();
        let (root, file) = (File::open(&inside).unwrap(), File::open(inside.join("a")).unwrap());
        let inode = |file: &File| file.metadata().unwrap().ino();
        let mut capture = Inotify::open().unwrap();
        capture.watch(inode(&root), root.as_fd()).unwrap();
        let told = |capture: &mut Inotify| {
            let link = fs::OpenOptions::new().append(true).open(outside.join("link"));
            link.unwrap().write_all(b"y").unwrap();
            let mut marks = Marks::default();
            while !capture.drain(&mut marks).unwrap() {}
            marks
        };
        assert!(told(&mut capture).is_empty(), "the folder knows nothing of it");
        capture.watch_file(inode(&file), file.as_fd()).unwrap();
        let touch = told(&mut capture).objects[&inode(&file)];
        assert!(touch.modified && touch.closed);
    }
}
