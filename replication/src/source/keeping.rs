//! Reads what a restore replaced, where that is other than what was captured of it, and has it journaled as a version
//! ([`Composer::journal_replaced`]).

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use keepshare_base::{FileId, Name, Seq};
use keepshare_decide::{
    FileRecord, Inode, Signature,
    compose::{Composer, Done},
    restores::Version,
};

use super::{
    SourceError,
    aside::random_name,
    ledger::Tx,
    owners::Owners,
    pass::Regions,
    transfer::{Step, Transfer},
    tree,
};

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
        let is_whole = !done.row.row.fuzzy;
        let late = late_name(&self.place.1);
        let late = late.map_err(|error| SourceError::Refused(error.to_string()))?;
        composer.journal_replaced(tx, file, done, &self.place, self.is_stray, &late)?;
        forget(tx, file)?;
        Ok(Kept::Done(Version { file, signature, hash, is_whole, changes: Vec::new() }))
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

/// Returns a name for what was saved under `name`, which nothing else has.
pub(crate) fn late_name(name: &Name) -> io::Result<Name> {
    let random = random_name()?;
    let end = &random[random.len() - 8..];
    let named = [name.as_bytes(), b"~", end.as_bytes()].concat();
    let named = Name::new(&named).or_else(|_| Name::new(random.as_bytes()));
    named.map_err(io::Error::other)
}
