//! Which files may be written without any event, and which of them are looked at when.
//!
//! Asynchronous writes of the kernel (Linux AIO: databases, virtual machines), stores through a memory map and a loop device
//! over an image tell nobody. Whoever writes so has the file open for writing, and the kernel says of a file whether
//! somebody has: it refuses a read lease. Which files to ask about is decided here; [`super::sweeper`] asks.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    time::{Duration, Instant},
};

use keepshare_base::{FileId, Name};

use keepshare_decide::Signature;

/// The most files that are asked about.
pub(crate) const FILES_MAX: usize = 10_000;

/// How often every file that is open for writing is looked at.
pub(crate) const SWEEP_EVERY: Duration = Duration::from_secs(2);

/// For how long a file that changed is asked about.
pub(crate) const CHANGED_FOR: Duration = Duration::from_secs(3600);

/// For how long a file is asked about that a process was seen to have open for writing.
const SHOWN_FOR: Duration = Duration::from_secs(60);

/// A file at least this long may be a database or an image, and is asked about for as long as it is there.
pub(crate) const STORE_BYTES_MIN: u64 = 1 << 20;

/// A file up to this size is compared when it is first seen to be open, a longer one only where its times differ.
const COMPARED_BYTES_MAX: u64 = 64 << 20;

/// A later store leaves other times than these once they are so old: clocks of file systems tick.
const TIMES_TELL_AFTER: Duration = Duration::from_millis(10);

/// So much of a file tells what it is.
pub(crate) const HEAD_BYTES: usize = 4096;

/// The files that are asked about.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    files: HashMap<FileId, Candidate>,
    /// By when they are asked about no more; the first makes room.
    ends: BTreeSet<(Instant, FileId)>,
    /// In the order in which they are asked about.
    turn: VecDeque<FileId>,
    /// Files that a process was seen to have open for writing: they are asked about before all others.
    shown: VecDeque<FileId>,
    /// Files whose first bytes may tell that they are databases or images.
    heads: VecDeque<FileId>,
    open: HashSet<FileId>,
    /// Files that are left alone: a restore writes into them, and whoever opens one has it hurry.
    left: HashSet<FileId>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Candidate {
    /// `None`: for as long as it is there.
    until: Option<Instant>,
    open: Option<Open>,
    /// It is one of [`Sweep::shown`], or was just taken from them.
    is_shown: bool,
}

/// A file that somebody has open for writing.
#[derive(Clone, Copy, Debug)]
struct Open {
    /// How it was when it was last written back: as long as it is so, nobody has stored into it. `None`: its times were so
    /// new then that a store right after may have left the same.
    sealed: Option<Signature>,
    looked: Instant,
}

/// Whether somebody has a file open, or mapped, for writing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Writer {
    /// Nobody: a lease was granted.
    None,
    /// Somebody.
    Some,
    /// No leases here, or none of this file for us.
    Unknown,
}

/// What is to be done with a file that was looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// Nothing: it is as it was.
    Rest,
    /// Its stores are to be written back, so that every later one leaves a time. Then it is to be looked at, and its content
    /// compared whatever its times say where `verify`.
    Seal {
        /// A store may have left no time.
        verify: bool,
    },
    /// Its writer has gone: it is to be looked at once more.
    Last,
}

/// What a look at a file shows of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noted<'a> {
    /// Which file.
    pub(crate) file: FileId,
    /// One of its names.
    pub(crate) name: &'a Name,
    /// Its size in bytes.
    pub(crate) size: u64,
    /// How long ago it changed.
    pub(crate) age: Duration,
    /// A scan looked at it.
    pub(crate) scan: bool,
}

impl Sweep {
    /// Takes note of a file that was looked at for another reason.
    pub(crate) fn note(&mut self, now: Instant, noted: Noted<'_>) {
        let Noted { file, name, size, age, scan } = noted;
        if size >= STORE_BYTES_MIN {
            match by_name(name.as_bytes()) {
                Likely::Yes => return self.ask(file, None),
                // Once in a scan; who writes to it meanwhile is seen to have it open.
                Likely::Perhaps if scan && self.heads.len() < FILES_MAX => {
                    self.heads.push_back(file);
                }
                Likely::Perhaps | Likely::No => {}
            }
        }
        if let Some(left) = CHANGED_FOR.checked_sub(age) {
            self.ask(file, Some(now + left));
        }
    }

