//! Where stations are reached, when that changes: as an admin says, or as a station's own config does.
//!
//! The primary keeps the list. A station whose config names another address than the primary heard of last tells it, by
//! the way on which it would renew its certificate, and goes on trying until it was heard.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use tokio::sync::watch;

use keepshare_base::{StationAddress, StationName};
use keepshare_control::{Failure, Outcome};
use keepshare_identity::{Member, Move};
use keepshare_replication::link::join::ask;

use super::Membership;
use crate::state::Rerouted;

/// How long to wait before the primary is told again that did not hear.
const AGAIN_EVERY: Duration = Duration::from_secs(30);

/// Tells the primary that this station is reached at the address of its config, where that is new; ends when it was heard.
pub(crate) async fn keep(
    membership: Arc<Membership>,
    address: StationAddress,
    mut stop: watch::Receiver<bool>,
) {
    let mut tick = tokio::time::interval(AGAIN_EVERY);
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            _ = tick.tick() => {}
        }
        match is_news(&membership, &address) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::error!(%error, "cannot note this station's address");
                return;
            }
        }
        match announce(&membership, &address).await {
            Ok(()) => return tracing::info!(%address, "the cluster knows this station's address"),
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(%address, %error, "the primary did not hear this station's address");
            }
        }
    }
}

/// Tells whether the primary has not heard of an address of this station.
fn is_news(membership: &Membership, address: &StationAddress) -> Outcome<bool> {
    let known = membership.state.announced();
    let is_noted = known.is_some();
    let known = known.or_else(|| membership.peers.address_of(&membership.here));
    if known.as_ref() != Some(address) {
        return Ok(true);
    }
    // An address that an admin gives it later must not look like news of the config.
    if !is_noted {
        membership.state.set_announced(address)?;
    }
    Ok(false)
}

async fn announce(membership: &Arc<Membership>, address: &StationAddress) -> anyhow::Result<()> {
    let members = match &membership.enrolment {
        Some(enrolment) => {
            let (enrolment, name) = (Arc::clone(enrolment), membership.here.clone());
            let own = address.clone();
            tokio::task::spawn_blocking(move || enrolment.set_address(&name, &own)).await??;
            let primary = Arc::clone(membership);
            let published = tokio::task::spawn_blocking(move || primary.publish_register());
            published.await?.map_err(|failure| anyhow::anyhow!(failure.one_line()))?;
            None
        }
        None => {
            let primary = membership.peers.primary();
            let primary = primary.context("no address of the primary is known")?;
            let told = Move::new(address, &membership.peers.tls(), primary.name.as_ref())?;
            let answer = ask(primary.address.as_str(), told.tls(), told.question()).await?;
            Some(told.complete(&answer)?)
        }
    };
    let one_line = |failure: Failure| anyhow::anyhow!(failure.one_line());
    // Where there is a document, the next revision says it.
    if let Some(members) = members.filter(|_| membership.agreed.held().is_none()) {
        membership.state.save_members(&members).map_err(one_line)?;
        membership.peers.set_members(members);
    }
    membership.state.set_announced(address).map_err(one_line)
}

/// Has a station dialled at this address from now on: in the whole cluster where this is the primary, here elsewhere.
/// Blocks.
pub fn set_address(
    membership: &Membership,
    name: &StationName,
    address: &StationAddress,
) -> Outcome<()> {
    refuse_own(&membership.here, name)?;
    if let Some(enrolment) = &membership.enrolment {
        let set = enrolment.set_address(name, address);
        if !set.context("cannot record the address")? {
            return Err(no_station(name));
        }
        membership.publish_register()?;
        membership.peers.moved();
        return Ok(());
    }
    if let Some(held) = membership.agreed.held() {
        let member = held.document.member(name).ok_or_else(|| no_station(name))?;
        let mut rerouted = membership.state.load_rerouted()?;
        rerouted.retain(|row| row.name != *name);
        let instead_of = member.address.clone();
        rerouted.push(Rerouted { name: name.clone(), address: address.clone(), instead_of });
        membership.state.save_rerouted(&rerouted)?;
        membership.peers.set_rerouted(rerouted);
        return Ok(());
    }
    let mut members: Vec<Member> = membership.peers.members();
    let member = members.iter_mut().find(|member| member.name == *name);
    member.ok_or_else(|| no_station(name))?.address = address.clone();
    membership.state.save_members(&members)?;
    membership.peers.set_members(members);
    Ok(())
}

/// A station's own address is what its config says; another one would last until it is announced the next time.
fn refuse_own(own: &StationName, name: &StationName) -> Outcome<()> {
    if name != own {
        return Ok(());
    }
    Err(Failure::refused(format!("{name} is this station itself")).hint(format!(
        "put its address into its station.toml and start it anew; where others do not reach it then, say on each of them: \
         keepshare station set-address {name} ADDRESS"
    )))
}

fn no_station(name: &StationName) -> Failure {
    Failure::not_found(format!("there is no station '{name}'"))
        .hint("keepshare status lists the stations")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On the first station, too: what its config says is what the others hear.
    #[test]
    fn a_stations_own_address_is_its_configs() {
        let (own, other) = ("office".parse().unwrap(), "store".parse().unwrap());
        let refused = refuse_own(&own, &own).unwrap_err();
        assert!(refused.hint.unwrap().contains("station.toml"));
        assert!(refuse_own(&own, &other).is_ok());
    }
}
