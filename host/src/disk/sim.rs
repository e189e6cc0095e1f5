//! A disk in memory that forgets, tears, fills up and fails on command: for tests, which turn the feature `sim` on.
//!
//! It keeps two images: what programs see, and what is durable. A sync copies sectors from one to the other; a crash
//! throws the first away, or lets some of its sectors through. Unlike most file systems it never makes a name durable
//! without being asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Disk, DiskFile, RESERVE_BYTES, split_name};

/// The unit that a disk writes whole or not at all, in bytes.
pub const SECTOR_BYTES: usize = 512;

/// What a crash leaves of what was not synced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Crash {
    /// Nothing.
    LoseAll,
    /// Everything, as when only the process dies.
    KeepAll,
    /// Some of the sectors and a beginning of the name changes, chosen by the seed.
    Tear(u64),
}

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

impl fmt::Debug for SimDisk {
    /// Writes no contents: they would fill the screen of a failing test.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk").finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// Name changes that no sync has made durable, in order.
    name_changes: Vec<NameChange>,
    reserve: bool,
    capacity: Option<u64>,
    writes: u64,
    syncs: u64,
    crash_at_write: Option<u64>,
    crash_at: Option<u64>,
    fail_syncs: BTreeSet<u64>,
    dead: bool,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    seen: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors that the next sync makes durable.
    dirty: BTreeSet<usize>,
}

#[derive(Clone, Debug)]
struct NameChange {
    name: String,
    inode: Option<usize>,
    /// Belongs to the change before it: the other half of a rename.
    joined: bool,
}

impl SimDisk {
    /// Returns an empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns how many syncs (of files and folders) were asked for.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// Returns how many writes (of bytes, lengths and names) were asked for.
    pub fn writes(&self) -> u64 {
        self.state().writes
    }

    /// Makes the disk die at the `n`-th sync from the beginning, counted from 1, before it does anything.
    pub fn crash_at(&self, n: u64) {
        self.state().crash_at = Some(n);
    }

    /// Makes the disk die at the `n`-th write from the beginning, counted from 1, before it does anything.
    pub fn crash_at_write(&self, n: u64) {
        self.state().crash_at_write = Some(n);
    }

    /// Makes the `n`-th sync fail with an input/output error and lose what it should have kept, silently from then on.
    pub fn fail_sync(&self, n: u64) {
        self.state().fail_syncs.insert(n);
    }

    /// Sets how many bytes the files may have in all.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Returns how many bytes the files have in all.
    pub fn used_bytes(&self) -> u64 {
        self.state().used_bytes()
    }

    /// Returns the disk as the next start finds it after losing power now.
    #[must_use]
    pub fn reopen(&self, crash: Crash) -> Self {
        let state = self.state();
        let (names, inodes) = match crash {
            Crash::LoseAll => (state.durable_names.clone(), state.inodes.clone()),
            Crash::KeepAll => {
                let keep = |inode: &Inode| Inode { durable: inode.seen.clone(), ..inode.clone() };
                (state.names.clone(), state.inodes.iter().map(keep).collect())
            }
            Crash::Tear(seed) => state.torn(&mut Dice(seed)),
        };
        let inode = |inode: Inode| Inode {
            seen: inode.durable.clone(),
            durable: inode.durable,
            dirty: BTreeSet::new(),
        };
        let next = State {
            inodes: inodes.into_iter().map(inode).collect(),
            names: names.clone(),
            durable_names: names,
            reserve: state.reserve,
            capacity: state.capacity,
            ..State::default()
        };
        Self { state: Arc::new(Mutex::new(next)) }
    }

    /// Flips one bit of a file, on the disk itself.
    pub fn flip(&self, name: &str, offset: u64, bit: u8) {
        self.change(name, |bytes| {
            if let Some(byte) = bytes.get_mut(index(offset)) {
                *byte ^= 1 << bit;
            }
        });
    }

    /// Puts `bytes` at `offset` of a file, on the disk itself.
    pub fn patch(&self, name: &str, offset: u64, bytes: &[u8]) {
        self.change(name, |old| {
            if let Some(old) = old.get_mut(index(offset)..index(offset) + bytes.len()) {
                old.copy_from_slice(bytes);
            }
        });
    }

    /// Cuts a file, on the disk itself.
    pub fn truncate(&self, name: &str, len: u64) {
        self.change(name, |bytes| bytes.truncate(index(len)));
    }

    /// Returns the content of a file; empty where there is none.
    pub fn content(&self, name: &str) -> Vec<u8> {
        let state = self.state();
        state.names.get(name).map(|&inode| state.inodes[inode].seen.clone()).unwrap_or_default()
    }

