//! Host sessions: machines that are trusted to say which of their users calls.
//!
//! An admin grants one for a range of addresses and a set. Whoever calls from there has the rights of the numbers that
//! the call claims, as classic NFS has it, but for the client's root, who is nobody. There are none unless granted.

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, PoisonError, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use keepshare_base::{SetName, Stamp};

use super::{
    Admitted, SessionRefusal, Sessions,
    store::{self, HostRecord},
};
use crate::{
    AccountError, AuditEvent, AuditLine, HostRange, Principal, SessionId, binding::is_reserved,
};

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
    /// Calls from ports that any of their users may have are taken too.
    pub any_port: bool,
    /// When it was granted.
    pub created: Stamp,
}

/// What a host session is to allow.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HostGrant {
    /// Which machines.
    pub range: HostRange,
    /// What they may mount.
    pub set: SetName,
    /// They may have old versions restored.
    pub may_write: bool,
    /// Calls from ports that any of their users may have are taken too: the kernel of such a machine is then not the only
    /// one there that is believed.
    pub any_port: bool,
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

/// A host session in memory.
pub(super) struct Host {
    record: HostRecord,
    /// It was ended, and that is not on disk yet.
    is_revoked: bool,
    /// A call was refused because of its port.
    port_refused: AtomicBool,
}

pub(super) type Hosts = HashMap<SessionId, Host>;

impl Sessions {
    /// Lets all users of these machines use a set as those who they say they are; durable when this returns.
    ///
    /// A range has one host session for a set, so that ending it ends what it allowed.
    pub fn grant_host(&self, grant: HostGrant, now: Stamp) -> Result<SessionId, AccountError> {
        let HostGrant { range, set, may_write, any_port } = grant;
        let _changes = self.changes();
        let known = self.hosts();
        if known.iter().any(|host| host.range == range && host.set == set) {
            return Err(AccountError::HostGranted(range));
        }
        if known.len() >= HOSTS_MAX {
            return Err(AccountError::TooManyHosts);
        }
        let id = self.free_id()?;
        let record = HostRecord { range, set, may_write, created: now, any_port };
        store::put_host(&self.0.db, id, &record)?;
        self.audit_host(AuditEvent::SessionGrant, id, &record, now);
        self.hosts_mut().insert(id, Host::from(record));
        Ok(id)
    }

    /// Returns the host session under which this peer mounts a set: that of the narrowest range.
    pub fn host_for(&self, peer: SocketAddr, set: &SetName, now: Stamp) -> Option<SessionId> {
        let address = peer.ip();
        let found = {
            let hosts = self.live_hosts();
            let of_set = hosts.iter().filter(|(_, host)| host.record.set == *set);
            let good = of_set.filter(|(_, host)| host.lets(address) && host.takes_port_of(peer));
            good.max_by_key(|(_, host)| host.record.range.bits()).map(|(id, _)| *id)
        };
        // The name of the set is left out where there is none: it may be a ticket in the wrong place.
        let line = match found {
            Some(id) => AuditLine::done(now, AuditEvent::Mount)
                .because("by a host session")
                .set(set)
                .session(id),
            None => AuditLine::refused(
                now,
                AuditEvent::Mount,
                "no ticket, and no host session that takes this address and port",
            ),
        };
        self.0.audit.write(line.address(address).at_most_now_and_then());
        found
    }

    /// Decides about a call of a host session: where it comes from, and who it claims to be (`None` for AUTH_NONE, who is
    /// nobody). It is the machine that is believed, not whoever has a program there: calls come from ports below 1024, unless
    /// the grant said otherwise.
    pub fn check_host(
        &self,
        session: SessionId,
        peer: SocketAddr,
        claim: Option<Claim<'_>>,
    ) -> Result<Admitted, SessionRefusal> {
        let hosts = self.live_hosts();
        let host = hosts.get(&session).ok_or(SessionRefusal::Unknown)?;
        if host.is_revoked {
            return Err(SessionRefusal::Revoked);
        }
        if !host.lets(peer.ip()) {
            return Err(SessionRefusal::WrongAddress);
        }
        if !host.takes_port_of(peer) {
            let is_first = !host.port_refused.swap(true, Ordering::Relaxed);
            return Err(SessionRefusal::UserPort { is_first });
        }
        let principal = Arc::new(principal(peer.ip(), claim, host.record.may_write));
        let set = host.record.set.clone();
        Ok(Admitted { principal, client_uid: None, set, is_host: true })
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
        self.tell_ended(&[session]);
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

    pub(super) fn host_lives(&self, id: SessionId) -> bool {
        self.live_hosts().get(&id).is_some_and(|host| !host.is_revoked)
    }

    pub(super) fn has_host(&self, id: SessionId) -> bool {
        self.live_hosts().contains_key(&id)
    }

    fn audit_host(&self, event: AuditEvent, id: SessionId, record: &HostRecord, now: Stamp) {
        let may = if record.may_write { "write" } else { "read" };
        let ports = if record.any_port { ", from any port" } else { "" };
        let what = format!("host session of {}, {may}{ports}", record.range);
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

    fn takes_port_of(&self, peer: SocketAddr) -> bool {
        self.record.any_port || is_reserved(peer)
    }

    fn info(&self, id: SessionId) -> HostSession {
        let HostRecord { range, set, may_write, any_port, created } = self.record.clone();
        HostSession { id, range, set, may_write, any_port, created }
    }
}

impl From<HostRecord> for Host {
    fn from(record: HostRecord) -> Self {
        Self { record, is_revoked: false, port_refused: AtomicBool::new(false) }
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
