//! Names that are found, in the sets of all stations of this process.

use keepshare_base::{SetName, SetPath};
use keepshare_control::{
    Code, Failure, Outcome, Reply,
    caller::Caller,
    questions::{Find, Location},
    router::Answers,
};
use keepshare_namespace::{Pattern, Sought};
use keepshare_versioning::NamesFrom;

use super::{
    StationAnswers,
    past::{Kept, check_limit, who},
};

impl Answers<Find> for StationAnswers {
    fn answer(&self, caller: &Caller, asked: Find, reply: &mut Reply) -> Outcome<()> {
        check_limit(asked.limit)?;
        let look = Look::read(caller, &asked)?;
        let kept = self.looked_in(caller, &asked)?;
        if kept.is_empty() {
            let only = asked.set.as_ref();
            let what = only.map_or_else(|| "no set".to_owned(), |only| format!("no set '{only}'"));
            return Err(Failure::not_found(format!("this station keeps {what}"))
                .hint("ask where it is kept: keepshare set list shows the sets, and the stations that have them"));
        }
        let (mut left, several) = (asked.limit, kept.len() > 1);
        let (mut failed, mut elsewhere) = (None, None);
        for (set, kept) in kept {
            let Some(from) = look.from(&set).filter(|_| left > 0) else { continue };
            match look.look_in(set, kept, (from, left), reply) {
                // Another station may tell more than it was asked for.
                Ok(found) => left = left.saturating_sub(found),
                // What is kept here is told though another station is away.
                Err(failure) if failure.code == Code::Unavailable => {
                    failed.get_or_insert(failure);
                }
                // Points and versions are of one set: what is since then is looked for in that one.
                Err(failure) if failure.code == Code::NotFound && several => {
                    elsewhere.get_or_insert(failure);
                }
                Err(failure) => return Err(failure),
            }
        }
        failed.or(elsewhere.filter(|_| left == asked.limit)).map_or(Ok(()), Err)
    }
}

impl StationAnswers {
    /// Returns where the sets are kept in which a caller looks, in the order of their names.
    fn looked_in(&self, caller: &Caller, asked: &Find) -> Outcome<Vec<(SetName, Kept)>> {
        let set_of = |kept: &Kept| match kept {
            Kept::Here(copy, _) => copy.catalog().set().clone(),
            Kept::Elsewhere(there) => there.set.clone(),
        };
        if let Some(within) = &asked.within {
            let kept = self.find(caller, within)?;
            let set = set_of(&kept);
            if let Some(other) = asked.set.as_ref().filter(|other| **other != set) {
                return Err(Failure::usage(format!("the folder is in set {set}, not in {other}"))
                    .hint("the folder says the set"));
            }
            return Ok(vec![(set, kept)]);
        }
        let mut sets: Vec<SetName> = self.kept_sets().collect();
        sets.sort();
        sets.dedup();
        let is_meant = |set: &SetName| asked.set.as_ref().is_none_or(|only| only == set);
        let sets = sets.into_iter().filter(|set| is_meant(set) && caller.may_know(set));
        let kept = sets.filter_map(|set| {
            let top = Location::Set { set: set.clone(), path: Vec::new() };
            Some((set, self.find(caller, &top).ok()?))
        });
        Ok(kept.collect())
    }
}

/// A look through sets.
struct Look<'a> {
    caller: &'a Caller,
    asked: &'a Find,
    sought: Sought,
    /// The set of the name after which it goes on.
    after: Option<SetName>,
}

impl<'a> Look<'a> {
    fn read(caller: &'a Caller, asked: &'a Find) -> Outcome<Self> {
        let pattern = Pattern::new(&asked.pattern, asked.deleted_only).map_err(Failure::usage)?;
        let (after, from) = match &asked.after {
            Some(after) => read_after(after).map(|(set, from)| (Some(set), from))?,
            None => (None, NamesFrom::default()),
        };
        let (within, since) = (SetPath::default(), asked.since.clone());
        let sought = Sought { pattern, within, since, from };
        Ok(Self { caller, asked, sought, after })
    }

    /// Returns where in a set to begin; `None` where it was gone through before.
    fn from(&self, set: &SetName) -> Option<NamesFrom> {
        match &self.after {
            Some(after) if set < after => None,
            Some(after) if set == after => Some(self.sought.from.clone()),
            _ => Some(NamesFrom::default()),
        }
    }

    /// Looks in one set, and returns how many names were found.
    fn look_in(
        &self,
        set: SetName,
        kept: Kept,
        (from, limit): (NamesFrom, usize),
        reply: &mut Reply,
    ) -> Outcome<usize> {
        match kept {
            Kept::Here(copy, within) => {
                let sought = Sought { within, from, ..self.sought.clone() };
                copy.catalog().find(who(self.caller), &sought, limit, reply)
            }
            Kept::Elsewhere(there) => {
                let within = self.asked.within.as_ref().map(|_| there.place());
                let after = self.asked.after.clone().filter(|_| self.after.as_ref() == Some(&set));
                let asked = self.asked.clone();
                there.ask(&Find { set: Some(set), within, after, limit, ..asked }, reply)
            }
        }
    }
}

/// Reads after which name of which set to go on.
fn read_after(after: &str) -> Outcome<(SetName, NamesFrom)> {
    let read = || {
        let (set, from) = after.split_once(':')?;
        Some((set.parse().ok()?, from.parse().ok()?))
    };
    read().ok_or_else(|| {
        Failure::usage(format!("'{after}' does not say after what to go on"))
            .hint("keepshare find NAME --json has it in the field after of what was found last")
    })
}