    /// A process has it open, or mapped, for writing. There is no surer sign, so that others make room for it.
    pub(crate) fn shown(&mut self, now: Instant, file: FileId) {
        let until = Some(now + SHOWN_FOR);
        if !self.files.contains_key(&file) && self.files.len() >= FILES_MAX {
            let Some(other) = self.least_likely() else { return };
            self.forget(other);
        }
        self.ask(file, until);
        if let Some(candidate) = self.files.get_mut(&file)
            && candidate.open.is_none()
            && !candidate.is_shown
        {
            candidate.is_shown = true;
            self.shown.push_back(file);
        }
    }

    /// Its first bytes are those of a database or an image.
    pub(crate) fn is_store(&mut self, file: FileId) {
        self.ask(file, None);
    }

    /// Takes a file whose first bytes are to be read.
    pub(crate) fn next_head(&mut self) -> Option<FileId> {
        self.heads.pop_front()
    }

    /// Returns the files that are open for writing.
    pub(crate) fn open(&self) -> Vec<FileId> {
        self.open.iter().copied().collect()
    }

    /// Returns the file whose turn it is among those that are not known to be open.
    pub(crate) fn next(&mut self, now: Instant) -> Option<FileId> {
        while let Some(file) = self.shown.pop_front() {
            if self.files.get(&file).is_some_and(|candidate| candidate.is_shown) {
                return Some(file);
            }
        }
        for _ in 0..self.turn.len() {
            let file = self.turn.pop_front()?;
            match self.files.get(&file) {
                Some(candidate) if candidate.until.is_none_or(|until| now < until) => {
                    self.turn.push_back(file);
                    if candidate.open.is_none() {
                        return Some(file);
                    }
                }
                Some(candidate) if candidate.open.is_some() => self.turn.push_back(file),
                Some(_) => self.forget(file),
                None => {}
            }
        }
        None
    }

    /// Tells whether there is nothing to ask.
    pub(crate) fn is_idle(&self) -> bool {
        self.files.is_empty() && self.heads.is_empty()
    }

    /// Returns how many are asked about.
    pub(crate) fn len(&self) -> usize {
        self.files.len()
    }

    /// Hears what came of looking at a file whose times were that old, and says what is to be done.
    pub(crate) fn looked(
        &mut self,
        now: Instant,
        file: FileId,
        writer: Writer,
        seen: Signature,
        age: Duration,
    ) -> Verdict {
        let Some(candidate) = self.files.get_mut(&file) else { return Verdict::Rest };
        candidate.is_shown = false;
        let was_open = candidate.open.is_some();
        match writer {
            Writer::Some => {
                let sealed = candidate.open.and_then(|open| open.sealed);
                let is_sure = age >= TIMES_TELL_AFTER;
                candidate.open = Some(Open { sealed: is_sure.then_some(seen), looked: now });
                self.open.insert(file);
                let verify = was_open || seen.size <= COMPARED_BYTES_MAX;
                if sealed == Some(seen) { Verdict::Rest } else { Verdict::Seal { verify } }
            }
            Writer::None | Writer::Unknown => {
                candidate.open = None;
                self.open.remove(&file);
                if was_open { Verdict::Last } else { Verdict::Rest }
            }
        }
    }

    /// A file could not be asked about just now: who is seen to have it open is asked about again.
    pub(crate) fn held(&mut self, file: FileId) {
        if let Some(candidate) = self.files.get_mut(&file) {
            candidate.is_shown = false;
        }
    }

    /// Leaves a file alone until it is taken up again.
    pub(crate) fn leave(&mut self, file: FileId) {
        self.left.insert(file);
    }

    /// Looks at a file again that was left alone.
    pub(crate) fn take_up(&mut self, file: FileId) {
        self.left.remove(&file);
    }

    /// Tells whether a file is left alone.
    pub(crate) fn is_left(&self, file: FileId) -> bool {
        self.left.contains(&file)
    }

    /// A file is there no more, or cannot be looked at.
    pub(crate) fn forget(&mut self, file: FileId) {
        self.open.remove(&file);
        if let Some(Candidate { until: Some(until), .. }) = self.files.remove(&file) {
            self.ends.remove(&(until, file));
        }
    }

    /// Returns how many files are open for writing, and how long ago the one was looked at that waits longest.
    pub(crate) fn shown_open(&self, now: Instant) -> (u64, Duration) {
        let looked = self.open.iter().filter_map(|file| self.files.get(file)?.open);
        let oldest = looked.map(|open| open.looked).min();
        (self.open.len() as u64, oldest.map_or(Duration::ZERO, |at| now.duration_since(at)))
    }

