//! Signatures by the cluster's CA of what is no certificate.
//!
//! The caller puts a context of its own before what it has signed, one that no certificate begins with: a signature for one
//! purpose must be good for no other.

use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rustls::pki_types::CertificateDer;

/// A signature that the CA did not make of this message.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the signature is not the cluster's")]
pub struct SignatureError;

/// Checks that the holder of a CA's key signed a message.
pub(crate) fn verify(
    ca: &CertificateDer<'_>,
    message: &[u8],
    signature: &[u8],
) -> Result<(), SignatureError> {
    let (_, parsed) = x509_parser::parse_x509_certificate(ca).map_err(|_| SignatureError)?;
    let key = &parsed.public_key().subject_public_key.data;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key)
        .verify(message, signature)
        .map_err(|_| SignatureError)
}

#[cfg(test)]
mod tests {
    use keepshare_base::{Role, Stamp};

    use crate::{ClusterCa, StationIdentity};

    const NOW: Stamp = Stamp(1_800_000_000_000_000);

    /// What the primary says of the cluster is believed by its key alone, whoever brings it.
    #[test]
    fn the_cas_word_is_known_by_every_station_and_nobody_elses_is() {
        let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let ca = ClusterCa::create(ours.path(), NOW).unwrap();
        let name = "attic".parse().unwrap();
        let station = StationIdentity::create(&ca, NOW, &name, Role::Replica).unwrap();
        let signature = ca.sign_message(b"to be believed").unwrap();
        assert!(station.verify_of_ca(b"to be believed", &signature).is_ok());
        assert!(station.verify_of_ca(b"to be believed.", &signature).is_err());
        assert!(station.verify_of_ca(b"to be believed", &signature[..8]).is_err());
        assert!(station.verify_of_ca(b"to be believed", &[]).is_err());
        let mut flipped = signature.clone();
        flipped[20] ^= 1;
        assert!(station.verify_of_ca(b"to be believed", &flipped).is_err());
        let foreign = ClusterCa::create(theirs.path(), NOW).unwrap();
        let signature = foreign.sign_message(b"to be believed").unwrap();
        assert!(station.verify_of_ca(b"to be believed", &signature).is_err());
    }
}
