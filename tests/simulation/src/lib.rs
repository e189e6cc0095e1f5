//! Masters, links and stations in virtual time, all from one seed.
//!
//! The state machines are the real ones; everything around them is a model that is small enough to be obviously right:
//! a journal that drops its oldest changes, a store that forgets what was not synced when it crashes, links that break,
//! stall and deliver late. While it runs, the models check what must never happen; at the end [`World::check`] compares
//! what must be equal. The drivers here do what real ones do, with every answer late by chance.

mod clocks;
mod drive_master;
mod drive_station;
mod event;
mod link;
mod master;
mod model;
mod run;
mod seen;
mod sides;
pub mod source;
mod station;
mod whole;
mod world;

pub use clocks::{Arrived, Commit as TimedCommit};
pub use model::{ModelSource, ModelStore, Record, Tree};
pub use run::{Faults, Plan, run};
pub use seen::Seen;
pub use sides::{Listing, Moment, Shown, Source, Store, Version, VersionKey};
pub use whole::{RealSource, RealStore};
pub use world::{SECOND, World};
