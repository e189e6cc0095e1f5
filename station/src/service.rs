//! A station that runs: what it does by itself, and the ways in.

use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use tokio::net::TcpListener;

use keepshare_control::Outcome;
use keepshare_host::clock;
use keepshare_replication::link::{Credentials, Listener};
use keepshare_sets::{attention, reopening};
use keepshare_web::Station as DoorStation;

use crate::{
    https_door, incoming,
    membership::{announce, hearing, renewal},
    nfs_door, sessions,
    station::Station,
    status::station_status,
};

/// Makes what answers the questions of one way in; each has turns of its own.
pub type Questions = fn(&Arc<Station>) -> Router;

impl Station {
    /// Binds the address that others dial.
    pub async fn bind(&self) -> Outcome<TcpListener> {
        let listen = self.config.listen;
        Ok(TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?)
    }

    /// Listens for other stations until stopped, then closes all sets.
    pub async fn run(self: &Arc<Self>, socket: TcpListener, questions: Questions) -> Outcome<()> {
        let membership = &self.membership;
        let credentials = Arc::clone(&membership.peers) as Arc<dyn Credentials>;
        let listener = Listener::start(socket, credentials, self.link_options())
            .context("cannot listen for other stations")?;
        tracing::info!(station = %self.config.name, address = %listener.local_addr(), "listening");
        self.spawn(renewal::keep(Arc::clone(membership), self.stopping()));
        match self.config.own_address() {
            Ok(Some(own)) => {
                self.spawn(announce::keep(Arc::clone(membership), own, self.stopping()));
            }
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "the config's address is not usable"),
        }
        if membership.enrolment.is_none() {
            let (agreed, peers) = (Arc::clone(&membership.agreed), Arc::clone(&membership.peers));
            self.spawn(hearing::keep(agreed, peers, self.stopping()));
        }
        self.spawn(Arc::clone(self).keep_agreeing());
        let again = Arc::clone(self);
        self.spawn(reopening::keep(move || again.reopen_full_sets(), self.stopping()));
        let looked_at = Arc::clone(self);
        let look = move || station_status(&looked_at).concerns;
        self.spawn(attention::keep(look, self.stopping()));
        self.spawn(sessions::keep(Arc::clone(&self.accounts), self.stopping()));
        if let Some(address) = self.config.doors.https {
            let (door, asked) = (Arc::clone(&self.https), (self.door_station(), questions(self)));
            self.spawn(https_door::keep(door, address, asked, self.stopping()));
        }
        if let Some(nfs) = self.config.doors.nfs {
            self.spawn(nfs_door::keep(Arc::clone(self), nfs));
        }
        let mut stop = self.stopping();
        tokio::select! {
            () = incoming::serve(self, listener, questions(self)) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
        self.close().await;
        Ok(())
    }

    /// Returns what the HTTPS door needs of this station.
    fn door_station(self: &Arc<Self>) -> DoorStation {
        // The door ends with the station's tasks, and must not keep the station itself.
        let weak = Arc::downgrade(self);
        let sets = move || weak.upgrade().map(|station| station.mountable()).unwrap_or_default();
        let peers = Arc::clone(&self.membership.peers);
        let tls = move || peers.tls().web_server();
        DoorStation::new(Arc::clone(&self.accounts), sets, tls, clock::now, self.drive_ports())
    }
}
