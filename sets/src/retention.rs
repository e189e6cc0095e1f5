//! Thinning the versions of a copy: its policy, what was planned, and runs at night.
//!
//! What goes is what was planned and still goes when it is applied. By itself a station removes nothing by a policy of which no plan was
//! applied by hand, and never more than a quarter of all versions. Plans are kept in memory for a day: after a restart one plans again.
//! What a run removed is aside for a day, and [`Retention::undo`] brings it back.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use chrono::{DateTime, Utc};
use tokio::sync::watch;

use keepshare_base::{CommitId, FileId, Position, SetName};
use keepshare_control::{
    Code, Failure, Outcome,
    retention::{Applied, Plan, RetentionRun},
};
use keepshare_host::{clock, files};
use keepshare_versioning::{
    POINTS_IN_ALL_MAX,
    retention::{Candidate, Counts, Now, Policy, Review},
    set::SetStore,
};

use crate::{asking::read_failure, writer::now};

use self::{
    guard::{WhyNot, why_not},
    written::{Written, read_written},
};

pub use self::{
    explain::{explain, path_of},
    kept::kept,
    undo::can_come_back,
    usage::Usage,
};

mod explain;
mod guard;
mod kept;
mod removing;
mod undo;
mod usage;
mod written;

/// The file of a copy's policy, in the copy's folder.
const FILE: &str = "retention.toml";

/// How many names are gone through in one view: some milliseconds.
const NAMES_PER_STEP: usize = 256;

/// How much of the time a run rests, so that it takes a fourth of a core at most.
const REST: u32 = 3;

/// The most versions of one plan: 32 bytes each in memory. Those beyond are the next plan's.
const PLANNED_MAX: usize = 1_000_000;

/// How long a plan can be applied.
const PLAN_LASTS: Duration = Duration::from_secs(24 * 60 * 60);

/// How far the clock may be behind what was taken in last, in microseconds.
const CLOCK_MICROS_MAX: i64 = 60_000_000;

/// How long a run rests at a time before it looks whether it is to end.
const REST_LOOK: Duration = Duration::from_millis(100);

/// The thinning of one copy.
#[derive(Debug)]
pub struct Retention {
    set: SetName,
    file: PathBuf,
    written: Mutex<Outcome<Written>>,
    plan: Mutex<Option<Planned>>,
    usage: Usage,
    /// Held by whoever goes through the set.
    going: Mutex<()>,
    /// Whoever goes through it is to end, since somebody wants back what it removes.
    is_ending: AtomicBool,
    stopping: watch::Receiver<bool>,
}

/// A plan that can be applied.
#[derive(Debug)]
struct Planned {
    id: String,
    made: Instant,
    policy: Policy,
    /// The points that there were.
    points: BTreeSet<Position>,
    /// In order.
    versions: Vec<(FileId, CommitId)>,
}

/// How a copy is thinned.
#[derive(Clone, Debug)]
pub struct Standing {
    /// By which policy.
    pub policy: Policy,
    /// Somebody set it.
    pub is_set: bool,
    /// A plan was applied since.
    pub is_applied: bool,
    /// What came of the last run.
    pub last_run: Option<RetentionRun>,
}

/// What comes of a run that a station begins by itself.
enum Begun {
    /// It removes what goes by a policy at a time, and no more than was counted, though more should go meanwhile.
    Goes(Policy, Now, u64),
    /// It removes nothing.
    Refused(RetentionRun),
}

impl Standing {
    /// Returns what a person must know of why nothing is removed, and what helps.
    fn trouble(&self) -> Option<String> {
        let RetentionRun { refused, help, .. } = self.last_run.as_ref()?;
        Some(format!("{}; {}", refused.as_ref()?, help.as_ref()?))
    }
}

