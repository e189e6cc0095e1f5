//! Sessions: what every call of a mounted drive is checked against.
//!
//! A login begins a session, which opens the API for whoever has its secret, and gives a ticket. Mounting with the ticket
//! makes it the session of a drive, and its number is in every file handle. Checks
//! are answered from memory: a read lock, a look-up, two comparisons. Every change is durable before it returns, so that
//! a mounted drive outlives a restart; only the times of use are written down later, by [`Sessions::flush`].
//!
//! The number of a session is no secret: what protects handles is the seal, keyed with a key that stays here.
//!
//! Host sessions need no login; they are beside the others and are checked by [`Sessions::check_host`].

mod ends;
mod hosts;
mod logins;
mod seal;
mod session;
mod store;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::Ordering,
    },
};

use keepshare_base::{SetName, Stamp};
use keepshare_host::shared::SharedDb;

pub(crate) use self::store::forget;
use self::{
    hosts::Hosts,
    logins::Redeemed,
    session::{Record, Session},
};
pub use self::{
    hosts::{Claim, HostGrant, HostSession},
    session::{ResumeSecret, SessionInfo},
};
use crate::{
    AccountError, Audit, AuditEvent, AuditLine, Principal, SessionId, TicketRefusal, UserName,
    tickets::Tickets,
};

/// How long a session lives without being used, unless told otherwise, in seconds: 30 days.
pub const IDLE_S: u32 = 30 * 86_400;

/// The most sessions; the one idle for longest makes room.
const SESSIONS_MAX: usize = 10_000;

/// The most sessions of one user; the one idle for longest makes room.
const SESSIONS_OF_A_USER_MAX: usize = 100;

/// How exactly a time of use is noted, in microseconds: calls within it write to no shared memory.
const USED_GRAIN_US: i64 = 1_000_000;

/// A call that may go on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Admitted {
    /// Who calls.
    pub principal: Arc<Principal>,
    /// The uid of the client that the session is bound to; none where all its users share the session.
    pub client_uid: Option<u32>,
    /// The set that was mounted.
    pub set: SetName,
    /// It is a machine that is trusted, and many users share the session.
    pub is_host: bool,
}

/// Why a call was refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionRefusal {
    /// No such session, or it is long gone.
    #[error("the session is not known")]
    Unknown,
    /// It was ended.
    #[error("the session was revoked")]
    Revoked,
    /// It was not used for too long.
    #[error("the session expired because it was not used")]
    Expired,
    /// The call comes from elsewhere.
    #[error("the session belongs to another address")]
    WrongAddress,
    /// The call comes from a port that any user of the client may have.
    #[error("the session is for the client's kernel, and the call came from a port above 1023")]
    UserPort {
        /// The session was not refused for that before.
        is_first: bool,
    },
    /// Another user of the client calls.
    #[error("the session belongs to another user of the client")]
    WrongUid,
    /// The client's root calls, which mounting needs, and the session is another's.
    #[error("the session does not belong to the client's root")]
    UnboundRoot(Admitted),
}

/// The sessions of a station; clones share them.
#[derive(Clone)]
pub struct Sessions(Arc<Inner>);

struct Inner {
    db: SharedDb,
    audit: Audit,
    key: [u8; 32],
    idle_us: i64,
    live: RwLock<HashMap<SessionId, Arc<Session>>>,
    hosts: RwLock<Hosts>,
    /// Held over every change, on disk and in memory, so that both see them in one order.
    changes: Mutex<Tickets>,
    watchers: Mutex<Vec<Watcher>>,
}

/// Is told of sessions that ended; tells whether it wants to be told of more.
type Watcher = Box<dyn Fn(&[SessionId]) -> bool + Send + Sync>;

impl Sessions {
    /// Opens the sessions; one that is not used for `idle_s` expires.
    pub(crate) fn open(db: SharedDb, audit: Audit, idle_s: u32) -> Result<Self, AccountError> {
        let key = store::load_key(&db)?;
        let live = RwLock::new(store::load(&db)?);
        let hosts = RwLock::new(store::load_hosts(&db)?);
        let idle_us = i64::from(idle_s) * 1_000_000;
        Ok(Self(Arc::new(Inner {
            db,
            audit,
            key,
            idle_us,
            live,
            hosts,
            changes: Mutex::default(),
            watchers: Mutex::default(),
        })))
    }

