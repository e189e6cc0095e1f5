//! A folder that people work in, and what is told of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use keepshare_base::{FileTime, Kind};
use keepshare_decide::{Inode, Marks, Object, Seen, Signature, Touch};
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};

use super::survey::hash_of;
use crate::clocks::BEGAN;

/// The folder itself.
pub(crate) const ROOT: u64 = 1;

/// The names that people use: few, so that they are used again and again.
const NAMES: &[&str] = &["a", "b", "c", "d", "report", "~tmp"];

/// The most objects, and the deepest folder.
const OBJECTS_MAX: usize = 40;
const DEPTH_MAX: usize = 4;

/// Something in the folder.
#[derive(Clone, Debug)]
pub(crate) struct Thing {
    /// When it was made; no two things are made at one moment.
    pub(crate) birth: u64,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) content: String,
    mtime: i64,
    ctime: i64,
}

/// A content that a thing held from one moment to another.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) birth: u64,
    pub(crate) content: String,
    /// When its writer closed it, where that was told.
    pub(crate) closed: Option<u64>,
    /// Until when it was there.
    pub(crate) until: Option<u64>,
}

/// What is told of the folder, once it is told.
#[derive(Clone, Debug)]
struct Told {
    due: u64,
    folder: u64,
    name: String,
    touch: Touch,
}

/// A folder that people work in.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    pub(crate) things: BTreeMap<u64, Thing>,
    pub(crate) names: BTreeMap<(u64, String), u64>,
    /// Names over which something is mounted.
    pub(crate) mounted: BTreeSet<(u64, String)>,
    /// Everything that was ever held.
    pub(crate) held: Vec<Held>,
    /// What was saved last; its number may have been given to something else.
    last_saved: Option<u64>,
    /// Things that somebody has open, and goes on to write.
    open: BTreeSet<u64>,
    /// What lies in the private folder of restores: what these write, and what they replaced. Whether it is the former.
    pub(crate) aside: BTreeMap<u64, bool>,
    /// What was in things that restores replaced when they were removed from there.
    pub(crate) parted: Vec<String>,
    told: VecDeque<Told>,
    births: u64,
    now: u64,
    /// The clock of the file system ticks this often; 0: its times tell every modification.
    tick: u64,
    exact: u64,
    /// What the machine's clock is off by, in microseconds, which such a file system takes its times from.
    skew: i64,
    /// How late something is told at most, in microseconds, beside the time until somebody asks.
    pub(crate) late: u64,
    /// How often something is written without being told.
    pub(crate) silence: f64,
    /// Something was, since the last scan.
    pub(crate) was_silent: bool,
    /// Files get second names. Who writes by one and removes it at once is found by a scan only, which finds all else as well.
    pub(crate) has_links: bool,
    /// How often all of it goes away, as when its disk is taken out: whoever holds it open sees nothing in it.
    pub(crate) vanishes: f64,
    /// It has.
    pub(crate) is_away: bool,
}

const CLOSED: Touch = Touch { modified: false, closed: true, moved: false };
const MODIFIED: Touch = Touch { modified: true, closed: false, moved: false };
const MOVED: Touch = Touch { modified: false, closed: false, moved: true };

impl Folder {
    pub(crate) fn new(tick: u64) -> Self {
        let mut folder = Self {
            things: BTreeMap::new(),
            names: BTreeMap::new(),
            mounted: BTreeSet::new(),
            held: Vec::new(),
            last_saved: None,
            open: BTreeSet::new(),
            aside: BTreeMap::new(),
            parted: Vec::new(),
            told: VecDeque::new(),
            births: 0,
            now: 0,
            tick,
            exact: 0,
            skew: 0,
            late: 0,
            silence: 0.0,
            was_silent: false,
            has_links: true,
            vanishes: 0.0,
            is_away: false,
        };
        folder.make(Kind::Dir);
        folder
    }

    /// Tells whether its times tell every modification.
    pub(crate) fn has_exact_times(&self) -> bool {
        self.tick == 0
    }

    pub(crate) fn set_now(&mut self, now: u64) {
        self.now = self.now.max(now);
    }

    /// Sets what the machine's clock is off by.
    pub(crate) fn set_skew(&mut self, micros: i64) {
        self.skew = micros;
    }

