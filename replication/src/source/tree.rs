//! The source's folder as it is now: stat, list, open and read attributes, never through a symlink, never outside.

use std::{
    ffi::CString,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use keepshare_base::{
    FileId, FileTime, Kind, Meta, Name, XATTR_BYTES_MAX, escape_name, unescape_name, xattr_allowed,
};
use rustix::{
    fs::{self, AtFlags, Mode, OFlags, ResolveFlags, Statx, StatxFlags},
    io::Errno,
};

use super::{
    SourceError,
    boundary::{Boundary, Where},
    ledger::Tx,
    map::{FileRecord, Inode, Signature},
    owners::Owners,
};

/// The longest path given to one system call; deeper folders are opened in steps.
const STEP_BYTES_MAX: usize = 3000;

/// The folder of a source.
#[derive(Debug)]
pub(crate) struct Tree {
    path: PathBuf,
    root: OwnedFd,
    seen: Seen,
    boundary: Boundary,
    kind: u64,
}

/// What one look at an object told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Seen {
    /// Which object.
    pub(crate) inode: Inode,
    /// Its kind.
    pub(crate) kind: Kind,
    /// Its state.
    pub(crate) signature: Signature,
    /// How many names it has, in the source or outside.
    pub(crate) links: u32,
    mode: u32,
    user: u32,
    group: u32,
    rdev: u64,
    at: Where,
}

impl Seen {
    /// Returns the device of the file system that it is on.
    pub(crate) fn device(&self) -> u64 {
        self.at.device()
    }
}

/// What a name stands for on the file system.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Found {
    /// Nothing.
    Nothing,
    /// This object.
    Object(Seen),
    /// Something is mounted there, or another file system begins.
    Mounted,
}

impl Tree {
    /// Opens the folder at `path`.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = fs::open(path, flags, Mode::empty())?;
        let seen = look_at(root.as_fd())?;
        let kind = u64::try_from(fs::fstatfs(&root)?.f_type).unwrap_or(0);
        let boundary = Boundary::new(seen.at, kind);
        Ok(Self { path: path.to_owned(), root, seen, boundary, kind })
    }

    /// Returns the folder.
    pub(crate) fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// Returns the folder as it was opened.
    pub(crate) fn root_seen(&self) -> Seen {
        self.seen
    }

    /// Returns the name of the folder's file system where others write to it as well, and nobody tells of it.
    pub(crate) fn shared_file_system(&self) -> Option<&'static str> {
        SHARED_FILE_SYSTEMS.iter().find(|(kind, _)| *kind == self.kind).map(|(_, name)| *name)
    }

    /// Looks whether the folder that was opened is still what stands at its path; says why not.
    pub(crate) fn is_in_place(&self) -> Result<(), String> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let now = fs::open(&self.path, flags, Mode::empty())
            .and_then(|root| stat(root.as_fd(), c""))
            .map_err(|error| error.to_string())?;
        let now = seen(&now);
        if now.inode == self.seen.inode && self.boundary.is_root(now.at) {
            Ok(())
        } else {
            Err("another folder is in its place".to_owned())
        }
    }

    /// Makes the folder the root of the map.
    pub(crate) fn remember_root(
        &self,
        tx: &mut Tx<'_>,
        owners: &mut Owners,
    ) -> Result<(), SourceError> {
        if tx.state.root == self.seen.inode && tx.map.record(FileId::ROOT)?.is_some() {
            return Ok(());
        }
        let meta = meta(owners, self.root.as_fd(), None, &self.seen).map_err(|source| {
            SourceError::Io { what: format!("cannot read {}", self.path.display()), source }
        })?;
        let record = FileRecord::new(self.seen.inode, self.seen.signature, meta);
        tx.map.set_record(FileId::ROOT, &record)?;
        tx.state.root = self.seen.inode;
        tx.durable = true;
        Ok(())
    }

    /// Opens a folder by its names from the root down.
    pub(crate) fn folder(&self, names: &[Name]) -> io::Result<OwnedFd> {
        let mut step = Vec::new();
        let mut at: Option<OwnedFd> = None;
        for name in names {
            let name = unescape_name(name);
            if step.len() + name.len() > STEP_BYTES_MAX {
                at = Some(self.step(at.as_ref(), &step)?);
                step.clear();
            }
            if !step.is_empty() {
                step.push(b'/');
            }
            step.extend_from_slice(&name);
        }
        if step.is_empty() {
            step.push(b'.');
        }
        self.step(at.as_ref(), &step)
    }

    fn step(&self, at: Option<&OwnedFd>, path: &[u8]) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        Ok(fs::openat2(at.unwrap_or(&self.root), path, flags, Mode::empty(), resolve)?)
    }

    /// Looks at what a name stands for.
    pub(crate) fn look(&self, folder: BorrowedFd<'_>, name: &Name) -> io::Result<Found> {
        let name = CString::new(unescape_name(name))?;
        match stat(folder, &name) {
            Ok(found) if self.boundary.holds(Where::of(&found)) => {
                Ok(Found::Object(self.known_as(seen(&found))))
            }
            Ok(_) => Ok(Found::Mounted),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(Found::Nothing),
            Err(error) => Err(error.into()),
        }
    }

    /// Looks at an open object of the source.
    pub(crate) fn look_at(&self, file: BorrowedFd<'_>) -> io::Result<Seen> {
        let seen = look_at(file)?;
        // Something may have been mounted over a name since it was looked at.
        if self.boundary.holds(seen.at) || seen.at == self.seen.at && seen.inode == self.seen.inode
        {
            Ok(self.known_as(seen))
        } else {
            Err(Errno::XDEV.into())
        }
    }

    fn known_as(&self, mut seen: Seen) -> Seen {
        seen.inode.number = self.boundary.number(seen.at, seen.inode.number);
        seen
    }
}

