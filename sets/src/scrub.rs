//! The scrub of a copy: when it goes on and how fast, what is written down of it, and what it found.
//!
//! A pass begins a week after the one before began, or when somebody asks for it. It takes as long as [`Pace`] says, and goes on where it
//! was after a restart, a while after the station has started. What is looked at, and how what is damaged is put right, is
//! [`keepshare_versioning::scrub`]'s.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::Notify;

use keepshare_base::Stamp;
use keepshare_control::{
    Failure, Outcome,
    scrub::{ScrubDamage, ScrubPass, ScrubStatus, ScrubbedPass},
};
use keepshare_host::clock;
use keepshare_versioning::{
    names,
    scrub::{Cursor, Found, HurtState, Scrub, Stepped},
    set::SetStore,
};

use self::written::{Damage, Pass, Written, read, write};

pub use self::pace::{Pace, ScrubTable};

mod pace;
mod written;

/// The file that says where the scrub is, in the copy's folder.
const FILE: &str = "scrub.toml";

/// The file that says what was found, beside it.
const DAMAGE_FILE: &str = "scrub-damage.toml";

/// A pass begins so long after the one before began, or when that is through.
const PASS_EVERY: TimeDelta = TimeDelta::days(7);

/// A station that starts has other things to do for so long.
const START_AFTER: Duration = Duration::from_secs(10 * 60);

/// How often it is written down where the pass is: so much is read again after a crash.
const WRITE_EVERY: Duration = Duration::from_secs(30);

/// How long a step waits that came to nothing.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// The longest rest, after which the time is looked at again.
const REST_MAX: Duration = Duration::from_secs(60 * 60);

/// The scrub of one copy.
#[derive(Debug)]
pub struct Scrubbing {
    dir: PathBuf,
    /// Where the newest states are plain files.
    live: PathBuf,
    pace: Pace,
    /// When it was opened.
    since: (Instant, DateTime<Utc>),
    state: Mutex<State>,
    /// Rings when it was paused, or is to go on.
    changed: Arc<Notify>,
}

#[derive(Debug)]
struct State {
    written: Written,
    damage: Damage,
    /// What a pass reads, about, in bytes; known while one runs.
    size: Option<u64>,
    /// Why the last step came to nothing.
    trouble: Option<String>,
    /// When it was written down last where the pass is.
    saved: Instant,
    /// Between two steps.
    scrub: Option<Scrub>,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Next {
    /// A step.
    Step,
    /// Nothing for so long.
    Rest(Duration),
}

impl Scrubbing {
    /// Opens that of a copy in its folder.
    pub fn open(dir: &Path, live: &Path, pace: Pace) -> Self {
        let state = State {
            written: read(&dir.join(FILE)),
            damage: read(&dir.join(DAMAGE_FILE)),
            size: None,
            trouble: None,
            saved: Instant::now(),
            scrub: None,
        };
        Self {
            dir: dir.to_owned(),
            live: live.to_owned(),
            pace,
            since: (Instant::now(), Utc::now()),
            state: Mutex::new(state),
            changed: Arc::default(),
        }
    }

    /// Returns how it stands.
    pub fn status(&self) -> ScrubStatus {
        let state = self.lock();
        let Written { is_paused, last, pass, .. } = &state.written;
        let size = state.size.unwrap_or(u64::MAX).max(1);
        let pass = pass.as_ref().map(|pass| ScrubPass {
            began: pass.began.clone(),
            stage: pass.at.stage().to_owned(),
            read_bytes: pass.read_bytes,
            percent: u8::try_from(pass.read_bytes.saturating_mul(100) / size).unwrap_or(99).min(99),
            bytes_per_s: (!pass.is_hurried).then(|| self.pace.bytes_per_s(size)),
        });
        let next_pass = (!is_paused && pass.is_none())
            .then(|| Stamp::from(self.next_begin(&state.written, Utc::now())).to_string());
        let word = match (is_paused, &pass) {
            (true, _) => "paused",
            (false, Some(_)) => "running",
            (false, None) => "waiting",
        };
        ScrubStatus {
            state: word.to_owned(),
            pass,
            last_pass: last.clone(),
            next_pass,
            damaged: state.damage.left("version"),
            live_differences: state.damage.left("live"),
            files_damaged: state.damage.left("log") + state.damage.left("pack"),
            trouble: state.trouble.clone(),
        }
    }

