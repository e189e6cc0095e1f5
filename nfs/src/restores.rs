//! Restores in place: moving a version onto a live name.
//!
//! Each runs on a thread of its own, as the set's master has to be asked, and its answer is sent when the set holds the
//! result. A client that repeats a call gets the answer of the first. After a rename a client believes that the live
//! name now *is* the version's file, and would show old bytes for as long as nothing tells it otherwise: so the folder's
//! times change once more after the answer was sent, and the answer says nothing of them.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use keepshare_auth::Principal;
use keepshare_base::{FileId, RequestId, Stamp};
use keepshare_gate::{TurnShares, Turns, Work};
use keepshare_namespace::{AskedBy, Node, Restore, RestoreError, Restorer, Share, ShareId};
use keepshare_nfs_wire::{
    nfs3::{Attributes, Failure, RenameChange, Reply, Status, Time, WeakCache},
    record::append_record,
    rpc::encode_accepted,
};

use crate::{
    attributes,
    registry::{Client, Holder},
};

/// The restores that are on their way, and what they leave behind.
pub(crate) struct Restores {
    restorer: Arc<dyn Restorer>,
    clock: fn() -> Stamp,
    running: Mutex<Running>,
    touched: Mutex<Touched>,
    /// Folders that came back, the last ones: whoever asks again because an answer was lost is told so.
    brought: Mutex<VecDeque<(RequestId, Stamp)>>,
    /// Nothing was touched since the start: most doors never look further.
    is_untouched: AtomicBool,
}

#[derive(Debug)]
struct Running {
    waiting: HashMap<RequestId, Vec<Asker>>,
    restoring: Turns<Holder>,
    /// Those that only send their answers included, which takes as long as a client takes to read them.
    threads: Turns<Holder>,
}

/// Who waits for an answer.
#[derive(Debug)]
pub(crate) struct Asker {
    pub(crate) client: Arc<Client>,
    pub(crate) xid: u32,
    /// The connection is not silent while it waits.
    pub(crate) work: Work,
}

/// What is restored where.
#[derive(Debug)]
pub(crate) struct Task {
    /// Whose share it is counted to.
    pub(crate) holder: Holder,
    pub(crate) by: AskedBy,
    pub(crate) share: Arc<Share>,
    pub(crate) principal: Arc<Principal>,
    /// The live folder whose name is meant.
    pub(crate) folder: FileId,
    pub(crate) restore: Restore,
}

/// When a folder's names changed, and when it changed at all. Each goes by itself: a client looks at one of them, and the
/// other may lie ahead.
#[derive(Clone, Copy, Debug)]
struct Times {
    mtime: Time,
    ctime: Time,
}

/// Folders whose times are later than the namespace says; the oldest make room.
#[derive(Debug, Default)]
struct Touched {
    times: HashMap<(ShareId, FileId), Times>,
    order: VecDeque<(ShareId, FileId)>,
}

impl Restores {
    pub(crate) fn new(restorer: Arc<dyn Restorer>, clock: fn() -> Stamp) -> Arc<Self> {
        let (running, touched) = (Mutex::new(Running::new()), Mutex::default());
        let (brought, is_untouched) = (Mutex::default(), AtomicBool::new(true));
        Arc::new(Self { restorer, clock, running, touched, brought, is_untouched })
    }

    /// Waits with others for what was asked for already; tells whether it goes on.
    pub(crate) fn joins(&self, request: RequestId, asker: impl FnOnce() -> Asker) -> bool {
        let mut running = lock(&self.running);
        let Some(askers) = running.waiting.get_mut(&request) else { return false };
        if askers.len() < ASKERS_MAX {
            askers.push(asker());
        }
        true
    }

    /// Tells whether a folder came back on this request a short while ago.
    pub(crate) fn has_brought(&self, request: RequestId, now: Stamp) -> bool {
        let brought = lock(&self.brought);
        brought
            .iter()
            .any(|(known, at)| *known == request && now.micros_since(*at).abs() <= REPEATED_MICROS)
    }

    fn note_brought(&self, request: RequestId) {
        let mut brought = lock(&self.brought);
        if brought.len() >= BROUGHT_MAX {
            brought.pop_front();
        }
        brought.push_back((request, (self.clock)()));
    }