/// The file systems that other machines, or a program behind them, write to without an event here.
const SHARED_FILE_SYSTEMS: [(u64, &str); 18] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "SMB"),
    (0xfe53_4d42, "SMB"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9p"),
    (0x00c3_6400, "ceph"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x7375_7245, "coda"),
    (0x7461_636f, "OCFS2"),
    (0x0116_1970, "GFS2"),
    (0x0bd0_0bd0, "Lustre"),
    (0x1983_0326, "BeeGFS"),
    (0x4750_4653, "GPFS"),
    (0x2003_0528, "OrangeFS"),
    (0x786f_4256, "vboxsf"),
    (0xbacb_acbc, "vmhgfs"),
];

/// The file systems whose times tell every modification since Linux 6.13: ext4, XFS, btrfs, tmpfs.
const EXACT_FILE_SYSTEMS: [u64; 4] = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994];

/// Tells whether two modifications around a look always leave different times (multigrain timestamps).
pub(crate) fn has_exact_times(root: &OwnedFd) -> bool {
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let version = (numbers.next().and_then(Result::ok), numbers.next().and_then(Result::ok));
    let kind = fs::fstatfs(root).map(|stat| u64::try_from(stat.f_type).unwrap_or(0));
    version >= (Some(6), Some(13)) && kind.is_ok_and(|kind| EXACT_FILE_SYSTEMS.contains(&kind))
}

/// Looks at an open object, known by its inode number as the file system gives it: see [`Tree::look_at`].
pub(crate) fn look_at(file: BorrowedFd<'_>) -> io::Result<Seen> {
    Ok(seen(&stat(file, c"")?))
}

/// Opens a file's content for reading, without waiting on a pipe.
pub(crate) fn open_file(folder: BorrowedFd<'_>, name: &Name) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    Ok(fs::openat(folder, unescape_name(name), flags, Mode::empty())?)
}

/// Lists a folder; names that a set cannot hold come as the second list.
pub(crate) fn list(folder: BorrowedFd<'_>) -> io::Result<(Vec<Name>, Vec<Vec<u8>>)> {
    let (mut names, mut unusable) = (Vec::new(), Vec::new());
    for entry in fs::Dir::read_from(folder)? {
        let entry = entry?;
        match entry.file_name().to_bytes() {
            b"." | b".." => {}
            name => match escape_name(name) {
                Ok(name) => names.push(name),
                Err(_) => unusable.push(name.to_vec()),
            },
        }
    }
    Ok((names, unusable))
}

