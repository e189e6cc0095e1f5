//! Who, which and where: the ids of sets, stations, origins, files and positions.

use std::{fmt, num::NonZeroU64, str::FromStr};

use data_encoding::HEXLOWER_PERMISSIVE;
use serde::{Deserialize, Serialize};

/// A text that is not the id it was meant to be.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// Not a set name or station name.
    #[error(
        "'{0}' is not a usable name: 1 to 64 of a-z, 0-9, '-' and '_', beginning with a letter or digit"
    )]
    Label(String),
    /// Not a version id.
    #[error("'{0}' is not a version id (they look like v1.1.42)")]
    Version(String),
    /// Not a content hash or request id.
    #[error("'{0}' is not 64 hexadecimal digits")]
    Hex(String),
    /// Not a cluster's id.
    #[error("'{0}' is not the id of a cluster: 32 digits of 0-9 and a-f")]
    Cluster(String),
    /// Not a role.
    #[error("'{0}' is not a role: primary or replica")]
    Role(String),
}

/// A source slot of a set, held by one master at a time.
///
/// Zero is the set itself, which owns only the root folder.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct OriginId(pub u32);

impl OriginId {
    /// The set itself, of which no master sends anything.
    pub const SET: Self = Self(0);
}

impl fmt::Display for OriginId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Numbers the holders of an origin; a new journal is a new epoch.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Epoch(pub NonZeroU64);

impl Epoch {
    /// The first epoch of every origin.
    pub const FIRST: Self = Self(NonZeroU64::MIN);

    /// Returns the epoch with this number; zero does not exist.
    pub fn new(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }

    /// Returns the number.
    pub fn number(self) -> u64 {
        self.0.get()
    }

    /// The highest epoch that is taken from anyone: a number that leaves no room above it would end the origin.
    pub const MAX: Self = Self(NonZeroU64::new(1 << 62).expect("not zero"));

    /// How far an epoch may lie above the one that is agreed. Honest ones go up one by one.
    pub const JUMP_MAX: u64 = 1 << 32;

    /// Returns the epoch after this one; the last one there is follows itself.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Tells whether a peer may come with this epoch where `agreed` is the one that holds.
    pub fn may_follow(self, agreed: Self) -> bool {
        self <= Self::MAX && self.number().saturating_sub(agreed.number()) <= Self::JUMP_MAX
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The place of a change in its origin's journal. Zero is before the first change.
#[derive(
    Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize,
)]
pub struct Seq(pub u64);

impl Seq {
    /// The highest place that is taken from anyone: one that leaves no room above it would end the journal.
    pub const MAX: Self = Self(1 << 62);

    /// Returns the place after this one; the last one there is follows itself.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A place in the history of a set, the same on every station.
///
/// Orders by origin, then epoch, then seq; positions of two origins say nothing about each other.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Position {
    /// Which source slot.
    pub origin: OriginId,
    /// Which holder of it.
    pub epoch: Epoch,
    /// Which change of that holder's journal.
    pub seq: Seq,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.origin, self.epoch, self.seq)
    }
}

/// The id of a version: the position of its cut, written `v1.1.42`, the same on every station.
///
/// A version that a station cut by itself is its own: its id is the station's commit that brought it, written `s42`. Its position is of
/// [`OriginId::SET`], which no master has.
///
/// Together with a file it is unique; one change cuts a file at most once, and may cut many files, so that a name is not
/// enough: another file of the same change may take it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct VersionId(pub Position);

impl VersionId {
    /// Returns the id of a version that a station cut by itself; this commit brought its state.
    pub fn of_station(brought: CommitId) -> Self {
        Self(Position { origin: OriginId::SET, epoch: Epoch::FIRST, seq: Seq(brought.0) })
    }

    /// Returns the commit that brought a version which its station cut by itself; `None` where its origin did.
    pub fn station_commit(self) -> Option<CommitId> {
        (self.0.origin == OriginId::SET).then_some(CommitId(self.0.seq.0))
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.station_commit() {
            Some(cut) => write!(f, "s{cut}"),
            None => write!(f, "v{}", self.0),
        }
    }
}

impl FromStr for VersionId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = || IdError::Version(text.to_owned());
        if let Some(cut) = text.strip_prefix('s') {
            let is_number = !cut.is_empty() && cut.bytes().all(|byte| byte.is_ascii_digit());
            let cut = if is_number { cut.parse().ok() } else { None };
            return cut.map(|cut| Self::of_station(CommitId(cut))).ok_or_else(wrong);
        }
        let mut parts = text.strip_prefix('v').ok_or_else(wrong)?.split('.');
        let mut number = || parts.next()?.parse::<u64>().ok();
        let origin = number().and_then(|n| u32::try_from(n).ok()).ok_or_else(wrong)?;
        let epoch = number().and_then(Epoch::new).ok_or_else(wrong)?;
        let seq = number().ok_or_else(wrong)?;
        if parts.next().is_some() || origin == OriginId::SET.0 {
            return Err(wrong());
        }
        Ok(Self(Position { origin: OriginId(origin), epoch, seq: Seq(seq) }))
    }
}

