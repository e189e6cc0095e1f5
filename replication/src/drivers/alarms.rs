//! What a link tells that a person must look at, until things are well again.

use keepshare_base::health::ProblemKind;
use keepshare_proto::shipper::AlarmKind;

/// Something that a person must look at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LinkAlarm {
    /// Of which kind it is.
    pub kind: ProblemKind,
    /// What it is, in the words of whoever found it.
    pub what: String,
}

/// The alarms of one link, oldest first, each once; the first few of them.
#[derive(Clone, Debug, Default)]
pub struct Alarms(Vec<LinkAlarm>);

impl Alarms {
    /// Takes one, and tells whether it is new and has a place.
    pub(super) fn raise(&mut self, kind: ProblemKind, what: &str) -> bool {
        let alarm = LinkAlarm { kind, what: what.to_owned() };
        let is_told = self.0.len() < ALARMS_MAX && !self.0.contains(&alarm);
        if is_told {
            self.0.push(alarm);
        }
        is_told
    }

    /// Forgets all, and tells whether there were any.
    pub(super) fn clear(&mut self) -> bool {
        let were_any = !self.0.is_empty();
        self.0.clear();
        were_any
    }

    /// Returns all of them.
    pub fn iter(&self) -> impl Iterator<Item = &LinkAlarm> {
        self.0.iter()
    }
}

/// Returns what kind of problem it is when a master's half of a link raises this alarm.
pub(super) fn problem_kind(kind: AlarmKind) -> ProblemKind {
    match kind {
        AlarmKind::LostAcknowledged => ProblemKind::LostAcknowledged,
        AlarmKind::Refused => ProblemKind::Refused,
        AlarmKind::Protocol => ProblemKind::Protocol,
        AlarmKind::Mirror => ProblemKind::MirrorFailed,
        AlarmKind::Disagrees => ProblemKind::Disagrees,
        AlarmKind::Fenced => ProblemKind::Fenced,
    }
}

/// The most alarms shown of one link.
const ALARMS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    /// A station that is refused every second must not fill the memory, nor the screen.
    #[test]
    fn each_alarm_is_told_once_and_few_are_kept() {
        let mut alarms = Alarms::default();
        assert!(alarms.raise(ProblemKind::Refused, "it refused: x"));
        assert!(!alarms.raise(ProblemKind::Refused, "it refused: x"), "it is known");
        for number in 0..100 {
            alarms.raise(ProblemKind::Protocol, &number.to_string());
        }
        assert_eq!(alarms.iter().count(), ALARMS_MAX);
        assert!(alarms.clear() && !alarms.clear());
    }
}
