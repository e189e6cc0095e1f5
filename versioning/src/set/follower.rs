//! The threads of the live tree: one makes it follow the commits, one makes it durable.

use std::{
    collections::HashSet,
    sync::{
        Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use keepshare_base::{CommitId, Stamp};

use super::{SetError, Shared, chain, lock, open_live_state};
use crate::{
    Reader,
    live::{Applied, LiveError, LiveTree, SyncDone, SyncJob},
};

/// How often the live tree is made durable, in microseconds.
const SYNC_MICROS: i64 = 1_000_000;

/// So much must be free for the records of the live tree to be written, in bytes.
const FREE_BYTES_MIN: u64 = 1024 * 1024;

/// How long what failed waits at first before it is tried again, in microseconds; it doubles each time.
const RETRY_MICROS: i64 = 1_000_000;

/// How long what failed waits at most, in microseconds.
const RETRY_MICROS_MAX: i64 = 60_000_000;

/// Work for the thread of the live tree.
pub(super) type Order = Box<dyn FnOnce(&mut LiveTree, &Reader) + Send>;

/// What waits for the live tree's threads.
#[derive(Default)]
pub(super) struct FollowerBox {
    inbox: Mutex<Inbox>,
    arrived: Condvar,
    sync: Mutex<SyncBox>,
    sync_arrived: Condvar,
    /// Nobody waits for a sync any more.
    leaving: AtomicBool,
}

#[derive(Default)]
struct Inbox {
    orders: Vec<Order>,
    durable: CommitId,
    now: Option<Stamp>,
    synced: Option<Result<SyncDone, LiveError>>,
    closing: bool,
}

#[derive(Debug, Default)]
struct SyncBox {
    job: Option<SyncJob>,
    closing: bool,
}

/// What the follower takes out at once.
struct Taken {
    orders: Vec<Order>,
    durable: CommitId,
    now: Option<Stamp>,
    synced: Option<Result<SyncDone, LiveError>>,
    closing: bool,
}

impl FollowerBox {
    /// Says what is durable and can be shown.
    pub(super) fn durable(&self, commit: CommitId) {
        lock(&self.inbox).durable = commit;
        self.arrived.notify_one();
    }

    pub(super) fn tick(&self, now: Stamp) {
        lock(&self.inbox).now = Some(now);
        self.arrived.notify_one();
    }

    pub(super) fn order(&self, order: Order) {
        lock(&self.inbox).orders.push(order);
        self.arrived.notify_one();
    }

    pub(super) fn close(&self) {
        lock(&self.inbox).closing = true;
        self.arrived.notify_one();
    }

    /// Has the sync thread end, after the live one has.
    pub(super) fn close_sync(&self) {
        lock(&self.sync).closing = true;
        self.sync_arrived.notify_one();
    }

    /// Has a sync that is at work be left alone where the tree's steps are noted.
    fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Waits until there is something to do beyond `reached`; does not wait where something is `left`.
    fn take(&self, reached: CommitId, left: bool) -> Taken {
        let mut inbox = lock(&self.inbox);
        loop {
            let something = inbox.durable > reached
                || inbox.now.is_some()
                || !inbox.orders.is_empty()
                || inbox.synced.is_some();
            if something || left || inbox.closing {
                return Taken {
                    orders: std::mem::take(&mut inbox.orders),
                    durable: inbox.durable,
                    now: inbox.now.take(),
                    synced: inbox.synced.take(),
                    closing: inbox.closing,
                };
            }
            inbox = self.arrived.wait(inbox).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn wait_for_sync(&self) -> Result<SyncDone, LiveError> {
        let mut inbox = lock(&self.inbox);
        loop {
            if let Some(result) = inbox.synced.take() {
                return result;
            }
            inbox = self.arrived.wait(inbox).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn start_sync(&self, job: SyncJob) {
        lock(&self.sync).job = Some(job);
        self.sync_arrived.notify_one();
    }
}

/// Makes the tree durable, one job after the other, until the set is closed.
pub(super) fn run_syncs(shared: &Shared) {
    let follower = &shared.follower;
    loop {
        let mut sync = lock(&follower.sync);
        let job = loop {
            match sync.job.take() {
                Some(job) => break job,
                None if sync.closing => return,
                None => {}
            }
            sync = follower.sync_arrived.wait(sync).unwrap_or_else(PoisonError::into_inner);
        };
        drop(sync);
        let result = job.run_with(|live| (shared.sync)(live, &follower.leaving));
        lock(&follower.inbox).synced = Some(result);
        follower.arrived.notify_one();
    }
}

/// Makes the tree follow the commits until the set is closed. Where there is none it is opened as soon as it can be; the
/// set's history is read meanwhile.
pub(super) fn run(
    shared: &Shared,
    tree: Option<LiveTree>,
    open: impl Fn() -> Result<LiveTree, SetError>,
    reader: &Reader,
) {
    let Some(tree) = tree.or_else(|| wait_for_tree(shared, open)) else { return };
    let mut follower = Follower {
        shared,
        tree,
        reader,
        now: None,
        syncing: false,
        sync_failed: false,
        synced_at: None,
        retry_at: None,
        retry_micros: RETRY_MICROS,
        failed: false,
        left: true,
    };
    // The first time at once: a crash may have left something to do.
    follower.apply(true);
    loop {
        // What cannot be reached now is not waited for in circles.
        let reached = if follower.failed { CommitId::MAX } else { follower.tree.reached() };
        let taken = shared.follower.take(reached, follower.left);
        let closing = taken.closing;
        follower.work(taken);
        if closing {
            break;
        }
    }
    follower.end();
}

/// Tries at every tick to open the tree; `None` when the set is closed before.
fn wait_for_tree(
    shared: &Shared,
    open: impl Fn() -> Result<LiveTree, SetError>,
) -> Option<LiveTree> {
    loop {
        let taken = shared.follower.take(CommitId::MAX, false);
        if taken.closing {
            return None;
        }
        // Who waits for an order to be done hears that it was dropped.
        drop(taken.orders);
        if taken.now.is_none() {
            continue;
        }
        match open() {
            Ok(tree) => {
                tracing::info!("the live tree can be used again");
                shared.writer.live(tree.synced());
                shared.update(|status| {
                    (status.live, status.live_synced) = (tree.reached(), tree.synced());
                    status.live_failed = None;
                });
                return Some(tree);
            }
            Err(error) => {
                let why = chain(&error);
                if lock(&shared.status).live_failed.as_ref() != Some(&why) {
                    shared.update(|status| status.live_failed = Some(why));
                }
            }
        }
    }
}

struct Follower<'a> {
    shared: &'a Shared,
    tree: LiveTree,
    reader: &'a Reader,
    now: Option<Stamp>,
    /// The sync thread has a job.
    syncing: bool,
    /// The last one failed.
    sync_failed: bool,
    synced_at: Option<Stamp>,
    retry_at: Option<Stamp>,
    retry_micros: i64,
    /// Nothing could be done at all, last time.
    failed: bool,
    /// Removed folders are still to be emptied.
    left: bool,
}

impl Follower<'_> {
    fn work(&mut self, taken: Taken) {
        if let Some(result) = taken.synced {
            self.end_sync(result);
        }
        let ticked = taken.now.is_some();
        self.now = taken.now.or(self.now);
        if ticked && !self.syncing && self.tree.records_failed() {
            self.renew();
        }
        let retry = ticked && self.tree.has_retries() && self.is_due(self.retry_at, 0);
        let behind = taken.durable > self.tree.reached();
        // Records that cannot be stored must not gather without end.
        let stuck = self.sync_failed && self.tree.wants_sync();
        // Also where nothing is to be done: somebody may have moved the folder away.
        let moved = ticked && self.tree.check_place().is_err();
        let asked = retry || (behind && !self.failed) || (self.failed && ticked) || self.left;
        if stuck && !moved {
            self.failed = true;
        } else if moved || asked {
            self.apply(retry);
        }
        let due = ticked && self.is_due(self.synced_at, SYNC_MICROS);
        let wanted = due || (self.tree.wants_sync() && !self.sync_failed);
        if !self.syncing
            && wanted
            && self.has_space()
            && let Some(job) = self.tree.begin_sync()
        {
            self.syncing = true;
            self.synced_at = self.now;
            self.shared.follower.start_sync(job);
        }
        for order in taken.orders {
            order(&mut self.tree, self.reader);
        }
    }

    /// Tells whether the records can be written; one write that does not fit costs all of them until they are opened anew.
    fn has_space(&mut self) -> bool {
        let has_space = self.shared.disk.free_bytes().is_ok_and(|free| free >= FREE_BYTES_MIN);
        self.sync_failed |= !has_space;
        has_space
    }

    /// Opens the records anew after a failure, when there is space for them.
    fn renew(&mut self) {
        if !self.has_space() {
            return;
        }
        self.tree.retire_records();
        let opened = open_live_state(&self.shared.disk).map_err(|error| chain(&error));
        let renewed = opened.and_then(|db| self.tree.renew(db).map_err(|error| chain(&error)));
        match renewed {
            Ok(()) => {
                tracing::warn!("the records of the live tree were opened anew after a failure");
                (self.failed, self.sync_failed) = (true, false);
            }
            Err(why) => self.shared.update(|status| status.live_failed = Some(why)),
        }
    }

    fn apply(&mut self, retry: bool) {
        match self.tree.apply(self.reader, retry) {
            Ok(applied) => {
                self.failed = false;
                self.left = applied.more_to_remove;
                self.plan_retry(retry);
                self.tell(applied, retry);
            }
            Err(error) => self.fail(&error),
        }
    }

    fn fail(&mut self, error: &LiveError) {
        self.failed = true;
        self.left = false;
        let why = chain(error);
        if lock(&self.shared.status).live_failed.as_ref() == Some(&why) {
            return;
        }
        tracing::error!(%why, "the live tree does not follow");
        let is_moved = matches!(error, LiveError::Moved { .. });
        self.shared.update(|status| {
            status.live_failed = Some(why);
            if is_moved {
                // What is somewhere else is shown to nobody.
                status.live = CommitId(0);
            }
        });
    }

    fn plan_retry(&mut self, retried: bool) {
        if !self.tree.has_retries() {
            self.retry_micros = RETRY_MICROS;
            self.retry_at = None;
        } else if retried || self.retry_at.is_none() {
            self.retry_at = self.now.map(|now| now.plus_micros(self.retry_micros));
            self.retry_micros = (self.retry_micros * 2).min(RETRY_MICROS_MAX);
        }
    }

    fn tell(&self, applied: Applied, retried: bool) {
        if !applied.problems.is_empty() {
            let problems = applied.problems.len() as u64 + applied.more_problems;
            tracing::warn!(problems, "the live tree is not in all as it should be");
        }
        for problem in &applied.problems {
            tracing::debug!(%problem, "live tree");
        }
        let nothing_wrong = !self.tree.has_retries();
        self.shared.update(|status| {
            status.live = applied.reached;
            status.live_failed = None;
            if retried || (nothing_wrong && applied.counts != crate::live::Counts::default()) {
                status.problems.clear();
                status.more_problems = 0;
            }
            // Who fails again and again is one problem.
            let again: HashSet<_> = applied.problems.iter().map(|p| (p.file, &p.path)).collect();
            status.problems.retain(|problem| !again.contains(&(problem.file, &problem.path)));
            let room = crate::live::PROBLEMS_MAX.saturating_sub(status.problems.len());
            let over = applied.problems.len().saturating_sub(room);
            status.more_problems += applied.more_problems + over as u64;
            status.problems.extend(applied.problems.into_iter().take(room));
        });
    }

    fn end_sync(&mut self, result: Result<SyncDone, LiveError>) {
        self.syncing = false;
        match self.tree.end_sync(result) {
            Ok(()) => {
                self.sync_failed = false;
                let synced = self.tree.synced();
                self.shared.writer.live(synced);
                let follows = !self.failed;
                self.shared.update(|status| {
                    status.live_synced = synced;
                    status.live_failed.take_if(|_| follows);
                });
            }
            Err(error) => {
                self.sync_failed = true;
                let why = chain(&error);
                tracing::error!(%why, "the live tree could not be made durable");
                self.shared.update(|status| status.live_failed = Some(why));
            }
        }
    }

    /// Tells whether `micros` have passed since `last`; so they have where the clock was set back.
    fn is_due(&self, last: Option<Stamp>, micros: i64) -> bool {
        match (last, self.now) {
            (Some(last), Some(now)) => {
                let passed = now.micros_since(last);
                passed >= micros || passed < -RETRY_MICROS_MAX
            }
            _ => true,
        }
    }

    /// Makes the tree durable a last time. Where its steps are noted the next process goes on from them, and nobody waits
    /// for a disk that is busy with other things.
    fn end(mut self) {
        if self.tree.is_noted() {
            return self.shared.follower.leave();
        }
        if self.syncing {
            let result = self.shared.follower.wait_for_sync();
            self.end_sync(result);
        }
        if let Err(error) = self.tree.sync() {
            tracing::warn!(error = %chain(&error), "the live tree will be compared when the set is opened again");
        }
    }
}
