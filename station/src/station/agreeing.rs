//! How a station acts on what the cluster agrees on, and how the primary writes it down.
//!
//! A station's part of every set follows from the document; what a station knows beyond it, such as the numbers under which it
//! gave out handles, stays its own.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use anyhow::Context;

use keepshare_cluster::SetId;
use keepshare_control::{Failure, Outcome};
use keepshare_host::clock;
use keepshare_identity::Enrolment;
use keepshare_sets::{
    agreed::{merge, part_of, write_set},
    parts::Opened,
    record::{SetRecord, number},
};

use super::Station;
use crate::membership::write_register;

/// How often time is counted, and tried again what failed.
const TICK: Duration = Duration::from_secs(60);

impl Station {
    /// Acts on every revision that holds, until the station stops; counts the time for what is kept for a day more.
    pub(crate) async fn keep_agreeing(self: Arc<Self>) {
        let (mut stop, mut held) = (self.stopping(), self.membership.agreed.watch());
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
                    if let Err(error) = self.membership.agreed.ran(ran_s) {
                        let error = keepshare_base::chain(&error);
                        tracing::warn!(%error, "cannot note for how long a set was kept");
                    }
                }
            }
            let station = Arc::clone(&self);
            let followed = tokio::task::spawn_blocking(move || {
                // What fails is told, and tried again at the next tick.
                let _ = station.membership.publish_register();
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

    /// Acts on the revision that holds: a set that is new here is received, one whose part here is another one is opened anew, and
    /// one that is to be kept no more is not received any more. Blocks.
    pub(crate) fn follow(self: &Arc<Self>) -> Outcome<()> {
        let Some(held) = self.membership.agreed.held() else { return Ok(()) };
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let document = &held.document;
        let refused = document.revoked.iter().map(|(serial, _)| *serial);
        self.membership.peers.tls().revocations().revoke(refused);
        self.membership.peers.moved();
        let before = {
            let sets = self.lock_sets();
            if sets.closed {
                return Ok(());
            }
            sets.records.clone()
        };
        let mut records = before.clone();
        merge(&mut records, document, &self.config.name);
        number(&mut records)?;
        for record in &before {
            let set = document.set(&record.name);
            let is_kept = set.is_some_and(|set| set.is_kept_by(&self.config.name));
            let copy = self.running(&record.name).and_then(|running| running.copy().cloned());
            if let Some(copy) = copy.filter(|_| !is_kept) {
                copy.end_link();
            }
        }
        // First: whatever comes, what is opened is known at the next start.
        if records != before {
            self.state.save_sets(&records)?;
        }
        self.state.put_former_aside(&records)?;
        self.lock_sets().records.clone_from(&records);
        for record in records {
            match before.iter().find(|known| known.name == record.name) {
                None => tracing::info!(set = %record.name, "a new set"),
                Some(known) if known.part == record.part => continue,
                Some(_) => {
                    tracing::info!(set = %record.name, "another part of the set");
                    self.end(&record);
                }
            }
            let opened = Opened::open(&self.context(), &record);
            for failure in opened.running.failures() {
                tracing::error!(set = %record.name, error = %failure, "cannot open a set");
            }
            let mut sets = self.lock_sets();
            if sets.closed {
                drop(sets);
                opened.close();
                return Ok(());
            }
            self.begin(&mut sets, &record, opened);
        }
        Ok(())
    }

    /// Ends what runs of a set, whole; all of it is durable then. Blocks.
    fn end(&self, record: &SetRecord) {
        let Some(running) = self.lock_sets().running.remove(&record.name) else { return };
        running.stop();
        self.runtime.block_on(running.ended());
        running.close();
    }

    /// Brings the records of sets to what the document says, before they are opened; writes the document first where this is the
    /// primary and there is none. Blocks.
    pub(super) fn agree(&self, records: &mut Vec<SetRecord>) -> Outcome<()> {
        if let Some(enrolment) = &self.membership.enrolment
            && self.membership.agreed.held().is_none()
            && self.state.lost_sets().is_empty()
        {
            self.found(enrolment, records)?;
        }
        let Some(held) = self.membership.agreed.held() else { return Ok(()) };
        let refused = held.document.revoked.iter().map(|(serial, _)| *serial);
        self.membership.peers.tls().revocations().revoke(refused);
        merge(records, &held.document, &self.config.name);
        Ok(())
    }

    /// Writes the first revision: what was known without one.
    fn found(&self, enrolment: &Enrolment, records: &[SetRecord]) -> Outcome<()> {
        let (now, here) = (clock::now(), &self.config.name);
        let register = enrolment.register(now).context("cannot read the list of stations")?;
        let sets = records.iter().map(|record| Ok((record, new_id()?)));
        let sets = sets.collect::<Outcome<Vec<_>>>()?;
        self.membership.agreed.publish(enrolment.ca(), now, |document| {
            write_register(document, register, now);
            for (record, id) in sets {
                write_set(document, record, id, here)?;
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Writes the next revision with one more set, whose source is here; returns its record as it follows from that. Blocks.
    pub(super) fn publish_set(&self, record: &SetRecord) -> Outcome<SetRecord> {
        let Some(enrolment) =
            self.membership.enrolment.as_ref().filter(|_| self.membership.agreed.held().is_some())
        else {
            return Ok(record.clone());
        };
        let (id, here) = (new_id()?, &self.config.name);
        self.membership.agreed.publish(enrolment.ca(), clock::now(), |document| {
            if document.set(&record.name).is_some() {
                return Err(Failure::refused(format!(
                    "there is a set '{}' in the cluster already",
                    record.name
                ))
                .hint("give the new set another name"));
            }
            write_set(document, record, id, here)
        })?;
        let held = self.membership.agreed.held();
        let set = held.as_ref().and_then(|held| held.document.set(&record.name));
        let part = set.and_then(|set| part_of(set, here));
        Ok(SetRecord { part: part.unwrap_or_else(|| record.part.clone()), ..record.clone() })
    }

    /// Takes a set out of the document again that could not be remembered. Blocks.
    pub(super) fn withdraw_set(&self, record: &SetRecord) {
        let Some(enrolment) = &self.membership.enrolment else { return };
        let withdrawn = self.membership.agreed.publish(enrolment.ca(), clock::now(), |document| {
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

fn new_id() -> Outcome<SetId> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).context("there are no random numbers")?;
    Ok(SetId(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_slept_did_not_run() {
        assert_eq!(running_s(60_400_000), 60);
        assert_eq!(running_s(86_400_000_000), 120);
    }
}
