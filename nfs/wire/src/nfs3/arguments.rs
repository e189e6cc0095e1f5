//! What is asked of each procedure (RFC 1813 §3.3).

use super::{FileKind, Handle, Procedure, SetAttributes, Stability, Time};
use crate::{Decoder, Encoder, Wire, XdrError, xdr::wire_struct};

wire_struct! {
    /// A name in a folder (`diropargs3`).
    pub struct DirOpArgs<'a> {
        /// The folder.
        pub dir: Handle<'a>,
        /// The name.
        pub name: &'a [u8],
    }
}

wire_struct! {
    /// What SETATTR is asked.
    pub struct SetAttributesArgs<'a> {
        /// The file.
        pub object: Handle<'a>,
        /// What to set.
        pub new: SetAttributes,
        /// Only if it changed last at this time.
        pub guard: Option<Time>,
    }
}

wire_struct! {
    /// What ACCESS is asked.
    pub struct AccessArgs<'a> {
        /// The file.
        pub object: Handle<'a>,
        /// Bits of [`super::access`].
        pub access: u32,
    }
}

wire_struct! {
    /// What READ is asked.
    pub struct ReadArgs<'a> {
        /// The file.
        pub file: Handle<'a>,
        /// From which byte.
        pub offset: u64,
        /// How many bytes.
        pub count: u32,
    }
}

wire_struct! {
    /// What WRITE is asked.
    pub struct WriteArgs<'a> {
        /// The file.
        pub file: Handle<'a>,
        /// From which byte.
        pub offset: u64,
        /// How many bytes.
        pub count: u32,
        /// How durable.
        pub stable: Stability,
        /// The bytes.
        pub data: &'a [u8],
    }
}

wire_struct! {
    /// What CREATE is asked.
    pub struct CreateArgs<'a> {
        /// The folder, and the name that is made in it.
        pub place: DirOpArgs<'a>,
        /// Whether a file that is there already is taken, and how a new one begins.
        pub how: CreateHow,
    }
}

wire_struct! {
    /// What MKDIR is asked.
    pub struct MakeDirArgs<'a> {
        /// The folder, and the name that is made in it.
        pub place: DirOpArgs<'a>,
        /// With which attributes.
        pub attributes: SetAttributes,
    }
}

wire_struct! {
    /// What SYMLINK is asked.
    pub struct SymlinkArgs<'a> {
        /// The folder, and the name that is made in it.
        pub place: DirOpArgs<'a>,
        /// With which attributes.
        pub attributes: SetAttributes,
        /// Where it points.
        pub target: &'a [u8],
    }
}

wire_struct! {
    /// What MKNOD is asked.
    pub struct MakeNodeArgs<'a> {
        /// The folder, and the name that is made in it.
        pub place: DirOpArgs<'a>,
        /// The kind of the new thing, with its attributes.
        pub node: NodeKind,
    }
}

wire_struct! {
    /// What RENAME is asked.
    pub struct RenameArgs<'a> {
        /// The name that goes.
        pub from: DirOpArgs<'a>,
        /// The name that comes.
        pub to: DirOpArgs<'a>,
    }
}

wire_struct! {
    /// What LINK is asked.
    pub struct LinkArgs<'a> {
        /// The file.
        pub file: Handle<'a>,
        /// Its further name.
        pub link: DirOpArgs<'a>,
    }
}

wire_struct! {
    /// What READDIR is asked.
    pub struct ReadDirArgs<'a> {
        /// The folder.
        pub dir: Handle<'a>,
        /// After which place; 0 is the beginning.
        pub cookie: u64,
        /// What came with that place.
        pub verifier: [u8; 8],
        /// The most bytes of the result.
        pub count: u32,
    }
}

wire_struct! {
    /// What READDIRPLUS is asked.
    pub struct ReadDirPlusArgs<'a> {
        /// The folder.
        pub dir: Handle<'a>,
        /// After which place; 0 is the beginning.
        pub cookie: u64,
        /// What came with that place.
        pub verifier: [u8; 8],
        /// The most bytes of names, ids and cookies.
        pub dir_count: u32,
        /// The most bytes of the result.
        pub max_count: u32,
    }
}

wire_struct! {
    /// What COMMIT is asked.
    pub struct CommitArgs<'a> {
        /// The file.
        pub file: Handle<'a>,
        /// From which byte.
        pub offset: u64,
        /// How many bytes.
        pub count: u32,
    }
}

/// How CREATE makes a file (`createhow3`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CreateHow {
    /// Whether or not it is there.
    Unchecked(SetAttributes),
    /// Only if it is not there.
    Guarded(SetAttributes),
    /// Only if it is not there, or was made with this verifier.
    Exclusive([u8; 8]),
}

