//! Users, and what a login does.
//!
//! Everything that needs a password goes through here: first the limits, which cost nothing, then the password, which
//! costs much, then the ticket. Whoever is refused learns nothing about who exists.

#[cfg(test)]
mod tests;

use std::{
    fmt,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use keepshare_base::{SetName, Stamp};
use keepshare_gate::Logins;
use keepshare_host::shared::SharedDb;

use crate::{
    AccountError, Audit, AuditEvent, AuditLine, Binding, IDLE_S, ResumeSecret, SessionId, Sessions,
    TICKET_TTL_S, Ticket, User, UserName,
    passwords::{Caller, Passwords},
    users::{self, USERS, UserRow},
};

/// Why a login was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoginRefusal {
    /// No such user, or another password, or a disabled user: which of them, nobody is told.
    #[error("user name or password is wrong")]
    Wrong,
    /// Too many failed before.
    #[error("too many failed; try again in {retry_after_s} s")]
    TooSoon {
        /// How long to wait, in seconds.
        retry_after_s: u32,
    },
    /// Too many log in at this moment.
    #[error("too many passwords are being checked now; try again")]
    Busy,
    /// The password is right, but there is no such set, or it is not the user's.
    #[error("you have no set '{0}' here")]
    NoSuchSet(SetName),
    /// The password is right, and it is not clear what to mount.
    #[error("{}", which_set(.0))]
    WhichSet(Vec<SetName>),
    /// It could not be looked at.
    #[error("the station cannot check passwords now")]
    Failed(#[source] AccountError),
}

fn which_set(sets: &[SetName]) -> String {
    if sets.is_empty() {
        return "there is no set for you here".to_owned();
    }
    let names: Vec<_> = sets.iter().map(SetName::as_str).collect();
    format!("name the set: {}", names.join(", "))
}

/// What somebody who logs in says.
#[derive(Clone)]
pub struct LoginRequest {
    /// The name, as it was typed.
    pub user: String,
    /// The password.
    pub password: String,
    /// What is to be mounted; may be left out where there is no choice.
    pub set: Option<SetName>,
    /// Where it is left out and there is a choice, the first set will do.
    pub any_set: bool,
    /// From where the drive will be used, and by whom there.
    pub binding: Binding,
}

impl fmt::Debug for LoginRequest {
    /// Leaves the password out, and the name, which may be one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginRequest").field("set", &self.set).finish_non_exhaustive()
    }
}

/// What a login gives.
#[derive(Clone, Debug)]
pub struct Login {
    /// Who logged in.
    pub user: UserName,
    /// What will be mounted.
    pub set: SetName,
    /// What the mount takes, once.
    pub ticket: Ticket,
    /// Until when.
    pub expires: Stamp,
    /// What takes the session to another address later.
    pub resume: ResumeSecret,
    /// From where the drive can be used, and by whom there.
    pub binding: Binding,
}

/// Who shows the secret of a login.
#[derive(Clone, Debug)]
pub struct Bearer {
    /// The login's session.
    pub session: SessionId,
    /// Whose it is.
    pub user: User,
}

/// The users of a station, with their sessions.
#[derive(Debug)]
pub struct Accounts {
    db: SharedDb,
    audit: Audit,
    passwords: Passwords,
    limits: Mutex<Logins<UserKey>>,
    sessions: Sessions,
}

impl Accounts {
    /// Opens users and sessions, which expire after [`IDLE_S`] without use.
    pub fn open(db: impl Into<SharedDb>, audit: Audit) -> Result<Self, AccountError> {
        Self::open_with(db, audit, IDLE_S)
    }

    /// Opens users and sessions, which expire after `idle_s` seconds without use.
    pub fn open_with(
        db: impl Into<SharedDb>,
        audit: Audit,
        idle_s: u32,
    ) -> Result<Self, AccountError> {
        let db = db.into();
        let sessions = Sessions::open(db.clone(), audit.clone(), idle_s)?;
        Ok(Self { db, audit, passwords: Passwords::new()?, limits: Mutex::default(), sessions })
    }

    /// Returns the sessions.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Does something while nothing is written down of users and sessions.
    pub fn hold_still<T>(&self, work: impl FnOnce() -> T) -> Result<T, AccountError> {
        let held = self.db.begin_write()?;
        let done = work();
        held.abort()?;
        Ok(done)
    }

