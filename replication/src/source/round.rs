//! One round of looking: dirty names and files against the map.
//!
//! A round looks at names and files that may have changed, brings the map to what it saw, and remembers what differed.
//! [`super::ship`] then makes changes of that. A round may see the middle of a rename that is still being noticed, so it
//! believes that something vanished only on a second look, and follows every contradiction (a folder with two names, a
//! file with fewer names on disk than in the map) by looking at the other names too.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    io,
    os::fd::{AsFd, OwnedFd},
};

use keepshare_base::{DEPTH_MAX, FileId, Kind, Name};

use super::{
    SourceError,
    folders::Folders,
    ledger::Tx,
    map::FileRecord,
    owners::Owners,
    pending::Strange,
    plan::NameDiff,
    tree::{self, AtName, Seen, Tree},
};
use crate::capture::{Capture, Touch};

mod settling;

/// Which file each name stands for.
pub(crate) type Seed = HashMap<(FileId, Name), (FileId, Kind)>;

/// A name to look at.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NameTask {
    /// How what it stands for was touched.
    pub(crate) touch: Touch,
    /// It was seen to be gone before.
    pub(crate) second: bool,
    /// A scan asks: nobody said that it changed, and nobody would have.
    pub(crate) scan: bool,
    /// Its folder was not where the map had it.
    pub(crate) delayed: bool,
    /// How often that was so.
    pub(crate) tries: u8,
}

/// A file to look at.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FileTask {
    /// How it was touched.
    pub(crate) touch: Touch,
    /// Compare its content even if its times say nothing.
    pub(crate) verify: bool,
    /// Compare its content where its times differ at all: nobody would have told that it was written.
    pub(crate) suspect: bool,
}

/// A file that was seen and may differ from the map.
#[derive(Clone, Debug)]
pub(crate) struct SeenFile {
    /// What was seen.
    pub(crate) seen: Seen,
    /// Under which name.
    pub(crate) parent: FileId,
    /// And this one.
    pub(crate) name: Option<Name>,
    /// How it was touched.
    pub(crate) touch: Touch,
    /// Compare its content.
    pub(crate) verify: bool,
    /// Compare its content where its times differ at all.
    pub(crate) suspect: bool,
    /// It is new.
    pub(crate) born: bool,
}

/// What a round found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Names that changed; the map has them already.
    pub(crate) diffs: BTreeMap<(FileId, Name), NameDiff>,
    /// In the order in which they were found.
    pub(crate) order: Vec<(FileId, Name)>,
    /// Files seen.
    pub(crate) files: BTreeMap<FileId, SeenFile>,
    /// Folders in which something was looked at.
    pub(crate) parents: HashSet<FileId>,
    /// Files that lost their last name, with what was known of them.
    pub(crate) lost: Vec<(FileId, FileRecord)>,
    /// Names to look at once more.
    pub(crate) again: Vec<(FileId, Name, NameTask)>,
    /// Folders to compare whole, and whether everything below them is to be compared too.
    pub(crate) walks: Vec<(FileId, bool)>,
    /// Big new files whose name waits for the content.
    pub(crate) big: Vec<(FileId, Name, Seen, Touch)>,
    /// Files that have more names than the source knows.
    pub(crate) linked: Vec<FileId>,
    /// Names that cannot be shown or read.
    pub(crate) problems: Vec<(FileId, Option<Name>, String)>,
    /// Names that are replicated, but for something of them.
    pub(crate) partial: Vec<(FileId, Option<Name>, String)>,
}

/// What a round works with.
pub(crate) struct Round<'a, 't> {
    tx: &'a mut Tx<'t>,
    tree: &'a Tree,
    owners: &'a mut Owners,
    capture: &'a mut dyn Capture,
    /// A new file longer than this gets its name when its content was read.
    pub(crate) big_bytes: Option<u64>,
    /// The inodes of new big files that are being read.
    reading: &'a HashMap<u64, FileId>,
    /// Everything is being compared.
    pub(crate) scanning: bool,
    /// How objects were touched that the map does not know yet.
    strange: &'a mut Strange,
    /// Which file each name stood for at a station.
    pub(crate) seed: Option<&'a Seed>,
    found: Findings,
    folders: Folders,
    looked: HashSet<(FileId, Name)>,
    queue: VecDeque<(FileId, Name, NameTask)>,
    gone: Vec<(FileId, Name, FileId, NameTask)>,
    unnamed: HashSet<FileId>,
    budget: u64,
}

