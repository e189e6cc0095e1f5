//! Where a person must act: what `status --check` fails for, and what of it is news.

use std::collections::BTreeMap;

use keepshare_control::{
    answers::{Concern, SetStatus, StationStatus},
    standing::{self, arrived, lasting},
};

/// How long a station may be away before a person should see to it: a restart takes less.
const AWAY_S_MAX: u64 = 300;

/// The most that is remembered to have been told.
const TOLD_MAX: usize = 256;

/// Returns what of a station needs a person.
pub(crate) fn concerns(station: &StationStatus) -> Vec<Concern> {
    let about = || format!("station {}", station.name);
    let own = station.problems.iter().filter(|problem| *problem != NOT_ROOT);
    let own = own.map(|problem| Concern { about: about(), what: problem.clone() });
    own.chain(station.sets.iter().flat_map(of_set)).collect()
}

fn of_set(set: &SetStatus) -> Vec<Concern> {
    let mut concerns = Vec::new();
    let about = format!("set {}", set.name);
    let away = |about: &str, seconds: Option<u64>, what: &str, why: Option<&str>| {
        let minutes = seconds.filter(|seconds| *seconds > AWAY_S_MAX)? / 60;
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        let what = format!("{what} for {minutes} minutes{why}");
        Some(Concern { about: about.to_owned(), what })
    };
    // Whether there is a link, and whether there is something to be sent: what is missing is missing.
    if set.incomplete > 0 {
        concerns.push(Concern { about: about.clone(), what: arrived(set.incomplete) });
    }
    // Of a master's set the destinations say what is with them.
    if needs_person(&set.state) && (set.destinations.is_empty() || is_own(set)) {
        concerns.push(Concern { about: about.clone(), what: set.state.clone() });
    }
    let alarms = set.alarms.iter().filter(|alarm| !set.state.ends_with(*alarm));
    concerns.extend(alarms.map(|alarm| match with_station(set, alarm) {
        Some((to, alarm)) => Concern { about: format!("{about} to {to}"), what: alarm.to_owned() },
        None => Concern { about: about.clone(), what: alarm.clone() },
    }));
    concerns.extend(away(&about, set.away_seconds, "its master has not been connected", None));
    for to in &set.destinations {
        let about = format!("{about} to {}", to.station);
        if needs_person(&to.state) && !is_own(set) {
            concerns.push(Concern { about: about.clone(), what: to.state.clone() });
        }
        let (what, why) = ("it has not been connected", to.cause.as_deref());
        concerns.extend(away(&about, to.away_seconds, what, why));
    }
    concerns
}

/// Splits an alarm of one destination, which begins with its name.
fn with_station<'s>(set: &'s SetStatus, alarm: &'s str) -> Option<(&'s str, &'s str)> {
    let (name, alarm) = alarm.split_once(": ")?;
    set.destinations.iter().any(|to| to.station == name).then_some((name, alarm))
}

/// Tells whether the state of a master's set is about its source rather than about a destination.
fn is_own(set: &SetStatus) -> bool {
    set.destinations.iter().all(|to| to.state != set.state)
}

fn needs_person(state: &str) -> bool {
    matches!(standing::split(state).0, "alarm" | "waiting" | "unverified")
}

/// What is so on a station that an ordinary user runs; nobody has to act.
pub(crate) const NOT_ROOT: &str =
    "not run by root: owners and modes are kept in the history, and not set in live trees";

/// What has been told.
#[derive(Debug, Default)]
pub(crate) struct Told(BTreeMap<(String, String), Concern>);

/// What is to be told.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct News {
    /// What was not there before.
    pub(crate) begun: Vec<Concern>,
    /// What is not there any more.
    pub(crate) ended: Vec<Concern>,
}

