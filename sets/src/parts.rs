//! A station's part of a set, as it runs: the source that it masters, the copy that it keeps, or both.
//!
//! The two are opened apart, and one that cannot be opened is no reason for the other to be shut: a set whose source is
//! not there gives its versions back, and one whose store is on a broken disk still notes what is saved.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::{runtime::Handle, sync::watch, task::JoinSet};

use keepshare_base::StationName;
use keepshare_control::{Failure, Outcome};
use keepshare_replication::drivers::Inlet;

use crate::{
    checkup::Checkup,
    context::{SetContext, Task},
    master::{Asked, Master},
    record::{LivePart, SetRecord},
    replica::{Place, Replica},
};

/// A station's part of a set, as it runs.
#[derive(Clone, Debug, Default)]
pub struct Running {
    source: Option<Side<Master>>,
    copy: Option<Side<Replica>>,
    /// The way from the source to the copy, where both are here.
    inlet: Inlet,
    /// What goes on for it.
    work: Arc<Work>,
}

/// What goes on for a set, until it is told to stop.
#[derive(Debug, Default)]
struct Work {
    stop: watch::Sender<bool>,
    tasks: Mutex<JoinSet<()>>,
}

/// One side of a set, or why it could not be opened.
type Side<T> = Result<Arc<T>, Failure>;

/// What was opened of a set, before its tasks run and anybody can ask for it.
#[derive(Default)]
pub struct Opened {
    /// What is open.
    pub running: Running,
    tasks: Vec<Task>,
}

impl Running {
    /// Returns the source, where this station masters the set and the source is open.
    pub fn source(&self) -> Option<&Arc<Master>> {
        self.source.as_ref()?.as_ref().ok()
    }

    /// Returns the copy, where this station keeps one and it is open.
    pub fn copy(&self) -> Option<&Arc<Replica>> {
        self.copy.as_ref()?.as_ref().ok()
    }

    /// Returns why the source is not open, where it should be.
    pub fn why_no_source(&self) -> Option<&Failure> {
        self.source.as_ref()?.as_ref().err()
    }

    /// Returns why the copy is not open, where it should be.
    pub fn why_no_copy(&self) -> Option<&Failure> {
        self.copy.as_ref()?.as_ref().err()
    }

    /// Returns why something is not open that should be.
    pub fn failures(&self) -> impl Iterator<Item = &Failure> {
        self.why_no_source().into_iter().chain(self.why_no_copy())
    }

    /// Tells whether something is not open because a disk is full.
    pub fn lacks_space(&self) -> bool {
        self.failures().any(Failure::is_no_space)
    }

    /// Tells whether another station is connected for this set: one that sends it or one that receives it.
    pub fn is_connected(&self, station: &StationName) -> bool {
        let brings = |copy: &Arc<Replica>| copy.from() == station && copy.is_connected();
        self.source().is_some_and(|source| source.is_connected(station))
            || self.copy().is_some_and(brings)
    }

    /// Asks whether everything that was saved until now is looked at, for [`Self::check`].
    pub fn ask_settled(&self) -> Option<Asked> {
        self.source().map(|source| source.ask_settled())
    }

    /// Returns how the set is, true of the moment of the question. Blocks: it waits a moment for what was saved just now.
    pub fn check(&self, record: &SetRecord, asked: Option<Asked>) -> Checkup {
        let source =
            self.source().map(|source| source.check(asked.unwrap_or_else(|| source.ask_settled())));
        let copy = self.copy().map(|copy| (copy.from(), copy.check()));
        let checkup = match (source, copy) {
            (Some(source), Some((here, copy))) => source.with_copy(here, copy),
            (Some(checkup), None) | (None, Some((_, checkup))) => checkup,
            (None, None) => Checkup::unknown(record),
        };
        self.failures().fold(checkup.of_part(&record.part), Checkup::not_opened)
    }

    /// Takes over what was opened later; what was open stays.
    pub fn take_over(&mut self, later: Self) {
        self.source = later.source.or(self.source.take());
        self.copy = later.copy.or(self.copy.take());
        (self.inlet, self.work) = (later.inlet, later.work);
    }

    /// Has its tasks end.
    pub fn stop(&self) {
        self.work.stop.send_replace(true);
    }

    /// Waits until its tasks have ended, which must have been told to.
    pub async fn ended(&self) {
        let tasks = &self.work.tasks;
        let mut tasks = std::mem::take(&mut *tasks.lock().unwrap_or_else(PoisonError::into_inner));
        while tasks.join_next().await.is_some() {}
    }

    /// Makes everything durable and ends the set's threads. Blocks.
    pub fn close(&self) {
        if let Some(source) = self.source() {
            source.close();
        }
        if let Some(copy) = self.copy() {
            copy.close();
        }
    }
}

impl Opened {
    /// Opens a set; what cannot be opened says why. Blocks.
    pub fn open(context: &SetContext, record: &SetRecord) -> Self {
        Self::open_where(context, record, &Running::default(), |_| true)
    }

