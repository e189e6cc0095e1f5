//! A file's attributes, set on an open descriptor and only where they differ.
//!
//! As root a live file has its owner, mode (never set-id bits), times, and the extended attributes of the allow-list.
//! Without root a live tree is the station's own: folders are 0700, files 0600, only times and `user.*` attributes are
//! kept, and rights come from the index.

use std::io;

use rustix::{
    fd::AsFd,
    fs::{Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags},
    io::Errno,
};

use keepshare_base::{FileTime, Kind, Meta, XATTR_BYTES_MAX, xattr_allowed};

use super::{
    beneath::{Folder, Part, Seen, see_open, step},
    owners::Owners,
};

/// How attributes are set here.
#[derive(Debug)]
pub(super) struct Attributes {
    /// Whether owners and modes can be those of the origin.
    pub(super) as_root: bool,
    /// Who is who on this machine.
    pub(super) owners: Owners,
}

impl Attributes {
    /// Makes the attributes of an open file or folder those of `meta`; the content must be there already.
    pub(super) fn set(&self, fd: impl AsFd, meta: &Meta) -> io::Result<()> {
        let fd = fd.as_fd();
        let before = see_open(fd)?;
        let (uid, gid) = self.owner(meta, &before);
        if (uid, gid) != (before.uid, before.gid) {
            step()?;
            let (uid, gid) = ids(uid, gid);
            rustix::fs::fchown(fd, uid, gid)?;
        }
        let acl_changed = self.set_xattrs(fd, meta)?;
        let mode = self.mode(meta);
        if acl_changed || mode != before.mode || uid != before.uid {
            step()?;
            rustix::fs::fchmod(fd, Mode::from_raw_mode(mode))?;
        }
        if meta.mtime != before.mtime || acl_changed {
            step()?;
            rustix::fs::futimens(fd, &times(meta.mtime))?;
        }
        Ok(())
    }

    /// Makes the attributes of a symlink those of `meta`.
    pub(super) fn set_symlink(
        &self,
        folder: &Folder,
        name: Part<'_>,
        meta: &Meta,
    ) -> io::Result<()> {
        let Some(before) = folder.see(name)? else { return Err(Errno::NOENT.into()) };
        let (uid, gid) = self.owner(meta, &before);
        if (uid, gid) != (before.uid, before.gid) {
            folder.set_owner_of(name, uid, gid)?;
        }
        if meta.mtime != before.mtime {
            folder.set_mtime_of(name, meta.mtime)?;
        }
        Ok(())
    }

    /// Tells whether what was seen has the owner, mode and time of `meta`; extended attributes are not looked at.
    pub(super) fn fit(&self, seen: &Seen, meta: &Meta) -> bool {
        let mode_fits = meta.kind == Kind::Symlink || seen.mode == self.mode(meta);
        mode_fits && (seen.uid, seen.gid) == self.owner(meta, seen) && seen.mtime == meta.mtime
    }

    fn mode(&self, meta: &Meta) -> u32 {
        match (self.as_root, meta.kind) {
            (true, _) => meta.mode & 0o1777,
            (false, Kind::Dir) => 0o700,
            (false, _) => 0o600,
        }
    }

    fn owner(&self, meta: &Meta, now: &Seen) -> (u32, u32) {
        if self.as_root {
            (self.owners.user(&meta.owner), self.owners.group(&meta.group))
        } else {
            (now.uid, now.gid)
        }
    }

    /// Sets and removes extended attributes; tells whether access lists were among them.
    fn set_xattrs(&self, fd: rustix::fd::BorrowedFd<'_>, meta: &Meta) -> io::Result<bool> {
        let kept =
            |name: &[u8]| xattr_allowed(name) && (self.as_root || name.starts_with(b"user."));
        let mut acl_changed = false;
        for name in names(fd)?.split(|b| *b == 0).filter(|name| kept(name)) {
            if !meta.xattrs.iter().any(|(wanted, _)| wanted == name) {
                step()?;
                rustix::fs::fremovexattr(fd, name)?;
                acl_changed |= is_acl(name);
            }
        }
        for (name, value) in meta.xattrs.iter().filter(|(name, _)| kept(name)) {
            if current(fd, name)?.as_ref() != Some(value) {
                step()?;
                match rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()) {
                    // The index has them; the plain file of such a file system goes without.
                    Err(Errno::OPNOTSUPP) => {}
                    set => set?,
                }
                acl_changed |= is_acl(name);
            }
        }
        Ok(acl_changed)
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

fn is_acl(name: &[u8]) -> bool {
    name.starts_with(b"system.posix_acl_")
}

/// Returns the names of all extended attributes, each ended by a NUL.
fn names(fd: rustix::fd::BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    match rustix::fs::flistxattr_query(fd) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    let mut bytes = vec![0; XATTR_BYTES_MAX];
    let len = rustix::fs::flistxattr(fd, &mut bytes[..])?;
    bytes.truncate(len);
    Ok(bytes)
}

/// Returns the value of an extended attribute, where there is one.
fn current(fd: rustix::fd::BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let len = match rustix::fs::fgetxattr_query(fd, name) {
        Ok(len) => len.min(XATTR_BYTES_MAX),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut value = vec![0; len];
    match rustix::fs::fgetxattr(fd, name, &mut value[..]) {
        Ok(got) => value.truncate(got),
        // It grew meanwhile: it differs.
        Err(Errno::RANGE | Errno::NODATA) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use keepshare_base::Owner;

    use super::*;

    fn meta() -> Meta {
        Meta {
            kind: Kind::File,
            size: 0,
            mode: 0o6751,
            owner: Owner { id: 1234, name: String::new() },
            group: Owner { id: 4321, name: String::new() },
            mtime: FileTime { secs: -5, nanos: 7 },
            symlink: vec![],
            rdev: 0,
            xattrs: vec![(b"user.tag".to_vec(), b"red".to_vec())],
        }
    }

    fn rules(as_root: bool) -> Attributes {
        Attributes { as_root, owners: Owners::default() }
    }

    /// A master must not be able to plant a program that runs as someone else.
    #[test]
    fn set_id_bits_are_never_made() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let file = tempfile::tempfile().unwrap();
        rules(true).set(&file, &meta()).unwrap();
        let about = file.metadata().unwrap();
        assert_eq!(about.mode() & 0o7777, 0o751);
        assert_eq!((about.uid(), about.gid()), (1234, 4321));
        assert_eq!((about.mtime(), about.mtime_nsec()), (-5, 7));
    }

    #[test]
    fn without_root_files_are_the_stations_own() {
        let file = tempfile::tempfile().unwrap();
        let owner = file.metadata().unwrap().uid();
        rules(false).set(&file, &meta()).unwrap();
        let about = file.metadata().unwrap();
        assert_eq!(about.mode() & 0o7777, 0o600);
        assert_eq!(about.uid(), owner);
        assert_eq!((about.mtime(), about.mtime_nsec()), (-5, 7));
        assert!(rules(false).fit(&see_open(&file).unwrap(), &meta()));
    }

    #[test]
    fn extended_attributes_follow_and_go() {
        let file = tempfile::tempfile().unwrap();
        let rules = rules(false);
        rules.set(&file, &meta()).unwrap();
        let Some(value) = current(file.as_fd(), b"user.tag").unwrap() else {
            return; // A file system without them.
        };
        assert_eq!(value, b"red");
        rules.set(&file, &Meta { xattrs: vec![], ..meta() }).unwrap();
        assert_eq!(current(file.as_fd(), b"user.tag").unwrap(), None);
    }
}