    /// Returns what was found and is listed, the newest first, and how much more there was.
    pub fn damage(&self) -> (Vec<ScrubDamage>, u64) {
        let state = self.lock();
        (state.damage.listed(), state.damage.not_listed())
    }

    /// Has it stop where it is until [`Self::resume`], also in the next process.
    pub fn pause(&self) {
        self.change(|state| state.written.is_paused = true);
    }

    /// Has it go on.
    pub fn resume(&self) {
        self.change(|state| state.written.is_paused = false);
    }

    /// Begins a whole pass at once, which goes as fast as it can with a rest after each step; returns its number.
    pub fn begin_now(&self) -> Outcome<u64> {
        if self.lock().written.is_paused {
            return Err(Failure::refused("scrubbing is paused")
                .hint("keepshare scrub resume lets it go on"));
        }
        self.change(|state| state.begin(true));
        Ok(self.lock().written.passes)
    }

    /// Tells whether a pass is over; fails where it was paused.
    pub fn is_over(&self, pass: u64) -> Outcome<bool> {
        let state = self.lock();
        if state.written.is_paused {
            return Err(Failure::refused("scrubbing was paused meanwhile")
                .hint("keepshare scrub resume lets it go on where it was"));
        }
        Ok(state.written.pass.is_none() || state.written.passes != pass)
    }

    /// Says what is to be done next; `is_ready` is false while the copy has something better to do than to begin.
    pub fn next(&self, is_ready: bool) -> Next {
        let mut state = self.lock();
        let up = self.since.0.elapsed();
        if state.written.is_paused {
            return Next::Rest(REST_MAX);
        }
        match &state.written.pass {
            Some(pass) if pass.is_hurried => return Next::Step,
            _ if up < START_AFTER => return Next::Rest(START_AFTER - up),
            Some(_) => return Next::Step,
            None if !is_ready => return Next::Rest(START_AFTER),
            None => {}
        }
        let now = Utc::now();
        let left = (self.next_begin(&state.written, now) - now).to_std().unwrap_or_default();
        if left > Duration::ZERO {
            return Next::Rest(left.min(REST_MAX));
        }
        state.begin(false);
        self.save(&mut state);
        Next::Step
    }

    /// Returns what rings when it was paused, or is to go on.
    pub fn changed(&self) -> Arc<Notify> {
        Arc::clone(&self.changed)
    }

    /// Does a step of the pass, and returns how long to rest after it. Blocks.
    pub fn step(&self, store: &SetStore) -> Duration {
        let (at, number, scrub) = {
            let mut state = self.lock();
            let Some(pass) = &state.written.pass else { return Duration::ZERO };
            let (at, number) = (pass.at.clone(), state.written.passes);
            if state.size.is_none() {
                state.size = Some(self.size());
            }
            (at, number, state.scrub.take())
        };
        let mut scrub = scrub.unwrap_or_else(|| Scrub::new(Some(&self.live)));
        let began = Instant::now();
        let stepped = scrub.step(store, at);
        let took = began.elapsed();
        let mut state = self.lock();
        if state.written.passes != number || state.written.pass.is_none() {
            // Another pass was begun meanwhile, with a scrub of its own.
            return Duration::ZERO;
        }
        state.scrub = Some(scrub);
        match stepped {
            Ok(stepped) => {
                let bytes = stepped.bytes;
                let has_found = !stepped.found.is_empty();
                let is_over = stepped.next.is_none();
                state.trouble = None;
                state.take(stepped);
                if has_found || is_over || state.saved.elapsed() >= WRITE_EVERY {
                    self.save(&mut state);
                }
                self.rest(&state, bytes, took)
            }
            Err(error) => {
                let why = keepshare_base::chain(&error);
                tracing::warn!(why, "a step of the scrub came to nothing");
                state.trouble = Some(why);
                AGAIN_AFTER
            }
        }
    }

    fn rest(&self, state: &State, bytes: u64, took: Duration) -> Duration {
        let Some(pass) = &state.written.pass else { return Duration::ZERO };
        if pass.is_hurried {
            return took;
        }
        let rate = self.pace.bytes_per_s(state.size.unwrap_or(0));
        let millis = bytes.saturating_mul(1000) / rate;
        Duration::from_millis(millis).saturating_sub(took).min(REST_MAX).max(took)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        self.save(&mut state);
        self.changed.notify_one();
    }