    /// Takes what is told by now.
    pub(crate) fn drain(&mut self, marks: &mut Marks) {
        while self.told.front().is_some_and(|told| told.due <= self.now) {
            let Some(Told { folder, name, touch, .. }) = self.told.pop_front() else { break };
            marks.name(folder, name.as_bytes(), touch);
        }
    }

    /// Loses what was not told yet.
    pub(crate) fn lose_told(&mut self) {
        self.told.clear();
    }

    /// Tells whether all was told.
    pub(crate) fn has_told_all(&self) -> bool {
        self.told.is_empty()
    }

    /// What is seen of a thing.
    pub(crate) fn seen(&self, number: u64) -> Seen {
        let thing = &self.things[&number];
        let names = self.names.values().filter(|named| **named == number).count();
        // The private folder has a name for it as any other folder has.
        let links = names + usize::from(self.aside.contains_key(&number));
        Seen {
            inode: Inode { number, birth: of_birth(thing.birth) },
            kind: thing.kind,
            signature: Signature {
                size: thing.content.len() as u64,
                mtime: time(thing.mtime),
                ctime: time(thing.ctime),
            },
            links: u32::try_from(links.max(1)).expect("few names"),
            mode: thing.mode,
            user: 0,
            group: 0,
            rdev: 0,
            device: 1,
        }
    }

    /// Returns the folder at a path, if there is one.
    pub(crate) fn walk(&self, names: &[String]) -> Result<u64, bool> {
        let mut at = ROOT;
        for name in names {
            if self.mounted.contains(&(at, name.clone())) {
                return Err(true);
            }
            match self.names.get(&(at, name.clone())) {
                Some(number) if self.things[number].kind == Kind::Dir => at = *number,
                _ => return Err(false),
            }
        }
        Ok(at)
    }

    /// Returns everything by path: kind, mode and content.
    pub(crate) fn tree(&self) -> BTreeMap<String, (Kind, u32, String)> {
        let mut found = BTreeMap::new();
        let mut folders = vec![(ROOT, String::new())];
        while let Some((folder, path)) = folders.pop() {
            for ((_, name), number) in
                self.names.range((folder, String::new())..(folder + 1, String::new()))
            {
                let path = format!("{path}/{name}");
                let thing = &self.things[number];
                if thing.kind == Kind::Dir {
                    folders.push((*number, path.clone()));
                }
                found.insert(path, (thing.kind, thing.mode, thing.content.clone()));
            }
        }
        found
    }

    /// A folder that is away may be put back, which nobody does while somebody looks at it.
    pub(crate) fn may_return(&mut self, random: &mut StdRng) {
        self.is_away = self.is_away && random.random_bool(0.9);
    }

    /// Somebody does something.
    pub(crate) fn act(&mut self, random: &mut StdRng) {
        self.now += random.random_range(1..300);
        self.is_away = self.is_away || (self.vanishes > 0.0 && random.random_bool(self.vanishes));
        if self.is_away {
            return;
        }
        match random.random_range(0..19) {
            17 => self.write_on(random),
            18 => self.move_what_is_worked_in(random),
            0..=3 => self.save(random),
            4 => self.write_only(random),
            5 => self.save_beside(random),
            6 => self.make_file(random),
            7 => self.make_folder(random),
            8 | 9 => self.rename(random),
            10 => self.exchange(random),
            11 => self.remove(random),
            12 => self.remove_folder(random),
            13 => self.link(random),
            14 => self.change_mode(random),
            15 => self.move_to_and_fro(random),
            _ => self.rename_folder(random),
        }
    }

    fn stamp(&mut self) -> i64 {
        let signed = |micros: u64| i64::try_from(micros).expect("a short life");
        if self.tick == 0 {
            self.exact = (self.exact + 1).max(self.now);
            return signed(self.exact);
        }
        let (now, tick) = (signed(self.now) + self.skew, signed(self.tick));
        now - now.rem_euclid(tick)
    }

    fn make(&mut self, kind: Kind) -> u64 {
        // The lowest number that is free, as file systems do: it is given again at once.
        let number = (ROOT..).find(|number| !self.things.contains_key(number)).expect("there are");
        self.births += 1;
        let at = self.stamp();
        let mode = if kind == Kind::Dir { 0o755 } else { 0o644 };
        let content = String::new();
        let birth = self.births;
        self.things.insert(number, Thing { birth, kind, mode, content, mtime: at, ctime: at });
        number
    }

