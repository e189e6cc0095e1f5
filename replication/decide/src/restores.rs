//! What is decided about restores in place: what stands where one goes, what came out when it was exchanged with that, and what
//! becomes of it.
//!
//! A look before a rename is not enough, nor one after it: between the look and the exchange somebody may save, and a
//! program that has the old file open, or mapped, goes on writing into it afterwards. So what came out of an exchange is
//! kept where nobody looks until nobody can write to it any more, is looked at again, and becomes a version where it is
//! other than what was captured; then it goes ([`Replaced`]). So it is with what a restore wrote, where an exchange was undone and
//! somebody may have found it at the name meanwhile ([`is_still_ours`]). These files are in nobody's folder, and wait here and not on the
//! agenda:
//!
//! | it | waits for | is looked at again | until |
//! |---|---|---|---|
//! | may be other than what was captured | that nobody can write to it, or for `look_every` where somebody may for long | after 100 ms, later after 1 s | it was read |
//! | is read, or journaled | an answer | – | it came; where it failed, it is read anew after 1 s |
//! | is a version, whole | every destination, or the disk of the spool, to have that version | the same | they have; where its content was forgotten, or passed over by a mirror or an epoch, it is read anew |
//! | is to go | the file system | after 1 s | it is gone |

use std::time::Duration;

use keepshare_base::{ContentHash, FileId, FileTime, Kind, PresentFile, RestoreGround, Seq};
use keepshare_proto::MonoTime;
use serde::{Deserialize, Serialize};

use crate::{FileRecord, Inode, Seen, Signature, compose::When};

/// When a file that was replaced is looked at again: at first, and after it was found open.
const SOON: Duration = Duration::from_millis(100);

/// And later on.
const LATER: Duration = Duration::from_secs(1);

/// So long it is looked at often.
const SOON_FOR: Duration = Duration::from_secs(2);

/// What stands where a request does something.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "looked at once and taken apart")]
pub enum Ground {
    /// Nothing.
    Nothing,
    /// Something that was not looked at yet, or is no version yet: what was saved a moment ago must not be lost. The file, where
    /// the map knows it as it is.
    Unkept(Option<FileId>),
    /// Something that the map has as it is; of a file, that is a version.
    Known(Seen, FileId, FileRecord),
}

impl Ground {
    /// Judges what is seen at a name by what the map has there.
    pub fn judge(now: Option<Seen>, known: Option<(FileId, FileRecord)>) -> Self {
        match (now, known) {
            (None, None) => Self::Nothing,
            (Some(seen), Some((file, record))) => {
                let is_known = is_as_known(&seen, &record);
                if !is_known || record.uncut.is_some() || record.forgotten {
                    return Self::Unkept(is_known.then_some(file));
                }
                Self::Known(seen, file, record)
            }
            _ => Self::Unkept(None),
        }
    }
}

/// Tells whether an object is what the map knows. The times of a folder tell of what is in it, and not of the folder.
fn is_as_known(seen: &Seen, record: &FileRecord) -> bool {
    let meta = &record.meta;
    seen.inode == record.inode
        && match seen.kind {
            Kind::Dir => {
                meta.kind == Kind::Dir
                    && (seen.mode, seen.user, seen.group)
                        == (meta.mode, meta.owner.id, meta.group.id)
            }
            _ => seen.signature == record.signature,
        }
}

/// Says why a request is not done where this stands in that folder: it is not what it was when the request was allowed.
pub fn objection(
    ground: &RestoreGround,
    folder: FileId,
    now: Option<(FileId, &FileRecord)>,
) -> Option<&'static str> {
    if ground.folder != folder {
        return Some("another folder is at that path now");
    }
    let present = now.map(|(file, record)| PresentFile::new(file, &record.meta));
    match (&ground.present, &present) {
        (None, Some(_)) => return Some("something else has that name now"),
        (Some(_), None) => return Some("it is not there any more"),
        (Some(then), Some(now)) if then.file != now.file => {
            return Some("it is not the file any more that it was; try again");
        }
        (then, now) if then != now => {
            return Some("its owner or its rights were changed since; try again");
        }
        _ => {}
    }
    let is_still = |(size, mtime)| {
        now.is_some_and(|(_, record)| (record.meta.size, record.meta.mtime) == (size, mtime))
    };
    match ground.still {
        Some(still) if !is_still(still) => Some("it was changed since; try again"),
        _ => None,
    }
}

