//! One round of looking: dirty names and files against the map.
//!
//! A round asks what stands at names that may have changed ([`Look::next`]), hears the answers ([`Look::hear`]), brings the
//! map to them, and remembers what differed. [`crate::compose`] then makes changes of that. A round may see the middle of a
//! rename that is still being noticed, so it believes that something vanished only on a second look, and follows every
//! contradiction (a folder with two names, a file with fewer names on disk than in the map) by asking for the other names
//! too.
//!
//! A round goes through these steps, and through the last three again for as long as files lose names:
//!
//! | step | what is asked | what comes of it |
//! |---|---|---|
//! | looking | the files and names of the round, and those that they lead to | names and files in the map; names that show nothing |
//! | settling (`settling`) | the names of folders that the map has under several | one name each |
//! | believing | nothing | names that show nothing go: at once where the file has another, else on the second look |
//! | remaining | files that lost one of several names | they may have been written under that one |
//! | dropping | nothing | files without a name are forgotten, with all that was in folders without one |

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use keepshare_base::{FileId, Kind, Meta, Name};

use crate::{
    AtName, Failure, Ledger, Looked, NoFolder, Seed, Seen, Touch,
    agenda::{FileTask, Lost, NameTask, Strangers},
};

mod findings;
mod gone;
mod objects;
mod settling;

pub use findings::{Big, Findings, More, NameDiff, SeenFile};
use objects::Newborn;
use settling::Settling;

/// Why a name inside is not looked behind.
pub const MOUNTED: &str = "something is mounted here, or another file system begins; it is not replicated: make it a set of its own";

/// So often a name is tried again, every 20 ms, whose folder the map cannot find from the root.
const TRIES_MAX: u8 = 50;

/// The most content of new files that one round takes on; the rest waits for the next one.
pub const INLINE_BYTES_MAX: u64 = 16 << 20;

/// What a round wants to know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ask {
    /// What a name stands for: answered with [`Fact::Looked`].
    Name(FileId, Name),
    /// What a folder is that has no name, the root: answered with [`Fact::Looked`].
    Root,
    /// The attributes of the object that the name was seen to stand for: answered with [`Fact::Attributes`], and with a
    /// failure where the name stands for another by now.
    Attributes(FileId, Name, Seen),
    /// Whether the object could be read: answered with [`Fact::Readable`].
    Readable(FileId, Name, Seen),
}

/// The answer to an [`Ask`].
#[derive(Clone, Debug)]
pub enum Fact {
    /// What was seen.
    Looked(Looked),
    /// The attributes.
    Attributes(Result<Meta, Failure>),
    /// Whether it can be read.
    Readable(Result<(), Failure>),
}

/// What the rest of the source tells a round.
#[derive(Debug)]
pub struct Context<'a> {
    /// A new file longer than this gets its name when its content was read; `None`: nothing is read at all.
    pub big_bytes: Option<u64>,
    /// Everything is being compared.
    pub is_scanning: bool,
    /// The inodes of new big files that are being read.
    pub reading: &'a HashMap<u64, FileId>,
    /// How objects were touched that the map does not know yet.
    pub strangers: &'a mut Strangers,
    /// What lost its last name a short while ago.
    pub lost: &'a Lost,
    /// Which file each name stood for at a station.
    pub seed: &'a Seed,
}

/// A name that is looked at.
#[derive(Clone, Debug)]
struct NameItem {
    parent: FileId,
    name: Name,
    task: NameTask,
}

/// What the next fact is about.
#[derive(Debug)]
enum Awaiting {
    Name(NameItem),
    File(FileId, FileTask, Option<(FileId, Name)>),
    Readable(Newborn),
    Attributes(Newborn),
    /// Whether a name still stands for this folder, and whether it is the last that could.
    Stands(FileId, FileId, Name),
}

/// Where a round is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    Looking,
    Settling,
    Believing,
    Remaining,
    Dropping,
    Ended,
}

