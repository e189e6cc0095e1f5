//! What is said, as JSON.

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

use keepshare_auth::{Login, ResumeSecret, SessionId, SessionInfo, Ticket, UserName};
use keepshare_base::SetName;

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
    /// Where no set is named and there is a choice, the first will do: it is the login that is wanted.
    #[serde(default, skip_serializing_if = "is_false")]
    pub any_set: bool,
    /// The one address from which the drive will be used; the one that asks, where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_address: Option<IpAddr>,
    /// The uid there that will use the drive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_uid: Option<u32>,
    /// All users of the client may use the drive; said instead of a uid.
    #[serde(default)]
    pub shared: bool,
    /// The drive is used from ports that any user of the client may have.
    #[serde(default, skip_serializing_if = "is_false")]
    pub any_port: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_false(flag: &bool) -> bool {
    !flag
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
    /// What opens the API for the user, as a bearer token, and takes the mounted drive to another address. Secret.
    pub resume_secret: String,
    /// From where the drive can be used.
    pub client_address: IpAddr,
    /// The uid there that can use it; none where it is shared.
    pub client_uid: Option<u32>,
    /// All users of the client can use it.
    pub shared: bool,
    /// It can be used from ports that any user of the client may have.
    #[serde(default)]
    pub any_port: bool,
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
            mount_path: mount_path(&ticket),
            ticket,
            expires: login.expires.to_string(),
            resume_secret: login.resume.reveal(),
            client_address: login.binding.address,
            client_uid: login.binding.uid,
            shared: login.binding.uid.is_none(),
            any_port: login.binding.any_port,
            nfs_port: ports.map(|(nfs, _)| nfs),
            mount_port: ports.map(|(_, mount)| mount),
        }
    }

    /// Returns the answer, if it is one to this question, with its secrets and path written anew.
    ///
    /// It becomes a command in a shell and a line of a file: nothing in it may be more than it should be, whatever the
    /// other end is.
    pub fn checked(mut self, asked: &LoginQuestion) -> Option<Self> {
        let set: SetName = self.set.parse().ok()?;
        let user: UserName = self.user.parse().ok()?;
        let is_for_this = user.as_str() == asked.user
            && asked.set.as_deref().is_none_or(|asked| asked == set.as_str())
            && (self.client_uid, self.shared) == (asked.client_uid, asked.shared)
            && self.any_port == asked.any_port
            && asked.client_address.is_none_or(|asked| is_same(asked, self.client_address));
        let is_sound = is_time(&self.expires)
            && self.nfs_port != Some(0)
            && self.mount_port != Some(0)
            && self.nfs_port.is_some() == self.mount_port.is_some();
        self.ticket = Ticket::parse(self.ticket.as_bytes())?.reveal();
        self.mount_path = mount_path(&self.ticket);
        self.resume_secret = ResumeSecret::parse(&self.resume_secret)?.reveal();
        (is_for_this && is_sound).then_some(self)
    }
}

fn mount_path(ticket: &str) -> String {
    format!("/login/{ticket}")
}

fn is_same(one: IpAddr, other: IpAddr) -> bool {
    one.to_canonical() == other.to_canonical()
}

/// Tells whether a text can be a time, and is nothing else in a shell or on a terminal.
fn is_time(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_digit() || "-:.+TZ".contains(c);
    (1..=TIME_BYTES_MAX).contains(&text.len()) && text.chars().all(is_part)
}

/// The longest RFC 3339 time that is taken, in bytes: nanoseconds and an offset fit.
const TIME_BYTES_MAX: usize = 40;

impl fmt::Debug for LoginAnswer {
    /// Leaves the secrets out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("LoginAnswer");
        shown.field("user", &self.user).field("set", &self.set).finish_non_exhaustive()
    }
}

/// `POST /api/v1/resume`: takes a mounted drive to another address.
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

/// A session: an item of `session-list`, and the answer to a resume.
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
    /// It can be used from ports that any user of the client may have.
    #[serde(default)]
    pub any_port: bool,
    /// A drive was mounted with it; else it only opens the API.
    #[serde(default = "yes")]
    pub mounted: bool,
    /// When the drive was mounted, or the login where none was, RFC 3339.
    pub created: String,
    /// When it was used last, RFC 3339.
    pub last_used: String,
    /// When it was ended, RFC 3339.
    pub revoked: Option<String>,
}

/// A station of before told of drives alone.
fn yes() -> bool {
    true
}

