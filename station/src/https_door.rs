//! The HTTPS door: where users log in and ask.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use tokio::net::TcpListener;

use keepshare_host::clock;
use keepshare_web::{Door, DrivePorts, Station as DoorStation};

use crate::station::Station;

/// How often an address that is taken is tried again.
const BIND_EVERY: Duration = Duration::from_secs(5);

/// Keeps the HTTPS door open until the station stops. An address that cannot be had is a problem that is shown; nothing
/// else waits for it.
pub(crate) async fn keep(station: Arc<Station>, address: SocketAddr, questions: Router) {
    let mut stop = station.stopping();
    tokio::select! {
        () = serve(&station, address, questions) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

async fn serve(station: &Arc<Station>, address: SocketAddr, questions: Router) {
    let listener = bind(station, address).await;
    station.set_https_address(listener.local_addr().unwrap_or(address));
    let door = Door::new(listener, door_station(station), questions);
    tracing::info!(station = %station.config.name, %address, "users can log in");
    door.serve().await;
}

async fn bind(station: &Station, address: SocketAddr) -> TcpListener {
    let mut is_told = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                station.set_door_problem(None);
                return listener;
            }
            Err(error) => {
                if !is_told {
                    tracing::error!(%address, %error, "users cannot log in");
                    is_told = true;
                }
                let why = format!("cannot listen on {address}: {error}");
                station.set_door_problem(Some(why));
                tokio::time::sleep(BIND_EVERY).await;
            }
        }
    }
}

fn door_station(station: &Arc<Station>) -> DoorStation {
    // The door ends with the station's tasks, and must not keep the station itself.
    let weak = Arc::downgrade(station);
    let sets = move || weak.upgrade().map(|station| station.mountable()).unwrap_or_default();
    let peers = Arc::clone(&station.peers);
    let tls = move || peers.tls().web_server();
    DoorStation::new(Arc::clone(&station.accounts), sets, tls, clock::now, ports(station))
}

/// Returns where the drive is reached: NFS and its mounts have one port.
pub(crate) fn ports(station: &Station) -> Option<DrivePorts> {
    station.config.doors.nfs.map(|at| DrivePorts { nfs: at.port(), mount: at.port() })
}
