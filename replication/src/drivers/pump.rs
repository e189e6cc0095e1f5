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
use keepshare_host::clock;
use keepshare_proto::{CHANGE_WEIGHT_MIN, Frame, MonoTime, WINDOW_BYTES_MAX, codec::Clocks};
use rustls::pki_types::CertificateDer;

/// A link that is up.
#[derive(Debug)]
pub struct Pump {
    /// Who is at the other end.
    pub peer: StationName,
    /// Their certificate, verified; none where both ends are in this process.
    pub certificate: Option<CertificateDer<'static>>,
    incoming: Incoming,
    queue: mpsc::UnboundedSender<Frame>,
    waiting: Arc<Waiting>,
}

/// Where messages come from.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of it for each link")]
enum Incoming {
    /// Another station.
    Link { receiver: LinkReceiver, control: LinkControl },
    /// This process: what the other end has queued, and how much of that waits.
    Here { frames: mpsc::UnboundedReceiver<Frame>, sent: Arc<Waiting> },
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
        let (certificate, incoming) = (Some(certificate), Incoming::Link { receiver, control });
        Self { peer, certificate, incoming, queue, waiting }
    }

    /// Returns what ends the link; none where both ends are in this process.
    pub fn control(&self) -> Option<LinkControl> {
        match &self.incoming {
            Incoming::Link { control, .. } => Some(control.clone()),
            Incoming::Here { .. } => None,
        }
    }

    /// Returns the two ends of a link within this process: what is queued at one is there at the other, as it is.
    pub fn pair(here: &StationName) -> (Self, Self) {
        let ((to_far, at_far), (to_near, at_near)) =
            (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        let (near, far) = (Arc::<Waiting>::default(), Arc::<Waiting>::default());
        let end = |queue, frames, waiting: &Arc<Waiting>, sent: &Arc<Waiting>| Self {
            peer: here.clone(),
            certificate: None,
            incoming: Incoming::Here { frames, sent: Arc::clone(sent) },
            queue,
            waiting: Arc::clone(waiting),
        };
        (end(to_far, at_near, &near, &far), end(to_near, at_far, &far, &near))
    }

    /// Waits for the next message. Dropped before it is done, it has lost nothing.
    pub async fn recv(&mut self) -> Result<Frame, LinkError> {
        self.waiting.few().await;
        match &mut self.incoming {
            Incoming::Link { receiver, .. } => receiver.recv().await,
            Incoming::Here { frames, sent } => {
                let frame = frames.recv().await.ok_or(LinkError::Ended)?;
                sent.one_less();
                Ok(frame)
            }
        }
    }

    /// Returns what the last message said of clocks. Within one process both ends have one clock.
    pub fn clocks(&self) -> Clocks {
        match &self.incoming {
            Incoming::Link { receiver, .. } => receiver.clocks(),
            Incoming::Here { .. } => Clocks { sent: Some(clock::now()), heard: None },
        }
    }

    /// Returns when bytes last came, of whole messages or not; none where both ends are in this process.
    pub fn heard_at(&self) -> Option<MonoTime> {
        self.control().map(|control| control.heard_at())
    }

    /// Returns when bytes last left of what is queued; none where nothing waits.
    pub fn left_at(&self) -> Option<MonoTime> {
        let control = self.control()?;
        let waits = self.waiting.frames.load(Ordering::Relaxed) > 0;
        (waits || control.counts().queued_bytes > 0).then(|| control.left_at())
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

    /// Returns what went over the network so far.
    pub fn counts(&self) -> LinkCounts {
        match &self.incoming {
            Incoming::Link { control, .. } => control.counts(),
            Incoming::Here { .. } => LinkCounts::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        pin::{Pin, pin},
        task::Poll,
    };

    use keepshare_base::Seq;
    use keepshare_proto::Message;

    use super::*;

    fn frame(seq: u64) -> Frame {
        Frame::from(Message::Resend { from: Seq(seq) })
    }

    /// What is acknowledged is what the machines at both ends say, so nothing may be lost or swapped between them; what was
    /// queued before one end went away still arrives, as over the network.
    #[tokio::test]
    async fn a_link_within_a_process_keeps_order_and_ends_after_what_was_queued() {
        let (near, mut far) = Pump::pair(&"nas".parse().unwrap());
        for seq in 0..3 {
            near.send(frame(seq));
        }
        assert_eq!(far.recv().await.unwrap(), frame(0));
        far.send(frame(7));
        drop(near);
        for seq in 1..3 {
            assert_eq!(far.recv().await.unwrap(), frame(seq));
        }
        assert!(matches!(far.recv().await, Err(LinkError::Ended)));
    }

    /// Whoever asks and does not read the answers holds itself up, and fills no memory.
    #[tokio::test]
    async fn an_end_whose_answers_are_not_read_reads_no_more() {
        let (mut near, mut far) = Pump::pair(&"nas".parse().unwrap());
        far.send(frame(1));
        for seq in 0..WAITING_MAX as u64 {
            near.send(frame(seq));
        }
        let mut held = pin!(near.recv());
        assert!(is_pending(held.as_mut()).await);
        far.recv().await.unwrap();
        assert_eq!(held.await.unwrap(), frame(1));
    }

    async fn is_pending(mut future: Pin<&mut impl Future>) -> bool {
        poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await
    }
}
