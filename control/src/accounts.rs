//! What is said about users and sessions.

use serde::{Deserialize, Serialize};

use keepshare_auth::{HostRange, HostSession, User, UserSets};
use keepshare_base::SetName;

use crate::login::SessionAnswer;

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
