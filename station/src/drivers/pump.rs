//! A link as the drivers use it: sending never waits.
//!
//! The machines bound what they send by windows, so what waits here is bounded, too; a driver that waited for a slow
//! link could not hear the acknowledgements that would let it go on.

use tokio::sync::mpsc;

use keepshare_base::StationName;
use keepshare_proto::{Frame, codec::Clocks};
use keepshare_replication::link::{Link, LinkControl, LinkCounts, LinkError, LinkReceiver};
use rustls::pki_types::CertificateDer;

/// A link that is up.
#[derive(Debug)]
pub(crate) struct Pump {
    /// Who is at the other end.
    pub(crate) peer: StationName,
    /// Their certificate, verified.
    pub(crate) certificate: CertificateDer<'static>,
    receiver: LinkReceiver,
    queue: mpsc::UnboundedSender<Frame>,
    control: LinkControl,
}

impl Pump {
    /// Takes over a link.
    pub(crate) fn start(link: Link) -> Self {
        let Link { peer, certificate, sender, receiver } = link;
        let control = receiver.control();
        let (queue, mut queued) = mpsc::unbounded_channel::<Frame>();
        let (name, ending) = (peer.clone(), control.clone());
        tokio::spawn(async move {
            while let Some(frame) = queued.recv().await {
                if let Err(error) = sender.send(frame).await {
                    if let LinkError::Encode(_) = &error {
                        let error = format!("{:#}", anyhow::Error::new(error));
                        tracing::error!(peer = %name, %error, "a message is not one that can be sent");
                    }
                    // The receiving half tells the driver that the link is over.
                    return ending.close();
                }
            }
            sender.finish().await;
        });
        Self { peer, certificate, receiver, queue, control }
    }

    /// Waits for the next message. Dropped before it is done, it has lost nothing.
    pub(crate) async fn recv(&mut self) -> Result<Frame, LinkError> {
        self.receiver.recv().await
    }

    /// Returns what the last message said of clocks.
    pub(crate) fn clocks(&self) -> Clocks {
        self.receiver.clocks()
    }

    /// Queues a message; the link ends after what is queued when this is dropped.
    pub(crate) fn send(&self, frame: Frame) {
        // A link that is over loses what is sent; the machine hears of its end and sends again.
        let _ = self.queue.send(frame);
    }

    /// Tells the other end what was wrong with what it sent, if it was that.
    pub(crate) fn tell_why(&self, error: &LinkError) {
        if let LinkError::Decode(error) = error {
            self.send(error.answer().into());
        }
    }

    /// Returns what went over the link so far.
    pub(crate) fn counts(&self) -> LinkCounts {
        self.control.counts()
    }
}