    fn tell(&mut self, random: &mut StdRng, folder: u64, name: &str, touch: Touch) {
        let after = self.told.back().map_or(0, |told| told.due);
        let due = (self.now + random.random_range(0..=self.late)).max(after);
        self.told.push_back(Told { due, folder, name: name.to_owned(), touch });
    }

    /// A folder's own times change with its names.
    fn touch_folder(&mut self, folder: u64) {
        let at = self.stamp();
        if let Some(thing) = self.things.get_mut(&folder) {
            (thing.mtime, thing.ctime) = (at, at);
        }
    }

    fn write(&mut self, number: u64) {
        let at = self.stamp();
        let now = self.now;
        let thing = self.things.get_mut(&number).expect("it is there");
        let birth = thing.birth;
        self.held
            .iter_mut()
            .rev()
            .filter(|held| held.birth == birth && held.until.is_none())
            .for_each(|held| held.until = Some(now));
        // Which thing it is of, and which state: no two contents are the same.
        let content = format!("{birth}:{}", self.held.len());
        thing.content.clone_from(&content);
        (thing.mtime, thing.ctime) = (at, at);
        self.held.push(Held { birth, content, closed: None, until: None });
    }

    fn close(&mut self, number: u64) {
        let (birth, now) = (self.things[&number].birth, self.now);
        let held = self.held.iter_mut().rev().find(|held| held.birth == birth);
        held.into_iter().for_each(|held| held.closed = Some(now));
    }

    fn save(&mut self, random: &mut StdRng) {
        // Most of what is saved was saved just before.
        let last = self.last_saved.filter(|_| random.random_bool(0.5));
        let last = self
            .names
            .iter()
            .find(|(_, number)| last == Some(**number) && self.things[number].kind == Kind::File);
        let last = last.map(|((folder, name), number)| (*folder, name.clone(), *number));
        let Some((folder, name, number)) = last.or_else(|| self.some(random, Kind::File)) else {
            return;
        };
        self.last_saved = Some(number);
        self.write(number);
        if random.random_bool(self.silence) {
            self.was_silent = true;
            return;
        }
        self.tell(random, folder, &name, MODIFIED);
        self.now += random.random_range(0..200);
        self.close(number);
        self.tell(random, folder, &name, CLOSED);
    }

    /// Whoever writes goes on to have it open.
    fn write_only(&mut self, random: &mut StdRng) {
        let Some((folder, name, number)) = self.some(random, Kind::File) else { return };
        self.write(number);
        self.open.insert(number);
        self.tell(random, folder, &name, MODIFIED);
    }

    /// Whoever opens a file by its name as that stands for it writes into it, and may go on to have it open.
    pub(crate) fn write_at(&mut self, random: &mut StdRng, place: &(u64, String)) {
        let Some(number) = self.names.get(place).copied() else { return };
        self.now += random.random_range(1..300);
        self.write(number);
        self.open.insert(number);
        self.tell(random, place.0, &place.1, MODIFIED);
        if random.random_bool(0.5) {
            self.let_go(random, number);
        }
    }

    /// Whoever has something open writes into it, whatever became of its name, and may be done with it.
    fn write_on(&mut self, random: &mut StdRng) {
        let open: Vec<u64> = self.open.iter().copied().collect();
        let Some(number) = open.choose(random).copied() else { return };
        self.write(number);
        self.tell_of(random, number, MODIFIED);
        if random.random_bool(0.5) {
            self.let_go(random, number);
        }
    }

    fn let_go(&mut self, random: &mut StdRng, number: u64) {
        self.open.remove(&number);
        self.close(number);
        self.tell_of(random, number, CLOSED);
    }

    /// Whoever has something open is done with it.
    pub(crate) fn close_all(&mut self, random: &mut StdRng) {
        while let Some(number) = self.open.first().copied() {
            self.let_go(random, number);
        }
    }

    /// Tells whether somebody goes on to write a thing.
    pub(crate) fn is_open(&self, number: u64) -> bool {
        self.open.contains(&number)
    }

    /// Tells of a thing by one of its names, where it has any.
    fn tell_of(&mut self, random: &mut StdRng, number: u64, touch: Touch) {
        let place = self.names.iter().find(|(_, named)| **named == number);
        if let Some((folder, name)) = place.map(|(place, _)| place.clone()) {
            self.tell(random, folder, &name, touch);
        }
    }