/// Reads all attributes that are replicated of a name in a folder, or of the folder itself.
pub(crate) fn meta(
    owners: &mut Owners,
    folder: BorrowedFd<'_>,
    name: Option<&Name>,
    seen: &Seen,
) -> io::Result<Meta> {
    let symlink = match (seen.kind, name) {
        (Kind::Symlink, Some(name)) => {
            fs::readlinkat(folder, unescape_name(name), Vec::new())?.into_bytes()
        }
        _ => Vec::new(),
    };
    // The object itself, never what a symlink points to: the link of /proc is followed, the last name is not.
    let mut path = format!("/proc/self/fd/{}/", folder.as_raw_fd()).into_bytes();
    match name {
        Some(name) => path.extend(unescape_name(name)),
        None => path.push(b'.'),
    }
    let xattrs = xattrs(
        |list| fs::llistxattr(path.as_slice(), list),
        |name, value| fs::lgetxattr(path.as_slice(), name, value),
    )?;
    Ok(build(owners, seen, symlink, xattrs))
}

/// Reads all attributes that are replicated of an open file.
pub(crate) fn meta_of_open(
    owners: &mut Owners,
    file: BorrowedFd<'_>,
    seen: &Seen,
) -> io::Result<Meta> {
    let xattrs =
        xattrs(|list| fs::flistxattr(file, list), |name, value| fs::fgetxattr(file, name, value))?;
    Ok(build(owners, seen, Vec::new(), xattrs))
}

fn build(
    owners: &mut Owners,
    seen: &Seen,
    symlink: Vec<u8>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
) -> Meta {
    Meta {
        kind: seen.kind,
        size: if seen.kind == Kind::File { seen.signature.size } else { 0 },
        mode: seen.mode,
        owner: owners.user(seen.user),
        group: owners.group(seen.group),
        mtime: seen.signature.mtime,
        symlink,
        rdev: seen.rdev,
        xattrs,
    }
}

/// Reads the extended attributes of the allow-list, sorted; none where the file system has none.
fn xattrs(
    list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
    get: impl Fn(&[u8], &mut [u8]) -> rustix::io::Result<usize>,
) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut names = vec![0; 1024];
    match list(&mut names) {
        Ok(len) => names.truncate(len),
        Err(Errno::RANGE) => {
            names.resize(XATTR_BYTES_MAX, 0);
            let len = list(&mut names)?;
            names.truncate(len);
        }
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    }
    let mut found = Vec::new();
    let mut left = XATTR_BYTES_MAX;
    for name in names.split(|byte| *byte == 0).filter(|name| xattr_allowed(name)) {
        let mut value = vec![0; left.saturating_sub(name.len())];
        match get(name, &mut value) {
            Ok(len) => value.truncate(len),
            Err(Errno::NODATA) => continue,
            Err(error) => return Err(error.into()),
        }
        left = left.saturating_sub(name.len() + value.len());
        found.push((name.to_vec(), value));
    }
    found.sort_unstable();
    Ok(found)
}

fn stat(at: BorrowedFd<'_>, name: &std::ffi::CStr) -> rustix::io::Result<Statx> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID;
    fs::statx(at, name, flags, wanted)
}

fn seen(stat: &Statx) -> Seen {
    let time =
        |time: rustix::fs::StatxTimestamp| FileTime { secs: time.tv_sec, nanos: time.tv_nsec };
    let born = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME);
    Seen {
        inode: Inode {
            number: stat.stx_ino,
            birth: if born { time(stat.stx_btime) } else { FileTime::default() },
        },
        kind: kind(u32::from(stat.stx_mode)),
        signature: Signature {
            size: stat.stx_size,
            mtime: time(stat.stx_mtime),
            ctime: time(stat.stx_ctime),
        },
        links: stat.stx_nlink,
        mode: u32::from(stat.stx_mode) & 0o7777,
        user: stat.stx_uid,
        group: stat.stx_gid,
        rdev: fs::makedev(stat.stx_rdev_major, stat.stx_rdev_minor),
        at: Where::of(stat),
    }
}

fn kind(mode: u32) -> Kind {
    match fs::FileType::from_raw_mode(mode) {
        fs::FileType::Directory => Kind::Dir,
        fs::FileType::Symlink => Kind::Symlink,
        fs::FileType::Fifo => Kind::Fifo,
        fs::FileType::Socket => Kind::Socket,
        fs::FileType::BlockDevice => Kind::BlockDevice,
        fs::FileType::CharacterDevice => Kind::CharDevice,
        _ => Kind::File,
    }
}