    fn ask(&mut self, file: FileId, until: Option<Instant>) {
        if let Some(candidate) = self.files.get_mut(&file) {
            // Longer is never shortened.
            let Some(former) = candidate.until else { return };
            if until.is_none_or(|until| until > former) {
                self.ends.remove(&(former, file));
                candidate.until = until;
                self.ends.extend(until.map(|until| (until, file)));
            }
            return;
        }
        if self.files.len() >= FILES_MAX && !self.make_room(until) {
            return;
        }
        self.files.insert(file, Candidate { until, ..Candidate::default() });
        self.ends.extend(until.map(|until| (until, file)));
        if self.turn.len() >= 2 * FILES_MAX {
            // What was given up is taken out when its turn comes; nobody had a turn for long.
            self.turn = self.files.keys().copied().filter(|known| *known != file).collect();
        }
        self.turn.push_back(file);
    }

    /// Gives up the file that is asked about for the shortest time, unless the new one's is shorter.
    fn make_room(&mut self, until: Option<Instant>) -> bool {
        match self.first_to_end() {
            Some((first, file)) if until.is_none_or(|until| first < until) => {
                self.forget(file);
                true
            }
            _ => false,
        }
    }

    /// Returns the file that is asked about for the shortest time, of those of which it is not known that they are open.
    fn first_to_end(&self) -> Option<(Instant, FileId)> {
        self.ends.iter().find(|(_, file)| self.is_guess(*file)).copied()
    }

    /// Returns the file that is given up before all others.
    fn least_likely(&self) -> Option<FileId> {
        let any = || self.turn.iter().copied().find(|file| self.is_guess(*file));
        self.first_to_end().map(|(_, file)| file).or_else(any)
    }

    /// Tells whether nothing says that somebody has a file open.
    fn is_guess(&self, file: FileId) -> bool {
        let known = self.files.get(&file);
        known.is_some_and(|candidate| candidate.open.is_none() && !candidate.is_shown)
    }
}

/// Whether a file may be a database or an image.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Likely {
    Yes,
    Perhaps,
    No,
}

/// How names of databases and of images of disks end.
const STORES: &[&str] = &[
    "accdb",
    "db",
    "db-shm",
    "db-wal",
    "db3",
    "edb",
    "fdb",
    "frm",
    "gdb",
    "hdd",
    "ibd",
    "img",
    "iso",
    "kdbx",
    "ldb",
    "mdb",
    "mdf",
    "myd",
    "myi",
    "ndf",
    "nvram",
    "ost",
    "pst",
    "qcow",
    "qcow2",
    "qed",
    "raw",
    "realm",
    "redb",
    "sdb",
    "sqlite",
    "sqlite-shm",
    "sqlite-wal",
    "sqlite3",
    "sqlitedb",
    "vdi",
    "vhd",
    "vhdx",
    "vmdk",
    "vmem",
    "vmsn",
    "wal",
    "wt",
];

/// How names end of what is written once, as a whole.
const WHOLES: &[&str] = &[
    "7z", "apk", "avi", "bz2", "c", "cpp", "css", "csv", "deb", "doc", "docx", "flac", "gif", "go",
    "gz", "h", "heic", "html", "idx", "jar", "java", "jpeg", "jpg", "js", "json", "log", "m4a",
    "m4v", "md", "mkv", "mov", "mp3", "mp4", "mpg", "o", "odp", "ods", "odt", "ogg", "pack", "pdf",
    "png", "ppt", "pptx", "psd", "py", "rar", "rlib", "rpm", "rs", "so", "svg", "tar", "tgz",
    "tif", "tiff", "ts", "txt", "wav", "webm", "webp", "whl", "xls", "xlsx", "xml", "xz", "zip",
    "zst",
];

/// Names of InnoDB's files without an ending.
const STORE_NAMES: &[&str] = &["ibdata", "ib_logfile", "ibtmp", "undo_"];

fn by_name(name: &[u8]) -> Likely {
    let lower = name.to_ascii_lowercase();
    if STORE_NAMES.iter().any(|start| lower.starts_with(start.as_bytes())) {
        return Likely::Yes;
    }
    let mut parts = lower.rsplitn(2, |byte| *byte == b'.');
    let (ending, stem) = (parts.next().unwrap_or_default(), parts.next());
    let is_one_of = |known: &[&str]| known.iter().any(|known| known.as_bytes() == ending);
    match stem {
        Some(_) if is_one_of(STORES) => Likely::Yes,
        Some(_) if is_one_of(WHOLES) => Likely::No,
        _ => Likely::Perhaps,
    }
}