    /// Decides about a call: its session, where it comes from, the uid it claims (`None` for AUTH_NONE).
    ///
    /// The claimed uid gives no rights: it only has to be the one that the login named. A session that is bound to one
    /// takes calls from ports below 1024 alone, unless the login said otherwise.
    pub fn check(
        &self,
        session: SessionId,
        peer: SocketAddr,
        claimed_uid: Option<u32>,
        now: Stamp,
    ) -> Result<Admitted, SessionRefusal> {
        let live = self.live();
        let entry = live.get(&session).filter(|entry| entry.record.mounted);
        let entry = entry.ok_or(SessionRefusal::Unknown)?;
        if entry.revoked.get().is_some() {
            return Err(SessionRefusal::Revoked);
        }
        let idle_us = now.0.saturating_sub(entry.last_used.load(Ordering::Relaxed));
        if idle_us >= self.0.idle_us {
            return Err(SessionRefusal::Expired);
        }
        if entry.record.address != peer.ip().to_canonical() {
            return Err(SessionRefusal::WrongAddress);
        }
        if !entry.record.binding().takes_port_of(peer) {
            return Err(SessionRefusal::UserPort { is_first: entry.port_refused() });
        }
        let admitted = || Admitted {
            principal: Arc::clone(&entry.principal),
            client_uid: entry.record.client_uid,
            set: entry.record.set.clone(),
            is_host: false,
        };
        match (entry.record.client_uid, claimed_uid) {
            (None, _) => {}
            (Some(bound), Some(claimed)) if bound == claimed => {}
            (Some(_), Some(0)) => return Err(SessionRefusal::UnboundRoot(admitted())),
            (Some(_), _) => return Err(SessionRefusal::WrongUid),
        }
        if idle_us.abs() >= USED_GRAIN_US {
            entry.last_used.store(now.0, Ordering::Relaxed);
        }
        Ok(admitted())
    }

    /// Notes that the drive is used, not only mounted: from now on the session's ticket is not taken again.
    pub fn used(&self, session: SessionId) {
        if let Some(entry) = self.live().get(&session)
            && !entry.used.load(Ordering::Relaxed)
        {
            entry.used.store(true, Ordering::Relaxed);
        }
    }

    /// Exchanges a ticket for a session, durable when this returns. Waits for the disk.
    ///
    /// The same ticket again gives the same session while [`Self::used`] was not called: an answer may have been lost. The
    /// audit log tells of the first time alone: whoever repeats it must not fill the log.
    pub fn redeem(
        &self,
        ticket: &[u8],
        peer: SocketAddr,
        now: Stamp,
    ) -> Result<(SessionId, SetName), TicketRefusal> {
        let address = peer.ip();
        match self.try_redeem(ticket, peer, now) {
            Ok(Redeemed { session, set, user, is_first }) => {
                if is_first {
                    let line = AuditLine::done(now, AuditEvent::Mount).user(&user).address(address);
                    self.0.audit.write(line.set(&set).session(session));
                }
                Ok((session, set))
            }
            Err(refusal) => {
                let line = AuditLine::refused(now, AuditEvent::Mount, &refusal).address(address);
                self.0.audit.write(line);
                Err(refusal)
            }
        }
    }

    /// Returns the sessions that began with a login, those used last first; revoked ones for a day.
    pub fn list(&self) -> Vec<SessionInfo> {
        self.list_where(|_| true)
    }

    /// Returns the sessions of a user as [`Self::list`] does, without a copy of everybody's.
    pub fn list_of(&self, user: &UserName) -> Vec<SessionInfo> {
        self.list_where(|entry| entry.record.user == *user)
    }

    fn list_where(&self, which: impl Fn(&Session) -> bool) -> Vec<SessionInfo> {
        let live = self.live();
        let mut infos: Vec<_> =
            live.values().filter(|entry| which(entry)).map(|entry| entry.info()).collect();
        drop(live);
        infos.sort_by_key(|info| (std::cmp::Reverse(info.last_used), info.id));
        infos
    }

    /// Binds the session with this secret to another address, durably when this returns.
    pub fn resume(
        &self,
        secret: &ResumeSecret,
        address: IpAddr,
        now: Stamp,
    ) -> Result<SessionInfo, ResumeRefusal> {
        let resumed = self.try_resume(secret, address.to_canonical(), now);
        let line = match &resumed {
            Ok(info) => AuditLine::done(now, AuditEvent::Resume)
                .user(&info.user)
                .set(&info.set)
                .session(info.id),
            Err(refusal) => AuditLine::refused(now, AuditEvent::Resume, refusal),
        };
        self.0.audit.write(line.address(address));
        resumed
    }

    /// Returns whose login a secret is of, unless it has ended, and counts it as used.
    pub(crate) fn with_secret(
        &self,
        secret: &ResumeSecret,
        now: Stamp,
    ) -> Option<(SessionId, UserName)> {
        let entry = self.entry_of(secret, now)?;
        if now.micros_since(entry.last_used()).abs() >= USED_GRAIN_US {
            entry.last_used.store(now.0, Ordering::Relaxed);
        }
        Some((entry.id, entry.record.user.clone()))
    }

