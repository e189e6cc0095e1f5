//! Who is connected, and who may be.

use std::{
    io::{self, Write as _},
    net::{IpAddr, Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use keepshare_auth::{Admitted, SessionId, Sessions};
use keepshare_base::{SetName, Stamp};
use keepshare_gate::{Gate, Pulse, Source, Work, source};

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
    place: u64,
    pub(crate) peer: SocketAddr,
    since: Stamp,
    pub(crate) stream: TcpStream,
    /// Held while answers are written, so that those of two threads do not mix.
    writing: Mutex<()>,
    unread_answers: Duration,
    pub(crate) calls: AtomicU64,
    /// A good handle was shown: no stranger any more.
    known: AtomicBool,
    /// Its place is another's, or it sent what nobody can read.
    closed: AtomicBool,
    pub(crate) pulse: Arc<Pulse>,
    /// When the registry was made, by which the pulse counts.
    started: Instant,
    shown: Mutex<Shown>,
}

/// Whose handles a connection has shown. The kernel of a client has one connection for all drives that it mounts.
#[derive(Debug, Default)]
struct Shown {
    last: Option<User>,
    /// The sessions that live, those shown first before others.
    sessions: Vec<(SessionId, Holder)>,
}

#[derive(Debug)]
struct User {
    session: SessionId,
    name: String,
    set: SetName,
    /// The session was told that it is used.
    is_used: bool,
}

/// To whose share of the door a connection or a restore is counted.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Holder {
    /// A user who logged in.
    User(String),
    /// One machine of a host session.
    Host(SessionId, Source),
}

impl Holder {
    /// Returns who it is that a session was admitted for, from this address.
    pub(crate) fn of(session: SessionId, admitted: &Admitted, from: IpAddr) -> Self {
        match admitted.is_host {
            true => Self::Host(session, source(from)),
            false => Self::User(admitted.principal.user.clone()),
        }
    }
}

impl keepshare_gate::Holder for Holder {
    fn is_akin(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Host(session, _), Self::Host(other, _)) => session == other,
            _ => self == other,
        }
    }
}

impl Client {
    /// Notes that a good handle of this session was shown, and whether the drive is used with it or only mounted. Tells
    /// whether it is the first of the session on this connection.
    pub(crate) fn showed(
        &self,
        sessions: &Sessions,
        session: SessionId,
        admitted: &Admitted,
        is_use: bool,
    ) -> bool {
        if !self.is_known() {
            self.known.store(true, Ordering::Relaxed);
        }
        let mut shown = lock(&self.shown);
        // A host session has many users.
        let is_same = |user: &User| user.session == session && user.name == admitted.principal.user;
        let mut is_first = false;
        if !shown.last.as_ref().is_some_and(is_same) {
            let (name, set) = (admitted.principal.user.clone(), admitted.set.clone());
            is_first = shown.add(session, admitted, self.address());
            shown.last = Some(User { session, name, set, is_used: false });
        }
        if let Some(user) = shown.last.as_mut().filter(|user| is_use && !user.is_used) {
            user.is_used = true;
            sessions.used(session);
        }
        is_first
    }

    /// Forgets sessions that ended; tells whether there were any, and who is left that the connection can be counted to.
    fn forget(&self, ended: &[SessionId]) -> (bool, Option<Holder>) {
        let mut shown = lock(&self.shown);
        let before = shown.sessions.len();
        shown.sessions.retain(|(session, _)| !ended.contains(session));
        if shown.last.as_ref().is_some_and(|user| ended.contains(&user.session)) {
            shown.last = None;
        }
        let left = shown.sessions.first().map(|(_, holder)| holder.clone());
        (shown.sessions.len() < before, left)
    }

    /// Returns to whom the connection is counted; nobody before a good handle was shown.
    pub(crate) fn holder(&self) -> Option<Holder> {
        lock(&self.shown).sessions.first().map(|(_, holder)| holder.clone())
    }

    /// Tells whether a good handle was shown.
    pub(crate) fn is_known(&self) -> bool {
        self.known.load(Ordering::Relaxed)
    }

    /// Notes that something came, or was taken.
    pub(crate) fn beat(&self) {
        self.pulse.beat(elapsed_ms(self.started));
    }

