//! Host sessions: machines that are trusted to say which of their users calls.
//!
//! An admin grants one for a range of addresses and a set. Whoever calls from there has the rights of the numbers that
//! the call claims, as classic NFS has it, but for the client's root, who is nobody. There are none unless granted.

mod range;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, PoisonError, RwLockReadGuard, RwLockWriteGuard},
};

use serde::{Deserialize, Serialize};

use keepshare_base::{SetName, Stamp};

pub use self::range::{HostRange, HostRangeError};
use super::{Admitted, SessionId, SessionRefusal, Sessions, store};
use crate::{AccountError, AuditEvent, AuditLine, Principal};

/// The most host sessions of a station.
const HOSTS_MAX: usize = 256;

/// The most further groups of a claim that count, as AUTH_SYS has no more (RFC 5531, appendix A).
const CLAIM_GROUPS_MAX: usize = 16;

/// The number, of user and group alike, that stands for nobody: what the client's root is taken for.
const NOBODY: u32 = 65_534;

/// A host session: all users of some machines are believed who they say they are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HostSession {
    /// Its number.
    pub id: SessionId,
    /// Which machines.
    pub range: HostRange,
    /// What they may mount.
    pub set: SetName,
    /// They may have old versions restored.
    pub may_write: bool,
    /// When it was granted.
    pub created: Stamp,
}

/// Who a call says it comes from, by AUTH_SYS; nothing of it is proven.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Claim<'c> {
    /// The user's number.
    pub uid: u32,
    /// The first group's number.
    pub gid: u32,
    /// The numbers of further groups; those after the first 16 do not count.
    pub groups: &'c [u32],
}

/// A host session as stored, under its number.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct HostRecord {
    pub(super) range: HostRange,
    pub(super) set: SetName,
    pub(super) may_write: bool,
    pub(super) created: Stamp,
}

/// A host session in memory.
pub(super) struct Host {
    record: HostRecord,
    /// It was ended, and that is not on disk yet.
    is_revoked: bool,
}

pub(super) type Hosts = HashMap<SessionId, Host>;

impl Sessions {
    /// Lets all users of these machines use a set as those who they say they are; durable when this returns.
    ///
    /// A range has one host session for a set, so that ending it ends what it allowed.
    pub fn grant_host(
        &self,
        range: HostRange,
        set: &SetName,
        may_write: bool,
        now: Stamp,
    ) -> Result<SessionId, AccountError> {
        let _changes = self.changes();
        let known = self.hosts();
        if known.iter().any(|host| host.range == range && host.set == *set) {
            return Err(AccountError::HostGranted(range));
        }
        if known.len() >= HOSTS_MAX {
            return Err(AccountError::TooManyHosts);
        }
        let id = self.free_id()?;
        let record = HostRecord { range, set: set.clone(), may_write, created: now };
        store::put_host(&self.0.db, id, &record)?;
        self.audit_host(AuditEvent::SessionGrant, id, &record, now);
        self.hosts_mut().insert(id, Host::from(record));
        Ok(id)
    }

    /// Returns the host session under which this address mounts a set: that of the narrowest range.
    pub fn host_for(&self, peer: IpAddr, set: &SetName, now: Stamp) -> Option<SessionId> {
        let found = {
            let hosts = self.live_hosts();
            let good = hosts.iter().filter(|(_, host)| host.lets(peer) && host.record.set == *set);
            good.max_by_key(|(_, host)| host.record.range.bits()).map(|(id, _)| *id)
        };
        // The name of the set is left out where there is none: it may be a ticket in the wrong place.
        let line = match found {
            Some(id) => AuditLine::done(now, AuditEvent::Mount)
                .because("by a host session")
                .set(set)
                .session(id),
            None => AuditLine::refused(now, AuditEvent::Mount, "no ticket, and no host session"),
        };
        self.0.audit.write(line.address(peer).at_most_now_and_then());
        found
    }

