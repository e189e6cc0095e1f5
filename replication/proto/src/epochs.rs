//! Whether a master may begin a new epoch of its own.
//!
//! A new epoch empties the journal for every destination, so one station that disagrees must not bring it about: it may
//! be wrong, or lie. What a destination says of the journal is gathered here over all of them, and judged. A master that
//! hears of a higher epoch has been replaced; it never counts up by itself.

use std::collections::BTreeMap;

use keepshare_base::{Epoch, StationName};

/// Why a journal is not the continuation of what a station has.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Disagreement {
    /// The station has changes that the journal does not: the journal is an older one.
    Ahead,
    /// The station's changes up to its place are others than the journal's.
    Differs,
    /// The station has agreed to a higher epoch: another master took the set on.
    Fenced,
}

/// What is to be done about a station that disagrees.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Begin an epoch above this one.
    NewEpoch {
        /// The highest that is known.
        above: Epoch,
    },
    /// Mirror that station, in the same epoch.
    Mirror,
    /// Ask it again: the others have not been heard.
    Wait,
    /// Send it nothing. A person has to decide.
    Stop,
}

/// What the destinations of one set say of its journal.
#[derive(Debug)]
pub struct Epochs {
    said: BTreeMap<StationName, Said>,
    highest: Epoch,
    fenced: Option<StationName>,
}

/// What was last heard of a destination in the journal's present epoch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Said {
    /// It was not reached yet, nor given up.
    Nothing,
    /// It cannot be reached.
    Away,
    Agrees,
    Disagrees,
}

impl Epochs {
    /// Returns one that has heard nothing.
    pub fn new(destinations: impl IntoIterator<Item = StationName>) -> Self {
        let said = destinations.into_iter().map(|to| (to, Said::Nothing)).collect();
        Self { said, highest: Epoch::FIRST, fenced: None }
    }

    /// Notes that a destination follows this journal, or is mirrored from it.
    pub fn agrees(&mut self, to: &StationName) {
        self.note(to, Said::Agrees);
    }

    /// Notes that there is no link to a destination.
    pub fn away(&mut self, to: &StationName) {
        // What it said when it was there is still what it has.
        if self.said.get(to) != Some(&Said::Disagrees) {
            self.note(to, Said::Away);
        }
    }

    /// Forgets what was said of an epoch that is over.
    pub fn began(&mut self, epoch: Epoch) {
        self.highest = self.highest.max(epoch);
        self.said.values_mut().for_each(|said| *said = Said::Nothing);
        self.fenced = None;
    }

    /// Returns the highest epoch that anyone told of.
    pub fn highest(&self) -> Epoch {
        self.highest
    }

    /// Returns the station that told of another master, where one did.
    pub fn fenced_by(&self) -> Option<&StationName> {
        self.fenced.as_ref()
    }

    /// Judges what `to` says. `told` is the highest epoch it knows; `replaced` tells that the journal was begun anew and
    /// no destination has taken anything of it.
    pub fn judge(
        &mut self,
        to: &StationName,
        disagreement: Disagreement,
        told: Epoch,
        replaced: bool,
    ) -> Verdict {
        self.note(to, Said::Disagrees);
        self.highest = self.highest.max(told);
        if disagreement == Disagreement::Fenced {
            self.fenced = Some(to.clone());
            return Verdict::Stop;
        }
        let others = || self.said.iter().filter(|(other, _)| *other != to).map(|(_, said)| *said);
        if replaced || others().all(|said| matches!(said, Said::Away | Said::Disagrees)) {
            Verdict::NewEpoch { above: self.highest }
        } else if !others().any(|said| said == Said::Agrees) {
            Verdict::Wait
        } else if disagreement == Disagreement::Differs {
            Verdict::Mirror
        } else {
            Verdict::Stop
        }
    }

    fn note(&mut self, to: &StationName, said: Said) {
        self.said.insert(to.clone(), said);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> StationName {
        name.parse().unwrap()
    }

    fn epochs(names: &[&str]) -> Epochs {
        Epochs::new(names.iter().map(|station| name(station)))
    }

    fn new_epoch(above: u64) -> Verdict {
        Verdict::NewEpoch { above: Epoch::new(above).unwrap() }
    }

    /// With several destinations a new epoch costs those that agree everything that they have not got.
    #[test]
    fn one_that_disagrees_costs_the_others_nothing() {
        let mut epochs = epochs(&["a", "b", "c"]);
        epochs.agrees(&name("b"));
        epochs.away(&name("c"));
        let told = Epoch::new(2).unwrap();
        assert_eq!(epochs.judge(&name("a"), Disagreement::Ahead, told, false), Verdict::Stop);
        assert_eq!(epochs.judge(&name("a"), Disagreement::Differs, told, false), Verdict::Mirror);
        epochs.away(&name("b"));
        assert_eq!(epochs.judge(&name("a"), Disagreement::Ahead, told, false), new_epoch(2));
    }

    /// Right after a start nobody knows yet who will agree.
    #[test]
    fn nothing_is_decided_before_all_were_asked() {
        let mut epochs = epochs(&["a", "b"]);
        let told = Epoch::FIRST;
        assert_eq!(epochs.judge(&name("a"), Disagreement::Differs, told, false), Verdict::Wait);
        assert_eq!(epochs.judge(&name("b"), Disagreement::Ahead, told, false), new_epoch(1));
        epochs.began(Epoch::new(2).unwrap());
        assert_eq!(epochs.judge(&name("a"), Disagreement::Ahead, told, false), Verdict::Wait);
    }

    #[test]
    fn an_only_destination_and_a_journal_begun_anew_need_nobody() {
        let mut one = epochs(&["a"]);
        assert_eq!(one.judge(&name("a"), Disagreement::Ahead, Epoch::FIRST, false), new_epoch(1));
        let mut two = epochs(&["a", "b"]);
        two.agrees(&name("b"));
        assert_eq!(two.judge(&name("a"), Disagreement::Differs, Epoch::FIRST, true), new_epoch(1));
    }

    /// A master that was replaced and counted up would take the set from its successor.
    #[test]
    fn a_fenced_master_never_counts_up() {
        let mut epochs = epochs(&["a"]);
        let told = Epoch::new(7).unwrap();
        for replaced in [false, true] {
            let verdict = epochs.judge(&name("a"), Disagreement::Fenced, told, replaced);
            assert_eq!(verdict, Verdict::Stop);
        }
        assert_eq!((epochs.fenced_by(), epochs.highest()), (Some(&name("a")), told));
        epochs.agrees(&name("a"));
        assert_eq!(epochs.fenced_by(), Some(&name("a")), "only a new epoch ends it");
        epochs.began(Epoch::new(8).unwrap());
        assert_eq!(epochs.fenced_by(), None);
    }
}
