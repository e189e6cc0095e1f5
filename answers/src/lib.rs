//! What a station answers: about itself and its sets here, about the past of a set in `past`, about users in `accounts`, about
//! what is kept for how long in `retention`, about named moments in `points`, about folders that come back in `rollback`, about looks for damage in `scrub`,
//! about bursts in `alarms`, who did what in `auditing`.

mod accounts;
mod alarms;
mod audit;
pub mod auditing;
mod backup;
mod elsewhere;
mod finding;
mod past;
mod points;
mod retention;
mod rollback;
mod scrub;

use std::{path::Path, sync::Arc};

use axum::Router;

use keepshare_base::{Role, SetName, Stamp, StationAddress, StationName};
use keepshare_control::{
    Failure, Outcome, Reply,
    answers::{FsckReport, MemberStatus, SetStatus, StatusReport, TokenInfo},
    caller::Caller,
    questions::{
        self, Fsck, SetAdd, SetMirror, SetStationAddress, Status, TokenCreate, TokenList, Zone,
    },
    router::Answers,
};
use keepshare_host::clock;
use keepshare_identity::TOKEN_TTL_S;
use keepshare_sets::{
    fsck::{self, Verified},
    master::MirrorKind,
    parts::Running,
    record::SetRecord,
};

use keepshare_station::{
    membership::announce,
    station::Station,
    status::{member_status, station_status, status_of_set},
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

    /// Returns what answers for one station, to users and other stations ([`keepshare_station::station::Station::run`]).
    pub fn router(station: &Arc<Station>) -> Router {
        questions::router(Arc::new(Self::new(vec![Arc::clone(station)])))
    }

    /// Returns how everything is.
    pub(crate) fn status(&self) -> StatusReport {
        StatusReport {
            stations: self.stations.iter().map(|station| station_status(station)).collect(),
        }
    }

    fn primary(&self) -> Outcome<&Arc<Station>> {
        self.stations.iter().find(|station| station.enrolment().is_some()).ok_or_else(|| {
            Failure::refused("this station is not the primary of its cluster")
                .hint("ask the first station, the one that was made by keepshare init")
        })
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
        let station = self.stations.iter().find(|station| station.enrolment().is_some());
        let station = station.or_else(|| self.stations.first());
        let station = station.ok_or_else(|| Failure::unavailable("no station runs here"))?;
        announce::set_address(&station.membership, name, address)?;
        let member =
            station.membership.peers.members().into_iter().find(|member| member.name == *name);
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
            if station.membership.other(receiver).is_none() {
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
        let Some(enrolment) = station.enrolment() else {
            return Err(Failure::refused("this station is not the primary of its cluster"));
        };
        let now = clock::now();
        let token =
            enrolment.tokens().create(now, Role::Replica, TOKEN_TTL_S).map_err(|error| {
                Failure::from(anyhow::Error::new(error).context("cannot make a token"))
            })?;
        let address = station.membership.peers.address_of(&station.config.name);
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
        let Some(enrolment) = station.enrolment() else { return Ok(Vec::new()) };
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
    /// Of a demo's two stations the first has the drive, and with it the users.
    pub(crate) fn first(&self) -> Outcome<&Arc<Station>> {
        self.stations.first().ok_or_else(|| Failure::unavailable("no station runs here"))
    }
}
