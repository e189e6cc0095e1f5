//! The two sides of a link, as what is between them sees them: models, or the real things.

use std::{collections::BTreeMap, fmt::Debug};

use keepshare_base::{
    CommitId, Epoch, FileId, FilledChange, Kind, Name, Position, RunningHash, Seq, Stamp,
};
use keepshare_proto::{
    FileLine, MonoTime, NameLine, Place, StateDigest, Text,
    receiver::{Commit, Standing},
    shipper::{Head, JournalEntry},
};
use rand::rngs::StdRng;

use crate::clocks::{self, Arrived};

/// When something happens, by the clock of whoever it happens to.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// For deadlines.
    pub now: MonoTime,
    /// For people; it may be wrong.
    pub stamp: Stamp,
}

/// What a station has, for a mirror.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Its names.
    pub names: Vec<NameLine>,
    /// Its files.
    pub files: Vec<FileLine>,
}

/// A version, by file, place and journal: two journals may have a change at one place.
pub type VersionKey = (FileId, Position, RunningHash);

/// A version as a station has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Version {
    /// Of attributes and content.
    pub digest: StateDigest,
    /// What it holds, where that can be told.
    pub content: Option<Vec<u8>>,
}

/// What a user sees of a set, by path: kind, mode, content, and the first path of the same file.
pub type Shown = BTreeMap<String, (Kind, u32, Vec<u8>, String)>;

/// Returns what a user sees of a tree, from its names and what each file is.
pub(crate) fn shown<Id: Copy + Ord>(
    root: Id,
    names: impl IntoIterator<Item = ((Id, String), Id)>,
    file: impl Fn(Id) -> (Kind, u32, Vec<u8>),
) -> Shown {
    let names: BTreeMap<(Id, String), Id> = names.into_iter().collect();
    let (mut found, mut firsts) = (Shown::new(), BTreeMap::new());
    let mut folders = vec![(root, String::new())];
    while let Some((folder, path)) = folders.pop() {
        let inside = names.iter().filter(|((parent, _), _)| *parent == folder);
        for ((_, name), id) in inside {
            let path = format!("{path}/{name}");
            let (kind, mode, content) = file(*id);
            if kind == Kind::Dir {
                folders.push((*id, path.clone()));
            }
            let first = firsts.entry(*id).or_insert_with(|| path.clone());
            *first = path.clone().min(first.clone());
            found.insert(path, (kind, mode, content, String::new()));
        }
    }
    let mut paths: Vec<_> = found.keys().cloned().collect();
    paths.sort();
    let places = |mut path: &str| {
        // From the root down, by the names that it was found by.
        let mut at = root;
        while let Some(rest) = path.strip_prefix('/') {
            let (name, below) =
                rest.split_once('/').map_or((rest, ""), |(name, _)| (name, &rest[name.len()..]));
            at = names[&(at, name.to_owned())];
            path = below;
        }
        at
    };
    for path in paths {
        let first = firsts[&places(&path)].clone();
        found.get_mut(&path).expect("it was found").3 = first;
    }
    found
}

/// A folder that somebody works in, and its journal.
pub trait Source: Clone + Debug {
    /// A mirror under way: the folder at one place.
    type Mirror: Debug;
    /// Returns where the journal is.
    fn head(&self) -> Head;
    /// Returns the last place of the journal.
    fn place(&self) -> Place;
    /// Returns the hash of the journal after a change; `None` where it does not know it.
    fn hash_at(&self, seq: Seq) -> Option<RunningHash>;
    /// Returns changes from `from` on; `None` where they were dropped.
    fn read(&mut self, from: Seq, bytes_max: usize) -> Option<Vec<JournalEntry>>;
    /// Returns what a destination is known to have, as stored.
    fn acked(&self, station: usize) -> Option<Place>;
    /// Remembers what a destination has.
    fn set_acked(&mut self, station: usize, place: Place);
    /// Tells whether no destination is known to have anything.
    fn is_replaced(&self) -> bool;

