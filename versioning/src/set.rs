//! One set at work: its store on a writer thread, its live tree on another.
//!
//! Changes are queued from anywhere without waiting. The writer takes what has gathered, makes it durable with one sync
//! and answers each; the live thread follows the commits; a third thread syncs the live tree, so that a slow disk does
//! not make users wait for what is in memory already. Time comes in through [`SetStore::tick`]. Where changes come from
//! and what an acknowledgement is worth is not decided here.

use std::{
    fmt, io,
    os::fd::BorrowedFd,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::AtomicBool,
        mpsc::{RecvTimeoutError, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use keepshare_base::{CommitId, chain};

use crate::{
    Arrival, ClockAlarm, CommitError, Incoming, OpenReport, Reader, Store, StoreError,
    StoreOptions,
    checked::{CheckedDb, CheckedError, open_checked},
    disk::{Disk, RealDisk},
    live::{LiveDirs, LiveError, LiveOptions, LiveTree, Memory, Problem},
};

mod follower;
#[cfg(test)]
mod tests;
mod writer;

use follower::FollowerBox;
use writer::WriterBox;

/// The most changes that wait in the queue of a set.
pub const QUEUE_CHANGES_MAX: usize = 4096;

/// The most bytes of content that wait in the queue of a set.
pub const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How much memory the records of a live tree may use to keep pages, in bytes.
const LIVE_CACHE_BYTES: usize = 16 * 1024 * 1024;

/// The file of the live tree's records, beside the index.
const LIVE_STATE: &str = "live.redb";

/// How often whoever waits for the writer looks whether it has ended by a fault.
const ENDED_LOOK: Duration = Duration::from_millis(200);

/// The place of the thread that ends after the others.
const SYNC_THREAD: usize = 2;

/// Takes the answer to a submitted change, on the writer's thread: it must only pass it on.
pub type Reply = Box<dyn FnOnce(Result<CommitId, SubmitError>) + Send>;

/// A change for the queue.
pub struct Submission {
    /// The change.
    pub incoming: Incoming,
    /// What was known when it came.
    pub arrival: Arrival,
    /// Called once, when the change is durable or refused.
    pub reply: Reply,
}

impl fmt::Debug for Submission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submission")
            .field("position", &self.incoming.position)
            .finish_non_exhaustive()
    }
}

/// Why a submitted change was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The store did not take it. Never [`CommitError::Full`]: such a change waits.
    #[error("the change was not taken")]
    Commit(#[from] CommitError),
    /// The set is being closed.
    #[error("the set is being closed")]
    Closed,
}

/// The queue is full; the change comes back.
#[derive(Debug, thiserror::Error)]
#[error("the queue of the set is full")]
pub struct QueueFull(pub Box<Submission>);

