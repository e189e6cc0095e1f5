//! The addresses that this machine has in its networks, from the kernel's own lists.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// Returns those that others may reach: neither loopback nor link-local ones.
pub(crate) fn own() -> Vec<IpAddr> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let mut addresses: Vec<IpAddr> = v4(&read(V4)).into_iter().map(IpAddr::V4).collect();
    addresses.extend(v6(&read(V6)).into_iter().map(IpAddr::V6));
    addresses
}

/// Where the kernel lists the routes of IPv4, own addresses among them (`/32 host LOCAL`).
const V4: &str = "/proc/net/fib_trie";

/// Where the kernel lists its addresses of IPv6.
const V6: &str = "/proc/net/if_inet6";

fn v4(text: &str) -> Vec<Ipv4Addr> {
    let (mut addresses, mut last) = (Vec::new(), None);
    for line in text.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse::<Ipv4Addr>().ok();
        } else if line.starts_with("/32 host LOCAL") {
            addresses.extend(last.filter(|ip| !ip.is_loopback() && !ip.is_link_local()));
        }
    }
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

fn v6(text: &str) -> Vec<Ipv6Addr> {
    let address = |line: &str| u128::from_str_radix(line.get(..32)?, 16).ok().map(Ipv6Addr::from);
    let mut addresses: Vec<Ipv6Addr> = text.lines().filter_map(address).collect();
    addresses.retain(|ip| !ip.is_loopback() && !ip.is_unicast_link_local());
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_others_may_reach_are_read() {
        let trie = "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.1.2.3\n        /32 host LOCAL\n     \
            |-- 10.1.2.255\n        /32 link BROADCAST\n     |-- 127.0.0.1\n        /32 host LOCAL\n\
            Local:\n     |-- 10.1.2.3\n        /32 host LOCAL\n";
        assert_eq!(v4(trie), [Ipv4Addr::new(10, 1, 2, 3)]);
        let v6_text = "00000000000000000000000000000001 01 80 10 80       lo\n\
            fd000000000000000000000000000007 02 40 00 80     eth0\n\
            fe80000000000000000000000000abcd 02 40 20 80     eth0\nshort\n";
        assert_eq!(v6(v6_text), ["fd00::7".parse::<Ipv6Addr>().unwrap()]);
        assert!(own().iter().all(|ip| !ip.is_loopback()));
    }
}
