//! Rolling a folder back: what differs from then, and what is to be done about it, step by step.
//!
//! Everything is judged by file id. What the folder held then comes back to where it was: written where its content differs,
//! moved where it is elsewhere inside, made anew where it is gone, copied where it was moved out. What came in from elsewhere
//! stays; what was made since goes, but only where its present state is a version. An undo is the same with another
//! [`Wanted::base`]: only what is as it was left is touched.
//!
//! A plan reads one view; its memory grows with the folders that are looked through and with what differs, not with what they
//! hold. Nothing is done here: each [`Step`] says what must still be there, and whoever does it looks.

use std::collections::{HashMap, HashSet};

use keepshare_base::{
    CommitId, DEPTH_MAX, FileId, Kind, Meta, Name, PresentFile, SetPath, VersionId,
};

use crate::{FileState, ReadError, View};

mod back;
mod deleted;
mod judge;
mod made_since;
mod making;
mod places;
mod step;

pub use judge::{Anything, Asked, Judge};
pub use step::{Doing, Left, Planned, Present, StateOf, Step, Why};

use places::Places;

/// How many names are read at once.
const PAGE: usize = 512;

/// What is wanted of a folder.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Which.
    pub path: SetPath,
    /// What comes back.
    pub back: Back,
    /// Only what is as it was then is touched; [`CommitId::MAX`]: as it is now.
    pub base: CommitId,
    /// Only these are touched, where it is said which, and only what holds what it held at that commit.
    pub only: Option<HashMap<FileId, CommitId>>,
    /// Files that have names outside of the folder, too, are written all the same.
    pub links: bool,
}

/// What comes back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Back {
    /// All of the folder, as it was at a commit.
    To {
        /// The commit.
        at: CommitId,
        /// It is a point's, which has of each file the last state that was a version at it.
        is_point: bool,
    },
    /// A folder as it was at a commit, made anew where nothing is: a copy.
    Anew {
        /// Which folder.
        of: FileId,
        /// The commit.
        at: CommitId,
    },
    /// What was deleted in it after a commit, as it was when it went; nothing else changes.
    Deleted {
        /// The commit.
        since: CommitId,
    },
}

/// Why a folder cannot be rolled back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The index cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// There was nothing then.
    #[error("it was not there then")]
    NotThere,
    /// It was no folder then.
    #[error("it was no folder then")]
    NotAFolder(Kind),
    /// It is no folder now.
    #[error("it is no folder now")]
    InTheWay,
    /// The folder it was in is not there now.
    #[error("the folder it was in is not there")]
    NoFolder(SetPath),
    /// Its names may not be read, now or as they were.
    #[error("its names may not be read")]
    NotListed,
    /// Whoever orders it may change nothing.
    #[error("nothing may be changed")]
    ReadOnly,
}

impl View {
    /// Tells what is to be done so that a folder is what is wanted, in the order in which it is to be done, and returns how many
    /// things are as they were.
    ///
    /// What the judge does not let be seen is left, and neither told nor counted; what may be seen and not done is told as left.
    pub fn plan_back(
        &self,
        wanted: &Wanted,
        judge: &dyn Judge,
        take: &mut dyn FnMut(Planned),
    ) -> Result<u64, PlanError> {
        let mut plan = Plan::new((self, judge), wanted, take)?;
        match wanted.back {
            Back::To { at, is_point } => plan.roll_back(at, is_point)?,
            Back::Anew { of, at } => plan.bring_anew(of, at)?,
            Back::Deleted { since } => plan.bring_deleted(since)?,
        }
        plan.settle_attributes()?;
        Ok(plan.unchanged)
    }

    /// Returns the state of a file that a step means; `None` where it is not kept any more.
    pub fn state_of(&self, of: StateOf) -> Result<Option<FileState>, ReadError> {
        let found = self.file(of.file, of.commit)?;
        Ok(found.filter(|state| state.commit == of.commit && !state.expired))
    }
}

/// A plan in the making.
struct Plan<'a> {
    view: &'a View,
    judge: &'a dyn Judge,
    wanted: &'a Wanted,
    take: &'a mut dyn FnMut(Planned),
    places: Places<'a>,
    /// The folder as it was then, and when; `None` where only what was deleted comes back.
    was: Option<(FileId, CommitId)>,
    /// Folders that were there then, outermost first: what they were, and where they are when all is done.
    folders: Vec<FolderBack>,
    /// Folders in which a step changes a name.
    touched: HashSet<Folder>,
    /// What is written in the folder that is gone through: after all that moves in it, so that the one and the other go together.
    later: Vec<(Folder, Name, Doing)>,
    /// Where things are that came back, but for what has one name and had it then.
    settled: HashSet<Place>,
    /// What was made since and takes the place of something.
    adopted: HashSet<FileId>,
    /// Files whose content a step writes, under whichever name, and what it writes.
    linked: HashMap<FileId, FileState>,
    /// Files that had several names, and where a step brings each back first.
    written: HashMap<FileId, Place>,
    unchanged: u64,
}

