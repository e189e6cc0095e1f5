//! What each procedure answers (RFC 1813 §3.3).
//!
//! Every result is a [`Reply`]: a status, then one structure where it is good and another where it is not.

use super::{Attributes, Handle, Stability, Time, WeakCache};
use crate::{
    Decoder, Encoder, Wire, XdrError,
    xdr::{wire_enum, wire_struct},
};

/// The most entries that are read from one listing.
const ENTRIES_MAX: usize = 1 << 20;

wire_enum! {
    /// Why a call failed (`nfsstat3`).
    pub enum Status {
        /// Not the owner, or not now.
        NotPermitted = 1,
        /// No such name.
        NotFound = 2,
        /// The disk, or what stands for it.
        Io = 5,
        /// No such device.
        NoDevice = 6,
        /// Not allowed.
        Access = 13,
        /// The name exists.
        Exists = 17,
        /// Between two file systems.
        CrossDevice = 18,
        /// No such device.
        NoSuchDevice = 19,
        /// Not a folder.
        NotFolder = 20,
        /// A folder.
        IsFolder = 21,
        /// An argument that cannot be.
        Invalid = 22,
        /// The file would be too large.
        TooLarge = 27,
        /// The disk is full.
        NoSpace = 28,
        /// Read-only.
        ReadOnly = 30,
        /// Too many names of one file.
        TooManyLinks = 31,
        /// A name too long.
        NameTooLong = 63,
        /// The folder is not empty.
        NotEmpty = 66,
        /// The owner's quota is used up.
        Quota = 69,
        /// The handle names nothing any more.
        Stale = 70,
        /// Too many levels of remote in the path.
        Remote = 71,
        /// The handle was never given.
        BadHandle = 10_001,
        /// The guard did not hold.
        NotSynchronised = 10_002,
        /// The place in the listing is not known.
        BadCookie = 10_003,
        /// Not supported.
        NotSupported = 10_004,
        /// The answer does not fit in what the client allows.
        TooSmall = 10_005,
        /// The server is not able to.
        ServerFault = 10_006,
        /// The server does not make such files.
        BadType = 10_007,
        /// Later; clients ask again by themselves.
        TryLater = 10_008,
    }
}

/// A result: what was asked for, or why not.
pub type Reply<T, F> = Result<T, Failure<F>>;

/// Why not, and what the client gets to know all the same.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Failure<F> {
    /// Why.
    pub status: Status,
    /// What it gets to know.
    pub known: F,
}

impl<'a, T: Wire<'a>, F: Wire<'a>> Wire<'a> for Reply<T, F> {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        match self {
            Ok(value) => {
                encoder.u32(0);
                encoder.value(value);
            }
            Err(Failure { status, known }) => {
                encoder.value(status);
                encoder.value(known);
            }
        }
    }

    fn decode(decoder: &mut Decoder<'a>) -> Result<Self, XdrError> {
        match decoder.u32()? {
            0 => decoder.value().map(Ok),
            number => {
                let status = Status::from_number(number).ok_or(XdrError::Unknown(number))?;
                Ok(Err(Failure { status, known: decoder.value()? }))
            }
        }
    }
}

wire_struct! {
    /// What LOOKUP found.
    pub struct LookupOk<'a> {
        /// The thing.
        pub object: Handle<'a>,
        /// What is known of it.
        pub attributes: Option<Attributes>,
        /// What is known of the folder.
        pub dir: Option<Attributes>,
    }
}

wire_struct! {
    /// What ACCESS grants.
    pub struct AccessOk {
        /// What is known of the file.
        pub attributes: Option<Attributes>,
        /// Bits of [`super::access`].
        pub access: u32,
    }
}

wire_struct! {
    /// Where a link points.
    pub struct ReadLinkOk<'a> {
        /// What is known of the link.
        pub attributes: Option<Attributes>,
        /// Where it points.
        pub target: &'a [u8],
    }
}

wire_struct! {
    /// What READ read.
    pub struct ReadOk<'a> {
        /// What is known of the file.
        pub attributes: Option<Attributes>,
        /// How many bytes.
        pub count: u32,
        /// The file ends after them.
        pub end: bool,
        /// The bytes.
        pub data: &'a [u8],
    }
}

wire_struct! {
    /// What WRITE wrote.
    pub struct WriteOk {
        /// The file before and after.
        pub file: WeakCache,
        /// How many bytes.
        pub count: u32,
        /// How durable.
        pub stable: Stability,
        /// Changes when the server may have lost unstable writes.
        pub verifier: [u8; 8],
    }
}

