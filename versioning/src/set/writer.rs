//! The thread that owns the store.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use keepshare_base::{CommitId, Stamp};
use keepshare_host::buffers;

use super::{
    QUEUE_BYTES_MAX, QUEUE_CHANGES_MAX, QueueFull, Reply, Shared, Submission, SubmitError, chain,
    lock,
};
use crate::{Arrival, CommitError, Store, StoreError};

/// The most changes that become durable with one sync.
const GROUP_CHANGES_MAX: usize = 512;

/// The most bytes of content that become durable with one sync, but for a single change.
const GROUP_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How many bytes of content may be committed before the index is made durable without waiting for the time.
const FLUSH_BYTES: usize = 16 * 1024 * 1024;

/// How often the index is made durable, in microseconds.
const FLUSH_MICROS: i64 = 1_000_000;

/// For how long a set that closes goes on writing a damaged log anew.
const LOG_PATIENCE: Duration = Duration::from_secs(60);

/// While changes come without a pause there is one step of upkeep after so many groups of them, and one a second.
const GROUPS_PER_UPKEEP: u32 = 4;

/// Work for the writer's thread.
pub(super) type Order = Box<dyn FnOnce(&mut Store) + Send>;

/// What waits for the writer.
#[derive(Default)]
pub(super) struct WriterBox {
    inbox: Mutex<Inbox>,
    arrived: Condvar,
}

#[derive(Default)]
struct Inbox {
    queue: VecDeque<Submission>,
    queue_bytes: usize,
    orders: Vec<Order>,
    now: Option<Arrival>,
    live: Option<CommitId>,
    followed: Option<CommitId>,
    closing: bool,
}

/// What the writer takes out at once.
#[derive(Default)]
struct Taken {
    group: Vec<Submission>,
    orders: Vec<Order>,
    now: Option<Arrival>,
    live: Option<CommitId>,
    followed: Option<CommitId>,
    closing: bool,
}

impl WriterBox {
    pub(super) fn submit(&self, submission: Submission) -> Result<(), QueueFull> {
        let mut inbox = lock(&self.inbox);
        if inbox.closing {
            drop(inbox);
            (submission.reply)(Err(SubmitError::Closed));
            return Ok(());
        }
        let bytes = submission.incoming.filled.payload.len();
        let over = inbox.queue_bytes + bytes > QUEUE_BYTES_MAX && !inbox.queue.is_empty();
        if over || inbox.queue.len() >= QUEUE_CHANGES_MAX {
            return Err(QueueFull(Box::new(submission)));
        }
        inbox.queue_bytes += bytes;
        inbox.queue.push_back(submission);
        self.arrived.notify_one();
        Ok(())
    }

    pub(super) fn order(&self, order: Order) {
        lock(&self.inbox).orders.push(order);
        self.arrived.notify_one();
    }

    pub(super) fn tick(&self, now: Arrival) {
        lock(&self.inbox).now = Some(now);
        self.arrived.notify_one();
    }

    /// Says how far the live tree is on the disk.
    pub(super) fn live(&self, synced: CommitId) {
        lock(&self.inbox).live = Some(synced);
        self.arrived.notify_one();
    }

    /// Says how far those looked who follow the set: it is heard with whatever comes next.
    pub(super) fn followed(&self, through: CommitId) {
        lock(&self.inbox).followed = Some(through);
    }

    pub(super) fn close(&self) {
        lock(&self.inbox).closing = true;
        self.arrived.notify_one();
    }

    pub(super) fn queued(&self) -> (usize, usize) {
        let inbox = lock(&self.inbox);
        (inbox.queue.len(), inbox.queue_bytes)
    }

    /// Waits for something to do; changes only where `changes` says so, not at all where `idle` work is left.
    fn take(&self, changes: bool, idle: bool) -> Taken {
        let mut inbox = lock(&self.inbox);
        loop {
            let something = (changes && !inbox.queue.is_empty())
                || !inbox.orders.is_empty()
                || inbox.now.is_some()
                || inbox.live.is_some();
            if something || idle || inbox.closing {
                break;
            }
            inbox = self.arrived.wait(inbox).unwrap_or_else(PoisonError::into_inner);
        }
        let mut taken = Taken {
            orders: std::mem::take(&mut inbox.orders),
            now: inbox.now.take(),
            live: inbox.live.take(),
            followed: inbox.followed.take(),
            closing: inbox.closing,
            ..Taken::default()
        };
        // A full disk may have space again whenever time has passed.
        if changes || taken.now.is_some() {
            let mut bytes = 0;
            while let Some(next) = inbox.queue.front() {
                let len = next.incoming.filled.payload.len();
                let room = taken.group.len() < GROUP_CHANGES_MAX && bytes + len <= GROUP_BYTES_MAX;
                if !room && !taken.group.is_empty() {
                    break;
                }
                bytes += len;
                taken.group.extend(inbox.queue.pop_front());
            }
            inbox.queue_bytes -= bytes;
        }
        taken
    }

