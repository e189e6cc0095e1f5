//! What a file system says of a file beside its content.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ACCESS_LIST_XATTR, FileTime, counted};

/// The most bytes that all extended attributes of one file may take, names and values.
pub const XATTR_BYTES_MAX: usize = 64 * 1024;

/// The most bytes that one file's meta can take when encoded.
pub const META_BYTES_MAX: usize = XATTR_BYTES_MAX + 16 * 1024;

/// The longest target of a symlink, in bytes (Linux `PATH_MAX`).
const SYMLINK_BYTES_MAX: usize = 4096;

/// The longest name of an owner or group, in bytes.
const OWNER_BYTES_MAX: usize = 256;

/// The attribute that says what had to be left out of a file's extended attributes, as [`LeftOut`] writes it.
///
/// A source adds it to what it sends. It is read from no file and set on none.
pub const LEFT_OUT_XATTR: &[u8] = b"user.keepshare.left-out";

/// The attribute by which a master knows its private folder in a source again. No link has it given to anything.
pub const PRIVATE_XATTR: &[u8] = b"user.keepshare.private";

/// What of a file's extended attributes is not in its [`Meta`], because it did not fit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LeftOut {
    /// How many attributes.
    pub count: u64,
    /// How many bytes their values have, where that could be found out.
    pub bytes: u64,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, bytes) =
            (counted(self.count, "extended attribute"), counted(self.bytes, "byte"));
        write!(f, "{count} of {bytes}")
    }
}

/// Why a meta is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MetaError {
    /// Mode bits beyond the twelve that exist.
    #[error("mode {0:o} has bits beyond 7777")]
    Mode(u32),
    /// Nanoseconds of 10⁹ and more.
    #[error("{0} nanoseconds are a second or more")]
    Nanos(u32),
    /// Attributes larger than [`XATTR_BYTES_MAX`].
    #[error("extended attributes of {0} bytes are more than 65536")]
    Xattrs(usize),
    /// An attribute outside the allow-list.
    #[error("the extended attribute '{0}' is not replicated")]
    XattrName(String),
    /// A symlink target that is empty, too long or holds a NUL; or one on something that is no symlink.
    #[error("the symlink target is not usable")]
    Symlink,
    /// An owner's name that is too long.
    #[error("an owner's name of {0} bytes is longer than 256")]
    Owner(usize),
    /// An owner or a group that is nobody's number: given to a file, it leaves the one that it has.
    #[error("{0} is no number of an owner or a group")]
    OwnerNumber(u32),
    /// A size on something that has no content.
    #[error("only files have a size")]
    Size,
}

/// What kind of thing a name stands for.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Dir,
    /// A symbolic link; its target is data and never followed.
    Symlink,
    /// A named pipe; kept in history, never made in a live tree.
    Fifo,
    /// A socket; kept in history, never made in a live tree.
    Socket,
    /// A block device; kept in history, never made in a live tree.
    BlockDevice,
    /// A character device; kept in history, never made in a live tree.
    CharDevice,
}

impl Kind {
    /// All of them, each at its number.
    pub const ALL: [Self; 7] = [
        Self::File,
        Self::Dir,
        Self::Symlink,
        Self::Fifo,
        Self::Socket,
        Self::BlockDevice,
        Self::CharDevice,
    ];

    /// Returns its number, under which rows keep it: below 8, and always the same.
    pub fn to_byte(self) -> u8 {
        self as u8
    }

    /// Returns the kind with this number.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
    }

    /// Tells whether a live tree holds this kind.
    pub fn is_live(self) -> bool {
        matches!(self, Self::File | Self::Dir | Self::Symlink)
    }
}

/// An owner or group: the number, and the name where the origin knew one.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub struct Owner {
    /// The origin's number.
    pub id: u32,
    /// The origin's name for it; empty where it had none.
    pub name: String,
}

impl fmt::Display for Owner {
    /// Shows the name or, where the master had none, the number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.is_empty() { self.id.fmt(f) } else { f.write_str(&self.name) }
    }
}

