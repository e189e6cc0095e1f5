//! Writes what the station gives back into a folder: files, folders and links as they were.
//!
//! Everything goes through held folder descriptors and never follows a link, because the names come from a set that
//! others write. A file is written beside its place and moved there whole. Nothing is replaced unless that was asked
//! for. Owners are given only by root, by name where the machine knows the name.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    fs::{self, File},
    hash::{BuildHasher, Hasher, RandomState},
    io::{self, Seek, SeekFrom, Write},
    os::{fd::AsFd, fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

use anyhow::Context;
use rustix::{
    fs::{AtFlags, CWD, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, Uid},
    io::Errno,
};

use keepshare_base::{FileTime, Kind, Meta, Name, Owner, unescape_name};

use crate::{
    api::Entry,
    failure::{Failure, Outcome},
    output::safe,
    users,
};

/// A folder being filled.
pub(crate) struct Extractor {
    root: OwnedFd,
    /// Where it is, for messages.
    shown: PathBuf,
    force: bool,
    owners: Option<Owners>,
    /// Folders that are open, from the top: what was entered last is finished first.
    open: Vec<OpenFolder>,
    file: Option<OpenFile>,
    /// What could not be brought back, with the reason.
    pub(crate) problems: Vec<String>,
    /// Files, folders and links that are there now.
    pub(crate) written: u64,
    /// The content of those files.
    pub(crate) bytes: u64,
}

struct OpenFolder {
    name: OsString,
    fd: OwnedFd,
    meta: Meta,
}

struct OpenFile {
    folder: OwnedFd,
    name: OsString,
    /// What it is called until it is whole.
    temporary: OsString,
    file: File,
    len: u64,
    meta: Meta,
}

/// Names of users and groups of this machine.
struct Owners {
    users: HashMap<String, u32>,
    groups: HashMap<String, u32>,
}

/// How a file is called until it is whole: this, and 16 digits that nobody can expect.
const TEMPORARY: &str = ".keepshare-restoring~";

impl Extractor {
    /// Opens the folder `dir`, making it where it is missing.
    ///
    /// For a `whole` set, whose entries go right into `dir`, it must be empty unless `force`.
    pub(crate) fn open(dir: &Path, whole: bool, force: bool) -> Outcome<Self> {
        fs::create_dir_all(dir).map_err(|error| {
            let error = anyhow::Error::new(error);
            Failure::from(error.context(format!("cannot create the folder {}", dir.display())))
                .hint_if_none("--to names a folder, or where one can be made")
        })?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, dir, flags, Mode::empty())
            .with_context(|| format!("cannot open the folder {}", dir.display()))?;
        if whole && !force {
            let mut entries = fs::read_dir(dir)
                .with_context(|| format!("cannot read the folder {}", dir.display()))?;
            if entries.next().is_some() {
                return Err(in_the_way(dir));
            }
        }
        let owners = rustix::process::geteuid().is_root().then(Owners::load);
        let (shown, open) = (dir.to_owned(), Vec::new());
        let (file, problems, written, bytes) = (None, Vec::new(), 0, 0);
        Ok(Self { root, shown, force, owners, open, file, problems, written, bytes })
    }

    /// Begins the next entry; parents come before what is in them.
    pub(crate) fn entry(&mut self, entry: Entry) -> Outcome<()> {
        self.finish_file()?;
        let path = local_path(&entry.path);
        let Some((name, parents)) = path.split_last() else {
            // The folder itself, whose entries go right into ours: attributes are not put on a folder of the user's.
            return Ok(());
        };
        self.leave_to(parents)?;
        let shown = self.shown_path(&path);
        if let Some(reason) = &entry.damaged {
            self.problems.push(format!("{}: {reason}", safe(&shown.to_string_lossy())));
            return Ok(());
        }
        let made = match (&entry.same_as, entry.meta.kind) {
            (Some(other), _) => self.link(name, &local_path(other)),
            (None, Kind::Dir) => self.enter(name, entry.meta),
            (None, Kind::File) => self.begin_file(name, entry.meta),
            (None, Kind::Symlink) => self.symlink(name, &entry.meta),
            (None, Kind::Fifo | Kind::Socket | Kind::BlockDevice | Kind::CharDevice) => {
                let shown = safe(&shown.to_string_lossy());
                self.problems.push(format!("{shown}: pipes, sockets and devices are not restored"));
                return Ok(());
            }
        };
        match made {
            Ok(()) => {
                // A file is there when it is whole.
                self.written += u64::from(self.file.is_none());
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(in_the_way(&shown)),
            Err(error) => Err(cannot_write(&shown, error)),
        }
    }

    /// Adds content to the last entry.
    pub(crate) fn data(&mut self, bytes: &[u8]) -> Outcome<()> {
        let Some(open) = &mut self.file else {
            return Err(Failure::new(crate::failure::Code::Failed, "content without a file"));
        };
        // Zeros stay holes, so that a sparse file comes back sparse.
        let written = if bytes.iter().all(|byte| *byte == 0) {
            open.file
                .seek(SeekFrom::Current(i64::try_from(bytes.len()).unwrap_or(i64::MAX)))
                .map(|_| ())
        } else {
            open.file.write_all(bytes)
        };
        open.len += bytes.len() as u64;
        written.map_err(|error| cannot_write(&self.shown, error))
    }

    /// Finishes what is open and makes all of it durable.
    pub(crate) fn finish(&mut self) -> Outcome<()> {
        self.finish_file()?;
        self.leave_to(&[])?;
        rustix::fs::syncfs(&self.root).map_err(|error| cannot_write(&self.shown, error.into()))
    }

    /// Tells whether owners are given.
    pub(crate) fn gives_owners(&self) -> bool {
        self.owners.is_some()
    }

    fn shown_path(&self, path: &[OsString]) -> PathBuf {
        path.iter().fold(self.shown.clone(), |shown, name| shown.join(name))
    }

    fn folder(&self) -> &OwnedFd {
        self.open.last().map_or(&self.root, |folder| &folder.fd)
    }

    /// Leaves folders until those that are open are `parents`.
    fn leave_to(&mut self, parents: &[OsString]) -> Outcome<()> {
        let common =
            self.open.iter().zip(parents).take_while(|(open, name)| open.name == **name).count();
        while self.open.len() > common {
            let Some(folder) = self.open.pop() else { break };
            let given = self.give_attributes(&folder.fd, &folder.meta);
            given.map_err(|error| cannot_write(&self.shown.join(&folder.name), error))?;
        }
        if common < parents.len() {
            return Err(Failure::new(
                crate::failure::Code::Failed,
                "the station sent something before its folder",
            ));
        }
        Ok(())
    }

    fn enter(&mut self, name: &OsStr, meta: Meta) -> io::Result<()> {
        let parent = self.folder();
        match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) if self.force => {}
            Err(error) => return Err(error.into()),
        }
        let fd = open_folder(parent, name)?;
        self.open.push(OpenFolder { name: name.to_owned(), fd, meta });
        Ok(())
    }

    fn begin_file(&mut self, name: &OsStr, meta: Meta) -> io::Result<()> {
        let folder = self.folder().try_clone()?;
        if !self.force && exists(&folder, name)? {
            return Err(Errno::EXIST.into());
        }
        let number = RandomState::new().build_hasher().finish();
        let temporary = OsString::from(format!("{TEMPORARY}{number:016x}"));
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&folder, &temporary, flags, Mode::RUSR | Mode::WUSR)?;
        let (name, file) = (name.to_owned(), File::from(fd));
        self.file = Some(OpenFile { folder, name, temporary, file, len: 0, meta });
        Ok(())
    }

    fn finish_file(&mut self) -> Outcome<()> {
        let Some(open) = self.file.take() else { return Ok(()) };
        let shown = self.shown.join(&open.name);
        if open.len != open.meta.size {
            remove_file(&open.folder, &open.temporary)
                .map_err(|error| cannot_write(&shown, error))?;
            let (len, size) = (open.len, open.meta.size);
            self.problems.push(format!(
                "{}: {len} of {size} bytes could be read",
                safe(&shown.to_string_lossy())
            ));
            return Ok(());
        }
        self.place_file(&open).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => in_the_way(&shown),
            _ => cannot_write(&shown, error),
        })?;
        self.written += 1;
        self.bytes += open.len;
        Ok(())
    }

    fn place_file(&self, open: &OpenFile) -> io::Result<()> {
        open.file.set_len(open.len)?;
        self.give_attributes(&open.file, &open.meta)?;
        let flags = if self.force { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        let placed = rustix::fs::renameat_with(
            &open.folder,
            &open.temporary,
            &open.folder,
            &open.name,
            flags,
        );
        if placed.is_err() {
            remove_file(&open.folder, &open.temporary)?;
        }
        Ok(placed?)
    }

    fn symlink(&self, name: &OsStr, meta: &Meta) -> io::Result<()> {
        let folder = self.folder();
        if self.force {
            remove_file(folder, name)?;
        }
        rustix::fs::symlinkat(OsStr::from_bytes(&meta.symlink), folder, name)?;
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        if let Some((user, group)) = self.owner_of(meta) {
            rustix::fs::chownat(folder, name, Some(user), Some(group), flags)?;
        }
        Ok(rustix::fs::utimensat(folder, name, &times(meta.mtime), flags)?)
    }

    /// Gives what is at `other` a second name.
    fn link(&self, name: &OsStr, other: &[OsString]) -> io::Result<()> {
        let Some((last, parents)) = other.split_last() else {
            return Err(io::Error::other("a link to the folder itself"));
        };
        let mut from = self.root.try_clone()?;
        for parent in parents {
            from = open_folder(&from, parent)?;
        }
        let folder = self.folder();
        if self.force {
            remove_file(folder, name)?;
        }
        Ok(rustix::fs::linkat(&from, last, folder, name, AtFlags::empty())?)
    }

    fn give_attributes(&self, fd: impl AsFd, meta: &Meta) -> io::Result<()> {
        for (name, value) in &meta.xattrs {
            let flags = rustix::fs::XattrFlags::empty();
            match rustix::fs::fsetxattr(&fd, OsStr::from_bytes(name), value, flags) {
                // Some file systems have none, and ACLs name owners that only root may give rights to.
                Ok(()) | Err(Errno::NOTSUP | Errno::PERM | Errno::NOSPC | Errno::INVAL) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut mode = meta.mode;
        match self.owner_of(meta) {
            Some((user, group)) => rustix::fs::fchown(&fd, Some(user), Some(group))?,
            // Set-id bits would hand the restoring user's own rights to everybody.
            None => mode &= 0o1777,
        }
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode))?;
        Ok(rustix::fs::futimens(&fd, &times(meta.mtime))?)
    }

    fn owner_of(&self, meta: &Meta) -> Option<(Uid, Gid)> {
        let owners = self.owners.as_ref()?;
        let number = |names: &HashMap<String, u32>, owner: &Owner| {
            names.get(&owner.name).copied().unwrap_or(owner.id)
        };
        Some((
            Uid::from_raw(number(&owners.users, &meta.owner)),
            Gid::from_raw(number(&owners.groups, &meta.group)),
        ))
    }
}

