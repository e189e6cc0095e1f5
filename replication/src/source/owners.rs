//! Names for the numbers of owners and groups.
//!
//! A row carries both, because numbers differ from machine to machine. The name services may not answer when a row is made: it
//! goes with the name that the file had before, as long as the number is the same, or with the number alone. Which files
//! those are is remembered while the source runs, and they are looked at again when there is an answer.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use keepshare_base::{FileId, Meta, Owner};
use keepshare_host::accounts::{Answer, MachineAccounts, RETRY_AFTER};

/// How many numbers without an answer are remembered at most.
const UNANSWERED_MAX: usize = 65_536;

/// How many files that lack a name for them are remembered at most; more get it when they change.
const UNNAMED_MAX: usize = 100_000;

/// How long one look after answers may take.
const LOOK_MAX: Duration = Duration::from_millis(50);

/// Looks up owners and groups.
#[derive(Debug)]
pub(crate) struct Owners {
    accounts: MachineAccounts,
    unanswered: BTreeSet<Who>,
    unnamed: BTreeSet<FileId>,
    next_look: Instant,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Who {
    User(u32),
    Group(u32),
}

impl Owners {
    pub(crate) fn new(accounts: MachineAccounts) -> Self {
        Self {
            accounts,
            unanswered: BTreeSet::new(),
            unnamed: BTreeSet::new(),
            next_look: Instant::now(),
        }
    }

    /// Returns the owner with this number.
    pub(crate) fn user(&mut self, id: u32) -> Owner {
        self.owner(id, Who::User(id))
    }

    /// Returns the group with this number.
    pub(crate) fn group(&mut self, id: u32) -> Owner {
        self.owner(id, Who::Group(id))
    }

    /// Tells whether nobody answered for some numbers.
    pub(crate) fn is_in_doubt(&self) -> bool {
        !self.unanswered.is_empty()
    }

    /// Gives a file the names that it had before, where nobody answered now.
    pub(crate) fn keep(&self, meta: &mut Meta, before: &Meta) {
        let keep = |now: &mut Owner, before: &Owner, who: Who| {
            if now.name.is_empty() && now.id == before.id && self.unanswered.contains(&who) {
                now.name.clone_from(&before.name);
            }
        };
        let (user, group) = (Who::User(meta.owner.id), Who::Group(meta.group.id));
        keep(&mut meta.owner, &before.owner, user);
        keep(&mut meta.group, &before.group, group);
    }

    /// Remembers a file that goes without a name because nobody answered.
    pub(crate) fn note(&mut self, file: FileId, meta: &Meta) {
        let lacks = |owner: &Owner, who| owner.name.is_empty() && self.unanswered.contains(&who);
        let lacks = lacks(&meta.owner, Who::User(meta.owner.id))
            || lacks(&meta.group, Who::Group(meta.group.id));
        if lacks && self.unnamed.len() < UNNAMED_MAX {
            self.unnamed.insert(file);
        }
    }

    /// Tells whether files wait for names.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.unnamed.is_empty()
    }

    /// Returns the files that lack a name, once everything was answered that was not.
    pub(crate) fn answered(&mut self) -> BTreeSet<FileId> {
        let began = Instant::now();
        if !self.is_waiting() || began < self.next_look {
            return BTreeSet::new();
        }
        while let Some(who) = self.unanswered.first().copied() {
            if began.elapsed() > LOOK_MAX {
                return BTreeSet::new();
            }
            if self.ask(who) == Answer::NotNow {
                self.next_look = Instant::now() + RETRY_AFTER;
                return BTreeSet::new();
            }
            self.unanswered.remove(&who);
        }
        std::mem::take(&mut self.unnamed)
    }

    fn owner(&mut self, id: u32, who: Who) -> Owner {
        let name = match self.ask(who) {
            Answer::Is(name) => name,
            Answer::Nobody => String::new(),
            Answer::NotNow => {
                if self.unanswered.len() < UNANSWERED_MAX {
                    self.unanswered.insert(who);
                }
                String::new()
            }
        };
        Owner { id, name }
    }

    fn ask(&self, who: Who) -> Answer<String> {
        match who {
            Who::User(id) => self.accounts.user_name(id),
            Who::Group(id) => self.accounts.group_name(id),
        }
    }
}