    /// Begins a restore, or waits for the same one; the answer is sent when it is there. Fails where there are too
    /// many, of this holder or in all.
    pub(crate) fn begin(self: &Arc<Self>, task: Task, asker: Asker) -> Result<(), Status> {
        let request = task.restore.request;
        let mut running = lock(&self.running);
        if let Some(askers) = running.waiting.get_mut(&request) {
            if askers.len() < ASKERS_MAX {
                askers.push(asker);
            }
            return Ok(());
        }
        let holder = task.holder.clone();
        if !running.take(&holder) {
            return Err(Status::TryLater);
        }
        running.waiting.insert(request, vec![asker]);
        let this = self.clone();
        let run = move || this.run(&task);
        if let Err(error) = thread::Builder::new().name("nfs-restore".into()).spawn(run) {
            tracing::warn!(%error, "cannot start a thread for a restore");
            running.waiting.remove(&request);
            running.restoring.give_back(Some(&holder));
            running.threads.give_back(Some(&holder));
            return Err(Status::TryLater);
        }
        Ok(())
    }

    /// Gives a folder the times that it has to have after restores into it.
    pub(crate) fn touch(&self, share: ShareId, folder: FileId, attributes: &mut Attributes) {
        if self.is_untouched.load(Ordering::Acquire) {
            return;
        }
        if let Some(times) = lock(&self.touched).times.get(&(share, folder)) {
            let later = |time: Time, shown: Time| if is_later(time, shown) { time } else { shown };
            attributes.mtime = later(times.mtime, attributes.mtime);
            attributes.ctime = later(times.ctime, attributes.ctime);
        }
    }

    fn run(&self, task: &Task) {
        let began = (self.clock)();
        let restored =
            catch_unwind(AssertUnwindSafe(|| self.restorer.restore(&task.restore, task.by)));
        let restored = restored.unwrap_or(Err(RestoreError::Unknown));
        let elapsed_ms = (self.clock)().micros_since(began) / 1000;
        match &restored {
            Ok(()) => tracing::debug!(share = %task.restore.set, elapsed_ms, "restored in place"),
            Err(error) => {
                tracing::info!(share = %task.restore.set, elapsed_ms, %error, "not restored");
            }
        }
        // Before nobody waits for it any more: a repeat finds the one or the other.
        if restored.is_ok() && task.restore.folder_at.is_some() {
            self.note_brought(task.restore.request);
        }
        let askers = lock(&self.running).restored(task);
        for asker in askers {
            self.answer(task, asker, &restored);
        }
        lock(&self.running).threads.give_back(Some(&task.holder));
    }

    /// Sends the answer, and changes the folder's times on both sides of it.
    ///
    /// Before, with nothing sent in between, so that whoever has the answer and asks for the times sees new ones; and
    /// after, for clients that asked while the answer was on its way and work through both in the other order.
    fn answer(&self, task: &Task, asker: Asker, restored: &Result<(), RestoreError>) {
        let Asker { client, xid, work } = asker;
        let sent = client.send_with(|| {
            if restored.is_ok() {
                self.touch_anew(task);
            }
            // From here on it is the client who has to take something.
            client.done(work);
            answer_bytes(xid, restored)
        });
        if restored.is_ok() {
            self.touch_anew(task);
        }
        if let Err(error) = sent {
            tracing::debug!(peer = %client.peer, %error, "the client left before the answer");
        }
    }

    /// Makes the folder's times later than anybody has seen them.
    fn touch_anew(&self, task: &Task) {
        let (now, node) = ((self.clock)(), Node::Live { file: task.folder });
        let time = attributes::time_of(now);
        let mut times = Times { mtime: time, ctime: time };
        // A master's clock may be ahead of ours, and so the folder's own times.
        if let Ok(known) = task.share.attributes(&task.principal, node, now) {
            times.mtime = later_than(attributes::time(known.mtime), time);
            times.ctime = later_than(attributes::time(known.ctime), time);
        }
        lock(&self.touched).touch((task.share.id(), task.folder), times);
        self.is_untouched.store(false, Ordering::Release);
    }
}

