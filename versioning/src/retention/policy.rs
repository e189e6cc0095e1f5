//! What an admin asks for: `steps`, `last`, `max_versions`, `max_age`, `min_age`, `deleted`, `protect_days`.

use std::fmt;

use super::span::{Span, SpanError};

/// The most steps that a policy has.
const STEPS_MAX: usize = 16;

/// The most versions that `last` and `max_versions` count.
const COUNT_MAX: u32 = 100_000;

/// The most days of which the first and last version are protected.
const PROTECT_DAYS_MAX: u32 = 3_650;

/// Of how many days at first.
const PROTECT_DAYS: u32 = 14;

/// The keys of a policy, in the order in which they are shown.
pub const KEYS: [&str; 7] =
    ["steps", "last", "max_versions", "max_age", "min_age", "deleted", "protect_days"];

/// Versions of an age lie this far apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Step {
    /// How far apart; nothing is thinned where it is 0.
    pub spacing: Span,
    /// Of versions younger than this; the last step has no end.
    pub until: Option<Span>,
}

/// Which versions are kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Policy {
    steps: Vec<Step>,
    last: u32,
    max_versions: Option<u32>,
    max_age: Option<Span>,
    min_age: Span,
    deleted: Option<Span>,
    protect_days: u32,
}

/// A policy cannot be what it was asked to be.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PolicyError {
    /// No such key.
    #[error("a policy has no {0:?}: it has {keys}", keys = KEYS.join(", "))]
    Key(String),
    /// Without `=`.
    #[error("{0:?} sets nothing: write KEY=VALUE")]
    NoValue(String),
    /// No span.
    #[error("{key}: {error}")]
    Span {
        /// The key.
        key: &'static str,
        /// What is wrong.
        error: SpanError,
    },
    /// No number, or too large a one.
    #[error("{key} is a whole number up to {most}, not {got:?}")]
    Count {
        /// The key.
        key: &'static str,
        /// What it was to be.
        got: String,
        /// The most that it can be.
        most: u32,
    },
    /// Steps that do not follow one another.
    #[error(
        "steps are SPACING:UNTIL,…,SPACING, at most {STEPS_MAX}, each until a later age and not closer than the one before it: {0}"
    )]
    Steps(&'static str),
    /// The newest version must have room.
    #[error(
        "max_versions must be at least last, and at least 1: a name would lose what it just got"
    )]
    MaxVersions,
    /// A policy that removes what it protects.
    #[error("max_age must be longer than min_age")]
    MaxAge,
}

impl Default for Policy {
    /// Everything of an hour, one an hour of a day, one a day of two weeks, one a week of ten weeks, one a month after; the last 12
    /// in any case, 64 at most; what is deleted 90 days.
    fn default() -> Self {
        let step = |spacing, until| Step { spacing, until };
        Self {
            steps: vec![
                step(Span::NONE, Some(Span::hours(1))),
                step(Span::hours(1), Some(Span::days(1))),
                step(Span::days(1), Some(Span::days(14))),
                step(Span::days(7), Some(Span::days(70))),
                step(Span::days(30), None),
            ],
            last: 12,
            max_versions: Some(64),
            max_age: None,
            min_age: Span::hours(1),
            deleted: Some(Span::days(90)),
            protect_days: PROTECT_DAYS,
        }
    }
}

impl Policy {
    /// Returns how far apart versions of an age lie.
    pub fn spacing(&self, age: u64) -> Span {
        let step =
            self.steps.iter().find(|step| step.until.is_none_or(|until| age < until.micros()));
        step.map_or(Span::NONE, |step| step.spacing)
    }

    /// Returns the ages at which another spacing begins, with the spacing, the youngest first.
    pub(super) fn spacings(&self) -> impl Iterator<Item = (u64, u64)> {
        let ends = self.steps.iter().map(|step| step.until.map_or(u64::MAX, Span::micros));
        let begins = std::iter::once(0).chain(ends);
        begins.zip(&self.steps).map(|(begin, step)| (begin, step.spacing.micros()))
    }

    /// Returns how many of the newest are kept in any case.
    pub fn last(&self) -> usize {
        self.last as usize
    }

    /// Returns how many versions of a name there may be, but for those that are protected.
    pub fn max_versions(&self) -> Option<usize> {
        self.max_versions.map(|max| max as usize)
    }

