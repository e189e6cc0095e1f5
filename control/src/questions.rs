//! What can be asked, each question once: its name, who may ask it, whether it changes anything, what comes back.
//!
//! A question is `POST /api/v1/NAME` with its fields as JSON; the answer is a stream of items. The Unix
//! socket, the HTTPS door and the links of stations take the same questions, from different callers
//! ([`crate::caller`]). `docs/formats/control.md` describes them all.

use std::{fmt, net::IpAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use keepshare_auth::HostRange;
use keepshare_base::{SetName, StationAddress, StationName};

use crate::{
    accounts::{AnySession, Ended, HostInfo, UserInfo},
    alarms::{AlarmInfo, AlarmRule},
    answers::{
        FoundName, FsckReport, MemberStatus, Restored, SetStatus, ShownEntry, StatusReport,
        TokenInfo, VersionInfo,
    },
    audit::{AuditEntry, AuditHead, AuditReport},
    backup::BackedUp,
    caller::Callers,
    login::LoginAnswer,
    points::{PointInfo, PointMade, PointSaid, PointTimeInfo},
    question::{Listed, Question},
    retention::{Applied, PlanPiece, PlannedVersion, RetentionInfo, Undone},
    rollback::RolledBack,
    scrub::ScrubInfo,
};

pub use auditing::*;
pub use finding::*;
pub use keeping::*;
pub use rolling::*;
pub use scrubbing::*;

mod auditing;
mod finding;
mod keeping;
mod rolling;
mod scrubbing;

/// Lists the questions: makes each a [`Question`], and puts the router and the trait of whoever answers together from
/// the same list, so that none can be forgotten.
macro_rules! questions {
    ($($name:literal $question:ident => $item:ty, $callers:ident $effect:ident;)*) => {
        $(
            impl Question for $question {
                type Item = $item;
                const NAME: &'static str = $name;
                const CALLERS: Callers = Callers::$callers;
                const CHANGES: bool = questions!(@changes $effect);
            }
        )*

        /// All questions.
        pub const ALL: &[Listed] = &[$(
            Listed { name: $name, callers: Callers::$callers, changes: questions!(@changes $effect) },
        )*];

        /// Whoever answers all questions.
        pub trait Station: Send + Sync + 'static $(+ crate::router::Answers<$question>)* {}

        impl<S: Send + Sync + 'static $(+ crate::router::Answers<$question>)*> Station for S {}

        /// Returns what answers all questions; each request needs a [`crate::router::Asked`] among its extensions.
        pub fn router<S: Station>(station: std::sync::Arc<S>) -> axum::Router {
            let router = axum::Router::new()$(.route(
                concat!("/api/v1/", $name),
                axum::routing::post(crate::router::answer::<S, $question>),
            ))*;
            router.with_state(crate::router::shared(station))
        }
    };
    (@changes reads) => { false };
    (@changes changes) => { true };
}

questions! {
    "status" Status => StatusReport, Admins reads;
    "zone" Zone => String, All reads;
    "versions" Versions => VersionInfo, All reads;
    "show" Show => ShownEntry, All reads;
    "export" Export => ShownEntry, All reads;
    "find" Find => FoundName, All reads;
    "restore" Restore => Restored, Users changes;
    "rollback" Rollback => RolledBack, Users changes;
    "rollback-undo" RollbackUndo => RolledBack, Users changes;
    "rollback-stop" RollbackStop => RolledBack, Users changes;
    "rollback-list" RollbackList => RolledBack, Users reads;
    "passwd" Passwd => Ended, Users changes;
    "fsck" Fsck => FsckReport, Admins changes;
    "scrub-status" ScrubShow => ScrubInfo, Admins reads;
    "scrub-now" ScrubNow => ScrubInfo, Admins changes;
    "scrub-pause" ScrubPause => ScrubInfo, Admins changes;
    "scrub-resume" ScrubResume => ScrubInfo, Admins changes;
    "retention-show" RetentionShow => RetentionInfo, Admins reads;
    "retention-set" RetentionSet => RetentionInfo, Admins changes;
    "retention-plan" RetentionPlan => PlanPiece, Admins reads;
    "retention-explain" RetentionExplain => PlannedVersion, Admins reads;
    "retention-apply" RetentionApply => Applied, Admins changes;
    "retention-undo" RetentionUndo => Undone, Admins changes;
    "point-create" PointCreate => PointMade, Admins changes;
    "point-list" PointList => PointInfo, All reads;
    "point-times" PointTimes => PointTimeInfo, Admins reads;
    "point-every" PointEvery => PointTimeInfo, Admins changes;
    "point-hold" PointHold => PointSaid, Admins changes;
    "point-release" PointRelease => PointSaid, Admins changes;
    "point-remove" PointRemove => PointSaid, Admins changes;
    "point-mark" PointMark => PointInfo, Admins changes;
    "alarm-list" AlarmList => AlarmInfo, Admins reads;
    "alarm-close" AlarmClose => AlarmInfo, Admins changes;
    "alarm-set" AlarmSet => AlarmRule, Admins changes;
    "audit-show" AuditShow => AuditEntry, Admins reads;
    "audit-verify" AuditVerify => AuditReport, Admins reads;
    "audit-heads" AuditHeads => AuditHead, Members reads;
    "token-create" TokenCreate => TokenInfo, Admins changes;
    "token-list" TokenList => TokenInfo, Admins reads;
    "station-address" SetStationAddress => MemberStatus, Admins changes;
    "station-backup" StationBackup => BackedUp, Admins reads;
    "set-add" SetAdd => SetStatus, Admins changes;
    "set-mirror" SetMirror => SetStatus, Admins changes;
    "user-add" UserAdd => UserInfo, Admins changes;
    "user-list" UserList => UserInfo, Admins reads;
    "user-remove" UserRemove => Ended, Admins changes;
    "user-password" UserPassword => Ended, Admins changes;
    "session-list" SessionList => AnySession, Users reads;
    "session-grant" SessionGrant => HostInfo, Admins changes;
    "session-revoke" SessionRevoke => Ended, Users changes;
    "ticket" GetTicket => LoginAnswer, Admins changes;
}

/// The most that a question may have listed: an answer is put together in memory.
pub const LIMIT_MAX: usize = 100_000;

/// How everything is: one report.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Status {}

/// The zone in which typed times are read that have no offset: its name.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Zone {}

/// The versions of a file or folder, newest first.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Versions {
    /// Of what.
    pub place: Location,
    /// How many at most: 1 to [`LIMIT_MAX`].
    pub limit: usize,
}

