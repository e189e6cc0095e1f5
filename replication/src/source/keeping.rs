//! Makes a version of what a restore replaced, where that is other than what was captured of it.
//!
//! The live name stands for what was restored by now, and goes on to. So the late content is journaled as a file of its
//! own that held the name for a moment: it is found under the name that it was saved under, among the versions before
//! and after it, and what stands there now is not sent again.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use keepshare_base::{ContentHash, FileId, Kind, Meta, Name, NameRow, Seq};
use keepshare_decide::{
    FileRecord, Inode, Signature,
    compose::{Composer, Done},
};

use keepshare_decide::Known;

use super::{
    SourceError,
    aside::random_name,
    ledger::Tx,
    owners::Owners,
    pass::Regions,
    transfer::{Step, Transfer},
    tree,
};
use crate::capture::Touch;

/// The most content read in one turn.
const STEP_BYTES: u64 = 8 << 20;

/// And the longest that this takes, but for one part.
const STEP_MAX: Duration = Duration::from_millis(25);

/// What was replaced, on its way into the journal.
#[derive(Debug)]
pub(crate) struct Keeping {
    /// Its name in the private folder.
    pub(crate) aside: String,
    place: (FileId, Name),
    /// Where it was is not known.
    is_stray: bool,
    changes: Vec<Seq>,
    /// What was journaled of it not everybody gets any more.
    is_broken: bool,
    open: Option<OwnedFd>,
    transfer: Option<Transfer>,
}

/// What a step gave.
#[derive(Debug)]
pub(crate) enum Kept {
    /// There is more.
    More,
    /// It is a version now.
    Done(Version),
    /// It cannot be read.
    Failed(io::Error),
}

/// A version made of what was replaced.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    /// The file that it is journaled as.
    pub(crate) file: FileId,
    /// The state that was read.
    pub(crate) signature: Signature,
    /// The hash of its content, where that held still.
    pub(crate) hash: Option<ContentHash>,
    /// The changes that carry its content.
    pub(crate) changes: Vec<Seq>,
}

impl Keeping {
    /// Begins with a file that was replaced at a place.
    pub(crate) fn new(aside: String, open: OwnedFd, place: (FileId, Name), is_stray: bool) -> Self {
        let (changes, open) = (Vec::new(), Some(open));
        Self { aside, changes, is_broken: false, place, is_stray, open, transfer: None }
    }

    /// Hears that a new epoch or a mirror began: a content of which a part was journaled before is journaled anew.
    pub(crate) fn begin_anew(&mut self) {
        self.is_broken = !self.changes.is_empty();
    }

    /// Reads on, and journals what was read.
    pub(crate) fn step(
        &mut self,
        tx: &mut Tx<'_>,
        owners: &mut Owners,
        composer: &mut Composer<'_>,
    ) -> Result<Kept, SourceError> {
        let kept = self.read_on(tx, owners, composer)?;
        self.changes.extend(composer.journaled().iter().map(|(seq, _)| *seq));
        Ok(match kept {
            Kept::Done(version) => {
                Kept::Done(Version { changes: std::mem::take(&mut self.changes), ..version })
            }
            kept => kept,
        })
    }

    fn read_on(
        &mut self,
        tx: &mut Tx<'_>,
        owners: &mut Owners,
        composer: &mut Composer<'_>,
    ) -> Result<Kept, SourceError> {
        if let Some(open) = self.open.take() {
            match begin(tx, owners, open)? {
                Ok(transfer) => self.transfer = Some(transfer),
                Err(error) => return Ok(Kept::Failed(error)),
            }
        }
        let Some(mut transfer) = self.transfer.take() else {
            return Ok(Kept::Failed(io::ErrorKind::NotFound.into()));
        };
        let until = transfer.read_bytes() + STEP_BYTES;
        let began = Instant::now();
        if self.is_broken {
            forget(tx, transfer.file)?;
            return Ok(Kept::Failed(io::Error::other("what was journaled of it is passed over")));
        }
        loop {
            let budget = until.saturating_sub(transfer.read_bytes());
            match transfer.step(tx, owners, budget)? {
                Step::Part(row) => {
                    composer.journal_part(tx, *row, transfer.is_between_passes())?;
                    if began.elapsed() >= STEP_MAX {
                        self.transfer = Some(transfer);
                        return Ok(Kept::More);
                    }
                }
                Step::Paused => {
                    self.transfer = Some(transfer);
                    return Ok(Kept::More);
                }
                Step::Done(done) => return self.end(tx, composer, transfer.file, *done),
                Step::Failed(error) => {
                    forget(tx, transfer.file)?;
                    return Ok(Kept::Failed(error));
                }
            }
        }
    }