/// Why a name inside is not looked behind.
pub(crate) const MOUNTED: &str = "something is mounted here, or another file system begins; it is not replicated: make it a set of its own";

/// What is said of a folder in which a file would lie deeper than a set's paths go.
const TOO_DEEP: &str =
    "too many folders inside each other; it is not replicated, with all below it";

/// So often a name is tried again, every 20 ms, whose folder the map cannot find from the root.
const TRIES_MAX: u8 = 50;

/// The most content of new files that one round takes on; the rest waits for the next one.
pub(crate) const INLINE_BYTES_MAX: u64 = 16 << 20;

impl<'a, 't> Round<'a, 't> {
    /// Begins a round.
    pub(crate) fn new(
        tx: &'a mut Tx<'t>,
        tree: &'a Tree,
        owners: &'a mut Owners,
        capture: &'a mut dyn Capture,
        reading: &'a HashMap<u64, FileId>,
        strange: &'a mut Strange,
    ) -> Self {
        Self {
            tx,
            tree,
            owners,
            capture,
            big_bytes: None,
            reading,
            scanning: false,
            strange,
            seed: None,
            found: Findings::default(),
            folders: Folders::default(),
            looked: HashSet::new(),
            unnamed: HashSet::new(),
            budget: INLINE_BYTES_MAX,
            queue: VecDeque::new(),
            gone: Vec::new(),
        }
    }

    /// Looks at names and files, and at whatever else they lead to.
    pub(crate) fn look(
        mut self,
        names: Vec<(FileId, Name, NameTask)>,
        files: Vec<(FileId, FileTask)>,
    ) -> Result<Findings, SourceError> {
        self.queue.extend(names);
        for (file, task) in files {
            self.look_at_file(file, task)?;
        }
        self.look_at_names()?;
        self.settle_folders()?;
        self.believe_gone()?;
        self.look_at_remaining()?;
        self.drop_lost()?;
        while !self.unnamed.is_empty() {
            // They had a name in a folder that is gone, and what was told of that name nobody could look at.
            self.look_at_remaining()?;
            self.drop_lost()?;
        }
        Ok(self.found)
    }

    fn look_at_names(&mut self) -> Result<(), SourceError> {
        let mut put_off: Vec<(FileId, Name, NameTask)> = Vec::new();
        let mut tried_again = false;
        loop {
            let Some((parent, name, task)) = self.queue.pop_front() else {
                // The names seen so far may have moved the folders of those that could not be seen.
                if put_off.is_empty() || tried_again {
                    break;
                }
                tried_again = true;
                self.folders.clear();
                self.queue.extend(put_off.drain(..));
                continue;
            };
            self.looked.insert((parent, name.clone()));
            match self.folders.open(&self.tx.map, self.tree, parent)? {
                Some(folder) => self.look_at_name(&folder, parent, name, task)?,
                None if self.folders.take_mounted() => {
                    // All of it is compared when it is to be seen again.
                    for (parent, name) in self.tx.map.places(parent)? {
                        self.queue_once(parent, name);
                    }
                }
                None => match self.folders.take_denied() {
                    Some(error) => self.found.problems.push((parent, None, error.to_string())),
                    None => put_off.push((parent, name, task)),
                },
            }
        }
        let (mut missing, mut adrift) = (HashSet::new(), HashSet::new());
        for (parent, name, task) in put_off {
            // Gone with its folder, or its folder is being moved. Either shows at the folders' own names.
            // The number of a folder that is gone may be a file's by now.
            let known = self.tx.map.record(parent)?;
            let is_known = known.is_some_and(|record| record.meta.kind == Kind::Dir);
            if is_known && !self.tx.map.links(parent, 1)?.is_empty() {
                if task.tries >= TRIES_MAX && self.tx.map.path(parent)?.is_none() {
                    adrift.insert(parent);
                    continue;
                }
                let tries = task.tries.saturating_add(1);
                self.found.again.push((parent, name, NameTask { delayed: true, tries, ..task }));
                missing.insert(parent);
            }
        }
        for folder in adrift {
            // The map has no way from the root to it, and no name that was told of led there: it is gone, with its names.
            // Were it there after all, it is found as a new folder.
            for (parent, name) in self.tx.map.links(folder, 4)? {
                let old = self.tx.map.lookup(parent, &name)?;
                self.set_name(parent, &name, old, None)?;
            }
        }
        for folder in missing {
            for (parent, name) in self.tx.map.places(folder)? {
                if self.looked.insert((parent, name.clone())) {
                    self.found.again.push((parent, name, NameTask::default()));
                }
            }
        }
        Ok(())
    }

