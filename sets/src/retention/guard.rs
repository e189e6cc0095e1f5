//! What a station does not do by itself.

use keepshare_base::SetName;
use keepshare_versioning::retention::Counts;

/// By itself a station removes one of so many versions at most, of those that a run has left before.
const PART: u64 = 4;

/// Why a run removes nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct WhyNot {
    /// Why.
    pub(super) why: String,
    /// What helps, where somebody must look who did not expect it.
    pub(super) help: Option<String>,
}

/// Why a station does not do this by itself.
///
/// What the day brought is not counted: a file that is saved all day loses nearly all of its last day each night, and nothing is wrong.
/// Nor is what came to an age at which versions lie further apart. So what is counted goes for a reason that no night had before: it was
/// deleted, or saved over again and again, by people or by a master in wrong hands, or another policy was said by mistake.
pub(super) fn why_not(set: &SetName, counts: &Counts, is_applied: bool) -> Option<WhyNot> {
    let settled = counts.settled_kept.saturating_add(counts.settled_gone);
    if counts.gone == 0 {
        None
    } else if !is_applied {
        let all = counts.kept.saturating_add(counts.gone);
        let why = format!(
            "{} of {all} versions would go, and no plan of this policy was applied by hand yet",
            counts.gone
        );
        Some(WhyNot { why, help: None })
    } else if counts.settled_gone.saturating_mul(PART) > settled {
        let why = format!(
            "{} of {settled} versions that the last run left would go, more than a quarter",
            counts.settled_gone
        );
        let help = format!(
            "keepshare retention plan {set} shows which, and by what command they go if that is meant"
        );
        Some(WhyNot { why, help: Some(help) })
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_station_does_little_by_itself() {
        let set: SetName = "work".parse().unwrap();
        let why_not = |kept, gone, is_applied| {
            let counts = Counts { kept, gone, ..Counts::default() };
            let settled = Counts { settled_kept: kept, settled_gone: gone, ..counts };
            let today = Counts { settled_kept: 99, settled_gone: 1, ..counts };
            [settled, today].map(|counts| super::why_not(&set, &counts, is_applied))
        };
        let [settled, today] = why_not(99, 1, false);
        assert!(settled.is_some_and(|why| why.help.is_none()) && today.is_some());
        assert_eq!(why_not(75, 25, true), [None, None]);
        let [settled, today] = why_not(74, 26, true);
        let help = settled.and_then(|why| why.help).unwrap();
        assert!(help.contains("keepshare retention plan work"), "{help}");
        assert_eq!(today, None);
        assert_eq!(why_not(9, 0, false), [None, None]);
    }
}
