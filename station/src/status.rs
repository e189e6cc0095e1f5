//! How a station and its sets are.

use keepshare_auth::Member;
use keepshare_base::{SetName, StationName};
use keepshare_control::{
    Failure,
    answers::{ClientStatus, MemberStatus, SetStatus, StationStatus},
};

use crate::{
    concerns::{NOT_ROOT, concerns},
    master::Asked,
    panics::{self, Panicked},
    service::{Running, Station},
    state::{SetPart, SetRecord},
};

/// Returns how a station is.
pub(crate) fn station_status(station: &Station) -> StationStatus {
    let sets = station.sets();
    // All at once: each may take a moment to say that it has looked at everything.
    let asked: Vec<_> = sets
        .iter()
        .map(|(_, running)| match running {
            Running::Master(master) => Some(master.ask_settled()),
            Running::Replica(_) | Running::Failed(_) => None,
        })
        .collect();
    let connected = |name: &StationName| {
        sets.iter().any(|(_, running)| match running {
            Running::Master(master) => master.is_connected(name),
            Running::Replica(replica) => replica.from() == name && replica.is_connected(),
            Running::Failed(_) => false,
        })
    };
    let member = |member: Member| {
        let connected = connected(&member.name);
        member_status(member, connected)
    };
    let mut status = StationStatus {
        name: station.config.name.to_string(),
        role: station.role.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        listen: station.config.listen.to_string(),
        state_dir: station.state.root().to_owned(),
        members: station.others().into_iter().map(member).collect(),
        sets: sets
            .iter()
            .zip(asked)
            .map(|((record, running), asked)| set_status(record, running, asked))
            .collect(),
        ca: station.peers.identity().ca_pin().to_string(),
        https: station.https_address().map(|at| at.to_string()),
        nfs: station.drive.address().map(|at| at.to_string()),
        clients: station.drive.clients().into_iter().map(client_status).collect(),
        problems: station_problems()
            .into_iter()
            .chain(station.door_problem())
            .chain(station.drive.problem())
            .chain(lost_sets(station))
            .collect(),
        concerns: Vec::new(),
    };
    status.concerns = concerns(&status);
    status
}

/// Says which sets nobody replicates any more since the list of them was lost.
fn lost_sets(station: &Station) -> Option<String> {
    let lost = station.state.lost_sets();
    let names = lost.iter().map(|set| format!("{set}.redb")).collect::<Vec<_>>().join(", ");
    let (root, journals) = (station.state.root().display(), station.state.journals());
    (!lost.is_empty()).then(|| {
        format!(
            "alarm: sets.toml is gone from {root} and nothing is replicated, though there are journals of sets in {}: {names}; \
             stop the station and take sets.toml from a backup (docs/operations/backup.md), or add each set again with \
             the same name, folder and stations",
            journals.display()
        )
    })
}

pub(crate) fn member_status(member: Member, connected: bool) -> MemberStatus {
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
fn station_problems() -> Vec<String> {
    let gone = panics::all().into_iter().map(|Panicked { thread, why }| {
        format!("a fault in the thread '{thread}', start the station anew: {why}")
    });
    let is_root = rustix::process::geteuid().is_root();
    gone.chain((!is_root).then(|| NOT_ROOT.to_owned())).collect()
}

pub(crate) fn set_status(record: &SetRecord, running: &Running, asked: Option<Asked>) -> SetStatus {
    match running {
        Running::Master(master) => {
            master.status_after(asked.unwrap_or_else(|| master.ask_settled()))
        }
        Running::Replica(replica) => replica.status(),
        Running::Failed(failure) => failed_status(record, failure),
    }
}

/// Returns how a set of a station is, where it has one of this name. Blocks: it waits a moment for what was saved just now.
pub fn status_of_set(station: &Station, name: &SetName) -> Option<SetStatus> {
    let sets = station.sets();
    let (record, running) = sets.iter().find(|(record, _)| record.name == *name)?;
    Some(set_status(record, running, None))
}

fn failed_status(record: &SetRecord, failure: &Failure) -> SetStatus {
    let (role, source, from) = match &record.part {
        SetPart::Master { source, .. } => ("master", Some(source.clone()), None),
        SetPart::Replica { from } => ("replica", None, Some(from.to_string())),
    };
    SetStatus {
        name: record.name.to_string(),
        role: role.to_owned(),
        state: "alarm: it cannot be opened".to_owned(),
        source,
        live: None,
        head: None,
        durable: None,
        commit: None,
        live_commit: None,
        destinations: Vec::new(),
        from,
        swept: None,
        shared: None,
        incomplete: 0,
        away_seconds: None,
        problems: vec![failure.with_hint()],
        alarms: Vec::new(),
    }
}
