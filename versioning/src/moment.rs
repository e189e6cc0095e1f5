//! When a change was made, and how much time has passed, by this station's reckoning.
//!
//! A master stamps with its clock as it is, and clocks are wrong. The *moment* of a change is its stamp where that clock
//! agrees with this station's; else it is counted back from its arrival by how long ago the master says it was. Moments
//! of one origin never go back, and none is after its arrival but where an earlier one is. *Running time* goes on at
//! the pace of the machine, whatever is done to its clock. Everything here is computed from what is passed in.

use keepshare_base::Stamp;

mod repair;

pub(crate) use repair::{Repair, Survey, Times};

/// How far two clocks may be apart and agree, in microseconds.
const AGREE_MICROS_MAX: i64 = 2_000_000;

/// How far this station's clock may be from where running time takes it, in microseconds.
const STEADY_MICROS_MAX: i64 = 60_000_000;

/// How far the clock may be set back without an alarm, in microseconds.
const SET_BACK_MICROS_MAX: i64 = 60_000_000;

/// The most running time that a stop of the station counts for, in microseconds: a day.
const STOP_MICROS_MAX: i64 = 86_400_000_000;

/// Changes that come within this are told apart though the clock does not move, in microseconds.
const SAME_MICROS_MAX: i64 = 1_000;

/// What is known when a change comes. A bare stamp is this station's clock and says nothing of the sender's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Arrival {
    /// What this station's clock says.
    pub clock: Stamp,
    /// For how long this machine has been up, its sleep included, in microseconds; `None` where that is not known.
    pub up_micros: Option<u64>,
    /// What the sender's clock said; `None` where it was not told.
    pub sent: Option<Sent>,
}

/// What a frame says of when it was sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sent {
    /// The sender's clock as it sent.
    pub clock: Stamp,
    /// What this station's clock said in the newest frame that the sender had read by then. It was sent after that,
    /// however long it was on its way.
    pub heard: Option<Stamp>,
}

impl From<Stamp> for Arrival {
    fn from(clock: Stamp) -> Self {
        Self { clock, up_micros: None, sent: None }
    }
}

/// A clock was set back, or differs from another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClockAlarm {
    /// This station's clock was set back.
    SetBack {
        /// What it said before.
        before: Stamp,
        /// What it says.
        clock: Stamp,
    },
    /// The master's clock is not what this station's is.
    Differs {
        /// How far it is ahead, in microseconds; negative where it is behind.
        ahead_micros: i64,
        /// What this station's clock says.
        clock: Stamp,
    },
    /// This station's clock went another way than time did, and the master's did not.
    Jumped {
        /// How far it is ahead of where it should be, in microseconds; negative where it is behind.
        ahead_micros: i64,
        /// What it says.
        clock: Stamp,
    },
}

impl ClockAlarm {
    /// Tells whether this is the same as an earlier one, only that it goes on.
    pub fn is_alike(&self, earlier: &Self) -> bool {
        let near = |a: i64, b: i64| a.saturating_sub(b).saturating_abs() <= STEADY_MICROS_MAX;
        match (self, earlier) {
            (Self::Differs { ahead_micros: a, .. }, Self::Differs { ahead_micros: b, .. })
            | (Self::Jumped { ahead_micros: a, .. }, Self::Jumped { ahead_micros: b, .. }) => {
                near(*a, *b)
            }
            _ => false,
        }
    }

    /// Returns what this station's clock said.
    pub fn clock(&self) -> Stamp {
        match self {
            Self::SetBack { clock, .. }
            | Self::Differs { clock, .. }
            | Self::Jumped { clock, .. } => *clock,
        }
    }
}

/// What two clocks say of each other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// They agree, as far as can be told.
    Agree,
    /// The sender's is this far ahead, in microseconds.
    Sender(i64),
    /// Ours is this far ahead of where it should be, in microseconds.
    Own(i64),
}

/// Compares the sender's clock with ours, which would be at `steady` had nobody set it.
///
/// A frame that comes late was long on its way, or its sender's clock is behind: that is so only where it says to have
/// been sent before what its sender had heard from us by then.
pub(crate) fn compare(arrival: &Arrival, steady: Option<Stamp>) -> Verdict {
    let Some(sent) = arrival.sent else { return Verdict::Agree };
    let ahead = sent.clock.micros_since(arrival.clock);
    let earliest = sent.heard.filter(|heard| *heard <= arrival.clock).unwrap_or(arrival.clock);
    let is_behind = sent.clock.micros_since(earliest) < -AGREE_MICROS_MAX;
    if ahead <= AGREE_MICROS_MAX && !is_behind {
        return Verdict::Agree;
    }
    let within = |a: Stamp, b: Stamp| a.micros_since(b).saturating_abs() <= STEADY_MICROS_MAX;
    match steady {
        Some(steady) if !within(arrival.clock, steady) && within(sent.clock, steady) => {
            Verdict::Own(arrival.clock.micros_since(steady))
        }
        _ => Verdict::Sender(ahead),
    }
}

