//! What a revision may say, by itself and after another one.

use std::collections::BTreeSet;

use keepshare_base::{OriginId, Role, SetName, StationName};

use crate::{
    Document, Member, Set,
    limits::{
        BEFORE_MAX, CERTIFICATES_MAX, DESTINATIONS_MAX, DOCUMENT_BYTES_MAX, HEADER_BYTES,
        MEMBERS_MAX, REVOKED_MAX, ROOT_BYTES_MAX, SETS_MAX, SLOTS_MAX,
    },
};

/// A rule that a revision breaks.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// A reign or a number that does not exist.
    #[error("revisions count from 1")]
    Revision,
    /// Hashes of fewer or more revisions before it than there were.
    #[error("the document does not name the revisions before it")]
    Before,
    /// More of something than there may be.
    #[error("there are more {0} than a cluster may have")]
    TooMany(&'static str),
    /// The whole is too long.
    #[error("the document is longer than {DOCUMENT_BYTES_MAX} bytes")]
    TooLong,
    /// Something twice, or in another order than the one there is.
    #[error("the {0} are not in order, or one is there twice")]
    Order(&'static str),
    /// None, or more than one that may write.
    #[error("a cluster has one primary")]
    Primaries,
    /// A station that is not of the cluster.
    #[error("set {set} names {station}, which is no station of the cluster")]
    NoMember {
        /// Of which set.
        set: SetName,
        /// Which name.
        station: StationName,
    },
    /// A set without a place to write, or one whose origin does not exist.
    #[error("set {0} has no slot, or one that cannot be")]
    Slots(SetName),
    /// A station that has two slots of one set.
    #[error("{station} has two slots of set {set}")]
    TwoSlots {
        /// Of which set.
        set: SetName,
        /// Which station.
        station: StationName,
    },
    /// A root folder that is no absolute path.
    #[error("set {0} has a root folder that is no absolute path")]
    Root(SetName),
    /// An id or a share number that two sets have.
    #[error("set {0} has the id or the share number of another set")]
    Twice(SetName),
    /// A number that was given before.
    #[error("set {0} has a number that was given away before")]
    GivenBefore(SetName),
    /// A set that has another number than it had.
    #[error("set {0} has another share number than it had")]
    Renumbered(SetName),
    /// Share numbers that were given away could be given again.
    #[error("share numbers do not count back")]
    SharesBack,
    /// Another station is the primary, and the cluster was not founded anew.
    #[error("{0} is not the primary of this cluster")]
    OtherPrimary(StationName),
}

impl Document {
    /// Checks that it breaks no rule by itself.
    pub fn check(&self) -> Result<(), RuleError> {
        check(self)
    }
}

fn check(document: &Document) -> Result<(), RuleError> {
    let Document { revision, before, members, revoked, sets, .. } = document;
    if revision.reign == 0 || revision.number == 0 {
        return Err(RuleError::Revision);
    }
    let remembered = usize::try_from(revision.number - 1).unwrap_or(BEFORE_MAX).min(BEFORE_MAX);
    if before.len() > remembered || (revision.reign == 1 && before.len() < remembered) {
        return Err(RuleError::Before);
    }
    at_most(members.len(), MEMBERS_MAX, "stations")?;
    at_most(revoked.len(), REVOKED_MAX, "refused certificates")?;
    at_most(sets.len(), SETS_MAX, "sets")?;
    in_order(members.iter().map(|member| &member.name), "stations")?;
    in_order(revoked.iter().map(|(serial, _)| serial), "refused certificates")?;
    in_order(sets.iter().map(|set| &set.name), "sets")?;
    members.iter().try_for_each(check_member)?;
    if members.iter().filter(|member| member.role == Role::Primary).count() != 1 {
        return Err(RuleError::Primaries);
    }
    let (mut ids, mut shares) = (BTreeSet::new(), BTreeSet::new());
    for set in sets {
        check_set(document, set)?;
        if !ids.insert(set.id) || !shares.insert(set.share) {
            return Err(RuleError::Twice(set.name.clone()));
        }
    }
    if document.encode().len() > HEADER_BYTES + DOCUMENT_BYTES_MAX {
        return Err(RuleError::TooLong);
    }
    Ok(())
}

fn check_member(member: &Member) -> Result<(), RuleError> {
    at_most(member.certificates.len(), CERTIFICATES_MAX, "certificates of a station")?;
    in_order(member.certificates.iter(), "certificates")
}

fn check_set(document: &Document, set: &Set) -> Result<(), RuleError> {
    let Set { name, slots, destinations, .. } = set;
    at_most(slots.len(), SLOTS_MAX, "slots of a set")?;
    at_most(destinations.len(), DESTINATIONS_MAX, "destinations of a set")?;
    in_order(slots.iter().map(|slot| slot.origin), "slots")?;
    in_order(destinations.iter(), "destinations")?;
    let is_given = |origin: OriginId| origin != OriginId::SET && origin.0 <= set.origins;
    if slots.is_empty() || !slots.iter().all(|slot| is_given(slot.origin)) {
        return Err(RuleError::Slots(name.clone()));
    }
    if set.share.get() > document.shares {
        return Err(RuleError::GivenBefore(name.clone()));
    }
    let named = slots.iter().map(|slot| &slot.station).chain(destinations);
    if let Some(station) = named.clone().find(|station| document.member(station).is_none()) {
        return Err(RuleError::NoMember { set: name.clone(), station: station.clone() });
    }
    let mut holders = BTreeSet::new();
    for slot in slots {
        if !holders.insert(&slot.station) {
            let (set, station) = (name.clone(), slot.station.clone());
            return Err(RuleError::TwoSlots { set, station });
        }
        let path = &slot.root.0;
        if path.first() != Some(&b'/') || path.contains(&0) || path.len() > ROOT_BYTES_MAX {
            return Err(RuleError::Root(name.clone()));
        }
    }
    Ok(())
}

/// Checks what a later revision may not say after an earlier one, however many lie between.
pub(crate) fn check_after(old: &Document, new: &Document) -> Result<(), RuleError> {
    if old.revision.reign == new.revision.reign {
        let primary = |document: &Document| document.primary().map(|member| member.name.clone());
        if let (Some(was), Some(is)) = (primary(old), primary(new))
            && was != is
        {
            return Err(RuleError::OtherPrimary(is));
        }
    }
    for set in &new.sets {
        let gone = || RuleError::GivenBefore(set.name.clone());
        match old.sets.iter().find(|known| known.id == set.id) {
            Some(known) if known.share != set.share => {
                return Err(RuleError::Renumbered(set.name.clone()));
            }
            Some(known) => {
                let is_new = |origin| known.slots.iter().all(|slot| slot.origin != origin);
                let is_again = |origin: OriginId| is_new(origin) && origin.0 <= known.origins;
                if set.slots.iter().any(|slot| is_again(slot.origin)) || set.origins < known.origins
                {
                    return Err(gone());
                }
            }
            None if set.share.get() <= old.shares => return Err(gone()),
            None => {}
        }
    }
    if new.shares < old.shares {
        return Err(RuleError::SharesBack);
    }
    Ok(())
}

fn at_most(count: usize, most: usize, what: &'static str) -> Result<(), RuleError> {
    if count > most { Err(RuleError::TooMany(what)) } else { Ok(()) }
}

fn in_order<T: Ord>(items: impl Iterator<Item = T>, what: &'static str) -> Result<(), RuleError> {
    if items.is_sorted_by(|a, b| a < b) { Ok(()) } else { Err(RuleError::Order(what)) }
}
