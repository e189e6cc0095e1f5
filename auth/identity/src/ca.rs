//! The cluster's own certificate authority.
//!
//! It lives on the primary, signs for nobody outside the cluster and is trusted by nobody outside it. A station asks
//! with a signing request; of that only the public key is believed, and only after it has shown that it holds the
//! private one. Name and role come from who asked and how (a token, a certificate).

use std::{fmt, path::Path, str::FromStr};

use data_encoding::HEXLOWER;
use rcgen::{
    CertificateSigningRequestParams, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData,
    SigningKey,
};
use ring::digest;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};
use serde::{Deserialize, Serialize};

use keepshare_base::{ClusterId, Role, Serial, Stamp, StationName};

use crate::{
    certificate::{self, CertificateError, Peer},
    pem_parts::{CERTIFICATE_TAG, PRIVATE_KEY_TAG, parse_pem},
    secrets::{self, SecretError},
};

/// The file with the CA's key and certificate, beside the primary's own identity.
pub const CA_FILE: &str = "cluster-ca.pem";

/// The longest signing request, in bytes; ours have about 250.
const REQUEST_BYTES_MAX: usize = 4096;

/// Why the CA could not do something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaError {
    /// Its file.
    #[error(transparent)]
    File(#[from] SecretError),
    /// Its file holds something else.
    #[error("the CA file does not hold a key and the certificate that belongs to it")]
    Malformed,
    /// Its certificate is of another kind.
    #[error("the CA certificate is not one of a cluster")]
    Certificate(#[from] CertificateError),
    /// A signing request that is none, or was not made by the holder of its key.
    #[error("the signing request is not valid")]
    Request,
    /// Making a key or signing failed.
    #[error("cannot sign a certificate")]
    Sign(#[from] rcgen::Error),
    /// The system gave no random numbers.
    #[error("the system gives no random numbers")]
    Random(#[from] getrandom::Error),
}

/// The SHA-256 of the CA's certificate, by which a joining station knows its cluster.
#[derive(Clone, Copy, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub struct CaPin(pub [u8; 32]);

impl CaPin {
    /// Returns the pin of a CA's certificate.
    pub fn of(certificate: &[u8]) -> Self {
        let mut pin = [0; 32];
        pin.copy_from_slice(digest::digest(&digest::SHA256, certificate).as_ref());
        Self(pin)
    }
}

/// A text that is no pin.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("this is no pin of a CA; they have 64 digits of 0-9 and a-f")]
pub struct CaPinError;

impl FromStr for CaPin {
    type Err = CaPinError;

    fn from_str(text: &str) -> Result<Self, CaPinError> {
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| CaPinError)?;
        bytes.try_into().map(Self).map_err(|_| CaPinError)
    }
}

impl fmt::Display for CaPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", HEXLOWER.encode_display(&self.0))
    }
}

impl fmt::Debug for CaPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The cluster's certificate authority, with its key.
pub struct ClusterCa {
    cluster: ClusterId,
    /// When the certificate begins.
    begins: Stamp,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl ClusterCa {
    /// Makes a new cluster and writes its CA into `dir`; refuses where there is one already.
    pub fn create(dir: &Path, now: Stamp) -> Result<Self, CaError> {
        let mut cluster = ClusterId([0; 16]);
        getrandom::fill(&mut cluster.0)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = certificate::ca_params(now, cluster)?.self_signed(&key)?;
        let text = key.serialize_pem() + &certificate.pem();
        secrets::write(dir, CA_FILE, text.as_bytes(), true)?;
        Self::new(key, certificate.der().clone())
    }

    /// Reads the CA that [`Self::create`] wrote.
    pub fn load(dir: &Path) -> Result<Self, CaError> {
        let parts = parse_pem(&secrets::read(&dir.join(CA_FILE))?).ok_or(CaError::Malformed)?;
        let [(PRIVATE_KEY_TAG, key), (CERTIFICATE_TAG, certificate)] = &parts[..] else {
            return Err(CaError::Malformed);
        };
        let key = KeyPair::try_from(key.as_slice()).map_err(|_| CaError::Malformed)?;
        Self::new(key, CertificateDer::from(certificate.clone()))
    }

    fn new(key: KeyPair, certificate: CertificateDer<'static>) -> Result<Self, CaError> {
        let (_, parsed) =
            x509_parser::parse_x509_certificate(&certificate).map_err(|_| CaError::Malformed)?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(CaError::Malformed);
        }
        let cluster = certificate::cluster_of_ca(&certificate)?;
        let begins = certificate::begin_of(&certificate)?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Self { cluster, begins, certificate, issuer })
    }

    /// Returns the cluster.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Returns the CA's certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Returns the pin that join tokens carry.
    pub fn pin(&self) -> CaPin {
        CaPin::of(&self.certificate)
    }

    /// Signs a request for the station `name`, and returns the certificate with what it says.
    pub fn sign(
        &self,
        now: Stamp,
        request: &[u8],
        name: &StationName,
        role: Role,
    ) -> Result<(Peer, CertificateDer<'static>), CaError> {
        if request.len() > REQUEST_BYTES_MAX {
            return Err(CaError::Request);
        }
        let request = CertificateSigningRequestDer::from(request);
        let request =
            CertificateSigningRequestParams::from_der(&request).map_err(|_| CaError::Request)?;
        if request.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(CaError::Request);
        }
        let peer = Peer {
            name: name.clone(),
            role,
            cluster: self.cluster,
            serial: random_serial()?,
            expires: certificate::station_expiry(now),
        };
        let params = certificate::station_params(now, self.begins, &peer)?;
        let certificate = params.signed_by(&request.public_key, &self.issuer)?;
        Ok((peer, certificate.der().clone()))
    }

    /// Signs what is no certificate, and begins as none does.
    pub fn sign_message(&self, message: &[u8]) -> Result<Vec<u8>, CaError> {
        Ok(self.issuer.key().sign(message)?)
    }
}

impl fmt::Debug for ClusterCa {
    /// Leaves the key out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterCa").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

fn random_serial() -> Result<Serial, getrandom::Error> {
    let mut serial = [0; 16];
    getrandom::fill(&mut serial)?;
    // Positive whatever the encoding, and never zero.
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(Serial(serial))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two texts of one pin would be two clusters to whoever compares texts.
    #[test]
    fn one_pin_has_one_text() {
        let text = "00ff".repeat(16);
        assert_eq!(text.parse::<CaPin>().unwrap().to_string(), text);
        let (upper, short, long) = ("00fF".repeat(16), "00f".repeat(21), "00ff".repeat(17));
        let foreign = format!("{}é", "0".repeat(62));
        for wrong in [&upper, &short, &long, &foreign, ""] {
            assert_eq!(wrong.parse::<CaPin>(), Err(CaPinError), "{wrong} was taken");
        }
    }
}