    /// Something new is written where nobody looks.
    pub(crate) fn make_aside(&mut self) -> u64 {
        let number = self.make(Kind::File);
        self.aside.insert(number, true);
        self.write(number);
        self.close(number);
        number
    }

    /// What is there is exchanged with what has a name, which is returned; `None`: nothing has that name.
    pub(crate) fn exchange_aside(
        &mut self,
        random: &mut StdRng,
        number: u64,
        place: &(u64, String),
    ) -> Option<u64> {
        let out = self.names.get(place).copied()?;
        self.aside.insert(out, false);
        self.name_aside(random, number, place);
        let at = self.stamp();
        self.things.get_mut(&out).expect("it is there").ctime = at;
        Some(out)
    }

    /// What is there gets a name that nothing has.
    pub(crate) fn name_aside(&mut self, random: &mut StdRng, number: u64, place: &(u64, String)) {
        self.aside.remove(&number);
        self.names.insert(place.clone(), number);
        let at = self.stamp();
        self.things.get_mut(&number).expect("it is there").ctime = at;
        self.touch_folder(place.0);
        self.tell(random, place.0, &place.1, MOVED);
    }

    /// What is there is not there any more.
    pub(crate) fn lose_aside(&mut self, number: u64) {
        self.aside.remove(&number);
        self.drop_if_nameless(number);
    }

    /// What is there goes. What another name stands for goes on to be there: nothing parts with it.
    pub(crate) fn discard_aside(&mut self, number: u64) {
        let is_ours = self.aside.remove(&number).expect("it is there");
        let has_name = self.names.values().any(|named| *named == number);
        if !(has_name || is_ours && self.is_as_written(number)) {
            self.parted.push(self.things[&number].content.clone());
        }
        self.drop_if_nameless(number);
    }

    /// Tells whether nobody wrote into a thing since it was made.
    fn is_as_written(&self, number: u64) -> bool {
        let thing = &self.things[&number];
        let first = self.held.iter().find(|held| held.birth == thing.birth);
        first.is_some_and(|first| first.content == thing.content)
    }

    /// As editors do: written beside, and renamed over.
    fn save_beside(&mut self, random: &mut StdRng) {
        let Some((folder, name, _)) = self.some(random, Kind::File) else { return };
        let beside = "~new";
        if self.names.contains_key(&(folder, beside.to_owned())) || self.is_full() {
            return;
        }
        let number = self.make(Kind::File);
        self.names.insert((folder, beside.to_owned()), number);
        self.tell(random, folder, beside, Touch::default());
        self.write(number);
        self.tell(random, folder, beside, MODIFIED);
        self.close(number);
        self.tell(random, folder, beside, CLOSED);
        self.now += random.random_range(0..2000);
        self.rename_to(random, (folder, beside.to_owned()), (folder, name));
    }

    fn make_file(&mut self, random: &mut StdRng) {
        let Some(place) = self.free(random) else { return };
        let number = self.make(Kind::File);
        self.names.insert(place.clone(), number);
        self.touch_folder(place.0);
        self.write(number);
        self.close(number);
        self.tell(random, place.0, &place.1, MODIFIED);
        self.tell(random, place.0, &place.1, CLOSED);
    }

    fn make_folder(&mut self, random: &mut StdRng) {
        let Some(place) = self.free(random) else { return };
        let number = self.make(Kind::Dir);
        self.names.insert(place.clone(), number);
        self.touch_folder(place.0);
        self.tell(random, place.0, &place.1, Touch::default());
    }

    fn rename(&mut self, random: &mut StdRng) {
        let (Some((folder, name, _)), Some(to)) =
            (self.some(random, Kind::File), self.place(random))
        else {
            return;
        };
        if self.names.get(&to).is_none_or(|number| self.things[number].kind == Kind::File) {
            self.rename_to(random, (folder, name), to);
        }
    }

    fn rename_folder(&mut self, random: &mut StdRng) {
        let (Some((folder, name, number)), Some(to)) =
            (self.some(random, Kind::Dir), self.free(random))
        else {
            return;
        };
        let depth = self.depth(to.0) + 1 + self.height(number);
        if !self.is_inside(to.0, number) && depth <= DEPTH_MAX {
            self.rename_to(random, (folder, name), to);
        }
    }

