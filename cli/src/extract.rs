//! Writes what the station gives back into a folder: files, folders and links as they were.
//!
//! Everything goes through held folder descriptors and never follows a link, because the names come from a set that
//! others write. A file is written beside its place and moved there whole; what is not whole is removed, also where the
//! command is interrupted. Nothing is replaced unless that was asked for. What is in the way of one file keeps no other
//! back: it is listed at the end. Owners are given only by root, by name where the machine knows the name.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    fs::{self, DirBuilder, File},
    hash::{BuildHasher, Hasher, RandomState},
    io::{self, Seek, SeekFrom, Write},
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt, fs::DirBuilderExt},
    },
    path::{Path, PathBuf},
};

use anyhow::Context;
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, RenameFlags},
    io::Errno,
};

use keepshare_base::{Kind, Meta, Name, unescape_name};
use keepshare_control::{Code, Failure, Outcome, answers::ShownEntry};
use keepshare_host::beneath::{self, Mounts};

use crate::output::safe;

mod attributes;
mod unfinished;

use attributes::Owners;
pub(crate) use unfinished::{Unfinished, when_interrupted};

/// A folder being filled.
pub(crate) struct Extractor {
    root: OwnedFd,
    /// Where it is, for messages.
    shown: PathBuf,
    /// It was not there before, and is nobody else's until it is filled.
    is_new: bool,
    force: bool,
    owners: Owners,
    /// The attributes of a set's own folder, where they are to be given.
    top: Option<Meta>,
    /// Folders that are open, from the top: what was entered last is finished first.
    open: Vec<OpenFolder>,
    file: Option<OpenFile>,
    unfinished: Unfinished,
    /// The folder that could not be made or entered last: what is in it is passed over.
    lost: Option<Vec<OsString>>,
    /// Files that could not be brought back, which other names may be links to.
    missing: HashSet<Vec<OsString>>,
    /// What could not be brought back, with the reason.
    pub(crate) problems: Vec<String>,
    /// Whether the station could not give something.
    pub(crate) is_damaged: bool,
    /// Attributes that the file system does not take, by path.
    pub(crate) left_out: Vec<String>,
    /// What is never brought back: pipes, sockets and devices.
    pub(crate) skipped: Vec<String>,
    /// Files, folders and links written.
    pub(crate) written: u64,
    /// The content of the files among them, in bytes.
    pub(crate) bytes: u64,
}

struct OpenFolder {
    name: OsString,
    fd: OwnedFd,
    meta: Meta,
}

struct OpenFile {
    path: Vec<OsString>,
    folder: OwnedFd,
    /// What it is called until it is whole.
    temporary: OsString,
    file: File,
    len: u64,
    meta: Meta,
}

/// How a file is called until it is whole: this, and 16 digits that nobody can expect.
const TEMPORARY: &str = ".keepshare-restoring~";

