//! The thread that asks whether files are open for writing, and looks at those that are: see [`super::sweep`].
//!
//! Takes about one hundredth of a core, and less where there is less to ask.

use std::{
    collections::HashMap,
    io::ErrorKind,
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use keepshare_base::{FileId, Kind};
use rustix::time::{ClockId, clock_gettime};

use keepshare_decide::{Known, Signature};

use super::{
    SourceError,
    ledger::Snapshot,
    pass, processes,
    shared::{Request, Shared, lock},
    sweep::{HEAD_BYTES, SWEEP_EVERY, Verdict, Writer, is_store},
    tree::{self, Tree},
};
use crate::lease::{Lease, NoLease};

/// What one round may cost, beside the files that are open, in time of a processor.
const ROUND_COST: Duration = Duration::from_millis(12);

/// The next round waits so many times what the last one cost.
const COST_FACTOR: u32 = 120;

/// How often it is looked which processes have files open.
const PROCESSES_EVERY: Duration = Duration::from_secs(10);

/// And at least so many times what it cost.
const PROCESSES_FACTOR: u32 = 400;

/// The most files whose first bytes are read in a round: each may be a seek of a disk.
const HEADS_PER_ROUND: usize = 20;

/// The most folders that are held open during a round.
const FOLDERS_MAX: usize = 128;

/// So many open files are looked at for a question; the rest is left to the sweeps.
const ASKED_MAX: usize = 1000;

/// An open file, its state and the one that is known of it.
type Opened = (OwnedFd, Signature, Signature);

/// What is found of a file.
enum Probed {
    /// It is open.
    Open(Opened),
    /// A lease is on it: it is looked at another time, and whoever holds the lease is not made to hurry by us.
    Held,
    /// Something else is there.
    Nothing,
}

/// What one round works with.
struct Round<'a> {
    shared: &'a Shared,
    tree: &'a Tree,
    snapshot: Snapshot,
    folders: HashMap<FileId, Option<Rc<OwnedFd>>>,
    /// Files to be looked at, and whether to compare their content whatever their times say.
    changed: Vec<(FileId, bool)>,
}

/// The running thread; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Sweeper {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

/// Where the thread finds what is asked of it.
#[derive(Debug, Default)]
struct Desk {
    orders: Mutex<Orders>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Orders {
    stopped: bool,
    /// The newest question for which open files are to be looked at.
    question: Option<u64>,
}

/// Why the thread goes on.
enum Woken {
    /// It is to end.
    Stopped,
    /// Somebody asks.
    Asked(u64),
    /// It is time.
    Due,
}

impl Sweeper {
    /// Starts the thread of a source.
    pub(crate) fn start(shared: &Arc<Shared>) -> std::io::Result<Self> {
        let desk = Arc::new(Desk::default());
        let name = format!("sweep-{}", shared.config.set);
        let (shared, orders) = (shared.clone(), desk.clone());
        let thread = thread::Builder::new().name(name).spawn(move || run(&shared, &orders))?;
        Ok(Self { desk, thread: Some(thread) })
    }

    /// Has the open files looked at for a question; [`Request::Swept`] follows what that shows.
    pub(crate) fn ask(&self, question: u64) {
        lock(&self.desk.orders).question = Some(question);
        self.desk.changed.notify_all();
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        lock(&self.desk.orders).stopped = true;
        self.desk.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // Had it ended by a fault, there is nothing to wait for.
            let _ = thread.join();
        }
    }
}

impl Desk {
    fn is_stopped(&self) -> bool {
        lock(&self.orders).stopped
    }

    /// Waits until then, or until something is asked.
    fn wait_until(&self, until: Instant) -> Woken {
        let patience = until.saturating_duration_since(Instant::now());
        let is_idle = |orders: &mut Orders| !orders.stopped && orders.question.is_none();
        let waited = self.changed.wait_timeout_while(lock(&self.orders), patience, is_idle);
        let mut orders = waited.unwrap_or_else(PoisonError::into_inner).0;
        match orders.question.take() {
            _ if orders.stopped => Woken::Stopped,
            Some(question) => Woken::Asked(question),
            None => Woken::Due,
        }
    }
}