    /// Returns the audit log.
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Returns the users, by name.
    pub fn users(&self) -> Result<Vec<User>, AccountError> {
        let read = self.db.begin_read()?;
        let rows = users::load_all(&read.open_table(USERS)?)?;
        Ok(rows.into_iter().map(|row| row.user).collect())
    }

    /// Adds a user, durable when this returns.
    pub fn add_user(&self, user: User, password: &str, now: Stamp) -> Result<(), AccountError> {
        user.check()?;
        // Looked at before the slow part, and again in the transaction.
        if self.row(user.name.as_str())?.is_some() {
            return Err(AccountError::Exists(user.name));
        }
        let password = self.passwords.hash(password)?;
        let name = user.name.clone();
        let row = UserRow { user, password, added: now, changed: now, mark: mark()? };
        let write = self.db.begin_write()?;
        if users::load(&write.open_table(USERS)?, name.as_str())?.is_some() {
            return Err(AccountError::Exists(name));
        }
        users::store(&write, &row)?;
        write.commit()?;
        self.audit.write(AuditLine::done(now, AuditEvent::UserAdd).user(&name));
        Ok(())
    }

    /// Removes a user and ends all the user's sessions, durable when this returns. Tells how many sessions ended; `None`
    /// where there is no such user.
    pub fn remove_user(&self, name: &UserName, now: Stamp) -> Result<Option<usize>, AccountError> {
        let ended = self.sessions.change_user(name, now, |write| {
            Ok(write.open_table(USERS)?.remove(name.as_str())?.is_some())
        })?;
        if ended.is_some() {
            self.audit.write(AuditLine::done(now, AuditEvent::UserRemove).user(name));
        }
        Ok(ended)
    }

    /// Changes a user's password and ends all the user's sessions, durable when this returns. Tells how many sessions
    /// ended; `None` where there is no such user.
    pub fn set_password(
        &self,
        name: &UserName,
        password: &str,
        now: Stamp,
    ) -> Result<Option<usize>, AccountError> {
        if self.row(name.as_str())?.is_none() {
            return Ok(None);
        }
        let (password, mark) = (self.passwords.hash(password)?, mark()?);
        let ended = self.sessions.change_user(name, now, |write| {
            let row = users::load(&write.open_table(USERS)?, name.as_str())?;
            let Some(row) = row else { return Ok(false) };
            users::store(write, &UserRow { password, changed: now, mark, ..row })?;
            Ok(true)
        })?;
        if ended.is_some() {
            self.audit.write(AuditLine::done(now, AuditEvent::UserPassword).user(name));
        }
        Ok(ended)
    }

    /// Checks a password and gives a ticket for one of the sets that `available` names. Takes tens of milliseconds.
    pub fn login(
        &self,
        request: &LoginRequest,
        peer: IpAddr,
        available: &[SetName],
        now: Stamp,
    ) -> Result<Login, LoginRefusal> {
        let row = self.authenticate(&request.user, &request.password, peer, now)?;
        let given = self.give_ticket(&row, request, available, now);
        let line = match &given {
            Ok(login) => AuditLine::done(now, AuditEvent::Login).set(&login.set),
            Err(refusal) => AuditLine::refused(now, AuditEvent::Login, refusal),
        };
        self.audit.write(line.user(&row.user.name).address(peer));
        given
    }

    /// Tells whose password this is, for whoever wants to see or end their own sessions. Takes tens of milliseconds.
    pub fn verify(
        &self,
        user: &str,
        password: &str,
        peer: IpAddr,
        now: Stamp,
    ) -> Result<User, LoginRefusal> {
        self.authenticate(user, password, peer, now).map(|row| row.user)
    }

    /// Returns who shows the secret of a login, unless the login has ended or the user is gone.
    pub fn bearer(
        &self,
        secret: &ResumeSecret,
        now: Stamp,
    ) -> Result<Option<Bearer>, AccountError> {
        let Some((session, name)) = self.sessions.with_secret(secret, now) else { return Ok(None) };
        let row = self.row(name.as_str())?.filter(|row| !row.user.disabled);
        Ok(row.map(|row| Bearer { session, user: row.user }))
    }

    /// Returns whose login a session is, unless it has ended or the user is gone.
    pub fn holder(&self, session: SessionId) -> Result<Option<User>, AccountError> {
        let Some(name) = self.sessions.user_of(session) else { return Ok(None) };
        let row = self.row(name.as_str())?.filter(|row| !row.user.disabled);
        Ok(row.map(|row| row.user))
    }

