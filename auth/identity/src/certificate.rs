//! What a station's certificate says, written and read back.
//!
//! All of it is in one place: the URI `keepshare://CLUSTER/ROLE/STATION` among the alternative names. The common name
//! repeats the station for people who look at the certificate with other tools and is never read. Whether a certificate
//! may be believed is the business of [`crate::tls`].

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, SanType, SerialNumber,
};
use time::OffsetDateTime;
use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    prelude::{FromDer, X509Error},
};

use keepshare_base::{ClusterId, Role, Serial, Stamp, StationName};

/// How long a station's certificate is good for.
pub(crate) const STATION_VALID_DAYS: i64 = 90;

/// How long the cluster's own certificate is good for.
pub(crate) const CA_VALID_DAYS: i64 = 20 * 365;

/// How far a station's clock may be behind that of the station which signed, in days.
pub(crate) const SKEW_DAYS: i64 = 1;

const DAY_US: i64 = 86_400_000_000;
const SCHEME: &str = "keepshare://";

/// A certificate of another kind than a station's of ours.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// Not a certificate at all.
    #[error("not a certificate")]
    Malformed,
    /// No name of ours in it, or more than one.
    #[error("the certificate does not name one station of a cluster")]
    NoStation,
    /// A serial number that our CA does not give.
    #[error("the certificate's serial number is not one of a cluster")]
    Serial,
}

/// A station as its certificate describes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Peer {
    /// Its name.
    pub name: StationName,
    /// Its role.
    pub role: Role,
    /// Its cluster.
    pub cluster: ClusterId,
    /// The certificate's number.
    pub serial: Serial,
    /// When the certificate ends.
    pub expires: Stamp,
}

impl Peer {
    /// Reads a certificate without judging it.
    pub fn of(certificate: &[u8]) -> Result<Self, CertificateError> {
        let parsed = parse(certificate)?;
        let (cluster, rest) = named_uri(&parsed)?;
        let (role, name) = rest.split_once('/').ok_or(CertificateError::NoStation)?;
        Ok(Self {
            name: name.parse().map_err(|_| CertificateError::NoStation)?,
            role: role.parse().map_err(|_| CertificateError::NoStation)?,
            cluster,
            serial: serial_of(&parsed)?,
            expires: Stamp(parsed.validity().not_after.timestamp().saturating_mul(1_000_000)),
        })
    }
}

/// Returns when a certificate begins.
pub(crate) fn begin_of(certificate: &[u8]) -> Result<Stamp, CertificateError> {
    let begins = parse(certificate)?.validity().not_before.timestamp();
    Ok(Stamp(begins.saturating_mul(1_000_000)))
}

/// Returns the cluster of a CA's certificate.
pub(crate) fn cluster_of_ca(certificate: &[u8]) -> Result<ClusterId, CertificateError> {
    match named_uri(&parse(certificate)?)? {
        (cluster, "ca") => Ok(cluster),
        _ => Err(CertificateError::NoStation),
    }
}

/// Returns what a station's certificate will say.
///
/// It is good from when its cluster's is: where the clock that signs is ahead, the others must not wait for that date
/// before they talk to the station.
pub(crate) fn station_params(
    now: Stamp,
    cluster_begins: Stamp,
    peer: &Peer,
) -> Result<CertificateParams, rcgen::Error> {
    let uri = format!("{SCHEME}{}/{}/{}", peer.cluster, peer.role, peer.name);
    let mut params = named(peer.name.as_str(), uri)?;
    params.serial_number = Some(SerialNumber::from_slice(&peer.serial.0));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // One certificate for both ends of a link: every station both dials and is dialled.
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let begins = now.plus_micros(-SKEW_DAYS * DAY_US).min(cluster_begins);
    params.not_before = calendar(begins);
    params.not_after = calendar(peer.expires);
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// Returns what a cluster's own certificate will say.
pub(crate) fn ca_params(now: Stamp, cluster: ClusterId) -> Result<CertificateParams, rcgen::Error> {
    let mut params =
        named(&format!("Keepshare cluster {cluster}"), format!("{SCHEME}{cluster}/ca"))?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = calendar(now.plus_micros(-SKEW_DAYS * DAY_US));
    params.not_after = calendar(now.plus_micros(CA_VALID_DAYS * DAY_US));
    Ok(params)
}

/// Returns when a station's certificate signed `now` ends.
pub(crate) fn station_expiry(now: Stamp) -> Stamp {
    // Certificates count whole seconds.
    Stamp(now.plus_micros(STATION_VALID_DAYS * DAY_US).0.div_euclid(1_000_000) * 1_000_000)
}

fn named(common_name: &str, uri: String) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
    Ok(params)
}

fn calendar(at: Stamp) -> OffsetDateTime {
    // Outside the years that a calendar knows there is no certificate to make; 1970 is expired everywhere.
    OffsetDateTime::from_unix_timestamp(at.0.div_euclid(1_000_000))
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn parse(certificate: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    match X509Certificate::from_der(certificate) {
        Ok(([], parsed)) => Ok(parsed),
        _ => Err(CertificateError::Malformed),
    }
}

/// Splits the one URI of ours into the cluster and the rest.
fn named_uri<'a>(parsed: &X509Certificate<'a>) -> Result<(ClusterId, &'a str), CertificateError> {
    let names = parsed
        .subject_alternative_name()
        .map_err(|_: X509Error| CertificateError::Malformed)?
        .ok_or(CertificateError::NoStation)?;
    let [GeneralName::URI(uri)] = names.value.general_names[..] else {
        return Err(CertificateError::NoStation);
    };
    let rest = uri.strip_prefix(SCHEME).ok_or(CertificateError::NoStation)?;
    let (cluster, rest) = rest.split_once('/').ok_or(CertificateError::NoStation)?;
    Ok((cluster.parse().map_err(|_| CertificateError::NoStation)?, rest))
}

fn serial_of(parsed: &X509Certificate<'_>) -> Result<Serial, CertificateError> {
    let raw = parsed.raw_serial();
    // The encoding drops leading zeros and has one where the next bit is set.
    let digits = &raw[raw.iter().take_while(|byte| **byte == 0).count()..];
    let mut serial = [0; 16];
    let start = serial.len().checked_sub(digits.len()).ok_or(CertificateError::Serial)?;
    serial[start..].copy_from_slice(digits);
    Ok(Serial(serial))
}
