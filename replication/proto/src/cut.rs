//! When a file's state becomes a version.
//!
//! One rule for all sets, with two times that a set may choose. A version is cut when a writer closes the file, before
//! its name is taken by another file or removed, at a point, when a writer that does not close has been quiet for a
//! moment, and while one stays busy, every ten seconds. Where nobody tells of closing (a scan finds what changed), the
//! quiet moment cuts. A file to which nothing was written since its last version is never cut again.

use std::time::Duration;

use crate::MonoTime;

/// The times of a set's rule, in milliseconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CutRule {
    /// So long without a write, and the state is a version.
    pub quiet_ms: u32,
    /// A file that is written all the time is a version this often.
    pub busy_ms: u32,
}

impl CutRule {
    /// The least of either, so that no file floods its own history.
    pub const MS_MIN: u32 = 10;

    /// The most of either: an hour.
    pub const MS_MAX: u32 = 3_600_000;

    /// Checks what somebody chose; `None` outside the limits, or with a busy time shorter than the quiet one.
    pub fn new(quiet_ms: u32, busy_ms: u32) -> Option<Self> {
        let limits = Self::MS_MIN..=Self::MS_MAX;
        let fits = limits.contains(&quiet_ms) && limits.contains(&busy_ms) && quiet_ms <= busy_ms;
        fits.then_some(Self { quiet_ms, busy_ms })
    }
}

impl Default for CutRule {
    /// A second of quiet: longer than an editor pauses inside one save, shorter than a person between two. Ten seconds
    /// while busy.
    fn default() -> Self {
        Self { quiet_ms: 1000, busy_ms: 10_000 }
    }
}

/// What happened to a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CutInput {
    /// Something was written, or was found to have been.
    Written,
    /// A writer closed it.
    Closed,
    /// Its name is about to stand for another file.
    Replaced,
    /// Its last name is about to go.
    Deleted,
    /// A point of the whole set is made.
    Point,
    /// Time has passed.
    Tick,
}

/// Why a version is cut.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Cut {
    /// A writer closed it.
    Closed,
    /// Another file took its name.
    Replaced,
    /// It was deleted.
    Deleted,
    /// A point was made.
    Point,
    /// No writer closed it, but it was quiet for the moment.
    Quiet,
    /// It was busy for the whole time.
    Busy,
}

/// What the rule must remember of one file.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CutState {
    /// The first and the last write since the last version.
    written: Option<(MonoTime, MonoTime)>,
}

impl CutState {
    /// Takes one input; tells whether the file's state, with this write in it, becomes a version.
    ///
    /// For `Replaced` and `Deleted` it is the state before that happens.
    pub fn handle_input(&mut self, rule: CutRule, now: MonoTime, input: CutInput) -> Option<Cut> {
        if input == CutInput::Written {
            let first = self.written.map_or(now, |(first, _)| first);
            self.written = Some((first, now));
        }
        let (first, last) = self.written?;
        let cut = match input {
            CutInput::Closed => Cut::Closed,
            CutInput::Replaced => Cut::Replaced,
            CutInput::Deleted => Cut::Deleted,
            CutInput::Point => Cut::Point,
            CutInput::Written | CutInput::Tick if now >= first + ms(rule.busy_ms) => Cut::Busy,
            CutInput::Tick if now >= last + ms(rule.quiet_ms) => Cut::Quiet,
            CutInput::Written | CutInput::Tick => return None,
        };
        self.written = None;
        Some(cut)
    }

    /// Returns when to give [`CutInput::Tick`]; `None` where only another input can cut.
    pub fn next_deadline(&self, rule: CutRule) -> Option<MonoTime> {
        let (first, last) = self.written?;
        Some((last + ms(rule.quiet_ms)).min(first + ms(rule.busy_ms)))
    }

    /// Tells whether something was written since the last version.
    pub fn is_open(&self) -> bool {
        self.written.is_some()
    }
}

fn ms(ms: u32) -> Duration {
    Duration::from_millis(u64::from(ms))
}

#[cfg(test)]
mod tests {
    use super::{
        CutInput::{Closed, Deleted, Point, Replaced, Tick, Written},
        *,
    };

    fn at(ms: u64) -> MonoTime {
        MonoTime(ms * 1000)
    }

