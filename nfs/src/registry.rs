//! Who is connected, and who may be.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    net::{IpAddr, Shutdown, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use keepshare_auth::{Admitted, SessionId, Sessions};
use keepshare_base::{SetName, Stamp};

use crate::Limits;

/// One connection, for status pages.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientInfo {
    /// From where.
    pub address: IpAddr,
    /// Who used it last; none while no good handle was shown.
    pub user: Option<String>,
    /// The set that was used last.
    pub set: Option<SetName>,
    /// Since when.
    pub since: Stamp,
    /// How many calls were answered.
    pub calls: u64,
}

/// One connection, as its thread, restores and the registry share it.
#[derive(Debug)]
pub(crate) struct Client {
    id: u64,
    pub(crate) address: IpAddr,
    since: Stamp,
    pub(crate) stream: TcpStream,
    /// Held while answers are written, so that those of two threads do not mix.
    writing: Mutex<()>,
    unread_answers: Duration,
    pub(crate) calls: AtomicU64,
    /// A good handle was shown: no stranger any more.
    known: AtomicBool,
    /// When something came last, in milliseconds since the registry was made.
    last_ms: AtomicU64,
    user: Mutex<Option<User>>,
}

#[derive(Debug)]
struct User {
    session: SessionId,
    name: String,
    set: SetName,
    /// The session was told that it is used.
    is_used: bool,
}

impl Client {
    /// Notes that a good handle of this session was shown, and whether the drive is used with it or only mounted.
    pub(crate) fn showed(
        &self,
        sessions: &Sessions,
        session: SessionId,
        admitted: &Admitted,
        is_use: bool,
    ) {
        if !self.is_known() {
            self.known.store(true, Ordering::Relaxed);
        }
        let mut user = lock(&self.user);
        // A host session has many users.
        let is_same = |user: &User| user.session == session && user.name == admitted.principal.user;
        if !user.as_ref().is_some_and(is_same) {
            let (name, set) = (admitted.principal.user.clone(), admitted.set.clone());
            *user = Some(User { session, name, set, is_used: false });
        }
        if let Some(user) = user.as_mut().filter(|user| is_use && !user.is_used) {
            user.is_used = true;
            sessions.used(session);
        }
    }

    /// Tells whether a good handle was shown.
    pub(crate) fn is_known(&self) -> bool {
        self.known.load(Ordering::Relaxed)
    }

    /// Sends whole answers; closes the connection where the client does not take them.
    pub(crate) fn send(&self, answers: &[u8]) -> io::Result<()> {
        self.send_with(|| answers)
    }

    /// Sends what `answers` returns, which is asked for when nothing else can be sent before it any more.
    pub(crate) fn send_with<A: AsRef<[u8]>>(&self, answers: impl FnOnce() -> A) -> io::Result<()> {
        let _writing = lock(&self.writing);
        let sent = self.write(answers().as_ref());
        if sent.is_err() {
            // What follows would be taken for the rest of what was cut off.
            self.close();
        }
        sent
    }

    /// Tells whether the client has closed the connection, with or without calls of it still to be answered.
    pub(crate) fn has_left(&self) -> bool {
        let mut fds = [PollFd::new(&self.stream, PollFlags::RDHUP)];
        let polled = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        let gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        polled.is_ok() && fds[0].revents().intersects(gone)
    }

