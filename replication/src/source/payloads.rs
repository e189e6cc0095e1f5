//! The content of journaled changes until every destination has it.
//!
//! In memory as long as it fits, and in spool files for changes that some destination still lacks after a moment, so that
//! an hour offline keeps every save, also when the process is killed meanwhile. What is in neither is read again from the source's files, if they are still what they were.
//! The spool is not synced: rows carry the hash of their content, so what a crash tore is noticed and read again. Only where
//! there is nothing to read again, because the last other copy is about to go, is it synced first ([`SpoolSync`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::PathBuf,
    sync::Arc,
};

use keepshare_base::{Seq, SetName};
use keepshare_host::files::sync_parent;
use rustix::fs::{FallocateFlags, fallocate};

use super::ledger::SpoolPlace;

/// A spool file is closed at this length, and removed when all of it is acknowledged.
const SEGMENT_BYTES: u64 = 64 << 20;

/// Content by change.
#[derive(Debug)]
pub(crate) struct Payloads {
    memory: BTreeMap<Seq, Arc<[u8]>>,
    memory_bytes: u64,
    memory_bytes_max: u64,
    spool: BTreeMap<Seq, SpoolPlace>,
    /// The spooled changes whose places the journal has.
    noted: BTreeSet<Seq>,
    /// Those that are on disk, as far as they were synced.
    synced: BTreeSet<Seq>,
    /// Segments that could not be synced: what the kernel says of them after that means nothing.
    unsure: BTreeSet<u64>,
    is_syncing: bool,
    spool_bytes: u64,
    spool_bytes_max: u64,
    spooled: Vec<(Seq, SpoolPlace)>,
    segment: u64,
    open: Option<(File, u64)>,
    /// The newest change that was waiting at the last look.
    waited: Seq,
    /// What is before was spooled, or had no room.
    waiting_from: Seq,
    prefix: PathBuf,
}

/// Spooled content on its way to the disk.
#[derive(Debug)]
pub(crate) struct SpoolSync {
    places: Vec<(Seq, SpoolPlace)>,
    files: BTreeMap<u64, PathBuf>,
}

/// Where content is.
#[derive(Debug)]
pub(crate) enum Held {
    /// Here.
    Memory(Arc<[u8]>),
    /// In this file, at this offset, this long.
    Spool(PathBuf, u64, u64),
}

impl Payloads {
    /// Takes over what is spooled for `set` in the folder `spool_dir`.
    pub(crate) fn open(
        set: &SetName,
        spool_dir: &std::path::Path,
        memory_bytes_max: u64,
        spool_bytes_max: u64,
        spool: BTreeMap<Seq, SpoolPlace>,
    ) -> Self {
        let prefix = spool_dir.join(format!("{set}.spool"));
        let segment = spool.values().map(|place| place.segment + 1).max().unwrap_or(1);
        let spool_bytes = spool.values().map(|place| place.len).sum();
        let payloads = Self {
            memory: BTreeMap::new(),
            memory_bytes: 0,
            memory_bytes_max,
            noted: spool.keys().copied().collect(),
            spool,
            synced: BTreeSet::new(),
            unsure: BTreeSet::new(),
            is_syncing: false,
            spool_bytes,
            spool_bytes_max,
            spooled: Vec::new(),
            segment,
            open: None,
            waited: Seq(0),
            waiting_from: Seq(0),
            prefix,
        };
        payloads.remove_strays(set, spool_dir);
        payloads
    }

    /// Takes the content of a change; what is `acked` by all is not spooled.
    pub(crate) fn insert(&mut self, seq: Seq, payload: Vec<u8>, acked: Seq) {
        self.memory_bytes += payload.len() as u64;
        self.memory.insert(seq, payload.into());
        while self.memory_bytes > self.memory_bytes_max {
            let Some((seq, payload)) = self.memory.pop_first() else { break };
            self.memory_bytes -= payload.len() as u64;
            if seq > acked && !self.spool.contains_key(&seq) {
                self.spool(seq, &payload);
            }
        }
    }

    /// Spools what has been in memory only and not `acked` by all since the last call: a destination is away, and the
    /// process may end before it is back. Called a few times a second.
    pub(crate) fn spool_waiting(&mut self, acked: Seq) {
        let newest = self.memory.last_key_value().map_or(self.waited, |(seq, _)| *seq);
        let through = std::mem::replace(&mut self.waited, newest);
        let from = self.waiting_from.max(acked.next());
        if from <= through {
            self.waiting_from = through.next();
            self.spool_range(from, through);
        }
    }

