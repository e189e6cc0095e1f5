//! What arguments and results are made of (RFC 1813 §2.5, §2.6).

use crate::{
    Decoder, Encoder, Wire, XdrError,
    xdr::{wire_enum, wire_struct},
};

/// The longest handle, in bytes (`NFS3_FHSIZE`).
pub const HANDLE_BYTES_MAX: usize = 64;

/// Bits of ACCESS (RFC 1813 §3.3.4).
pub mod access {
    /// Read a file, list a folder.
    pub const READ: u32 = 0x01;
    /// Look up a name in a folder.
    pub const LOOKUP: u32 = 0x02;
    /// Change what is there.
    pub const MODIFY: u32 = 0x04;
    /// Add something.
    pub const EXTEND: u32 = 0x08;
    /// Remove a name from a folder.
    pub const DELETE: u32 = 0x10;
    /// Execute a file.
    pub const EXECUTE: u32 = 0x20;
}

/// Bits of FSINFO's properties (RFC 1813 §3.3.19).
pub mod properties {
    /// Hard links exist.
    pub const LINK: u32 = 0x01;
    /// Symbolic links exist.
    pub const SYMLINK: u32 = 0x02;
    /// PATHCONF says the same of every file.
    pub const HOMOGENEOUS: u32 = 0x08;
    /// SETATTR sets times to what the client says.
    pub const CAN_SET_TIME: u32 = 0x10;
}

/// Names a file to its server; at most [`HANDLE_BYTES_MAX`] bytes.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Handle<'a>(&'a [u8]);

impl<'a> Handle<'a> {
    /// Returns the handle with these bytes; `None` where they are too many.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        (bytes.len() <= HANDLE_BYTES_MAX).then_some(Self(bytes))
    }

    /// Returns the bytes.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

impl<'a> Wire<'a> for Handle<'a> {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        encoder.opaque(self.0);
    }

    fn decode(decoder: &mut Decoder<'a>) -> Result<Self, XdrError> {
        decoder.opaque(64).map(Self)
    }
}

wire_enum! {
    /// What kind of thing a file is (`ftype3`).
    pub enum FileKind {
        /// A regular file.
        File = 1,
        /// A folder.
        Dir = 2,
        /// A block device.
        BlockDevice = 3,
        /// A character device.
        CharDevice = 4,
        /// A symbolic link.
        Symlink = 5,
        /// A socket.
        Socket = 6,
        /// A named pipe.
        Fifo = 7,
    }
}

wire_enum! {
    /// How durable a write shall be or is (`stable_how`).
    pub enum Stability {
        /// Not before COMMIT.
        Unstable = 0,
        /// Its data.
        DataSync = 1,
        /// Its data and attributes.
        FileSync = 2,
    }
}

wire_struct! {
    /// A time of a file (`nfstime3`).
    pub struct Time {
        /// Seconds since 1970.
        pub secs: u32,
        /// Nanoseconds.
        pub nanos: u32,
    }
}

wire_struct! {
    /// What is known of a file (`fattr3`).
    pub struct Attributes {
        /// Its kind.
        pub kind: FileKind,
        /// Permission bits.
        pub mode: u32,
        /// How many names it has.
        pub links: u32,
        /// The owner's number.
        pub uid: u32,
        /// The group's number.
        pub gid: u32,
        /// Its length in bytes.
        pub size: u64,
        /// What it takes on disk, in bytes.
        pub used: u64,
        /// A device's numbers, as one.
        pub device: u64,
        /// The file system.
        pub fsid: u64,
        /// The file's number in it.
        pub id: u64,
        /// When it was read last.
        pub atime: Time,
        /// When its content changed last.
        pub mtime: Time,
        /// When anything of it changed last.
        pub ctime: Time,
    }
}

wire_struct! {
    /// What was known of a file before an operation (`wcc_attr`).
    pub struct BeforeAttributes {
        /// Its length in bytes.
        pub size: u64,
        /// When its content had changed last.
        pub mtime: Time,
        /// When anything of it had changed last.
        pub ctime: Time,
    }
}

wire_struct! {
    /// A file before and after an operation, so that a client can tell whether others changed it (`wcc_data`).
    pub struct WeakCache {
        /// Before.
        pub before: Option<BeforeAttributes>,
        /// After.
        pub after: Option<Attributes>,
    }
}

impl WeakCache {
    /// Tells nothing.
    pub const NONE: Self = Self { before: None, after: None };
}

wire_struct! {
    /// What of a file's attributes is to be set (`sattr3`).
    pub struct SetAttributes {
        /// Permission bits.
        pub mode: Option<u32>,
        /// The owner's number.
        pub uid: Option<u32>,
        /// The group's number.
        pub gid: Option<u32>,
        /// The length in bytes.
        pub size: Option<u64>,
        /// When it was read last.
        pub atime: SetTime,
        /// When its content changed last.
        pub mtime: SetTime,
    }
}

/// How a time is to be set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SetTime {
    /// Not at all.
    Keep,
    /// To the server's time.
    Server,
    /// To this.
    Client(Time),
}

impl Wire<'_> for SetTime {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        match self {
            Self::Keep => encoder.u32(0),
            Self::Server => encoder.u32(1),
            Self::Client(time) => {
                encoder.u32(2);
                encoder.value(time);
            }
        }
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, XdrError> {
        match decoder.u32()? {
            0 => Ok(Self::Keep),
            1 => Ok(Self::Server),
            2 => decoder.value().map(Self::Client),
            other => Err(XdrError::Unknown(other)),
        }
    }
}
