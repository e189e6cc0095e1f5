//! What is said, as JSON.

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

use keepshare_auth::{Login, SessionInfo};

/// `POST /api/v1/login`: asks for a ticket.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LoginQuestion {
    /// The user's name.
    pub user: String,
    /// The password.
    pub password: String,
    /// What is to be mounted; may be left out where there is no choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<String>,
    /// The one address from which the drive will be used; the one that asks, where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_address: Option<IpAddr>,
    /// The uid there that will use the drive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_uid: Option<u32>,
    /// All users of the client may use the drive; said instead of a uid.
    #[serde(default)]
    pub shared: bool,
}

impl fmt::Debug for LoginQuestion {
    /// Leaves the password out, and the name, which may be one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginQuestion").field("set", &self.set).finish_non_exhaustive()
    }
}

/// The answer to a login.
#[derive(Clone, Deserialize, Serialize)]
pub struct LoginAnswer {
    /// Who logged in.
    pub user: String,
    /// What will be mounted.
    pub set: String,
    /// What the mount takes, once. Secret.
    pub ticket: String,
    /// What is mounted: `/login/` and the ticket. Secret.
    pub mount_path: String,
    /// Until when it can be, RFC 3339.
    pub expires: String,
    /// What takes the mounted drive to another address later. Secret.
    pub resume_secret: String,
    /// From where the drive can be used.
    pub client_address: IpAddr,
    /// The uid there that can use it; none where it is shared.
    pub client_uid: Option<u32>,
    /// All users of the client can use it.
    pub shared: bool,
    /// The port of the drive; none where the station serves none.
    pub nfs_port: Option<u16>,
    /// The port of its mounts.
    pub mount_port: Option<u16>,
}

impl LoginAnswer {
    /// Puts the answer together, with the ports of the drive and of its mounts.
    pub fn new(login: &Login, ports: Option<(u16, u16)>) -> Self {
        let ticket = login.ticket.reveal();
        Self {
            user: login.user.to_string(),
            set: login.set.to_string(),
            mount_path: format!("/login/{ticket}"),
            ticket,
            expires: login.expires.to_string(),
            resume_secret: login.resume.reveal(),
            client_address: login.client_address,
            client_uid: login.client_uid,
            shared: login.client_uid.is_none(),
            nfs_port: ports.map(|(nfs, _)| nfs),
            mount_port: ports.map(|(_, mount)| mount),
        }
    }
}

impl fmt::Debug for LoginAnswer {
    /// Leaves the secrets out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("LoginAnswer");
        shown.field("user", &self.user).field("set", &self.set).finish_non_exhaustive()
    }
}

/// `POST /api/v1/sessions/resume`: takes a mounted drive to another address.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ResumeQuestion {
    /// The secret that the login gave.
    pub resume_secret: String,
    /// The address from which the drive will be used; the one that asks, where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_address: Option<IpAddr>,
}

impl fmt::Debug for ResumeQuestion {
    /// Leaves the secret out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = &self.client_address;
        f.debug_struct("ResumeQuestion").field("client_address", address).finish_non_exhaustive()
    }
}

/// A session: an item of `GET /api/v1/sessions`, and the answer to a resume.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SessionAnswer {
    /// Its number.
    pub id: String,
    /// Whose it is.
    pub user: String,
    /// What was mounted.
    pub set: String,
    /// From where it can be used.
    pub client_address: IpAddr,
    /// The uid there that can use it; none where it is shared.
    pub client_uid: Option<u32>,
    /// All users of the client can use it.
    pub shared: bool,
    /// When the drive was mounted, RFC 3339.
    pub created: String,
    /// When it was used last, RFC 3339.
    pub last_used: String,
    /// When it was ended, RFC 3339.
    pub revoked: Option<String>,
}

impl From<SessionInfo> for SessionAnswer {
    fn from(info: SessionInfo) -> Self {
        Self {
            id: info.id.to_string(),
            user: info.user.to_string(),
            set: info.set.to_string(),
            client_address: info.address,
            client_uid: info.client_uid,
            shared: info.client_uid.is_none(),
            created: info.created.to_string(),
            last_used: info.last_used.to_string(),
            revoked: info.revoked.map(|at| at.to_string()),
        }
    }
}

/// What comes instead of an answer.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ErrorAnswer {
    /// What is wrong.
    pub error: String,
    /// What to do about it.
    #[serde(default)]
    pub hint: Option<String>,
}
