//! Ranges of addresses.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

/// The machines of a host session: all addresses that begin with the same bits.
///
/// Written `10.0.0.0/24`, or `10.0.0.7` for one address. An IPv4 address written as IPv6 is itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostRange {
    /// Canonical; zero after the first `bits`.
    address: IpAddr,
    bits: u8,
}

/// A text that is no range.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum HostRangeError {
    /// Not written like one.
    #[error("'{}' is no range of addresses: they look like 10.0.0.7, 10.0.0.0/24 or fd00:1::/64", .0.escape_debug())]
    Form(String),
    /// An address with bits after the prefix: one machine or all of its network may be meant.
    #[error("{0} names a machine and a network: give its address alone, or the network as {1}")]
    Between(IpAddr, HostRange),
    /// More machines than anybody can trust.
    #[error(
        "this range is too wide: at least /{IPV4_BITS_MIN} of IPv4 and /{IPV6_BITS_MIN} of IPv6"
    )]
    Wide,
}

/// The widest range of IPv4, in bits that are the same: a large private network.
const IPV4_BITS_MIN: u8 = 8;

/// The widest range of IPv6, in bits that are the same: what a provider is given.
const IPV6_BITS_MIN: u8 = 32;

/// How many bits come before the IPv4 address in one that is written as IPv6 (RFC 4291 §2.5.5.2).
const MAPPED_BITS: u8 = 96;

/// The longest text that is looked at, in bytes: an address of 45 and its bits.
const TEXT_BYTES_MAX: usize = 49;

impl HostRange {
    /// Tells whether an address is one of these.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && prefix(address, self.bits) == self.address
    }

    /// Returns how many bits all its addresses begin with.
    pub(super) fn bits(&self) -> u8 {
        self.bits
    }

    fn new(address: IpAddr, bits: u8) -> Result<Self, HostRangeError> {
        let least = if address.is_ipv4() { IPV4_BITS_MIN } else { IPV6_BITS_MIN };
        if bits < least {
            return Err(HostRangeError::Wide);
        }
        let range = Self { address: prefix(address, bits), bits };
        if range.address == address {
            Ok(range)
        } else {
            Err(HostRangeError::Between(address, range))
        }
    }
}

impl FromStr for HostRange {
    type Err = HostRangeError;

    fn from_str(text: &str) -> Result<Self, HostRangeError> {
        let form = || HostRangeError::Form(text.chars().take(TEXT_BYTES_MAX).collect());
        if text.len() > TEXT_BYTES_MAX {
            return Err(form());
        }
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let written: IpAddr = address.parse().map_err(|_| form())?;
        let most = width(written);
        let bits = match bits {
            // Only digits: numbers may have a sign elsewhere.
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => bits.parse().ok(),
            Some(_) => None,
            None => Some(most),
        };
        let bits = bits.filter(|bits| *bits <= most).ok_or_else(form)?;
        let address = written.to_canonical();
        match address.is_ipv4() && written.is_ipv6() {
            true => Self::new(address, bits.checked_sub(MAPPED_BITS).ok_or(HostRangeError::Wide)?),
            false => Self::new(address, bits),
        }
    }
}

impl fmt::Display for HostRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bits == width(self.address) {
            return self.address.fmt(f);
        }
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl TryFrom<String> for HostRange {
    type Error = HostRangeError;

    fn try_from(text: String) -> Result<Self, HostRangeError> {
        text.parse()
    }
}

impl From<HostRange> for String {
    fn from(range: HostRange) -> Self {
        range.to_string()
    }
}

/// Returns how many bits an address has.
fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Returns an address with all but its first bits zero.
fn prefix(address: IpAddr, bits: u8) -> IpAddr {
    let zeroes = u32::from(width(address).saturating_sub(bits));
    match address {
        IpAddr::V4(v4) => {
            IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(zeroes).unwrap_or(0)).into())
        }
        IpAddr::V6(v6) => {
            IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(zeroes).unwrap_or(0)).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(text: &str) -> HostRange {
        text.parse().unwrap()
    }

    #[test]
    fn a_range_holds_its_addresses_and_no_others() {
        for (text, inside, outside) in [
            ("10.0.0.0/24", &["10.0.0.0", "10.0.0.255", "::ffff:10.0.0.7"][..], &["10.0.1.0"][..]),
            ("10.0.0.7", &["10.0.0.7"], &["10.0.0.6", "10.0.0.8", "::10.0.0.7", "::a00:7"]),
            ("::ffff:10.0.0.0/120", &["10.0.0.9"], &["10.0.1.0", "::a00:9"]),
            ("10.0.0.0/8", &["10.255.0.1"], &["11.0.0.0", "9.255.255.255"]),
            ("fd00:1::/64", &["fd00:1::1", "fd00:1::ffff:0:0:1"], &["fd00:1:0:1::", "10.0.0.1"]),
            ("fd00::1", &["fd00::1"], &["fd00::2", "::ffff:0.0.0.1"]),
        ] {
            let holds = |address: &&str| range(text).contains(address.parse().unwrap());
            assert!(inside.iter().all(holds), "{text}");
            assert!(!outside.iter().any(holds), "{text}");
        }
    }

    /// A slip of the finger must not open a drive to a network that nobody meant.
    #[test]
    fn what_is_not_a_range_for_sure_is_refused() {
        for form in
            ["", "/", "10.0.0.0/", "10.0.0.0/33", "10.0.0/24", "10.0.0.0/+24", "a", "::/129"]
        {
            assert!(matches!(form.parse::<HostRange>(), Err(HostRangeError::Form(_))), "{form}");
        }
        for wide in ["0.0.0.0/0", "10.0.0.0/7", "::/0", "fd00::/31", "::ffff:0.0.0.0/96"] {
            assert_eq!(wide.parse::<HostRange>(), Err(HostRangeError::Wide), "{wide}");
        }
        let between = "10.0.0.7/24".parse::<HostRange>().unwrap_err();
        assert!(between.to_string().contains("10.0.0.0/24"), "{between}");
    }

    proptest! {
        #[test]
        fn ranges_read_back(v4 in any::<u32>(), v6 in any::<u128>(), bits in 32_u8..=128) {
            for (address, bits) in [(IpAddr::V4(v4.into()), bits / 4), (IpAddr::V6(v6.into()), bits)] {
                let address = prefix(address, bits);
                prop_assume!(address.to_canonical() == address);
                let range = HostRange::new(address, bits).unwrap();
                prop_assert_eq!(range.to_string().parse(), Ok(range));
                prop_assert!(range.contains(address));
            }
        }
    }
}
