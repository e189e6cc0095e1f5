//! How much one sender may take: of the places at a way in, of guesses, of work that only so many have done at a time.
//!
//! Everything here is told the time and who asks, and answers who may and who goes; sockets, threads and waiting belong
//! to whoever asks. A sender is an address, or an opaque *holder*: a user, a session, a machine, whatever the way in says.

mod door;
mod guesses;
mod logins;
mod source;
mod turns;

pub use door::{Gate, Holder, Pulse, Shares, Work};
pub use guesses::{Guesses, Rule};
pub use logins::{Logins, TooSoon};
pub use source::{Source, crowd, source};
pub use turns::{SharedTurn, SharedTurns, TurnShares, Turns};
