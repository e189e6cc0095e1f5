//! Whom an address stands for.

use core::net::IpAddr;

/// One sender: an IPv4 address, or an IPv6 /64, which is one sender's to choose from.
pub type Source = [u8; 8];

/// Returns whom an address stands for; an IPv4 address written as IPv6 is itself.
pub fn source(address: IpAddr) -> Source {
    let mut source = [0; 8];
    match address.to_canonical() {
        IpAddr::V4(v4) => source[4..].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => source.copy_from_slice(&v6.octets()[..8]),
    }
    source
}

/// Returns the neighbourhood of an address, of which one sender can easily have many: an IPv4 /24, or an IPv6 /48.
pub fn crowd(address: IpAddr) -> Source {
    let mut crowd = source(address);
    match address.to_canonical() {
        IpAddr::V4(_) => crowd[7] = 0,
        IpAddr::V6(_) => crowd[6..].fill(0),
    }
    crowd
}
