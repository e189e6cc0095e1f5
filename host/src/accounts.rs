//! Who is who on this machine: names, numbers and groups, as its name services (NSS) tell them.
//!
//! Users of a directory (LDAP, sssd, winbind) count like those of `/etc/passwd`. A directory can take minutes to answer, so a
//! thread of its own asks, and whoever waits for it gives up soon: after [`WAIT`], and at once while an earlier question is
//! already that late. What is not answered in time is [`Answer::NotNow`], which is never "there is no such account".
//!
//! Answers are kept: [`FRESH_FOR`] that there is an account, [`NOBODY_FOR`] that there is none, and not more than
//! [`ANSWERS_MAX`] of them. An older one is used where a directory does not answer any more, and the machine's own files are
//! where there is none.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, LazyLock},
    time::Duration,
};

mod asking;
mod service;

use asking::Asking;
use service::MachineServices;
pub use service::NameService;

/// What the machine says of an account.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer<T> {
    /// This is it.
    Is(T),
    /// There is no such account.
    Nobody,
    /// The name services did not answer in time, or failed. Later they may.
    NotNow,
}

impl<T> Answer<T> {
    /// Returns what is known now.
    pub fn known(self) -> Option<T> {
        match self {
            Self::Is(known) => Some(known),
            Self::Nobody | Self::NotNow => None,
        }
    }

    /// Turns what is known into something else; what cannot be turned was no answer.
    fn and_then<U>(self, turn: impl FnOnce(T) -> Option<U>) -> Answer<U> {
        match self {
            Self::Is(known) => turn(known).map_or(Answer::NotNow, Answer::Is),
            Self::Nobody => Answer::Nobody,
            Self::NotNow => Answer::NotNow,
        }
    }
}

/// An account of this machine, by its numbers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Account {
    /// The number that owns the user's files.
    pub uid: u32,
    /// The number of the first group.
    pub gid: u32,
    /// All further groups.
    pub groups: Vec<u32>,
}

/// What a name service is asked.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Question {
    /// The name of the user with this number.
    UserName(u32),
    /// The name of the group with this number.
    GroupName(u32),
    /// The number of the user with this name.
    UserNumber(String),
    /// The number of the group with this name.
    GroupNumber(String),
    /// All numbers of the user with this name.
    Account(String),
}

/// What it answers, of the kind that was asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Value {
    /// The name of a user or group.
    Name(String),
    /// The number of a user or group.
    Number(u32),
    /// The numbers of a user.
    Account(Account),
}

impl Value {
    fn name(self) -> Option<String> {
        if let Self::Name(name) = self { Some(name) } else { None }
    }

    fn number(self) -> Option<u32> {
        if let Self::Number(number) = self { Some(number) } else { None }
    }

    fn account(self) -> Option<Account> {
        if let Self::Account(account) = self { Some(account) } else { None }
    }
}

/// The accounts of a machine. Clones share the thread that asks, and what was answered.
#[derive(Clone, Debug)]
pub struct MachineAccounts {
    asking: Arc<Asking>,
    wait: Duration,
}

impl MachineAccounts {
    /// Returns the accounts of this machine, for whoever must go on: no question takes longer than [`WAIT`].
    pub fn of_this_machine() -> Self {
        static MACHINE: LazyLock<Arc<Asking>> = LazyLock::new(|| Asking::new(MachineServices));
        Self { asking: MACHINE.clone(), wait: WAIT }
    }

    /// Returns the same accounts for whoever would rather wait than go without an answer, such as a command: up to
    /// [`PATIENT_WAIT`].
    #[must_use]
    pub fn patient(&self) -> Self {
        Self { asking: self.asking.clone(), wait: PATIENT_WAIT }
    }

    /// Returns the accounts that a name service knows.
    pub fn of(service: impl NameService + 'static) -> Self {
        Self { asking: Asking::new(service), wait: WAIT }
    }

    /// Returns a user's name.
    pub fn user_name(&self, uid: u32) -> Answer<String> {
        self.ask(Question::UserName(uid)).and_then(Value::name)
    }

    /// Returns a group's name.
    pub fn group_name(&self, gid: u32) -> Answer<String> {
        self.ask(Question::GroupName(gid)).and_then(Value::name)
    }

    /// Returns a user's number.
    pub fn uid(&self, name: &str) -> Answer<u32> {
        self.ask_of(name, Question::UserNumber).and_then(Value::number)
    }

    /// Returns a group's number.
    pub fn gid(&self, name: &str) -> Answer<u32> {
        self.ask_of(name, Question::GroupNumber).and_then(Value::number)
    }

    /// Returns a user's numbers and groups.
    pub fn account(&self, name: &str) -> Answer<Account> {
        self.ask_of(name, Question::Account).and_then(Value::account)
    }

    /// Returns a user's name to be shown: the number where there is none, or none now.
    pub fn shown_user(&self, uid: u32) -> String {
        self.user_name(uid).known().unwrap_or_else(|| uid.to_string())
    }

    /// Asks about a name, unless none is called so.
    fn ask_of(&self, name: &str, question: impl Fn(String) -> Question) -> Answer<Value> {
        if is_name(name) { self.ask(question(name.to_owned())) } else { Answer::Nobody }
    }

    fn ask(&self, question: Question) -> Answer<Value> {
        self.asking.ask(question, self.wait)
    }
}

/// Returns the home folders in the machine's own list of users. A directory does not list its users.
pub fn local_homes() -> BTreeSet<PathBuf> {
    service::homes(&service::read(service::PASSWD))
}

/// Tells whether something can be the name of an account; it may come from another machine.
fn is_name(name: &str) -> bool {
    let is_odd = |c: char| c.is_control() || matches!(c, ':' | '/');
    (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.contains(is_odd)
}

/// How long a question is waited for.
pub const WAIT: Duration = Duration::from_millis(250);

/// How long a question is waited for by whoever has the time.
pub const PATIENT_WAIT: Duration = Duration::from_secs(10);

/// How long it is believed that an account is what it is.
pub const FRESH_FOR: Duration = Duration::from_secs(60);

/// How long it is believed that there is no such account.
pub const NOBODY_FOR: Duration = Duration::from_secs(10);

/// After how long a question that was not answered is asked again.
pub const RETRY_AFTER: Duration = Duration::from_secs(5);

/// How many answers are kept at most.
pub const ANSWERS_MAX: usize = 16_384;

/// The longest name of an account, in bytes.
const NAME_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests;
