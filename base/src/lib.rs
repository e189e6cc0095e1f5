//! The shared words of Keepshare.
//!
//! Ids, positions, names, times, changes and how things are, each a type that cannot be wrong once it exists. Text and bytes from
//! outside are parsed here, at the edge; everything behind the edge takes these types. This crate is pure: no clock,
//! no input or output, no threads.

mod access_list;
mod change;
mod counted;
mod error;
mod event;
pub mod health;
mod hex;
mod ids;
mod meta;
mod names;
mod parts;
mod point;
mod station;
mod time;

pub use access_list::{ACCESS_LIST_XATTR, DEFAULT_LIST_XATTR, mode_without_list};
pub use change::{
    Change, ChangeError, Content, EXTENT_BYTES_MAX, Extent, FILES_PER_CHANGE_MAX, FileRow,
    FilledChange, Made, NAMES_PER_CHANGE_MAX, NameRow, PAYLOAD_BYTES_MAX, PresentFile,
    RestoreGround, RestoreOutcome, RestoreRow,
};
pub use counted::counted;
pub use error::chain;
pub use event::Event;
pub use hex::Hex;
pub use ids::{
    CommitId, ContentHash, Epoch, FileId, IdError, OriginId, Position, RequestId, RunningHash, Seq,
    SetName, StationName, VersionId,
};
pub use meta::{
    Kind, LEFT_OUT_XATTR, LeftOut, META_BYTES_MAX, Meta, MetaError, Owner, PRIVATE_XATTR,
    XATTR_BYTES_MAX, xattr_allowed,
};
pub use names::{DEPTH_MAX, NAME_BYTES_MAX, Name, NameError, SetPath, escape_name, unescape_name};
pub use parts::{PART_BYTES, PartHash, hash_part, merge_parts};
pub use point::{POINT_NOTICE_MICROS, Point, PointKind, PointRow, Schedule};
pub use station::{AddressError, ClusterId, Role, Serial, StationAddress};
pub use time::{FileTime, Stamp};
