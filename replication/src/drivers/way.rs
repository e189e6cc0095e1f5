//! How a destination of a set is reached: over the network, or within this process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keepshare_base::{StationName, chain};
use keepshare_proto::{Frame, epochs::Disagreement};
use tokio::sync::{mpsc, watch};

use super::{Peers, pump::Pump};
use crate::link::{Credentials, LinkOptions, dial};

/// How a destination of a set is reached.
#[derive(Clone, Debug)]
pub enum Way {
    /// It is another station.
    Network {
        /// How to reach stations.
        peers: Arc<dyn Peers>,
        /// How links behave.
        link: LinkOptions,
    },
    /// It is the copy that this station keeps itself.
    Here(Inlet),
}

impl Way {
    /// Returns what is dialled to reach a station, `HOST:PORT`; none where that is not known, or nothing is dialled.
    pub(super) fn address(&self, to: &StationName) -> Option<String> {
        match self {
            Self::Network { peers, .. } => peers.address(to),
            Self::Here(_) => None,
        }
    }

    /// Returns a watch that changes when a station is reached elsewhere.
    pub(super) fn moves(&self) -> watch::Receiver<()> {
        match self {
            Self::Network { peers, .. } => peers.moves(),
            Self::Here(_) => watch::channel(()).1,
        }
    }

    /// Returns what it means that a destination disagrees.
    ///
    /// Nobody but this source brings changes to the copy beside it: a later epoch there is no other master's, but this one's,
    /// whose journal was lost.
    pub(super) fn meaning(&self, disagreement: Disagreement) -> Disagreement {
        match (self, disagreement) {
            (Self::Here(_), Disagreement::Fenced) => Disagreement::Ahead,
            _ => disagreement,
        }
    }

    /// Makes a link to the destination.
    pub(super) async fn dial(
        self,
        to: StationName,
        address: Option<String>,
    ) -> Result<Pump, String> {
        match self {
            Self::Network { peers, link } => {
                let address = address.ok_or_else(|| format!("no address of {to} is known"))?;
                let credentials: Arc<dyn Credentials> = peers;
                let link = dial(&address, &to, &credentials, link).await;
                link.map(Pump::start).map_err(|error| chain(&error))
            }
            Self::Here(inlet) => inlet.dial(&to),
        }
    }
}

/// Where the copy of a set that this station keeps takes in the link from the set's source on this station.
#[derive(Clone, Debug, Default)]
pub struct Inlet(Arc<Mutex<Option<Links>>>);

/// Takes links in, each with the hello it began with.
type Links = mpsc::Sender<(Pump, Frame)>;

impl Inlet {
    /// Has the copy take links in from now on.
    pub fn open(&self, links: Links) {
        *self.lock() = Some(links);
    }

    fn dial(&self, here: &StationName) -> Result<Pump, String> {
        let links = self.lock().clone().filter(|links| !links.is_closed());
        let links = links.ok_or_else(|| "the copy on this station is not open".to_owned())?;
        let (near, mut far) = Pump::pair(here);
        tokio::spawn(async move {
            // Whoever dials says hello, here as over the network.
            if let Ok(hello) = far.recv().await {
                // A copy that is being closed takes no links; dropping one ends it.
                let _ = links.send((far, hello)).await;
            }
        });
        Ok(near)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Links>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
