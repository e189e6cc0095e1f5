//! The listening end: one address for links and for joins.
//!
//! Every connection shakes hands in a task of its own, against a deadline and with a place at the [`Gate`]; the driver
//! sees only those that have shown who they are, or have asked to join in full. A step of the handshake that is done is a
//! sign of life, single bytes are none.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustls::{pki_types::CertificateDer, server::Acceptor};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::{AbortHandle, JoinHandle},
    time::{sleep, timeout},
};
use tokio_rustls::{LazyConfigAcceptor, TlsStream};

use keepshare_base::StationName;
use keepshare_gate::{Gate, Pulse, Shares};

use super::{
    CONTROL_ALPN, Credentials, HANDSHAKE_TIMEOUT, JOIN_ALPN, LINK_ALPN, Link, LinkError,
    LinkOptions, Socket, block::READY, certificate, join::PendingJoin, open,
};
use crate::clock::mono;

/// The most connections that shake hands, in all and of one address (of one /64 for IPv6): nobody is known here before
/// the place is given up.
const SHARES: Shares = Shares::of_strangers(256, CONNECTIONS_OF_AN_ADDRESS_MAX);

/// As many stations as come from one address together.
const CONNECTIONS_OF_AN_ADDRESS_MAX: usize = 32;

/// How many connections may wait for the driver.
const ACCEPTED_MAX: usize = 16;

/// How long to wait after the system refused a connection (no descriptors left, most often).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connection that is worth the driver's time.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one for each connection, moved a few times")]
pub enum Accepted {
    /// A member, verified.
    Link(Link),
    /// A member who asks something, verified: what comes is HTTP.
    Control(TlsStream<Socket>, StationName, CertificateDer<'static>),
    /// Someone who asks to join or to renew; nothing about them is verified but what TLS did.
    Join(PendingJoin),
}

/// Listens for links and joins until it is dropped.
#[derive(Debug)]
pub struct Listener {
    accepted: mpsc::Receiver<Accepted>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Listener {
    /// Starts to listen on `socket`.
    pub fn start(
        socket: TcpListener,
        credentials: Arc<dyn Credentials>,
        options: LinkOptions,
    ) -> Result<Self, LinkError> {
        let address = socket.local_addr()?;
        let (sender, accepted) = mpsc::channel(ACCEPTED_MAX);
        let door = Door {
            credentials,
            gate: Arc::new(Mutex::new(Gate::new(SHARES))),
            accepted: sender,
            options,
        };
        Ok(Self { accepted, address, task: tokio::spawn(door.listen(socket)) })
    }

    /// Waits for the next connection. Dropped before it is done, it has lost nothing.
    pub async fn accept(&mut self) -> Accepted {
        self.accepted.recv().await.expect("the listening task ends with the listener only")
    }

    /// Returns the address listened on.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the listening task and the handshakes share.
#[derive(Clone)]
struct Door {
    credentials: Arc<dyn Credentials>,
    gate: Arc<Mutex<Gate<AbortHandle, Infallible>>>,
    accepted: mpsc::Sender<Accepted>,
    options: LinkOptions,
}

impl Door {
    async fn listen(self, socket: TcpListener) {
        loop {
            match socket.accept().await {
                Ok((stream, from)) => self.enter(stream, from),
                Err(error) => {
                    tracing::warn!(%error, "cannot take a connection in");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn enter(&self, stream: TcpStream, from: SocketAddr) {
        // Held until the task has its place, so that it cannot leave before it has entered.
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        let (place, door, pulse) = (gate.new_place(), self.clone(), Arc::<Pulse>::default());
        let shown = Arc::clone(&pulse);
        let task = tokio::spawn(async move {
            door.shake_hands(stream, from, &shown).await;
            door.gate.lock().unwrap_or_else(PoisonError::into_inner).leave(place);
        });
        let out = gate.enter(place, from.ip(), pulse, task.abort_handle(), now_ms());
        drop(gate);
        out.iter().for_each(AbortHandle::abort);
    }

    async fn shake_hands(&self, stream: TcpStream, from: SocketAddr, pulse: &Pulse) {
        let done = match timeout(HANDSHAKE_TIMEOUT, self.identify(stream, from, pulse)).await {
            Ok(done) => done,
            Err(_) => Err(LinkError::HandshakeTimeout),
        };
        match done {
            Ok(accepted) => {
                pulse.beat(now_ms());
                let _ = self.accepted.send(accepted).await;
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(peer = %from, error, "a connection was refused");
            }
        }
    }

    async fn identify(
        &self,
        stream: TcpStream,
        from: SocketAddr,
        pulse: &Pulse,
    ) -> Result<Accepted, LinkError> {
        stream.set_nodelay(true)?;
        let hello = LazyConfigAcceptor::new(Acceptor::default(), Socket::new(stream))
            .await
            .map_err(LinkError::Handshake)?;
        pulse.beat(now_ms());
        let credentials = Arc::clone(&self.credentials);
        let offered: Vec<_> = hello.client_hello().alpn().into_iter().flatten().collect();
        let config = credentials.server(&offered).ok_or(LinkError::Protocol)?;
        let mut stream: TlsStream<Socket> =
            hello.into_stream(config).await.map_err(LinkError::Handshake)?.into();
        pulse.beat(now_ms());
        match stream.get_ref().1.alpn_protocol() {
            Some(LINK_ALPN) => {
                stream.write_all(&READY).await?;
                stream.flush().await?;
                Ok(Accepted::Link(open(stream, credentials, self.options)?))
            }
            Some(CONTROL_ALPN) => {
                let shown = certificate(&stream).filter(|shown| credentials.still_counts(shown));
                let shown = shown.ok_or(LinkError::Protocol)?;
                let peer = credentials.station(&shown).ok_or(LinkError::Protocol)?;
                Ok(Accepted::Control(stream, peer, shown))
            }
            Some(JOIN_ALPN) => {
                let shown = certificate(&stream);
                PendingJoin::read(stream, from, shown).await.map(Accepted::Join)
            }
            _ => Err(LinkError::Protocol),
        }
    }
}

/// Returns the time by which pulses count.
fn now_ms() -> u64 {
    mono().0 / 1000
}
