//! The network drive: the sets that this station shows as drives, and how the door that serves them is.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
};

use chrono_tz::Tz;

use keepshare_auth::Sessions;
use keepshare_control::{Failure, Outcome};
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

/// Gives every set that is kept here its number, and tells whether one was missing.
pub(crate) fn number(records: &mut [SetRecord]) -> Outcome<bool> {
    let mut last = records.iter().filter_map(|record| record.share).max().unwrap_or(0);
    let mut changed = false;
    for record in records {
        if record.share.is_none() && record.part.copy.is_some() {
            last = last.checked_add(1).ok_or_else(|| {
                Failure::refused("there are as many sets as a station can have had, 65535")
            })?;
            record.share = Some(last);
            changed = true;
        }
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use keepshare_base::OriginId;
    use keepshare_sets::record::SetPart;

    use super::*;

    /// A number that came to another set would give its files to whoever still has a handle.
    #[test]
    fn numbers_stay_with_their_sets() {
        let replica = |name: &str, share| {
            let part = SetPart::received(OriginId(1), "office".parse().unwrap());
            SetRecord { share, ..SetRecord::new(name.parse().unwrap(), part) }
        };
        let master = SetPart::sent(OriginId(1), "/srv".into(), Vec::new());
        let mut records = vec![
            replica("a", None),
            SetRecord::new("b".parse().unwrap(), master),
            replica("c", Some(7)),
            replica("d", None),
        ];
        assert!(number(&mut records).unwrap());
        let numbers: Vec<_> = records.iter().map(|record| record.share).collect();
        assert_eq!(numbers, [Some(8), None, Some(7), Some(9)]);
        assert!(!number(&mut records).unwrap(), "they are given once");
        records[2].share = Some(u16::MAX);
        records.push(replica("e", None));
        assert!(number(&mut records).is_err());
    }
}
