//! What was lost a short while ago, and may be found again elsewhere.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use keepshare_base::{FileId, FileTime, Kind};
use keepshare_proto::MonoTime;

use crate::{FileRecord, Inode, Seen};

/// The most files.
const LOST_MAX: usize = 1 << 16;

/// For how long they are remembered while no scan runs.
const LOST_FOR: Duration = Duration::from_secs(60);

/// Files and folders that lost their last name, by the object that each was.
///
/// A name that shows nothing has a second look, but one that shows something else has what it stood for lost at once: that may
/// have moved to where nobody has looked yet, as into a folder that is new. Whoever is found there is the same file: it has its
/// id again, with its history. At most 65,536 are remembered, for a minute, and for as long as a scan runs.
#[derive(Debug, Default)]
pub struct Lost {
    files: HashMap<Inode, LostFile>,
    /// When each was lost, in order.
    order: VecDeque<(MonoTime, Inode)>,
}

#[derive(Debug)]
struct LostFile {
    file: FileId,
    kind: Kind,
    at: MonoTime,
}

impl Lost {
    /// Remembers a file that was lost, where its file system tells when it was made: a number alone is given again.
    pub fn add(&mut self, now: MonoTime, file: FileId, record: &FileRecord) {
        if record.inode.birth == FileTime::default() || self.order.len() >= LOST_MAX {
            return;
        }
        self.order.push_back((now, record.inode));
        self.files.insert(record.inode, LostFile { file, kind: record.meta.kind, at: now });
    }

    /// Returns the file that an object was which is seen now.
    pub fn find(&self, seen: &Seen) -> Option<FileId> {
        let lost = self.files.get(&seen.inode)?;
        (lost.kind == seen.kind).then_some(lost.file)
    }

    /// Forgets what nobody found.
    pub(super) fn forget_old(&mut self, now: MonoTime) {
        while let Some((at, inode)) = self.order.front().copied() {
            if now.since(at) < LOST_FOR {
                return;
            }
            self.order.pop_front();
            if self.files.get(&inode).is_some_and(|lost| lost.at == at) {
                self.files.remove(&inode);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        agenda::Agenda,
        tests::{Folder, at, id, meta},
    };

    fn lost(number: u64) -> (Seen, FileRecord) {
        let mut folder = Folder::default();
        folder.make("a", number, Kind::File);
        let seen = folder.objects["a"];
        (seen, FileRecord::new(seen.inode, seen.signature, meta(&seen)))
    }

    /// What was moved while nobody looked is found late by a scan, and everything else soon: neither may cost memory for ever.
    #[test]
    fn what_is_lost_is_remembered_for_a_minute_or_while_a_scan_runs() {
        let mut agenda = Agenda::default();
        let (seen, record) = lost(7);
        agenda.lost.add(at(0), id(1), &record);
        agenda.take_due(at(59_999));
        assert_eq!(agenda.lost.find(&seen), Some(id(1)));
        agenda.begin_scan();
        agenda.take_due(at(600_000));
        assert_eq!(agenda.lost.find(&seen), Some(id(1)), "a scan runs");
        while agenda.take_folder().is_some() {}
        assert!(agenda.end_scan());
        agenda.take_due(at(600_001));
        assert_eq!(agenda.lost.find(&seen), None);
    }

    /// Whoever removes a whole disk's worth of files does not have them all remembered.
    #[test]
    fn only_so_many_are_remembered() {
        let mut all = Lost::default();
        for number in 1..=LOST_MAX as u64 + 1 {
            all.add(at(0), id(number), &lost(number).1);
        }
        assert_eq!((all.files.len(), all.order.len()), (LOST_MAX, LOST_MAX));
        all.forget_old(at(60_000));
        assert!(all.files.is_empty() && all.order.is_empty());
    }

    /// One that was lost twice is remembered since it was the last time.
    #[test]
    fn what_is_lost_again_is_remembered_from_then_on() {
        let mut all = Lost::default();
        let (seen, record) = lost(7);
        all.add(at(0), id(1), &record);
        all.add(at(50_000), id(2), &record);
        all.forget_old(at(60_000));
        assert_eq!(all.find(&seen), Some(id(2)));
    }

    /// A number is given again at once; what tells that it was is when the object was made.
    #[test]
    fn only_the_very_object_is_found_again() {
        let mut all = Lost::default();
        let (seen, record) = lost(7);
        let of = |birth| Inode { number: 7, birth };
        all.add(at(0), id(1), &record);
        let other = Seen { inode: of(FileTime { secs: 2, nanos: 0 }), ..seen };
        assert_eq!(all.find(&other), None, "made at another time");
        assert_eq!(all.find(&Seen { kind: Kind::Dir, ..seen }), None, "of another kind");
        let nowhen = of(FileTime::default());
        let younger = FileRecord { inode: other.inode, ..record.clone() };
        all.add(at(0), id(3), &younger);
        assert_eq!(all.find(&seen), Some(id(1)), "two that had one number");
        all.add(at(0), id(2), &FileRecord { inode: nowhen, ..record });
        assert_eq!(
            all.find(&Seen { inode: nowhen, ..seen }),
            None,
            "nobody tells when it was made"
        );
    }
}
