//! The master's side of a set: from "a user wrote a file" to journaled changes, readable by seq.
//!
//! [`Source::open`] starts one thread that owns the identity map and the journal of a set. Everything else goes through
//! [`SourceHandle`], whose methods block and belong on a blocking thread; only [`SourceHandle::head`],
//! [`SourceHandle::watch`] and [`SourceHandle::status`] return at once. Links and protocols are not known here.

mod api;
mod aside;
mod blocks;
mod boundary;
mod extents;
mod filling;
mod folders;
mod handle;
mod hashing;
mod keeping;
mod kept;
mod ledger;
mod map;
mod mirror;
mod mirror_read;
mod mounts;
mod owners;
mod pass;
mod payloads;
mod pending;
mod piece;
mod processes;
mod provider;
mod shadow;
mod shared;
mod survey;
mod sweep;
mod sweeper;
mod transfer;
mod tree;
mod worker;
mod writing;

pub use api::*;
pub use handle::{Settled, SourceHandle};
pub use mirror::Mirror;
