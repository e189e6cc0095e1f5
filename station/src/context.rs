//! What a set needs of the station that it is on.

use std::{pin::Pin, sync::Arc};

use chrono_tz::Tz;
use tokio::sync::watch;

use keepshare_base::StationName;
use keepshare_replication::link::LinkOptions;

use crate::{config::Scans, peers::Peers, state::StateDir};

/// What a set needs of the station that it is on.
#[derive(Clone, Debug)]
pub(crate) struct SetContext {
    /// Where everything is.
    pub(crate) state: StateDir,
    /// What this station is called.
    pub(crate) here: StationName,
    /// The other stations.
    pub(crate) peers: Arc<Peers>,
    /// How links behave.
    pub(crate) link: LinkOptions,
    /// When sources are compared whole.
    pub(crate) scans: Scans,
    /// The zone of typed times.
    pub(crate) zone: Tz,
    /// Becomes true when the station stops.
    pub(crate) stopping: watch::Receiver<bool>,
}

/// Work that goes on until the station stops.
pub(crate) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;
