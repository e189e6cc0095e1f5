//! Where a person must act: what `status --check` fails for, and what the log says once when it begins and once when it ends.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    answers::{NOT_ROOT, station_status},
    api::{Concern, SetStatus, StationStatus},
    service::Station,
    standing,
};

/// How often it is looked whether something has begun or ended.
const LOOK_EVERY: Duration = Duration::from_secs(2);

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
    let away = |about: &str, seconds: Option<u64>, what: &str| {
        let minutes = seconds.filter(|seconds| *seconds > AWAY_S_MAX)? / 60;
        let what = format!("{what} for {minutes} minutes");
        Some(Concern { about: about.to_owned(), what })
    };
    // Of a master's set the destinations say what is with them.
    if needs_person(&set.state) && (set.destinations.is_empty() || is_own(set)) {
        concerns.push(Concern { about: about.clone(), what: set.state.clone() });
    }
    let alarms = set.alarms.iter().filter(|alarm| !set.state.ends_with(*alarm));
    concerns.extend(alarms.map(|alarm| Concern { about: about.clone(), what: alarm.clone() }));
    concerns.extend(away(&about, set.away_seconds, "its master has not been connected"));
    for to in &set.destinations {
        let about = format!("{about} to {}", to.station);
        if needs_person(&to.state) && !is_own(set) {
            concerns.push(Concern { about: about.clone(), what: to.state.clone() });
        }
        let why = to.cause.as_deref().unwrap_or("there is no link");
        concerns.extend(away(
            &about,
            to.away_seconds,
            &format!("it has not been connected ({why})"),
        ));
    }
    concerns
}

/// Tells whether the state of a master's set is about its source rather than about a destination.
fn is_own(set: &SetStatus) -> bool {
    set.destinations.iter().all(|to| to.state != set.state)
}

fn needs_person(state: &str) -> bool {
    matches!(standing::split(state).0, "alarm" | "waiting" | "unverified" | "incomplete")
}

/// Logs what begins and what ends, until the station stops.
pub(crate) async fn keep(station: Arc<Station>) {
    let mut stop = station.stopping();
    let mut tick = tokio::time::interval(LOOK_EVERY);
    let mut told = Told::default();
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            _ = tick.tick() => {}
        }
        let asked = Arc::clone(&station);
        // A status reads the journal.
        let looked = tokio::task::spawn_blocking(move || station_status(&asked).concerns).await;
        let Ok(concerns) = looked else { continue };
        let News { begun, ended } = told.take(concerns);
        for Concern { about, what } in ended {
            tracing::info!(%about, alarm = %what, "alarm ended");
        }
        for Concern { about, what } in begun {
            tracing::error!(%about, alarm = %what, "alarm: a person must act");
        }
    }
}

/// What has been told.
#[derive(Debug, Default)]
struct Told(BTreeMap<(String, String), Concern>);

/// What is to be told.
#[derive(Debug, Default, Eq, PartialEq)]
struct News {
    begun: Vec<Concern>,
    ended: Vec<Concern>,
}

impl Told {
    /// Takes what there is now, and returns what has begun and what has ended since.
    fn take(&mut self, concerns: Vec<Concern>) -> News {
        // A count that grows is no other alarm.
        let key = |concern: &Concern| {
            let what = concern.what.chars().filter(|c| !c.is_ascii_digit()).collect();
            (concern.about.clone(), what)
        };
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
        for state in ["alarm: x", "waiting: disk full", "unverified: x", "incomplete: 1 problem"] {
            assert_eq!(of_set(&set(state))[0].what, state);
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
        let (three, four) = (concern("set 1", "incomplete: 3 problems"), "incomplete: 4 problems");
        assert_eq!(told.take(vec![full.clone(), three.clone()]), news(&[&three], &[]));
        let four = concern("set 1", four);
        assert_eq!(told.take(vec![four.clone()]), news(&[], &[&full]));
        let other = concern("set 2", "incomplete: 4 problems");
        assert_eq!(told.take(vec![four.clone(), other.clone()]), news(&[&other], &[]));
        let ended = told.take(Vec::new());
        assert_eq!((ended.begun.len(), ended.ended.len()), (0, 2));
    }
}
