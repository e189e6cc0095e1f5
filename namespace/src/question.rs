//! One question: who asks, when, and one short view of the set to answer from.

use std::{cell::RefCell, collections::HashMap, sync::MutexGuard};

use keepshare_base::{CommitId, FileId, FileTime, Kind, Meta, Name, Stamp};
use keepshare_versioning::when::When;
use keepshare_versioning::{Touched, View};

use crate::{
    Attributes, Denial, Node, Who,
    cache::{Forgetful, locked},
    guard::{Guard, Time},
    share::Inner,
};

/// How many folders' newest changes are remembered; with more, all folders count as changed.
const CHANGED_FOLDERS_MAX: usize = 16_384;

/// A question in the making of its answer. It pins space of the index: it goes before the answer does.
pub(crate) struct Question<'a> {
    pub(crate) share: &'a Inner,
    pub(crate) who: Who<'a>,
    pub(crate) now: Stamp,
    pub(crate) view: View,
    ways: RefCell<HashMap<(FileId, Time), bool>>,
}

/// When names of folders changed last, as far as it was noticed since the share was opened.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    through: CommitId,
    /// Every folder may have changed as late as this.
    all: CommitId,
    folders: HashMap<FileId, CommitId>,
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
        let time = file_time(self.arrival(commit)?.unwrap_or(or));
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
    ///
    /// The index knows which names a commit touched only for a while. What came meanwhile, and before the share was
    /// opened, counts as a change of every folder: a client that asks again in vain loses less than one that shows names
    /// that are gone.
    pub(crate) fn names_changed(&self, folder: FileId) -> Result<CommitId, Denial> {
        let (latest, newest) = (self.view.latest(), self.view.newest_commit()?);
        let mut changes = locked(&self.share.changes);
        if changes.through > latest {
            // A newer view has been asked already: what it knows must not be told of the names that this one has.
            return Ok(newest);
        }
        if changes.through < latest {
            let touched = match changes.through {
                CommitId(0) => Touched::Everything,
                through => self.view.touched(through)?,
            };
            match touched {
                Touched::Known { names, .. } => {
                    changes.folders.extend(names.into_iter().map(|(folder, _)| (folder, newest)));
                }
                Touched::Everything => changes.all = newest,
            }
            if changes.folders.len() > CHANGED_FOLDERS_MAX {
                changes.all = newest;
            }
            if changes.all == newest {
                changes.folders = HashMap::new();
            }
            changes.through = latest;
        }
        let own = changes.folders.get(&folder).copied();
        Ok(own.map_or(changes.all, |own| own.max(changes.all)))
    }

    /// Calls the name with this hash among those that a folder has or had.
    pub(crate) fn name_of(&self, folder: FileId, hash: crate::NameHash) -> Result<Name, Denial> {
        if let Some(name) = locked(&self.share.names).find(&hash.0) {
            return Ok(name);
        }
        let hasher = &self.share.hasher;
        let found = self.find_name(folder, |name| hasher.name(name.as_bytes()) == hash)?;
        let found = found.ok_or(Denial::Stale)?;
        self.note_names(hash.0, &found);
        Ok(found)
    }

    /// Returns the name after which a listing goes on.
    pub(crate) fn name_at(&self, folder: FileId, cookie: u64) -> Result<Name, Denial> {
        if let Some(name) = locked(&self.share.names).find(&cookie) {
            return Ok(name);
        }
        let hasher = &self.share.hasher;
        let found = self.find_name(folder, |name| hasher.cookie(name.as_bytes()) == cookie)?;
        let found = found.ok_or(Denial::BadCookie)?;
        self.note_names(cookie, &found);
        Ok(found)
    }

    /// Remembers what a hash or a cookie stands for.
    pub(crate) fn note_names(&self, hash: u64, name: &Name) {
        locked(&self.share.names).keep(hash, name.clone(), 1);
    }

    /// Looks through all names that a folder has or ever had, and those of folders before it, a page at a time.
    fn find_name(
        &self,
        folder: FileId,
        is_it: impl Fn(&Name) -> bool,
    ) -> Result<Option<Name>, Denial> {
        let mut after: Option<Name> = None;
        loop {
            let page = self.names_at_path(folder, after.as_ref(), NAMES_PER_PAGE)?;
            if let Some(name) = page.iter().find(|name| is_it(name)) {
                return Ok(Some(name.clone()));
            }
            match page.into_iter().next_back() {
                Some(last) => after = Some(last),
                None => return Ok(None),
            }
        }
    }

    pub(crate) fn known_way(&self, folder: FileId, time: Time) -> Option<bool> {
        self.ways.borrow().get(&(folder, time)).copied()
    }

    pub(crate) fn note_way(&self, way: &[FileId], time: Time, passes: bool) {
        self.ways.borrow_mut().extend(way.iter().map(|folder| ((*folder, time), passes)));
    }

    pub(crate) fn known_guard(&self, file: FileId) -> Option<Guard> {
        let mut present = locked(&self.share.present);
        if present.at == self.view.latest() { present.guards.find(&file) } else { None }
    }

    pub(crate) fn note_guard(&self, file: FileId, guard: &Guard) {
        if let Some(mut present) = self.present() {
            present.guards.keep(file, guard.clone(), guard.weight());
        }
    }

    pub(crate) fn known_attributes(&self, file: FileId) -> Option<Attributes> {
        let mut present = locked(&self.share.present);
        if present.at == self.view.latest() { present.attributes.find(&file) } else { None }
    }

    pub(crate) fn note_attributes(&self, file: FileId, attributes: Attributes) {
        if let Some(mut present) = self.present() {
            present.attributes.keep(file, attributes, 1);
        }
    }

    /// Returns what is remembered of this view's commit; `None` where a newer one has been asked about already.
    fn present(&self) -> Option<MutexGuard<'_, Present>> {
        let mut present = locked(&self.share.present);
        let latest = self.view.latest();
        if present.at < latest {
            present.at = latest;
            present.guards.clear();
            present.attributes.clear();
        }
        (present.at == latest).then_some(present)
    }
}

