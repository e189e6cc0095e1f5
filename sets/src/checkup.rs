//! How a set is: the values, and beside them what is answered of them.

use keepshare_base::{
    StationName,
    health::{LinkHealth, SetHealth, SetProblem, State},
};
use keepshare_control::{
    Failure,
    answers::{HealthStatus, SetStatus},
};

use crate::record::{SetPart, SetRecord};

/// How a set is.
#[derive(Clone, Debug)]
pub struct Checkup {
    /// How it is on this station; none of a master's set whose destinations alone tell.
    pub own: Option<SetHealth>,
    /// How it is at each destination.
    pub links: Vec<(StationName, SetHealth)>,
    /// What a person must look at.
    pub problems: Vec<Told>,
    /// What is answered.
    pub status: SetStatus,
}

impl Checkup {
    /// Returns that of a set of which nothing is open.
    pub fn unknown(record: &SetRecord) -> Self {
        let nothing = SetHealth::Unverified;
        let status = SetStatus::new(record.name.as_str(), "", &nothing);
        Self { own: Some(nothing), links: Vec::new(), problems: Vec::new(), status }
    }

    /// Adds, to that of a source, that of the copy which the same station keeps: a destination like others, of which its
    /// store tells more than its link does.
    pub fn with_copy(mut self, here: &StationName, copy: Self) -> Self {
        let of_store = |health: &SetHealth| {
            // Where both wait, the store knows what for; whether there is a link, the link knows.
            let is_known = |kept: &SetHealth| kept.state() != State::Disconnected;
            let waits = |kept: &SetHealth| kept.state() == State::Waiting;
            let worse = |kept: &SetHealth| (kept.state(), waits(kept)) > (health.state(), false);
            copy.own.as_ref().filter(|kept| is_known(kept) && worse(kept)).cloned()
        };
        for ((to, health), shown) in self.links.iter_mut().zip(&mut self.status.destinations) {
            if to == here
                && let Some(kept) = of_store(health)
            {
                shown.health = HealthStatus::from(&kept);
                *health = kept;
            }
        }
        let shown = self.own.clone().unwrap_or_else(|| worst(&self.links));
        let problems = copy.problems.into_iter().map(|told| Told::at(here, told.problem));
        self.problems.extend(problems);
        let (problems, alarms) = texts(&self.problems);
        self.status = SetStatus {
            health: HealthStatus::from(&shown),
            live: copy.status.live,
            durable: copy.status.durable,
            commit: copy.status.commit,
            live_commit: copy.status.live_commit,
            retention: copy.status.retention,
            scrub: copy.status.scrub,
            incomplete: self.status.incomplete + copy.status.incomplete,
            problems,
            alarms,
            ..self.status
        };
        self
    }

    /// Says what the station's part of the set is, whatever of it is open.
    pub fn of_part(mut self, part: &SetPart) -> Self {
        part.role().clone_into(&mut self.status.role);
        self.status.source = part.folder().map(ToOwned::to_owned);
        let from = part.copy.as_ref().filter(|_| part.source.is_none());
        self.status.from = from.map(|copy| copy.from.to_string());
        self
    }

    /// Adds that something of the set could not be opened: an alarm, whatever else is so.
    pub fn not_opened(mut self, failure: &Failure) -> Self {
        let problem = SetProblem::NotOpened(failure.with_hint());
        let health = SetHealth::Alarm(problem.clone());
        self.status.health = HealthStatus::from(&health);
        self.own = Some(health);
        self.problems.insert(0, problem.into());
        (self.status.problems, self.status.alarms) = texts(&self.problems);
        self
    }
}

/// A problem, and the destination that it is about where it is about one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Told {
    /// The destination.
    pub to: Option<StationName>,
    /// The problem.
    pub problem: SetProblem,
}

impl Told {
    /// Returns what is so at a destination.
    pub fn at(to: &StationName, problem: SetProblem) -> Self {
        Self { to: Some(to.clone()), problem }
    }

    fn text(&self) -> String {
        let Self { to, problem } = self;
        to.as_ref().map_or_else(|| problem.to_string(), |to| format!("{to}: {problem}"))
    }
}

impl From<SetProblem> for Told {
    fn from(problem: SetProblem) -> Self {
        Self { to: None, problem }
    }
}

/// Returns how a set is whose source is well: as at the destination that is worst off.
pub fn worst(links: &[(StationName, SetHealth)]) -> SetHealth {
    let worst = links.iter().map(|(_, health)| health).max_by_key(|health| health.state());
    let nobody = || LinkHealth::Away(Some("no station receives it".to_owned()));
    worst.cloned().unwrap_or_else(|| SetHealth::Disconnected(nobody()))
}

/// Returns problems as they are answered: all of them, and those that are alarms.
pub fn texts(problems: &[Told]) -> (Vec<String>, Vec<String>) {
    let alarms = problems.iter().filter(|told| told.problem.is_alarm());
    (problems.iter().map(Told::text).collect(), alarms.map(Told::text).collect())
}
