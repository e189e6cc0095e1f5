//! Writes a version's content and attributes into a file, and compares contents: the long steps of a restore, which run
//! beside the source's thread.

use std::{
    fs::File,
    io::{self, Read as _},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::FileExt,
    },
    path::Path,
};

use keepshare_base::{ContentHash, LEFT_OUT_XATTR, Meta, Name, unescape_name, xattr_allowed};
use rustix::{
    fs::{self, Gid, Mode, OFlags, SeekFrom, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};

use super::{
    aside::Kept,
    map::Signature,
    tree::{self, Seen, Tree},
};
use crate::lease::{Lease, NoLease};

/// So much is read at once.
const STEP: usize = 256 * 1024;

/// What came of writing a version beside the live file.
#[derive(Debug)]
pub(crate) enum Wrote {
    /// It is written.
    New(Seen),
    /// The live file has that content.
    Equal,
}

/// What a restore replaced, after another look at its content.
#[derive(Debug)]
pub(crate) struct LookedAgain {
    /// Its name in the private folder.
    pub(crate) aside: String,
    /// The file.
    pub(crate) file: Settled,
    /// Whether its content is other than what was kept.
    pub(crate) differs: io::Result<bool>,
}

/// A file that was replaced.
#[derive(Debug)]
pub(crate) enum Settled {
    /// Nobody can write to it.
    Leased(Lease<OwnedFd>),
    /// Where there are no leases, or while somebody has it open: this was its state before the look.
    Seen(OwnedFd, Signature),
}

/// What came of writing into a file that is in place.
#[derive(Debug)]
pub(crate) enum Filled {
    /// It has the content and attributes.
    Done(Seen),
    /// Nothing was written: it is not what was looked at.
    Differs,
    /// Nothing was written: somebody has it open.
    Open,
}

/// Writes a version into a new file of ours; holes stay holes.
pub(crate) fn copy(tree: &Tree, into: OwnedFd, content: &Path, meta: &Meta) -> io::Result<Seen> {
    let (from, into) = (File::open(content)?, File::from(into));
    let size = from.metadata()?.len();
    let mut at = 0;
    while at < size {
        let data = match fs::seek(&from, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(Errno::NXIO) => break,
            // No such seek here: all of it is data.
            Err(_) => at,
        };
        let hole = fs::seek(&from, SeekFrom::Hole(data)).unwrap_or(size).clamp(data, size);
        copy_range(&from, &into, data, hole)?;
        at = hole.max(data + 1);
    }
    into.set_len(size)?;
    put_attributes(&into, meta)?;
    into.sync_all()?;
    tree.look_at(into.as_fd())
}

/// Writes a version into a file that stays where it is, while nobody else has it open.
///
/// `kept` is what was captured of it last: what was written since, seen or unseen, is not overwritten.
pub(crate) fn fill(
    tree: &Tree,
    folder: BorrowedFd<'_>,
    name: &Name,
    now: &Seen,
    kept: &Kept,
    (content, meta): (&Path, &Meta),
) -> io::Result<Filled> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = match fs::openat(folder, unescape_name(name), flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT | Errno::LOOP) => return Ok(Filled::Differs),
        Err(Errno::TXTBSY | Errno::AGAIN) => return Ok(Filled::Open),
        Err(error) => return Err(error.into()),
    };
    let lease = match Lease::write(file.as_fd()) {
        Ok(lease) => lease,
        Err(NoLease::Open) => return Ok(Filled::Open),
        Err(NoLease::Unknown(error)) => {
            let text = format!(
                "it can only be written where it is, and nobody can tell whether it is open: {error}"
            );
            return Err(io::Error::other(text));
        }
    };
    let seen = tree.look_at(file.as_fd())?;
    let is_it = seen.inode == now.inode && seen.signature == now.signature;
    if !is_it || (kept.hash.is_some() && kept.hash != Some(hash_of(&file)?)) {
        return Ok(Filled::Differs);
    }
    let mut from = File::open(content)?;
    reserve(&file, from.metadata()?.len())?;
    fs::seek(&file, SeekFrom::Start(0))?;
    let mut into = &file;
    let len = io::copy(&mut from, &mut into)?;
    file.set_len(len)?;
    put_attributes(&file, meta)?;
    if !lease.is_held() {
        tracing::debug!("somebody waited to open a file that was restored where it is");
    }
    drop(lease);
    file.sync_all()?;
    Ok(Filled::Done(tree.look_at(file.as_fd())?))
}

/// Makes a file at a name that stands for nothing, where it cannot be moved there.
pub(crate) fn create(
    tree: &Tree,
    folder: BorrowedFd<'_>,
    name: &Name,
    content: &Path,
    meta: &Meta,
) -> io::Result<Seen> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = fs::openat(folder, unescape_name(name), flags, Mode::from_raw_mode(0o600))?;
    copy(tree, file, content, meta)
}

