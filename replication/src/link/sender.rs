//! The sending half: a queue bounded in bytes, and one task that empties it.

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncWriteExt, WriteHalf},
    sync::{Semaphore, mpsc},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsStream;

use keepshare_host::buffers;
use keepshare_proto::{
    Frame,
    codec::{Clocks, encode_head, set_clocks},
};

use super::{
    LinkControl, LinkError, LinkOptions, Shared, State, add,
    block::{BLOCK_BYTES_MAX, BLOCK_BYTES_WANTED, HEADER_BYTES, Packer, put_raw_header},
    socket::Socket,
    throttle::Throttle,
};
use crate::clock::mono;

/// How much is written between two looks at the bandwidth limit and the clock, at most.
const WRITE_BYTES_MAX: usize = 64 * 1024;

/// How much is, where the limit gives less than that in a second: the other end is to hear something while it waits.
const WRITE_BYTES_MIN: usize = 1024;

/// How long the end of a link waits for its last bytes to leave.
const FINISH_TIMEOUT: Duration = Duration::from_secs(5);

/// The half of a link that sends. Clones send over the same link; when the last one goes, what is queued is still
/// written and the link ends.
#[derive(Clone, Debug)]
pub struct LinkSender {
    queue: mpsc::UnboundedSender<Queued>,
    /// Bytes that the queue still has room for.
    room: Arc<Semaphore>,
    queue_bytes_max: usize,
    shared: Arc<Shared>,
    writer: Arc<Writer>,
}

/// The writing task, ended with the last sender only after it has written everything.
#[derive(Debug)]
struct Writer(Mutex<Option<JoinHandle<()>>>);

impl LinkSender {
    pub(super) fn start(
        half: WriteHalf<TlsStream<Socket>>,
        shared: Arc<Shared>,
        options: LinkOptions,
    ) -> Result<Self, LinkError> {
        // Room for two of the largest, so that one can be queued while one is written.
        let queue_bytes_max = options.queue_bytes_max.max(2 * BLOCK_BYTES_MAX);
        let (queue, frames) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(queue_bytes_max));
        let task = WriteTask {
            half,
            frames,
            room: room.clone(),
            shared: shared.clone(),
            packer: Packer::new(options.compress)?,
            throttle: Throttle::default(),
            started: Instant::now(),
            stall: options.idle_timeout,
        };
        let writer = Arc::new(Writer(Mutex::new(Some(tokio::spawn(task.run())))));
        Ok(Self { queue, room, queue_bytes_max, shared, writer })
    }

    /// Queues a frame, waiting while the queue is full.
    ///
    /// Dropped before it is done, it has queued nothing.
    pub async fn send(&self, frame: Frame) -> Result<(), LinkError> {
        let (frame, bytes) = Queued::of(frame)?;
        let permit = self.room.acquire_many(bytes).await.map_err(|_| LinkError::Closed)?;
        permit.forget();
        self.push(frame)
    }

    /// Queues a frame if there is room now; tells whether there was.
    pub fn try_send(&self, frame: &Frame) -> Result<bool, LinkError> {
        let (frame, bytes) = Queued::of(frame.clone())?;
        match self.room.try_acquire_many(bytes) {
            Ok(permit) => permit.forget(),
            Err(tokio::sync::TryAcquireError::NoPermits) => return Ok(false),
            Err(tokio::sync::TryAcquireError::Closed) => return Err(LinkError::Closed),
        }
        self.push(frame).map(|()| true)
    }

    /// Returns how many bytes the queue holds at most.
    pub fn queue_bytes_max(&self) -> usize {
        self.queue_bytes_max
    }

    /// Returns a handle to watch and end the link.
    pub fn control(&self) -> LinkControl {
        LinkControl(self.shared.clone())
    }

    /// Writes what is queued, ends the link and waits until that is done. Other clones can send no more.
    pub async fn finish(self) {
        self.room.close();
        // An empty frame is the end of the queue.
        let _ = self.queue.send(Queued::default());
        let task = self.writer.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            let _ = task.await;
        }
    }

    fn push(&self, frame: Queued) -> Result<(), LinkError> {
        add(&self.shared.counters.queued_bytes, frame.len());
        self.queue.send(frame).map_err(|_| LinkError::Closed)
    }
}

/// A frame that waits to be written: its content is not copied before it goes into a block.
#[derive(Debug, Default)]
struct Queued {
    head: Vec<u8>,
    payload: Vec<u8>,
}

impl Queued {
    fn of(frame: Frame) -> Result<(Self, u32), LinkError> {
        let head = encode_head(&frame.message, frame.payload.len())?;
        let frame = Self { head, payload: frame.payload };
        let len = u32::try_from(frame.len()).expect("a frame is far below 4 GiB");
        Ok((frame, len))
    }

    fn len(&self) -> usize {
        self.head.len() + self.payload.len()
    }

