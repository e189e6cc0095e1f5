//! Writes a version's content and attributes into a file, and compares contents: the long steps of a restore, which run
//! beside the source's thread.

use std::{
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::FileExt,
    },
    path::Path,
    sync::Arc,
};

use keepshare_base::{
    ACCESS_LIST_XATTR, ContentHash, LEFT_OUT_XATTR, Meta, Name, XATTR_BYTES_MAX, mode_without_list,
    xattr_allowed,
};
use rustix::{
    fs::{self, AtFlags, Gid, Mode, SeekFrom, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};

use keepshare_decide::Signature;

use super::tree::{self, Seen, Tree};
use crate::lease::Lease;

/// The bits that have programs run, and files made, as somebody else's.
const SET_ID: u32 = 0o6000;

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
    /// Which look this was.
    pub(crate) ticket: Arc<()>,
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
    pub(crate) fn look(
        aside: String,
        ticket: Arc<()>,
        file: Settled,
        kept: Option<ContentHash>,
    ) -> Self {
        let differs = match kept {
            Some(kept) => file
                .fd()
                .try_clone_to_owned()
                .and_then(|open| Ok(hash_of(&File::from(open))? != kept)),
            // What it was nobody can tell.
            None => Ok(true),
        };
        Self { aside, ticket, file, differs }
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
fn hash_of(file: &File) -> io::Result<ContentHash> {
    hash_while(file, || true)?.ok_or_else(|| io::ErrorKind::Interrupted.into())
}

/// Returns the hash of a file's content, if it was read to its end.
pub(super) fn hash_while(
    file: &File,
    mut goes_on: impl FnMut() -> bool,
) -> io::Result<Option<ContentHash>> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; STEP];
    let mut at = 0;
    while goes_on() {
        match file.read_at(&mut buffer, at) {
            Ok(0) => return Ok(Some(ContentHash(*hasher.finalize().as_bytes()))),
            Ok(len) => {
                hasher.update(&buffer[..len]);
                at += len as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
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

/// Tells whether a folder or a symlink has the attributes that it had, as far as they can be given to it.
pub(super) fn has_attributes_of(now: &Meta, then: &Meta) -> bool {
    has_attributes(now, then) && now.mode & SET_ID & !then.mode == 0
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

/// Reads until the buffer is full or nothing is left.
pub(super) fn read_step(from: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
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

/// Gives a file the attributes of a version, as far as they can be given to it.
pub(super) fn put_attributes(file: &File, meta: &Meta) -> io::Result<()> {
    put_attributes_with(file, meta, 0)
}

/// Gives an open folder the attributes that it had, as far as they can be given to it. A set-id bit that it has, and had, stays.
pub(super) fn put_folder_attributes(folder: BorrowedFd<'_>, meta: &Meta) -> io::Result<()> {
    let has = fs::fstat(folder)?.st_mode & SET_ID;
    put_attributes_with(&File::from(folder.try_clone_to_owned()?), meta, has)
}

/// Gives an open symlink the attributes that it had, as far as they can be given to it.
pub(super) fn put_link_attributes(link: BorrowedFd<'_>, meta: &Meta) {
    let (owner, group) = (Uid::from_raw(meta.owner.id), Some(Gid::from_raw(meta.group.id)));
    let here = AtFlags::EMPTY_PATH;
    let _ = fs::chownat(link, c"", Some(owner), group, here)
        .or_else(|_| fs::chownat(link, c"", None, group, here));
    let _ = fs::utimensat(link, c"", &times_of(meta), here);
}

fn put_attributes_with(file: &File, meta: &Meta, has: u32) -> io::Result<()> {
    let (owner, group) = (Uid::from_raw(meta.owner.id), Some(Gid::from_raw(meta.group.id)));
    // Not ours to give without root; then the file belongs to whoever runs this, and to a group that they are in.
    let owned =
        fs::fchown(file, Some(owner), group).or_else(|_| fs::fchown(file, None, group)).is_ok();
    let is_theirs = owned || fs::fstat(file)?.st_gid == meta.group.id;
    // Set-id bits are not given back: whoever could choose the version could choose the program.
    let mut mode = meta.mode & (0o1777 | has);
    if !put_xattrs(file, meta)? {
        mode = mode_without_list(mode, meta.access_list());
    }
    if !is_theirs {
        // They are another group's.
        mode &= !0o070;
    }
    fs::fchmod(file, Mode::from_raw_mode(mode))?;
    Ok(fs::futimens(file, &times_of(meta))?)
}

fn times_of(meta: &Meta) -> Timestamps {
    let mtime = Timespec { tv_sec: meta.mtime.secs, tv_nsec: meta.mtime.nanos.into() };
    Timestamps { last_access: mtime, last_modification: mtime }
}

/// Gives a file the extended attributes of a version, as far as the file system takes them; tells whether its access list is
/// the version's. A disk that is full takes them later.
fn put_xattrs(file: &File, meta: &Meta) -> io::Result<bool> {
    let mut is_right = true;
    let mut names = vec![0; XATTR_BYTES_MAX];
    let len = match fs::flistxattr(file, names.as_mut_slice()) {
        Ok(len) => len,
        Err(error) => {
            is_right = error == Errno::OPNOTSUPP;
            0
        }
    };
    for name in names[..len].split(|byte| *byte == 0).filter(|name| xattr_allowed(name)) {
        if !meta.xattrs.iter().any(|(wanted, _)| wanted == name)
            && fs::fremovexattr(file, name).is_err()
            && name == ACCESS_LIST_XATTR
        {
            is_right = false;
        }
    }
    for (name, value) in meta.xattrs.iter().filter(|(name, _)| name != LEFT_OUT_XATTR) {
        if let Err(error) = fs::fsetxattr(file, name.as_slice(), value, XattrFlags::empty()) {
            if is_full(file, error) {
                return Err(error.into());
            }
            // Without it is right but for what is left out; with an older value it would be wrong.
            let _ = fs::fremovexattr(file, name.as_slice());
            is_right &= name != ACCESS_LIST_XATTR;
        }
    }
    Ok(is_right)
}

/// Tells whether an attribute was not taken because the disk is full: there are file systems that say so, too, of one that is too long.
fn is_full(file: &File, error: Errno) -> bool {
    let has_no_room = || {
        fs::fstatvfs(file).is_ok_and(|stat| {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            free < XATTR_BYTES_MAX as u64 || (stat.f_files > 0 && stat.f_favail == 0)
        })
    };
    error == Errno::DQUOT || (error == Errno::NOSPC && has_no_room())
}

#[cfg(test)]
pub(super) mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use keepshare_base::{FileTime, Kind, Owner};

    use super::*;

    /// Returns attributes that anybody can give to a file.
    pub(crate) fn meta() -> Meta {
        Meta {
            kind: Kind::File,
            size: 0,
            mode: 0o664,
            owner: Owner { id: rustix::process::geteuid().as_raw(), name: String::new() },
            group: Owner { id: rustix::process::getegid().as_raw(), name: String::new() },
            mtime: FileTime { secs: 5, nanos: 7 },
            symlink: vec![],
            rdev: 0,
            xattrs: vec![],
        }
    }

    /// Of a file with an access list the group's bits are the mask: without the list they would be the group's rights. And
    /// whom the list shuts out is one of all others without it.
    #[test]
    fn a_list_that_cannot_be_set_opens_nothing() {
        let file = tempfile::tempfile().unwrap();
        let no_list = vec![(ACCESS_LIST_XATTR.to_vec(), vec![9; 8])];
        put_attributes(&file, &Meta { xattrs: no_list, ..meta() }).unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o604);
        // A version, then one who is named and shut out; the kernel wants the owner, the group and others, too.
        let shut_out = [2, 0, 0, 0, 2, 0, 0, 0, 0xe9, 3, 0, 0].to_vec();
        let list = vec![(ACCESS_LIST_XATTR.to_vec(), shut_out)];
        put_attributes(&file, &Meta { xattrs: list, ..meta() }).unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o600);
        put_attributes(&file, &meta()).unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o664);
    }
}
