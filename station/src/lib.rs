//! A running station: what the crates below it can do, put together.
//!
//! [`station`] is the station with its sets, [`service`] what it does while it runs, and [`founding`] makes a station that is
//! not there yet; [`membership`] is what it is to its cluster. What it is asked is answered in `keepshare-answers`.
//! `incoming` lets other stations in; `https_door` and `nfs_door` open the doors. What it does with one set is in `keepshare-sets`; what people type and read
//! is not here.

pub mod backup;
pub mod config;
mod doors;
mod drive;
pub mod founding;
mod https_door;
mod incoming;
pub mod membership;
mod nfs_door;
pub mod service;
mod sessions;
mod state;
pub mod station;
pub mod status;
