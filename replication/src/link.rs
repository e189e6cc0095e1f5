//! Links: frames between two stations over TLS.
//!
//! A [`Listener`] takes connections in and [`dial`] makes them; both ends get a [`Link`], which is the verified
//! name of the other end and two halves that only queue and only wait. What the frames mean is `keepshare-proto`'s business; how often
//! to dial again is the driver's. On the wire frames travel in blocks (`docs/formats/link.md`).

mod block;
mod dial;
mod input;
pub mod join;
mod listener;
mod receiver;
mod sender;
mod socket;
mod throttle;

use std::{
    fmt, io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use rustls::{ClientConfig, ServerConfig, pki_types::CertificateDer};
use tokio::sync::watch;
use tokio_rustls::TlsStream;

use keepshare_base::{Stamp, StationName};
use keepshare_proto::{
    MonoTime,
    codec::{Clocks, DecodeError, EncodeError},
};

use self::receiver::PeerCheck;
pub use self::{
    block::BlockError,
    dial::{dial, dial_control},
    listener::{Accepted, Listener},
    receiver::LinkReceiver,
    sender::LinkSender,
    socket::Socket,
};
use crate::clock::mono;

/// The application protocol of links between members.
pub const LINK_ALPN: &[u8] = b"keepshare-link/1";

/// The application protocol by which a station asks another one, as commands do.
pub const CONTROL_ALPN: &[u8] = b"keepshare-control/1";

/// The application protocol by which stations join and renew.
pub const JOIN_ALPN: &[u8] = b"keepshare-join/1";

/// How long a connection may take until both ends know each other.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a link may be silent, and how long a write may be stuck, unless told otherwise.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The most bytes of frames that wait to be written, unless told otherwise.
pub const QUEUE_BYTES_MAX: usize = 4 << 20;

/// Why a link ended or never came to be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The network.
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// This station's own identity.
    #[error("cannot speak TLS")]
    Tls(#[from] rustls::Error),
    /// The other end took too long to show who it is.
    #[error("the handshake took longer than {} s", HANDSHAKE_TIMEOUT.as_secs())]
    HandshakeTimeout,
    /// The handshake failed: one end does not accept the other.
    #[error("the stations do not accept each other")]
    Handshake(#[source] io::Error),
    /// The other end speaks TLS and yet nothing we know.
    #[error("the other end does not speak the protocol of links")]
    Protocol,
    /// Nothing was heard for too long.
    #[error("nothing was heard for {} s", .0.as_secs())]
    Idle(Duration),
    /// The other end takes nothing in.
    #[error("the other end took nothing for {} s", .0.as_secs())]
    Stuck(Duration),
    /// A block that is not one.
    #[error("a block cannot be read")]
    Block(#[from] BlockError),
    /// A message that is too large to send.
    #[error("a message cannot be sent")]
    Encode(#[from] EncodeError),
    /// A frame that is none.
    #[error("a frame cannot be read")]
    Decode(#[from] DecodeError),
    /// A frame that its block ends in the middle of.
    #[error("a block ends in the middle of a frame")]
    Torn,
    /// A question of the join protocol that is none.
    #[error("a question cannot be read")]
    Question(#[from] join::CarryError),
    /// The other end ended the link in the middle of something.
    #[error("the link was cut in the middle of a block")]
    Cut,
    /// The other end ended the link.
    #[error("the other end closed the link")]
    Ended,
    /// This end closed the link.
    #[error("the link is closed")]
    Closed,
    /// The other end's certificate counts no longer.
    #[error("the certificate of {0} was revoked or has ended")]
    Revoked(StationName),
}

/// Who this station is, and whom it talks to.
///
/// Links do not judge certificates: TLS does by these configurations, and this says what is in them.
pub trait Credentials: fmt::Debug + Send + Sync + 'static {
    /// Returns the listening end's TLS for a client that offers these application protocols; `None` to hang up.
    fn server(&self, offered: &[&[u8]]) -> Option<Arc<ServerConfig>>;

    /// Returns the dialling end's TLS, which accepts this station only.
    fn link_client(&self, expected: &StationName) -> Result<Arc<ClientConfig>, rustls::Error>;

    /// Returns whose certificate this is; TLS has verified it.
    fn station(&self, certificate: &CertificateDer<'_>) -> Option<StationName>;

    /// Tells whether a certificate that was verified still counts. Open links ask every second.
    fn still_counts(&self, certificate: &CertificateDer<'_>) -> bool;
}

/// How a link behaves.
#[derive(Clone, Copy, Debug)]
pub struct LinkOptions {
    /// The most bytes per second to send; 0 for no limit.
    pub bandwidth_bytes_per_s: u64,
    /// Compress where it pays.
    pub compress: bool,
    /// How long the link may be silent, and how long a write may be stuck.
    pub idle_timeout: Duration,
    /// The most bytes of frames that wait to be written.
    pub queue_bytes_max: usize,
}

impl Default for LinkOptions {
    fn default() -> Self {
        Self {
            bandwidth_bytes_per_s: 0,
            compress: true,
            idle_timeout: IDLE_TIMEOUT,
            queue_bytes_max: QUEUE_BYTES_MAX,
        }
    }
}

/// A link that is up.
#[derive(Debug)]
pub struct Link {
    /// Who is at the other end.
    pub peer: StationName,
    /// The other end's certificate, verified.
    pub certificate: CertificateDer<'static>,
    /// The half that sends.
    pub sender: LinkSender,
    /// The half that receives.
    pub receiver: LinkReceiver,
}

/// What went over a link so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LinkCounts {
    /// Bytes sent, after compression and before TLS.
    pub sent_bytes: u64,
    /// Bytes received, before decompression and after TLS.
    pub received_bytes: u64,
    /// Bytes of frames sent, before compression.
    pub sent_raw_bytes: u64,
    /// Bytes of frames received, after decompression.
    pub received_raw_bytes: u64,
    /// Bytes of frames that wait to be sent.
    pub queued_bytes: u64,
}

/// A handle on a link for whoever watches it or ends it; clones are the same link.
#[derive(Clone, Debug)]
pub struct LinkControl(Arc<Shared>);

impl LinkControl {
    /// Returns what went over the link so far.
    pub fn counts(&self) -> LinkCounts {
        let Shared { counters, .. } = &*self.0;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LinkCounts {
            sent_bytes: load(&counters.sent_bytes),
            received_bytes: load(&counters.received_bytes),
            sent_raw_bytes: load(&counters.sent_raw_bytes),
            received_raw_bytes: load(&counters.received_raw_bytes),
            queued_bytes: load(&counters.queued_bytes),
        }
    }

    /// Sets the most bytes per second to send; 0 for no limit.
    pub fn set_bandwidth(&self, bytes_per_s: u64) {
        self.0.bandwidth_bytes_per_s.store(bytes_per_s, Ordering::Relaxed);
    }

    /// Returns when bytes last came, of whole frames or not.
    pub fn heard_at(&self) -> MonoTime {
        MonoTime(self.0.heard_at.load(Ordering::Relaxed))
    }

    /// Returns when bytes last left.
    pub fn left_at(&self) -> MonoTime {
        MonoTime(self.0.left_at.load(Ordering::Relaxed))
    }

    /// Ends the link at once; what is queued is lost.
    pub fn close(&self) {
        self.0.close();
    }
}

/// What the two halves, the writing task and the controls of a link have in common.
#[derive(Debug)]
struct Shared {
    counters: Counters,
    bandwidth_bytes_per_s: AtomicU64,
    /// What the other end's clock said in the newest frame that was read; 0 before the first.
    heard: AtomicI64,
    /// When bytes last came and last left, by the running clock.
    heard_at: AtomicU64,
    left_at: AtomicU64,
    state: watch::Sender<State>,
    /// Why the writing task gave up, for the receiving half to tell.
    fault: Mutex<Option<LinkError>>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Open,
    /// Nothing can be sent any more; what has arrived may still be read.
    Broken,
    /// Over for both halves.
    Closed,
}

#[derive(Debug, Default)]
struct Counters {
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
    sent_raw_bytes: AtomicU64,
    received_raw_bytes: AtomicU64,
    queued_bytes: AtomicU64,
}

impl Shared {
    /// Returns the clocks of a frame that leaves now.
    fn clocks(&self) -> Clocks {
        let heard = Some(Stamp(self.heard.load(Ordering::Relaxed))).filter(|heard| heard.0 != 0);
        Clocks { sent: Some(keepshare_host::clock::now()), heard }
    }

    /// Notes the clocks of a frame that was read.
    fn hear(&self, clocks: Clocks) {
        if let Some(sent) = clocks.sent {
            self.heard.store(sent.0, Ordering::Relaxed);
        }
    }

    fn close(&self) {
        self.state.send_replace(State::Closed);
    }

    fn give_up(&self, fault: LinkError) {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(fault);
        self.state.send_if_modified(|state| {
            let was_open = *state == State::Open;
            if was_open {
                *state = State::Broken;
            }
            was_open
        });
    }

    fn take_fault(&self) -> LinkError {
        let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner).take();
        fault.unwrap_or(LinkError::Closed)
    }
}

fn add(counter: &AtomicU64, bytes: usize) {
    counter.fetch_add(bytes as u64, Ordering::Relaxed);
}

/// Puts a link together over a connection whose handshake is over.
fn open(
    mut stream: TlsStream<Socket>,
    credentials: Arc<dyn Credentials>,
    options: LinkOptions,
) -> Result<Link, LinkError> {
    let certificate = certificate(&stream).ok_or(LinkError::Protocol)?;
    let peer = credentials.station(&certificate).ok_or(LinkError::Protocol)?;
    stream.get_mut().0.read_ahead();
    let (read, write) = tokio::io::split(stream);
    let shared = Arc::new(Shared {
        counters: Counters::default(),
        bandwidth_bytes_per_s: AtomicU64::new(options.bandwidth_bytes_per_s),
        heard: AtomicI64::new(0),
        heard_at: AtomicU64::new(mono().0),
        left_at: AtomicU64::new(mono().0),
        state: watch::Sender::new(State::Open),
        fault: Mutex::new(None),
    });
    let sender = LinkSender::start(write, shared.clone(), options)?;
    let check = PeerCheck::new(peer.clone(), certificate.clone(), credentials);
    let receiver = LinkReceiver::new(read, shared, check, options.idle_timeout)?;
    Ok(Link { peer, certificate, sender, receiver })
}

/// Returns the certificate that the other end showed.
fn certificate(stream: &TlsStream<Socket>) -> Option<CertificateDer<'static>> {
    stream.get_ref().1.peer_certificates()?.first().cloned().map(CertificateDer::into_owned)
}