/// A station's own order of durable changes. It never leaves the station. Zero is before the first.
#[derive(
    Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize,
)]
pub struct CommitId(pub u64);

impl CommitId {
    /// Later than every commit: "now".
    pub const MAX: Self = Self(u64::MAX);

    /// Returns the commit after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("a station does not reach 2^64 commits"))
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A file, folder or symlink of a set, for its whole life and under all its names.
///
/// The origin gives it; a station refuses one whose origin is not the link's.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct FileId {
    /// Who made it.
    pub origin: OriginId,
    /// In which epoch it was born.
    pub epoch: Epoch,
    /// Counts the births of that epoch, from somewhere; the root folder alone has 0.
    pub counter: u64,
}

impl FileId {
    /// The root folder of every set.
    pub const ROOT: Self = Self { origin: OriginId(0), epoch: Epoch::FIRST, counter: 0 };

    /// Returns the 20 bytes under which indexes keep it; their order is the order of the ids.
    pub fn to_bytes(self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..4].copy_from_slice(&self.origin.0.to_be_bytes());
        bytes[4..12].copy_from_slice(&self.epoch.number().to_be_bytes());
        bytes[12..].copy_from_slice(&self.counter.to_be_bytes());
        bytes
    }

    /// Returns bytes as few as there can be, 5 to 8 mostly and never over [`Self::SHORT_BYTES_MAX`]. Their order is the order of
    /// the ids, and no id's begin those of another.
    pub fn to_short(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::SHORT_BYTES_MAX);
        push_short(&mut bytes, self.origin.0.into());
        push_short(&mut bytes, self.epoch.number());
        push_short(&mut bytes, self.counter);
        bytes
    }

    /// Reads what [`Self::to_short`] wrote, and returns the rest; `None` where no id has these bytes.
    pub fn split_short(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (origin, rest) = split_short(bytes)?;
        let (epoch, rest) = split_short(rest)?;
        let (counter, rest) = split_short(rest)?;
        let origin = OriginId(u32::try_from(origin).ok()?);
        Some((Self { origin, epoch: Epoch::new(epoch)?, counter }, rest))
    }

    /// The longest that [`Self::to_short`] gets.
    pub const SHORT_BYTES_MAX: usize = 5 + 9 + 9;

    /// Reads what [`Self::to_bytes`] wrote; `None` where no id has these bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (origin, rest) = bytes.split_first_chunk::<4>()?;
        let (epoch, rest) = rest.split_first_chunk::<8>()?;
        let counter = <[u8; 8]>::try_from(rest).ok()?;
        Some(Self {
            origin: OriginId(u32::from_be_bytes(*origin)),
            epoch: Epoch::new(u64::from_be_bytes(*epoch))?,
            counter: u64::from_be_bytes(counter),
        })
    }
}

/// Appends a number in as few bytes as it needs: one below 248, else how many follow, and these. No number's bytes begin those of
/// another, and their order is the order of the numbers.
fn push_short(bytes: &mut Vec<u8>, number: u64) {
    match u8::try_from(number) {
        Ok(byte) if byte < LONG => bytes.push(byte),
        _ => {
            let all = number.to_be_bytes();
            let from = all.iter().position(|byte| *byte != 0).unwrap_or(7);
            let digits = &all[from..];
            bytes.extend((LONG..=u8::MAX).nth(digits.len() - 1));
            bytes.extend_from_slice(digits);
        }
    }
}

/// Reads what [`push_short`] wrote, and nothing else, and returns the rest.
fn split_short(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let Some(more) = first.checked_sub(LONG) else { return Some((first.into(), rest)) };
    let (digits, rest) = rest.split_at_checked(usize::from(more) + 1)?;
    let number = digits.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    let is_shortest = digits.first() != Some(&0) && number >= LONG.into();
    is_shortest.then_some((number, rest))
}

/// Bytes from here on say how many more follow: one more than they are above it.
const LONG: u8 = 248;

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "f{}.{}.{}", self.origin, self.epoch, self.counter)
    }
}

macro_rules! hash_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
        pub struct $name(pub [u8; 32]);

        crate::shown_as_hex!($name);

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let wrong = || IdError::Hex(text.to_owned());
                let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).map_err(|_| wrong())?;
                bytes.try_into().map(Self).map_err(|_| wrong())
            }
        }
    };
}

hash_type! {
    /// The BLAKE3 hash of a whole content.
    ContentHash
}
hash_type! {
    /// The BLAKE3 hash over all changes of one epoch up to a place, so that two journals cannot be taken for one.
    RunningHash
}
hash_type! {
    /// Names one request to restore, so that a repeat is answered and never done twice.
    RequestId
}

