//! Where a person must act: what `status --check` fails for, and what of it is news.

use std::collections::BTreeMap;

use keepshare_base::{
    StationName,
    health::{ProblemKind, SetHealth, State, StationProblem},
};
use keepshare_control::answers::Concern;

use crate::checkup::{Checkup, Told};

/// How long a station may be away before a person should see to it: a restart takes less.
pub const AWAY_S_MAX: u64 = 300;

/// The most that is remembered to have been told.
const TOLD_MAX: usize = 256;

/// Returns what of a station and its sets needs a person.
pub fn concerns(
    station: &StationName,
    problems: &[StationProblem],
    sets: &[Checkup],
) -> Vec<Concern> {
    let about = |problem: &StationProblem| match problem {
        StationProblem::Away { station, .. } => format!("station {station}"),
        _ => format!("station {station}"),
    };
    let own = problems.iter().filter(|problem| problem.needs_person());
    let own = own.map(|problem| concern(about(problem), problem.kind(), problem.to_string()));
    own.chain(sets.iter().flat_map(of_set)).collect()
}

fn of_set(set: &Checkup) -> Vec<Concern> {
    let Checkup { own, links, problems, status } = set;
    let about = |to: Option<&StationName>| match to {
        Some(to) => format!("set {} to {to}", status.name),
        None => format!("set {}", status.name),
    };
    let mut concerns = Vec::new();
    // Whether there is a link, and whether there is something to be sent: what is missing is missing.
    if status.incomplete > 0 {
        concerns.extend(of_health(about(None), &SetHealth::arrived(status.incomplete)));
    }
    let is_missing = |health: &SetHealth| health.state() == State::Incomplete;
    let of_own = own.iter().filter(|own| !is_missing(own));
    concerns.extend(of_own.filter_map(|own| of_health(about(None), own)));
    // What is wrong with the source is wrong with every copy, and told once.
    let of_links = links.iter().filter(|(_, health)| own.is_none() && !is_missing(health));
    concerns.extend(of_links.filter_map(|(to, health)| of_health(about(Some(to)), health)));
    let alarms = problems.iter().filter(|told| told.problem.is_alarm());
    let alarms = alarms.map(|Told { to, problem }| {
        concern(about(to.as_ref()), problem.kind(), problem.to_string())
    });
    // What is a state as well is told already.
    let is_state = |alarm: &Concern| {
        concerns.iter().any(|state| state.about == alarm.about && state.kind == alarm.kind)
    };
    let alarms: Vec<_> = alarms.filter(|alarm| !is_state(alarm)).collect();
    concerns.extend(alarms);
    let gone = "its master has not been connected";
    concerns.extend(away(about(None), status.away_seconds, gone, None));
    for ((to, _), shown) in links.iter().zip(&status.destinations) {
        let (gone, why) = ("it has not been connected", shown.error.as_deref());
        concerns.extend(away(about(Some(to)), shown.away_seconds, gone, why));
    }
    concerns
}

fn concern(about: String, kind: ProblemKind, what: String) -> Concern {
    Concern { about, kind, what }
}

/// Returns what a person must do about a state.
fn of_health(about: String, health: &SetHealth) -> Option<Concern> {
    let kind = health.kind().filter(|_| health.state().needs_person())?;
    Some(concern(about, kind, health.to_string()))
}

fn away(about: String, seconds: Option<u64>, what: &str, why: Option<&str>) -> Option<Concern> {
    let minutes = seconds.filter(|seconds| *seconds > AWAY_S_MAX)? / 60;
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    Some(concern(about, ProblemKind::Away, format!("{what} for {minutes} minutes{why}")))
}

/// What has been told.
#[derive(Debug, Default)]
pub struct Known(BTreeMap<(String, ProblemKind), Concern>);

/// What is to be told.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct News {
    /// What was not there before.
    pub begun: Vec<Concern>,
    /// What is not there any more.
    pub ended: Vec<Concern>,
}