    /// Tells whether it is the end of the queue.
    fn is_empty(&self) -> bool {
        self.head.is_empty()
    }

    fn append_to(self, block: &mut Vec<u8>, clocks: Clocks) {
        let at = block.len();
        block.extend_from_slice(&self.head);
        set_clocks(&mut block[at..], clocks);
        block.extend_from_slice(&self.payload);
        buffers::give(self.payload);
    }
}

struct WriteTask {
    half: WriteHalf<TlsStream<Socket>>,
    frames: mpsc::UnboundedReceiver<Queued>,
    room: Arc<Semaphore>,
    shared: Arc<Shared>,
    packer: Packer,
    throttle: Throttle,
    started: Instant,
    stall: Duration,
}

impl WriteTask {
    async fn run(mut self) {
        let mut state = self.shared.state.subscribe();
        let ended = tokio::select! {
            ended = self.write_all() => Some(ended),
            _ = state.wait_for(|state| *state == State::Closed) => None,
        };
        match ended {
            // What is left needs no more than a moment, or the other end is gone.
            Some(Ok(())) => {
                let _ = timeout(FINISH_TIMEOUT, self.half.shutdown()).await;
            }
            Some(Err(error)) => self.shared.give_up(error),
            None => {}
        }
        self.room.close();
    }

    async fn write_all(&mut self) -> Result<(), LinkError> {
        let (mut block, mut scratch) = (Vec::new(), Vec::new());
        let mut held = None;
        loop {
            let first = match held.take() {
                Some(frame) => frame,
                None => self.frames.recv().await.unwrap_or_default(),
            };
            if first.is_empty() {
                return Ok(());
            }
            block.clear();
            block.resize(HEADER_BYTES, 0);
            // One reading for a block: it leaves at once, and what repeats compresses.
            let clocks = self.shared.clocks();
            if first.payload.len() >= BLOCK_BYTES_WANTED
                && !self.packer.may_pay(&first.payload, &mut scratch)
            {
                self.write_alone(first, clocks, &mut block).await?;
                continue;
            }
            first.append_to(&mut block, clocks);
            while block.len() - HEADER_BYTES < BLOCK_BYTES_WANTED {
                match self.frames.try_recv() {
                    Ok(next)
                        if !next.is_empty()
                            && block.len() - HEADER_BYTES + next.len() <= BLOCK_BYTES_MAX =>
                    {
                        next.append_to(&mut block, clocks);
                    }
                    Ok(next) => {
                        held = Some(next);
                        break;
                    }
                    Err(_) => break,
                }
            }
            let raw_bytes = block.len() - HEADER_BYTES;
            let wire = self.packer.pack(&mut block, &mut scratch);
            self.write(wire).await?;
            self.written(raw_bytes);
        }
    }

    /// Writes one frame as a block of its own, behind room for the block's header; its content goes from where it is.
    async fn write_alone(
        &mut self,
        frame: Queued,
        clocks: Clocks,
        block: &mut Vec<u8>,
    ) -> Result<(), LinkError> {
        let Queued { mut head, payload } = frame;
        set_clocks(&mut head, clocks);
        block.extend_from_slice(&head);
        let raw_bytes = head.len() + payload.len();
        put_raw_header(block, raw_bytes);
        self.write(block).await?;
        self.write(&payload).await?;
        buffers::give(payload);
        self.written(raw_bytes);
        Ok(())
    }

    async fn write(&mut self, mut wire: &[u8]) -> Result<(), LinkError> {
        while !wire.is_empty() {
            let limit = self.shared.bandwidth_bytes_per_s.load(Ordering::Relaxed);
            let (part, rest) = wire.split_at(wire.len().min(write_bytes(limit)));
            let wait = self.throttle.take(self.started.elapsed(), part.len(), Some(limit));
            if !wait.is_zero() {
                sleep(wait).await;
            }
            let written = async {
                self.half.write_all(part).await?;
                self.half.flush().await
            };
            timeout(self.stall, written).await.map_err(|_| LinkError::Stuck(self.stall))??;
            add(&self.shared.counters.sent_bytes, part.len());
            self.shared.left_at.store(mono().0, Ordering::Relaxed);
            wire = rest;
        }
        Ok(())
    }

    fn written(&self, raw_bytes: usize) {
        add(&self.shared.counters.sent_raw_bytes, raw_bytes);
        self.shared.counters.queued_bytes.fetch_sub(raw_bytes as u64, Ordering::Relaxed);
        self.room.add_permits(raw_bytes);
    }
}

/// Returns how much is written at once under this limit: what it gives in a second.
fn write_bytes(limit_bytes_per_s: u64) -> usize {
    match usize::try_from(limit_bytes_per_s) {
        Ok(0) | Err(_) => WRITE_BYTES_MAX,
        Ok(limit) => limit.clamp(WRITE_BYTES_MIN, WRITE_BYTES_MAX),
    }
}
