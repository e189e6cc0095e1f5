//! The NFS door: it serves the drive, and has the masters of its sets write old versions back.

use std::{
    fmt,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Weak},
};

use anyhow::Context;

use keepshare_auth::{AuditEvent, AuditLine};
use keepshare_host::clock;
use keepshare_namespace::{AskedBy, Restore, RestoreError, Restorer};
use keepshare_nfs::{Limits, Parts, Server};
use keepshare_replication::drivers::Wanted;
use keepshare_versioning::names;

use crate::station::Station;

/// Serves the drive until the station stops.
pub(crate) async fn keep(station: Arc<Station>, address: SocketAddr) {
    let mut stop = station.stopping();
    let open = || start(&station, address);
    let started = tokio::select! {
        server = station.drive.shut.open("the NFS door", address, open) => server,
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

fn start(station: &Arc<Station>, address: SocketAddr) -> anyhow::Result<Server> {
    let listener =
        TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    let parts = Parts {
        shares: station.drive.shares().clone(),
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
        let copy = running.as_ref().and_then(|running| running.copy());
        if let Some(at) = restore.folder_at {
            let brought = copy.map_or(Err(RestoreError::Away), |copy| {
                copy.bring_for_door(restore, at, by.session.0)
            });
            let line = match &brought {
                Ok(id) => AuditLine::done(clock::now(), AuditEvent::Rollback).result(id),
                Err(error) => AuditLine::refused(clock::now(), AuditEvent::Rollback, error),
            };
            let asked = format!("{} as it was, moved on a drive", restore.path);
            station.accounts.audit().write(of(restore, by, line).asked(asked));
            return brought.map(drop);
        }
        let restored = match copy {
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
        let line = of(restore, by, line).path(&restore.path).version(names::id(&restore.state));
        station.accounts.audit().write(line);
        restored.map(drop)
    }
}

/// Adds who asked for it.
fn of(restore: &Restore, by: AskedBy, line: AuditLine) -> AuditLine {
    line.principal(&restore.user).address(by.address).session(by.session).set(&restore.set)
}

impl fmt::Debug for Restores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Restores").finish_non_exhaustive()
    }
}