    /// Spools what is in memory only and not `acked` by all, before the process ends.
    pub(crate) fn spool_all(&mut self, acked: Seq) {
        // Everything is acknowledged where there is no destination: then there is no next one either.
        if let Some(from) = acked.0.checked_add(1) {
            self.spool_range(Seq(from), Seq(u64::MAX));
        }
        self.memory.clear();
        self.memory_bytes = 0;
    }

    fn spool_range(&mut self, from: Seq, through: Seq) {
        let waiting = self.memory.range(from..=through);
        let waiting = waiting.filter(|(seq, _)| !self.spool.contains_key(seq));
        let waiting: Vec<_> = waiting.map(|(seq, payload)| (*seq, payload.clone())).collect();
        for (seq, payload) in waiting {
            self.spool(seq, &payload);
        }
    }

    /// Tells whether something may have to be spooled.
    pub(crate) fn has_waiting(&self, acked: Seq) -> bool {
        let newest = self.memory.last_key_value().map(|(seq, _)| *seq);
        newest.is_some_and(|newest| newest > acked && newest >= self.waiting_from)
    }

    /// Tells whether the content of a change is in the spool, whatever comes: on disk, and noted in the journal.
    pub(crate) fn is_safe(&self, seq: Seq) -> bool {
        self.noted.contains(&seq) && self.synced.contains(&seq)
    }

    /// Hears that the journal has these places, durably.
    pub(crate) fn noted(&mut self, places: &[(Seq, SpoolPlace)]) {
        let still = places.iter().filter(|(seq, place)| self.spool.get(seq) == Some(place));
        self.noted.extend(still.map(|(seq, _)| *seq));
    }

    /// Hears that the journal could not take these places: they are given anew.
    pub(crate) fn note_again(&mut self, places: Vec<(Seq, SpoolPlace)>) {
        let later = std::mem::replace(&mut self.spooled, places);
        self.spooled.extend(later);
    }

    /// Begins to write what is spooled of these changes to disk; `None` where there is nothing to do, or it is being done.
    pub(crate) fn begin_sync(&mut self, seqs: impl Iterator<Item = Seq>) -> Option<SpoolSync> {
        if self.is_syncing {
            return None;
        }
        let places = seqs.filter(|seq| !self.synced.contains(seq));
        let places = places.filter_map(|seq| self.spool.get(&seq).map(|place| (seq, *place)));
        let is_sure = |(_, place): &(Seq, SpoolPlace)| !self.unsure.contains(&place.segment);
        let places: Vec<_> = places.filter(is_sure).collect();
        let segments = places.iter().map(|(_, place)| place.segment);
        let files = segments.map(|segment| (segment, self.path(segment))).collect();
        self.is_syncing = !places.is_empty();
        self.is_syncing.then_some(SpoolSync { places, files })
    }

    /// Hears what came of it.
    pub(crate) fn end_sync(&mut self, sync: &SpoolSync, done: io::Result<()>) {
        self.is_syncing = false;
        if let Err(error) = done {
            tracing::warn!(%error, "cannot sync the spool");
            self.unsure.extend(sync.files.keys());
            // What comes goes elsewhere.
            self.end_segment();
            return;
        }
        let still = sync.places.iter().filter(|(seq, place)| self.spool.get(seq) == Some(place));
        self.synced.extend(still.map(|(seq, _)| *seq));
    }

    /// Hears that it was not begun.
    pub(crate) fn give_sync_up(&mut self) {
        self.is_syncing = false;
    }

    fn end_segment(&mut self) {
        if self.open.take().is_some() {
            self.segment += 1;
        }
    }

    /// Returns what was spooled since the last call, to be remembered in the journal.
    pub(crate) fn take_spooled(&mut self) -> Vec<(Seq, SpoolPlace)> {
        std::mem::take(&mut self.spooled)
    }

    /// Returns where the content of a change is.
    pub(crate) fn find(&self, seq: Seq) -> Option<Held> {
        if let Some(payload) = self.memory.get(&seq) {
            return Some(Held::Memory(payload.clone()));
        }
        let place = self.spool.get(&seq)?;
        Some(Held::Spool(self.path(place.segment), place.offset, place.len))
    }

