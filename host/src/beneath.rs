//! Opening what lies beneath a folder that is held open, and nothing else.
//!
//! Whoever can write into a tree can swap a folder for a symlink at any moment, so a path that was looked at says nothing a
//! moment later. Here every way begins at a descriptor, goes only downwards and through no symlink; what stands at its end
//! is not followed either. What is found there is for the caller to judge: [`Mounts`] says whether it may be mounted.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    fs::{Dir, Mode, OFlags, ResolveFlags, openat, openat2},
    io::Errno,
    path::Arg,
};

/// How often an open is tried again when the kernel could not rule out a race.
const TRIES_MAX: usize = 64;

/// Whether a way may lead into what is mounted beneath a folder.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mounts {
    /// It ends there, with `EXDEV`.
    Stay,
    /// It goes on.
    Enter,
}

/// Opens what is at a path beneath a folder; `mode` is that of a file which is made.
pub fn open(
    folder: impl AsFd,
    path: impl Arg + Copy,
    flags: OFlags,
    mode: Mode,
    mounts: Mounts,
) -> io::Result<OwnedFd> {
    let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    resolve.set(ResolveFlags::NO_XDEV, mounts == Mounts::Stay);
    for _ in 0..TRIES_MAX {
        match openat2(folder.as_fd(), path, flags | OFlags::CLOEXEC, mode, resolve) {
            Err(Errno::AGAIN) => {}
            opened => return Ok(opened?),
        }
    }
    Err(Errno::AGAIN.into())
}

/// Opens a folder beneath another one.
pub fn open_folder(
    folder: impl AsFd,
    path: impl Arg + Copy,
    mounts: Mounts,
) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    open(folder, path, flags, Mode::empty(), mounts)
}

/// Opens a file beneath a folder, as `access` says.
pub fn open_file(
    folder: impl AsFd,
    path: impl Arg + Copy,
    access: OFlags,
    mounts: Mounts,
) -> io::Result<File> {
    // Non-blocking, because what stands there may have become a pipe.
    let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    open(folder, path, flags, Mode::empty(), mounts).map(File::from)
}

/// Makes an empty file that was not in a folder, and that nobody else can open; opens it as `access` says.
pub fn make_file(folder: impl AsFd, name: impl Arg, access: OFlags) -> io::Result<File> {
    let flags = access | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(openat(folder, name, flags, Mode::RUSR | Mode::WUSR)?))
}

/// Calls `each` with the name of every entry of a folder, until it returns false or fails.
pub fn each_name<E: From<io::Error>>(
    folder: impl AsFd,
    mut each: impl FnMut(&[u8]) -> Result<bool, E>,
) -> Result<(), E> {
    for entry in Dir::read_from(folder).map_err(io::Error::from)? {
        let entry = entry.map_err(io::Error::from)?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") && !each(name)? {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    /// A symlink planted in a tree, at the end of a way or on it, must not lead anything of ours outside.
    #[test]
    fn no_way_leads_outside() {
        let outside = tempfile::tempdir().unwrap();
        fs::create_dir(outside.path().join("folder")).unwrap();
        fs::write(outside.path().join("secret"), "x").unwrap();
        let inside = tempfile::tempdir().unwrap();
        fs::create_dir(inside.path().join("folder")).unwrap();
        fs::write(inside.path().join("folder/file"), "y").unwrap();
        symlink(outside.path(), inside.path().join("out")).unwrap();
        symlink(outside.path().join("secret"), inside.path().join("link")).unwrap();
        let root = File::open(inside.path()).unwrap();
        for mounts in [Mounts::Stay, Mounts::Enter] {
            open_folder(&root, "folder", mounts).unwrap();
            open_file(&root, "folder/file", OFlags::RDONLY, mounts).unwrap();
            for path in ["out", "out/folder", "..", "folder/../..", "/"] {
                assert!(open_folder(&root, path, mounts).is_err(), "{path} was opened");
            }
            for path in ["link", "out/secret"] {
                assert!(open_file(&root, path, OFlags::RDONLY, mounts).is_err(), "{path}");
            }
        }
        assert!(make_file(&root, "link", OFlags::WRONLY).is_err());
        assert_eq!(fs::read(outside.path().join("secret")).unwrap(), b"x");
    }

    /// A folder that became a file, or a file that became a pipe, is told and waits for nobody.
    #[test]
    fn what_became_something_else_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let root = File::open(dir.path()).unwrap();
        make_file(&root, "file", OFlags::WRONLY).unwrap();
        let error = open_folder(&root, "file", Mounts::Stay).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
        symlink("file", dir.path().join("link")).unwrap();
        let error = open_folder(&root, "link", Mounts::Stay).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
        rustix::fs::mknodat(&root, "pipe", rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        open_file(&root, "pipe", OFlags::RDONLY, Mounts::Stay).unwrap();
        let mut names = Vec::new();
        each_name(&root, |name| {
            names.push(name.to_vec());
            Ok::<_, io::Error>(true)
        })
        .unwrap();
        names.sort_unstable();
        assert_eq!(names, [&b"file"[..], b"link", b"pipe"]);
    }
}
