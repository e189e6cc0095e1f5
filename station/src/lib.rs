//! A running station: what the crates below it can do, put together.
//!
//! [`service`] is the station with its sets; `parts` is what it does with one of them: it masters it (`master`), keeps a copy
//! of it (`replica`), or both; `answers` answers what is asked; `founding` makes a station that is not there yet. What people type and read is not here.

mod agreed;
mod announce;
pub mod answers;
mod asking;
mod attention;
mod backlog;
mod checkup;
mod concerns;
pub mod config;
mod content;
mod context;
mod database;
mod door;
mod drive;
mod elsewhere;
pub mod founding;
mod fsck;
mod hearing;
mod hidden_names;
mod master;
pub mod panics;
mod parts;
mod peers;
mod pseudo;
mod renewal;
mod reopening;
mod replica;
mod restoring;
pub mod schedule;
pub mod service;
mod set_record;
mod state;
pub mod status;
pub mod sync_tree;
mod tls_clock;
mod turns;
mod users_door;
