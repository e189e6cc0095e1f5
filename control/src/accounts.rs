//! What is said about users and sessions.

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

use keepshare_auth::{HostRange, HostSession, User, UserSets};
use keepshare_base::SetName;

use crate::login::SessionAnswer;

/// What can be asked about users and sessions.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountRequest {
    /// A new user: one [`UserInfo`].
    UserAdd {
        /// Who.
        user: UserInfo,
        /// With which password.
        password: Secret,
    },
    /// All users: [`UserInfo`]s.
    UserList,
    /// Removes a user: one [`Ended`].
    UserRemove {
        /// Who.
        name: String,
        /// Only say what would end.
        dry_run: bool,
    },
    /// Changes a password: one [`Ended`].
    UserPassword {
        /// Whose.
        name: String,
        /// The new one.
        password: Secret,
    },
    /// All sessions: [`AnySession`]s.
    SessionList,
    /// A host session: one [`HostInfo`].
    SessionGrant {
        /// Which machines.
        host: HostRange,
        /// What they may mount.
        set: SetName,
        /// They may have old versions restored.
        may_write: bool,
        /// Calls from ports that any of their users may have are taken too.
        any_port: bool,
    },
    /// Ends sessions: one [`Ended`].
    SessionRevoke {
        /// Which.
        which: Which,
        /// Only say what would end.
        dry_run: bool,
    },
    /// A ticket: one [`crate::login::LoginAnswer`].
    Login {
        /// Who.
        user: String,
        /// With which password.
        password: Secret,
        /// What is to be mounted.
        set: Option<SetName>,
        /// From where alone the drive will be used.
        client_address: IpAddr,
        /// Which uid there will use it; none for all.
        client_uid: Option<u32>,
        /// Calls from ports that any user there may have are taken too.
        any_port: bool,
    },
}

/// Which sessions are meant.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Which {
    /// The one with this number.
    Session(String),
    /// All of a user.
    User(String),
}

/// A user, as `--json` prints one.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct UserInfo {
    /// The name.
    pub name: String,
    /// The number under which the user owns files.
    pub uid: u32,
    /// The number of the first group.
    pub gid: u32,
    /// The numbers of all further groups.
    pub groups: Vec<u32>,
    /// The user may have old versions restored.
    pub may_write: bool,
    /// The sets that the user may mount; none for all.
    pub sets: Option<Vec<SetName>>,
}

impl From<User> for UserInfo {
    fn from(user: User) -> Self {
        let User { name, uid, gid, groups, may_write, sets, .. } = user;
        let sets = match sets {
            UserSets::All => None,
            UserSets::Only(sets) => Some(sets),
        };
        Self { name: name.to_string(), uid, gid, groups, may_write, sets }
    }
}

/// A session, as `--json` prints one: that of a login, or of machines that are trusted.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(untagged)]
pub enum AnySession {
    /// A user logged in.
    Login(SessionAnswer),
    /// Machines are trusted; it alone has a `host`.
    Host(HostInfo),
}

/// A host session, as `--json` prints one.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct HostInfo {
    /// Its number.
    pub id: String,
    /// Which machines.
    pub host: HostRange,
    /// What they may mount.
    pub set: SetName,
    /// They may have old versions restored.
    pub may_write: bool,
    /// Calls from ports that any of their users may have are taken too.
    #[serde(default)]
    pub any_port: bool,
    /// When it was granted, RFC 3339.
    pub created: String,
}

impl From<HostSession> for HostInfo {
    fn from(session: HostSession) -> Self {
        let HostSession { id, range, set, may_write, any_port, created } = session;
        let (id, created) = (id.to_string(), created.to_string());
        Self { id, host: range, set, may_write, any_port, created }
    }
}

/// What ended, or would.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Ended {
    /// How many sessions.
    pub sessions_ended: usize,
    /// Nothing was done.
    pub dry_run: bool,
}

/// A text that is never shown.
#[derive(Clone, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}
