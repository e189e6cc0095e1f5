//! The other stations of the cluster, and who this one is to them.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::{ClientConfig, ServerConfig, pki_types::CertificateDer};
use tokio::sync::watch;

use keepshare_base::{Role, SetName, StationAddress, StationName};
use keepshare_identity::{Enrolment, Member, Peer, StationIdentity, tls::StationTls};
use keepshare_replication::{drivers, link::Credentials};
use keepshare_sets::context;

use super::agreed::Agreed;
use crate::state::Rerouted;

/// Addresses and TLS; both change while the station runs, when certificates are renewed and stations join.
#[derive(Debug)]
pub struct Peers {
    /// What says who they are, once there is a document.
    agreed: Arc<Agreed>,
    /// On the primary, which keeps the list until then.
    enrolment: Option<Arc<Enrolment>>,
    /// Stations that are reached elsewhere from here.
    rerouted: RwLock<Vec<Rerouted>>,
    now: RwLock<Now>,
    /// Changes when a station is reached elsewhere.
    moves: watch::Sender<()>,
}

#[derive(Clone, Debug)]
struct Now {
    /// Elsewhere than on the primary, and until there is a document: the list as it was when this station joined or renewed.
    members: Arc<Vec<Member>>,
    identity: Arc<StationIdentity>,
    tls: Arc<StationTls>,
}

impl Peers {
    /// Returns the peers of a station; `enrolment` on the primary, `members` elsewhere.
    pub(crate) fn new(
        agreed: Arc<Agreed>,
        rerouted: Vec<Rerouted>,
        enrolment: Option<Arc<Enrolment>>,
        members: Vec<Member>,
        identity: StationIdentity,
        tls: StationTls,
    ) -> Self {
        let (members, identity, tls) = (Arc::new(members), Arc::new(identity), Arc::new(tls));
        let (moves, _) = watch::channel(());
        let now = RwLock::new(Now { members, identity, tls });
        Self { agreed, enrolment, rerouted: RwLock::new(rerouted), now, moves }
    }

    /// Returns all stations of the cluster that are known, this one included.
    pub fn members(&self) -> Vec<Member> {
        if let Some(held) = self.agreed.held() {
            let members = held.document.members.iter().map(|member| Member {
                name: member.name.clone(),
                role: member.role,
                address: self.address_from_here(&member.name, &member.address),
                joined: member.joined,
            });
            return members.collect();
        }
        match &self.enrolment {
            Some(enrolment) => enrolment.members().unwrap_or_else(|error| {
                tracing::error!(%error, "cannot read the list of stations");
                Vec::new()
            }),
            None => self.now().members.to_vec(),
        }
    }

    /// Returns what is dialled to reach a station.
    pub fn address_of(&self, name: &StationName) -> Option<StationAddress> {
        self.members().into_iter().find(|member| member.name == *name).map(|member| member.address)
    }

    /// Returns the primary, where one is known.
    pub(crate) fn primary(&self) -> Option<Primary> {
        let is_agreed = self.agreed.held().is_some();
        let mut members = self.members().into_iter();
        let primary = members.find(|member| member.role == Role::Primary)?;
        let Member { name, address, .. } = primary;
        Some(Primary { name: is_agreed.then_some(name), address })
    }

    /// Reaches stations at these addresses from here from now on.
    pub(crate) fn set_rerouted(&self, rerouted: Vec<Rerouted>) {
        *self.rerouted.write().unwrap_or_else(PoisonError::into_inner) = rerouted;
        self.moved();
    }

    /// Returns where a station is reached from here: as somebody said here, for as long as the cluster says what it said then.
    fn address_from_here(&self, name: &StationName, agreed: &StationAddress) -> StationAddress {
        let rerouted = self.rerouted.read().unwrap_or_else(PoisonError::into_inner);
        let here = rerouted.iter().find(|row| row.name == *name && row.instead_of == *agreed);
        here.map_or(agreed, |row| &row.address).clone()
    }

    /// Uses another list from now on, elsewhere than on the primary.
    pub(crate) fn set_members(&self, members: Vec<Member>) {
        self.now.write().unwrap_or_else(PoisonError::into_inner).members = Arc::new(members);
        self.moved();
    }

    /// Has those who dial look at the addresses again.
    pub(crate) fn moved(&self) {
        self.moves.send_replace(());
    }

    /// Returns this station's certificate and key.
    pub(crate) fn identity(&self) -> Arc<StationIdentity> {
        self.now().identity
    }

    /// Returns TLS as it is spoken now.
    pub fn tls(&self) -> Arc<StationTls> {
        self.now().tls
    }

    /// Uses a renewed certificate and the list that came with it from now on.
    pub(crate) fn renewed(&self, members: Vec<Member>, identity: StationIdentity, tls: StationTls) {
        let (members, identity, tls) = (Arc::new(members), Arc::new(identity), Arc::new(tls));
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Now { members, identity, tls };
        self.moved();
    }

    fn now(&self) -> Now {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The primary, as far as this station knows it.
#[derive(Clone, Debug)]
pub(crate) struct Primary {
    /// What it is called; none while only certificates tell who it is.
    pub(crate) name: Option<StationName>,
    /// Where it is reached.
    pub(crate) address: StationAddress,
}

/// The stations that receive one set: whoever is none of them any more is not to be reached.
#[derive(Clone, Debug)]
struct Receivers {
    peers: Arc<Peers>,
    set: SetName,
}

impl context::Receivers for Peers {
    fn of(self: Arc<Self>, set: &SetName) -> Arc<dyn drivers::Peers> {
        Arc::new(Receivers { peers: self, set: set.clone() })
    }
}

impl drivers::Peers for Receivers {
    fn address(&self, station: &StationName) -> Option<String> {
        let is_sent = self.peers.agreed.sends(&self.set, station);
        self.peers.address_of(station).filter(|_| is_sent).map(String::from)
    }

    fn moves(&self) -> watch::Receiver<()> {
        self.peers.moves.subscribe()
    }
}

impl Credentials for Receivers {
    fn server(&self, offered: &[&[u8]]) -> Option<Arc<ServerConfig>> {
        self.peers.server(offered)
    }

    fn link_client(&self, expected: &StationName) -> Result<Arc<ClientConfig>, rustls::Error> {
        self.peers.link_client(expected)
    }

    fn station(&self, certificate: &CertificateDer<'_>) -> Option<StationName> {
        self.peers.station(certificate)
    }

    fn still_counts(&self, certificate: &CertificateDer<'_>) -> bool {
        self.peers.still_counts(certificate)
    }
}

impl Credentials for Peers {
    fn server(&self, offered: &[&[u8]]) -> Option<Arc<ServerConfig>> {
        self.tls().server(offered.iter().copied())
    }

    fn link_client(&self, expected: &StationName) -> Result<Arc<ClientConfig>, rustls::Error> {
        self.tls().link_client(expected)
    }

    fn station(&self, certificate: &CertificateDer<'_>) -> Option<StationName> {
        let peer = Peer::of(certificate).ok()?;
        Some(peer.name).filter(|name| self.agreed.is_member(name))
    }

    fn still_counts(&self, certificate: &CertificateDer<'_>) -> bool {
        // Whose certificate it is is looked at again, too: a station that is put out has its links ended.
        self.station(certificate).is_some() && self.tls().still_counts(certificate)
    }
}
