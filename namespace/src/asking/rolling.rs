//! What of a folder somebody may have rolled back: each thing takes the rights of a single restore, now and then.
//!
//! The plan asks, and so does whoever does a step of it later: both get their answers here, and those of a single restore come from
//! the same place ([`crate::restore`]).

use keepshare_base::{CommitId, FileId, Kind, Meta};
use keepshare_versioning::{
    FileState, ReadError,
    rollback::{Asked, Doing, Judge, PlanError, Planned, StateOf, Step, Wanted},
};

use crate::{
    AskError, Asking, Denial, Who,
    guard::Time,
    question::Question,
    restore::{is_own, make_own},
    rights::{Rights, Want},
};

/// A plan of somebody.
#[derive(Clone, Copy, Debug)]
pub struct PlannedBack {
    /// The newest commit that it saw.
    pub seen: CommitId,
    /// How many things are as they were.
    pub unchanged: u64,
}

/// Where a step is done, as it is found when its turn has come.
#[derive(Clone, Copy, Debug)]
pub struct StepPlace {
    /// The folder of its path.
    pub folder: FileId,
    /// The folder that it leads to, of what is moved or linked.
    pub to: Option<FileId>,
    /// What stands at its path, where a step before it put that there.
    pub made: Option<FileId>,
}

/// Why a step is not somebody's to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// Whoever ordered it may not do it, or not any more.
    #[error("you may not change it")]
    NotYours,
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] ReadError),
}

impl Asking<'_> {
    /// Tells what is to be done so that a folder is what is wanted, as far as whoever asks may see and do it.
    pub fn plan_back(
        &self,
        wanted: &Wanted,
        take: &mut dyn FnMut(Planned),
    ) -> Result<PlannedBack, PlanError> {
        let ask = self.question().map_err(|denial| store_error(denial, FileId::ROOT))?;
        let above = wanted.path.split_last().map(|(above, _)| above);
        if let (Who::User(user), Some(above)) = (ask.who, &above) {
            if !user.may_write {
                return Err(PlanError::ReadOnly);
            }
            ask.living_at(above).map_err(|error| match error {
                AskError::Store(error) => error.into(),
                _ => PlanError::NoFolder(above.clone()),
            })?;
        }
        let unchanged = ask.view.plan_back(wanted, &Rightful(&ask), take)?;
        Ok(PlannedBack { seen: ask.view.latest(), unchanged })
    }

    /// Returns the attributes that a step gives to what it is about, which has those of `state`: as far as whoever asks may give them,
    /// and where they may do the step at all.
    pub fn may_do(
        &self,
        step: &Step,
        StepPlace { folder, to, made }: StepPlace,
        state: &FileState,
    ) -> Result<Meta, StepError> {
        let store_error = |denial| store_error(denial, state.file);
        let ask = self.question().map_err(store_error)?;
        let Who::User(user) = ask.who else { return Ok(state.meta.clone()) };
        let judge = Rightful(&ask);
        let linked = made.filter(|_| matches!(step.doing, Doing::Link { .. }));
        let linked = linked.map(|file| Asked::Linked { file });
        for asked in step.doing.asks(Some(folder), to).into_iter().chain(linked) {
            if !judge.may(asked)? {
                return Err(StepError::NotYours);
            }
        }
        if !user.may_write {
            return Err(StepError::NotYours);
        }
        let mut state = state.clone();
        let name = step.path.names().last();
        match (&step.doing, name) {
            (Doing::Write { over: Some(over), .. }, _)
            | (Doing::SetAttributes { over: Some(over), .. }, _) => {
                ask.limit_over(user, &mut state, over.file.file).map_err(store_error)?;
            }
            (Doing::SetAttributes { over: None, .. }, _) => {
                let made = made.ok_or(StepError::NotYours)?;
                ask.limit_over(user, &mut state, made).map_err(store_error)?;
            }
            (Doing::Write { over: None, .. }, Some(name)) => {
                ask.limit_new(user, &mut state, (folder, name)).map_err(store_error)?;
            }
            (Doing::Make { .. }, Some(name)) => {
                let file = state.file;
                // What was made at a first try does not count: a repeat makes the same.
                if !ask.was_last_at(file, (folder, name)).map_err(store_error)? {
                    make_own(user, &mut state.meta);
                }
                own_where_shut(Who::User(user), &mut state.meta);
            }
            _ => {}
        }
        Ok(state.meta)
    }
}

/// Makes a folder the user's in which they might put nothing as it was: what is in it comes back, too.
fn own_where_shut(who: Who<'_>, meta: &mut Meta) {
    let Who::User(user) = who else { return };
    let rights = Rights::of(meta);
    let is_open =
        [Want::Read, Want::Write, Want::Search].iter().all(|want| rights.allow(who, *want));
    if meta.kind == Kind::Dir && !is_open {
        make_own(user, meta);
        meta.mode |= 0o700;
    }
}

