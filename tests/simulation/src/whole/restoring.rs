//! Restores in place: what is decided about them is real, the private folder and who has what open are simulated.

use std::collections::{BTreeMap, BTreeSet};

use keepshare_base::{
    FileId, Kind, Name, Position, RequestId, RestoreOutcome, RestoreRow, Seq, VersionId,
};
use keepshare_decide::{
    FileRecord, Known, Ledger, Seen, Signature, Touch,
    agenda::{FileTask, NameTask},
    compose::{RestoreNote, When},
    restores::{Due, Ground, Kept, Replaced, Times, Writers, is_still_ours, may_come_out},
};
use keepshare_proto::MonoTime;
use rand::{Rng, rngs::StdRng};

use crate::{
    source::{
        engine::Engine,
        survey::{hash_of, meta},
    },
    world::{ORIGIN, SECOND},
};

/// How long a restore waits for others, and how often it looks, in microseconds.
const PATIENCE: u64 = 10 * SECOND;
const LOOK_EVERY: u64 = 20_000;

/// How long something new is written at most.
const WRITING_MAX: u64 = 50_000;

/// So many are versions that not everybody has at a time: they have room in the smallest journal.
const UNDER_WAY_MAX: usize = 4;

/// What is waited for.
const TIMES: Times = Times {
    rest: std::time::Duration::from_secs(1),
    look_every: std::time::Duration::from_secs(1),
};

/// The restores of a source.
#[derive(Clone, Debug, Default)]
pub(super) struct Restores {
    running: Vec<Restoring>,
    watched: BTreeMap<u64, Watched>,
    asked: u64,
    /// Of which start of the source all this is.
    start: u64,
}

/// A restore under way.
#[derive(Clone, Debug)]
struct Restoring {
    request: RequestId,
    place: (u64, String),
    /// It may replace whatever it finds.
    may_be_other: bool,
    until: u64,
    next: u64,
    /// What it wrote, and how that was when it was written.
    ready: Option<(u64, Seen)>,
}

/// Something that was replaced.
#[derive(Debug)]
struct Watched {
    watch: Replaced,
    place: (FileId, Name),
    /// What was in it when it was a version: whatever becomes of that, the restore has no part in it.
    captured: Option<String>,
}

/// Nobody but the process watches: a copy of a source begins anew.
impl Clone for Watched {
    fn clone(&self) -> Self {
        Self::new(0, self.place.clone(), None, None)
    }
}

impl Watched {
    fn new(now: u64, place: (FileId, Name), known: Option<Kept>, captured: Option<String>) -> Self {
        Self { watch: Replaced::new(MonoTime(now), known), place, captured }
    }
}

impl Restores {
    /// Tells whether nothing is under way.
    pub(super) fn rest(&self, engine: &Engine) -> bool {
        self.running.is_empty() && engine.folder.aside.is_empty() && engine.restores.is_empty()
    }

    /// Somebody wants a file to be what it was.
    pub(super) fn ask(&mut self, engine: &Engine, now: u64, random: &mut StdRng) {
        let folder = &engine.folder;
        let Some((parent, name, _)) = folder.some(random, Kind::File) else { return };
        self.asked += 1;
        self.running.push(Restoring {
            request: request(self.asked),
            place: (parent, name),
            may_be_other: random.random_bool(0.5),
            until: now + PATIENCE,
            next: now,
            ready: None,
        });
    }

    /// Does what is due. Everything of it that was safe with `acked` of everybody may go.
    pub(super) fn work(
        &mut self,
        engine: &mut Engine,
        acked: Option<Seq>,
        when: When,
        random: &mut StdRng,
    ) {
        let now = when.now.0;
        if self.start != engine.starts {
            self.start = engine.starts;
            self.begin_anew(engine, now);
        }
        for mut restoring in std::mem::take(&mut self.running) {
            if restoring.next > now || !self.step(engine, &mut restoring, when, random) {
                self.running.push(restoring);
            } else if let Some((number, _)) = restoring.ready {
                engine.folder.discard_aside(number);
            }
        }
        for number in self.watched.keys().copied().collect::<BTreeSet<_>>() {
            self.watch(engine, number, acked, MonoTime(now));
        }
    }

    /// Hears what a turn journaled of what was replaced: right after it, before a mirror may begin.
    pub(super) fn take_kept(&mut self, engine: &mut Engine, now: u64) {
        for (number, version) in std::mem::take(&mut engine.kept) {
            let is_settled = !engine.folder.is_open(number)
                && engine.folder.seen(number).signature == version.signature;
            if let Some(Watched { watch, .. }) = self.watched.get_mut(&number) {
                watch.journaled(MonoTime(now), Some(version), is_settled);
            }
        }
    }

