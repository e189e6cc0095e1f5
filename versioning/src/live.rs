//! The live tree: a set's newest commit as plain files.
//!
//! [`LiveTree::apply`] makes a folder equal to the index. It looks at what is there and at what should be, never at what
//! happened in between, so the same code follows the commits, repeats what a crash cut off, and repairs. What a station
//! shows as live is what this has reached. Reading live files, and who may, is not decided here.
//!
//! Two folders on one file system belong to a tree: the live one, which others read, and the *stage*, which nobody
//! else touches: new files are written there, folders wait there while their names change hands, and what is removed
//! goes through it. The records of which inode is which file are in a state file beside the index.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    path::PathBuf,
    sync::Arc,
};

use keepshare_base::CommitId;

use crate::{Reader, Touched, View, checked::CheckedDb};

mod adopt;
mod ahead;
mod attributes;
mod beneath;
mod check;
mod claim;
mod content;
mod identity;
mod names;
mod plain;
mod prepare;
mod problem;
mod records;
mod refresh;
mod stage;
mod survey;
mod sweep;
#[cfg(test)]
mod tests;
mod wanted;
mod work;

pub use ahead::Memory;
use ahead::{Ahead, Redo};
use attributes::Attributes;
pub use attributes::LeftOut;
use beneath::Folder;
pub use check::{Checked, Checking, Difference, DifferenceKind};
pub(crate) use check::{LiveScrub, LiveStepped};
use claim::Claim;
pub(crate) use plain::read_plain;
use problem::Fail;
pub use problem::{LiveError, Problem, ProblemCause};
pub use records::RecordsError;
use records::{Records, Retries, Stored, Writing};
#[cfg(test)]
pub(crate) use tests::bench::folder as bench_folder;
use wanted::Wanted;
use work::Work;

/// How many problems are told one by one; the rest is counted.
pub const PROBLEMS_MAX: usize = 1000;

/// How many records may wait in memory before they should be stored.
const RECENT_MAX: usize = 50_000;

/// After so many names and files a step ends with the commit that it is at, while commits come faster than they are shown.
const STEP_ROWS_MAX: usize = 2_000;

/// How many entries of removed folders go with each [`LiveTree::apply`].
const PURGE_ENTRIES_MAX: usize = 2_000;

/// Where a live tree is.
#[derive(Clone, Debug)]
pub struct LiveDirs {
    /// The folder that shows the set.
    pub live: PathBuf,
    /// A folder of our own on the same file system, outside the live one.
    pub stage: PathBuf,
}

/// How a live tree is kept.
#[derive(Clone, Copy, Debug, Default)]
pub struct LiveOptions {
    /// Set owners, modes and access lists as at the origin, which takes root's powers. Without, folders are 0700 and
    /// files 0600.
    pub as_root: bool,
    /// The live folder is in a place where nobody else keeps anything: one that is not empty and has no mark is taken as
    /// one that was copied.
    pub own: bool,
}

/// What an [`LiveTree::apply`] did to the file system.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Files, folders and symlinks made anew.
    pub made: u64,
    /// Entries renamed to or over a name of the live tree, or into the stage.
    pub renamed: u64,
    /// Names added to files that had one.
    pub linked: u64,
    /// Entries removed.
    pub removed: u64,
    /// Bytes of content written.
    pub bytes: u64,
    /// Things without a record that were what they should be, and taken.
    pub adopted: u64,
}

/// What came of an [`LiveTree::apply`].
#[derive(Debug, Default)]
pub struct Applied {
    /// The commit that the tree shows now, but for the problems.
    pub reached: CommitId,
    /// What is not as it should be, up to [`PROBLEMS_MAX`].
    pub problems: Vec<Arc<Problem>>,
    /// How many more problems there are.
    pub more_problems: u64,
    /// What was done.
    pub counts: Counts,
    /// Removed folders are still being emptied: apply again soon.
    pub more_to_remove: bool,
    /// There are commits after the one that was reached: apply again.
    pub behind: bool,
}

/// A live tree. One thread works on it.
#[derive(Debug)]
pub struct LiveTree {
    dirs: LiveDirs,
    live: Arc<Folder>,
    stage: Arc<Folder>,
    attributes: Attributes,
    records: Records,
    /// What the state file says.
    stored: Stored,
    /// The commit that the tree shows, but for the retries.
    reached: CommitId,
    retries: Retries,
    /// The tree may be ahead of the records: what is unknown is most likely our own.
    redo: bool,
    /// The last commit that it may be ahead to, where that is known.
    redo_through: Option<CommitId>,
    /// The tree is a copy of one of ours, or comes from a backup.
    copied: bool,
    /// What is not in the records yet.
    ahead: Ahead,
    stage_state: stage::StageState,
    /// Large files that have no name yet.
    prepared: prepare::Prepared,
}