    /// Away and back, so that what is told at the end says nothing of where it is.
    fn move_to_and_fro(&mut self, random: &mut StdRng) {
        let kind = if random.random_bool(0.5) { Kind::Dir } else { Kind::File };
        let (Some((folder, name, number)), Some(to)) = (self.some(random, kind), self.free(random))
        else {
            return;
        };
        let depth = self.depth(to.0) + 1 + self.height(number);
        if self.is_inside(to.0, number) || depth > DEPTH_MAX {
            return;
        }
        for _ in 0..random.random_range(1..4) {
            self.rename_to(random, (folder, name.clone()), to.clone());
            self.now += random.random_range(0..3000);
            self.rename_to(random, to.clone(), (folder, name.clone()));
        }
    }

    fn rename_to(&mut self, random: &mut StdRng, from: (u64, String), to: (u64, String)) {
        if from == to {
            return;
        }
        let Some(number) = self.names.get(&from).copied() else { return };
        if self.names.get(&to) == Some(&number) {
            return;
        }
        self.names.remove(&from);
        let replaced = self.names.insert(to.clone(), number);
        let at = self.stamp();
        self.things.get_mut(&number).expect("it is there").ctime = at;
        self.touch_folder(from.0);
        self.touch_folder(to.0);
        replaced.into_iter().for_each(|number| self.drop_if_nameless(number));
        self.tell(random, from.0, &from.1, Touch::default());
        self.tell(random, to.0, &to.1, MOVED);
    }

    fn exchange(&mut self, random: &mut StdRng) {
        let kind = if random.random_bool(0.5) { Kind::Dir } else { Kind::File };
        self.exchange_kind(random, kind);
    }

    fn exchange_kind(&mut self, random: &mut StdRng, kind: Kind) {
        let (Some(one), Some(other)) = (self.some(random, kind), self.some(random, kind)) else {
            return;
        };
        let within = self.is_inside(one.0, other.2) || self.is_inside(other.0, one.2);
        let deep = self.depth(one.0) + 1 + self.height(other.2);
        let deep = deep.max(self.depth(other.0) + 1 + self.height(one.2));
        if one.2 == other.2 || within || deep > DEPTH_MAX {
            return;
        }
        self.names.insert((one.0, one.1.clone()), other.2);
        self.names.insert((other.0, other.1.clone()), one.2);
        let at = self.stamp();
        for number in [one.2, other.2] {
            self.things.get_mut(&number).expect("it is there").ctime = at;
        }
        self.touch_folder(one.0);
        self.touch_folder(other.0);
        self.tell(random, one.0, &one.1, MOVED);
        self.tell(random, other.0, &other.1, MOVED);
    }

    /// A folder goes elsewhere while somebody saves in it, and another one may come where it was.
    fn move_what_is_worked_in(&mut self, random: &mut StdRng) {
        self.save(random);
        if random.random_bool(0.5) {
            self.exchange_kind(random, Kind::Dir);
        } else {
            self.rename_folder(random);
        }
        self.save(random);
    }

    fn remove(&mut self, random: &mut StdRng) {
        let Some((folder, name, number)) = self.some(random, Kind::File) else { return };
        self.names.remove(&(folder, name.clone()));
        self.touch_folder(folder);
        self.drop_if_nameless(number);
        self.tell(random, folder, &name, Touch::default());
    }

    fn remove_folder(&mut self, random: &mut StdRng) {
        let Some((folder, name, number)) = self.some(random, Kind::Dir) else { return };
        if random.random_bool(0.5) {
            return;
        }
        self.empty(random, number);
        self.names.remove(&(folder, name.clone()));
        self.touch_folder(folder);
        self.drop_if_nameless(number);
        self.tell(random, folder, &name, Touch::default());
    }

    fn empty(&mut self, random: &mut StdRng, folder: u64) {
        let inside: Vec<(u64, String)> =
            self.names.keys().filter(|(parent, _)| *parent == folder).cloned().collect();
        for place in inside {
            let number = self.names[&place];
            if self.things[&number].kind == Kind::Dir {
                self.empty(random, number);
            }
            self.now += random.random_range(0..50);
            self.names.remove(&place);
            self.mounted.remove(&place);
            self.drop_if_nameless(number);
            self.tell(random, place.0, &place.1, Touch::default());
        }
    }