/// Tells whether what came out of an exchange may be kept aside: a file without other names, and the one that stood there at the
/// last look, unless whoever asked may replace any. Everything else is put back where it was.
pub fn may_come_out(out: &Seen, was: Option<Inode>, may_be_other: bool) -> bool {
    let is_file = out.kind == Kind::File && out.links == 1;
    is_file && (may_be_other || was == Some(out.inode))
}

/// Tells whether what a restore wrote is the restore's alone, to be put in place once more or discarded, although it stood at a live
/// name for a moment, until the exchange was undone: nobody can write to it any more, nor has. Else it is somebody's.
pub fn is_still_ours(written: &Seen, back: &Seen, writers: Writers, when: When) -> bool {
    // Not the ctime: moving the file changed that.
    let signature = Signature { ctime: back.signature.ctime, ..written.signature };
    let is_same = *back == Seen { signature, ..*written };
    is_same && writers == Writers::Nobody && !when.is_racy(written.signature.mtime)
}

/// A state of a file that is a version.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// Which file it was.
    pub file: FileId,
    /// Which object.
    pub inode: Inode,
    /// How long its content was, and when that changed.
    pub size: u64,
    /// When it changed last.
    pub mtime: FileTime,
    /// The hash of its content, where that is known.
    pub hash: Option<ContentHash>,
}

impl Kept {
    /// Returns what a file is whose state is a version.
    pub fn new(seen: &Seen, file: FileId, record: &FileRecord) -> Self {
        let (size, mtime) = (seen.signature.size, seen.signature.mtime);
        Self { file, inode: seen.inode, size, mtime, hash: record.hash }
    }

    /// Tells whether an object, as it was seen, is this file and nothing says that it was written to.
    pub fn is_still(&self, seen: &Seen) -> bool {
        // Not the ctime: moving the file changed that.
        seen.inode == self.inode
            && (seen.signature.size, seen.signature.mtime) == (self.size, self.mtime)
    }
}

/// Who can write to a file that was replaced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Writers {
    /// Nobody, for as long as it is read.
    Nobody,
    /// Somebody has it open.
    Somebody,
    /// That cannot be told.
    Unknown,
}

/// How long what was replaced is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// It is at rest when it did not change for so long, where nobody can tell whether it is open.
    pub rest: Duration,
    /// What changes although it was replaced becomes a version so often while it stays open.
    pub look_every: Duration,
}

/// What is to be done about a file that was replaced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Due {
    /// Nothing now.
    Nothing,
    /// A look, whose answer is for [`Replaced::seen`].
    Look,
    /// It goes.
    Remove,
}

/// A version that what was replaced became.
#[derive(Clone, Debug)]
pub struct Version {
    /// The file that it is journaled as.
    pub file: FileId,
    /// The state that was read.
    pub signature: Signature,
    /// The hash of its content, where it has one.
    pub hash: Option<ContentHash>,
    /// It held still while it was read.
    pub is_whole: bool,
    /// The changes that carry its content.
    pub changes: Vec<Seq>,
}

/// A file that was replaced.
#[derive(Debug)]
pub struct Replaced {
    stage: Stage,
    since: MonoTime,
    next: MonoTime,
    /// A writer had it open at the last look.
    is_open: bool,
    /// What of it was a version when it was replaced.
    known: Option<Kept>,
    /// What is a version of it by now: the size and times of a state, and the hash where that held still.
    kept: Option<(Signature, Option<ContentHash>)>,
    /// The state at the last look, and since when it is that.
    state: Option<(Signature, MonoTime)>,
    /// When it was read last.
    read: MonoTime,
    /// What it is compared with while it is read does not count any more.
    is_outdated: bool,
    /// The files that it was journaled as, whose content not everybody has.
    owed: Vec<(FileId, Vec<Seq>)>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// Somebody may write to it.
    Waiting,
    /// It is read, and compared.
    Reading,
    /// It is being journaled.
    Keeping,
    /// All of it is kept: it goes when every station has it, or the spool.
    Kept,
    /// It goes.
    Removing,
}

