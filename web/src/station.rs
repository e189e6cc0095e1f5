//! What the API has to know: of the station that it speaks for, and of who asks.

use std::{fmt, net::IpAddr, sync::Arc, time::Instant};

use rustls::ServerConfig;

use keepshare_auth::Accounts;
use keepshare_base::{SetName, Stamp};
use keepshare_gate::{Pulse, SharedTurns, TurnShares};

/// Where the drive of a station is reached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DrivePorts {
    /// The port of NFS.
    pub nfs: u16,
    /// The port of its mounts.
    pub mount: u16,
}

/// What the door has to know of its station.
pub struct Station {
    accounts: Arc<Accounts>,
    sets: Box<dyn Fn() -> Vec<SetName> + Send + Sync>,
    tls: Box<dyn Fn() -> Arc<ServerConfig> + Send + Sync>,
    clock: fn() -> Stamp,
    ports: Option<DrivePorts>,
    turns: SharedTurns<String>,
}

impl Station {
    /// Puts it together: users and sessions, the sets that can be mounted, TLS with the present certificate, the time.
    pub fn new(
        accounts: Arc<Accounts>,
        sets: impl Fn() -> Vec<SetName> + Send + Sync + 'static,
        tls: impl Fn() -> Arc<ServerConfig> + Send + Sync + 'static,
        clock: fn() -> Stamp,
        ports: Option<DrivePorts>,
    ) -> Self {
        let (sets, tls) = (Box::new(sets), Box::new(tls));
        let turns = SharedTurns::new(TurnShares::without_waiting(TURNS_MAX.0, TURNS_MAX.1));
        Self { accounts, sets, tls, clock, ports, turns }
    }

    pub(crate) fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    pub(crate) fn sets(&self) -> Vec<SetName> {
        (self.sets)()
    }

    pub(crate) fn ports(&self) -> Option<DrivePorts> {
        self.ports
    }

    pub(crate) fn turns(&self) -> &SharedTurns<String> {
        &self.turns
    }

    /// Returns how TLS is spoken now.
    pub(crate) fn tls(&self) -> Arc<ServerConfig> {
        (self.tls)()
    }

    pub(crate) fn now(&self) -> Stamp {
        (self.clock)()
    }
}

impl fmt::Debug for Station {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Station").field("accounts", &self.accounts).finish_non_exhaustive()
    }
}

/// How many questions of users are answered at a time, the answers that are still being read among them, and how many of one
/// user.
const TURNS_MAX: (usize, usize) = (24, 4);

/// Where a question comes from.
#[derive(Clone, Debug)]
pub(crate) struct From {
    pub(crate) address: IpAddr,
    /// The connection, which is not silent while it waits for us.
    pub(crate) pulse: Arc<Pulse>,
    /// By which the pulse counts.
    pub(crate) started: Instant,
}

impl From {
    /// Notes that the client's silence begins now.
    pub(crate) fn beat(&self) {
        self.pulse.beat(elapsed_ms(self.started));
    }
}

/// Returns the time by which pulses count.
pub(crate) fn elapsed_ms(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}
