//! Restores in place over a link: a station asks, its master writes.
//!
//! The station's half (`Asking`) lives in its [`Receiver`](crate::receiver::Receiver), the master's (`Answering`)
//! in its [`Shipper`](crate::shipper::Shipper). A restore has an id and is done once: what broke off is asked again on
//! the next link and answered from what the journal remembers. Where the file is and how it is written is the driver's
//! work; so is the user's right to do it.

mod answering;
mod asking;
mod io;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub(crate) use answering::Answering;
pub(crate) use asking::Asking;
pub use io::{MasterInput, MasterOutput, RestoreEnd, StationInput, StationOutput};

use crate::Frame;

/// The most restores under way on one link.
pub const RESTORES_MAX: usize = 8;

/// The most content in one frame of a restore.
pub const RESTORE_CHUNK_BYTES_MAX: usize = 256 * 1024;

/// How far a station sends ahead of what the master has taken.
pub const RESTORE_WINDOW_BYTES_MAX: u64 = 1024 * 1024;

/// How long either side waits for the other's next step.
pub const RESTORE_PATIENCE: Duration = Duration::from_secs(60);

/// A step of a half: something for the link, or for the driver.
#[derive(Debug, Eq, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "moved once, kept nowhere")]
pub(crate) enum Step<T> {
    /// Put this on the link.
    Send(Frame),
    /// Have the driver do this.
    Drive(T),
}