impl fmt::Debug for Restores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Restores").field("running", &lock(&self.running)).finish_non_exhaustive()
    }
}

impl Running {
    fn new() -> Self {
        let twice = TurnShares {
            turns: RESTORES.turns * 2,
            of_a_holder: RESTORES.of_a_holder * 2,
            of_kin: RESTORES.of_kin * 2,
            ..RESTORES
        };
        let (restoring, threads) = (Turns::new(RESTORES), Turns::new(twice));
        Self { waiting: HashMap::new(), restoring, threads }
    }

    /// Takes what a restore needs; tells whether its holder has a share of both left.
    fn take(&mut self, holder: &Holder) -> bool {
        self.restoring.has_turn(Some(holder))
            && self.threads.take(Some(holder))
            && self.restoring.take(Some(holder))
    }

    /// Ends a restore before its answers are sent: whoever has one may ask for the next. Returns who waits for them.
    fn restored(&mut self, task: &Task) -> Vec<Asker> {
        self.restoring.give_back(Some(&task.holder));
        self.waiting.remove(&task.restore.request).unwrap_or_default()
    }
}

impl Touched {
    /// Makes a folder's times these, or a microsecond later than they were where that is later still.
    fn touch(&mut self, folder: (ShareId, FileId), now: Times) {
        let Some(times) = self.times.get_mut(&folder) else {
            if self.order.len() >= TOUCHED_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.times.remove(&oldest);
            }
            self.order.push_back(folder);
            self.times.insert(folder, now);
            return;
        };
        times.mtime = later_than(times.mtime, now.mtime);
        times.ctime = later_than(times.ctime, now.ctime);
    }
}

/// Returns the answer to a RENAME, without weak cache data: nobody can vouch for it.
pub(crate) fn answer_bytes(xid: u32, restored: &Result<(), RestoreError>) -> Vec<u8> {
    let change = RenameChange { from: WeakCache::NONE, to: WeakCache::NONE };
    let reply: Reply<_, _> = match restored {
        Ok(()) => Ok(change),
        Err(error) => Err(Failure { status: status_of(error), known: change }),
    };
    let mut answer = Vec::new();
    append_record(&mut answer, |encoder| {
        encode_accepted(encoder, xid);
        encoder.value(&reply);
    });
    answer
}

/// Returns the protocol's word for a restore that was not done: none after which clients try again by themselves, as a
/// person has to know, but where it was not even begun.
fn status_of(error: &RestoreError) -> Status {
    match error {
        // "No such device or address."
        RestoreError::Away => Status::NoDevice,
        // Nothing was asked yet, and asking again is all that there is to do: the one word after which clients do it.
        RestoreError::Busy => Status::TryLater,
        // "Operation not permitted."
        RestoreError::Refused(_) => Status::NotPermitted,
        // "Input/output error."
        RestoreError::Unknown => Status::Io,
        _ => Status::ServerFault,
    }
}

fn is_later(a: Time, b: Time) -> bool {
    (a.secs, a.nanos) > (b.secs, b.nanos)
}

/// Returns now, or a moment right after `before` where that is later.
fn later_than(before: Time, now: Time) -> Time {
    if is_later(now, before) { now } else { a_microsecond_after(before) }
}

fn a_microsecond_after(time: Time) -> Time {
    match time.nanos + 1000 {
        nanos if nanos < 1_000_000_000 => Time { nanos, ..time },
        _ => Time { secs: time.secs.saturating_add(1), nanos: 0 },
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The most restores at a time. A user has a quarter, whatever the sessions, and so has a machine of a host session; all of
/// its machines have half.
const RESTORES: TurnShares = TurnShares {
    turns: 32,
    of_no_holder: 0,
    of_a_holder: 8,
    of_kin: 16,
    waiting: 0,
    waiting_of_a_holder: 0,
};

/// The most calls that wait for one restore; further repeats get no answer of their own.
const ASKERS_MAX: usize = 16;

/// The most folders that came back of which it is remembered, and for how long, in microseconds.
const BROUGHT_MAX: usize = 256;
const REPEATED_MICROS: i64 = 5 * 60 * 1_000_000;

/// The most folders whose times are remembered.
const TOUCHED_MAX: usize = 4096;