    fn end(
        &self,
        tx: &mut Tx<'_>,
        composer: &mut Composer<'_>,
        file: FileId,
        done: Done,
    ) -> Result<Kept, SourceError> {
        let (signature, hash) = (done.seen.signature, done.row.row.hash);
        let closed = Touch { closed: true, ..Touch::default() };
        let mut row = composer.finish(tx, file, done, closed)?;
        let (parent, name, now) = free_place(tx, &self.place)?;
        if self.is_stray || parent != self.place.0 {
            row.iter_mut().for_each(|row| narrow(&mut row.row.meta));
        }
        let name_row = |target| NameRow { parent, name: name.clone(), target };
        let held = vec![name_row(Some((file, Kind::File)))];
        composer.journal(tx, held, row.into_iter().collect(), Vec::new())?;
        composer.journal(tx, vec![name_row(now)], Vec::new(), Vec::new())?;
        forget(tx, file)?;
        Ok(Kept::Done(Version { file, signature, hash, changes: Vec::new() }))
    }
}

fn forget(tx: &mut Tx<'_>, file: FileId) -> Result<(), SourceError> {
    tx.map.clear_blocks(file, 0)?;
    tx.map.remove_file(file)
}

fn begin(
    tx: &mut Tx<'_>,
    owners: &mut Owners,
    open: OwnedFd,
) -> Result<io::Result<Transfer>, SourceError> {
    let looked = tree::look_at(open.as_fd())
        .and_then(|seen| tree::meta_of_open(owners, open.as_fd(), &seen));
    let meta = match looked {
        Ok(meta) => meta,
        Err(error) => return Ok(Err(error)),
    };
    let file = tx.new_file()?;
    // No object of the source: it is known only until it is journaled.
    let record = FileRecord::new(Inode::default(), Signature::default(), meta);
    tx.map.set_record(file, &record)?;
    Transfer::begin(tx, owners, open, file, &record, true)
}

/// Leaves only the owner's rights to a file whose folder is not known any more: that may have been closed to all others.
fn narrow(meta: &mut Meta) {
    meta.mode &= 0o600;
    meta.xattrs.retain(|(name, _)| !name.starts_with(b"system.posix_acl_"));
}

/// A folder, a name in it and what stands there.
type Standing = (FileId, Name, Option<(FileId, Kind)>);

/// Returns a place for a version that is late, and what stands there: where it was saved, unless its folder is gone or a
/// folder has taken its name, which is not moved away for it.
fn free_place(tx: &Tx<'_>, (parent, name): &(FileId, Name)) -> Result<Standing, SourceError> {
    let folder = tx.map.record(*parent)?.filter(|record| record.meta.kind == Kind::Dir);
    let now = tx.map.lookup(*parent, name)?;
    match (folder, now) {
        (Some(_), now) if now.is_none_or(|(_, kind)| kind != Kind::Dir) => {
            Ok((*parent, name.clone(), now))
        }
        (folder, _) => {
            let parent = folder.map_or(FileId::ROOT, |_| *parent);
            Ok((parent, late_name(name)?, None))
        }
    }
}

/// Returns a name for what was saved under `name`, which nothing else has.
fn late_name(name: &Name) -> Result<Name, SourceError> {
    let random = random_name().map_err(|error| SourceError::Refused(error.to_string()))?;
    let end = &random[random.len() - 8..];
    let named = [name.as_bytes(), b"~", end.as_bytes()].concat();
    let named = Name::new(&named).or_else(|_| Name::new(random.as_bytes()));
    named.map_err(|_| SourceError::Damaged("a restore's note"))
}
