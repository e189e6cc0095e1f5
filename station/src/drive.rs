//! The network drive: the NFS door as this station runs it, with the sets that it keeps.

use std::{
    fmt,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use anyhow::Context;

use keepshare_auth::{AuditEvent, AuditLine};
use keepshare_control::{Failure, Outcome};
use keepshare_host::clock;
use keepshare_namespace::{AskedBy, Restore, RestoreError, Restorer, Share, ShareConfig, ShareId};
use keepshare_nfs::{ClientInfo, Limits, Parts, Server, Shares};
use keepshare_replication::drivers::Wanted;
use keepshare_versioning::names;

use crate::{replica::Replica, service::Station, set_record::SetRecord};

/// How often an address that is taken is tried again.
const BIND_EVERY: Duration = Duration::from_secs(5);

/// What the keys of names and ids are derived for.
const KEY_PURPOSE: &str = "keepshare names and ids of a share v1";

/// The drive of a station.
#[derive(Default)]
pub(crate) struct Drive {
    shares: Shares,
    server: Mutex<Option<Server>>,
    problem: Mutex<Option<String>>,
}

impl Drive {
    /// Shows a set that this station keeps.
    pub(crate) fn add(&self, station: &Station, record: &SetRecord, replica: &Replica) {
        let Some(number) = record.share else { return };
        self.shares.insert(Share::new(ShareConfig {
            id: ShareId(number),
            set: record.name.clone(),
            reader: replica.reader().clone(),
            zone: station.config.zone,
            show: station.config.doors.show.into(),
            room: replica.live().to_owned(),
            key: station.accounts.sessions().derived_key(KEY_PURPOSE),
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

    /// Returns why there is no drive, where there should be one.
    pub(crate) fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_problem(&self, problem: Option<String>) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    fn set_server(&self, server: Option<Server>) -> Option<Server> {
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

/// Serves the drive until the station stops. An address that cannot be had is a problem that is shown; nothing else waits
/// for it.
pub(crate) async fn keep(station: Arc<Station>, address: SocketAddr) {
    let mut stop = station.stopping();
    let started = tokio::select! {
        server = start(&station, address) => server,
        _ = stop.wait_for(|stop| *stop) => return,
    };
    station.drive.set_server(Some(started));
    // The station is there as long as this task.
    let _ = stop.wait_for(|stop| *stop).await;
    let server = station.drive.set_server(None);
    // Waits for clients to take their answers.
    let stopped = tokio::task::spawn_blocking(move || server.map(Server::stop)).await;
    if let Err(error) = stopped {
        tracing::error!(%error, "ending the drive failed");
    }
}

async fn start(station: &Arc<Station>, address: SocketAddr) -> Server {
    let mut is_told = false;
    loop {
        match try_start(station, address) {
            Ok(server) => {
                station.drive.set_problem(None);
                tracing::info!(station = %station.config.name, address = %server.address(), "the drive is served");
                return server;
            }
            Err(error) => {
                if !is_told {
                    tracing::error!(%address, error = format!("{error:#}"), "the drive is not served");
                    is_told = true;
                }
                station.drive.set_problem(Some(format!("{error:#}")));
                tokio::time::sleep(BIND_EVERY).await;
            }
        }
    }
}

fn try_start(station: &Arc<Station>, address: SocketAddr) -> anyhow::Result<Server> {
    let listener =
        TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    let parts = Parts {
        shares: station.drive.shares.clone(),
        sessions: station.accounts.sessions().clone(),
        restorer: Arc::new(Restores(Arc::downgrade(station))),
        clock: clock::now,
        limits: Limits::default(),
    };
    Server::start(listener, parts).context("cannot start its threads")
}

/// Has the masters of this station's sets write old versions back.
struct Restores(Weak<Station>);

impl Restorer for Restores {
    fn restore(&self, restore: &Restore, by: AskedBy) -> Result<(), RestoreError> {
        let station = self.0.upgrade().ok_or(RestoreError::Away)?;
        let running = station.running(&restore.set);
        let restored = match running.as_ref().and_then(|running| running.copy()) {
            Some(copy) => {
                let (sessions, session) = (station.accounts.sessions().clone(), by.session);
                let wanted = Wanted::new(move || sessions.lives(session));
                copy.restore_for_door(restore, wanted)
            }
            None => Err(RestoreError::Away),
        };
        let line = match &restored {
            Ok(result) => AuditLine::done(clock::now(), AuditEvent::Restore).result(result),
            Err(error) => AuditLine::refused(clock::now(), AuditEvent::Restore, error),
        };
        let line = line.principal(&restore.user).address(by.address).session(by.session);
        let line = line.set(&restore.set).path(&restore.path).version(names::id(&restore.state));
        station.accounts.audit().write(line);
        restored.map(drop)
    }
}

impl fmt::Debug for Restores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Restores").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use keepshare_base::OriginId;

    use super::*;
    use crate::set_record::SetPart;

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