impl Retention {
    /// Opens that of a copy in its folder. Where what is written there cannot be read, the copy goes on, and nothing of it is thinned:
    /// by no other policy either.
    pub fn open(set: &SetName, dir: &Path, stopping: watch::Receiver<bool>) -> Self {
        let file = dir.join(FILE);
        let cannot = || format!("cannot read {}", file.display());
        let written = match std::fs::read_to_string(&file) {
            Ok(text) => read_written(&text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Written::default()),
            Err(error) => Err(anyhow::Error::new(error).into()),
        };
        let written = written.and_then(|written| written.policy().map(|_| written));
        let written = written.map_err(|failure: Failure| failure.context(cannot()));
        if let Err(failure) = &written {
            tracing::error!(%set, %failure, "versions are not thinned");
        }
        Self {
            set: set.clone(),
            file,
            written: Mutex::new(written),
            plan: Mutex::default(),
            usage: Usage::open(dir),
            going: Mutex::default(),
            is_ending: AtomicBool::new(false),
            stopping,
        }
    }

    /// Returns what the copy takes of its disk.
    pub fn usage(&self) -> &Usage {
        &self.usage
    }

    /// Returns how it stands.
    pub fn standing(&self) -> Outcome<Standing> {
        let written = lock(&self.written).clone()?;
        let policy = written.policy()?;
        Ok(Standing {
            is_set: written.policy.is_some(),
            is_applied: written.applied.as_deref() == Some(policy.to_string().as_str()),
            last_run: written.last_run,
            policy,
        })
    }

    /// Returns why nothing is removed where a person must act, and what helps.
    pub fn trouble(&self) -> Option<String> {
        match self.standing() {
            Ok(standing) => standing.trouble(),
            Err(failure) => Some(failure.one_line()),
        }
    }

    /// Tells whether no run was begun since then and done, though one would remove what goes.
    pub fn is_due_since(&self, then: DateTime<Utc>) -> bool {
        let Ok(Standing { is_applied: true, last_run, .. }) = self.standing() else { return false };
        let whole = last_run.filter(|run| run.cut_short.is_none());
        let last = whole.and_then(|run| run.time.parse::<DateTime<Utc>>().ok());
        last.is_none_or(|last| last < then)
    }

    /// Has it thinned otherwise from now on: with this said of the present policy, or of the first one.
    pub fn set(&self, said: &[String], reset: bool, less: bool) -> Outcome<Standing> {
        let present = self.standing()?.policy;
        let from = if reset { Policy::default() } else { present.clone() };
        let policy = read(&from, said)?;
        if !less && policy.keeps_less_than(&present) {
            return Err(Failure::refused(format!("set {} would keep less than now", self.set))
                .hint(format!(
                    "keepshare retention plan {} {} shows what would go; set it with --yes",
                    self.set,
                    if reset { policy.to_string() } else { said.join(" ") }
                )));
        }
        self.write(|written| written.policy = Some(policy.to_string()))?;
        self.standing()
    }

    /// Plans by the set's policy with this said of it: calls `tell` for some of what goes. Blocks.
    pub fn plan(
        &self,
        store: &SetStore,
        said: &[String],
        mut tell: impl FnMut(&Candidate) -> Outcome<()>,
        mut progress: impl FnMut(&Counts) -> Outcome<()>,
    ) -> Outcome<Plan> {
        let Standing { policy: present, is_applied, .. } = self.standing()?;
        let policy = read(&present, said)?;
        let _going = self.go()?;
        let points = points(store)?;
        let mut versions = Vec::new();
        let counts = self.review(store, (&policy, now(store)?), |counts, going| {
            progress(counts)?;
            for candidate in going {
                if versions.len() < PLANNED_MAX {
                    tell(candidate)?;
                    versions.push((candidate.file, candidate.commit));
                }
            }
            Ok(())
        })?;
        versions.sort_unstable();
        let id = said.is_empty().then(|| plan_id(&policy, &versions));
        let plan = Plan {
            plan: id.clone(),
            set: self.set.to_string(),
            keep: counts.kept,
            remove: counts.gone,
            bytes: counts.gone_bytes,
            by_itself: is_applied && why_not(&self.set, &counts, is_applied).is_none(),
            forecast: self.usage.forecast(),
        };
        if let Some(id) = id {
            let planned = Planned { id, made: Instant::now(), policy, points, versions };
            *lock(&self.plan) = Some(planned);
        }
        Ok(plan)
    }

