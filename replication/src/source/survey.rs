//! Looks at the source's folder for whoever decides, and answers with facts: what stands at a name, which attributes it has,
//! what a small file holds. It decides nothing.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
};

use keepshare_base::{FileId, Kind, Meta, Name};
use keepshare_decide::{
    AtName, Failure, FileRecord, Inode, Looked, NoFolder, Seen,
    compose::Done,
    look::{Ask, Fact, SeenFile},
};

use super::{
    SourceError,
    folders::Folders,
    ledger::Tx,
    owners::Owners,
    transfer::{self, Transfer, WHOLE_BYTES_MAX},
    tree::{self, Tree},
};

/// Looks at a source's folder.
pub(crate) struct Survey<'a> {
    tree: &'a Tree,
    owners: &'a mut Owners,
    folders: Folders,
}

/// How a content is read.
pub(crate) enum Reading {
    /// It was read whole.
    Whole(Box<Done>),
    /// It is read by its block hashes, from here on.
    Steps(Box<Transfer>),
}

impl<'a> Survey<'a> {
    /// Begins with no folder open.
    pub(crate) fn new(tree: &'a Tree, owners: &'a mut Owners) -> Self {
        Self { tree, owners, folders: Folders::default() }
    }

    /// Returns who knows the names of owners.
    pub(crate) fn owners(&mut self) -> &mut Owners {
        self.owners
    }

    /// Lets go of open folders: some have moved in the map.
    pub(crate) fn forget_folders(&mut self) {
        self.folders.clear();
    }

    /// Opens a folder of the map.
    pub(crate) fn folder(
        &mut self,
        tx: &Tx<'_>,
        folder: FileId,
    ) -> Result<Result<Rc<OwnedFd>, NoFolder>, SourceError> {
        self.folders.find(&tx.map, self.tree, folder)
    }

    /// Answers what a round asks.
    pub(crate) fn answer(&mut self, tx: &Tx<'_>, ask: &Ask) -> Result<Fact, SourceError> {
        Ok(match ask {
            Ask::Name(parent, name) => Fact::Looked(self.look(tx, *parent, name)?),
            Ask::Root => {
                let root = self.tree.look_at(self.tree.root().as_fd());
                Fact::Looked(match root {
                    Ok(seen) => Looked::Saw(AtName::Object(seen)),
                    Err(error) => Looked::Failed(error.into()),
                })
            }
            Ask::Attributes(parent, name, seen) => {
                Fact::Attributes(self.attributes(tx, *parent, name, seen)?)
            }
            Ask::Readable(parent, name, seen) => {
                Fact::Readable(match self.folder(tx, *parent)? {
                    Ok(folder) => tree::may_read(folder.as_fd(), name, seen).map_err(Into::into),
                    Err(_) => Err(Failure::missing()),
                })
            }
        })
    }

    fn look(&mut self, tx: &Tx<'_>, parent: FileId, name: &Name) -> Result<Looked, SourceError> {
        Ok(match self.folder(tx, parent)? {
            Ok(folder) => match self.tree.look(folder.as_fd(), name) {
                Ok(at) => Looked::Saw(at),
                Err(error) => Looked::Failed(error.into()),
            },
            Err(none) => Looked::NoFolder(none),
        })
    }

    /// Reads the attributes of something that is new.
    fn attributes(
        &mut self,
        tx: &Tx<'_>,
        parent: FileId,
        name: &Name,
        seen: &Seen,
    ) -> Result<Result<Meta, Failure>, SourceError> {
        let Ok(folder) = self.folder(tx, parent)? else { return Ok(Err(Failure::missing())) };
        let meta = match tree::meta(self.owners, folder.as_fd(), Some(name), seen) {
            Ok(meta) => meta,
            Err(error) => return Ok(Err(error.into())),
        };
        // A target is read by the name: another object may have taken that since the look. A file is opened to be read.
        let is_other = seen.kind == Kind::Symlink && !self.is_still(&folder, name, seen.inode);
        Ok(if is_other { Err(Failure::missing()) } else { Ok(meta) })
    }

    fn is_still(&self, folder: &OwnedFd, name: &Name, inode: Inode) -> bool {
        let now = self.tree.look(folder.as_fd(), name);
        matches!(now, Ok(AtName::Object(now)) if now.inode == inode)
    }

