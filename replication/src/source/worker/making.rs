//! Makes folders and symlinks, and gives them attributes: two of the acts ([`super::acts`]) that bring a folder back.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use keepshare_base::{FileId, Kind, Meta, RestoreGround, unescape_name};
use keepshare_decide::{
    Known,
    agenda::FileTask,
    restores::{Ground, objection},
};
use keepshare_host::beneath::{self, Mounts};
use rustix::{
    fs::{self, Mode, OFlags},
    io::Errno,
};

use super::{
    Worker,
    acts::Tried,
    placing::MOVED,
    standing::{GONE, Standing, Stands, TAKEN, failed, refused},
};
use crate::source::{
    RestoreRequest, SourceError,
    tree::{self, AtName, Seen, Tree},
    writing,
};

/// A folder or a symlink, open.
struct Object {
    open: OwnedFd,
    /// What it is now.
    seen: Seen,
    meta: Meta,
}

impl Worker {
    /// Makes a folder or a symlink where nothing is.
    pub(super) fn make(
        &mut self,
        request: &RestoreRequest,
        ground: &RestoreGround,
    ) -> Result<Tried, SourceError> {
        let at = self.stand(&request.path)?;
        at.check_folder(ground)?;
        let filled = fillable(&request.meta);
        let wanted = &filled;
        let Some(seen) = at.seen else {
            return match at.check(Some(ground))? {
                Stands::Unkept(unkept) => Ok(Tried::Unkept(unkept)),
                Stands::As(_) => self.make_new(at, wanted),
            };
        };
        let Some(object) = self.open_object(&at, &seen, wanted)? else {
            return Ok(Tried::Again(MOVED));
        };
        // What is put into a folder gives it another time.
        let mtime = if seen.kind == Kind::Dir { object.meta.mtime } else { wanted.mtime };
        let is = |as_then: &Meta| {
            writing::has_attributes_of(&object.meta, &Meta { mtime, ..as_then.clone() })
        };
        // The last that is done to a folder gives it its mode.
        if is(wanted) || is(&request.meta) {
            self.look_at(&at, None);
            return Ok(Tried::Equal);
        }
        if ground.present.is_some() {
            if let Stands::Unkept(unkept) = at.check(Some(ground))? {
                return Ok(Tried::Unkept(unkept));
            }
        } else if !object.is_half_made(wanted) {
            return Err(refused(TAKEN));
        }
        self.give(at, object, wanted)
    }

    fn make_new(&mut self, at: Standing, wanted: &Meta) -> Result<Tried, SourceError> {
        let name = unescape_name(&at.name);
        let made = match wanted.kind {
            Kind::Dir => fs::mkdirat(&at.folder, name, Mode::RWXU),
            _ => fs::symlinkat(wanted.symlink.as_slice(), &at.folder, name),
        };
        match made {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(Tried::Again(MOVED)),
            Err(error) => return Err(failed(error)),
        }
        self.look_at(&at, None);
        let made = self.tree()?.look(at.folder.as_fd(), &at.name);
        let Ok(AtName::Object(seen)) = made else { return Ok(Tried::Again(MOVED)) };
        match self.open_object(&at, &seen, wanted)? {
            // Somebody may have put theirs there since.
            Some(object) if object.is_half_made(wanted) => self.give(at, object, wanted),
            _ => Ok(Tried::Again(MOVED)),
        }
    }

    /// Gives a folder or a symlink attributes.
    pub(super) fn set_attributes(
        &mut self,
        request: &RestoreRequest,
        ground: &RestoreGround,
    ) -> Result<Tried, SourceError> {
        let wanted = &request.meta;
        if request.path.names().is_empty() {
            return self.set_attributes_of_root(wanted, ground);
        }
        let at = self.stand(&request.path)?;
        at.check_folder(ground)?;
        let present = ground.present.as_ref();
        if let Some(seen) = at.seen.filter(|_| present.is_some_and(|now| at.is(now.file))) {
            let Some(object) = self.open_object(&at, &seen, wanted)? else {
                return Ok(Tried::Again(MOVED));
            };
            if writing::has_attributes_of(&object.meta, wanted) {
                return Ok(Tried::Equal);
            }
            return match at.check(Some(ground))? {
                Stands::As(Some(_)) => self.give(at, object, wanted),
                Stands::As(None) => Err(refused(GONE)),
                Stands::Unkept(unkept) => Ok(Tried::Unkept(unkept)),
            };
        }
        match at.check(Some(ground))? {
            Stands::As(_) => Err(refused(GONE)),
            Stands::Unkept(unkept) => Ok(Tried::Unkept(unkept)),
        }
    }

