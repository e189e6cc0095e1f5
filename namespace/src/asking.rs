//! Questions about a set by path: what a path was at some time, its versions, what it held, where a name is.
//!
//! The rules are those of nodes: what a user may not see by a handle is not there by path either, and is answered as what
//! never was. It is left out before anything is counted, so that limits and suggestions say nothing of it. Answers are
//! plain values and errors are types; words for people are made by whoever asks.
//!
//! What may be long is given out bit by bit, and every bit is read through a short view of the index: whoever takes it
//! slowly pins nothing, and rights that end meanwhile end the answer.

mod error;
mod find;
mod near;
mod pattern;
mod restore;
mod rolling;
mod show;
mod then;
mod told;
mod versions;

use std::path::PathBuf;

use chrono_tz::Tz;

use keepshare_base::{
    CommitId, ContentHash, Kind, Meta, Name, RestoreGround, SetName, SetPath, Stamp,
};
use keepshare_versioning::{
    Ended, FileState, NamesFrom, PointInfo, ReadError, Reader, when::Moment,
};

use crate::{Denial, Share, ShareConfig, ShareId, Show, Who, question::Question};

pub use error::{AskError, Interrupted};
pub use find::Sought;
pub use pattern::{Pattern, PatternError};
pub use rolling::{PlannedBack, StepError, StepPlace};

/// Somebody's questions to a set.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    share: &'a Share,
    who: Who<'a>,
    now: Stamp,
}

impl Share {
    /// Returns a share that no door serves: it is asked by path alone.
    pub fn asked_by_path(set: SetName, reader: Reader, zone: Tz) -> Self {
        // Numbers of shares, keys and folders are for doors; no door's share has this number.
        let (id, key, room) = (ShareId(0), [0; 32], PathBuf::new());
        Self::new(ShareConfig { id, set, reader, zone, show: Show::Never, key, room })
    }

    /// Lets somebody ask by path; `now` is when.
    pub fn ask<'a>(&'a self, who: Who<'a>, now: Stamp) -> Asking<'a> {
        Asking { share: self, who, now }
    }
}

impl<'a> Asking<'a> {
    /// Returns the versions of what is or was at `path`, newest first; after those of a folder, the last one of each name
    /// that it held and holds no more.
    pub fn versions(&self, path: &SetPath, limit: usize) -> Result<Vec<PathVersion>, AskError> {
        self.question()?.versions(path, limit)
    }

    /// Returns the points of the set, oldest first; to whoever may not list its first folder none.
    pub fn points(&self) -> Result<Vec<PointInfo>, AskError> {
        self.question()?.points_told()
    }

    /// Returns what `path` was at the time that was typed.
    pub fn at(&self, path: &SetPath, typed: &str) -> Result<PathThen, AskError> {
        self.question()?.at(path, typed)
    }

    /// Returns the version that `path` had at the time that was typed, as it may be written back there now.
    pub fn restorable(&self, path: &SetPath, typed: &str) -> Result<Restorable, AskError> {
        self.question()?.restorable_at(path, typed)
    }

    /// Returns a question to the set as it is now, which is held no longer than the index is read.
    fn question(&self) -> Result<Question<'a>, Denial> {
        Question::new(&self.share.inner, self.who, self.now)
    }
}

/// What a path was at some time.
#[derive(Clone, Debug)]
pub struct PathThen {
    /// The file's state then.
    pub state: FileState,
    /// Then: what is below a folder is looked up at this commit.
    pub commit: CommitId,
    /// What it is called; `None` for the whole set.
    pub name: Option<Name>,
}

/// One version of what a path holds or held.
#[derive(Clone, Debug)]
pub struct PathVersion {
    /// The file at that version.
    pub state: FileState,
    /// The path by which it was known then.
    pub path: SetPath,
    /// Until when its name held it, and what ended that; `None` where it has not ended.
    pub until: Option<(Stamp, Ended)>,
    /// Whether the path holds exactly this now.
    pub current: bool,
}

/// A version that may be written back at a live path.
#[derive(Clone, Debug)]
pub struct Restorable {
    /// What.
    pub state: FileState,
    /// What was there when it was allowed, and must still be; `None` where an admin wants it, whatever is there.
    pub ground: Option<RestoreGround>,
}

/// A name that was looked for.
#[derive(Clone, Debug)]
pub struct FoundPath {
    /// Where it is, or was.
    pub path: SetPath,
    /// What kind of thing it is.
    pub kind: Kind,
    /// Its attributes; `None` where the user may read the name and know no more of it.
    pub meta: Option<Meta>,
    /// When it went, and how; `None` where it is there.
    pub gone: Option<(Stamp, Ended)>,
    /// How many versions of its path the user may read, 1000 at most.
    pub versions: usize,
    /// When it came to be what it is, or went; `None` where the user may not know.
    pub changed: Option<Stamp>,
    /// Who did that, where it is known.
    pub user: Option<String>,
    /// Where to look for more.
    pub next: NamesFrom,
}

/// One thing on its way out; its content follows where that is [`Content::Follows`].
#[derive(Debug)]
pub struct Shown {
    /// Its path, beginning with the name of what was asked for; empty for the whole set.
    pub path: Vec<Name>,
    /// Its attributes.
    pub meta: Meta,
    /// Its id, where it is a version.
    pub version: Option<Moment>,
    /// The hash of its content, where it is known.
    pub hash: Option<ContentHash>,
    /// Where its content is.
    pub content: Content,
    /// What there is instead of a version, where its content is none yet.
    pub uncut: Option<Uncut>,
}

/// Where the content of something shown is.
#[derive(Debug)]
pub enum Content {
    /// It comes next; all that is no file has none. After a listing, and where entries alone are wanted, it is not told.
    Follows,
    /// It came under another name.
    SameAs(Vec<Name>),
    /// It does not come.
    Missing(Missing),
}

/// Why content does not come.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    /// The file had no version then.
    #[error("it was being written then, and had no version yet")]
    Unfinished,
    /// The folder may be gone through, and not be listed.
    #[error("you may not list this folder")]
    NotListable,
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(ReadError),
}

/// What is given out of everything below a folder.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exported {
    /// Entries, each with its content.
    Content,
    /// Entries alone.
    Entries,
}

/// Content that is no version yet.
#[derive(Clone, Copy, Debug)]
pub struct Uncut {
    /// The last version of what has this name; `None` where it has none.
    pub last_version: Option<Moment>,
}

/// Takes a long answer, in order.
pub trait Taker {
    /// Why no more of it is taken.
    type Error;

    /// Takes the next thing.
    fn shown(&mut self, shown: Shown) -> Result<(), Self::Error>;

    /// Takes more content of the last file.
    fn content(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;
}
