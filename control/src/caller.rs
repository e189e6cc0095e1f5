//! Who asks, and who may ask what.

use std::{net::IpAddr, sync::Arc};

use keepshare_auth::{Principal, SessionId, UserSets};
use keepshare_base::{SetName, StationName};

/// Who asks a question. The way in makes one from what it has checked; no part of it comes from the question.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Caller {
    /// Whoever may do anything with this station: asks on its Unix socket.
    Admin {
        /// The number of the account, as the kernel tells it.
        uid: u32,
    },
    /// A user who logged in.
    User(User),
    /// A station of the cluster, by its certificate. It may read of what it masters itself, and change nothing.
    Member(StationName),
}

/// A user who logged in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct User {
    /// As rights are judged.
    pub principal: Arc<Principal>,
    /// The sets that the user may see.
    pub sets: UserSets,
    /// The login that the question was asked with.
    pub session: SessionId,
    /// From where the question comes.
    pub address: IpAddr,
}

/// Who may ask a question besides admins, who may ask them all.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Callers {
    /// Nobody else.
    Admins,
    /// Users.
    Users,
    /// Members.
    Members,
    /// Users and members.
    All,
}

impl Callers {
    /// Tells whether `caller` is among them.
    pub fn include(self, caller: &Caller) -> bool {
        match caller {
            Caller::Admin { .. } => true,
            Caller::User(_) => matches!(self, Self::Users | Self::All),
            Caller::Member(_) => matches!(self, Self::Members | Self::All),
        }
    }

    /// Returns the word for them in the documentation.
    pub fn word(self) -> &'static str {
        match self {
            Self::Admins => "admins",
            Self::Users => "admins, users",
            Self::Members => "admins, members",
            Self::All => "admins, users, members",
        }
    }
}

impl Caller {
    /// Tells whether the caller may know that there is such a set. What a member masters, the station that answers knows.
    pub fn may_know(&self, set: &SetName) -> bool {
        match self {
            Self::Admin { .. } | Self::Member(_) => true,
            Self::User(user) => user.sets.allow(set),
        }
    }
}
