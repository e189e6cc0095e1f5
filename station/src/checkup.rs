//! How a set is: the values, and beside them what is answered of them.

use keepshare_base::{
    StationName,
    health::{SetHealth, SetProblem},
};
use keepshare_control::answers::SetStatus;

/// How a set is.
#[derive(Clone, Debug)]
pub(crate) struct Checkup {
    /// How it is on this station; none of a master's set whose destinations alone tell.
    pub(crate) own: Option<SetHealth>,
    /// How it is at each destination.
    pub(crate) links: Vec<(StationName, SetHealth)>,
    /// What a person must look at.
    pub(crate) problems: Vec<Told>,
    /// What is answered.
    pub(crate) status: SetStatus,
}

/// A problem, and the destination that it is about where it is about one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Told {
    pub(crate) to: Option<StationName>,
    pub(crate) problem: SetProblem,
}

impl Told {
    /// Returns what is so at a destination.
    pub(crate) fn at(to: &StationName, problem: SetProblem) -> Self {
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

/// Returns problems as they are answered: all of them, and those that are alarms.
pub(crate) fn texts(problems: &[Told]) -> (Vec<String>, Vec<String>) {
    let alarms = problems.iter().filter(|told| told.problem.is_alarm());
    (problems.iter().map(Told::text).collect(), alarms.map(Told::text).collect())
}
