//! What is told of the past of a set: to an admin, to a user with the user's rights, to the station that masters it.

use std::{os::unix::ffi::OsStrExt, path::Path, sync::Arc};

use keepshare_auth::AuditEvent;
use keepshare_base::{Name, SetName, SetPath, escape_name};
use keepshare_control::{
    Failure, Outcome, Reply,
    caller::Caller,
    questions::{Export, LIMIT_MAX, Location, Restore, Show, Versions},
    router::Answers,
};
use keepshare_namespace::{Exported, Who};
use keepshare_sets::replica::Replica;
use keepshare_versioning::names;

use super::StationAnswers;

use crate::{audit::shown, elsewhere::Elsewhere};

/// Where the versions of a set are.
pub(crate) enum Kept {
    /// On this station.
    Here(Arc<Replica>, SetPath),
    /// On others, which this station sends them to.
    Elsewhere(Elsewhere),
}

/// Tells whether a caller is told anything of a copy: of what it masters itself, a member.
fn is_told(caller: &Caller, copy: &Replica) -> bool {
    match caller {
        Caller::Member(name) => copy.from() == name,
        Caller::Admin { .. } | Caller::User(_) => true,
    }
}

impl Answers<Versions> for StationAnswers {
    fn answer(
        &self,
        caller: &Caller,
        Versions { place, limit }: Versions,
        reply: &mut Reply,
    ) -> Outcome<()> {
        check_limit(limit)?;
        let (replica, path) = match self.find(caller, &place)? {
            Kept::Here(replica, path) => (replica, path),
            Kept::Elsewhere(there) => {
                return there.ask(&Versions { place: there.place(), limit }, reply).map(drop);
            }
        };
        replica.versions(who(caller), &path, limit, reply)
    }
}

impl Answers<Show> for StationAnswers {
    fn answer(
        &self,
        caller: &Caller,
        Show { place, when }: Show,
        reply: &mut Reply,
    ) -> Outcome<()> {
        let (replica, path) = match self.find(caller, &place)? {
            Kept::Here(replica, path) => (replica, path),
            Kept::Elsewhere(there) => {
                return there.ask(&Show { place: there.place(), when }, reply).map(drop);
            }
        };
        let catalog = replica.catalog();
        let then = catalog.at(who(caller), &path, &when)?;
        catalog.show(who(caller), (&path, &then), reply)
    }
}

impl Answers<Export> for StationAnswers {
    fn answer(
        &self,
        caller: &Caller,
        Export { place, when, content }: Export,
        reply: &mut Reply,
    ) -> Outcome<()> {
        let (replica, path) = match self.find(caller, &place)? {
            Kept::Here(replica, path) => (replica, path),
            Kept::Elsewhere(there) => {
                return there.ask(&Export { place: there.place(), when, content }, reply).map(drop);
            }
        };
        let catalog = replica.catalog();
        let then = catalog.at(who(caller), &path, &when)?;
        if !content {
            return catalog.export(who(caller), (&path, &then), Exported::Entries, reply);
        }
        let sent = catalog.export(who(caller), (&path, &then), Exported::Content, reply);
        self.audit(
            AuditEvent::Export,
            caller,
            (catalog.set(), &path, &names::id(&then.state)),
            sent.as_ref().map(|()| "sent"),
        );
        sent
    }
}

impl Answers<Restore> for StationAnswers {
    fn answer(
        &self,
        caller: &Caller,
        Restore { place, when }: Restore,
        reply: &mut Reply,
    ) -> Outcome<()> {
        let (replica, path) = match self.find(caller, &place)? {
            Kept::Here(replica, path) => (replica, path),
            Kept::Elsewhere(there) => {
                let restored = there.restore(&when, &shown(caller));
                let outcome = restored.as_ref().map(|restored| restored.outcome.as_str());
                let version = restored.as_ref().map_or(&when, |restored| &restored.version);
                self.audit(
                    AuditEvent::Restore,
                    caller,
                    (&there.set, &there.path, version),
                    outcome,
                );
                return reply.item(&restored?);
            }
        };
        let catalog = replica.catalog();
        let restorable = catalog.restorable(who(caller), &path, &when)?;
        let holder = match caller {
            Caller::User(user) => Some(user.principal.user.as_str()),
            Caller::Admin { .. } | Caller::Member(_) => None,
        };
        let restored = replica.restore(&path, &restorable, (&shown(caller), holder));
        self.audit(
            AuditEvent::Restore,
            caller,
            (catalog.set(), &path, &names::id(&restorable.state)),
            restored.as_ref().map(|restored| restored.outcome.as_str()),
        );
        reply.item(&restored?)
    }
}

