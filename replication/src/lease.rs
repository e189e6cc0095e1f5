//! File leases: the kernel's word that nobody writes to a file, and that nobody begins to unseen.
//!
//! A *read lease* is granted while no descriptor and no mapping can write to the file; a *write lease*, taken through a
//! writable descriptor, while nobody else has it open at all. Whoever opens the file against a lease waits until it is
//! let go (for 45 s by default, see `/proc/sys/fs/lease-break-time`; then it is taken away), so hold one only for as
//! long as a look or a copy takes, and ask [`Lease::is_held`] when that is over: only then was nothing written meanwhile.
//!
//! Leases of files that belong to others need `CAP_LEASE`. NFS, FUSE, vfat and others have none.

use std::{
    ffi::c_int,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

/// Linux's command that sets which signal tells of a descriptor; libc has no name for it.
const F_SETSIG: c_int = 10;

/// A lease that is held until this is dropped.
#[derive(Debug)]
pub struct Lease<F: AsFd> {
    file: F,
    kind: c_int,
}

/// Why there is no lease.
#[derive(Debug, thiserror::Error)]
pub enum NoLease {
    /// Somebody has the file open, or mapped, in a way that the lease excludes.
    #[error("the file is open")]
    Open,
    /// None to be had here: the file system has no leases, or the file is another user's and `CAP_LEASE` is missing.
    #[error("there are no leases here")]
    Unknown(#[source] io::Error),
}

impl<F: AsFd> Lease<F> {
    /// Takes a read lease: nobody can write to the file. `file` is open for reading only.
    pub fn read(file: F) -> Result<Self, NoLease> {
        Self::take(file, libc::F_RDLCK)
    }

    /// Takes a write lease: nobody else has the file open. `file` is open for writing.
    pub fn write(file: F) -> Result<Self, NoLease> {
        Self::take(file, libc::F_WRLCK)
    }

    /// Tells whether the lease is still what it was: nobody has opened the file against it, or waits to.
    pub fn is_held(&self) -> bool {
        control(self.file.as_fd(), libc::F_GETLEASE, 0).is_ok_and(|held| held == self.kind)
    }

    /// Returns the file.
    pub fn file(&self) -> &F {
        &self.file
    }

    fn take(file: F, kind: c_int) -> Result<Self, NoLease> {
        let fd = file.as_fd();
        // Whoever opens the file has the kernel send us a signal: one that is ignored, not SIGIO, which would end us.
        let taken =
            control(fd, F_SETSIG, libc::SIGURG).and_then(|_| control(fd, libc::F_SETLEASE, kind));
        match taken {
            Ok(_) => Ok(Self { file, kind }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(NoLease::Open),
            Err(error) => Err(NoLease::Unknown(error)),
        }
    }
}

impl<F: AsFd> Drop for Lease<F> {
    fn drop(&mut self) {
        // One that was taken away is gone already.
        let _ = control(self.file.as_fd(), libc::F_SETLEASE, libc::F_UNLCK);
    }
}

#[expect(unsafe_code, reason = "neither rustix nor nix offers F_SETLEASE, F_GETLEASE and F_SETSIG")]
fn control(file: BorrowedFd<'_>, command: c_int, argument: c_int) -> io::Result<c_int> {
    // SAFETY: the descriptor is open for as long as it is borrowed; the three commands take an integer by value, touch
    // no memory of ours, and neither close nor duplicate the descriptor.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), command, argument) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(done) }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{File, OpenOptions},
        os::unix::fs::OpenOptionsExt,
        path::PathBuf,
    };

    use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
    use tempfile::TempDir;

    use super::*;

    fn file() -> (TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, b"content").unwrap();
        (dir, path)
    }

    fn is_free(path: &PathBuf) -> bool {
        match Lease::read(File::open(path).unwrap()) {
            Ok(lease) => lease.is_held(),
            Err(NoLease::Open) => false,
            Err(NoLease::Unknown(error)) => panic!("{error}"),
        }
    }

    /// What somebody can still write to is not at rest.
    #[test]
    fn a_read_lease_is_refused_while_a_writer_has_the_file_open() {
        let (_dir, path) = file();
        let reader = File::open(&path).unwrap();
        assert!(is_free(&path));
        let writer = OpenOptions::new().write(true).open(&path).unwrap();
        assert!(!is_free(&path));
        drop(writer);
        assert!(is_free(&path));
        drop(reader);
    }

    /// Stores through a mapping change no times and raise no events.
    #[test]
    #[expect(unsafe_code, reason = "a shared mapping is what this is about")]
    fn a_read_lease_is_refused_while_a_writable_mapping_lives() {
        let (_dir, path) = file();
        let writer = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let (protection, shared) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a new mapping of one page, at a place that the kernel chooses.
        let page =
            unsafe { mmap(std::ptr::null_mut(), 4096, protection, shared, &writer, 0).unwrap() };
        drop(writer);
        assert!(!is_free(&path));
        // SAFETY: the mapping made above, which nothing refers to.
        unsafe { munmap(page, 4096).unwrap() };
        assert!(is_free(&path));
    }

    /// A file is filled in place only while nobody can see half of it.
    #[test]
    fn a_write_lease_is_refused_while_anybody_has_the_file_open() {
        let (_dir, path) = file();
        let writable = || OpenOptions::new().write(true).open(&path).unwrap();
        let reader = File::open(&path).unwrap();
        assert!(matches!(Lease::write(writable()), Err(NoLease::Open)));
        drop(reader);
        assert!(Lease::write(writable()).unwrap().is_held());
    }

    /// Someone who opens the file ends the lease, and not this process.
    #[test]
    fn a_lease_that_someone_opened_against_is_not_held() {
        let (_dir, path) = file();
        let lease = Lease::read(File::open(&path).unwrap()).unwrap();
        assert!(lease.is_held());
        let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap();
        let mut writer = OpenOptions::new();
        let refused = writer.write(true).custom_flags(flags).open(&path).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        assert!(!lease.is_held());
        drop(lease);
        writer.open(&path).unwrap();
    }
}
