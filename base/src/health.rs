//! How sets and links are.
//!
//! A [`SetHealth`] is the state of a set, or of its copy at one destination, with what is known of it. Its word alone is
//! a [`State`], which is what programs read; words and sentences are made of these values where they leave the station,
//! and nothing makes values of sentences. What each state promises, and which of several is told, stands in
//! `docs/admin/status.md`.

use std::{fmt, num::NonZeroU64};

use serde::{Deserialize, Serialize};

use crate::{StationName, counted};

mod problem;

pub use problem::{Part, ProblemKind, SetProblem, StationProblem};

/// The word for how a set is. The order is that of need: what is worse is greater.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Equal: all of the source was read, is durable at the destination, and its live tree shows it.
    InSync,
    /// Everything has arrived but what a person must look at.
    Incomplete,
    /// Changes are on their way.
    Lagging,
    /// Everything is compared, and what differs is sent.
    Mirroring,
    /// Nothing carries the changes that wait, and the journal keeps all of them.
    Queued,
    /// No link carries changes, and the journal keeps none that wait, or not all.
    Disconnected,
    /// A person wants nothing to be sent for now.
    Paused,
    /// The destination takes nothing for a reason that may pass, such as a full disk.
    Waiting,
    /// What was read has arrived, and nobody reads the source now.
    Unverified,
    /// The master sends nothing until a person decides.
    Stopped,
    /// A person must look.
    Alarm,
}

impl State {
    /// Tells whether there is nothing to wait for: what is missing needs a person.
    pub fn has_arrived(self) -> bool {
        matches!(self, Self::InSync | Self::Incomplete)
    }

    /// Tells whether it does not become better unless a person acts.
    pub fn needs_person(self) -> bool {
        match self {
            Self::InSync
            | Self::Lagging
            | Self::Mirroring
            | Self::Queued
            | Self::Disconnected
            | Self::Paused => false,
            Self::Incomplete | Self::Waiting | Self::Unverified | Self::Stopped | Self::Alarm => {
                true
            }
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::InSync => "in-sync",
            Self::Incomplete => "incomplete",
            Self::Lagging => "lagging",
            Self::Mirroring => "mirroring",
            Self::Queued => "queued",
            Self::Disconnected => "disconnected",
            Self::Paused => "paused",
            Self::Waiting => "waiting",
            Self::Unverified => "unverified",
            Self::Stopped => "stopped",
            Self::Alarm => "alarm",
        })
    }
}

/// How a set is on a station, or its copy at one destination; the variants are those of [`State`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SetHealth {
    /// Equal everywhere.
    InSync,
    /// Everything has arrived but for so many problems.
    Incomplete(NonZeroU64),
    /// Something is on its way.
    Lagging(Missing),
    /// Everything is compared.
    Mirroring(MirrorProgress),
    /// Changes wait in the journal for a link.
    Queued(LinkHealth),
    /// There is no link.
    Disconnected(LinkHealth),
    /// A person wants nothing to be sent.
    Paused,
    /// Nothing is taken for now.
    Waiting(Hold),
    /// Nobody reads the source.
    Unverified,
    /// Nothing is sent until a person decides.
    Stopped(Stop),
    /// A person must look.
    Alarm(SetProblem),
}

impl SetHealth {
    /// Returns how a set is that has everything but for so many problems: one is enough to take `in-sync` away.
    pub fn arrived(problems: u64) -> Self {
        NonZeroU64::new(problems).map_or(Self::InSync, Self::Incomplete)
    }

    /// Returns its word.
    pub fn state(&self) -> State {
        match self {
            Self::InSync => State::InSync,
            Self::Incomplete(_) => State::Incomplete,
            Self::Lagging(_) => State::Lagging,
            Self::Mirroring(_) => State::Mirroring,
            Self::Queued(_) => State::Queued,
            Self::Disconnected(_) => State::Disconnected,
            Self::Paused => State::Paused,
            Self::Waiting(_) => State::Waiting,
            Self::Unverified => State::Unverified,
            Self::Stopped(_) => State::Stopped,
            Self::Alarm(_) => State::Alarm,
        }
    }