/// Returns the moment of a change of an origin whose newest moment is `before`.
pub(crate) fn moment(
    stamp: Stamp,
    arrival: Stamp,
    verdict: Verdict,
    before: Option<Stamp>,
) -> Stamp {
    let made = match verdict {
        Verdict::Agree | Verdict::Own(_) => stamp,
        // The arrival less how long ago the sender says that it was.
        Verdict::Sender(ahead) => stamp.plus_micros(ahead.saturating_neg()),
    };
    let made = made.min(arrival);
    before.map_or(made, |before| made.max(before))
}

/// The clock and the running time of a set, as of its newest commit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Clock {
    /// What the clock said last.
    last: Option<Stamp>,
    /// The running time at the newest commit, in microseconds, and what the clock and the machine's own said then.
    running: Option<(u64, Stamp, Option<u64>)>,
    /// What the clock said when it was last believed, and for how long the machine was up then.
    steady: Option<(Stamp, u64)>,
}

/// What the clocks say of something that comes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Told {
    /// The arrival: the clock as it was read.
    pub(crate) arrival: Stamp,
    /// How the clocks compare.
    pub(crate) verdict: Verdict,
    /// The running time, in microseconds.
    pub(crate) running_micros: u64,
}

impl Clock {
    /// Returns the clock of a set that was stopped after this.
    pub(crate) fn stopped(last: Option<Stamp>, newest: Option<(u64, Stamp)>) -> Self {
        let running = newest.map(|(running, arrival)| (running, arrival, None));
        Self { last, running, steady: None }
    }

    /// Tells what the clocks say of something that comes now.
    pub(crate) fn tell(&self, arrival: &Arrival) -> Told {
        // Two of one microsecond would look alike to those who ask whether anything changed.
        let since = self.last.map(|last| (last, arrival.clock.micros_since(last)));
        let clock = match since {
            Some((last, since)) if (-SAME_MICROS_MAX..=0).contains(&since) => last.plus_micros(1),
            _ => arrival.clock,
        };
        let steady = self.steady.zip(arrival.up_micros).and_then(|((then, up), now)| {
            let passed = i64::try_from(now.checked_sub(up)?).ok()?;
            Some(then.plus_micros(passed))
        });
        let verdict = compare(&Arrival { clock, ..*arrival }, steady);
        Told { arrival: clock, verdict, running_micros: self.running_at(clock, arrival.up_micros) }
    }

    /// Takes over what was told, and returns what a person should know of it.
    pub(crate) fn advance(&mut self, arrival: &Arrival, told: &Told) -> Option<ClockAlarm> {
        let alarm = self.set_back(told.arrival).or(match told.verdict {
            Verdict::Agree => None,
            Verdict::Sender(ahead_micros) => {
                Some(ClockAlarm::Differs { ahead_micros, clock: told.arrival })
            }
            Verdict::Own(ahead_micros) => {
                Some(ClockAlarm::Jumped { ahead_micros, clock: told.arrival })
            }
        });
        self.last = Some(told.arrival);
        self.running = Some((told.running_micros, told.arrival, arrival.up_micros));
        if !matches!(told.verdict, Verdict::Own(_)) {
            self.steady = arrival.up_micros.map(|up| (told.arrival, up));
        }
        alarm
    }

    /// Has running time go on by the machine's own from now on, where the set was stopped until then.
    pub(crate) fn start(&mut self, now: &Arrival) {
        if let (Some((_, _, None)), Some(_)) = (self.running, now.up_micros) {
            let Told { arrival, running_micros, .. } = self.tell(now);
            self.running = Some((running_micros, arrival, now.up_micros));
        }
    }

    /// Notes what the clock says where nothing is committed.
    pub(crate) fn note(&mut self, clock: Stamp) -> Option<ClockAlarm> {
        let alarm = self.set_back(clock);
        self.last = Some(clock);
        alarm
    }

    /// Begins anew with a clock that is right.
    pub(crate) fn repaired(&mut self, now: Stamp) {
        self.last = Some(now);
        self.steady = None;
    }

    fn set_back(&self, clock: Stamp) -> Option<ClockAlarm> {
        let before = self.last?;
        let is_set_back = before.micros_since(clock) > SET_BACK_MICROS_MAX;
        is_set_back.then_some(ClockAlarm::SetBack { before, clock })
    }

    fn running_at(&self, clock: Stamp, up_micros: Option<u64>) -> u64 {
        let Some((running, then, up)) = self.running else { return 0 };
        let passed = match (up, up_micros) {
            (Some(up), Some(now)) if now >= up => now - up,
            _ => stopped_for(clock.micros_since(then)),
        };
        running.saturating_add(passed)
    }
}

/// Returns how much running time a stop counts for over which the clock went on by so much, in microseconds.
pub(crate) fn stopped_for(clock_micros: i64) -> u64 {
    clock_micros.clamp(0, STOP_MICROS_MAX).unsigned_abs()
}

#[cfg(test)]
mod tests;