    /// What a process before this one left: what it wrote goes, what it replaced is watched, and nobody knows what it was.
    fn begin_anew(&mut self, engine: &mut Engine, now: u64) {
        self.running.clear();
        self.watched.clear();
        let stray = Name::new(b"stray").expect("a name");
        for (number, is_ours) in engine.folder.aside.clone() {
            if is_ours {
                engine.folder.discard_aside(number);
            } else {
                let place = (FileId::ROOT, stray.clone());
                self.watched.insert(number, Watched::new(now, place, None, None));
            }
        }
    }

    /// Takes a step of a restore; tells whether it has ended.
    fn step(
        &mut self,
        engine: &mut Engine,
        restoring: &mut Restoring,
        when: When,
        random: &mut StdRng,
    ) -> bool {
        let now = when.now.0;
        restoring.next = now + LOOK_EVERY;
        let (folder, name) = &restoring.place;
        let Some((parent, ground)) = look(engine, *folder, name) else { return true };
        let place = (parent, Name::new(name.as_bytes()).expect("a name"));
        let known = match ground {
            Ground::Unkept(file) => {
                engine.agenda.add_name(place.0, place.1, NameTask::default());
                if let Some(file) = file {
                    let touch = Touch { closed: true, ..Touch::default() };
                    engine.agenda.add_file(file, FileTask { touch, ..FileTask::default() });
                }
                return now >= restoring.until;
            }
            Ground::Nothing => None,
            Ground::Known(seen, file, record) => Some((seen, file, record)),
        };
        // A file with several names is written where it is, which is not simulated.
        if known.as_ref().is_some_and(|(seen, ..)| seen.links > 1) {
            return true;
        }
        let Some((ours, ready)) = restoring.ready else {
            let number = engine.folder.make_aside();
            restoring.ready = Some((number, engine.folder.seen(number)));
            restoring.next = now + random.random_range(0..WRITING_MAX);
            return false;
        };
        let content = |seen: &Seen| engine.folder.things[&seen.inode.number].content.clone();
        let captured = known.as_ref().map(|(seen, ..)| content(seen));
        // Whoever works in the folder goes on between the look and the exchange.
        if random.random_bool(0.3) {
            (0..random.random_range(1..4)).for_each(|_| engine.folder.act(random));
        }
        if engine.folder.is_away || !engine.folder.things.contains_key(folder) {
            return true;
        }
        if known.is_none() {
            if engine.folder.names.contains_key(&restoring.place) {
                return now >= restoring.until;
            }
            engine.folder.name_aside(random, ours, &restoring.place);
            restoring.ready = None;
            placed(engine, restoring.request, place, None, ours);
            return true;
        }
        let Some(out) = engine.folder.exchange_aside(random, ours, &restoring.place) else {
            return now >= restoring.until;
        };
        restoring.ready = None;
        let (seen, was) = (engine.folder.seen(out), known.as_ref().map(|(now, ..)| now.inode));
        if may_come_out(&seen, was, restoring.may_be_other) {
            let is_it = was == Some(seen.inode);
            let before = known.as_ref().map(|(now, file, record)| Kept::new(now, *file, record));
            let captured = captured.filter(|_| is_it);
            self.watched.insert(out, Watched::new(now, place.clone(), before, captured));
            let known = known.filter(|_| is_it).map(|(_, file, record)| (file, record));
            placed(engine, restoring.request, place, known, ours);
            return true;
        }
        // Put back; meanwhile somebody may have replaced what was restored, or written into it.
        if seen.kind == Kind::File && random.random_bool(0.3) {
            match random.random_bool(0.5) {
                true => engine.folder.act(random),
                false => engine.folder.write_at(random, &restoring.place),
            }
        }
        let back = match engine.folder.exchange_aside(random, out, &restoring.place) {
            Some(back) => back,
            None if engine.folder.things.contains_key(folder) => {
                engine.folder.name_aside(random, out, &restoring.place);
                return now >= restoring.until;
            }
            // Its folder has gone.
            None => {
                self.watched.insert(out, Watched::new(now, place, None, None));
                return true;
            }
        };
        if is_still_ours(&ready, &engine.folder.seen(back), writers(engine, back), when) {
            engine.folder.aside.insert(ours, true);
            restoring.ready = Some((ours, ready));
        } else {
            self.watched.insert(back, Watched::new(now, place, None, None));
        }
        now >= restoring.until
    }

