//! TLS between stations: 1.3 only, both ends verified against the cluster's CA and nothing else.
//!
//! Names are not looked up in certificates the way browsers do: a station is who its certificate says (see
//! [`Peer`]), and whoever dials says which station it expects. Sessions are never resumed, because a resumed
//! one would not be verified again.

mod clock;
mod verify;

use std::sync::Arc;

use rustls::{
    ClientConfig, ConfigBuilder, Error, ServerConfig, WantsVerifier,
    client::Resumption,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::{NoServerSessionStorage, VerifierBuilderError},
    time_provider::TimeProvider,
    version::TLS13,
};

use keepshare_base::StationName;

pub use self::clock::machine_clock;
use self::verify::{Expected, Members, Pinned, Probe, Verifier};
pub use self::verify::{Seen, SeenStation};
use crate::{CaPin, Peer, Revocations, StationIdentity};

/// The application protocol of links between members.
pub const LINK_ALPN: &[u8] = b"keepshare-link/1";

/// The application protocol by which a station asks another one, as commands do.
pub const CONTROL_ALPN: &[u8] = b"keepshare-control/1";

/// The application protocol by which stations join and renew.
pub const JOIN_ALPN: &[u8] = b"keepshare-join/1";

/// The application protocol of the HTTPS door.
pub const WEB_ALPN: &[u8] = b"http/1.1";

/// Why there is no TLS with this identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The key, the certificate or the protocol version.
    #[error("TLS cannot use this identity")]
    Tls(#[from] Error),
    /// The CA.
    #[error("TLS cannot use this CA")]
    Ca(#[from] VerifierBuilderError),
}

/// A certificate that is valid and yet not the one that was wanted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// Not a station's.
    #[error(transparent)]
    Certificate(#[from] crate::CertificateError),
    /// Another cluster's.
    #[error("the station belongs to another cluster")]
    OtherCluster,
    /// Another station's.
    #[error("this is {got}, not {expected}")]
    OtherStation {
        /// Who was expected.
        expected: StationName,
        /// Who answered.
        got: StationName,
    },
    /// A station that cannot admit others.
    #[error("{0} is not the primary")]
    NotPrimary(StationName),
    /// The CA that the token or the user named is not there.
    #[error("the station does not belong to the cluster that was expected")]
    OtherCa,
    /// It was only asked who it is.
    #[error("the station was only asked for its certificate")]
    Probed,
}

/// TLS as one station speaks it. Made anew when its certificate is renewed.
#[derive(Clone, Debug)]
pub struct StationTls {
    link: Arc<ServerConfig>,
    control: Arc<ServerConfig>,
    join: Arc<ServerConfig>,
    web: Arc<ServerConfig>,
    client: ClientParts,
}

#[derive(Clone, Debug)]
struct ClientParts {
    chain: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
    members: Members,
    clock: Arc<dyn TimeProvider>,
}

impl StationTls {
    /// Prepares both ends, refusing the certificates in `revocations`.
    pub fn new(
        identity: &StationIdentity,
        revocations: Revocations,
        clock: Arc<dyn TimeProvider>,
    ) -> Result<Self, TlsError> {
        // A joining station compares the CA's certificate with its token; members know it.
        let chain = vec![identity.certificate().clone(), identity.ca().clone()];
        let key = identity.private_key();
        let members = Members::new(identity, revocations)?;
        let optional = members.for_strangers_too();
        Ok(Self {
            web: web_server(&clock, chain.clone(), key.clone_key())?,
            link: server(&clock, members.clone(), chain.clone(), key.clone_key(), LINK_ALPN)?,
            control: server(&clock, members.clone(), chain.clone(), key.clone_key(), CONTROL_ALPN)?,
            join: server(&clock, optional, chain.clone(), key.clone_key(), JOIN_ALPN)?,
            client: ClientParts { chain, key: Arc::new(key), members, clock },
        })
    }

    /// Returns the server's side for a client that offers these application protocols.
    ///
    /// Only the join protocol lets a client in without a certificate.
    pub fn server<'a>(
        &self,
        mut offered: impl Iterator<Item = &'a [u8]>,
    ) -> Option<Arc<ServerConfig>> {
        offered.find_map(|protocol| match protocol {
            LINK_ALPN => Some(self.link.clone()),
            CONTROL_ALPN => Some(self.control.clone()),
            JOIN_ALPN => Some(self.join.clone()),
            _ => None,
        })
    }

    /// Returns the server's side of the HTTPS door, which asks nobody for a certificate.
    pub fn web_server(&self) -> Arc<ServerConfig> {
        self.web.clone()
    }

    /// Returns the certificates that are refused.
    pub fn revocations(&self) -> &Revocations {
        self.client.members.revocations()
    }

    /// Tells whether a certificate that was verified before still counts: it has not ended and was not revoked.
    pub fn still_counts(&self, certificate: &[u8]) -> bool {
        let ClientParts { members, clock, .. } = &self.client;
        let (Ok(peer), Some(now)) = (Peer::of(certificate), clock.current_time()) else {
            return false;
        };
        let now_us = now.as_secs().saturating_mul(1_000_000);
        let has_ended = peer.expires.0 < i64::try_from(now_us).unwrap_or(i64::MAX);
        !has_ended && !members.revocations().is_revoked(peer.serial)
    }

    /// Returns the client's side of a link to the station `expected`.
    pub fn link_client(&self, expected: &StationName) -> Result<Arc<ClientConfig>, Error> {
        self.client(Expected::Station(expected.clone()), LINK_ALPN)
    }

    /// Returns the client's side for asking the station `expected`.
    pub fn control_client(&self, expected: &StationName) -> Result<Arc<ClientConfig>, Error> {
        self.client(Expected::Station(expected.clone()), CONTROL_ALPN)
    }

    /// Returns the client's side for questions to the primary: the station of this name, or, for who does not know yet, the one
    /// whose certificate says so.
    pub fn primary_client(&self, name: Option<&StationName>) -> Result<Arc<ClientConfig>, Error> {
        let expected = name.map_or(Expected::Primary, |name| Expected::Station(name.clone()));
        self.client(expected, JOIN_ALPN)
    }

    fn client(&self, expected: Expected, alpn: &[u8]) -> Result<Arc<ClientConfig>, Error> {
        let ClientParts { chain, key, members, clock } = &self.client;
        let verifier = Verifier::new(members.expecting(expected));
        let builder =
            client_builder(clock)?.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        let config = builder.with_client_auth_cert(chain.clone(), key.clone_key())?;
        Ok(finish_client(config, alpn))
    }
}

