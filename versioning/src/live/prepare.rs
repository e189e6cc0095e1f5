//! Large new files before they have a name.
//!
//! Their content comes first, in many commits, and the name with the last of it. It goes into the stage as it comes, so
//! that the name costs a rename and not the time to write everything. Only memory knows of these files: what a restart
//! finds of them is removed and made anew, as is what could not be prepared.

use std::{collections::BTreeMap, fs::File, io};

use keepshare_base::{CommitId, FileId, Kind, Name};

use super::{
    Fail, LiveError,
    beneath::{Part, see_open},
    content,
    identity::Identity,
    stage::making,
    work::Work,
};
use crate::FileState;

/// How many files are known at once; what comes after is made when it gets its name.
const FILES_MAX: usize = 64;

/// A smaller file is made when it gets its name, in bytes. Tests try it with all sizes.
const FILE_BYTES_MIN: u64 = if cfg!(test) { 1 } else { 1024 * 1024 };

/// After so many runs without anything new a file is not waited for any longer: it will hardly get a name.
const IDLE_RUNS_MAX: u64 = 10_000;

/// Files without a name of which something is, or will not be, in the stage.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    files: BTreeMap<FileId, PreparedFile>,
    runs: u64,
}

#[derive(Debug)]
struct PreparedFile {
    /// The inode in the stage, and the commit whose content it holds; `None`: it is not prepared again.
    made: Option<(Identity, CommitId)>,
    /// The run that touched it last.
    run: u64,
}

impl Prepared {
    /// Returns the names in the stage of all that is prepared.
    pub(super) fn names(&self) -> impl Iterator<Item = Name> {
        self.files.iter().filter(|(_, entry)| entry.made.is_some()).map(|(file, _)| making(*file))
    }

    /// Forgets everything; the stage is to be looked through after it.
    pub(super) fn clear(&mut self) {
        self.files.clear();
    }

    fn set(&mut self, file: FileId, made: Option<(Identity, CommitId)>) {
        self.files.insert(file, PreparedFile { made, run: self.runs });
    }
}

impl Work<'_> {
    /// Prepares large files that were touched and never had a name.
    pub(super) fn prepare_files(&mut self) -> Result<(), LiveError> {
        for file in self.files.keys().copied().collect::<Vec<_>>() {
            match self.prepare(file) {
                Ok(()) => {}
                Err(Fail::Fatal(error)) => return Err(error),
                // It is made when it gets its name; what is wrong is told then.
                Err(_) => self.unprepare(file),
            }
        }
        self.tree.prepared.runs += 1;
        let runs = self.tree.prepared.runs;
        let is_idle = |entry: &PreparedFile| entry.run + IDLE_RUNS_MAX < runs;
        let entries = self.tree.prepared.files.iter();
        let idle = entries.filter(|(_, entry)| is_idle(entry)).map(|(file, _)| *file);
        for file in idle.collect::<Vec<_>>() {
            self.unprepare(file);
            self.tree.prepared.files.remove(&file);
        }
        Ok(())
    }

    /// Makes the file in the stage that is to become `state`, or finishes the one that is there.
    pub(super) fn file_in_stage(&mut self, state: &FileState, name: &Name) -> Result<File, Fail> {
        let entry = self.tree.prepared.files.remove(&state.file);
        if let Some(made) = entry.and_then(|entry| entry.made)
            && let Some(file) = self.finish(state, name, made)?
        {
            return Ok(file);
        }
        let file = self.tree.stage.make_file(Part::from(name))?;
        let bytes = content::fill(&file, state, self.wanted.view(), self.reader)?;
        self.counts().bytes += bytes;
        Ok(file)
    }

    fn prepare(&mut self, file: FileId) -> Result<(), Fail> {
        let entry = self.tree.prepared.files.get(&file);
        let known = entry.is_some();
        if entry.is_some_and(|entry| entry.made.is_none())
            || (!known && self.tree.prepared.files.len() >= FILES_MAX)
        {
            return Ok(());
        }
        let fits = |state: &FileState| {
            state.meta.kind == Kind::File && (known || state.meta.size >= FILE_BYTES_MIN)
        };
        let Some(state) = self.wanted.file(file)?.filter(fits) else { return Ok(()) };
        if self.wanted.had_name(file)? {
            if known {
                // It could not be put there. What is not kept up to date here must not be finished later.
                self.unprepare(file);
            }
            return Ok(());
        }
        let made = self.file_in_stage(&state, &making(file))?;
        let identity = see_open(&made)?.identity;
        let at = self.wanted.at();
        self.tree.prepared.set(file, Some((identity, at)));
        Ok(())
    }

    /// Brings a file of the stage to `state`; `None` where it is not there as it was left.
    fn finish(
        &mut self,
        state: &FileState,
        name: &Name,
        (identity, at): (Identity, CommitId),
    ) -> Result<Option<File>, Fail> {
        let file = match self.tree.stage.file(Part::from(name), true) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let seen = see_open(&file)?;
        if seen.identity != identity {
            return Ok(None);
        }
        // Each run brought it up to date, so it holds what the last one reached.
        let changes = self.wanted.view().body_changes(state, at.max(self.base))?;
        let bytes =
            content::patch(&file, seen.size, state, changes, (self.wanted.view(), self.reader))?;
        self.counts().bytes += bytes;
        Ok(Some(file))
    }

    fn unprepare(&mut self, file: FileId) {
        self.tree.prepared.set(file, None);
        let stage = std::sync::Arc::clone(&self.tree.stage);
        if self.retire(&stage, &making(file)).is_err() {
            self.tree.stage_state.left_something();
        }
    }
}
