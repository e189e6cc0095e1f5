//! A running station: what the crates below it can do, put together.
//!
//! [`station`] is the station with its sets, [`service`] what it does while it runs; [`answers`] answers what is asked, and
//! [`founding`] makes a station that is not there yet. What it does with one set is in `keepshare-sets`; what people type and read
//! is not here.

mod agreed;
mod announce;
pub mod answers;
mod attention;
pub mod config;
mod drive;
mod elsewhere;
pub mod founding;
mod hearing;
mod https_door;
mod incoming;
mod nfs_door;
mod peers;
mod renewal;
mod reopening;
pub mod service;
mod sessions;
mod state;
pub mod station;
pub mod status;