/// Returns the client's side for a station that has only the pin of a join token.
///
/// The handshake ends before the client has said anything if the server's CA has another hash.
pub fn join_client(pin: CaPin, clock: &Arc<dyn TimeProvider>) -> Result<Arc<ClientConfig>, Error> {
    pinned_client(pin, Expected::Primary, clock, JOIN_ALPN)
}

/// Returns the client's side of the HTTPS door of one station of the cluster whose CA has this hash.
///
/// The handshake ends before the client has said anything if it is another CA, or another station of the cluster: a
/// password is for the station that it was typed for, not for every one that could pose as it.
pub fn web_client(
    station: &SeenStation,
    clock: &Arc<dyn TimeProvider>,
) -> Result<Arc<ClientConfig>, Error> {
    pinned_client(station.ca, Expected::Station(station.name.clone()), clock, WEB_ALPN)
}

/// Returns a client's side that learns who a station is and never gets further, with where it tells it.
///
/// For whoever sees a station for the first time, and is asked whether it is the right one before anything is said to it.
pub fn probe_client(clock: &Arc<dyn TimeProvider>) -> Result<(Arc<ClientConfig>, Seen), Error> {
    let seen = Seen::default();
    let verifier = Verifier::new(Probe(seen.clone()));
    let builder =
        client_builder(clock)?.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    Ok((finish_client(builder.with_no_client_auth(), WEB_ALPN), seen))
}

fn pinned_client(
    pin: CaPin,
    expected: Expected,
    clock: &Arc<dyn TimeProvider>,
    alpn: &[u8],
) -> Result<Arc<ClientConfig>, Error> {
    let verifier = Arc::new(Verifier::new(Pinned { pin, expected }));
    let builder = client_builder(clock)?.dangerous().with_custom_certificate_verifier(verifier);
    Ok(finish_client(builder.with_no_client_auth(), alpn))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn server(
    clock: &Arc<dyn TimeProvider>,
    members: Members,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    alpn: &[u8],
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_details(provider(), clock.clone())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(Verifier::new(members)))
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![alpn.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn web_server(
    clock: &Arc<dyn TimeProvider>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_details(provider(), clock.clone())
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![WEB_ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn client_builder(
    clock: &Arc<dyn TimeProvider>,
) -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, Error> {
    ClientConfig::builder_with_details(provider(), clock.clone()).with_protocol_versions(&[&TLS13])
}

fn finish_client(mut config: ClientConfig, alpn: &[u8]) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Arc::new(config)
}