/// A folder as steps know it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Folder {
    /// One that is there now.
    Known(FileId),
    /// The one that was made by a step: where it is in the list of those.
    Made(usize),
}

/// A folder and a name in it.
type Place = (Folder, Name);

/// A folder that comes back.
struct FolderBack {
    state: FileState,
    folder: Folder,
    path: SetPath,
}

impl<'a> Plan<'a> {
    fn new(
        (view, judge): (&'a View, &'a dyn Judge),
        wanted: &'a Wanted,
        take: &'a mut dyn FnMut(Planned),
    ) -> Result<Self, PlanError> {
        let now = view.resolve(&wanted.path, CommitId::MAX)?;
        let root = match now {
            Some((file, Kind::Dir)) => Some(file),
            Some(_) => return Err(PlanError::InTheWay),
            None => None,
        };
        let places = Places::new(view, root);
        let (folders, touched, settled, adopted, linked, written) = Default::default();
        let (was, later, unchanged) = (None, Vec::new(), 0);
        Ok(Self {
            view,
            judge,
            wanted,
            take,
            places,
            was,
            folders,
            touched,
            later,
            settled,
            adopted,
            linked,
            written,
            unchanged,
        })
    }

    fn step(&mut self, path: SetPath, folder: Folder, doing: Doing) {
        self.touched.insert(folder);
        let step = Step { path, folder: folder.known(), doing };
        (self.take)(Planned::Step(step));
    }

    /// Has something done when all that moves in the folder has moved.
    fn step_later(&mut self, place: Place, doing: Doing) {
        self.touched.insert(place.0);
        self.later.push((place.0, place.1, doing));
    }

    /// Has done what comes after all that moves, where it is by then.
    fn do_later(&mut self) -> Result<(), PlanError> {
        for (folder, name, doing) in std::mem::take(&mut self.later) {
            if let Some(above) = self.places.path(folder)? {
                self.step(above.join(name), folder, doing);
            }
        }
        Ok(())
    }

    /// Tells whether a thing may be told of as it was at a commit.
    fn sees(&self, file: FileId, at: CommitId) -> Result<bool, ReadError> {
        self.judge.may(Asked::Seen { file, at, state: None })
    }

    /// Tells whether the names of a folder may be read as they were at a commit.
    fn lists(&self, folder: FileId, at: CommitId) -> Result<bool, ReadError> {
        self.judge.may(Asked::Listed { folder, at })
    }

    /// Tells whether the names of a folder may be read as they are; those of one that a step makes are there by then.
    fn lists_now(&self, folder: Folder) -> Result<bool, ReadError> {
        folder.known().map_or(Ok(true), |folder| self.lists(folder, CommitId::MAX))
    }

    /// Tells whether the path of something in a folder may be told: whether the names of that folder may be read as they are, and those
    /// of all on the way to it.
    fn tells_way(&self, folder: Folder) -> Result<bool, ReadError> {
        let mut at = folder;
        for _ in 0..=DEPTH_MAX {
            let Folder::Known(file) = at else { return Ok(true) };
            if !self.lists(file, CommitId::MAX)? {
                return Ok(false);
            }
            if file == FileId::ROOT || Some(file) == self.places.root() {
                return Ok(true);
            }
            match self.places.of(file)?.into_iter().next() {
                Some((above, _)) => at = above,
                None => return Ok(false),
            }
        }
        Ok(false)
    }

