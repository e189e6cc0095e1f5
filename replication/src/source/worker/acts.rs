//! The acts that bring a folder back to what it was: folders and symlinks are made and get attributes, names are moved, added and
//! removed.
//!
//! Each is done at once, in this thread, where what must be there is there, and is told of by the ways that tell of a user's doing: it
//! is captured and journaled like that. None replaces anything, and none is noted as done, as a repeat finds that it is so. A file goes
//! only when its state is a version: by way of the private folder, where what somebody still writes into it becomes a version too.

use std::{
    os::fd::{AsFd, AsRawFd as _, OwnedFd},
    sync::Arc,
};

use keepshare_base::{
    FileId, Kind, OriginId, Position, RequestId, RestoreGround, RestoreOutcome, SetPath,
    unescape_name,
};
use keepshare_decide::{
    Known,
    agenda::{FileTask, NameTask},
    restores::Kept,
};
use keepshare_proto::{Act, Elsewhere};
use rustix::{
    fs::{self, AtFlags, CWD, Mode, OFlags, RenameFlags},
    io::Errno,
};

use super::{
    Worker,
    placing::MOVED,
    restore::{Next, Stage, beside, not_opened},
    standing::{GONE, Present, Standing, Stands, TAKEN, UNKEPT, Unkept, away, failed, refused},
};
use crate::source::{
    RestoreAnswer, RestoreRequest, SourceError,
    aside::{Exchanged, Note, REMOVED, random_name},
    shared::Request,
    tree::{AtName, Seen, Tree},
};

/// Why nothing is moved to where it cannot be.
const ELSEWHERE: &str = "it would have to be on another file system";

/// What came of trying an act.
pub(super) enum Tried {
    /// It was so already.
    Equal,
    /// It is done; these folders are to be written to disk.
    Done(Vec<OwnedFd>),
    /// Something is not known as it is, or is no version yet.
    Unkept(Unkept),
    /// It is tried again, unless that was done for long.
    Again(&'static str),
}

impl Worker {
    /// Does an act, or tells what it waits for.
    pub(super) fn act(&mut self, id: RequestId) -> Result<Next, SourceError> {
        let request = self.restoring.get(&id).map(|restoring| restoring.request.clone());
        let Some(request) = request else { return Ok(Next::Go) };
        let Some(ground) = &request.ground else {
            return Err(refused("the request does not say what must be there"));
        };
        let tried = match &request.act {
            Act::Make => self.make(&request, ground)?,
            Act::SetAttributes => self.set_attributes(&request, ground)?,
            Act::Move(to) => self.move_name(&request.path, ground, to)?,
            Act::Link(to) => self.link(&request.path, ground, to)?,
            Act::Remove => self.remove(id, &request, ground)?,
            Act::Write | Act::Point { .. } => return Err(refused("that is done elsewhere")),
        };
        let (origin, head) = (OriginId(self.ledger.state().origin), self.ledger.state().head());
        let position = Position { origin, epoch: head.epoch, seq: head.seq };
        let answer = |outcome| RestoreAnswer { position, outcome, still_open: false };
        match tried {
            Tried::Equal => Ok(Next::Answer(answer(RestoreOutcome::Equal))),
            Tried::Unkept(unkept) => Ok(self.wait_for(unkept)),
            Tried::Again(why) => Ok(Next::Wait(why)),
            Tried::Done(folders) => {
                let answer = Some(answer(RestoreOutcome::Written));
                if let Some(restoring) = self.restoring.get_mut(&id) {
                    restoring.stage = Stage::Placed { synced: false, answer };
                }
                beside(&self.shared, move || {
                    let synced = folders.iter().try_for_each(fs::fsync);
                    Request::Synced(id, synced.map_err(Into::into))
                })?;
                Ok(Next::Go)
            }
        }
    }