    /// Runs inputs at their times under the default rule, ticking whenever the rule asks for it, and returns the cuts.
    fn cuts(inputs: &[(u64, CutInput)], until_ms: u64) -> Vec<(u64, Cut)> {
        let (rule, mut state, mut cuts) = (CutRule::default(), CutState::default(), Vec::new());
        let mut inputs = inputs.iter().copied().peekable();
        loop {
            let tick = state.next_deadline(rule).map(|deadline| deadline.0 / 1000);
            let next = inputs.peek().map(|(ms, _)| *ms);
            let (ms, input) = match (tick, next) {
                (Some(tick), None) if tick <= until_ms => (tick, Tick),
                (Some(tick), Some(next)) if tick < next => (tick, Tick),
                (_, Some(_)) => inputs.next().unwrap(),
                _ => return cuts,
            };
            cuts.extend(state.handle_input(rule, at(ms), input).map(|cut| (ms, cut)));
        }
    }

    #[test]
    fn the_rule() {
        type Case = (&'static str, &'static [(u64, CutInput)], &'static [(u64, Cut)]);
        let cases: &[Case] = &[
            ("nothing written, nothing cut", &[(0, Closed), (1, Point), (2, Deleted)], &[]),
            ("a save", &[(0, Written), (5, Written), (7, Closed)], &[(7, Cut::Closed)]),
            (
                "closed twice is one version",
                &[(0, Written), (1, Closed), (2, Closed)],
                &[(1, Cut::Closed)],
            ),
            (
                "two saves",
                &[(0, Written), (1, Closed), (2, Written), (3, Closed)],
                &[(1, Cut::Closed), (3, Cut::Closed)],
            ),
            ("replaced while open", &[(0, Written), (9, Replaced)], &[(9, Cut::Replaced)]),
            (
                "replaced after closing",
                &[(0, Written), (1, Closed), (9, Replaced)],
                &[(1, Cut::Closed)],
            ),
            ("deleted while open", &[(0, Written), (9, Deleted)], &[(9, Cut::Deleted)]),
            ("a point while open", &[(0, Written), (9, Point), (10, Closed)], &[(9, Cut::Point)]),
            ("found by a scan, never closed", &[(100, Written)], &[(1100, Cut::Quiet)]),
            (
                "quiet counts from the last write",
                &[(0, Written), (900, Written)],
                &[(1900, Cut::Quiet)],
            ),
            (
                "written on after a quiet moment",
                &[(0, Written), (2000, Written)],
                &[(1000, Cut::Quiet), (3000, Cut::Quiet)],
            ),
        ];
        for (name, inputs, want) in cases {
            assert_eq!(cuts(inputs, 60_000), *want, "{name}");
        }
    }

    /// A log or a virtual machine's disk that is written all day must have a past too.
    #[test]
    fn a_file_that_never_stops_changing_is_a_version_every_ten_seconds() {
        let writes: Vec<_> = (0..600).map(|n| (n * 100, Written)).collect();
        let cuts = cuts(&writes, 59_900);
        assert!(cuts.iter().all(|(_, cut)| *cut == Cut::Busy), "{cuts:?}");
        assert_eq!(cuts.len(), 5, "{cuts:?}");
        let gaps: Vec<_> = cuts.windows(2).map(|w| w[1].0 - w[0].0).collect();
        assert!(gaps.iter().all(|gap| (10_000..=10_200).contains(gap)), "{cuts:?}");
    }

    /// A driver so busy that it never gets to tick must not lose the version.
    #[test]
    fn a_late_write_does_the_work_of_a_tick() {
        let (rule, mut state) = (CutRule::default(), CutState::default());
        assert_eq!(state.handle_input(rule, at(0), Written), None);
        assert_eq!(state.handle_input(rule, at(10_500), Written), Some(Cut::Busy));
        assert!(!state.is_open());
    }

    #[test]
    fn a_set_chooses_within_limits() {
        assert_eq!(CutRule::new(1000, 10_000), Some(CutRule::default()));
        for (quiet, busy) in [(0, 10_000), (1000, 999), (1000, 3_600_001), (9, 9)] {
            assert_eq!(CutRule::new(quiet, busy), None, "{quiet} {busy}");
        }
        let rule = CutRule::new(50, 200).unwrap();
        let mut state = CutState::default();
        state.handle_input(rule, at(0), Written);
        assert_eq!(state.next_deadline(rule), Some(at(50)));
        assert_eq!(state.handle_input(rule, at(50), Tick), Some(Cut::Quiet));
        assert_eq!(state.next_deadline(rule), None);
    }
}
