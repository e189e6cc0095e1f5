//! What a station answers on its Unix socket.

use std::{os::unix::ffi::OsStrExt, path::Path, sync::Arc};

use keepshare_auth::{AuditEvent, AuditLine};
use keepshare_base::{
    Name, Role, SetName, SetPath, Stamp, StationAddress, StationName, escape_name,
};
use keepshare_control::{
    Failure, Outcome, Reply,
    answers::{FsckReport, MemberStatus, SetStatus, StatusReport, TokenInfo},
    caller::Caller,
    questions::{
        Export, Find, Fsck, Place, Restore, SetAdd, SetMirror, SetStationAddress, Show, Status,
        TokenCreate, TokenList, Versions, Zone,
    },
    router::Answers,
};
use keepshare_host::{accounts::MachineAccounts, clock};
use keepshare_identity::TOKEN_TTL_S;
use keepshare_namespace::{Pattern, Who};
use keepshare_versioning::{FileState, names};

use crate::{
    announce,
    elsewhere::Elsewhere,
    fsck::{self, Verified},
    master::MirrorKind,
    parts::Running,
    replica::Replica,
    service::Station,
    set_record::SetRecord,
    status::{member_status, station_status, status_of_set},
};

/// Where the versions of a set are.
enum Kept {
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

/// Answers for the stations of one process: one, or the two of a demo.
#[derive(Debug)]
pub struct StationAnswers {
    stations: Vec<Arc<Station>>,
}

impl StationAnswers {
    /// Returns the answers of these stations; what is asked of one station is asked of the first that can.
    pub fn new(stations: Vec<Arc<Station>>) -> Self {
        Self { stations }
    }

    /// Returns how everything is.
    pub(crate) fn status(&self) -> StatusReport {
        StatusReport {
            stations: self.stations.iter().map(|station| station_status(station)).collect(),
        }
    }

    fn primary(&self) -> Outcome<&Arc<Station>> {
        self.stations.iter().find(|station| station.enrolment.is_some()).ok_or_else(|| {
            Failure::refused("this station is not the primary of its cluster")
                .hint("ask the first station, the one that was made by keepshare init")
        })
    }

