//! A station's own identity: its key, its certificate and the CA of its cluster.
//!
//! All three are one file, so that a renewal, or a crash in the middle of one, never leaves a certificate without its
//! key.

use std::{fmt, path::Path};

use pem::Pem;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime},
    server::ParsedCertificate,
};

use keepshare_base::{ClusterId, Role, Stamp, StationName};

use crate::{
    ca::{CaError, CaPin, ClusterCa},
    certificate::{self, CertificateError, Peer, SKEW_DAYS, STATION_VALID_DAYS},
    pem_parts::{CERTIFICATE_TAG, PRIVATE_KEY_TAG, parse_pem},
    secrets::{self, SecretError},
    signature::{self, SignatureError},
};

/// The file with the station's key, its certificate and the CA's certificate.
pub const IDENTITY_FILE: &str = "station.pem";

/// The folder of a station's state in which its keys and certificates are.
pub const FOLDER: &str = "identity";

/// A certificate is renewed when less than a third of its time is left.
const RENEW_BEFORE_US: i64 = STATION_VALID_DAYS * 86_400_000_000 / 3;

/// So much time is left of no certificate that was signed by a clock which is right.
const LEFT_MAX_US: i64 = (STATION_VALID_DAYS + SKEW_DAYS) * 86_400_000_000;