/// What stands where in databases and images.
const MARKS: &[(usize, &[u8])] = &[
    (0, b"SQLite format 3\0"),
    (0, b"QFI\xfb"),
    (0, b"KDMV"),
    (0, b"COWD"),
    (0, b"vhdxfile"),
    (0, b"conectix"),
    (0, b"LUKS\xba\xbe"),
    (0, b"XFSB"),
    (0, b"redb\x1a\x0a\xa9\x0d\x0a"),
    (0x40, b"\x7f\x10\xda\xbe"),
    (4, b"Standard Jet DB\0"),
    (4, b"Standard ACE DB\0"),
    (16, b"\xde\xc0\xef\xbe"),
    (510, b"\x55\xaa"),
    (512, b"EFI PART"),
    (1080, b"\x53\xef"),
    (12, b"\x61\x15\x06\x00"),
    (12, b"\x62\x31\x05\x00"),
];

/// Tells whether a file's first bytes are those of a database or an image of a disk.
pub(crate) fn is_store(head: &[u8]) -> bool {
    MARKS.iter().any(|(at, mark)| head.get(*at..).is_some_and(|rest| rest.starts_with(mark)))
}

#[cfg(test)]
mod tests {
    use keepshare_base::{Epoch, FileTime, OriginId};

    use super::*;

    fn file(counter: u64) -> FileId {
        FileId { origin: OriginId(1), epoch: Epoch::FIRST, counter: counter + 1 }
    }

    fn signature(secs: i64) -> Signature {
        Signature { mtime: FileTime { secs, nanos: 0 }, ..Signature::default() }
    }

    fn note(sweep: &mut Sweep, now: Instant, n: u64, name: &str, size: u64, age: Duration) {
        let name = Name::new(name.as_bytes()).unwrap();
        sweep.note(now, Noted { file: file(n), name: &name, size, age, scan: true });
    }

    const LONG_AGO: Duration = Duration::from_secs(1 << 20);

    /// What changed a while ago and is no database is nobody's business; the rest is asked about for as long as it matters.
    #[test]
    fn what_changed_lately_and_what_is_a_database_is_asked_about() {
        let (mut sweep, now) = (Sweep::default(), Instant::now());
        note(&mut sweep, now, 1, "letter.txt", 10, Duration::from_secs(5));
        note(&mut sweep, now, 2, "old.txt", 10, LONG_AGO);
        note(&mut sweep, now, 3, "t.ibd", 1 << 20, LONG_AGO);
        note(&mut sweep, now, 4, "t.ibd", 1 << 19, LONG_AGO);
        note(&mut sweep, now, 5, "photo.jpg", 1 << 22, LONG_AGO);
        note(&mut sweep, now, 6, "disk", 1 << 22, LONG_AGO);
        let mut asked: Vec<_> = (0..2).filter_map(|_| sweep.next(now)).collect();
        asked.sort();
        assert_eq!(asked, [file(1), file(3)]);
        assert_eq!((sweep.next_head(), sweep.next_head()), (Some(file(6)), None));
        let later = now + CHANGED_FOR;
        assert_eq!((sweep.next(later), sweep.next(later)), (Some(file(3)), Some(file(3))));
        assert_eq!(sweep.len(), 1, "what is over is forgotten");
    }

    /// A store into a page that is dirty already leaves no time: only what was written back since its last time is equal.
    #[test]
    fn an_open_file_is_written_back_and_compared_until_it_rests() {
        let (mut sweep, now) = (Sweep::default(), Instant::now());
        sweep.shown(now, file(1));
        let looked = |sweep: &mut Sweep, writer, secs| {
            sweep.looked(now, file(1), writer, signature(secs), LONG_AGO)
        };
        assert_eq!(looked(&mut sweep, Writer::None, 1), Verdict::Rest);
        let seal = Verdict::Seal { verify: true };
        assert_eq!(looked(&mut sweep, Writer::Some, 1), seal, "nobody knows since when");
        assert_eq!(looked(&mut sweep, Writer::Some, 1), Verdict::Rest);
        assert_eq!(looked(&mut sweep, Writer::Some, 2), seal);
        assert_eq!(sweep.open(), [file(1)]);
        assert_eq!(sweep.shown_open(now + SWEEP_EVERY), (1, SWEEP_EVERY));
        let much_later = now + CHANGED_FOR;
        assert_eq!(sweep.next(much_later), None, "it is open, and looked at as such");
        assert_eq!(sweep.open(), [file(1)], "for as long as it is open");
        assert_eq!(looked(&mut sweep, Writer::None, 2), Verdict::Last);
        assert_eq!(sweep.shown_open(now), (0, Duration::ZERO));
    }

