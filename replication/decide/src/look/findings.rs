//! What a round found, and what it leaves for later.

use std::collections::{BTreeMap, BTreeSet};

use keepshare_base::{FileId, Kind, Name};

use crate::{At, FileRecord, Seen, Touch, agenda::NameTask};

/// How one name changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NameDiff {
    /// The folder.
    pub parent: FileId,
    /// The name.
    pub name: Name,
    /// What it stood for.
    pub old: Option<(FileId, Kind)>,
    /// What it stands for.
    pub new: Option<(FileId, Kind)>,
}

/// A file that was seen and may differ from the map.
#[derive(Clone, Debug)]
pub struct SeenFile {
    /// What was seen.
    pub seen: Seen,
    /// In which folder.
    pub parent: FileId,
    /// Under which name; `None`: it is the root.
    pub name: Option<Name>,
    /// How it was touched.
    pub touch: Touch,
    /// Compare its content.
    pub verify: bool,
    /// Compare its content where its times differ at all.
    pub suspect: bool,
    /// It is new.
    pub born: bool,
}

/// A new file that is longer than a round takes on: its name waits for the content.
#[derive(Clone, Debug)]
pub struct Big {
    /// In which folder.
    pub parent: FileId,
    /// Under which name.
    pub name: Name,
    /// What was seen there.
    pub seen: Seen,
    /// How it was touched.
    pub touch: Touch,
}

/// What a round found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Names that changed; the map has them already.
    pub diffs: BTreeMap<(FileId, Name), NameDiff>,
    /// In the order in which they were found.
    pub order: Vec<(FileId, Name)>,
    /// Files seen.
    pub files: BTreeMap<FileId, SeenFile>,
    /// Folders in which something was looked at.
    pub parents: BTreeSet<FileId>,
    /// Files that lost their last name, with what was known of them.
    pub lost: Vec<(FileId, FileRecord)>,
    /// What is to be looked at later.
    pub more: More,
    /// Big new files whose name waits for the content.
    pub big: Vec<Big>,
    /// Names that cannot be shown or read, and why.
    pub problems: Vec<(At, String)>,
    /// Names that are replicated, but for something of them.
    pub partial: Vec<(At, String)>,
    /// The numbers of objects that are gone: nobody needs to watch them.
    pub unwatch: Vec<u64>,
}

/// What a round leaves for the agenda.
#[derive(Debug, Default)]
pub struct More {
    /// Names to look at once more.
    pub names: Vec<(FileId, Name, NameTask)>,
    /// Folders to compare whole, and whether everything below them is to be compared too.
    pub folders: Vec<(FileId, bool)>,
    /// Files that have more names than the source knows.
    pub linked: Vec<FileId>,
}
