//! The source's thread: waits for marks, takes turns, and keeps what is put off.
//!
//! One turn is one transaction: a few names and files are looked at, what differs is journaled, and all of it becomes
//! durable together. If a turn fails, nothing of it happened, and everything is compared again.

use std::{
    collections::HashMap,
    os::fd::AsFd,
    sync::Arc,
    time::{Duration, Instant},
};

use keepshare_base::{FileId, RequestId, chain};
use keepshare_decide::{FileRecord, Inode, Known, compose::cutting::Cutting};
use keepshare_host::{accounts::MachineAccounts, clock::now};
use keepshare_proto::MonoTime;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::{fills::Fills, gone::Gone, questions::Question, replaced::Replaced, restore::Restoring};
use super::{
    CaptureMode, SharedFileSystem, SourceAlarm, SourceConfig, SourceError,
    aside::Aside,
    ledger::{Ledger, Tx},
    mounts::Mounts,
    owners::Owners,
    pass::Regions as _,
    pending::Pending,
    shadow::Shadows,
    shared::{Phase, Shared, Unseen, lock},
    sweeper::Sweeper,
    tree::{self, Tree},
};
use crate::{
    capture::{self, Capture, Fanotify, Inotify, Marks, ScanOnly},
    clock::mono,
};

mod acts;
mod fills;
mod gone;
mod linked;
mod making;
mod noted;
mod place;
mod placing;
mod points;
mod questions;
mod reading;
mod replaced;
mod requests;
mod restore;
mod standing;
mod tick;
mod turn;

/// How long a burst of events may delay looking at what they mark.
const SETTLE_MAX: Duration = Duration::from_millis(2);

/// A pause of this length between events ends the settling.
const SETTLE_PAUSE: Duration = Duration::from_micros(300);

/// How often the missing folder of a source is looked for.
const ATTACH_EVERY: Duration = Duration::from_secs(1);

/// How often it is looked whether there is space for the journal again.
const SPACE_LOOK: Duration = Duration::from_secs(1);

/// How often what has no deadline of its own is done: cuts after a pause, acknowledgements, the spool.
const TICK: Duration = Duration::from_millis(100);

/// The thread's own state.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    ledger: Ledger,
    owners: Owners,
    attached: Option<Attached>,
    marks: Marks,
    pending: Pending,
    cutting: Cutting,
    questions: Vec<Question>,
    asked: u64,
    sweeper: Option<Sweeper>,
    restoring: HashMap<RequestId, Restoring>,
    attempts: u64,
    fills: Fills,
    aside: Option<Aside>,
    replaced: Vec<Replaced>,
    gone: Gone,
    next_scan: MonoTime,
    scan_began: MonoTime,
    next_tick: MonoTime,
    next_attach: MonoTime,
    next_place: MonoTime,
    /// Until when nothing is looked at for lack of space.
    short_until: Option<MonoTime>,
    turns: u64,
    stopping: bool,
}

/// The folder and what watches it.
struct Attached {
    tree: Arc<Tree>,
    capture: Box<dyn Capture>,
    mounts: Mounts,
    shadows: Shadows,
    exact_times: bool,
}

impl Worker {
    /// Prepares the thread.
    pub(crate) fn new(shared: Arc<Shared>, ledger: Ledger, accounts: MachineAccounts) -> Self {
        let now = mono();
        Self {
            next_scan: now + shared.config.rescan_every,
            scan_began: now,
            ledger,
            owners: Owners::new(accounts),
            attached: None,
            marks: Marks::default(),
            pending: Pending::default(),
            cutting: Cutting::new(shared.config.cut),
            questions: Vec::new(),
            asked: 0,
            sweeper: None,
            restoring: HashMap::new(),
            attempts: 0,
            fills: Fills::default(),
            aside: None,
            replaced: Vec::new(),
            gone: Gone::default(),
            next_tick: now,
            next_attach: now,
            next_place: now,
            short_until: None,
            turns: 0,
            stopping: false,
            shared,
        }
    }

