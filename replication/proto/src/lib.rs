//! What replication says and decides, without touching the world.
//!
//! Messages and their bytes; the master's half of a link ([`Shipper`](shipper::Shipper)) and the station's
//! ([`Receiver`](receiver::Receiver)); restores over the link; the rule that says when a version is cut; the one that
//! says whether a master may begin a new epoch ([`epochs`]). Every machine
//! takes the time and one input and queues outputs; whoever drives it does the reading, writing and waiting. No clock,
//! no input or output, no threads here.

mod backoff;
pub mod codec;
pub mod cut;
pub mod epochs;
mod heard;
mod message;
pub mod receiver;
pub mod restore;
pub mod shipper;
#[cfg(test)]
mod slow_line;
mod text;
mod time;
mod window;

pub use backoff::Backoff;
pub use message::{
    Act, Deletes, Elsewhere, FileLine, Frame, Hello, Message, MirrorReason, NO_ROOM, NameLine,
    PAGE_LINES_MAX, PAGES_AHEAD, PROTOCOL, Place, Refusal, RestoreAnswer, RestoreRequest,
    SetSettings, StateDigest, Step, Welcome, running_after,
};
pub use text::{TEXT_BYTES_MAX, Text};
pub use time::MonoTime;
pub use window::{CHANGE_WEIGHT_MIN, WINDOW_BYTES_MAX, weight};