    /// Removes what was planned and still goes. Blocks.
    pub fn apply(&self, store: &SetStore, id: &str) -> Outcome<Applied> {
        let again = || format!("keepshare retention plan {} makes a new one", self.set);
        let _going = self.go()?;
        let policy = self.standing()?.policy;
        let planned = {
            let mut plan = lock(&self.plan);
            match &*plan {
                Some(planned) if planned.id == id => {}
                _ => {
                    return Err(Failure::refused(format!("set {} has no plan {id}", self.set))
                        .hint(format!(
                            "a plan lasts until the next one, or a restart of the station; {}",
                            again()
                        )));
                }
            }
            plan.take().expect("it is there")
        };
        if planned.made.elapsed() > PLAN_LASTS {
            return Err(Failure::refused(format!("plan {id} is older than a day")).hint(again()));
        }
        if planned.policy != policy {
            return Err(Failure::refused("the policy has changed since").hint(again()));
        }
        if !planned.points.is_subset(&points(store)?) {
            return Err(Failure::refused("a point has ended since").hint(again()));
        }
        let now = now(store)?;
        if let Some(WhyNot { why, help }) = clock_in_doubt(store, now)? {
            return Err(Failure::refused(why).hint(help.unwrap_or_default()));
        }
        let (run, done) = self.remove(store, (&policy, now), u64::MAX, |candidate| {
            planned.versions.binary_search(&(candidate.file, candidate.commit)).is_ok()
        });
        self.write(|written| {
            written.last_run = Some(RetentionRun { by_itself: false, ..run.clone() });
            if done.is_ok() {
                // Also where nothing goes, as in every new set: somebody has seen that.
                written.applied = Some(policy.to_string());
                written.reviewed_micros = Some(now.running_micros);
            }
        })?;
        done?;
        Ok(Applied {
            set: self.set.to_string(),
            removed: run.removed,
            skipped: (planned.versions.len() as u64).saturating_sub(run.removed),
            bytes_freed: run.bytes_freed,
        })
    }

    /// Thins as far as a station does by itself, when nobody else goes through the set. Blocks.
    pub fn run(&self, store: &SetStore) -> Outcome<()> {
        let _going = self.go_when_free()?;
        let (run, done) = self.run_by_itself(store);
        if let Some(why) = run.refused.as_ref().filter(|_| run.help.is_some()) {
            tracing::warn!(set = %self.set, why, "versions were not thinned");
        }
        self.write(|written| written.last_run = Some(run))?;
        done
    }

    fn run_by_itself(&self, store: &SetStore) -> (RetentionRun, Outcome<()>) {
        let (policy, now, at_most) = match self.begin_by_itself(store) {
            Ok(Begun::Goes(policy, now, at_most)) => (policy, now, at_most),
            Ok(Begun::Refused(run)) => return (run, Ok(())),
            Err(failure) => {
                let run = RetentionRun::begun(clock::now().to_string());
                return (RetentionRun { cut_short: Some(failure.one_line()), ..run }, Err(failure));
            }
        };
        let (run, done) = self.remove(store, (&policy, now), at_most, |_| true);
        let done = done.and_then(|()| {
            self.write(|written| written.reviewed_micros = Some(now.running_micros))
        });
        (run, done)
    }

    /// Finds out how much goes, and whether a station does that by itself.
    fn begin_by_itself(&self, store: &SetStore) -> Outcome<Begun> {
        let Standing { policy, is_applied, .. } = self.standing()?;
        let now = now(store)?;
        let refused = |kept, WhyNot { why, help }| {
            let refused = RetentionRun::refused(clock::now().to_string(), why);
            Begun::Refused(RetentionRun { kept, help, ..refused })
        };
        if let Some(why_not) = clock_in_doubt(store, now)? {
            return Ok(refused(0, why_not));
        }
        let counts = self.review(store, (&policy, now), |_, _| Ok(()))?;
        Ok(match why_not(&self.set, &counts, is_applied) {
            Some(why_not) => refused(counts.kept.saturating_add(counts.gone), why_not),
            None => Begun::Goes(policy, now, counts.gone),
        })
    }

    /// Fails where a run is to end: the policy is another one, or the station stops.
    fn check_going_on(&self, policy: &Policy) -> Outcome<()> {
        self.check_not_ending()?;
        if self.standing()?.policy != *policy {
            return Err(Failure::refused("the policy was changed meanwhile")
                .hint("what was removed until then is removed; plan again"));
        }
        Ok(())
    }