    /// Runs until it is asked to end. An end by a fault of ours is shown, and nobody waits for answers for ever.
    pub(crate) fn watched(self) {
        let shared = self.shared.clone();
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.run()));
        if ran.is_err() {
            let reason = "the source's thread ended by a fault; restart the station".to_owned();
            tracing::error!(set = %shared.config.set, reason);
            lock(&shared.status).alarms.push(SourceAlarm::Journal(reason));
            shared.end();
        }
    }

    /// Runs until it is asked to end.
    fn run(mut self) {
        self.begin_sweeps();
        loop {
            if self.attached.is_none() && mono() >= self.next_attach {
                self.attach();
            }
            self.wait();
            for request in self.shared.take_requests() {
                self.answer(request);
            }
            if self.stopping {
                break;
            }
            self.drain();
            self.look_at_place();
            self.take_due();
            if self.attached.is_some()
                && (self.pending.is_busy() || !self.marks.is_empty())
                && self.has_space()
                && let Err(error) = self.turn(Vec::new())
            {
                self.fail(&error);
            }
            self.take_waiting();
            self.tick();
            self.show();
            self.answer_questions();
        }
        self.close();
    }

    /// Waits for an event, a request or the next deadline.
    fn wait(&mut self) {
        let mut next = self.next_scan;
        match self.short_until {
            Some(at) => next = next.min(at),
            None if self.attached.is_some() && self.pending.is_busy() => return,
            None => {}
        }
        if let Some(at) = self.pending.agenda.next_deadline() {
            next = next.min(at);
        }
        if self.has_waiting() {
            next = next.min(mono() + restore::WAITING_LOOK);
        }
        if self.has_notes() {
            next = next.min(self.next_tick);
        }
        next = self.next_shadow_look().map_or(next, |at| next.min(at));
        if self.attached.is_some() {
            next = next.min(self.next_place);
        } else {
            next = self.next_attach;
        }
        self.poll(next.since(mono()));
    }

    /// Waits until there is an event or a request, or the mount table changes.
    fn poll(&mut self, timeout: Duration) {
        let wake = self.shared.wake().as_fd();
        let attached = self.attached.as_ref();
        let events = attached.and_then(|attached| attached.capture.readable());
        let mounts = attached.and_then(|attached| attached.mounts.changed());
        let readable = [Some(wake), events].into_iter().flatten().map(|fd| (fd, PollFlags::IN));
        let fds = readable.chain(mounts.map(|fd| (fd, PollFlags::PRI)));
        let mut fds: Vec<PollFd<'_>> =
            fds.map(|(fd, what)| PollFd::from_borrowed_fd(fd, what)).collect();
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        // Interrupted or not: whoever waits looks again.
        let _ = poll(&mut fds, Some(&timeout));
        if fds.iter().any(|fd| fd.revents().contains(PollFlags::PRI)) {
            self.next_place = mono();
        }
    }

    /// Takes events until they pause.
    fn drain(&mut self) {
        let began = Instant::now();
        loop {
            let before = self.marks.len();
            let Some(attached) = &mut self.attached else { return };
            match attached.capture.drain(&mut self.marks) {
                // Whatever happened before a question was asked is among the marks now.
                Ok(true) => self.questions.iter_mut().for_each(Question::drained),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot read events, comparing everything");
                    self.marks.all();
                    return;
                }
            }
            let quiet = self.marks.len() == before;
            if quiet || self.marks.everything || began.elapsed() >= SETTLE_MAX {
                return;
            }
            self.poll(SETTLE_PAUSE);
        }
    }

    /// Takes up what is due by now.
    fn take_due(&mut self) {
        let now = mono();
        self.pending.agenda.take_due(now);
        if std::mem::take(&mut self.marks.everything) || now >= self.next_scan {
            self.begin_scan();
        }
    }

    fn begin_scan(&mut self) {
        let tree = self.attached.as_ref().map(|attached| &attached.tree);
        let shared = tree.and_then(|tree| tree.shared_file_system());
        self.scan_began = mono();
        self.next_scan = self.scan_began + rescan_every(&self.shared.config, shared);
        self.pending.agenda.begin_scan();
    }

    /// Tells whether the journal can be written. While it cannot, what changes gathers and is told of later.
    fn has_space(&mut self) -> bool {
        let now = mono();
        if self.short_until.is_some_and(|until| now < until) {
            return false;
        }
        let checked = self.ledger.check_space();
        self.short_until = checked.is_err().then(|| now + SPACE_LOOK);
        match checked {
            Ok(()) => {
                self.clear_alarm(|alarm| matches!(alarm, SourceAlarm::Full(_)));
                true
            }
            Err(error) => {
                self.fail_with(&error);
                false
            }
        }
    }

    /// Opens the folder, if it is the one that the map is of.
    fn attach(&mut self) {
        self.next_attach = mono() + ATTACH_EVERY;
        match self.recover().and_then(|()| self.try_attach()) {
            Ok(()) => {
                self.clear_alarm(|alarm| {
                    !matches!(alarm, SourceAlarm::Dropped { .. } | SourceAlarm::Damaged { .. })
                });
                self.begin_scan();
            }
            Err(error) => self.fail_with(&error),
        }
        if self.ledger.state().scanned {
            self.shared.set_phase(Phase::Running);
        }
    }

    /// Opens a journal that failed anew. One that is older than what was told of gets a new epoch.
    fn recover(&mut self) -> Result<(), SourceError> {
        if !self.ledger.has_failed() {
            return Ok(());
        }
        self.ledger.recover()?;
        let (shown, head) = (*self.shared.head.borrow(), self.ledger.state().head());
        // Nobody can say which notes were durable.
        let mut acks = lock(&self.shared.acks);
        let known: Vec<_> = acks.through.iter().map(|(to, seq)| (to.clone(), *seq)).collect();
        acks.changed.extend(known);
        drop(acks);
        if (head.epoch, head.seq) < (shown.epoch, shown.seq) {
            self.new_epoch(shown.epoch.max(head.epoch), None)?;
        } else {
            self.shared.head.send_replace(head);
        }
        Ok(())
    }

    fn open_root(&self) -> Result<Tree, SourceError> {
        Tree::open(&self.shared.config.root)
            .map_err(|error| SourceError::Vanished(error.to_string()))
    }

    fn try_attach(&mut self) -> Result<(), SourceError> {
        let gone = |error: std::io::Error| SourceError::Vanished(error.to_string());
        // The table first: what is mounted from here on wakes us.
        let mounts = Mounts::open(&self.shared.config.root);
        let tree = self.open_root()?;
        let known = self.ledger.state().root;
        if known != Inode::default() && known != tree.root_seen().inode {
            let reason = "another folder is in its place (is a disk not mounted?)";
            return Err(SourceError::Vanished(reason.to_owned()));
        }
        let mode = self.shared.config.capture;
        let mut capture = open_capture(mode, &tree).map_err(gone)?;
        let inode = tree.root_seen().inode.number;
        capture.watch(inode, tree.root().as_fd()).map_err(gone)?;
        let owners = &mut self.owners;
        self.ledger.write(|tx| {
            forget_unfinished(tx)?;
            remember_root(tx, &tree, owners)
        })?;
        let tree = Arc::new(tree);
        *lock(&self.shared.tree) = Some(tree.clone());
        self.find_aside(&tree)?;
        let shared = tree.shared_file_system();
        let rescan_every = rescan_every(&self.shared.config, shared);
        lock(&self.shared.status).shared =
            shared.map(|name| SharedFileSystem { name, rescan_every });
        let exact_times = tree::has_exact_times(tree.root());
        let shadows = Shadows::new(exact_times, self.shared.clone());
        self.attached = Some(Attached { exact_times, tree, capture, mounts, shadows });
        Ok(())
    }

    /// Lets go of the folder after a turn that failed; it is attached again and compared whole.
    fn fail(&mut self, error: &SourceError) {
        if matches!(error, SourceError::Moving) {
            tracing::info!(set = %self.shared.config.set, "folders were moved meanwhile: all is compared");
            self.detach();
            return self.attach();
        }
        let reason = chain(error);
        tracing::error!(set = %self.shared.config.set, reason, "cannot look at the source");
        self.detach();
        self.next_attach = mono() + ATTACH_EVERY;
        self.fail_with(error);
    }

    /// Shows why the source is not looked at; of several reasons of a kind the last.
    fn fail_with(&self, error: &SourceError) {
        let full = |error: &SourceError| matches!(error, SourceError::Full { .. });
        let alarm = match error {
            SourceError::Vanished(reason) => SourceAlarm::Vanished(reason.clone()),
            error if full(error) => SourceAlarm::Full(chain(error)),
            error => SourceAlarm::Journal(chain(error)),
        };
        let kind = std::mem::discriminant(&alarm);
        lock(&self.shared.status)
            .alarms
            .retain(|known| std::mem::discriminant(known) != kind || *known == alarm);
        self.alarm(alarm);
    }

    fn detach(&mut self) {
        self.attached = None;
        *lock(&self.shared.tree) = None;
        self.marks = Marks::default();
        self.end_restores();
        self.replaced.clear();
        self.gone = Gone::default();
        self.aside = None;
        *lock(&self.shared.unseen) = Unseen::NotYetKnown;
        self.cutting = Cutting::new(self.shared.config.cut);
        let seed = std::mem::take(&mut self.pending.seed);
        self.pending = Pending::default();
        self.pending.seed = seed;
    }

    fn alarm(&self, alarm: SourceAlarm) {
        self.shared.alarm(alarm);
    }

    fn clear_alarm(&self, which: impl Fn(&SourceAlarm) -> bool) {
        lock(&self.shared.status).alarms.retain(|alarm| !which(alarm));
    }
}