impl Told {
    /// Takes what there is now, and returns what has begun and what has ended since.
    pub(crate) fn take(&mut self, concerns: Vec<Concern>) -> News {
        // A count that grows, or another reason, is no other alarm.
        let key = |concern: &Concern| (concern.about.clone(), lasting(&concern.what));
        let mut now: BTreeMap<_, _> = concerns.into_iter().map(|c| (key(&c), c)).collect();
        while now.len() > TOLD_MAX {
            now.pop_last();
        }
        let gone =
            |(key, concern): (&_, &Concern)| (!now.contains_key(key)).then(|| concern.clone());
        let ended = self.0.iter().filter_map(gone).collect();
        let new =
            |(key, concern): (&_, &Concern)| (!self.0.contains_key(key)).then(|| concern.clone());
        let begun = now.iter().filter_map(new).collect();
        self.0 = now;
        News { begun, ended }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepshare_control::answers::DestinationStatus;

    fn set(state: &str) -> SetStatus {
        SetStatus {
            name: "work".into(),
            role: "replica".into(),
            state: state.into(),
            source: None,
            live: None,
            head: None,
            durable: None,
            commit: None,
            live_commit: None,
            destinations: Vec::new(),
            from: None,
            swept: None,
            shared: None,
            incomplete: 0,
            away_seconds: None,
            problems: Vec::new(),
            alarms: Vec::new(),
        }
    }

    /// Who is woken at night wants to be needed.
    #[test]
    fn only_what_a_person_must_do_is_a_concern() {
        for state in ["in-sync", "behind", "behind: live tree", "mirroring 4 %", "disconnected"] {
            assert_eq!(of_set(&set(state)), [], "{state}");
        }
        for state in ["alarm: x", "waiting: disk full", "unverified: x"] {
            assert_eq!(of_set(&set(state))[0].what, state);
        }
        // What is missing is missing while there is no link, too, and while something is on its way.
        for state in ["incomplete: 1 problem", "behind", "disconnected", "mirroring 4 %"] {
            let concerns = of_set(&SetStatus { incomplete: 1, ..set(state) });
            let whats: Vec<_> = concerns.iter().map(|concern| &concern.what[..]).collect();
            assert_eq!(whats, ["incomplete: 1 problem"], "{state}");
        }
        let away = |seconds| SetStatus { away_seconds: Some(seconds), ..set("disconnected") };
        assert_eq!(of_set(&away(AWAY_S_MAX)), [], "a machine that is started again");
        assert_eq!(of_set(&away(900))[0].what, "its master has not been connected for 15 minutes");
    }

    #[test]
    fn each_alarm_is_told_once_when_it_begins_and_once_when_it_ends() {
        let concern = |about: &str, what: &str| Concern { about: about.into(), what: what.into() };
        let mut told = Told::default();
        let full = concern("set work", "waiting: disk full");
        let news = |begun: &[&Concern], ended: &[&Concern]| {
            let cloned = |some: &[&Concern]| some.iter().map(|c| (*c).clone()).collect();
            News { begun: cloned(begun), ended: cloned(ended) }
        };
        assert_eq!(told.take(vec![full.clone()]), news(&[&full], &[]));
        assert_eq!(told.take(vec![full.clone()]), News::default());
        let one = concern("set 1", "incomplete: 1 problem");
        assert_eq!(told.take(vec![full.clone(), one.clone()]), news(&[&one], &[]));
        let four = concern("set 1", "incomplete: 4 problems");
        assert_eq!(told.take(vec![four.clone()]), news(&[], &[&full]));
        let other = concern("set 2", "incomplete: 4 problems");
        assert_eq!(told.take(vec![four.clone(), other.clone()]), news(&[&other], &[]));
        let ended = told.take(Vec::new());
        assert_eq!((ended.begun.len(), ended.ended.len()), (0, 2));
    }

    /// An alarm whose words change while it lasts is one alarm: who is called each time does not come when it matters.
    #[test]
    fn another_reason_is_no_other_alarm() {
        let away = |seconds, why: &str| DestinationStatus {
            station: "store".into(),
            state: "disconnected".into(),
            connected: false,
            acknowledged: None,
            lag_changes: 0,
            lag_bytes: None,
            lag_seconds: None,
            cause: Some(why.into()),
            away_seconds: Some(seconds),
            sent_bytes: 0,
            received_bytes: 0,
            error: None,
        };
        let master = |alarms: &[&str], to| SetStatus {
            alarms: alarms.iter().map(|alarm| (*alarm).to_owned()).collect(),
            destinations: vec![to],
            ..set("disconnected")
        };
        let mut told = Told::default();
        let refused = away(400, "cannot connect to 10.0.0.2:7846: Connection refused");
        let first =
            of_set(&master(&["the journal cannot be used: EIO", "store: it refused: x"], refused));
        assert_eq!(told.take(first).begun.len(), 3);
        let timed_out = away(480, "no answer");
        let next = of_set(&master(
            &["the journal cannot be used: closed", "store: it refused: y"],
            timed_out,
        ));
        assert_eq!(told.take(next), News::default());
        // The first alarm of a set is its state as well, and another one may come before it.
        let before = SetStatus { alarms: vec!["a: 1".into()], ..set("alarm: a: 1") };
        let after = SetStatus { alarms: vec!["b".into(), "a: 2".into()], ..set("alarm: b") };
        let mut told = Told::default();
        assert_eq!(told.take(of_set(&before)).begun.len(), 1);
        let news = told.take(of_set(&after));
        assert_eq!((news.begun.len(), news.ended.len()), (1, 0));
    }
}
