//! One question: who asks, when, and one short view of the set to answer from.

use std::{cell::RefCell, collections::HashMap, time::Duration};

use keepshare_base::{CommitId, FileId, FileTime, Kind, Meta, Stamp};
use keepshare_versioning::View;
use keepshare_versioning::when::When;

use crate::{
    Attributes, Denial, Node, Who,
    cache::{Permit, locked},
    guard::{Guard, Time},
    memory::Inner,
};

/// A question in the making of its answer. It pins space of the index: it goes before the answer does.
pub(crate) struct Question<'a> {
    pub(crate) share: &'a Inner,
    pub(crate) who: Who<'a>,
    pub(crate) now: Stamp,
    pub(crate) view: View,
    ways: RefCell<HashMap<(FileId, Time), bool>>,
}

impl<'a> Question<'a> {
    /// Returns a question to the set as it is now.
    pub(crate) fn new(
        share: &'a Inner,
        who: impl Into<Who<'a>>,
        now: Stamp,
    ) -> Result<Self, Denial> {
        let view = share.config.reader.view()?;
        Ok(Self { share, who: who.into(), now, view, ways: RefCell::default() })
    }

    /// Waits for the turn to go through a whole history. Not for long: who asks holds a view of the index meanwhile.
    pub(crate) fn turn_to_walk(&self) -> Result<Permit<'_>, Denial> {
        self.share.walks.take(TURN_WAIT).ok_or(Denial::Busy)
    }

    /// Returns what is known of a thing that has these attributes.
    pub(crate) fn attributes_of(&self, node: Node, meta: &Meta, ctime: FileTime) -> Attributes {
        let is_link = meta.kind == Kind::Symlink;
        let size = if is_link { meta.symlink.len() as u64 } else { meta.size };
        Attributes {
            kind: meta.kind,
            mode: meta.mode & MODE_BITS,
            links: 1,
            uid: meta.owner.id,
            gid: meta.group.id,
            size,
            id: self.share.hasher.id(node),
            mtime: meta.mtime,
            ctime,
        }
    }

    /// Returns what is known of a folder that only `@versions` has; who owns `folder` owns it.
    pub(crate) fn made_folder(&self, node: Node, folder: FileId) -> Result<Attributes, Denial> {
        let mtime = self.changed_by(self.view.newest_commit()?, Stamp(0))?;
        let minute = Stamp(self.now.0 - self.now.0.rem_euclid(MINUTE_MICROS));
        // Whoever types a short time again means another moment: what it meant is not kept.
        let typed = locked(&self.share.typed).find(&node).unwrap_or(minute);
        let ctime = mtime.max(file_time(minute.max(typed)));
        Ok(Attributes { mtime, ctime, ..self.made(node, folder, Kind::Dir, 0o555, 0)? })
    }

    /// Notes that a time was typed in a folder that only `@versions` has, which means another moment soon.
    pub(crate) fn note_typed(&self, node: Node, when: When) {
        if matches!(when, When::Ago(micros) if micros < SHORT_MICROS) {
            locked(&self.share.typed).keep(node, self.now, 1);
        }
    }

    /// Returns what is known of a file that only `@versions` has.
    pub(crate) fn made_file(
        &self,
        node: Node,
        folder: FileId,
        size: usize,
    ) -> Result<Attributes, Denial> {
        self.made(node, folder, Kind::File, 0o444, size as u64)
    }

    fn made(
        &self,
        node: Node,
        folder: FileId,
        kind: Kind,
        mode: u32,
        size: u64,
    ) -> Result<Attributes, Denial> {
        let meta = self.view.meta(folder, CommitId::MAX)?;
        let (uid, gid) = meta.map_or((0, 0), |(_, meta)| (meta.owner.id, meta.group.id));
        let newest = self.changed_by(self.view.newest_commit()?, Stamp(0))?;
        let id = self.share.hasher.id(node);
        Ok(Attributes { kind, mode, links: 1, uid, gid, size, id, mtime: newest, ctime: newest })
    }

    /// Returns the ctime of what a commit changed last; it arrived at `or` where it has no row.
    ///
    /// Each commit has another one, though clocks stand still or mtimes lie ahead: clients keep old bytes for as long as
    /// it stays.
    pub(crate) fn changed_by(&self, commit: CommitId, or: Stamp) -> Result<FileTime, Denial> {
        let arrival = match self.arrival(commit)? {
            Some(arrival) => arrival,
            // What came with it was removed, and all that stands around it is as after the one before.
            None => match self.view.commit_before(commit)? {
                Some(before) => self.arrival(before)?.unwrap_or(or).max(or),
                None => or,
            },
        };
        let time = file_time(arrival);
        // Arrivals have no digits below a microsecond.
        let digits = u32::try_from(commit.0 % 1000).unwrap_or(0);
        Ok(FileTime { nanos: time.nanos + digits, ..time })
    }

    /// Returns when a commit arrived; `None` where it has no row.
    pub(crate) fn arrival(&self, commit: CommitId) -> Result<Option<Stamp>, Denial> {
        if let Some(known) = locked(&self.share.arrivals).find(&commit) {
            return Ok(Some(known));
        }
        let arrival = self.view.commit_info(commit)?.map(|info| info.arrival);
        if let Some(arrival) = arrival {
            locked(&self.share.arrivals).keep(commit, arrival, 1);
        }
        Ok(arrival)
    }

    /// Returns the commit that changed names of a living folder last, or a later one: never an earlier.
    pub(crate) fn names_changed(&self, folder: FileId) -> Result<CommitId, Denial> {
        let newest = self.view.newest_commit()?;
        Ok(locked(&self.share.changes).last_of(folder, &self.view, newest)?)
    }

    pub(crate) fn known_way(&self, folder: FileId, time: Time) -> Option<bool> {
        self.ways.borrow().get(&(folder, time)).copied()
    }

    pub(crate) fn note_way(&self, way: &[FileId], time: Time, passes: bool) {
        self.ways.borrow_mut().extend(way.iter().map(|folder| ((*folder, time), passes)));
    }

    /// Forgets ways where very many are known: who asks of many commits has as many of each folder.
    pub(crate) fn forget_ways(&self) {
        if self.ways.borrow().len() > WAYS_MAX {
            self.ways.borrow_mut().clear();
        }
    }

    pub(crate) fn known_guard(&self, file: FileId) -> Option<Guard> {
        locked(&self.share.present).guard(self.view.latest(), file)
    }

    pub(crate) fn note_guard(&self, file: FileId, guard: &Guard) {
        locked(&self.share.present).keep_guard(self.view.latest(), file, guard);
    }

    pub(crate) fn known_attributes(&self, file: FileId) -> Option<Attributes> {
        locked(&self.share.present).attributes(self.view.latest(), file)
    }

    pub(crate) fn note_attributes(&self, file: FileId, attributes: Attributes) {
        locked(&self.share.present).keep_attributes(self.view.latest(), file, attributes);
    }
}

/// Returns a moment as a file system says it.
pub(crate) fn file_time(stamp: Stamp) -> FileTime {
    let nanos = stamp.0.rem_euclid(MICROS) * 1000;
    FileTime { secs: stamp.0.div_euclid(MICROS), nanos: u32::try_from(nanos).unwrap_or(0) }
}

/// How long a question waits for others that go through histories.
const TURN_WAIT: Duration = Duration::from_secs(5);

/// How many ways a long question remembers.
const WAYS_MAX: usize = 100_000;

const MODE_BITS: u32 = 0o777;
const MICROS: i64 = 1_000_000;
const MINUTE_MICROS: i64 = 60 * MICROS;

/// Times that are typed and lie this far back, or farther, may be told as they were up to a minute ago.
const SHORT_MICROS: i64 = 60 * MINUTE_MICROS;
