//! The loops that tie the machines of `keepshare-proto` to the world: links, journals and stores.
//!
//! [`ship`] is a master's half of one link, [`receive`] a station's half for one set. They decide nothing: they hand inputs
//! to a machine and do what it puts out. What may block runs on threads for that.

pub mod agreement;
mod alarms;
mod mirror;
pub mod pump;
pub mod receive;
pub mod restores;
mod seeding;
pub mod ship;
mod wanted;
mod way;

use keepshare_base::StationName;
use tokio::sync::watch;

use crate::link::Credentials;

pub use self::{
    alarms::{Alarms, LinkAlarm},
    mirror::MirrorShown,
    wanted::Wanted,
    way::{Inlet, Way},
};

/// The other stations of the cluster.
pub trait Peers: Credentials {
    /// Returns what is dialled to reach a station, `HOST:PORT`.
    fn address(&self, station: &StationName) -> Option<String>;

    /// Returns a watch that changes when a station is reached elsewhere.
    fn moves(&self) -> watch::Receiver<()>;
}