    fn change(&self, name: &str, change: impl Fn(&mut Vec<u8>)) {
        let mut state = self.state();
        let inode = *state.names.get(name).expect("a test names a file that is there");
        change(&mut state.inodes[inode].seen);
        change(&mut state.inodes[inode].durable);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A failed test must not hide behind a second panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn alive(&self) -> io::Result<()> {
        if self.dead { Err(io::Error::other("the disk has no power")) } else { Ok(()) }
    }

    fn count_write(&mut self) -> io::Result<()> {
        self.alive()?;
        self.writes += 1;
        self.dead = self.crash_at_write == Some(self.writes);
        self.alive()
    }

    /// Counts a sync; an error says that it must not do anything.
    fn count_sync(&mut self) -> io::Result<()> {
        self.alive()?;
        self.syncs += 1;
        self.dead = self.crash_at == Some(self.syncs);
        self.alive()
    }

    fn used_bytes(&self) -> u64 {
        let live: BTreeSet<_> = self.names.values().collect();
        let files: u64 = live.iter().map(|&&inode| self.inodes[inode].seen.len() as u64).sum();
        files + if self.reserve { RESERVE_BYTES } else { 0 }
    }

    fn room(&self) -> u64 {
        self.capacity.map_or(u64::MAX, |bytes| bytes.saturating_sub(self.used_bytes()))
    }

    fn set_name(&mut self, name: &str, inode: Option<usize>, joined: bool) {
        match inode {
            Some(inode) => self.names.insert(name.to_owned(), inode),
            None => self.names.remove(name),
        };
        self.name_changes.push(NameChange { name: name.to_owned(), inode, joined });
    }

    fn torn(&self, dice: &mut Dice) -> (BTreeMap<String, usize>, Vec<Inode>) {
        let mut names = self.durable_names.clone();
        let kept = dice.below(self.name_changes.len() + 1);
        let rename_end = self.name_changes[kept..].iter().take_while(|change| change.joined);
        let kept = kept + rename_end.count();
        self.name_changes[..kept].iter().for_each(|change| change.apply(&mut names));
        let inodes = self.inodes.iter().map(|inode| inode.torn(dice)).collect();
        (names, inodes)
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self.inode {
            Some(inode) => names.insert(self.name.clone(), inode),
            None => names.remove(&self.name),
        };
    }

    fn is_in(&self, dir: &str) -> bool {
        self.name.rsplit_once('/').map_or("", |(dir, _)| dir) == dir
    }
}

impl Inode {
    fn write(&mut self, bytes: &[u8], offset: usize) {
        let end = offset + bytes.len();
        if end > self.seen.len() {
            self.set_len(end);
        }
        self.seen[offset..end].copy_from_slice(bytes);
        self.dirty.extend(offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES));
    }

    fn set_len(&mut self, len: usize) {
        let (from, to) = (self.seen.len().min(len), self.seen.len().max(len));
        self.dirty.extend(from / SECTOR_BYTES..to.div_ceil(SECTOR_BYTES));
        self.seen.resize(len, 0);
    }

    fn sync(&mut self) {
        self.durable.resize(self.seen.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            copy_sector(&self.seen, &mut self.durable, sector);
        }
    }

    fn torn(&self, dice: &mut Dice) -> Self {
        let mut durable = self.durable.clone();
        // An extended file may have any length on the way to the new one.
        let (short, long) = (self.durable.len().min(self.seen.len()), self.seen.len());
        let len = match dice.below(4) {
            0 => self.durable.len(),
            1 => short + dice.below(long - short + 1),
            _ => long,
        };
        durable.resize(len, 0);
        let share = 1 + dice.below(8);
        for &sector in &self.dirty {
            if dice.below(8) < share {
                copy_sector(&self.seen, &mut durable, sector);
            }
        }
        Self { durable, ..self.clone() }
    }
}

