//! Connections: who may have one, for how long.
//!
//! Places are limited for each address and in all; where there is none, whoever was silent longest makes room
//! ([`keepshare_gate`]), so nobody keeps others out by saying nothing. A connection has a while for its handshake, for its
//! headers and in all.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use keepshare_gate::{Gate, Pulse, Shares};

use crate::{
    api,
    station::{From, Station, elapsed_ms},
};

/// The most connections in all, and of one address (of one /64 for IPv6): nobody is known here before the answer.
const SHARES: Shares = Shares {
    places: 256,
    of_an_address: CONNECTIONS_OF_AN_ADDRESS_MAX,
    of_an_addresses_strangers: CONNECTIONS_OF_AN_ADDRESS_MAX,
    of_a_holder: CONNECTIONS_OF_AN_ADDRESS_MAX,
    of_kin: CONNECTIONS_OF_AN_ADDRESS_MAX,
};

/// As many people as come to one address together.
const CONNECTIONS_OF_AN_ADDRESS_MAX: usize = 64;

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may take to send its headers, also after an answer.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection lives, whatever it does, unless an answer is on its way over it then.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);

/// How often such a connection gets as long once more: a day in all, for a large folder over a slow line.
const TIMEOUTS_MAX: usize = 24 * 60;

/// The most headers of a question.
const HEADERS_MAX: usize = 64;

/// The most bytes of a question that are read ahead.
const READ_AHEAD_BYTES_MAX: usize = 32 * 1024;

/// How long to wait where no connection can be taken in, such as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A station's HTTPS door.
#[derive(Debug)]
pub struct Door {
    listener: TcpListener,
    station: Arc<Station>,
    questions: Router,
    places: Places,
}

impl Door {
    /// Takes connections from this socket once [`Self::serve`] runs, and has `questions` answer users who logged in
    /// ([`keepshare_control::questions::router`]).
    pub fn new(listener: TcpListener, station: Station, questions: Router) -> Self {
        Self { listener, station: Arc::new(station), questions, places: Places::new() }
    }

    /// Returns the address listened on.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers for ever; dropping it ends all connections.
    pub async fn serve(self) {
        let router = api::router(Arc::clone(&self.station), self.questions);
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
            };
            match accepted {
                Ok((stream, from)) => {
                    let (router, tls) = (router.clone(), self.station.tls());
                    self.places.enter(from.ip(), |place| {
                        let talk = converse(stream, from, router, tls, place);
                        connections.spawn(talk)
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

async fn converse(
    stream: TcpStream,
    from: SocketAddr,
    router: Router,
    tls: Arc<ServerConfig>,
    place: DoorPlace,
) {
    // Best effort: without it, answers wait a moment.
    let _ = stream.set_nodelay(true);
    let stream = Watched { stream, place: &place };
    let stream = match timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(tls).accept(stream)).await {
        Ok(Ok(stream)) => stream,
        // Plain HTTP ends here, too.
        Ok(Err(error)) => return tracing::debug!(peer = %from, %error, "no TLS"),
        Err(_) => return tracing::debug!(peer = %from, "a handshake took too long"),
    };
    let from_where = From {
        address: from.ip().to_canonical(),
        pulse: Arc::clone(&place.pulse),
        started: place.places.started,
    };
    let router = router.layer(Extension(from_where));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEADERS_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(READ_AHEAD_BYTES_MAX);
    let served = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut served = std::pin::pin!(served);
    for _ in 0..TIMEOUTS_MAX {
        match timeout(CONNECTION_TIMEOUT, &mut served).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => return tracing::debug!(peer = %from, %error, "a connection broke"),
            Err(_) if place.pulse.is_working() => {}
            Err(_) => break,
        }
    }
    tracing::debug!(peer = %from, "a connection lived too long");
}

/// Who has a connection.
#[derive(Clone, Debug)]
struct Places {
    gate: Arc<Mutex<Gate<AbortHandle, Infallible>>>,
    started: Instant,
}

/// A connection's place; free again when dropped.
#[derive(Debug)]
struct DoorPlace {
    places: Places,
    number: u64,
    pulse: Arc<Pulse>,
}

impl Places {
    fn new() -> Self {
        Self { gate: Arc::new(Mutex::new(Gate::new(SHARES))), started: Instant::now() }
    }

    /// Gives a newcomer from this address a place, and ends whoever has to make room. `begin` begins what has the place.
    fn enter(&self, from: IpAddr, begin: impl FnOnce(DoorPlace) -> AbortHandle) {
        // Held until it has its place, so that it cannot leave before it has entered.
        let mut gate = self.gate();
        let (number, pulse) = (gate.new_place(), Arc::<Pulse>::default());
        let talk = begin(DoorPlace { places: self.clone(), number, pulse: Arc::clone(&pulse) });
        let out = gate.enter(number, from, pulse, talk, self.now_ms());
        drop(gate);
        out.iter().for_each(AbortHandle::abort);
    }

    fn gate(&self) -> MutexGuard<'_, Gate<AbortHandle, Infallible>> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        elapsed_ms(self.started)
    }
}

impl DoorPlace {
    fn beat(&self) {
        self.pulse.beat(self.places.now_ms());
    }
}

impl Drop for DoorPlace {
    fn drop(&mut self) {
        self.places.gate().leave(self.number);
    }
}

/// A stream that notes when something came or was taken.
struct Watched<'p> {
    stream: TcpStream,
    place: &'p DoorPlace,
}

impl AsyncRead for Watched<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.place.beat();
        }
        polled
    }
}

impl AsyncWrite for Watched<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if polled.is_ready() {
            self.place.beat();
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
