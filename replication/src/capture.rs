//! What to look at: names and objects of a source that may have changed.
//!
//! Events merge, lose their order and come late (a→b, b→a, a→b read at the end says the wrong end), so they are never
//! taken for what happened: they only mark a name in a folder or an object as dirty. What did happen is the source's to
//! find out. Folders and objects are known by their inode number, because that is what every mechanism can tell.
//!
//! | capture | when | what it cannot see |
//! |---|---|---|
//! | `fanotify` | root, on ext4, XFS, btrfs' top level, tmpfs | stores through a memory map until it is unmapped, Linux AIO |
//! | `inotify` | everywhere else | that too, and that a file got a name in a folder outside the source |
//! | scan | always: at the start, after a loss, by schedule | when it happened |
//!
//! The scan has no code here: a source compares a folder with its map whenever a folder is new or marked whole.

use std::{
    collections::HashMap,
    fmt, io,
    os::fd::{BorrowedFd, OwnedFd},
};

use keepshare_base::FileTime;

mod events;
mod fanotify;
mod handle;
mod hub;
mod inotify;

pub(crate) use fanotify::Fanotify;
pub(crate) use inotify::Inotify;

/// The most marks held; beyond it everything is marked instead.
pub(crate) const MARKS_MAX: usize = 1 << 20;

/// How an object was touched.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Touch {
    /// It was written to: its content may differ, whatever its times say.
    pub(crate) modified: bool,
    /// Someone who could write to it closed it.
    pub(crate) closed: bool,
    /// It was moved here; that it was closed before was told of the name that it had.
    pub(crate) moved: bool,
}

/// An object that lives, or lived: inode numbers are given again, soon and often.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Object {
    /// Its inode number.
    pub(crate) number: u64,
    /// When it was made; zero where the file system does not say.
    pub(crate) birth: FileTime,
}

/// Names and objects that may have changed since they were last looked at.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    /// Names, by the inode of their folder, and how what they stand for was touched.
    pub(crate) names: HashMap<(u64, Box<[u8]>), Touch>,
    /// Objects, by inode: folders of the source.
    pub(crate) objects: HashMap<u64, Touch>,
    /// Objects that were touched in folders which are not known (yet).
    pub(crate) strangers: HashMap<Object, Touch>,
    /// Events were lost: anything may have changed.
    pub(crate) everything: bool,
}

/// Something that notices changes.
///
/// The source's thread waits for [`Self::readable`] and then calls [`Self::drain`].
pub(crate) trait Capture: fmt::Debug + Send {
    /// What it is called in the status.
    fn name(&self) -> &'static str;

    /// Becomes readable when there is something to drain; `None`: never.
    fn readable(&self) -> Option<BorrowedFd<'_>>;

    /// Takes what was noticed so far, without waiting; tells whether nothing is left.
    fn drain(&mut self, marks: &mut Marks) -> io::Result<bool>;

    /// Begins to notice changes in a folder; whoever calls it reads the folder afterwards.
    fn watch(&mut self, inode: u64, folder: BorrowedFd<'_>) -> io::Result<()>;

    /// Begins to notice writes to a file by names in folders outside; whoever calls it looks at the file afterwards.
    fn watch_file(&mut self, inode: u64, file: BorrowedFd<'_>) -> io::Result<()>;

    /// A folder or file is gone.
    fn unwatch(&mut self, inode: u64);
}

/// The capture that notices nothing: everything is left to scans.
#[derive(Debug)]
pub(crate) struct ScanOnly;

impl Capture for ScanOnly {
    fn name(&self) -> &'static str {
        "scan"
    }

    fn readable(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn drain(&mut self, _marks: &mut Marks) -> io::Result<bool> {
        Ok(true)
    }

    fn watch(&mut self, _inode: u64, _folder: BorrowedFd<'_>) -> io::Result<()> {
        Ok(())
    }

    fn watch_file(&mut self, _inode: u64, _file: BorrowedFd<'_>) -> io::Result<()> {
        Ok(())
    }

    fn unwatch(&mut self, _inode: u64) {}
}

impl Touch {
    /// Adds another touch of the same object.
    pub(crate) fn add(&mut self, other: Self) {
        self.modified |= other.modified;
        self.closed |= other.closed;
        self.moved |= other.moved;
    }

    /// Tells whether whoever wrote it has ended.
    pub(crate) fn ended(self) -> bool {
        self.closed || self.moved
    }
}

impl Marks {
    /// Tells whether nothing is marked.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0 && !self.everything
    }

    /// Returns how many names and objects are marked.
    pub(crate) fn len(&self) -> usize {
        self.names.len() + self.objects.len() + self.strangers.len()
    }

    /// Marks a name in a folder and what it stands for.
    pub(crate) fn name(&mut self, folder: u64, name: &[u8], touch: Touch) {
        self.names.entry((folder, name.into())).or_default().add(touch);
        self.bound();
    }

    /// Marks an object.
    pub(crate) fn object(&mut self, inode: u64, touch: Touch) {
        self.objects.entry(inode).or_default().add(touch);
        self.bound();
    }

    /// Marks an object in a folder that is not known.
    pub(crate) fn stranger(&mut self, object: Object, touch: Touch) {
        self.strangers.entry(object).or_default().add(touch);
        self.bound();
    }

    /// Adds marks that were made later.
    pub(crate) fn append(&mut self, later: Self) {
        if self.is_empty() {
            *self = later;
            return;
        }
        for ((folder, name), touch) in later.names {
            self.name(folder, &name, touch);
        }
        for (inode, touch) in later.objects {
            self.object(inode, touch);
        }
        for (object, touch) in later.strangers {
            self.stranger(object, touch);
        }
        if later.everything {
            self.all();
        }
    }

    /// Marks everything: the single marks add nothing to it but what objects were closed.
    pub(crate) fn all(&mut self) {
        self.everything = true;
        self.names = HashMap::new();
    }

    fn bound(&mut self) {
        if self.len() > MARKS_MAX {
            self.all();
            (self.objects, self.strangers) = (HashMap::new(), HashMap::new());
        }
    }
}

/// Opens the best capture there is for the folder at `root`.
pub(crate) fn best(root: &OwnedFd) -> io::Result<Box<dyn Capture>> {
    match Fanotify::open(root) {
        Ok(fanotify) => Ok(Box::new(fanotify)),
        // Not root, or a file system without handles (overlayfs, a btrfs subvolume).
        Err(error) => {
            tracing::debug!(%error, "no fanotify here, using inotify");
            Ok(Box::new(Inotify::open()?))
        }
    }
}