/// What is remembered of the set at its newest commit.
#[derive(Debug)]
pub(crate) struct Present {
    at: CommitId,
    /// Who may pass where.
    guards: Forgetful<FileId, Guard>,
    attributes: Forgetful<FileId, Attributes>,
}

impl Present {
    /// Returns a memory of nothing.
    pub(crate) fn new() -> Self {
        let (guards, attributes) = (Forgetful::new(GUARDS_KEPT), Forgetful::new(ATTRIBUTES_KEPT));
        Self { at: CommitId(0), guards, attributes }
    }
}

/// Returns a moment as a file system says it.
pub(crate) fn file_time(stamp: Stamp) -> FileTime {
    let nanos = stamp.0.rem_euclid(MICROS) * 1000;
    FileTime { secs: stamp.0.div_euclid(MICROS), nanos: u32::try_from(nanos).unwrap_or(0) }
}

/// How many names are read at once where one is searched for.
const NAMES_PER_PAGE: usize = 1024;

/// How many files and folders are remembered, with the places they have, in each half: about 5 MiB.
const GUARDS_KEPT: usize = 32_768;

/// How many things' attributes are remembered, in each half: about 16 MiB. A folder that is listed again and again, or whose
/// names are looked up in no order, is answered from here as long as all of it fits.
const ATTRIBUTES_KEPT: usize = 131_072;

const MODE_BITS: u32 = 0o777;
const MICROS: i64 = 1_000_000;
const MINUTE_MICROS: i64 = 60 * MICROS;

/// Times that are typed and lie this far back, or farther, may be told as they were up to a minute ago.
const SHORT_MICROS: i64 = 60 * MINUTE_MICROS;