impl Known {
    /// Takes what there is now, and returns what has begun and what has ended since.
    pub fn take(&mut self, concerns: Vec<Concern>) -> News {
        let mut now = BTreeMap::new();
        for concern in concerns {
            // A count that grows, another reason, or one more of a kind is no other alarm.
            now.entry((concern.about.clone(), concern.kind)).or_insert(concern);
        }
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
    use keepshare_base::health::{
        Hold, LinkHealth, MirrorProgress, Missing, Part, SetProblem, Stop,
    };
    use keepshare_control::answers::{DestinationStatus, HealthStatus, SetStatus};

    fn set(own: Option<SetHealth>) -> Checkup {
        let health = own.clone().unwrap_or(SetHealth::InSync);
        let status = SetStatus::new("work", "replica", &health);
        Checkup { own, links: Vec::new(), problems: Vec::new(), status }
    }

    /// A master's set with one destination.
    fn master(own: Option<SetProblem>, link: SetHealth, problems: Vec<Told>) -> Checkup {
        let mut set = set(own.map(SetHealth::Alarm));
        set.status.destinations.push(DestinationStatus {
            station: "store".into(),
            health: HealthStatus::from(&link),
            connected: false,
            acknowledged: None,
            lag_changes: 0,
            lag_bytes: None,
            lag_seconds: None,
            away_seconds: None,
            sent_bytes: 0,
            received_bytes: 0,
            error: None,
            may_order: None,
        });
        set.links.push(("store".parse().unwrap(), link));
        set.problems = problems;
        set
    }

    fn away_for(seconds: u64, why: &str, problems: Vec<Told>) -> Checkup {
        let link = SetHealth::Disconnected(LinkHealth::Away(Some(why.into())));
        let mut set = master(None, link, problems);
        set.status.destinations[0].away_seconds = Some(seconds);
        set.status.destinations[0].error = Some(why.into());
        set
    }

    fn at_store(kind: ProblemKind, what: &str) -> Told {
        Told::at(&"store".parse().unwrap(), SetProblem::Link(kind, what.into()))
    }

    fn whats(set: &Checkup) -> Vec<String> {
        of_set(set).into_iter().map(|concern| concern.what).collect()
    }

    /// Who is woken at night wants to be needed.
    #[test]
    fn only_what_a_person_must_do_is_a_concern() {
        let passing = [
            SetHealth::InSync,
            SetHealth::Lagging(Missing::Changes),
            SetHealth::Lagging(Missing::LiveTree),
            SetHealth::Mirroring(MirrorProgress::Percent(4)),
            SetHealth::Queued(LinkHealth::Away(None)),
            SetHealth::Disconnected(LinkHealth::Away(None)),
            SetHealth::Paused,
        ];
        for health in &passing {
            assert_eq!(of_set(&set(Some(health.clone()))), [], "{health}");
            // What is missing is missing while there is no link, too, and while something is on its way.
            let mut lacking = set(Some(health.clone()));
            lacking.status.incomplete = 1;
            assert_eq!(whats(&lacking), ["incomplete: 1 problem"], "{health}");
        }
        for health in [
            SetHealth::Alarm(SetProblem::StoreFailed("x".into())),
            SetHealth::Waiting(Hold::DiskFull),
            SetHealth::Unverified,
            SetHealth::Stopped(Stop::Disagrees("x".into())),
        ] {
            assert_eq!(whats(&set(Some(health.clone()))), [health.to_string()]);
        }
        let mut lacking = set(Some(SetHealth::arrived(1)));
        lacking.status.incomplete = 1;
        assert_eq!(whats(&lacking), ["incomplete: 1 problem"], "once");
        let mut away = set(Some(SetHealth::Disconnected(LinkHealth::Away(None))));
        away.status.away_seconds = Some(AWAY_S_MAX);
        assert_eq!(of_set(&away), [], "a machine that is started again");
        away.status.away_seconds = Some(900);
        assert_eq!(whats(&away), ["its master has not been connected for 15 minutes"]);
    }

    /// What is said of the source is not said of every station again, nor what a state says as an alarm.
    #[test]
    fn a_concern_is_told_once_and_says_whom_it_is_about() {
        let gone = SetProblem::SourceGone("unmounted".into());
        let set = master(Some(gone.clone()), SetHealth::Unverified, vec![gone.into()]);
        let concerns = of_set(&set);
        assert_eq!((concerns.len(), &concerns[0].about[..]), (1, "set work"));
        let stop = Stop::Fenced("store".parse().unwrap());
        let problems = vec![Told::at(&"store".parse().unwrap(), SetProblem::Stopped(stop.clone()))];
        let set = master(None, SetHealth::Stopped(stop), problems);
        let concerns = of_set(&set);
        assert_eq!((concerns.len(), &concerns[0].about[..]), (1, "set work to store"));
        assert_eq!(concerns[0].kind, ProblemKind::Fenced);
        let problems = vec![at_store(ProblemKind::Refused, "it refused: x")];
        let concerns = of_set(&master(None, SetHealth::Lagging(Missing::Changes), problems));
        assert_eq!((concerns.len(), &concerns[0].about[..]), (1, "set work to store"));
    }

    /// An ordinary user may run a station; nobody has to act.
    #[test]
    fn of_a_station_only_faults_are_concerns() {
        let gone = StationProblem::ThreadGone { thread: "live:work".into(), why: "x".into() };
        let problems = [StationProblem::NotRoot, gone];
        let told = concerns(&"office".parse().unwrap(), &problems, &[]);
        assert_eq!((told.len(), told[0].kind), (1, ProblemKind::ThreadGone));
        assert_eq!(told[0].about, "station office");
        let away = |name: &str| StationProblem::Away { station: name.parse().unwrap(), minutes: 7 };
        let told = concerns(&"office".parse().unwrap(), &[away("store"), away("attic")], &[]);
        let about: Vec<_> = told.iter().map(|concern| &concern.about[..]).collect();
        assert_eq!(about, ["station store", "station attic"], "each is an alarm of its own");
    }

    #[test]
    fn each_alarm_is_told_once_when_it_begins_and_once_when_it_ends() {
        let mut known = Known::default();
        let full = concern("set work".into(), ProblemKind::DiskFull, "waiting: disk full".into());
        let news = |begun: &[&Concern], ended: &[&Concern]| {
            let cloned = |some: &[&Concern]| some.iter().map(|c| (*c).clone()).collect();
            News { begun: cloned(begun), ended: cloned(ended) }
        };
        let lacks =
            |about: &str, problems| of_health(about.into(), &SetHealth::arrived(problems)).unwrap();
        assert_eq!(known.take(vec![full.clone()]), news(&[&full], &[]));
        assert_eq!(known.take(vec![full.clone()]), News::default());
        let one = lacks("set 1", 1);
        assert_eq!(known.take(vec![full.clone(), one.clone()]), news(&[&one], &[]));
        let four = lacks("set 1", 4);
        assert_eq!(known.take(vec![four.clone()]), news(&[], &[&full]));
        let other = lacks("set 2", 4);
        assert_eq!(known.take(vec![four.clone(), other.clone()]), news(&[&other], &[]));
        let ended = known.take(Vec::new());
        assert_eq!((ended.begun.len(), ended.ended.len()), (0, 2));
    }

    /// An alarm whose words change while it lasts is one alarm: who is called each time does not come when it matters.
    #[test]
    fn another_reason_is_no_other_alarm() {
        let alarms = |journal: &str, refused: &str| {
            let journal = SetProblem::JournalUnusable(journal.into());
            vec![journal.into(), at_store(ProblemKind::Refused, refused)]
        };
        let mut known = Known::default();
        let refused = "cannot connect to 10.0.0.2:7846: Connection refused";
        let first = of_set(&away_for(400, refused, alarms("EIO", "it refused: x")));
        assert_eq!(known.take(first).begun.len(), 3);
        let next = of_set(&away_for(480, "no answer", alarms("closed", "it refused: y")));
        assert_eq!(known.take(next), News::default());
        // The first alarm of a set is its state as well, and another one may come before it.
        let unusable = SetProblem::JournalUnusable("1".into());
        let lagging = SetHealth::Lagging(Missing::Changes);
        let before = master(Some(unusable.clone()), lagging.clone(), vec![unusable.into()]);
        let gone = SetProblem::ThreadGone(Part::Source, None);
        let unusable = SetProblem::JournalUnusable("2".into());
        let problems = vec![gone.clone().into(), unusable.into()];
        let after = master(Some(gone), lagging, problems);
        let mut known = Known::default();
        assert_eq!(known.take(of_set(&before)).begun.len(), 1);
        let news = known.take(of_set(&after));
        assert_eq!((news.begun.len(), news.ended.len()), (1, 0));
    }
}