/// A running round.
///
/// Beyond ten fields: they are the queues of its steps, and each is used in one of them.
#[derive(Debug)]
pub struct Look<'a> {
    context: Context<'a>,
    found: Findings,
    step: Step,
    /// The files of this pass were seen to have remained.
    has_remained: bool,
    files: VecDeque<(FileId, FileTask)>,
    names: VecDeque<NameItem>,
    /// Names whose folder could not be opened.
    astray: Vec<NameItem>,
    /// They were tried again in this pass: after all other names, and when folders with several names had one.
    tried_again: (bool, bool),
    looked: HashSet<(FileId, Name)>,
    settling: Settling,
    /// Names that show nothing, and what they stood for.
    gone: Vec<(NameItem, FileId)>,
    unnamed: BTreeSet<FileId>,
    budget: u64,
    awaiting: Option<Awaiting>,
    /// What is asked next because of what was heard last.
    follow: Option<Ask>,
    has_moved: bool,
}

impl<'a> Look<'a> {
    /// Begins a round.
    pub fn new(
        context: Context<'a>,
        names: Vec<(FileId, Name, NameTask)>,
        files: Vec<(FileId, FileTask)>,
    ) -> Self {
        let item = |(parent, name, task)| NameItem { parent, name, task };
        Self {
            context,
            found: Findings::default(),
            step: Step::Looking,
            has_remained: false,
            files: files.into(),
            names: names.into_iter().map(item).collect(),
            astray: Vec::new(),
            tried_again: (false, false),
            looked: HashSet::new(),
            settling: Settling::default(),
            gone: Vec::new(),
            unnamed: BTreeSet::new(),
            budget: INLINE_BYTES_MAX,
            awaiting: None,
            follow: None,
            has_moved: false,
        }
    }