    /// Forgets the content of the changes before `keep`.
    pub(crate) fn trim(&mut self, keep: Seq) {
        let kept = self.memory.split_off(&keep);
        let dropped = std::mem::replace(&mut self.memory, kept);
        self.memory_bytes -= dropped.values().map(|payload| payload.len() as u64).sum::<u64>();
        let kept = self.spool.split_off(&keep);
        let dropped = std::mem::replace(&mut self.spool, kept);
        if dropped.is_empty() {
            return;
        }
        self.spool_bytes -= dropped.values().map(|place| place.len).sum::<u64>();
        self.noted = self.noted.split_off(&keep);
        self.synced = self.synced.split_off(&keep);
        let oldest = self.spool.values().map(|place| place.segment).min();
        let oldest = oldest.unwrap_or(self.segment + 1);
        let newest = dropped.values().map(|place| place.segment).max().unwrap_or(0);
        let first = dropped.values().map(|place| place.segment).min().unwrap_or(0);
        for segment in first..oldest.min(newest + 1) {
            if segment == self.segment {
                self.open = None;
                self.segment += 1;
            }
            let _ = fs::remove_file(self.path(segment));
        }
        // Of a file that something else keeps they give back their space: the disk may be full, and the change that waits for room
        // the one that keeps it.
        let in_kept = dropped.values().filter(|place| place.segment >= oldest);
        let mut file = None::<(u64, File)>;
        for place in in_kept {
            if file.as_ref().is_none_or(|(segment, _)| *segment != place.segment) {
                let open = OpenOptions::new().write(true).open(self.path(place.segment));
                file = open.ok().map(|open| (place.segment, open));
            }
            let Some((_, file)) = &file else { continue };
            let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            // Where the file system cannot, the file goes when all of it is acknowledged.
            let _ = fallocate(file, how, place.offset, place.len);
        }
    }

    /// Forgets everything: a new epoch begins.
    pub(crate) fn clear(&mut self) {
        self.trim(Seq(u64::MAX));
        self.spooled.clear();
        (self.waited, self.waiting_from) = (Seq(0), Seq(0));
    }

    /// Returns how many bytes are spooled.
    pub(crate) fn spool_bytes(&self) -> u64 {
        self.spool_bytes
    }

    fn spool(&mut self, seq: Seq, payload: &[u8]) {
        if self.spool_bytes + payload.len() as u64 > self.spool_bytes_max {
            return;
        }
        match self.write(payload) {
            Ok(place) => {
                self.spool_bytes += place.len;
                self.spool.insert(seq, place);
                self.spooled.push((seq, place));
            }
            // Not lost: it is read again from the source, unless that changed.
            Err(error) => tracing::warn!(%error, "cannot spool content for a lagging destination"),
        }
    }

    fn write(&mut self, payload: &[u8]) -> io::Result<SpoolPlace> {
        if self.open.as_ref().is_some_and(|(_, len)| *len >= SEGMENT_BYTES) {
            self.end_segment();
        }
        if self.open.is_none() {
            let mut options = OpenOptions::new();
            let options = options.write(true).create(true).truncate(true).mode(0o600);
            self.open = Some((options.open(self.path(self.segment))?, 0));
        }
        let Some((file, end)) = &mut self.open else { return Err(io::ErrorKind::Other.into()) };
        let offset = *end;
        file.write_all_at(payload, offset)?;
        *end += payload.len() as u64;
        Ok(SpoolPlace { segment: self.segment, offset, len: payload.len() as u64 })
    }

    fn path(&self, segment: u64) -> PathBuf {
        let mut path = self.prefix.clone().into_os_string();
        path.push(format!(".{segment:010}"));
        path.into()
    }