    fn set_attributes_of_root(
        &mut self,
        wanted: &Meta,
        ground: &RestoreGround,
    ) -> Result<Tried, SourceError> {
        let tree = self.tree()?;
        let open = tree.root().try_clone().map_err(failed)?;
        let object = self.object(&tree, open)?;
        if wanted.kind != Kind::Dir {
            return Err(refused(TAKEN));
        }
        if writing::has_attributes_of(&object.meta, wanted) {
            return Ok(Tried::Equal);
        }
        self.pending.agenda.add_file(FileId::ROOT, FileTask::default());
        let known = self.ledger.write(|tx| tx.map.record(FileId::ROOT))?;
        let known = known.map(|record| (FileId::ROOT, record));
        let Ground::Known(_, root, record) = Ground::judge(Some(object.seen), known) else {
            return Ok(Tried::Again(
                "the set's folder was changed just now; try again in a moment",
            ));
        };
        if let Some(why) = objection(ground, FileId::ROOT, Some((root, &record))) {
            return Err(refused(why));
        }
        put(&object, wanted)?;
        Ok(Tried::Done(vec![object.open]))
    }

    /// Gives an object attributes, and has that noticed.
    fn give(&mut self, at: Standing, object: Object, wanted: &Meta) -> Result<Tried, SourceError> {
        self.look_at(&at, at.known.as_ref().map(|(file, _)| *file));
        put(&object, wanted)?;
        let folder = Some(object.open).filter(|_| object.seen.kind == Kind::Dir);
        Ok(Tried::Done([at.folder].into_iter().chain(folder).collect()))
    }

    /// Opens what was seen at a name, where it is of the wanted kind; `None`: something else is there by now.
    fn open_object(
        &mut self,
        at: &Standing,
        seen: &Seen,
        wanted: &Meta,
    ) -> Result<Option<Object>, SourceError> {
        if seen.kind != wanted.kind {
            return Err(refused(TAKEN));
        }
        let tree = self.tree()?;
        let open = match open(at.folder.as_fd(), &unescape_name(&at.name), seen.kind) {
            Ok(open) => open,
            Err(error) if is_other(&error) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let object = self.object(&tree, open)?;
        if object.seen.inode != seen.inode {
            return Ok(None);
        }
        if object.meta.symlink != wanted.symlink {
            return Err(refused(TAKEN));
        }
        Ok(Some(object))
    }

    fn object(&mut self, tree: &Tree, open: OwnedFd) -> Result<Object, SourceError> {
        let seen = tree.look_at(open.as_fd()).map_err(failed)?;
        let meta = tree::meta_of_other(&mut self.owners, open.as_fd(), &seen).map_err(failed)?;
        Ok(Object { open, seen, meta })
    }
}

impl Object {
    /// Tells whether it is as it is made, before it gets attributes: a process that was killed in between left it. Nobody has put
    /// anything into such a folder, and such a link leads where it is to lead.
    fn is_half_made(&self, wanted: &Meta) -> bool {
        let own = rustix::process::geteuid().as_raw();
        let is_ours = [own, wanted.owner.id].contains(&self.seen.user);
        is_ours
            && match self.seen.kind {
                Kind::Dir => self.seen.mode & 0o777 == 0o700 && is_empty(&self.open),
                _ => true,
            }
    }
}

/// Returns the attributes with which something is made. Who is not root cannot put anything into a folder of which they may not: it is
/// made so that they can, and has its mode when it is given its attributes, after all that is put into it.
fn fillable(wanted: &Meta) -> Meta {
    let is_shut = wanted.kind == Kind::Dir && !rustix::process::geteuid().is_root();
    Meta { mode: wanted.mode | if is_shut { 0o700 } else { 0 }, ..wanted.clone() }
}

/// Opens a folder or a symlink by its name, and never what a symlink leads to.
fn open(folder: BorrowedFd<'_>, name: &[u8], kind: Kind) -> io::Result<OwnedFd> {
    let flags = match kind {
        Kind::Dir => return beneath::open_folder(folder, name, Mounts::Stay),
        _ => OFlags::PATH | OFlags::NOFOLLOW,
    };
    beneath::open(folder, name, flags, Mode::empty(), Mounts::Stay)
}

/// Tells whether something could not be opened because it is something else, or gone, by now.
fn is_other(error: &io::Error) -> bool {
    let others = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP];
    Errno::from_io_error(error).is_some_and(|error| others.contains(&error))
}

/// Gives an object attributes, as far as they can be given to it.
fn put(object: &Object, wanted: &Meta) -> Result<(), SourceError> {
    if object.seen.kind != Kind::Dir {
        writing::put_link_attributes(object.open.as_fd(), wanted);
        return Ok(());
    }
    writing::put_folder_attributes(object.open.as_fd(), wanted).map_err(failed)
}

fn is_empty(folder: &OwnedFd) -> bool {
    let mut is_empty = true;
    let read = beneath::each_name(folder, |_| {
        is_empty = false;
        Ok::<_, io::Error>(false)
    });
    read.is_ok() && is_empty
}
