//! Writes a version where it is to be: into a live file while nobody else has it open, or into a new file at its name.
//!
//! Only where a version cannot be written beside and moved there. A write lease keeps others out meanwhile, but not for
//! ever: see [`FillLimits`].

use std::{
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::fs::FileExt,
    },
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use keepshare_base::{Meta, Name, unescape_name};
use keepshare_decide::restores::Kept;
use rustix::{
    fs::{self, AtFlags, CWD, Mode, OFlags},
    io::Errno,
};

use super::{
    tree::{self, AtName, Seen, Tree},
    writing::{copy, hash_while, put_attributes, read_step},
};
use crate::lease::{Lease, NoLease};

/// So much is written into a live file between two looks at its lease.
const FILL_STEP: usize = 1 << 20;

/// What a disk takes in a second, and be it a slow one.
const FILL_BYTES_PER_SECOND: u64 = 64 << 20;

/// How long the kernel has whoever opens a leased file wait, where it does not say.
const BREAK_SECONDS: u64 = 45;

/// What came of writing into a file that is in place.
#[derive(Debug)]
pub(crate) enum Filled {
    /// It has the content and attributes.
    Done(Seen),
    /// Nothing was written: it is not what was looked at.
    Differs,
    /// Nothing was written: somebody has it open.
    Open,
    /// Some was written: it is half of one version and half of another.
    Torn(io::Error),
}

/// A version that is to be written into a file that is in place.
#[derive(Debug)]
pub(crate) struct Fill<'a> {
    /// How the file was seen.
    pub(crate) now: &'a Seen,
    /// What was captured of it last.
    pub(crate) kept: &'a Kept,
    /// The version.
    pub(crate) content: &'a Path,
    /// Its attributes.
    pub(crate) meta: &'a Meta,
    /// How long it may take.
    pub(crate) limits: FillLimits,
    /// The process ends: what was not begun is not begun any more.
    pub(crate) ending: &'a AtomicBool,
}

/// How long a live file may be written to.
///
/// Whoever opens it meanwhile waits, but the kernel lets nobody wait for ever: then it takes the lease away, and what is
/// written after that goes over what they save.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FillLimits {
    /// It is written to for no longer than this after the last moment at which nobody waited.
    pub(crate) waited_max: Duration,
    /// What is longer may take longer, and is not begun.
    pub(crate) bytes_max: u64,
}

/// A write lease that is looked at again and again.
struct Watched<F: AsFd> {
    lease: Lease<F>,
    /// When nobody waited for it, at the last look.
    held: Instant,
    waited_max: Duration,
}

/// Writes a version into a file that stays where it is, while nobody else has it open.
///
/// What was written since it was captured, seen or unseen, is not overwritten. Who opens it before the first byte is
/// written has it; who opens it after that waits for the last.
pub(crate) fn fill(
    tree: &Tree,
    folder: BorrowedFd<'_>,
    name: &Name,
    fill: &Fill<'_>,
) -> io::Result<Filled> {
    let mut from = File::open(fill.content)?;
    let len = from.metadata()?.len();
    if len > fill.limits.bytes_max {
        let text = format!(
            "it can only be written where it is, and {len} bytes take longer than others can be kept from opening it; \
             restore it under another name"
        );
        return Err(io::Error::other(text));
    }
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
    let mut lease = Watched::new(lease, fill.limits.waited_max);
    let may_begin =
        |lease: &mut Watched<_>| lease.is_held() && !fill.ending.load(Ordering::Relaxed);
    let seen = tree.look_at(file.as_fd())?;
    if seen.inode != fill.now.inode || seen.signature != fill.now.signature {
        return Ok(Filled::Differs);
    }
    // Under the lease, so that no store comes between this look and the first byte; nobody is kept waiting for it.
    if let Some(kept) = fill.kept.hash {
        match hash_while(&file, || may_begin(&mut lease))? {
            Some(hash) if hash == kept => {}
            Some(_) => return Ok(Filled::Differs),
            None => return Ok(Filled::Open),
        }
    }
    if !may_begin(&mut lease) {
        return Ok(Filled::Open);
    }
    reserve(&file, len, &mut lease)?;
    if !may_begin(&mut lease) {
        give_back(&file, &mut lease)?;
        return Ok(Filled::Open);
    }
    let written = overwrite(&file, &mut from, fill.meta, &mut lease);
    drop(lease);
    if let Err(error) = written.and_then(|()| file.sync_all()) {
        return Ok(Filled::Torn(error));
    }
    Ok(Filled::Done(tree.look_at(file.as_fd())?))
}

/// Tells whether files can be made in a folder that have no name before they are whole.
pub(crate) fn makes_unnamed(folder: BorrowedFd<'_>) -> bool {
    unnamed(folder).is_ok()
}

