//! Looks at the source's folder for whoever decides, and answers with facts: what stands at a name, which attributes it has,
//! what a small file holds. It decides nothing.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
};

use keepshare_base::{ContentHash, FileId, Kind, Meta, Name};
use keepshare_decide::{
    AtName, Failure, FileRecord, Inode, Looked, NoFolder, Seen,
    agenda::problems::UNUSABLE,
    compose::{Done, Got},
    look::{Ask, Fact, SeenFile},
    turn::{self, Content, Listed, TakePart},
};

use keepshare_decide::Known;

use super::{
    SourceError,
    folders::Folders,
    ledger::Tx,
    owners::Owners,
    shadow::Shadows,
    transfer::{self, Step, Transfer, WHOLE_BYTES_MAX},
    tree::{self, Tree},
};
use crate::{capture::Capture, clock::mono};

/// So many names of a folder that no set can hold are shown.
const UNUSABLE_SHOWN: usize = 3;

/// A content that was read, or is being read.
enum Begun {
    /// It was read whole.
    Whole(Box<Done>),
    /// It is read by its block hashes, from here on.
    Steps(Box<Transfer>),
}

/// Looks at a source's folder.
pub(crate) struct Survey<'a> {
    tree: &'a Tree,
    owners: &'a mut Owners,
    shadows: &'a mut Shadows,
    capture: &'a mut dyn Capture,
    folders: Folders,
    /// Contents that are read in steps from now on.
    begun: Vec<Transfer>,
}

impl<'a> Survey<'a> {
    /// Begins with no folder open.
    pub(crate) fn new(
        tree: &'a Tree,
        owners: &'a mut Owners,
        shadows: &'a mut Shadows,
        capture: &'a mut dyn Capture,
    ) -> Self {
        Self { tree, owners, shadows, capture, folders: Folders::default(), begun: Vec::new() }
    }

    /// Returns who knows the names of owners.
    pub(crate) fn owners(&mut self) -> &mut Owners {
        self.owners
    }

    /// Returns who notices changes.
    pub(crate) fn capture(&mut self) -> &mut dyn Capture {
        self.capture
    }

    /// Begins to read an open file by its block hashes, and only what changed where that is known.
    pub(crate) fn begin_transfer(
        &mut self,
        tx: &mut Tx<'_>,
        open: OwnedFd,
        file: FileId,
        record: &FileRecord,
        born: bool,
    ) -> Result<io::Result<Transfer>, SourceError> {
        let shot = self.shadows.shoot(self.tree.root().as_fd(), open.as_fd(), file, record);
        let begun = Transfer::begin(tx, self.owners, open, file, record, born)?;
        Ok(begun.map(|mut transfer| {
            if let Some(shot) = shot {
                transfer.wait_for(shot);
            }
            transfer
        }))
    }

    /// Remembers what was read of a file, now that the map knows it by this hash.
    pub(crate) fn end_transfer(&mut self, transfer: Transfer, hash: Option<ContentHash>) {
        let file = transfer.file;
        if let Some(shadow) = transfer.into_shadow(hash) {
            self.shadows.keep(file, shadow);
        }
    }

    /// Takes the contents that are read in steps from now on.
    pub(crate) fn take_begun(&mut self) -> Vec<Transfer> {
        std::mem::take(&mut self.begun)
    }

    /// Opens a folder of the map.
    pub(crate) fn folder(
        &mut self,
        tx: &Tx<'_>,
        folder: FileId,
    ) -> Result<Result<Rc<OwnedFd>, NoFolder>, SourceError> {
        self.folders.find(&tx.map, self.tree, folder)
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
    fn begin(
        &mut self,
        tx: &mut Tx<'_>,
        Content { file, at, record, .. }: Content<'_>,
    ) -> Result<Result<Begun, Failure>, SourceError> {
        let Some(name) = &at.name else { return Ok(Err(Failure::missing())) };
        let Ok(folder) = self.folder(tx, at.parent)? else { return Ok(Err(Failure::missing())) };
        let open = match self.open(&folder, name, record.inode) {
            Ok(open) => open,
            Err(error) => return Ok(Err(error.into())),
        };
        if at.seen.signature.size <= WHOLE_BYTES_MAX {
            match transfer::whole(tx, self.owners, &open, file, record, at.born)? {
                Ok(Some(done)) => return Ok(Ok(Begun::Whole(Box::new(done)))),
                Ok(None) => {}
                Err(error) => return Ok(Err(error.into())),
            }
        }
        let begun = self.begin_transfer(tx, open, file, record, at.born)?;
        Ok(match begun {
            Ok(mut transfer) => {
                transfer.touch = at.touch;
                Ok(Begun::Steps(Box::new(transfer)))
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

impl<'t> turn::Survey<Tx<'t>> for Survey<'_> {
    fn answer(&mut self, tx: &Tx<'t>, ask: &Ask) -> Result<Fact, SourceError> {
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

    fn forget_folders(&mut self) {
        self.folders.clear();
    }

    fn is_in_place(&self) -> Result<(), String> {
        self.tree.is_in_place()
    }

    fn list(
        &mut self,
        tx: &Tx<'t>,
        folder: FileId,
        record: &FileRecord,
    ) -> Result<Result<Listed, NoFolder>, SourceError> {
        let open = match self.folder(tx, folder)? {
            Ok(open) => open,
            Err(none) => return Ok(Err(none)),
        };
        let mut problems = Vec::new();
        if let Err(error) = self.capture.watch(record.inode.number, open.as_fd()) {
            problems.push(format!("changes in it are seen by scans only: {error}"));
        }
        let (names, unusable) = match tree::list(open.as_fd()) {
            Ok(listed) => listed,
            Err(error) => return Ok(Err(NoFolder::Denied(error.into()))),
        };
        if !unusable.is_empty() {
            problems.push(unusable_reason(&unusable));
        }
        Ok(Ok(Listed { names, problems }))
    }

    fn meta(
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

    fn folder_meta(
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

    fn read(
        &mut self,
        tx: &mut Tx<'t>,
        content: Content<'_>,
        part: &mut TakePart<'_, Tx<'t>>,
    ) -> Result<Got, SourceError> {
        let began = mono();
        let took = || mono().since(began);
        let mut transfer = match self.begin(tx, content)? {
            Err(failure) => return Ok(Got::Unread(failure, took(), false)),
            Ok(Begun::Whole(done)) => return Ok(Got::Content(done, took())),
            Ok(Begun::Steps(transfer)) => *transfer,
        };
        if content.in_steps {
            self.begun.push(transfer);
            return Ok(Got::InSteps);
        }
        loop {
            match transfer.step(tx, self.owners, u64::MAX)? {
                Step::Part(row) => part(tx, *row, transfer.is_between_passes())?,
                Step::Paused => {}
                Step::Done(done) => {
                    self.end_transfer(transfer, done.row.row.hash);
                    return Ok(Got::Content(done, took()));
                }
                Step::Failed(error) => return Ok(Got::Unread(error.into(), took(), true)),
            }
        }
    }
}

/// Says which names of a folder no set can hold.
fn unusable_reason(names: &[Vec<u8>]) -> String {
    let shown = names.iter().take(UNUSABLE_SHOWN).map(|name| format!("'{}'", name.escape_ascii()));
    let shown = shown.collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(UNUSABLE_SHOWN) {
        0 => format!("{shown} {UNUSABLE}"),
        more => format!("{shown} and {more} more {UNUSABLE}"),
    }
}
