//! The scrub of a copy at work, and what its status tells of it.

use std::{sync::Weak, time::Duration};

use tokio::sync::watch;

use keepshare_base::health::{SetHealth, SetProblem};
use keepshare_control::{Outcome, Reply, answers::Progress};

use super::Replica;
use crate::scrub::{Next, Scrubbing};

/// How often whoever waits for a pass looks how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long it rests after a fault of our own.
const FAULT_REST: Duration = Duration::from_secs(60);

impl Replica {
    /// Returns what looks for damage.
    pub fn scrubbing(&self) -> &Scrubbing {
        &self.scrubbing
    }

    /// Goes through everything at once, telling how far it is. Blocks; the pass goes on where whoever asked leaves.
    pub fn scrub_now(&self, reply: &mut Reply) -> Outcome<()> {
        let pass = self.scrubbing.begin_now()?;
        let doing = format!("scrubbing set {}: bytes", self.name);
        while !self.scrubbing.is_over(pass)? {
            // Whoever stops meanwhile ends the answer, too.
            drop(self.open_store()?);
            let done = self.scrubbing.status().pass.map_or(0, |pass| pass.read_bytes);
            reply.progress(&Progress { doing: doing.clone(), done, total: None })?;
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Adds what the scrub found to how the set is.
    pub(super) fn with_scrub(&self, health: SetHealth) -> (SetHealth, Vec<SetProblem>) {
        let status = self.scrubbing.status();
        let damaged = (status.damaged > 0).then_some(SetProblem::VersionsDamaged(status.damaged));
        let differences = status.live_differences;
        let live = (differences > 0).then(|| {
            let what = "differences: keepshare scrub status lists them";
            SetProblem::NotLive(format!("{differences} {what}"))
        });
        let files = status.files_damaged;
        let files = (files > 0).then_some(SetProblem::FilesDamaged(files));
        let damaged = damaged.or(files.clone());
        let files = files.filter(|files| damaged.as_ref() != Some(files));
        let problems = damaged.iter().cloned().chain(files).chain(live).collect();
        let is_alarm = matches!(health, SetHealth::Alarm(_));
        let alarm = damaged.filter(|_| !is_alarm).map(SetHealth::Alarm);
        (alarm.unwrap_or(health), problems)
    }

    /// Tells whether nothing better is to be done than to look for damage: a first mirror is over.
    fn has_mirrored(&self) -> bool {
        let place = self.reader.view().ok().and_then(|view| view.position(self.origin).ok());
        place.flatten().is_some_and(|place| place.last.is_some() && place.mirror.is_none())
    }
}

/// Looks for damage until the set stops.
pub(super) async fn scrub(replica: Weak<Replica>, mut stopping: watch::Receiver<bool>) {
    loop {
        let Some(set) = replica.upgrade() else { return };
        let changed = set.scrubbing.changed();
        let next =
            tokio::task::spawn_blocking(move || match set.scrubbing.next(set.has_mirrored()) {
                Next::Step => match set.open_store() {
                    Ok(store) => set.scrubbing.step(&store),
                    // It is closing.
                    Err(_) => LOOK_EVERY,
                },
                Next::Rest(rest) => rest,
            });
        let rest = next.await.unwrap_or(FAULT_REST);
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            () = changed.notified() => {}
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
    }
}