    fn look_at_name(
        &mut self,
        folder: &OwnedFd,
        parent: FileId,
        name: Name,
        task: NameTask,
    ) -> Result<(), SourceError> {
        self.found.parents.insert(parent);
        let old = self.tx.map.lookup(parent, &name)?;
        match self.tree.look(folder.as_fd(), &name) {
            Ok(AtName::Object(seen)) => self.look_at_object(folder, parent, name, task, seen, old),
            Ok(AtName::Nothing) => {
                if let Some((file, _)) = old {
                    self.gone.push((parent, name, file, task));
                }
                Ok(())
            }
            Ok(AtName::Mounted) => {
                self.found.problems.push((parent, Some(name), MOUNTED.to_owned()));
                Ok(())
            }
            Err(error) => {
                self.found.problems.push((parent, Some(name), error.to_string()));
                Ok(())
            }
        }
    }

    fn look_at_object(
        &mut self,
        folder: &OwnedFd,
        parent: FileId,
        name: Name,
        task: NameTask,
        seen: Seen,
        old: Option<(FileId, Kind)>,
    ) -> Result<(), SourceError> {
        let mut touch = task.touch;
        touch.add(self.strange.take(seen.inode.into()));
        if self.reading.contains_key(&seen.inode.number) {
            self.found.big.push((parent, name, seen, touch));
            return Ok(());
        }
        if seen.kind == Kind::Dir && self.tx.map.places(parent)?.len() + 2 > DEPTH_MAX {
            self.found.problems.push((parent, Some(name), TOO_DEEP.to_owned()));
            return Ok(());
        }
        let known = self.identify(&seen)?;
        let file = match known {
            Some(file) => {
                self.look_at_other_names(file, &seen, parent, &name)?;
                // What is moved under a running scan is still gone through.
                let moved = self.scanning && old.map(|(old, _)| old) != Some(file);
                if seen.kind == Kind::Dir && (task.scan || moved) {
                    self.found.walks.push((file, true));
                }
                file
            }
            None => {
                if let (Some(max), Kind::File) = (self.big_bytes, seen.kind) {
                    if seen.signature.size > max {
                        self.found.big.push((parent, name, seen, touch));
                        return Ok(());
                    }
                    if seen.signature.size > self.budget {
                        self.found.again.push((parent, name, NameTask { touch, ..task }));
                        return Ok(());
                    }
                    self.budget -= seen.signature.size;
                }
                // The first scan reads nothing, and what nobody can read is no file for the stations.
                if self.big_bytes.is_none()
                    && seen.kind == Kind::File
                    && let Err(error) = tree::may_read(folder.as_fd(), &name, &seen)
                {
                    self.found.problems.push((parent, Some(name), error.to_string()));
                    return Ok(());
                }
                match self.give_birth(folder, parent, &name, &seen, task.scan)? {
                    Ok(file) => file,
                    Err(error) => {
                        // Gone again while we looked: its folder tells.
                        if error.kind() != io::ErrorKind::NotFound {
                            self.found.problems.push((parent, Some(name), error.to_string()));
                        }
                        return Ok(());
                    }
                }
            }
        };
        if old.map(|(old, _)| old) != Some(file) {
            self.set_name(parent, &name, old, Some((file, seen.kind)))?;
        }
        if seen.kind == Kind::File && seen.links > 1 {
            let known = self.tx.map.links(file, seen.links as usize)?.len();
            if known < seen.links as usize {
                self.found.linked.push(file);
            }
        }
        let born = known.is_none();
        let entry = self.found.files.entry(file).or_insert_with(|| SeenFile {
            seen,
            parent,
            name: Some(name.clone()),
            touch,
            verify: false,
            suspect: task.scan,
            born,
        });
        entry.seen = seen;
        entry.suspect |= task.scan;
        (entry.parent, entry.name) = (parent, Some(name));
        entry.touch.add(touch);
        Ok(())
    }

