//! One session.

use std::{
    fmt,
    net::IpAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use keepshare_base::{SetName, Stamp};

use crate::{Binding, Principal, SessionId, UserName};

/// What opens the API for a user who logged in, and takes a mounted drive to another address: 64 digits for 256 random bits.
/// Secret.
#[derive(Clone, Eq, PartialEq)]
pub struct ResumeSecret([u8; 32]);

impl ResumeSecret {
    pub(crate) fn new() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// Reads the text that [`Self::reveal`] gave.
    pub fn parse(text: &str) -> Option<Self> {
        HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok().map(Self)
    }

    /// Returns the text, for the user's eyes only.
    pub fn reveal(&self) -> String {
        HEXLOWER.encode(&self.0)
    }

    pub(super) fn key(&self) -> [u8; 32] {
        blake3::derive_key("keepshare session resume v1", &self.0)
    }
}

impl fmt::Debug for ResumeSecret {
    /// Leaves the secret out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResumeSecret(..)")
    }
}

/// What can be told of a session.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SessionInfo {
    /// The session's number, as handles and commands name it.
    pub id: SessionId,
    /// Whose it is.
    pub user: UserName,
    /// What was mounted.
    pub set: SetName,
    /// From where alone it can be used.
    pub address: IpAddr,
    /// The client's uid that alone can use it; none where all its users share it.
    pub client_uid: Option<u32>,
    /// Calls from ports that any user of the client may have are taken too.
    pub any_port: bool,
    /// A drive was mounted with it; else it only opens the API.
    pub mounted: bool,
    /// When the drive was mounted, or the login where none was.
    pub created: Stamp,
    /// When it was used last.
    pub last_used: Stamp,
    /// When it was ended.
    pub revoked: Option<Stamp>,
}

/// A session as stored.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) user: UserName,
    pub(super) set: SetName,
    /// Canonical: never an IPv4 address written as IPv6.
    pub(super) address: IpAddr,
    pub(super) client_uid: Option<u32>,
    pub(super) created: Stamp,
    pub(super) last_used: Stamp,
    pub(super) revoked: Option<Stamp>,
    pub(super) resume: [u8; 32],
    /// Stored behind the rest; a record that is older has none.
    #[serde(skip)]
    pub(super) any_port: bool,
    /// Its drive was mounted. Stored behind the rest, too; every session of an older record was.
    #[serde(skip)]
    pub(super) mounted: bool,
}

impl Record {
    /// Returns where the session may be used from.
    pub(super) fn binding(&self) -> Binding {
        Binding { address: self.address, uid: self.client_uid, any_port: self.any_port }
    }
}

/// A session in memory.
pub(super) struct Session {
    pub(super) id: SessionId,
    /// As it was stored last, but for what stands beside it here.
    pub(super) record: Record,
    pub(super) principal: Arc<Principal>,
    pub(super) last_used: AtomicI64,
    /// The time of use that is on disk.
    stored: AtomicI64,
    /// The end of the session is on disk.
    end_stored: AtomicBool,
    /// The drive was used, not only mounted.
    pub(super) used: AtomicBool,
    /// A call was refused because of its port.
    port_refused: AtomicBool,
    pub(super) revoked: OnceLock<Stamp>,
}

impl Session {
    pub(super) fn new(id: SessionId, record: Record, principal: Arc<Principal>) -> Self {
        let last_used = record.last_used.0;
        let revoked = record.revoked.map_or_else(OnceLock::new, OnceLock::from);
        let used = AtomicBool::new(false);
        let (last_used, stored) = (AtomicI64::new(last_used), AtomicI64::new(last_used));
        let end_stored = AtomicBool::new(record.revoked.is_some());
        let port_refused = AtomicBool::new(false);
        Self { id, record, principal, last_used, stored, end_stored, used, port_refused, revoked }
    }

    /// Notes that a call was refused because of its port; tells whether it was the first.
    pub(super) fn port_refused(&self) -> bool {
        !self.port_refused.swap(true, Ordering::Relaxed)
    }

    /// Returns the same session with another record.
    pub(super) fn rebound(&self, record: Record) -> Self {
        let rebound = Self::new(self.id, record, Arc::clone(&self.principal));
        rebound.used.store(self.used.load(Ordering::Relaxed), Ordering::Relaxed);
        rebound.port_refused.store(self.port_refused.load(Ordering::Relaxed), Ordering::Relaxed);
        rebound
    }

    /// Returns what is to be stored now.
    pub(super) fn record(&self) -> Record {
        let (last_used, revoked) = (self.last_used(), self.revoked.get().copied());
        Record { last_used, revoked, ..self.record.clone() }
    }

    pub(super) fn info(&self) -> SessionInfo {
        let Record {
            user,
            set,
            address,
            client_uid,
            any_port,
            mounted,
            created,
            last_used,
            revoked,
            ..
        } = self.record();
        let id = self.id;
        SessionInfo {
            id,
            user,
            set,
            address,
            client_uid,
            any_port,
            mounted,
            created,
            last_used,
            revoked,
        }
    }

    pub(super) fn last_used(&self) -> Stamp {
        Stamp(self.last_used.load(Ordering::Relaxed))
    }

    /// Ends the session; tells whether that is to be stored now.
    pub(super) fn revoke(&self, now: Stamp) -> bool {
        self.revoked.set(now).is_ok() || self.has_unstored_end()
    }

    /// Tells whether memory knows more than the disk.
    pub(super) fn is_ahead(&self) -> bool {
        let was_used =
            self.last_used.load(Ordering::Relaxed) != self.stored.load(Ordering::Relaxed);
        was_used || self.has_unstored_end()
    }

    /// Notes what is on disk now.
    pub(super) fn stored(&self, record: &Record) {
        self.stored.store(record.last_used.0, Ordering::Relaxed);
        self.end_stored.store(record.revoked.is_some(), Ordering::Relaxed);
    }

    fn has_unstored_end(&self) -> bool {
        self.revoked.get().is_some() && !self.end_stored.load(Ordering::Relaxed)
    }
}