impl Replaced {
    /// Begins to watch over a file, of which this is a version.
    pub fn new(now: MonoTime, known: Option<Kept>) -> Self {
        Self {
            stage: Stage::Waiting,
            since: now,
            next: now,
            is_open: false,
            known,
            kept: None,
            state: None,
            read: now,
            is_outdated: false,
            owed: Vec::new(),
        }
    }

    /// Says what is due. It is looked at where there `has_room` beside what is under way: what a journal loses is journaled anew,
    /// and must not be what fills it, for ever. `is_safe` tells whether the content of what it became survives without the file.
    pub fn due(
        &mut self,
        now: MonoTime,
        has_room: bool,
        is_safe: impl FnOnce(&[(FileId, Vec<Seq>)]) -> bool,
    ) -> Due {
        if now < self.next {
            return Due::Nothing;
        }
        self.next = now + if now.since(self.since) < SOON_FOR { SOON } else { LATER };
        match self.stage {
            Stage::Waiting if has_room => Due::Look,
            Stage::Waiting => Due::Nothing,
            Stage::Reading | Stage::Keeping => Due::Nothing,
            Stage::Kept if !is_safe(&self.owed) => Due::Nothing,
            Stage::Kept | Stage::Removing => {
                self.stage = Stage::Removing;
                Due::Remove
            }
        }
    }

    /// Hears what it is now, and who can write to it. Returns that it is to be read now, and the hash of what is a version of it,
    /// where that is known; the answer is for [`Self::looked`].
    pub fn seen(
        &mut self,
        now: MonoTime,
        seen: &Seen,
        writers: Writers,
        times: &Times,
    ) -> Option<Option<ContentHash>> {
        let since = match self.state {
            Some((state, since)) if state == seen.signature => since,
            _ => now,
        };
        self.state = Some((seen.signature, since));
        match writers {
            Writers::Nobody => self.is_open = false,
            Writers::Somebody => {
                self.is_open = true;
                let is_kept = match (&self.kept, &self.known) {
                    (Some((kept, _)), _) => *kept == seen.signature,
                    (None, Some(known)) => known.is_still(seen),
                    (None, None) => false,
                };
                if is_kept || now.since(self.read) < times.look_every {
                    return None;
                }
            }
            Writers::Unknown if now.since(since) < times.rest => return None,
            Writers::Unknown => {}
        }
        (self.stage, self.read) = (Stage::Reading, now);
        let known = self.known.filter(|known| known.inode == seen.inode);
        Some(self.kept.map_or(known.and_then(|known| known.hash), |(_, hash)| hash))
    }

    /// Hears whether its content is other than what is a version of it (`None`: it cannot be read), whether nothing can have been
    /// written to it meanwhile, and of which state that is where nobody kept writers out. Tells whether it is to be journaled,
    /// whose answer is for [`Self::journaled`].
    pub fn looked(
        &mut self,
        now: MonoTime,
        differs: Option<bool>,
        is_settled: bool,
        state: Option<Signature>,
    ) -> bool {
        (self.stage, self.next) = (Stage::Waiting, now);
        match differs {
            _ if std::mem::take(&mut self.is_outdated) => {}
            Some(true) => self.stage = Stage::Keeping,
            Some(false) if is_settled && !self.is_open => self.stage = Stage::Kept,
            Some(false) => {
                if let Some(state) = state.filter(|_| is_settled) {
                    let known = self.known.and_then(|known| known.hash);
                    self.kept = Some((state, self.kept.map_or(known, |(_, hash)| hash)));
                }
                self.next = now + SOON;
            }
            None => self.next = now + LATER,
        }
        self.stage == Stage::Keeping
    }