/// Why there is no identity to work with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// Its file.
    #[error(transparent)]
    File(#[from] SecretError),
    /// The file holds something else.
    #[error("the identity file does not hold a key, a certificate and a CA certificate")]
    Malformed,
    /// The certificate is of another kind.
    #[error("the station's certificate is not usable")]
    Certificate(#[from] CertificateError),
    /// Key, certificate and CA do not belong together.
    #[error("{0}")]
    Mismatch(&'static str),
    /// The CA.
    #[error("the cluster CA failed")]
    Ca(#[from] CaError),
    /// Making a key or a request failed.
    #[error("cannot make a key")]
    Key(#[from] rcgen::Error),
}

/// A key that waits for its certificate.
pub struct PendingIdentity {
    key: KeyPair,
}

impl PendingIdentity {
    /// Makes a new key.
    pub fn generate() -> Result<Self, IdentityError> {
        Ok(Self { key: KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)? })
    }

    /// Returns the request that a CA signs.
    pub fn request(&self) -> Result<Vec<u8>, IdentityError> {
        // Empty: whatever we wrote into it, the CA would not believe it.
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        Ok(params.serialize_request(&self.key)?.der().to_vec())
    }

    /// Puts the identity together, having checked that the certificate is for this key and by this CA.
    pub fn complete(self, certificate: &[u8], ca: &[u8]) -> Result<StationIdentity, IdentityError> {
        StationIdentity::new(
            self.key,
            CertificateDer::from(certificate.to_vec()),
            CertificateDer::from(ca.to_vec()),
        )
    }
}

impl fmt::Debug for PendingIdentity {
    /// Leaves the key out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingIdentity").finish_non_exhaustive()
    }
}

/// A station's key and certificate.
pub struct StationIdentity {
    key: KeyPair,
    certificate: CertificateDer<'static>,
    ca: CertificateDer<'static>,
    peer: Peer,
}

impl StationIdentity {
    /// Makes the identity of a station that holds the CA itself.
    pub fn create(
        ca: &ClusterCa,
        now: Stamp,
        name: &StationName,
        role: Role,
    ) -> Result<Self, IdentityError> {
        let pending = PendingIdentity::generate()?;
        let (_, certificate) = ca.sign(now, &pending.request()?, name, role)?;
        pending.complete(&certificate, ca.certificate())
    }

    /// Reads the identity that [`Self::save`] wrote.
    pub fn load(dir: &Path) -> Result<Self, IdentityError> {
        let bytes = secrets::read(&dir.join(IDENTITY_FILE))?;
        let parts = parse_pem(&bytes).ok_or(IdentityError::Malformed)?;
        let [(PRIVATE_KEY_TAG, key), (CERTIFICATE_TAG, certificate), (CERTIFICATE_TAG, ca)] =
            &parts[..]
        else {
            return Err(IdentityError::Malformed);
        };
        Self::new(
            KeyPair::try_from(key.as_slice()).map_err(|_| IdentityError::Malformed)?,
            CertificateDer::from(certificate.clone()),
            CertificateDer::from(ca.clone()),
        )
    }

    /// Writes a new station's identity durably; refuses where there is one already.
    pub fn save_new(&self, dir: &Path) -> Result<(), IdentityError> {
        Ok(secrets::write(dir, IDENTITY_FILE, self.to_pem().as_bytes(), true)?)
    }

    /// Writes the identity durably over the one that is there.
    pub fn save(&self, dir: &Path) -> Result<(), IdentityError> {
        Ok(secrets::write(dir, IDENTITY_FILE, self.to_pem().as_bytes(), false)?)
    }

    fn new(
        key: KeyPair,
        certificate: CertificateDer<'static>,
        ca: CertificateDer<'static>,
    ) -> Result<Self, IdentityError> {
        let peer = Peer::of(&certificate)?;
        if certificate::cluster_of_ca(&ca)? != peer.cluster {
            return Err(IdentityError::Mismatch("the certificate is of another cluster"));
        }
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate)
            .map_err(|_| IdentityError::Malformed)?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(IdentityError::Mismatch("the certificate belongs to another key"));
        }
        // At the moment before it ends, so that only the signature is judged here: an expired certificate is still ours.
        let secs = u64::try_from(peer.expires.0 / 1_000_000 - 1).unwrap_or(0);
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(secs));
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone()).map_err(|_| IdentityError::Malformed)?;
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        ParsedCertificate::try_from(&certificate)
            .and_then(|parsed| {
                rustls::client::verify_server_cert_signed_by_trust_anchor(
                    &parsed,
                    &roots,
                    &[],
                    at,
                    algorithms.all,
                )
            })
            .map_err(|_| IdentityError::Mismatch("the certificate was not signed by the CA"))?;
        Ok(Self { key, certificate, ca, peer })
    }

    /// Returns what the certificate says: name, role, cluster, serial number, end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Returns the station's name.
    pub fn name(&self) -> &StationName {
        &self.peer.name
    }

    /// Returns the cluster.
    pub fn cluster(&self) -> ClusterId {
        self.peer.cluster
    }

    /// Returns the pin of the cluster's CA.
    pub fn ca_pin(&self) -> CaPin {
        CaPin::of(&self.ca)
    }

    /// Returns the station's certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Returns the CA's certificate.
    pub fn ca(&self) -> &CertificateDer<'static> {
        &self.ca
    }

    /// Checks that the cluster's CA signed a message.
    pub fn verify_of_ca(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        signature::verify(&self.ca, message, signature)
    }

    /// Tells whether it is time to ask for a new certificate: it ends soon, or it was signed by a clock that was ahead and
    /// ends too late.
    pub fn renewal_due(&self, now: Stamp) -> bool {
        !(RENEW_BEFORE_US..=LEFT_MAX_US).contains(&self.peer.expires.micros_since(now))
    }

    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }

    fn to_pem(&self) -> String {
        let certificate = Pem::new(CERTIFICATE_TAG, self.certificate.as_ref());
        let ca = Pem::new(CERTIFICATE_TAG, self.ca.as_ref());
        self.key.serialize_pem() + &pem::encode_many(&[certificate, ca])
    }
}

impl fmt::Debug for StationIdentity {
    /// Leaves the key out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StationIdentity").field("peer", &self.peer).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_US: i64 = 86_400_000_000;

    /// A primary that was started with a wrong date talks to its cluster as soon as the date is right.
    #[test]
    fn what_a_clock_signed_that_was_ahead_is_good_at_once_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let now = Stamp(1_800_000_000_000_000);
        let ca = ClusterCa::create(dir.path(), now).unwrap();
        let name = "shop".parse().unwrap();
        let signed = |at| StationIdentity::create(&ca, at, &name, Role::Primary).unwrap();
        let ahead = signed(now.plus_micros(400 * DAY_US));
        let begins = certificate::begin_of(ahead.certificate()).unwrap();
        assert_eq!(begins, now.plus_micros(-DAY_US));
        assert!(ahead.renewal_due(now), "it would last for 490 days");
        assert!(!signed(now).renewal_due(now));
        assert!(!signed(now.plus_micros(DAY_US / 2)).renewal_due(now), "clocks differ a little");
    }
}