impl Disk for SimDisk {
    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        split_name(name)?;
        let mut state = self.state();
        state.alive()?;
        let inode = match state.names.get(name) {
            Some(&inode) => inode,
            None if create => {
                state.count_write()?;
                state.inodes.push(Inode::default());
                let inode = state.inodes.len() - 1;
                state.set_name(name, Some(inode), false);
                inode
            }
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(Arc::new(SimFile { disk: self.clone(), inode }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let state = self.state();
        state.alive()?;
        let inside = |name: &String| {
            let (parent, file) = split_name(name).ok()?;
            (parent == dir).then(|| file.to_owned())
        };
        Ok(state.names.keys().filter_map(inside).collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.count_write()?;
        let inode = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        state.set_name(to, Some(inode), false);
        state.set_name(from, None, true);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.count_write()?;
        if !state.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.set_name(name, None, false);
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.state();
        state.count_sync()?;
        let n = state.syncs;
        let (done, open) = std::mem::take(&mut state.name_changes)
            .into_iter()
            .partition(|change: &NameChange| change.is_in(dir));
        state.name_changes = open;
        if state.fail_syncs.contains(&n) {
            return Err(io::Error::other("input/output error"));
        }
        let done: Vec<NameChange> = done;
        done.iter().for_each(|change| change.apply(&mut state.durable_names));
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.state().room())
    }

    fn hold_reserve(&self) -> io::Result<()> {
        let mut state = self.state();
        state.alive()?;
        if !state.reserve && state.room() < RESERVE_BYTES {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.reserve = true;
        Ok(())
    }

    fn release_reserve(&self) -> io::Result<bool> {
        let mut state = self.state();
        state.alive()?;
        Ok(std::mem::take(&mut state.reserve))
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: usize,
}

impl DiskFile for SimFile {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.disk.state();
        state.alive()?;
        let end = offset.checked_add(buf.len() as u64);
        let bytes = &state.inodes[self.inode].seen;
        match end {
            Some(end) if end <= bytes.len() as u64 => {
                buf.copy_from_slice(&bytes[index(offset)..index(end)]);
                Ok(())
            }
            Some(_) | None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.count_write()?;
        let growth = (offset + buf.len() as u64).saturating_sub(self.len_in(&state));
        let room = state.room();
        if growth <= room {
            state.inodes[self.inode].write(buf, index(offset));
            return Ok(());
        }
        let fits = index((buf.len() as u64).saturating_sub(growth - room));
        state.inodes[self.inode].write(&buf[..fits], index(offset));
        Err(io::ErrorKind::StorageFull.into())
    }

    fn len(&self) -> io::Result<u64> {
        let state = self.disk.state();
        state.alive()?;
        Ok(self.len_in(&state))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.count_write()?;
        if len.saturating_sub(self.len_in(&state)) > state.room() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.inodes[self.inode].set_len(index(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.count_sync()?;
        if state.fail_syncs.contains(&state.syncs) {
            // The kernel reports a failed writeback once and then holds the pages for clean.
            state.inodes[self.inode].dirty.clear();
            return Err(io::Error::other("input/output error"));
        }
        state.inodes[self.inode].sync();
        Ok(())
    }
}

impl SimFile {
    fn len_in(&self, state: &State) -> u64 {
        state.inodes[self.inode].seen.len() as u64
    }
}

/// Numbers from a seed (splitmix64): the same on every machine and in every version.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// Returns the next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `limit`, which is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        index(self.roll() % limit as u64)
    }
}

fn copy_sector(from: &[u8], to: &mut [u8], sector: usize) {
    let start = sector * SECTOR_BYTES;
    let end = (start + SECTOR_BYTES).min(from.len()).min(to.len());
    if start < end {
        to[start..end].copy_from_slice(&from[start..end]);
    }
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("files of a disk in memory fit in memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_synced_survives() {
        let disk = SimDisk::new();
        let file = disk.open("log/1", true).unwrap();
        file.write_all_at(b"abc", 0).unwrap();
        file.sync_data().unwrap();
        assert!(disk.reopen(Crash::LoseAll).list("log").unwrap().is_empty(), "no name was synced");
        disk.sync_dir("log").unwrap();
        file.write_all_at(b"x", 0).unwrap();
        disk.rename("log/1", "log/2").unwrap();
        let after = disk.reopen(Crash::LoseAll);
        assert_eq!(after.list("log").unwrap(), ["1"]);
        assert_eq!(after.content("log/1"), b"abc");
        assert_eq!(disk.reopen(Crash::KeepAll).content("log/2"), b"xbc");
    }

    #[test]
    fn tearing_keeps_some_sectors_and_other_seeds_others() {
        let disk = SimDisk::new();
        let file = disk.open("a", true).unwrap();
        file.set_len(64 * 512).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir("").unwrap();
        file.write_all_at(&[1; 64 * 512], 0).unwrap();
        let ones = |seed| {
            let content = disk.reopen(Crash::Tear(seed)).content("a");
            content.chunks(512).map(|c| usize::from(c == [1; 512])).sum::<usize>()
        };
        let counts: BTreeSet<_> = (0..16).map(ones).collect();
        assert!(counts.len() > 3, "{counts:?}");
        assert_eq!(ones(7), ones(7));
    }

    /// What Linux does, and why an error poisons the writer.
    #[test]
    fn a_failed_sync_loses_silently() {
        let disk = SimDisk::new();
        let file = disk.open("a", true).unwrap();
        disk.sync_dir("").unwrap();
        file.write_all_at(b"abc", 0).unwrap();
        disk.fail_sync(2);
        file.sync_data().unwrap_err();
        file.sync_data().unwrap();
        assert_eq!(disk.content("a"), b"abc");
        assert_eq!(disk.reopen(Crash::LoseAll).content("a"), b"\0\0\0");
    }

    #[test]
    fn a_full_disk_writes_what_fits_and_the_reserve_gives_space() {
        let disk = SimDisk::new();
        disk.set_capacity(Some(RESERVE_BYTES + 10));
        disk.hold_reserve().unwrap();
        let file = disk.open("a", true).unwrap();
        let error = file.write_all_at(&[1; 20], 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.len().unwrap(), 10);
        assert!(disk.release_reserve().unwrap());
        file.write_all_at(&[1; 20], 0).unwrap();
    }

    #[test]
    fn a_dead_disk_does_nothing_more() {
        let disk = SimDisk::new();
        disk.crash_at(1);
        let file = disk.open("a", true).unwrap();
        disk.sync_dir("").unwrap_err();
        file.write_all_at(b"x", 0).unwrap_err();
        disk.open("a", false).unwrap_err();
    }
}
