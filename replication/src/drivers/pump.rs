//! A link as the drivers use it: sending never waits.
//!
//! The machines bound what they send by windows, so what waits here is bounded, too; a driver that waited for a slow
//! link could not hear the acknowledgements that would let it go on. Answers are bounded by no window: while too many
//! frames wait, nothing more is read, so that whoever asks and does not read the answers only holds itself up.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{Notify, mpsc};

use crate::link::{Link, LinkControl, LinkCounts, LinkError, LinkReceiver};
use keepshare_base::{StationName, chain};
use keepshare_proto::{CHANGE_WEIGHT_MIN, Frame, WINDOW_BYTES_MAX, codec::Clocks};
use rustls::pki_types::CertificateDer;

/// A link that is up.
#[derive(Debug)]
pub struct Pump {
    /// Who is at the other end.
    pub peer: StationName,
    /// Their certificate, verified.
    pub certificate: CertificateDer<'static>,
    receiver: LinkReceiver,
    queue: mpsc::UnboundedSender<Frame>,
    waiting: Arc<Waiting>,
    control: LinkControl,
}

/// The most frames that wait to be sent before no more is read. A whole window of the smallest changes stays below it, so
/// that an honest peer never meets it.
const WAITING_MAX: usize = 2 * WINDOW_BYTES_MAX / CHANGE_WEIGHT_MIN;

/// How many frames wait to be sent.
#[derive(Debug, Default)]
struct Waiting {
    frames: AtomicUsize,
    fewer: Notify,
}

impl Waiting {
    fn one_more(&self) {
        self.frames.fetch_add(1, Ordering::Relaxed);
    }

    fn one_less(&self) {
        if self.frames.fetch_sub(1, Ordering::Relaxed) == WAITING_MAX {
            self.fewer.notify_one();
        }
    }

    /// Waits until few enough wait. Dropped before it is done, it has lost nothing.
    async fn few(&self) {
        while self.frames.load(Ordering::Relaxed) >= WAITING_MAX {
            self.fewer.notified().await;
        }
    }
}

impl Pump {
    /// Takes over a link.
    pub fn start(link: Link) -> Self {
        let Link { peer, certificate, sender, receiver } = link;
        let control = receiver.control();
        let (queue, mut queued) = mpsc::unbounded_channel::<Frame>();
        let (name, ending) = (peer.clone(), control.clone());
        let waiting = Arc::new(Waiting::default());
        let sent = Arc::clone(&waiting);
        tokio::spawn(async move {
            while let Some(frame) = queued.recv().await {
                sent.one_less();
                if let Err(error) = sender.send(frame).await {
                    if let LinkError::Encode(_) = &error {
                        let error = chain(&error);
                        tracing::error!(peer = %name, %error, "a message is not one that can be sent");
                    }
                    // The receiving half tells the driver that the link is over.
                    return ending.close();
                }
            }
            sender.finish().await;
        });
        Self { peer, certificate, receiver, queue, waiting, control }
    }

    /// Waits for the next message. Dropped before it is done, it has lost nothing.
    pub async fn recv(&mut self) -> Result<Frame, LinkError> {
        self.waiting.few().await;
        self.receiver.recv().await
    }

    /// Returns what the last message said of clocks.
    pub fn clocks(&self) -> Clocks {
        self.receiver.clocks()
    }

    /// Queues a message; the link ends after what is queued when this is dropped.
    pub fn send(&self, frame: Frame) {
        self.waiting.one_more();
        // A link that is over loses what is sent; the machine hears of its end and sends again.
        let _ = self.queue.send(frame);
    }

    /// Tells the other end what was wrong with what it sent, if it was that.
    pub fn tell_why(&self, error: &LinkError) {
        if let LinkError::Decode(error) = error {
            self.send(error.answer().into());
        }
    }

    /// Returns what went over the link so far.
    pub fn counts(&self) -> LinkCounts {
        self.control.counts()
    }
}