    /// Returns whose login a session is that has not ended; of a host session's users none is told.
    pub(crate) fn user_of(&self, session: SessionId) -> Option<UserName> {
        let live = self.live();
        let entry = live.get(&session).filter(|entry| entry.revoked.get().is_none())?;
        Some(entry.record.user.clone())
    }

    /// Tells whether a session, or a host session, has not ended.
    pub fn lives(&self, session: SessionId) -> bool {
        let entry = self.live().get(&session).map(|entry| entry.revoked.get().is_none());
        entry.unwrap_or_else(|| self.host_lives(session))
    }

    /// Returns the audit log, for what doors have to tell.
    pub fn audit(&self) -> &Audit {
        &self.0.audit
    }

    /// Writes the times of use down and forgets sessions that ended: to be called about once a minute, and at the end.
    pub fn flush(&self, now: Stamp) -> Result<(), AccountError> {
        let _changes = self.changes();
        self.forget_revoked_hosts(now)?;
        let gone = self.sweep(now);
        let entries: Vec<_> = self.live().values().cloned().collect();
        let ahead: Vec<_> = entries.iter().filter(|entry| entry.is_ahead()).collect();
        if gone.is_empty() && ahead.is_empty() {
            return Ok(());
        }
        let records = ahead.iter().map(|entry| (entry.id, entry.record())).collect::<Vec<_>>();
        let gone_ids: Vec<_> = gone.iter().map(|entry| entry.id).collect();
        store::write(&self.0.db, &records, &gone_ids)?;
        for (entry, (_, record)) in ahead.iter().zip(&records) {
            entry.stored(record);
        }
        self.tell_ended(&gone_ids);
        for entry in gone.iter().filter(|entry| entry.revoked.get().is_none()) {
            self.audit_end(entry, now, "not used for too long");
        }
        Ok(())
    }

    /// Tells whether a user has a session at this address.
    pub(crate) fn is_at_home(&self, user: &str, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let is_that = |entry: &Arc<Session>| {
            entry.record.address == address
                && entry.record.user.as_str() == user
                && entry.record.mounted
                && entry.revoked.get().is_none()
        };
        self.live().values().any(is_that)
    }

    fn try_resume(
        &self,
        secret: &ResumeSecret,
        address: IpAddr,
        now: Stamp,
    ) -> Result<SessionInfo, ResumeRefusal> {
        let _changes = self.changes();
        let entry = self.entry_of(secret, now).filter(|entry| entry.record.mounted);
        let entry = entry.ok_or(ResumeRefusal::Unknown)?;
        let record = Record { address, last_used: now, ..entry.record() };
        store::write(&self.0.db, &[(entry.id, record.clone())], &[])
            .map_err(ResumeRefusal::Failed)?;
        let resumed = Arc::new(entry.rebound(record));
        self.live_mut().insert(entry.id, Arc::clone(&resumed));
        if entry.record.address != address {
            self.tell_ended(&[entry.id]);
        }
        Ok(resumed.info())
    }

    fn entry_of(&self, secret: &ResumeSecret, now: Stamp) -> Option<Arc<Session>> {
        let key = secret.key();
        let live = self.live();
        let entry = live.values().find(|entry| entry.record.resume == key)?;
        let is_idle = now.micros_since(entry.last_used()) >= self.0.idle_us;
        (entry.revoked.get().is_none() && !is_idle).then(|| Arc::clone(entry))
    }

    fn free_id(&self) -> Result<SessionId, AccountError> {
        loop {
            let mut bytes = [0; 8];
            getrandom::fill(&mut bytes)?;
            let id = SessionId(u64::from_le_bytes(bytes));
            if id.0 != 0 && !self.live().contains_key(&id) && !self.has_host(id) {
                return Ok(id);
            }
        }
    }

    fn live(&self) -> RwLockReadGuard<'_, HashMap<SessionId, Arc<Session>>> {
        self.0.live.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn live_mut(&self) -> RwLockWriteGuard<'_, HashMap<SessionId, Arc<Session>>> {
        self.0.live.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn watchers(&self) -> MutexGuard<'_, Vec<Watcher>> {
        self.0.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changes(&self) -> MutexGuard<'_, Tickets> {
        self.0.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a session was not resumed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeRefusal {
    /// No living session has this secret.
    #[error("no session can be resumed with this secret")]
    Unknown,
    /// It could not be stored.
    #[error("the session cannot be stored")]
    Failed(#[source] AccountError),
}

impl fmt::Debug for Sessions {
    /// Leaves the key out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("count", &self.live().len()).finish_non_exhaustive()
    }
}
