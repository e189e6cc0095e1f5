//! One run of making a live tree equal to the index.
//!
//! In this order: find out where things are (survey), make room (evict), put names in place from the root down, bring
//! content up to date, set folders' times, forget and remove what is gone. A failure concerns one name or one file; it
//! is told, remembered, and the rest goes on.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use keepshare_base::{CommitId, FileId, Name, SetPath};

use super::{
    Applied, Counts, Fail, LiveError, LiveTree, PROBLEMS_MAX, PURGE_ENTRIES_MAX, Problem,
    ProblemCause, attributes::LeftOut, beneath::Folder, records::Retries, wanted::Wanted,
};
use crate::{ReadError, Reader, Touched, View};

/// How many folders wait for their times to be set, before that is done for all.
const FOLDERS_MAX: usize = 10_000;

/// How many files whose attributes were left out are remembered.
const LEFT_OUT_MAX: usize = 10_000;

/// A place where an inode is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Spot {
    /// In the live tree.
    Live(FileId, Name),
    /// In the stage.
    Stage(Name),
}

/// What failed.
#[derive(Clone, Debug)]
pub(super) enum About {
    /// A name.
    Name(FileId, Name),
    /// A file's content or attributes.
    File(FileId),
}

/// One run over a live tree.
#[derive(Debug)]
pub(super) struct Work<'a> {
    pub(super) tree: &'a mut LiveTree,
    pub(super) reader: &'a Reader,
    pub(super) wanted: Wanted,
    /// The commit that files with a known inode hold.
    pub(super) base: CommitId,
    /// Names that may not be what they should.
    pub(super) touched: BTreeSet<(FileId, Name)>,
    /// Names that failed before and are not tried again now: what stands there may be of use elsewhere.
    pub(super) left_alone: BTreeSet<(FileId, Name)>,
    /// Files whose content may not be, and since when.
    pub(super) files: BTreeMap<FileId, CommitId>,
    /// The whole tree is compared: folders of which nothing is known are where the index has them.
    pub(super) everything: bool,
    /// Where things with touched names are.
    pub(super) places: HashMap<FileId, Vec<Spot>>,
    /// Folders held open.
    pub(super) open: HashMap<FileId, Arc<Folder>>,
    /// Folders whose children have to be put in place.
    pub(super) fill: Vec<FileId>,
    /// Names that were found in adopted folders and must stand for nothing there.
    pub(super) surplus: Vec<(FileId, Name)>,
    /// Folders whose attributes have to be set when all else is done.
    pub(super) folders: BTreeSet<FileId>,
    /// Files that are wanted nowhere, and where they were.
    pub(super) gone: Vec<(FileId, Spot)>,
    pub(super) retries: Retries,
    /// Attributes that the file system did not take, told at the end.
    left_out: BTreeMap<FileId, LeftOut>,
    pub(super) applied: Applied,
}

impl<'a> Work<'a> {
    /// Prepares a run to the commit of `wanted`.
    pub(super) fn new(tree: &'a mut LiveTree, reader: &'a Reader, wanted: Wanted) -> Self {
        let applied = Applied { reached: wanted.at(), ..Applied::default() };
        Self {
            base: tree.reached,
            tree,
            reader,
            wanted,
            touched: BTreeSet::new(),
            left_alone: BTreeSet::new(),
            files: BTreeMap::new(),
            everything: false,
            places: HashMap::new(),
            open: HashMap::new(),
            fill: Vec::new(),
            surplus: Vec::new(),
            folders: BTreeSet::new(),
            gone: Vec::new(),
            retries: Retries::default(),
            left_out: BTreeMap::new(),
            applied,
        }
    }

    /// Does it all; returns what is to be tried again.
    pub(super) fn run(
        mut self,
        touched: Touched,
        retry: bool,
    ) -> Result<(Applied, Retries, View), LiveError> {
        if matches!(touched, Touched::Everything) {
            // It is not told which of them were touched.
            self.tree.drop_prepared();
        }
        self.survey_stage()?;
        match touched {
            Touched::Known { names, files } => self.follow(names, files, retry)?,
            Touched::Everything => self.compare_all()?,
        }
        self.settle()?;
        self.set_folders(true)?;
        self.forget_gone()?;
        self.tell_left_out()?;
        self.applied.more_to_remove = self.purge(PURGE_ENTRIES_MAX)?;
        Ok((self.applied, self.retries, self.wanted.into_view()))
    }

    /// Brings up to date what is known to be touched.
    fn follow(
        &mut self,
        names: Vec<(FileId, Name)>,
        files: Vec<FileId>,
        retry: bool,
    ) -> Result<(), LiveError> {
        // Should this end early, they are still to be tried.
        let failed = self.tree.retries.clone();
        self.touched.extend(names);
        for file in files {
            let since = failed.files.get(&file).copied().unwrap_or(self.base);
            self.files.insert(file, since);
        }
        if retry {
            self.touched.extend(failed.names);
            self.files.extend(failed.files);
        } else {
            self.left_alone = failed.names.clone();
            self.retries = failed;
        }
        for file in self.files.keys().copied().collect::<Vec<_>>() {
            self.touched.extend(self.wanted.names(file)?);
        }
        if self.tree.redo {
            // A run that was cut off may have changed their times.
            self.folders.extend(self.touched.iter().map(|(parent, _)| *parent));
        }
        self.survey()?;
        let mut left = self.evict()?;
        self.put_names()?;
        left.append(&mut self.surplus);
        self.evict_left(left)?;
        self.refresh_files()?;
        self.prepare_files()
    }