impl Extractor {
    /// Opens the folder `dir`, making it where it is missing.
    ///
    /// For a `whole` set, whose entries go right into `dir`, it must be empty unless `force`.
    pub(crate) fn open(dir: &Path, whole: bool, force: bool) -> Outcome<Self> {
        let hint = "--to names a folder, or where one can be made";
        let is_new = make_folder(dir, whole).map_err(|error| {
            let error = anyhow::Error::new(error);
            Failure::from(error.context(format!("cannot create the folder {}", dir.display())))
                .hint_if_none(hint)
        })?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, dir, flags, Mode::empty()).map_err(|error| {
            let error = anyhow::Error::new(io::Error::from(error));
            Failure::from(error.context(format!("cannot open the folder {}", dir.display())))
                .hint_if_none(hint)
        })?;
        if whole && !force {
            let mut entries = fs::read_dir(dir)
                .with_context(|| format!("cannot read the folder {}", dir.display()))?;
            if entries.next().is_some() {
                return Err(in_the_way(dir));
            }
        }
        Ok(Self {
            root,
            shown: dir.to_owned(),
            is_new,
            force,
            owners: Owners::load(),
            top: None,
            open: Vec::new(),
            file: None,
            unfinished: Unfinished::default(),
            lost: None,
            missing: HashSet::new(),
            problems: Vec::new(),
            is_damaged: false,
            left_out: Vec::new(),
            skipped: Vec::new(),
            written: 0,
            bytes: 0,
        })
    }

    /// Begins the next entry; parents come before what is in them.
    pub(crate) fn entry(&mut self, entry: ShownEntry) -> Outcome<()> {
        self.finish_file()?;
        let path = local_path(&entry.path);
        let Some((name, parents)) = path.split_last() else {
            // The set's own folder, whose entries go right into ours; one that was there keeps what it has.
            if self.is_new {
                attributes::remove_foreign_lists(&self.root, &entry.meta).ok();
                self.top = Some(entry.meta);
            }
            return Ok(());
        };
        if self.lost.as_ref().is_some_and(|lost| path.starts_with(lost)) {
            self.missing.insert(path);
            return Ok(());
        }
        self.leave_to(parents)?;
        if let Some(reason) = &entry.damaged {
            self.is_damaged = true;
            self.miss(path, reason);
            return Ok(());
        }
        let kind = entry.meta.kind;
        let made = match (&entry.same_as, kind) {
            (Some(other), _) => {
                let other = local_path(other);
                if self.missing.contains(&other) {
                    let other = safe(&self.shown_path(&other).to_string_lossy());
                    self.miss(path, &format!("it is a link to {other}, which is missing"));
                    return Ok(());
                }
                self.link(name, &other)
            }
            (None, Kind::Dir) => self.enter(name, entry.meta),
            (None, Kind::File) => self.begin_file(&path, name, entry.meta),
            (None, Kind::Symlink) => self.symlink(&path, name, &entry.meta),
            (None, Kind::Fifo | Kind::Socket | Kind::BlockDevice | Kind::CharDevice) => {
                self.skipped.push(safe(&self.shown_path(&path).to_string_lossy()));
                return Ok(());
            }
        };
        match made {
            Ok(()) => {
                self.written += 1;
                Ok(())
            }
            Err(error) => {
                if kind == Kind::Dir && entry.same_as.is_none() {
                    self.lost = Some(path.clone());
                }
                self.obstacle(path, error)
            }
        }
    }

    /// Adds content to the last entry.
    pub(crate) fn data(&mut self, bytes: &[u8]) -> Outcome<()> {
        // What the content belongs to could not be made, and is listed.
        let Some(open) = &mut self.file else { return Ok(()) };
        // Zeros stay holes, so that a sparse file comes back sparse.
        let written = if bytes.iter().all(|byte| *byte == 0) {
            open.file
                .seek(SeekFrom::Current(i64::try_from(bytes.len()).unwrap_or(i64::MAX)))
                .map(|_| ())
        } else {
            open.file.write_all(bytes)
        };
        open.len += bytes.len() as u64;
        let Err(error) = written else { return Ok(()) };
        let path = self.file.take().map(|open| open.path).unwrap_or_default();
        self.unfinished.remove();
        self.written -= 1;
        self.obstacle(path, error)
    }

    /// Finishes what is open and makes all of it durable.
    pub(crate) fn finish(&mut self) -> Outcome<()> {
        self.finish_file()?;
        self.leave_to(&[])?;
        if let Some(meta) = self.top.take() {
            let left = attributes::give(&self.root, &meta, &self.owners);
            self.note_left_out(&[], &left);
        }
        rustix::fs::syncfs(&self.root).map_err(|error| cannot_write(&self.shown, error.into()))
    }

    /// Tells whether owners are given.
    pub(crate) fn gives_owners(&self) -> bool {
        self.owners.are_given
    }

    /// Returns what removes the file that is not whole.
    pub(crate) fn unfinished(&self) -> Unfinished {
        self.unfinished.clone()
    }

    fn shown_path(&self, path: &[OsString]) -> PathBuf {
        path.iter().fold(self.shown.clone(), |shown, name| shown.join(name))
    }

    fn folder(&self) -> &OwnedFd {
        self.open.last().map_or(&self.root, |folder| &folder.fd)
    }

    /// Lists something as missing.
    fn miss(&mut self, path: Vec<OsString>, reason: &str) {
        let shown = safe(&self.shown_path(&path).to_string_lossy());
        self.problems.push(format!("{shown}: {reason}"));
        self.missing.insert(path);
    }

    /// Goes on without something, unless nothing else could be written either.
    fn obstacle(&mut self, path: Vec<OsString>, error: io::Error) -> Outcome<()> {
        let shown = self.shown_path(&path);
        match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::ReadOnlyFilesystem => return Err(cannot_write(&shown, error)),
            io::ErrorKind::AlreadyExists if !self.force => return Err(in_the_way(&shown)),
            io::ErrorKind::IsADirectory => self.miss(path, "a folder is in its place"),
            io::ErrorKind::NotADirectory => {
                self.miss(path, "something that is no folder is in its place");
            }
            _ => self.miss(path, &error.to_string()),
        }
        Ok(())
    }

    /// Notes what the file system did not take of something's attributes.
    fn note_left_out(&mut self, path: &[OsString], left: &[String]) {
        if !left.is_empty() {
            let shown = safe(&self.shown_path(path).to_string_lossy());
            self.left_out.push(format!("{shown}: {}", left.join(", ")));
        }
    }

    /// Leaves folders until those that are open are `parents`.
    fn leave_to(&mut self, parents: &[OsString]) -> Outcome<()> {
        let common =
            self.open.iter().zip(parents).take_while(|(open, name)| open.name == **name).count();
        while self.open.len() > common {
            let path: Vec<OsString> = self.open.iter().map(|open| open.name.clone()).collect();
            let Some(folder) = self.open.pop() else { break };
            let left = attributes::give(&folder.fd, &folder.meta, &self.owners);
            self.note_left_out(&path, &left);
        }
        if common < parents.len() {
            return Err(Failure::new(Code::Failed, "the station sent something before its folder"));
        }
        Ok(())
    }

    fn enter(&mut self, name: &OsStr, meta: Meta) -> io::Result<()> {
        let parent = self.folder();
        let is_new = match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) if self.force => false,
            Err(error) => return Err(error.into()),
        };
        let fd = beneath::open_folder(parent, name, Mounts::Enter)?;
        if is_new {
            // Best effort: what is made in it loses what it is given by this one, too.
            attributes::remove_foreign_lists(&fd, &meta).ok();
        }
        self.open.push(OpenFolder { name: name.to_owned(), fd, meta });
        Ok(())
    }

    fn begin_file(&mut self, path: &[OsString], name: &OsStr, meta: Meta) -> io::Result<()> {
        let folder = self.folder().try_clone()?;
        if !self.force && exists(&folder, name)? {
            return Err(Errno::EXIST.into());
        }
        let number = RandomState::new().build_hasher().finish();
        let temporary = OsString::from(format!("{TEMPORARY}{number:016x}"));
        let file = self.unfinished.make(&folder, &temporary, || {
            beneath::make_file(&folder, &temporary, OFlags::WRONLY)
        })?;
        let path = path.to_owned();
        self.file = Some(OpenFile { path, folder, temporary, file, len: 0, meta });
        Ok(())
    }

    fn finish_file(&mut self) -> Outcome<()> {
        let Some(open) = self.file.take() else { return Ok(()) };
        let (len, size) = (open.len, open.meta.size);
        if len != size {
            self.unfinished.remove();
            self.written -= 1;
            self.is_damaged = true;
            self.miss(open.path, &format!("{len} of {size} bytes could be read"));
            return Ok(());
        }
        let placed = self.place_file(&open);
        self.unfinished.remove();
        match placed {
            Ok(left) => {
                self.bytes += open.len;
                self.note_left_out(&open.path, &left);
                Ok(())
            }
            Err(error) => {
                self.written -= 1;
                self.obstacle(open.path, error)
            }
        }
    }

    /// Puts a whole file in its place; returns the attributes that were left out.
    fn place_file(&self, open: &OpenFile) -> io::Result<Vec<String>> {
        open.file.set_len(open.len)?;
        let left = attributes::give(&open.file, &open.meta, &self.owners);
        let flags = if self.force { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        let name = open.path.last().map(OsString::as_os_str).unwrap_or_default();
        self.unfinished.place(|| {
            let (folder, temporary) = (&open.folder, &open.temporary);
            rustix::fs::renameat_with(folder, temporary, folder, name, flags)
        })?;
        Ok(left)
    }

    fn symlink(&mut self, path: &[OsString], name: &OsStr, meta: &Meta) -> io::Result<()> {
        let folder = self.folder();
        if self.force {
            remove_file(folder, name)?;
        }
        rustix::fs::symlinkat(OsStr::from_bytes(&meta.symlink), folder, name)?;
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let mut left = Vec::new();
        if let Some((user, group)) = self.owners.given(meta)
            && let Err(error) = rustix::fs::chownat(folder, name, user, group, flags)
        {
            left.push(format!("owner ({error})"));
        }
        let times = attributes::times(meta.mtime);
        if let Err(error) = rustix::fs::utimensat(folder, name, &times, flags) {
            left.push(format!("time ({error})"));
        }
        self.note_left_out(path, &left);
        Ok(())
    }

    /// Gives what is at `other` a second name.
    fn link(&self, name: &OsStr, other: &[OsString]) -> io::Result<()> {
        let Some((last, parents)) = other.split_last() else {
            return Err(io::Error::other("a link to the folder itself"));
        };
        let mut from = self.root.try_clone()?;
        for parent in parents {
            from = beneath::open_folder(&from, parent, Mounts::Enter)?;
        }
        let folder = self.folder();
        if self.force {
            remove_file(folder, name)?;
        }
        Ok(rustix::fs::linkat(&from, last, folder, name, AtFlags::empty())?)
    }
}