    /// Hears that it is a version now (`None`: it could not be), and whether nothing can have been written to it meanwhile.
    pub fn journaled(&mut self, now: MonoTime, version: Option<Version>, is_settled: bool) {
        let was_kept = std::mem::replace(&mut self.stage, Stage::Waiting) == Stage::Keeping;
        self.next = now;
        let Some(version) = version else {
            self.next = now + LATER;
            return;
        };
        let Version { file, signature, hash, is_whole, changes } = version;
        self.kept = Some((signature, hash));
        self.owed.push((file, changes));
        if was_kept && is_settled && !self.is_open && is_whole {
            self.stage = Stage::Kept;
        }
    }

    /// It could not be looked at, read or removed just now.
    pub fn failed(&mut self, now: MonoTime) {
        if self.stage != Stage::Removing {
            self.stage = Stage::Waiting;
        }
        self.next = now + LATER;
    }

    /// It is nobody's, or is not there any more.
    pub fn give_up(&mut self) {
        self.stage = Stage::Removing;
    }

    /// Whoever put it there made it: it becomes a version.
    pub fn is_unknown(&mut self) {
        self.known = None;
    }

    /// Tells whether a writer had it open at the last look.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Tells whether it takes room among what may become versions at a time: it is read, journaled, or waits for everybody to
    /// have it.
    pub fn is_under_way(&self) -> bool {
        matches!(self.stage, Stage::Reading | Stage::Keeping | Stage::Kept)
    }

    /// Tells whether it is being read or journaled.
    pub fn is_unread(&self) -> bool {
        matches!(self.stage, Stage::Reading | Stage::Keeping)
    }

    /// Returns what it became, where all of it is kept.
    pub fn kept(&self) -> &[(FileId, Vec<Seq>)] {
        if self.stage == Stage::Kept { &self.owed } else { &[] }
    }

    /// Hears up to where every destination has the journal: of what it became until then nothing is owed any more.
    pub fn acked(&mut self, through: Seq) {
        self.owed.retain(|(_, changes)| changes.iter().any(|seq| *seq > through));
    }

    /// Hears that the content of these files cannot be given any more: what is still here is journaled anew.
    pub fn forget(&mut self, files: &[(FileId, Seq)]) {
        let before = self.owed.len();
        self.owed.retain(|(owed, _)| files.iter().all(|(file, _)| file != owed));
        if self.owed.len() < before {
            self.keep_anew();
        }
    }

    /// Hears that some changes are passed over: by a new epoch, or by a mirror, which shows what is there now.
    pub fn pass(&mut self, is_passed: impl Fn(Seq) -> bool) {
        if self.owed.iter().flat_map(|(_, changes)| changes).any(|seq| is_passed(*seq)) {
            self.owed.clear();
            self.keep_anew();
        }
    }