    /// Returns how old versions may get, but for the newest.
    pub fn max_age(&self) -> Option<Span> {
        self.max_age
    }

    /// Returns how long everything is kept.
    pub fn min_age(&self) -> Span {
        self.min_age
    }

    /// Returns how long what was deleted is kept; for ever where there is none.
    pub fn deleted(&self) -> Option<Span> {
        self.deleted
    }

    /// Returns of how many days the first and the last version are kept in any case.
    pub fn protect_days(&self) -> u32 {
        self.protect_days
    }

    /// Returns the policy with `KEY=VALUE` said of it.
    pub fn with<'a>(&self, said: impl IntoIterator<Item = &'a str>) -> Result<Self, PolicyError> {
        let mut policy = self.clone();
        for said in said {
            let (key, value) =
                said.split_once('=').ok_or_else(|| PolicyError::NoValue(said.to_owned()))?;
            policy.set(key.trim(), value.trim())?;
        }
        policy.check()?;
        Ok(policy)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), PolicyError> {
        match key {
            "steps" => self.steps = read_steps(value)?,
            "last" => self.last = count("last", value, COUNT_MAX)?,
            "max_versions" => {
                self.max_versions =
                    unless_none(value, |value| count("max_versions", value, COUNT_MAX))?;
            }
            "max_age" => self.max_age = unless_none(value, |value| span("max_age", value))?,
            "min_age" => self.min_age = span("min_age", value)?,
            "deleted" => self.deleted = unless_none(value, |value| span("deleted", value))?,
            "protect_days" => self.protect_days = count("protect_days", value, PROTECT_DAYS_MAX)?,
            _ => return Err(PolicyError::Key(key.to_owned())),
        }
        Ok(())
    }

    fn check(&self) -> Result<(), PolicyError> {
        if self.max_versions.is_some_and(|max| max == 0 || max < self.last) {
            return Err(PolicyError::MaxVersions);
        }
        if self.max_age.is_some_and(|max| max <= self.min_age) {
            return Err(PolicyError::MaxAge);
        }
        Ok(())
    }

    /// Tells whether this keeps less than another in anything: what an admin is asked about twice.
    pub fn keeps_less_than(&self, other: &Self) -> bool {
        let shorter = |mine: Option<u64>, theirs: Option<u64>| match (mine, theirs) {
            (Some(mine), Some(theirs)) => mine < theirs,
            (mine, None) => mine.is_some(),
            (None, Some(_)) => false,
        };
        let count = |max: Option<u32>| max.map(u64::from);
        let micros = |span: Option<Span>| span.map(Span::micros);
        let ends = self.steps.iter().chain(&other.steps).filter_map(|step| step.until);
        let ages: Vec<u64> = std::iter::once(0).chain(ends.map(Span::micros)).collect();
        ages.into_iter().any(|age| self.spacing(age) > other.spacing(age))
            || self.last < other.last
            || shorter(count(self.max_versions), count(other.max_versions))
            || shorter(micros(self.max_age), micros(other.max_age))
            || self.min_age < other.min_age
            || shorter(micros(self.deleted), micros(other.deleted))
            || self.protect_days < other.protect_days
    }

    /// Returns all that it says, as `(key, value)` that [`Self::with`] takes.
    pub fn said(&self) -> [(&'static str, String); KEYS.len()] {
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "none".to_owned());
        let [steps, last, max_versions, max_age, min_age, deleted, protect_days] = KEYS;
        let written = |step: &Step| match step.until {
            Some(until) => format!("{}:{until}", step.spacing),
            None => step.spacing.to_string(),
        };
        [
            (steps, self.steps.iter().map(written).collect::<Vec<_>>().join(",")),
            (last, self.last.to_string()),
            (max_versions, or_none(self.max_versions.map(|max| max.to_string()))),
            (max_age, or_none(self.max_age.map(|max| max.to_string()))),
            (min_age, self.min_age.to_string()),
            (deleted, or_none(self.deleted.map(|span| span.to_string()))),
            (protect_days, self.protect_days.to_string()),
        ]
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said: Vec<_> =
            self.said().iter().map(|(key, value)| format!("{key}={value}")).collect();
        f.write_str(&said.join(" "))
    }
}

