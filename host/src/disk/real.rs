//! A folder of the file system as a [`Disk`].

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::FileExt,
    },
    path::Path,
    sync::Arc,
};

use rustix::{
    fs::{AtFlags, CWD, Dir, FallocateFlags, FileType, FlockOperation, Mode, OFlags},
    io::Errno,
};

use super::{Disk, DiskFile, RESERVE_BYTES, split_name};
use crate::{
    beneath::{self, Mounts},
    files::sync_parent,
};

/// A folder of the file system. Opened by [`Self::open`], nothing else can open it beside us.
#[derive(Debug)]
pub struct RealDisk {
    /// Carries the lock, where there is one; every path below is resolved beneath it.
    dir: OwnedFd,
}

impl RealDisk {
    /// Opens a folder, making it where it is absent; `WouldBlock` where another process has it open.
    ///
    /// The folder above must exist.
    pub fn open(dir: &Path) -> io::Result<Self> {
        match rustix::fs::mkdirat(CWD, dir, DIR_MODE) {
            Ok(()) => sync_parent(dir)?,
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(CWD, dir, flags, Mode::empty())?;
        rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { dir })
    }

    /// Opens a folder that is there and that a lock of the caller's keeps others out of.
    pub fn open_shared(dir: &Path) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(Self { dir: rustix::fs::openat(CWD, dir, flags, Mode::empty())? })
    }

    fn open_beneath(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        // The kernel refuses a mode where nothing can be created.
        let mode = if flags.contains(OFlags::CREATE) { FILE_MODE } else { Mode::empty() };
        beneath::open(&self.dir, path, flags, mode, Mounts::Enter)
    }

    fn open_dir(&self, dir: &str) -> io::Result<OwnedFd> {
        let path = if dir.is_empty() { "." } else { dir };
        self.open_beneath(path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Makes the folder of a file durable before the first file appears in it.
    fn make_dir(&self, dir: &str) -> io::Result<()> {
        match rustix::fs::mkdirat(&self.dir, dir, DIR_MODE) {
            Ok(()) => Ok(rustix::fs::fsync(&self.dir)?),
            Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Disk for RealDisk {
    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        let (dir, _) = split_name(name)?;
        let mut flags = OFlags::RDWR;
        if create {
            flags |= OFlags::CREATE;
            if !dir.is_empty() {
                self.make_dir(dir)?;
            }
        }
        let file = File::from(self.open_beneath(name, flags)?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(Arc::new(RealFile(file)))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let fd = match self.open_dir(dir) {
            Ok(fd) => fd,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
            Err(error) => return Err(error),
        };
        let mut names = vec![];
        for entry in Dir::read_from(&fd)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if is_file(fd.as_fd(), name, entry.file_type())? {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let ((from_dir, from), (to_dir, to)) = (split_name(from)?, split_name(to)?);
        let (from_dir, to_dir) = (self.open_dir(from_dir)?, self.open_dir(to_dir)?);
        Ok(rustix::fs::renameat(from_dir, from, to_dir, to)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let (dir, name) = split_name(name)?;
        Ok(rustix::fs::unlinkat(self.open_dir(dir)?, name, AtFlags::empty())?)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        Ok(rustix::fs::fsync(self.open_dir(dir)?)?)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::fstatvfs(&self.dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn hold_reserve(&self) -> io::Result<()> {
        let file = File::from(self.open_beneath(RESERVE, OFlags::RDWR | OFlags::CREATE)?);
        let blocks = u64::try_from(rustix::fs::fstat(&file)?.st_blocks).unwrap_or(0);
        if blocks.saturating_mul(512) >= RESERVE_BYTES {
            return Ok(());
        }
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, RESERVE_BYTES) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => fill(&file)?,
            Err(error) => {
                // A part of a reserve would only take space from the work that needs it now.
                let _ = rustix::fs::unlinkat(&self.dir, RESERVE, AtFlags::empty());
                return Err(error.into());
            }
        }
        file.sync_all()
    }

    fn release_reserve(&self) -> io::Result<bool> {
        match rustix::fs::unlinkat(&self.dir, RESERVE, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// The calls are those of [`File`], which names them alike.
#[derive(Debug)]
struct RealFile(File);

impl DiskFile for RealFile {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(&self.0, buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(&self.0, buf, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

fn is_file(dir: BorrowedFd<'_>, name: &str, file_type: FileType) -> io::Result<bool> {
    if file_type != FileType::Unknown {
        return Ok(file_type == FileType::RegularFile);
    }
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
}

/// Takes the space of the reserve on a file system that cannot allocate without writing.
fn fill(file: &File) -> io::Result<()> {
    let block = vec![0xa5; 64 * 1024];
    (0..RESERVE_BYTES).step_by(block.len()).try_for_each(|at| file.write_all_at(&block, at))
}

const FILE_MODE: Mode = Mode::from_raw_mode(0o600);
const DIR_MODE: Mode = Mode::from_raw_mode(0o700);
const RESERVE: &str = "reserve";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn disk() -> (tempfile::TempDir, RealDisk) {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(&dir.path().join("set")).unwrap();
        (dir, disk)
    }

    #[test]
    fn files_keep_what_is_written_and_follow_their_names() {
        let (_dir, disk) = disk();
        assert_eq!(disk.open("log/1", false).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(disk.list("log").unwrap(), Vec::<String>::new());
        let file = disk.open("log/1.new", true).unwrap();
        file.write_all_at(b"abc", 2).unwrap();
        file.sync_data().unwrap();
        disk.rename("log/1.new", "log/1").unwrap();
        disk.sync_dir("log").unwrap();
        disk.sync_dir("").unwrap();
        assert_eq!(disk.list("log").unwrap(), ["1"]);
        let mut buf = [9; 5];
        disk.open("log/1", false).unwrap().read_exact_at(&mut buf, 0).unwrap();
        assert_eq!(&buf, b"\0\0abc");
        let past = file.read_exact_at(&mut buf, 1).unwrap_err();
        assert_eq!(past.kind(), io::ErrorKind::UnexpectedEof);
        disk.remove("log/1").unwrap();
        assert_eq!(disk.list("log").unwrap(), Vec::<String>::new());
    }

    /// Two writers of one log would each cut what the other wrote.
    #[test]
    fn a_second_opener_is_refused_until_the_first_is_gone() {
        let (dir, disk) = disk();
        let path = dir.path().join("set");
        assert_eq!(RealDisk::open(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(disk);
        RealDisk::open(&path).unwrap();
    }

    #[test]
    fn nobody_else_can_read_and_no_link_leads_out() {
        let (dir, disk) = disk();
        disk.open("packs/1", true).unwrap();
        let mode =
            |path: &str| dir.path().join(path).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("set"), mode("set/packs"), mode("set/packs/1")), (0o700, 0o700, 0o600));
        std::fs::write(dir.path().join("outside"), b"x").unwrap();
        symlink("../outside", dir.path().join("set/index.redb")).unwrap();
        symlink("..", dir.path().join("set/log")).unwrap();
        for name in ["index.redb", "log/outside", "../outside", "/etc/hosts", "a/b/c", "", "a/"] {
            assert!(disk.open(name, true).is_err(), "{name} was opened");
        }
        assert!(disk.list("log").is_err());
        assert!(disk.remove("log/outside").is_err());
    }

    /// Removal needs a little space before it gives any.
    #[test]
    fn the_reserve_holds_space_and_gives_it_back_once() {
        let (_dir, disk) = disk();
        disk.hold_reserve().unwrap();
        disk.hold_reserve().unwrap();
        assert_eq!(disk.open(RESERVE, false).unwrap().len().unwrap(), RESERVE_BYTES);
        assert!(disk.release_reserve().unwrap());
        assert!(!disk.release_reserve().unwrap());
        assert!(disk.free_bytes().unwrap() > 0);
    }
}