    /// Does what is due about something that was replaced.
    fn watch(&mut self, engine: &mut Engine, number: u64, acked: Option<Seq>, now: MonoTime) {
        let under_way = self.watched.values().filter(|watched| watched.watch.is_under_way());
        let has_room = under_way.count() < UNDER_WAY_MAX;
        let Some(Watched { watch, place, captured }) = self.watched.get_mut(&number) else {
            return;
        };
        let is_safe = |owed: &[(FileId, Vec<Seq>)]| {
            owed.iter().flat_map(|(_, changes)| changes).all(|seq| Some(*seq) <= acked)
        };
        match watch.due(now, has_room, is_safe) {
            Due::Nothing => {}
            Due::Remove => {
                if captured.as_ref() == Some(&engine.folder.things[&number].content) {
                    engine.folder.lose_aside(number);
                } else {
                    engine.folder.discard_aside(number);
                }
                self.watched.remove(&number);
            }
            Due::Look => {
                let (seen, writers) = (engine.folder.seen(number), writers(engine, number));
                let Some(hash) = watch.seen(now, &seen, writers, &TIMES) else { return };
                let content = engine.folder.things[&number].content.as_bytes();
                let differs = hash.is_none_or(|hash| Some(hash) != hash_of(content));
                let state = (writers != Writers::Nobody).then_some(seen.signature);
                if watch.looked(now, Some(differs), true, state) {
                    engine.late.insert(number, place.clone());
                }
            }
        }
    }

    /// Hears that the content of files cannot be given any more.
    pub(super) fn forget(&mut self, files: &[(FileId, Seq)]) {
        self.watched.values_mut().for_each(|watched| watched.watch.forget(files));
    }

    /// Hears that what not everybody has of the journal is passed over.
    pub(super) fn pass(&mut self, acked: Option<Seq>) {
        let is_passed = |seq| acked.is_none_or(|acked| seq > acked);
        self.watched.values_mut().for_each(|watched| watched.watch.pass(is_passed));
    }
}

/// Tells who can write to a thing.
fn writers(engine: &Engine, number: u64) -> Writers {
    if engine.folder.is_open(number) { Writers::Somebody } else { Writers::Nobody }
}

/// Looks where a restore goes; `None`: it cannot go there.
fn look(engine: &Engine, folder: u64, name: &str) -> Option<(FileId, Ground)> {
    let (Ok(parent), things) = (engine.map.by_number(folder), &engine.folder.things);
    let parent = parent.filter(|_| things.get(&folder).is_some_and(|it| it.kind == Kind::Dir))?;
    let Ok(record) = engine.map.record(parent);
    let is_it = record.is_some_and(|record| record.inode == engine.folder.seen(folder).inode);
    if !is_it || engine.folder.is_away || !engine.folder.mounted.is_empty() || engine.is_silent {
        return None;
    }
    let now = engine.folder.names.get(&(folder, name.to_owned()));
    let now = now.map(|number| engine.folder.seen(*number));
    if now.is_some_and(|now| now.kind != Kind::File) {
        return None;
    }
    let Ok(known) = engine.map.lookup(parent, &Name::new(name.as_bytes()).expect("a name"));
    let known = match known {
        Some((file, Kind::File)) => {
            let Ok(record) = engine.map.record(file);
            record.map(|record| (file, record))
        }
        Some(_) => return Some((parent, Ground::Unkept(None))),
        None => None,
    };
    Some((parent, Ground::judge(now, known)))
}

/// Makes what is in place known as the file that stood there, or as a new one, and has it journaled.
fn placed(
    engine: &mut Engine,
    request: RequestId,
    place: (FileId, Name),
    known: Option<(FileId, FileRecord)>,
    number: u64,
) {
    let (seen, born) = (engine.folder.seen(number), known.is_none());
    let (file, mut record) = known.unwrap_or_else(|| {
        let Ok(file) = engine.map.new_file();
        (file, FileRecord::new(seen.inode, Signature::default(), meta(&seen)))
    });
    record.signature = Signature::default();
    engine.map.rebind(file, &record, seen.inode);
    let version = VersionId(Position { origin: ORIGIN, epoch: engine.map.epoch, seq: Seq(1) });
    let row = RestoreRow { request, version, outcome: RestoreOutcome::Written };
    let note = RestoreNote { row, user: None, place: place.clone(), born };
    engine.restores.insert(file, note);
    engine.agenda.add_name(place.0, place.1, NameTask::default());
}

/// Returns the id of the `n`-th request.
fn request(n: u64) -> RequestId {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&n.to_le_bytes());
    RequestId(id)
}