impl ContentHash {
    /// Returns the hash of `content`.
    pub fn of(content: &[u8]) -> Self {
        Self(*blake3::hash(content).as_bytes())
    }
}

impl RunningHash {
    /// The hash before the first change of an epoch.
    pub const EMPTY: Self = Self([0; 32]);

    /// Returns the hash after one more change, given that change's encoded form.
    #[must_use]
    pub fn extended(&self, change: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0).update(change);
        Self(*hasher.finalize().as_bytes())
    }
}

macro_rules! label_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Returns the text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let usable = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b);
                let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
                if first && text.len() <= 64 && text.bytes().all(usable) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(IdError::Label(text.to_owned()))
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(label: $name) -> Self {
                label.0
            }
        }
    };
}

label_type! {
    /// The name of a set: 1 to 64 of `a-z 0-9 - _`, so that it is a folder name everywhere.
    SetName
}
label_type! {
    /// The name of a station: 1 to 64 of `a-z 0-9 - _`.
    StationName
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_ids_read_back_and_wrong_ones_do_not() {
        let id: VersionId = "v1.2.42".parse().unwrap();
        assert_eq!(id.to_string(), "v1.2.42");
        let own = VersionId::of_station(CommitId(42));
        assert_eq!((own.to_string().as_str(), "s42".parse()), ("s42", Ok(own)));
        for wrong in [
            "",
            "s",
            "s+4",
            "s4.1",
            "v0.1.4",
            "v",
            "1.1.1",
            "v1.0.1",
            "v1.1",
            "v1.1.1.1",
            "v-1.1.1",
            "v4294967296.1.1",
        ] {
            assert!(wrong.parse::<VersionId>().is_err(), "{wrong} was taken");
        }
    }

    /// Range scans over files of one origin rely on it.
    #[test]
    fn file_id_bytes_sort_like_file_ids() {
        let id = |origin, epoch, counter| FileId {
            origin: OriginId(origin),
            epoch: Epoch::new(epoch).unwrap(),
            counter,
        };
        let sorted = [FileId::ROOT, id(1, 1, 1), id(1, 1, 256), id(1, 2, 0), id(2, 1, 0)];
        assert!(sorted.windows(2).all(|w| w[0] < w[1] && w[0].to_bytes() < w[1].to_bytes()));
        assert!(sorted.iter().all(|id| FileId::from_bytes(&id.to_bytes()) == Some(*id)));
        assert_eq!(FileId::from_bytes(&[0; 20]), None, "epoch zero does not exist");
        assert_eq!(FileId::from_bytes(&[1; 19]), None);
    }

    /// So do short ones, and what follows an id is not taken for a part of it.
    #[test]
    fn short_file_ids_sort_like_file_ids() {
        let numbers = [1, 2, 247, 248, 255, 256, 65_535, 65_536, 1 << 32, 1 << 40, u64::MAX];
        let id = |origin, epoch, counter| FileId {
            origin: OriginId(origin),
            epoch: Epoch::new(epoch).unwrap(),
            counter,
        };
        let mut sorted = vec![FileId::ROOT];
        for origin in [1, 248, u32::MAX] {
            for epoch in numbers {
                sorted.extend(numbers.map(|counter| id(origin, epoch, counter)));
            }
        }
        assert!(sorted.windows(2).all(|w| w[0] < w[1] && w[0].to_short() < w[1].to_short()));
        for id in &sorted {
            let short = id.to_short();
            assert!(short.len() <= FileId::SHORT_BYTES_MAX);
            let followed = [&short[..], b"name"].concat();
            assert_eq!(FileId::split_short(&followed), Some((*id, &b"name"[..])));
            assert_eq!(FileId::split_short(&short[..short.len() - 1]), None);
        }
        assert_eq!(FileId::split_short(&[1, 0, 1]), None, "epoch zero does not exist");
        for longer in [&[1, 1, LONG, 7][..], &[1, 1, LONG + 1, 0, 255], &[1, 1, LONG]] {
            assert_eq!(FileId::split_short(longer), None, "{longer:?}: there is a shorter one");
        }
    }

    #[test]
    fn labels_are_folder_names_everywhere() {
        for good in ["a", "projects", "a-b_c1", "9lives"] {
            assert_eq!(good.parse::<SetName>().unwrap().as_str(), good);
        }
        for wrong in ["", "-a", "A", "a b", "a/b", "..", "ä", &"x".repeat(65)] {
            assert!(wrong.parse::<SetName>().is_err(), "{wrong} was taken");
        }
    }

    #[test]
    fn hashes_read_back() {
        let hash = ContentHash::of(b"x");
        assert_eq!(hash.to_string().parse::<ContentHash>().unwrap(), hash);
        assert!("zz".repeat(32).parse::<ContentHash>().is_err());
        assert!("é".repeat(32).parse::<ContentHash>().is_err());
    }
}
