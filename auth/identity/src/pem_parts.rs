//! What the files of keys and certificates are made of.

use pem::Pem;

/// What a private key is called.
pub(crate) const PRIVATE_KEY_TAG: &str = "PRIVATE KEY";

/// What a certificate is called.
pub(crate) const CERTIFICATE_TAG: &str = "CERTIFICATE";

/// Splits a PEM file into its parts, each with its kind; `None` where there is any that is none of ours.
pub(crate) fn parse_pem(bytes: &[u8]) -> Option<Vec<(&'static str, Vec<u8>)>> {
    let kind = |part: Pem| match part.tag() {
        PRIVATE_KEY_TAG => Some((PRIVATE_KEY_TAG, part.into_contents())),
        CERTIFICATE_TAG => Some((CERTIFICATE_TAG, part.into_contents())),
        _ => None,
    };
    pem::parse_many(bytes).ok()?.into_iter().map(kind).collect()
}
