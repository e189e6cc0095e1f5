//! A change: a set of resulting rows that apply together.
//!
//! Rows say what *is* afterwards, never what was done, so applying a change twice gives what applying it once gives. An
//! atomic set of name rows expresses create, link, rename, replace, exchange and unlink alike. The content that a
//! change brings is not in its rows: it follows as one payload, the data extents of all rows in order.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::{
    ContentHash, Event, FileId, FileTime, Kind, Meta, MetaError, Name, OriginId, Position,
    RequestId, Stamp, VersionId, point::PointRow,
};

/// The most content one change carries, in bytes. Longer content comes in several changes, the last of which cuts.
pub const PAYLOAD_BYTES_MAX: u64 = 640 * 1024;

/// The most zeros of one change, in bytes, all its extents together: they cost rows at a station, and nothing on the way.
pub const EXTENT_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The most name rows of one change.
pub const NAMES_PER_CHANGE_MAX: usize = 4096;

/// The most file rows of one change.
pub const FILES_PER_CHANGE_MAX: usize = 1024;

/// The most extents of one change, all rows together.
const EXTENTS_MAX: usize = 8192;

/// The longest user name or point name, in bytes.
const LABEL_BYTES_MAX: usize = 256;

/// The largest size of a file, in bytes (what every file system of ours can hold).
const SIZE_MAX: u64 = 1 << 53;

/// Why a change is refused before anything of it is kept.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// A file id that is not the origin's to give.
    #[error("{file} is not a file of origin {origin}")]
    ForeignFile {
        /// The file named.
        file: FileId,
        /// Whose change it is.
        origin: OriginId,
    },
    /// More rows or bytes than a change may have.
    #[error("a change with {got} {what} is over the limit of {limit}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        got: u64,
        /// How many there may be.
        limit: u64,
    },
    /// Two rows for one name or one file.
    #[error("two rows for {0}")]
    Twice(String),
    /// The root given a name, or made anything but a folder.
    #[error("the root folder has no name and stays a folder")]
    Root,
    /// A meta out of its limits.
    #[error("the attributes of {file} are not usable")]
    Meta {
        /// Whose.
        file: FileId,
        /// What is wrong with them.
        #[source]
        source: MetaError,
    },
    /// Extents that overlap, run backwards, are empty or pass the file's size.
    #[error("the extents of {0} are not in order inside its size")]
    Extents(FileId),
    /// Content on something that has none.
    #[error("{0} is no regular file and has no content")]
    NoContent(FileId),
    /// A point without a name.
    #[error("a point has no name")]
    Nameless,
    /// Something said of a point that another origin made.
    #[error("the point of {0} is another origin's")]
    Point(Position),
    /// A payload of another length than the extents say.
    #[error("the payload has {got} bytes, the extents say {want}")]
    Payload {
        /// The payload's length.
        got: u64,
        /// The sum of the data extents.
        want: u64,
    },
    /// A payload that is not what the origin read.
    #[error("the content of {0} does not match its hash")]
    Hash(FileId),
    /// A state that is no version, or of another origin, said to be made a version by some change.
    #[error("{0} is said to be a version that it cannot be")]
    Made(FileId),
}

/// What a name stands for afterwards.
#[derive(Clone, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub struct NameRow {
    /// The folder.
    pub parent: FileId,
    /// The name in it.
    pub name: Name,
    /// What it stands for; `None`: nothing any more.
    pub target: Option<(FileId, Kind)>,
}

/// A stretch of a file's content.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub struct Extent {
    /// Where it begins, in bytes from the file's start.
    pub offset: u64,
    /// How many bytes; never 0.
    pub len: u64,
    /// All zeros, with nothing in the payload.
    pub zero: bool,
}

/// A file's content afterwards.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Content {
    /// What it was, cut or extended with zeros to the meta's size.
    Same,
    /// These extents over what it was after being cut or extended with zeros to the meta's size.
    Extents {
        /// Forget what was there first: bytes no extent gives are zero.
        fresh: bool,
        /// In order of offset, without overlap, inside the meta's size.
        extents: Vec<Extent>,
        /// The hash of this row's bytes in the payload.
        hash: ContentHash,
    },
}

