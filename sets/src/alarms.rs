//! Alarms of a copy: bursts that were seen, what is held of before them, and what is told of them.
//!
//! Of each there is a point of the moment before, held by this station whatever the set's master says, for thirty days of running
//! time. Nothing else is kept for it. It is written down first and held then, and held again where a crash came between.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use keepshare_base::{CommitId, Point, PointKind, Position, SetName, VersionId, counted};
use keepshare_control::{
    Code, Failure, Outcome,
    alarms::{AlarmInfo, AlarmRule},
};
use keepshare_host::files;
use keepshare_versioning::{
    burst::{Burst, Rule},
    retention::Now,
    set::SetStore,
};

use crate::{request::new_request, writer::on_writer};

/// The file of a copy's alarms, in the copy's folder.
const FILE: &str = "alarms.toml";

/// The format.
const FORMAT: u32 = 1;

/// For how long of running time the moment before a burst is held, in microseconds: 30 days after the last of it.
const HELD_MICROS: u64 = 30 * 86_400_000_000;

/// How long a set must be quiet, in microseconds of running time, for a burst to be another one.
const QUIET_MICROS: u64 = 3_600_000_000;

/// How often that it goes on is written down, in microseconds.
const NOTED_MICROS: u64 = 60_000_000;

/// The most moments that are held: a master that makes one burst after the other must not have all versions kept. The oldest and the
/// newest stay.
const HELD_MAX: usize = 4;

/// The most alarms that are remembered.
const REMEMBERED_MAX: usize = 32;

/// The most files and users that an alarm names.
const NAMED_MAX: usize = 100;

/// So much of each of them is told, in characters: an answer is one line.
const NAME_CHARS_MAX: usize = 512;

/// How points are called that alarms hold.
const POINT_NAME: &str = "alarm-";

/// The alarms of one copy.
#[derive(Debug)]
pub struct Alarms {
    set: SetName,
    file: PathBuf,
    written: Mutex<Outcome<Written>>,
}

/// What is written down: `docs/formats/alarms.md`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: u32,
    /// From how much on it is a burst, as `KEY=VALUE`s; the rule that sets begin with where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    /// Oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    alarms: Vec<Alarm>,
}

/// A burst that was seen.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Alarm {
    id: String,
    /// When it was seen first, and last, RFC 3339.
    since: String,
    last: String,
    /// The running time when it was seen last, in microseconds.
    last_micros: u64,
    good: Good,
    /// How many files changed within the time of the rule, and how many of them no longer read as what they were; the most at once.
    changed: u64,
    spoiled: u64,
    /// Some of those.
    files: Vec<String>,
    users: Vec<String>,
    /// Somebody has looked at it.
    #[serde(default)]
    closed: bool,
    /// The newest commit then: what began before is what was looked at.
    #[serde(default)]
    closed_at: u64,
}

/// The moment before a burst.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Good {
    /// RFC 3339.
    time: String,
    commit: u64,
    position: String,
    /// What its point is called; none while it is not held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    point: Option<String>,
    /// It was held by this station before.
    #[serde(default)]
    was_kept: bool,
    /// The running time until which it is held, in microseconds; 0: it is not to be held any more.
    until_micros: u64,
}

impl Default for Written {
    fn default() -> Self {
        Self { format: FORMAT, rule: None, alarms: Vec::new() }
    }
}

impl Written {
    fn rule(&self) -> Outcome<Rule> {
        let said = self.rule.as_deref().unwrap_or_default();
        let rule = Rule::default().with(said.split_whitespace());
        rule.map_err(|error| Failure::because(Code::Failed, error))
    }
}

impl Alarm {
    fn of(id: String, burst: &Burst, now: Now) -> Self {
        let good = Good {
            time: burst.moment.to_string(),
            commit: burst.good.0,
            position: VersionId(burst.position).to_string(),
            point: None,
            was_kept: false,
            until_micros: now.running_micros.saturating_add(HELD_MICROS),
        };
        let mut alarm = Self {
            id,
            since: now.clock.to_string(),
            last: String::new(),
            last_micros: 0,
            good,
            changed: 0,
            spoiled: 0,
            files: Vec::new(),
            users: Vec::new(),
            closed: false,
            closed_at: 0,
        };
        alarm.goes_on(burst, now);
        alarm
    }