/// Returns how often everything is compared, on a file system that others write to as well where it has a name.
fn rescan_every(config: &SourceConfig, shared: Option<&'static str>) -> Duration {
    match shared {
        Some(_) => config.rescan_every.min(config.rescan_shared_every),
        None => config.rescan_every,
    }
}

/// Makes the folder the root of the map.
fn remember_root(tx: &mut Tx<'_>, tree: &Tree, owners: &mut Owners) -> Result<(), SourceError> {
    let seen = tree.root_seen();
    if tx.state.root == seen.inode && tx.map.record(FileId::ROOT)?.is_some() {
        return Ok(());
    }
    let meta = tree::meta(owners, tree.root().as_fd(), None, &seen).map_err(|source| {
        SourceError::Io { what: format!("cannot read {}", tree.path().display()), source }
    })?;
    let record = FileRecord::new(seen.inode, seen.signature, meta);
    tx.map.set_record(FileId::ROOT, &record)?;
    tx.state.root = seen.inode;
    tx.durable = true;
    Ok(())
}

/// Forgets new big files whose reading broke off: known and without a name, they would get their names back before their
/// content. They are found again, as new files.
fn forget_unfinished(tx: &mut Tx<'_>) -> Result<(), SourceError> {
    for (file, ..) in std::mem::take(&mut tx.state.reading) {
        if tx.map.links(file, 1)?.is_empty() {
            tx.map.clear_blocks(file, 0)?;
            tx.map.remove_file(file)?;
        }
    }
    Ok(())
}