    /// Moves a name, or exchanges it with another.
    fn move_name(
        &mut self,
        path: &SetPath,
        ground: &RestoreGround,
        to: &Elsewhere,
    ) -> Result<Tried, SourceError> {
        let (from, at) = (self.stand(path)?, self.stand(&to.path)?);
        let Some(present) = &ground.present else { return Err(refused(GONE)) };
        let is_left = match &to.ground.present {
            Some(other) => from.is(other.file),
            None => from.is_nothing(),
        };
        if is_left && at.is(present.file) {
            from.check_folder(ground)?;
            at.check_folder(&to.ground)?;
            return Ok(Tried::Equal);
        }
        let (moved, other) = match (from.check(Some(ground))?, at.check(Some(&to.ground))?) {
            (Stands::As(Some(moved)), Stands::As(other)) => (moved, other),
            (Stands::Unkept(unkept), _) | (_, Stands::Unkept(unkept)) => {
                return Ok(Tried::Unkept(unkept));
            }
            (Stands::As(None), _) => return Err(refused(GONE)),
        };
        let files = [Some(moved.1), other.as_ref().map(|other| other.1)];
        for (file, folder) in [(files[0], at.parent), (files[1], from.parent)] {
            if self.is_within(folder, file)? {
                return Err(refused("a folder cannot be moved into itself"));
            }
        }
        let is_exchange = other.is_some();
        let tree = self.tree()?;
        let Some(open) = open_seen(&tree, &from, &moved.0)? else {
            return Ok(Tried::Again(MOVED));
        };
        let other = match other {
            Some((seen, ..)) => match open_seen(&tree, &at, &seen)? {
                Some(open) => Some((seen, open)),
                None => return Ok(Tried::Again(MOVED)),
            },
            None => None,
        };
        match rename(&from, &at, is_exchange) {
            Ok(()) => {}
            Err(Errno::NOENT | Errno::EXIST | Errno::NOTDIR) => return Ok(Tried::Again(MOVED)),
            Err(Errno::XDEV) => return Err(refused(ELSEWHERE)),
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                if is_exchange || moved.0.kind != Kind::File {
                    let text = "this file system cannot move it without replacing what is there";
                    return Err(refused(text));
                }
                return self.move_by_links(path, &from, &at, &moved);
            }
            Err(error) => return Err(failed(error)),
        }
        let is_there = |to: &Standing, seen, open| stands(&tree, to, seen) || is_called(open, to);
        let is_right = is_there(&at, &moved.0, &open)
            && other.as_ref().is_none_or(|(seen, open)| is_there(&from, seen, open));
        self.look_at(&from, files[1]);
        self.look_at(&at, files[0]);
        if !is_right {
            // Somebody put something else there in that moment: whose that is, it stays where it was.
            if let Err(error) = rename(&at, &from, is_exchange) {
                tracing::debug!(%error, "what was moved by mistake is not moved back");
            }
            return Ok(Tried::Again(MOVED));
        }
        Ok(Tried::Done(vec![from.folder, at.folder]))
    }

    /// Tells whether a folder is, or is in, that one.
    fn is_within(&mut self, folder: FileId, of: Option<FileId>) -> Result<bool, SourceError> {
        let Some(of) = of else { return Ok(false) };
        let places = self.ledger.write(|tx| tx.places(folder))?;
        Ok(folder == of || places.iter().any(|(parent, _)| *parent == of))
    }

    /// Moves a file where names can be moved only onto others: it has both names for a moment.
    fn move_by_links(
        &mut self,
        path: &SetPath,
        from: &Standing,
        at: &Standing,
        moved: &Present,
    ) -> Result<Tried, SourceError> {
        // First what may be in the way: with both names it is neither moved nor not.
        self.open_aside().map_err(not_opened)?;
        if !link(&*self.tree()?, from, at, &moved.0)? {
            return Ok(Tried::Again(MOVED));
        }
        self.look_at(at, Some(moved.1));
        let is_right = |out: &Seen| out.inode == moved.0.inode;
        match self.take_out(from, path.clone(), None, is_right)? {
            Some((temporary, _)) => self.discard(temporary),
            None => return Ok(Tried::Again(MOVED)),
        }
        Ok(Tried::Done(vec![clone(&from.folder)?, clone(&at.folder)?]))
    }