    /// Returns where the versions of a set are, and the path in it, that a caller means.
    fn find(&self, caller: &Caller, place: &Place) -> Outcome<Kept> {
        let (set, path) = match place {
            Place::Set { set, path } if caller.may_know(set) => (set.clone(), path.clone()),
            Place::Set { set, .. } => return Err(no_set(set)),
            Place::Local(path) if matches!(caller, Caller::Admin { .. }) => self.recognise(path)?,
            Place::Local(_) => {
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
                    false => Err(no_set(&set)),
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
            let to = running.source().map(|master| master.to().cloned().collect());
            elsewhere = to.map(|to| (Arc::clone(station), to)).or(elsewhere);
        }
        match (elsewhere, caller) {
            (Some((station, to)), Caller::Admin { .. }) => {
                Ok(Kept::Elsewhere(Elsewhere { station, set, path, to }))
            }
            _ => Err(no_set(&set)),
        }
    }

    /// Returns the copy of a set that is kept here, for what cannot be passed on.
    fn find_here(&self, caller: &Caller, place: &Place) -> Outcome<(Arc<Replica>, SetPath)> {
        match self.find(caller, place)? {
            Kept::Here(copy, path) => Ok((copy, path)),
            Kept::Elsewhere(Elsewhere { set, path, to, .. }) => {
                let to: Vec<String> = to.iter().map(ToString::to_string).collect();
                let to = to.join(" or ");
                Err(Failure::refused(format!(
                    "this station sends set {set}; its versions are kept by {to}"
                ))
                .hint(format!("ask on {to}, for '{set}:{path}'")))
            }
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

    fn mirror_set(
        &self,
        name: &SetName,
        to: Option<&StationName>,
        kind: MirrorKind,
    ) -> Outcome<SetStatus> {
        let mut received = false;
        for station in &self.stations {
            let Some(running) = station.running(name) else { continue };
            if let Some(master) = running.source() {
                master.mirror(to, kind)?;
                return status_of_set(station, name)
                    .ok_or_else(|| Failure::unavailable("the station is stopping"));
            }
            if let Some(failure) = running.failures().next() {
                return Err(failure.clone().context(format!("set {name} cannot be opened")));
            }
            received = true;
        }
        Err(if received {
            Failure::refused(format!("set {name} is received here, and mirrored by its master"))
                .hint("ask on the station that its users write on; keepshare set show tells which")
        } else {
            Failure::not_found(format!("there is no set '{name}' on this station"))
                .hint("keepshare set list shows the sets of this station")
        })
    }

    fn set_address(&self, name: &StationName, address: &StationAddress) -> Outcome<MemberStatus> {
        let station = self.stations.iter().find(|station| station.enrolment.is_some());
        let station = station.or_else(|| self.stations.first());
        let station = station.ok_or_else(|| Failure::unavailable("no station runs here"))?;
        announce::set_address(station, name, address)?;
        let member = station.peers.members().into_iter().find(|member| member.name == *name);
        member.map(|member| member_status(member, false)).ok_or_else(|| {
            Failure::not_found(format!("there is no station '{name}'"))
                .hint("keepshare status lists the stations")
        })
    }

    fn add_set(
        &self,
        name: SetName,
        source: std::path::PathBuf,
        mut to: Vec<StationName>,
    ) -> Outcome<SetStatus> {
        let station = self.primary()?;
        to.sort();
        to.dedup();
        for receiver in to.iter().filter(|receiver| **receiver != station.config.name) {
            if station.other(receiver).is_none() {
                return Err(Failure::not_found(format!("there is no station '{receiver}'")).hint(
                    "keepshare status lists the stations; keepshare token create invites one",
                ));
            }
        }
        if station.running(&name).is_some() {
            return Err(Failure::refused(format!("there is a set '{name}' already"))
                .hint("keepshare set list shows the sets of this station"));
        }
        if let Some(other) = self.overlapping(&source) {
            let shown = source.display();
            return Err(Failure::refused(format!(
                "{shown} overlaps with the folder of set {other}"
            ))
            .hint("a file can be in one set only; keepshare set list shows their folders"));
        }
        station.add_source(name.clone(), source, to)?;
        status_of_set(station, &name).ok_or_else(|| Failure::unavailable("the station is stopping"))
    }

    /// Returns a set whose folder is inside this one, or around it.
    fn overlapping(&self, source: &Path) -> Option<SetName> {
        let mut sets = self.stations.iter().flat_map(|station| station.sets());
        sets.find_map(|(record, _)| {
            let root = record.part.folder()?;
            (root.starts_with(source) || source.starts_with(root)).then_some(record.name)
        })
    }

    fn create_token(&self) -> Outcome<TokenInfo> {
        let station = self.primary()?;
        let Some(enrolment) = &station.enrolment else {
            return Err(Failure::refused("this station is not the primary of its cluster"));
        };
        let now = clock::now();
        let token =
            enrolment.tokens().create(now, Role::Replica, TOKEN_TTL_S).map_err(|error| {
                Failure::from(anyhow::Error::new(error).context("cannot make a token"))
            })?;
        let address = station.peers.address_of(&station.config.name);
        let address = address.map_or_else(|| "THIS-STATION".to_owned(), String::from);
        Ok(TokenInfo {
            id: keepshare_identity::TokenId::of(&token.secret).to_string(),
            role: Role::Replica.to_string(),
            expires: now.plus_micros(i64::from(TOKEN_TTL_S) * 1_000_000).to_string(),
            join: Some(format!("keepshare join {address} --token {token} --name NAME")),
            token: Some(token.to_string()),
        })
    }

    fn tokens(&self) -> Outcome<Vec<TokenInfo>> {
        let station = self.primary()?;
        let Some(enrolment) = &station.enrolment else { return Ok(Vec::new()) };
        let tokens = enrolment.tokens().list();
        let tokens = tokens.map_err(|error| {
            Failure::from(anyhow::Error::new(error).context("cannot list tokens"))
        })?;
        let now: Stamp = clock::now();
        let usable = tokens.into_iter().filter(|token| token.used.is_none() && token.expires > now);
        Ok(usable
            .map(|token| TokenInfo {
                token: None,
                id: token.id.to_string(),
                role: token.role.to_string(),
                expires: token.expires.to_string(),
                join: None,
            })
            .collect())
    }

    fn find_names(&self, caller: &Caller, asked: &Find, reply: &mut Reply) -> Outcome<()> {
        let Find { set: only, pattern, deleted_only, limit } = asked;
        let only = only.as_ref();
        let parsed = Pattern::new(pattern, *deleted_only).map_err(Failure::usage)?;
        let (mut known, mut left) = (false, *limit);
        let mut names: Vec<SetName> = self
            .stations
            .iter()
            .flat_map(|station| station.sets())
            .map(|(set, _)| set.name)
            .collect();
        names.sort();
        names.dedup();
        names.retain(|name| only.is_none_or(|only| only == name) && caller.may_know(name));
        for set in names {
            let top = Place::Set { set: set.clone(), path: Vec::new() };
            left -= match self.find(caller, &top) {
                Ok(Kept::Here(copy, _)) => {
                    copy.catalog().find(who(caller), &parsed, left, reply)?
                }
                Ok(Kept::Elsewhere(there)) => {
                    let question = Find { set: Some(set), limit: left, ..asked.clone() };
                    there.ask(&question, reply)?
                }
                Err(_) => continue,
            };
            known = true;
        }
        if known {
            return Ok(());
        }
        let what = only.map_or_else(|| "no set".to_owned(), |only| format!("no set '{only}'"));
        Err(Failure::not_found(format!("this station keeps {what}"))
            .hint("ask where it is kept: keepshare set list shows the sets, and the stations that have them"))
    }

    fn fsck(&self, only: Option<&SetName>, repair_clock: bool, reply: &mut Reply) -> Outcome<()> {
        let sets = self.stations.iter().flat_map(|station| station.sets());
        let kept = sets
            .filter(|(record, _)| only.is_none_or(|only| *only == record.name))
            .filter(|(record, _)| record.part.copy.is_some());
        let kept: Vec<(SetRecord, Running)> = kept.collect();
        if kept.is_empty()
            && let Some(only) = only
        {
            return Err(Failure::not_found(format!("this station keeps no set '{only}'")).hint(
                "keepshare set list shows the sets of this station; fsck is for received ones",
            ));
        }
        for (record, running) in kept {
            let set = record.name.to_string();
            let report = match (running.copy(), running.why_no_copy()) {
                (Some(copy), _) => {
                    let clock_repaired = repair_clock.then(|| copy.repair_clock()).transpose()?;
                    let Verified { states, bytes, unhashed, damage } =
                        fsck::verify(&record.name, copy.reader(), reply)?;
                    let live_differences = copy.check_live(reply)?;
                    let ok = damage.is_empty() && live_differences.is_empty();
                    FsckReport {
                        set,
                        ok,
                        states,
                        bytes,
                        unhashed,
                        damage,
                        live_differences,
                        clock_repaired,
                    }
                }
                (None, Some(failure)) => FsckReport {
                    set,
                    ok: false,
                    states: 0,
                    bytes: 0,
                    unhashed: 0,
                    damage: vec![failure.clone().context("it cannot be opened").one_line()],
                    live_differences: Vec::new(),
                    clock_repaired: None,
                },
                (None, None) => continue,
            };
            reply.item(&report)?;
        }
        Ok(())
    }
}

impl Answers<Status> for StationAnswers {
    fn answer(&self, _: &Caller, _: Status, reply: &mut Reply) -> Outcome<()> {
        reply.item(&self.status())
    }
}

impl Answers<TokenCreate> for StationAnswers {
    fn answer(&self, _: &Caller, _: TokenCreate, reply: &mut Reply) -> Outcome<()> {
        reply.item(&self.create_token()?)
    }
}

impl Answers<TokenList> for StationAnswers {
    fn answer(&self, _: &Caller, _: TokenList, reply: &mut Reply) -> Outcome<()> {
        self.tokens()?.iter().try_for_each(|token| reply.item(token))
    }
}

impl Answers<SetStationAddress> for StationAnswers {
    fn answer(&self, _: &Caller, asked: SetStationAddress, reply: &mut Reply) -> Outcome<()> {
        reply.item(&self.set_address(&asked.name, &asked.address)?)
    }
}

impl Answers<SetAdd> for StationAnswers {
    fn answer(
        &self,
        _: &Caller,
        SetAdd { name, source, to }: SetAdd,
        reply: &mut Reply,
    ) -> Outcome<()> {
        reply.item(&self.add_set(name, source, to)?)
    }
}

impl Answers<SetMirror> for StationAnswers {
    fn answer(
        &self,
        _: &Caller,
        SetMirror { name, to, new_epoch, take_over, new_source }: SetMirror,
        reply: &mut Reply,
    ) -> Outcome<()> {
        let kind = match (new_source, take_over, new_epoch) {
            (true, _, _) => MirrorKind::NewSource,
            (false, true, _) => MirrorKind::TakeOver,
            (false, false, true) => MirrorKind::NewEpoch,
            (false, false, false) => MirrorKind::Same,
        };
        reply.item(&self.mirror_set(&name, to.as_ref(), kind)?)
    }
}

impl Answers<Versions> for StationAnswers {
    fn answer(
        &self,
        caller: &Caller,
        Versions { place, limit }: Versions,
        reply: &mut Reply,
    ) -> Outcome<()> {
        let (replica, path) = match self.find(caller, &place)? {
            Kept::Here(replica, path) => (replica, path),
            Kept::Elsewhere(there) => {
                return there.ask(&Versions { place: there.place(), limit }, reply).map(drop);
            }
        };
        replica.catalog().versions(who(caller), &path, limit, reply)
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
        Export { place, when }: Export,
        reply: &mut Reply,
    ) -> Outcome<()> {
        let (replica, path) = match self.find(caller, &place)? {
            Kept::Here(replica, path) => (replica, path),
            Kept::Elsewhere(there) => {
                return there.ask(&Export { place: there.place(), when }, reply).map(drop);
            }
        };
        let catalog = replica.catalog();
        let then = catalog.at(who(caller), &path, &when)?;
        let sent = catalog.export(who(caller), (&path, &then), reply);
        self.audit(
            AuditEvent::Export,
            caller,
            (catalog.set(), &path, &then.state),
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
        let (replica, path) = self.find_here(caller, &place)?;
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
            (catalog.set(), &path, &restorable.state),
            restored.as_ref().map(|restored| restored.outcome.as_str()),
        );
        reply.item(&restored?)
    }
}

impl Answers<Find> for StationAnswers {
    fn answer(&self, caller: &Caller, asked: Find, reply: &mut Reply) -> Outcome<()> {
        self.find_names(caller, &asked, reply)
    }
}

impl Answers<Zone> for StationAnswers {
    fn answer(&self, _: &Caller, _: Zone, reply: &mut Reply) -> Outcome<()> {
        // The two stations of a demo have one.
        reply.item(&self.first()?.config.zone.name())
    }
}

impl Answers<Fsck> for StationAnswers {
    fn answer(
        &self,
        _: &Caller,
        Fsck { set, repair_clock }: Fsck,
        reply: &mut Reply,
    ) -> Outcome<()> {
        self.fsck(set.as_ref(), repair_clock, reply)
    }
}

impl StationAnswers {
    /// Writes down that somebody on the station had an old version brought back.
    fn audit(
        &self,
        event: AuditEvent,
        caller: &Caller,
        (set, path, state): (&SetName, &SetPath, &FileState),
        outcome: Result<&str, &Failure>,
    ) {
        let line = match outcome {
            Ok(result) => AuditLine::done(clock::now(), event).result(result),
            Err(failure) => AuditLine::refused(clock::now(), event, failure.one_line()),
        };
        let line = match caller {
            Caller::Admin { .. } => line.principal(&shown(caller)).local(),
            Caller::User(user) => line.principal(&shown(caller)).address(user.address),
            Caller::Member(_) => line.principal(&shown(caller)),
        };
        let line = line.set(set).path(path).version(names::id(state));
        // Of a demo's two stations the replica has the users, and the log.
        let station = self
            .stations
            .iter()
            .find(|station| station.running(set).is_some_and(|running| running.copy().is_some()));
        if let Some(station) = station {
            station.accounts.audit().write(line);
        }
    }

    /// Of a demo's two stations the first has the drive, and with it the users.
    pub(crate) fn first(&self) -> Outcome<&Arc<Station>> {
        self.stations.first().ok_or_else(|| Failure::unavailable("no station runs here"))
    }
}

/// Returns whose rights count. A member asks about what it masters itself, so it has it all.
fn who(caller: &Caller) -> Who<'_> {
    match caller {
        Caller::Admin { .. } | Caller::Member(_) => Who::Admin,
        Caller::User(user) => Who::User(&user.principal),
    }
}

/// Returns who asks, as logs and versions name them.
fn shown(caller: &Caller) -> String {
    match caller {
        Caller::Admin { uid } => MachineAccounts::of_this_machine().shown_user(*uid),
        Caller::User(user) => user.principal.user.clone(),
        Caller::Member(name) => name.to_string(),
    }
}

fn no_set(set: &SetName) -> Failure {
    Failure::not_found(format!("there is no set '{set}' on this station"))
        .hint("keepshare set list shows the sets of this station")
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
