//! The audit log: who logged in, mounted, was refused, and what an admin did about users and sessions.
//!
//! One JSON object a line in `audit.log`, readable by its owner only. Never in it: passwords, tickets, secrets, and names
//! of users who do not exist, because people type their password there. It is bounded: at [`FILE_BYTES_MAX`] the file
//! becomes `audit.log.1`, and of those [`OLD_MAX`] are kept; a flood is counted, not written. Refusals have room for each
//! event, so that those anybody can cause hide no others; what was done has room for each event and user.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    net::IpAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use serde::Serialize;

use keepshare_base::{SetName, Stamp};

use crate::{SessionId, UserName};

/// What the file is called in the state folder.
pub const AUDIT_FILE: &str = "audit.log";

/// How long the file gets, in bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// How many full files are kept beside it.
const OLD_MAX: u32 = 3;

/// How many lines of one kind are written in a minute; further ones are counted in the next line of that event.
///
/// More than the sessions of one user, so that the end of them all is told.
const LINES_A_MINUTE: u32 = 120;

const MINUTE_US: i64 = 60_000_000;

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
}

/// A line of the audit log.
#[derive(Clone, Debug, Serialize)]
pub struct AuditLine {
    time: String,
    event: AuditEvent,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
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
    unwritten: Option<u64>,
    #[serde(skip)]
    at: Stamp,
    /// It shares its room with those of all others: whoever causes it may take any name.
    #[serde(skip)]
    is_of_all: bool,
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

/// Where the lines go; clones share one file.
#[derive(Clone, Debug, Default)]
pub struct Audit(Option<Arc<Mutex<AuditFile>>>);

#[derive(Debug)]
struct AuditFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: u64,
    minute: Stamp,
    /// How many lines of each kind came in this minute: no more than events, and users of the station for each.
    written: HashMap<Kind, u32>,
    unwritten: HashMap<AuditEvent, u64>,
    /// The last line could not be written; said once.
    is_failing: bool,
}

/// What has room for itself: refusals of an event, or what a user did of it.
#[derive(Debug, Eq, Hash, PartialEq)]
enum Kind {
    Refused(AuditEvent),
    Done(AuditEvent, Option<String>),
}

impl Audit {
    /// Opens the audit log of a state folder.
    pub fn open(dir: &Path) -> io::Result<Self> {
        Self::open_bounded(dir, FILE_BYTES_MAX)
    }

    /// Returns one that writes nothing, for tests.
    pub fn none() -> Self {
        Self(None)
    }

    /// Writes a line. What cannot be written is lost and said in the log: a full disk must not lock everybody out.
    pub fn write(&self, line: AuditLine) {
        if let Some(file) = &self.0 {
            file.lock().unwrap_or_else(PoisonError::into_inner).write(line);
        }
    }

    fn open_bounded(dir: &Path, bytes_max: u64) -> io::Result<Self> {
        let path = dir.join(AUDIT_FILE);
        let file = open_file(&path)?;
        let bytes = file.metadata()?.len();
        let (written, unwritten) = (HashMap::new(), HashMap::new());
        let (minute, is_failing) = (Stamp(0), false);
        let file =
            AuditFile { path, file, bytes, bytes_max, minute, written, unwritten, is_failing };
        Ok(Self(Some(Arc::new(Mutex::new(file)))))
    }
}

impl AuditFile {
    fn write(&mut self, mut line: AuditLine) {
        if !self.has_room_for(&line) {
            *self.unwritten.entry(line.event).or_default() += 1;
            return;
        }
        line.unwritten = self.unwritten.get(&line.event).copied();
        let Ok(mut text) = serde_json::to_vec(&line) else { return };
        text.push(b'\n');
        match self.append(&text) {
            Ok(()) => {
                self.is_failing = false;
                self.unwritten.remove(&line.event);
            }
            Err(error) => {
                if !self.is_failing {
                    tracing::error!(%error, "the audit log cannot be written");
                }
                self.is_failing = true;
            }
        }
    }

    fn has_room_for(&mut self, line: &AuditLine) -> bool {
        if !(0..MINUTE_US).contains(&line.at.micros_since(self.minute)) {
            self.minute = line.at;
            self.written.clear();
        }
        let kind = match line.ok {
            true => Kind::Done(line.event, line.user.clone().filter(|_| !line.is_of_all)),
            false => Kind::Refused(line.event),
        };
        let written = self.written.entry(kind).or_default();
        *written = written.saturating_add(1);
        *written <= LINES_A_MINUTE
    }