/// A file's state afterwards.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct FileRow {
    /// Which file.
    pub file: FileId,
    /// What happened.
    pub event: Event,
    /// Its attributes, size included.
    pub meta: Meta,
    /// Its content.
    pub content: Content,
    /// The hash of the whole content, where the origin computed it.
    pub hash: Option<ContentHash>,
    /// Make this state a version.
    pub cut: bool,
    /// The file kept changing while it was read: bytes of several moments.
    pub fuzzy: bool,
}

/// The change by which an origin made a file's state a version: what a version is called and dated by, on every station.
#[derive(Clone, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub struct Made {
    /// Its place in the origin's journal.
    pub position: Position,
    /// The origin's time there.
    pub stamp: Stamp,
    /// Who brought the state, where the origin knew.
    pub user: Option<String>,
}

/// How a restore ended at the master.
#[derive(Clone, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub enum RestoreOutcome {
    /// The content was written; the change carries it.
    Written,
    /// The file already had these bytes.
    Equal,
}

/// Says that a change answers a request to restore.
#[derive(Clone, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub struct RestoreRow {
    /// Which request.
    pub request: RequestId,
    /// The version that was asked for.
    pub version: VersionId,
    /// What came of it.
    pub outcome: RestoreOutcome,
}

/// What whoever allowed a restore saw where it goes. A master that finds something else there refuses: what was allowed is
/// not what would be done.
#[derive(Clone, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub struct RestoreGround {
    /// The folder that the path led to.
    pub folder: FileId,
    /// What had the name in it; `None` for nothing.
    pub present: Option<PresentFile>,
    /// The size and the time of change that the file there must still have; `None`: what it holds does not matter.
    pub still: Option<(u64, FileTime)>,
}

/// A file that a restore replaces, as far as rights to do so hang on it.
#[derive(Clone, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub struct PresentFile {
    /// Which.
    pub file: FileId,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner's number.
    pub uid: u32,
    /// Its group's number.
    pub gid: u32,
}

impl PresentFile {
    /// Returns a file with these attributes.
    pub fn new(file: FileId, meta: &crate::Meta) -> Self {
        Self { file, mode: meta.mode, uid: meta.owner.id, gid: meta.group.id }
    }
}

/// A set of resulting rows that apply together.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The origin's journal time.
    pub stamp: Stamp,
    /// Who made it, where the origin knows.
    pub user: Option<String>,
    /// Names and what they stand for afterwards.
    pub names: Vec<NameRow>,
    /// Files and their state afterwards.
    pub files: Vec<FileRow>,
    /// Files whose present state becomes a version before this change applies.
    pub cuts: Vec<FileId>,
    /// What it says of a point.
    pub point: Option<PointRow>,
    /// The request that this change answers.
    pub restore: Option<RestoreRow>,
    /// In a mirror: by which changes the origin made states of `files` versions, in the order of `files`. A version that
    /// is not named here is made by this very change.
    pub made: Vec<(FileId, Made)>,
}

/// A change and its payload.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FilledChange {
    /// The rows.
    pub change: Change,
    /// The data extents of all file rows, in order.
    pub payload: Vec<u8>,
}

impl Change {
    /// Checks everything that can be checked without knowing the set; a station does so with all it receives.
    pub fn check(&self, origin: OriginId) -> Result<(), ChangeError> {
        limit("names", self.names.len(), NAMES_PER_CHANGE_MAX)?;
        limit("files", self.files.len(), FILES_PER_CHANGE_MAX)?;
        limit("cuts", self.cuts.len(), FILES_PER_CHANGE_MAX)?;
        limit("bytes in its user", self.user.as_ref().map_or(0, String::len), LABEL_BYTES_MAX)?;
        self.point.as_ref().map_or(Ok(()), |point| check_point(point, origin))?;
        self.check_names(origin)?;
        self.check_files(origin)?;
        self.check_made(origin)?;
        self.cuts.iter().try_for_each(|file| own(*file, origin))
    }

    /// Returns how many bytes of payload the extents ask for.
    pub fn payload_len(&self) -> u64 {
        self.files.iter().map(|row| row.content.payload_len()).fold(0, u64::saturating_add)
    }

