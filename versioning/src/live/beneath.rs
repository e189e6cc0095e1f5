//! Folders held open, and everything the live tree does inside one.
//!
//! Whoever can write into a live tree can swap a folder for a symlink at any moment. So nothing here takes a path: a
//! [`Folder`] is a descriptor, going down goes through [`keepshare_host::beneath`] one entry at a time, and every other
//! call names one entry of a held folder and never follows what it finds there. What an entry *should* be is not
//! decided here.

use std::{fs::File, io, os::fd::OwnedFd, path::Path};

use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, RenameFlags, StatxFlags, Timespec, Timestamps, UTIME_OMIT, Uid,
};

use keepshare_base::{FileTime, Kind, Name};
use keepshare_host::beneath::{self, Mounts};

use super::identity::Identity;

/// The name of one entry of a folder: never empty, `.`, `..`, and without slash and NUL.
///
/// Wider than [`Name`]: an entry that someone made in a live tree may have a name that no set can hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Part<'a>(&'a [u8]);

impl<'a> Part<'a> {
    /// Returns `bytes` as the name of an entry, where they are one.
    pub(super) fn new(bytes: &'a [u8]) -> Option<Self> {
        let usable = !matches!(bytes, b"" | b"." | b"..");
        (usable && !bytes.iter().any(|b| matches!(b, b'/' | 0))).then_some(Self(bytes))
    }

    /// Returns the bytes.
    pub(super) fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

impl<'a> From<&'a Name> for Part<'a> {
    fn from(name: &'a Name) -> Self {
        Self(name.as_bytes())
    }
}

/// What an entry turned out to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// Which inode.
    pub(super) identity: Identity,
    /// What kind of thing.
    pub(super) kind: Kind,
    /// Permission, set-id and sticky bits.
    pub(super) mode: u32,
    /// The owner's number.
    pub(super) uid: u32,
    /// The group's number.
    pub(super) gid: u32,
    /// How many names the inode has.
    pub(super) links: u32,
    /// The content's length.
    pub(super) size: u64,
    /// When the content changed last.
    pub(super) mtime: FileTime,
}

/// A folder held open.
#[derive(Debug)]
pub(super) struct Folder(OwnedFd);