/// Answers with the rights of whoever asks a question.
struct Rightful<'q, 'a>(&'q Question<'a>);

impl Judge for Rightful<'_, '_> {
    fn may(&self, asked: Asked<'_>) -> Result<bool, ReadError> {
        let Who::User(_) = self.0.who else { return Ok(true) };
        self.0.forget_ways();
        match self.answer(asked) {
            Err(Denial::Store(error)) => Err(error),
            // What cannot be told is not.
            Err(_) => Ok(false),
            Ok(may) => Ok(may),
        }
    }
}

impl Rightful<'_, '_> {
    fn answer(&self, asked: Asked<'_>) -> Result<bool, Denial> {
        let ask = self.0;
        match asked {
            Asked::Seen { file, at: CommitId::MAX, .. } => ask.may_see_now(file),
            Asked::Seen { file, at, state } => ask.may_see_then((file, at), state),
            Asked::Listed { folder, at: CommitId::MAX } => {
                Ok(ask.may_now(folder, Want::Read)? && ask.passes(folder, Time::Now)?)
            }
            Asked::Listed { folder, at } => {
                let then = (folder, at);
                Ok(ask.passes(folder, Time::Now)?
                    && ask.may_folder(FileId::ROOT, then, Want::Read)?
                    && ask.may_folder(FileId::ROOT, then, Want::Search)?)
            }
            Asked::Read { file } => ask.may_see_now(file),
            Asked::Named { folder } => ask.may_put(folder, None),
            Asked::Unnamed { folder, file } => {
                Ok(ask.may_put(folder, None)? && ask.may_take(folder, file)?)
            }
            Asked::Written { folder, file } => ask.may_put(folder, Some(file)),
            Asked::Attributes { file, what } => ask.may_give(file, what),
            Asked::Linked { file } => ask.may_link(file),
            Asked::Carried { file } => {
                let rights = ask.rights_now(file)?;
                Ok(rights.is_some_and(|rights| {
                    rights.kind() != Kind::Dir || rights.allow(ask.who, Want::Write)
                }))
            }
        }
    }
}

impl Question<'_> {
    /// Tells whether a thing, or what it held last, may be seen.
    fn may_see_now(&self, file: FileId) -> Result<bool, Denial> {
        let Some(rights) = self.rights_now(file)? else { return Ok(false) };
        self.may_now(file, Want::to_see(rights.kind()))
    }

    /// Tells whether a thing may be seen as it was at a commit, whether or not that is kept; or an older state in its stead.
    fn may_see_then(
        &self,
        (file, at): (FileId, CommitId),
        state: Option<&FileState>,
    ) -> Result<bool, Denial> {
        let Some((commit, meta)) = self.view.meta(file, at)? else { return Ok(false) };
        let want = Want::to_see(meta.kind);
        if !self.may_now(file, want)?
            || !self.lets_through(FileId::ROOT, at)?
            || !self.may_then(file, &meta, at, want)?
        {
            return Ok(false);
        }
        match state.filter(|state| state.commit != commit) {
            Some(older) => match self.then(older)? {
                Some(then) => self.may_then(file, &older.meta, then, want),
                None => Ok(false),
            },
            None => Ok(true),
        }
    }

    /// Tells whether a name in a folder that the user may write is theirs to take from what has it.
    fn may_take(&self, folder: FileId, file: FileId) -> Result<bool, Denial> {
        let Who::User(user) = self.who else { return Ok(true) };
        let (Some(around), Some(thing)) = (self.rights_now(folder)?, self.rights_now(file)?) else {
            return Ok(false);
        };
        Ok(!around.is_sticky() || around.is_of(user) || thing.is_of(user))
    }

    /// Tells whether a thing's attributes are the user's to give, and those of a state theirs to bring back.
    fn may_give(&self, file: FileId, what: StateOf) -> Result<bool, Denial> {
        let Who::User(user) = self.who else { return Ok(true) };
        let now = self.view.meta(file, CommitId::MAX)?;
        let then = self.view.state_of(what)?;
        let is_own = now.zip(then).is_some_and(|((_, now), then)| is_own(user, &then.meta, &now));
        Ok(is_own && self.is_reached_now(file)?)
    }

    /// Tells whether the user may give a file another name: it is theirs, or they may read and write it, as Linux has it
    /// (`protected_hardlinks` in `proc_sys_fs(5)`).
    fn may_link(&self, file: FileId) -> Result<bool, Denial> {
        let Who::User(user) = self.who else { return Ok(true) };
        let Some(rights) = self.rights_now(file)? else { return Ok(false) };
        let may = |want| rights.allow(self.who, want);
        Ok((rights.is_of(user) || (may(Want::Read) && may(Want::Write)))
            && self.is_reached_now(file)?)
    }
}

/// Says of what stands in a question's way that the store cannot be read, or what was asked for is not there any more.
fn store_error(denial: Denial, file: FileId) -> ReadError {
    match denial {
        Denial::Store(error) => error,
        _ => ReadError::Gone { file },
    }
}
