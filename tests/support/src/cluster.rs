//! Two stations that replicate a folder, made by the commands an admin types.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::{
    compare::{Aspects, equal_within},
    netns::Network,
    relay::Relay,
    scratch::Scratch,
    station::{Doors, Station},
    wait::wait_for,
};

/// The set that a cluster replicates.
pub const SET: &str = "work";

/// How the two stations reach each other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wiring {
    /// On 127.0.0.1.
    Loopback,
    /// On 127.0.0.1, the master's link through a [`Relay`].
    Relayed,
    /// Each in a network namespace of its own. Root only.
    Namespaces,
}

/// A master `office` and a replica `store`.
#[derive(Debug)]
pub struct Cluster {
    /// Masters the set.
    pub office: Station,
    /// Receives it.
    pub store: Station,
    /// The relay, where that is the wiring.
    pub relay: Option<Relay>,
    /// The network, where that is the wiring: host 0 is the office, host 1 the store.
    pub network: Option<Network>,
    source: PathBuf,
}

impl Cluster {
    /// Makes both stations, joins and starts them. Nothing is replicated yet.
    pub fn new(scratch: &Scratch, source: &Path, wiring: Wiring) -> Result<Self> {
        Self::with_store_state(scratch, source, wiring, None)
    }

    /// As [`Self::new`], with the replica's state in another folder.
    pub fn with_store_state(
        scratch: &Scratch,
        source: &Path,
        wiring: Wiring,
        store_state: Option<&Path>,
    ) -> Result<Self> {
        let prepare = |store: Station| match store_state {
            Some(state) => store.with_state(state),
            None => store,
        };
        Self::assembled(scratch, source, wiring, prepare)
    }

    /// As [`Self::new`], with the master's state in another folder.
    pub fn with_office_state(
        scratch: &Scratch,
        source: &Path,
        wiring: Wiring,
        state: &Path,
    ) -> Result<Self> {
        let office = |office: Station| office.with_state(state);
        Self::assembled_of(scratch, source, wiring, office, |store| store)
    }

    /// As [`Self::new`], with a replica that has doors for users.
    pub fn with_doors(
        scratch: &Scratch,
        source: &Path,
        wiring: Wiring,
        doors: Doors,
    ) -> Result<Self> {
        Self::assembled(scratch, source, wiring, |store| store.with_doors(doors))
    }

    fn assembled(
        scratch: &Scratch,
        source: &Path,
        wiring: Wiring,
        prepare: impl FnOnce(Station) -> Station,
    ) -> Result<Self> {
        Self::assembled_of(scratch, source, wiring, |office| office, prepare)
    }

    fn assembled_of(
        scratch: &Scratch,
        source: &Path,
        wiring: Wiring,
        prepare_office: impl FnOnce(Station) -> Station,
        prepare: impl FnOnce(Station) -> Station,
    ) -> Result<Self> {
        let network = match wiring {
            Wiring::Namespaces => Some(Network::new(2)?),
            Wiring::Loopback | Wiring::Relayed => None,
        };
        let listen = |host: usize| match &network {
            Some(network) => Ok(format!("{}:7846", network.address(host))),
            None => free_address().map(|address| address.to_string()),
        };
        let enter = |host: usize| network.as_ref().map(|n| n.enter(host)).unwrap_or_default();
        let (office_at, store_at) = (listen(0)?, listen(1)?);
        let relay = match wiring {
            Wiring::Relayed => Some(Relay::to(store_at.parse()?)?),
            Wiring::Loopback | Wiring::Namespaces => None,
        };
        let mut office = prepare_office(Station::new(scratch, "office", enter(0))?);
        office.init(&office_at)?;
        office.start()?;
        let mut store = prepare(Station::new(scratch, "store", enter(1))?);
        let address = relay.as_ref().map(|relay| relay.address().to_string());
        store.join(&office_at, &office.token()?, &store_at, address.as_deref())?;
        store.start()?;
        Ok(Self { office, store, relay, network, source: source.to_owned() })
    }

    /// Replicates the source from now on.
    pub fn add_set(&self) -> Result<()> {
        let source = self.source.to_string_lossy().into_owned();
        self.office.call(["set", "add", SET, "--source", &source, "--to", "store"])?.ok()?;
        Ok(())
    }

    /// Returns the folder that is replicated.
    pub fn source(&self) -> &Path {
        &self.source
    }

    /// Returns the replica's live tree; an error while it has none.
    pub fn live(&self) -> Result<PathBuf> {
        let status = self.store.set_status(SET)?;
        Ok(PathBuf::from(status["live"].as_str().context("the replica has no live tree yet")?))
    }

    /// Returns once the live tree equals the source.
    pub fn equal_within(&self, deadline: Duration, aspects: Aspects) -> Result<()> {
        let live = wait_for(deadline, "the replica has a live tree", || Ok(self.live().ok()))?;
        equal_within(deadline, &self.source, &live, aspects)
    }

    /// Returns what the master's status says of the replica.
    pub fn destination(&self) -> Result<Value> {
        Ok(self.office.set_status(SET)?["destinations"][0].clone())
    }

    /// Returns once both stations say that the replica has everything.
    pub fn in_sync_within(&self, deadline: Duration) -> Result<()> {
        let mut last = Value::Null;
        let waited = wait_for(deadline, "both stations say in-sync", || {
            last = json!({"master": self.destination().ok(), "replica": self.store.set_status(SET).ok()});
            let in_sync = |side: &str| last[side]["state"] == "in-sync";
            Ok((in_sync("master") && in_sync("replica")).then_some(()))
        });
        waited.with_context(|| format!("they say: {last}"))
    }

    /// Returns the bytes between the stations so far.
    pub fn wire_bytes(&self) -> Result<u64> {
        if let Some(network) = &self.network {
            let traffic = network.traffic(1)?;
            return Ok(traffic.received + traffic.sent);
        }
        Ok(self.relay.as_ref().context("nothing counts bytes on this wiring")?.bytes())
    }
}

/// Returns an address of this machine where nobody listens, and where no connection of anybody's begins.
///
/// The kernel takes the ports of connections from 32768 on (`ip_local_port_range`): one that is free there now may be
/// the end of another test's connection when the station comes to listen.
pub fn free_address() -> Result<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 12_000;
    const PORTS: u16 = 20_000;
    // Processes begin apart, so that two that run at once seldom try the same.
    let begin = u16::try_from(std::process::id() * 97 % u32::from(PORTS))?;
    for _ in 0..PORTS {
        let turn = NEXT.fetch_add(1, Ordering::Relaxed) % PORTS;
        let port = FIRST + (begin + turn) % PORTS;
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            return Ok(listener.local_addr()?);
        }
    }
    bail!("no port of this machine is free")
}
