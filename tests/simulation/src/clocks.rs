//! What time it is, what machines think that it is, and what stations must make of the two.
//!
//! The world knows when each change was made, was sent and arrived, and what every clock was off by then. From that alone it
//! says which moment a change must have at a station: nothing here knows how a station finds out.

use std::collections::BTreeMap;

use keepshare_base::{CommitId, Epoch, Position, RunningHash, Seq, Stamp};
use keepshare_proto::codec::Clocks;
use keepshare_versioning::{Arrival, Sent};

use crate::sides::Source;

/// When every life begins.
pub(crate) const BEGAN: Stamp = Stamp(1_700_000_000_000_000);

/// So far a moment may be from the truth, in microseconds: clocks that are two seconds apart agree, and links take their time.
const TRUE_WITHIN_MICROS: i64 = 2_100_000;

/// What a frame says of clocks, and what its sender's is off by, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    pub(crate) clocks: Clocks,
    pub(crate) off: i64,
}

/// What a station knows of a change that comes, and what it does not know.
#[derive(Clone, Copy, Debug)]
pub struct Arrived {
    /// What it knows.
    pub arrival: Arrival,
    /// What its clock is off by, in microseconds.
    pub(crate) off: i64,
    /// What the sender's clock was off by as it sent.
    pub(crate) sent_off: i64,
    /// Its clock was never off.
    pub(crate) is_steady: bool,
}

impl Arrived {
    pub(crate) fn new(truly: Stamp, up: u64, off: i64, told: Told, is_steady: bool) -> Self {
        let sent = told.clocks.sent.map(|clock| Sent { clock, heard: told.clocks.heard });
        let arrival = Arrival { clock: truly.plus_micros(off), up_micros: Some(up), sent };
        Self { arrival, off, sent_off: told.off, is_steady }
    }
}

/// A commit of a change as a station has it.
#[derive(Clone, Copy, Debug)]
pub struct Commit {
    /// Its number.
    pub commit: CommitId,
    /// The change.
    pub position: Position,
    /// The hash of the journal there.
    pub running: RunningHash,
    /// False inside a mirror.
    pub complete: bool,
    /// When it arrived, by the station's clock.
    pub arrival: Stamp,
    /// When it was made, as the station thinks.
    pub moment: Stamp,
    /// How it came.
    pub arrived: Arrived,
}

/// When each change was made, and what its master's clock was off by.
#[derive(Clone, Debug, Default)]
pub(crate) struct Made {
    at: BTreeMap<(Epoch, Seq, RunningHash), (Stamp, i64)>,
    /// The last one that was noted of each master.
    through: BTreeMap<usize, (Epoch, Seq, RunningHash)>,
}

impl Made {
    /// Notes what a master has journaled just now.
    pub(crate) fn note(&mut self, master: usize, source: &impl Source, truly: Stamp, off: i64) {
        let head = source.head();
        let known = self.through.get(&master).filter(|(epoch, seq, running)| {
            *epoch == head.epoch && source.hash_at(*seq) == Some(*running)
        });
        let from = known.map_or(head.oldest, |(_, seq, _)| seq.next());
        for seq in (from.0..=head.seq.0).map(Seq) {
            let Some(running) = source.hash_at(seq) else { continue };
            self.at.entry((head.epoch, seq, running)).or_insert((truly, off));
            self.through.insert(master, (head.epoch, seq, running));
        }
    }

    /// Holds the moments of a station's commits, which are in order, to what the world knows.
    pub(crate) fn check(&self, commits: &[Commit]) {
        let mut before: Option<Stamp> = None;
        for commit in commits {
            let Commit { position, moment, arrival, arrived, .. } = commit;
            let clamp = |stamp: Stamp| {
                let stamp = stamp.min(*arrival);
                before.map_or(stamp, |before| stamp.max(before))
            };
            assert!(before <= Some(*moment), "a moment is before the one before it: {commit:?}");
            assert!(*moment <= clamp(*arrival), "a moment is after its arrival: {commit:?}");
            let made = self.at.get(&(position.epoch, position.seq, commit.running));
            if let Some((made, off)) = made.filter(|_| commit.complete)
                && arrived.off == 0
                && *off == arrived.sent_off
                && (*off == 0 || arrived.is_steady)
            {
                let from_truth = moment.micros_since(clamp(*made));
                assert!(
                    from_truth.abs() <= TRUE_WITHIN_MICROS,
                    "a change was made at {made}, and its moment is {from_truth} µs from it: {commit:?}"
                );
            }
            before = Some(*moment);
        }
    }
}

/// Returns the newest complete commit that a typed time shows.
pub(crate) fn shown_at(commits: &[Commit], through: Stamp) -> CommitId {
    let then = commits.iter().filter(|commit| commit.complete && commit.moment <= through);
    then.map(|commit| commit.commit).max().unwrap_or(CommitId(0))
}
