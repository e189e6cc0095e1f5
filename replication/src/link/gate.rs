//! Who may stand at the door: connections that have not yet shown who they are.
//!
//! There are only so many places, for each address and in all. A newcomer never waits for one: whoever of the most
//! crowded address has stood there longest makes room. So idlers only ever push out idlers, and a station that gets on
//! with its handshake gets in.

use std::{collections::HashMap, net::IpAddr};

/// The most places of one address (of one /64 for IPv6).
const PLACES_PER_ADDRESS: usize = 32;

/// The most places in all.
const PLACES: usize = 256;

/// Addresses that are one sender's to choose from count as one.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Source([u8; 8]);

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        let mut source = [0; 8];
        match address.to_canonical() {
            IpAddr::V4(v4) => source[4..].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => source.copy_from_slice(&v6.octets()[..8]),
        }
        Self(source)
    }
}

/// The places; `T` is what ends the connection that has one.
#[derive(Debug)]
pub(crate) struct Gate<T> {
    /// In order of arrival.
    standing: Vec<(u64, Source, T)>,
    next: u64,
}

impl<T> Default for Gate<T> {
    fn default() -> Self {
        Self { standing: Vec::with_capacity(PLACES), next: 0 }
    }
}

impl<T> Gate<T> {
    /// Returns the number of the next newcomer's place.
    pub(crate) fn new_place(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Gives the newest number's holder its place, and returns whoever had to make room.
    pub(crate) fn enter(&mut self, place: u64, source: Source, connection: T) -> Option<T> {
        let out = self.who_leaves(source).map(|index| self.standing.remove(index).2);
        self.standing.push((place, source, connection));
        out
    }

    /// Frees a place; whoever was put out already has none.
    pub(crate) fn leave(&mut self, place: u64) {
        if let Ok(index) = self.standing.binary_search_by_key(&place, |(place, ..)| *place) {
            self.standing.remove(index);
        }
    }

    fn who_leaves(&self, newcomer: Source) -> Option<usize> {
        let mut crowds = HashMap::<Source, usize>::new();
        for (_, source, _) in &self.standing {
            *crowds.entry(*source).or_default() += 1;
        }
        let from = if crowds.get(&newcomer).is_some_and(|crowd| *crowd >= PLACES_PER_ADDRESS) {
            newcomer
        } else if self.standing.len() >= PLACES {
            // Of equal crowds the one that has stood longest.
            let mut longest = None;
            for (_, source, _) in self.standing.iter().rev() {
                if longest.is_none_or(|(_, crowd)| crowds[source] >= crowd) {
                    longest = Some((*source, crowds[source]));
                }
            }
            longest?.0
        } else {
            return None;
        };
        self.standing.iter().position(|(_, source, _)| *source == from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(gate: &mut Gate<usize>, source: Source, connection: usize) -> Option<usize> {
        let place = gate.new_place();
        gate.enter(place, source, connection)
    }

    fn from(last: u8) -> Source {
        IpAddr::from([10, 0, 0, last]).into()
    }

    #[test]
    fn a_crowd_pushes_out_its_own_oldest() {
        let mut gate = Gate::default();
        for n in 0..PLACES_PER_ADDRESS {
            assert_eq!(enter(&mut gate, from(1), n), None);
        }
        assert_eq!(enter(&mut gate, from(2), 100), None);
        assert_eq!(enter(&mut gate, from(1), 101), Some(0));
        assert_eq!(enter(&mut gate, from(1), 102), Some(1));
    }

    /// A flood from many addresses must not be able to keep a single station out.
    #[test]
    fn when_all_places_are_taken_the_most_crowded_address_makes_room() {
        let mut gate = Gate::default();
        enter(&mut gate, from(200), 0);
        let good = gate.standing[0].0;
        for n in 1..10_000_usize {
            enter(&mut gate, from(u8::try_from(n % 8).unwrap()), n);
            assert!(gate.standing.len() <= PLACES);
        }
        assert_eq!(gate.standing[0].0, good, "the one station of its address was pushed out");
        gate.leave(good);
        gate.leave(good);
        assert_ne!(gate.standing[0].0, good);
    }

    #[test]
    fn neighbours_of_one_ipv6_network_count_as_one() {
        let a: IpAddr = "2001:db8::1".parse().unwrap();
        let b: IpAddr = "2001:db8::ffff:2".parse().unwrap();
        let c: IpAddr = "2001:db8:0:1::1".parse().unwrap();
        assert_eq!(Source::from(a), Source::from(b));
        assert_ne!(Source::from(a), Source::from(c));
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(Source::from(mapped), from(1));
    }
}