/// Makes the file system of a live tree durable: all of it, or none that is told of where the flag says that nobody
/// waits for it any more.
pub type SyncTree = Arc<dyn Fn(BorrowedFd<'_>, &AtomicBool) -> io::Result<()> + Send + Sync>;

/// Why a set cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetError {
    /// Its folder cannot be used, or something else holds it.
    #[error("cannot use the folder of the set")]
    Disk(#[source] io::Error),
    /// The store cannot be opened.
    #[error("cannot open the store")]
    Store(#[from] StoreError),
    /// The live tree cannot be opened.
    #[error("cannot open the live tree")]
    Live(#[from] LiveError),
    /// The records of the live tree cannot be opened.
    #[error("cannot open the records of the live tree")]
    LiveState(#[source] CheckedError),
    /// A thread cannot be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

/// Where the live tree of a set is.
#[derive(Clone, Debug, Default)]
pub enum LivePlace {
    /// In `live` and `stage` in the set's folder.
    #[default]
    Beside,
    /// In these folders.
    Dirs(LiveDirs),
    /// In place: the folder that the changes come from. It has everything already, and nothing is written there.
    InPlace,
}

/// How a set is opened.
#[derive(Clone, Default)]
pub struct SetOptions {
    /// What the set is called: its threads are named after it ([`is_thread_of`]).
    pub name: String,
    /// The store's options.
    pub store: StoreOptions,
    /// Where the live tree is.
    pub live: LivePlace,
    /// How the live tree is kept.
    pub live_options: LiveOptions,
    /// How the live tree is made durable, where not by this process itself.
    pub sync: Option<SyncTree>,
}

impl fmt::Debug for SetOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, store, live, live_options, .. } = self;
        let mut text = f.debug_struct("SetOptions");
        text.field("name", name)
            .field("store", store)
            .field("live", live)
            .field("live_options", live_options);
        text.finish_non_exhaustive()
    }
}

/// How a set is doing.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// The newest durable commit.
    pub durable: CommitId,
    /// The commit that the live tree shows; none while its folder is not where it should be.
    pub live: CommitId,
    /// The commit through which the live tree is on the disk.
    pub live_synced: CommitId,
    /// The disk is full; changes wait.
    pub full: bool,
    /// Why changes wait for a disk that fails; they are tried again.
    pub failing: Option<String>,
    /// Why no change is taken until the set is opened again.
    pub poisoned: Option<String>,
    /// Why the live tree does not follow.
    pub live_failed: Option<String>,
    /// What in the live tree is not as it should be.
    pub problems: Vec<Arc<Problem>>,
    /// How many more problems there are.
    pub more_problems: u64,
    /// How often clocks were found to be wrong, and the last time.
    pub clock_alarm: (u64, Option<ClockAlarm>),
}

/// Tells whether a thread of this name is one of a set's: they are called `writer:NAME`, `live:NAME` and `live-sync:NAME`.
pub fn is_thread_of(set: &str, thread: &str) -> bool {
    let does = thread.split_once(':').filter(|(_, name)| *name == set).map(|(does, _)| does);
    does.is_some_and(|does| matches!(does, "writer" | "live" | "live-sync"))
}

/// A set that is open: its store, its live tree and their threads.
#[derive(Debug)]
pub struct SetStore {
    name: String,
    shared: Arc<Shared>,
    reader: Reader,
    report: OpenReport,
    threads: Vec<JoinHandle<()>>,
}

impl SetStore {
    /// Opens the set in a folder, and creates it where there is none.
    pub fn open(dir: &Path, options: SetOptions) -> Result<Self, SetError> {
        let disk = RealDisk::open(dir).map_err(SetError::Disk)?;
        Self::open_on(Arc::new(disk), dir, options)
    }

    /// Opens a set on a disk; only its live tree may be in `dir`.
    ///
    /// What is kept is opened whatever the live tree is: why that cannot be used is in the status, and it is tried again.
    pub fn open_on(disk: Arc<dyn Disk>, dir: &Path, options: SetOptions) -> Result<Self, SetError> {
        let SetOptions { name, store, live, mut live_options, sync } = options;
        let (mut store, report) = Store::open(Arc::clone(&disk), store)?;
        let dirs = match live {
            LivePlace::InPlace => return Self::open_in_place(name, disk, store, report),
            LivePlace::Dirs(dirs) => dirs,
            LivePlace::Beside => {
                // Beside the log and the packs, nobody else keeps anything.
                live_options.own = true;
                LiveDirs { live: dir.join("live"), stage: dir.join("stage") }
            }
        };
        let memory = boot().map(|boot| Memory { disk: Arc::clone(&disk), boot });
        let shared_disk = Arc::clone(&disk);
        let open = move || -> Result<LiveTree, SetError> {
            let state = open_live_state(&disk)?;
            Ok(LiveTree::open(dirs.clone(), state, memory.clone(), live_options)?)
        };
        let mut status = Status { durable: report.latest, ..Status::default() };
        let tree = match open() {
            Ok(tree) => {
                store.set_live(tree.synced());
                (status.live, status.live_synced) = (tree.reached(), tree.synced());
                Some(tree)
            }
            Err(error) => {
                let why = chain(&error);
                tracing::error!(%why, "the live tree cannot be used; what is kept can be read");
                status.live_failed = Some(why);
                None
            }
        };
        let reader = store.reader();
        let shared = Arc::new(Shared {
            disk: shared_disk,
            writer: WriterBox::default(),
            follower: FollowerBox::default(),
            in_place: false,
            sync: sync.unwrap_or_else(|| Arc::new(|live, _| Ok(rustix::fs::syncfs(live)?))),
            status: Mutex::new(status),
            watchers: Mutex::new(Vec::new()),
        });
        let mut set = Self { name, shared, reader, report, threads: Vec::new() };
        set.start("writer", |shared, _| writer::run(shared, store))?;
        set.start("live", move |shared, reader| follower::run(shared, tree, open, &reader))?;
        set.start("live-sync", |shared, _| follower::run_syncs(shared))?;
        set.shared.follower.durable(set.report.latest);
        Ok(set)
    }

    /// Opens a set whose live tree is in place: what is durable is live.
    fn open_in_place(
        name: String,
        disk: Arc<dyn Disk>,
        mut store: Store,
        report: OpenReport,
    ) -> Result<Self, SetError> {
        let latest = report.latest;
        store.set_live(latest);
        let reader = store.reader();
        let status =
            Status { durable: latest, live: latest, live_synced: latest, ..Status::default() };
        let shared = Arc::new(Shared {
            disk,
            writer: WriterBox::default(),
            follower: FollowerBox::default(),
            in_place: true,
            sync: Arc::new(|_, _| Ok(())),
            status: Mutex::new(status),
            watchers: Mutex::new(Vec::new()),
        });
        let mut set = Self { name, shared, reader, report, threads: Vec::new() };
        set.start("writer", |shared, _| writer::run(shared, store))?;
        Ok(set)
    }

    /// Queues a change. Answers come in the order of the changes.
    pub fn submit(&self, submission: Submission) -> Result<(), QueueFull> {
        self.shared.writer.submit(submission)
    }

    /// Has work done on the writer's thread between two changes: it holds up all changes meanwhile.
    ///
    /// What it commits becomes durable with the next sync, which comes at once.
    pub fn with_store(&self, work: impl FnOnce(&mut Store) + Send + 'static) {
        self.shared.writer.order(Box::new(work));
    }

    /// Has work done with the store between two groups of changes and waits for it; `None` where the thread that does it has ended.
    pub fn ask_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = sync_channel(1);
        self.with_store(move |store| {
            // Whoever asked waits for as long as this thread lives.
            let _ = answer.send(work(store));
        });
        loop {
            match answered.recv_timeout(ENDED_LOOK) {
                Ok(done) => return Some(done),
                Err(RecvTimeoutError::Disconnected) => return None,
                // An order that nobody takes any more is dropped with the set, not before.
                Err(RecvTimeoutError::Timeout) => {
                    if self.threads.first().is_none_or(JoinHandle::is_finished) {
                        return answered.try_recv().ok();
                    }
                }
            }
        }
    }

    /// Has work done on the live tree's thread: it follows no commits meanwhile. Dropped where the set is being closed, and
    /// where its live tree is in place.
    pub fn with_live(&self, work: impl FnOnce(&mut LiveTree, &Reader) + Send + 'static) {
        if !self.shared.in_place {
            self.shared.follower.order(Box::new(work));
        }
    }

    /// Says through which commit whoever follows the set has looked, see [`Store::set_followed`].
    pub fn followed(&self, through: CommitId) {
        self.shared.writer.followed(through);
    }

    /// Says what time it is, and how long the machine has been up, which no setting of the clock changes; call it about once a
    /// second. What waits for space or has failed is tried again.
    pub fn tick(&self, now: impl Into<Arrival>) {
        let now = now.into();
        self.shared.writer.tick(now);
        self.shared.follower.tick(now.clock);
    }

    /// Returns a reader of the set.
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// Returns what opening found.
    pub fn report(&self) -> &OpenReport {
        &self.report
    }

    /// Returns how the set is doing.
    pub fn status(&self) -> Status {
        lock(&self.shared.status).clone()
    }

    /// Has `changed` called, on a thread of the set, whenever the status changed: it must only pass it on.
    pub fn watch(&self, changed: impl Fn() + Send + 'static) {
        lock(&self.shared.watchers).push(Box::new(changed));
    }

    /// Returns how many changes and bytes of content wait in the queue.
    pub fn queued(&self) -> (usize, usize) {
        self.shared.writer.queued()
    }

    /// Takes no more changes, makes everything taken durable, and waits for the threads to end.
    pub fn close(mut self) {
        self.stop();
    }

    fn start(
        &mut self,
        does: &str,
        work: impl FnOnce(&Shared, Reader) + Send + 'static,
    ) -> Result<(), SetError> {
        let (shared, reader) = (Arc::clone(&self.shared), self.reader.clone());
        let thread = std::thread::Builder::new().name(format!("{does}:{}", self.name));
        let thread = thread.spawn(move || work(&shared, reader)).map_err(SetError::Thread)?;
        self.threads.push(thread);
        Ok(())
    }

    fn stop(&mut self) {
        self.shared.writer.close();
        self.shared.follower.close();
        for (place, thread) in self.threads.drain(..).enumerate() {
            if place == SYNC_THREAD {
                self.shared.follower.close_sync();
            }
            if thread.join().is_err() {
                tracing::error!("a thread of a set panicked");
            }
        }
    }
}

