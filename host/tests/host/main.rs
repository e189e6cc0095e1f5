//! Databases on disks that crash and fail.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod databases;
mod healing;