    /// Removes spool files of this set that nothing speaks of: a crash left them.
    fn remove_strays(&self, set: &SetName, spool_dir: &std::path::Path) {
        let known: std::collections::HashSet<PathBuf> =
            self.spool.values().map(|place| self.path(place.segment)).collect();
        let Ok(entries) = fs::read_dir(spool_dir) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let ours = name.to_str().is_some_and(|name| {
                name.strip_prefix(&format!("{set}.spool."))
                    .is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
            });
            if ours && !known.contains(&entry.path()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

impl SpoolSync {
    /// Writes it to disk.
    pub(crate) fn run(&self) -> io::Result<()> {
        for path in self.files.values() {
            File::open(path)?.sync_data()?;
            sync_parent(path)?;
        }
        Ok(())
    }
}

impl Held {
    /// Returns the content; what cannot be read is not there.
    pub(crate) fn read(&self) -> Option<Vec<u8>> {
        match self {
            Self::Memory(payload) => Some(payload.to_vec()),
            Self::Spool(path, offset, len) => {
                let mut payload = vec![0; usize::try_from(*len).ok()?];
                File::open(path).ok()?.read_exact_at(&mut payload, *offset).ok()?;
                Some(payload)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A source without destinations has nothing to spool, and ends in order all the same.
    #[test]
    fn what_nobody_lacks_is_not_spooled() {
        let dir = tempfile::tempdir().unwrap();
        let set = "work".parse().unwrap();
        let mut payloads = Payloads::open(&set, dir.path(), 1000, 1000, BTreeMap::new());
        payloads.insert(Seq(1), vec![1; 10], Seq(u64::MAX));
        payloads.spool_all(Seq(u64::MAX));
        assert_eq!((payloads.spool_bytes(), payloads.find(Seq(1)).is_some()), (0, false));
        payloads.insert(Seq(2), vec![2; 10], Seq(1));
        payloads.spool_all(Seq(1));
        assert_eq!(payloads.spool_bytes(), 10);
        assert!(!payloads.is_safe(Seq(2)));
        assert_eq!(payloads.find(Seq(2)).unwrap().read().unwrap(), [2; 10]);
    }

    /// One change that waits must not keep the disk full with what is done with.
    #[test]
    fn what_is_acknowledged_gives_back_its_space_though_a_later_change_waits() {
        use std::os::unix::fs::MetadataExt as _;

        let dir = tempfile::tempdir().unwrap();
        let set = "work".parse().unwrap();
        let mut payloads = Payloads::open(&set, dir.path(), 5, 64 << 20, BTreeMap::new());
        for seq in 1..=4 {
            payloads.insert(Seq(seq), vec![u8::try_from(seq).unwrap(); 1 << 20], Seq(0));
        }
        let blocks = || -> u64 {
            let files = fs::read_dir(dir.path()).unwrap();
            files.map(|file| file.unwrap().metadata().unwrap().blocks() * 512).sum()
        };
        assert!(blocks() >= 4 << 20);
        payloads.trim(Seq(4));
        assert!(blocks() < 2 << 20, "{} bytes", blocks());
        assert_eq!(payloads.spool_bytes(), 1 << 20);
        assert_eq!(payloads.find(Seq(4)).unwrap().read().unwrap(), vec![4; 1 << 20]);
        payloads.trim(Seq(5));
        assert_eq!(blocks(), 0);
    }

    fn spooled(dir: &tempfile::TempDir) -> Payloads {
        let set = "work".parse().unwrap();
        let mut payloads = Payloads::open(&set, dir.path(), 5, 1000, BTreeMap::new());
        payloads.insert(Seq(1), vec![1; 10], Seq(0));
        payloads
    }

    /// What is unlinked because the spool has it must be there after a loss of power, and known.
    #[test]
    fn spooled_content_is_safe_when_it_is_synced_and_noted() {
        let dir = tempfile::tempdir().unwrap();
        let mut payloads = spooled(&dir);
        let places = payloads.take_spooled();
        assert!(!payloads.is_safe(Seq(1)));
        let sync = payloads.begin_sync([Seq(1), Seq(2)].into_iter()).unwrap();
        assert!(payloads.begin_sync([Seq(1)].into_iter()).is_none(), "it is being done");
        payloads.end_sync(&sync, sync.run());
        assert!(!payloads.is_safe(Seq(1)), "nobody would find it");
        payloads.noted(&places);
        assert!(payloads.is_safe(Seq(1)) && !payloads.is_safe(Seq(2)));
        assert!(payloads.begin_sync([Seq(1)].into_iter()).is_none(), "it is done");
        // Another epoch counts from one again.
        payloads.clear();
        assert!(!payloads.is_safe(Seq(1)));
    }

    /// After an error the kernel takes what it could not write for written.
    #[test]
    fn what_could_not_be_synced_once_is_never_safe() {
        let dir = tempfile::tempdir().unwrap();
        let mut payloads = spooled(&dir);
        let places = payloads.take_spooled();
        payloads.noted(&places);
        let sync = payloads.begin_sync([Seq(1)].into_iter()).unwrap();
        payloads.end_sync(&sync, Err(io::Error::other("the disk failed")));
        assert!(payloads.begin_sync([Seq(1)].into_iter()).is_none());
        assert!(!payloads.is_safe(Seq(1)));
        payloads.insert(Seq(2), vec![2; 10], Seq(0));
        let sync = payloads.begin_sync([Seq(1), Seq(2)].into_iter()).unwrap();
        payloads.end_sync(&sync, sync.run());
        let places = payloads.take_spooled();
        payloads.noted(&places);
        assert!(payloads.is_safe(Seq(2)) && !payloads.is_safe(Seq(1)), "it goes elsewhere");
    }

    /// A place that the journal did not take is known to nobody after a restart.
    #[test]
    fn a_place_that_was_not_noted_is_given_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut payloads = spooled(&dir);
        let places = payloads.take_spooled();
        payloads.note_again(places.clone());
        assert_eq!(payloads.take_spooled(), places);
    }
}
