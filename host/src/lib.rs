//! The machine under a station: its clocks, accounts and default folders, small files, ways beneath a held folder, the seam to
//! its disk, databases whose every block is checked, and which threads have panicked.
//!
//! [`disk::Disk`] is what everything durable of a set goes through. [`checked`] puts a redb database on it so that damage
//! is an error and never a value, and [`shared::SharedDb`] opens such a database anew after a failure. [`gathered`] are rows that
//! go into a table together, so that they fill its pages.

pub mod accounts;
pub mod beneath;
pub mod buffers;
pub mod bytes;
pub mod checked;
pub mod clock;
pub mod disk;
pub mod files;
pub mod folders;
pub mod gathered;
pub mod panics;
pub mod shared;