impl LiveTree {
    /// Opens a tree; `state` is the database of its records, `memory` keeps what these do not hold yet.
    pub fn open(
        dirs: LiveDirs,
        state: Arc<CheckedDb>,
        memory: Option<Memory>,
        options: LiveOptions,
    ) -> Result<Self, LiveError> {
        let open = |path: &PathBuf| {
            Folder::open(path).map_err(|source| LiveError::Folder { path: path.clone(), source })
        };
        let (live, stage) = (open(&dirs.live)?, open(&dirs.stage)?);
        claim::check(&live, &stage, &dirs)?;
        let (mut records, mut stored) = Records::open(state)?;
        let claimed = claim::claim(&live, &stage, &dirs, options.own)?;
        if claimed != Claim::Known {
            // What is recorded is of another folder.
            stored = records.clear(stored.step)?;
        }
        if claimed == Claim::New {
            // After that: with a mark, and records of what was in another folder, an empty one would be taken for full.
            claim::mark_stage(&live, &stage, &dirs)?;
        }
        let identity = live.see_self();
        let identity =
            identity.map_err(|source| LiveError::Folder { path: dirs.live.clone(), source })?;
        let (ahead, found) = Ahead::open(memory, identity.identity, &stored);
        let copied = claimed == Claim::Copied;
        let mut tree = Self {
            live: Arc::new(live),
            stage: Arc::new(stage),
            attributes: Attributes::new(options.as_root),
            records,
            reached: stored.position,
            retries: stored.retries.clone(),
            stored,
            redo: !copied,
            redo_through: None,
            copied,
            ahead,
            stage_state: stage::StageState::default(),
            prepared: prepare::Prepared::default(),
            dirs,
        };
        if let Some(found) = found {
            tree.records.take_in(found.records)?;
            (tree.reached, tree.retries) = (found.position, found.retries);
            (tree.redo, tree.redo_through) = match found.redo {
                Redo::Nothing => (false, None),
                Redo::Through(commit) => (true, Some(commit)),
                Redo::All => (true, None),
            };
        }
        Ok(tree)
    }

    /// Makes the tree equal to the newest commit, or to an older one where very much was touched since, as far as it can;
    /// what failed before is tried again where `retry` says so.
    ///
    /// The first time after opening it has to.
    pub fn apply(&mut self, reader: &Reader, retry: bool) -> Result<Applied, LiveError> {
        Ok(self.step(reader, reader.view()?, retry, None)?.0)
    }

    /// Makes the tree equal to the newest commit in at most `steps` steps, which are counted down, and returns the view that
    /// has it as its newest; `None` where that was not enough.
    fn catch_up(&mut self, reader: &Reader, steps: &mut u32) -> Result<Option<View>, LiveError> {
        let mut retry = true;
        while *steps > 0 {
            *steps -= 1;
            let (applied, view) = self.step(reader, reader.view()?, retry, None)?;
            if !applied.behind {
                return Ok(Some(view));
            }
            retry = false;
        }
        Ok(None)
    }

    /// Takes one step towards the newest commit of `view`; to `last` where that is given.
    fn step(
        &mut self,
        reader: &Reader,
        view: View,
        retry: bool,
        last: Option<CommitId>,
    ) -> Result<(Applied, View), LiveError> {
        self.check_place()?;
        let latest = view.latest();
        if latest < self.reached {
            // The records speak of another set, or of a history that is lost.
            self.ahead.discard();
            self.stored = self.records.clear(self.stored.step)?;
            self.retries = self.stored.retries.clone();
            self.reached = self.stored.position;
            (self.redo, self.redo_through) = (true, None);
            self.drop_prepared();
        }
        let retry = retry || self.redo || self.copied;
        let (touched, through) = if self.retries.everything && retry {
            (Touched::Everything, latest)
        } else if latest == self.reached {
            (Touched::Known { names: Vec::new(), files: Vec::new() }, latest)
        } else if self.redo {
            // All at once, because any part of it may be there: what moved is looked for where it went.
            let last = self.redo_through.map_or(latest, |last| last.min(latest));
            view.touched_step(self.reached, last, usize::MAX)?
        } else {
            view.touched_step(self.reached, last.unwrap_or(latest), STEP_ROWS_MAX)?
        };
        let before = (self.reached, self.retries.clone());
        let everything = matches!(touched, Touched::Everything);
        let idle = match &touched {
            Touched::Known { names, files } => names.is_empty() && files.is_empty(),
            Touched::Everything => false,
        };
        if !idle || (retry && !self.retries.is_empty()) {
            self.ahead.begin((!everything).then_some(through));
        }
        let wanted = Wanted::new(view, through);
        let (mut applied, retries, view) = Work::new(self, reader, wanted).run(touched, retry)?;
        self.retries = retries;
        self.reached = through;
        (self.redo, self.redo_through) = (false, None);
        if std::mem::take(&mut self.copied) {
            claim::mark_stage(&self.live, &self.stage, &self.dirs)?;
        }
        let records = self.records.take_noted()?;
        if !records.is_empty() || before != (self.reached, self.retries.clone()) || !idle {
            self.ahead.done(self.reached, &self.retries, records);
        }
        if self.ahead.can_begin() {
            let records = self.records.unstored();
            self.ahead.restart(self.is_stored(), self.reached, &self.retries, records);
        }
        applied.behind = through < latest;
        Ok((applied, view))
    }

