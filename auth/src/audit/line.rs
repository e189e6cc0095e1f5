//! What stands in a line of the audit log.

use std::net::IpAddr;

use serde::Serialize;

use keepshare_base::{SetName, Stamp};

use crate::{SessionId, UserName};

/// The longest reason, and the longest question, in bytes.
const REASON_BYTES_MAX: usize = 500;

/// What happened.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum AuditEvent {
    /// A password was shown.
    Login,
    /// A ticket was shown, or a set was asked for by its name.
    Mount,
    /// A session was given another address.
    Resume,
    /// A session was ended.
    Revoke,
    /// Machines were trusted: a host session was granted.
    SessionGrant,
    /// A session ended because it was not used, or because there were too many.
    SessionEnded,
    /// A user was added.
    UserAdd,
    /// A user was removed.
    UserRemove,
    /// A user's password was changed.
    UserPassword,
    /// An old version was to be brought back in place.
    Restore,
    /// Old versions were written out, to a folder of whoever asked.
    Export,
    /// Versions of a set were to be kept by another policy.
    RetentionSet,
    /// A plan was to be applied: versions were to be removed.
    RetentionApply,
    /// Removed versions were to be brought back.
    RetentionUndo,
    /// A point was to be made.
    PointCreate,
    /// Points were to be made every so often, or no more.
    PointEvery,
    /// A point was to be held.
    PointHold,
    /// A point was to be held no longer.
    PointRelease,
    /// A point was to go.
    PointRemove,
    /// A point was found good or bad.
    PointMark,
    /// An alarm was closed.
    AlarmClose,
    /// From how much on there are alarms was said.
    AlarmSet,
    /// A folder was ordered to be rolled back.
    Rollback,
    /// A roll-back was ended.
    RollbackStop,
    /// Everything was to be looked at for damage, at once.
    ScrubNow,
    /// It was to be looked for damage no more, for now.
    ScrubPause,
    /// It was to be looked for damage again.
    ScrubResume,
    /// What makes the station this station was given out.
    StationBackup,
    /// The station was brought back from a backup.
    StationRestored,
    /// The log itself: what stood behind its last whole line was cut, or lines could not be written.
    AuditTorn,
}

impl AuditEvent {
    /// All of them, as they are written.
    pub const NAMES: &[&str] = &[
        "login",
        "mount",
        "resume",
        "revoke",
        "session-grant",
        "session-ended",
        "user-add",
        "user-remove",
        "user-password",
        "restore",
        "export",
        "retention-set",
        "retention-apply",
        "retention-undo",
        "point-create",
        "point-every",
        "point-hold",
        "point-release",
        "point-remove",
        "point-mark",
        "alarm-close",
        "alarm-set",
        "rollback",
        "rollback-stop",
        "scrub-now",
        "scrub-pause",
        "scrub-resume",
        "station-backup",
        "station-restored",
        "audit-torn",
    ];
}

/// A line of the audit log.
#[derive(Clone, Debug, Serialize)]
pub struct AuditLine {
    time: String,
    pub(super) event: AuditEvent,
    pub(super) ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<String>,
    /// An address of the network, or `local`: the Unix socket of the station itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    set: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// What was asked for, in the words of the command.
    #[serde(skip_serializing_if = "Option::is_none")]
    asked: Option<String>,
    /// What came of it, where there is more to say than that it was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<String>,
    /// Lines of this event before this one that were not written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unwritten: Option<u64>,
    #[serde(skip)]
    pub(super) at: Stamp,
    /// It shares its room with those of all others: whoever causes it may take any name.
    #[serde(skip)]
    pub(super) is_of_all: bool,
}

impl AuditLine {
    /// Says that something was done.
    pub fn done(at: Stamp, event: AuditEvent) -> Self {
        Self {
            time: at.to_string(),
            event,
            ok: true,
            reason: None,
            user: None,
            address: None,
            set: None,
            session: None,
            path: None,
            version: None,
            asked: None,
            result: None,
            unwritten: None,
            at,
            is_of_all: false,
        }
    }

    /// Says that something was refused, and why.
    pub fn refused(at: Stamp, event: AuditEvent, reason: impl ToString) -> Self {
        Self { ok: false, ..Self::done(at, event).because(reason) }
    }

    /// Adds why.
    #[must_use]
    pub fn because(mut self, reason: impl ToString) -> Self {
        self.reason = Some(shortened(reason));
        self
    }

    /// Lets the line share its room with those of all others.
    #[must_use]
    pub(crate) fn at_most_now_and_then(mut self) -> Self {
        self.is_of_all = true;
        self
    }

    /// Adds who.
    #[must_use]
    pub fn user(mut self, user: &UserName) -> Self {
        self.user = Some(user.to_string());
        self
    }

    /// Adds in whose name a door asked, as [`crate::Principal::user`] has it.
    #[must_use]
    pub fn principal(mut self, name: &str) -> Self {
        self.user = Some(name.to_owned());
        self
    }

    /// Adds from where.
    #[must_use]
    pub fn address(mut self, address: IpAddr) -> Self {
        self.address = Some(address.to_canonical().to_string());
        self
    }

    /// Says that it was asked on the station itself, over its Unix socket.
    #[must_use]
    pub fn local(mut self) -> Self {
        self.address = Some("local".to_owned());
        self
    }

    /// Adds where in the set.
    #[must_use]
    pub fn path(mut self, path: impl ToString) -> Self {
        self.path = Some(path.to_string());
        self
    }

    /// Adds which version, as it can be typed.
    #[must_use]
    pub fn version(mut self, version: impl ToString) -> Self {
        self.version = Some(version.to_string());
        self
    }

    /// Adds what was asked for.
    #[must_use]
    pub fn asked(mut self, asked: impl ToString) -> Self {
        self.asked = Some(shortened(asked));
        self
    }

    /// Adds what came of it.
    #[must_use]
    pub fn result(mut self, result: impl ToString) -> Self {
        self.result = Some(result.to_string());
        self
    }

    /// Adds the set.
    #[must_use]
    pub fn set(mut self, set: &SetName) -> Self {
        self.set = Some(set.to_string());
        self
    }

    /// Adds the session.
    #[must_use]
    pub fn session(mut self, session: SessionId) -> Self {
        self.session = Some(session.to_string());
        self
    }
}

fn shortened(text: impl ToString) -> String {
    let mut text = text.to_string();
    while text.len() > REASON_BYTES_MAX {
        text.pop();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who types an event that does not exist is told which there are.
    #[test]
    fn every_event_is_listed() {
        let name = |event| serde_json::to_value(event).unwrap();
        assert!(AuditEvent::NAMES.iter().any(|known| name(AuditEvent::AuditTorn) == *known));
        for event in [AuditEvent::Login, AuditEvent::StationRestored, AuditEvent::StationBackup] {
            assert!(AuditEvent::NAMES.iter().any(|known| name(event) == *known));
        }
    }
}