    /// Tells, once, whether folders have moved in the map since the last call: whoever holds them open lets go of them.
    pub fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.has_moved)
    }

    /// Returns what the round wants to know next, to be answered by [`Self::hear`]; `None` when it has ended.
    pub fn next<L: Ledger>(&mut self, ledger: &mut L) -> Result<Option<Ask>, L::Error> {
        assert!(self.follow.is_some() || self.awaiting.is_none(), "a question was not answered");
        if let Some(ask) = self.follow.take() {
            return Ok(Some(ask));
        }
        loop {
            let asked = match self.step {
                Step::Looking => self.next_look(ledger)?,
                Step::Settling => self.next_settling(ledger)?,
                Step::Believing => {
                    self.believe_gone(ledger)?;
                    self.step = if self.has_remained { Step::Dropping } else { Step::Remaining };
                    None
                }
                Step::Remaining => {
                    self.look_at_remaining(ledger)?;
                    self.step = Step::Looking;
                    None
                }
                Step::Dropping => {
                    self.drop_lost(ledger)?;
                    // Who is left had a name in a folder that is gone, and what was told of that name nobody could look at.
                    self.has_remained = false;
                    self.step = if self.unnamed.is_empty() { Step::Ended } else { Step::Remaining };
                    None
                }
                Step::Ended => return Ok(None),
            };
            if asked.is_some() {
                return Ok(asked);
            }
        }
    }

    /// Ends a round.
    ///
    /// # Panics
    ///
    /// Before [`Self::next`] gave nothing more.
    pub fn end(self) -> Findings {
        assert_eq!(self.step, Step::Ended, "a round was not gone through");
        self.found
    }

    /// Hears the answer to what was asked last.
    ///
    /// # Panics
    ///
    /// When it answers something else.
    pub fn hear<L: Ledger>(&mut self, ledger: &mut L, fact: Fact) -> Result<(), L::Error> {
        match (self.awaiting.take(), fact) {
            (Some(Awaiting::Name(item)), Fact::Looked(looked)) => {
                self.name_looked(ledger, item, looked)
            }
            (Some(Awaiting::File(file, task, at)), Fact::Looked(looked)) => {
                self.file_looked(ledger, file, task, at, looked)
            }
            (Some(Awaiting::Stands(file, parent, name)), Fact::Looked(looked)) => {
                self.stands_looked(ledger, file, parent, name, &looked)
            }
            (Some(Awaiting::Readable(newborn)), Fact::Readable(readable)) => {
                match readable {
                    Ok(()) => self.ask_attributes(newborn),
                    Err(failure) => self.problem(newborn.item, failure.text),
                }
                Ok(())
            }
            (Some(Awaiting::Attributes(newborn)), Fact::Attributes(meta)) => {
                self.give_birth(ledger, newborn, meta)
            }
            (awaiting, fact) => panic!("{fact:?} answers nothing: {awaiting:?}"),
        }
    }

    fn next_look<L: Ledger>(&mut self, ledger: &mut L) -> Result<Option<Ask>, L::Error> {
        while let Some((file, task)) = self.files.pop_front() {
            if ledger.record(file)?.is_none() {
                continue;
            }
            if file == FileId::ROOT {
                self.awaiting = Some(Awaiting::File(file, task, None));
                return Ok(Some(Ask::Root));
            }
            if let Some((parent, name)) = ledger.links(file, 1)?.pop() {
                let ask = Ask::Name(parent, name.clone());
                self.awaiting = Some(Awaiting::File(file, task, Some((parent, name))));
                return Ok(Some(ask));
            }
        }
        if self.names.is_empty() && !self.astray.is_empty() && !self.tried_again.0 {
            // The names seen so far may have moved the folders of those that could not be seen.
            self.tried_again.0 = true;
            self.has_moved = true;
            self.names.extend(self.astray.drain(..));
        }
        match self.names.pop_front() {
            Some(item) => {
                self.looked.insert((item.parent, item.name.clone()));
                let ask = Ask::Name(item.parent, item.name.clone());
                self.awaiting = Some(Awaiting::Name(item));
                Ok(Some(ask))
            }
            None => {
                self.settling = Settling::default();
                self.step = Step::Settling;
                Ok(None)
            }
        }
    }

    /// Goes on when every folder has one name: with names that wait for one of those, once more where that has changed.
    fn end_settling<L: Ledger>(&mut self, ledger: &mut L) -> Result<(), L::Error> {
        if self.settling.has_changed && !self.astray.is_empty() && !self.tried_again.1 {
            self.tried_again.1 = true;
            self.names.extend(self.astray.drain(..));
            self.step = Step::Looking;
            return Ok(());
        }
        self.end_looking(ledger)?;
        self.tried_again = (false, false);
        self.step = Step::Believing;
        Ok(())
    }

    /// Decides about names whose folder could not be opened: gone with it, or it is being moved. Either shows at the
    /// folders' own names.
    fn end_looking<L: Ledger>(&mut self, ledger: &mut L) -> Result<(), L::Error> {
        let (mut missing, mut adrift) = (BTreeSet::new(), BTreeSet::new());
        for NameItem { parent, name, task } in std::mem::take(&mut self.astray) {
            // The number of a folder that is gone may be a file's by now.
            let known = ledger.record(parent)?;
            let is_known = known.is_some_and(|record| record.meta.kind == Kind::Dir);
            if is_known && !ledger.links(parent, 1)?.is_empty() {
                if task.tries >= TRIES_MAX && ledger.path(parent)?.is_none() {
                    adrift.insert(parent);
                    continue;
                }
                let tries = task.tries.saturating_add(1);
                let task = NameTask { is_astray: true, tries, ..task };
                self.found.more.names.push((parent, name, task));
                missing.insert(parent);
            }
        }
        for folder in adrift {
            // The map has no way from the root to it, and no name that was told of led there: it is gone, with its names.
            // Were it there after all, it is found as a new folder.
            for (parent, name) in ledger.links(folder, 4)? {
                let old = ledger.lookup(parent, &name)?;
                self.set_name(ledger, parent, &name, old, None)?;
            }
        }
        for folder in missing {
            for (parent, name) in ledger.places(folder)? {
                if self.looked.insert((parent, name.clone())) {
                    let task = NameTask { is_astray: true, ..NameTask::default() };
                    self.found.more.names.push((parent, name, task));
                }
            }
        }
        Ok(())
    }

    fn name_looked<L: Ledger>(
        &mut self,
        ledger: &mut L,
        item: NameItem,
        looked: Looked,
    ) -> Result<(), L::Error> {
        let at = match looked {
            Looked::NoFolder(NoFolder::Elsewhere) => {
                self.astray.push(item);
                return Ok(());
            }
            Looked::NoFolder(NoFolder::Mounted) => {
                // All of it is compared when it is to be seen again.
                for (parent, name) in ledger.places(item.parent)? {
                    self.queue_once(parent, name);
                }
                return Ok(());
            }
            Looked::NoFolder(NoFolder::Denied(failure)) => {
                self.found.problems.push(((item.parent, None), failure.text));
                return Ok(());
            }
            Looked::Failed(failure) => Err(failure.text),
            Looked::Saw(AtName::Mounted) => Err(MOUNTED.to_owned()),
            Looked::Saw(AtName::Nothing) => Ok(None),
            Looked::Saw(AtName::Object(seen)) => Ok(Some(seen)),
        };
        self.found.parents.insert(item.parent);
        let old = ledger.lookup(item.parent, &item.name)?;
        match at {
            Ok(Some(seen)) => self.object_looked(ledger, item, seen, old),
            Ok(None) => {
                if let Some((file, _)) = old {
                    self.gone.push((item, file));
                }
                Ok(())
            }
            Err(reason) => {
                self.problem(item, reason);
                Ok(())
            }
        }
    }

    fn queue_once(&mut self, parent: FileId, name: Name) {
        if self.looked.insert((parent, name.clone())) {
            self.names.push_back(NameItem { parent, name, task: NameTask::default() });
        }
    }

    fn set_name<L: Ledger>(
        &mut self,
        ledger: &mut L,
        parent: FileId,
        name: &Name,
        old: Option<(FileId, Kind)>,
        new: Option<(FileId, Kind)>,
    ) -> Result<(), L::Error> {
        ledger.set_name(parent, name, new)?;
        self.has_moved |= old.or(new).is_some_and(|(_, kind)| kind == Kind::Dir);
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

    fn file_looked<L: Ledger>(
        &mut self,
        ledger: &mut L,
        file: FileId,
        task: FileTask,
        at: Option<(FileId, Name)>,
        looked: Looked,
    ) -> Result<(), L::Error> {
        let Some(record) = ledger.record(file)? else { return Ok(()) };
        let is_root = at.is_none();
        match looked {
            Looked::Saw(AtName::Object(seen)) if seen.inode == record.inode => {
                let (parent, name) = at.map_or((file, None), |(parent, name)| (parent, Some(name)));
                let entry = self.found.files.entry(file).or_insert_with(|| SeenFile {
                    seen,
                    parent,
                    name,
                    touch: Touch::default(),
                    verify: false,
                    suspect: false,
                    born: false,
                });
                entry.touch.add(task.touch);
                entry.verify |= task.verify;
                entry.suspect |= task.suspect;
            }
            // Its name stands for something else now; whoever has a second name is found there.
            _ if !is_root => {
                let task = NameTask { touch: task.touch, ..NameTask::default() };
                for (parent, name) in ledger.links(file, 64)? {
                    self.names.push_back(NameItem { parent, name, task });
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn problem(&mut self, item: NameItem, reason: String) {
        self.found.problems.push(((item.parent, Some(item.name)), reason));
    }
}
