//! Which certificates are accepted, at either end.
//!
//! TLS asks one [`Verifier`] whichever end it is; what differs is the [`Judge`] inside it.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use keepshare_base::{ClusterId, Role, StationName};

use super::{PeerError, TlsError, provider};
use crate::{CaPin, Peer, Revocations, StationIdentity, certificate::cluster_of_ca};

/// Decides who is accepted.
pub(super) trait Judge: fmt::Debug + Send + Sync {
    /// Decides about the certificate of a server, sent with these others.
    fn judge(
        &self,
        shown: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
        provider: &CryptoProvider,
    ) -> Result<(), Error>;
}

/// Verifies as its judge decides; signatures are TLS 1.3's.
#[derive(Clone, Debug)]
pub(super) struct Verifier<J> {
    pub(super) judge: J,
    provider: Arc<CryptoProvider>,
}

impl<J: Judge> Verifier<J> {
    pub(super) fn new(judge: J) -> Self {
        Self { judge, provider: provider() }
    }
}

impl<J: Judge> ServerCertVerifier for Verifier<J> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge.judge(end_entity, intermediates, now, &self.provider)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier<Members> {
    fn client_auth_mandatory(&self) -> bool {
        self.judge.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Strangers need not learn which cluster this is.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.judge.clients.verify_client_cert(end_entity, &[], now)?;
        self.judge.accept(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls12_signature(self, message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls13_signature(self, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ServerCertVerifier::supported_verify_schemes(self)
    }
}

/// Whom the other end has to be.
#[derive(Clone, Debug)]
pub(super) enum Expected {
    /// Any station of the cluster.
    Member,
    /// The station of this name.
    Station(StationName),
    /// Whichever station is the primary.
    Primary,
}

impl Expected {
    fn judge(&self, peer: Peer) -> Result<(), Error> {
        match self {
            Self::Station(expected) if *expected != peer.name => {
                Err(refused(PeerError::OtherStation { expected: expected.clone(), got: peer.name }))
            }
            Self::Primary if peer.role != Role::Primary => {
                Err(refused(PeerError::NotPrimary(peer.name)))
            }
            Self::Station(_) | Self::Primary | Self::Member => Ok(()),
        }
    }
}

/// Accepts members of one cluster.
#[derive(Clone, Debug)]
pub(super) struct Members {
    cluster: ClusterId,
    roots: Arc<RootCertStore>,
    clients: Arc<dyn ClientCertVerifier>,
    revocations: Revocations,
    expected: Expected,
    /// A client must show a certificate.
    mandatory: bool,
}

impl Members {
    pub(super) fn new(
        identity: &StationIdentity,
        revocations: Revocations,
    ) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        roots.add(identity.ca().clone())?;
        let roots = Arc::new(roots);
        let clients =
            WebPkiClientVerifier::builder_with_provider(roots.clone(), provider()).build()?;
        let (cluster, expected) = (identity.cluster(), Expected::Member);
        Ok(Self { cluster, roots, clients, revocations, expected, mandatory: true })
    }

    /// Returns one that lets clients in without a certificate, and checks those that show one.
    pub(super) fn for_strangers_too(&self) -> Self {
        Self { mandatory: false, ..self.clone() }
    }

    /// Returns one that accepts only who is expected.
    pub(super) fn expecting(&self, expected: Expected) -> Self {
        Self { expected, ..self.clone() }
    }

    pub(super) fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// Decides about a certificate that the CA signed.
    fn accept(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        let peer = Peer::of(certificate).map_err(|error| refused(error.into()))?;
        if peer.cluster != self.cluster {
            return Err(refused(PeerError::OtherCluster));
        }
        if self.revocations.is_revoked(peer.serial) {
            return Err(CertificateError::Revoked.into());
        }
        self.expected.judge(peer)
    }
}

impl Judge for Members {
    fn judge(
        &self,
        shown: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        now: UnixTime,
        provider: &CryptoProvider,
    ) -> Result<(), Error> {
        verify_server(shown, &self.roots, now, provider)?;
        self.accept(shown)
    }
}

/// Accepts stations of the cluster whose CA has a certain hash.
#[derive(Debug)]
pub(super) struct Pinned {
    pub(super) pin: CaPin,
    pub(super) expected: Expected,
}

impl Judge for Pinned {
    fn judge(
        &self,
        shown: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
        provider: &CryptoProvider,
    ) -> Result<(), Error> {
        let ca = others.iter().find(|certificate| CaPin::of(certificate) == self.pin);
        let ca = ca.ok_or_else(|| refused(PeerError::OtherCa))?;
        self.expected.judge(verify_by(shown, ca, now, provider)?)
    }
}

/// A station as its certificate shows it to whoever does not know its cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SeenStation {
    /// The CA of its cluster.
    pub ca: CaPin,
    /// What it is called there.
    pub name: StationName,
}

/// Where a probe tells which station it saw.
#[derive(Clone, Debug, Default)]
pub struct Seen(Arc<OnceLock<SeenStation>>);

impl Seen {
    /// Returns the station, once one has shown a certificate that its CA signed.
    pub fn station(&self) -> Option<SeenStation> {
        self.0.get().cloned()
    }
}

/// Accepts nobody, and remembers which station it saw.
#[derive(Debug)]
pub(super) struct Probe(pub(super) Seen);

impl Judge for Probe {
    fn judge(
        &self,
        shown: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
        provider: &CryptoProvider,
    ) -> Result<(), Error> {
        let ca = others.first().ok_or_else(|| refused(PeerError::OtherCa))?;
        let name = verify_by(shown, ca, now, provider)?.name;
        let _ = self.0.0.set(SeenStation { ca: CaPin::of(ca), name });
        Err(refused(PeerError::Probed))
    }
}

/// Returns who a certificate names, having checked that this CA signed it, for its own cluster.
fn verify_by(
    end_entity: &CertificateDer<'_>,
    ca: &CertificateDer<'_>,
    now: UnixTime,
    provider: &CryptoProvider,
) -> Result<Peer, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone().into_owned())?;
    verify_server(end_entity, &roots, now, provider)?;
    let peer = Peer::of(end_entity).map_err(|error| refused(error.into()))?;
    if cluster_of_ca(ca).map_err(|error| refused(error.into()))? != peer.cluster {
        return Err(refused(PeerError::OtherCluster));
    }
    Ok(peer)
}

/// Checks that a CA of `roots` signed the certificate itself: there are no CAs in between.
fn verify_server(
    end_entity: &CertificateDer<'_>,
    roots: &RootCertStore,
    now: UnixTime,
    provider: &CryptoProvider,
) -> Result<(), Error> {
    rustls::client::verify_server_cert_signed_by_trust_anchor(
        &ParsedCertificate::try_from(end_entity)?,
        roots,
        &[],
        now,
        provider.signature_verification_algorithms.all,
    )
}

fn refused(error: PeerError) -> Error {
    CertificateError::Other(OtherError(Arc::new(error))).into()
}
