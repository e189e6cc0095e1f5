//! What is written down of questions that change something: who asked, what, and what came of it.

use std::{fmt::Display, sync::Arc};

use keepshare_auth::{AuditEvent, AuditLine};
use keepshare_base::{SetName, SetPath};
use keepshare_control::{Failure, Outcome, caller::Caller};
use keepshare_host::{accounts::MachineAccounts, clock};
use keepshare_station::station::Station;

use super::StationAnswers;

impl StationAnswers {
    /// Does what somebody asks about a set, and writes down that it was asked, in which words, and what came of it.
    pub(crate) fn audited<T>(
        &self,
        caller: &Caller,
        (event, set, asked): (AuditEvent, &SetName, &str),
        told: impl FnOnce(&T) -> String,
        act: impl FnOnce() -> Outcome<T>,
    ) -> Outcome<T> {
        let done = act();
        let line = match &done {
            Ok(done) => AuditLine::done(clock::now(), event).result(told(done)),
            Err(failure) => AuditLine::refused(clock::now(), event, failure.one_line()),
        };
        let line = if asked.is_empty() { line } else { line.asked(asked) };
        self.write_of_set(set, by(caller, line).set(set));
        done
    }

    /// Writes down that somebody had an old version brought back, or written out.
    pub(crate) fn audit(
        &self,
        event: AuditEvent,
        caller: &Caller,
        (set, path, version): (&SetName, &SetPath, &dyn Display),
        outcome: Result<&str, &Failure>,
    ) {
        let line = match outcome {
            Ok(result) => AuditLine::done(clock::now(), event).result(result),
            Err(failure) => AuditLine::refused(clock::now(), event, failure.one_line()),
        };
        self.write_of_set(set, by(caller, line).set(set).path(path).version(version));
    }

    /// Writes down that somebody asked for what only admins may.
    pub(crate) fn audit_turned_away(&self, event: AuditEvent, caller: &Caller, why: &Failure) {
        let line = AuditLine::refused(clock::now(), event, why.one_line());
        if let Ok(station) = self.first() {
            station.accounts.audit().write(by(caller, line));
        }
    }

    fn write_of_set(&self, set: &SetName, line: AuditLine) {
        // Of a demo's two stations the replica has the users, and the log.
        let keeps = |station: &&Arc<Station>| {
            station.running(set).is_some_and(|running| running.copy().is_some())
        };
        let has = |station: &&Arc<Station>| station.running(set).is_some();
        let stations = || self.stations.iter();
        let of_set = stations().find(keeps).or_else(|| stations().find(has));
        if let Some(station) = of_set.or_else(|| self.stations.first()) {
            station.accounts.audit().write(line);
        }
    }
}

/// Adds who asked, and from where.
pub(crate) fn by(caller: &Caller, line: AuditLine) -> AuditLine {
    match caller {
        Caller::Admin { .. } => line.principal(&shown(caller)).local(),
        Caller::User(user) => line.principal(&shown(caller)).address(user.address),
        Caller::Member(_) => line.principal(&shown(caller)),
    }
}

/// Returns who asks, as logs and versions name them.
pub(crate) fn shown(caller: &Caller) -> String {
    match caller {
        Caller::Admin { uid } => MachineAccounts::of_this_machine().shown_user(*uid),
        Caller::User(user) => user.principal.user.clone(),
        Caller::Member(name) => name.to_string(),
    }
}
