//! A running station: what the crates below it can do, put together.
//!
//! [`service`] is the station with its sets; `master` and `replica` are what a set does on it; `answers` answers what is
//! asked; `founding` makes a station that is not there yet. What people type and read is not here.

mod account_answers;
mod announce;
pub mod answers;
mod asking;
mod attention;
mod backlog;
mod checkup;
mod concerns;
pub mod config;
mod content;
mod database;
mod door;
mod drive;
pub mod founding;
mod fsck;
mod hidden_names;
mod master;
pub mod panics;
mod peers;
mod pseudo;
mod renewal;
mod reopening;
mod replica;
pub mod schedule;
pub mod service;
mod state;
pub mod status;
pub mod sync_tree;
mod tls_clock;
mod turns;
mod users_door;
