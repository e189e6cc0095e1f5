//! Keeps this station's certificate from ending.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use tokio::sync::watch;

use keepshare_base::Role;
use keepshare_host::clock;
use keepshare_identity::{
    Applicant, StationIdentity,
    tls::{StationTls, machine_clock},
};
use keepshare_replication::link::join::ask;

use super::Membership;

/// How often it is looked whether the certificate is due: the clock may have been set.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// How long it is left alone after it was renewed, or could not be: the primary's clock may be wrong, and remembers each.
const AGAIN_EVERY: Duration = Duration::from_secs(3600);

/// Renews the certificate whenever that is due, until the station stops.
pub(crate) async fn keep(membership: Arc<Membership>, mut stop: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    let mut not_before = tokio::time::Instant::now();
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            _ = tick.tick() => {}
        }
        let identity = membership.peers.identity();
        if !identity.renewal_due(clock::now()) || tokio::time::Instant::now() < not_before {
            continue;
        }
        not_before = tokio::time::Instant::now() + AGAIN_EVERY;
        match renew(&membership, &identity).await {
            Ok(()) => tracing::info!("the station's certificate was renewed"),
            Err(error) => {
                let (error, ends) = (format!("{error:#}"), identity.peer().expires);
                tracing::error!(%error, %ends, "the station's certificate could not be renewed");
            }
        }
    }
}

async fn renew(membership: &Arc<Membership>, identity: &StationIdentity) -> anyhow::Result<()> {
    let (identity, members) = match &membership.enrolment {
        Some(enrolment) => {
            let (enrolment, now) = (Arc::clone(enrolment), clock::now());
            let (name, peers) = (identity.name().clone(), Arc::clone(&membership.peers));
            let renewed = tokio::task::spawn_blocking(move || {
                let address =
                    peers.address_of(&name).context("this station is not in its own list")?;
                let identity = StationIdentity::create(enrolment.ca(), now, &name, Role::Primary)?;
                enrolment.record_own(now, &identity, &address)?;
                anyhow::Ok(identity)
            });
            (renewed.await??, Vec::new())
        }
        None => {
            let primary = membership.peers.primary();
            let primary = primary.context("no address of the primary is known")?;
            let (tls, name) = (membership.peers.tls(), primary.name.as_ref());
            let applicant = Applicant::renew(identity, &tls, name)?;
            let at = primary.address.as_str();
            let answer = ask(at, applicant.tls(), applicant.question()).await?;
            let joined = applicant.complete(&answer)?;
            (joined.identity, joined.members)
        }
    };
    let revocations = membership.peers.tls().revocations().clone();
    let tls = StationTls::new(&identity, revocations, machine_clock())?;
    identity.save(&membership.state.identity())?;
    if !members.is_empty() && membership.agreed.held().is_none() {
        let saved = membership.state.save_members(&members);
        saved.map_err(|failure| anyhow::anyhow!(failure.one_line()))?;
    }
    membership.peers.renewed(members, identity, tls);
    let primary = Arc::clone(membership);
    // What fails is told by the station, and tried again.
    let _ = tokio::task::spawn_blocking(move || primary.publish_register()).await?;
    Ok(())
}