    fn check_names(&self, origin: OriginId) -> Result<(), ChangeError> {
        let mut seen = HashSet::with_capacity(self.names.len());
        for row in &self.names {
            own(row.parent, origin)?;
            if let Some((target, _)) = row.target {
                if target == FileId::ROOT {
                    return Err(ChangeError::Root);
                }
                own(target, origin)?;
            }
            if !seen.insert((row.parent, &row.name)) {
                return Err(ChangeError::Twice(row.name.to_string()));
            }
        }
        Ok(())
    }

    fn check_files(&self, origin: OriginId) -> Result<(), ChangeError> {
        let mut seen = HashSet::with_capacity(self.files.len());
        let (mut extents, mut zeros) = (0, 0u64);
        for row in &self.files {
            own(row.file, origin)?;
            if row.file == FileId::ROOT && row.meta.kind != Kind::Dir {
                return Err(ChangeError::Root);
            }
            if !seen.insert(row.file) {
                return Err(ChangeError::Twice(row.file.to_string()));
            }
            row.meta.check().map_err(|source| ChangeError::Meta { file: row.file, source })?;
            extents += row.check_content()?;
            zeros = zeros.saturating_add(row.content.zeros_len());
        }
        limit("extents", extents, EXTENTS_MAX)?;
        if zeros > EXTENT_BYTES_MAX {
            return Err(ChangeError::TooMany {
                what: "bytes of zeros",
                got: zeros,
                limit: EXTENT_BYTES_MAX,
            });
        }
        let payload_len = self.payload_len();
        if payload_len > PAYLOAD_BYTES_MAX {
            return Err(ChangeError::TooMany {
                what: "bytes of content",
                got: payload_len,
                limit: PAYLOAD_BYTES_MAX,
            });
        }
        Ok(())
    }
}

impl Change {
    /// Returns by which change the origin made each file row's state a version, where that is said; in order of `files`.
    pub fn made(&self) -> impl Iterator<Item = Option<&Made>> {
        let mut made = self.made.iter().peekable();
        self.files
            .iter()
            .map(move |row| made.next_if(|(file, _)| *file == row.file).map(|(_, made)| made))
    }

    fn check_made(&self, origin: OriginId) -> Result<(), ChangeError> {
        let mut found = 0;
        for (row, made) in self.files.iter().zip(self.made()) {
            let Some(made) = made else { continue };
            found += 1;
            limit("bytes in its user", made.user.as_ref().map_or(0, String::len), LABEL_BYTES_MAX)?;
            if !row.is_version() || made.position.origin != origin {
                return Err(ChangeError::Made(row.file));
            }
        }
        match self.made.get(found) {
            Some((file, _)) => Err(ChangeError::Made(*file)),
            None => Ok(()),
        }
    }
}

impl FilledChange {
    /// Checks the change and that the payload is what its origin read.
    pub fn check(&self, origin: OriginId) -> Result<(), ChangeError> {
        self.check_rows(origin)?;
        self.contents().try_for_each(|(row, bytes)| match &row.content {
            Content::Extents { hash, .. } if *hash != ContentHash::of(bytes) => {
                Err(ChangeError::Hash(row.file))
            }
            Content::Extents { .. } | Content::Same => Ok(()),
        })
    }

    /// Checks the change and that the payload has the right length: all but the content's hashes.
    pub fn check_rows(&self, origin: OriginId) -> Result<(), ChangeError> {
        self.change.check(origin)?;
        let (got, want) = (self.payload.len() as u64, self.change.payload_len());
        if got == want { Ok(()) } else { Err(ChangeError::Payload { got, want }) }
    }

    /// Returns each file row with its bytes of the payload.
    ///
    /// Relies on the payload having the length that the extents say, as [`Self::check_rows`] holds.
    pub fn contents(&self) -> impl Iterator<Item = (&FileRow, &[u8])> {
        let mut rest = self.payload.as_slice();
        self.change.files.iter().map(move |row| {
            let len = usize::try_from(row.content.payload_len()).unwrap_or(usize::MAX);
            let (bytes, after) = rest.split_at(len.min(rest.len()));
            rest = after;
            (row, bytes)
        })
    }
}

