//! How much of a door one sender may hold: decided here for every door, done by each.
//!
//! A newcomer never waits for a place, and is never refused one: where there is none, the connection that was silent
//! longest makes room, of the newcomer's own address first where that has its share. Strangers make room before those who
//! have shown who they are, and keep a few places among them, so that somebody can always come to show it. In a flood nobody
//! was silent for long; there the most crowded address makes room.
//!
//! A connection that waits for *us* is not silent. Told the time, in milliseconds of any clock that does not go back.

#[cfg(test)]
mod tests;

use core::net::IpAddr;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    hash::Hash,
    sync::Arc,
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};

use crate::source::{Source, source};

/// How many places there are.
#[derive(Clone, Copy, Debug)]
pub struct Shares {
    /// In all.
    pub places: usize,
    /// Of one address, or one /64 of IPv6.
    pub of_an_address: usize,
    /// Of one address, for those who have not shown who they are.
    pub of_an_addresses_strangers: usize,
    /// Of one holder, whatever the addresses.
    pub of_a_holder: usize,
    /// Of holders that are akin, together.
    pub of_kin: usize,
}

impl Shares {
    /// Returns so many places where nobody is known before the place is given up: only addresses have shares.
    pub const fn of_strangers(places: usize, of_an_address: usize) -> Self {
        Self {
            places,
            of_an_address,
            of_an_addresses_strangers: of_an_address,
            of_a_holder: of_an_address,
            of_kin: of_an_address,
        }
    }
}

/// Whose a connection or a turn is.
pub trait Holder: Clone + Eq + Hash {
    /// Tells whether both came by one leave, and have a share together beside each one's own.
    fn is_akin(&self, other: &Self) -> bool {
        self == other
    }
}

impl Holder for Infallible {}

impl Holder for String {}

/// When a connection gave a sign of life, as it and the gate share it.
#[derive(Debug, Default)]
pub struct Pulse {
    last_ms: AtomicU64,
    has_spoken: AtomicBool,
    /// How much of our own work the connection waits for.
    working: AtomicU32,
}

impl Pulse {
    /// Notes that something came, or was taken.
    pub fn beat(&self, now_ms: u64) {
        self.last_ms.store(now_ms, Ordering::Relaxed);
        if !self.has_spoken.load(Ordering::Relaxed) {
            self.has_spoken.store(true, Ordering::Relaxed);
        }
    }

    /// Notes that we begin something for which the connection waits, until what is returned is dropped.
    pub fn work(self: &Arc<Self>) -> Work {
        self.working.fetch_add(1, Ordering::Relaxed);
        Work(Arc::clone(self))
    }

    /// Tells whether the connection waits for something that we began.
    pub fn is_working(&self) -> bool {
        self.working.load(Ordering::Relaxed) > 0
    }

    /// Returns for how long nothing came while nothing was owed; zero while the connection waits for us.
    pub fn silence_ms(&self, now_ms: u64) -> u64 {
        match self.working.load(Ordering::Relaxed) {
            0 => now_ms.saturating_sub(self.last_ms.load(Ordering::Relaxed)),
            _ => 0,
        }
    }

    fn is_owed(&self) -> bool {
        self.working.load(Ordering::Relaxed) > 0
    }
}

/// Something that a connection waits for.
#[derive(Debug)]
pub struct Work(Arc<Pulse>);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.working.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The places of a door. `C` is a connection, `H` whose it is once that is known.
#[derive(Debug)]
pub struct Gate<C, H> {
    shares: Shares,
    standing: BTreeMap<u64, Standing<C, H>>,
    next: u64,
}

#[derive(Debug)]
struct Standing<C, H> {
    source: Source,
    pulse: Arc<Pulse>,
    holder: Option<H>,
    connection: C,
}

impl<C, H: Holder> Gate<C, H> {
    /// Returns a gate where nobody stands.
    pub fn new(shares: Shares) -> Self {
        Self { shares, standing: BTreeMap::new(), next: 0 }
    }