    /// Tells whether something may be done in a folder.
    fn may(&self, folder: Folder, doing: &Doing) -> Result<bool, ReadError> {
        let to = match doing {
            Doing::Move { folder, .. } | Doing::Link { folder, .. } => *folder,
            _ => None,
        };
        for asked in doing.asks(folder.known(), to) {
            if !self.judge.may(asked)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn left(&mut self, path: SetPath, why: Why) {
        (self.take)(Planned::Left(Left { path, why }));
    }

    /// Tells whether a file is what and where it was at the base.
    fn is_as_at_base(&self, file: FileId, kind: Kind) -> Result<bool, ReadError> {
        let base = self.wanted.base;
        let held = match &self.wanted.only {
            Some(only) => match only.get(&file) {
                Some(held) => *held,
                None => return Ok(false),
            },
            None => base,
        };
        let latest = self.view.latest();
        if base < latest && self.view.links(file, base)? != self.view.links(file, CommitId::MAX)? {
            return Ok(false);
        }
        // Folders change with what is in them.
        Ok(kind == Kind::Dir || held >= latest || self.holds_what_it_held(file, held)?)
    }

    /// Tells whether a file is what it was at a commit, though it may have been something else in between.
    fn holds_what_it_held(&self, file: FileId, at: CommitId) -> Result<bool, ReadError> {
        let (then, now) = (self.view.meta(file, at)?, self.view.meta(file, CommitId::MAX)?);
        let (Some((then, _)), Some((now, _))) = (then, now) else { return Ok(false) };
        if then == now {
            return Ok(true);
        }
        // Retention may have removed that very state: an older one tells nothing.
        let was = self.view.file(file, at)?.filter(|was| was.commit == then);
        let is = self.present(file)?.filter(|is| is.commit == now);
        Ok(was.zip(is).is_some_and(|(was, is)| is_same(&was, &is)))
    }

    /// Tells whether a folder has the attributes that it had at the base, and is one that may be touched.
    fn has_rights_of_base(&self, now: &FileState) -> Result<bool, ReadError> {
        if !self.is_as_at_base(now.file, Kind::Dir)? {
            return Ok(false);
        }
        let then = self.view.meta(now.file, self.wanted.base)?;
        Ok(then.is_none_or(|(_, then)| has_same_rights(&then, &now.meta)))
    }

    /// Returns what stands for a file by now: what a step wrote, where one did.
    fn stands(&self, now: &FileState) -> Present {
        let Some(written) = self.linked.get(&now.file) else { return Present::new(now) };
        let file = PresentFile::new(now.file, &written.meta);
        Present { file, still: None, version: VersionId(now.position) }
    }

    /// Returns what stands for a file when the next step is done that does not wait for what moves in the folder: what is written in it
    /// is not there yet.
    fn stands_by_now(&self, now: &FileState) -> Present {
        let is_it = |doing: &Doing| matches!(doing, Doing::Write { over: Some(over), .. } if over.file.file == now.file);
        match self.later.iter().any(|(_, _, doing)| is_it(doing)) {
            true => Present::new(now),
            false => self.stands(now),
        }
    }

    /// Returns what a folder of now was then: only the one that is rolled back may have been another.
    fn parent_then(&self, folder: FileId) -> FileId {
        match self.was {
            Some((was, _)) if Some(folder) == self.places.root() => was,
            _ => folder,
        }
    }

    /// Returns what stands for a file now.
    fn present(&self, file: FileId) -> Result<Option<FileState>, ReadError> {
        self.view.file(file, CommitId::MAX)
    }

    /// Gives folders the attributes they had, innermost first: what is done in them changes their times.
    fn settle_attributes(&mut self) -> Result<(), PlanError> {
        for FolderBack { state, folder, path } in
            std::mem::take(&mut self.folders).into_iter().rev()
        {
            let now = match folder {
                Folder::Known(file) => self.present(file)?,
                Folder::Made(_) => None,
            };
            let differs = now.as_ref().is_some_and(|now| !has_same_rights(&now.meta, &state.meta));
            let has_other_time = now.as_ref().is_some_and(|now| now.meta.mtime != state.meta.mtime);
            if !differs && !has_other_time && !self.touched.contains(&folder) {
                continue;
            }
            if let Some(now) = &now
                && (differs || !self.touched.contains(&folder))
                && !self.has_rights_of_base(now)?
            {
                if differs {
                    self.left(path, Why::Changed);
                }
                continue;
            }
            let over = now.as_ref().map(Present::new);
            let doing = Doing::SetAttributes { what: StateOf::new(&state), over, differs };
            if !self.may(folder, &doing)? {
                // What is done in it gives it another time, which is its owner's alone to set.
                if differs {
                    self.left(path, Why::NotYours);
                }
                continue;
            }
            let parent = path.split_last().map(|(above, _)| self.places.folder_at(&above));
            let folder = parent.transpose()?.flatten();
            (self.take)(Planned::Step(Step { path, folder, doing }));
        }
        Ok(())
    }
}

impl Folder {
    fn known(self) -> Option<FileId> {
        match self {
            Self::Known(file) => Some(file),
            Self::Made(_) => None,
        }
    }
}

/// The bits of a mode that are brought back: a master gives nothing of before the power to act as somebody else.
const MODE_BITS: u32 = 0o1777;

/// Tells whether two have the same attributes but for times and content, and what is not brought back.
fn has_same_rights(one: &Meta, other: &Meta) -> bool {
    let of = |meta: &Meta| {
        (
            meta.mode & MODE_BITS,
            meta.owner.id,
            meta.group.id,
            meta.symlink.clone(),
            meta.xattrs.clone(),
        )
    };
    of(one) == of(other)
}

/// Tells whether one state holds what another does, attributes and content.
fn is_same(one: &FileState, other: &FileState) -> bool {
    if one.commit == other.commit && one.file == other.file {
        return true;
    }
    holds_the_same(one, other)
        && one.meta.mtime == other.meta.mtime
        && has_same_rights(&one.meta, &other.meta)
}

/// Tells whether one state has the content of another.
fn holds_the_same(one: &FileState, other: &FileState) -> bool {
    match one.meta.kind {
        Kind::File => {
            one.meta.size == other.meta.size && one.hash.is_some() && one.hash == other.hash
        }
        _ => true,
    }
}

/// Returns a name that says what is under it beside its own, at most as long as names may be.
fn marked(name: &Name, mark: &str) -> Name {
    let room = keepshare_base::NAME_BYTES_MAX - mark.len();
    let bytes = name.as_bytes();
    let mut end = bytes.len().min(room);
    // Not in the middle of a character of UTF-8.
    while end > 0 && end < bytes.len() && bytes[end] & 0xC0 == 0x80 {
        end -= 1;
    }
    Name::new(&[&bytes[..end], mark.as_bytes()].concat()).unwrap_or_else(|_| name.clone())
}
