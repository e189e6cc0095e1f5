//! The store against a model that remembers everything: any question about any moment has the same answer.

mod answers;
mod memory;
pub(crate) mod random;

use std::sync::Arc;

use keepshare_base::{CommitId, FileId, Kind, Name};
use keepshare_versioning::{
    ASIDE_MICROS, Aside, BodyChanges, Store, StoreOptions,
    disk::sim::{Crash, Dice, SimDisk},
};

use crate::rig::{Edit, Master, NOW, Rig, options, seed};

pub(crate) use {answers::check_everything, memory::Memory};

use {
    answers::{At, check_history, check_names, check_state, check_versions},
    memory::pick,
};

const OPERATIONS: usize = 50_000;

/// Every operation there is, alone and together, with crashes and reopens in between.
#[test]
fn any_moment_reads_as_it_was() {
    let operations = match std::env::var("KEEPSHARE_OPERATIONS") {
        Ok(text) => text.parse().expect("KEEPSHARE_OPERATIONS is a number"),
        Err(_) => OPERATIONS,
    };
    let mut run = Run::new(seed());
    while run.operations < operations {
        run.step();
    }
    run.sync();
    run.check(2000);
    run.check_rebuilt();
    let (versions, commits) = run.forgotten();
    eprintln!("{versions} versions and {commits} commits have no row any more");
    assert!(operations < OPERATIONS || (versions > 10 && commits > 100), "it is about nothing");
}