    /// Sets the attributes of folders in which something was done, now that their times stay.
    fn set_folders(&mut self, all_are_there: bool) -> Result<(), LiveError> {
        for folder in std::mem::take(&mut self.folders) {
            match self.set_folder(folder) {
                Err(Fail::NoFolder) if !all_are_there => {
                    self.folders.insert(folder);
                }
                result => self.note(result, || About::File(folder))?,
            }
        }
        Ok(())
    }

    /// Tells whether what stands at a name may not be what stood there at the last run's end.
    pub(super) fn is_uncertain(&self, at: &(FileId, Name)) -> bool {
        self.touched.contains(at) || self.left_alone.contains(at)
    }

    /// Remembers to set a folder's attributes at the end.
    pub(super) fn folder_changed(&mut self, folder: FileId) -> Result<(), LiveError> {
        self.folders.insert(folder);
        if self.folders.len() > FOLDERS_MAX { self.set_folders(false) } else { Ok(()) }
    }

    /// Takes a failure of one name or file as a problem; only what makes all work pointless goes on as an error.
    pub(super) fn note(
        &mut self,
        result: Result<(), Fail>,
        about: impl FnOnce() -> About,
    ) -> Result<(), LiveError> {
        let cause = match result {
            Ok(()) => return Ok(()),
            Err(Fail::Fatal(error)) => return Err(error),
            // A newer commit has replaced this state: the next run brings that.
            Err(Fail::Content(ReadError::Gone { .. } | ReadError::Expired { .. }))
                if !self.is_newest() =>
            {
                None
            }
            Err(Fail::Content(ReadError::Gone { .. })) => None,
            Err(Fail::Content(error)) => Some(ProblemCause::Content(error)),
            Err(Fail::Io(error)) => Some(ProblemCause::Io(error)),
            Err(Fail::NoFolder) => Some(ProblemCause::NoFolder),
        };
        let about = about();
        match &about {
            About::Name(parent, name) => self.retries.add_name(*parent, name.clone()),
            About::File(file) => {
                let since = self.files.get(file).copied().unwrap_or(self.base);
                if !self.retries.add_file(*file, since) {
                    // Too many to remember: it counts as not there, and is built again.
                    self.tree.records.forget(*file)?;
                }
            }
        }
        if let Some(cause) = cause {
            self.report(&about, cause)?;
        }
        Ok(())
    }

    /// Tells whether this run leads to the newest commit there is.
    fn is_newest(&self) -> bool {
        self.wanted.at() >= self.wanted.view().latest()
    }

    /// Remembers attributes that the file system did not take. Content and name are as they should be.
    pub(super) fn note_left_out(&mut self, file: FileId, left: LeftOut) {
        if left.is_empty() {
            self.left_out.remove(&file);
        } else if self.left_out.len() < LEFT_OUT_MAX || self.left_out.contains_key(&file) {
            self.left_out.insert(file, left);
        } else {
            self.applied.more_problems += 1;
        }
    }

    /// Tells of the attributes that were left out, and has them tried again; what is too much for that is tried when the
    /// file is touched.
    fn tell_left_out(&mut self) -> Result<(), LiveError> {
        for (file, left) in std::mem::take(&mut self.left_out) {
            if self.retries.files.len() < LEFT_OUT_MAX {
                // The content is as it should be.
                self.retries.add_file(file, self.wanted.at());
            }
            self.report(&About::File(file), ProblemCause::Attributes(left))?;
        }
        Ok(())
    }

    /// Tells of a problem.
    pub(super) fn report(&mut self, about: &About, cause: ProblemCause) -> Result<(), LiveError> {
        if self.applied.problems.len() >= PROBLEMS_MAX {
            self.applied.more_problems += 1;
            return Ok(());
        }
        let (path, file) = match about {
            About::Name(parent, name) => {
                let path = self.path_of(*parent)?.map(|path| path.join(name.clone()));
                (path, self.wanted.name(*parent, name)?.map(|(file, _)| file))
            }
            About::File(file) => (self.path_of(*file)?, Some(*file)),
        };
        self.applied.problems.push(Arc::new(Problem { path, file, cause }));
        Ok(())
    }

    /// Returns what the run has done so far.
    pub(super) fn counts(&mut self) -> &mut Counts {
        &mut self.applied.counts
    }

    fn path_of(&self, file: FileId) -> Result<Option<SetPath>, LiveError> {
        if file == FileId::ROOT {
            return Ok(Some(SetPath::default()));
        }
        Ok(self.wanted.view().path_of(file, self.wanted.at())?)
    }

    fn set_folder(&mut self, folder: FileId) -> Result<(), Fail> {
        if self.wanted.depth(folder)?.is_none() {
            return Ok(());
        }
        let Some(state) = self.wanted.file(folder)? else { return Ok(()) };
        let open = self.open_there(folder)?;
        self.set_attributes(open.descriptor(), &state)
    }

    /// Forgets files that are wanted nowhere; one that could not be removed is still known for what it is.
    fn forget_gone(&mut self) -> Result<(), LiveError> {
        let gone = std::mem::take(&mut self.gone);
        let mut left = BTreeSet::new();
        for (file, spot) in &gone {
            let is_there = self.is_at(*file, spot);
            // Another of its names may be one that could not be emptied.
            let is_there = is_there.and_then(|there| Ok(there || self.is_elsewhere(*file, spot)?));
            match is_there {
                Ok(false) => {}
                Err(Fail::Fatal(error)) => return Err(error),
                Ok(true) | Err(_) => {
                    left.insert(*file);
                }
            }
        }
        for (file, _) in gone {
            if !left.contains(&file) {
                self.tree.records.forget(file)?;
            }
        }
        Ok(())
    }
}