    /// Gives a file one more name.
    fn link(
        &mut self,
        path: &SetPath,
        ground: &RestoreGround,
        to: &Elsewhere,
    ) -> Result<Tried, SourceError> {
        let (from, at) = (self.stand(path)?, self.stand(&to.path)?);
        let Some(present) = &ground.present else { return Err(refused(GONE)) };
        if at.is(present.file) {
            at.check_folder(&to.ground)?;
            return Ok(Tried::Equal);
        }
        let linked = match from.check(Some(ground))? {
            Stands::As(Some(linked)) => linked,
            Stands::As(None) => return Err(refused(GONE)),
            Stands::Unkept(unkept) => return Ok(Tried::Unkept(unkept)),
        };
        if linked.0.kind != Kind::File {
            return Err(refused("only a file can have several names"));
        }
        match at.check(Some(&to.ground))? {
            Stands::As(None) => {}
            Stands::As(Some(_)) => return Err(refused(TAKEN)),
            Stands::Unkept(unkept) => return Ok(Tried::Unkept(unkept)),
        }
        if !link(&*self.tree()?, &from, &at, &linked.0)? {
            return Ok(Tried::Again(MOVED));
        }
        self.look_at(&from, Some(linked.1));
        self.look_at(&at, Some(linked.1));
        Ok(Tried::Done(vec![at.folder]))
    }

    /// Takes something away.
    fn remove(
        &mut self,
        id: RequestId,
        request: &RestoreRequest,
        ground: &RestoreGround,
    ) -> Result<Tried, SourceError> {
        let at = self.stand(&request.path)?;
        if at.is_nothing() {
            at.check_folder(ground)?;
            return Ok(Tried::Equal);
        }
        let (seen, file, record) = match at.check(Some(ground))? {
            Stands::As(Some(known)) => known,
            Stands::As(None) => return Err(refused(GONE)),
            Stands::Unkept(unkept) => return Ok(Tried::Unkept(unkept)),
        };
        if seen.kind == Kind::Dir {
            return self.remove_folder(at);
        }
        if !matches!(seen.kind, Kind::File | Kind::Symlink) {
            return Err(refused("a pipe, a socket or a device cannot be brought back, and stays"));
        }
        if self.fills.holds(file) {
            return Ok(Tried::Again(UNKEPT));
        }
        // Where nobody says that they have what it holds, that becomes a version once more before it goes.
        let is_had = seen.kind != Kind::File || ground.still.is_some();
        let kept = is_had.then(|| Kept::new(&seen, file, &record));
        let is_right = |out: &Seen| out.inode == seen.inode && out.kind == seen.kind;
        let taken = self.take_out(&at, request.path.clone(), kept, is_right)?;
        let Some((temporary, note)) = taken else { return Ok(Tried::Again(MOVED)) };
        let out = self.aside.as_ref().and_then(|aside| aside.look(&temporary).ok().flatten());
        // Of a file that goes on under other names only this one goes.
        let goes_on = out.is_some_and(|out| out.links > 1);
        if seen.kind == Kind::File && !goes_on {
            self.add_replaced(temporary, note, Some(id));
        } else {
            self.discard(temporary);
        }
        let private = self.aside.as_ref().and_then(|aside| aside.folder().try_clone().ok());
        Ok(Tried::Done([at.folder].into_iter().chain(private).collect()))
    }