fn open_capture(mode: CaptureMode, tree: &Tree) -> std::io::Result<Box<dyn Capture>> {
    Ok(match mode {
        CaptureMode::Auto => capture::best(tree.root())?,
        CaptureMode::Fanotify => Box::new(Fanotify::open(tree.root())?),
        CaptureMode::Inotify => Box::new(Inotify::open()?),
        CaptureMode::Scan => Box::new(ScanOnly),
    })
}

#[cfg(test)]
mod tests {
    use keepshare_base::OriginId;
    use keepshare_proto::cut::CutRule;

    use super::*;
    use crate::source::{RestoreTimes, SourceLimits};

    fn config(rescan_every: Duration, rescan_shared_every: Duration) -> SourceConfig {
        SourceConfig {
            set: "test".parse().unwrap(),
            origin: OriginId(1),
            root: "/".into(),
            spool_dir: "/".into(),
            state_dir: "/".into(),
            capture: CaptureMode::Inotify,
            limits: SourceLimits::default(),
            cut: CutRule::default(),
            rescan_every,
            rescan_shared_every,
            keep_journals: None,
            restores: RestoreTimes::default(),
        }
    }

    /// What others write to without an event is found by scans alone: there they are never rarer than elsewhere.
    #[test]
    fn a_shared_file_system_is_scanned_more_often() {
        let (often, rarely) = (Duration::from_secs(300), Duration::from_secs(3600));
        assert_eq!(rescan_every(&config(rarely, often), Some("NFS")), often);
        assert_eq!(rescan_every(&config(rarely, often), None), rarely);
        assert_eq!(rescan_every(&config(often, rarely), Some("NFS")), often, "the shorter one");
        assert_eq!(rescan_every(&config(often, rarely), None), often);
    }
}
