//! Folders that are rolled back in place, where their past is kept.

use std::sync::Arc;

use keepshare_auth::AuditEvent;
use keepshare_base::{CommitId, SetName, SetPath};
use keepshare_control::{
    Failure, Outcome, Reply,
    caller::Caller,
    questions::{LIMIT_MAX, Location, Rollback, RollbackList, RollbackStop, RollbackUndo},
    rollback::RolledBack,
    router::Answers,
};
use keepshare_sets::replica::{Begun, By, Order, Replica};
use keepshare_versioning::{rollback::Back, when::POINT};

use super::{
    StationAnswers,
    audit::shown,
    past::{Kept, who},
};

impl Answers<Rollback> for StationAnswers {
    fn answer(&self, caller: &Caller, asked: Rollback, reply: &mut Reply) -> Outcome<()> {
        check_limit(asked.limit)?;
        let (copy, path) = self.rolled_here(caller, &asked.place)?;
        let catalog = copy.catalog();
        let (back, to) = match asked.deleted {
            // Since when is the whole set's to say: the folder may have been made later.
            true => {
                let since = catalog.at(who(caller), &SetPath::default(), &asked.when)?.commit;
                (Back::Deleted { since }, format!("deleted since {}", asked.when))
            }
            false => {
                let at = catalog.at(who(caller), &path, &asked.when)?.commit;
                let is_point = asked.when.starts_with(POINT);
                (Back::To { at, is_point }, asked.when.clone())
            }
        };
        let seen = asked.seen.filter(|_| !asked.over).map(CommitId);
        let base = seen.unwrap_or(CommitId::MAX);
        let (only, links, by) = (None, asked.links, by(caller));
        let order = Order { path, back, base, only, links, to, by };
        let how = How { sure: asked.sure, nearest: asked.nearest, limit: asked.limit };
        self.ordered(caller, &copy, (&order, how), reply)
    }

    fn turned_away(&self, caller: &Caller, why: &Failure) {
        self.audit_turned_away(AuditEvent::Rollback, caller, why);
    }
}

impl Answers<RollbackUndo> for StationAnswers {
    fn answer(&self, caller: &Caller, asked: RollbackUndo, reply: &mut Reply) -> Outcome<()> {
        check_limit(asked.limit)?;
        let (copy, _) = self.rolled_here(caller, &top(&asked.set))?;
        let order = copy.undo_of(&asked.rollback, by(caller))?;
        let how = How { sure: asked.sure, nearest: asked.nearest, limit: asked.limit };
        self.ordered(caller, &copy, (&order, how), reply)
    }

    fn turned_away(&self, caller: &Caller, why: &Failure) {
        self.audit_turned_away(AuditEvent::Rollback, caller, why);
    }
}

impl Answers<RollbackStop> for StationAnswers {
    fn answer(
        &self,
        caller: &Caller,
        RollbackStop { set, rollback }: RollbackStop,
        reply: &mut Reply,
    ) -> Outcome<()> {
        let what = (AuditEvent::RollbackStop, &set, &*rollback);
        let told = |_: &RolledBack| "ended".to_owned();
        let stopped = self.audited(caller, what, told, || {
            let (copy, _) = self.rolled_here(caller, &top(&set))?;
            copy.stop_rollback(&rollback, &by(caller))
        })?;
        reply.item(&limited(stopped, CONFLICTS_TOLD))
    }

    fn turned_away(&self, caller: &Caller, why: &Failure) {
        self.audit_turned_away(AuditEvent::RollbackStop, caller, why);
    }
}

impl Answers<RollbackList> for StationAnswers {
    fn answer(
        &self,
        caller: &Caller,
        RollbackList { set }: RollbackList,
        reply: &mut Reply,
    ) -> Outcome<()> {
        let sets = match set {
            Some(set) => vec![set],
            None => {
                let mut sets: Vec<SetName> = self.kept_sets().collect();
                sets.sort();
                sets.dedup();
                sets.retain(|set| matches!(self.find(caller, &top(set)), Ok(Kept::Here(..))));
                sets
            }
        };
        for set in sets {
            let (copy, _) = self.rolled_here(caller, &top(&set))?;
            for told in copy.rollbacks(&by(caller))? {
                reply.item(&limited(told, 0))?;
            }
        }
        Ok(())
    }
}

/// How an order is answered.
#[derive(Clone, Copy)]
struct How {
    /// It is done; else it is only told what it would do.
    sure: bool,
    /// Though of some files only an older version is kept, or none.
    nearest: bool,
    /// How many steps and conflicts are told.
    limit: usize,
}

/// How many conflicts are told where nobody said how many.
const CONFLICTS_TOLD: usize = 1000;

impl StationAnswers {
    /// Tells what an order would do or, where it is sure, has it done and writes down who ordered that.
    fn ordered(
        &self,
        caller: &Caller,
        copy: &Arc<Replica>,
        (order, how): (&Order, How),
        reply: &mut Reply,
    ) -> Outcome<()> {
        if !how.sure {
            let told = copy.preview_rollback(order, how.limit)?;
            return reply.item(&limited(told, how.limit));
        }
        let set = copy.catalog().set().clone();
        let asked = format!("{} to {}", order.path, order.to);
        let what = (AuditEvent::Rollback, &set, &*asked);
        let told = |begun: &Begun| format!("{} began", begun.id());
        let begun = self.audited(caller, what, told, || copy.roll_back(order, how.nearest))?;
        let came = begun.follow(|progress| reply.progress(progress))?;
        reply.item(&limited(came, how.limit))
    }

    /// Returns the copy of a folder's set that is kept here, and the folder in it.
    fn rolled_here(&self, caller: &Caller, place: &Location) -> Outcome<(Arc<Replica>, SetPath)> {
        match self.find(caller, place)? {
            Kept::Here(copy, path) => Ok((copy, path)),
            Kept::Elsewhere(_) => Err(Failure::not_found("this station keeps no versions of that set")
                .hint("a folder is rolled back from a station that keeps the set: keepshare set list shows which")),
        }
    }
}

/// Returns who orders it, as it is written down.
fn by(caller: &Caller) -> By {
    let login = match caller {
        Caller::User(user) => Some(user.session.0),
        Caller::Admin { .. } | Caller::Member(_) => None,
    };
    By { user: shown(caller), login }
}

fn top(set: &SetName) -> Location {
    Location::Set { set: set.clone(), path: Vec::new() }
}

fn check_limit(limit: usize) -> Outcome<()> {
    match limit {
        0..=LIMIT_MAX => Ok(()),
        _ => Err(Failure::usage(format!("the limit is {limit}"))
            .hint(format!("say how many to list at most: 0 to {LIMIT_MAX}"))),
    }
}

/// Leaves so many conflicts in an answer, and counts the others: an answer is one line.
fn limited(mut told: RolledBack, limit: usize) -> RolledBack {
    let limit = limit.min(CONFLICTS_TOLD);
    let more = told.conflicts.len().saturating_sub(limit);
    told.conflicts.truncate(limit);
    told.more_conflicts += more as u64;
    told.steps.truncate(limit);
    told
}
