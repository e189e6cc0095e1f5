//! Questions about the audit log.

use serde::{Deserialize, Serialize};

use keepshare_base::SetName;

/// Lines of the audit log, oldest first.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AuditShow {
    /// Only of this set.
    #[serde(default)]
    pub set: Option<SetName>,
    /// Only of this user.
    #[serde(default)]
    pub user: Option<String>,
    /// Only what came after this time, as it was typed.
    #[serde(default)]
    pub since: Option<String>,
    /// Only this event.
    #[serde(default)]
    pub event: Option<String>,
    /// How many at most, the newest ones: 1 to [`LIMIT_MAX`](super::LIMIT_MAX).
    pub limit: usize,
}

/// Checks whether the lines of the audit log hang together, and are what other stations keep of them.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AuditVerify {
    /// A head that was kept elsewhere, `COUNT:HASH`.
    #[serde(default)]
    pub head: Option<String>,
}

/// The head of this station's audit log, and those that it keeps: of all other stations, or of the one that asks.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AuditHeads {}
