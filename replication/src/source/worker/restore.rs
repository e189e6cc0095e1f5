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
    rc::Rc,
    time::{Duration, Instant},
};

use keepshare_base::{
    FileId, Kind, LEFT_OUT_XATTR, Meta, Name, PresentFile, RestoreOutcome, RestoreRow, SetPath,
    unescape_name, xattr_allowed,
};
use rustix::{
    fs::{self, AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};

use super::Worker;
use crate::capture::Touch;
use crate::source::{
    FileProblem, RESTORE_PREFIX, RestoreAnswer, RestoreRequest, SourceError,
    folders::Folders,
    ledger::Tx,
    map::{FileRecord, Signature},
    owners::Owners,
    problems::Place,
    round::{FileTask, NameTask},
    shared::Reply,
    ship::RestoreNote,
    tree::{self, Found, Seen, Tree},
};

/// How often it is looked whether a restore that was put off can be done.
pub(super) const DEFERRED_LOOK: Duration = Duration::from_millis(20);

/// How long a restore waits for what it would replace to be kept.
const DEFERRED_MAX: Duration = Duration::from_secs(10);

/// The most restores that wait.
const DEFERRED_COUNT_MAX: usize = 64;

/// A restore onto something that is not a version yet.
#[derive(Debug)]
pub(super) struct Deferred {
    request: Box<RestoreRequest>,
    reply: Reply<RestoreAnswer>,
    until: Instant,
}

impl Worker {
    /// Writes a version back; the answer follows when it is journaled.
    pub(super) fn restore(&mut self, request: Box<RestoreRequest>, reply: Reply<RestoreAnswer>) {
        let until = Instant::now() + DEFERRED_MAX;
        self.try_restore(Deferred { request, reply, until });
    }

    /// Tries the restores again that were put off.
    pub(super) fn take_deferred(&mut self) {
        for deferred in std::mem::take(&mut self.deferred) {
            self.try_restore(deferred);
        }
    }

    fn try_restore(&mut self, deferred: Deferred) {
        let Deferred { request, reply, until } = &deferred;
        match self.write_back(request) {
            Ok(Done::Before(answer)) => drop(reply.send(Ok(answer))),
            Ok(Done::Now) => {
                self.replies.entry(request.request).or_default().push(deferred.reply);
            }
            Ok(Done::Later)
                if Instant::now() < *until && self.deferred.len() < DEFERRED_COUNT_MAX =>
            {
                self.deferred.push(deferred);
            }
            Ok(Done::Later) => {
                let reason = "the file is being written, and what is in it is no version yet";
                drop(reply.send(Err(refused(reason))));
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    /// Removes what restores left in folders when the process was killed.
    pub(super) fn clear_aside(&mut self, tree: &Tree) -> Result<(), SourceError> {
        for (folder, name) in self.ledger.aside()? {
            let open = self.ledger.write(|tx| Folders::default().open(&tx.map, tree, folder))?;
            if let Some(open) = open {
                // It may be gone: nothing but this knows its name.
                let _ = fs::unlinkat(open.as_fd(), name.as_str(), AtFlags::empty());
            }
            self.ledger.forget_aside(folder, &name)?;
        }
        Ok(())
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

    fn write_back(&mut self, request: &RestoreRequest) -> Result<Done, SourceError> {
        let Some(attached) = &self.attached else {
            return Err(refused("the source is not there"));
        };
        if self.replies.contains_key(&request.request) {
            return Ok(Done::Now);
        }
        let tree = attached.tree.clone();
        let target = match self.ledger.write(|tx| look(tx, &tree, request))? {
            Look::Answered(answer) => return Ok(Done::Before(answer)),
            Look::Unkept(parent, name, file) => {
                self.pending.add_name(parent, name, NameTask::default());
                if let Some(file) = file {
                    // What is there becomes a version now, whoever has it open.
                    let touch = Touch { closed: true, ..Touch::default() };
                    self.pending.add_file(file, FileTask { touch, ..FileTask::default() });
                }
                return Ok(Done::Later);
            }
            Look::Target(target) => target,
        };
        let temporary = temporary_name()?;
        self.ledger.set_aside(target.parent, &temporary)?;
        let owners = &mut self.owners;
        let done = self.ledger.write(|tx| {
            let (seen, outcome) = put(owners, &target, request, &temporary)?;
            let (file, born) = bind(tx, target.parent, &target.name, &seen, &request.meta)?;
            let row = RestoreRow { request: request.request, version: request.version, outcome };
            let place = (target.parent, target.name.clone());
            tx.durable = true;
            Ok((file, RestoreNote { row, user: request.user.clone(), place, born }))
        });
        self.ledger.forget_aside(target.parent, &temporary)?;
        let (file, note) = done?;
        // What is being read of the file until now would be taken for what was restored.
        self.pending.break_transfer(file);
        self.pending.restores.insert(file, note);
        self.pending.add_name(target.parent, target.name, NameTask::default());
        Ok(Done::Now)
    }
}

/// How far a restore has come.
enum Done {
    /// It was answered before.
    Before(RestoreAnswer),
    /// It is written; the answer follows.
    Now,
    /// What it would replace is not kept yet.
    Later,
}

/// What is found where a restore goes.
enum Look {
    /// This very request was answered before.
    Answered(RestoreAnswer),
    /// Something that was not looked at yet, or is no version yet: what was saved a moment ago must not be lost.
    Unkept(FileId, Name, Option<FileId>),
    /// The place.
    Target(Target),
}

/// Where a restore goes.
struct Target {
    folder: Rc<OwnedFd>,
    parent: FileId,
    name: Name,
    now: Option<Seen>,
}

/// Finds the place of a restore, and whether it is what it was when the restore was allowed.
fn look(tx: &mut Tx<'_>, tree: &Tree, request: &RestoreRequest) -> Result<Look, SourceError> {
    if let Some(answer) = tx.restore(request.request)? {
        return Ok(Look::Answered(answer));
    }
    if request.meta.kind != Kind::File {
        return Err(refused("only files are restored in place"));
    }
    let (parent, name) = place(tx, &request.path)?;
    if request.ground.as_ref().is_some_and(|ground| ground.folder != parent) {
        return Err(refused("another folder is at that path now"));
    }
    let folder = Folders::default().open(&tx.map, tree, parent)?;
    let folder = folder.ok_or_else(|| refused("its folder is not there"))?;
    let now = match tree.look(folder.as_fd(), &name).map_err(|e| refused(e.to_string()))? {
        Found::Nothing => None,
        Found::Object(seen) if seen.kind == Kind::File => Some(seen),
        Found::Object(_) => return Err(refused("something else has that name now")),
        Found::Mounted => return Err(refused("another file system is mounted there")),
    };
    let known = tx.map.lookup(parent, &name)?;
    let known = match known {
        Some((file, Kind::File)) => tx.map.record(file)?.map(|record| (file, record)),
        Some(_) => return Ok(Look::Unkept(parent, name, None)),
        None => None,
    };
    match (&now, &known) {
        (None, None) => {}
        (Some(seen), Some((file, record))) => {
            let is_known = record.inode == seen.inode && record.signature == seen.signature;
            if !is_known || record.uncut.is_some() || record.forgotten {
                return Ok(Look::Unkept(parent, name, is_known.then_some(*file)));
            }
        }
        _ => return Ok(Look::Unkept(parent, name, None)),
    }
    if let Some(ground) = &request.ground {
        let present = known.map(|(file, record)| PresentFile::new(file, &record.meta));
        if ground.present != present {
            return Err(refused("it is not the file any more that it was; try again"));
        }
    }
    Ok(Look::Target(Target { folder, parent, name, now }))
}

/// Brings a name to a version's content and attributes, where it has not got them.
fn put(
    owners: &mut Owners,
    target: &Target,
    request: &RestoreRequest,
    temporary: &str,
) -> Result<(Seen, RestoreOutcome), SourceError> {
    let Target { folder, name, now, .. } = target;
    let refuse = |error: io::Error| refused(error.to_string());
    let Some(now) = now.filter(|_| is_equal(folder.as_fd(), name, &request.content)) else {
        let written = write(folder.as_fd(), name, request, now.as_ref(), temporary);
        return Ok((written.map_err(refuse)?, RestoreOutcome::Written));
    };
    let meta = tree::meta(owners, folder.as_fd(), Some(name), &now);
    if has_attributes(&meta.map_err(refuse)?, &request.meta) {
        return Ok((now, RestoreOutcome::Equal));
    }
    let put = put_attributes_at(folder.as_fd(), name, &request.meta);
    Ok((put.map_err(refuse)?, RestoreOutcome::Written))
}

/// Returns a name that nobody can have foreseen.
fn temporary_name() -> Result<String, SourceError> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| refused(error.to_string()))?;
    Ok(format!("{RESTORE_PREFIX}{:032x}", u128::from_le_bytes(random)))
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
    temporary: &str,
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
    // Whatever has that name already was put there by somebody else.
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = fs::openat(folder, temporary, flags, Mode::from_raw_mode(0o600))?;
    let renamed = fill(file, request).and_then(|seen| {
        fs::renameat(folder, temporary, folder, raw.as_slice())?;
        fs::fsync(folder)?;
        Ok(seen)
    });
    if renamed.is_err() {
        // Best effort: a name that stays is known, and taken away at the next start.
        let _ = fs::unlinkat(folder, temporary, AtFlags::empty());
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
    for (name, value) in meta.xattrs.iter().filter(|(name, _)| name != LEFT_OUT_XATTR) {
        let _ = fs::fsetxattr(file, name.as_slice(), value, XattrFlags::empty());
    }
    let mtime = Timespec { tv_sec: meta.mtime.secs, tv_nsec: meta.mtime.nanos.into() };
    Ok(fs::futimens(file, &Timestamps { last_access: mtime, last_modification: mtime })?)
}