impl Owners {
    fn load() -> Self {
        Self { users: users::users(), groups: users::groups() }
    }
}

/// Returns a path of the set as the names that its source had.
fn local_path(path: &[Name]) -> Vec<OsString> {
    path.iter().map(|name| OsStr::from_bytes(&unescape_name(name)).to_owned()).collect()
}

fn open_folder(parent: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

fn exists(folder: &OwnedFd, name: &OsStr) -> io::Result<bool> {
    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Removes what has this name, if it is no folder.
fn remove_file(folder: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn times(mtime: FileTime) -> Timestamps {
    let time = Timespec { tv_sec: mtime.secs, tv_nsec: mtime.nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

fn in_the_way(path: &Path) -> Failure {
    Failure::refused(format!("{} is there already", safe(&path.to_string_lossy())))
        .hint("give another folder with --to, or replace it with --force")
}

fn cannot_write(path: &Path, error: io::Error) -> Failure {
    let shown = safe(&path.to_string_lossy());
    anyhow::Error::new(error).context(format!("cannot write {shown}")).into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn meta(kind: Kind, size: u64, mode: u32) -> Meta {
        Meta {
            kind,
            size,
            mode,
            owner: Owner { id: rustix::process::geteuid().as_raw(), name: String::new() },
            group: Owner { id: rustix::process::getegid().as_raw(), name: String::new() },
            mtime: FileTime { secs: 1_000_000_000, nanos: 5 },
            symlink: Vec::new(),
            rdev: 0,
            xattrs: Vec::new(),
        }
    }

    fn names(path: &str) -> Vec<Name> {
        keepshare_base::SetPath::parse(path.as_bytes()).unwrap().names().to_vec()
    }

    fn entry(path: &str, meta: Meta) -> Entry {
        Entry { path: names(path), meta, same_as: None, damaged: None }
    }

    fn sample(out: &mut Extractor) -> Outcome<()> {
        out.entry(entry("then", meta(Kind::Dir, 0, 0o755)))?;
        out.entry(entry("then/a", meta(Kind::Dir, 0, 0o500)))?;
        out.entry(entry("then/a/one", meta(Kind::File, 3, 0o640)))?;
        out.data(b"on")?;
        out.data(b"e")?;
        out.entry(Entry {
            same_as: Some(names("then/a/one")),
            ..entry("then/a/two", meta(Kind::File, 3, 0o640))
        })?;
        let target = Meta { symlink: b"a/one".to_vec(), ..meta(Kind::Symlink, 0, 0o777) };
        out.entry(entry("then/link", target))?;
        out.finish()
    }

    #[test]
    fn a_folder_comes_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let mut out = Extractor::open(dir.path(), false, false).unwrap();
        sample(&mut out).unwrap();
        let one = dir.path().join("then/a/one");
        assert_eq!(fs::read(&one).unwrap(), b"one");
        let stat = fs::metadata(&one).unwrap();
        assert_eq!((stat.nlink(), stat.mtime(), stat.mtime_nsec()), (2, 1_000_000_000, 5));
        assert_eq!(stat.permissions().mode() & 0o7777, 0o640);
        let folder = fs::metadata(dir.path().join("then/a")).unwrap();
        assert_eq!((folder.permissions().mode() & 0o7777, folder.mtime()), (0o500, 1_000_000_000));
        assert_eq!(fs::read_link(dir.path().join("then/link")).unwrap(), Path::new("a/one"));
        assert!(out.problems.is_empty(), "{:?}", out.problems);
        assert_eq!((out.written, out.bytes), (5, 3));
        // So that the temporary folder can be removed by an ordinary user.
        fs::set_permissions(dir.path().join("then/a"), fs::Permissions::from_mode(0o700)).unwrap();
    }

    #[test]
    fn nothing_is_replaced_unless_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "precious").unwrap();
        let mut out = Extractor::open(dir.path(), false, false).unwrap();
        let failure = out.entry(entry("file", meta(Kind::File, 1, 0o600))).unwrap_err();
        assert_eq!(failure.code, crate::failure::Code::Refused);
        assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"precious");
        let mut out = Extractor::open(dir.path(), false, true).unwrap();
        out.entry(entry("file", meta(Kind::File, 1, 0o600))).unwrap();
        out.data(b"x").unwrap();
        out.finish().unwrap();
        assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"x");
        assert!(Extractor::open(dir.path(), true, false).is_err(), "a folder that is not empty");
    }

    /// A link that was restored, or planted, must not lead what is restored after it out of the folder.
    #[test]
    fn links_are_never_followed() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        symlink(outside.path(), dir.path().join("then")).unwrap();
        let mut out = Extractor::open(dir.path(), true, true).unwrap();
        let failure = sample(&mut out).unwrap_err();
        assert!(failure.to_string().contains("cannot write"), "{failure}");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    /// Half a file must not stand where the file should be.
    #[test]
    fn content_that_ends_early_is_reported_and_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut out = Extractor::open(dir.path(), true, false).unwrap();
        out.entry(entry("short", meta(Kind::File, 5, 0o600))).unwrap();
        out.data(b"abc").unwrap();
        let damaged =
            Entry { damaged: Some("damaged".into()), ..entry("bad", meta(Kind::File, 1, 0o600)) };
        out.entry(damaged).unwrap();
        out.entry(entry("pipe", meta(Kind::Fifo, 0, 0o600))).unwrap();
        out.finish().unwrap();
        assert_eq!(out.problems.len(), 3, "{:?}", out.problems);
        assert_eq!((out.written, out.bytes), (0, 0), "what is not there was counted");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
