//! What waits for a time.

use std::collections::{BTreeMap, BTreeSet};

use keepshare_base::{FileId, Name};
use keepshare_proto::MonoTime;

use super::{FileTask, NameTask};

/// Something that waits: at most once.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Item {
    Folder(FileId),
    Name(FileId, Name),
    File(FileId),
}

/// What is to be done with it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Task {
    Folder(bool),
    Name(NameTask),
    File(FileTask),
}

/// Items and when they are due.
#[derive(Debug, Default)]
pub(super) struct Later {
    items: BTreeMap<Item, (MonoTime, Task)>,
    due: BTreeSet<(MonoTime, Item)>,
    /// How many of them are astray, and how many a scan waits for.
    astray: usize,
    scan: usize,
}

impl Task {
    /// Tells whether it may show where something has moved to.
    fn is_astray(&self) -> bool {
        match self {
            Self::Name(task) => task.is_astray,
            Self::Folder(_) => true,
            Self::File(_) => false,
        }
    }

    /// Tells whether a scan waits for it.
    fn is_scan(&self) -> bool {
        match self {
            Self::Name(task) => task.scan,
            Self::Folder(scan) => *scan,
            Self::File(_) => false,
        }
    }

    fn merge(&mut self, other: Self) {
        match (self, other) {
            (Self::Name(task), Self::Name(other)) => {
                task.second &= other.second;
                task.merge(other);
            }
            (Self::File(task), Self::File(other)) => task.merge(other),
            (Self::Folder(scan), Self::Folder(other)) => *scan |= other,
            (task, other) => unreachable!("{other:?} of the item of {task:?}"),
        }
    }
}

impl Later {
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn next(&self) -> Option<MonoTime> {
        self.due.first().map(|(at, _)| *at)
    }

    pub(super) fn has_astray(&self) -> bool {
        self.astray > 0
    }

    pub(super) fn has_scan(&self) -> bool {
        self.scan > 0
    }

    /// Puts an item off; one that waits already does so for both reasons, until the earlier time.
    pub(super) fn put(&mut self, until: MonoTime, item: Item, task: Task) {
        let (mut until, mut task) = (until, task);
        if let Some((at, waiting)) = self.remove(&item) {
            until = until.min(at);
            task.merge(waiting);
        }
        self.astray += usize::from(task.is_astray());
        self.scan += usize::from(task.is_scan());
        self.due.insert((until, item.clone()));
        self.items.insert(item, (until, task));
    }

    /// Takes an item that waits.
    pub(super) fn take(&mut self, item: &Item) -> Option<Task> {
        if self.items.is_empty() {
            return None;
        }
        self.remove(item).map(|(_, task)| task)
    }

    /// Adds to the task of a name that waits for its second look; tells whether it does.
    pub(super) fn join_second(&mut self, (parent, name): &(FileId, Name), more: NameTask) -> bool {
        if self.items.is_empty() {
            return false;
        }
        let item = Item::Name(*parent, name.clone());
        match self.items.get(&item) {
            Some((at, Task::Name(task))) if task.second => {
                let (at, mut task) = (*at, *task);
                task.merge(more);
                self.remove(&item);
                self.put(at, item, Task::Name(task));
                true
            }
            _ => false,
        }
    }

    /// Takes a name that waits.
    pub(super) fn take_name(&mut self, (parent, name): &(FileId, Name)) -> Option<Task> {
        if self.items.is_empty() {
            return None;
        }
        self.take(&Item::Name(*parent, name.clone()))
    }

    /// Takes what is due.
    pub(super) fn take_due(&mut self, now: MonoTime) -> Vec<(Item, Task)> {
        let mut taken = Vec::new();
        while self.next().is_some_and(|at| at <= now) {
            let Some((_, item)) = self.due.first().cloned() else { break };
            if let Some((_, task)) = self.remove(&item) {
                taken.push((item, task));
            }
        }
        taken
    }

    fn remove(&mut self, item: &Item) -> Option<(MonoTime, Task)> {
        let (item, (at, task)) = self.items.remove_entry(item)?;
        self.due.remove(&(at, item));
        self.astray -= usize::from(task.is_astray());
        self.scan -= usize::from(task.is_scan());
        Some((at, task))
    }
}