impl Drop for Extractor {
    fn drop(&mut self) {
        self.unfinished.remove();
    }
}

/// Makes a folder and those above it, and tells whether it was not there; `private`, it is nobody else's.
fn make_folder(dir: &Path, private: bool) -> io::Result<bool> {
    let mode = if private { 0o700 } else { 0o777 };
    let make = || DirBuilder::new().mode(mode).create(dir);
    let made = make().or_else(|error| match (error.kind(), dir.parent()) {
        (io::ErrorKind::NotFound, Some(parent)) => {
            fs::create_dir_all(parent)?;
            make()
        }
        _ => Err(error),
    });
    match made {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns a path of the set as the names that its source had.
fn local_path(path: &[Name]) -> Vec<OsString> {
    path.iter().map(|name| OsStr::from_bytes(&unescape_name(name)).to_owned()).collect()
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

fn in_the_way(path: &Path) -> Failure {
    Failure::refused(format!("{} is there already", safe(&path.to_string_lossy())))
        .hint("give another folder with --to, or replace it with --force")
}

fn cannot_write(path: &Path, error: io::Error) -> Failure {
    let shown = safe(&path.to_string_lossy());
    anyhow::Error::new(error).context(format!("cannot write {shown}")).into()
}

#[cfg(test)]
mod tests;
