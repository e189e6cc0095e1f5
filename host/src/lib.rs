//! The machine under a station: its accounts, small files, the seam to its disk, and databases whose every block
//! is checked.
//!
//! [`disk::Disk`] is what everything durable of a set goes through. [`checked`] puts a redb database on it so that damage
//! is an error and never a value, and [`shared::SharedDb`] opens such a database anew after a failure.

pub mod accounts;
pub mod beneath;
pub mod bytes;
pub mod checked;
pub mod clock;
pub mod disk;
pub mod files;
pub mod folders;
pub mod panics;
pub mod shared;