    fn save(&self, state: &mut State) {
        write(&self.dir.join(FILE), &state.written);
        write(&self.dir.join(DAMAGE_FILE), &state.damage);
        state.saved = Instant::now();
    }

    /// Returns when the next pass begins, by what is known of the last one.
    fn next_begin(&self, written: &Written, now: DateTime<Utc>) -> DateTime<Utc> {
        let started = self.since.1 + TimeDelta::from_std(START_AFTER).unwrap_or_default();
        let began = written.last.as_ref().and_then(|last| last.began.parse().ok());
        // A clock that was ahead must not put it off.
        let due =
            began.map(|began: DateTime<Utc>| if began > now { now } else { began + PASS_EVERY });
        due.map_or(started, |due| due.max(started))
    }

    /// Returns about how much a pass reads, in bytes: the live tree has as much as the packs, or less.
    fn size(&self) -> u64 {
        let of = |name: &str| {
            let entries = std::fs::read_dir(self.dir.join(name)).into_iter().flatten();
            let bytes = entries.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()));
            bytes.fold(0, u64::saturating_add)
        };
        let index = std::fs::metadata(self.dir.join("index.redb")).map_or(0, |file| file.len());
        let is_in_place = !self.live.starts_with(&self.dir);
        let times = if is_in_place { 1 } else { 2 };
        index + of("log") + of("packs").saturating_mul(times)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn begin(&mut self, is_hurried: bool) {
        self.written.passes += 1;
        let began = clock::now().to_string();
        let (read_bytes, found, mended, at) = (0, 0, 0, Cursor::START);
        self.written.pass = Some(Pass { began, is_hurried, read_bytes, found, mended, at });
        (self.size, self.scrub, self.trouble) = (None, None, None);
    }

    /// Takes in what a step did.
    fn take(&mut self, Stepped { bytes, found, next, .. }: Stepped) {
        let number = self.written.passes;
        let Some(pass) = &mut self.written.pass else { return };
        pass.read_bytes += bytes;
        for one in found {
            let damage = described(one);
            pass.found += 1;
            pass.mended += u64::from(damage.is_mended);
            self.damage.note(number, damage);
        }
        if let Some(next) = next {
            pass.at = next;
            return;
        }
        let Some(Pass { began, read_bytes, found, mended, .. }) = self.written.pass.take() else {
            return;
        };
        self.damage.end_pass(number);
        let ended = clock::now().to_string();
        tracing::info!(found, mended, bytes = read_bytes, "a scrub went through everything");
        self.written.last = Some(ScrubbedPass { began, ended, read_bytes, found, mended });
        (self.scrub, self.size) = (None, None);
    }
}

/// Returns what was found in words.
fn described(found: Found) -> ScrubDamage {
    let of_store = |kind: &str, what: String| ScrubDamage {
        kind: kind.to_owned(),
        path: String::new(),
        version: None,
        time: clock::now().to_string(),
        what,
        is_mended: true,
    };
    match found {
        Found::Index => {
            of_store("index", "blocks were damaged; it was built anew from the log".to_owned())
        }
        Found::Log(at) => ScrubDamage {
            is_mended: false,
            ..of_store(
                "log",
                format!(
                    "it is damaged at byte {at}; it is written anew from the index within minutes, if there is room: leave the station running"
                ),
            )
        },
        Found::Pack(pack) => ScrubDamage {
            is_mended: false,
            ..of_store(
                "pack",
                format!(
                    "the header of pack {pack} is damaged; what of it can be read is moved to another one: leave the station running"
                ),
            )
        },
        Found::Content(hurt) => {
            let HurtState { state, path, is_mended } = *hurt;
            let what = match is_mended {
                true => "content was damaged, and had again from where the same is kept",
                false => "content is damaged, and the same is nowhere on this station",
            };
            ScrubDamage {
                path: path.to_string(),
                version: Some(names::id(&state).to_string()),
                is_mended,
                ..of_store("version", what.to_owned())
            }
        }
        Found::Live { path, what } => {
            ScrubDamage { path: path.to_string(), is_mended: false, ..of_store("live", what) }
        }
    }
}
