//! The stations of the cluster, as the primary records them.

use std::{fmt, str::FromStr};

use redb::{ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use keepshare_base::{Stamp, StationName};

use crate::{EnrolError, Peer, Role, Serial};

/// The most certificates of one station that have not ended; an older one is revoked.
const CERTIFICATES_MAX: usize = 8;

/// The longest address, in bytes.
const ADDRESS_BYTES_MAX: usize = 255;

pub(crate) const MEMBERS: TableDefinition<&str, &[u8]> = TableDefinition::new("members");
pub(crate) const REVOKED: TableDefinition<[u8; 16], i64> = TableDefinition::new("revoked");

/// A text that is no station's address.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("'{}' is not HOST:PORT", .0.escape_debug())]
pub struct AddressError(String);

/// Where a station listens: `HOST:PORT`, the host a name or an address (IPv6 in brackets).
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StationAddress(String);

impl StationAddress {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for StationAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError(text.chars().take(ADDRESS_BYTES_MAX).collect());
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let host_fits = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                let usable = |b: u8| b.is_ascii_alphanumeric() || b".-_".contains(&b);
                !host.is_empty() && host.bytes().all(usable)
            }
        };
        let port_fits = port.bytes().all(|b| b.is_ascii_digit())
            && port.parse::<u16>().is_ok_and(|port| port != 0);
        if host_fits && port_fits && text.len() <= ADDRESS_BYTES_MAX {
            Ok(Self(text.to_owned()))
        } else {
            Err(wrong())
        }
    }
}

impl TryFrom<String> for StationAddress {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<StationAddress> for String {
    fn from(address: StationAddress) -> Self {
        address.0
    }
}

impl fmt::Display for StationAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A station of the cluster.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub name: StationName,
    /// Its role.
    pub role: Role,
    /// Where it listens.
    pub address: StationAddress,
    /// When it joined.
    pub joined: Stamp,
}

/// A member with the certificates it holds.
#[derive(Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) member: Member,
    /// Those that have not ended, oldest first.
    certificates: Vec<(Serial, Stamp)>,
}

impl Row {
    pub(crate) fn new(member: Member, peer: &Peer) -> Self {
        Self { member, certificates: vec![(peer.serial, peer.expires)] }
    }

    pub(crate) fn holds(&self, serial: Serial) -> bool {
        self.certificates.iter().any(|(held, _)| *held == serial)
    }

    /// Adds a certificate, and returns those that the station may use no longer because it has too many.
    pub(crate) fn add(&mut self, now: Stamp, peer: &Peer) -> Vec<(Serial, Stamp)> {
        self.certificates.retain(|(_, expires)| *expires > now);
        self.certificates.push((peer.serial, peer.expires));
        let surplus = self.certificates.len().saturating_sub(CERTIFICATES_MAX);
        self.certificates.drain(..surplus).collect()
    }
}

pub(crate) fn load(
    write: &WriteTransaction,
    name: &StationName,
) -> Result<Option<Row>, EnrolError> {
    let table = write.open_table(MEMBERS)?;
    table.get(name.as_str())?.map(|row| decode(row.value())).transpose()
}

pub(crate) fn store(write: &WriteTransaction, row: &Row) -> Result<(), EnrolError> {
    let bytes = postcard::to_stdvec(row)?;
    write.open_table(MEMBERS)?.insert(row.member.name.as_str(), bytes.as_slice())?;
    Ok(())
}

/// Refuses these certificates until they end by themselves, and forgets those that have.
pub(crate) fn revoke(
    write: &WriteTransaction,
    now: Stamp,
    certificates: &[(Serial, Stamp)],
) -> Result<(), EnrolError> {
    let mut table = write.open_table(REVOKED)?;
    table.retain(|_, expires| expires > now.0)?;
    for (serial, expires) in certificates {
        table.insert(serial.0, expires.0)?;
    }
    Ok(())
}

/// Removes a member and returns the certificates it held.
pub(crate) fn remove(
    write: &WriteTransaction,
    name: &StationName,
) -> Result<Option<Vec<(Serial, Stamp)>>, EnrolError> {
    let mut table = write.open_table(MEMBERS)?;
    let row = table.remove(name.as_str())?.map(|row| decode(row.value())).transpose()?;
    Ok(row.map(|row| row.certificates))
}

pub(crate) fn list(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<Vec<Member>, EnrolError> {
    let mut members = Vec::new();
    for entry in table.iter()? {
        members.push(decode(entry?.1.value())?.member);
    }
    Ok(members)
}

fn decode(bytes: &[u8]) -> Result<Row, EnrolError> {
    Ok(postcard::from_bytes(bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_once() {
        for good in ["10.0.0.1:7411", "backup.example.org:1", "[::1]:65535", "a_b-c:80"] {
            assert_eq!(good.parse::<StationAddress>().unwrap().as_str(), good);
        }
        for wrong in
            ["", ":80", "a:", "a:0", "a:65536", "a:+1", "a b:1", "[::1:1", "::1:80", "a\u{1b}[m:1"]
        {
            assert!(wrong.parse::<StationAddress>().is_err(), "{wrong} was taken");
        }
    }
}
