//! NFS version 3: arguments and results of its 22 procedures (RFC 1813).

mod arguments;
mod results;
mod types;

pub use arguments::{
    AccessArgs, Call, CommitArgs, CreateArgs, CreateHow, DirOpArgs, LinkArgs, MakeDirArgs,
    MakeNodeArgs, NodeKind, ReadArgs, ReadDirArgs, ReadDirPlusArgs, RenameArgs, SetAttributesArgs,
    SymlinkArgs, WriteArgs,
};
pub use results::{
    AccessOk, CommitOk, Created, DirEntry, DirEntryPlus, DirOk, Failure, FsInfo, FsStat,
    LinkFailed, LookupOk, PathConf, ReadLinkOk, ReadOk, RenameChange, Reply, Status, WriteOk,
    decode_entries,
};
pub use types::{
    Attributes, BeforeAttributes, FileKind, HANDLE_BYTES_MAX, Handle, SetAttributes, SetTime,
    Stability, Time, WeakCache, access, properties,
};

use crate::xdr::wire_enum;

/// The program's number.
pub const PROGRAM: u32 = 100_003;

/// The program's version.
pub const VERSION: u32 = 3;

wire_enum! {
    /// The procedures (RFC 1813 §3.3).
    pub enum Procedure {
        /// Nothing.
        Null = 0,
        /// What is known of a file.
        GetAttributes = 1,
        /// Change it.
        SetAttributes = 2,
        /// What a name stands for.
        Lookup = 3,
        /// What one may do.
        Access = 4,
        /// Where a link points.
        ReadLink = 5,
        /// Bytes of a file.
        Read = 6,
        /// Change them.
        Write = 7,
        /// A new file.
        Create = 8,
        /// A new folder.
        MakeDir = 9,
        /// A new symbolic link.
        Symlink = 10,
        /// A new device, pipe or socket.
        MakeNode = 11,
        /// Remove a file.
        Remove = 12,
        /// Remove a folder.
        RemoveDir = 13,
        /// Move a name.
        Rename = 14,
        /// A further name.
        Link = 15,
        /// A part of a folder.
        ReadDir = 16,
        /// A part of a folder, with what is known of its entries.
        ReadDirPlus = 17,
        /// How full it is.
        FsStat = 18,
        /// What the server can do.
        FsInfo = 19,
        /// What names can be.
        PathConf = 20,
        /// Make earlier writes durable.
        Commit = 21,
    }
}