impl SessionAnswer {
    /// Returns the answer, if every part of it is what it should be.
    pub fn checked(self) -> Option<Self> {
        self.id.parse::<SessionId>().ok()?;
        self.user.parse::<UserName>().ok()?;
        self.set.parse::<SetName>().ok()?;
        let is_sound = is_time(&self.created)
            && is_time(&self.last_used)
            && self.revoked.as_deref().is_none_or(is_time)
            && self.shared == self.client_uid.is_none();
        is_sound.then_some(self)
    }
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
            any_port: info.any_port,
            mounted: info.mounted,
            created: info.created.to_string(),
            last_used: info.last_used.to_string(),
            revoked: info.revoked.map(|at| at.to_string()),
        }
    }
}

/// What to do where a station has no set for a user.
pub const NO_SET_HINT: &str =
    "a drive shows a set that this station receives: keepshare set add on its master";

/// What comes instead of an answer.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ErrorAnswer {
    /// What is wrong.
    pub error: String,
    /// What to do about it.
    #[serde(default)]
    pub hint: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> LoginQuestion {
        LoginQuestion {
            user: "anna".to_owned(),
            password: "correct horse".to_owned(),
            set: None,
            any_set: false,
            client_address: None,
            client_uid: Some(501),
            shared: false,
            any_port: false,
        }
    }

    fn answer() -> LoginAnswer {
        LoginAnswer {
            user: "anna".to_owned(),
            set: "office".to_owned(),
            ticket: "0123456789abcdef".repeat(2),
            mount_path: "/login/".to_owned() + &"0123456789abcdef".repeat(2),
            expires: "2026-11-20T15:32:07.123456Z".to_owned(),
            resume_secret: "0123456789abcdef".repeat(4),
            client_address: "10.0.0.1".parse().unwrap(),
            client_uid: Some(501),
            shared: false,
            any_port: false,
            nfs_port: Some(2049),
            mount_port: Some(2049),
        }
    }

    /// What a station answers ends in a shell, on a terminal and in a file: it must be what was asked for and no more.
    #[test]
    fn an_answer_that_would_do_more_is_refused() {
        assert!(answer().checked(&asked()).is_some());
        let spoils: [fn(&mut LoginAnswer); 15] = [
            |a| a.user = "anna\x1b]0;x\x07".to_owned(),
            |a| a.user = "ben".to_owned(),
            |a| a.set = "office; reboot #".to_owned(),
            |a| a.set = "office\nben@other:7443 x".to_owned(),
            |a| a.ticket = "x".to_owned(),
            |a| a.ticket = format!("{}\n", &a.ticket[1..]),
            |a| a.expires = "now\x1b[31m".to_owned(),
            |a| a.expires = "1".repeat(1 << 20),
            |a| a.resume_secret = "zz\nline".to_owned(),
            |a| a.client_uid = Some(0),
            |a| (a.client_uid, a.shared) = (None, true),
            |a| a.nfs_port = Some(0),
            |a| a.mount_port = None,
            |a| a.shared = true,
            |a| a.any_port = true,
        ];
        for (n, spoil) in spoils.into_iter().enumerate() {
            let mut spoilt = answer();
            spoil(&mut spoilt);
            assert!(spoilt.checked(&asked()).is_none(), "spoil {n} was taken");
        }
        let mut other = answer();
        other.mount_path = "/x /mnt; reboot #".to_owned();
        assert_eq!(other.checked(&asked()).unwrap().mount_path, answer().mount_path);
        let set = LoginQuestion { set: Some("mail".to_owned()), ..asked() };
        assert!(answer().checked(&set).is_none(), "another set than was asked for");
    }

    #[test]
    fn a_session_that_would_do_more_is_refused() {
        let sound = || SessionAnswer {
            id: "0123456789abcdef".to_owned(),
            user: "anna".to_owned(),
            set: "office".to_owned(),
            client_address: "10.0.0.1".parse().unwrap(),
            client_uid: None,
            shared: true,
            any_port: false,
            mounted: true,
            created: "2026-11-20T15:32:07Z".to_owned(),
            last_used: "2026-11-20T15:32:07Z".to_owned(),
            revoked: None,
        };
        assert!(sound().checked().is_some());
        for spoilt in [
            SessionAnswer { id: "\x1b[2J".to_owned(), ..sound() },
            SessionAnswer { user: "a\x1b[2J".to_owned(), ..sound() },
            SessionAnswer { set: "a\x1b[2J".to_owned(), ..sound() },
            SessionAnswer { created: "\x1b[2J".to_owned(), ..sound() },
            SessionAnswer { revoked: Some("\x1b[2J".to_owned()), ..sound() },
        ] {
            assert!(spoilt.clone().checked().is_none(), "{spoilt:?} was taken");
        }
    }
}