fn unless_none<T>(
    value: &str,
    read: impl FnOnce(&str) -> Result<T, PolicyError>,
) -> Result<Option<T>, PolicyError> {
    if value == "none" { Ok(None) } else { read(value).map(Some) }
}

fn count(key: &'static str, value: &str, most: u32) -> Result<u32, PolicyError> {
    let number = value.parse().ok().filter(|number| *number <= most);
    number.ok_or_else(|| PolicyError::Count { key, got: value.to_owned(), most })
}

fn span(key: &'static str, value: &str) -> Result<Span, PolicyError> {
    value.parse().map_err(|error| PolicyError::Span { key, error })
}

fn read_steps(value: &str) -> Result<Vec<Step>, PolicyError> {
    let mut steps: Vec<Step> = Vec::new();
    for text in value.split(',') {
        let (spacing, until) = match text.split_once(':') {
            Some((spacing, until)) => (spacing, Some(span("steps", until.trim())?)),
            None => (text, None),
        };
        let spacing = span("steps", spacing.trim())?;
        let before = steps.last().copied();
        if before.is_some_and(|before| before.until.is_none()) {
            return Err(PolicyError::Steps("only the last one has no end"));
        }
        if before.is_some_and(|before| before.spacing > spacing) {
            return Err(PolicyError::Steps("a spacing is closer than the one before it"));
        }
        let end = before.and_then(|before| before.until).unwrap_or_default();
        if until.is_some_and(|until| until <= end) {
            return Err(PolicyError::Steps("an age is not later than the one before it"));
        }
        steps.push(Step { spacing, until });
    }
    if steps.len() > STEPS_MAX {
        return Err(PolicyError::Steps("there are too many"));
    }
    if steps.last().is_some_and(|last| last.until.is_some()) {
        return Err(PolicyError::Steps("the last one must have no end"));
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read_as_it_is_written() {
        let default = Policy::default();
        assert_eq!(
            default.to_string(),
            "steps=0:1h,1h:1d,1d:14d,7d:70d,30d last=12 max_versions=64 max_age=none min_age=1h \
             deleted=90d protect_days=14"
        );
        let text = default.to_string();
        assert_eq!(Policy::default().with(text.split(' ')), Ok(default.clone()));
        let other = default.with(["max_age=2y", "deleted=none", "steps=1d", "last=0"]).unwrap();
        assert_eq!(other.spacing(0), Span::days(1));
        assert_eq!(default.with(other.to_string().split(' ')), Ok(other));
    }

    /// A slip of the finger is refused, and says what was expected.
    #[test]
    fn what_is_no_policy_is_refused() {
        let default = Policy::default();
        for said in [
            "lats=3",
            "last",
            "last=-1",
            "last=1000000",
            "last=65",
            "max_versions=0",
            "max_age=1h",
            "max_age=5",
            "min_age=none",
            "deleted=",
            "protect_days=90d",
            "steps=",
            "steps=1h:1d",
            "steps=1h:1d,30d:1d,60d",
            "steps=1d:1h,1h",
            "steps=1h,1d",
            "steps=1h:1d,1d:14d,",
        ] {
            let refused = default.with([said]);
            assert!(refused.is_err(), "{said}: {refused:?}");
        }
    }

    /// What keeps less is asked about twice; what keeps more is not.
    #[test]
    fn a_policy_that_keeps_less_is_told_from_one_that_keeps_more() {
        let default = Policy::default();
        assert!(!default.keeps_less_than(&default));
        for (said, less) in [
            ("last=11", true),
            ("last=13", false),
            ("max_versions=63", true),
            ("max_versions=none", false),
            ("max_age=10y", true),
            ("min_age=59m", true),
            ("deleted=89d", true),
            ("deleted=none", false),
            ("protect_days=13", true),
            ("protect_days=15", false),
            ("steps=0", false),
            ("steps=0:1h,1h:1d,1d:13d,7d:70d,30d", true),
            ("steps=0:1h,1h:2d,1d:14d,7d:70d,30d", false),
            ("steps=0:1h,1h:1d,1d:14d,7d:70d,31d", true),
        ] {
            assert_eq!(default.with([said]).unwrap().keeps_less_than(&default), less, "{said}");
        }
    }
}