    /// Puts changes back to the front of the queue.
    fn put_back(&self, submissions: Vec<Submission>) {
        let mut inbox = lock(&self.inbox);
        for submission in submissions.into_iter().rev() {
            inbox.queue_bytes += submission.incoming.filled.payload.len();
            inbox.queue.push_front(submission);
        }
    }
}

/// Runs the store until the set is closed.
pub(super) fn run(shared: &Shared, store: Store) {
    let mut writer = Writer {
        shared,
        store,
        waiting: Vec::new(),
        unsynced: false,
        held: None,
        poisoned: false,
        unflushed_bytes: 0,
        dirty: false,
        flushed_at: None,
        more_upkeep: false,
        busy_groups: 0,
    };
    loop {
        // Upkeep may be what makes room: it goes on while changes wait.
        let taken = shared.writer.take(writer.held.is_none(), writer.more_upkeep);
        let closing = taken.closing;
        writer.work(taken);
        let waits = writer.held.is_some() || writer.poisoned;
        if closing && (waits || shared.writer.queued().0 == 0) {
            break;
        }
    }
    writer.end();
}

struct Writer<'a> {
    shared: &'a Shared,
    store: Store,
    /// Answers that wait for the next sync, in order.
    waiting: Vec<(Reply, Result<CommitId, SubmitError>)>,
    /// Whether the store has taken in something that is not durable.
    unsynced: bool,
    /// Why changes wait for another time.
    held: Option<Held>,
    poisoned: bool,
    /// Whether the index has something that is not durable.
    dirty: bool,
    unflushed_bytes: usize,
    flushed_at: Option<Stamp>,
    more_upkeep: bool,
    /// Groups of changes since the last step of upkeep.
    busy_groups: u32,
}

/// Why changes wait.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Held {
    /// The disk is full.
    Full,
    /// The disk fails, which may pass: nothing that was taken in is lost.
    Failing(String),
}

