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
use tokio::sync::watch;

use keepshare_base::{CommitId, FileId, Position, SetName};
use keepshare_control::{
    Code, Failure, Outcome,
    retention::{Applied, Plan, RetentionRun},
};
use keepshare_host::{clock, files};
use keepshare_versioning::{
    POINTS_MAX,
    retention::{Candidate, Counts, Now, Policy, Review},
    set::SetStore,
};

use crate::{asking::read_failure, writer::now};

use self::written::{Written, read_written};

pub use self::{
    explain::{explain, path_of},
    kept::kept,
    undo::can_come_back,
    usage::Usage,
};

mod explain;
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

/// By itself a station removes one of so many versions at most.
const PART: u64 = 4;

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
            by_itself: why_not(&counts, is_applied).is_none(),
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
        check_clock(store, now)?;
        let run = self.remove(store, (&policy, now), u64::MAX, |candidate| {
            planned.versions.binary_search(&(candidate.file, candidate.commit)).is_ok()
        })?;
        self.write(|written| {
            if !planned.versions.is_empty() {
                written.applied = Some(policy.to_string());
            }
            written.last_run = Some(RetentionRun { by_itself: false, ..run.clone() });
        })?;
        Ok(Applied {
            set: self.set.to_string(),
            removed: run.removed,
            skipped: (planned.versions.len() as u64).saturating_sub(run.removed),
            bytes_freed: run.bytes_freed,
        })
    }

    /// Thins as far as a station does by itself. Blocks.
    pub fn run(&self, store: &SetStore) -> Outcome<RetentionRun> {
        let ran = self.run_by_itself(store);
        let run = match &ran {
            Ok(run) => run.clone(),
            Err(failure) => RetentionRun::refused(clock::now().to_string(), failure.one_line()),
        };
        self.write(|written| written.last_run = Some(run))?;
        ran
    }

    fn run_by_itself(&self, store: &SetStore) -> Outcome<RetentionRun> {
        let _going = self.go()?;
        let Standing { policy, is_applied, .. } = self.standing()?;
        let now = now(store)?;
        check_clock(store, now)?;
        let counts = self.review(store, (&policy, now), |_, _| Ok(()))?;
        match why_not(&counts, is_applied) {
            Some(why) => {
                let kept = counts.kept.saturating_add(counts.gone);
                Ok(RetentionRun { kept, ..RetentionRun::refused(clock::now().to_string(), why) })
            }
            // No more than was counted, though more should go meanwhile.
            None => self.remove(store, (&policy, now), counts.gone, |_| true),
        }
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

/// Why a station does not do this by itself.
fn why_not(counts: &Counts, is_applied: bool) -> Option<String> {
    let all = counts.kept.saturating_add(counts.gone);
    let what = format!("{} of {all} versions would go", counts.gone);
    if counts.gone == 0 {
        None
    } else if !is_applied {
        Some(format!("{what}, and no plan of this policy was applied by hand yet"))
    } else if counts.gone.saturating_mul(PART) > all {
        Some(format!("{what}, more than a quarter"))
    } else {
        None
    }
}

/// Returns the points of a set. One that was made since a plan only keeps more.
fn points(store: &SetStore) -> Outcome<BTreeSet<Position>> {
    let view = store.reader().view().map_err(read_failure)?;
    let points = view.points(CommitId(0), POINTS_MAX).map_err(read_failure)?;
    Ok(points.into_iter().map(|point| point.position).collect())
}

/// Fails where the station's own clock is in doubt: nothing is removed by it.
fn check_clock(store: &SetStore, now: Now) -> Outcome<()> {
    let view = store.reader().view().map_err(read_failure)?;
    let newest = view.commit_info(view.newest_commit().map_err(read_failure)?);
    let Some(newest) = newest.map_err(read_failure)? else { return Ok(()) };
    if newest.moment.max(newest.arrival).micros_since(now.clock) <= CLOCK_MICROS_MAX {
        return Ok(());
    }
    Err(Failure::refused("this station's clock is behind what it has taken in, so one of the two is wrong").hint(
        "set the clock; where it was ahead before, keepshare fsck SET --repair-clock puts the times right",
    ))
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
mod tests {
    use super::*;

    #[test]
    fn a_station_does_little_by_itself() {
        let counts = |kept, gone| Counts { kept, gone, ..Counts::default() };
        assert!(why_not(&counts(99, 1), false).is_some());
        assert_eq!(why_not(&counts(75, 25), true), None);
        assert!(why_not(&counts(74, 26), true).is_some());
        assert_eq!(why_not(&counts(9, 0), false), None);
    }

    #[test]
    fn a_policy_stays_written() {
        let dir = tempfile::tempdir().unwrap();
        let set: SetName = "work".parse().unwrap();
        let (_stop, stopping) = watch::channel(false);
        let open = || Retention::open(&set, dir.path(), stopping.clone());
        let retention = open();
        assert!(!retention.standing().unwrap().is_set);
        retention.set(&["last=20".to_owned()], false, false).unwrap();
        let refused = retention.set(&["last=3".to_owned()], false, false).unwrap_err();
        assert_eq!(refused.code, Code::Refused);
        assert_eq!(open().standing().unwrap().policy.last(), 20);
        retention.set(&["last=3".to_owned()], false, true).unwrap();
        retention.set(&[], true, false).unwrap();
        assert_eq!(open().standing().unwrap().policy, Policy::default());
        // A file that cannot be read is no reason to thin by another policy.
        for text in ["format = 1\npolicy = \"lats=3\"", "format = 3", "format = 1\nelse = 1", ""] {
            std::fs::write(dir.path().join(FILE), text).unwrap();
            let unread = open();
            assert!(unread.standing().is_err(), "{text:?}");
            assert!(unread.set(&["last=5".to_owned()], false, true).is_err(), "{text:?}");
            assert_eq!(std::fs::read_to_string(dir.path().join(FILE)).unwrap(), text);
        }
    }
}