impl StationAnswers {
    /// Returns where the versions of a set are, and the path in it, that a caller means.
    pub(crate) fn find(&self, caller: &Caller, place: &Location) -> Outcome<Kept> {
        let (set, path) = match place {
            Location::Set { set, path } if caller.may_know(set) => (set.clone(), path.clone()),
            Location::Set { set, .. } => return Err(no_set(caller, set)),
            Location::Local(path) if matches!(caller, Caller::Admin { .. }) => {
                self.recognise(path)?
            }
            Location::Local(_) => {
                return Err(Failure::usage("a local path means nothing at another station")
                    .hint("write SET:path/inside"));
            }
        };
        let path = to_set_path(&path)?;
        let mut elsewhere = None;
        for station in &self.stations {
            let Some(running) = station.running(&set) else { continue };
            if let Some(copy) = running.copy() {
                return match is_told(caller, copy) {
                    true => Ok(Kept::Here(Arc::clone(copy), path)),
                    false => Err(no_set(caller, &set)),
                };
            }
            if let Some(failure) = running.failures().next() {
                return match caller {
                    Caller::Admin { .. } => {
                        Err(failure.clone().context(format!("set {set} cannot be opened")))
                    }
                    Caller::User(_) | Caller::Member(_) => {
                        Err(Failure::unavailable(format!("set {set} cannot be opened")))
                    }
                };
            }
            let master = running.source().map(Arc::clone);
            elsewhere =
                master.map(|master| (Arc::clone(&station.membership.peers), master)).or(elsewhere);
        }
        match (elsewhere, caller) {
            (Some((peers, master)), Caller::Admin { .. }) => {
                Ok(Kept::Elsewhere(Elsewhere { peers, set, path, master }))
            }
            _ => Err(no_set(caller, &set)),
        }
    }

    /// Finds the source or live tree in which a local path lies.
    fn recognise(&self, path: &[u8]) -> Outcome<(SetName, Vec<u8>)> {
        let path = Path::new(std::ffi::OsStr::from_bytes(path));
        for station in &self.stations {
            for (record, running) in station.sets() {
                let source = running.source().map(|source| source.root().to_owned());
                let live = running.copy().map(|copy| copy.live().to_owned());
                for root in source.into_iter().chain(live) {
                    let root = root.canonicalize().unwrap_or(root);
                    if let Ok(inside) = path.strip_prefix(&root) {
                        return Ok((record.name, inside.as_os_str().as_bytes().to_vec()));
                    }
                }
            }
        }
        Err(Failure::not_found(format!("{} is in no source and no live tree", path.display()))
            .hint("write SET:path/inside; keepshare set list shows the sets of this station"))
    }

    /// Returns the sets that this station has a part in.
    pub(crate) fn kept_sets(&self) -> impl Iterator<Item = SetName> {
        self.stations.iter().flat_map(|station| station.sets()).map(|(set, _)| set.name)
    }

    /// Returns the copy here that a caller means, and the path in it.
    pub(crate) fn kept_here(
        &self,
        caller: &Caller,
        place: &Location,
    ) -> Outcome<(Arc<Replica>, SetPath)> {
        match self.find(caller, place)? {
            Kept::Here(copy, path) => Ok((copy, path)),
            Kept::Elsewhere(_) => Err(Failure::not_found("this station keeps no versions of that set")
                .hint("versions are thinned where they are kept: keepshare set list shows which station that is")),
        }
    }
}

/// Returns whose rights count. A member asks about what it masters itself, so it has it all.
pub(crate) fn who(caller: &Caller) -> Who<'_> {
    match caller {
        Caller::Admin { .. } | Caller::Member(_) => Who::Admin,
        Caller::User(user) => Who::User(&user.principal),
    }
}

pub(crate) fn check_limit(limit: usize) -> Outcome<()> {
    match limit {
        1..=LIMIT_MAX => Ok(()),
        _ => Err(Failure::usage(format!("the limit is {limit}"))
            .hint(format!("say how many to list at most: 1 to {LIMIT_MAX}"))),
    }
}

fn no_set(caller: &Caller, set: &SetName) -> Failure {
    let failure = Failure::not_found(format!("there is no set '{set}' on this station"));
    failure.hint(match caller {
        Caller::User(_) => "ask the station's admin which sets there are for you",
        Caller::Admin { .. } | Caller::Member(_) => {
            "keepshare set list shows the sets of this station"
        }
    })
}

/// Reads a path inside a set, as its source's users write it.
fn to_set_path(path: &[u8]) -> Outcome<SetPath> {
    let parts = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    let names: Result<Vec<Name>, _> = parts.map(escape_name).collect();
    names.map(SetPath::from).map_err(|error| {
        let shown = String::from_utf8_lossy(path);
        Failure::usage(format!("'{shown}' is not a path in a set: {error}"))
            .hint("write the path from the set's top, as in projects:plan/report.docx")
    })
}