/// Tells whether a live file, as it was seen, has this content.
pub(crate) fn is_equal(
    folder: BorrowedFd<'_>,
    name: &Name,
    now: Signature,
    content: &Path,
) -> bool {
    let compare = || -> io::Result<bool> {
        let live = tree::open_file(folder, name)?;
        let is_it =
            |live: &OwnedFd| Ok::<_, io::Error>(tree::look_at(live.as_fd())?.signature == now);
        let version = File::open(content)?;
        if !is_it(&live)? || now.size != version.metadata()?.len() {
            return Ok(false);
        }
        let live = File::from(live);
        Ok(same_bytes(&live, &version)? && is_it(&live.into())?)
    };
    compare().unwrap_or(false)
}

impl LookedAgain {
    /// Reads a file that was replaced, whose content was kept with this hash, where it has one.
    pub(crate) fn look(aside: String, file: Settled, kept: Option<ContentHash>) -> Self {
        let differs = match kept {
            Some(kept) => file
                .fd()
                .try_clone_to_owned()
                .and_then(|open| Ok(hash_of(&File::from(open))? != kept)),
            // What it was nobody can tell.
            None => Ok(true),
        };
        Self { aside, file, differs }
    }
}

impl Settled {
    /// Returns the file.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Leased(lease) => lease.file().as_fd(),
            Self::Seen(file, _) => file.as_fd(),
        }
    }

    /// Tells whether nothing was written to it since it was taken, as far as can be known.
    pub(crate) fn is_settled(&self) -> bool {
        match self {
            Self::Leased(lease) => lease.is_held(),
            Self::Seen(file, before) => {
                tree::look_at(file.as_fd()).is_ok_and(|seen| seen.signature == *before)
            }
        }
    }
}

/// Returns the hash of a file's content.
pub(crate) fn hash_of(file: &File) -> io::Result<ContentHash> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; STEP];
    let mut at = 0;
    loop {
        match file.read_at(&mut buffer, at) {
            Ok(0) => return Ok(ContentHash(*hasher.finalize().as_bytes())),
            Ok(len) => {
                hasher.update(&buffer[..len]);
                at += len as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Tells whether a file has the attributes of a version, as far as they can be given to it.
pub(crate) fn has_attributes(now: &Meta, version: &Meta) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    let same_owner =
        !is_root || (now.owner.id, now.group.id) == (version.owner.id, version.group.id);
    now.mode & 0o1777 == version.mode & 0o1777
        && same_owner
        && now.mtime == version.mtime
        && now.xattrs == version.xattrs
}

fn copy_range(from: &File, into: &File, mut at: u64, end: u64) -> io::Result<()> {
    let mut buffer = vec![0; STEP];
    while at < end {
        let want = usize::try_from(end - at).unwrap_or(STEP).min(STEP);
        match from.read_at(&mut buffer[..want], at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(len) => {
                into.write_all_at(&buffer[..len], at)?;
                at += len as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn same_bytes(mut a: &File, mut b: &File) -> io::Result<bool> {
    let (mut left, mut right) = (vec![0; STEP], vec![0; STEP]);
    loop {
        let len = read_step(&mut a, &mut left)?;
        if len != read_step(&mut b, &mut right)? || left[..len] != right[..len] {
            return Ok(false);
        }
        if len == 0 {
            return Ok(true);
        }
    }
}

fn read_step(from: &mut &File, into: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < into.len() {
        match from.read(&mut into[len..]) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

/// Takes the room that a content needs before a byte of the present one is gone.
fn reserve(file: &File, len: u64) -> io::Result<()> {
    match fs::fallocate(file, fs::FallocateFlags::KEEP_SIZE, 0, len) {
        _ if len == 0 => Ok(()),
        // There are file systems that cannot tell.
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        Err(error) => {
            // What it got of it lies behind the end, where nobody would ever find it.
            let size = tree::look_at(file.as_fd())?.signature.size;
            fs::ftruncate(file, size)?;
            Err(error.into())
        }
    }
}

fn put_attributes(file: &File, meta: &Meta) -> io::Result<()> {
    let (owner, group) = (Uid::from_raw(meta.owner.id), Some(Gid::from_raw(meta.group.id)));
    // Not ours to give without root; then the file belongs to whoever runs this, and to a group that they are in.
    let _ = fs::fchown(file, Some(owner), group).or_else(|_| fs::fchown(file, None, group));
    // Set-id bits are not given back: whoever could choose the version could choose the program.
    fs::fchmod(file, Mode::from_raw_mode(meta.mode & 0o1777))?;
    let mut names = vec![0; keepshare_base::XATTR_BYTES_MAX];
    let len = fs::flistxattr(file, names.as_mut_slice()).unwrap_or(0);
    for name in names[..len].split(|byte| *byte == 0).filter(|name| xattr_allowed(name)) {
        if !meta.xattrs.iter().any(|(wanted, _)| wanted == name) {
            let _ = fs::fremovexattr(file, name);
        }
    }
    for (name, value) in meta.xattrs.iter().filter(|(name, _)| name != LEFT_OUT_XATTR) {
        let _ = fs::fsetxattr(file, name.as_slice(), value, XattrFlags::empty());
    }
    let mtime = Timespec { tv_sec: meta.mtime.secs, tv_nsec: meta.mtime.nanos.into() };
    Ok(fs::futimens(file, &Timestamps { last_access: mtime, last_modification: mtime })?)
}
