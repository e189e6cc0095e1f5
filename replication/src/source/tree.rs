//! The source's folder as it is now: stat, list, open and read attributes, never through a symlink, never outside.

use std::{
    ffi::CString,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use keepshare_base::{
    FileTime, Kind, LEFT_OUT_XATTR, LeftOut, Meta, Name, XATTR_BYTES_MAX, escape_name,
    unescape_name, xattr_allowed,
};
use keepshare_host::beneath::{self, Mounts};
use rustix::{
    fs::{self, Access, AtFlags, Mode, OFlags, Statx, StatxFlags},
    io::Errno,
};

pub(crate) use keepshare_decide::{AtName, Seen};
use keepshare_decide::{Inode, Signature};

use super::{
    boundary::{Boundary, Where},
    owners::Owners,
};

/// The longest path given to one system call; deeper folders are opened in steps.
const STEP_BYTES_MAX: usize = 3000;

/// The room kept for saying what is left out of the extended attributes, in bytes.
const LEFT_OUT_BYTES: usize = 128;

/// The folder of a source.
#[derive(Debug)]
pub(crate) struct Tree {
    path: PathBuf,
    root: OwnedFd,
    seen: Seen,
    at: Where,
    boundary: Boundary,
    kind: u64,
    /// The private folder, which is not part of the set.
    private: Mutex<Option<Inode>>,
}

impl Tree {
    /// Opens the folder at `path`.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = fs::open(path, flags, Mode::empty())?;
        let found = stat(root.as_fd(), c"")?;
        let (seen, at) = (seen(&found), Where::of(&found));
        let kind = u64::try_from(fs::fstatfs(&root)?.f_type).unwrap_or(0);
        let boundary = Boundary::new(at, kind);
        let private = Mutex::default();
        Ok(Self { path: path.to_owned(), root, seen, at, boundary, kind, private })
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
        if seen(&now).inode == self.seen.inode && self.boundary.is_root(Where::of(&now)) {
            Ok(())
        } else {
            Err("another folder is in its place".to_owned())
        }
    }

    /// Returns where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
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
        beneath::open_folder(at.unwrap_or(&self.root), path, Mounts::Stay)
    }

    /// Hides the private folder, whatever it is called.
    pub(crate) fn hide(&self, private: Option<Inode>) {
        *self.private.lock().unwrap_or_else(PoisonError::into_inner) = private;
    }

    /// Looks at what a name stands for.
    pub(crate) fn look(&self, folder: BorrowedFd<'_>, name: &Name) -> io::Result<AtName> {
        let name = CString::new(unescape_name(name))?;
        match stat(folder, &name) {
            Ok(found) if self.boundary.holds(Where::of(&found)) => {
                let seen = check_size(self.known_as(&found))?;
                let is_hidden = seen.kind == Kind::Dir && self.is_hidden(seen.inode);
                Ok(if is_hidden { AtName::Nothing } else { AtName::Object(seen) })
            }
            Ok(_) => Ok(AtName::Mounted),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(AtName::Nothing),
            Err(error) => Err(error.into()),
        }
    }

    /// Looks at an open object of the source.
    pub(crate) fn look_at(&self, file: BorrowedFd<'_>) -> io::Result<Seen> {
        let found = stat(file, c"")?;
        let at = Where::of(&found);
        // Something may have been mounted over a name since it was looked at.
        if self.boundary.holds(at) || at == self.at && seen(&found).inode == self.seen.inode {
            check_size(self.known_as(&found))
        } else {
            Err(Errno::XDEV.into())
        }
    }

    fn is_hidden(&self, folder: Inode) -> bool {
        *self.private.lock().unwrap_or_else(PoisonError::into_inner) == Some(folder)
    }

    fn known_as(&self, found: &Statx) -> Seen {
        let mut seen = seen(found);
        seen.inode.number = self.boundary.number(Where::of(found), seen.inode.number);
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
    check_size(seen(&stat(file, c"")?))
}

/// The longest file that is replicated, in bytes: its regions have numbers of 32 bits ([`super::pass`]), and stations refuse longer ones.
/// A sparse one costs whoever makes it nothing.
const FILE_BYTES_MAX: u64 = 1 << 52;