    /// Notes that the burst goes on; tells whether that is worth writing down.
    fn goes_on(&mut self, burst: &Burst, now: Now) -> bool {
        let is_news = self.spoiled < burst.spoiled
            || self.last_micros.saturating_add(NOTED_MICROS) <= now.running_micros;
        if !is_news {
            return false;
        }
        self.last = now.clock.to_string();
        self.last_micros = now.running_micros;
        self.changed = self.changed.max(burst.changed);
        self.spoiled = self.spoiled.max(burst.spoiled);
        add(&mut self.files, burst.shown.iter().map(ToString::to_string));
        add(&mut self.users, burst.users.iter().cloned());
        if self.good.until_micros > 0 {
            self.good.until_micros = now.running_micros.saturating_add(HELD_MICROS);
        }
        true
    }

    fn is_held(&self) -> bool {
        self.good.until_micros > 0
    }

    fn text(&self) -> String {
        let Self { id, spoiled, since, good, .. } = self;
        let before = match (self.is_held(), &good.point) {
            (true, Some(_)) => "the set as it was before is kept",
            (true, None) => "the set as it was before could not be held yet",
            (false, _) => "the set as it was before is not held any more",
        };
        format!(
            "a burst at {since}: {} no longer read as what they were, which is what ransomware leaves; {before}. keepshare alarm \
             show {id} says more, keepshare alarm close {id} that it was meant",
            counted(*spoiled, "file")
        )
    }

    fn info(&self, set: &SetName) -> AlarmInfo {
        AlarmInfo {
            alarm: self.id.clone(),
            kind: "burst".to_owned(),
            set: set.to_string(),
            since: self.since.clone(),
            last: self.last.clone(),
            last_good: self.good.time.clone(),
            point: self.good.point.clone().filter(|_| self.is_held()),
            changed: self.changed,
            spoiled: self.spoiled,
            files: self.files.clone(),
            users: self.users.clone(),
            closed: self.closed,
        }
    }
}

fn add(known: &mut Vec<String>, more: impl Iterator<Item = String>) {
    for one in more {
        let one: String = one.chars().take(NAME_CHARS_MAX).collect();
        if known.len() < NAMED_MAX && !known.contains(&one) {
            known.push(one);
        }
    }
}

impl Alarms {
    /// Opens those of a copy in its folder. Where what is written there cannot be read, it is looked for bursts by the first rule, and
    /// they are told of for as long as the station runs.
    pub fn open(set: &SetName, dir: &Path) -> Self {
        let file = dir.join(FILE);
        let written = match std::fs::read_to_string(&file) {
            Ok(text) => read(&text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Written::default()),
            Err(error) => Err(anyhow::Error::new(error).into()),
        };
        let written = written.and_then(|written| written.rule().map(|_| written));
        let written = written
            .map_err(|failure: Failure| failure.context(format!("cannot read {}", file.display())));
        if let Err(failure) = &written {
            tracing::error!(%set, %failure, "what was written down of alarms is not known");
        }
        Self { set: set.clone(), file, written: Mutex::new(written) }
    }

    /// Returns from how much on it is a burst.
    pub fn rule(&self) -> Outcome<Rule> {
        lock(&self.written).clone()?.rule()
    }

    /// Has that be another from now on: with this said of the present one.
    pub fn set_rule(&self, said: &[String]) -> Outcome<AlarmRule> {
        if !said.is_empty() {
            let rule = self.rule()?.with(said.iter().map(String::as_str));
            let rule = rule.map_err(|error| Failure::because(Code::Usage, error))?;
            let is_first = rule == Rule::default();
            self.write(|written| written.rule = (!is_first).then(|| rule.to_string()))?;
        }
        Ok(AlarmRule { set: self.set.to_string(), rule: self.rule()?.to_string() })
    }