fn unnamed(folder: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC;
    fs::openat(folder, c".", flags, Mode::from_raw_mode(0o600))
}

/// Makes a file at a name that stands for nothing, where it cannot be moved there: whole, or not at all.
pub(crate) fn create(
    tree: &Tree,
    folder: BorrowedFd<'_>,
    name: &Name,
    content: &Path,
    meta: &Meta,
) -> io::Result<Seen> {
    let Ok(file) = unnamed(folder) else {
        // There are file systems where every file has a name.
        return create_named(tree, folder, name, content, meta);
    };
    copy(tree, file.try_clone()?, content, meta)?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    match fs::linkat(CWD, path, folder, unescape_name(name), AtFlags::SYMLINK_FOLLOW) {
        Ok(()) => tree.look_at(file.as_fd()),
        Err(Errno::EXIST) => Err(Errno::EXIST.into()),
        Err(_) => create_named(tree, folder, name, content, meta),
    }
}

/// Makes a file at a name that stands for nothing; what could not be written whole goes again.
fn create_named(
    tree: &Tree,
    folder: BorrowedFd<'_>,
    name: &Name,
    content: &Path,
    meta: &Meta,
) -> io::Result<Seen> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let raw = unescape_name(name);
    let file = fs::openat(folder, &*raw, flags, Mode::from_raw_mode(0o600))?;
    copy(tree, file.try_clone()?, content, meta).inspect_err(|_| {
        let ours = tree.look_at(file.as_fd()).map(|seen| seen.inode);
        let now = tree.look(folder, name);
        // Somebody may have put theirs there meanwhile.
        if let (Ok(ours), Ok(AtName::Object(now))) = (ours, now)
            && now.inode == ours
        {
            let _ = fs::unlinkat(folder, &*raw, AtFlags::empty());
        }
    })
}

impl FillLimits {
    /// Returns what the kernel allows, with much to spare.
    pub(crate) fn of_this_system() -> Self {
        let said = std::fs::read_to_string("/proc/sys/fs/lease-break-time");
        let said = said.ok().and_then(|said| said.trim().parse().ok());
        // None at all means for ever.
        let seconds = said.filter(|seconds| *seconds > 0).unwrap_or(BREAK_SECONDS);
        Self {
            waited_max: Duration::from_secs(seconds) / 2,
            bytes_max: (seconds / 3).saturating_mul(FILL_BYTES_PER_SECOND),
        }
    }
}

impl<F: AsFd> Watched<F> {
    fn new(lease: Lease<F>, waited_max: Duration) -> Self {
        Self { lease, held: Instant::now(), waited_max }
    }

    /// Tells whether nobody waits to open the file.
    fn is_held(&mut self) -> bool {
        let now = Instant::now();
        let is_held = self.lease.is_held();
        if is_held {
            self.held = now;
        }
        is_held
    }

    /// Tells whether nobody can have opened the file: who waits for it has not waited for long.
    fn keeps_out(&mut self) -> bool {
        self.is_held() || self.held.elapsed() < self.waited_max
    }
}

/// Writes a content and its attributes over a file, as long as its lease keeps others out.
fn overwrite(
    file: &File,
    from: &mut impl Read,
    meta: &Meta,
    lease: &mut Watched<impl AsFd>,
) -> io::Result<()> {
    let mut kept_out = || {
        let text = "somebody opened the file while it was written where it is, and could not be kept waiting any longer";
        lease.keeps_out().then_some(()).ok_or_else(|| io::Error::other(text))
    };
    let mut buffer = vec![0; FILL_STEP];
    let mut at = 0;
    loop {
        let len = read_step(from, &mut buffer)?;
        kept_out()?;
        if len == 0 {
            break;
        }
        file.write_all_at(&buffer[..len], at)?;
        at += len as u64;
    }
    file.set_len(at)?;
    kept_out()?;
    put_attributes(file, meta)
}

/// Takes the room that a content needs before a byte of the present one is gone.
fn reserve(file: &File, len: u64, lease: &mut Watched<impl AsFd>) -> io::Result<()> {
    match fs::fallocate(file, fs::FallocateFlags::KEEP_SIZE, 0, len) {
        _ if len == 0 => Ok(()),
        // There are file systems that cannot tell.
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        Err(error) => {
            give_back(file, lease)?;
            Err(error.into())
        }
    }
}