fn run(shared: &Shared, desk: &Desk) {
    let mut next_processes = Instant::now();
    loop {
        let (began, spent) = (Instant::now(), cost());
        if began >= next_processes {
            if let Err(error) = look_at_processes(shared) {
                tracing::debug!(set = %shared.config.set, %error, "cannot tell who has files open");
            }
            let took = cost().saturating_sub(spent);
            next_processes = began + PROCESSES_EVERY.max(took * PROCESSES_FACTOR);
        }
        let spent = cost();
        if let Err(error) = round(shared, desk) {
            // The source's own thread tells of a journal that fails.
            tracing::debug!(set = %shared.config.set, %error, "cannot sweep");
        }
        let next = began + SWEEP_EVERY.max(cost().saturating_sub(spent) * COST_FACTOR);
        loop {
            match desk.wait_until(next) {
                Woken::Stopped => return,
                Woken::Due => break,
                Woken::Asked(question) => match look_at_open(shared, desk) {
                    Ok(()) => shared.request(Request::Swept(question)),
                    Err(error) => {
                        tracing::debug!(set = %shared.config.set, %error, "cannot sweep");
                    }
                },
            }
        }
    }
}

/// Looks at the files that are open, because somebody asks: a store into a page that is dirty already leaves no time, so
/// only what was written back since can be told to be as it is known.
fn look_at_open(shared: &Shared, desk: &Desk) -> Result<(), SourceError> {
    let Some(tree) = lock(&shared.tree).clone() else { return Ok(()) };
    let snapshot = Snapshot::open(&shared.database()?)?;
    let mut round =
        Round { shared, tree: &tree, snapshot, folders: HashMap::new(), changed: Vec::new() };
    let mut open = lock(&shared.sweep).open();
    open.truncate(ASKED_MAX);
    round.look_at_all(open, desk)?;
    round.tell();
    Ok(())
}

/// Looks at the files that are open, at some of the others, and at a few first bytes.
fn round(shared: &Shared, desk: &Desk) -> Result<(), SourceError> {
    let Some(tree) = lock(&shared.tree).clone() else { return Ok(()) };
    if lock(&shared.sweep).is_idle() {
        return Ok(());
    }
    let snapshot = Snapshot::open(&shared.database()?)?;
    let mut round =
        Round { shared, tree: &tree, snapshot, folders: HashMap::new(), changed: Vec::new() };
    let open = lock(&shared.sweep).open();
    round.look_at_all(open, desk)?;
    let began = cost();
    let most = lock(&shared.sweep).len();
    for _ in 0..most {
        if desk.is_stopped() || cost().saturating_sub(began) >= ROUND_COST {
            break;
        }
        let Some(file) = lock(&shared.sweep).next(Instant::now()) else { break };
        round.look(file)?;
    }
    for _ in 0..HEADS_PER_ROUND {
        let Some(file) = lock(&shared.sweep).next_head() else { break };
        round.look_at_head(file)?;
    }
    round.tell();
    Ok(())
}