    /// Returns all that are remembered, newest first.
    pub fn list(&self) -> Outcome<Vec<AlarmInfo>> {
        let written = lock(&self.written).clone()?;
        Ok(written.alarms.iter().rev().map(|alarm| alarm.info(&self.set)).collect())
    }

    /// Returns what a person must know.
    pub fn told(&self) -> Vec<String> {
        match &*lock(&self.written) {
            Ok(written) => {
                let open = written.alarms.iter().filter(|alarm| !alarm.closed);
                open.map(Alarm::text).collect()
            }
            Err(failure) => vec![failure.one_line()],
        }
    }

    /// Says that somebody has looked at an alarm: it is not told of any more. The moment before it is held on, or no longer.
    pub fn close(&self, store: &SetStore, id: &str, release: bool) -> Outcome<AlarmInfo> {
        let missing = || {
            Failure::not_found(format!("set {} has no alarm '{id}'", self.set))
                .hint(format!("keepshare alarm list {} lists those that it has", self.set))
        };
        let latest = store.reader().view().map_or(0, |view| view.latest().0);
        let mut found = None;
        self.write(|written| {
            found = written.alarms.iter_mut().find(|alarm| alarm.id == id).map(|alarm| {
                (alarm.closed, alarm.closed_at) = (true, latest);
                if release {
                    alarm.good.until_micros = 0;
                }
                alarm.clone()
            });
        })?;
        let alarm = found.ok_or_else(missing)?;
        if release {
            self.settle(store)?;
        }
        Ok(alarm.info(&self.set))
    }

    /// Takes a burst in, at a time: a new alarm, or one that goes on.
    pub fn hear(&self, burst: &Burst, now: Now) -> Outcome<()> {
        let mut written = lock(&self.written);
        let mut next = written.clone().unwrap_or_default();
        let last = next
            .alarms
            .last_mut()
            .filter(|last| last.last_micros.saturating_add(QUIET_MICROS) > now.running_micros);
        match last {
            // Somebody has seen it.
            Some(last) if last.closed && burst.good.0 <= last.closed_at => return Ok(()),
            Some(last) if !last.closed => {
                if !last.goes_on(burst, now) {
                    return Ok(());
                }
            }
            _ => {
                let id = new_request()?.to_string()[..8].to_owned();
                let alarm = Alarm::of(id, burst, now);
                let (id, good) = (&alarm.id, &alarm.good.time);
                let Burst { changed, spoiled, users, .. } = burst;
                tracing::error!(set = %self.set, id, good, changed, spoiled, ?users, "a burst");
                next.alarms.push(alarm);
                make_room(&mut next.alarms);
            }
        }
        // What is seen is told, whether or not it can be written down.
        let written_down = if written.is_ok() { self.save(&next) } else { Ok(()) };
        if written.is_ok() {
            *written = Ok(next);
        } else {
            let said = next.alarms.last().map(Alarm::text).unwrap_or_default();
            *written = Err(Failure::new(Code::Failed, said));
        }
        written_down
    }

    /// Holds what is to be held, and lets go of what is not any more.
    pub fn settle(&self, store: &SetStore) -> Outcome<()> {
        let Ok(written) = lock(&self.written).clone() else { return Ok(()) };
        for alarm in written.alarms {
            let Alarm { id, good, .. } = alarm;
            let point = match (&good.point, good.until_micros) {
                (None, 1..) => hold(store, &id, &good)?,
                (Some(_), 0) => {
                    let is_needed = |other: &Alarm| {
                        other.id != id && other.is_held() && other.good.position == good.position
                    };
                    let written = lock(&self.written).clone()?;
                    if !written.alarms.iter().any(is_needed) {
                        release(store, &good)?;
                    }
                    None
                }
                _ => continue,
            };
            self.write(|written| {
                let Some(known) = written.alarms.iter_mut().find(|known| known.id == id) else {
                    return;
                };
                if point.is_none() {
                    // It is let go of, or not known any more.
                    known.good.until_micros = 0;
                }
                known.good.was_kept = point.as_ref().is_some_and(|(_, was_kept)| *was_kept);
                known.good.point = point.map(|(name, _)| name);
            })?;
        }
        Ok(())
    }