    /// Has people do something in the folder.
    fn edit(&mut self, at: Moment, random: &mut StdRng);
    /// Does what is due; returns in how many microseconds something is again.
    fn work(&mut self, at: Moment, random: &mut StdRng) -> Option<u64>;
    /// Tells whether all that was done in the folder is journaled.
    fn rests(&self) -> bool;
    /// Has people stop, and whatever was lost of what is told found otherwise.
    fn calm(&mut self);

    /// Begins a mirror, which has a place of its own; `None`: not yet.
    fn begin_mirror(&mut self, at: Moment) -> Option<(Place, Self::Mirror)>;
    /// Returns the next parts of a mirror that turn a tree with this listing into the folder; none where there are no more.
    fn mirror_parts(&mut self, mirror: &mut Self::Mirror, listing: &Listing) -> Vec<FilledChange>;

    /// Begins an epoch above `above` with an empty journal.
    fn begin_epoch(&mut self, above: Epoch, stamp: Stamp);
    /// Loses its memory; the journal stays.
    fn restart(&mut self);
    /// Becomes what a copy of its database was, over the folder as it is now.
    fn put_back(&mut self, copy: &Self, at: Moment);
    /// Becomes what another machine that takes over begins with.
    fn take_over(&mut self, at: Moment);

    /// Returns what a user sees of the folder.
    fn shown(&self) -> Shown;
    /// Tells whether a file held this content at some moment.
    fn has_held(&self, content: &[u8]) -> bool;
    /// Returns the contents that every station must have as versions, once all rests.
    fn must_be_versions(&self) -> Vec<Vec<u8>>;
    /// Returns the contents that are kept by stations alone: every one that never lost what it had must have them.
    fn parted(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }
}

/// Where a station keeps a set.
pub trait Store: Debug {
    /// It tells what its versions hold.
    const TELLS_CONTENTS: bool;

    /// Returns an empty one; whatever it does by chance follows from the seed.
    fn new(seed: u64) -> Self;
    /// Returns where it stands, counting only what is durable.
    fn standing(&self) -> Standing;
    /// Agrees to an epoch, durably.
    fn set_fence(&mut self, epoch: Epoch);
    /// Tells whether a change follows what was taken.
    fn follows(&self, commit: &Commit) -> bool;
    /// Takes a change that its receiver let through, or says why not.
    fn commit(&mut self, arrived: Arrived, commit: Commit) -> Result<(), Text>;
    /// Returns how many changes it has taken.
    fn taken(&self) -> usize;
    /// Makes the first `through` changes durable; tells whether it could. Where it could not, whoever keeps it starts anew.
    fn sync(&mut self, through: usize) -> bool;
    /// Has the disk fail as it is next told to make something durable.
    fn fail_next_sync(&mut self) {}
    /// Is left alone from now on: whatever it has put off is done.
    fn calm(&mut self) {}
    /// Forgets what was not synced, or some of it.
    fn crash(&mut self, random: &mut StdRng);
    /// Becomes what it was some records ago, as a disk put back from a backup.
    fn roll_back(&mut self, records: usize);
    /// Returns the names from `after` on, and whether there are no more.
    fn names_page(&self, after: Option<&(FileId, Name)>, limit: usize) -> (Vec<NameLine>, bool);
    /// Returns the files from `after` on, and whether there are no more.
    fn files_page(&self, after: Option<FileId>, limit: usize) -> (Vec<FileLine>, bool);

    /// Returns what a user sees of it.
    fn shown(&self) -> Shown;
    /// Returns the versions that changes cut.
    fn versions(&self) -> BTreeMap<VersionKey, Version>;
    /// Returns its commits of changes, where it can tell, in their order.
    fn commits(&self) -> Vec<clocks::Commit> {
        Vec::new()
    }
    /// Returns the newest complete commit with a moment at or before this, where it can tell.
    fn commit_at(&self, _through: Stamp) -> CommitId {
        CommitId(0)
    }
    /// Checks whatever it can check of itself.
    fn check(&self) {}
}