    /// Returns the file that an object is known as.
    fn identify(&mut self, seen: &Seen) -> Result<Option<FileId>, SourceError> {
        let Some(file) = self.tx.map.by_number(seen.inode.number)? else { return Ok(None) };
        if file == FileId::ROOT {
            return Ok(None);
        }
        let record = self.tx.map.record(file)?;
        let same = record.is_some_and(|r| r.inode == seen.inode && r.meta.kind == seen.kind);
        Ok(same.then_some(file))
    }

    /// Looks at the other names of a file where there is something to find.
    fn look_at_other_names(
        &mut self,
        file: FileId,
        seen: &Seen,
        parent: FileId,
        name: &Name,
    ) -> Result<(), SourceError> {
        let limit = if seen.kind == Kind::Dir { 2 } else { seen.links as usize + 1 };
        let links = self.tx.map.links(file, limit)?;
        let here = links.iter().any(|(p, n)| *p == parent && n == name);
        let would_be = links.len() + usize::from(!here);
        let most = if seen.kind == Kind::Dir { 1 } else { seen.links as usize };
        if would_be > most {
            for (other_parent, other) in links {
                if other_parent != parent || other != *name {
                    self.queue_once(other_parent, other);
                }
            }
        }
        Ok(())
    }

    fn queue_once(&mut self, parent: FileId, name: Name) {
        if self.looked.insert((parent, name.clone())) {
            self.queue.push_back((parent, name, NameTask::default()));
        }
    }

    /// Makes an object that is new known, with the attributes it has.
    fn give_birth(
        &mut self,
        folder: &OwnedFd,
        parent: FileId,
        name: &Name,
        seen: &Seen,
        scan: bool,
    ) -> Result<io::Result<FileId>, SourceError> {
        let meta = match tree::meta(self.owners, folder.as_fd(), Some(name), seen) {
            Ok(meta) => meta,
            Err(error) => return Ok(Err(error)),
        };
        if seen.kind == Kind::Symlink {
            // Its target was read by the name: another may have taken it since the look.
            match self.tree.look(folder.as_fd(), name) {
                Ok(AtName::Object(now)) if now.inode == seen.inode => {}
                _ => return Ok(Err(io::ErrorKind::NotFound.into())),
            }
        }
        if let Some(what) = meta.left_out() {
            self.found.partial.push((parent, Some(name.clone()), what));
        }
        let file = match self.seeded(parent, name, seen.kind)? {
            Some(file) => file,
            None => self.tx.new_file()?,
        };
        self.owners.note(file, &meta);
        self.tx.map.set_record(file, &FileRecord::new(seen.inode, seen.signature, meta))?;
        if seen.kind == Kind::Dir {
            self.found.walks.push((file, scan));
        }
        Ok(Ok(file))
    }

    /// Returns the file that this name stood for at a station, when the map was lost.
    fn seeded(
        &self,
        parent: FileId,
        name: &Name,
        kind: Kind,
    ) -> Result<Option<FileId>, SourceError> {
        let Some(seed) = self.seed.filter(|seed| !seed.is_empty()) else { return Ok(None) };
        match seed.get(&(parent, name.clone())) {
            Some((file, then)) if *then == kind && self.tx.map.record(*file)?.is_none() => {
                Ok(Some(*file))
            }
            _ => Ok(None),
        }
    }

    fn set_name(
        &mut self,
        parent: FileId,
        name: &Name,
        old: Option<(FileId, Kind)>,
        new: Option<(FileId, Kind)>,
    ) -> Result<(), SourceError> {
        self.tx.map.set_name(parent, name, new)?;
        if old.or(new).is_some_and(|(_, kind)| kind == Kind::Dir) {
            self.folders.clear();
        }
        self.unnamed.extend(old.map(|(old, _)| old));
        let key = (parent, name.clone());
        match self.found.diffs.get_mut(&key) {
            Some(diff) => diff.new = new,
            None => {
                self.found.order.push(key.clone());
                let diff = NameDiff { parent, name: name.clone(), old, new };
                self.found.diffs.insert(key, diff);
            }
        }
        Ok(())
    }

