//! What begins a session: a login makes it, and a mount with the login's ticket makes it one of a drive.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
};

use keepshare_base::{SetName, Stamp};

use super::{
    SESSIONS_MAX, SESSIONS_OF_A_USER_MAX, Sessions,
    session::{Record, Session},
    store,
};
use crate::{
    AccountError, Binding, ResumeSecret, SessionId, Ticket, TicketRefusal, User, UserName,
    tickets::Pass,
};

impl Sessions {
    /// Gives a ticket for a user whose password was right.
    pub(crate) fn issue(
        &self,
        user: &User,
        mark: u64,
        set: SetName,
        binding: Binding,
        now: Stamp,
    ) -> Result<(Ticket, ResumeSecret), AccountError> {
        let (ticket, secret) = (Ticket::new()?, ResumeSecret::new()?);
        let (user, resume) = (user.name.clone(), secret.key());
        let (made, session, port_told, redeemed) = (now, None, false, false);
        let mut pass =
            Pass { user, mark, set, binding, port_told, resume, made, session, redeemed };
        let mut tickets = self.changes();
        pass.session = self.create(&pass, now)?;
        tickets.add(&ticket, pass);
        Ok((ticket, secret))
    }

    pub(super) fn try_redeem(
        &self,
        ticket: &[u8],
        peer: SocketAddr,
        now: Stamp,
    ) -> Result<Redeemed, TicketRefusal> {
        let mut tickets = self.changes();
        let pass = tickets.find(ticket, peer, now)?;
        let (set, user, is_first) = (pass.set.clone(), pass.user.clone(), !pass.redeemed);
        let entry = pass.session.and_then(|session| self.live().get(&session).cloned());
        let entry = entry.filter(|entry| entry.revoked.get().is_none());
        let Some(entry) = entry else {
            return Err(if is_first { TicketRefusal::UserChanged } else { TicketRefusal::Used });
        };
        let session = entry.id;
        match (is_first, entry.used.load(Ordering::Relaxed)) {
            (true, _) => {
                let mounted = self.mount(&entry, pass, now).map_err(TicketRefusal::Failed)?;
                if !mounted {
                    return Err(TicketRefusal::UserChanged);
                }
                pass.redeemed = true;
            }
            (false, false) => {}
            (false, true) => return Err(TicketRefusal::Used),
        }
        Ok(Redeemed { session, set, user, is_first })
    }

    /// Makes the session of a login one of a drive; tells whether the user is still the one who logged in.
    fn mount(&self, entry: &Session, pass: &Pass, now: Stamp) -> Result<bool, AccountError> {
        let write = self.0.db.begin_write()?;
        if store::user(&write, pass)?.is_none() {
            return Ok(false);
        }
        let record = Record { mounted: true, created: now, last_used: now, ..entry.record() };
        store::put(&write, entry.id, &record)?;
        write.commit()?;
        self.live_mut().insert(entry.id, Arc::new(entry.rebound(record)));
        Ok(true)
    }

    /// Makes the session of a login, which opens the API; a drive is mounted with its ticket later. `None` where the user is not the one any more that logged in.
    fn create(&self, pass: &Pass, now: Stamp) -> Result<Option<SessionId>, AccountError> {
        let id = self.free_id()?;
        let write = self.0.db.begin_write()?;
        let Some(user) = store::user(&write, pass)? else { return Ok(None) };
        let record = Record {
            user: pass.user.clone(),
            set: pass.set.clone(),
            address: pass.binding.address,
            client_uid: pass.binding.uid,
            created: now,
            last_used: now,
            revoked: None,
            resume: pass.resume,
            any_port: pass.binding.any_port,
            mounted: false,
        };
        store::put(&write, id, &record)?;
        let surplus = self.surplus(&pass.user);
        for entry in &surplus {
            store::remove(&write, entry.id)?;
        }
        write.commit()?;
        let mut live = self.live_mut();
        for entry in &surplus {
            live.remove(&entry.id);
        }
        live.insert(id, Arc::new(Session::new(id, record, Arc::new(user.principal()))));
        drop(live);
        self.tell_ended(&surplus.iter().map(|entry| entry.id).collect::<Vec<_>>());
        for entry in surplus.iter().filter(|entry| entry.revoked.get().is_none()) {
            self.audit_end(entry, now, "too many sessions");
        }
        Ok(Some(id))
    }

    /// Returns the sessions that make room for one more of a user: ended ones first, then those without a drive, then those
    /// idle for longest.
    fn surplus(&self, user: &UserName) -> Vec<Arc<Session>> {
        let order = |entry: &&Arc<Session>| {
            (entry.revoked.get().is_none(), entry.record.mounted, entry.last_used())
        };
        let live = self.live();
        let own = || live.values().filter(|entry| entry.record.user == *user);
        let first = match () {
            () if own().count() >= SESSIONS_OF_A_USER_MAX => own().min_by_key(order),
            () if live.len() >= SESSIONS_MAX => live.values().min_by_key(order),
            () => None,
        };
        first.into_iter().cloned().collect()
    }
}

/// What a ticket gave.
pub(super) struct Redeemed {
    pub(super) session: SessionId,
    pub(super) set: SetName,
    pub(super) user: UserName,
    /// The ticket was not taken before.
    pub(super) is_first: bool,
}