impl FileRow {
    /// Tells whether this state is a version at once: where the origin says so, and for everything but files. What a folder
    /// was is small, and the whole set at some moment needs it.
    pub fn is_version(&self) -> bool {
        self.cut || self.meta.kind != Kind::File
    }

    /// Checks the extents and returns how many there are.
    fn check_content(&self) -> Result<usize, ChangeError> {
        if self.meta.size > SIZE_MAX {
            return Err(ChangeError::TooMany {
                what: "bytes",
                got: self.meta.size,
                limit: SIZE_MAX,
            });
        }
        let Content::Extents { extents, .. } = &self.content else { return Ok(0) };
        if self.meta.kind != Kind::File {
            return Err(ChangeError::NoContent(self.file));
        }
        let mut end = 0;
        for extent in extents {
            let next = extent.offset.checked_add(extent.len);
            let longest = if extent.zero { EXTENT_BYTES_MAX } else { PAYLOAD_BYTES_MAX };
            let fits = extent.offset >= end && (1..=longest).contains(&extent.len);
            match next {
                Some(next) if fits && next <= self.meta.size => end = next,
                _ => return Err(ChangeError::Extents(self.file)),
            }
        }
        Ok(extents.len())
    }
}

impl Content {
    /// Returns the content that replaces everything by `bytes`, for a file of that size.
    pub fn whole(bytes: &[u8]) -> Self {
        let len = bytes.len() as u64;
        let extents = if len == 0 { vec![] } else { vec![Extent { offset: 0, len, zero: false }] };
        Self::Extents { fresh: true, extents, hash: ContentHash::of(bytes) }
    }

    /// Returns how many bytes of payload belong to it.
    pub fn payload_len(&self) -> u64 {
        self.len_of(false)
    }

    /// Returns how many bytes of zeros it says.
    pub fn zeros_len(&self) -> u64 {
        self.len_of(true)
    }

    fn len_of(&self, zero: bool) -> u64 {
        match self {
            Self::Same => 0,
            Self::Extents { extents, .. } => {
                let of = extents.iter().filter(|extent| extent.zero == zero);
                of.map(|extent| extent.len).fold(0, u64::saturating_add)
            }
        }
    }
}

fn own(file: FileId, origin: OriginId) -> Result<(), ChangeError> {
    if file == FileId::ROOT || (file.origin == origin && origin.0 != 0) {
        Ok(())
    } else {
        Err(ChangeError::ForeignFile { file, origin })
    }
}

fn check_point(row: &PointRow, origin: OriginId) -> Result<(), ChangeError> {
    match row {
        PointRow::Made { point, .. } | PointRow::Scheduled { point, .. } => {
            if point.name.is_empty() {
                return Err(ChangeError::Nameless);
            }
            limit("bytes in its point", point.name.len(), LABEL_BYTES_MAX)
        }
        PointRow::Unscheduled { .. } => Ok(()),
        PointRow::Held { point, .. }
        | PointRow::Released { point }
        | PointRow::Removed { point } => {
            if point.origin == origin {
                Ok(())
            } else {
                Err(ChangeError::Point(*point))
            }
        }
    }
}