/// Gives room back that lies behind the end of a file, where nobody would ever find it.
fn give_back(file: &File, lease: &mut Watched<impl AsFd>) -> io::Result<()> {
    if lease.keeps_out() {
        let size = tree::look_at(file.as_fd())?.signature.size;
        fs::ftruncate(file, size)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs::OpenOptions, os::unix::fs::OpenOptionsExt as _};

    use keepshare_base::{ContentHash, FileId, FileTime};
    use tempfile::TempDir;

    use super::{super::writing::tests::meta, *};

    fn folder() -> (TempDir, Tree) {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::open(dir.path()).unwrap();
        (dir, tree)
    }

    fn name() -> Name {
        Name::new(b"doc").unwrap()
    }

    /// A content that somebody wants to save over while its second part is read.
    struct Disturbed<'a> {
        file: &'a Path,
        left: usize,
    }

    impl Read for Disturbed<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            if self.left == FILL_STEP {
                let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap();
                let opened = OpenOptions::new().write(true).custom_flags(flags).open(self.file);
                assert_eq!(opened.unwrap_err().kind(), io::ErrorKind::WouldBlock);
            }
            let len = into.len().min(self.left);
            into[..len].fill(b'n');
            self.left -= len;
            Ok(len)
        }
    }

    /// Overwrites a file of three parts by one of two while somebody opens it.
    fn disturbed(waited_max: Duration) -> (io::Result<()>, Vec<u8>) {
        let (dir, _) = folder();
        let path = dir.path().join("doc");
        std::fs::write(&path, vec![b'o'; 3 * FILL_STEP]).unwrap();
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let mut lease = Watched::new(Lease::write(file.as_fd()).unwrap(), waited_max);
        let mut from = Disturbed { file: &path, left: 2 * FILL_STEP };
        let written = overwrite(&file, &mut from, &meta(), &mut lease);
        drop(lease);
        drop(file);
        (written, std::fs::read(path).unwrap())
    }

    /// What is written after the kernel took the lease away would go over what somebody saves, and no version has that.
    #[test]
    fn nothing_is_written_when_the_lease_may_be_gone() {
        let (written, content) = disturbed(Duration::ZERO);
        written.unwrap_err();
        let [new, old] = [&content[..FILL_STEP], &content[FILL_STEP..]];
        assert!(new.iter().all(|byte| *byte == b'n'));
        assert!(old.len() == 2 * FILL_STEP && old.iter().all(|byte| *byte == b'o'));
    }

    /// Who opens it meanwhile waits, and sees all of it.
    #[test]
    fn who_waits_gets_it_whole() {
        let (written, content) = disturbed(Duration::from_secs(3600));
        written.unwrap();
        assert_eq!(content, vec![b'n'; 2 * FILL_STEP]);
    }

    /// What is not begun cannot be torn: a version that takes longer than others wait, and any when the process ends.
    #[test]
    fn what_cannot_be_finished_is_not_begun() {
        let (dir, tree) = folder();
        let (path, content) = (dir.path().join("doc"), dir.path().join("version"));
        std::fs::write(&path, "what it was").unwrap();
        std::fs::write(&content, "right").unwrap();
        let AtName::Object(now) = tree.look(tree.root().as_fd(), &name()).unwrap() else {
            panic!("it is there");
        };
        let (size, mtime) = (now.signature.size, now.signature.mtime);
        let hash = Some(ContentHash::of(b"what it was"));
        let kept = Kept { file: FileId::ROOT, inode: now.inode, size, mtime, hash };
        let fill = |bytes_max, ending: bool| {
            let limits = FillLimits { bytes_max, ..FillLimits::of_this_system() };
            let (now, kept, content, meta) = (&now, &kept, content.as_path(), &meta());
            let ending = &AtomicBool::new(ending);
            let what = Fill { now, kept, content, meta, limits, ending };
            fill(&tree, tree.root().as_fd(), &name(), &what)
        };
        assert!(fill(4, false).unwrap_err().to_string().contains("longer"));
        assert!(matches!(fill(5, true).unwrap(), Filled::Open));
        assert_eq!(std::fs::read(&path).unwrap(), b"what it was");
        assert!(matches!(fill(5, false).unwrap(), Filled::Done(_)));
        assert_eq!(std::fs::read(&path).unwrap(), b"right");
    }

    /// Half a file at a live name would be captured, and be a version.
    #[test]
    fn a_file_that_cannot_be_made_whole_is_not_left() {
        let (dir, tree) = folder();
        let content = tempfile::tempdir().unwrap();
        let version = content.path().join("version");
        std::fs::write(&version, "right").unwrap();
        // There is no such moment.
        let mtime = FileTime { secs: 5, nanos: 2_000_000_000 };
        let impossible = Meta { mtime, ..meta() };
        for make in [create, create_named] {
            make(&tree, tree.root().as_fd(), &name(), &version, &impossible).unwrap_err();
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        }
        for make in [create, create_named] {
            let made = || make(&tree, tree.root().as_fd(), &name(), &version, &meta());
            made().unwrap();
            assert_eq!(made().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(std::fs::read(dir.path().join("doc")).unwrap(), b"right");
            std::fs::remove_file(dir.path().join("doc")).unwrap();
        }
    }
}
