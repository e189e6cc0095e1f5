//! A TCP relay between two stations that can do what bad networks do.
//!
//! It forwards bytes and counts them; on request it delays them, swallows them while connections stay open (a dead
//! peer), or cuts every connection and refuses new ones. All in user space and for ordinary users.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

/// How many bytes are forwarded at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// How many chunks wait for their time in one direction before the sender is held back.
const CHUNKS_IN_FLIGHT_MAX: usize = 256;

/// A relay to one address; it ends on drop.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    cut: AtomicBool,
    silent: AtomicBool,
    ended: AtomicBool,
    delay_us: AtomicU64,
    to_target: AtomicU64,
    from_target: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
}

impl Relay {
    /// Makes a relay to `target` on a port of 127.0.0.1 that the system picks.
    pub fn to(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("cannot listen for a relay")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            target,
            cut: AtomicBool::new(false),
            silent: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            delay_us: AtomicU64::new(0),
            to_target: AtomicU64::new(0),
            from_target: AtomicU64::new(0),
            open: Mutex::new(Vec::new()),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &accepting));
        Ok(Self { address, shared })
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks every connection and every new one until [`Self::heal`].
    pub fn cut(&self) {
        self.shared.cut.store(true, Ordering::SeqCst);
        self.shared.break_all();
    }

    /// Swallows every byte of open connections until [`Self::heal`], which breaks them: what was swallowed is lost.
    pub fn swallow(&self) {
        self.shared.silent.store(true, Ordering::SeqCst);
    }

    /// Forwards again.
    pub fn heal(&self) {
        if self.shared.silent.swap(false, Ordering::SeqCst) {
            self.shared.break_all();
        }
        self.shared.cut.store(false, Ordering::SeqCst);
    }

    /// Lets every byte arrive so much later, in both directions.
    pub fn set_delay(&self, delay: Duration) {
        let delay_us = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.shared.delay_us.store(delay_us, Ordering::SeqCst);
    }

    /// Returns the bytes forwarded to the target so far.
    pub fn to_target(&self) -> u64 {
        self.shared.to_target.load(Ordering::SeqCst)
    }

    /// Returns the bytes that came back from the target so far.
    pub fn from_target(&self) -> u64 {
        self.shared.from_target.load(Ordering::SeqCst)
    }

    /// Returns the bytes of both directions so far.
    pub fn bytes(&self) -> u64 {
        self.to_target() + self.from_target()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.cut();
        // Wakes the thread that waits for connections, so that it sees the end.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, Vec<TcpStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn break_all(&self) {
        for stream in self.open().drain(..) {
            // It may be broken already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Takes both ends of a connection under control; false when a cut came in between.
    fn keep(&self, ends: [&TcpStream; 2]) -> std::io::Result<bool> {
        let mut open = self.open();
        if self.cut.load(Ordering::SeqCst) {
            return Ok(false);
        }
        for end in ends {
            open.push(end.try_clone()?);
        }
        Ok(true)
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for incoming in listener.incoming() {
        if shared.ended.load(Ordering::SeqCst) {
            return;
        }
        let Ok(near) = incoming else { continue };
        if shared.cut.load(Ordering::SeqCst) {
            continue;
        }
        // A target that is away shows to the caller as a closed connection.
        let _ = connect(near, shared);
    }
}

fn connect(near: TcpStream, shared: &Arc<Shared>) -> std::io::Result<()> {
    let far = TcpStream::connect(shared.target)?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    if !shared.keep([&near, &far])? {
        return Ok(());
    }
    forward(near.try_clone()?, far.try_clone()?, shared, |shared| &shared.to_target);
    forward(far, near, shared, |shared| &shared.from_target);
    Ok(())
}

/// Forwards one direction by two threads: one reads and stamps, one waits and writes.
fn forward(
    from: TcpStream,
    to: TcpStream,
    shared: &Arc<Shared>,
    counter: fn(&Shared) -> &AtomicU64,
) {
    let (sender, receiver) = sync_channel(CHUNKS_IN_FLIGHT_MAX);
    let reading = Arc::clone(shared);
    thread::spawn(move || read(from, &reading, &sender));
    let writing = Arc::clone(shared);
    thread::spawn(move || write(to, &receiver, counter(&writing)));
}

fn read(mut from: TcpStream, shared: &Shared, sender: &SyncSender<(Instant, Vec<u8>)>) {
    let mut buffer = vec![0; CHUNK_BYTES];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if shared.silent.load(Ordering::SeqCst) {
            continue;
        }
        let delay = Duration::from_micros(shared.delay_us.load(Ordering::SeqCst));
        if sender.send((Instant::now() + delay, buffer[..count].to_vec())).is_err() {
            break;
        }
    }
}

fn write(mut to: TcpStream, receiver: &Receiver<(Instant, Vec<u8>)>, counter: &AtomicU64) {
    while let Ok((due, bytes)) = receiver.recv() {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if to.write_all(&bytes).is_err() {
            break;
        }
        counter.fetch_add(bytes.len() as u64, Ordering::SeqCst);
    }
    let _ = to.shutdown(Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers every byte with the same byte.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                thread::spawn(move || {
                    let mut reader = stream.try_clone().unwrap();
                    let _ = std::io::copy(&mut reader, &mut stream);
                });
            }
        });
        address
    }

    fn ask(stream: &mut TcpStream, text: &[u8]) -> std::io::Result<Vec<u8>> {
        stream.set_read_timeout(Some(Duration::from_millis(300)))?;
        stream.write_all(text)?;
        let mut answer = vec![0; text.len()];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    }

    #[test]
    fn bytes_pass_and_are_counted() {
        let relay = Relay::to(echo()).unwrap();
        let mut stream = TcpStream::connect(relay.address()).unwrap();
        assert_eq!(ask(&mut stream, b"hello").unwrap(), b"hello");
        assert_eq!(relay.to_target(), 5);
        crate::wait_until(Duration::from_secs(5), "both ways count", || relay.bytes() == 10)
            .unwrap();
    }

    #[test]
    fn a_cut_breaks_what_is_open_and_what_is_new_until_it_heals() {
        let relay = Relay::to(echo()).unwrap();
        let mut stream = TcpStream::connect(relay.address()).unwrap();
        ask(&mut stream, b"x").unwrap();
        relay.cut();
        assert!(ask(&mut stream, b"x").is_err());
        let new = TcpStream::connect(relay.address()).and_then(|mut new| ask(&mut new, b"x"));
        assert!(new.is_err());
        relay.heal();
        let mut stream = TcpStream::connect(relay.address()).unwrap();
        assert_eq!(ask(&mut stream, b"x").unwrap(), b"x");
    }

    #[test]
    fn a_silent_relay_keeps_the_connection_and_loses_the_bytes() {
        let relay = Relay::to(echo()).unwrap();
        let mut stream = TcpStream::connect(relay.address()).unwrap();
        ask(&mut stream, b"x").unwrap();
        relay.swallow();
        let error = ask(&mut stream, b"x").unwrap_err();
        assert!(matches!(error.kind(), std::io::ErrorKind::WouldBlock), "{error}");
        relay.heal();
        assert!(ask(&mut stream, b"x").is_err(), "bytes were lost: the connection must not go on");
    }

    #[test]
    fn a_delay_is_kept_both_ways() {
        let relay = Relay::to(echo()).unwrap();
        relay.set_delay(Duration::from_millis(50));
        let mut stream = TcpStream::connect(relay.address()).unwrap();
        let started = Instant::now();
        ask(&mut stream, b"x").unwrap();
        assert!(started.elapsed() >= Duration::from_millis(100));
    }
}