fn limit(what: &'static str, got: usize, limit: usize) -> Result<(), ChangeError> {
    if got <= limit {
        Ok(())
    } else {
        Err(ChangeError::TooMany { what, got: got as u64, limit: limit as u64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Epoch, FileTime, Owner};

    fn file(origin: u32, counter: u64) -> FileId {
        FileId { origin: OriginId(origin), epoch: Epoch::FIRST, counter }
    }

    fn row(size: u64, content: Content) -> FileRow {
        FileRow {
            file: file(1, 1),
            event: Event::Saved,
            meta: Meta {
                kind: Kind::File,
                size,
                mode: 0o644,
                owner: Owner::default(),
                group: Owner::default(),
                mtime: FileTime::default(),
                symlink: vec![],
                rdev: 0,
                xattrs: vec![],
            },
            content,
            hash: None,
            cut: true,
            fuzzy: false,
        }
    }

    fn filled(row: FileRow, payload: &[u8]) -> FilledChange {
        let change = Change { files: vec![row], ..Change::default() };
        FilledChange { change, payload: payload.to_vec() }
    }

    fn extents(extents: &[(u64, u64, bool)]) -> Content {
        let extent = |&(offset, len, zero)| Extent { offset, len, zero };
        Content::Extents {
            fresh: false,
            extents: extents.iter().map(extent).collect(),
            hash: ContentHash::of(b""),
        }
    }

    #[test]
    fn a_whole_content_passes_and_a_flipped_byte_does_not() {
        let good = filled(row(3, Content::whole(b"abc")), b"abc");
        assert_eq!(good.check(OriginId(1)), Ok(()));
        let flipped = filled(row(3, Content::whole(b"abc")), b"abd");
        assert_eq!(flipped.check(OriginId(1)), Err(ChangeError::Hash(file(1, 1))));
        let short = filled(row(3, Content::whole(b"abc")), b"ab");
        assert_eq!(short.check(OriginId(1)), Err(ChangeError::Payload { got: 2, want: 3 }));
    }

    #[test]
    fn hostile_extents_are_refused() {
        let cases: [&[(u64, u64, bool)]; 6] = [
            &[(0, 0, false)],
            &[(0, 101, false)],
            &[(u64::MAX, 2, false)],
            &[(10, 10, true), (15, 10, true)],
            &[(50, 10, true), (0, 10, true)],
            &[(0, u64::MAX, true)],
        ];
        for case in cases {
            assert!(filled(row(100, extents(case)), b"").check(OriginId(1)).is_err(), "{case:?}");
        }
        let far = extents(&[(0, EXTENT_BYTES_MAX, true), (EXTENT_BYTES_MAX, 1, true)]);
        assert!(filled(row(1 << 40, far), b"").check(OriginId(1)).is_err());
    }

    /// Zeros cost nothing to send and a row for each block to keep.
    #[test]
    fn the_zeros_of_a_change_are_bounded_over_all_its_rows() {
        let rows = |each: u64| {
            let of = |counter| FileRow {
                file: file(1, counter),
                ..row(EXTENT_BYTES_MAX, extents(&[(0, each, true)]))
            };
            let change = Change { files: (1..=48).map(of).collect(), ..Change::default() };
            FilledChange { change, payload: vec![] }.check(OriginId(1))
        };
        assert_eq!(rows(EXTENT_BYTES_MAX / 48), Ok(()));
        let over = rows(EXTENT_BYTES_MAX / 48 + 1);
        assert!(matches!(over, Err(ChangeError::TooMany { what: "bytes of zeros", .. })));
    }

    /// A master must not be able to touch what another master brought.
    #[test]
    fn foreign_files_are_refused_wherever_they_stand() {
        let foreign = file(2, 1);
        let name = |parent, target| Change {
            names: vec![NameRow { parent, name: Name::new(b"x").unwrap(), target }],
            ..Change::default()
        };
        let mut foreign_row = row(0, Content::Same);
        foreign_row.file = foreign;
        let wrong = [
            name(foreign, None),
            name(FileId::ROOT, Some((foreign, Kind::File))),
            name(FileId::ROOT, Some((FileId::ROOT, Kind::Dir))),
            Change { files: vec![foreign_row], ..Change::default() },
            Change { cuts: vec![foreign], ..Change::default() },
        ];
        for change in wrong {
            assert!(change.check(OriginId(1)).is_err(), "{change:?}");
        }
        assert_eq!(name(FileId::ROOT, Some((file(1, 1), Kind::File))).check(OriginId(1)), Ok(()));
    }

    #[test]
    fn one_change_says_one_thing_of_a_name_and_of_a_file() {
        let name = NameRow { parent: FileId::ROOT, name: Name::new(b"x").unwrap(), target: None };
        let twice = Change { names: vec![name.clone(), name], ..Change::default() };
        assert!(matches!(twice.check(OriginId(1)), Err(ChangeError::Twice(_))));
        let rows = vec![row(0, Content::Same), row(0, Content::Same)];
        let twice = Change { files: rows, ..Change::default() };
        assert!(matches!(twice.check(OriginId(1)), Err(ChangeError::Twice(_))));
    }
}
