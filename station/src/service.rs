//! A station that runs: what it does by itself, and the ways in.

use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use tokio::net::TcpListener;

use keepshare_control::Outcome;
use keepshare_replication::link::{Credentials, Listener};

use crate::{
    announce, attention, hearing, https_door, incoming, nfs_door, renewal, reopening, sessions,
    station::Station,
};

/// Makes what answers the questions of one door; each door has turns of its own.
pub type Questions = fn(&Arc<Station>) -> Router;

impl Station {
    /// Binds the address that others dial.
    pub async fn bind(&self) -> Outcome<TcpListener> {
        let listen = self.config.listen;
        Ok(TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?)
    }

    /// Listens for other stations until stopped, then closes all sets.
    pub async fn run(self: &Arc<Self>, socket: TcpListener, questions: Questions) -> Outcome<()> {
        let credentials = Arc::clone(&self.peers) as Arc<dyn Credentials>;
        let listener = Listener::start(socket, credentials, self.link_options())
            .context("cannot listen for other stations")?;
        tracing::info!(station = %self.config.name, address = %listener.local_addr(), "listening");
        self.spawn(renewal::keep(Arc::clone(self)));
        self.spawn(reopening::keep(Arc::clone(self)));
        self.spawn(sessions::keep(Arc::clone(self)));
        self.spawn(attention::keep(Arc::clone(self)));
        self.spawn(announce::keep(Arc::clone(self)));
        self.spawn(Arc::clone(self).keep_agreeing());
        if self.enrolment.is_none() {
            let (agreed, peers) = (Arc::clone(&self.agreed), Arc::clone(&self.peers));
            self.spawn(hearing::keep(agreed, peers, self.stopping()));
        }
        if let Some(https) = self.config.doors.https {
            self.spawn(https_door::keep(Arc::clone(self), https, questions(self)));
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
}