/// What a file system says of a file beside its content, as the origin saw it.
#[derive(Clone, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// File, folder, symlink, …
    pub kind: Kind,
    /// The content's length in bytes; 0 for everything but files.
    pub size: u64,
    /// Permission, set-id and sticky bits (`07777`).
    pub mode: u32,
    /// The owner.
    pub owner: Owner,
    /// The group.
    pub group: Owner,
    /// When the content changed last.
    pub mtime: FileTime,
    /// Where a symlink points; empty for everything else.
    pub symlink: Vec<u8>,
    /// The device number of a device; 0 for everything else.
    pub rdev: u64,
    /// Extended attributes of the allow-list, sorted by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Meta {
    /// Returns the bytes of its access list; none where it has no list.
    pub fn access_list(&self) -> &[u8] {
        let list = self.xattrs.iter().find(|(name, _)| name == ACCESS_LIST_XATTR);
        list.map_or(&[], |(_, list)| list)
    }

    /// Returns the attributes of something of which nothing is known.
    pub fn unknown() -> Self {
        Self {
            kind: Kind::File,
            size: 0,
            mode: 0,
            owner: Owner::default(),
            group: Owner::default(),
            mtime: FileTime::default(),
            symlink: Vec::new(),
            rdev: 0,
            xattrs: Vec::new(),
        }
    }

    /// Returns what is said to be left out of the extended attributes, as shown to people; `None` where all is here.
    pub fn left_out(&self) -> Option<String> {
        let (_, said) = self.xattrs.iter().find(|(name, _)| name == LEFT_OUT_XATTR)?;
        Some(String::from_utf8_lossy(said).into_owned())
    }

    /// Checks every limit; a station does so with all that a master sends.
    pub fn check(&self) -> Result<(), MetaError> {
        if self.mode & !0o7777 != 0 {
            return Err(MetaError::Mode(self.mode));
        }
        if self.mtime.nanos >= 1_000_000_000 {
            return Err(MetaError::Nanos(self.mtime.nanos));
        }
        let xattr_bytes = self.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        if xattr_bytes > XATTR_BYTES_MAX {
            return Err(MetaError::Xattrs(xattr_bytes));
        }
        if let Some((name, _)) = self.xattrs.iter().find(|(name, _)| !xattr_allowed(name)) {
            return Err(MetaError::XattrName(String::from_utf8_lossy(name).into_owned()));
        }
        let target_fits = match self.kind {
            Kind::Symlink => {
                (1..=SYMLINK_BYTES_MAX).contains(&self.symlink.len()) && !self.symlink.contains(&0)
            }
            _ => self.symlink.is_empty(),
        };
        if !target_fits {
            return Err(MetaError::Symlink);
        }
        let longest = self.owner.name.len().max(self.group.name.len());
        if longest > OWNER_BYTES_MAX {
            return Err(MetaError::Owner(longest));
        }
        if [self.owner.id, self.group.id].contains(&u32::MAX) {
            return Err(MetaError::OwnerNumber(u32::MAX));
        }
        if self.kind != Kind::File && self.size != 0 {
            return Err(MetaError::Size);
        }
        Ok(())
    }
}

/// Tells whether an extended attribute is replicated: `user.*` and the POSIX ACLs.
///
/// `security.*` and `trusted.*` give powers on the machine they are set on, so a master cannot plant them.
pub fn xattr_allowed(name: &[u8]) -> bool {
    (name.starts_with(b"user.") && name.len() > 5 && name.len() <= 255 && !name.contains(&0))
        || name == b"system.posix_acl_access"
        || name == b"system.posix_acl_default"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> Meta {
        Meta {
            kind: Kind::File,
            size: 1,
            mode: 0o644,
            owner: Owner::default(),
            group: Owner::default(),
            mtime: FileTime::default(),
            symlink: Vec::new(),
            rdev: 0,
            xattrs: Vec::new(),
        }
    }

    /// Their numbers stand in journals.
    #[test]
    fn a_kind_is_its_number() {
        for (number, kind) in (0..).zip(Kind::ALL) {
            assert_eq!((kind.to_byte(), Kind::from_byte(number)), (number, Some(kind)));
        }
        assert_eq!((Kind::File.to_byte(), Kind::CharDevice.to_byte()), (0, 6));
        assert_eq!(Kind::from_byte(7), None);
    }

    #[test]
    fn a_master_cannot_plant_what_does_not_fit() {
        assert_eq!(plain().check(), Ok(()));
        let wrong = [
            Meta { mode: 0o10644, ..plain() },
            Meta { mtime: FileTime { secs: 0, nanos: 1_000_000_000 }, ..plain() },
            Meta { xattrs: vec![(b"security.capability".to_vec(), vec![])], ..plain() },
            Meta { xattrs: vec![(b"user.".to_vec(), vec![])], ..plain() },
            Meta { xattrs: vec![(b"user.a".to_vec(), vec![0; 65536])], ..plain() },
            Meta { symlink: b"/etc".to_vec(), ..plain() },
            Meta { kind: Kind::Symlink, size: 0, ..plain() },
            Meta { kind: Kind::Symlink, size: 0, symlink: b"a\0b".to_vec(), ..plain() },
            Meta { kind: Kind::Dir, ..plain() },
            Meta { owner: Owner { id: 0, name: "x".repeat(257) }, ..plain() },
            Meta { owner: Owner { id: u32::MAX, name: String::new() }, ..plain() },
            Meta { group: Owner { id: u32::MAX, name: String::new() }, ..plain() },
        ];
        for meta in wrong {
            assert!(meta.check().is_err(), "{meta:?} was taken");
        }
    }
}