    /// Closes the connection; its thread ends when it notices.
    pub(crate) fn close(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        let deadline = Instant::now() + self.unread_answers * SLOW_READER_PATIENCE;
        while !bytes.is_empty() {
            if Instant::now() >= deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match (&self.stream).write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => bytes = &bytes[sent..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn info(&self) -> ClientInfo {
        let user = lock(&self.user);
        ClientInfo {
            address: self.address,
            user: user.as_ref().map(|user| user.name.clone()),
            set: user.as_ref().map(|user| user.set.clone()),
            since: self.since,
            calls: self.calls.load(Ordering::Relaxed),
        }
    }
}

/// All connections.
#[derive(Debug)]
pub(crate) struct Registry {
    limits: Limits,
    started: Instant,
    inner: Mutex<Inner>,
    one_left: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    /// By the order in which they came.
    clients: BTreeMap<u64, Arc<Client>>,
    /// Threads of connections, closed ones that did not notice yet included.
    threads: usize,
    is_stopping: bool,
}

impl Registry {
    pub(crate) fn new(limits: Limits) -> Self {
        let (inner, one_left) = (Mutex::default(), Condvar::new());
        Self { limits, started: Instant::now(), inner, one_left }
    }

    /// Takes a new connection in, which may close a stranger's; `None` where there is no room.
    pub(crate) fn admit(
        self: &Arc<Self>,
        stream: TcpStream,
        now: Stamp,
    ) -> io::Result<Option<Seat>> {
        let address = stream.peer_addr()?.ip().to_canonical();
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(self.limits.unread_answers))?;
        let mut inner = self.lock_with_room_for_threads();
        if inner.is_stopping || !self.make_room(&mut inner, address) {
            return Ok(None);
        }
        let id = inner.next;
        inner.next += 1;
        let client = Arc::new(Client {
            id,
            address,
            since: now,
            stream,
            writing: Mutex::new(()),
            unread_answers: self.limits.unread_answers,
            calls: AtomicU64::new(0),
            known: AtomicBool::new(false),
            last_ms: AtomicU64::new(self.elapsed_ms()),
            user: Mutex::new(None),
        });
        inner.clients.insert(id, client.clone());
        inner.threads += 1;
        Ok(Some(Seat { registry: self.clone(), client }))
    }

    /// Notes that something came.
    pub(crate) fn heard(&self, client: &Client) {
        client.last_ms.store(self.elapsed_ms(), Ordering::Relaxed);
    }

    /// Returns who is connected, those who came first before others.
    pub(crate) fn clients(&self) -> Vec<ClientInfo> {
        lock(&self.inner).clients.values().map(|client| client.info()).collect()
    }

    /// Lets every connection answer what it has and ends it; closes those that are not done after `grace`.
    pub(crate) fn stop(&self, grace: Duration) {
        let mut inner = lock(&self.inner);
        inner.is_stopping = true;
        for client in inner.clients.values() {
            let _ = client.stream.shutdown(Shutdown::Read);
        }
        let is_busy = |inner: &mut Inner| inner.threads > 0;
        let waited = self.one_left.wait_timeout_while(inner, grace, is_busy);
        let (inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
        inner.clients.values().for_each(|client| client.close());
        let waited = self.one_left.wait_timeout_while(inner, grace, is_busy);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn make_room(&self, inner: &mut Inner, address: IpAddr) -> bool {
        let Limits { connections, connections_per_address, strangers_per_address, .. } =
            self.limits;
        let from_here = |client: &&Arc<Client>| client.address == address;
        let strangers = inner.clients.values().filter(from_here).filter(|c| !c.is_known()).count();
        let here = inner.clients.values().filter(from_here).count();
        if (strangers >= strangers_per_address || here >= connections_per_address)
            && !close_stranger(inner, |client| client.address == address)
        {
            return false;
        }
        if inner.threads >= self.threads_max() {
            return false;
        }
        inner.clients.len() < connections || close_stranger(inner, |_| true)
    }

    /// Waits a little while threads of closed connections have not noticed: they are done at once, and a crowd that
    /// comes faster has to wait like this too.
    fn lock_with_room_for_threads(&self) -> MutexGuard<'_, Inner> {
        let is_full = |inner: &mut Inner| inner.threads >= self.threads_max() && !inner.is_stopping;
        let waited =
            self.one_left.wait_timeout_while(lock(&self.inner), THREADS_WAITED_FOR, is_full);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Returns how many threads there may be: closed connections count until their threads have noticed.
    fn threads_max(&self) -> usize {
        self.limits.connections * 2
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Closes the stranger longest idle of those that `of` picks; tells whether there was one.
fn close_stranger(inner: &mut Inner, of: impl Fn(&Client) -> bool) -> bool {
    let strangers = inner.clients.values().filter(|client| !client.is_known() && of(client));
    let Some(oldest) = strangers.min_by_key(|client| client.last_ms.load(Ordering::Relaxed)) else {
        return false;
    };
    oldest.close();
    let id = oldest.id;
    inner.clients.remove(&id);
    true
}

/// A connection's place in the registry, given up when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) registry: Arc<Registry>,
    pub(crate) client: Arc<Client>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.client.close();
        let mut inner = lock(&self.registry.inner);
        inner.clients.remove(&self.client.id);
        inner.threads -= 1;
        self.registry.one_left.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A client may take its answers this many times slower than one timeout, as long as it takes some.
const SLOW_READER_PATIENCE: u32 = 10;

/// How long a new connection waits for the threads of closed ones.
const THREADS_WAITED_FOR: Duration = Duration::from_secs(1);
