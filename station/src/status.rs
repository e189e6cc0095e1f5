//! How a station and its sets are.

use std::time::Instant;

use keepshare_base::{SetName, StationName, health::StationProblem};
use keepshare_control::answers::{ClientStatus, MemberStatus, SetStatus, StationStatus};
use keepshare_host::panics::{self, Panicked};
use keepshare_identity::Member;
use keepshare_sets::{
    checkup::Checkup,
    concerns::{AWAY_S_MAX, concerns},
};

use crate::station::Station;

/// Returns how a station is.
pub fn station_status(station: &Station) -> StationStatus {
    let sets = station.sets();
    // All at once: each may take a moment to say that it has looked at everything.
    let asked: Vec<_> = sets.iter().map(|(_, running)| running.ask_settled()).collect();
    let connected = |name: &StationName| sets.iter().any(|(_, running)| running.is_connected(name));
    let member = |member: Member| {
        let connected = connected(&member.name);
        member_status(member, connected)
    };
    let sets: Vec<Checkup> = sets
        .iter()
        .zip(asked)
        .map(|((record, running), asked)| running.check(record, asked))
        .collect();
    let problems = station_problems(station);
    let concerns = concerns(&station.config.name, &problems, &sets);
    StationStatus {
        name: station.config.name.to_string(),
        role: station.membership.role.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        listen: station.config.listen.to_string(),
        state_dir: station.state.root().to_owned(),
        members: station.membership.others().into_iter().map(member).collect(),
        sets: sets.into_iter().map(|set| set.status).collect(),
        ca: station.membership.peers.identity().ca_pin().to_string(),
        https: station.https.address().map(|at| at.to_string()),
        nfs: station.drive.address().map(|at| at.to_string()),
        clients: station.drive.clients().into_iter().map(client_status).collect(),
        revision: station.membership.agreed.held().map(|held| held.document.revision.to_string()),
        problems: problems.iter().map(ToString::to_string).collect(),
        concerns,
    }
}

/// Returns which sets nobody replicates any more since the list of them was lost.
fn lost_sets(station: &Station) -> Option<StationProblem> {
    let (state, journals) = (station.state.root().to_owned(), station.state.sets().journals());
    let sets = station.state.lost_sets();
    (!sets.is_empty()).then_some(StationProblem::SetsLost { state, journals, sets })
}

/// Returns how another station is; `connected` says whether there is a link to it.
pub fn member_status(member: Member, connected: bool) -> MemberStatus {
    MemberStatus {
        connected,
        name: member.name.to_string(),
        role: member.role.to_string(),
        address: member.address.to_string(),
    }
}

fn client_status(client: keepshare_nfs::ClientInfo) -> ClientStatus {
    ClientStatus {
        address: client.address.to_string(),
        user: client.user,
        set: client.set.map(|set| set.to_string()),
        since: client.since.to_string(),
        calls: client.calls,
    }
}

/// Returns what the station cannot do as it is run, and what has failed in it.
fn station_problems(station: &Station) -> Vec<StationProblem> {
    let gone = panics::all()
        .into_iter()
        .map(|Panicked { thread, why }| StationProblem::ThreadGone { thread, why });
    let is_root = rustix::process::geteuid().is_root();
    gone.chain((!is_root).then_some(StationProblem::NotRoot))
        .chain(station.https.shut.why().map(StationProblem::LoginShut))
        .chain(station.drive.shut.why().map(StationProblem::DriveShut))
        .chain(lost_sets(station))
        .chain(station.membership.agreed.problems())
        .chain(silent_stations(station))
        .collect()
}

/// Returns which stations the primary has not heard of for long, but for those that a set of its own is sent to: the set says
/// so.
fn silent_stations(station: &Station) -> Vec<StationProblem> {
    if station.membership.desk.is_none() {
        return Vec::new();
    }
    let (sets, now) = (station.sets(), Instant::now());
    let is_told = |name: &StationName| {
        sets.iter().any(|(_, running)| {
            running.is_connected(name)
                || running.source().is_some_and(|source| source.to().any(|to| to == name))
        })
    };
    let others = station.membership.others().into_iter().filter(|member| !is_told(&member.name));
    let silent = others.filter_map(|member| {
        let seconds = station.membership.hearers.silence(&member.name, now).as_secs();
        let minutes = (seconds > AWAY_S_MAX).then_some(seconds / 60)?;
        Some(StationProblem::Away { station: member.name, minutes })
    });
    silent.collect()
}

/// Returns how a set of a station is, where it has one of this name. Blocks: it waits a moment for what was saved just now.
pub fn status_of_set(station: &Station, name: &SetName) -> Option<SetStatus> {
    let sets = station.sets();
    let (record, running) = sets.iter().find(|(record, _)| record.name == *name)?;
    Some(running.check(record, None).status)
}
