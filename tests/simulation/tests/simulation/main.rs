//! Lives of masters and stations in one thread and virtual time, each from its seed.

#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test that fails says where, and its numbers are small"
)]

mod hostile;
mod seeds;
mod sources;
mod stories;
