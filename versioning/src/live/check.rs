//! Comparing a live tree with the index without changing it.

use std::{io, sync::Arc};

use keepshare_base::{CommitId, FileId, Kind, Name, SetPath};

mod scrub;

pub(crate) use scrub::{LiveScrub, LiveStepped};

use super::{
    Fail, LiveError, LiveTree,
    beneath::{Folder, Part, see_open},
    content::{self, Compared},
    names::PAGE_ENTRIES,
};
use crate::{Entry, FileState, ReadError, Reader, View};

/// How many differences are told one by one; the rest is counted.
const DIFFERENCES_MAX: usize = 1000;

/// How many entries are looked at before new commits are followed.
const STEP_ENTRIES: usize = PAGE_ENTRIES;

/// How much content is compared before new commits are followed, in bytes.
const STEP_BYTES: u64 = 64 * 1024 * 1024;

/// How many steps towards the newest commit are taken before others get their turn.
pub(super) const CATCH_UP_STEPS: u32 = 4;

/// How often a file that changes is begun anew, before it is compared without following new commits meanwhile.
const RESTARTS_MAX: u32 = 4;

/// How often what differs is looked at again, with all that came meanwhile applied, before it is told.
const LOOKS_MAX: u32 = 4;

/// One way in which a live tree is not what the index says.
#[derive(Debug)]
pub struct Difference {
    /// Where.
    pub path: SetPath,
    /// In which way.
    pub kind: DifferenceKind,
}

/// How something differs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DifferenceKind {
    /// The index has it, the tree has not.
    #[error("missing")]
    Missing,
    /// The tree has it, the index has not.
    #[error("not of the set")]
    Extra,
    /// It is there, but not the one that was put there.
    #[error("replaced by someone else")]
    Foreign,
    /// Owner, mode, time, or a symlink's target.
    #[error("other attributes")]
    Attributes,
    /// The content, from this byte on.
    #[error("other content from byte {0} on")]
    Content(u64),
    /// It cannot be compared: the file system fails.
    #[error("cannot be read")]
    Io(#[source] io::Error),
    /// It cannot be compared: the store fails.
    #[error("has no content in the store to compare with")]
    Store(#[source] ReadError),
}

/// What a comparison found.
#[derive(Debug, Default)]
pub struct Checked {
    /// The commit that was compared with.
    pub at: CommitId,
    /// How many files, folders and symlinks were looked at.
    pub files: u64,
    /// How many bytes were compared.
    pub bytes: u64,
    /// What differs, up to a thousand.
    pub differences: Vec<Difference>,
    /// How many more differences there are.
    pub more_differences: u64,
}

/// A comparison at work: some entries at a time, so that the tree goes on following commits. Whatever is compared is
/// compared with one commit, and looked at again where it differs.
#[derive(Debug)]
pub struct Checking {
    contents: bool,
    /// How much content is compared in one step, in bytes.
    step_bytes: u64,
    checked: Checked,
    folders: Vec<FileId>,
    /// The folder whose entries are gone through, after which name.
    inside: Option<(FileId, Option<Name>)>,
    large: Option<Large>,
    again: Option<Again>,
}

/// An entry that differs, to be looked at again once the tree is not behind any more.
#[derive(Debug)]
struct Again {
    parent: FileId,
    entry: Entry,
    looks: u32,
}

/// A file whose content is compared in several steps.
#[derive(Debug)]
struct Large {
    parent: FileId,
    entry: Entry,
    commit: CommitId,
    offset: u64,
    restarts: u32,
}

impl Checking {
    /// Begins to compare a tree with the index, with all content where `contents` says so.
    pub fn new(contents: bool) -> Self {
        let (folders, checked) = (vec![FileId::ROOT], Checked::default());
        let step_bytes = STEP_BYTES;
        Self { contents, step_bytes, checked, folders, inside: None, large: None, again: None }
    }

    /// Returns what was found so far.
    pub fn checked(&self) -> &Checked {
        &self.checked
    }

    /// Returns what was found.
    pub fn into_checked(self) -> Checked {
        self.checked
    }
}

impl LiveTree {
    /// Applies what is new and compares the tree with the index, with all content where `contents` says so.
    pub fn check(&mut self, reader: &Reader, contents: bool) -> Result<Checked, LiveError> {
        let mut checking = Checking::new(contents);
        while self.check_step(reader, &mut checking)? {}
        Ok(checking.into_checked())
    }

    /// Applies what is new, as far as that takes a few steps, and goes on with a comparison where the tree has come to the newest
    /// commit; false when that was all.
    pub fn check_step(
        &mut self,
        reader: &Reader,
        checking: &mut Checking,
    ) -> Result<bool, LiveError> {
        let mut steps_left = CATCH_UP_STEPS;
        let Some(view) = self.catch_up(reader, &mut steps_left)? else { return Ok(true) };
        checking.checked.at = view.latest();
        let bytes_left = STEP_BYTES;
        let mut step = Step { tree: self, view, reader, checking, bytes_left, steps_left };
        step.run()
    }
}

struct Step<'a> {
    tree: &'a mut LiveTree,
    /// Its newest commit is what the tree shows.
    view: View,
    reader: &'a Reader,
    checking: &'a mut Checking,
    bytes_left: u64,
    /// How often the tree may be made equal to a newer commit.
    steps_left: u32,
}

