//! What a station answers on its Unix socket.

use std::{os::unix::ffi::OsStrExt, path::Path, sync::Arc};

use keepshare_auth::{AuditEvent, AuditLine, Role, StationAddress, TOKEN_TTL_S};
use keepshare_base::{Name, SetName, SetPath, Stamp, StationName, escape_name};
use keepshare_control::{
    Failure, Outcome,
    answers::{FsckReport, MemberStatus, SetStatus, StatusReport, TokenInfo},
    questions::{Place, Request},
    server::{Answers, Reply},
};
use keepshare_host::{accounts::MachineAccounts, clock};
use keepshare_namespace::{PathThen, Pattern, Who};
use keepshare_versioning::{FileState, names};

use crate::{
    account_answers, announce,
    asking::Catalog,
    fsck::{self, Verified},
    master::{Master, MirrorKind},
    replica::Replica,
    service::{Running, Station},
    state::{SetPart, SetRecord},
    status::{member_status, station_status},
};

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

    /// Returns the replica of a set, and the path in it, that a person means.
    fn find(&self, place: &Place) -> Outcome<(Arc<Replica>, SetPath)> {
        let (set, path) = match place {
            Place::Set { set, path } => (set.clone(), path.clone()),
            Place::Local(path) => self.recognise(path)?,
        };
        let path = to_set_path(&path)?;
        let mut master: Option<Arc<Master>> = None;
        for station in &self.stations {
            match station.running(&set) {
                Some(Running::Replica(replica)) => return Ok((replica, path)),
                Some(Running::Master(found)) => master = Some(found),
                Some(Running::Failed(failure)) => {
                    return Err(failure.context(format!("set {set} cannot be opened")));
                }
                None => {}
            }
        }
        Err(match master {
            Some(master) => {
                let to: Vec<String> = master.to().map(ToString::to_string).collect();
                let to = to.join(" or ");
                Failure::refused(format!(
                    "this station sends set {set}; its versions are kept by {to}"
                ))
                .hint(format!("ask on {to}, for '{set}:{path}'"))
            }
            None => Failure::not_found(format!("there is no set '{set}' on this station"))
                .hint("keepshare set list shows the sets of this station"),
        })
    }

    /// Finds the source or live tree in which a local path lies.
    fn recognise(&self, path: &[u8]) -> Outcome<(SetName, Vec<u8>)> {
        let path = Path::new(std::ffi::OsStr::from_bytes(path));
        for station in &self.stations {
            for (record, running) in station.sets() {
                let root = match &running {
                    Running::Master(master) => master.root().to_owned(),
                    Running::Replica(replica) => replica.live().to_owned(),
                    Running::Failed(_) => continue,
                };
                let root = root.canonicalize().unwrap_or(root);
                if let Ok(inside) = path.strip_prefix(&root) {
                    return Ok((record.name, inside.as_os_str().as_bytes().to_vec()));
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
            match station.running(name) {
                Some(Running::Master(master)) => {
                    master.mirror(to, kind)?;
                    return Ok(master.status());
                }
                Some(Running::Failed(failure)) => {
                    return Err(failure.context(format!("set {name} cannot be opened")));
                }
                Some(Running::Replica(_)) => received = true,
                None => {}
            }
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
        for receiver in &to {
            if *receiver == station.config.name {
                return Err(Failure::refused(format!("{receiver} is this station itself"))
                    .hint("name another one: keepshare status lists them"));
            }
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
        let record = SetRecord::new(name.clone(), SetPart::Master { source, to });
        match station.add_set(record)? {
            Running::Master(master) => Ok(master.status()),
            _ => Err(Failure::refused(format!("set {name} is received here"))
                .hint("give the new set another name")),
        }
    }

    /// Returns a set whose folder is inside this one, or around it.
    fn overlapping(&self, source: &Path) -> Option<SetName> {
        let mut sets = self.stations.iter().flat_map(|station| station.sets());
        sets.find_map(|(record, _)| match record.part {
            SetPart::Master { source: root, .. }
                if root.starts_with(source) || source.starts_with(&root) =>
            {
                Some(record.name)
            }
            SetPart::Master { .. } | SetPart::Replica { .. } => None,
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
            id: keepshare_auth::TokenId::of(&token.secret).to_string(),
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

    fn find_names(
        &self,
        only: Option<&SetName>,
        pattern: &Pattern,
        limit: usize,
        reply: &mut Reply,
    ) -> Outcome<()> {
        let (mut known, mut left) = (false, limit);
        for (record, running) in self.stations.iter().flat_map(|station| station.sets()) {
            if only.is_some_and(|only| *only != record.name) {
                continue;
            }
            if let Running::Replica(replica) = running {
                known = true;
                left -= replica.catalog().find(Who::Admin, pattern, left, reply)?;
            }
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
            .filter(|(record, _)| matches!(record.part, SetPart::Replica { .. }));
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
            let report = match running {
                Running::Replica(replica) => {
                    let clock_repaired =
                        repair_clock.then(|| replica.repair_clock()).transpose()?;
                    let Verified { states, bytes, unhashed, damage } =
                        fsck::verify(&record.name, replica.reader(), reply)?;
                    let live_differences = replica.check_live(reply)?;
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
                Running::Failed(failure) => FsckReport {
                    set,
                    ok: false,
                    states: 0,
                    bytes: 0,
                    unhashed: 0,
                    damage: vec![failure.context("it cannot be opened").one_line()],
                    live_differences: Vec::new(),
                    clock_repaired: None,
                },
                Running::Master(_) => continue,
            };
            reply.item(&report)?;
        }
        Ok(())
    }
}

impl Answers for StationAnswers {
    fn answer(&self, uid: u32, request: Request, reply: &mut Reply) -> Outcome<()> {
        match request {
            Request::Status => reply.item(&self.status()),
            Request::TokenCreate => reply.item(&self.create_token()?),
            Request::TokenList => self.tokens()?.iter().try_for_each(|token| reply.item(token)),
            Request::StationAddress { name, address } => {
                reply.item(&self.set_address(&name, &address)?)
            }
            Request::SetAdd { name, source, to } => reply.item(&self.add_set(name, source, to)?),
            Request::SetMirror { name, to, new_epoch, take_over, new_source } => {
                let kind = match (new_source, take_over, new_epoch) {
                    (true, _, _) => MirrorKind::NewSource,
                    (false, true, _) => MirrorKind::TakeOver,
                    (false, false, true) => MirrorKind::NewEpoch,
                    (false, false, false) => MirrorKind::Same,
                };
                reply.item(&self.mirror_set(&name, to.as_ref(), kind)?)
            }
            Request::Versions { place, limit } => {
                let (replica, path) = self.find(&place)?;
                replica.catalog().versions(Who::Admin, &path, limit, reply)
            }
            Request::Show { place, when } => {
                let (catalog, path, then) = self.find_then(&place, &when)?;
                catalog.show(Who::Admin, (&path, &then), reply)
            }
            Request::Export { place, when } => {
                let (catalog, path, then) = self.find_then(&place, &when)?;
                let sent = catalog.export(Who::Admin, (&path, &then), reply);
                self.audit(
                    AuditEvent::Export,
                    uid,
                    (catalog.set(), &path, &then.state),
                    sent.as_ref().map(|()| "sent"),
                );
                sent
            }
            Request::Restore { place, when } => {
                let (replica, path) = self.find(&place)?;
                let catalog = replica.catalog();
                let restorable = catalog.restorable(Who::Admin, &path, &when)?;
                let restored = replica.restore(
                    &path,
                    &restorable,
                    &MachineAccounts::of_this_machine().shown_user(uid),
                );
                self.audit(
                    AuditEvent::Restore,
                    uid,
                    (catalog.set(), &path, &restorable.state),
                    restored.as_ref().map(|restored| restored.outcome.as_str()),
                );
                reply.item(&restored?)
            }
            Request::Find { set, pattern, deleted_only, limit } => {
                let pattern = Pattern::new(&pattern, deleted_only).map_err(Failure::usage)?;
                self.find_names(set.as_ref(), &pattern, limit, reply)
            }
            Request::Zone => {
                // The two stations of a demo have one.
                let station = self.stations.first();
                let station =
                    station.ok_or_else(|| Failure::unavailable("no station runs here"))?;
                reply.item(&station.config.zone.name())
            }
            Request::Account(request) => {
                // Of a demo's two stations the first has the drive, and with it the users.
                let station = self.stations.first();
                let station =
                    station.ok_or_else(|| Failure::unavailable("no station runs here"))?;
                account_answers::answer(station, request, reply)
            }
            Request::Fsck { set, repair_clock } => self.fsck(set.as_ref(), repair_clock, reply),
        }
    }
}

impl StationAnswers {
    /// Writes down that somebody on the station had an old version brought back.
    fn audit(
        &self,
        event: AuditEvent,
        uid: u32,
        (set, path, state): (&SetName, &SetPath, &FileState),
        outcome: Result<&str, &Failure>,
    ) {
        let line = match outcome {
            Ok(result) => AuditLine::done(clock::now(), event).result(result),
            Err(failure) => AuditLine::refused(clock::now(), event, failure.one_line()),
        };
        let line = line.principal(&MachineAccounts::of_this_machine().shown_user(uid)).local();
        let line = line.set(set).path(path).version(names::id(state));
        // Of a demo's two stations the replica has the users, and the log.
        let station = self
            .stations
            .iter()
            .find(|station| matches!(station.running(set), Some(Running::Replica(_))));
        if let Some(station) = station {
            station.accounts.audit().write(line);
        }
    }

    fn find_then(&self, place: &Place, when: &str) -> Outcome<(Catalog, SetPath, PathThen)> {
        let (replica, path) = self.find(place)?;
        let catalog = replica.catalog();
        let then = catalog.at(Who::Admin, &path, when)?;
        Ok((catalog, path, then))
    }
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
