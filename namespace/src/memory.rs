//! What all clones of a share have: what it is, and what it keeps in memory to answer faster.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use keepshare_base::{CommitId, FileId, Name, Stamp};
use keepshare_versioning::{ReadError, Touched, View};

use crate::{
    Attributes, Node, ShareConfig,
    cache::{Forgetful, Permits},
    chronicle::Chronicle,
    content::Blocks,
    dated::Remembered,
    guard::Guard,
    ids::Hasher,
};

/// What all clones of a share have: what it is, and what it keeps in memory.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: ShareConfig,
    pub(crate) hasher: Hasher,
    /// What hashes of names and places in listings stand for.
    pub(crate) names: Mutex<Forgetful<u64, Name>>,
    pub(crate) present: Mutex<Present>,
    /// When commits arrived.
    pub(crate) arrivals: Mutex<Forgetful<CommitId, Stamp>>,
    pub(crate) changes: Mutex<Changes>,
    /// Histories of names.
    pub(crate) chronicles: Remembered<(FileId, Name), Chronicle>,
    /// When a short time was typed last in a folder.
    pub(crate) typed: Mutex<Forgetful<Node, Stamp>>,
    /// Folders that stood where a folder is.
    pub(crate) formers: Remembered<FileId, Vec<FileId>>,
    /// Tables of histories.
    pub(crate) tables: Remembered<TableKey, Arc<Vec<u8>>>,
    /// Held while a whole history is gone through, which takes megabytes: however many ask, it is a few at a time.
    pub(crate) walks: Permits,
    pub(crate) blocks: Blocks,
}

impl Inner {
    /// Returns what is kept of a share of which nothing has been asked yet.
    pub(crate) fn new(config: ShareConfig) -> Self {
        Self {
            hasher: Hasher::new(config.key),
            config,
            names: Mutex::new(Forgetful::new(NAMES_KEPT)),
            present: Mutex::new(Present::new()),
            arrivals: Mutex::new(Forgetful::new(ARRIVALS_KEPT)),
            changes: Mutex::default(),
            chronicles: Remembered::new(VERSIONS_KEPT),
            typed: Mutex::new(Forgetful::new(TYPED_KEPT)),
            formers: Remembered::new(FORMERS_KEPT),
            tables: Remembered::new(TABLE_BYTES_KEPT),
            walks: Permits::new(WALKS_MAX),
            blocks: Blocks::new(),
        }
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
    fn new() -> Self {
        let (guards, attributes) = (Forgetful::new(GUARDS_KEPT), Forgetful::new(ATTRIBUTES_KEPT));
        Self { at: CommitId(0), guards, attributes }
    }

    /// Returns what guards a thing, where it is known as of `latest`.
    pub(crate) fn guard(&mut self, latest: CommitId, file: FileId) -> Option<Guard> {
        if self.at == latest { self.guards.find(&file) } else { None }
    }

    /// Remembers what guards a thing.
    pub(crate) fn keep_guard(&mut self, latest: CommitId, file: FileId, guard: &Guard) {
        if self.advance(latest) {
            self.guards.keep(file, guard.clone(), guard.weight());
        }
    }

    /// Returns a thing's attributes, where they are known as of `latest`.
    pub(crate) fn attributes(&mut self, latest: CommitId, file: FileId) -> Option<Attributes> {
        if self.at == latest { self.attributes.find(&file) } else { None }
    }

    /// Remembers a thing's attributes.
    pub(crate) fn keep_attributes(&mut self, latest: CommitId, file: FileId, known: Attributes) {
        if self.advance(latest) {
            self.attributes.keep(file, known, 1);
        }
    }

    /// Goes on to a commit, and tells whether that is the newest: what a newer one has asked about already stays.
    fn advance(&mut self, latest: CommitId) -> bool {
        if self.at < latest {
            self.at = latest;
            self.guards.clear();
            self.attributes.clear();
        }
        self.at == latest
    }
}

/// When names of folders changed last, as far as it was noticed since the share was opened.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    through: CommitId,
    /// Every folder may have changed as late as this.
    all: CommitId,
    folders: HashMap<FileId, CommitId>,
}

impl Changes {
    /// Returns the commit that changed names of a living folder last, or a later one: never an earlier.
    ///
    /// The index knows which names a commit touched only for a while. What came meanwhile, and before the share was
    /// opened, counts as a change of every folder: a client that asks again in vain loses less than one that shows names
    /// that are gone.
    pub(crate) fn last_of(
        &mut self,
        folder: FileId,
        view: &View,
        newest: CommitId,
    ) -> Result<CommitId, ReadError> {
        let latest = view.latest();
        if self.through > latest {
            // A newer view has been asked already: what it knows must not be told of the names that this one has.
            return Ok(newest);
        }
        if self.through < latest {
            let touched = match self.through {
                CommitId(0) => Touched::Everything,
                through => view.touched(through)?,
            };
            match touched {
                Touched::Known { names, .. } => {
                    self.folders.extend(names.into_iter().map(|(folder, _)| (folder, newest)));
                }
                Touched::Everything => self.all = newest,
            }
            if self.folders.len() > CHANGED_FOLDERS_MAX {
                self.all = newest;
            }
            if self.all == newest {
                self.folders = HashMap::new();
            }
            self.through = latest;
        }
        let own = self.folders.get(&folder).copied();
        Ok(own.map_or(self.all, |own| own.max(self.all)))
    }
}

/// What a table is for: one name, and whoever may read the same.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct TableKey {
    pub(crate) folder: FileId,
    pub(crate) name: Name,
    /// The numbers of a user and of the user's groups; `None` for an admin.
    pub(crate) reader: Option<(u32, u32, Vec<u32>)>,
}

/// How many names are remembered for hashes and places, in each half: about 10 MiB where all are as long as can be.
const NAMES_KEPT: usize = 32_768;

/// How many commits' arrivals are remembered, in each half.
const ARRIVALS_KEPT: usize = 32_768;

/// How many folders are remembered as those in which short times were typed, in each half.
const TYPED_KEPT: usize = 4096;

/// How many versions are remembered in histories of names, in each half: about 20 MiB.
const VERSIONS_KEPT: usize = 100_000;

/// How many folders, with those that stood where they are, are remembered, in each half.
const FORMERS_KEPT: usize = 16_384;

/// How many whole histories are gone through at a time.
const WALKS_MAX: usize = 2;

/// How much of tables is remembered, in each half.
const TABLE_BYTES_KEPT: usize = 16 * 1024 * 1024;

/// How many files and folders are remembered, with the places they have, in each half: about 5 MiB.
const GUARDS_KEPT: usize = 32_768;

/// How many things' attributes are remembered, in each half: about 16 MiB. A folder that is listed again and again, or whose
/// names are looked up in no order, is answered from here as long as all of it fits.
const ATTRIBUTES_KEPT: usize = 131_072;

/// How many folders' newest changes are remembered; with more, all folders count as changed.
const CHANGED_FOLDERS_MAX: usize = 16_384;