    /// Gives a ticket without a password: for whoever owns the station and could change any password.
    pub fn ticket_for(
        &self,
        name: &UserName,
        set: &SetName,
        binding: Binding,
        now: Stamp,
    ) -> Result<Option<Login>, AccountError> {
        let Some(row) = self.row(name.as_str())? else { return Ok(None) };
        let login = self.issue(&row, set.clone(), binding, now)?;
        let line = AuditLine::done(now, AuditEvent::Login).because("given by the station's owner");
        self.audit.write(line.user(name).set(set));
        Ok(Some(login))
    }

    /// Returns how many passwords were hashed or checked since the start.
    pub fn passwords_computed(&self) -> u64 {
        self.passwords.computed()
    }

    fn authenticate(
        &self,
        user: &str,
        password: &str,
        peer: IpAddr,
        now: Stamp,
    ) -> Result<UserRow, LoginRefusal> {
        let is_known = self.sessions.is_at_home(user, peer);
        let (begun, failed) = {
            let mut limits = self.limits();
            (limits.begin(now, key(user), peer, is_known), limits.failed(peer))
        };
        let caller = if is_known { Caller::AtHome(user) } else { Caller::From(peer, failed) };
        let row = self.row(user).map_err(LoginRefusal::Failed)?;
        let refused = |refusal: LoginRefusal| {
            let line = AuditLine::refused(now, AuditEvent::Login, &refusal).address(peer);
            // A name nobody has may be a password that was typed in the wrong place.
            let line = match &row {
                Some(row) => line.user(&row.user.name),
                None => line.because("no such user, or too many tries"),
            };
            self.audit.write(line);
            refusal
        };
        if let Err(too_soon) = begun {
            return Err(refused(LoginRefusal::TooSoon { retry_after_s: too_soon.retry_after_s }));
        }
        match self.passwords.verify(row.as_ref().map(|row| &row.password), password, caller) {
            Ok(true) => {}
            Ok(false) => return Err(refused(LoginRefusal::Wrong)),
            Err(error) => {
                self.limits().withdrawn(key(user), peer, is_known);
                return Err(refused(match error {
                    AccountError::Busy => LoginRefusal::Busy,
                    error => LoginRefusal::Failed(error),
                }));
            }
        }
        match row {
            Some(row) if !row.user.disabled => {
                self.limits().succeeded(key(user), peer, is_known);
                Ok(row)
            }
            _ => Err(refused(LoginRefusal::Wrong)),
        }
    }

    fn give_ticket(
        &self,
        row: &UserRow,
        request: &LoginRequest,
        available: &[SetName],
        now: Stamp,
    ) -> Result<Login, LoginRefusal> {
        let mut own: Vec<_> = available.iter().filter(|set| row.user.sets.allow(set)).collect();
        own.sort();
        own.dedup();
        let set = match (&request.set, own.as_slice()) {
            (Some(set), own) if own.contains(&set) => set,
            (Some(set), _) => return Err(LoginRefusal::NoSuchSet(set.clone())),
            (None, [only]) => *only,
            (None, [first, ..]) if request.any_set => *first,
            (None, own) => {
                return Err(LoginRefusal::WhichSet(own.iter().map(|set| (*set).clone()).collect()));
            }
        };
        self.issue(row, set.clone(), request.binding, now).map_err(LoginRefusal::Failed)
    }

    fn issue(
        &self,
        row: &UserRow,
        set: SetName,
        binding: Binding,
        now: Stamp,
    ) -> Result<Login, AccountError> {
        let binding = Binding { address: binding.address.to_canonical(), ..binding };
        let (ticket, resume) =
            self.sessions.issue(&row.user, row.mark, set.clone(), binding, now)?;
        let user = row.user.name.clone();
        let expires = now.plus_micros(i64::from(TICKET_TTL_S) * 1_000_000);
        Ok(Login { user, set, ticket, expires, resume, binding })
    }

    fn row(&self, name: &str) -> Result<Option<UserRow>, AccountError> {
        let read = self.db.begin_read()?;
        users::load(&read.open_table(USERS)?, name)
    }

    fn limits(&self) -> MutexGuard<'_, Logins<UserKey>> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What stands for a user's name where tries are counted: a hash, so that a long name takes no more room.
type UserKey = [u8; 32];

fn key(user: &str) -> UserKey {
    *blake3::hash(user.as_bytes()).as_bytes()
}

fn mark() -> Result<u64, AccountError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}
