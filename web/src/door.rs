//! Connections: who may have one, for how long.
//!
//! Places are limited for each address and in all; whoever comes on top is closed at once. A connection has a while for
//! its handshake, for its headers and in all, so that none is held for ever by saying nothing.

use std::{
    collections::HashMap,
    fmt, io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use keepshare_auth::Accounts;
use keepshare_base::{SetName, Stamp};

use crate::api::{self, Caller};

/// The most connections of one address (of one /64 for IPv6).
const CONNECTIONS_OF_AN_ADDRESS_MAX: usize = 16;

/// The most connections in all.
const CONNECTIONS_MAX: usize = 256;

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may take to send its headers, also after an answer.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection lives, whatever it does.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);

/// The most headers of a question.
const HEADERS_MAX: usize = 64;

/// The most bytes of a question that are read ahead.
const READ_AHEAD_BYTES_MAX: usize = 32 * 1024;

/// How long to wait where no connection can be taken in, such as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where the drive of a station is reached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DrivePorts {
    /// The port of NFS.
    pub nfs: u16,
    /// The port of its mounts.
    pub mount: u16,
}

/// What the door has to know of its station.
pub struct Station {
    accounts: Arc<Accounts>,
    sets: Box<dyn Fn() -> Vec<SetName> + Send + Sync>,
    tls: Box<dyn Fn() -> Arc<ServerConfig> + Send + Sync>,
    clock: fn() -> Stamp,
    ports: Option<DrivePorts>,
}

impl Station {
    /// Puts it together: users and sessions, the sets that can be mounted, TLS with the present certificate, the time.
    pub fn new(
        accounts: Arc<Accounts>,
        sets: impl Fn() -> Vec<SetName> + Send + Sync + 'static,
        tls: impl Fn() -> Arc<ServerConfig> + Send + Sync + 'static,
        clock: fn() -> Stamp,
        ports: Option<DrivePorts>,
    ) -> Self {
        Self { accounts, sets: Box::new(sets), tls: Box::new(tls), clock, ports }
    }

    pub(crate) fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    pub(crate) fn sets(&self) -> Vec<SetName> {
        (self.sets)()
    }

    pub(crate) fn ports(&self) -> Option<DrivePorts> {
        self.ports
    }

    pub(crate) fn now(&self) -> Stamp {
        (self.clock)()
    }
}

impl fmt::Debug for Station {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Station").field("accounts", &self.accounts).finish_non_exhaustive()
    }
}

/// A station's HTTPS door.
#[derive(Debug)]
pub struct Door {
    listener: TcpListener,
    station: Arc<Station>,
    places: Places,
}

impl Door {
    /// Takes connections from this socket once [`Self::serve`] runs.
    pub fn new(listener: TcpListener, station: Station) -> Self {
        Self { listener, station: Arc::new(station), places: Places::default() }
    }

    /// Returns the address listened on.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers for ever; dropping it ends all connections.
    pub async fn serve(self) {
        let router = api::router(Arc::clone(&self.station));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
            };
            match accepted {
                Ok((stream, from)) => {
                    let Some(place) = self.places.take(from.ip()) else { continue };
                    let (router, tls) = (router.clone(), (self.station.tls)());
                    connections.spawn(async move {
                        converse(stream, from, router, tls).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the HTTPS door cannot take a connection in");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn converse(stream: TcpStream, from: SocketAddr, router: Router, tls: Arc<ServerConfig>) {
    // Best effort: without it, answers wait a moment.
    let _ = stream.set_nodelay(true);
    let stream = match timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(tls).accept(stream)).await {
        Ok(Ok(stream)) => stream,
        // Plain HTTP ends here, too.
        Ok(Err(error)) => return tracing::debug!(peer = %from, %error, "no TLS"),
        Err(_) => return tracing::debug!(peer = %from, "a handshake took too long"),
    };
    let router = router.layer(Extension(Caller(from.ip().to_canonical())));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEADERS_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(READ_AHEAD_BYTES_MAX);
    let served = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match timeout(CONNECTION_TIMEOUT, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(peer = %from, %error, "a connection broke"),
        Err(_) => tracing::debug!(peer = %from, "a connection lived too long"),
    }
}

/// Who has a connection.
#[derive(Clone, Debug, Default)]
struct Places(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// A connection's place; free again when dropped.
#[derive(Debug)]
struct Place {
    places: Places,
    sender: IpAddr,
}

impl Places {
    /// Returns a place for a connection from this address, where there is one.
    fn take(&self, from: IpAddr) -> Option<Place> {
        let sender = sender(from);
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.get(&sender).copied().unwrap_or(0);
        if own >= CONNECTIONS_OF_AN_ADDRESS_MAX || taken.values().sum::<usize>() >= CONNECTIONS_MAX
        {
            return None;
        }
        taken.insert(sender, own + 1);
        drop(taken);
        Some(Place { places: self.clone(), sender })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&self.sender) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                taken.remove(&self.sender);
            }
        }
    }
}

/// Returns whom an address stands for: addresses of one IPv6 /64 are one sender's to choose from.
fn sender(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_all_places() {
        let places = Places::default();
        let one: IpAddr = "2001:db8::1".parse().unwrap();
        let same: IpAddr = "2001:db8::ffff".parse().unwrap();
        let mut held = Vec::new();
        while let Some(place) = places.take(if held.len() % 2 == 0 { one } else { same }) {
            held.push(place);
        }
        assert_eq!(held.len(), CONNECTIONS_OF_AN_ADDRESS_MAX);
        for n in 0..10_000u32 {
            held.extend(places.take(IpAddr::from(n.to_be_bytes())));
        }
        assert_eq!(held.len(), CONNECTIONS_MAX);
        held.clear();
        assert!(places.0.lock().unwrap().is_empty(), "nothing is kept of who left");
        assert!(places.take(one).is_some());
    }
}