    /// Nothing is a version of it any more: it is looked at, and journaled, anew.
    fn keep_anew(&mut self) {
        (self.kept, self.known) = (None, None);
        match self.stage {
            Stage::Kept => self.stage = Stage::Waiting,
            Stage::Reading => self.is_outdated = true,
            Stage::Waiting | Stage::Keeping | Stage::Removing => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use keepshare_base::{Epoch, OriginId, Stamp};

    use super::*;

    const TIMES: Times = Times { rest: Duration::from_secs(1), look_every: Duration::from_secs(2) };

    fn file() -> FileId {
        FileId { origin: OriginId(1), epoch: Epoch::FIRST, counter: 1 }
    }

    fn seen(number: u64, size: u64) -> Seen {
        Seen {
            inode: Inode { number, ..Inode::default() },
            kind: Kind::File,
            signature: Signature { size, ..Signature::default() },
            links: 1,
            mode: 0o644,
            user: 0,
            group: 0,
            rdev: 0,
            device: 1,
        }
    }

    fn at(millis: u64) -> MonoTime {
        MonoTime(millis * 1000)
    }

    fn known(size: u64) -> Kept {
        let seen = seen(7, size);
        let (inode, mtime) = (seen.inode, seen.signature.mtime);
        Kept { file: file(), inode, size, mtime, hash: Some(ContentHash::of(b"kept")) }
    }

    #[test]
    fn what_is_as_it_was_kept_goes_at_once() {
        let mut replaced = Replaced::new(at(0), Some(known(4)));
        assert_eq!(replaced.due(at(0), true, |_| panic!("nothing is kept yet")), Due::Look);
        let hash = replaced.seen(at(0), &seen(7, 4), Writers::Nobody, &TIMES);
        assert_eq!(hash, Some(Some(ContentHash::of(b"kept"))));
        assert!(!replaced.looked(at(1), Some(false), true, None));
        assert_eq!(replaced.due(at(1), true, <[_]>::is_empty), Due::Remove);
    }

    /// What a journal loses is journaled anew: more of that at a time than it holds would be lost again, for ever.
    #[test]
    fn what_there_is_no_room_for_waits() {
        let mut replaced = Replaced::new(at(0), None);
        assert_eq!(replaced.due(at(0), false, |_| true), Due::Nothing);
        assert!(!replaced.is_under_way());
        assert_eq!(replaced.due(at(100), true, |_| true), Due::Look);
        assert!(replaced.seen(at(100), &seen(7, 4), Writers::Nobody, &TIMES).is_some());
        assert!(replaced.is_under_way(), "it takes the room of another");
    }

    /// What was saved between the look and the exchange must be a version, and at every station, before the file goes.
    #[test]
    fn what_differs_is_journaled_and_goes_when_that_is_safe() {
        let mut replaced = Replaced::new(at(0), Some(known(4)));
        assert_eq!(replaced.due(at(0), true, |_| true), Due::Look);
        assert!(replaced.seen(at(0), &seen(7, 5), Writers::Nobody, &TIMES).is_some());
        assert!(replaced.looked(at(1), Some(true), true, None));
        assert_eq!(replaced.due(at(200), true, |_| true), Due::Nothing);
        let (signature, hash) = (seen(7, 5).signature, Some(ContentHash::of(b"other")));
        let version =
            Version { file: file(), signature, hash, is_whole: true, changes: vec![Seq(9)] };
        replaced.journaled(at(300), Some(version), true);
        let owed = [(file(), vec![Seq(9)])];
        assert_eq!(replaced.kept(), owed);
        assert_eq!(replaced.due(at(300), true, |asked| asked != owed), Due::Nothing);
        assert_eq!(replaced.due(at(600), true, |asked| asked == owed), Due::Remove);
    }

    /// Who has the file open may write at any time: what it is now and then becomes a version, and it stays.
    #[test]
    fn what_somebody_has_open_stays() {
        let mut replaced = Replaced::new(at(0), None);
        assert_eq!(replaced.seen(at(0), &seen(7, 4), Writers::Somebody, &TIMES), None);
        assert_eq!(replaced.seen(at(2000), &seen(7, 4), Writers::Somebody, &TIMES), Some(None));
        assert!(replaced.looked(at(2001), Some(true), true, Some(seen(7, 4).signature)));
        let (signature, hash) = (seen(7, 4).signature, Some(ContentHash::of(b"open")));
        let version =
            Version { file: file(), signature, hash, is_whole: true, changes: vec![Seq(9)] };
        replaced.journaled(at(2002), Some(version), true);
        assert!(replaced.is_open() && replaced.kept().is_empty());
        assert_eq!(replaced.seen(at(9000), &seen(7, 4), Writers::Somebody, &TIMES), None);
        assert!(replaced.seen(at(9100), &seen(7, 4), Writers::Nobody, &TIMES).is_some());
        assert!(!replaced.looked(at(9101), Some(false), true, None));
        assert_eq!(replaced.due(at(9101), true, |_| true), Due::Remove);
    }

    /// Where nobody can tell whether it is open, a file that a program still writes to must not be taken for one at rest: each
    /// write begins the wait anew.
    #[test]
    fn what_may_be_open_is_read_when_it_was_left_alone_for_long() {
        let mut replaced = Replaced::new(at(0), Some(known(4)));
        for (millis, size) in [(0, 4), (999, 5), (1998, 5)] {
            let hash = replaced.seen(at(millis), &seen(7, size), Writers::Unknown, &TIMES);
            assert_eq!(hash, None, "after {millis} ms");
        }
        assert!(replaced.seen(at(1999), &seen(7, 5), Writers::Unknown, &TIMES).is_some());
        assert!(!replaced.is_open());
    }

    /// What is mostly holes has no hash: it would be journaled for ever.
    #[test]
    fn what_has_no_hash_is_a_version_once() {
        let mut replaced = Replaced::new(at(0), Some(Kept { hash: None, ..known(4) }));
        assert_eq!(replaced.seen(at(0), &seen(7, 4), Writers::Nobody, &TIMES), Some(None));
        assert!(replaced.looked(at(0), Some(true), true, None));
        let signature = seen(7, 4).signature;
        let changes = vec![Seq(9)];
        let version = Version { file: file(), signature, hash: None, is_whole: true, changes };
        replaced.journaled(at(0), Some(version), true);
        assert_eq!(replaced.due(at(100), true, |_| true), Due::Remove);
    }

    /// A file that somebody holds open becomes a version again and again.
    #[test]
    fn what_everybody_has_is_owed_no_more() {
        let mut replaced = Replaced::new(at(0), None);
        for seq in [7, 9] {
            assert!(replaced.looked(at(0), Some(true), true, None));
            let (signature, hash) = (seen(7, 4).signature, Some(ContentHash::of(b"late")));
            let changes = vec![Seq(seq)];
            let version = Version { file: file(), signature, hash, is_whole: true, changes };
            replaced.journaled(at(0), Some(version), true);
        }
        replaced.acked(Seq(7));
        assert_eq!(replaced.kept(), [(file(), vec![Seq(9)])]);
        replaced.acked(Seq(9));
        assert_eq!(replaced.due(at(100), true, <[_]>::is_empty), Due::Remove);
    }

    /// A mirror leads past what was journaled, and not everybody has.
    #[test]
    fn what_is_passed_over_is_journaled_anew() {
        let mut replaced = Replaced::new(at(0), None);
        assert!(replaced.seen(at(0), &seen(7, 4), Writers::Nobody, &TIMES).is_some());
        assert!(replaced.looked(at(0), Some(true), true, None));
        let (signature, hash) = (seen(7, 4).signature, Some(ContentHash::of(b"late")));
        let version =
            Version { file: file(), signature, hash, is_whole: true, changes: vec![Seq(9)] };
        replaced.journaled(at(0), Some(version), true);
        replaced.pass(|seq| seq > Seq(9));
        assert!(!replaced.kept().is_empty());
        replaced.pass(|seq| seq > Seq(8));
        assert_eq!(replaced.due(at(1), true, |_| true), Due::Look);
        assert_eq!(replaced.seen(at(1), &seen(7, 4), Writers::Nobody, &TIMES), Some(None));
    }

    /// Whoever opened what stood at a live name for a moment has saved there, or will.
    #[test]
    fn what_stood_at_a_name_and_may_be_written_to_is_not_ours_any_more() {
        let when = |micros| When { stamp: Stamp(micros), now: at(0), exact_times: false };
        let (written, later) = (seen(7, 4), when(1_000_000));
        let signature = Signature { ctime: FileTime { secs: 1, nanos: 0 }, ..written.signature };
        let back = Seen { signature, ..written };
        assert!(is_still_ours(&written, &back, Writers::Nobody, later), "it was moved");
        for writers in [Writers::Somebody, Writers::Unknown] {
            assert!(!is_still_ours(&written, &back, writers, later), "{writers:?}");
        }
        let mtime = FileTime { secs: 1, nanos: 0 };
        let saved = Seen { signature: Signature { mtime, ..signature }, ..written };
        let others = [saved, seen(7, 5), seen(8, 4), Seen { links: 2, ..back }];
        for other in others {
            assert!(!is_still_ours(&written, &other, Writers::Nobody, later), "{other:?}");
        }
        assert!(
            !is_still_ours(&written, &back, Writers::Nobody, when(3000)),
            "its time may not tell"
        );
    }

    #[test]
    fn only_the_file_that_was_looked_at_comes_out() {
        let was = Some(seen(7, 4).inode);
        assert!(may_come_out(&seen(7, 5), was, false));
        assert!(!may_come_out(&seen(8, 5), was, false));
        assert!(may_come_out(&seen(8, 5), was, true));
        assert!(!may_come_out(&Seen { links: 2, ..seen(7, 4) }, was, true));
        assert!(!may_come_out(&Seen { kind: Kind::Dir, ..seen(7, 4) }, was, true));
    }

    fn record(seen: &Seen) -> FileRecord {
        let owner = |id| keepshare_base::Owner { id, name: String::new() };
        let meta = keepshare_base::Meta {
            kind: seen.kind,
            size: seen.signature.size,
            mode: seen.mode,
            owner: owner(seen.user),
            group: owner(seen.group),
            mtime: seen.signature.mtime,
            symlink: vec![],
            rdev: 0,
            xattrs: vec![],
        };
        FileRecord::new(seen.inode, seen.signature, meta)
    }

    /// Whatever is put into a folder leaves it the folder that it is; its rights are the folder's own.
    #[test]
    fn a_folder_is_known_by_its_rights_and_not_by_its_times() {
        let folder = Seen { kind: Kind::Dir, ..seen(7, 0) };
        let known = Some((file(), record(&folder)));
        let later = FileTime { secs: 9, nanos: 0 };
        let filled = Seen { signature: Signature { mtime: later, ..folder.signature }, ..folder };
        assert!(matches!(Ground::judge(Some(filled), known.clone()), Ground::Known(..)));
        for other in [Seen { mode: 0o700, ..folder }, Seen { user: 5, ..folder }] {
            assert!(matches!(Ground::judge(Some(other), known.clone()), Ground::Unkept(None)));
        }
        let other = Seen { inode: Inode { number: 8, ..Inode::default() }, ..folder };
        assert!(matches!(Ground::judge(Some(other), known), Ground::Unkept(None)));
        let link = Seen { kind: Kind::Symlink, ..seen(7, 4) };
        let known = Some((file(), record(&link)));
        let later = Seen { signature: Signature { ctime: later, ..link.signature }, ..link };
        assert!(matches!(Ground::judge(Some(link), known.clone()), Ground::Known(..)));
        assert!(matches!(Ground::judge(Some(later), known), Ground::Unkept(None)));
    }

    #[test]
    fn a_request_is_done_on_its_ground_alone() {
        let there = record(&seen(7, 4));
        let ground = RestoreGround {
            folder: FileId::ROOT,
            present: Some(PresentFile::new(file(), &there.meta)),
            still: Some((4, FileTime::default())),
        };
        let now = Some((file(), &there));
        assert_eq!(objection(&ground, FileId::ROOT, now), None);
        assert!(objection(&ground, file(), now).is_some());
        assert!(objection(&ground, FileId::ROOT, None).is_some());
        assert!(objection(&ground, FileId::ROOT, Some((FileId::ROOT, &there))).is_some());
        let mut others = vec![there.clone(); 4];
        others[0].meta.mode = 0o600;
        others[1].meta.owner.id = 5;
        others[2].meta.size = 5;
        others[3].meta.mtime.nanos = 1;
        for other in &others {
            assert!(objection(&ground, FileId::ROOT, Some((file(), other))).is_some());
        }
        let any = RestoreGround { still: None, ..ground.clone() };
        assert_eq!(objection(&any, FileId::ROOT, Some((file(), &others[2]))), None);
        let free = RestoreGround { present: None, still: None, ..ground };
        assert_eq!(objection(&free, FileId::ROOT, None), None);
        assert!(objection(&free, FileId::ROOT, now).is_some());
    }
}