    /// Removes a folder in which nothing is, not even what is not replicated: the kernel knows.
    fn remove_folder(&mut self, at: Standing) -> Result<Tried, SourceError> {
        match fs::unlinkat(&at.folder, unescape_name(&at.name), AtFlags::REMOVEDIR) {
            Ok(()) => {}
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Tried::Again(MOVED)),
            Err(Errno::NOTEMPTY | Errno::EXIST) => return Err(refused("it is not empty")),
            Err(error) => return Err(failed(error)),
        }
        self.look_at(&at, None);
        Ok(Tried::Done(vec![at.folder]))
    }

    /// Takes what stands at a name into the private folder, where it is what was meant. Returns what it is called there; `None`:
    /// it was something else, which is where it was.
    fn take_out(
        &mut self,
        at: &Standing,
        path: SetPath,
        kept: Option<Kept>,
        is_right: impl Fn(&Seen) -> bool,
    ) -> Result<Option<(String, Note)>, SourceError> {
        self.open_aside().map_err(not_opened)?;
        let temporary = random_name().map_err(failed)?;
        let place = (at.parent, at.name.clone());
        let note = Note { place, path, kept, restored: Some(REMOVED) };
        // Before anything moves: whoever starts after a crash tells by it what lies there.
        self.ledger.set_note(&temporary, &note)?;
        let Some(aside) = &self.aside else { return Err(away()) };
        let raw = unescape_name(&at.name);
        match aside.take(&temporary, at.folder.as_fd(), &raw) {
            Exchanged::Done => {}
            Exchanged::Moved => {
                self.discard(temporary);
                return Ok(None);
            }
            Exchanged::Impossible(error) | Exchanged::Failed(error) => {
                self.discard(temporary);
                return Err(failed(error));
            }
        }
        self.look_at(at, None);
        let Some(aside) = &self.aside else { return Err(away()) };
        if aside.look(&temporary).is_ok_and(|out| out.is_some_and(|out| is_right(&out))) {
            return Ok(Some((temporary, note)));
        }
        if matches!(aside.place(&temporary, at.folder.as_fd(), &raw), Exchanged::Done) {
            self.discard(temporary);
        } else {
            // Its name has been taken meanwhile: what it holds is a version before it goes.
            self.add_replaced(temporary, Note { kept: None, ..note }, None);
        }
        Ok(None)
    }

    /// Looks at what stands at a path.
    pub(super) fn stand(&mut self, path: &SetPath) -> Result<Standing, SourceError> {
        let tree = self.tree()?;
        self.ledger.write(|tx| Standing::find(tx, &tree, path))
    }

    pub(super) fn tree(&self) -> Result<Arc<Tree>, SourceError> {
        let attached = self.attached.as_ref().ok_or_else(away)?;
        Ok(attached.tree.clone())
    }

    /// Has it noticed that something was done at a name.
    pub(super) fn look_at(&mut self, at: &Standing, file: Option<FileId>) {
        let agenda = &mut self.pending.agenda;
        agenda.add_name(at.parent, at.name.clone(), NameTask::default());
        if let Some(file) = file {
            agenda.add_file(file, FileTask::default());
        }
    }
}

/// Renames without replacing anything.
fn rename(from: &Standing, to: &Standing, is_exchange: bool) -> rustix::io::Result<()> {
    let flags = if is_exchange { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
    let (old, new) = (unescape_name(&from.name), unescape_name(&to.name));
    fs::renameat_with(&from.folder, old, &to.folder, new, flags)
}

/// Gives a file that was seen one more name; tells whether it is that file, and nothing has the name.
fn link(tree: &Tree, from: &Standing, to: &Standing, file: &Seen) -> Result<bool, SourceError> {
    // By the object: another one may have the name by now.
    let Some(open) = open_seen(tree, from, file)? else { return Ok(false) };
    let path = format!("/proc/self/fd/{}", open.as_raw_fd());
    match fs::linkat(CWD, path, &to.folder, unescape_name(&to.name), AtFlags::SYMLINK_FOLLOW) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST | Errno::NOENT) => Ok(false),
        Err(Errno::XDEV) => Err(refused(ELSEWHERE)),
        Err(error) => Err(failed(error)),
    }
}

/// Opens an object that was seen at a name; `None`: something else is there by now.
fn open_seen(tree: &Tree, at: &Standing, seen: &Seen) -> Result<Option<OwnedFd>, SourceError> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = match fs::openat(&at.folder, unescape_name(&at.name), flags, Mode::empty()) {
        Ok(open) => open,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let is_it = tree.look_at(open.as_fd()).is_ok_and(|now| now.inode == seen.inode);
    Ok(is_it.then_some(open))
}

/// Tells whether an object was called so last. It was moved there, although somebody has put something else there since: whoever
/// saved right before the move saved over an object that keeps its former name.
fn is_called(object: &OwnedFd, at: &Standing) -> bool {
    let path = |open: &OwnedFd| {
        let link = format!("/proc/self/fd/{}", open.as_raw_fd());
        fs::readlink(link, Vec::new()).map(std::ffi::CString::into_bytes)
    };
    let (Ok(path), Ok(mut wanted)) = (path(object), path(&at.folder)) else { return false };
    wanted.push(b'/');
    wanted.extend(unescape_name(&at.name));
    path.strip_prefix(wanted.as_slice()).is_some_and(|rest| matches!(rest, b"" | b" (deleted)"))
}

/// Tells whether it is this object that stands at a name now.
fn stands(tree: &Tree, at: &Standing, object: &Seen) -> bool {
    let now = tree.look(at.folder.as_fd(), &at.name);
    matches!(now, Ok(AtName::Object(now)) if now.inode == object.inode)
}

fn clone(folder: &OwnedFd) -> Result<OwnedFd, SourceError> {
    folder.try_clone().map_err(failed)
}
