//! How a revision of the cluster's document comes from the primary to every other station: they ask for another one than they
//! have, and the primary answers when there is one.
//!
//! The question goes the way on which certificates are renewed. A primary that does not know the question refuses
//! it, and is asked again now and then.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context;
use tokio::{
    sync::{oneshot, watch},
    time::{sleep, timeout},
};

use keepshare_base::StationName;
use keepshare_identity::{Have, Hearing, JoinDesk, JoinError, StationIdentity};
use keepshare_replication::link::join::ask;

use super::{
    agreed::{Agreed, Held},
    peers::Peers,
};

/// How long the primary waits for another revision before it answers that there is none; less than an answer may take.
const WAIT: Duration = Duration::from_secs(20);

/// How long a station waits before it asks again: at first, and after it was refused or had to refuse what it got.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_LONGEST: Duration = Duration::from_secs(10);

/// The stations that wait for another revision, each once, and when each was heard last.
#[derive(Debug)]
pub(crate) struct Hearers {
    waiting: Mutex<BTreeMap<StationName, oneshot::Sender<()>>>,
    heard: Mutex<BTreeMap<StationName, Instant>>,
    since: Instant,
}

impl Default for Hearers {
    /// Returns hearers of whom nobody was heard since now.
    fn default() -> Self {
        Self { waiting: Mutex::default(), heard: Mutex::default(), since: Instant::now() }
    }
}

impl Hearers {
    /// Notes that a station was heard.
    pub(crate) fn note(&self, station: &StationName, now: Instant) {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).insert(station.clone(), now);
    }

    /// Returns for how long nothing was heard of a station: since this one was started, where nothing was at all.
    pub(crate) fn silence(&self, station: &StationName, now: Instant) -> Duration {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        now.saturating_duration_since(heard.get(station).copied().unwrap_or(self.since))
    }

    /// Waits until another revision holds than the one that a station has, and returns the answer to it; none where the station
    /// asks again meanwhile.
    pub(crate) async fn answer(
        &self,
        agreed: &Agreed,
        station: &StationName,
        have: Option<Have>,
    ) -> Option<Vec<u8>> {
        if !agreed.is_member(station) {
            return Some(JoinDesk::refused());
        }
        self.note(station, Instant::now());
        agreed.hear_of(station, have);
        let (instead, mut asked_again) = oneshot::channel();
        // Dropped, the sender of an earlier question ends its wait.
        let waiting = &self.waiting;
        waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(station.clone(), instead);
        let mut held = agreed.watch();
        let is_other = |held: &Option<Arc<Held>>| {
            held.as_ref().is_some_and(|held| have.is_none_or(|have| held.have().hash != have.hash))
        };
        tokio::select! {
            found = timeout(WAIT, held.wait_for(is_other)) => match found {
                Ok(Ok(held)) => Some(JoinDesk::news(held.as_ref().map(|held| &held.signed[..]))),
                _ => Some(JoinDesk::news(None)),
            },
            _ = &mut asked_again => None,
        }
    }
}

/// Asks the primary for every revision, until the station stops.
pub(crate) async fn keep(agreed: Arc<Agreed>, peers: Arc<Peers>, mut stop: watch::Receiver<bool>) {
    let mut pause = AGAIN;
    loop {
        let heard = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            heard = hear(&agreed, &peers) => heard,
        };
        let Err(error) = heard else {
            pause = AGAIN;
            continue;
        };
        tracing::debug!(error = %format!("{error:#}"), "no document from the primary");
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = sleep(pause) => {}
        }
        pause = (pause * 2).min(AGAIN_LONGEST);
    }
}

/// Asks once, and takes what comes.
async fn hear(agreed: &Arc<Agreed>, peers: &Arc<Peers>) -> anyhow::Result<()> {
    let have = agreed.held().map(|held| held.have());
    let primary = peers.primary().context("no primary is known")?;
    let question = Hearing::new(have, &peers.tls(), primary.name.as_ref())?;
    let answer = ask(primary.address.as_str(), question.tls(), question.question()).await?;
    let news = match question.complete(&answer) {
        Ok(news) => news,
        Err(JoinError::Refused) if have.is_some() => {
            agreed.set_refused(Some("the primary does not answer this station".to_owned()));
            return Err(JoinError::Refused.into());
        }
        Err(error) => return Err(error.into()),
    };
    let Some(bytes) = news else {
        // What it has is what the primary has.
        agreed.set_refused(None);
        return Ok(());
    };
    let (agreed, identity): (_, Arc<StationIdentity>) = (Arc::clone(agreed), peers.identity());
    let taken = tokio::task::spawn_blocking(move || agreed.take(&bytes, &identity)).await?;
    taken.inspect_err(|error| {
        let error = keepshare_base::chain(error);
        tracing::warn!(%error, "what the primary gave as the cluster's document is refused");
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A station that joined and was never started keeps nothing of what is sent to it some day.
    #[test]
    fn silence_counts_from_the_last_that_was_heard() {
        let (hearers, store) = (Hearers::default(), "store".parse().unwrap());
        let at = |s| hearers.since + Duration::from_secs(s);
        assert_eq!(hearers.silence(&store, at(7)), Duration::from_secs(7));
        hearers.note(&store, at(10));
        assert_eq!(hearers.silence(&store, at(15)), Duration::from_secs(5));
        assert_eq!(hearers.silence(&store, at(9)), Duration::ZERO);
    }
}
