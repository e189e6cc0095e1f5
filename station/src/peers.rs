//! The other stations of the cluster, and who this one is to them.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::{ClientConfig, ServerConfig, pki_types::CertificateDer};
use tokio::sync::watch;

use keepshare_base::{StationAddress, StationName};
use keepshare_identity::{Enrolment, Member, Peer, StationIdentity, tls::StationTls};
use keepshare_replication::{drivers, link::Credentials};

/// Addresses and TLS; both change while the station runs, when certificates are renewed and stations join.
#[derive(Debug)]
pub(crate) struct Peers {
    /// On the primary, which keeps the list.
    enrolment: Option<Arc<Enrolment>>,
    now: RwLock<Now>,
    /// Changes when a station is reached elsewhere.
    moves: watch::Sender<()>,
}

#[derive(Clone, Debug)]
struct Now {
    /// Elsewhere than on the primary: the list as it was when this station joined or renewed.
    members: Arc<Vec<Member>>,
    identity: Arc<StationIdentity>,
    tls: Arc<StationTls>,
}

impl Peers {
    /// Returns the peers of a station; `enrolment` on the primary, `members` elsewhere.
    pub(crate) fn new(
        enrolment: Option<Arc<Enrolment>>,
        members: Vec<Member>,
        identity: StationIdentity,
        tls: StationTls,
    ) -> Self {
        let (members, identity, tls) = (Arc::new(members), Arc::new(identity), Arc::new(tls));
        let (moves, _) = watch::channel(());
        Self { enrolment, now: RwLock::new(Now { members, identity, tls }), moves }
    }

    /// Returns all stations of the cluster that are known, this one included.
    pub(crate) fn members(&self) -> Vec<Member> {
        match &self.enrolment {
            Some(enrolment) => enrolment.members().unwrap_or_else(|error| {
                tracing::error!(%error, "cannot read the list of stations");
                Vec::new()
            }),
            None => self.now().members.to_vec(),
        }
    }

    /// Returns what is dialled to reach a station.
    pub(crate) fn address_of(&self, name: &StationName) -> Option<StationAddress> {
        self.members().into_iter().find(|member| member.name == *name).map(|member| member.address)
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
    pub(crate) fn tls(&self) -> Arc<StationTls> {
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

impl drivers::Peers for Peers {
    fn address(&self, station: &StationName) -> Option<String> {
        self.address_of(station).map(String::from)
    }

    fn moves(&self) -> watch::Receiver<()> {
        self.moves.subscribe()
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
        Peer::of(certificate).ok().map(|peer| peer.name)
    }

    fn still_counts(&self, certificate: &CertificateDer<'_>) -> bool {
        self.tls().still_counts(certificate)
    }
}