impl Wire<'_> for CreateHow {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        match self {
            Self::Unchecked(attributes) => {
                encoder.u32(0);
                encoder.value(attributes);
            }
            Self::Guarded(attributes) => {
                encoder.u32(1);
                encoder.value(attributes);
            }
            Self::Exclusive(verifier) => {
                encoder.u32(2);
                encoder.value(verifier);
            }
        }
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, XdrError> {
        match decoder.u32()? {
            0 => decoder.value().map(Self::Unchecked),
            1 => decoder.value().map(Self::Guarded),
            2 => decoder.value().map(Self::Exclusive),
            other => Err(XdrError::Unknown(other)),
        }
    }
}

/// What MKNOD makes (`mknoddata3`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NodeKind {
    /// A device with these numbers.
    Device(FileKind, SetAttributes, u64),
    /// A socket or a pipe.
    Pipe(FileKind, SetAttributes),
    /// What MKNOD cannot make.
    Other(FileKind),
}

impl Wire<'_> for NodeKind {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        match self {
            Self::Device(kind, attributes, device) => {
                encoder.value(kind);
                encoder.value(attributes);
                encoder.u64(*device);
            }
            Self::Pipe(kind, attributes) => {
                encoder.value(kind);
                encoder.value(attributes);
            }
            Self::Other(kind) => encoder.value(kind),
        }
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, XdrError> {
        let kind = decoder.value()?;
        Ok(match kind {
            FileKind::BlockDevice | FileKind::CharDevice => {
                Self::Device(kind, decoder.value()?, decoder.u64()?)
            }
            FileKind::Socket | FileKind::Fifo => Self::Pipe(kind, decoder.value()?),
            FileKind::File | FileKind::Dir | FileKind::Symlink => Self::Other(kind),
        })
    }
}

macro_rules! calls {
    ($($(#[$doc:meta])* $variant:ident $(($args:ty))?,)*) => {
        /// A call of any of the procedures, with its arguments.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum Call<'a> {
            $($(#[$doc])* $variant $(($args))?,)*
        }

        impl<'a> Call<'a> {
            /// Reads the arguments of a procedure.
            pub fn decode(
                procedure: Procedure,
                decoder: &mut Decoder<'a>,
            ) -> Result<Self, XdrError> {
                Ok(match procedure {
                    $(Procedure::$variant => calls!(@decode $variant decoder $(($args))?),)*
                })
            }

            /// Appends the arguments, and returns the procedure that takes them.
            pub fn encode(&self, encoder: &mut Encoder<'_>) -> Procedure {
                calls!(@encode self encoder [$($variant $(($args))?,)*])
            }
        }
    };
    (@decode $variant:ident $decoder:ident) => { Self::$variant };
    (@decode $variant:ident $decoder:ident ($args:ty)) => {
        Self::$variant($decoder.value::<$args>()?)
    };
    (@encode $self:ident $encoder:ident [$null:ident, $($variant:ident ($args:ty),)*]) => {
        match $self {
            Self::$null => Procedure::$null,
            $(Self::$variant(args) => {
                $encoder.value::<$args>(args);
                Procedure::$variant
            })*
        }
    };
}

calls! {
    /// Nothing.
    Null,
    /// GETATTR.
    GetAttributes(Handle<'a>),
    /// SETATTR.
    SetAttributes(SetAttributesArgs<'a>),
    /// LOOKUP.
    Lookup(DirOpArgs<'a>),
    /// ACCESS.
    Access(AccessArgs<'a>),
    /// READLINK.
    ReadLink(Handle<'a>),
    /// READ.
    Read(ReadArgs<'a>),
    /// WRITE.
    Write(WriteArgs<'a>),
    /// CREATE.
    Create(CreateArgs<'a>),
    /// MKDIR.
    MakeDir(MakeDirArgs<'a>),
    /// SYMLINK.
    Symlink(SymlinkArgs<'a>),
    /// MKNOD.
    MakeNode(MakeNodeArgs<'a>),
    /// REMOVE.
    Remove(DirOpArgs<'a>),
    /// RMDIR.
    RemoveDir(DirOpArgs<'a>),
    /// RENAME.
    Rename(RenameArgs<'a>),
    /// LINK.
    Link(LinkArgs<'a>),
    /// READDIR.
    ReadDir(ReadDirArgs<'a>),
    /// READDIRPLUS.
    ReadDirPlus(ReadDirPlusArgs<'a>),
    /// FSSTAT.
    FsStat(Handle<'a>),
    /// FSINFO.
    FsInfo(Handle<'a>),
    /// PATHCONF.
    PathConf(Handle<'a>),
    /// COMMIT.
    Commit(CommitArgs<'a>),
}