    fn link(&mut self, random: &mut StdRng) {
        let (Some((_, _, number)), Some(to)) = (self.some(random, Kind::File), self.free(random))
        else {
            return;
        };
        if !self.has_links {
            return;
        }
        self.names.insert(to.clone(), number);
        self.was_silent = true;
        let at = self.stamp();
        self.things.get_mut(&number).expect("it is there").ctime = at;
        self.touch_folder(to.0);
        self.tell(random, to.0, &to.1, Touch::default());
    }

    fn change_mode(&mut self, random: &mut StdRng) {
        let Some((folder, name, number)) = self.some(random, Kind::File) else { return };
        let at = self.stamp();
        let thing = self.things.get_mut(&number).expect("it is there");
        thing.mode ^= 0o040;
        thing.ctime = at;
        self.tell(random, folder, &name, Touch::default());
    }

    /// Something is mounted over a name, or what was mounted goes; returns the name.
    pub(crate) fn mount(&mut self, random: &mut StdRng) -> Option<(u64, String)> {
        let (folder, name, _) = self.some(random, Kind::Dir)?;
        let place = (folder, name);
        if !self.mounted.remove(&place) {
            self.mounted.insert(place.clone());
        }
        Some(place)
    }

    fn drop_if_nameless(&mut self, number: u64) {
        if self.names.values().all(|named| *named != number)
            && !self.aside.contains_key(&number)
            && let Some(thing) = self.things.remove(&number)
        {
            self.open.remove(&number);
            let now = self.now;
            let held = self.held.iter_mut().rev().filter(|held| held.birth == thing.birth);
            held.filter(|held| held.until.is_none()).for_each(|held| held.until = Some(now));
        }
    }

    /// Returns something of a kind that has a name. What nobody hashes is seldom what people are at.
    pub(crate) fn some(&self, random: &mut StdRng, kind: Kind) -> Option<(u64, String, u64)> {
        let is_at_rest = random.random_bool(0.9);
        let is_hashed = |number: &u64| hash_of(self.things[number].content.as_bytes()).is_some();
        let of_kind = self.names.iter().filter(|(_, number)| self.things[number].kind == kind);
        let of_kind = of_kind.filter(|(_, number)| !is_at_rest || is_hashed(number));
        let all: Vec<_> =
            of_kind.map(|((folder, name), number)| (*folder, name, *number)).collect();
        all.choose(random).map(|(folder, name, number)| (*folder, (*name).clone(), *number))
    }

    fn place(&self, random: &mut StdRng) -> Option<(u64, String)> {
        let folders = self.things.iter().filter(|(_, thing)| thing.kind == Kind::Dir);
        let folders: Vec<u64> = folders
            .map(|(number, _)| *number)
            .filter(|number| self.depth(*number) < DEPTH_MAX)
            .collect();
        Some((*folders.choose(random)?, (*NAMES.choose(random)?).to_owned()))
    }

    fn free(&self, random: &mut StdRng) -> Option<(u64, String)> {
        if self.is_full() {
            return None;
        }
        self.place(random).filter(|place| !self.names.contains_key(place))
    }

    fn is_full(&self) -> bool {
        self.things.len() >= OBJECTS_MAX
    }

    fn parent(&self, number: u64) -> Option<u64> {
        self.names.iter().find(|(_, named)| **named == number).map(|((folder, _), _)| *folder)
    }

    fn depth(&self, mut number: u64) -> usize {
        let mut depth = 0;
        while let Some(parent) = self.parent(number) {
            depth += 1;
            number = parent;
        }
        depth
    }

    fn height(&self, number: u64) -> usize {
        let inside = self.names.iter().filter(|((folder, _), _)| *folder == number);
        inside.map(|(_, child)| 1 + self.height(*child)).max().unwrap_or(0)
    }

    fn is_inside(&self, mut number: u64, folder: u64) -> bool {
        loop {
            if number == folder {
                return true;
            }
            match self.parent(number) {
                Some(parent) => number = parent,
                None => return false,
            }
        }
    }
}

/// Returns which object this is, as capture knows it.
pub(crate) fn object(number: u64, birth: u64) -> Object {
    Object { number, birth: of_birth(birth) }
}

fn of_birth(birth: u64) -> FileTime {
    time(i64::try_from(birth).expect("a short life"))
}

fn time(micros: i64) -> FileTime {
    let secs = micros.div_euclid(1_000_000);
    let nanos = u32::try_from(micros.rem_euclid(1_000_000)).expect("less than a second") * 1000;
    FileTime { secs: BEGAN.0 / 1_000_000 + secs, nanos }
}