    /// Ends work of ours: what took long was no silence of the client's, and its silence begins now.
    pub(crate) fn done(&self, work: Work) {
        self.beat();
        drop(work);
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

    /// Tells whether the connection was closed on this side.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Closes the connection; its thread ends when it notices.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        let deadline = Instant::now() + self.unread_answers * SLOW_READER_PATIENCE;
        while !bytes.is_empty() {
            if Instant::now() >= deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            // Before, and once more after a part was taken: whoever has its answer was heard before whoever asks next.
            self.beat();
            match (&self.stream).write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => bytes = &bytes[sent..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn address(&self) -> IpAddr {
        self.peer.ip()
    }

    fn info(&self) -> ClientInfo {
        let shown = lock(&self.shown);
        let user = shown.last.as_ref();
        ClientInfo {
            address: self.address(),
            user: user.map(|user| user.name.clone()),
            set: user.map(|user| user.set.clone()),
            since: self.since,
            calls: self.calls.load(Ordering::Relaxed),
        }
    }
}

impl Shown {
    /// Notes a session; tells whether it is new.
    fn add(&mut self, session: SessionId, admitted: &Admitted, from: IpAddr) -> bool {
        if self.sessions.iter().any(|(known, _)| *known == session) {
            return false;
        }
        if self.sessions.len() >= SESSIONS_MAX {
            // The first stays: it is whom the connection is counted to.
            self.sessions.remove(1);
        }
        self.sessions.push((session, Holder::of(session, admitted, from)));
        true
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

#[derive(Debug)]
struct Inner {
    gate: Gate<Arc<Client>, Holder>,
    /// Threads of connections, closed ones that did not notice yet included.
    threads: usize,
    is_stopping: bool,
}

impl Registry {
    pub(crate) fn new(limits: Limits) -> Self {
        let gate = Gate::new(limits.shares());
        let inner = Mutex::new(Inner { gate, threads: 0, is_stopping: false });
        Self { limits, started: Instant::now(), inner, one_left: Condvar::new() }
    }

    /// Takes a new connection in, which may close another; `None` where the server stops, or all threads are taken by
    /// connections that were closed.
    pub(crate) fn admit(
        self: &Arc<Self>,
        stream: TcpStream,
        now: Stamp,
    ) -> io::Result<Option<Seat>> {
        let peer = stream.peer_addr()?;
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(self.limits.unread_answers))?;
        let mut inner = self.lock_with_room_for_threads();
        if inner.is_stopping || inner.threads >= self.threads_max() {
            return Ok(None);
        }
        let (place, pulse) = (inner.gate.new_place(), Arc::<Pulse>::default());
        let client = Arc::new(Client {
            place,
            peer,
            since: now,
            stream,
            writing: Mutex::new(()),
            unread_answers: self.limits.unread_answers,
            calls: AtomicU64::new(0),
            known: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            pulse: pulse.clone(),
            started: self.started,
            shown: Mutex::default(),
        });
        let now_ms = elapsed_ms(self.started);
        let out = inner.gate.enter(place, peer.ip(), pulse, client.clone(), now_ms);
        out.iter().for_each(|client| client.close());
        inner.threads += 1;
        Ok(Some(Seat { registry: self.clone(), client }))
    }

    /// Counts a connection to whoever it was the first to show a handle of; where they have their share, the one of theirs
    /// that was silent longest is closed.
    pub(crate) fn belongs(&self, client: &Client, sessions: &Sessions) {
        let mut inner = lock(&self.inner);
        let (session, holder) = {
            let shown = lock(&client.shown);
            let (Some((_, first)), Some((last, _))) =
                (shown.sessions.first(), shown.sessions.last())
            else {
                return;
            };
            (*last, first.clone())
        };
        if let Some(out) = inner.gate.belongs(client.place, holder, elapsed_ms(self.started)) {
            out.close();
        }
        drop(inner);
        // It may have ended since it was looked at, and nobody tells again.
        if !sessions.lives(session) {
            self.end(&[session]);
        }
    }

    /// Ends the places of those who showed handles of these sessions alone: what they asked is answered, and no more.
    pub(crate) fn end(&self, sessions: &[SessionId]) {
        let mut inner = lock(&self.inner);
        let mut stay = Vec::new();
        let ended = inner.gate.end(|client| match client.forget(sessions) {
            (false, _) => false,
            (true, None) => true,
            (true, Some(holder)) => {
                stay.push((client.place, holder));
                false
            }
        });
        for client in ended {
            let _ = client.stream.shutdown(Shutdown::Read);
        }
        for (place, holder) in stay {
            if let Some(out) = inner.gate.belongs(place, holder, elapsed_ms(self.started)) {
                out.close();
            }
        }
    }

    /// Returns who is connected, those who came first before others.
    pub(crate) fn clients(&self) -> Vec<ClientInfo> {
        lock(&self.inner).gate.connections().map(|client| client.info()).collect()
    }

    /// Lets every connection answer what it has and ends it; closes those that are not done after `grace`.
    pub(crate) fn stop(&self, grace: Duration) {
        let mut inner = lock(&self.inner);
        inner.is_stopping = true;
        for client in inner.gate.connections() {
            let _ = client.stream.shutdown(Shutdown::Read);
        }
        let is_busy = |inner: &mut Inner| inner.threads > 0;
        let waited = self.one_left.wait_timeout_while(inner, grace, is_busy);
        let (inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
        inner.gate.connections().for_each(|client| client.close());
        let waited = self.one_left.wait_timeout_while(inner, grace, is_busy);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
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
}

fn elapsed_ms(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
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
        inner.gate.leave(self.client.place);
        inner.threads -= 1;
        self.registry.one_left.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A client may take its answers this many times slower than one timeout, as long as it takes some.
const SLOW_READER_PATIENCE: u32 = 10;

/// The most sessions that a connection is known to have shown; of more, it is not closed when the last of them end.
const SESSIONS_MAX: usize = 16;

/// How long a new connection waits for the threads of closed ones.
const THREADS_WAITED_FOR: Duration = Duration::from_secs(1);
