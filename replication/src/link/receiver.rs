//! The receiving half: bytes to blocks to frames, in the caller's own task.
//!
//! Nothing is read ahead of what the caller asks for, so a station that is busy slows down whoever sends to it and
//! nobody else.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rustls::pki_types::CertificateDer;
use tokio::{
    io::{AsyncReadExt, ReadHalf},
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_rustls::TlsStream;

use keepshare_base::StationName;
use keepshare_proto::{Frame, codec::Clocks};

use super::{
    Credentials, LinkControl, LinkError, Shared, State, add, input::Input, socket::Socket,
};
use crate::clock::mono;

/// How often an open link asks whether the other end still counts.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The half of a link that receives.
#[derive(Debug)]
pub struct LinkReceiver {
    /// Gone after the first error: nothing is read from a link that is broken.
    half: Option<ReadHalf<TlsStream<Socket>>>,
    input: Input,
    shared: Arc<Shared>,
    state: watch::Receiver<State>,
    check: PeerCheck,
    idle_timeout: Duration,
    heard: Instant,
    /// What the last frame said of clocks.
    clocks: Clocks,
}

impl LinkReceiver {
    pub(super) fn new(
        half: ReadHalf<TlsStream<Socket>>,
        shared: Arc<Shared>,
        check: PeerCheck,
        idle_timeout: Duration,
    ) -> Result<Self, LinkError> {
        Ok(Self {
            half: Some(half),
            input: Input::new()?,
            state: shared.state.subscribe(),
            shared,
            check,
            idle_timeout,
            heard: Instant::now(),
            clocks: Clocks::default(),
        })
    }

    /// Waits for the next frame. After an error the link is over.
    ///
    /// Dropped before it is done, it has lost nothing: the next call goes on where this one was.
    pub async fn recv(&mut self) -> Result<Frame, LinkError> {
        let received = self.receive().await;
        if received.is_err() {
            self.half = None;
            self.shared.close();
        }
        received
    }

    /// Returns what the last frame said of clocks.
    pub fn clocks(&self) -> Clocks {
        self.clocks
    }

    /// Returns a handle to watch and end the link.
    pub fn control(&self) -> LinkControl {
        LinkControl(self.shared.clone())
    }

    async fn receive(&mut self) -> Result<Frame, LinkError> {
        loop {
            if *self.state.borrow() == State::Closed {
                return Err(self.shared.take_fault());
            }
            self.check.run()?;
            let next = self.input.next_frame(&self.shared.counters.received_raw_bytes)?;
            if let Some((frame, clocks)) = next {
                self.clocks = clocks;
                self.shared.hear(clocks);
                return Ok(frame);
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> Result<(), LinkError> {
        let half = self.half.as_mut().ok_or(LinkError::Closed)?;
        let idle_at = self.heard + self.idle_timeout;
        let (buffer, room) = self.input.buffer();
        let mut half = half.take(room as u64);
        tokio::select! {
            // What has arrived comes first: often it says why the link ends.
            biased;
            read = half.read_buf(buffer) => match read? {
                0 if self.input.is_between_blocks() => Err(LinkError::Ended),
                0 => Err(LinkError::Cut),
                bytes => {
                    self.heard = Instant::now();
                    self.shared.heard_at.store(mono().0, Ordering::Relaxed);
                    self.input.arrived(bytes);
                    add(&self.shared.counters.received_bytes, bytes);
                    Ok(())
                }
            },
            _ = self.state.wait_for(|state| *state != State::Open) => Err(self.shared.take_fault()),
            () = sleep_until(idle_at) => Err(LinkError::Idle(self.idle_timeout)),
            () = sleep_until(self.check.due()) => Ok(()),
        }
    }
}

/// Asks every second whether the other end still counts.
#[derive(Debug)]
pub(super) struct PeerCheck {
    peer: StationName,
    certificate: CertificateDer<'static>,
    credentials: Arc<dyn Credentials>,
    checked: Instant,
}

impl PeerCheck {
    pub(super) fn new(
        peer: StationName,
        certificate: CertificateDer<'static>,
        credentials: Arc<dyn Credentials>,
    ) -> Self {
        Self { peer, certificate, credentials, checked: Instant::now() }
    }

    fn due(&self) -> Instant {
        self.checked + CHECK_INTERVAL
    }

    fn run(&mut self) -> Result<(), LinkError> {
        let now = Instant::now();
        if now < self.due() {
            return Ok(());
        }
        self.checked = now;
        if self.credentials.still_counts(&self.certificate) {
            Ok(())
        } else {
            Err(LinkError::Revoked(self.peer.clone()))
        }
    }
}