    /// Reads the attributes of a file of the map, where it was seen.
    pub(crate) fn meta(
        &mut self,
        tx: &Tx<'_>,
        file: FileId,
        at: &SeenFile,
    ) -> Result<Result<Meta, Failure>, SourceError> {
        let Ok(folder) = self.folder(tx, at.parent)? else { return Ok(Err(Failure::missing())) };
        let meta = tree::meta(self.owners, folder.as_fd(), at.name.as_ref(), &at.seen);
        // Attributes are read by the name: something else may have taken it since the look.
        let is_still =
            at.name.as_ref().is_none_or(|name| self.is_still(&folder, name, at.seen.inode));
        match meta {
            Ok(meta) if is_still => Ok(Ok(self.named(tx, file, meta)?)),
            Err(error) if is_still => Ok(Err(error.into())),
            _ => Ok(Err(Failure::missing())),
        }
    }

    /// Looks at a folder of the map and reads its attributes; `None`: it is not there, or cannot be read.
    pub(crate) fn folder_meta(
        &mut self,
        tx: &Tx<'_>,
        folder: FileId,
    ) -> Result<Option<(Seen, Meta)>, SourceError> {
        let Ok(open) = self.folder(tx, folder)? else { return Ok(None) };
        let Ok(seen) = self.tree.look_at(open.as_fd()) else { return Ok(None) };
        match tree::meta(self.owners, open.as_fd(), None, &seen) {
            Ok(meta) => Ok(Some((seen, self.named(tx, folder, meta)?))),
            Err(_) => Ok(None),
        }
    }

    /// Gives attributes the names of owners that were known before, where nobody answers now.
    fn named(&mut self, tx: &Tx<'_>, file: FileId, mut meta: Meta) -> Result<Meta, SourceError> {
        if self.owners.is_in_doubt() {
            if let Some(record) = tx.map.record(file)? {
                self.owners.keep(&mut meta, &record.meta);
            }
            self.owners.note(file, &meta);
        }
        Ok(meta)
    }

    /// Reads a small file whole, and begins to read a longer one.
    pub(crate) fn read(
        &mut self,
        tx: &mut Tx<'_>,
        file: FileId,
        at: &SeenFile,
        record: &FileRecord,
    ) -> Result<Result<Reading, Failure>, SourceError> {
        let Some(name) = &at.name else { return Ok(Err(Failure::missing())) };
        let Ok(folder) = self.folder(tx, at.parent)? else { return Ok(Err(Failure::missing())) };
        let open = match self.open(&folder, name, record.inode) {
            Ok(open) => open,
            Err(error) => return Ok(Err(error.into())),
        };
        if at.seen.signature.size <= WHOLE_BYTES_MAX {
            match transfer::whole(tx, self.owners, &open, file, record, at.born)? {
                Ok(Some(done)) => return Ok(Ok(Reading::Whole(Box::new(done)))),
                Ok(None) => {}
                Err(error) => return Ok(Err(error.into())),
            }
        }
        let begun = Transfer::begin(tx, self.owners, open, file, record, at.born)?;
        Ok(match begun {
            Ok(mut transfer) => {
                transfer.touch = at.touch;
                Ok(Reading::Steps(Box::new(transfer)))
            }
            Err(error) => Err(error.into()),
        })
    }

    /// Opens a file that the map does not know, with what it looks like.
    pub(crate) fn open_new(
        &mut self,
        folder: &OwnedFd,
        name: &Name,
    ) -> io::Result<(Meta, Seen, OwnedFd)> {
        let open = tree::open_file(folder.as_fd(), name)?;
        let seen = self.tree.look_at(open.as_fd())?;
        Ok((tree::meta_of_open(self.owners, open.as_fd(), &seen)?, seen, open))
    }

    fn open(&self, folder: &OwnedFd, name: &Name, inode: Inode) -> io::Result<OwnedFd> {
        let open = tree::open_file(folder.as_fd(), name)?;
        let now = self.tree.look_at(open.as_fd())?;
        if now.inode == inode { Ok(open) } else { Err(io::ErrorKind::NotFound.into()) }
    }
}