    fn append(&mut self, text: &[u8]) -> io::Result<()> {
        if self.bytes > 0 && self.bytes + text.len() as u64 > self.bytes_max {
            self.rotate()?;
        }
        // One write: lines are whole, or the last one of a full disk is not.
        self.file.write_all(text)?;
        self.bytes += text.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        for n in (1..=OLD_MAX).rev() {
            let from = if n == 1 { self.path.clone() } else { old(&self.path, n - 1) };
            match fs::rename(from, old(&self.path, n)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.file = open_file(&self.path)?;
        self.bytes = self.file.metadata()?.len();
        Ok(())
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

fn old(path: &Path, n: u32) -> PathBuf {
    path.with_extension(format!("log.{n}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn lines(path: &Path) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn lines_are_json_that_only_the_owner_reads() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::open(dir.path()).unwrap();
        let line = AuditLine::refused(Stamp(0), AuditEvent::Mount, "a \"quoted\"\nreason");
        audit
            .write(line.user(&"anna".parse().unwrap()).address("::ffff:10.0.0.1".parse().unwrap()));
        audit.write(AuditLine::done(Stamp(1), AuditEvent::UserAdd));
        let path = dir.path().join(AUDIT_FILE);
        let lines = lines(&path);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["event"], "mount");
        assert_eq!(lines[0]["ok"], false);
        assert_eq!(lines[0]["reason"], "a \"quoted\"\nreason");
        assert_eq!((&lines[0]["user"], &lines[0]["address"]), (&"anna".into(), &"10.0.0.1".into()));
        assert_eq!(lines[1]["event"], "user-add");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn the_log_is_bounded_and_keeps_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::open_bounded(dir.path(), 1000).unwrap();
        for n in 0..1000 {
            let at = Stamp(n * MINUTE_US);
            audit.write(AuditLine::done(at, AuditEvent::Login).because(n));
        }
        let files: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()).collect();
        assert_eq!(files.len(), 4, "{files:?}");
        assert!(files.iter().all(|file| fs::metadata(file).unwrap().len() <= 1000));
        assert_eq!(lines(&dir.path().join(AUDIT_FILE)).last().unwrap()["reason"], "999");
    }

    /// Whoever can be refused at will must not push the history out.
    #[test]
    fn a_flood_of_refusals_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::open(dir.path()).unwrap();
        for _ in 0..10_000 {
            audit.write(AuditLine::refused(Stamp(5), AuditEvent::Mount, "unknown"));
        }
        audit.write(AuditLine::done(Stamp(5), AuditEvent::Mount));
        let lines = lines(&dir.path().join(AUDIT_FILE));
        assert_eq!(lines.len(), 121);
        assert_eq!(lines[120]["unwritten"], 10_000 - 120);
    }

    /// Anybody can have mounts refused; that must not hide who guesses passwords.
    #[test]
    fn refused_mounts_hide_no_refused_logins() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::open(dir.path()).unwrap();
        for _ in 0..10_000 {
            audit.write(AuditLine::refused(Stamp(5), AuditEvent::Mount, "unknown"));
        }
        audit.write(AuditLine::refused(Stamp(5), AuditEvent::Login, "wrong"));
        let lines = lines(&dir.path().join(AUDIT_FILE));
        assert_eq!(lines.len(), 121);
        assert_eq!(lines[120]["event"], "login");
        assert!(lines[120].get("unwritten").is_none(), "the next mount tells of mounts");
    }

    /// What a user may do as often as they like must not push the history out, nor hide what others do.
    #[test]
    fn a_flood_of_one_users_doings_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::open(dir.path()).unwrap();
        let (anna, ben) = ("anna".parse().unwrap(), "ben".parse().unwrap());
        for _ in 0..10_000 {
            audit.write(AuditLine::done(Stamp(5), AuditEvent::Resume).user(&anna));
        }
        audit.write(AuditLine::done(Stamp(5), AuditEvent::Revoke).user(&anna));
        audit.write(AuditLine::done(Stamp(5), AuditEvent::Resume).user(&ben));
        let lines = lines(&dir.path().join(AUDIT_FILE));
        assert_eq!(lines.len(), 122);
        assert_eq!((&lines[121]["user"], &lines[121]["unwritten"]), (&"ben".into(), &9880.into()));
    }
}
