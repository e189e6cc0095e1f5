//! Every question that a station answers, and every answer, typed once; and the conversation on its Unix socket.
//!
//! Nothing but the station opens its stores, so that every command is a question to it: [`questions`] and [`accounts`]
//! are what can be asked, [`answers`] what comes back, [`login`] what is said on the HTTPS door. [`client`] asks,
//! [`server`] has somebody answer. What goes wrong is a [`Failure`] on both sides.

pub mod accounts;
pub mod answers;
pub mod client;
pub mod failure;
mod frame;
pub mod login;
pub mod questions;
pub mod server;
pub mod text;

pub use failure::{Code, Failure, Outcome};