impl Round<'_> {
    fn look_at_all(&mut self, files: Vec<FileId>, desk: &Desk) -> Result<(), SourceError> {
        for file in files {
            if desk.is_stopped() {
                break;
            }
            self.look(file)?;
        }
        Ok(())
    }

    /// Has the source's thread look at what changed.
    fn tell(self) {
        if !self.changed.is_empty() {
            self.shared.request(Request::Compare(self.changed));
        }
    }

    fn look(&mut self, file: FileId) -> Result<(), SourceError> {
        let (open, seen, known) = match self.open(file)? {
            Probed::Open(opened) => opened,
            Probed::Held => {
                lock(&self.shared.sweep).held(file);
                return Ok(());
            }
            Probed::Nothing => {
                lock(&self.shared.sweep).forget(file);
                return Ok(());
            }
        };
        let writer = match Lease::read(&open) {
            Ok(_) => Writer::None,
            Err(NoLease::Open) => Writer::Some,
            Err(NoLease::Unknown(_)) => Writer::Unknown,
        };
        let age = age_of(seen);
        let verdict = lock(&self.shared.sweep).looked(Instant::now(), file, writer, seen, age);
        match verdict {
            // Somebody wrote to it by a name outside of the source, or nobody told.
            Verdict::Rest if seen != known => self.changed.push((file, false)),
            Verdict::Rest => {}
            Verdict::Seal { verify } => {
                // A page that was written back is protected: the next store into it leaves a time. What cannot be written
                // back is the trouble of whoever stored it.
                let _ = rustix::fs::fdatasync(&open);
                self.changed.push((file, verify));
            }
            Verdict::Last => self.changed.push((file, false)),
        }
        Ok(())
    }

    fn look_at_head(&mut self, file: FileId) -> Result<(), SourceError> {
        let Probed::Open((open, ..)) = self.open(file)? else { return Ok(()) };
        let mut head = vec![0; HEAD_BYTES];
        let len = pass::read_full(&open, &mut head, 0).unwrap_or(0);
        if is_store(&head[..len]) {
            lock(&self.shared.sweep).is_store(file);
        }
        Ok(())
    }

    /// Opens a file where the map has it, with its state and the one that is known.
    fn open(&mut self, file: FileId) -> Result<Probed, SourceError> {
        if lock(&self.shared.sweep).is_left(file) {
            return Ok(Probed::Held);
        }
        let map = &self.snapshot.map;
        let Some(record) = map.record(file)? else { return Ok(Probed::Nothing) };
        let Some((parent, name)) = map.links(file, 1)?.pop() else { return Ok(Probed::Nothing) };
        if !self.folders.contains_key(&parent) {
            if self.folders.len() >= FOLDERS_MAX {
                self.folders.clear();
            }
            let path = map.path(parent)?;
            let open = path.and_then(|path| self.tree.folder(&path).ok()).map(Rc::new);
            self.folders.insert(parent, open);
        }
        let Some(Some(folder)) = self.folders.get(&parent) else { return Ok(Probed::Nothing) };
        let open = match tree::open_file(folder.as_fd(), &name) {
            Ok(open) => open,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Probed::Held),
            Err(_) => return Ok(Probed::Nothing),
        };
        let Ok(seen) = self.tree.look_at(open.as_fd()) else { return Ok(Probed::Nothing) };
        let is_it = seen.kind == Kind::File && seen.inode == record.inode;
        let opened = (open, seen.signature, record.signature);
        Ok(if is_it { Probed::Open(opened) } else { Probed::Nothing })
    }
}

/// Notes the files of the source that processes have open or mapped for writing.
fn look_at_processes(shared: &Shared) -> Result<(), SourceError> {
    let Some(tree) = lock(&shared.tree).clone() else { return Ok(()) };
    let found = processes::writers(tree.root_seen().device);
    if found.is_empty() {
        return Ok(());
    }
    let snapshot = Snapshot::open(&shared.database()?)?;
    for number in found {
        if let Some(file) = snapshot.map.by_number(number)? {
            lock(&shared.sweep).shown(Instant::now(), file);
        }
    }
    Ok(())
}

/// Returns how far from now the moment is when something changed: clocks are set back, too.
fn age_of(seen: Signature) -> Duration {
    Duration::from_micros(
        keepshare_host::clock::now().micros_since(seen.ctime.to_stamp()).unsigned_abs(),
    )
}

/// Returns what this thread has cost until now, in time of a processor.
fn cost() -> Duration {
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    let secs = u64::try_from(spent.tv_sec).unwrap_or(0);
    Duration::new(secs, u32::try_from(spent.tv_nsec).unwrap_or(0))
}
