//! The server: its listener, its threads, its end.

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use keepshare_auth::Sessions;
use keepshare_base::Stamp;
use keepshare_namespace::Restorer;

use crate::{
    ClientInfo, Limits, Shares, connection,
    context::{Door, Forgeries},
    registry::Registry,
    restores::Restores,
};

/// What a server is made of.
#[derive(Debug)]
pub struct Parts {
    /// What it serves.
    pub shares: Shares,
    /// Who may.
    pub sessions: Sessions,
    /// Writes old versions back.
    pub restorer: Arc<dyn Restorer>,
    /// Tells the time of day.
    pub clock: fn() -> Stamp,
    /// What clients may take.
    pub limits: Limits,
}

/// A running server; ends when stopped or dropped.
pub struct Server {
    door: Arc<Door>,
    listener: Arc<TcpListener>,
    address: SocketAddr,
    is_stopping: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves NFS, MOUNT and the portmapper on this listener.
    pub fn start(listener: TcpListener, parts: Parts) -> io::Result<Self> {
        listener.set_nonblocking(false)?;
        let address = listener.local_addr()?;
        let door = Arc::new(Door {
            registry: Arc::new(Registry::new(parts.limits)),
            restores: Restores::new(parts.restorer, parts.clock),
            shares: parts.shares,
            sessions: parts.sessions,
            clock: parts.clock,
            limits: parts.limits,
            port: address.port(),
            forgeries: Forgeries::default(),
            buffers: Arc::default(),
        });
        let registry = Arc::downgrade(&door.registry);
        door.sessions.watch_ends(move |ended| {
            registry.upgrade().map(|registry| registry.end(ended)).is_some()
        });
        let (listener, is_stopping) = (Arc::new(listener), Arc::new(AtomicBool::new(false)));
        let accepting = {
            let (door, listener, is_stopping) =
                (door.clone(), listener.clone(), is_stopping.clone());
            let accept = move || accept_all(&door, &listener, &is_stopping);
            thread::Builder::new().name("nfs-accept".into()).spawn(accept)?
        };
        Ok(Self { door, listener, address, is_stopping, accepting: Some(accepting) })
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns who is connected, those who came first before others.
    pub fn clients(&self) -> Vec<ClientInfo> {
        self.door.registry.clients()
    }

    /// Takes no more calls, answers those that came, and returns when all connections have ended. Blocks for some
    /// seconds where clients do not take their answers.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(accepting) = self.accepting.take() else { return };
        self.is_stopping.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for connections; it accepts no more from here on.
        let _ = rustix::net::shutdown(&*self.listener, rustix::net::Shutdown::Both);
        let _ = accepting.join();
        self.door.registry.stop(STOP_GRACE);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

fn accept_all(door: &Arc<Door>, listener: &TcpListener, is_stopping: &AtomicBool) {
    while !is_stopping.load(Ordering::SeqCst) {
        match listener.accept() {
            Ok((stream, _)) => serve(door, stream),
            Err(_) if is_stopping.load(Ordering::SeqCst) => {}
            Err(error) => {
                tracing::debug!(%error, "cannot accept a connection");
                // Out of descriptors, most likely: trying again at once would only burn the processor.
                thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
}

fn serve(door: &Arc<Door>, stream: TcpStream) {
    let door = door.clone();
    // Admitted on this thread, so that a flood is refused before it costs threads.
    let now = (door.clock)();
    match door.registry.admit(stream, now) {
        Ok(Some(seat)) => {
            let run = move || connection::run(&door, &seat);
            if let Err(error) = thread::Builder::new().name("nfs-client".into()).spawn(run) {
                tracing::warn!(%error, "cannot start a thread for a connection");
            }
        }
        Ok(None) => tracing::debug!("a connection too many was refused"),
        Err(error) => tracing::debug!(%error, "a connection ended before it began"),
    }
}

/// How long connections get to finish when the server stops; then as long again to notice that they were closed.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// How long to wait after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