    fn check_not_ending(&self) -> Outcome<()> {
        if *self.stopping.borrow() {
            return Err(Failure::unavailable("the station is stopping"));
        }
        if self.is_ending.load(Relaxed) {
            return Err(Failure::refused("somebody wants back what was removed"));
        }
        Ok(())
    }

    /// Goes through the set at its own pace; gives what goes to `take`, part after part.
    fn review(
        &self,
        store: &SetStore,
        (policy, now): (&Policy, Now),
        mut take: impl FnMut(&Counts, &[Candidate]) -> Outcome<()>,
    ) -> Outcome<Counts> {
        let (reader, mut review) = (store.reader(), Review::new(policy.clone(), now));
        if let Some(last_run) = lock(&self.written).clone()?.reviewed_micros {
            review = review.after_run(last_run);
        }
        loop {
            let began = Instant::now();
            let view = reader.view().map_err(read_failure)?;
            let part = review.step(&view, NAMES_PER_STEP).map_err(read_failure)?;
            drop(view);
            let rest = Instant::now() + began.elapsed() * REST;
            let (going, is_last) = part.unwrap_or_default();
            take(&review.counts(), &going)?;
            if is_last {
                return Ok(review.counts());
            }
            loop {
                self.check_not_ending()?;
                let left = rest.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                std::thread::sleep(left.min(REST_LOOK));
            }
        }
    }

    fn go(&self) -> Outcome<MutexGuard<'_, ()>> {
        match self.going.try_lock() {
            Ok(going) => Ok(going),
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => Err(Failure::unavailable(format!(
                "set {} is being gone through just now",
                self.set
            ))
            .hint("try again in a moment")),
        }
    }

    /// Waits until nobody else goes through the set: an admin's plan takes no night away.
    fn go_when_free(&self) -> Outcome<MutexGuard<'_, ()>> {
        loop {
            match self.go() {
                Err(_) if !*self.stopping.borrow() => std::thread::sleep(REST_LOOK),
                going => return going,
            }
        }
    }

    fn write(&self, change: impl FnOnce(&mut Written)) -> Outcome<()> {
        let mut written = lock(&self.written);
        let mut next = written.clone()?;
        change(&mut next);
        let text = toml::to_string(&next).map_err(anyhow::Error::new)?;
        files::write_synced(&self.file, text.as_bytes(), 0o600)
            .with_context(|| format!("cannot write {}", self.file.display()))?;
        *written = Ok(next);
        Ok(())
    }
}

/// Returns the points of a set. One that was made since a plan only keeps more.
fn points(store: &SetStore) -> Outcome<BTreeSet<Position>> {
    let view = store.reader().view().map_err(read_failure)?;
    let points = view.points(CommitId(0), POINTS_IN_ALL_MAX).map_err(read_failure)?;
    Ok(points.into_iter().map(|point| point.position).collect())
}

/// Tells whether the station's own clock is in doubt: nothing is removed by it.
fn clock_in_doubt(store: &SetStore, now: Now) -> Outcome<Option<WhyNot>> {
    let view = store.reader().view().map_err(read_failure)?;
    let newest = view.commit_info(view.newest_commit().map_err(read_failure)?);
    let newest = newest.map_err(read_failure)?;
    let is_behind = newest.is_some_and(|newest| {
        newest.moment.max(newest.arrival).micros_since(now.clock) > CLOCK_MICROS_MAX
    });
    Ok(is_behind.then(|| WhyNot {
        why: "this station's clock is behind what it has taken in, so one of the two is wrong".to_owned(),
        help: Some(
            "set the clock; where it was ahead before, keepshare fsck SET --repair-clock puts the times right".to_owned(),
        ),
    }))
}

fn read(from: &Policy, said: &[String]) -> Outcome<Policy> {
    let policy = from.with(said.iter().map(String::as_str));
    policy.map_err(|error| {
        Failure::because(Code::Usage, error).hint("keepshare retention set --help lists the keys")
    })
}

fn plan_id(policy: &Policy, versions: &[(FileId, CommitId)]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(policy.to_string().as_bytes());
    for (file, commit) in versions {
        hasher.update(file.to_string().as_bytes());
        hasher.update(&commit.0.to_be_bytes());
    }
    hasher.update(&clock::now().0.to_be_bytes());
    hasher.finalize().to_hex()[..12].to_owned()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
