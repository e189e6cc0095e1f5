//! Who asks.

use std::{fmt, sync::Arc};

use keepshare_auth::Principal;
use keepshare_base::SetName;

/// Who asks, and so what may be told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Who<'a> {
    /// Somebody who runs the station, who may see and do everything.
    Admin,
    /// A user, who may what the rights of files and folders say.
    User(&'a Principal),
}

impl Who<'_> {
    /// Tells whether everything may be told.
    pub(crate) fn is_admin(self) -> bool {
        matches!(self, Self::Admin)
    }

    /// Tells whether files may be changed at all.
    pub(crate) fn may_write(self) -> bool {
        match self {
            Self::Admin => true,
            Self::User(user) => user.may_write,
        }
    }
}

impl<'a> From<&'a Principal> for Who<'a> {
    fn from(user: &'a Principal) -> Self {
        Self::User(user)
    }
}

/// Knows who somebody is by now who ordered what goes on for long.
pub trait Logins: Send + Sync + fmt::Debug {
    /// Returns whose login this is, as rights are judged now; `None` where it has ended, or may not see the set any more.
    fn principal(&self, session: u64, set: &SetName) -> Option<Arc<Principal>>;
}
