//! Every question of an admin, a logged-in user or another station, and every answer, typed once; one router for all who ask, and one client.
//!
//! Nothing but the station opens its stores, so that every command about a running station is a question to it: [`questions`] lists what can be
//! asked and by whom, [`answers`], [`accounts`], [`alarms`], [`retention`], [`points`], [`rollback`], [`scrub`] and [`login`] what comes back. [`router`] takes the questions of the Unix socket
//! ([`socket`]), of users and of other stations alike; who asks is a value that the way in gives ([`caller`]). [`client`] asks.
//! What goes wrong is a [`Failure`] on both sides.

pub mod accounts;
pub mod alarms;
pub mod answers;
pub mod audit;
pub mod backup;
pub mod caller;
pub mod client;
pub mod failure;
pub mod login;
pub mod points;
pub mod question;
pub mod questions;
pub mod retention;
pub mod rollback;
pub mod router;
pub mod scrub;
pub mod socket;
mod stream;
pub mod text;

pub use failure::{Code, Failure, Outcome};
pub use stream::{Lasts, Reply};