struct Run {
    rig: Rig,
    memory: Memory,
    dice: Dice,
    operations: usize,
    /// The newest commit that was acknowledged, and the master at each commit since.
    durable: CommitId,
    masters: Vec<(CommitId, Master)>,
    /// Files that were saved often at one time.
    hot: Vec<FileId>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut rig = Rig::new();
        rig.store = open(&rig.disk);
        let masters = vec![(CommitId(0), rig.master.clone())];
        Self {
            rig,
            memory: Memory::default(),
            dice: Dice(seed),
            operations: 0,
            durable: CommitId(0),
            masters,
            hot: vec![],
        }
    }

    fn step(&mut self) {
        match self.dice.below(1000) {
            0 => self.crash(),
            1..=2 => self.expire(),
            3..=6 => {
                let versions = self.removable();
                self.set_aside(versions);
            }
            7..=8 => self.bring_back(),
            9..=20 => self.maintain(1),
            21..=30 => {
                self.sync();
                self.rig.store.flush().unwrap();
            }
            31 => {
                self.sync();
                self.rig.store.empty_packs().unwrap();
            }
            32..=33 => {
                self.sync();
                self.rig.store.set_live(CommitId(self.durable.0.saturating_sub(20)));
            }
            34..=150 => self.sync(),
            151 => self.pass_a_day(),
            153..=160 => self.save_often(),
            152 | 161..=250 => {
                self.sync();
                self.check(3);
            }
            _ => self.change(),
        }
    }

    fn change(&mut self) {
        let jump = if self.dice.below(50) == 0 { 120 } else { 1 };
        self.rig.master.now = self.rig.master.now.plus_micros(jump * crate::rig::SECOND);
        let (edit, operations) = random::edit(&mut self.dice, &mut self.rig.master, &self.memory);
        self.operations += operations;
        self.take_in(edit);
    }

    /// Saves one file again and again.
    fn save_often(&mut self) {
        let files = self.memory.present.values().filter(|(_, kind)| *kind == Kind::File);
        let Some(file) = pick(&mut self.dice, files).map(|(file, _)| *file) else { return };
        for _ in 0..4 + self.dice.below(12) {
            self.rig.master.now = self.rig.master.now.plus_micros(crate::rig::SECOND);
            let edit = random::save(&mut self.dice, file);
            self.take_in(edit);
        }
        self.hot.push(file);
        if self.dice.below(2) == 0 {
            let versions = self.memory.removable_run(&mut self.dice, file);
            self.set_aside(versions);
        }
    }

    fn take_in(&mut self, edit: Edit) {
        let incoming = self.rig.master.next(edit);
        let at = self.rig.store.commit(self.rig.master.now, &incoming).unwrap();
        self.memory.apply(at, &incoming);
        self.masters.push((at, self.rig.master.clone()));
    }

    fn sync(&mut self) {
        self.durable = self.rig.store.sync().unwrap();
        self.masters = vec![(self.durable, self.rig.master.clone())];
    }

    /// Loses power or the process, and with it nothing that was acknowledged.
    fn crash(&mut self) {
        let crash = match self.dice.below(3) {
            0 => Crash::LoseAll,
            1 => Crash::KeepAll,
            _ => Crash::Tear(self.dice.roll()),
        };
        let committed = self.rig.store.latest();
        self.rig.disk = self.rig.disk.reopen(crash);
        self.rig.store = open(&self.rig.disk);
        let latest = self.rig.store.latest();
        assert!(latest >= self.durable, "acknowledged {}, found {latest}", self.durable);
        assert!(latest <= committed, "found {latest}, taken in {committed}");
        self.memory.forget_after(latest);
        self.masters.retain(|(at, _)| *at <= latest);
        self.rig.master = self.masters.last().unwrap().1.clone();
        self.sync();
        self.check(30);
        if self.dice.below(6) == 0 {
            self.check_rebuilt();
        }
    }

    fn expire(&mut self) {
        let versions = self.removable();
        if versions.is_empty() {
            return;
        }
        let at = self.rig.store.expire(&versions).unwrap();
        self.memory.expire(at, &versions);
        self.sync();
    }

    /// Returns some versions, or such as stand next to each other.
    fn removable(&mut self) -> Vec<(FileId, CommitId)> {
        let file = match self.dice.below(3) {
            0 => None,
            1 => self.memory.some_file(&mut self.dice),
            _ => pick(&mut self.dice, self.hot.iter().rev().take(8)).copied(),
        };
        match file {
            Some(file) => self.memory.removable_run(&mut self.dice, file),
            None => self.memory.removable(&mut self.dice, 5),
        }
    }

    /// Puts versions aside. It may be lost with the next crash.
    fn set_aside(&mut self, mut versions: Vec<(FileId, CommitId)>) {
        versions.sort_unstable();
        let now = self.rig.master.now;
        let since = self.rig.store.running_micros(&now.into());
        let gone = self.rig.store.set_aside(now, since, &versions).unwrap();
        let gone: Vec<_> = gone.iter().map(|gone| (gone.file, gone.commit)).collect();
        assert_eq!(gone, versions);
        self.removed(|memory, at| memory.set_aside(at, since, &versions));
        assert_eq!(self.rig.store.set_aside(now, since, &versions).unwrap(), [], "twice");
        if self.dice.below(2) == 0 {
            self.sync();
            versions.into_iter().for_each(|(file, at)| self.check_file_at(file, At::commit(at)));
        }
    }

    /// Brings back some of what is aside.
    fn bring_back(&mut self) {
        let aside = self.memory.aside();
        let from = pick(&mut self.dice, aside.iter()).map_or(0, |aside| aside.since_micros);
        let limit = 1 + self.dice.below(8);
        let want = aside.into_iter().filter(|aside| aside.since_micros >= from).take(limit);
        let back = self.rig.store.bring_back(from, limit).unwrap();
        assert_eq!(back, want.collect::<Vec<_>>());
        self.removed(|memory, at| memory.bring_back(at, &back));
        self.sync();
        for Aside { file, commit, .. } in back {
            let state = self.rig.view().file(file, commit).unwrap().unwrap();
            let want = self.memory.file(file, commit).unwrap();
            assert_eq!((state.commit, want.at), (commit, commit));
            let same = self.rig.read(&state) == want.content.slice(0, want.content.len());
            assert!(same, "{file} at {commit}");
        }
    }

    fn removed(&mut self, remember: impl FnOnce(&mut Memory, CommitId)) {
        let at = self.rig.store.latest();
        remember(&mut self.memory, at);
        self.masters.push((at, self.rig.master.clone()));
    }

    /// Does so many steps of housekeeping at most, which let go of nothing but what is aside for a day.
    fn maintain(&mut self, steps: usize) {
        self.sync();
        let done = (0..steps).take_while(|_| self.rig.store.maintain().unwrap()).count();
        assert!(steps == 1 || done < steps, "it does not end");
        self.sync();
        let now_micros = self.rig.store.running_micros(&self.rig.master.now.into());
        let left = self.rig.aside();
        let gone: Vec<_> =
            self.memory.aside().into_iter().filter(|aside| !left.contains(aside)).collect();
        for gone in &gone {
            assert!(gone.since_micros + ASIDE_MICROS <= now_micros, "{gone:?} at {now_micros}");
        }
        let gone: Vec<_> = gone.iter().map(|gone| (gone.file, gone.commit)).collect();
        self.memory.expire(self.durable, &gone);
        assert_eq!(left, self.memory.aside());
    }

    /// Lets a day pass, or nearly, after which what is aside goes.
    fn pass_a_day(&mut self) {
        let short_of = self.dice.below(3) as i64 * 3600 * crate::rig::SECOND;
        let day = ASIDE_MICROS as i64 - short_of;
        self.rig.master.now = self.rig.master.now.plus_micros(day);
        self.rig.store.tick(self.rig.master.now);
        self.maintain(100_000);
        let now_micros = self.rig.store.running_micros(&self.rig.master.now.into());
        let overdue = |aside: &Aside| aside.since_micros + ASIDE_MICROS <= now_micros;
        assert!(!self.memory.aside().iter().any(overdue), "at {now_micros}");
    }

    /// Builds the index anew from the log and compares every table.
    fn check_rebuilt(&self) {
        let disk = self.rig.disk.reopen(Crash::KeepAll);
        keepshare_versioning::disk::Disk::remove(&disk, "index.redb").unwrap();
        let rebuilt = open(&disk);
        assert_eq!(rebuilt.latest(), self.rig.store.latest());
        let digests = |store: &Store| store.reader().view().unwrap().digests().unwrap();
        assert_eq!(digests(&rebuilt), digests(&self.rig.store));
        check_names(&self.rig.view(), &self.memory, "as it came");
        check_names(&rebuilt.reader().view().unwrap(), &self.memory, "built anew");
    }

    /// Returns how many versions and commits there were that have no row any more.
    fn forgotten(&self) -> (usize, usize) {
        let view = self.rig.view();
        let lacks = |file| self.memory.versions(file).len() - view.versions(file).unwrap().len();
        let is_gone = |at: &CommitId| view.commit_info(*at).unwrap().is_none();
        let commits = self.memory.commits().map(|(at, _, _)| at).filter(is_gone);
        (self.memory.all_files().map(lacks).sum(), commits.count())
    }

    fn check(&mut self, questions: usize) {
        for _ in 0..questions {
            let at = match self.dice.below(4) {
                0 => At::commit(NOW),
                1 => pick(&mut self.dice, self.memory.commits())
                    .map_or(At::commit(NOW), |commit| At::asked(&self.rig.view(), commit)),
                _ => At::commit(CommitId(self.dice.roll() % (self.durable.0 + 1))),
            };
            match self.dice.below(8) {
                0 => self.check_lookup(at),
                1 => self.check_list(at),
                2 => self.check_file(at),
                3 => self.check_versions(),
                4 => self.check_history(),
                5 => self.check_links(at),
                6 => assert_eq!(self.rig.aside(), self.memory.aside()),
                _ => self.check_changes(at.meant),
            }
        }
    }

    fn some_name(&mut self) -> Option<(FileId, Name)> {
        self.memory.some_name(&mut self.dice)
    }

    fn check_lookup(&mut self, at: At) {
        let Some((parent, name)) = self.some_name() else { return };
        let got = self.rig.view().lookup(parent, &name, at.told).unwrap();
        assert_eq!(got, self.memory.lookup(parent, &name, at.meant), "{name} in {parent}, {at:?}");
    }

    fn check_list(&mut self, at: At) {
        let Some((parent, _)) = self.some_name() else { return };
        let page = 1 + self.dice.below(5);
        let view = self.rig.view();
        let mut got: Vec<(Name, FileId)> = vec![];
        loop {
            let after = got.last().map(|(name, _)| name.clone());
            let entries = view.list(parent, at.told, after.as_ref(), page).unwrap();
            let done = entries.len() < page;
            got.extend(entries.into_iter().map(|entry| (entry.name, entry.file)));
            if done {
                break;
            }
        }
        assert_eq!(got, self.memory.list(parent, at.meant), "{parent}, {at:?}");
    }

    fn check_file(&mut self, at: At) {
        if let Some(file) = self.memory.some_file(&mut self.dice) {
            self.check_file_at(file, at);
        }
    }

    fn check_file_at(&mut self, file: FileId, at: At) {
        let got = check_state(&self.rig.view(), &self.memory, file, at, "");
        let (Some(got), Some(want)) = (got, self.memory.file(file, at.meant)) else { return };
        if got.expired {
            assert!(self.rig.reader().read(&got, 0, 1).is_err() || got.meta.size == 0);
            return;
        }
        assert_eq!((got.meta.size, got.cut), (want.content.len(), want.is_cut()));
        let offset = self.dice.roll() % (got.meta.size + 2);
        let len = self.dice.below(150_000);
        let bytes = self.rig.reader().read(&got, offset, len).unwrap();
        let end = got.meta.size.min(offset + len as u64);
        assert!(bytes == want.content.slice(offset, end), "{file}, {at:?}, {offset}..{end}");
    }

    fn check_versions(&mut self) {
        let Some(file) = self.memory.some_file(&mut self.dice) else { return };
        check_versions(&self.rig.view(), &self.memory, file, "");
    }

    fn check_history(&mut self) {
        let Some((parent, name)) = self.some_name() else { return };
        let limit = 1 + self.dice.below(40);
        check_history(&self.rig.view(), &self.memory, (parent, &name), limit, "");
    }

    fn check_links(&mut self, at: At) {
        let Some(file) = self.memory.some_file(&mut self.dice) else { return };
        let got = self.rig.view().links(file, at.told).unwrap();
        assert_eq!(got, self.memory.links(file, at.meant), "{file}, {at:?}");
    }

    /// Bytes outside the ranges are what they were.
    fn check_changes(&mut self, after: CommitId) {
        let Some(file) = self.memory.some_file(&mut self.dice) else { return };
        let Some(state) = self.rig.view().file(file, NOW).unwrap() else { return };
        let (Some(now), Some(then)) = (self.memory.newest(file), self.memory.was(file, after))
        else {
            return;
        };
        let changes = self.rig.view().body_changes(&state, after).unwrap();
        let BodyChanges::Ranges(ranges) = changes else { return };
        let now_bytes = now.content.slice(0, now.content.len());
        let mut want = then.content.slice(0, then.content.len());
        want.resize(now_bytes.len(), 0);
        for range in ranges {
            let range = range.start as usize..range.end as usize;
            want[range.clone()].copy_from_slice(&now_bytes[range]);
        }
        assert!(want == now_bytes, "{file} changed elsewhere since {after}");
    }
}

fn open(disk: &SimDisk) -> Store {
    let options = StoreOptions { log_bytes_min: 512 * 1024, let_go_min: 64, ..options() };
    Store::open(Arc::new(disk.clone()), options).unwrap().0
}