    /// Returns why it is so, where there is something to say.
    pub fn cause(&self) -> Option<String> {
        match self {
            Self::InSync => None,
            Self::Incomplete(problems) => Some(counted(problems.get(), "problem")),
            Self::Lagging(missing) => Some(missing.to_string()),
            Self::Mirroring(progress) => Some(progress.to_string()),
            Self::Queued(link) | Self::Disconnected(link) => Some(link.to_string()),
            Self::Paused => Some("somebody paused it".to_owned()),
            Self::Waiting(hold) => Some(hold.to_string()),
            Self::Unverified => Some("the source is not read".to_owned()),
            Self::Stopped(stop) => Some(stop.to_string()),
            Self::Alarm(problem) => Some(problem.to_string()),
        }
    }

    /// Returns what kind of problem it is, where a person must act.
    pub fn kind(&self) -> Option<ProblemKind> {
        match self {
            Self::InSync
            | Self::Lagging(_)
            | Self::Mirroring(_)
            | Self::Queued(_)
            | Self::Disconnected(_)
            | Self::Paused => None,
            Self::Incomplete(_) => Some(ProblemKind::Incomplete),
            Self::Waiting(hold) => Some(hold.kind()),
            Self::Unverified => Some(ProblemKind::Unverified),
            Self::Stopped(stop) => Some(stop.kind()),
            Self::Alarm(problem) => Some(problem.kind()),
        }
    }
}

impl fmt::Display for SetHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cause() {
            Some(cause) => write!(f, "{}: {cause}", self.state()),
            None => self.state().fmt(f),
        }
    }
}

/// What a copy of a set lacks that is on its way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Missing {
    /// The source is being compared with what is known of it.
    Scan,
    /// So many names of the source are still to be looked at.
    Looks(u64),
    /// Changes are not durable at the destination yet.
    Changes,
    /// Every change is durable; the live tree does not show all of them.
    LiveTree,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scan => f.write_str("the source is being compared"),
            Self::Looks(1) => f.write_str("1 name of the source is still to be looked at"),
            Self::Looks(n) => write!(f, "{n} names of the source are still to be looked at"),
            Self::Changes => f.write_str("changes are on their way"),
            Self::LiveTree => f.write_str("the live tree does not show everything yet"),
        }
    }
}

/// How far a mirror is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MirrorProgress {
    /// Nobody can tell yet.
    Unknown,
    /// The source is being read first; so many names were found.
    Found(u64),
    /// So much of a hundred is compared or sent.
    Percent(u64),
}

impl MirrorProgress {
    /// Returns how many names were found, where the source is being read.
    pub fn found(self) -> Option<u64> {
        match self {
            Self::Found(found) => Some(found),
            Self::Unknown | Self::Percent(_) => None,
        }
    }

    /// Returns how much of a hundred is done, where that is known.
    pub fn percent(self) -> Option<u64> {
        match self {
            Self::Percent(percent) => Some(percent),
            Self::Unknown | Self::Found(_) => None,
        }
    }
}

impl fmt::Display for MirrorProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Found(_) => "the source is read, to be compared",
            Self::Unknown | Self::Percent(_) => "everything is compared, and what differs is sent",
        })
    }
}

/// How the link to another station is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LinkHealth {
    /// There is one, and it carries changes.
    Up,
    /// There is one, and both ends find out where they agree.
    Greeting,
    /// There is none, for this reason where one is known.
    Away(Option<String>),
}

impl LinkHealth {
    /// Tells whether there is a link, whatever it carries.
    pub fn is_connected(&self) -> bool {
        !matches!(self, Self::Away(_))
    }

    /// Returns why there is no link, where that is known.
    pub fn error(&self) -> Option<&str> {
        match self {
            Self::Away(why) => why.as_deref(),
            Self::Up | Self::Greeting => None,
        }
    }
}

impl fmt::Display for LinkHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "there is a link",
            Self::Greeting => "both stations find out where they agree",
            Self::Away(Some(why)) => why,
            Self::Away(None) => "there is no link",
        })
    }
}

