//! A station's part of a set as the cluster's document says it, and the other way round.

use std::{
    ffi::OsStr,
    num::NonZeroU16,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::PathBuf,
};

use anyhow::Context;

use keepshare_base::StationName;
use keepshare_cluster::{Document, Root, Set, SetId};
use keepshare_control::Outcome;

use crate::record::{CopyPart, LivePart, SetPart, SetRecord, SourcePart};

/// Brings this station's part of every set to what the document says. A set that the document does not know, or not here, is left
/// as it is: what is kept is not forgotten.
pub fn merge(records: &mut Vec<SetRecord>, document: &Document, here: &StationName) {
    for set in &document.sets {
        let Some(part) = part_of(set, here) else { continue };
        let share = set.share.get();
        let is_free = records.iter().all(|record| record.share != Some(share));
        let share = Some(share).filter(|_| is_free && part.copy.is_some());
        match records.iter_mut().find(|record| record.name == set.name) {
            Some(record) => {
                // What is to be kept no more is not forgotten on the spot.
                let copy = part.copy.or(record.part.copy.take());
                record.part = SetPart { copy, ..part };
                record.share = record.share.or(share);
            }
            None => {
                records.push(SetRecord { share, ..SetRecord::new(set.name.clone(), part) });
            }
        }
    }
    records.sort_by(|a, b| a.name.cmp(&b.name));
}

/// Returns a station's part of a set, as the document says.
pub fn part_of(set: &Set, here: &StationName) -> Option<SetPart> {
    let own = set.slot_of(here);
    let source = own.map(|slot| SourcePart {
        origin: slot.origin,
        folder: PathBuf::from(OsStr::from_bytes(&slot.root.0)),
        to: set.destinations.iter().filter(|to| *to != here).cloned().collect(),
    });
    let received = own.or(set.slots.first()).filter(|_| set.is_kept_by(here));
    let copy = received.map(|slot| CopyPart {
        origin: slot.origin,
        from: slot.station.clone(),
        live: if own.is_some() { LivePart::InPlace } else { LivePart::Own },
    });
    let part = SetPart { source, copy };
    (part != SetPart::default()).then_some(part)
}

/// Writes down a set whose source is on this station.
pub fn write_set(
    document: &mut Document,
    record: &SetRecord,
    id: SetId,
    here: &StationName,
) -> Outcome<()> {
    let SetRecord { name, part, .. } = record;
    let Some(source) = &part.source else {
        tracing::warn!(set = %name, "a set that is mastered elsewhere is not in the document");
        return Ok(());
    };
    let folder = std::path::absolute(&source.folder).context("the folder has no path")?;
    let root = Root(folder.into_os_string().into_vec());
    let is_known = |to: &StationName| document.member(to).is_some();
    let (mut to, unknown): (Vec<_>, Vec<_>) = source.to.iter().cloned().partition(is_known);
    for station in unknown {
        tracing::warn!(set = %name, %station, "the set was sent to what is no station of the cluster");
    }
    to.extend(part.copy.as_ref().map(|_| here.clone()));
    document
        .add_set(name.clone(), id, (here.clone(), root), to)
        .context("the set cannot be added")?;
    // Handles of this set were given out under its number here already.
    if let Some(share) = record.share.and_then(NonZeroU16::new)
        && document.sets.iter().all(|set| set.share != share)
        && let Some(set) = document.sets.iter_mut().find(|set| set.name == *name)
    {
        set.share = share;
        document.shares = document.shares.max(share.get());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use keepshare_base::{ClusterId, OriginId, Role, Stamp};
    use keepshare_cluster::Member;

    use super::*;

    fn name(text: &str) -> StationName {
        text.parse().unwrap()
    }

    fn document(to: &[&str]) -> Document {
        let mut document = Document::first(ClusterId([7; 16]), Stamp(9));
        for (station, role) in [("office", Role::Primary), ("store", Role::Replica)] {
            document.members.push(Member {
                name: name(station),
                role,
                address: "host:7846".parse().unwrap(),
                joined: Stamp(1),
                certificates: Vec::new(),
            });
        }
        let to = to.iter().map(|to| name(to)).collect();
        let master = (name("office"), Root(b"/srv/work".to_vec()));
        document.add_set("work".parse().unwrap(), SetId([1; 16]), master, to).unwrap();
        document
    }

    /// Every station knows its part from the same document.
    #[test]
    fn a_part_follows_from_the_document() {
        let both = document(&["office", "store"]);
        let (mut office, mut store, mut attic) = (Vec::new(), Vec::new(), Vec::new());
        merge(&mut office, &both, &name("office"));
        merge(&mut store, &both, &name("store"));
        merge(&mut attic, &both, &name("attic"));
        let (folder, to) = ("/srv/work".into(), vec![name("store")]);
        let kept = SetPart::kept_in_place(OriginId(1), name("office"), folder, to);
        assert_eq!((office[0].part.clone(), office[0].share), (kept, Some(1)));
        let received = SetPart::received(OriginId(1), name("office"));
        assert_eq!((store[0].part.clone(), store[0].share), (received, Some(1)));
        assert_eq!(attic, []);
    }

    /// A drive that is mounted goes by the number that its handles carry.
    #[test]
    fn numbers_that_were_given_here_stay() {
        let received = |set: &str, share| {
            let part = SetPart::received(OriginId(1), name("office"));
            SetRecord { share, ..SetRecord::new(set.parse().unwrap(), part) }
        };
        let mut records = vec![received("mail", Some(1)), received("work", Some(4))];
        merge(&mut records, &document(&["store"]), &name("store"));
        assert_eq!(records, [received("mail", Some(1)), received("work", Some(4))]);
        let mut records = vec![received("mail", Some(1))];
        merge(&mut records, &document(&["store"]), &name("store"));
        assert_eq!(records, [received("mail", Some(1)), received("work", None)]);
    }

    /// What is to be kept no more is not forgotten on the spot.
    #[test]
    fn a_set_that_is_not_here_any_more_is_left_alone() {
        let mut records = Vec::new();
        merge(&mut records, &document(&["store"]), &name("store"));
        let before = records.clone();
        merge(&mut records, &document(&[]), &name("store"));
        assert_eq!(records, before);
    }
}