    fn look_at_file(&mut self, file: FileId, task: FileTask) -> Result<(), SourceError> {
        let Some(record) = self.tx.map.record(file)? else { return Ok(()) };
        let (parent, name, folder) = if file == FileId::ROOT {
            (file, None, self.folders.open(&self.tx.map, self.tree, file)?)
        } else {
            let Some((parent, name)) = self.tx.map.links(file, 1)?.pop() else { return Ok(()) };
            (parent, Some(name), self.folders.open(&self.tx.map, self.tree, parent)?)
        };
        let looked = match (&folder, &name) {
            (Some(folder), Some(name)) => self.tree.look(folder.as_fd(), name),
            (Some(folder), None) => self.tree.look_at(folder.as_fd()).map(AtName::Object),
            (None, _) => Ok(AtName::Nothing),
        };
        match (looked, name) {
            (Ok(AtName::Object(seen)), name) if seen.inode == record.inode => {
                let SeenFile { touch, verify, suspect, .. } =
                    self.found.files.entry(file).or_insert_with(|| SeenFile {
                        seen,
                        parent,
                        name,
                        touch: Touch::default(),
                        verify: false,
                        suspect: false,
                        born: false,
                    });
                touch.add(task.touch);
                *verify |= task.verify;
                *suspect |= task.suspect;
            }
            // Its name stands for something else now; whoever has a second name is found there.
            (_, Some(_)) => {
                for (parent, name) in self.tx.map.links(file, 64)? {
                    let task = NameTask { touch: task.touch, ..NameTask::default() };
                    self.queue.push_back((parent, name, task));
                }
            }
            (_, None) => {}
        }
        Ok(())
    }

    /// Takes names that stand for nothing any more out of the map: at once where the file has another name, else on the
    /// second look.
    fn believe_gone(&mut self) -> Result<(), SourceError> {
        for (parent, name, file, task) in std::mem::take(&mut self.gone) {
            let old = self.tx.map.lookup(parent, &name)?;
            if old.map(|(old, _)| old) != Some(file) {
                continue;
            }
            let has_other = self.tx.map.links(file, 2)?.len() > 1;
            if has_other || task.second {
                self.set_name(parent, &name, old, None)?;
            } else {
                self.found.again.push((parent, name, NameTask { second: true, ..task }));
            }
        }
        Ok(())
    }

    /// Looks at files that lost one of several names: they may have been written under that one.
    fn look_at_remaining(&mut self) -> Result<(), SourceError> {
        let unnamed: Vec<FileId> = self.unnamed.iter().copied().collect();
        for file in unnamed {
            if !self.found.files.contains_key(&file) && !self.tx.map.links(file, 1)?.is_empty() {
                self.look_at_file(file, FileTask::default())?;
            }
        }
        self.look_at_names()?;
        self.settle_folders()?;
        self.believe_gone()
    }

    /// Forgets files without a name, and what was in folders without one.
    fn drop_lost(&mut self) -> Result<(), SourceError> {
        let mut stack: Vec<FileId> = Vec::new();
        for file in std::mem::take(&mut self.unnamed) {
            if self.tx.map.links(file, 1)?.is_empty() {
                stack.push(file);
            }
        }
        let mut seen = HashSet::new();
        let head = self.found.order.len();
        while let Some(file) = stack.pop() {
            if !seen.insert(file) {
                continue;
            }
            let Some(record) = self.tx.map.record(file)? else { continue };
            let number = record.inode.number;
            // The number may be another's by now, which keeps its watch.
            if self.tx.map.by_number(number)? == Some(file) {
                self.capture.unwatch(number);
            }
            if record.meta.kind == Kind::Dir {
                while let Some(entry) = self.tx.map.list(file, None, 1)?.pop() {
                    self.set_name(file, &entry.name, Some((entry.file, entry.kind)), None)?;
                    if self.tx.map.links(entry.file, 1)?.is_empty() {
                        stack.push(entry.file);
                    }
                }
            }
            self.found.files.remove(&file);
            self.tx.map.remove_file(file)?;
            self.found.lost.push((file, record));
        }
        // What is deepest goes first.
        let mut inner = self.found.order.split_off(head);
        inner.reverse();
        inner.append(&mut self.found.order);
        self.found.order = inner;
        Ok(())
    }
}