/// Why changes are not taken for now. It ends by itself when the reason does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Hold {
    /// The disk of the set is full.
    DiskFull,
    /// The disk of the set fails: how.
    DiskFails(String),
    /// The destination says so, in its own words.
    Told(String),
}

impl Hold {
    /// Returns what kind of problem it is.
    pub fn kind(&self) -> ProblemKind {
        match self {
            Self::DiskFull => ProblemKind::DiskFull,
            Self::DiskFails(_) => ProblemKind::DiskFails,
            Self::Told(_) => ProblemKind::Waiting,
        }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DiskFull => "disk full",
            Self::DiskFails(why) | Self::Told(why) => why,
        })
    }
}

/// Why a master sends nothing until a person decides.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Stop {
    /// This station tells that another master has taken the set on.
    Fenced(StationName),
    /// The destination has what does not continue the journal: what, and what to do.
    Disagrees(String),
}

impl Stop {
    /// Returns what kind of problem it is.
    pub fn kind(&self) -> ProblemKind {
        match self {
            Self::Fenced(_) => ProblemKind::Fenced,
            Self::Disagrees(_) => ProblemKind::Disagrees,
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fenced(by) => write!(
                f,
                "{by} tells that another master has taken this set on, and this one sends nothing any more; if this one is \
                 to have it: keepshare set mirror SET --take-over"
            ),
            Self::Disagrees(what) => f.write_str(what),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [State; 11] = [
        State::InSync,
        State::Incomplete,
        State::Lagging,
        State::Mirroring,
        State::Queued,
        State::Disconnected,
        State::Paused,
        State::Waiting,
        State::Unverified,
        State::Stopped,
        State::Alarm,
    ];

    /// One unreadable file is enough: who reads `in-sync` deletes the original.
    #[test]
    fn a_set_with_problems_is_not_in_sync() {
        let told = |problems| SetHealth::arrived(problems).to_string();
        assert_eq!(told(0), "in-sync");
        assert_eq!(told(1), "incomplete: 1 problem");
        assert_eq!(told(3), "incomplete: 3 problems");
        let has_arrived = ALL.into_iter().filter(|state| state.has_arrived());
        assert_eq!(has_arrived.collect::<Vec<_>>(), [State::InSync, State::Incomplete]);
    }

    /// A set is told to be as its worst copy is.
    #[test]
    fn what_is_worse_is_greater() {
        assert!(ALL.is_sorted(), "{ALL:?}");
        let needs = ALL.into_iter().filter(|state| state.needs_person()).map(|s| s.to_string());
        let needs: Vec<_> = needs.collect();
        assert_eq!(needs, ["incomplete", "waiting", "unverified", "stopped", "alarm"]);
    }

    /// What a program reads and what a person reads is one word.
    #[test]
    fn a_state_has_one_word() {
        for state in ALL {
            assert_eq!(serde_json::to_string(&state).unwrap(), format!("\"{state}\""));
        }
    }

    /// Whoever must act is told of what kind it is, and nobody else is.
    #[test]
    fn what_needs_a_person_has_a_kind_and_a_cause() {
        for health in [
            SetHealth::InSync,
            SetHealth::arrived(2),
            SetHealth::Lagging(Missing::LiveTree),
            SetHealth::Mirroring(MirrorProgress::Percent(40)),
            SetHealth::Queued(LinkHealth::Away(Some("no route".into()))),
            SetHealth::Disconnected(LinkHealth::Greeting),
            SetHealth::Paused,
            SetHealth::Waiting(Hold::DiskFull),
            SetHealth::Unverified,
            SetHealth::Stopped(Stop::Disagrees("it has more".into())),
            SetHealth::Alarm(SetProblem::StoreFailed("EIO".into())),
        ] {
            let state = health.state();
            assert_eq!(health.kind().is_some(), state.needs_person(), "{state}");
            assert_eq!(health.cause().is_none(), state == State::InSync, "{state}");
        }
    }
}
