//! Stations: which cluster they belong to, what they may do in it and where they are reached.

use std::{fmt, str::FromStr};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use crate::IdError;

/// The longest address, in bytes.
const ADDRESS_BYTES_MAX: usize = 255;

/// Which cluster a station belongs to.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct ClusterId(pub [u8; 16]);

/// The number of a certificate: 128 random bits, the highest one 0.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Serial(pub [u8; 16]);

/// What a station may do in its cluster.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub enum Role {
    /// Holds the CA, admits stations and manages the cluster's configuration.
    Primary,
    /// Receives sets, and sends its own.
    Replica,
}

impl FromStr for ClusterId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = || IdError::Cluster(text.to_owned());
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| wrong())?;
        bytes.try_into().map(Self).map_err(|_| wrong())
    }
}

impl FromStr for Role {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        match text {
            "primary" => Ok(Self::Primary),
            "replica" => Ok(Self::Replica),
            _ => Err(IdError::Role(text.to_owned())),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
        })
    }
}

crate::shown_as_hex!(ClusterId Serial);

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
            Some(inner) => inner.parse::<core::net::Ipv6Addr>().is_ok(),
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