    /// Two stores within a tick of the file system's clock leave the same times.
    #[test]
    fn times_of_a_moment_ago_are_no_seal() {
        let (mut sweep, now) = (Sweep::default(), Instant::now());
        sweep.shown(now, file(1));
        let mut looked = |secs, age| {
            let age = Duration::from_millis(age);
            sweep.looked(now, file(1), Writer::Some, signature(secs), age)
        };
        let seal = Verdict::Seal { verify: true };
        assert_eq!(looked(1, 5000), seal);
        assert_eq!(looked(2, 3), seal);
        assert_eq!(looked(2, 2003), seal, "a store may have come right after the look");
        assert_eq!(looked(2, 4003), Verdict::Rest);
    }

    #[test]
    fn no_more_than_so_many_are_asked_about_and_the_newest_stay() {
        let (mut sweep, now) = (Sweep::default(), Instant::now());
        for n in 0..FILES_MAX as u64 {
            note(&mut sweep, now, n, "f", 1, Duration::from_secs(100));
        }
        sweep.looked(now, file(0), Writer::Some, signature(1), LONG_AGO);
        note(&mut sweep, now, 1 << 20, "older", 1, Duration::from_secs(200));
        note(&mut sweep, now, 1 << 21, "newer", 1, Duration::from_secs(50));
        note(&mut sweep, now, 1 << 22, "t.ibd", 1 << 20, LONG_AGO);
        assert_eq!(sweep.len(), FILES_MAX);
        assert!(!sweep.files.contains_key(&file(1 << 20)));
        for n in [0, 1 << 21, 1 << 22] {
            assert!(sweep.files.contains_key(&file(n)), "{n}");
        }
    }

    /// A checkout of ten thousand files is no reason to leave a file alone that a process has mapped; nor are ten thousand databases.
    #[test]
    fn what_is_seen_to_be_open_goes_before_all_others() {
        let mut now = Instant::now();
        for (name, size) in [("f", 1), ("t.ibd", 1 << 20)] {
            let mut sweep = Sweep::default();
            for n in 0..FILES_MAX as u64 {
                note(&mut sweep, now, n, name, size, Duration::ZERO);
            }
            let mapped = file(1 << 20);
            sweep.shown(now, mapped);
            now += Duration::from_secs(1);
            for n in 0..100 {
                note(&mut sweep, now, (1 << 21) + n, name, size, Duration::ZERO);
            }
            assert_eq!(sweep.len(), FILES_MAX);
            assert_eq!(sweep.next(now), Some(mapped), "{name}");
            sweep.looked(now, mapped, Writer::Some, signature(1), LONG_AGO);
            assert_eq!(sweep.open(), [mapped]);
            assert_ne!(sweep.next(now), Some(mapped));
            // It is held by somebody's lease: the next sign has it asked about first once more.
            sweep.looked(now, mapped, Writer::None, signature(1), LONG_AGO);
            sweep.shown(now, mapped);
            assert_eq!(sweep.next(now), Some(mapped));
            sweep.held(mapped);
            sweep.shown(now, mapped);
            assert_eq!(sweep.next(now), Some(mapped));
            // Nobody has it open: it is one of many.
            sweep.looked(now, mapped, Writer::None, signature(1), LONG_AGO);
            sweep.shown(now, mapped);
            assert_eq!(sweep.next(now), Some(mapped));
        }
    }

    #[test]
    fn databases_and_images_are_known_by_their_first_bytes() {
        let at = |offset: usize, mark: &[u8]| {
            let mut head = vec![0; HEAD_BYTES];
            head[offset..offset + mark.len()].copy_from_slice(mark);
            is_store(&head)
        };
        assert!(at(0, b"SQLite format 3\0") && at(0, b"QFI\xfb") && at(512, b"EFI PART"));
        assert!(at(1080, b"\x53\xef") && at(510, b"\x55\xaa"));
        assert!(!at(0, b"%PDF-1.7") && !is_store(b"") && !is_store(&[0; HEAD_BYTES]));
    }
}