impl Folder {
    /// Opens the folder that an admin chose, through whatever symlinks lead there; makes it where it is missing.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let open = || rustix::fs::openat(CWD, path, FOLDER_FLAGS, Mode::empty());
        match open() {
            Err(rustix::io::Errno::NOENT) => {
                std::fs::create_dir_all(path)?;
                rustix::fs::chmod(path, Mode::RWXU)?;
                Ok(Self(open()?))
            }
            opened => Ok(Self(opened?)),
        }
    }

    /// Opens a folder that is there.
    pub(super) fn open_there(path: &Path) -> io::Result<Self> {
        Ok(Self(rustix::fs::openat(CWD, path, FOLDER_FLAGS, Mode::empty())?))
    }

    /// Tells whether a path leads to this folder.
    pub(super) fn is_at(&self, path: &Path) -> io::Result<bool> {
        let held = rustix::fs::fstat(&self.0)?;
        match rustix::fs::lstat(path) {
            Ok(there) => Ok((there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a folder inside this one.
    pub(super) fn folder(&self, name: Part<'_>) -> io::Result<Self> {
        // A mount inside a live tree is not ours to walk into.
        beneath::open_folder(&self.0, name.0, Mounts::Stay).map(Self)
    }

    /// Opens a regular file inside this folder for reading and writing, or only for reading.
    pub(super) fn file(&self, name: Part<'_>, write: bool) -> io::Result<File> {
        let access = if write { OFlags::RDWR } else { OFlags::RDONLY };
        beneath::open_file(&self.0, name.0, access, Mounts::Stay)
    }

    /// Makes an empty file that was not there.
    pub(super) fn make_file(&self, name: Part<'_>) -> io::Result<File> {
        step()?;
        beneath::make_file(&self.0, name.0, OFlags::RDWR)
    }

    /// Makes a folder that was not there.
    pub(super) fn make_folder(&self, name: Part<'_>) -> io::Result<()> {
        step()?;
        Ok(rustix::fs::mkdirat(&self.0, name.0, Mode::RWXU)?)
    }

    /// Makes a symlink that was not there; the target is only stored.
    pub(super) fn make_symlink(&self, name: Part<'_>, target: &[u8]) -> io::Result<()> {
        step()?;
        Ok(rustix::fs::symlinkat(target, &self.0, name.0)?)
    }

    /// Returns what a symlink of this folder holds.
    pub(super) fn read_symlink(&self, name: Part<'_>) -> io::Result<Vec<u8>> {
        Ok(rustix::fs::readlinkat(&self.0, name.0, Vec::new())?.into_bytes())
    }

    /// Removes an entry that is no folder.
    pub(super) fn remove_file(&self, name: Part<'_>) -> io::Result<()> {
        step()?;
        Ok(rustix::fs::unlinkat(&self.0, name.0, AtFlags::empty())?)
    }

    /// Removes an empty folder.
    pub(super) fn remove_folder(&self, name: Part<'_>) -> io::Result<()> {
        step()?;
        Ok(rustix::fs::unlinkat(&self.0, name.0, AtFlags::REMOVEDIR)?)
    }

    /// Renames an entry to a name that is free.
    pub(super) fn rename(&self, name: Part<'_>, to: &Self, to_name: Part<'_>) -> io::Result<()> {
        step()?;
        let flags = RenameFlags::NOREPLACE;
        Ok(rustix::fs::renameat_with(&self.0, name.0, &to.0, to_name.0, flags)?)
    }

    /// Renames an entry that is no folder over another that is none.
    pub(super) fn replace(&self, name: Part<'_>, to: &Self, to_name: Part<'_>) -> io::Result<()> {
        step()?;
        Ok(rustix::fs::renameat(&self.0, name.0, &to.0, to_name.0)?)
    }

    /// Gives an entry that is no folder one more name, which is free.
    pub(super) fn link(&self, name: Part<'_>, to: &Self, to_name: Part<'_>) -> io::Result<()> {
        step()?;
        Ok(rustix::fs::linkat(&self.0, name.0, &to.0, to_name.0, AtFlags::empty())?)
    }

    /// Tells what stands at a name; `None` where nothing does.
    pub(super) fn see(&self, name: Part<'_>) -> io::Result<Option<Seen>> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        match rustix::fs::statx(&self.0, name.0, flags, SEEN) {
            Ok(stat) => Ok(Some(seen(&stat))),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Tells what this folder is.
    pub(super) fn see_self(&self) -> io::Result<Seen> {
        see_open(&self.0)
    }

    /// Calls `each` with every entry, until it returns false or fails.
    pub(super) fn each<E: From<io::Error>>(
        &self,
        mut each: impl FnMut(Part<'_>) -> Result<bool, E>,
    ) -> Result<(), E> {
        beneath::each_name(&self.0, |name| Part::new(name).map_or(Ok(true), &mut each))
    }

    /// Sets the content time of an entry that cannot be opened, a symlink.
    pub(super) fn set_mtime_of(&self, name: Part<'_>, mtime: FileTime) -> io::Result<()> {
        step()?;
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        Ok(rustix::fs::utimensat(&self.0, name.0, &times(mtime), flags)?)
    }

    /// Sets the owner of an entry that cannot be opened, a symlink.
    pub(super) fn set_owner_of(&self, name: Part<'_>, uid: u32, gid: u32) -> io::Result<()> {
        step()?;
        let (uid, gid) = ids(uid, gid);
        Ok(rustix::fs::chownat(&self.0, name.0, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Returns the descriptor.
    pub(super) fn descriptor(&self) -> &OwnedFd {
        &self.0
    }
}

/// Returns times that set only the content's.
pub(super) fn times(mtime: FileTime) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.secs, tv_nsec: mtime.nanos.into() },
    }
}

/// Returns numbers as ids; the one that means "leave it" to the kernel does.
pub(super) fn ids(uid: u32, gid: u32) -> (Option<Uid>, Option<Gid>) {
    let uid = (uid != u32::MAX).then(|| Uid::from_raw(uid));
    (uid, (gid != u32::MAX).then(|| Gid::from_raw(gid)))
}

/// Tells what a descriptor is open on.
pub(super) fn see_open(fd: impl rustix::fd::AsFd) -> io::Result<Seen> {
    Ok(seen(&rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, SEEN)?))
}

/// Called before everything that changes a file system, so that tests can stop anywhere.
#[inline]
pub(super) fn step() -> io::Result<()> {
    #[cfg(test)]
    trip::step()?;
    Ok(())
}

fn seen(stat: &rustix::fs::Statx) -> Seen {
    let mode = u32::from(stat.stx_mode);
    Seen {
        identity: Identity::of(stat),
        kind: match rustix::fs::FileType::from_raw_mode(mode) {
            rustix::fs::FileType::Directory => Kind::Dir,
            rustix::fs::FileType::Symlink => Kind::Symlink,
            rustix::fs::FileType::Fifo => Kind::Fifo,
            rustix::fs::FileType::Socket => Kind::Socket,
            rustix::fs::FileType::BlockDevice => Kind::BlockDevice,
            rustix::fs::FileType::CharacterDevice => Kind::CharDevice,
            rustix::fs::FileType::RegularFile | rustix::fs::FileType::Unknown => Kind::File,
        },
        mode: mode & 0o7777,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        links: stat.stx_nlink,
        size: stat.stx_size,
        mtime: FileTime { secs: stat.stx_mtime.tv_sec, nanos: stat.stx_mtime.tv_nsec },
    }
}

const FOLDER_FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

const SEEN: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

/// Stops the file system of a test after some operations, as a power cut would.
#[cfg(test)]
pub(super) mod trip {
    use std::{cell::Cell, io};

    thread_local! {
        static LEFT: Cell<Option<u64>> = const { Cell::new(None) };
        static XATTR_BYTES_MAX: Cell<usize> = const { Cell::new(usize::MAX) };
    }

    /// Has the file system of this thread take no attribute of more bytes.
    pub(in super::super) fn xattr_bytes_max(bytes: usize) {
        XATTR_BYTES_MAX.set(bytes);
    }

    pub(in super::super) fn xattr_fits(value: &[u8]) -> io::Result<()> {
        let fits = value.len() <= XATTR_BYTES_MAX.get();
        if fits { Ok(()) } else { Err(rustix::io::Errno::NOSPC.into()) }
    }

    /// Lets `steps` more operations of this thread through, then none; `None`: all.
    pub(in super::super) fn after(steps: Option<u64>) {
        LEFT.set(steps);
    }

    /// Tells whether nothing gets through any more.
    pub(in super::super) fn is_dead() -> bool {
        LEFT.get() == Some(0)
    }

    pub(super) fn step() -> io::Result<()> {
        match LEFT.get() {
            Some(0) => return Err(io::Error::other("stopped by the test")),
            Some(left) => LEFT.set(Some(left - 1)),
            None => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str) -> Part<'_> {
        Part::new(name.as_bytes()).unwrap()
    }

    #[test]
    fn only_single_entries_can_be_named() {
        for wrong in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0b"] {
            assert!(Part::new(wrong).is_none(), "{wrong:?} was taken");
        }
    }

    /// A symlink planted in the tree must not lead anything of ours outside.
    #[test]
    fn symlinks_are_seen_and_never_followed() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "x").unwrap();
        let inside = tempfile::tempdir().unwrap();
        let folder = Folder::open(inside.path()).unwrap();
        std::os::unix::fs::symlink(outside.path(), inside.path().join("out")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), inside.path().join("file"))
            .unwrap();
        assert!(folder.folder(part("out")).is_err());
        assert!(folder.file(part("file"), true).is_err());
        assert!(folder.make_file(part("file")).is_err());
        assert_eq!(folder.see(part("out")).unwrap().unwrap().kind, Kind::Symlink);
        folder.set_mtime_of(part("file"), FileTime { secs: 5, nanos: 0 }).unwrap();
        folder.remove_file(part("file")).unwrap();
        assert_eq!(std::fs::read(outside.path().join("secret")).unwrap(), b"x");
        let seen = std::fs::metadata(outside.path().join("secret")).unwrap();
        assert_ne!(std::os::unix::fs::MetadataExt::mtime(&seen), 5);
    }

    #[test]
    fn a_rename_replaces_only_where_asked() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(&dir.path().join("made")).unwrap();
        folder.make_file(part("a")).unwrap();
        folder.make_file(part("b")).unwrap();
        assert!(folder.rename(part("a"), &folder, part("b")).is_err());
        folder.replace(part("a"), &folder, part("b")).unwrap();
        assert!(folder.see(part("a")).unwrap().is_none());
    }
}