    /// Returns the number of the next newcomer's place.
    pub fn new_place(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Gives a newcomer its place, and returns those that have to make room.
    pub fn enter(
        &mut self,
        place: u64,
        from: IpAddr,
        pulse: Arc<Pulse>,
        connection: C,
        now_ms: u64,
    ) -> Vec<C> {
        let source = source(from);
        let mut out = Vec::new();
        out.extend(self.make_room_at(source, now_ms));
        if self.standing.len() >= self.shares.places {
            out.extend(self.make_room(now_ms));
        }
        pulse.last_ms.store(now_ms, Ordering::Relaxed);
        self.standing.insert(place, Standing { source, pulse, holder: None, connection });
        out
    }

    /// Notes whose a connection is, and returns another one of theirs that has to make room for it.
    pub fn belongs(&mut self, place: u64, holder: H, now_ms: u64) -> Option<C> {
        let standing = self.standing.get_mut(&place)?;
        standing.holder = Some(holder.clone());
        let is_theirs = |standing: &Standing<C, H>| standing.holder.as_ref() == Some(&holder);
        if self.count(is_theirs) <= self.shares.of_a_holder {
            return self.make_room_among_kin(place, &holder, now_ms);
        }
        let others = self
            .standing
            .iter()
            .filter(|(other, standing)| **other != place && is_theirs(standing));
        // It is theirs to say which they need: the one silent longest, and of equals whoever came first.
        let out = others.max_by_key(|(other, standing)| {
            (!standing.pulse.is_owed(), standing.pulse.silence_ms(now_ms), Reverse(**other))
        });
        let out = out.map(|(out, _)| *out)?;
        self.take(out)
    }

    /// Frees a place; whoever made room has none any more. Tells whether there was one.
    pub fn leave(&mut self, place: u64) -> bool {
        self.standing.remove(&place).is_some()
    }

    /// Frees the places of the connections that `which` picks, and returns these.
    pub fn end(&mut self, mut which: impl FnMut(&C) -> bool) -> Vec<C> {
        let ended = self.standing.iter().filter(|(_, standing)| which(&standing.connection));
        let ended: Vec<_> = ended.map(|(place, _)| *place).collect();
        ended.into_iter().filter_map(|place| self.take(place)).collect()
    }

    /// Returns the connections, those that came first before others.
    pub fn connections(&self) -> impl Iterator<Item = &C> {
        self.standing.values().map(|standing| &standing.connection)
    }

    /// Makes room where the newcomer's address has its share.
    fn make_room_at(&mut self, source: Source, now_ms: u64) -> Option<C> {
        let here = |standing: &Standing<C, H>| standing.source == source;
        let strangers = self.count(|standing| here(standing) && standing.holder.is_none());
        let is_crowded = self.count(here) >= self.shares.of_an_address;
        if strangers < self.shares.of_an_addresses_strangers && !is_crowded {
            return None;
        }
        let stranger =
            self.who_leaves(now_ms, |_, standing| here(standing) && standing.holder.is_none());
        let out = stranger.or_else(|| self.who_leaves(now_ms, |_, standing| here(standing)))?;
        self.take(out)
    }

    /// Makes room where a holder and its kin have their share: of any of them, as where all places are taken.
    fn make_room_among_kin(&mut self, place: u64, holder: &H, now_ms: u64) -> Option<C> {
        let are_kin = |standing: &Standing<C, H>| {
            standing.holder.as_ref().is_some_and(|other| other.is_akin(holder))
        };
        if self.count(are_kin) <= self.shares.of_kin {
            return None;
        }
        let out = self.who_leaves(now_ms, |other, standing| other != place && are_kin(standing))?;
        self.take(out)
    }

    /// Makes room where all places are taken.
    fn make_room(&mut self, now_ms: u64) -> Option<C> {
        let strangers = self.count(|standing| standing.holder.is_none());
        let stranger = || self.who_leaves(now_ms, |_, standing| standing.holder.is_none());
        let known = || {
            self.who_leaves(now_ms, |_, standing| {
                let silence = standing.pulse.silence_ms(now_ms);
                standing.holder.is_some() && silence >= KNOWN_FRESH_MS
            })
        };
        let out = match strangers > self.shares.places / STRANGERS_PART {
            true => stranger(),
            false => known().or_else(stranger),
        };
        let out = out.or_else(|| self.who_leaves(now_ms, |_, _| true))?;
        self.take(out)
    }

    /// Returns the one that was silent longest of those that `which` picks, or, where nobody was silent for long, one of
    /// the most crowded address.
    fn who_leaves(&self, now_ms: u64, which: impl Fn(u64, &Standing<C, H>) -> bool) -> Option<u64> {
        let of_these = || self.standing.iter().filter(|(place, standing)| which(**place, standing));
        let silence = |standing: &Standing<C, H>| standing.pulse.silence_ms(now_ms);
        // Of equals, whoever came first.
        let longest =
            of_these().max_by_key(|(place, standing)| (silence(standing), Reverse(**place)));
        let (place, longest) = longest?;
        if silence(longest) >= FRESH_MS {
            return Some(*place);
        }
        let mut crowds = HashMap::<Source, usize>::new();
        for (_, standing) in of_these() {
            *crowds.entry(standing.source).or_default() += 1;
        }
        let order = |(place, standing): &(&u64, &Standing<C, H>)| {
            let has_spoken = standing.pulse.has_spoken.load(Ordering::Relaxed);
            let crowd = crowds[&standing.source];
            (!standing.pulse.is_owed(), crowd, !has_spoken, silence(standing), Reverse(**place))
        };
        of_these().max_by_key(order).map(|(place, _)| *place)
    }

    fn count(&self, which: impl Fn(&Standing<C, H>) -> bool) -> usize {
        self.standing.values().filter(|standing| which(standing)).count()
    }

    fn take(&mut self, place: u64) -> Option<C> {
        self.standing.remove(&place).map(|standing| standing.connection)
    }
}

/// A shorter silence is none: an answer on a slow line is on its way.
const FRESH_MS: u64 = 1000;

/// A shorter silence of somebody known is none where strangers want the place.
const KNOWN_FRESH_MS: u64 = 10_000;

/// The part of all places that strangers keep, as a divisor.
const STRANGERS_PART: usize = 8;