    /// Decides about a call of a host session: the address it comes from, and who it claims to be (`None` for AUTH_NONE,
    /// who is nobody).
    pub fn check_host(
        &self,
        session: SessionId,
        peer: IpAddr,
        claim: Option<Claim<'_>>,
    ) -> Result<Admitted, SessionRefusal> {
        let hosts = self.live_hosts();
        let host = hosts.get(&session).ok_or(SessionRefusal::Unknown)?;
        if host.is_revoked {
            return Err(SessionRefusal::Revoked);
        }
        if !host.lets(peer) {
            return Err(SessionRefusal::WrongAddress);
        }
        let principal = Arc::new(principal(peer, claim, host.record.may_write));
        Ok(Admitted { principal, client_uid: None, set: host.record.set.clone() })
    }

    /// Returns the host sessions, those granted last first.
    pub fn hosts(&self) -> Vec<HostSession> {
        let hosts = self.live_hosts();
        let living = hosts.iter().filter(|(_, host)| !host.is_revoked);
        let mut infos: Vec<_> = living.map(|(id, host)| host.info(*id)).collect();
        infos.sort_by_key(|host| (std::cmp::Reverse(host.created), host.id));
        infos
    }

    /// Ends a host session at once, durably when this returns; the caller holds the lock of changes. Tells whether there
    /// was one to end.
    pub(super) fn revoke_host(&self, session: SessionId, now: Stamp) -> Result<bool, AccountError> {
        match self.hosts_mut().get_mut(&session) {
            Some(host) => host.is_revoked = true,
            None => return Ok(false),
        }
        self.forget_revoked_hosts(now)?;
        Ok(true)
    }

    /// Takes the host sessions that were ended from the disk, and then from memory: where the disk fails they stay ended,
    /// and this is to be called again.
    pub(super) fn forget_revoked_hosts(&self, now: Stamp) -> Result<(), AccountError> {
        let revoked: Vec<_> = {
            let hosts = self.live_hosts();
            let revoked = hosts.iter().filter(|(_, host)| host.is_revoked);
            revoked.map(|(id, host)| (*id, host.record.clone())).collect()
        };
        if revoked.is_empty() {
            return Ok(());
        }
        store::remove_hosts(&self.0.db, revoked.iter().map(|(id, _)| *id))?;
        for (id, record) in revoked {
            self.hosts_mut().remove(&id);
            self.audit_host(AuditEvent::Revoke, id, &record, now);
        }
        Ok(())
    }

    pub(super) fn has_host(&self, id: SessionId) -> bool {
        self.live_hosts().contains_key(&id)
    }

    fn audit_host(&self, event: AuditEvent, id: SessionId, record: &HostRecord, now: Stamp) {
        let may = if record.may_write { "write" } else { "read" };
        let what = format!("host session of {}, {may}", record.range);
        self.0.audit.write(AuditLine::done(now, event).set(&record.set).session(id).because(what));
    }

    fn live_hosts(&self) -> RwLockReadGuard<'_, Hosts> {
        self.0.hosts.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn hosts_mut(&self) -> RwLockWriteGuard<'_, Hosts> {
        self.0.hosts.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Host {
    fn lets(&self, peer: IpAddr) -> bool {
        !self.is_revoked && self.record.range.contains(peer)
    }

    fn info(&self, id: SessionId) -> HostSession {
        let HostRecord { range, set, may_write, created } = self.record.clone();
        HostSession { id, range, set, may_write, created }
    }
}

impl From<HostRecord> for Host {
    fn from(record: HostRecord) -> Self {
        Self { record, is_revoked: false }
    }
}

/// Returns whom a claim is taken for: root and its group are nobody, so that a client's root is not ours.
fn principal(peer: IpAddr, claim: Option<Claim<'_>>, may_write: bool) -> Principal {
    let squashed = |number| if number == 0 { NOBODY } else { number };
    let Claim { uid, gid, groups } = claim.unwrap_or(Claim { uid: 0, gid: 0, groups: &[] });
    let (uid, gid) = (squashed(uid), squashed(gid));
    let user = format!("host {} uid {uid}", peer.to_canonical());
    let groups = groups.iter().take(CLAIM_GROUPS_MAX).copied().filter(|group| *group != 0);
    Principal { user, uid, gid, groups: groups.collect(), may_write }
}
