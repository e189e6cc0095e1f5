//! Why a command did not do what it was asked, as people and scripts get it.
//!
//! A failure has a code (the exit code of the process), a chain of causes, and where there is one a hint: the next step.
//! It crosses the Unix socket as it is.

use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};

/// The exit codes, which stay what they are.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Code {
    /// It was tried and failed.
    Failed = 1,
    /// It was not asked in a way that can be understood.
    Usage = 2,
    /// What was named is not there.
    NotFound = 3,
    /// It may not or cannot be done as things are.
    Refused = 4,
    /// Whoever would have to do it is not there.
    Unavailable = 5,
}

/// Why a command did not do what it was asked.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// What kind of failure.
    pub(crate) code: Code,
    /// What failed, then why, then why that.
    pub(crate) chain: Vec<String>,
    /// What to do next.
    pub(crate) hint: Option<String>,
}

/// What commands give back.
pub(crate) type Outcome<T> = Result<T, Failure>;

impl Failure {
    /// Returns a failure of this kind.
    pub(crate) fn new(code: Code, error: impl Display) -> Self {
        Self { code, chain: vec![error.to_string()], hint: None }
    }

    /// Returns a failure of this kind with all causes of `error`.
    pub(crate) fn because(code: Code, error: impl Into<anyhow::Error>) -> Self {
        let chain = error.into().chain().map(ToString::to_string).collect();
        Self { code, chain, hint: None }
    }

    /// The request makes no sense.
    pub(crate) fn usage(error: impl Display) -> Self {
        Self::new(Code::Usage, error)
    }

    /// What was named is not there.
    pub(crate) fn not_found(error: impl Display) -> Self {
        Self::new(Code::NotFound, error)
    }

    /// It may not be done as things are.
    pub(crate) fn refused(error: impl Display) -> Self {
        Self::new(Code::Refused, error)
    }

    /// Whoever would have to do it is not there.
    pub(crate) fn unavailable(error: impl Display) -> Self {
        Self::new(Code::Unavailable, error)
    }

    /// Adds what to do next.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// Puts what was being done before the causes.
    #[must_use]
    pub(crate) fn context(mut self, doing: impl Display) -> Self {
        self.chain.insert(0, doing.to_string());
        self
    }

    /// Returns the whole chain on one line.
    pub(crate) fn one_line(&self) -> String {
        self.chain.join(": ")
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::because(Code::Failed, error)
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.one_line())
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn causes_come_after_what_failed() {
        let cause = std::io::Error::other("disk on fire");
        let error = Err::<(), _>(cause).context("cannot read the config").unwrap_err();
        let failure = Failure::from(error).context("cannot start");
        assert_eq!(failure.to_string(), "cannot start: cannot read the config: disk on fire");
        assert_eq!(failure.code, Code::Failed);
    }
}