/// A file as it was: one entry, then its content. A folder as it was: its entry, then those right below it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Show {
    /// The file or folder.
    pub place: Location,
    /// As of when, as typed.
    pub when: String,
}

/// A file, or a folder with everything below: entries, parents first and each folder's in the order of their names' bytes, each
/// with its content behind it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Export {
    /// The file or folder.
    pub place: Location,
    /// As of when, as typed.
    pub when: String,
    /// Whether content is wanted; without it the entries come alone. Where it is, nothing is said: a station of before knows no
    /// such field.
    #[serde(default = "is_wanted", skip_serializing_if = "Clone::clone")]
    pub content: bool,
}

/// Says what is meant where nothing is said.
fn is_wanted() -> bool {
    true
}

/// Writes a file's old content back through the set's master.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Restore {
    /// The file or folder.
    pub place: Location,
    /// As of when, as typed.
    pub when: String,
}

/// Changes the caller's own password.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Passwd {
    /// The present one.
    pub old: Secret,
    /// The one from now on.
    pub new: Secret,
}

/// Checks one set or all: a report each.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Fsck {
    /// The set; every one where none is named.
    #[serde(default)]
    pub set: Option<SetName>,
    /// Put times right first that a wrong clock left.
    #[serde(default)]
    pub repair_clock: bool,
}

/// A new join token.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TokenCreate {}

/// The join tokens that can still be used.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TokenList {}

/// Where a station is reached from now on.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SetStationAddress {
    /// The station that is reached elsewhere.
    pub name: StationName,
    /// `HOST:PORT`.
    pub address: StationAddress,
}

/// What makes this station this station, its keys among it: for root and the station's own user.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct StationBackup {}

/// A new set of this station.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SetAdd {
    /// What it is called.
    pub name: SetName,
    /// The folder, absolute.
    pub source: PathBuf,
    /// Who keeps it; this station where there is none.
    pub to: Vec<StationName>,
}

/// Mirrors a set of this station.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SetMirror {
    /// The set that is mirrored.
    pub name: SetName,
    /// Only this station; all without.
    pub to: Option<StationName>,
    /// In an epoch of its own.
    #[serde(default)]
    pub new_epoch: bool,
    /// In an epoch of its own, though another master has the set.
    #[serde(default)]
    pub take_over: bool,
    /// In an epoch of its own, with the folder that is at the source's path now.
    #[serde(default)]
    pub new_source: bool,
}

/// A new user.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct UserAdd {
    /// The user as they will be, name and rights.
    pub user: UserInfo,
    /// With which password.
    pub password: Secret,
}

/// All users.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct UserList {}

/// Removes a user.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct UserRemove {
    /// The user that goes.
    pub name: String,
    /// Only say what would end.
    #[serde(default)]
    pub dry_run: bool,
}

/// Gives a user another password.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct UserPassword {
    /// Whose.
    pub name: String,
    /// The new one.
    pub password: Secret,
}

/// All sessions; a user sees their own.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SessionList {}

/// A host session: machines that are trusted to say who calls.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SessionGrant {
    /// Which machines.
    pub host: HostRange,
    /// What they may mount.
    pub set: SetName,
    /// They may have old versions restored.
    pub may_write: bool,
    /// Calls from ports that any of their users may have are taken too.
    pub any_port: bool,
}

/// Ends sessions; a user ends their own.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SessionRevoke {
    /// The sessions that end.
    pub which: Which,
    /// Only say what would end.
    #[serde(default)]
    pub dry_run: bool,
}

/// A ticket for a user who logs in on the station itself.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GetTicket {
    /// The name of the user who logs in.
    pub user: String,
    /// With which password.
    pub password: Secret,
    /// What is to be mounted.
    #[serde(default)]
    pub set: Option<SetName>,
    /// Where no set is named and there is a choice, the first will do.
    #[serde(default)]
    pub any_set: bool,
    /// From where alone the drive will be used.
    pub client_address: IpAddr,
    /// Which uid there will use it; none for all.
    pub client_uid: Option<u32>,
    /// Calls from ports that any user there may have are taken too.
    #[serde(default)]
    pub any_port: bool,
}

/// Where something is, as a person says it. Bytes, because names need not be text.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Location {
    /// `SET:path`.
    Set {
        /// The set.
        set: SetName,
        /// The path inside.
        path: Vec<u8>,
    },
    /// An absolute local path without links in it, in a source or a live tree. Admins and members alone say one.
    Local(Vec<u8>),
}

/// Which sessions are meant.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Which {
    /// The one with this number.
    Session(String),
    /// All of a user.
    User(String),
    /// The login with which it is asked: to log out.
    This,
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