wire_struct! {
    /// What CREATE, MKDIR, SYMLINK and MKNOD made.
    pub struct Created<'a> {
        /// The thing.
        pub object: Option<Handle<'a>>,
        /// What is known of it.
        pub attributes: Option<Attributes>,
        /// The folder before and after.
        pub dir: WeakCache,
    }
}

wire_struct! {
    /// The two folders of RENAME, whether it was done or not.
    pub struct RenameChange {
        /// The folder of the name that went.
        pub from: WeakCache,
        /// The folder of the name that came.
        pub to: WeakCache,
    }
}

wire_struct! {
    /// The file and the folder of LINK, whether it was done or not.
    pub struct LinkFailed {
        /// What is known of the file.
        pub file: Option<Attributes>,
        /// The folder before and after.
        pub dir: WeakCache,
    }
}

wire_struct! {
    /// What FSSTAT says.
    pub struct FsStat {
        /// What is known of the file asked about.
        pub attributes: Option<Attributes>,
        /// Bytes in all.
        pub bytes: u64,
        /// Bytes that are free.
        pub bytes_free: u64,
        /// Bytes that are free to this user.
        pub bytes_available: u64,
        /// Files that can be in all.
        pub files: u64,
        /// Files that can still be made.
        pub files_free: u64,
        /// Files that this user can still make.
        pub files_available: u64,
        /// How long this stays so, in seconds.
        pub invariant_s: u32,
    }
}

wire_struct! {
    /// What FSINFO says.
    pub struct FsInfo {
        /// What is known of the file asked about.
        pub attributes: Option<Attributes>,
        /// The most bytes of a READ.
        pub read_max: u32,
        /// The best number of bytes of a READ.
        pub read_preferred: u32,
        /// What a READ's size should be a multiple of.
        pub read_multiple: u32,
        /// The most bytes of a WRITE.
        pub write_max: u32,
        /// The best number of bytes of a WRITE.
        pub write_preferred: u32,
        /// What a WRITE's size should be a multiple of.
        pub write_multiple: u32,
        /// The best size of a READDIR.
        pub dir_preferred: u32,
        /// The longest a file can be.
        pub size_max: u64,
        /// How exact times are.
        pub time_delta: Time,
        /// Bits of [`super::properties`].
        pub properties: u32,
    }
}

wire_struct! {
    /// What PATHCONF says.
    pub struct PathConf {
        /// What is known of the file asked about.
        pub attributes: Option<Attributes>,
        /// The most names of one file.
        pub links_max: u32,
        /// The longest name, in bytes.
        pub name_max: u32,
        /// Longer names are refused, not cut.
        pub no_truncation: bool,
        /// Only a superuser gives files away.
        pub chown_restricted: bool,
        /// Upper and lower case are one.
        pub case_insensitive: bool,
        /// Names keep their case.
        pub case_preserving: bool,
    }
}

wire_struct! {
    /// What COMMIT did.
    pub struct CommitOk {
        /// The file before and after.
        pub file: WeakCache,
        /// Changes when the server may have lost unstable writes.
        pub verifier: [u8; 8],
    }
}

wire_struct! {
    /// What READDIR and READDIRPLUS answer before their entries.
    pub struct DirOk {
        /// What is known of the folder.
        pub attributes: Option<Attributes>,
        /// To be shown with the next place.
        pub verifier: [u8; 8],
    }
}

wire_struct! {
    /// An entry of READDIR.
    pub struct DirEntry<'a> {
        /// The file's number.
        pub id: u64,
        /// The name.
        pub name: &'a [u8],
        /// The place after it.
        pub cookie: u64,
    }
}

wire_struct! {
    /// An entry of READDIRPLUS.
    pub struct DirEntryPlus<'a> {
        /// The file's number.
        pub id: u64,
        /// The name.
        pub name: &'a [u8],
        /// The place after it.
        pub cookie: u64,
        /// What is known of it.
        pub attributes: Option<Attributes>,
        /// The thing.
        pub object: Option<Handle<'a>>,
    }
}

/// Reads the entries after a [`DirOk`], and whether the folder ends with them.
pub fn decode_entries<'a, T: Wire<'a>>(
    decoder: &mut Decoder<'a>,
) -> Result<(Vec<T>, bool), XdrError> {
    let mut entries = vec![];
    while let Some(entry) = decoder.value()? {
        if entries.len() >= ENTRIES_MAX {
            return Err(XdrError::TooLong { len: 1 << 20, max: 1 << 20 });
        }
        entries.push(entry);
    }
    Ok((entries, decoder.value()?))
}
