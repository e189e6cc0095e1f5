//! The network drive: the sets that this station shows as drives, and how the door that serves them is.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
};

use chrono_tz::Tz;

use keepshare_auth::Sessions;
use keepshare_namespace::{Share, ShareConfig, ShareId, Show};
use keepshare_nfs::{ClientInfo, Server, Shares};
use keepshare_sets::{record::SetRecord, replica::Replica};

use crate::doors::Shut;

/// What the keys of names and ids are derived for.
const KEY_PURPOSE: &str = "keepshare names and ids of a share v1";

/// The drive of a station.
#[derive(Default)]
pub(crate) struct Drive {
    shares: Shares,
    server: Mutex<Option<Server>>,
    /// Why there is no drive, where there should be one.
    pub(crate) shut: Shut,
}

impl Drive {
    /// Shows a set that this station keeps, in this zone and with `@versions` listed here; its handles are sealed with a key that
    /// follows from that of the sessions.
    pub(crate) fn add(
        &self,
        record: &SetRecord,
        replica: &Replica,
        (zone, show): (Tz, Show),
        sessions: &Sessions,
    ) {
        let Some(number) = record.share else { return };
        self.shares.insert(Share::new(ShareConfig {
            id: ShareId(number),
            set: record.name.clone(),
            reader: replica.reader().clone(),
            zone,
            show,
            room: replica.live().to_owned(),
            key: sessions.derived_key(KEY_PURPOSE),
        }));
    }

    /// Returns who is connected.
    pub(crate) fn clients(&self) -> Vec<ClientInfo> {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        server.as_ref().map(Server::clients).unwrap_or_default()
    }

    /// Returns where it is served; none while it is not.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        server.as_ref().map(Server::address)
    }

    /// Returns the sets that are drives.
    pub(crate) fn shares(&self) -> &Shares {
        &self.shares
    }

    /// Takes what serves the drive, and returns what did before.
    pub(crate) fn set_server(&self, server: Option<Server>) -> Option<Server> {
        let mut held = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut held, server)
    }
}

impl fmt::Debug for Drive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drive").finish_non_exhaustive()
    }
}
