//! What the identity map knows of files, and the transaction in which decisions change it.

use keepshare_base::{
    Change, ContentHash, DEPTH_MAX, Epoch, Event, FileId, FileTime, Kind, Meta, Name, Position,
    RestoreRow, Seq, Stamp,
};
use serde::{Deserialize, Serialize};

use crate::Object;

/// What says that two looks at an object saw the same state.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Signature {
    /// Its size.
    pub size: u64,
    /// When its content changed.
    pub mtime: FileTime,
    /// When anything of it changed.
    pub ctime: FileTime,
}

/// Which object it is on its file system; the birth tells a reused number.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub struct Inode {
    /// Its number.
    pub number: u64,
    /// When it was made; zero where the file system does not tell.
    pub birth: FileTime,
}

/// What is known of a file.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Where it is.
    pub inode: Inode,
    /// The state that `meta`, `hash` and the block hashes describe.
    pub signature: Signature,
    /// What the destinations know of it.
    pub meta: Meta,
    /// The hash of its content, once it was read.
    pub hash: Option<ContentHash>,
    /// The block hashes are there: what has none is zeros.
    pub blocks: bool,
    /// What the destinations have is not known any more: it is sent whole next time.
    pub forgotten: bool,
    /// Since when there is a state that is no version yet.
    pub uncut: Option<Stamp>,
    /// What the journal last said of it; `None` where that was not noted, or nothing was said since the first scan.
    pub told: Option<Told>,
}

/// What the journal last said of a file's state.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// What happened.
    pub event: Event,
    /// Who did it.
    pub user: Option<String>,
    /// The content was of several moments.
    pub fuzzy: bool,
    /// The change that made it a version; `None` while it is none.
    pub cut: Option<CutPlace>,
}

/// The place and time of a change.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct CutPlace {
    /// The epoch of the journal.
    pub epoch: Epoch,
    /// The change's place in it.
    pub seq: Seq,
    /// The source's clock when it was made.
    pub stamp: Stamp,
}

/// A name and what it stands for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MapEntry {
    /// The name.
    pub name: Name,
    /// The file.
    pub file: FileId,
    /// Its kind.
    pub kind: Kind,
}

impl From<Inode> for Object {
    fn from(inode: Inode) -> Self {
        Self { number: inode.number, birth: inode.birth }
    }
}

impl FileRecord {
    /// Returns the record of a file of which only the attributes are known.
    pub fn new(inode: Inode, signature: Signature, meta: Meta) -> Self {
        let (hash, uncut, told) = (None, None, None);
        Self { inode, signature, meta, hash, blocks: false, forgotten: false, uncut, told }
    }

    /// Takes what was seen of the file, and tells whether its attributes differ from what was known.
    pub fn learn(&mut self, meta: &Meta, signature: Signature) -> bool {
        let differs = *meta != self.meta;
        if differs {
            self.meta = meta.clone();
        }
        self.signature = signature;
        differs
    }

    /// Says that what is known of its content is true of no moment: it is read whatever its times say.
    pub fn doubt(&mut self) {
        (self.signature, self.hash) = (Signature::default(), None);
    }
}

/// The identity map of a source: which names it has, and what is known of each file.
pub trait Known {
    /// Why the map or the journal cannot be read or written.
    type Error;

    /// Returns what a name stands for.
    fn lookup(&self, parent: FileId, name: &Name) -> Result<Option<(FileId, Kind)>, Self::Error>;

    /// Returns the names of a folder in order, at most `limit`, after `after`.
    fn list(
        &self,
        parent: FileId,
        after: Option<&Name>,
        limit: usize,
    ) -> Result<Vec<MapEntry>, Self::Error>;

    /// Returns the places of a file: folders and names, at most `limit`.
    fn links(&self, file: FileId, limit: usize) -> Result<Vec<(FileId, Name)>, Self::Error>;

    /// Returns what is known of a file.
    fn record(&self, file: FileId) -> Result<Option<FileRecord>, Self::Error>;

