//! Links and joins over real sockets on the loopback device.

#![expect(clippy::unwrap_used, reason = "a test may")]

mod hostile;
mod joins;
mod links;
mod relay;
mod support;
