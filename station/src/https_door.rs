//! The HTTPS door: where users log in and ask.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context;
use axum::Router;
use tokio::{net::TcpListener, sync::watch};

use keepshare_web::{Door, Station as DoorStation};

use crate::doors::Shut;

/// How the HTTPS door of a station is.
#[derive(Debug, Default)]
pub(crate) struct HttpsDoor {
    address: Mutex<Option<SocketAddr>>,
    /// Why users cannot log in.
    pub(crate) shut: Shut,
}

impl HttpsDoor {
    /// Returns where users can log in; none while nobody can.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_address(&self, address: SocketAddr) {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
    }
}

/// Keeps the HTTPS door of a station open until that stops. An address that cannot be had is a problem that is shown; nothing
/// else waits for it.
pub(crate) async fn keep(
    door: Arc<HttpsDoor>,
    address: SocketAddr,
    (station, questions): (DoorStation, Router),
    mut stop: watch::Receiver<bool>,
) {
    let bind = || {
        let listener = std::net::TcpListener::bind(address);
        let listener = listener.with_context(|| format!("cannot listen on {address}"))?;
        listener.set_nonblocking(true)?;
        Ok(TcpListener::from_std(listener)?)
    };
    let serve = async {
        let listener = door.shut.open("the HTTPS door", address, bind).await;
        door.set_address(listener.local_addr().unwrap_or(address));
        Door::new(listener, station, questions).serve().await;
    };
    tokio::select! {
        () = serve => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}