impl Writer<'_> {
    fn work(&mut self, taken: Taken) {
        if let Some(live) = taken.live {
            self.store.set_live(live);
        }
        if let Some(followed) = taken.followed {
            self.store.set_followed(followed);
        }
        for order in taken.orders {
            order(&mut self.store);
            self.unsynced = true;
        }
        let ticked = taken.now.is_some();
        if let Some(now) = taken.now {
            self.store.tick(now);
            // It is tried again; what is shown stays until that came to something.
            self.held = None;
        }
        let busy = !taken.group.is_empty();
        self.commit(taken.group);
        if let Some(now) = taken.now.filter(|_| self.held.is_none() && !self.poisoned) {
            // States that were left open for too long.
            let cut = self.store.cut_open(now);
            self.did(cut, "making open states versions");
            let ended = self.store.end_points(now);
            self.did(ended, "ending points");
        }
        self.sync();
        if let Some(now) = taken.now {
            self.flush_if_due(now.clock);
        } else if self.unflushed_bytes >= FLUSH_BYTES {
            self.flush();
        }
        self.busy_groups =
            if busy { self.busy_groups.saturating_add(1) } else { GROUPS_PER_UPKEEP };
        if ticked || (self.more_upkeep && self.busy_groups >= GROUPS_PER_UPKEEP) {
            self.upkeep();
        }
        if ticked && self.held.is_none() {
            self.go_on();
        }
    }

    /// Does one step of what has to be done at some time, and by a busy set and on a full disk too.
    fn upkeep(&mut self) {
        self.busy_groups = 0;
        if self.poisoned {
            return;
        }
        self.more_upkeep = match self.store.maintain() {
            Ok(more) => more,
            Err(error) => {
                self.fail(&error);
                false
            }
        };
    }

    /// Gives changes to the store; those that find the disk full go back to the queue.
    fn commit(&mut self, group: Vec<Submission>) {
        let mut group = group.into_iter();
        while let Some(submission) = group.next() {
            let Submission { incoming, arrival, reply } = submission;
            let result = self.store.commit(arrival, &incoming);
            self.unsynced |= result.is_ok();
            self.unflushed_bytes += incoming.filled.payload.len();
            if let Some(why) = why_held(&result) {
                let mut back = vec![Submission { incoming, arrival, reply }];
                back.extend(group);
                self.shared.writer.put_back(back);
                self.hold(why);
                break;
            }
            match &result {
                Err(CommitError::Poisoned) => self.fail(&StoreError::Poisoned),
                Err(CommitError::Store(error)) => self.fail(error),
                _ => {}
            }
            self.waiting.push((reply, result.map_err(SubmitError::from)));
            buffers::give(incoming.filled.payload);
        }
        if let Some(alarm) = self.store.take_clock_alarm() {
            self.shared.update(|status| {
                let (times, last) = status.clock_alarm;
                if !last.is_some_and(|last| last.is_alike(&alarm)) {
                    tracing::error!(?alarm, "a clock is wrong");
                }
                status.clock_alarm = (times + 1, Some(alarm));
            });
        }
    }

    /// Hears what came of something that the store does by itself.
    fn did(&mut self, did: Result<bool, CommitError>, what: &'static str) {
        match did {
            Ok(any) => self.unsynced |= any,
            // Nothing is lost: it is done when there is space.
            Err(CommitError::Full) => {}
            Err(CommitError::Refused(refusal)) => tracing::error!(%refusal, what, "cannot be done"),
            Err(CommitError::Poisoned) => self.fail(&StoreError::Poisoned),
            Err(CommitError::Store(error)) => self.fail(&error),
        }
    }

    /// Makes everything taken in durable and answers.
    fn sync(&mut self) {
        if self.unsynced {
            match self.store.sync() {
                Ok(durable) => {
                    self.unsynced = false;
                    self.dirty = true;
                    if self.held.is_none() {
                        // Before anybody hears that a change was taken.
                        self.go_on();
                    }
                    // Users see it before the master hears of it.
                    self.shared.follower.durable(durable);
                    let in_place = self.shared.in_place;
                    if in_place {
                        self.store.set_live(durable);
                    }
                    self.shared.update(|status| {
                        status.durable = durable;
                        if in_place {
                            (status.live, status.live_synced) = (durable, durable);
                        }
                    });
                }
                Err(error) if passing(&error).is_some() => {
                    self.fail(&error);
                    return;
                }
                Err(error) => {
                    self.fail(&error);
                    self.unsynced = false;
                    for (reply, _) in self.waiting.drain(..) {
                        reply(Err(CommitError::Poisoned.into()));
                    }
                }
            }
        }
        for (reply, result) in self.waiting.drain(..) {
            reply(result);
        }
    }

    fn flush_if_due(&mut self, now: Stamp) {
        let due = self.flushed_at.is_none_or(|last| {
            // A clock that was set back must not put it off.
            !(0..FLUSH_MICROS).contains(&now.micros_since(last))
        });
        if self.dirty && due {
            self.flush();
            self.flushed_at = Some(now);
        }
    }

    fn flush(&mut self) {
        self.unflushed_bytes = 0;
        if self.poisoned {
            return;
        }
        match self.store.flush() {
            Ok(()) => self.dirty = false,
            Err(error) => self.fail(&error),
        }
    }

    /// Has changes wait until the next tick.
    fn hold(&mut self, why: Held) {
        let shown = self.shared.held();
        if shown.as_ref() != Some(&why) {
            match &why {
                Held::Full => tracing::error!("the disk is full, changes wait"),
                Held::Failing(why) => tracing::error!(%why, "the disk fails, changes wait"),
            }
            self.shared.update(|status| {
                status.full = why == Held::Full;
                status.failing = match &why {
                    Held::Full => None,
                    Held::Failing(why) => Some(why.clone()),
                };
            });
        }
        self.held = Some(why);
    }

    /// Says that changes are taken again, where it was said that they wait.
    fn go_on(&self) {
        if self.shared.held().is_none() {
            return;
        }
        tracing::info!("the disk takes changes again");
        self.shared.update(|status| (status.full, status.failing) = (false, None));
    }

    fn fail(&mut self, error: &StoreError) {
        if let Some(why) = passing(error) {
            self.hold(why);
        } else if matches!(error, StoreError::Refused(_)) {
            tracing::error!(why = chain(error), "a step of upkeep came to nothing");
        } else if !self.poisoned {
            self.poisoned = true;
            let why = chain(error);
            tracing::error!(%why, "the set takes no more changes until it is opened again");
            self.shared.update(|status| status.poisoned = Some(why));
        }
    }

    /// Answers what is left and makes the index durable.
    fn end(mut self) {
        for (reply, _) in self.waiting.drain(..) {
            reply(Err(SubmitError::Closed));
        }
        loop {
            let left = self.shared.writer.take(true, true).group;
            if left.is_empty() {
                break;
            }
            for submission in left {
                (submission.reply)(Err(SubmitError::Closed));
            }
        }
        self.flush();
        let finished = self.store.finish_log(Instant::now() + LOG_PATIENCE);
        if let Err(error) = finished {
            tracing::error!(why = chain(&error), "a damaged log was not written anew");
        }
    }
}

fn why_held(result: &Result<CommitId, CommitError>) -> Option<Held> {
    match result {
        Err(CommitError::Full) => Some(Held::Full),
        Err(CommitError::Store(error)) => passing(error),
        _ => None,
    }
}

/// Returns why what failed can be done at another time, if it can: log and packs are well, and hold all that was taken in.
fn passing(error: &StoreError) -> Option<Held> {
    match error {
        StoreError::Full => Some(Held::Full),
        StoreError::Index(_) | StoreError::Io(_) => Some(Held::Failing(chain(error))),
        _ => None,
    }
}

impl Shared {
    /// Returns why changes are said to wait.
    fn held(&self) -> Option<Held> {
        let status = lock(&self.status);
        let failing = status.failing.clone().map(Held::Failing);
        failing.or(status.full.then_some(Held::Full))
    }
}