impl Drop for SetStore {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What the threads of a set have in common.
struct Shared {
    disk: Arc<dyn Disk>,
    writer: WriterBox,
    follower: FollowerBox,
    /// There is no live tree of our own, and no thread that follows.
    in_place: bool,
    sync: SyncTree,
    status: Mutex<Status>,
    watchers: Mutex<Vec<Box<dyn Fn() + Send>>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    /// Changes the status and tells those who watch.
    fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut lock(&self.status));
        for watcher in lock(&self.watchers).iter() {
            watcher();
        }
    }
}

/// Returns the number of this run of the machine; `None` where the kernel does not tell.
fn boot() -> Option<[u8; 16]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
    Some(u128::from_str_radix(&digits, 16).ok()?.to_be_bytes())
}

/// Opens the records of the live tree; damaged ones are begun anew, and the tree is built again from the store.
fn open_live_state(disk: &Arc<dyn Disk>) -> Result<Arc<CheckedDb>, SetError> {
    let opened = match open_checked(disk, LIVE_STATE, LIVE_CACHE_BYTES) {
        Err(CheckedError::Damaged(why)) => {
            tracing::warn!(%why, "the records of the live tree are damaged and begun anew");
            disk.remove(LIVE_STATE).map_err(SetError::Disk)?;
            open_checked(disk, LIVE_STATE, LIVE_CACHE_BYTES)
        }
        opened => opened,
    };
    Ok(Arc::new(opened.map_err(SetError::LiveState)?))
}

/// Locks; what another thread left when it panicked is whole, as nothing here is changed in steps.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