/// Whatever cannot be replicated for its length is as good as unreadable: it is told, and the rest goes on.
fn check_size(seen: Seen) -> io::Result<Seen> {
    if seen.kind == Kind::File && seen.signature.size > FILE_BYTES_MAX {
        let longest = FILE_BYTES_MAX >> 50;
        let text = format!("it is longer than {longest} PiB; it is not replicated");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(seen)
}

/// Opens a file's content for reading, without waiting on a pipe.
pub(crate) fn open_file(folder: BorrowedFd<'_>, name: &Name) -> io::Result<OwnedFd> {
    let name = unescape_name(name);
    Ok(beneath::open_file(folder, name.as_slice(), OFlags::RDONLY, Mounts::Stay)?.into())
}

/// Tells whether a file can be opened for reading, as far as its rights say; asks where the mode alone does not tell.
pub(crate) fn may_read(folder: BorrowedFd<'_>, name: &Name, seen: &Seen) -> io::Result<()> {
    const ALL: u32 = 0o444;
    if seen.mode & ALL == ALL {
        return Ok(());
    }
    let flags = AtFlags::EACCESS | AtFlags::SYMLINK_NOFOLLOW;
    fs::accessat(folder, unescape_name(name), Access::READ_OK, flags)?;
    Ok(())
}

/// Lists a folder; names that a set cannot hold come as the second list.
pub(crate) fn list(folder: BorrowedFd<'_>) -> io::Result<(Vec<Name>, Vec<Vec<u8>>)> {
    let (mut names, mut unusable) = (Vec::new(), Vec::new());
    beneath::each_name(folder, |name| {
        match escape_name(name) {
            Ok(name) => names.push(name),
            Err(_) => unusable.push(name.to_vec()),
        }
        Ok::<_, io::Error>(true)
    })?;
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
        |name| fs::lgetxattr_query(path.as_slice(), name),
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
    Ok(build(owners, seen, Vec::new(), xattrs_of_open(file)?))
}

/// Reads all attributes that are replicated of an open folder or symlink.
pub(crate) fn meta_of_other(
    owners: &mut Owners,
    object: BorrowedFd<'_>,
    seen: &Seen,
) -> io::Result<Meta> {
    let (symlink, xattrs) = match seen.kind {
        // It has none that are replicated.
        Kind::Symlink => (fs::readlinkat(object, c"", Vec::new())?.into_bytes(), Vec::new()),
        _ => (Vec::new(), xattrs_of_open(object)?),
    };
    Ok(build(owners, seen, symlink, xattrs))
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

fn xattrs_of_open(file: BorrowedFd<'_>) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    xattrs(
        |list| fs::flistxattr(file, list),
        |name| fs::fgetxattr_query(file, name),
        |name, value| fs::fgetxattr(file, name, value),
    )
}

/// Reads the extended attributes of the allow-list, sorted; none where the file system has none.
///
/// What does not fit into [`XATTR_BYTES_MAX`] or cannot be read never holds the content back: it is left out, and a last
/// attribute says so. Access lists come first, because rights come of them.
fn xattrs(
    list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
    query: impl Fn(&[u8]) -> rustix::io::Result<usize>,
    get: impl Fn(&[u8], &mut [u8]) -> rustix::io::Result<usize>,
) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut left_out = LeftOut::default();
    let mut names = vec![0; 1024];
    match list(&mut names) {
        Ok(len) => names.truncate(len),
        Err(Errno::RANGE) => {
            names.resize(XATTR_BYTES_MAX, 0);
            match list(&mut names) {
                Ok(len) => names.truncate(len),
                Err(Errno::RANGE | Errno::TOOBIG) => {
                    // The kernel lists no more than this.
                    (left_out.count, left_out.bytes) = (1, 0);
                    names.clear();
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    }
    let mut names: Vec<&[u8]> = names
        .split(|byte| *byte == 0)
        .filter(|name| xattr_allowed(name) && *name != LEFT_OUT_XATTR)
        .collect();
    // So that the same attributes fit each time; access lists sort before those of users.
    names.sort_unstable();
    let mut found = Vec::new();
    let mut left = XATTR_BYTES_MAX - LEFT_OUT_BYTES;
    for name in names {
        match value(&query, &get, name, left.saturating_sub(name.len())) {
            Ok(Some(value)) => {
                left -= name.len() + value.len();
                found.push((name.to_vec(), value));
            }
            Ok(None) => {}
            Err(bytes) => {
                left_out.count += 1;
                left_out.bytes += bytes;
            }
        }
    }
    if left_out.count > 0 {
        found.push((LEFT_OUT_XATTR.to_vec(), left_out.to_string().into_bytes()));
        found.sort_unstable();
    }
    Ok(found)
}

/// Returns the value of an attribute, `None` where it is gone, or how long one is that cannot be read or is over `limit`.
fn value(
    query: &impl Fn(&[u8]) -> rustix::io::Result<usize>,
    get: &impl Fn(&[u8], &mut [u8]) -> rustix::io::Result<usize>,
    name: &[u8],
    limit: usize,
) -> Result<Option<Vec<u8>>, u64> {
    let mut value = vec![0; limit];
    // Without room it cannot be asked for: an empty buffer means something else.
    let got = if value.is_empty() { Err(Errno::RANGE) } else { get(name, &mut value) };
    match got {
        Ok(len) => {
            value.truncate(len);
            Ok(Some(value))
        }
        Err(Errno::NODATA) => Ok(None),
        Err(_) => Err(query(name).map_or(0, |len| len as u64)),
    }
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
        device: fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Where others write without an event here everything is compared more often, and people are told so.
    #[test]
    fn file_systems_that_others_write_to_are_told_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let mut tree = Tree::open(folder.path()).unwrap();
        for (kind, name) in [
            (0x6969, Some("NFS")),
            (0xfe53_4d42, Some("SMB")),
            (0x6573_5546, Some("FUSE")),
            (0x0102_1997, Some("9p")),
            (0x00c3_6400, Some("ceph")),
            // tmpfs, ext4, and one that nobody knows.
            (0x0102_1994, None),
            (0xef53, None),
            (0, None),
        ] {
            tree.kind = kind;
            assert_eq!(tree.shared_file_system(), name, "{kind:x}");
        }
    }

    /// Reads the attributes of a file that has these.
    fn read(all: &[(&str, usize)]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let list = |buffer: &mut [u8]| {
            let names: Vec<u8> =
                all.iter().flat_map(|(name, _)| [name.as_bytes(), b"\0"].concat()).collect();
            let room = buffer.get_mut(..names.len()).ok_or(Errno::RANGE)?;
            room.copy_from_slice(&names);
            Ok(names.len())
        };
        let len_of = |name: &[u8]| {
            all.iter().find(|(known, _)| known.as_bytes() == name).map(|(_, len)| *len).unwrap()
        };
        let get = |name: &[u8], buffer: &mut [u8]| {
            buffer.get_mut(..len_of(name)).ok_or(Errno::RANGE)?.fill(7);
            Ok(len_of(name))
        };
        xattrs(list, |name| Ok(len_of(name)), get).unwrap()
    }

    /// A file with more attributes than can be sent is sent, with those that fit and its access list, and says so.
    #[test]
    fn attributes_that_do_not_fit_are_left_out_and_said() {
        let acl = "system.posix_acl_access";
        let all = [("user.b", 40_000), ("user.c", 40_000), (acl, 44), ("user.d", 10)];
        let read = read(&all);
        let names: Vec<&[u8]> = read.iter().map(|(name, _)| name.as_slice()).collect();
        assert_eq!(names, [acl.as_bytes(), b"user.b", b"user.d", LEFT_OUT_XATTR]);
        assert_eq!(read[3].1, b"1 extended attribute of 40000 bytes");
        assert!(read.iter().zip([44, 40_000, 10]).all(|((_, value), len)| value.len() == len));
        let bytes: usize = read.iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!(bytes <= XATTR_BYTES_MAX);
    }

    /// What fills the room to the last byte leaves the next one out, and never makes an empty one of it.
    #[test]
    fn an_attribute_without_room_is_never_an_empty_one() {
        let full = XATTR_BYTES_MAX - LEFT_OUT_BYTES - 2 * "user.a".len() - 1;
        let read = read(&[("user.a", full), ("user.b", 9), ("user.c", 0)]);
        let names: Vec<&[u8]> = read.iter().map(|(name, _)| name.as_slice()).collect();
        assert_eq!(names, [&b"user.a"[..], b"user.c", LEFT_OUT_XATTR]);
    }

    /// What is read of a real file is what was set.
    #[test]
    fn attributes_are_read_as_they_are() {
        let file = tempfile::tempfile().unwrap();
        let all = [(&b"user.a"[..], &b"red"[..]), (b"user.b", b"")];
        for (name, value) in all {
            match fs::fsetxattr(&file, name, value, fs::XattrFlags::empty()) {
                Err(Errno::OPNOTSUPP) => return, // A file system without them.
                set => set.unwrap(),
            }
        }
        let read = xattrs_of_open(file.as_fd()).unwrap();
        let read: Vec<_> = read.iter().map(|(n, v)| (n.as_slice(), v.as_slice())).collect();
        assert_eq!(read, all);
    }
}
