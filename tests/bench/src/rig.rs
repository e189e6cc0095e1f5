//! A master and a replica to measure, and what they used.

use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use keepshare_support::{Aspects, Cluster, Scratch, Wiring, cluster::SET, differences};

/// How often a target is looked at.
const LOOK: Duration = Duration::from_micros(200);

/// How often a station is asked how it is. Each time a process begins and ends, and asked all the time they take a fifth of two
/// cores from what is measured.
const ASK: Duration = Duration::from_millis(40);

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);

/// For how long nothing may move before the machine counts as quiet.
const QUIET: Duration = Duration::from_secs(1);

/// Where to work, and how large.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) dir: PathBuf,
    pub(crate) scale: f64,
}

impl Place {
    /// Returns a count at this scale, at least 1.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "sizes of a measurement, small and never negative"
    )]
    pub(crate) fn scaled(&self, count: u64) -> u64 {
        ((count as f64 * self.scale) as u64).max(1)
    }

    /// Returns how many files a tree of so many has at this scale.
    pub(crate) fn files(&self, count: u64) -> usize {
        usize::try_from(self.scaled(count)).unwrap_or(usize::MAX)
    }

    /// Makes a scratch folder here.
    pub(crate) fn scratch(&self, name: &str) -> Result<Scratch> {
        Scratch::within(&self.dir, name)
    }
}

/// What both processes used so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meter {
    started: Instant,
    cpu_seconds: f64,
    written_bytes: u64,
    wire_bytes: u64,
}

/// What both processes used between two looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    pub(crate) seconds: f64,
    pub(crate) cpu_seconds: f64,
    pub(crate) written_bytes: u64,
    pub(crate) wire_bytes: u64,
}

/// Two stations that replicate `source`.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) cluster: Cluster,
}

impl Rig {
    /// Starts both stations; nothing is replicated yet.
    pub(crate) fn new(scratch: &Scratch, source: &Path) -> Result<Self> {
        Ok(Self { cluster: Cluster::new(scratch, source, Wiring::Loopback)? })
    }

    /// Starts both stations and returns when the source has arrived and all is quiet.
    pub(crate) fn mirrored(scratch: &Scratch, source: &Path) -> Result<Self> {
        let rig = Self::new(scratch, source)?;
        rig.cluster.add_set()?;
        rig.wait_in_sync()?;
        rig.wait_quiet()?;
        Ok(rig)
    }

    /// Returns the replica's live tree.
    pub(crate) fn live(&self) -> Result<PathBuf> {
        self.cluster.live()
    }

    /// Returns once the master says that the replica has everything.
    pub(crate) fn wait_in_sync(&self) -> Result<()> {
        wait("in sync", || {
            thread::sleep(ASK);
            self.cluster.destination().is_ok_and(|status| status["state"] == "in-sync")
        })
    }

    /// Returns once both processes do nothing any more.
    pub(crate) fn wait_quiet(&self) -> Result<()> {
        let mut last = self.meter()?;
        wait("quiet", || {
            thread::sleep(QUIET);
            let Ok(now) = self.meter() else { return false };
            // The looks themselves cost a little.
            let busy = now.cpu_seconds - last.cpu_seconds;
            last = now;
            busy < 0.05
        })
    }

    /// Reads all counters.
    pub(crate) fn meter(&self) -> Result<Meter> {
        let (office, store) = (self.cluster.office.usage()?, self.cluster.store.usage()?);
        // Before the set is there nothing was sent for it.
        let destination = self.cluster.destination().unwrap_or_default();
        let count = |key: &str| destination[key].as_u64().unwrap_or(0);
        Ok(Meter {
            started: Instant::now(),
            cpu_seconds: office.cpu_seconds + store.cpu_seconds,
            written_bytes: office.written_bytes + store.written_bytes,
            wire_bytes: count("sent_bytes") + count("received_bytes"),
        })
    }

    /// Returns what was used since an earlier look.
    pub(crate) fn since(&self, earlier: Meter) -> Result<Used> {
        let now = self.meter()?;
        Ok(Used {
            seconds: (now.started - earlier.started).as_secs_f64(),
            cpu_seconds: now.cpu_seconds - earlier.cpu_seconds,
            written_bytes: now.written_bytes - earlier.written_bytes,
            wire_bytes: now.wire_bytes - earlier.wire_bytes,
        })
    }

    /// An error unless the live tree equals the source.
    pub(crate) fn check(&self) -> Result<()> {
        let aspects = Aspects::ours();
        keepshare_support::compare::equal_within(
            PATIENCE,
            self.cluster.source(),
            &self.live()?,
            aspects,
        )
        .with_context(|| format!("set {SET}"))
    }
}

/// Returns once `condition` holds, looking all the time.
pub(crate) fn wait(what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
    let started = Instant::now();
    while !condition() {
        if started.elapsed() > PATIENCE {
            bail!("not within {PATIENCE:?}: {what}");
        }
        thread::sleep(LOOK);
    }
    Ok(())
}

/// An error unless rsync left the same bytes.
pub(crate) fn check_copy(source: &Path, copy: &Path) -> Result<()> {
    let told = differences(source, copy, Aspects { xattrs: false, ..Aspects::ours() })?;
    if told.is_empty() { Ok(()) } else { bail!("rsync's copy differs: {told:?}") }
}
