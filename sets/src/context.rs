//! What a set needs of the station that it is on.

use std::{fmt::Debug, pin::Pin, sync::Arc};

use chrono_tz::Tz;
use keepshare_base::{SetName, StationName};
use keepshare_namespace::Logins;
use keepshare_replication::{drivers::Peers, link::LinkOptions};

use crate::{dirs::SetDirs, orders::Orders, schedule::Schedules};

/// What a set needs of the station that it is on.
#[derive(Clone, Debug)]
pub struct SetContext {
    /// Where everything is.
    pub dirs: SetDirs,
    /// What this station is called.
    pub here: StationName,
    /// The other stations.
    pub receivers: Arc<dyn Receivers>,
    /// How links behave.
    pub link: LinkOptions,
    /// When sources are compared whole.
    pub schedules: Schedules,
    /// The zone of typed times.
    pub zone: Tz,
    /// Whose logins users order roll-backs with.
    pub logins: Arc<dyn Logins>,
    /// What other stations may have done in sets that this one masters.
    pub orders: Arc<Orders>,
}

/// Work that goes on until the set stops.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The other stations, as far as sets are sent to them.
pub trait Receivers: Debug + Send + Sync {
    /// Returns how those are reached that receive a set: whoever is none of them any more is not to be reached.
    fn of(self: Arc<Self>, set: &SetName) -> Arc<dyn Peers>;
}