    /// Makes sure that the live folder is where it should be. While it is not, nothing is done to it.
    pub fn check_place(&self) -> Result<(), LiveError> {
        claim::check_place(&self.live, &self.dirs)
    }

    /// Has the next [`Self::apply`] compare the whole tree with the index, and make it equal.
    pub fn compare_all(&mut self) {
        self.retries.everything = true;
    }

    /// Returns the commit that the tree shows, but for what failed.
    pub fn reached(&self) -> CommitId {
        self.reached
    }

    /// Returns the commit through which everything is in the tree and on the disk, but for what failed.
    ///
    /// What commits before it touched may be forgotten: for what failed the rows of its body say what it lacks, so that
    /// one file that cannot be written keeps nothing of all others.
    pub fn synced(&self) -> CommitId {
        self.stored.position
    }

    /// Tells whether something failed and waits to be tried again.
    pub fn has_retries(&self) -> bool {
        !self.retries.is_empty()
    }

    /// Tells whether so much is unsynced that [`Self::begin_sync`] should not wait.
    pub fn wants_sync(&self) -> bool {
        self.records.recent_len() > RECENT_MAX
    }

    /// Begins to make the tree durable; `None` where there is nothing to do, or the last one has not ended.
    pub fn begin_sync(&mut self) -> Option<SyncJob> {
        if self.is_stored() {
            return None;
        }
        let stored = Stored {
            position: self.reached,
            retries: self.retries.clone(),
            step: self.ahead.step(),
        };
        let writing = self.records.begin(stored)?;
        Some(SyncJob { live: Arc::clone(&self.live), writing })
    }

    /// Takes in how a [`SyncJob`] ended.
    pub fn end_sync(&mut self, result: Result<SyncDone, LiveError>) -> Result<(), LiveError> {
        match result {
            Ok(SyncDone(stored)) => {
                self.stored = stored;
                self.records.finish()?;
                let nothing = self.is_stored();
                let records = self.records.unstored();
                self.ahead.restart(nothing, self.reached, &self.retries, records);
                Ok(())
            }
            Err(error @ LiveError::Records(_)) => {
                self.records.take_back();
                Err(error)
            }
            Err(error) => {
                // What was written may be lost: do everything since the last success again.
                self.records.give_up();
                self.ahead.discard();
                self.reached = self.stored.position;
                self.retries = self.stored.retries.clone();
                (self.redo, self.redo_through) = (true, None);
                self.drop_prepared();
                Err(error)
            }
        }
    }

    /// Tells whether the process may end now and the tree goes on from here, as long as the machine runs.
    pub fn is_noted(&self) -> bool {
        self.is_stored() || (self.ahead.is_complete() && !self.redo && !self.copied)
    }

    fn is_stored(&self) -> bool {
        self.stored.position == self.reached
            && self.stored.retries == self.retries
            && self.records.recent_len() == 0
    }

    /// Tells whether the state file failed: nothing can be recorded before [`Self::renew`].
    pub fn records_failed(&self) -> bool {
        self.records.failed()
    }

    /// Lets go of the state file, so that it can be opened anew. Not while a [`SyncJob`] runs.
    pub fn retire_records(&self) {
        self.records.retire();
    }

    /// Goes on with the state file as it was opened anew: what is newer than what it says is done again.
    pub fn renew(&mut self, state: Arc<CheckedDb>) -> Result<(), LiveError> {
        (self.records, self.stored) = Records::open(state)?;
        self.ahead.discard();
        self.reached = self.stored.position;
        self.retries = self.stored.retries.clone();
        (self.redo, self.redo_through) = (true, None);
        self.drop_prepared();
        Ok(())
    }

    fn drop_prepared(&mut self) {
        self.prepared.clear();
        self.stage_state.left_something();
    }

    /// Makes the tree durable and remembers how far it is.
    pub fn sync(&mut self) -> Result<(), LiveError> {
        match self.begin_sync() {
            Some(job) => {
                let result = job.run();
                self.end_sync(result)
            }
            None => Ok(()),
        }
    }
}

/// The slow half of a sync, for any thread.
#[derive(Debug)]
#[must_use = "a sync that is not run must not be reported as done"]
pub struct SyncJob {
    live: Arc<Folder>,
    writing: Writing,
}

/// Proof that a [`SyncJob`] ran.
#[derive(Debug)]
pub struct SyncDone(Stored);

impl SyncJob {
    /// Syncs the tree's file system, and only then writes the records.
    pub fn run(self) -> Result<SyncDone, LiveError> {
        self.run_with(|live| Ok(rustix::fs::syncfs(live)?))
    }

    /// Does so with what `sync` does for the file system of the folder it gets.
    pub fn run_with(
        self,
        sync: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>,
    ) -> Result<SyncDone, LiveError> {
        sync(self.live.descriptor().as_fd()).map_err(LiveError::Sync)?;
        Ok(SyncDone(self.writing.write()?))
    }
}