impl Step<'_> {
    fn run(&mut self) -> Result<bool, LiveError> {
        if let Some(Again { parent, entry, looks }) = self.checking.again.take() {
            self.entry(parent, entry, looks)?;
        } else if let Some(large) = self.checking.large.take()
            && !self.go_on(large)?
        {
            return Ok(true);
        }
        if self.checking.again.is_some() {
            return Ok(true);
        }
        if self.checking.inside.is_none() {
            let Some(folder) = self.checking.folders.pop() else { return Ok(false) };
            if self.names_there(folder)? {
                self.checking.inside = Some((folder, None));
            }
        }
        self.entries()?;
        let done = self.checking.folders.is_empty()
            && self.checking.inside.is_none()
            && self.checking.large.is_none()
            && self.checking.again.is_none();
        Ok(!done)
    }

    /// Looks for names in a folder that the index does not have; false where the folder cannot be opened, which is told.
    fn names_there(&mut self, id: FileId) -> Result<bool, LiveError> {
        let folder = match self.open(id) {
            Ok(Some(folder)) => folder,
            Ok(None) => return Ok(false),
            Err(fail) => {
                self.differs(id, None, fail)?;
                return Ok(false);
            }
        };
        let mut extra = Vec::new();
        let listed = folder.each(|part| {
            let name = Name::new(part.as_bytes()).ok();
            let is_wanted = match &name {
                Some(name) => self.view.lookup(id, name, CommitId::MAX)?,
                None => None,
            };
            if is_wanted.is_none_or(|(_, kind)| !kind.is_live()) && extra.len() < DIFFERENCES_MAX {
                extra.push(name);
            }
            Ok::<_, Fail>(true)
        });
        if let Err(fail) = listed {
            self.differs(id, None, fail)?;
        }
        for name in extra {
            self.add(id, name.as_ref(), DifferenceKind::Extra)?;
        }
        Ok(true)
    }

    /// Goes through the next entries of a folder.
    fn entries(&mut self) -> Result<(), LiveError> {
        let Some((id, after)) = self.checking.inside.take() else { return Ok(()) };
        let page = self.view.list(id, CommitId::MAX, after.as_ref(), STEP_ENTRIES)?;
        let full = page.len() == STEP_ENTRIES;
        for entry in page {
            let name = entry.name.clone();
            if entry.kind.is_live() {
                self.checking.checked.files += 1;
                self.entry(id, entry, 0)?;
            }
            let is_enough = self.checking.large.is_some() || self.checking.again.is_some();
            if self.bytes_left == 0 || is_enough {
                self.checking.inside = Some((id, Some(name)));
                return Ok(());
            }
            self.checking.inside = full.then_some((id, Some(name)));
        }
        Ok(())
    }

    /// Looks at one entry that was looked at so often before, and again where it differs.
    fn entry(&mut self, id: FileId, entry: Entry, looks: u32) -> Result<(), LiveError> {
        for look in looks + 1.. {
            let found = match self.look(id, &entry) {
                Ok(None) => {
                    if entry.kind == Kind::Dir {
                        self.checking.folders.push(entry.file);
                    }
                    return Ok(());
                }
                Ok(Some(kind)) => kind,
                Err(Fail::Fatal(error)) => return Err(error),
                Err(fail) => kind_of(fail),
            };
            if look == LOOKS_MAX {
                if entry.kind == Kind::Dir && matches!(found, DifferenceKind::Attributes) {
                    // It is the right folder. What is in it is compared all the same.
                    self.checking.folders.push(entry.file);
                }
                return self.add(id, Some(&entry.name), found);
            }
            // What came meanwhile may have changed it.
            let Some(view) = self.tree.catch_up(self.reader, &mut self.steps_left)? else {
                self.checking.again = Some(Again { parent: id, entry, looks: look });
                return Ok(());
            };
            self.view = view;
            let now = self.view.lookup(id, &entry.name, CommitId::MAX)?;
            if now != Some((entry.file, entry.kind)) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn look(&mut self, id: FileId, entry: &Entry) -> Result<Option<DifferenceKind>, Fail> {
        // Where its folder is not, that was told.
        let Some(folder) = self.open(id)? else { return Ok(None) };
        let part = Part::from(&entry.name);
        let Some(seen) = folder.see(part)? else { return Ok(Some(DifferenceKind::Missing)) };
        let known = self.tree.records.file(seen.identity)?;
        if known != Some(entry.file) || seen.kind != entry.kind {
            return Ok(Some(DifferenceKind::Foreign));
        }
        let state = self.view.file(entry.file, CommitId::MAX)?;
        let Some(state) = state else { return Ok(None) };
        if entry.kind == Kind::File
            && let Some(offset) = self.content(&folder, id, entry, &state)?
        {
            return Ok(Some(DifferenceKind::Content(offset)));
        }
        let target_fits =
            entry.kind != Kind::Symlink || folder.read_symlink(part)? == state.meta.symlink;
        let fits = target_fits && self.tree.attributes.fit(&seen, &state.meta);
        Ok((!fits).then_some(DifferenceKind::Attributes))
    }

    /// Returns the first byte that differs. What is too much for one step is gone on with in the next ones.
    fn content(
        &mut self,
        folder: &Folder,
        parent: FileId,
        entry: &Entry,
        state: &FileState,
    ) -> Result<Option<u64>, Fail> {
        let file = folder.file(Part::from(&entry.name), false)?;
        let (size, now) = (state.meta.size, see_open(&file)?.size);
        if now != size {
            return Ok(Some(now.min(size)));
        }
        if !self.checking.contents {
            return Ok(None);
        }
        let from = (&self.view, self.reader);
        let (compared, bytes) = content::compare(&file, state, from, 0..self.bytes_left)?;
        self.count(bytes);
        match compared {
            Compared::Same => Ok(None),
            Compared::Differs(at) => Ok(Some(at)),
            Compared::More(offset) => {
                let (entry, commit) = (entry.clone(), state.commit);
                self.checking.large = Some(Large { parent, entry, commit, offset, restarts: 0 });
                Ok(None)
            }
        }
    }

    /// Goes on with a file that was too much for one step; false when it is too much for this one, too.
    fn go_on(&mut self, mut large: Large) -> Result<bool, LiveError> {
        match self.compare_on(&mut large) {
            Ok(Compared::More(offset)) => {
                large.offset = offset;
                self.checking.large = Some(large);
                Ok(false)
            }
            Ok(Compared::Same) => Ok(true),
            Ok(Compared::Differs(at)) => {
                // Once more from the beginning, as anything that differs.
                tracing::debug!(at, file = %large.entry.file, "other content in the live tree");
                self.bytes_left = u64::MAX;
                self.entry(large.parent, large.entry, 0)?;
                self.bytes_left = self.checking.step_bytes;
                Ok(true)
            }
            Err(Fail::Fatal(error)) => Err(error),
            Err(_) => {
                self.bytes_left = u64::MAX;
                self.entry(large.parent, large.entry, 0)?;
                self.bytes_left = self.checking.step_bytes;
                Ok(true)
            }
        }
    }

    fn compare_on(&mut self, large: &mut Large) -> Result<Compared, Fail> {
        let wanted = self.view.lookup(large.parent, &large.entry.name, CommitId::MAX)?;
        let state = self.view.file(large.entry.file, CommitId::MAX)?;
        let (Some((file, _)), Some(state)) = (wanted, state) else { return Ok(Compared::Same) };
        if file != large.entry.file {
            return Ok(Compared::Same);
        }
        if state.commit != large.commit {
            large.restarts += 1;
            (large.commit, large.offset) = (state.commit, 0);
        }
        let Some(folder) = self.open(large.parent)? else { return Ok(Compared::Same) };
        let file = folder.file(Part::from(&large.entry.name), false)?;
        let end = match large.restarts {
            ..=RESTARTS_MAX => large.offset.saturating_add(self.checking.step_bytes),
            _ => u64::MAX,
        };
        let from = (&self.view, self.reader);
        let part = large.offset..end;
        let (compared, bytes) = content::compare(&file, &state, from, part)?;
        self.count(bytes);
        Ok(compared)
    }

    fn count(&mut self, bytes: u64) {
        self.checking.checked.bytes += bytes;
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
    }

    /// Opens a folder by its path; `None` where it has none any more.
    fn open(&self, id: FileId) -> Result<Option<Arc<Folder>>, Fail> {
        let mut folder = Arc::clone(&self.tree.live);
        if id == FileId::ROOT {
            return Ok(Some(folder));
        }
        let Some(path) = self.view.path_of(id, CommitId::MAX)? else { return Ok(None) };
        for name in path.names() {
            folder = Arc::new(folder.folder(Part::from(name))?);
        }
        Ok(Some(folder))
    }

    fn differs(&mut self, id: FileId, name: Option<&Name>, fail: Fail) -> Result<(), LiveError> {
        match fail {
            Fail::Fatal(error) => Err(error),
            fail => self.add(id, name, kind_of(fail)),
        }
    }

    fn add(
        &mut self,
        parent: FileId,
        name: Option<&Name>,
        kind: DifferenceKind,
    ) -> Result<(), LiveError> {
        let checked = &mut self.checking.checked;
        if checked.differences.len() >= DIFFERENCES_MAX {
            checked.more_differences += 1;
            return Ok(());
        }
        let path = match parent {
            FileId::ROOT => None,
            parent => self.view.path_of(parent, CommitId::MAX)?,
        };
        let path = path.unwrap_or_default();
        let path = name.map_or_else(|| path.clone(), |name| path.join(name.clone()));
        checked.differences.push(Difference { path, kind });
        Ok(())
    }
}

fn kind_of(fail: Fail) -> DifferenceKind {
    match fail {
        Fail::Io(error) => DifferenceKind::Io(error),
        Fail::Content(error) => DifferenceKind::Store(error),
        Fail::NoFolder | Fail::Fatal(_) => DifferenceKind::Missing,
    }
}