    /// Opens again what could not be opened for a reason that may have passed; the rest of the set is left as it is. Blocks.
    pub fn reopen(
        context: &SetContext,
        record: &SetRecord,
        running: &Running,
        may_have_passed: impl Fn(&Failure) -> bool,
    ) -> Self {
        Self::open_where(context, record, running, |side| match side {
            OneOf::Source => running.why_no_source().is_some_and(&may_have_passed),
            OneOf::Copy => running.why_no_copy().is_some_and(&may_have_passed),
        })
    }

    fn open_where(
        context: &SetContext,
        record: &SetRecord,
        running: &Running,
        is_wanted: impl Fn(OneOf) -> bool,
    ) -> Self {
        let SetRecord { name, part, .. } = record;
        let (inlet, work) = (running.inlet.clone(), Arc::clone(&running.work));
        let stopping = work.stop.subscribe();
        let mut opened = Self::default();
        // The copy first: where it cannot be opened, no thread of a source has begun to write to the journal.
        if let Some(copy) = part.copy.as_ref().filter(|_| is_wanted(OneOf::Copy)) {
            let in_place = part.source.as_ref().filter(|_| copy.live == LivePart::InPlace);
            let in_place = in_place
                .map(|source| Place { folder: source.folder.clone(), inlet: inlet.clone() });
            opened.running.copy =
                Some(opened.take(Replica::open(context, name, copy, in_place, &stopping)));
        }
        if let Some(source) = part.source.as_ref().filter(|_| is_wanted(OneOf::Source)) {
            let own = part.copy.as_ref().map(|_| inlet.clone());
            opened.running.source =
                Some(opened.take(Master::open(context, name, source, own, &stopping)));
        }
        (opened.running.inlet, opened.running.work) = (inlet, work);
        opened
    }

    /// Has what was opened go on, on this runtime.
    pub fn start(self, runtime: &Handle) -> Running {
        let Self { running, tasks } = self;
        let mut started = running.work.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.into_iter().for_each(|task| drop(started.spawn_on(task, runtime)));
        drop(started);
        running
    }

    /// Returns what is opened of a set whose source cannot be.
    pub fn without_source(failure: Failure) -> Self {
        let running = Running { source: Some(Err(failure)), ..Running::default() };
        Self { running, tasks: Vec::new() }
    }

    fn take<T>(&mut self, opened: Outcome<(Arc<T>, Vec<Task>)>) -> Side<T> {
        opened.map(|(side, tasks)| {
            self.tasks.extend(tasks);
            side
        })
    }

    /// Returns itself where everything was opened; else closes what was, and returns why the rest was not. Blocks.
    pub fn whole(self) -> Outcome<Self> {
        let failure = self.running.failures().next().cloned();
        let Some(failure) = failure else { return Ok(self) };
        self.close();
        Err(failure)
    }

    /// Closes a set that nobody has asked for yet. Blocks.
    pub fn close(self) {
        // They hold what is to be closed.
        drop(self.tasks);
        self.running.close();
    }
}

/// One of the two sides of a set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum OneOf {
    Source,
    Copy,
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use keepshare_base::{OriginId, SetName};
    use keepshare_replication::{drivers::Peers, link::LinkOptions};

    use crate::{context::Receivers, dirs::SetDirs, record::SetPart, schedule::Schedules};

    use super::*;

    #[derive(Debug)]
    struct Nobody;

    impl Receivers for Nobody {
        fn of(self: Arc<Self>, set: &SetName) -> Arc<dyn Peers> {
            unreachable!("set {set} is sent to nobody")
        }
    }

    impl keepshare_namespace::Logins for Nobody {
        fn principal(&self, _: u64, _: &SetName) -> Option<Arc<keepshare_namespace::Principal>> {
            None
        }
    }

    fn context(state: &Path) -> SetContext {
        SetContext {
            dirs: SetDirs::new(state),
            here: "store".parse().unwrap(),
            receivers: Arc::new(Nobody),
            link: LinkOptions::default(),
            schedules: Schedules::default(),
            zone: chrono_tz::UTC,
            orders: Arc::default(),
            logins: Arc::new(Nobody),
        }
    }

    fn threads(name: &str) -> usize {
        let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
        let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
        names.filter(|known| known.trim_end() == name).count()
    }

    /// What has failed in one set is told of that set: the others go on, and must not look as if they did not.
    #[test]
    fn a_thread_that_dies_is_told_of_its_set_alone() {
        keepshare_host::panics::remember();
        let dir = tempfile::tempdir().unwrap();
        let context = context(dir.path());
        let [dies, lives] = ["dies", "lives"].map(|name| {
            let received = SetPart::received(OriginId(1), "office".parse().unwrap());
            let record = SetRecord::new(name.parse().unwrap(), received);
            Opened::open(&context, &record).whole().unwrap()
        });
        assert_eq!(threads("writer:dies"), 1, "its threads are called otherwise");
        let thread = std::thread::Builder::new().name("writer:dies".to_owned());
        assert!(thread.spawn(|| panic!("broken on purpose")).unwrap().join().is_err());
        let alarms = |set: &Opened| set.running.copy().unwrap().check().status.alarms;
        let told = alarms(&dies);
        assert!(told.iter().any(|alarm| alarm.contains("broken on purpose")), "{told:?}");
        assert_eq!(alarms(&lives), [] as [String; 0]);
        dies.close();
        lives.close();
    }
}
