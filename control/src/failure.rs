//! Why a command did not do what it was asked, as people and scripts get it.
//!
//! A failure has a code (the exit code of the process), a chain of causes, and where there is one a hint: the next step.
//! It crosses the Unix socket as it is.

use std::{
    fmt::{self, Display},
    io,
};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// The exit codes, which stay what they are.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
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
pub struct Failure {
    /// What kind of failure.
    pub code: Code,
    /// What failed, then why, then why that.
    pub chain: Vec<String>,
    /// What to do next.
    pub hint: Option<String>,
}

/// What commands give back.
pub type Outcome<T> = Result<T, Failure>;

impl Failure {
    /// Returns a failure of this kind.
    pub fn new(code: Code, error: impl Display) -> Self {
        Self { code, chain: vec![error.to_string()], hint: None }
    }

    /// Returns a failure of this kind with all causes of `error`.
    pub fn because(code: Code, error: impl Into<anyhow::Error>) -> Self {
        let error = error.into();
        let chain = error.chain().map(ToString::to_string).collect();
        Self { code, chain, hint: system_hint(&error).map(ToOwned::to_owned) }
    }

    /// The request makes no sense.
    pub fn usage(error: impl Display) -> Self {
        Self::new(Code::Usage, error)
    }

    /// What was named is not there.
    pub fn not_found(error: impl Display) -> Self {
        Self::new(Code::NotFound, error)
    }

    /// It may not be done as things are.
    pub fn refused(error: impl Display) -> Self {
        Self::new(Code::Refused, error)
    }

    /// Whoever would have to do it is not there.
    pub fn unavailable(error: impl Display) -> Self {
        Self::new(Code::Unavailable, error)
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// Adds what to do next where nothing more fitting is known.
    #[must_use]
    pub fn hint_if_none(mut self, hint: impl Display) -> Self {
        self.hint.get_or_insert_with(|| hint.to_string());
        self
    }

    /// Puts what was being done before the causes.
    #[must_use]
    pub fn context(mut self, doing: impl Display) -> Self {
        self.chain.insert(0, doing.to_string());
        self
    }

    /// Tells whether all it lacks is space on a disk.
    pub fn is_no_space(&self) -> bool {
        // Some causes come as text alone.
        let says = |cause: &String| {
            let texts = [
                "No space left on device",
                "Disk quota exceeded",
                "the disk is full",
                "bytes are free for the journal",
            ];
            texts.iter().any(|text| cause.contains(text))
        };
        self.chain.iter().any(says)
    }

    /// Returns the whole chain on one line, with what to do next.
    pub fn with_hint(&self) -> String {
        let said = self.one_line();
        self.hint.as_ref().map_or(said.clone(), |hint| format!("{said} ({hint})"))
    }

    /// Returns the whole chain on one line.
    pub fn one_line(&self) -> String {
        self.chain.join(": ")
    }
}

/// Returns what helps against what the system said.
fn system_hint(error: &anyhow::Error) -> Option<&'static str> {
    let kind = error.chain().find_map(|cause| {
        let io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        io.or_else(|| Some(io::Error::from(*cause.downcast_ref::<Errno>()?).kind()))
    })?;
    match kind {
        io::ErrorKind::PermissionDenied => Some("do it as a user who may, such as root"),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some("make room there"),
        io::ErrorKind::ReadOnlyFilesystem => Some("name a folder that can be written"),
        io::ErrorKind::AddrInUse => {
            Some("something listens there already: name another address or port to listen on")
        }
        io::ErrorKind::AddrNotAvailable => Some("name an address that this machine has"),
        _ => None,
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
        assert_eq!((failure.code, failure.hint), (Code::Failed, None));
    }

    #[test]
    fn what_the_system_refuses_comes_with_the_next_step() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let failure = Failure::from(anyhow::Error::new(denied).context("cannot write /etc/x"));
        assert!(failure.hint.is_some_and(|hint| hint.contains("root")));
        let full = anyhow::Error::new(Errno::NOSPC).context("cannot write /x");
        assert_eq!(Failure::from(full).hint.as_deref(), Some("make room there"));
    }
}