    /// Has end what was held for long enough. Tells whether there is anything to settle.
    pub fn end_what_is_over(&self, running_micros: u64) -> Outcome<bool> {
        let Ok(written) = lock(&self.written).clone() else { return Ok(false) };
        let is_over = |alarm: &Alarm| alarm.is_held() && alarm.good.until_micros <= running_micros;
        if written.alarms.iter().any(is_over) {
            self.write(|written| {
                for alarm in written.alarms.iter_mut().filter(|alarm| is_over(alarm)) {
                    alarm.good.until_micros = 0;
                }
            })?;
        }
        let is_open = |alarm: &Alarm| alarm.good.point.is_some() != alarm.is_held();
        Ok(lock(&self.written).as_ref().is_ok_and(|written| written.alarms.iter().any(is_open)))
    }

    fn write(&self, change: impl FnOnce(&mut Written)) -> Outcome<()> {
        let mut written = lock(&self.written);
        let mut next = written.clone()?;
        change(&mut next);
        self.save(&next)?;
        *written = Ok(next);
        Ok(())
    }

    fn save(&self, written: &Written) -> Outcome<()> {
        let text = toml::to_string(written).map_err(anyhow::Error::new)?;
        files::write_synced(&self.file, text.as_bytes(), 0o600)
            .with_context(|| format!("cannot write {}", self.file.display()))?;
        Ok(())
    }
}

/// Lets go of one that is held where there are too many: one that somebody has looked at, else the last but the newest, since what is
/// recent is kept densely anyway. Forgets the oldest that nothing is held for, those first that somebody has looked at.
fn make_room(alarms: &mut Vec<Alarm>) {
    let held: Vec<usize> = (0..alarms.len()).filter(|n| alarms[*n].is_held()).collect();
    if held.len() > HELD_MAX {
        let between = &held[1..held.len() - 1];
        let closed = between.iter().find(|n| alarms[**n].closed);
        alarms[*closed.unwrap_or(&held[held.len() - 2])].good.until_micros = 0;
    }
    while alarms.len() > REMEMBERED_MAX {
        let is_free = |alarm: &Alarm| !alarm.is_held() && alarm.good.point.is_none();
        let closed = alarms.iter().position(|alarm| is_free(alarm) && alarm.closed);
        let Some(free) = closed.or_else(|| alarms.iter().position(is_free)) else { return };
        alarms.remove(free);
    }
}

/// Holds the moment before a burst; `None` where it is not known any more.
fn hold(store: &SetStore, id: &str, good: &Good) -> Outcome<Option<(String, bool)>> {
    let (at, name) = (CommitId(good.commit), format!("{POINT_NAME}{id}"));
    let point = Point { name, kind: PointKind::Crash };
    let held = on_writer(store, move |store| {
        let held = store.hold_commit(at, point)?;
        store.sync()?;
        Ok(held)
    })?;
    if held.is_none() {
        tracing::error!(id, "the moment before a burst is not known any more");
    }
    // One of an alarm's is an alarm's: of this one, where a crash came between, or of another with the same moment.
    Ok(held.map(|held| (held.name.clone(), held.was_kept && !held.name.starts_with(POINT_NAME))))
}

/// Lets go of the moment before a burst: what a master made a point, or this station kept before, stays.
fn release(store: &SetStore, good: &Good) -> Outcome<()> {
    let position: VersionId = good.position.parse().map_err(anyhow::Error::new)?;
    let position: Position = position.0;
    let is_own = good.point.as_ref().is_some_and(|point| point.starts_with(POINT_NAME));
    if good.was_kept {
        return Ok(());
    }
    on_writer(store, move |store| {
        if is_own {
            store.drop_point(position)?;
        } else {
            store.keep_point(position, false)?;
        }
        Ok(store.sync().map(drop)?)
    })
}

