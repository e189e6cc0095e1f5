//! What ends sessions: somebody's word, a change of their user, or that nobody uses them. Host sessions end in `hosts`.

use std::sync::Arc;

use keepshare_base::Stamp;

use super::{Sessions, session::Session, store};
use crate::{AccountError, AuditEvent, AuditLine, SessionId, UserName};

/// How long a revoked session stays listed, in microseconds.
const REVOKED_KEPT_US: i64 = 86_400_000_000;

impl Sessions {
    /// Ends a session, a host session too, at once, durably when this returns. Tells whether there was one to end.
    ///
    /// Where the disk fails the session has ended in memory, and its end is stored by the next try or [`Self::flush`].
    pub fn revoke(&self, session: SessionId, now: Stamp) -> Result<bool, AccountError> {
        let _changes = self.changes();
        let Some(found) = self.live().get(&session).cloned() else {
            return self.revoke_host(session, now);
        };
        let ended: Vec<_> = Some(found).into_iter().filter(|entry| entry.revoke(now)).collect();
        self.tell_ended(&ended.iter().map(|entry| entry.id).collect::<Vec<_>>());
        self.note_revoked(&ended, now)
    }

    /// Ends all sessions of a user at once, durably when this returns, and the tickets that are still out. Tells how many
    /// sessions.
    pub fn revoke_user(&self, user: &UserName, now: Stamp) -> Result<usize, AccountError> {
        let mut tickets = self.changes();
        tickets.drop_of(user);
        let ended = self.end_all_of(user, now);
        self.note_revoked(&ended, now)?;
        Ok(ended.len())
    }

    /// Has `watcher` told of every session that ends, or is taken to another address, until it returns false. It must not
    /// call back.
    pub fn watch_ends(&self, watcher: impl Fn(&[SessionId]) -> bool + Send + Sync + 'static) {
        self.watchers().push(Box::new(watcher));
    }

    /// Changes a user in one step with the end of all the user's sessions; tells how many.
    pub(crate) fn change_user(
        &self,
        user: &UserName,
        now: Stamp,
        change: impl FnOnce(&redb::WriteTransaction) -> Result<bool, AccountError>,
    ) -> Result<Option<usize>, AccountError> {
        let _changes = self.changes();
        let write = self.0.db.begin_write()?;
        if !change(&write)? {
            return Ok(None);
        }
        // Ended in memory first: where the disk fails, too much has ended rather than too little.
        let ended = self.end_all_of(user, now);
        let records: Vec<_> = ended.iter().map(|entry| entry.record()).collect();
        for (entry, record) in ended.iter().zip(&records) {
            store::put(&write, entry.id, record)?;
        }
        write.commit()?;
        for (entry, record) in ended.iter().zip(&records) {
            entry.stored(record);
        }
        self.audit_revoked(&ended, now);
        Ok(Some(ended.len()))
    }

    pub(super) fn end_all_of(&self, user: &UserName, now: Stamp) -> Vec<Arc<Session>> {
        let ended: Vec<_> = {
            let live = self.live();
            let of_user = live.values().filter(|entry| entry.record.user == *user);
            of_user.filter(|entry| entry.revoke(now)).cloned().collect()
        };
        self.tell_ended(&ended.iter().map(|entry| entry.id).collect::<Vec<_>>());
        ended
    }

    pub(super) fn tell_ended(&self, sessions: &[SessionId]) {
        if !sessions.is_empty() {
            self.watchers().retain(|watcher| watcher(sessions));
        }
    }

    pub(super) fn note_revoked(
        &self,
        ended: &[Arc<Session>],
        now: Stamp,
    ) -> Result<bool, AccountError> {
        if ended.is_empty() {
            return Ok(false);
        }
        let records: Vec<_> = ended.iter().map(|entry| (entry.id, entry.record())).collect();
        store::write(&self.0.db, &records, &[])?;
        for (entry, (_, record)) in ended.iter().zip(&records) {
            entry.stored(record);
        }
        self.audit_revoked(ended, now);
        Ok(true)
    }

    /// Takes the sessions out that ended: those revoked long ago, and those not used for too long.
    pub(super) fn sweep(&self, now: Stamp) -> Vec<Arc<Session>> {
        let has_ended = |entry: &Session| match entry.revoked.get() {
            Some(at) => now.micros_since(*at) >= REVOKED_KEPT_US,
            None => now.micros_since(entry.last_used()) >= self.0.idle_us,
        };
        if !self.live().values().any(|entry| has_ended(entry)) {
            return Vec::new();
        }
        self.live_mut().extract_if(|_, entry| has_ended(entry)).map(|(_, entry)| entry).collect()
    }

    pub(super) fn audit_revoked(&self, ended: &[Arc<Session>], now: Stamp) {
        for entry in ended {
            let line = AuditLine::done(now, AuditEvent::Revoke).user(&entry.record.user);
            let line = line.set(&entry.record.set).address(entry.record.address);
            self.0.audit.write(line.session(entry.id));
        }
    }

    pub(super) fn audit_end(&self, entry: &Session, now: Stamp, why: &str) {
        let line = AuditLine::done(now, AuditEvent::SessionEnded).user(&entry.record.user);
        let line = line.set(&entry.record.set).address(entry.record.address);
        self.0.audit.write(line.session(entry.id).because(why));
    }
}
