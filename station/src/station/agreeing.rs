//! How a station acts on what the cluster agrees on, and how the primary writes it down.
//!
//! A station's part of every set follows from the document; what a station knows beyond it, such as the numbers under which it
//! gave out handles, stays its own.

use std::{
    ffi::OsStr,
    num::NonZeroU16,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::PathBuf,
    sync::{Arc, PoisonError},
    time::Duration,
};

use anyhow::Context;

use keepshare_base::{Stamp, StationName};
use keepshare_cluster::{Document, Member, Root, Set, SetId};
use keepshare_control::{Failure, Outcome};
use keepshare_host::clock;
use keepshare_identity::{Enrolment, Register};

use keepshare_sets::{
    parts::Opened,
    record::{CopyPart, LivePart, SetPart, SetRecord, SourcePart},
};

use super::Station;
use crate::drive;

/// How often time is counted, and tried again what failed.
const TICK: Duration = Duration::from_secs(60);

impl Station {
    /// Acts on every revision that holds, until the station stops; counts the time for what is kept for a day more.
    pub(crate) async fn keep_agreeing(self: Arc<Self>) {
        let (mut stop, mut held) = (self.stopping(), self.agreed.watch());
        let mut tick = tokio::time::interval(TICK);
        let mut seen_us = clock::up_micros();
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                Ok(()) = held.changed() => {}
                _ = tick.tick() => {
                    let now_us = clock::up_micros();
                    let ran_s = running_s(now_us.saturating_sub(seen_us));
                    seen_us = now_us;
                    if let Err(error) = self.agreed.ran(ran_s) {
                        let error = keepshare_base::chain(&error);
                        tracing::warn!(%error, "cannot note for how long a set was kept");
                    }
                }
            }
            let station = Arc::clone(&self);
            let followed = tokio::task::spawn_blocking(move || {
                // What fails is told, and tried again at the next tick.
                let _ = station.publish_register();
                station.follow()
            });
            let followed = followed.await;
            match followed {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => {
                    tracing::error!(error = %failure, "cannot act on the cluster's document");
                }
                Err(error) => tracing::error!(%error, "acting on the cluster's document failed"),
            }
        }
    }

    /// Acts on the revision that holds: a set that is new here is received, and one that is to be kept no more is not. Blocks.
    pub(crate) fn follow(self: &Arc<Self>) -> Outcome<()> {
        let Some(held) = self.agreed.held() else { return Ok(()) };
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let document = &held.document;
        let refused = document.revoked.iter().map(|(serial, _)| *serial);
        self.peers.tls().revocations().revoke(refused);
        self.peers.moved();
        let before = {
            let sets = self.lock_sets();
            if sets.closed {
                return Ok(());
            }
            sets.records.clone()
        };
        let mut records = before.clone();
        merge(&mut records, document, &self.config.name);
        drive::number(&mut records)?;
        for record in &before {
            let set = document.set(&record.name);
            let is_kept = set.is_some_and(|set| set.is_kept_by(&self.config.name));
            let copy = self.running(&record.name).and_then(|running| running.copy().cloned());
            if let Some(copy) = copy.filter(|_| !is_kept) {
                copy.end_link();
            }
        }
        for record in &records {
            let is_same =
                |known: &SetRecord| known.name != record.name || known.part == record.part;
            if !before.iter().all(is_same) {
                tracing::warn!(set = %record.name, "another part of the set: start the station anew");
            }
        }
        let is_new = |record: &&SetRecord| before.iter().all(|known| known.name != record.name);
        let mut opened = Vec::new();
        for record in records.iter().filter(is_new) {
            tracing::info!(set = %record.name, "a new set");
            let set = Opened::open(&self.context(), record);
            for failure in set.running.failures() {
                tracing::error!(set = %record.name, error = %failure, "cannot open a set");
            }
            opened.push((record.clone(), set));
        }
        if records != before {
            self.state.save_sets(&records)?;
        }
        self.state.put_former_aside(&records)?;
        let mut sets = self.lock_sets();
        if sets.closed {
            drop(sets);
            opened.into_iter().for_each(|(_, set)| set.close());
            return Ok(());
        }
        sets.records = records;
        for (record, set) in opened {
            self.begin(&mut sets, &record, set);
        }
        Ok(())
    }

    /// Brings the records of sets to what the document says, before they are opened; writes the document first where this is the
    /// primary and there is none. Blocks.
    pub(super) fn agree(&self, records: &mut Vec<SetRecord>) -> Outcome<()> {
        if let Some(enrolment) = &self.enrolment
            && self.agreed.held().is_none()
            && self.state.lost_sets().is_empty()
        {
            self.found(enrolment, records)?;
        }
        let Some(held) = self.agreed.held() else { return Ok(()) };
        let refused = held.document.revoked.iter().map(|(serial, _)| *serial);
        self.peers.tls().revocations().revoke(refused);
        merge(records, &held.document, &self.config.name);
        Ok(())
    }

    /// Writes the first revision: what was known without one.
    fn found(&self, enrolment: &Enrolment, records: &[SetRecord]) -> Outcome<()> {
        let (now, here) = (clock::now(), &self.config.name);
        let register = enrolment.register(now).context("cannot read the list of stations")?;
        let sets = records.iter().map(|record| Ok((record, new_id()?)));
        let sets = sets.collect::<Outcome<Vec<_>>>()?;
        self.agreed.publish(enrolment.ca(), now, |document| {
            write_register(document, register, now);
            for (record, id) in sets {
                write_set(document, record, id, here)?;
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Writes the next revision where the list of stations is another one than the document says; on the primary alone. What fails
    /// is told, too, and tried again. Blocks.
    pub(crate) fn publish_register(&self) -> Outcome<()> {
        let published = self.try_publish_register();
        let why = published.as_ref().err().map(Failure::one_line);
        if let Some(error) = &why {
            tracing::error!(%error, "cannot write the cluster's document");
        }
        self.agreed.set_unwritten(why);
        published
    }

    fn try_publish_register(&self) -> Outcome<()> {
        let Some(enrolment) = self.enrolment.as_ref().filter(|_| self.agreed.held().is_some())
        else {
            return Ok(());
        };
        let now = clock::now();
        let register = enrolment.register(now).context("cannot read the list of stations")?;
        self.agreed.publish(enrolment.ca(), now, |document| {
            write_register(document, register, now);
            Ok(())
        })?;
        Ok(())
    }

    /// Writes the next revision with one more set, whose source is here; returns its record as it follows from that. Blocks.
    pub(super) fn publish_set(&self, record: &SetRecord) -> Outcome<SetRecord> {
        let Some(enrolment) = self.enrolment.as_ref().filter(|_| self.agreed.held().is_some())
        else {
            return Ok(record.clone());
        };
        let (id, here) = (new_id()?, &self.config.name);
        self.agreed.publish(enrolment.ca(), clock::now(), |document| {
            if document.set(&record.name).is_some() {
                return Err(Failure::refused(format!(
                    "there is a set '{}' in the cluster already",
                    record.name
                ))
                .hint("give the new set another name"));
            }
            write_set(document, record, id, here)
        })?;
        let held = self.agreed.held();
        let set = held.as_ref().and_then(|held| held.document.set(&record.name));
        let part = set.and_then(|set| part_of(set, here));
        Ok(SetRecord { part: part.unwrap_or_else(|| record.part.clone()), ..record.clone() })
    }

    /// Takes a set out of the document again that could not be remembered. Blocks.
    pub(super) fn withdraw_set(&self, record: &SetRecord) {
        let Some(enrolment) = &self.enrolment else { return };
        let withdrawn = self.agreed.publish(enrolment.ca(), clock::now(), |document| {
            document.sets.retain(|set| set.name != record.name);
            Ok(())
        });
        if let Err(failure) = withdrawn {
            tracing::error!(set = %record.name, error = %failure, "cannot take a set back");
        }
    }
}

/// Returns for how many seconds a station ran that counted so much time: a machine that sleeps does not run.
fn running_s(passed_us: u64) -> u64 {
    (passed_us / 1_000_000).min(2 * TICK.as_secs())
}

/// Brings this station's part of every set to what the document says. A set that the document does not know, or not here, is left
/// as it is: what is kept is not forgotten.
fn merge(records: &mut Vec<SetRecord>, document: &Document, here: &StationName) {
    for set in &document.sets {
        let Some(part) = part_of(set, here) else { continue };
        let share = set.share.get();
        let is_free = records.iter().all(|record| record.share != Some(share));
        let share = Some(share).filter(|_| is_free && part.copy.is_some());
        match records.iter_mut().find(|record| record.name == set.name) {
            Some(record) => {
                record.part = part;
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
fn part_of(set: &Set, here: &StationName) -> Option<SetPart> {
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

/// Writes down who is in the cluster. A register that came from an older backup knows less: what it does not know stays.
fn write_register(document: &mut Document, Register { members, refused }: Register, now: Stamp) {
    let member = |(member, mut certificates): (keepshare_identity::Member, Vec<_>)| {
        certificates.sort();
        let keepshare_identity::Member { name, role, address, joined } = member;
        Member { name, role, address, joined, certificates }
    };
    let members: Vec<Member> = members.into_iter().map(member).collect();
    document.members.retain(|known| members.iter().all(|member| member.name != known.name));
    document.members.extend(members);
    document.members.sort_by(|a, b| a.name.cmp(&b.name));
    document.revoked.extend(refused);
    document.revoked.retain(|(_, ends)| *ends > now);
    document.revoked.sort();
    document.revoked.dedup_by_key(|(serial, _)| *serial);
}

/// Writes down a set whose source is on this station.
fn write_set(
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

fn new_id() -> Outcome<SetId> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).context("there are no random numbers")?;
    Ok(SetId(id))
}

#[cfg(test)]
mod tests {
    use keepshare_base::{ClusterId, OriginId, Role, Serial};

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

    /// A primary whose database came from an older backup must not put out who joined since.
    #[test]
    fn a_register_that_forgot_puts_nobody_out() {
        let mut document = document(&["store"]);
        document.revoked = vec![(Serial([1; 16]), Stamp(50)), (Serial([2; 16]), Stamp(5))];
        let office = keepshare_identity::Member {
            name: name("office"),
            role: Role::Primary,
            address: "elsewhere:7846".parse().unwrap(),
            joined: Stamp(1),
        };
        let members = vec![(office, vec![Serial([4; 16]), Serial([3; 16])])];
        let refused = vec![(Serial([1; 16]), Stamp(50)), (Serial([5; 16]), Stamp(60))];
        write_register(&mut document, Register { members, refused }, Stamp(10));
        assert_eq!(document.check(), Ok(()));
        assert_eq!(document.members.len(), 2);
        assert_eq!(document.members[0].address.as_str(), "elsewhere:7846");
        assert_eq!(document.members[0].certificates, [Serial([3; 16]), Serial([4; 16])]);
        let left: Vec<_> = document.revoked.iter().map(|(serial, _)| serial.0[0]).collect();
        assert_eq!(left, [1, 5], "what has ended by itself is no use");
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

    #[test]
    fn a_machine_that_slept_did_not_run() {
        assert_eq!(running_s(60_400_000), 60);
        assert_eq!(running_s(86_400_000_000), 120);
    }
}