fn read(text: &str) -> Outcome<Written> {
    #[derive(Deserialize)]
    struct Header {
        format: u32,
    }
    let Header { format } = toml::from_str(text).map_err(anyhow::Error::new)?;
    if format != FORMAT {
        let what = format!("its format is {format}; this release reads {FORMAT}");
        return Err(Failure::refused(what).hint("a newer release wrote it: start that one"));
    }
    Ok(toml::from_str(text).map_err(anyhow::Error::new)?)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use keepshare_base::{Epoch, OriginId, Seq, Stamp};

    use super::*;

    const HOUR: u64 = 3_600_000_000;

    fn burst(good: u64, spoiled: u64) -> Burst {
        let position = Position { origin: OriginId(1), epoch: Epoch::FIRST, seq: Seq(good) };
        let (moment, shown, users) = (Stamp(0), Vec::new(), vec!["x".repeat(9999)]);
        Burst { good: CommitId(good), position, moment, changed: spoiled, spoiled, shown, users }
    }

    fn at(hours: u64) -> Now {
        Now { running_micros: hours * HOUR, clock: Stamp(0) }
    }

    fn held(alarms: &Alarms) -> Vec<u64> {
        let written = lock(&alarms.written).clone().unwrap();
        written
            .alarms
            .iter()
            .filter(|alarm| alarm.is_held())
            .map(|alarm| alarm.good.commit)
            .collect()
    }

    /// A burst that goes on is one alarm; of many the oldest and the newest moment stay, and a file that is read again has them.
    #[test]
    fn few_moments_are_held_and_the_first_and_the_last_among_them() {
        let dir = tempfile::tempdir().unwrap();
        let set = "set".parse().unwrap();
        let alarms = Alarms::open(&set, dir.path());
        alarms.hear(&burst(5, 100), at(10)).unwrap();
        alarms.hear(&burst(6, 300), at(10)).unwrap();
        alarms.hear(&burst(7, 200), at(10)).unwrap();
        let list = alarms.list().unwrap();
        assert_eq!((list.len(), list[0].spoiled, held(&alarms)), (1, 300, vec![5]));
        assert!(list[0].users[0].len() == NAME_CHARS_MAX, "an answer is one line");
        assert!(list[0].point.is_none() && alarms.told()[0].contains("not be held yet"));
        for n in 2..10 {
            alarms.hear(&burst(n * 10, 100), at(n * 10)).unwrap();
        }
        assert_eq!(held(&alarms), [5, 20, 30, 90]);
        assert_eq!(alarms.told().len(), 9, "all of them are told until somebody has looked");
        let alarms = Alarms::open(&set, dir.path());
        assert_eq!(held(&alarms), [5, 20, 30, 90]);
        // Thirty days after the last of it.
        assert!(alarms.end_what_is_over(10 * HOUR + HELD_MICROS).unwrap());
        assert_eq!(held(&alarms), [20, 30, 90]);
        for n in 100..200 {
            alarms.hear(&burst(n * 10, 100), at(n * 10)).unwrap();
        }
        assert!(alarms.list().unwrap().len() <= REMEMBERED_MAX + HELD_MAX);
    }

    /// What somebody has looked at is told no more, and another burst is, however small it is.
    #[test]
    fn a_closed_alarm_mutes_itself_alone() {
        let dir = tempfile::tempdir().unwrap();
        let alarms = Alarms::open(&"set".parse().unwrap(), dir.path());
        alarms.hear(&burst(5, 5000), at(10)).unwrap();
        alarms
            .write(|written| {
                (written.alarms[0].closed, written.alarms[0].closed_at) = (true, 8);
            })
            .unwrap();
        alarms.hear(&burst(6, 6000), at(10)).unwrap();
        assert_eq!(alarms.told(), [""; 0]);
        alarms.hear(&burst(9, 30), at(10)).unwrap();
        assert_eq!(alarms.told().len(), 1);
    }
}
