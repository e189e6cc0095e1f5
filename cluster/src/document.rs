//! A revision of the document, and its bytes.

use std::{fmt, num::NonZeroU16, str::FromStr};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use keepshare_base::{
    ClusterId, OriginId, Role, Serial, SetName, Stamp, StationAddress, StationName,
};

use crate::limits::{BEFORE_MAX, HEADER_BYTES};

/// What a revision's bytes begin with.
pub(crate) const MAGIC: [u8; 4] = *b"KSCD";

/// The format of what follows.
pub(crate) const FORMAT: u16 = 1;

/// All share numbers are given away.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("there are as many sets as a cluster can have had, 65535")]
pub struct SharesGone;

/// The hash of a revision.
#[derive(Clone, Copy, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub struct DocumentHash(pub [u8; 32]);

/// The id of a set: the same whatever it is called, and never another set's.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct SetId(pub [u8; 16]);

/// Which revision a document is; a later one is greater.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Revision {
    /// How often the cluster was founded anew, from 1.
    pub reign: u32,
    /// Counts the revisions, from 1.
    pub number: u64,
}

/// One revision of what the cluster agrees on.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// The cluster that it is of.
    pub cluster: ClusterId,
    /// Which revision it is.
    pub revision: Revision,
    /// When it was made, by the primary's clock; a ground for nothing.
    pub issued: Stamp,
    /// The hashes of the revisions before it, the newest first, as many as are remembered.
    pub before: Vec<DocumentHash>,
    /// The stations, by name.
    pub members: Vec<Member>,
    /// Certificates that are refused, each with its end.
    pub revoked: Vec<(Serial, Stamp)>,
    /// The sets, by name.
    pub sets: Vec<Set>,
    /// The highest share number that was ever given; 0 for none.
    pub shares: u16,
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
    /// The numbers of its certificates that have not ended.
    pub certificates: Vec<Serial>,
}

/// A set of the cluster.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Set {
    /// What it is called.
    pub name: SetName,
    /// What it is, whatever it is called.
    pub id: SetId,
    /// Its number as a network drive.
    pub share: NonZeroU16,
    /// Where its users write, by origin.
    pub slots: Vec<Slot>,
    /// The highest origin that was ever given in it.
    pub origins: u32,
    /// The stations that keep a copy, by name.
    pub destinations: Vec<StationName>,
}

/// A place where users write.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    /// The origin of what is written there.
    pub origin: OriginId,
    /// On which station.
    pub station: StationName,
    /// In which folder.
    pub root: Root,
}

/// The root folder of a slot: an absolute path, as bytes.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Root(pub Vec<u8>);

impl Document {
    /// Returns the first revision of a cluster, which says nothing yet.
    pub fn first(cluster: ClusterId, issued: Stamp) -> Self {
        Self {
            cluster,
            revision: Revision { reign: 1, number: 1 },
            issued,
            before: Vec::new(),
            members: Vec::new(),
            revoked: Vec::new(),
            sets: Vec::new(),
            shares: 0,
        }
    }

    /// Returns a next revision that says the same.
    #[must_use]
    pub fn next(&self, issued: Stamp) -> Self {
        let mut next = self.clone();
        next.revision.number += 1;
        next.issued = issued;
        next.before.insert(0, self.hash());
        next.before.truncate(BEFORE_MAX);
        next
    }

    /// Tells whether the other revision says the same of stations and sets.
    pub fn says_what(&self, other: &Self) -> bool {
        let of = |document: &Self| {
            let Self { members, revoked, sets, shares, .. } = document.clone();
            (members, revoked, sets, shares)
        };
        of(self) == of(other)
    }

    /// Returns a station.
    pub fn member(&self, name: &StationName) -> Option<&Member> {
        self.members.iter().find(|member| member.name == *name)
    }

    /// Returns the station that may write revisions.
    pub fn primary(&self) -> Option<&Member> {
        self.members.iter().find(|member| member.role == Role::Primary)
    }

    /// Returns a set.
    pub fn set(&self, name: &SetName) -> Option<&Set> {
        self.sets.iter().find(|set| set.name == *name)
    }

    /// Adds a set under the next share number, with one slot.
    pub fn add_set(
        &mut self,
        name: SetName,
        id: SetId,
        (station, root): (StationName, Root),
        mut destinations: Vec<StationName>,
    ) -> Result<(), SharesGone> {
        let share = self.shares.checked_add(1).and_then(NonZeroU16::new);
        let share = share.ok_or(SharesGone)?;
        self.shares = share.get();
        destinations.sort();
        destinations.dedup();
        let slots = vec![Slot { origin: OriginId(1), station, root }];
        self.sets.push(Set { name, id, share, slots, origins: 1, destinations });
        self.sets.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(())
    }

    /// Returns its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let body = postcard::to_stdvec(self).expect("a document of lists and texts encodes");
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&body);
        bytes
    }

    /// Returns the hash by which later revisions name this one.
    pub fn hash(&self) -> DocumentHash {
        DocumentHash(blake3::derive_key("keepshare cluster document v1", &self.encode()))
    }
}

impl Set {
    /// Returns the slot that a station has.
    pub fn slot_of(&self, station: &StationName) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.station == *station)
    }

    /// Tells whether a station keeps a copy.
    pub fn is_kept_by(&self, station: &StationName) -> bool {
        self.destinations.contains(station)
    }

    /// Returns the slot that one station may bring to another; why none, otherwise.
    pub fn slot_between(&self, from: &StationName, to: &StationName) -> Result<&Slot, NotBrought> {
        if !self.is_kept_by(to) {
            return Err(NotBrought::NotKept { set: self.name.clone(), by: to.clone() });
        }
        let no_master = || NotBrought::NoMaster { set: self.name.clone(), station: from.clone() };
        self.slot_of(from).ok_or_else(no_master)
    }
}

/// Why a station may not bring a set to another one.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotBrought {
    /// The other station is no destination of it.
    #[error("set {set} is not to be kept by {by}")]
    NotKept {
        /// The set.
        set: SetName,
        /// The other station.
        by: StationName,
    },
    /// It has no slot of it.
    #[error("{station} is no master of set {set}")]
    NoMaster {
        /// The set.
        set: SetName,
        /// The station.
        station: StationName,
    },
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reign {
            1 => self.number.fmt(f),
            reign => write!(f, "{reign}.{}", self.number),
        }
    }
}

/// A text that is no set's id.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("this is no id of a set; they have 32 digits of 0-9 and a-f")]
pub struct SetIdError;

impl FromStr for SetId {
    type Err = SetIdError;

    fn from_str(text: &str) -> Result<Self, SetIdError> {
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| SetIdError)?;
        bytes.try_into().map(Self).map_err(|_| SetIdError)
    }
}

keepshare_base::shown_as_hex!(DocumentHash SetId);
