//! The door from outside: a real server on a real socket.

#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

mod crowds;
mod hostile;
mod hosts;
mod ports;
mod reading;
mod restoring;
mod rig;
mod sessions;