    /// Returns the file that an inode number stands for.
    fn by_number(&self, number: u64) -> Result<Option<FileId>, Self::Error>;

    /// Returns the places of a folder and of the folders that it is in, from the top down, as far as they are known.
    fn places(&self, folder: FileId) -> Result<Vec<(FileId, Name)>, Self::Error> {
        let mut places = Vec::new();
        let mut at = folder;
        while at != FileId::ROOT && places.len() < DEPTH_MAX {
            let Some((parent, name)) = self.links(at, 1)?.pop() else { break };
            at = parent;
            places.push((parent, name));
        }
        places.reverse();
        Ok(places)
    }

    /// Returns the names from the root down to a folder; `None` when it has no place.
    fn path(&self, folder: FileId) -> Result<Option<Vec<Name>>, Self::Error> {
        let places = self.places(folder)?;
        let is_whole = folder == FileId::ROOT
            || places.first().is_some_and(|(parent, _)| *parent == FileId::ROOT);
        Ok(is_whole.then(|| places.into_iter().map(|(_, name)| name).collect()))
    }
}

/// The identity map and the journal in one transaction: all of it becomes durable together, or nothing does.
///
/// The map says which file each name stands for and what is known of each file; a file has as many names as the map has
/// links of it.
pub trait Ledger: Known {
    /// Makes a name stand for a file, or for nothing.
    fn set_name(
        &mut self,
        parent: FileId,
        name: &Name,
        target: Option<(FileId, Kind)>,
    ) -> Result<(), Self::Error>;

    /// Writes what is known of a file.
    fn set_record(&mut self, file: FileId, record: &FileRecord) -> Result<(), Self::Error>;

    /// Forgets a file and its block hashes; its names are gone already.
    fn remove_file(&mut self, file: FileId) -> Result<(), Self::Error>;

    /// Forgets the block hashes of a file.
    fn clear_blocks(&mut self, file: FileId) -> Result<(), Self::Error>;

    /// Returns an id for a file that is new.
    fn new_file(&mut self) -> Result<FileId, Self::Error>;

    /// Says that a file's content is given whole from the next change on.
    fn end_stale(&mut self, file: FileId) -> Result<(), Self::Error>;

    /// Appends a change to the journal, and returns its place.
    fn append(&mut self, change: &Change) -> Result<Position, Self::Error>;

    /// Remembers that the change at `position` answers a restore.
    fn answer(&mut self, restore: &RestoreRow, position: Position) -> Result<(), Self::Error>;

    /// Notes what a change that was just journaled, at `here`, says of its files: a mirror says the same of them.
    fn note_told(&mut self, change: &Change, here: CutPlace) -> Result<(), Self::Error> {
        for file in &change.cuts {
            let unknown = Told { event: Event::Saved, user: None, fuzzy: false, cut: None };
            set_told(self, *file, |told| Told { cut: Some(here), ..told.unwrap_or(unknown) })?;
        }
        for row in &change.files {
            set_told(self, row.file, |told| {
                // What was read as it is at one moment has a hash, whatever parts of it left before.
                let is_unread = row.content == keepshare_base::Content::Same && row.hash.is_none();
                let was_fuzzy = is_unread && told.is_some_and(|told| told.fuzzy);
                Told {
                    event: row.event,
                    user: change.user.clone(),
                    fuzzy: row.fuzzy || was_fuzzy,
                    cut: row.is_version().then_some(here),
                }
            })?;
        }
        Ok(())
    }
}

fn set_told<L: Ledger + ?Sized>(
    ledger: &mut L,
    file: FileId,
    tell: impl FnOnce(Option<Told>) -> Told,
) -> Result<(), L::Error> {
    // What has lost its last name is known no more.
    let Some(mut record) = ledger.record(file)? else { return Ok(()) };
    record.told = Some(tell(record.told.take()));
    ledger.set_record(file, &record)
}
