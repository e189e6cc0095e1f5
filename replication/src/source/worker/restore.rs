//! Writes versions back onto live names.
//!
//! The content goes to a temporary name in the same folder and is renamed over the live one, so that nobody sees half a
//! file. Only a file with several names is written in place: a rename would leave its other names with the old content.
//! Either way the file keeps its id, and its history goes on. The change that carries it is journaled even when the bytes
//! were equal, with the answer to the request in the same transaction.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::Path,
};

use keepshare_base::{
    FileId, Kind, Meta, Name, RestoreOutcome, RestoreRow, SetPath, unescape_name, xattr_allowed,
};
use rustix::{
    fs::{self, AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};

use super::Worker;
use crate::source::{
    FileProblem, RESTORE_PREFIX, RestoreAnswer, RestoreRequest, SourceError,
    folders::Folders,
    ledger::Tx,
    map::{FileRecord, Signature},
    problems::Place,
    round::NameTask,
    shared::Reply,
    ship::RestoreNote,
    tree::{self, Found, Seen},
};

impl Worker {
    /// Writes a version back; the answer follows when it is journaled.
    pub(super) fn restore(&mut self, request: &RestoreRequest, reply: Reply<RestoreAnswer>) {
        match self.write_back(request) {
            Ok(Some(answer)) => drop(reply.send(Ok(answer))),
            Ok(None) => self.replies.entry(request.request).or_default().push(reply),
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    /// Answers those whose restores are journaled now.
    pub(super) fn answer_restores(&mut self, restored: Vec<(RestoreRow, RestoreAnswer)>) {
        for (row, answer) in restored {
            self.pending.restores.retain(|_, note| note.row.request != row.request);
            for reply in self.replies.remove(&row.request).unwrap_or_default() {
                drop(reply.send(Ok(answer.clone())));
            }
        }
    }

    /// Answers those whose files went again before they were journaled, or cannot be read.
    pub(super) fn break_restores(&mut self, lost: &[FileId], problems: &[(Place, FileProblem)]) {
        if self.pending.restores.is_empty() {
            return;
        }
        let mut broken: Vec<(FileId, String)> = lost
            .iter()
            .map(|file| (*file, "the file was removed while it was restored".to_owned()))
            .collect();
        for ((parent, name), problem) in problems {
            let Some(name) = name else { continue };
            for (file, note) in &self.pending.restores {
                if note.place == (*parent, name.clone()) {
                    broken.push((*file, problem.reason.clone()));
                }
            }
        }
        for (file, reason) in broken {
            let Some(note) = self.pending.restores.remove(&file) else { continue };
            for reply in self.replies.remove(&note.row.request).unwrap_or_default() {
                drop(reply.send(Err(refused(reason.clone()))));
            }
        }
    }

    fn write_back(
        &mut self,
        request: &RestoreRequest,
    ) -> Result<Option<RestoreAnswer>, SourceError> {
        let Some(attached) = &self.attached else {
            return Err(SourceError::Refused("the source is not there".to_owned()));
        };
        if self.replies.contains_key(&request.request) {
            return Ok(None);
        }
        let (tree, owners) = (attached.tree.clone(), &mut self.owners);
        let done = self.ledger.write(|tx| {
            if let Some(answer) = tx.restore(request.request)? {
                return Ok(Done::Before(answer));
            }
            let (parent, name) = place(tx, &request.path)?;
            let folder = Folders::default().open(&tx.map, &tree, parent)?;
            let folder = folder.ok_or_else(|| refused("its folder is not there"))?;
            let now = match tree.look(folder.as_fd(), &name).map_err(|e| refused(e.to_string()))? {
                Found::Nothing => None,
                Found::Object(seen) if seen.kind == Kind::File => Some(seen),
                Found::Object(_) => return Err(refused("something else has that name now")),
                Found::Mounted => return Err(refused("another file system is mounted there")),
            };
            let (seen, outcome) = match &now {
                Some(now) if is_equal(folder.as_fd(), &name, &request.content) => {
                    let meta = tree::meta(owners, folder.as_fd(), Some(&name), now);
                    let refuse = |error: io::Error| refused(error.to_string());
                    if has_attributes(&meta.map_err(refuse)?, &request.meta) {
                        (*now, RestoreOutcome::Equal)
                    } else {
                        let put = put_attributes_at(folder.as_fd(), &name, &request.meta);
                        (put.map_err(refuse)?, RestoreOutcome::Written)
                    }
                }
                now => {
                    let written = write(folder.as_fd(), &name, request, now.as_ref());
                    (written.map_err(|e| refused(e.to_string()))?, RestoreOutcome::Written)
                }
            };
            let (file, born) = bind(tx, parent, &name, &seen, &request.meta)?;
            let request_id = request.request;
            let row = RestoreRow { request: request_id, version: request.version, outcome };
            let place = (parent, name.clone());
            let note = RestoreNote { row, user: request.user.clone(), place, born };
            tx.durable = true;
            Ok(Done::Now(parent, name, file, note))
        })?;
        match done {
            Done::Before(answer) => Ok(Some(answer)),
            Done::Now(parent, name, file, note) => {
                // What is being read of the file until now would be taken for what was restored.
                self.pending.break_transfer(file);
                self.pending.restores.insert(file, note);
                self.pending.add_name(parent, name, NameTask::default());
                Ok(None)
            }
        }
    }
}

enum Done {
    Before(RestoreAnswer),
    Now(FileId, Name, FileId, RestoreNote),
}

fn refused(reason: impl Into<String>) -> SourceError {
    SourceError::Refused(reason.into())
}

/// Finds the folder and name of a path.
fn place(tx: &Tx<'_>, path: &SetPath) -> Result<(FileId, Name), SourceError> {
    let (folders, name) = path.split_last().ok_or_else(|| refused("the root is no file"))?;
    let mut at = FileId::ROOT;
    for folder in folders.names() {
        match tx.map.lookup(at, folder)? {
            Some((file, Kind::Dir)) => at = file,
            _ => return Err(refused("its folder is not there")),
        }
    }
    Ok((at, name.clone()))
}

/// Makes the object that stands at a name now known as the file that stood there, or as a new one; tells which it is and
/// whether it is new.
fn bind(
    tx: &mut Tx<'_>,
    parent: FileId,
    name: &Name,
    seen: &Seen,
    meta: &Meta,
) -> Result<(FileId, bool), SourceError> {
    let known = match tx.map.lookup(parent, name)? {
        Some((file, Kind::File)) => tx.map.record(file)?.map(|record| (file, record)),
        _ => None,
    };
    let born = known.is_none();
    let (file, mut record) = match known {
        Some(known) => known,
        None => (tx.new_file()?, FileRecord::new(seen.inode, Signature::default(), meta.clone())),
    };
    record.signature = Signature::default();
    tx.map.rebind(file, record, seen.inode)?;
    Ok((file, born))
}

fn is_equal(folder: BorrowedFd<'_>, name: &Name, content: &Path) -> bool {
    let compare = || -> io::Result<bool> {
        let (live, version) = (File::from(tree::open_file(folder, name)?), File::open(content)?);
        if live.metadata()?.size() != version.metadata()?.size() {
            return Ok(false);
        }
        same_bytes(live, version)
    };
    compare().unwrap_or(false)
}

fn same_bytes(mut a: impl io::Read, mut b: impl io::Read) -> io::Result<bool> {
    const STEP: usize = 256 * 1024;
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

fn read_step(from: &mut impl io::Read, into: &mut [u8]) -> io::Result<usize> {
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

/// Writes the content and attributes, and returns what stands at the name then.
fn write(
    folder: BorrowedFd<'_>,
    name: &Name,
    request: &RestoreRequest,
    now: Option<&Seen>,
) -> io::Result<Seen> {
    let raw = unescape_name(name);
    if let Some(now) = now.filter(|now| now.links > 1) {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = fs::openat(folder, raw.as_slice(), flags, Mode::empty())?;
        if tree::look_at(file.as_fd())?.inode != now.inode {
            return Err(io::Error::other("another file took its place; try again"));
        }
        reserve(&file, std::fs::metadata(&request.content)?.len())?;
        return fill(file, request);
    }
    let temporary =
        [RESTORE_PREFIX, request.request.to_string().get(..16).unwrap_or("x").as_bytes()].concat();
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = fs::openat(folder, temporary.as_slice(), flags, Mode::from_raw_mode(0o600))?;
    let renamed = fill(file, request).and_then(|seen| {
        fs::renameat(folder, temporary.as_slice(), folder, raw.as_slice())?;
        fs::fsync(folder)?;
        Ok(seen)
    });
    if renamed.is_err() {
        // Best effort: what stays is taken away by the next scan.
        let _ = fs::unlinkat(folder, temporary.as_slice(), AtFlags::empty());
    }
    renamed
}

/// Takes the room that a content needs before a byte of the present one is gone.
fn reserve(file: &OwnedFd, len: u64) -> io::Result<()> {
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

fn fill(file: OwnedFd, request: &RestoreRequest) -> io::Result<Seen> {
    let mut file = File::from(file);
    let mut content = File::open(&request.content)?;
    let len = io::copy(&mut content, &mut file)?;
    file.set_len(len)?;
    put_attributes(&file, &request.meta)?;
    file.sync_all()?;
    tree::look_at(file.as_fd())
}

/// Tells whether a file has the attributes of a version, as far as they can be given to it.
fn has_attributes(now: &Meta, version: &Meta) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    let same_owner =
        !is_root || (now.owner.id, now.group.id) == (version.owner.id, version.group.id);
    now.mode & 0o1777 == version.mode & 0o1777
        && same_owner
        && now.mtime == version.mtime
        && now.xattrs == version.xattrs
}

fn put_attributes_at(folder: BorrowedFd<'_>, name: &Name, meta: &Meta) -> io::Result<Seen> {
    let file = File::from(tree::open_file(folder, name)?);
    put_attributes(&file, meta)?;
    file.sync_all()?;
    tree::look_at(file.as_fd())
}

fn put_attributes(file: &File, meta: &Meta) -> io::Result<()> {
    // Not ours to give without root; then the file belongs to whoever runs this.
    let _ =
        fs::fchown(file, Some(Uid::from_raw(meta.owner.id)), Some(Gid::from_raw(meta.group.id)));
    // Set-id bits are not given back: whoever could choose the version could choose the program.
    fs::fchmod(file, Mode::from_raw_mode(meta.mode & 0o1777))?;
    let mut names = vec![0; keepshare_base::XATTR_BYTES_MAX];
    let len = fs::flistxattr(file, names.as_mut_slice()).unwrap_or(0);
    for name in names[..len].split(|byte| *byte == 0).filter(|name| xattr_allowed(name)) {
        if !meta.xattrs.iter().any(|(wanted, _)| wanted == name) {
            let _ = fs::fremovexattr(file, name);
        }
    }
    for (name, value) in &meta.xattrs {
        let _ = fs::fsetxattr(file, name.as_slice(), value, XattrFlags::empty());
    }
    let mtime = Timespec { tv_sec: meta.mtime.secs, tv_nsec: meta.mtime.nanos.into() };
    Ok(fs::futimens(file, &Timestamps { last_access: mtime, last_modification: mtime })?)
}
